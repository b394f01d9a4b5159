"""Phases that people run again: the map for what was given up, the reduce over all results, the plan of new input."""

import asyncio
import json
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Agent, Ends, Seen, steady
from tests.simulation.going_back import (
    RUN,
    Agents,
    ReadStore,
    Runs,
    ask,
    checkpoint_with,
    durable_of,
    finish,
    items,
    job,
    restart,
    restore,
    suspend,
    until_items,
)
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

SKIP = {"onExhausted": "Skip"}


# ------------------------------------------------------------------------------------------------------------ the map


async def test_dead_letters_are_run_again_and_successes_are_not() -> None:
    agents = Agents("b", "d")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert (status["phase"], status["items"]["succeeded"]) == ("Succeeded", 4)
        assert status["deadLetters"] == {"queue": "demo", "open": 0, "unresolved": 0}
    assert runs.since == {"b": 1, "d": 1}


async def test_agents_of_a_restart_may_take_their_time() -> None:
    agents = Agents("b", "c", "d", seconds=50.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        status = await restart(operator, "Map", "1")
        assert status["items"]["succeeded"] == 4


async def test_items_that_were_left_out_are_run_again() -> None:
    agents = Agents("b", "d")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd", failurePolicy=SKIP)) as operator:
        await operator.until_finished()
        assert items(operator) == {"succeeded": 2, "skipped": 2}
        agents.failing.remove("b")
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert items(operator) == {"succeeded": 3, "skipped": 1}
        assert status["phase"] == "PartiallySucceeded"
    assert runs.since == {"b": 1, "d": 1}


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"includeFailed": False}, {"b"}),
        ({"includeDeadLetters": False}, {"d"}),
        ({"includeFailed": False, "includeDeadLetters": False}, set()),
        ({}, {"b", "d"}),
    ],
)
async def test_the_resume_policy_says_what_is_run_again(policy: dict[str, bool], expected: set[str]) -> None:
    agents = Agents("b", "d")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd", resumePolicy=policy)) as operator:
        await until_items(operator, succeeded=2, dead_lettered=1)
        ask(operator, failurePolicy=SKIP)
        await operator.until_finished()
        assert items(operator) == {"succeeded": 2, "deadLettered": 1, "skipped": 1}
        agents.failing.clear()
        runs = Runs(cluster)
        await restart(operator, "Map", "1")
    assert runs.since == dict.fromkeys(expected, 1)


async def test_additional_attempts_are_granted_on_top_of_those_that_were_spent() -> None:
    cluster = SimulatedCluster(Agents("b"))
    async with operating(cluster, job("ab", resumePolicy={"additionalAttempts": 3})) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert items(operator) == {"succeeded": 1, "deadLettered": 1}
        assert status["attempts"]["total"] == 5
    assert runs.since == {"b": 3}


async def test_a_job_that_too_many_failures_stopped_runs_what_is_left_of_it() -> None:
    agents = Agents("a", "b")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcde", failurePolicy={"maxFailures": 2})) as operator:
        status = await operator.until_finished()
        assert (status["reason"], items(operator)) == ("MaxFailuresReached", {"deadLettered": 2, "pending": 3})
        agents.failing.clear()
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert (status["phase"], items(operator)) == ("Succeeded", {"succeeded": 5})
    assert runs.since == dict.fromkeys("abcde", 1)


