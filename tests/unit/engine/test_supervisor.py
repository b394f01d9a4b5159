"""Runs live on while others fail, and all of them end when another process leads."""

import asyncio
import copy
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import MapReduceJob
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import Cluster, DeposedError
from tests.simulation.jobs import map_reduce_job
from tests.unit.engine.little_cluster import LittleCluster
from tests.unit.engine.parts import NOW, Leader

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class LoopClock:
    def now(self) -> float:
        return NOW + asyncio.get_running_loop().time()


class Counts:
    """Fulfils the Metrics port; only crashes matter here."""

    def __init__(self) -> None:
        self.crashes = 0

    def outcome(self, verdict: str, reason: str) -> None:
        """Nothing ends here."""

    def stale_events(self, number: int) -> None:
        """Nothing is late here."""

    def commit(self, reason: str, seconds: float) -> None:
        """Not of interest."""

    def run_crashed(self) -> None:
        self.crashes += 1


@dataclass
class Operator:
    cluster: LittleCluster
    counts: Counts
    supervisor: Supervisor
    engine: asyncio.Task[None]

    def jobs_of(self, run_uid: str) -> int:
        return sum(job.carried.run_uid == run_uid for job in self.cluster.there["jobs"].values())


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    cluster, counts, store = LittleCluster(), Counts(), MemoryStore()
    port = cast("Cluster", cluster)
    informer = Informer(port)
    world = World(
        cluster=port,
        store=store,
        suitability=Suitability(store, "process-1"),
        storage_url="memory://",
        clock=LoopClock(),
        metrics=counts,
        capacity=Capacity(100),
        pace=Pace(),
        limits=Limits(),
        leadership=Leader(),
        known_workloads=informer.known,
    )
    supervisor = Supervisor(world, informer)
    engine = asyncio.create_task(supervisor.serve())
    yield Operator(cluster, counts, supervisor, engine)
    engine.cancel()
    await asyncio.gather(engine, return_exceptions=True)


def body(uid: str = "run-1", items: list[Any] | None = None) -> dict[str, Any]:
    job = map_reduce_job(items or ["a", "b", "c"], uid=uid)
    job["metadata"]["name"] = f"job-of-{uid}"
    return job


def planned(job: dict[str, Any]) -> dict[str, Any]:
    """The same object after its status told of a plan."""
    plan = {"items": len(job["spec"]["input"]["items"]), "duplicates": 0, "sha256": "0" * 64, "prefix": "run-1/"}
    return copy.deepcopy(job) | {"status": {"phase": "Map", "plan": plan}}


def items_of(job: MapReduceJob) -> tuple[Any, ...] | None:
    return job.spec.input.items


async def test_a_run_that_finds_another_leader_ends_all_of_them_by_one_plain_error(operator: Operator) -> None:
    operator.supervisor.observe(body("run-1"))
    await asyncio.sleep(10)
    assert operator.jobs_of("run-1") == 3
    operator.cluster.faults["add_finalizer"] = deposed = DeposedError("epoch 2 leads")
    operator.supervisor.observe(body("run-2"))

    with pytest.raises(DeposedError) as caught:
        await operator.engine
    assert caught.value is deposed
    assert operator.counts.crashes == 0
    written = len(operator.cluster.statuses)
    operator.cluster.remove("job-1")
    await asyncio.sleep(60)
    assert len(operator.cluster.statuses) == written
    assert operator.cluster.streams == {"jobs": [], "pods": []}


async def test_a_write_of_a_job_that_finds_another_leader_ends_the_process_too(operator: Operator) -> None:
    operator.cluster.faults["create_job"] = DeposedError("epoch 2 leads")
    operator.supervisor.observe(body())
    with pytest.raises(DeposedError):
        await operator.engine
    assert operator.counts.crashes == 0


async def test_a_bug_that_one_run_meets_is_counted_and_costs_no_item(operator: Operator) -> None:
    operator.supervisor.observe(body("run-1"))
    await asyncio.sleep(10)
    operator.cluster.faults["create_job"] = RuntimeError("a bug")
    operator.supervisor.observe(body("run-2"))
    await asyncio.sleep(10)
    assert operator.counts.crashes == 1
    assert not operator.engine.done()
    assert (operator.jobs_of("run-1"), operator.jobs_of("run-2")) == (3, 3)
    assert len(set(operator.cluster.created)) == len(operator.cluster.created) == 6


async def test_a_bug_that_stays_is_met_less_and_less_often(operator: Operator) -> None:
    class Always(dict[str, Exception]):
        def pop(self, method: str, default: Any = None) -> Any:
            return RuntimeError("a bug") if method == "add_finalizer" else default

    operator.cluster.faults = Always()
    operator.supervisor.observe(body())
    await asyncio.sleep(18)
    assert operator.counts.crashes == 4
    await asyncio.sleep(300)
    assert 13 <= operator.counts.crashes <= 15


async def test_an_event_that_changes_nothing_is_not_parsed(operator: Operator) -> None:
    operator.supervisor.observe(body())
    parsed = operator.supervisor._charges["run-1"].job
    operator.supervisor.observe(body() | {"status": {"phase": "Pending"}})
    assert operator.supervisor._charges["run-1"].job is parsed


async def test_items_are_let_go_when_they_are_planned_and_not_read_again(operator: Operator) -> None:
    seen = body()
    operator.supervisor.observe(seen)
    charge = operator.supervisor._charges["run-1"]
    await asyncio.sleep(1)
    assert charge.run is not None
    assert items_of(charge.job) == items_of(charge.run._job) == ("a", "b", "c")

    seen = planned(seen)
    operator.supervisor.observe(seen)
    assert items_of(charge.job) == items_of(charge.run._job) == ()
    assert seen["spec"]["input"]["items"] == ["a", "b", "c"]

    parsed = charge.job
    operator.supervisor.observe(copy.deepcopy(seen))
    assert charge.job is parsed

    seen["metadata"]["generation"] += 1
    seen["spec"]["map"]["maxParallel"] = 2
    operator.supervisor.observe(seen)
    assert charge.job.spec.map.max_parallel == 2
    assert items_of(charge.job) == ()


async def test_the_input_of_a_planned_run_without_inline_items_stays(operator: Operator) -> None:
    seen = body()
    seen["spec"]["input"] = {"configMapRef": {"name": "words", "key": "items"}}
    operator.supervisor.observe(seen | {"status": {"phase": "Map", "plan": planned(body())["status"]["plan"]}})
    (charge,) = operator.supervisor._charges.values()
    assert charge.job.spec.input.items is None
    assert charge.job.spec.input.config_map_ref is not None


async def test_a_planned_run_that_comes_back_has_its_items_from_storage(operator: Operator) -> None:
    operator.supervisor.observe(body())
    await asyncio.sleep(10)
    operator.supervisor.observe(planned(body()))
    charge = operator.supervisor._charges["run-1"]
    assert charge.run is not None
    before = charge.run
    operator.cluster.faults["create_job"] = RuntimeError("a bug")
    for uid in ("job-1", "job-2", "job-3"):
        operator.cluster.remove(uid)
    await asyncio.sleep(120)
    assert operator.counts.crashes == 1
    assert charge.run is not before
    assert operator.jobs_of("run-1") == 3


async def test_a_planned_object_that_cannot_be_read_is_left_alone(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    seen = planned(body())
    seen["spec"] = {"map": seen["spec"]["map"]}
    operator.supervisor.observe(seen)
    assert "spec.input" in caplog.text
    assert operator.supervisor._charges == {}
