"""Bytes written to storage over a run grow with its items, and not with items times checkpoints."""

from random import Random
from typing import Final

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import flaky
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import operating
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore
from tests.simulation.weather import Climate, StorageWeather

pytestmark = pytest.mark.asyncio

FACTOR: Final = 1.05
"""So much more an item may cost in a run of ten times the length: a short one has hardly any snapshots."""


async def bytes_per_item(items: int) -> float:
    """All that is put in a run, also what is written over or deleted later."""
    cluster = SimulatedCluster(flaky(20))
    # Without the audit, which would look into every object of the run.
    store = RemoteStore(MemoryStore(), Process(), StorageWeather(Climate(), Random(0)))
    body = map_reduce_job([{"n": n} for n in range(items)], map_={"maxParallel": 100})
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == items
    return store.bytes_written / items


@pytest.mark.parametrize("items", [3_000, 10_000])
async def test_what_an_item_costs_does_not_depend_on_the_length_of_the_run(items: int) -> None:
    assert await bytes_per_item(items) < FACTOR * await bytes_per_item(1_000)
