"""How fast a job goes, as its status tells it."""

import pytest

from tests.simulation.agents import steady
from tests.simulation.going_back import RUN, job, until_items
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_the_status_tells_how_fast_it_goes_and_when_it_is_done() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcdefghijkl", map_={"maxParallel": 1})) as operator:
        await until_items(operator, succeeded=4)
        assert "throughput" not in operator.status_of(RUN)
        await until_items(operator, succeeded=6)
        told = operator.status_of(RUN)["throughput"]
        assert 2.5 <= told["itemsPerMinute"] <= 3.0
        assert 120 <= told["remainingSeconds"] <= 144
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: operator.condition("Suspended")["status"] == "True", 30)
        assert "throughput" not in operator.status_of(RUN), "what stands still is not done at any time"
        operator.edit(lambda spec: spec.update(suspend=False))
        await operator.until(lambda: "throughput" in operator.status_of(RUN), 60)
        await operator.until_finished()
        assert "throughput" not in operator.status_of(RUN)
