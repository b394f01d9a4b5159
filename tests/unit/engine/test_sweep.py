"""Jobs without a MapReduceJob go; those of which anything else may be true stay."""

import asyncio
from dataclasses import replace

import pytest

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine.sweep import SWEEP_SECONDS
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, DeposedError
from tests.simulation.jobs import map_reduce_job
from tests.unit.engine.conftest import Operator
from tests.unit.engine.little_cluster import LittleCluster, a_job, a_pod

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

RUN = RunRef("team-a", "words", "run-1")
TWO_SWEEPS = 2 * SWEEP_SECONDS + 1
UNAVAILABLE = ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused")


def jobs_in(cluster: LittleCluster) -> set[str]:
    return set(cluster.there["jobs"])


async def test_jobs_whose_object_is_gone_are_deleted_and_counted_once(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for uid in ("a", "b"):
        operator.cluster.put(a_job(uid))
    operator.cluster.put(replace(a_job("orphaned-by-kubectl"), owner_uid=""))
    await asyncio.sleep(SWEEP_SECONDS + 1)
    assert len(jobs_in(operator.cluster)) == 3
    await asyncio.sleep(SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == set()
    await asyncio.sleep(10 * SWEEP_SECONDS)
    assert [record.getMessage() for record in caplog.records if record.name.endswith("sweep")] == [
        "team-a/words: the MapReduceJob run-1 is gone; 3 Jobs that it left were deleted"
    ]


async def test_jobs_of_an_object_that_exists_stay_although_nobody_cares_for_it(operator: Operator) -> None:
    operator.cluster.put(a_job("a"))
    operator.cluster.mapreduce_jobs.add(RUN)
    await asyncio.sleep(10 * SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == {"a"}


async def test_an_object_of_the_same_name_with_another_uid_is_another(operator: Operator) -> None:
    operator.cluster.put(a_job("a"))
    operator.cluster.mapreduce_jobs.add(replace(RUN, uid="run-2"))
    await asyncio.sleep(TWO_SWEEPS)
    assert jobs_in(operator.cluster) == set()


@pytest.mark.parametrize("reason", sorted(set(ClusterErrorReason) - {ClusterErrorReason.NOT_FOUND}))
async def test_nothing_is_deleted_while_the_api_server_does_not_say_so(
    operator: Operator, reason: ClusterErrorReason
) -> None:
    operator.cluster.put(a_job("a"))
    for _ in range(5):
        operator.cluster.faults["status_epoch"] = ClusterError(reason, "no")
        await asyncio.sleep(SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == {"a"}


async def test_once_is_not_enough(operator: Operator) -> None:
    """An API server that has just been started may not know of the definition yet."""
    operator.cluster.put(a_job("a"))
    await asyncio.sleep(SWEEP_SECONDS + 1)
    operator.cluster.mapreduce_jobs.add(RUN)
    await asyncio.sleep(SWEEP_SECONDS)
    operator.cluster.mapreduce_jobs.clear()
    await asyncio.sleep(SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == {"a"}


async def test_a_run_in_our_care_looks_after_its_own(operator: Operator) -> None:
    body = map_reduce_job(["x"], uid="run-1")
    operator.supervisor.observe(body)
    await asyncio.sleep(10 * SWEEP_SECONDS)
    assert len(operator.cluster.created) == 1
    assert operator.jobs_of("run-1") == 1


@pytest.mark.parametrize(
    "job",
    [
        replace(a_job("a"), owner_uid="somebody"),
        replace(a_job("a"), carried=replace(a_job("a").carried, run_name="")),
    ],
    ids=["owned by something else", "without its job's name"],
)
async def test_what_is_not_clearly_ours_stays(operator: Operator, job: JobSeen) -> None:
    operator.cluster.put(job)
    await asyncio.sleep(10 * SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == {"a"}


async def test_pods_are_left_to_their_jobs(operator: Operator) -> None:
    operator.cluster.put(a_pod("p"))
    await asyncio.sleep(TWO_SWEEPS)
    assert set(operator.cluster.there["pods"]) == {"p"}


async def test_a_deletion_that_fails_is_made_up_for(operator: Operator) -> None:
    for uid in ("a", "b", "c"):
        operator.cluster.put(a_job(uid))
    operator.cluster.faults["delete_job"] = UNAVAILABLE
    await asyncio.sleep(TWO_SWEEPS)
    assert len(jobs_in(operator.cluster)) == 3
    await asyncio.sleep(SWEEP_SECONDS)
    assert jobs_in(operator.cluster) == set()


async def test_a_process_that_does_not_lead_any_more_ends(operator: Operator) -> None:
    operator.cluster.put(a_job("a"))
    operator.cluster.faults["delete_job"] = DeposedError("epoch 2 leads")
    with pytest.raises(DeposedError):
        await asyncio.wait_for(operator.engine, TWO_SWEEPS)
