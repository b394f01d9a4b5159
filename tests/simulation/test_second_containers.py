"""Pods with more than one container: the item waits for its agent, and the others are stopped."""

import asyncio
import json

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.sightings import OUTLIVED_SECONDS
from tests.simulation.agents import Ends, Seen
from tests.simulation.going_back import RUN, items, job, until_items
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import GRACE_SECONDS, SimulatedCluster
from tests.simulation.timeline import EPOCH

pytestmark = pytest.mark.asyncio

FOR_GOOD = json.dumps({"error": {"message": "no such file", "retryable": False}})


def of_its_item(seen: Seen) -> Ends:
    return Ends(2.0, message=json.dumps({"of": seen.context["itemId"]}), beside=3600.0)


async def test_results_are_there_at_once_and_the_other_containers_are_stopped() -> None:
    cluster = SimulatedCluster(of_its_item)
    body = job("abc", map_={"result": {"rule": "result.of == item.id"}})
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
        assert (status["phase"], items(operator)) == ("Succeeded", {"succeeded": 3})
        assert cluster.clock.now() - EPOCH < 60
        await asyncio.sleep(60)
        assert (cluster.jobs, cluster.pods) == ({}, {})
    assert cluster.runs_of == dict.fromkeys("abc", 1)


async def test_a_failure_is_the_agents_own_when_its_pod_has_outlived_a_stop_by_its_node() -> None:
    cluster = SimulatedCluster(lambda _: Ends(2.0, 1, FOR_GOOD, beside=3600.0))
    async with operating(cluster, job("a", map_={"retry": {"maxAttempts": 5}})) as operator:
        status = await operator.until_finished()
        assert GRACE_SECONDS + OUTLIVED_SECONDS < cluster.clock.now() - EPOCH < GRACE_SECONDS + OUTLIVED_SECONDS + 30
        assert (status["attempts"]["total"], status["deadLetters"]["open"]) == (1, 1)
        assert status["failures"][0]["message"] == "no such file"


async def test_an_agent_that_ended_before_the_deadline_of_its_pod_ran_in_time() -> None:
    cluster = SimulatedCluster(lambda _: Ends(30.0, 1, FOR_GOOD, beside=3600.0))
    async with operating(cluster, job("a", map_={"timeoutSeconds": 40, "retry": {"maxAttempts": 5}})) as operator:
        status = await operator.until_finished()
        assert (status["attempts"]["total"], status["failures"][0]["reason"]) == (1, "Error")


async def test_the_next_operator_sees_that_the_agent_has_ended() -> None:
    cluster, store, body = SimulatedCluster(of_its_item), MemoryStore(), job("ab", map_={"maxParallel": 2})
    async with operating(cluster, body, store, graceful=False) as operator:
        await until_items(operator, running=2)
    await asyncio.sleep(30)
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        assert operator.status_of(RUN)["phase"] == "Succeeded"
    assert cluster.runs_of == {"a": 1, "b": 1}
