"""Runs live on while others fail, and all of them end when another process leads."""

import asyncio
import copy
from itertools import permutations
from typing import Any

import pytest

from mapreduce_operator.api import MapReduceJob
from mapreduce_operator.core.workloads import ContainerEnd, JobSeen, PodSeen
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, DeposedError
from tests.simulation.jobs import map_reduce_job
from tests.unit.engine.conftest import Operator
from tests.unit.engine.parts import NOW

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


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
    assert operator.crashes == 0
    written = len(operator.cluster.statuses)
    operator.cluster.remove("job-1")
    await asyncio.sleep(60)
    assert len(operator.cluster.statuses) == written
    assert operator.cluster.streams == {"jobs": [], "pods": []}


async def test_what_kopf_tells_when_all_work_has_ended_begins_nothing(operator: Operator) -> None:
    operator.cluster.faults["create_job"] = DeposedError("epoch 2 leads")
    operator.supervisor.observe(body("run-1"))
    with pytest.raises(DeposedError):
        await operator.engine
    operator.supervisor.observe(body("run-2"))
    await asyncio.sleep(60)
    assert operator.jobs_of("run-2") == 0


async def test_a_write_of_a_job_that_finds_another_leader_ends_the_process_too(operator: Operator) -> None:
    operator.cluster.faults["create_job"] = DeposedError("epoch 2 leads")
    operator.supervisor.observe(body())
    with pytest.raises(DeposedError):
        await operator.engine
    assert operator.crashes == 0


async def test_a_bug_that_one_run_meets_is_counted_and_costs_no_item(operator: Operator) -> None:
    operator.supervisor.observe(body("run-1"))
    await asyncio.sleep(10)
    operator.cluster.faults["create_job"] = RuntimeError("a bug")
    operator.supervisor.observe(body("run-2"))
    await asyncio.sleep(10)
    assert operator.crashes == 1
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
    assert operator.crashes == 4
    await asyncio.sleep(300)
    assert 13 <= operator.crashes <= 15


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
    assert items_of(charge.job) == items_of(charge.run._standing.job) == ("a", "b", "c")

    seen = planned(seen)
    operator.supervisor.observe(seen)
    assert items_of(charge.job) == items_of(charge.run._standing.job) == ()
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
    assert operator.crashes == 1
    assert charge.run is not before
    assert operator.jobs_of("run-1") == 3


async def test_a_planned_object_that_cannot_be_read_is_left_alone(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    seen = planned(body())
    seen["spec"] = {"input": seen["spec"]["input"], "map": {"maxParallel": 2}}
    operator.supervisor.observe(seen)
    assert "spec.map.template" in caplog.text
    assert operator.supervisor._charges == {}


async def finish(operator: Operator) -> None:
    """All agents of the run succeed, and its end becomes durable."""
    await asyncio.sleep(10)
    end = ContainerEnd(0, message='{"ok": true}', started_at=NOW, finished_at=NOW)
    for job in list(operator.cluster.there["jobs"].values()):
        assert isinstance(job, JobSeen)
        pod = PodSeen(
            job.namespace, f"{job.name}-x", f"pod-of-{job.uid}", job.name, job.uid, job.carried, "Succeeded", agent=end
        )
        operator.cluster.put(pod)
    await asyncio.sleep(10)
    assert operator.cluster.statuses[-1][1]["phase"] == "Succeeded"


class Undeletable(dict[str, Exception]):
    """The right to delete Jobs is missing."""

    def pop(self, method: str, default: Any = None) -> Any:
        return ClusterError(ClusterErrorReason.FORBIDDEN, "no") if method == "delete_job" else default


async def test_jobs_that_cannot_be_deleted_keep_no_finished_run_from_being_deleted(operator: Operator) -> None:
    operator.cluster.faults = Undeletable()
    operator.supervisor.observe(body())
    await finish(operator)
    assert operator.jobs_of("run-1") == 3
    deleted = body()
    deleted["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"
    operator.supervisor.observe(deleted)
    await asyncio.sleep(5)
    assert operator.cluster.released == ["run-1"]


async def test_jobs_that_cannot_be_deleted_do_not_hold_the_shutdown_up(operator: Operator) -> None:
    operator.cluster.faults = Undeletable()
    operator.supervisor.observe(body())
    await finish(operator)
    before = asyncio.get_running_loop().time()
    await operator.supervisor.drain(10)
    assert asyncio.get_running_loop().time() < before + 2


async def test_no_part_of_a_run_keeps_its_items_once_they_are_planned(operator: Operator) -> None:
    operator.supervisor.observe(body())
    await asyncio.sleep(10)
    operator.supervisor.observe(planned(body()))
    await asyncio.sleep(10)
    run = operator.supervisor._charges["run-1"].run
    assert run is not None
    state = run._standing.state
    assert state is not None
    assert items_of(run._standing.job) == state.spec.input.items == ()


async def ended_with_letters(operator: Operator) -> dict[str, Any]:
    """A run of which all three items failed for good; the object with its last status."""
    seen = body()
    seen["spec"]["map"]["retry"] = {"maxAttempts": 1}
    operator.supervisor.observe(seen)
    await asyncio.sleep(10)
    fail_all(operator)
    await asyncio.sleep(30)
    _, status = operator.cluster.statuses[-1]
    assert (status["phase"], status["deadLetters"]["open"]) == ("Failed", 3)
    return seen | {"status": status}


def fail_all(operator: Operator) -> None:
    crashed = ContainerEnd(1, message="boom", started_at=NOW, finished_at=NOW)
    for job in list(operator.cluster.there["jobs"].values()):
        assert isinstance(job, JobSeen)
        pod = PodSeen(
            job.namespace, f"{job.name}-x", f"pod-of-{job.uid}", job.name, job.uid, job.carried, "Failed", agent=crashed
        )
        operator.cluster.put(pod)


def a_redrive(operator: Operator, queue: str) -> dict[str, Any]:
    operator.cluster.redrives.add("uid-again")
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "Redrive",
        "metadata": {"name": "again", "namespace": "default", "uid": "uid-again", "generation": 1},
        "spec": {"queue": queue, "selection": {"all": True}},
    }


@pytest.mark.parametrize("order", sorted(permutations(["job", "queue", "redrive"])), ids=" ".join)
async def test_a_redrive_of_a_run_that_has_ended_is_answered_whoever_is_told_first(
    operator: Operator, order: tuple[str, ...]
) -> None:
    ended = await ended_with_letters(operator)
    operator.supervisor.forget("run-1")
    ((namespace, name),) = operator.cluster.queues
    queue = operator.cluster.queues[namespace, name]
    operator.supervisor.forget_queue(queue["metadata"]["uid"])
    await asyncio.sleep(1)
    redrive = a_redrive(operator, name)
    redrive["metadata"]["namespace"] = namespace
    tell = {
        "job": lambda: operator.supervisor.observe(ended),
        "queue": lambda: operator.supervisor.observe_queue(queue),
        "redrive": lambda: operator.supervisor.observe_redrive(redrive),
    }

    for what in order:
        tell[what]()
    await asyncio.sleep(30)

    assert len(operator.cluster.created) == 6, "all three run again"
    _, told = operator.cluster.redrive_statuses[-1]
    assert (told["phase"], told["selected"], told["remaining"]) == ("Running", 3, 3)
    fail_all(operator)
    await asyncio.sleep(30)
    _, told = operator.cluster.redrive_statuses[-1]
    assert (told["phase"], told["failed"]) == ("Complete", 3)
    assert operator.cluster.statuses[-1][1]["phase"] == "Failed"
    assert operator.crashes == 0
