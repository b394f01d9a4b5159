"""When checkpoints are made, what the status tells of them, and which are kept."""

import asyncio
import json
from itertools import pairwise

import pytest

from tests.simulation.agents import Ends, Seen, steady
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.saves import NotedStore, ended, job
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_five_items_make_a_checkpoint_on_the_fifth() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), NotedStore()
    async with operating(cluster, job(list(range(12)), every_items=5), store) as operator:
        await operator.until(lambda: ended(cluster, 4))
        await asyncio.sleep(5)
        assert store.of("Items") == []
        await operator.until(lambda: ended(cluster, 5))
        await asyncio.sleep(1)
        assert [save.outcomes for save in store.of("Items")] == [5]
        await operator.until_finished()
    assert [save.outcomes for save in store.of("Items")] == [5, 5]
    assert sum(save.outcomes for save in store.saves) == 12


async def test_the_count_begins_anew_with_whatever_made_the_last_checkpoint() -> None:
    cluster, store = SimulatedCluster(lambda seen: Ends(10.0, exit_code=int(seen.item == 0))), NotedStore()
    body = job(list(range(24)), every_items=5)
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: ended(cluster, 8))
        await asyncio.sleep(1)
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: ended(cluster, 16))
        await asyncio.sleep(1)
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    made = [(save.reason, save.outcomes) for save in store.saves if save.outcomes]
    assert made == [("Items", 5), ("Redrive", 3), ("Items", 5), ("Shutdown", 3), ("Items", 5), ("PhaseChange", 4)]


async def test_35_seconds_without_a_completion_make_one_checkpoint() -> None:
    cluster, store = SimulatedCluster(steady(100.0)), NotedStore()
    body = job([1, 2], every_seconds=30, map_={"maxParallel": 2})
    async with operating(cluster, body, store, graceful=False):
        await asyncio.sleep(35)
        (save,) = store.saves
        assert (save.reason, save.outcomes) == ("Time", 0)
        assert 30 <= save.at < 31
        # What runs on without any news is not saved again and again.
        await asyncio.sleep(60)
        assert len(store.saves) == 1


async def test_the_clock_begins_anew_with_every_checkpoint() -> None:
    cluster, store = SimulatedCluster(steady(7.0)), NotedStore()
    async with operating(cluster, job(list(range(30)), every_items=3, every_seconds=30), store) as operator:
        await operator.until_finished()
    assert store.of("Time") == []
    assert all(after.at - before.at < 30 for before, after in pairwise(store.saves))


async def test_each_change_of_phase_is_a_checkpoint() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), NotedStore()
    async with operating(cluster, job([1, 2, 3], reduce=reduce_work()), store) as operator:
        await operator.until_finished()
    assert [save.outcomes for save in store.of("PhaseChange")] == [3, 1]
    assert [save.sequence for save in store.saves] == list(range(1, len(store.saves) + 1))


async def test_fifty_agents_that_end_during_one_save_are_all_in_the_next_one() -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(5.0 if seen.item == 0 else 6.0)

    cluster, store = SimulatedCluster(agent), NotedStore(seconds=1.0)
    body = job(list(range(52)), every_items=1, map_={"maxParallel": 51})
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: ended(cluster, 51))
        assert store.in_flight == 1
        await operator.until_finished()
    assert [save.outcomes for save in store.of("Items")][:2] == [1, 50]
    assert store.most_in_flight == 1


def annotate(operator: OperatorInMemory, token: str) -> None:
    """A person asks for a checkpoint now."""
    operator.body["metadata"]["annotations"] = {"mapreduce.dev/checkpoint": token}
    operator.observe()


async def test_a_person_gets_a_checkpoint_at_once_and_an_answer_once_for_each_token() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), NotedStore()
    body = job(list(range(20)), every_items=5)

    async def answered(operator: OperatorInMemory, token: str) -> None:
        asked = asyncio.get_running_loop().time()
        annotate(operator, token)
        await operator.until(lambda: cluster.status["checkpoint"].get("token") == token, 3)
        assert store.saves[-1].reason == "Manual"
        assert store.saves[-1].at - asked < 1

    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: ended(cluster, 2))
        await asyncio.sleep(1)
        await answered(operator, "first")
        # Also where nothing has happened since.
        await answered(operator, "second")
        await operator.until(lambda: ended(cluster, 4))
    async with operating(cluster, body, store) as operator:
        # An operator that is started anew sees the same annotation.
        await operator.until_finished()
    made = [(save.reason, save.outcomes) for save in store.saves]
    assert made == [
        ("Manual", 2),
        ("Manual", 0),
        ("Shutdown", 2),
        *[("Items", 5)] * 3,
        ("PhaseChange", 1),
    ]


async def test_without_checkpoints_outcomes_are_durable_and_a_run_goes_on_all_the_same() -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(3.0, message=json.dumps("x" * 20_000))), NotedStore()
    body = job(list(range(20)), every_items=2, map_={"maxParallel": 3})
    body["spec"]["checkpoint"]["enabled"] = False
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) >= 10)
        healthy = operator.condition("CheckpointHealthy")
        assert (healthy["status"], healthy["reason"]) == ("True", "CheckpointsDisabled")
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
        await asyncio.sleep(5)
    assert cluster.runs_of == {str(number): 1 for number in range(20)}
    assert status["checkpoint"].get("kept", "") == ""
    folders = {key.removeprefix("default/demo/run-1/").partition("-")[0] for key in store.objects}
    assert folders == {"head.json", "journal/segment", "plan/plan", "plan/shard", "specs/spec"}


async def test_the_status_tells_what_the_last_checkpoint_cost_and_which_are_kept() -> None:
    cluster, store = SimulatedCluster(steady(5.0)), NotedStore(seconds=0.25)
    body = job(list(range(40)), every_items=1, reduce=reduce_work())
    body["spec"]["checkpoint"] |= {"keep": 3, "pinned": [7, 9]}
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded") == 20)
        told = cluster.status["checkpoint"]
        assert told["reason"] == "Items"
        assert told["durationSeconds"] >= 0.25
        (written,) = (data for key, data in store.objects.items() if f"segment-{told['sequence']:010d}" in key)
        assert told["bytes"] == len(written)
        await operator.until_finished()
        await asyncio.sleep(5)
    told = cluster.status["checkpoint"]
    segments = [data for key, data in store.objects.items() if "/segment-" in key]
    assert told["storedBytes"] == sum(map(len, segments))
    last, reduced = store.saves[-1].sequence, store.of("PhaseChange")[0].sequence
    kept = sorted({0, 7, 9, reduced, last - 2, last - 1, last})
    assert numbers(told["kept"]) == kept
    assert sorted(int(key.split("/checkpoints/")[1][:10]) for key in store.objects if "/checkpoints/" in key) == kept


def numbers(intervals: str) -> list[int]:
    """What "1,40,62-71" stands for."""
    spans = [[int(end) for end in span.split("-")] for span in intervals.split(",")]
    return [number for span in spans for number in range(span[0], span[-1] + 1)]
