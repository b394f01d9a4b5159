"""activeDeadlineSeconds: what is not done by then is not done, and nothing that was done is lost."""

import asyncio

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, steady
from tests.simulation.going_back import RUN, Agents, Runs, ask, checkpoint_with, items, job, restart, suspend
from tests.simulation.jobs import condition_of, redrive, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.timeline import EPOCH

pytestmark = pytest.mark.asyncio


async def test_the_agents_are_interrupted_and_the_rest_stays_pending() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd", activeDeadlineSeconds=50)) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
        assert items(operator) == {"succeeded": 2, "pending": 2}
        assert cluster.clock.now() - EPOCH < 60
        await asyncio.sleep(100)
        assert cluster.jobs == {}
    assert cluster.runs_of == {"a": 1, "b": 1, "c": 1}


async def test_an_agent_whose_start_was_not_saved_yet_is_interrupted_in_time() -> None:
    cluster = SimulatedCluster(steady(500.0))
    async with operating(cluster, job("ab", map_={"maxParallel": 2}, activeDeadlineSeconds=50)) as operator:
        status = await operator.until_finished()
        assert status["reason"] == "DeadlineExceeded"
        assert cluster.clock.now() - EPOCH < 90


async def test_it_holds_in_the_reduce_and_the_results_stay() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(200.0 if seen.context["itemId"] == "reduce" else 2.0))
    async with operating(cluster, job("abc", reduce=reduce_work(), activeDeadlineSeconds=60)) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
        assert items(operator) == {"succeeded": 3}
        assert cluster.clock.now() - EPOCH < 90
        ask(operator, activeDeadlineSeconds=1000)
        runs = Runs(cluster)
        status = await restart(operator, "Reduce", "1")
        assert status["phase"] == "Succeeded"
    assert runs.since == {"reduce": 1}


async def test_the_time_goes_on_while_the_job_is_suspended() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abcd", activeDeadlineSeconds=100)) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 1)
        await suspend(operator)
        status = await operator.until_finished(300)
        assert status["reason"] == "DeadlineExceeded"
        assert 100 <= cluster.clock.now() - EPOCH < 110


async def test_redrives_that_run_are_called_off_and_their_letters_are_open_again() -> None:
    agents = Agents("a", "b", seconds=20.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc", activeDeadlineSeconds=100)) as operator:
        await operator.until_finished()
        assert items(operator) == {"succeeded": 1, "deadLettered": 2}
        cluster.redrives.create(redrive("again"))
        agents.failing.clear()
        ask(operator, activeDeadlineSeconds=30)
        await operator.until(lambda: operator.status_of(RUN)["reason"] == "DeadlineExceeded", 200)
        assert items(operator) == {"succeeded": 2, "deadLettered": 1}
        assert operator.status_of(RUN)["deadLetters"]["open"] == 1
        told = await operator.until_redriven("again")
        assert (told["succeeded"], told["failed"]) == (1, 1)
        assert condition_of({"status": told}, "Failed")["status"] == "True"


async def test_a_restart_of_items_that_were_left_out_is_called_off_too() -> None:
    cluster = SimulatedCluster(Agents("a", "b", seconds=20.0))
    body = job("abc", activeDeadlineSeconds=100, failurePolicy={"onExhausted": "Skip"})
    async with operating(cluster, body) as operator:
        await operator.until_finished()
        assert items(operator) == {"succeeded": 1, "skipped": 2}
        ask(operator, activeDeadlineSeconds=30, restart={"phase": "Map", "token": "1"})
        await operator.until(lambda: operator.status_of(RUN)["reason"] == "DeadlineExceeded", 200)
        assert items(operator) == {"succeeded": 1, "skipped": 2}


async def test_it_is_counted_anew_when_the_job_is_taken_up_again() -> None:
    agents = Agents("a", seconds=20.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("ab", activeDeadlineSeconds=60)) as operator:
        await operator.until_finished()
        await asyncio.sleep(500)
        agents.failing.clear()
        told = await operator.redrive("again")
        assert told["succeeded"] == 1
        status = await operator.until_finished()
        assert status["phase"] == "Succeeded"


async def test_it_may_be_raised_before_it_is_over() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd", activeDeadlineSeconds=50)) as operator:
        await asyncio.sleep(45)
        ask(operator, activeDeadlineSeconds=200)
        status = await operator.until_finished()
        assert status["phase"] == "Succeeded"
    assert set(cluster.runs_of.values()) == {1}


async def test_raised_after_it_was_over_the_map_can_be_restarted() -> None:
    cluster, store = SimulatedCluster(steady(20.0)), MemoryStore()
    async with operating(cluster, job("abcd", activeDeadlineSeconds=50), store) as operator:
        await operator.until_finished()
        ask(operator, activeDeadlineSeconds=100)
        await asyncio.sleep(60)
        assert operator.status_of(RUN)["reason"] == "DeadlineExceeded"
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert status["phase"] == "Succeeded"
    assert runs.since == {"c": 1, "d": 1}


async def test_a_restored_job_has_its_whole_time_again() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd", activeDeadlineSeconds=75)) as operator:
        await operator.until_finished()
        assert operator.status_of(RUN)["reason"] == "DeadlineExceeded"
        ask(operator, suspend=True, restore={"checkpoint": checkpoint_with(cluster, 2)})
        await operator.until(lambda: operator.condition("Restored")["status"] == "True", 120)
        ask(operator, suspend=False)
        status = await operator.until_finished()
        assert status["phase"] == "Succeeded"


async def test_an_operator_that_was_away_when_it_was_over_finds_it_out() -> None:
    cluster, store, body = SimulatedCluster(steady(20.0)), MemoryStore(), job("abcd", activeDeadlineSeconds=50)
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 1)
    await asyncio.sleep(300)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished(60)
        assert status["reason"] == "DeadlineExceeded"
        assert items(operator) == {"succeeded": 2, "pending": 2}
