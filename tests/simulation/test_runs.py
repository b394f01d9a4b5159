"""Whole runs from plan to end, on a simulated cluster and a fake clock."""

import asyncio
import time
from itertools import pairwise

import pytest

from tests.simulation.agents import Ends, Seen, fails_until, flaky, steady
from tests.simulation.api_server import Pod
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_results_are_reduced_in_plan_order_whatever_order_agents_end_in() -> None:
    reduced: list[str] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            (results,) = cluster.config_maps.values()
            reduced.append(results["data"]["results.jsonl"])
            return Ends(message='{"total": 3}')
        return Ends(5.0 - seen.item["n"], message=f'{{"n": {seen.item["n"]}}}')

    cluster = SimulatedCluster(agent)
    body = map_reduce_job([{"n": 1}, {"n": 2}, {"n": 3}], reduce=reduce_work())
    body["spec"]["input"]["idExpression"] = "string(item.n)"
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert reduced == ['{"id":"1","result":{"n":1}}\n{"id":"2","result":{"n":2}}\n{"id":"3","result":{"n":3}}\n']
    assert status["phase"] == "Succeeded"
    assert status["result"] == {"total": 3}
    assert status["reduce"]["state"] == "Succeeded"
    assert cluster.jobs == {}


async def test_200_items_with_20_percent_failures() -> None:
    cluster = SimulatedCluster(flaky(20))
    async with operating(cluster, map_reduce_job([{"n": n} for n in range(200)])) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == 200
    assert status["items"]["deadLettered"] == sum(runs == 3 for runs in failed_for_good(cluster).values())
    runs = sum(cluster.runs_of.values())
    assert status["attempts"] == {"total": runs, "interruptions": 0, "retries": runs - 200}
    assert cluster.peak <= 10
    assert cluster.jobs == {}
    assert operator.counted("mapreduce_run_crashes_total") == 0
    assert operator.counted("mapreduce_stale_events_total") == 0


async def test_such_a_run_takes_less_than_a_second() -> None:
    seconds = []
    for _ in range(3):  # the best of three, since the machine may be busy with other things
        started = time.process_time()
        async with operating(SimulatedCluster(flaky(20)), map_reduce_job([{"n": n} for n in range(200)])) as operator:
            await operator.until_finished()
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0


def failed_for_good(cluster: SimulatedCluster) -> dict[str, int]:
    """Items all of whose attempts failed, with the number of these."""
    agent = flaky(20)
    return {
        item_id: runs
        for item_id, runs in cluster.runs_of.items()
        if all(agent(Seen(None, {"itemId": item_id, "attempt": n})).exit_code for n in range(1, runs + 1))
    }


async def test_a_failed_attempt_is_retried_after_its_backoff() -> None:
    cluster = SimulatedCluster(fails_until(3))
    retry = {"maxAttempts": 3, "backoff": {"type": "Fixed", "initialSeconds": 60, "maxSeconds": 60, "jitter": 0}}
    async with operating(cluster, map_reduce_job([1], map_={"retry": retry})) as operator:
        status = await operator.until_finished()
        assert asyncio.get_running_loop().time() > 120
    assert status["phase"] == "Succeeded"
    assert status["attempts"]["total"] == 3
    assert [name.rpartition("-")[2] for name in cluster.names_used] == ["d1", "d2", "d3"]


async def test_an_item_whose_attempts_are_used_up_fails_for_good_and_the_others_go_on() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(exit_code=1 if seen.item == "bad" else 0))
    async with operating(cluster, map_reduce_job(["good", "bad", "fine"])) as operator:
        status = await operator.until_finished()
    assert status["phase"] == "PartiallySucceeded"
    assert status["items"] | {"succeeded": 2, "deadLettered": 1} == status["items"]
    assert status["positions"]["map"]["deadLettered"] == "1"
    assert status["attempts"]["total"] == 5
    assert [(entry["reason"], entry["count"]) for entry in status["failures"]] == [("Error", 3)]
    assert operator.condition("Complete")["status"] == "True"


async def test_a_rule_or_the_agent_itself_can_forbid_further_attempts() -> None:
    def agent(seen: Seen) -> Ends:
        if seen.item == "code":
            return Ends(exit_code=65)
        return Ends(exit_code=1, message='{"error": {"message": "never", "retryable": false}}')

    cluster = SimulatedCluster(agent)
    rules = [{"action": "DoNotRetry", "onExitCodes": [65]}]
    async with operating(cluster, map_reduce_job(["code", "word"], map_={"retry": {"rules": rules}})) as operator:
        status = await operator.until_finished()
    assert status["attempts"]["total"] == 2
    assert status["phase"] == "Failed"
    assert status["reason"] == "NoItemSucceeded"


async def test_an_agent_that_runs_too_long_has_failed() -> None:
    cluster = SimulatedCluster(steady(100.0))
    async with operating(
        cluster, map_reduce_job([1], map_={"timeoutSeconds": 5, "retry": {"maxAttempts": 1}})
    ) as operator:
        status = await operator.until_finished()
    assert [entry["reason"] for entry in status["failures"]] == ["DeadlineExceeded"]


