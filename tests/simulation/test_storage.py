"""Storage that is slow or fails: outcomes wait for it, and none of them changes."""

import asyncio
from random import Random

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import StorageError, StorageErrorReason
from tests.simulation.agents import flaky, steady
from tests.simulation.connection import Trip
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore

pytestmark = pytest.mark.asyncio


class Slow:
    """Fulfils StorageFaults: every call takes two seconds."""

    def trip(self, call: str) -> Trip:
        del call
        return Trip(1.0, 1.0)

    def refused(self, call: str) -> StorageError | None:
        del call
        return None

    def lost(self, call: str) -> StorageError | None:
        del call
        return None


class OneHead(MemoryStore):
    """Notices two writes of the head at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = 0
        self.most = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        head = key.endswith("head.json")
        self.writing += head
        self.most = max(self.most, self.writing)
        await asyncio.sleep(0.5)
        try:
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)
        finally:
            self.writing -= head


async def test_fifty_agents_that_end_during_a_commit_are_all_in_the_next_one() -> None:
    cluster, store = SimulatedCluster(steady(5.0)), OneHead()
    body = map_reduce_job(list(range(50)), map_={"maxParallel": 50}, checkpoint={"everyItems": 1, "everySeconds": 1})
    async with operating(cluster, body, RemoteStore(store, Process(), Slow())) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 50
    assert status["attempts"] == {"total": 50, "interruptions": 0, "retries": 0}
    assert store.most == 1
    assert operator.counted("mapreduce_checkpoints_total", result="success") < 10


@pytest.mark.parametrize("broken", ["get", "put", "put if", "list", "delete"])
@pytest.mark.parametrize("after", [False, True], ids=["requests", "answers"])
async def test_a_third_of_the_calls_of_a_kind_fails_and_no_outcome_changes(broken: str, after: bool) -> None:
    class Fails(Slow):
        chance = Random(broken)
        failed = 0

        def trip(self, call: str) -> Trip:
            del call
            return Trip()

        def _fails(self, call: str) -> StorageError | None:
            fails = call == broken and self.chance.random() < 1 / 3
            self.failed += fails
            return StorageError("slow down", StorageErrorReason.THROTTLED) if fails else None

        def refused(self, call: str) -> StorageError | None:
            return None if after else self._fails(call)

        def lost(self, call: str) -> StorageError | None:
            return self._fails(call) if after else None

    faults, cluster, store = Fails(), SimulatedCluster(flaky(20)), MemoryStore()
    body = map_reduce_job(list(range(30)), reduce=reduce_work(), checkpoint={"everyItems": 3})
    async with operating(cluster, body, RemoteStore(store, Process(), faults)) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) > 10)
    async with operating(cluster, body, RemoteStore(store, Process(), faults)) as operator:
        status = await operator.until_finished()
        operator.delete()
        await operator.until(lambda: cluster.finalizers == set())
    assert faults.failed > 3 or broken in {"list", "delete"}
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == 30
    assert status["attempts"]["total"] == sum(runs for item, runs in cluster.runs_of.items() if item != "reduce")
    assert status["attempts"]["interruptions"] == 0
    assert len(set(cluster.names_used)) == len(cluster.names_used)
    assert operator.counted("mapreduce_run_crashes_total") == 0
