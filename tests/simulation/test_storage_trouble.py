"""Storage that fails for a while in the middle of a run: the run waits, says why, and ends as if nothing had been."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.dispatching import MAX_UNCOMMITTED
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import Dispatch
from mapreduce_operator.ports import StorageError, StorageErrorReason, StoredObject
from tests.simulation.agents import Agent, Ends, Seen, flaky, steady
from tests.simulation.audit import Audit
from tests.simulation.connection import Trip
from tests.simulation.jobs import condition_of, map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore

pytestmark = pytest.mark.asyncio

EVERYTHING = frozenset({"get", "put", "put if", "list", "delete"})
WRITES = frozenset({"put", "put if"})
CAUSE = "what storage says"
OUTAGE_SECONDS = 600.0


@dataclass
class Trouble:
    """Fulfils StorageFaults: while it lasts, calls fail."""

    reason: StorageErrorReason
    calls: frozenset[str] = EVERYTHING
    answers: bool = False
    """What fails are the answers: the requests are done."""
    seconds: float = 0.005
    """Until a request that fails does so."""
    lasts: bool = False
    failed: Counter[str] = field(default_factory=Counter)

    def trip(self, call: str) -> Trip:
        return Trip(self.seconds if self._strikes(call) else 0.005)

    def refused(self, call: str) -> StorageError | None:
        return None if self.answers else self._error(call)

    def lost(self, call: str) -> StorageError | None:
        return self._error(call) if self.answers else None

    def _strikes(self, call: str) -> bool:
        return self.lasts and call in self.calls

    def _error(self, call: str) -> StorageError | None:
        if not self._strikes(call):
            return None
        self.failed[call] += 1
        return StorageError(CAUSE, self.reason)


class Scene:
    """One job on storage that may fail."""

    def __init__(
        self, agent: Agent, trouble: Trouble, body: dict[str, Any], objects: MemoryStore | None = None
    ) -> None:
        self.cluster: Final = SimulatedCluster(agent)
        self.body: Final = body
        objects, metadata = objects or MemoryStore(), body["metadata"]
        run = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
        self.audit: Final = Audit(self.cluster, objects, run, body["spec"])
        self.store: Final = RemoteStore(objects, Process(), trouble)
        self.health: Final[list[tuple[str, str]]] = []
        """Status and reason of CheckpointHealthy, in each status that was written."""
        self.cluster.on_status.append(self._note)

    def _note(self, uid: str, status: dict[str, Any], process: int) -> None:
        del uid, process
        found = condition_of({"status": status}, "CheckpointHealthy")
        self.health.append((found["status"], found["reason"]))

    @property
    def ended(self) -> int:
        """Items whose end is durable, as the status tells."""
        items = self.cluster.status.get("items", {})
        return sum(items.get(state, 0) for state in ("succeeded", "deadLettered", "skipped"))

    @property
    def judged(self) -> dict[Dispatch, tuple[Any, ...]]:
        """What is durable of each dispatch."""
        told = ("verdict", "state", "attempts", "interruptions", "reason", "cause", "result")
        return {
            dispatch: tuple(line.get(one) for one in told) for dispatch, line in self.audit.durable.outcomes.items()
        }

    @property
    def changes_of_health(self) -> list[tuple[str, str]]:
        return [one for one, _ in groupby(self.health)]


def a_third_fails(seen: Seen) -> Ends:
    """Some attempts of each kind, and one item that never succeeds."""
    return Ends(2.0, 1, "boom") if seen.item == {"n": 7} else flaky(33)(seen)


def small_job() -> dict[str, Any]:
    return map_reduce_job(
        [{"n": n} for n in range(40)],
        map_={"maxParallel": 8, "result": {"rule": "item.n >= 0 && result.ok"}},
        reduce=reduce_work(runWhen="Always"),
        checkpoint={"everyItems": 5},
    )


TROUBLES = {
    "down": Trouble(StorageErrorReason.UNAVAILABLE),
    "hangs": Trouble(StorageErrorReason.UNAVAILABLE, seconds=30.0),
    "answers get lost": Trouble(StorageErrorReason.UNAVAILABLE, answers=True),
    "throttles": Trouble(StorageErrorReason.THROTTLED),
    "full": Trouble(StorageErrorReason.FULL, WRITES),
    "forbidden": Trouble(StorageErrorReason.FORBIDDEN),
    "read-only": Trouble(StorageErrorReason.FORBIDDEN, WRITES | {"delete"}),
    "bucket is gone": Trouble(StorageErrorReason.NOT_FOUND),
    "unsuitable": Trouble(StorageErrorReason.UNSUITABLE),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
async def test_no_outcome_differs_from_that_of_a_run_without_the_trouble(trouble: Trouble) -> None:
    calm = Scene(a_third_fails, Trouble(StorageErrorReason.UNAVAILABLE), small_job())
    async with operating(calm.cluster, calm.body, calm.store) as operator:
        undisturbed = await operator.until_finished()
    scene = Scene(a_third_fails, trouble, small_job())
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: scene.ended >= 10)

        trouble.lasts = True
        await operator.until(lambda: operator.condition("CheckpointHealthy")["status"] == "False", 100.0)
        for condition in (operator.condition("CheckpointHealthy"), operator.condition("Progressing")):
            assert (condition["status"], condition["reason"]) == ("False", trouble.reason)
            assert condition["message"].endswith(CAUSE)
        await asyncio.sleep(OUTAGE_SECONDS)
        # With pauses of 10 s there are 60 tries, each of which gives up at its first error or its first letter's.
        assert trouble.failed.total() <= 130
        trouble.lasts = False

        status = await operator.until_finished()
    assert operator.counted("mapreduce_run_crashes_total") == 0
    assert scene.changes_of_health == [("True", "Saved"), ("False", trouble.reason), ("True", "Saved")]
    for told in ("items", "attempts", "deadLetters", "phase", "reason"):
        assert status.get(told) == undisturbed.get(told), told
    assert scene.judged == calm.judged
    assert scene.cluster.runs_of == calm.cluster.runs_of


@pytest.mark.parametrize("trouble", [Trouble(StorageErrorReason.FULL, WRITES), Trouble(StorageErrorReason.UNAVAILABLE)])
async def test_no_more_is_started_once_so_many_outcomes_wait_and_all_of_it_afterwards(trouble: Trouble) -> None:
    parallel, items = 60, 900
    scene = Scene(steady(2.0), trouble, map_reduce_job(list(range(items)), map_={"maxParallel": parallel}))
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: scene.ended >= 100)
        trouble.lasts = True
        await asyncio.sleep(100.0)
        started, ended = len(scene.cluster.names_used), scene.ended

        await asyncio.sleep(OUTAGE_SECONDS)

        assert len(scene.cluster.names_used) == started
        # Those that ran when there were enough of them come on top.
        assert MAX_UNCOMMITTED < started - ended <= MAX_UNCOMMITTED + parallel + 1
        assert operator.condition("CheckpointHealthy")["reason"] == trouble.reason
        trouble.lasts = False
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == items
    assert status["attempts"] == {"total": items, "interruptions": 0, "retries": 0}
    assert len(scene.audit.durable.outcomes) == items == len(scene.cluster.names_used)


async def test_a_run_that_finds_storage_away_is_loaded_when_it_is_back() -> None:
    trouble = Trouble(StorageErrorReason.FORBIDDEN, lasts=True)
    scene = Scene(steady(2.0), trouble, small_job())
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await asyncio.sleep(OUTAGE_SECONDS)
        assert operator.condition("CheckpointHealthy")["reason"] == trouble.reason
        assert scene.cluster.names_used == []
        trouble.lasts = False
        await operator.until(lambda: scene.ended >= 10)
        assert operator.condition("CheckpointHealthy")["status"] == "True"
        # What ends from here on waits in its Jobs: nobody can write it down.
        trouble.lasts = True
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await asyncio.sleep(OUTAGE_SECONDS)
        assert operator.condition("CheckpointHealthy")["reason"] == trouble.reason
        assert trouble.failed.total() <= 150
        trouble.lasts = False
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 40
    assert status["attempts"] == {"total": 40, "interruptions": 0, "retries": 0}
    assert set(scene.cluster.runs_of.values()) == {1}


async def test_what_is_saved_meanwhile_does_not_hide_what_still_waits() -> None:
    """A template that is tried out, say, needs nothing of storage but an item that is in memory."""
    trouble = Trouble(StorageErrorReason.FULL, WRITES)
    scene = Scene(steady(2.0), trouble, small_job())
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: scene.ended >= 10)
        trouble.lasts = True
        await operator.until(lambda: operator.condition("CheckpointHealthy")["status"] == "False", 100.0)
        operator.edit(lambda spec: spec["map"]["template"]["spec"]["containers"][0].update(image="agent:2"))
        await asyncio.sleep(OUTAGE_SECONDS)
        trouble.lasts = False
        await operator.until_finished()
    assert scene.changes_of_health == [("True", "Saved"), ("False", trouble.reason), ("True", "Saved")]


@pytest.mark.parametrize("seconds", [0.005, 30.0], ids=["fails", "hangs"])
async def test_items_that_cannot_be_read_are_few_requests_and_a_trouble_like_others(seconds: float) -> None:
    trouble, items = Trouble(StorageErrorReason.UNAVAILABLE, frozenset({"get"}), seconds=seconds), 1_100
    scene = Scene(steady(2.0), trouble, map_reduce_job(list(range(items)), map_={"maxParallel": 100}))
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: scene.ended >= 700)
        trouble.lasts = True
        # The next items stand in a shard of their own, which is not in memory.
        await operator.until(lambda: operator.condition("CheckpointHealthy")["reason"] == trouble.reason, 100.0)
        await asyncio.sleep(OUTAGE_SECONDS)
        assert scene.ended == 1_000
        assert trouble.failed.total() <= 130
        trouble.lasts = False
        status = await operator.until_finished()
    assert status["attempts"] == {"total": items, "interruptions": 0, "retries": 0}
    assert scene.changes_of_health == [("True", "Saved"), ("False", trouble.reason), ("True", "Saved")]


async def test_agents_whose_items_cannot_be_read_are_judged_when_they_can() -> None:
    trouble, items = Trouble(StorageErrorReason.UNAVAILABLE, frozenset({"get"})), 1_040
    map_ = {"maxParallel": 40, "result": {"rule": "item.n >= 0"}}
    scene = Scene(steady(5.0), trouble, map_reduce_job([{"n": n} for n in range(items)], map_=map_))
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: len(scene.cluster.names_used) == items)
    # What the next operator has read is in memory, but for the shard of those that run.
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await asyncio.sleep(1.0)
        trouble.lasts = True
        await operator.until(lambda: operator.condition("CheckpointHealthy")["reason"] == trouble.reason, 100.0)
        await asyncio.sleep(OUTAGE_SECONDS)
        assert scene.ended == 1_000
        assert trouble.failed.total() <= 700, "one reading at a time, of five tries, with a pause"
        trouble.lasts = False
        status = await operator.until_finished()
    assert status["attempts"] == {"total": items, "interruptions": 0, "retries": 0}
    assert scene.changes_of_health == [("True", "Saved"), ("False", trouble.reason), ("True", "Saved")]


async def test_letters_that_cannot_be_written_are_few_requests() -> None:
    trouble, items = Trouble(StorageErrorReason.UNAVAILABLE), 600
    map_ = {"maxParallel": 200, "retry": {"maxAttempts": 1}}
    scene = Scene(lambda _: Ends(2.0, 1, "boom"), trouble, map_reduce_job(list(range(items)), map_=map_))
    async with operating(scene.cluster, scene.body, scene.store) as operator:
        await operator.until(lambda: scene.ended >= 200)
        trouble.lasts = True
        await asyncio.sleep(OUTAGE_SECONDS)
        # Eight of them are tried at a time, and then no more.
        assert trouble.failed.total() <= 8 * 65
        trouble.lasts = False
        status = await operator.until_finished()
    assert status["items"]["deadLettered"] == items
    assert status["attempts"] == {"total": items, "interruptions": 0, "retries": 0}


# -------------------------------------------------------------------------------------------- what arrives is damaged


class Distorting(MemoryStore):
    """While it `distorts`, what is read of an object first is not what is there."""

    def __init__(self, distort: Callable[[bytes], bytes]) -> None:
        super().__init__()
        self.distorts = False
        self.distorted: Final[set[str]] = set()
        self._distort: Final = distort

    async def get(self, key: str) -> StoredObject | None:
        found = await super().get(key)
        if found is None or not self.distorts or key in self.distorted or key.startswith("_probe/"):
            return found
        self.distorted.add(key)
        return StoredObject(self._distort(found.data), found.etag)


def flipped(data: bytes) -> bytes:
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize("distort", [flipped, cut])
async def test_what_is_damaged_on_its_way_is_read_again_and_not_taken_for_what_is_there(
    distort: Callable[[bytes], bytes],
) -> None:
    store = Distorting(distort)
    # So many that there are a second shard and a snapshot.
    items = [{"n": n, "text": "x" * 300} for n in range(1_200)]
    result = {"rule": "result.ok && item.n >= 0"}
    body = map_reduce_job(items, map_={"maxParallel": 100, "result": result}, reduce=reduce_work(runWhen="Always"))
    scene = Scene(a_third_fails, Trouble(StorageErrorReason.UNAVAILABLE), body, store)
    async with operating(scene.cluster, body, store) as operator:
        await operator.until(lambda: scene.ended > 700)
    store.distorts = True

    async with operating(scene.cluster, body, store) as operator:
        status = await operator.until_finished()

    kinds = {key.rpartition("/")[2].partition("-")[0] for key in store.distorted}
    assert kinds == {"head.json", "plan", "shard", "snapshot", "segment"}
    assert operator.counted("mapreduce_run_crashes_total") == 0
    assert set(scene.health) == {("True", "Saved")}
    assert {reason for reason, _ in scene.cluster.events} == {
        "Planned",
        "FirstError",
        "ReduceStarted",
        "PartiallySucceeded",
    }
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == len(items)
    assert status["attempts"]["total"] == sum(runs for key, runs in scene.cluster.runs_of.items() if key != "reduce")
    assert status["attempts"]["interruptions"] == 0
