"""spec.cancel: the job ends at once, and what it has come to stays."""

import asyncio

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, steady
from tests.simulation.going_back import RUN, Agents, Runs, ask, items, job, restart, suspend, until_items
from tests.simulation.jobs import condition_of, redrive, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_the_agents_are_interrupted_and_the_rest_stays_pending() -> None:
    cluster = SimulatedCluster(steady(200.0))
    async with operating(cluster, job("abcd", map_={"maxParallel": 2})) as operator:
        await operator.until(lambda: items(operator).get("running") == 2)
        await asyncio.sleep(10)
        ask(operator, cancel=True)
        status = await operator.until_finished(30)
        assert (status["phase"], status["reason"]) == ("Failed", "Cancelled")
        assert items(operator) == {"pending": 4}
        assert cluster.jobs == {}
        assert status["attempts"]["total"] == 0
        await asyncio.sleep(100)
        assert cluster.jobs == {}


async def test_a_restore_that_waits_for_agents_is_not_done_when_the_job_is_cancelled() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(5000.0, traps=29.0) if seen.context["itemId"] == "b" else Ends(3.0))
    async with operating(cluster, job("abc")) as operator:
        await until_items(operator, succeeded=1, running=1)
        await asyncio.sleep(2)
        ask(operator, suspend=True, restore={"checkpoint": 0})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "AgentsRunning", 20)
        ask(operator, cancel=True)
        status = await operator.until_finished(60)
        assert (status["reason"], operator.condition("Restored")["reason"]) == ("Cancelled", "Cancelled")
        assert items(operator) == {"succeeded": 1, "pending": 2}


async def test_a_job_that_is_suspended_can_be_cancelled() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd")) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 1)
        await suspend(operator)
        ask(operator, cancel=True)
        status = await operator.until_finished(60)
        assert status["reason"] == "Cancelled"


async def test_it_ends_the_reduce_and_the_results_stay() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(200.0 if seen.context["itemId"] == "reduce" else 2.0))
    async with operating(cluster, job("abc", reduce=reduce_work())) as operator:
        await operator.until(lambda: operator.status_of(RUN).get("phase") == "Reduce")
        await asyncio.sleep(10)
        ask(operator, cancel=True)
        status = await operator.until_finished(30)
        assert (status["reason"], items(operator)) == ("Cancelled", {"succeeded": 3})
        ask(operator, cancel=False)
        runs = Runs(cluster)
        status = await restart(operator, "Reduce", "1")
        assert status["phase"] == "Succeeded"
    assert runs.since == {"reduce": 1}


async def test_redrives_are_called_off_and_their_letters_are_open_again() -> None:
    agents = Agents("a", "b", seconds=20.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: items(operator).get("running") == 1)
        ask(operator, cancel=True)
        await operator.until(lambda: operator.status_of(RUN)["reason"] == "Cancelled", 60)
        assert items(operator) == {"succeeded": 1, "deadLettered": 2}
        assert operator.status_of(RUN)["deadLetters"]["open"] == 2
        told = await operator.until_redriven("again")
        assert condition_of({"status": told}, "Failed")["status"] == "True"


async def test_a_restart_goes_on_when_it_is_false_again() -> None:
    cluster, store = SimulatedCluster(steady(20.0)), MemoryStore()
    async with operating(cluster, job("abcd"), store) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 1)
        ask(operator, cancel=True)
        await operator.until_finished(60)
        left = set("abcd") - set(cluster.runs_of)
        ask(operator, cancel=False)
        await asyncio.sleep(60)
        assert operator.status_of(RUN)["reason"] == "Cancelled"
        status = await restart(operator, "Map", "1")
        assert status["phase"] == "Succeeded"
    assert left <= set(cluster.runs_of)
    assert cluster.runs_of["a"] == 1


async def test_what_is_asked_of_a_cancelled_job_waits_until_it_is_none() -> None:
    agents = Agents("a")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        ask(operator, cancel=True, restart={"phase": "Map", "token": "1"})
        cluster.redrives.create(redrive("again"))
        await asyncio.sleep(60)
        assert (operator.status_of(RUN)["phase"], items(operator)) == (
            "PartiallySucceeded",
            {"succeeded": 2, "deadLettered": 1},
        )
        assert operator.condition("Restarted")["reason"] == "Cancelled"
        ask(operator, cancel=False)
        await operator.until(lambda: operator.status_of(RUN)["phase"] == "Succeeded", 120)
        assert items(operator) == {"succeeded": 3}


async def test_an_operator_that_was_away_ends_the_job_when_it_is_back() -> None:
    cluster, store, body = SimulatedCluster(steady(500.0)), MemoryStore(), job("ab")
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: items(operator).get("running") == 1)
    cluster.mapreducejobs[RUN]["spec"]["cancel"] = True
    cluster.edited(RUN)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished(60)
        assert status["reason"] == "Cancelled"
        assert cluster.jobs == {}
