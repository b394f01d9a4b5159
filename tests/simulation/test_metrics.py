"""What metrics tell is what happened: once each, whoever dies, and as of now, whoever looks."""

import asyncio
import re
import time
from collections import Counter
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError
from tests.documented_metrics import documented
from tests.simulation.agents import Ends, Seen, flaky, steady
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

ENDS = ("mapreduce_item_attempts_total", "mapreduce_item_interruptions_total")


def job(number: int, items: int = 2, **spec: Any) -> dict[str, Any]:
    """One of many jobs of a namespace."""
    body = map_reduce_job([{"n": n} for n in range(items)], uid=f"run-{number}", **spec)
    body["metadata"]["name"] = f"job-{number}"
    return body


def counted_ends(*operators: OperatorInMemory) -> Counter[str]:
    """Dispatches that ended, by reason, as these processes have counted them together."""
    counted: Counter[str] = Counter()
    for operator in operators:
        for (name, labels), value in operator.series("mapreduce_item_").items():
            if name in ENDS:
                counted[dict(labels)["reason"]] += int(value)
    return counted


def second_fails(seen: Seen) -> Ends:
    """The second item of each job fails."""
    return Ends(2.0, exit_code=1, message="boom") if seen.item["n"] == 1 else Ends(2.0)


def durable_ends(cluster: SimulatedCluster) -> Counter[str]:
    """The same as storage has them."""
    lines = [line for audit in cluster.audits.values() for line in audit.durable.outcomes.values()]
    return Counter(line.get("reason", "Succeeded") for line in lines)


def values(operator: OperatorInMemory, name: str, label: str) -> dict[str, float]:
    """Of a metric with one more label than the namespace: what is not 0."""
    return {
        dict(labels)[label]: value for (full, labels), value in operator.series(name).items() if value and full == name
    }


# ------------------------------------------------------------------------------------------------------------ counters


async def test_everything_is_counted_once_though_the_operator_is_started_anew_in_between() -> None:
    cluster, store = SimulatedCluster(flaky(30)), MemoryStore()
    body = map_reduce_job([{"n": n} for n in range(60)], reduce=reduce_work(runWhen="Always"))
    operators = []
    async with operating(cluster, body, store) as first:
        operators.append(first)
        await first.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) >= 15)
        for pod in [pod for pod in cluster.pods.values() if pod.ends is not None][:3]:
            cluster.evict(pod)
    async with operating(cluster, body, store) as second:
        operators.append(second)
        status = await second.until_finished()

    assert counted_ends(*operators) == durable_ends(cluster)
    for operator in operators:
        for name, labels in operator.series():
            family = re.sub("_(bucket|sum|count)$", "", name)
            assert dict(labels).keys() - {"le"} == documented()[family], name
    assert min(counted_ends(first).total(), counted_ends(second).total()) >= 15

    def counted(name: str, **labels: str) -> float:
        return sum(operator.counted(f"mapreduce_{name}", **labels) for operator in operators)

    for outcome in ("succeeded", "deadLettered"):
        assert counted("items_total", outcome=outcome[0].upper() + outcome[1:]) == status["items"][outcome] > 0
    assert counted("items_total") == 60
    # The status speaks of the map alone.
    assert counted("item_retries_total") == status["attempts"]["retries"] + status["reduce"]["attempts"] - 1 > 1
    assert counted("item_interruptions_total", reason="Evicted") == status["attempts"]["interruptions"] == 3
    assert counted("dead_letters_added_total", reason="Error") == status["items"]["deadLettered"]
    assert counted("dead_letters_resolved_total") == 0
    assert counted("jobs_finished_total", phase="PartiallySucceeded") == counted("jobs_finished_total") == 1
    assert counted("job_duration_seconds_count", phase="PartiallySucceeded") == 1
    # The plan is checkpoint 0.
    assert counted("checkpoints_total", result="success") == status["checkpoint"]["sequence"] + 1
    assert counted("checkpoints_total", result="failure") == 0
    assert counted("checkpoint_size_bytes_sum") == status["checkpoint"]["storedBytes"]
    # What was never seen to start, the evicted agents of a process that was gone, has no duration.
    ended = counted("item_duration_seconds_count")
    assert durable_ends(cluster).total() - 3 <= ended <= durable_ends(cluster).total()
    assert counted("item_duration_seconds_sum", outcome="Succeeded") == pytest.approx(2.0 * 49, abs=49)
    assert counted("item_start_seconds_count") > 0


