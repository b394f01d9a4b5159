"""What a spec says of an agent holds for the agents of the map and for that of the reduce, field by field."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.simulation.agents import Agent, Ends, Seen
from tests.simulation.api_server import Job
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("stage", ["map", "reduce"])]


def stage_of(seen: Seen) -> str:
    return "reduce" if seen.context["itemId"] == "reduce" else "map"


def only(stage: str, agent: Agent) -> Agent:
    """Agents of which those of the other stage succeed at once."""
    return lambda seen: agent(seen) if stage_of(seen) == stage else Ends()


def job(stage: str, **work: Any) -> dict[str, Any]:
    """One item and a reduce; `work` is said of one of the two stages."""
    given = {"map": {}, "reduce": {}, stage: work}
    return map_reduce_job(["a"], map_=given["map"], reduce=reduce_work(**{"runWhen": "Always"} | given["reduce"]))


def jobs_of(cluster: SimulatedCluster, stage: str) -> list[Job]:
    return [one for one in cluster.history if one.seen.carried.stage == stage]


def attempts(cluster: SimulatedCluster, stage: str) -> int:
    """As the status tells."""
    told = cluster.status["reduce" if stage == "reduce" else "attempts"]
    number: int = told["attempts" if stage == "reduce" else "total"]
    return number


async def test_a_template_is_run_as_it_is_written(stage: str) -> None:
    agent = {"name": "worker", "image": "agent:7", "command": ["run"], "args": ["--fast"]}
    sidecar = {
        "name": "cache",
        "image": "cache:1",
        "terminationMessagePath": "/tmp/last-words",  # noqa: S108 - of the pod
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    metadata = {"labels": {"team": "a"}, "annotations": {"example.com/cost": "7"}}
    cluster = SimulatedCluster(lambda _: Ends())
    body = job(stage, template={"metadata": metadata, "spec": {"containers": [agent, sidecar]}})
    async with operating(cluster, body) as operator:
        await operator.until_finished()
    (one,) = jobs_of(cluster, stage)
    pod = one.manifest["spec"]["template"]
    assert pod["metadata"]["labels"].items() >= metadata["labels"].items()
    assert pod["metadata"]["annotations"].items() >= metadata["annotations"].items()
    first, second = pod["spec"]["containers"]
    assert first.items() >= agent.items()
    assert second.items() >= sidecar.items()


async def test_params_are_in_the_context_of_every_agent(stage: str) -> None:
    cluster = SimulatedCluster(lambda _: Ends())
    body = job(stage)
    body["spec"]["params"] = {"depth": 3}
    async with operating(cluster, body) as operator:
        await operator.until_finished()
    (one,) = jobs_of(cluster, stage)
    assert one.context["params"] == {"depth": 3}


async def test_an_agent_that_runs_too_long_is_stopped(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda _: Ends(600.0)))
    async with operating(cluster, job(stage, timeoutSeconds=60, retry={"maxAttempts": 1})) as operator:
        status = await operator.until_finished()
    assert status["phase"] == "Failed"


async def test_a_pod_that_cannot_start_is_given_up_in_time(stage: str) -> None:
    cluster = SimulatedCluster(lambda _: Ends())
    cluster.keeps_waiting = lambda pod: "ImagePullBackOff" if pod.job.seen.carried.stage == stage else ""
    async with operating(cluster, job(stage, pendingTimeoutSeconds=30)) as operator:
        await operator.until(lambda: len(jobs_of(cluster, stage)) == 2, 120)


async def test_attempts_end_with_the_last_one(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda _: Ends(exit_code=1)))
    async with operating(cluster, job(stage, retry={"maxAttempts": 2, "backoff": {"initialSeconds": 1}})) as operator:
        await operator.until_finished()
    assert attempts(cluster, stage) == 2


async def test_interruptions_are_borne_as_often_as_is_said(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda _: Ends(1000.0)))
    async with operating(cluster, job(stage, retry={"maxInterruptions": 1})) as operator:
        for number in (1, 2):
            await operator.until(lambda: len(jobs_of(cluster, stage)) == number)  # noqa: B023 - called at once
            await asyncio.sleep(5)
            cluster.evict(next(pod for pod in cluster.pods.values() if pod.job is jobs_of(cluster, stage)[-1]))
        await operator.until_finished(60)
    assert len(jobs_of(cluster, stage)) == 2


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        pytest.param({"type": "Fixed", "initialSeconds": 100}, [100, 100, 100], id="type"),
        pytest.param({"initialSeconds": 70}, [70, 140, 280], id="initialSeconds"),
        pytest.param({"initialSeconds": 100, "maxSeconds": 250}, [100, 200, 250], id="maxSeconds"),
        pytest.param({"initialSeconds": 100, "maxSeconds": 1000}, [100, 200, 400], id="jitter"),
        pytest.param({"type": "Custom", "delays": [90, 40]}, [90, 40, 40], id="delays"),
    ],
)
async def test_the_waits_between_attempts(stage: str, backoff: dict[str, Any], waits: list[int]) -> None:
    cluster = SimulatedCluster(only(stage, lambda _: Ends(exit_code=1)))
    async with operating(cluster, job(stage, retry={"maxAttempts": 4, "backoff": {"jitter": 0} | backoff})) as operator:
        await operator.until_finished()
    began = [one.created_at for one in jobs_of(cluster, stage)]
    # Beside the wait: 1.5 s of the agent, and what is done for a save and a start.
    between = [later - earlier for earlier, later in pairwise(began)]
    assert between == pytest.approx([wait + 3 for wait in waits], abs=3)


async def test_a_rule_is_for_the_exit_codes_that_it_names(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda seen: Ends(exit_code=1 + seen.attempt)))
    rules = [{"action": "DoNotRetry", "onExitCodes": [3]}]
    async with operating(cluster, job(stage, retry=fast(5, rules=rules))) as operator:
        await operator.until_finished()
    assert attempts(cluster, stage) == 2


async def test_a_rule_is_for_the_reasons_that_it_names(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda seen: Ends(exit_code=1, oom=seen.attempt == 2)))
    rules = [{"action": "DoNotRetry", "onReasons": ["OOMKilled"]}]
    async with operating(cluster, job(stage, retry=fast(5, rules=rules))) as operator:
        await operator.until_finished()
    assert attempts(cluster, stage) == 2


async def test_an_agent_that_was_killed_for_its_memory_gets_more(stage: str) -> None:
    cluster = SimulatedCluster(only(stage, lambda seen: Ends(oom=seen.attempt < 3)))
    resources = {"limits": {"memory": "100Mi"}, "requests": {"memory": "100Mi"}}
    containers = [{"name": "agent", "image": "agent:1", "resources": resources}]
    retry = fast(3, onOOM={"factor": 3, "maxMemory": "500Mi"})
    body = job(stage, retry=retry, template={"spec": {"containers": containers}})
    async with operating(cluster, body) as operator:
        await operator.until_finished()
    agents = [one.manifest["spec"]["template"]["spec"]["containers"][0] for one in jobs_of(cluster, stage)]
    assert [agent["resources"]["limits"]["memory"] for agent in agents] == ["100Mi", "300Mi", "500Mi"]


@pytest.mark.parametrize(
    ("contract", "ends", "phase"),
    [
        pytest.param({"required": False}, Ends(message=""), "Succeeded", id="required"),
        pytest.param({"rule": "result.good"}, Ends(message='{"good": false}', valid=False), "Failed", id="rule"),
    ],
)
async def test_a_result_is_what_the_contract_of_its_stage_asks_for(
    stage: str, contract: dict[str, Any], ends: Ends, phase: str
) -> None:
    cluster = SimulatedCluster(only(stage, lambda _: ends))
    body = job(stage, retry=fast(1), result=contract)
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert status["phase"] == phase


def fast(attempts: int, **more: Any) -> dict[str, Any]:
    return {"maxAttempts": attempts, "backoff": {"initialSeconds": 1, "jitter": 0}} | more