@pytest.mark.parametrize(
    ("result", "message", "reason"),
    [
        ({}, "", "ResultMissing"),
        ({}, "not json", "ResultInvalid"),
        ({"rule": "result.words > item.least"}, '{"words": 1}', "ResultInvalid"),
        ({"rule": "result.nothing > 1"}, '{"words": 1}', "ResultInvalid"),
    ],
)
async def test_exit_code_0_is_no_success_without_a_result_that_keeps_the_contract(
    result: dict[str, str], message: str, reason: str
) -> None:
    cluster = SimulatedCluster(lambda _: Ends(message=message, valid=False))
    body = map_reduce_job([{"least": 5}], map_={"result": result, "retry": {"maxAttempts": 1}})
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert [entry["reason"] for entry in status["failures"]] == [reason]


async def test_a_result_may_be_optional_and_null_is_kept() -> None:
    cluster = SimulatedCluster(
        lambda seen: Ends(message='{"a": null}') if seen.context["itemId"] == "reduce" else Ends(message="")
    )
    body = map_reduce_job([1], map_={"result": {"required": False}}, reduce=reduce_work())
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert status["result"] == {"a": None}


def live_pod(cluster: SimulatedCluster) -> Pod:
    (pod,) = (job.pod for job in cluster.jobs.values() if job.pod is not None and not job.pod.seen.deleting)
    return pod


async def test_an_eviction_is_no_attempt() -> None:
    cluster = SimulatedCluster(steady(30.0))
    async with operating(cluster, map_reduce_job([1])) as operator:
        await operator.until(lambda: any(job.pod for job in cluster.jobs.values()))
        cluster.evict(live_pod(cluster))
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 1, "interruptions": 1, "retries": 0}
    assert status["phase"] == "Succeeded"


async def test_an_item_that_is_interrupted_too_often_fails_for_good() -> None:
    cluster = SimulatedCluster(steady(30.0))
    async with operating(cluster, map_reduce_job([1], map_={"retry": {"maxInterruptions": 2}})) as operator:
        for _ in range(3):
            await operator.until(lambda: any(job.pod and not job.pod.seen.deleting for job in cluster.jobs.values()))
            cluster.evict(live_pod(cluster))
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 0, "interruptions": 3, "retries": 0}
    assert status["items"]["deadLettered"] == 1


async def test_a_job_deleted_by_hand_is_an_interruption() -> None:
    cluster = SimulatedCluster(steady(30.0))
    async with operating(cluster, map_reduce_job([1])) as operator:
        await operator.until(lambda: any(job.pod for job in cluster.jobs.values()))
        cluster.delete_job_by_hand(cluster.history[0])
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 1, "interruptions": 1, "retries": 0}


async def test_a_job_deleted_before_its_pod_was_seen_is_an_interruption() -> None:
    cluster = SimulatedCluster(steady(30.0), pod_start=20.0)
    async with operating(cluster, map_reduce_job([1])) as operator:
        await operator.until(lambda: bool(cluster.jobs))
        await asyncio.sleep(1)
        cluster.delete_job_by_hand(cluster.history[0])
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 1, "interruptions": 1, "retries": 0}


async def test_an_empty_input_succeeds_unless_told_otherwise() -> None:
    phases = {}
    for policy in ("Succeed", "Fail", "RunReduce"):
        cluster = SimulatedCluster(steady())
        body = map_reduce_job([], reduce=reduce_work())
        body["spec"]["input"]["emptyPolicy"] = policy
        async with operating(cluster, body) as operator:
            status = await operator.until_finished()
        phases[policy] = (status["phase"], status["reason"], len(cluster.names_used))
    assert phases == {
        "Succeed": ("Succeeded", "NoItems", 0),
        "Fail": ("Failed", "NoItems", 0),
        "RunReduce": ("Succeeded", "NoItems", 1),
    }


async def test_reduce_fails_for_good_and_the_map_results_stay() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(exit_code=int(seen.context["itemId"] == "reduce")))
    body = map_reduce_job([1, 2], reduce=reduce_work(retry={"maxAttempts": 2, "backoff": {"initialSeconds": 1}}))
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert (status["phase"], status["reason"]) == ("Failed", "ReduceFailed")
    assert status["reduce"]["attempts"] == 2
    assert status["items"]["succeeded"] == 2


async def test_results_that_do_not_fit_fail_the_job_and_say_so() -> None:
    cluster = SimulatedCluster(lambda _: Ends(0.1, message='"' + "x" * 4000 + '"'))
    body = map_reduce_job(list(range(300)), map_={"maxParallel": 100}, reduce=reduce_work())
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert (status["phase"], status["reason"]) == ("Failed", "ResultsTooLarge")
    assert "1,000,000" in operator.condition("Failed")["message"]
    assert status["items"]["succeeded"] == 300


async def test_the_status_is_written_at_most_once_a_second_and_counts_always_sum_up() -> None:
    cluster = SimulatedCluster(flaky(20))
    async with operating(cluster, map_reduce_job(list(range(100)))) as operator:
        await operator.until_finished()
        seconds = asyncio.get_running_loop().time()
    assert len(cluster.statuses) <= seconds + 2
    planned = [status["items"] for status in cluster.statuses if "items" in status]
    assert all(sum(items.values()) == 2 * items["total"] for items in planned)
    assert all(a["succeeded"] <= b["succeeded"] for a, b in pairwise(planned))


async def test_the_events_tell_the_story() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(exit_code=1 if seen.item == "bad" else 0))
    async with operating(cluster, map_reduce_job(["bad", "good"], reduce=reduce_work())) as operator:
        await operator.until_finished()
    assert [reason for reason, _ in cluster.events] == ["Planned", "FirstError", "ReduceStarted", "PartiallySucceeded"]