async def test_a_job_that_runs_gets_its_dead_letters_back_at_once() -> None:
    agents = Agents("a")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcdef")) as operator:
        await until_items(operator, succeeded=1, dead_lettered=1)
        agents.failing.clear()
        ask(operator, restart={"phase": "Map", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["status"] == "True", 60)
        assert "completionTime" not in operator.status_of(RUN)
        await operator.until_finished()
        assert items(operator) == {"succeeded": 6}
    assert cluster.runs_of == {"a": 2} | dict.fromkeys("bcdef", 1)


async def test_what_a_redrive_runs_just_now_is_left_to_it() -> None:
    agents = Agents("a", "b", seconds=20.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        cluster.redrives.create(redrive("one", selection={"ids": ["a"]}))
        await operator.until(lambda: items(operator).get("running") == 1, 60)
        ask(operator, restart={"phase": "Map", "token": "1"})
        told = await operator.until_redriven("one")
        assert (told["selected"], told["succeeded"]) == (1, 1)
        await operator.until(lambda: items(operator) == {"succeeded": 3}, 300)
        await operator.until_finished()
    assert cluster.runs_of == {"a": 2, "b": 2, "c": 1}


async def test_a_restart_of_a_job_without_anything_that_was_given_up_comes_to_the_same_end() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abc", reduce=reduce_work())) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllItemsSucceeded")
        assert "no item that had been given up was to be run" in operator.condition("Restarted")["message"]
    assert runs.since == {}, "the reduce is not paid for again"


async def test_a_restart_after_a_stop_says_how_many_items_are_run() -> None:
    cluster = SimulatedCluster(Agents("a", seconds=20.0))
    async with operating(cluster, job("abcde")) as operator:
        await until_items(operator, succeeded=1, dead_lettered=1)
        ask(operator, cancel=True)
        await operator.until_finished()
        ask(operator, cancel=False, restart={"phase": "Map", "token": "1"})
        await operator.until(lambda: operator.status_of(RUN)["phase"] == "Map", 60)
        assert operator.condition("Ready")["message"] == (
            "the map was begun again with 4 items, of which 1 had been given up"
        )


@pytest.mark.parametrize("phase", ["Map", "Reduce"])
async def test_a_token_counts_once_also_for_the_next_operator(phase: str) -> None:
    cluster, store, body = SimulatedCluster(Agents("b")), MemoryStore(), job("ab", reduce=reduce_work(runWhen="Always"))
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        await restart(operator, phase, "1")
        runs = Runs(cluster)
        ask(operator, suspend=True)
        ask(operator, suspend=False)
        await asyncio.sleep(120)
    for _ in range(2):
        async with operating(cluster, body, store):
            await asyncio.sleep(120)
    assert runs.since == {}
    async with operating(cluster, body, store) as operator:
        await restart(operator, phase, "2")
    assert runs.since == ({"b": 1, "reduce": 1} if phase == "Map" else {"reduce": 1})


async def test_what_a_restart_took_is_given_back_by_a_restore() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        ended = checkpoint_with(cluster, 2, dead_lettered=1)
        agents.failing.clear()
        await restart(operator, "Map", "1")
        await suspend(operator)
        runs = Runs(cluster)
        status = await restore(operator, ended)
        assert status["deadLetters"]["open"] == 1
        ask(operator, suspend=False)
        await asyncio.sleep(120)
    assert runs.since == {}, "the restart was done before, whatever came of it"


# --------------------------------------------------------------------------------------------------------- the reduce


def numbered() -> Agent:
    """Each reduce comes to another result."""
    reduced = iter(range(1, 100))

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            return Ends(2.0, message=json.dumps({"reduced": next(reduced)}))
        return Ends(2.0, message=json.dumps({"of": seen.context["itemId"]}))

    return agent


async def test_the_reduce_runs_once_more_over_the_results_as_they_are() -> None:
    cluster = SimulatedCluster(numbered())
    async with operating(cluster, job("abc", reduce=reduce_work())) as operator:
        status = await operator.until_finished()
        assert status["result"] == {"reduced": 1}
        runs = Runs(cluster)
        status = await restart(operator, "Reduce", "1")
        assert (status["phase"], status["result"]) == ("Succeeded", {"reduced": 2})
        assert (status["items"]["succeeded"], status["reduce"]["attempts"]) == (3, 2)
    assert runs.since == {"reduce": 1}


async def test_a_reduce_that_is_asked_for_while_it_runs_runs_once_more_after_that() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("ab", reduce=reduce_work())) as operator:
        await operator.until(lambda: cluster.runs_of.get("reduce") == 1, 300)
        ask(operator, restart={"phase": "Reduce", "token": "1"})
        await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == "1", 600)
        await operator.until_finished()
    assert cluster.runs_of == {"a": 1, "b": 1, "reduce": 2}


async def test_a_reduce_that_failed_for_good_gets_its_attempts_again() -> None:
    agents = Agents("reduce")
    cluster = SimulatedCluster(agents)
    work = reduce_work(retry={"maxAttempts": 2, "backoff": {"initialSeconds": 1}})
    async with operating(cluster, job("ab", reduce=work)) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"]) == ("Failed", "ReduceFailed")
        agents.failing.clear()
        status = await restart(operator, "Reduce", "1")
        assert status["phase"] == "Succeeded"
    assert cluster.runs_of == {"a": 1, "b": 1, "reduce": 3}


async def test_a_job_without_a_reduce_cannot_run_it_until_it_is_given_one() -> None:
    cluster, store = SimulatedCluster(steady()), ReadStore()
    async with operating(cluster, job("ab"), store) as operator:
        await operator.until_finished()
        ask(operator, restart={"phase": "Reduce", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["reason"] == "NoReduce", 60)
        assert operator.condition("Restarted")["status"] == "False"
        assert operator.status_of(RUN)["phase"] == "Succeeded"
        await asyncio.sleep(30)
        store.reads = 0
        await asyncio.sleep(5000)
        assert store.reads == 0
        ask(operator, reduce=reduce_work())
        await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == "1", 30)
        await operator.until_finished()
    assert cluster.runs_of == {"a": 1, "b": 1, "reduce": 1}


