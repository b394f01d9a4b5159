"""How many failures a job bears, what it does about them, and pods that cannot start."""

import asyncio
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, Seen, fails_until
from tests.simulation.api_server import Pod
from tests.simulation.jobs import map_reduce_job
from tests.simulation.letters import bodies, fails, job, letters
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

BREAKER = {"circuitBreaker": {"failuresInARow": 3, "openSeconds": 60, "probes": 2}}


def breaker(cluster: SimulatedCluster) -> str:
    state: str = cluster.status.get("breaker", {}).get("state", "")
    return state


class World:
    """What all agents need is away, until it is back."""

    def __init__(self, seconds: float = 2.0) -> None:
        self.away = True
        self.seconds = seconds

    def agent(self, seen: Seen) -> Ends:
        del seen
        return Ends(self.seconds, exit_code=int(self.away))


async def test_the_breaker_opens_tries_a_few_and_closes_when_they_succeed() -> None:
    world = World()
    cluster = SimulatedCluster(world.agent)
    body = job(list(range(20)), attempts=10, map_={"maxParallel": 5}, failurePolicy=BREAKER)
    async with operating(cluster, body) as operator:
        await operator.until(lambda: breaker(cluster) == "Open", 30)
        first = len(cluster.history)
        assert first <= 5
        assert operator.condition("Progressing")["reason"] == "CircuitOpen"
        await asyncio.sleep(50)
        assert len(cluster.history) == first
        # Both probes fail, and no third one is tried.
        await operator.until(lambda: len(cluster.history) > first, 30)
        await operator.until(lambda: breaker(cluster) == "Open", 30)
        assert len(cluster.history) == first + 2
        world.away = False
        await operator.until(lambda: breaker(cluster) == "Closed", 90)
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 20
    assert [reason for reason, _ in cluster.events if reason.startswith("Circuit")] == ["CircuitOpen", "CircuitClosed"]


async def test_the_breaker_opens_after_as_many_failures_as_are_said_and_for_as_long() -> None:
    world = World()
    cluster = SimulatedCluster(world.agent)
    policy = {"circuitBreaker": {"failuresInARow": 2, "openSeconds": 600, "probes": 1}}
    body = job(list(range(5)), attempts=10, map_={"maxParallel": 1}, failurePolicy=policy)
    async with operating(cluster, body) as operator:
        await operator.until(lambda: breaker(cluster) == "Open", 60)
        assert len(cluster.history) == 2
        world.away = False
        await asyncio.sleep(570)
        assert len(cluster.history) == 2
        await operator.until(lambda: len(cluster.history) == 3, 60)
        await operator.until_finished()


async def test_half_open_starts_no_more_than_the_probes_until_all_of_them_succeeded() -> None:
    world = World()
    cluster = SimulatedCluster(world.agent)
    body = job(list(range(20)), attempts=10, map_={"maxParallel": 5}, failurePolicy=BREAKER)
    async with operating(cluster, body) as operator:
        await operator.until(lambda: breaker(cluster) == "Open", 30)
        first, world.away, world.seconds = len(cluster.history), False, 30.0
        await operator.until(lambda: len(cluster.history) > first, 90)
        await asyncio.sleep(20)
        assert len(cluster.history) == first + 2
        assert breaker(cluster) == "HalfOpen"
        # A probe that is interrupted says nothing: another one takes its place.
        cluster.evict(next(pod for pod in cluster.pods.values() if pod.seen.phase == "Running"))
        await asyncio.sleep(5)
        assert len(cluster.history) == first + 3
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 20


@pytest.mark.parametrize("graceful", [True, False], ids=["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("state", ["Open", "HalfOpen"])
async def test_the_breaker_survives_a_restart(state: str, graceful: bool) -> None:
    world = World()
    cluster, store = SimulatedCluster(world.agent), MemoryStore()
    body = job(list(range(20)), attempts=10, map_={"maxParallel": 5}, failurePolicy=BREAKER)
    async with operating(cluster, body, store, graceful=graceful) as operator:
        await operator.until(lambda: breaker(cluster) == "Open", 30)
        world.away, world.seconds = False, 40.0
        first = len(cluster.history)
        if state == "HalfOpen":
            await operator.until(lambda: len(cluster.history) == first + 2, 90)
    async with operating(cluster, body, store) as operator:
        if state == "Open":
            await asyncio.sleep(45)
            assert len(cluster.history) == first
            assert breaker(cluster) == "Open"
            await operator.until(lambda: len(cluster.history) > first, 30)
        await asyncio.sleep(30)
        assert len(cluster.history) == first + 2
        await operator.until(lambda: breaker(cluster) == "Closed", 60)
        await operator.until_finished()


async def test_a_probe_whose_start_nobody_has_recorded_is_still_one() -> None:
    world = World()
    cluster, store = SimulatedCluster(world.agent), MemoryStore()
    body = job(
        list(range(20)),
        attempts=10,
        map_={"maxParallel": 5},
        failurePolicy=BREAKER,
        checkpoint={"everyItems": 1000, "everySeconds": 10},
    )
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: breaker(cluster) == "Open", 60)
        world.away, world.seconds, first = False, 60.0, len(cluster.history)
        await operator.until(lambda: len(cluster.history) == first + 2, 90)
    async with operating(cluster, body, store) as operator:
        await asyncio.sleep(40)
        assert len(cluster.history) == first + 2
        await operator.until_finished()


@pytest.mark.parametrize("budget", [{"maxRetries": 5}, {"maxRatio": 0.5}])
@pytest.mark.parametrize("life", [None, 6.0])
async def test_no_more_retries_than_the_budget(budget: dict[str, Any], life: float | None) -> None:
    cluster, store = SimulatedCluster(fails_until(4)), MemoryStore()
    body = job(list(range(10)), attempts=10, map_={"maxParallel": 3}, failurePolicy={"retryBudget": budget})
    while life and "completionTime" not in cluster.status:
        async with operating(cluster, body, store, graceful=False):
            await asyncio.sleep(life)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["attempts"]["retries"] == 5
    assert status["attempts"]["total"] == 15
    assert {body["cause"] for body in bodies(store).values()} == {"RetryBudgetExhausted"}


async def test_what_is_skipped_is_left_out_and_has_no_letter() -> None:
    cluster, store = SimulatedCluster(fails({"a": "boom"})), MemoryStore()
    async with operating(cluster, job(["a", "b", "c"], failurePolicy={"onExhausted": "Skip"}), store) as operator:
        status = await operator.until_finished()
        await asyncio.sleep(5)
    assert status["items"] | {"skipped": 1, "succeeded": 2, "deadLettered": 0} == status["items"]
    assert status["phase"] == "PartiallySucceeded"
    assert bodies(store) == {}
    assert cluster.queues.by_name == {}


@pytest.mark.parametrize(
    ("policy", "reason", "started"),
    [
        ({"onExhausted": "Stop"}, "ItemFailed", 1),
        ({"maxFailures": 3}, "MaxFailuresReached", 3),
        ({"maxFailures": 3, "onExhausted": "Skip"}, "MaxFailuresReached", 3),
        ({"failureThreshold": {"ratio": 0.4, "minSamples": 4}}, "FailureThresholdExceeded", 4),
    ],
)
async def test_a_limit_stops_the_job(policy: dict[str, Any], reason: str, started: int) -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(exit_code=1)), MemoryStore()
    body = job(list(range(10)), map_={"maxParallel": 1}, failurePolicy=policy)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
        await asyncio.sleep(60)
    assert (status["phase"], status["reason"]) == ("Failed", reason)
    assert len(cluster.history) == started
    assert len(bodies(store)) == (0 if policy.get("onExhausted") == "Skip" else started)
    assert status["items"]["pending"] == 10 - started


