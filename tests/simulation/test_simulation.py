"""The simulation itself: what it promises about processes, the API server and nodes."""

import asyncio
from contextlib import aclosing

import pytest

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import PodSeen
from mapreduce_operator.ports import Change, ClusterError, ClusterErrorReason, DeposedError, WorkloadKind
from tests.simulation.agents import Ends, steady
from tests.simulation.audit import verdicts
from tests.simulation.connection import Connection, NoFaults, Stream, Trip
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import operating
from tests.simulation.process import Leads, Lease, Process
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

RUN = RunRef("default", "demo", "run-1")


async def started(cluster: SimulatedCluster, number: int = 1, **map_: object) -> None:
    """Lets an operator start Jobs and leaves them alone."""
    body = map_reduce_job(list(range(number)), map_=map_)
    async with operating(cluster, body, graceful=False) as operator:
        await operator.until(lambda: sum(pod.seen.phase == "Running" for pod in cluster.pods.values()) == number)


async def test_a_watch_tells_all_that_came_after_a_listing_in_order_and_repeats_only_what_is_next() -> None:
    class Repeats(NoFaults):
        def stream(self, kind: WorkloadKind) -> Stream:
            del kind
            return Stream(seconds=100.0, repeats=1.0)

        def chance(self) -> float:
            return 0.0

    cluster = SimulatedCluster(steady(5.0))
    connection = Connection(cluster, faults=Repeats())
    listing = await connection.list_workloads("pods")
    assert listing.workloads == []
    await started(cluster, 3)
    async with aclosing(connection.watch_workloads("pods", listing.resource_version)) as changes:
        told = [change async for change in changes if isinstance(change, Change)]
    versions = [int(change.resource_version) for change in told]
    assert versions == sorted(versions)
    assert told[::2] == told[1::2]
    phases = [change.workload.phase for change in told[::2] if isinstance(change.workload, PodSeen)]
    assert phases == ["Pending"] * 3 + ["Running"] * 3 + ["Succeeded"] * 3


async def test_a_dead_process_has_no_effect_and_gets_no_answer_but_what_it_sent_may_arrive() -> None:
    class Straggles(NoFaults):
        def trip(self, call: str) -> Trip:
            return Trip(there=1.0, straggles=2.0 if call == "add finalizer" else None)

    cluster, process = SimulatedCluster(steady()), Process(dies_at=4)
    connection = Connection(cluster, process, Straggles())
    calls = [
        asyncio.create_task(call)
        for call in (
            connection.add_finalizer(RUN),
            connection.write_status(RUN, {"a": 1}, replacing=0),
            connection.status_epoch(RUN),
            connection.remove_finalizer(RUN),
        )
    ]
    await process.changed.wait()
    for call in calls:
        call.cancel()
    assert all(isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*calls, return_exceptions=True))
    assert cluster.finalizers == set()
    await asyncio.sleep(2.5)
    assert cluster.finalizers == {"run-1"}
    assert cluster.status == {}


async def test_a_stopped_process_goes_on_where_it_was_and_writes_nothing_once_it_is_deposed() -> None:
    cluster, process, lease = SimulatedCluster(steady()), Process(1, stops_at=2), Lease()
    leads = Leads(lease, 1)
    connection = Connection(cluster, process, leadership=leads)
    call = asyncio.create_task(connection.add_finalizer(RUN))
    await process.changed.wait()
    await asyncio.sleep(60)
    assert not call.done()
    process.resume()
    await call
    assert Leads(lease, 2).epoch == leads.epoch + 1
    with pytest.raises(DeposedError):
        await leads.surpass(2)
    leads.held = False
    with pytest.raises(DeposedError):
        await connection.remove_finalizer(RUN)
    assert await connection.status_epoch(RUN) == 0


async def test_the_pods_of_a_lost_node_stay_until_they_are_removed_or_it_comes_back() -> None:
    cluster = SimulatedCluster(steady(1.0))
    await started(cluster, 2, timeoutSeconds=1000)
    first, second = cluster.pods.values()
    cluster.lose("node-1")
    await asyncio.sleep(3600)
    assert [pod.seen.phase for pod in (first, second)] == ["Running", "Running"]
    assert first.seen.deleting
    assert first.seen.disruption == "DeletionByTaintManager"
    cluster.delete_pod("default", first.seen.name, first.seen.uid)
    assert not first.present
    cluster.bring_back("node-1")
    await asyncio.sleep(1)
    assert not second.present
    assert second.seen.phase == "Succeeded"
    assert verdicts(first.job) == ("Interrupted",)
    assert verdicts(second.job) == ("Succeeded", "Interrupted")


async def test_a_job_deleted_in_the_foreground_stays_until_its_pod_is_gone() -> None:
    cluster = SimulatedCluster(lambda _: Ends(100.0, traps=5.0))
    await started(cluster)
    (job,) = cluster.history
    cluster.delete_job_in_foreground(job)
    await asyncio.sleep(4)
    assert job.present
    assert job.seen.deleting
    await asyncio.sleep(2)
    assert not job.present
    assert cluster.pods == {}


@pytest.mark.parametrize(
    ("shown", "touched", "expected"),
    [
        (None, False, ("Interrupted",)),
        (Ends(), False, ("Succeeded",)),
        (Ends(exit_code=1), False, ("Failed",)),
        (Ends(valid=False), False, ("Failed",)),
        (Ends(exit_code=1), True, ("Failed", "Interrupted")),
    ],
)
async def test_what_may_be_recorded_of_a_dispatch(shown: Ends | None, touched: bool, expected: tuple[str, ...]) -> None:
    cluster = SimulatedCluster(steady())
    await started(cluster)
    (job,) = cluster.history
    job.shown, job.touched = shown, touched
    assert verdicts(job) == expected


async def test_an_object_that_is_deleted_is_gone_with_its_finalizer() -> None:
    cluster = SimulatedCluster(steady())
    cluster.add_finalizer(RUN)
    cluster.deleted.add(RUN.uid)
    cluster.add_finalizer(RUN)
    cluster.write_status(RUN, {"phase": "Map"}, replacing=0)
    cluster.remove_finalizer(RUN)
    with pytest.raises(ClusterError) as refused:
        cluster.write_status(RUN, {"phase": "Map"}, replacing=0)
    assert refused.value.reason is ClusterErrorReason.NOT_FOUND
