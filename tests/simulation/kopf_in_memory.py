"""What Kopf does for an operator: tells its supervisor of objects, each kind in its own time."""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, TypeVar

from mapreduce_operator.engine.supervisor import Supervisor
from tests.simulation.objects import Body, Objects
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster

Hook = TypeVar("Hook")
Observe = Callable[[Mapping[str, Any]], None]
Forget = Callable[[str], None]


class KopfInMemory:
    """Lists each kind once and tells its changes from then on: in their order, late, and at times twice.

    Nothing says which kind comes first. Without chance, all is told at once and once.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        supervisor: Supervisor,
        process: Process,
        chance: Random | None,
        observe: Callable[[str], None],
    ) -> None:
        """`observe` tells of a MapReduceJob by its uid."""
        self._process: Final = process
        self._chance: Final = chance
        self._cancel: Final[list[Callable[[], None]]] = []
        self._subscribe(cluster.on_gone, supervisor.forget)
        loop = asyncio.get_running_loop()

        def tell(uid: str) -> None:
            loop.call_later(2.0 * self._draw() if chance is not None else 0.0, observe, uid)

        self._subscribe(cluster.on_fill_in, tell)
        self._subscribe(cluster.on_deletion, tell)
        self._tasks: Final = [
            loop.create_task(self._watch(cluster.queues, supervisor.observe_queue, supervisor.forget_queue)),
            loop.create_task(self._watch(cluster.redrives, supervisor.observe_redrive, supervisor.forget_redrive)),
        ]

    async def _watch(self, objects: Objects, observe: Observe, forget: Forget) -> None:
        await self._pause()
        events: asyncio.Queue[tuple[Body, bool]] = asyncio.Queue()

        def hear(body: Body, gone: bool) -> None:
            events.put_nowait((body, gone))

        self._subscribe(objects.on_change, hear)
        for name in list(objects.by_name):
            if (body := objects.get(name)) is not None:
                events.put_nowait((body, False))
        while True:
            body, gone = await events.get()
            await self._pause()
            for _ in range(2 if self._draw() < 0.1 else 1):
                if gone:
                    forget(body["metadata"]["uid"])
                else:
                    observe(body)

    def _subscribe(self, hooks: list[Hook], hook: Hook) -> None:
        hooks.append(hook)
        self._cancel.append(lambda: hooks.remove(hook))

    async def _pause(self) -> None:
        if self._chance is not None:
            # Mostly at once, at times seconds.
            await asyncio.sleep(0.005 * 400 ** self._draw())
        await self._process.runs()

    def _draw(self) -> float:
        return 1.0 if self._chance is None else self._chance.random()

    async def close(self) -> None:
        """Nothing is told any more. Raises what a handler raised, which Kopf would only write into its log."""
        while self._cancel:
            self._cancel.pop()()
        for task in self._tasks:
            task.cancel()
        for end in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(end, Exception):
                raise end