async def test_a_redriven_item_counts_again_as_what_it_became() -> None:
    healed = False

    def agent(seen: Seen) -> Ends:
        return Ends(2.0) if healed or seen.item["n"] else Ends(2.0, exit_code=1, message="boom")

    cluster = SimulatedCluster(agent)
    body = map_reduce_job([{"n": n} for n in range(3)], map_={"retry": {"maxAttempts": 1}})
    async with operating(cluster, body) as operator:
        await operator.until_finished()
        await operator.redrive("in-vain")
        assert values(operator, "mapreduce_items_total", "outcome") == {"Succeeded": 2, "DeadLettered": 2}
        assert operator.counted("mapreduce_dead_letters_added_total") == 2
        healed = True
        await operator.redrive("healed")
        await operator.until(lambda: operator.counted("mapreduce_dead_letters", state="Resolved") == 1)
    assert values(operator, "mapreduce_items_total", "outcome") == {"Succeeded": 3, "DeadLettered": 2}
    assert operator.counted("mapreduce_dead_letters_resolved_total", namespace="default") == 1
    assert values(operator, "mapreduce_jobs_finished_total", "phase") == {"PartiallySucceeded": 2, "Succeeded": 1}
    assert values(operator, "mapreduce_dead_letters", "state") == {"Resolved": 1}


async def test_items_that_the_user_leaves_out_count_as_skipped() -> None:
    cluster = SimulatedCluster(steady(5.0))
    body = map_reduce_job([{"n": n} for n in range(4)], map_={"skip": ["3"]})
    body["spec"]["input"]["idExpression"] = "string(item.n)"
    async with operating(cluster, body) as operator:
        await operator.until_finished()
    assert values(operator, "mapreduce_items_total", "outcome") == {"Succeeded": 3, "Skipped": 1}


# -------------------------------------------------------------------------------------------------------------- gauges


async def test_gauges_tell_what_the_status_tells_also_after_a_restart() -> None:
    cluster, store = SimulatedCluster(flaky(50)), MemoryStore()
    breaker = {"failuresInARow": 50, "openSeconds": 60}
    body = map_reduce_job([{"n": n} for n in range(60)], failurePolicy={"circuitBreaker": breaker})

    def gauges(operator: OperatorInMemory) -> dict[str, dict[str, float]]:
        labels = {"jobs": "phase", "items": "state", "dead_letters": "state", "breakers": "state"}
        return {name: values(operator, f"mapreduce_{name}", label) for name, label in labels.items()}

    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("deadLettered", 0) >= 3)
        await operator.until(lambda: operator.counted("mapreduce_dead_letters", state="Open") >= 3)
        told, status = gauges(operator), cluster.status
        assert told["items"] == {
            key[0].upper() + key[1:]: value for key, value in status["items"].items() if value and key != "total"
        }
        assert told["jobs"] == {"Map": 1}
        assert told["breakers"] == {"Closed": 1}
        assert operator.counted("mapreduce_agents", namespace="default") == status["active"] > 0
        assert operator.counted("mapreduce_agents_limit") == 500
        assert operator.counted("mapreduce_kubernetes_write_rate") == 1000
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: operator.counted("mapreduce_agents") == 0)
        told = gauges(operator)
    async with operating(cluster, body, store) as operator:
        assert gauges(operator) == told | {"dead_letters": {}}, "before anything was loaded, or told of queues"
        await asyncio.sleep(30)
        assert gauges(operator) == told
        assert told["jobs"] == {"Paused": 1}
        assert counted_ends(operator) == Counter()
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_finished()
        await asyncio.sleep(1)
        assert gauges(operator)["jobs"] == {status["phase"]: 1}
        assert gauges(operator)["items"] == {}, "of jobs that are not finished"


async def test_what_waits_for_storage_has_an_age_and_a_reason() -> None:
    class Away(MemoryStore):
        away = False

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if self.away:
                raise StorageError("no space left on device")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    cluster, store = SimulatedCluster(steady(5.0)), Away()
    async with operating(cluster, map_reduce_job([{"n": n} for n in range(40)]), store) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded", 0) >= 10)
        assert operator.counted("mapreduce_checkpoint_age_seconds") < 10
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {}
        store.away = True
        await asyncio.sleep(600)
        assert 580 < operator.counted("mapreduce_checkpoint_age_seconds") < 610
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {"StorageUnavailable": 1}
        assert operator.counted("mapreduce_checkpoints_total", result="failure") > 10
        store.away = False
        await operator.until_finished()
        assert operator.counted("mapreduce_checkpoint_age_seconds") == 0
        assert operator.counted("mapreduce_idle_seconds") == 0
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {}