async def test_agents_that_run_when_a_limit_stops_the_job_come_to_their_end() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(1.0, exit_code=1) if seen.item == 0 else Ends(60.0))
    body = job(list(range(10)), map_={"maxParallel": 4}, failurePolicy={"onExhausted": "Stop"})
    async with operating(cluster, body) as operator:
        await asyncio.sleep(30)
        assert operator.condition("Progressing")["reason"] == "ItemFailed"
        assert "completionTime" not in cluster.status
        status = await operator.until_finished()
    assert status["items"] | {"succeeded": 3, "deadLettered": 1, "pending": 6} == status["items"]


def image(pod: Pod) -> str:
    name: str = pod.job.manifest["spec"]["template"]["spec"]["containers"][0]["image"]
    return name


@pytest.mark.parametrize("restarted", [False, True])
async def test_an_image_that_cannot_be_pulled_pauses_the_job_until_it_is_corrected(restarted: bool) -> None:
    cluster, store = SimulatedCluster(lambda _: Ends()), MemoryStore()
    cluster.keeps_waiting = lambda pod: "ImagePullBackOff" if image(pod) == "agent:1" else ""
    body = map_reduce_job(list(range(20)), map_={"maxParallel": 5, "pendingTimeoutSeconds": 60})

    def stalled() -> bool:
        return bool(operator.condition("Stalled")["reason"] == "ImageUnavailable")

    async with operating(cluster, body, store) as operator:
        await operator.until(stalled, 120)
        assert operator.condition("Stalled")["status"] == "True"
        await asyncio.sleep(300)
        assert stalled()
        assert len(cluster.history) < 20
    if restarted:
        async with operating(cluster, body, store) as operator:
            await asyncio.sleep(300)
            assert stalled()
            assert sum(not job.seen.finished for job in cluster.jobs.values()) <= 1
    async with operating(cluster, body, store) as operator:
        operator.edit(lambda spec: spec["map"]["template"]["spec"]["containers"][0].update(image="agent:2"))
        status = await operator.until_finished(1200)
        assert operator.condition("Stalled")["status"] == "Absent"
    assert status["items"]["succeeded"] == 20
    assert status["attempts"]["total"] == 20
    assert status["phase"] == "Succeeded"


async def test_one_item_that_cannot_start_keeps_the_others_from_nothing() -> None:
    cluster, store = SimulatedCluster(lambda _: Ends()), MemoryStore()
    cluster.keeps_waiting = lambda pod: "CreateContainerConfigError" if pod.job.dispatch.number == 1 else ""
    body = map_reduce_job([1, 2], map_={"maxParallel": 2, "pendingTimeoutSeconds": 30})
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 2, "interruptions": 2, "retries": 0}
    assert status["failuresByReason"] == {"ConfigurationError": 2}
    assert letters(cluster) == {}


async def test_an_agent_that_was_killed_for_its_memory_gets_more_the_next_time() -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(oom=seen.attempt < 4)

    cluster = SimulatedCluster(agent)
    memory = {"limits": {"memory": "100Mi"}, "requests": {"memory": "50Mi"}}
    retry = {"maxAttempts": 5, "backoff": {"initialSeconds": 0}, "onOOM": {"factor": 2, "maxMemory": "300Mi"}}
    body = map_reduce_job([1], map_={"retry": retry})
    body["spec"]["map"]["template"]["spec"]["containers"][0]["resources"] = memory
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 1
    limits = [
        job.manifest["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
        for job in cluster.history
    ]
    assert limits == ["100Mi", "200Mi", "300Mi", "300Mi"]
