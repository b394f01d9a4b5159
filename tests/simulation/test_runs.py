"""Whole runs from plan to end, on a simulated cluster and a fake clock."""

import hashlib

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import Ends, Seen, SimulatedCluster

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def flaky(percent: int) -> "callable":  # type: ignore[valid-type]
    """An agent whose attempts fail with this chance, the same in each simulation."""

    def agent(seen: Seen) -> Ends:
        number = hashlib.sha256(f"{seen.context['itemId']}/{seen.attempt}".encode()).digest()[0]
        return Ends(2.0, exit_code=1, message="boom") if number < 256 * percent / 100 else Ends(2.0)

    return agent


async def test_all_items_succeed_and_are_reduced_in_plan_order() -> None:
    reduced: list[str] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            reduced.append(cluster.config_maps[next(iter(cluster.config_maps))]["data"]["results.jsonl"])
            return Ends(message='{"total": 3}')
        # The last of the plan ends first.
        return Ends(5.0 - seen.item["n"], message=f'{{"n": {seen.item["n"]}}}')

    cluster = SimulatedCluster(agent)
    body = map_reduce_job([{"n": 1}, {"n": 2}, {"n": 3}], reduce=reduce_work())
    body["spec"]["input"]["idExpression"] = "string(item.n)"
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert reduced == ['{"id":"1","result":{"n":1}}\n{"id":"2","result":{"n":2}}\n{"id":"3","result":{"n":3}}\n']
    assert status["phase"] == "Succeeded"
    assert status["result"] == {"total": 3}
    assert status["progress"] == "3/3"
    assert status["items"] == {"total": 3, "pending": 0, "running": 0, "retryWait": 0, "succeeded": 3, "deadLettered": 0}
    assert cluster.jobs == {}
    assert cluster.violations == []


async def test_200_items_with_20_percent_failures() -> None:
    cluster = SimulatedCluster(flaky(20))
    body = map_reduce_job([{"n": n} for n in range(200)])
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == 200
    assert status["attempts"]["total"] == sum(cluster.runs_of.values())
    assert cluster.peak <= 10
    assert cluster.violations == []
    assert operator.metrics.crashes == 0
    assert cluster.jobs == {}
    assert MemoryStore
