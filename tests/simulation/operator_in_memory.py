"""An operator on a simulated cluster: the real engine, with ports in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import DeposedError, ObjectStore
from tests.simulation.simulated_cluster import SimulatedCluster


class CountedMetrics:
    """Fulfils the Metrics port."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str], int] = {}
        self.stale = 0
        self.commits = 0
        self.crashes = 0

    def outcome(self, verdict: str, reason: str) -> None:
        self.outcomes[verdict, reason] = self.outcomes.get((verdict, reason), 0) + 1

    def stale_events(self, number: int) -> None:
        self.stale += number

    def commit(self, reason: str, seconds: float) -> None:
        del reason, seconds
        self.commits += 1

    def run_crashed(self) -> None:
        self.crashes += 1


class Leads:
    """Fulfils the Leadership port: leads until the test says otherwise."""

    def __init__(self, epoch: int = 1) -> None:
        self.held = True
        self.epoch = epoch

    async def surpass(self, epoch: int) -> None:
        await asyncio.sleep(0)
        if not self.held:
            raise DeposedError(f"epoch {epoch} leads, this one is {self.epoch}")
        self.epoch = epoch + 1


class OperatorInMemory:
    """One operator process at work, and the object that a user applied."""

    def __init__(
        self, supervisor: Supervisor, cluster: SimulatedCluster, body: dict[str, Any], metrics: CountedMetrics
    ) -> None:
        self.supervisor = supervisor
        self.cluster = cluster
        self.body = body
        self.metrics = metrics

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        """The user edits the spec."""
        change(self.body["spec"])
        self.body["metadata"]["generation"] += 1
        self.supervisor.observe(copy.deepcopy(self.body))

    def delete(self) -> None:
        """The user deletes the object."""
        self.body["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
        self.supervisor.observe(copy.deepcopy(self.body))

    def condition(self, kind: str) -> dict[str, Any]:
        found = [one for one in self.cluster.status.get("conditions", []) if one["type"] == kind]
        return found[0] if found else {"status": "Absent", "reason": "", "message": ""}

    async def until(self, holds: Callable[[], bool], seconds: float = 3600.0) -> None:
        """Lets time pass until something holds."""
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - on a fake clock, polling costs nothing and sees everything
                await asyncio.sleep(0.05)

    async def until_finished(self, seconds: float = 36000.0) -> dict[str, Any]:
        """Lets the job come to its end; returns the status."""
        await self.until(lambda: "completionTime" in self.cluster.status, seconds)
        return self.cluster.status


@asynccontextmanager
async def operating(
    cluster: SimulatedCluster,
    body: dict[str, Any],
    store: ObjectStore | None = None,
    *,
    capacity: int = 500,
    graceful: bool = True,
    leadership: Leads | None = None,
) -> AsyncIterator[OperatorInMemory]:
    """An operator at work on one object. At the end it is shut down in order, or killed."""
    metrics = CountedMetrics()
    informer = Informer(cluster)
    world = World(
        cluster=cluster,
        store=store if store is not None else MemoryStore(),
        storage_url="memory://",
        clock=cluster.clock,
        metrics=metrics,
        capacity=Capacity(capacity),
        limits=Limits(),
        leadership=leadership if leadership is not None else Leads(),
        known_workloads=informer.known,
    )
    supervisor = Supervisor(world, informer)
    engine = asyncio.create_task(supervisor.serve())
    supervisor.observe(copy.deepcopy(body) | ({"status": cluster.status} if cluster.status else {}))
    try:
        yield OperatorInMemory(supervisor, cluster, body, metrics)
        assert not engine.done() or engine.exception() is None
        if graceful:
            await supervisor.drain(10.0)
    finally:
        engine.cancel()
        await asyncio.gather(engine, return_exceptions=True)