async def test_a_reduce_that_is_asked_for_while_the_map_runs_follows_it_and_runs_once() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("ab", reduce=reduce_work())) as operator:
        await until_items(operator, succeeded=1)
        ask(operator, restart={"phase": "Reduce", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["status"] == "True", 60)
        assert operator.condition("Restarted")["message"] == "the reduce runs when the map is over"
        await operator.until_finished()
        assert operator.condition("Restarted")["message"] == "the phase Reduce was begun again"
    assert cluster.runs_of == {"a": 1, "b": 1, "reduce": 1}


async def test_a_reduce_that_a_limit_keeps_from_running_is_not_said_to_run() -> None:
    cluster = SimulatedCluster(Agents("a"))
    body = job("abc", failurePolicy={"maxFailures": 1}, reduce=reduce_work(runWhen="Always"))
    async with operating(cluster, body) as operator:
        await operator.until_finished()
        ask(operator, restart={"phase": "Reduce", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["reason"] == "MaxFailuresReached", 60)
        told = operator.condition("Restarted")
        assert told["status"] == "False"
        assert told["message"].startswith("the reduce would not run: 1 of 3 items failed")
    assert "reduce" not in cluster.runs_of


async def test_a_reduce_that_was_to_follow_a_map_which_a_limit_stopped_is_not_said_to_run() -> None:
    cluster = SimulatedCluster(Agents("c", seconds=20.0))
    body = job("abcd", failurePolicy={"maxFailures": 1}, reduce=reduce_work(runWhen="Always"))
    async with operating(cluster, body) as operator:
        await until_items(operator, succeeded=1)
        ask(operator, restart={"phase": "Reduce", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["status"] == "True", 60)
        await operator.until_finished()
        assert operator.condition("Restarted")["message"] == (
            "the reduce has not run again, since the job came to its end before it (MaxFailuresReached)"
        )
    assert "reduce" not in cluster.runs_of


# ----------------------------------------------------------------------------------------------------------- the plan


def from_config_map(**spec: Any) -> dict[str, Any]:
    body = job("", **spec)
    body["spec"]["input"] = {"configMapRef": {"name": "input", "key": "items"}, "idExpression": "item.id"}
    return body


def given(cluster: SimulatedCluster, *planned: dict[str, Any]) -> None:
    """Somebody writes the ConfigMap."""
    cluster.config_maps["default", "input"] = {"data": {"items": json.dumps(planned)}}


def entries(ids: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": one, **more} for one in ids]


async def anew(operator: OperatorInMemory, token: str) -> dict[str, Any]:
    """The user asks for a new plan of a job that stands still, and gets it."""
    ask(operator, restart={"phase": "Plan", "token": token})
    await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == token, 300)
    assert operator.condition("Restarted")["status"] == "True"
    return operator.status_of(RUN)


async def test_a_new_plan_runs_what_is_new_or_changed_and_keeps_what_is_as_it_was() -> None:
    cluster = SimulatedCluster(steady())
    given(cluster, *entries("abcd"))
    async with operating(cluster, from_config_map(reduce=reduce_work())) as operator:
        await operator.until_finished()
        await operator.until(lambda: operator.condition("PlanCurrent")["status"] != "Absent", 300)
        runs = Runs(cluster)
        given(cluster, *entries("a"), *entries("b", more=1), *entries("ce"))
        status = await anew(operator, "1")
        assert status["plan"]["items"] == 4
        await operator.until_finished()
        assert items(operator) == {"succeeded": 4}
    assert runs.since == {"b": 1, "e": 1, "reduce": 1}


async def test_whether_the_plan_is_current_is_said_before_and_after() -> None:
    cluster = SimulatedCluster(steady(600.0))
    given(cluster, *entries("ab"))
    async with operating(cluster, from_config_map()) as operator:
        await operator.until(lambda: operator.condition("PlanCurrent")["reason"] == "InputUnchanged", 300)
        given(cluster, *entries("abc"))
        await operator.until(lambda: operator.condition("PlanCurrent")["reason"] == "InputChanged", 300)
        cluster.config_maps.clear()
        await operator.until(lambda: operator.condition("PlanCurrent")["reason"] == "InputGone", 300)
        given(cluster, *entries("abc"))
        ask(operator, suspend=True, suspendPolicy="Interrupt")
        await anew(operator, "1")
        await operator.until(lambda: operator.condition("PlanCurrent")["reason"] == "InputUnchanged", 300)
        assert items(operator) == {"pending": 3}


async def test_an_input_that_cannot_be_planned_leaves_the_old_plan_as_it_is() -> None:
    cluster = SimulatedCluster(steady())
    given(cluster, *entries("ab"))
    async with operating(cluster, from_config_map()) as operator:
        await operator.until_finished()
        before = items(operator), operator.status_of(RUN)["checkpoint"]["sequence"]
        cluster.config_maps["default", "input"] = {"data": {"items": "[{"}}
        ask(operator, restart={"phase": "Plan", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["reason"] not in {"", "Waiting"}, 300)
        assert operator.condition("Restarted")["status"] == "False"
        assert "items" in operator.condition("Restarted")["message"]
        await asyncio.sleep(100)
        assert (items(operator), operator.status_of(RUN)["checkpoint"]["sequence"]) == before
        given(cluster, *entries("abc"))
        await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == "1", 300)
        await operator.until(lambda: items(operator) == {"succeeded": 3}, 300)


async def test_a_running_job_is_planned_anew_only_when_it_stands_still() -> None:
    cluster = SimulatedCluster(steady(20.0))
    given(cluster, *entries("abc"))
    async with operating(cluster, from_config_map()) as operator:
        await until_items(operator, succeeded=1)
        ask(operator, restart={"phase": "Plan", "token": "1"})
        await operator.until(lambda: operator.condition("Restarted")["reason"] == "NotSuspended", 10)
        given(cluster, *entries("abcd"))
        await suspend(operator)
        await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == "1", 300)
        await finish(operator)
        assert items(operator) == {"succeeded": 4}
    assert cluster.runs_of == dict.fromkeys("abcd", 1)


@pytest.mark.parametrize("include", [True, False])
async def test_dead_letters_are_taken_into_a_new_plan_as_the_policy_says(include: bool) -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    given(cluster, *entries("abc"))
    body = from_config_map(resumePolicy={"includeDeadLetters": include})
    async with operating(cluster, body) as operator:
        await operator.until_finished()
        agents.failing.clear()
        given(cluster, *entries("cbad"))
        runs = Runs(cluster)
        await anew(operator, "1")
        await operator.until_finished()
        assert items(operator) == ({"succeeded": 4} if include else {"succeeded": 3, "deadLettered": 1})
        if not include:
            told = await operator.redrive("later")
            assert (told["selected"], told["succeeded"]) == (1, 1)
    assert runs.since == {"b": 1, "d": 1}


async def test_an_item_that_was_gone_and_comes_back_goes_on_with_its_dispatches() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    given(cluster, *entries("ab"))
    async with operating(cluster, from_config_map()) as operator:
        await operator.until_finished()
        given(cluster, *entries("a"))
        await anew(operator, "without")
        await operator.until_finished()
        agents.failing.clear()
        given(cluster, *entries("ab"))
        await anew(operator, "with")
        await operator.until_finished()
        assert items(operator) == {"succeeded": 2}
    assert cluster.runs_of == {"a": 1, "b": 2}


async def test_back_to_a_checkpoint_of_the_plan_before() -> None:
    cluster = SimulatedCluster(steady())
    given(cluster, *entries("abc"))
    async with operating(cluster, from_config_map()) as operator:
        await until_items(operator, succeeded=1)
        await suspend(operator)
        before = operator.status_of(RUN)["checkpoint"]["sequence"]
        await finish(operator)
        given(cluster, *entries("ad"))
        await anew(operator, "1")
        await operator.until_finished()
        later = operator.status_of(RUN)["checkpoint"]["sequence"]
        await suspend(operator)
        status = await restore(operator, before)
        assert status["plan"]["items"] == 3
        status = await finish(operator)
        assert items(operator) == {"succeeded": 3}
        await suspend(operator)
        status = await restore(operator, later)
        assert (status["plan"]["items"], items(operator)) == (2, {"succeeded": 2})


async def test_a_plan_without_anything_in_it() -> None:
    cluster = SimulatedCluster(steady())
    given(cluster, *entries("ab"))
    async with operating(cluster, from_config_map()) as operator:
        await operator.until_finished()
        given(cluster)
        await anew(operator, "1")
        status = await operator.until_finished()
        assert (status["phase"], status["items"]["total"]) == ("Succeeded", 0)


async def test_the_reduce_of_a_new_plan_goes_on_with_its_dispatches() -> None:
    cluster = SimulatedCluster(steady())
    given(cluster, *entries("ab"))
    async with operating(cluster, from_config_map(reduce=reduce_work())) as operator:
        await operator.until_finished()
        for token in "12":
            given(cluster, *entries("ab" + token))
            await anew(operator, token)
            await operator.until_finished()
    assert cluster.runs_of == {"a": 1, "b": 1, "1": 1, "2": 1, "reduce": 3}
    assert durable_of(cluster).counts[durable_of(cluster).sequence].succeeded == 3
