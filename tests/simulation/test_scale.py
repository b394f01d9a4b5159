"""What a run costs grows with its items, and with nothing else."""

from dataclasses import dataclass

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import flaky
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


class CountingStore(MemoryStore):
    written = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.written += len(data)
        return await super().put(key, data, if_absent=if_absent, if_match=if_match)


@dataclass(frozen=True)
class Cost:
    """Of a whole run, per item but for the last."""

    written: float
    job_calls: float
    status_bytes: int


async def cost_of(items: int) -> Cost:
    cluster, store = SimulatedCluster(flaky(20)), CountingStore()
    body = map_reduce_job([{"n": n} for n in range(items)], map_={"maxParallel": items // 20})
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
        calls = operator.connection.calls
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == items
    return Cost(
        written=store.written / items,
        job_calls=(calls["create job"] + calls["delete job"]) / items,
        status_bytes=max(len(str(one)) for one in cluster.statuses),
    )


async def test_bytes_in_storage_and_calls_per_item_do_not_grow_with_the_number_of_items() -> None:
    few, many = await cost_of(500), await cost_of(2000)
    # The longer run has snapshots, which together take no more bytes than its segments.
    assert many.written < 1.25 * few.written
    assert many.job_calls == pytest.approx(few.job_calls, rel=0.05)
    assert many.job_calls < 2.6  # a creation and a deletion per dispatch, of which there are 1.25 per item
    assert many.status_bytes < 64 * 1024
