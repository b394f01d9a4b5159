"""The operator dies, storage or the API server fails: nothing is lost and nothing runs twice."""

import asyncio
from collections import Counter

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError, StoredObject
from tests.simulation.agents import flaky, steady
from tests.simulation.connection import NoFaults
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("graceful", [True, False], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("life", [0.3, 1.7, 4.1, 9.9])
async def test_an_operator_that_dies_again_and_again_counts_each_item_once(graceful: bool, life: float) -> None:
    cluster, store = SimulatedCluster(flaky(20)), MemoryStore()
    body = map_reduce_job([{"n": n} for n in range(40)], reduce=reduce_work())
    lives = 0
    while "completionTime" not in cluster.status:
        async with operating(cluster, body, store, graceful=graceful):
            await asyncio.sleep(life)
        lives += 1
        await asyncio.sleep(1.3)
        assert lives < 500
    status = cluster.status
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == 40
    assert status["attempts"]["total"] == sum(runs for name, runs in cluster.runs_of.items() if name != "reduce")
    assert len(cluster.names_used) == len(set(cluster.names_used))
    assert cluster.peak <= 10


@pytest.mark.parametrize("life", [2.9, 7.3, 12.7])
async def test_a_retry_never_overtakes_the_record_of_the_attempt_before(life: float) -> None:
    cluster, store = SimulatedCluster(flaky(40)), MemoryStore()
    body = map_reduce_job(
        list(range(40)),
        map_={"retry": {"maxAttempts": 5, "backoff": {"initialSeconds": 0}}},
        checkpoint={"everyItems": 1000, "everySeconds": 4},
    )
    while "completionTime" not in cluster.status:
        async with operating(cluster, body, store, graceful=False):
            await asyncio.sleep(life)
    assert cluster.status["attempts"]["total"] == sum(cluster.runs_of.values())


async def test_shutdown_saves_what_ended_and_leaves_agents_alone() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), MemoryStore()
    checkpoint = {"everyItems": 1000, "everySeconds": 3600}
    body = map_reduce_job(list(range(10)), map_={"maxParallel": 5}, checkpoint=checkpoint)
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: len(cluster.names_used) == 10)
        assert cluster.status["items"]["succeeded"] == 0
    assert cluster.status["items"]["succeeded"] == 5
    assert cluster.status["checkpoint"]["reason"] == "Shutdown"
    assert sum(not job.seen.finished for job in cluster.jobs.values()) == 5


async def test_a_finished_job_is_not_taken_up_again() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    body = map_reduce_job([1, 2, 3])
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    used, written = list(cluster.names_used), len(cluster.statuses)
    async with operating(cluster, body, store):
        await asyncio.sleep(60)
    assert cluster.names_used == used
    assert len(cluster.statuses) == written


async def test_storage_that_is_away_delays_the_status_and_loses_nothing() -> None:
    class Flaky(MemoryStore):
        away = False

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if self.away:
                raise StorageError("no space left on device")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    cluster, store = SimulatedCluster(steady(5.0)), Flaky()
    async with operating(cluster, map_reduce_job(list(range(30))), store) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) >= 5)
        store.away = True
        before = cluster.status["items"]["succeeded"]
        await asyncio.sleep(120)
        assert cluster.status["items"]["succeeded"] == before
        assert operator.condition("CheckpointHealthy")["status"] == "False"
        assert "no space left" in operator.condition("CheckpointHealthy")["message"]
        assert len(cluster.jobs) > 0
        store.away = False
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 30, "interruptions": 0, "retries": 0}
    assert operator.condition("CheckpointHealthy")["status"] == "True"
    assert operator.counted("mapreduce_run_crashes_total") == 0


async def test_an_unexpected_exception_neither_loses_an_item_nor_ends_the_operator() -> None:
    cluster = SimulatedCluster(flaky(20))
    broken = {15, 30}

    def fault(_: object, dry_run: bool) -> ClusterError | None:
        if not dry_run and len(cluster.history) in broken:
            broken.remove(len(cluster.history))
            raise RuntimeError("a bug")
        return None

    cluster.refuse = fault
    async with operating(cluster, map_reduce_job(list(range(40)))) as operator:
        status = await operator.until_finished()
    assert operator.counted("mapreduce_run_crashes_total") == 2
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == 40
    assert status["attempts"]["total"] == sum(cluster.runs_of.values())


