"""The operator dies before and after every single write to storage of a run; each of these runs comes to the same."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import ObjectStore, StoredObject
from tests.simulation.agents import Ends, Seen
from tests.simulation.api_server import Pod
from tests.simulation.audit import Audit
from tests.simulation.chaos_run import listening
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory
from tests.simulation.process import Leads, Lease, Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.timeline import JumpingLoop

ITEMS: Final = 100
RUN: Final = RunRef("default", "demo", "run-1")
PADDING: Final = "x" * 3000
"""With it, the journal gets a snapshot."""
PARTS: Final = 10
"""The points at which the operator dies are shared out among so many tests."""


@dataclass(frozen=True)
class Death:
    """SIGKILL at one of the writes that a process makes, counted from 1: just before it has its effect, or after."""

    write: int
    after: bool = False


class MortalStore:
    """Fulfils the ObjectStore port over another one; notes the writes of the run, and lets its process die at one."""

    def __init__(self, inner: ObjectStore, process: Process, death: Death | None) -> None:
        self._inner: Final = inner
        self._process: Final = process
        self._death: Final = death
        self.written: Final[list[str]] = []
        """Keys of the run that were put or deleted, in the order in which that began."""

    async def get(self, key: str) -> StoredObject | None:
        await self._process.runs()
        return await self._inner.get(key)

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        await self._process.runs()
        return await self._inner.get_within(key, limit)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        await self._process.runs()
        async for key in self._inner.list(prefix):
            yield key

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        async with self._writing(key):
            return await self._inner.put(key, data, if_absent=if_absent, if_match=if_match)

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            async with self._writing(key):
                await self._inner.delete([key])

    @asynccontextmanager
    async def _writing(self, key: str) -> AsyncIterator[None]:
        await self._process.runs()
        if RUN.uid not in key:
            # An operator tries out whether the storage is of any use.
            yield
            return
        self.written.append(key)
        number = len(self.written)
        self._die_at(Death(number))
        # Writes take their time, so that others are under way when the process dies.
        await asyncio.sleep(0.01)
        await self._process.runs()
        yield
        self._die_at(Death(number, after=True))
        await asyncio.sleep(0.01)
        await self._process.runs()

    def _die_at(self, point: Death) -> None:
        if point == self._death:
            self._process.die()


@dataclass(frozen=True)
class Came:
    """What a run came to: the same however often its operator died."""

    runs: dict[str, int]
    """Agents that were started, by item id."""
    status: dict[str, Any] = field(default_factory=dict)
    """What the job says of its items, attempts and result."""
    reduced: list[dict[str, str]] = field(default_factory=list)
    """The files that each agent of reduce got."""


def job() -> dict[str, Any]:
    body = map_reduce_job(
        [{"n": n} for n in range(ITEMS)],
        map_={"maxParallel": 20, "retry": {"maxAttempts": 2, "backoff": {"initialSeconds": 1, "jitter": 0}}},
        checkpoint={"everyItems": 5, "everySeconds": 2, "keep": 2},
        reduce=reduce_work(runWhen="Always"),
    )
    body["spec"]["input"]["idExpression"] = "string(item.n)"
    return body


def agent(seen: Seen) -> Ends:
    """What an agent does depends on its item and on the number of the attempt, and on nothing else."""
    number = seen.item["n"]
    if number % 40 == 5:
        return Ends(2.0, 1, f"item {number} is broken")
    if number == 50:
        return Ends(2.0, 1, '{"error": {"message": "never", "retryable": false}}')
    if number % 7 == 0 and seen.attempt == 1:
        return Ends(1.0, 1, "boom")
    return Ends(2.0 + number % 3, message=json.dumps({"item": number, "attempt": seen.attempt, "more": PADDING}))


def evict_some(cluster: SimulatedCluster) -> Callable[[Pod], None]:
    """Every tenth item is evicted when it runs for the first time, and so is reduce."""

    def started(pod: Pod) -> None:
        context = pod.job.context
        if context["dispatch"] == 1 and (context["itemId"] == "reduce" or int(context["itemId"]) % 10 == 3):
            asyncio.get_running_loop().call_later(0.5, cluster.evict, pod)

    return started


class Play:
    """One run, from the user's `kubectl apply` until everything is deleted, whatever becomes of its operators."""

    def __init__(self, deaths: Sequence[Death], pause: float) -> None:
        """Each of the deaths is that of one operator; the last one lives. `pause` in seconds, until the next leads."""
        self._deaths: Final = deaths
        self._pause: Final = pause
        self._cluster: Final = SimulatedCluster(self._agent)
        self._cluster.on_start.append(evict_some(self._cluster))
        self._store: Final = MemoryStore()
        self._body: Final = job()
        self._audit: Final = Audit(self._cluster, self._store, RUN, self._body["spec"])
        self._lease: Final = Lease()
        self.violations: Final = self._cluster.violations
        self.came: Final = Came(runs=self._cluster.runs_of)
        self.written: Final[list[list[str]]] = []
        """Keys that each operator has written or deleted."""

    def _agent(self, seen: Seen) -> Ends:
        if seen.context["itemId"] != "reduce":
            return agent(seen)
        (files,) = self._cluster.config_maps.values()
        self.came.reduced.append(files["data"])
        text = json.dumps([seen.item, files["data"]])
        return Ends(2.0, message=json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest()}))

    async def run(self) -> None:
        for death in self._deaths:
            await self._live(death)
            await asyncio.sleep(self._pause)
        await self._live(None)
        if self._store.objects:
            self.violations.append(f"left in storage: {list(self._store.objects)}")

    async def _live(self, death: Death | None) -> None:
        """One operator, until it dies or nothing is left to do."""
        process = Process(len(self.written) + 1)
        store = MortalStore(self._store, process, death)
        self.written.append(store.written)
        leadership = Leads(self._lease, process.number)
        operator = OperatorInMemory(self._cluster, self._body, store, process=process, leadership=leadership)
        user = asyncio.create_task(self._use(operator))
        died = asyncio.create_task(process.changed.wait())
        await asyncio.wait([user, died], return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if process.dead:
            user.cancel()
        else:
            await user
        await operator.kill()

    async def _use(self, operator: OperatorInMemory) -> None:
        """The user waits for the end of the job, deletes it, and then its dead letters."""
        if not self._cluster.deleted:
            status = await operator.until_finished()
            self.came.status.update({name: status[name] for name in ("phase", "reason", "items", "attempts", "result")})
            await operator.until(lambda: not self._cluster.jobs and not self._cluster.pods)
            self._audit.close(ITEMS)
        if self._cluster.finalizers:
            operator.delete()
            await operator.until(lambda: not self._cluster.finalizers, 300.0)
            self._audit.check_left_over()
        else:
            # It is gone, and no API server tells of it any more.
            operator.supervisor.forget(RUN.uid)
        self._cluster.queues.delete("demo")
        await operator.until(lambda: not self._cluster.queues.by_name, 300.0)


def play(*deaths: Death, pause: float = 1.0) -> Play:
    """A run that is over, on a loop of its own. Whatever it came to, it broke no rule."""

    async def whole() -> Play:
        one = Play(deaths, pause)
        with listening(one.violations, None):
            await one.run()
        return one

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        one = runner.run(whole())
    assert one.violations == [], f"{deaths}: {one.violations}"
    return one


@cache
def undisturbed() -> Play:
    return play()


def test_the_run_is_worth_dying_in() -> None:
    """It has a bit of everything: whoever makes it simpler looks here."""
    came, (written,) = undisturbed().came, undisturbed().written
    assert came.status["items"] | {"succeeded": 96, "deadLettered": 4} == came.status["items"]
    assert came.status["attempts"] == {"total": 118, "interruptions": 10, "retries": 18}
    assert came.status["phase"] == "PartiallySucceeded"
    assert came.runs["reduce"] == len(came.reduced) == 2
    for kind in ("plan/", "specs/", "journal/segment-", "journal/snapshot-", "dead-letters/", "checkpoints/"):
        assert sum(kind in key for key in written) >= 2, "once written, once deleted"
    _, pruned = (at for at, key in enumerate(written) if "checkpoints/0000000001-" in key)
    assert sum("head.json" in key for key in written[pruned:]) > 2, "pruned while the run goes on"


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("after", "pause"), [(False, 0.3), (True, 60.0)], ids=["before", "after"])
def test_killed_at_any_write(after: bool, pause: float, part: int) -> None:
    """The next one leads at once, while agents run, or when all of them have ended long ago."""
    expected, (written,) = undisturbed().came, undisturbed().written
    for write in range(1 + part, len(written) + 1, PARTS):
        one = play(Death(write, after), pause=pause)
        assert one.written[0] == written[:write]
        assert one.came == expected, f"{write}: {written[write - 1]}"


@pytest.mark.parametrize("writes", [7, 12])
def test_killed_again_and_again(writes: int) -> None:
    deaths = [Death(writes, after=True)] * 6
    one = play(*deaths)
    assert one.came == undisturbed().came
    assert [len(written) >= writes for written in one.written[:-1]] == [True] * len(deaths)
