"""Jobs and Redrives that are deleted when their time to live after their end is over."""

import asyncio
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import steady
from tests.simulation.jobs import map_reduce_job
from tests.simulation.letters import fails
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


def short_lived(items: list[Any], **spec: Any) -> dict[str, Any]:
    return map_reduce_job(items, map_={"retry": {"maxAttempts": 1}}, ttlSecondsAfterFinished=60, **spec)


@pytest.mark.parametrize("restarted", [False, True], ids=["same-operator", "next-operator"])
async def test_a_job_that_has_ended_goes_with_its_storage_when_its_time_is_over(restarted: bool) -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, short_lived(["a", "b"]), store) as operator:
        await operator.until_finished()
        if not restarted:
            await asyncio.sleep(50)
            assert cluster.finalizers
            await operator.until(lambda: not cluster.finalizers, 30)
    if restarted:
        async with operating(cluster, operator.body, store) as operator:
            await operator.until(lambda: not cluster.finalizers, 90)
    assert store.objects == {}


async def test_a_job_that_runs_is_not_deleted_however_long_it_takes() -> None:
    cluster = SimulatedCluster(steady(500.0))
    async with operating(cluster, short_lived(["a"])) as operator:
        await asyncio.sleep(400)
        assert cluster.finalizers
        assert (await operator.until_finished())["phase"] == "Succeeded"


async def test_letters_that_nobody_has_resolved_outlive_a_job_whose_time_is_over() -> None:
    cluster, store = SimulatedCluster(fails({"b": "boom"})), MemoryStore()
    async with operating(cluster, short_lived(["a", "b"]), store) as operator:
        await operator.until(lambda: bool(cluster.finalizers))
        await operator.until(lambda: not cluster.finalizers, 300)
    assert [key for key in store.objects if "/dead-letters/" not in key] == []
    assert [queue["status"]["letters"]["open"] for queue in cluster.queues.by_name.values()] == [1]


async def test_a_job_that_is_taken_up_again_lives_on_and_its_time_counts_from_its_new_end() -> None:
    broken = {"b": "boom"}
    cluster = SimulatedCluster(fails(broken))
    async with operating(cluster, short_lived(["a", "b"])) as operator:
        await operator.until_finished()
        await asyncio.sleep(55)
        broken.clear()
        # It is seen in the very second in which the job would be deleted.
        operator.edit(lambda spec: spec.update(restart={"phase": "Map", "token": "again"}))
        await operator.until(lambda: cluster.status.get("completionTime") is None, 30)
        assert (await operator.until_finished())["phase"] == "Succeeded"
        await asyncio.sleep(45)
        assert cluster.finalizers
        await operator.until(lambda: not cluster.finalizers, 60)


async def test_a_redrive_that_has_ended_goes_when_its_time_is_over_and_others_stay() -> None:
    cluster = SimulatedCluster(fails({"b": "boom"}))
    async with operating(cluster, map_reduce_job(["a", "b"], map_={"retry": {"maxAttempts": 1}})) as operator:
        await operator.until_finished()
        await operator.redrive("short", ttlSecondsAfterFinished=60)
        await operator.redrive("long")
        await asyncio.sleep(30)
        assert set(cluster.redrives.by_name) == {"short", "long"}
        await operator.until(lambda: "short" not in cluster.redrives.by_name, 60)
        await asyncio.sleep(600)
        assert set(cluster.redrives.by_name) == {"long"}
        assert cluster.finalizers