async def test_a_job_is_idle_while_nothing_of_it_runs_and_not_because_its_agents_take_long() -> None:
    cluster = SimulatedCluster(steady(7000.0))
    body = map_reduce_job([{"n": n} for n in range(4)], map_={"maxParallel": 2, "timeoutSeconds": 7200})
    async with operating(cluster, body) as operator:
        await asyncio.sleep(6000)
        assert operator.counted("mapreduce_agents") == 2
        assert operator.counted("mapreduce_idle_seconds") == 0
        assert operator.counted("mapreduce_checkpoint_age_seconds") == 0
        cluster.refuse = lambda _job, _dry_run: ClusterError(ClusterErrorReason.QUOTA, "exceeded quota: small")
        await asyncio.sleep(3000)
        assert 1900 < operator.counted("mapreduce_idle_seconds") < 2001
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {"QuotaLimited": 1}
        operator.edit(lambda spec: spec["map"].update(maxParallel=0))
        await asyncio.sleep(60)
        assert operator.counted("mapreduce_idle_seconds") == 0
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {"MaxParallelIsZero": 1}
        operator.edit(lambda spec: spec.update(suspend=True))
        await asyncio.sleep(60)
        assert operator.counted("mapreduce_idle_seconds") == 0
        assert values(operator, "mapreduce_jobs_hindered", "reason") == {}


# -------------------------------------------------------------------------------------------------------- cardinality


async def test_there_are_as_many_series_for_a_thousand_jobs_as_for_fifty() -> None:
    cluster = SimulatedCluster(second_fails)
    once = {"retry": {"maxAttempts": 1}}
    bodies = [job(number, items=1 if number % 10 else 3, map_=once) for number in range(1000)]
    few: set[object] = set()
    async with operating(cluster, bodies[0], capacity=200) as operator:
        for first in range(0, 1000, 50):
            for body in bodies[max(first, 1) : first + 50]:
                operator.apply(body)
            for body in bodies[first : first + 50]:
                await operator.until_finished(uid=body["metadata"]["uid"])
            few = few or set(operator.series())
        many = operator.series()
        began = time.perf_counter()
        operator.series()
        seconds = time.perf_counter() - began
    assert operator.counted("mapreduce_jobs_finished_total") == operator.counted("mapreduce_jobs") == 1000
    new = {name for name, _ in many.keys() - few}
    # What a checkpoint may have been made for only since.
    assert not new - {"mapreduce_checkpoint_duration_seconds_bucket"}, new
    assert len(many) < 700
    assert seconds < 1.0
    assert not any("job" in dict(labels) for _, labels in many)


async def test_series_of_a_job_are_there_when_asked_for_and_go_with_it() -> None:
    cluster = SimulatedCluster(second_fails)
    breaker = {"circuitBreaker": {"failuresInARow": 90, "openSeconds": 60}}
    bodies = [job(number, items, failurePolicy=breaker) for number, items in enumerate((5, 500))]
    async with operating(cluster, bodies[0], per_job_metrics=True) as operator:
        operator.apply(bodies[1])
        await operator.until(lambda: operator.counted("mapreduce_job_items", job="job-1", state="Succeeded") > 20)
        assert operator.counted("mapreduce_job_agents", job="job-1") > 0
        assert operator.counted("mapreduce_job_phase", job="job-1", phase="Map") == 1
        assert operator.counted("mapreduce_job_breaker_state", job="job-1", state="Closed") == 1
        assert operator.counted("mapreduce_job_breaker_state", job="job-1") == 1
        for number in range(2):
            status = await operator.until_finished(uid=f"run-{number}")
            name = f"job-{number}"
            assert operator.counted("mapreduce_job_items", job=name) == status["items"]["total"]
            assert operator.counted("mapreduce_job_failures", job=name) == sum(status["failuresByReason"].values())
            assert operator.counted("mapreduce_job_phase", job=name, phase=status["phase"]) == 1
            left = status["items"]["deadLettered"]
            await operator.until(lambda: operator.counted("mapreduce_job_dead_letters", job=name, state="Open") == left)  # noqa: B023
        sizes = [sum(("job", f"job-{number}") in labels for _, labels in operator.series()) for number in range(2)]
        assert sizes[0] == sizes[1], "items add no series"
        operator.delete("run-1")
        await operator.until(lambda: "run-1" not in cluster.finalizers)
        operator.supervisor.forget("run-1")
        assert {dict(labels)["job"] for _, labels in operator.series("mapreduce_job_") if "job" in dict(labels)} == {
            "job-0"
        }
