"""Jobs whose input cannot be planned: they start when they were taken up, and end without a plan when they have to."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import steady
from tests.simulation.going_back import RUN, ReadStore, ask, items, job
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.timeline import EPOCH

pytestmark = pytest.mark.asyncio


def waiting(**spec: Any) -> dict[str, Any]:
    """A job whose ConfigMap is not there."""
    body = job("", **spec)
    body["spec"]["input"] = {"configMapRef": {"name": "input", "key": "items"}, "idExpression": "item.id"}
    return body


def forked(**spec: Any) -> dict[str, Any]:
    """A job whose parent, which is to give it its map, is not there."""
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": "demo", "namespace": "default", "uid": RUN, "generation": 1},
        "spec": {"forkFrom": {"job": {"name": "nobody"}}, **spec},
    }


def given(cluster: SimulatedCluster, ids: str) -> None:
    """Somebody writes the ConfigMap."""
    cluster.config_maps["default", "input"] = {"data": {"items": json.dumps([{"id": one} for one in ids])}}


def told(operator: OperatorInMemory) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in operator.status_of(RUN)["conditions"]}


def events(cluster: SimulatedCluster) -> list[str]:
    return [reason for reason, _ in cluster.events]


@pytest.mark.parametrize(
    ("body", "problem"), [(waiting, "ConfigMapNotFound"), (forked, "ForkParentNotFound")], ids=["input", "fork"]
)
async def test_a_job_that_cannot_be_planned_can_be_cancelled(body: Callable[..., dict[str, Any]], problem: str) -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, body()) as operator:
        await operator.until(lambda: operator.status_of(RUN).get("reason") == problem, 60)
        ask(operator, cancel=True)
        status = await operator.until_finished(30)
        assert (status["phase"], status["reason"]) == ("Failed", "Cancelled")
        assert told(operator) | {"CheckpointHealthy": ("True", "Saved")} == {
            "Accepted": ("False", problem),
            "Complete": ("False", "Cancelled"),
            "Failed": ("True", "Cancelled"),
            "Finished": ("True", "Cancelled"),
            "Progressing": ("False", "Cancelled"),
            "Ready": ("False", "Cancelled"),
            "Stalled": ("True", "Cancelled"),
            "Suspended": ("False", "NotSuspended"),
            "CheckpointHealthy": ("True", "Saved"),
        }
        assert operator.condition("Failed")["message"].endswith(
            "Set it to false, and the job goes on planning by itself: there is nothing to restart"
        )
        assert events(cluster) == [problem, "Failed"]
        await asyncio.sleep(100)
        assert operator.status_of(RUN) == status


@pytest.mark.parametrize("body", [waiting, forked], ids=["input", "fork"])
async def test_the_deadline_of_a_job_that_cannot_be_planned_counts_from_when_it_was_taken_up(
    body: Callable[..., dict[str, Any]],
) -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, body(activeDeadlineSeconds=60)) as operator:
        await asyncio.sleep(50)
        assert "completionTime" not in operator.status_of(RUN)
        status = await operator.until_finished(30)
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
        assert 60 <= cluster.clock.now() - EPOCH < 70
        assert events(cluster)[-1] == "Failed"


@pytest.mark.parametrize(
    ("before", "after"),
    [({"cancel": True}, {"cancel": False}), ({"activeDeadlineSeconds": 30}, {"activeDeadlineSeconds": 3000})],
    ids=["cancelled", "overdue"],
)
@pytest.mark.parametrize("again", [False, True], ids=["the same operator", "the next operator"])
async def test_it_goes_on_planning_by_itself_when_nothing_ends_it_any_more(
    before: dict[str, Any], after: dict[str, Any], again: bool
) -> None:
    cluster, store, body = SimulatedCluster(steady()), MemoryStore(), waiting(**before)

    async def goes_on(operator: OperatorInMemory) -> None:
        ask(operator, **after)
        await operator.until(lambda: operator.status_of(RUN).get("reason") == "ConfigMapNotFound", 30)
        assert "completionTime" not in operator.status_of(RUN)
        given(cluster, "ab")
        status = await operator.until_finished(60)
        assert (status["phase"], status["startTime"]) == ("Succeeded", ended["startTime"])

    async with operating(cluster, body, store) as operator:
        ended = await operator.until_finished(60)
        given(cluster, "ab")
        await asyncio.sleep(60)
        assert operator.status_of(RUN) == ended, "what ended it still holds"
        cluster.config_maps.clear()
        if not again:
            await goes_on(operator)
    if again:
        async with operating(cluster, body, store) as operator:
            await asyncio.sleep(60)
            assert operator.status_of(RUN) == ended | {"leaderEpoch": operator.status_of(RUN)["leaderEpoch"]}
            await goes_on(operator)
    assert cluster.runs_of == {"a": 1, "b": 1}


async def test_a_fork_that_was_cancelled_before_its_parent_was_there_goes_on_by_itself_when_it_is() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, forked(cancel=True), store) as operator:
        ended = await operator.until_finished(60)
    async with operating(cluster, forked(cancel=True), store) as operator:
        await asyncio.sleep(60)
        assert operator.status_of(RUN)["completionTime"] == ended["completionTime"]
        ask(operator, cancel=False)
        await operator.until(lambda: operator.status_of(RUN).get("reason") == "ForkParentNotFound", 30)
        operator.apply(job("ab", uid="run-2", name="nobody"))
        await operator.until(lambda: items(operator) == {"succeeded": 2}, 300)
        assert operator.status_of(RUN)["startTime"] == ended["startTime"]


async def test_nothing_is_looked_for_while_it_is_over_whatever_is_asked_of_it() -> None:
    cluster, store = SimulatedCluster(steady()), ReadStore()
    async with operating(cluster, waiting(cancel=True), store) as operator:
        await operator.until_finished(60)
        ask(operator, restart={"phase": "Map", "token": "1"})
        await asyncio.sleep(10)
        before = store.reads
        await asyncio.sleep(1000)
        assert store.reads == before


@pytest.mark.parametrize("body", [waiting, forked], ids=["input", "fork"])
async def test_it_can_be_deleted(body: Callable[..., dict[str, Any]]) -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, body(cancel=True), store) as operator:
        await operator.until_finished(60)
        operator.delete()
        await operator.until(lambda: not cluster.finalizers, 60)
    assert not [key for key in store.objects if RUN in key]


async def test_its_time_to_live_counts_from_its_end() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, waiting(cancel=True, ttlSecondsAfterFinished=60), store) as operator:
        await operator.until_finished(60)
        await asyncio.sleep(30)
        assert RUN not in cluster.deleted
        await operator.until(lambda: not cluster.finalizers, 60)


# ------------------------------------------------------------------------------------------------------ the start time


async def test_the_start_is_when_the_operator_took_the_job_up_and_not_when_it_was_planned() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, waiting(activeDeadlineSeconds=400)) as operator:
        await operator.until(lambda: "startTime" in operator.status_of(RUN), 30)
        started = operator.status_of(RUN)["startTime"]
        await asyncio.sleep(300)
        given(cluster, "ab")
        await operator.until(lambda: "plan" in operator.status_of(RUN), 60)
        assert operator.status_of(RUN)["startTime"] == started
        status = await operator.until_finished(300)
        assert (status["phase"], status["startTime"]) == ("Succeeded", started)


async def test_the_deadline_counts_from_there_also_when_the_job_was_planned_late() -> None:
    cluster = SimulatedCluster(steady(500.0))
    async with operating(cluster, waiting(activeDeadlineSeconds=400)) as operator:
        await asyncio.sleep(300)
        given(cluster, "ab")
        status = await operator.until_finished()
        assert status["reason"] == "DeadlineExceeded"
        assert 400 <= cluster.clock.now() - EPOCH < 420