async def test_an_answer_that_is_lost_does_not_make_a_second_job() -> None:
    class LosesAnswers(NoFaults):
        created = 0

        def lost(self, call: str) -> ClusterError | None:
            self.created += call == "create job"
            broken = call == "create job" and self.created % 3 == 0
            return ClusterError(ClusterErrorReason.UNAVAILABLE, "connection reset") if broken else None

    cluster = SimulatedCluster(steady(5.0))
    async with operating(cluster, map_reduce_job(list(range(30))), faults=LosesAnswers()) as operator:
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 30, "interruptions": 0, "retries": 0}
    assert len(cluster.names_used) == 30


async def test_what_an_operator_left_behind_at_the_very_end_is_removed_by_the_next() -> None:
    class Sticky(NoFaults):
        def refused(self, call: str) -> ClusterError | None:
            return ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused") if call == "delete job" else None

    cluster, store = SimulatedCluster(steady(1.0)), MemoryStore()
    body = map_reduce_job([1, 2, 3])
    async with operating(cluster, body, store, graceful=False, faults=Sticky()) as operator:
        await operator.until_finished()
    assert len(cluster.jobs) == 3
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.jobs == {}, 60)
    assert len(cluster.names_used) == 3


async def test_two_jobs_share_the_operators_cap_fairly_and_do_not_mix() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, map_reduce_job(list(range(30)), uid="run-1"), capacity=6) as operator:
        await operator.until(lambda: len(cluster.names_used) == 6)
        second = map_reduce_job(["a", "b", "c", "d", "e", "f"], uid="run-2")
        second["metadata"]["name"] = "second"
        operator.supervisor.observe(second)
        await asyncio.sleep(15)
        alive = [job.seen.carried.run_uid for job in cluster.jobs.values() if not job.seen.finished]
        assert alive.count("run-2") == 3
        ended = {"run-1": False, "run-2": False}
        while not all(ended.values()):
            await asyncio.sleep(1)
            for status in cluster.statuses:
                ended[status["run"]] |= "completionTime" in status
    assert cluster.peak == 6
    totals = {status["run"]: status["items"]["succeeded"] for status in cluster.statuses if "items" in status}
    assert totals == {"run-1": 30, "run-2": 6}


async def test_a_namespace_with_many_jobs_has_no_more_of_the_operators_cap_than_one_with_a_single_job() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, map_reduce_job(list(range(60)), uid="many-0"), capacity=6) as operator:
        for name, namespace in (("many-1", "default"), ("many-2", "default"), ("single", "other")):
            body = map_reduce_job(list(range(60)), uid=name)
            body["metadata"] |= {"name": name, "namespace": namespace}
            operator.supervisor.observe(body)
        await asyncio.sleep(45)
        alive = Counter(job.seen.carried.run_uid for job in cluster.jobs.values() if not job.seen.finished)
    assert alive == {"many-0": 1, "many-1": 1, "many-2": 1, "single": 3}
    assert cluster.peak == 6


async def test_a_planned_job_keeps_its_status_while_a_new_operator_cannot_reach_storage() -> None:
    class Away(MemoryStore):
        away = False

        async def get(self, key: str) -> StoredObject | None:
            if self.away:
                raise StorageError("the volume is not mounted")
            return await super().get(key)

    cluster, store = SimulatedCluster(steady(5.0)), Away()
    body = map_reduce_job(list(range(30)))
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) >= 10)
    before = cluster.status
    store.away = True
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: operator.condition("CheckpointHealthy")["status"] == "False", 60)
        assert "not mounted" in operator.condition("Progressing")["message"]
        assert {key: cluster.status[key] for key in ("plan", "items", "phase")} == {
            key: before[key] for key in ("plan", "items", "phase")
        }
        store.away = False
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 30, "interruptions": 0, "retries": 0}
    assert operator.condition("CheckpointHealthy")["status"] == "True"


async def test_an_object_that_cannot_be_read_is_left_alone_and_its_values_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, map_reduce_job([1])) as operator:
        body = map_reduce_job([1], uid="run-2", map_={"timeoutSeconds": "canary"})
        operator.supervisor.observe(body)
        await operator.until_finished()
    assert "spec.map.timeoutSeconds" in caplog.text
    assert "canary" not in caplog.text
