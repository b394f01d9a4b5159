"""What is served at /metrics: by its names, as the documents say, and by its values."""

import asyncio
import platform

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from mapreduce_operator import __version__
from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.gauges import FleetGauges, tell_process
from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.probes import Health, serve_probes
from mapreduce_operator.api import DeadLetterQueue, MapReduceJobStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.ports import Vitals
from mapreduce_operator.serving.metrics import ApiMetrics
from tests.documented_metrics import documented

NOW = 1_800_000_000.0


class StoppedClock:
    def now(self) -> float:
        return NOW


def registry_with(*jobs: Vitals, queues: tuple[DeadLetterQueue, ...] = (), per_job: bool = True) -> CollectorRegistry:
    """Everything that a process which leads these jobs tells."""
    registry = CollectorRegistry()
    PrometheusMetrics(registry)
    tell_process(registry, Health(leadership=SoleLeader()))
    registry.register(
        FleetGauges(
            lambda: jobs,
            lambda: queues,
            StoppedClock(),
            agents_limit=500,
            write_rate=lambda: 1000.0,
            per_job=per_job,
        )
    )
    return registry


def status(**more: object) -> MapReduceJobStatus:
    return MapReduceJobStatus.model_validate({"phase": "Map", "reason": "Planned", "active": 2} | more)


def progressing(holds: bool, reason: str) -> dict[str, object]:
    when = "2027-01-15T08:00:00Z"
    standing = "True" if holds else "False"
    return {"type": "Progressing", "status": standing, "reason": reason, "message": "", "lastTransitionTime": when}


def queue(job: str, uid: str, **letters: int) -> DeadLetterQueue:
    return DeadLetterQueue.model_validate(
        {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "DeadLetterQueue",
            "metadata": {"name": job, "namespace": "team-a", "uid": f"queue-of-{uid}"},
            "spec": {"jobRef": {"name": job, "uid": uid}},
            "status": {"letters": letters},
        }
    )


def gauge(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"mapreduce_{name}", labels)


def labels_of(registry: CollectorRegistry, name: str) -> list[dict[str, str]]:
    """Of all series of a metric."""
    samples = (sample for family in registry.collect() for sample in family.samples)
    return [sample.labels for sample in samples if sample.name == f"mapreduce_{name}"]


# ------------------------------------------------------------------------------------------------------------- names


def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    registry = registry_with()
    ApiMetrics(registry)

    there = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}

    assert there == set(documented())


def test_help_and_names_are_as_prometheus_wants_them() -> None:
    for family in registry_with().collect():
        assert family.documentation.endswith("."), family.name
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.type != "histogram" or family.name.endswith(("_seconds", "_bytes")), family.name


# ------------------------------------------------------------------------------------------------------------ gauges


def test_jobs_add_up_by_namespace_and_finished_ones_have_no_items_left() -> None:
    items = {"total": 10, "pending": 3, "running": 2, "succeeded": 5}
    registry = registry_with(
        Vitals(RunRef("team-a", "one", "1"), status(items=items)),
        Vitals(RunRef("team-a", "two", "2"), status(items=items)),
        Vitals(RunRef("team-a", "done", "3"), status(phase="Succeeded", active=0, items={"total": 9, "succeeded": 9})),
        Vitals(RunRef("team-b", "new", "4"), None),
    )

    assert gauge(registry, "items", namespace="team-a", state="Pending") == 6
    assert gauge(registry, "items", namespace="team-a", state="Succeeded") == 10
    assert gauge(registry, "items", namespace="team-a", state="RetryWait") == 0
    assert gauge(registry, "agents", namespace="team-a") == 4
    assert gauge(registry, "jobs", namespace="team-a", phase="Map") == 2
    assert gauge(registry, "jobs", namespace="team-a", phase="Succeeded") == 1
    assert gauge(registry, "jobs", namespace="team-b", phase="Planning") == 1
    assert gauge(registry, "jobs", namespace="team-b", phase="Failed") == 0
    assert gauge(registry, "job_items", namespace="team-a", job="done", state="Succeeded") == 9


@pytest.mark.parametrize(
    ("told", "hindered"),
    [
        (status(conditions=[progressing(True, "Planned")]), None),
        (status(conditions=[progressing(True, "QuotaLimited")]), "QuotaLimited"),
        (status(conditions=[progressing(False, "CircuitOpen")]), "CircuitOpen"),
        (status(reason="TemplateInvalid", conditions=[progressing(False, "TemplateInvalid")]), "TemplateInvalid"),
        (status(phase="Paused", reason="Suspended", conditions=[progressing(False, "Suspended")]), None),
        (status(phase="Succeeded", conditions=[progressing(False, "AllItemsSucceeded")]), None),
        (status(), None),
    ],
)
def test_a_job_is_hindered_by_what_its_conditions_say(told: MapReduceJobStatus, hindered: str | None) -> None:
    registry = registry_with(Vitals(RunRef("team-a", "one", "1"), told))

    found = [(labels["namespace"], labels["reason"]) for labels in labels_of(registry, "jobs_hindered")]
    assert found == ([] if hindered is None else [("team-a", hindered)])


def test_a_job_whose_state_is_lost_is_hindered_though_it_is_failed() -> None:
    registry = registry_with(Vitals(RunRef("team-a", "one", "1"), status(phase="Failed", reason="StateLost")))

    assert gauge(registry, "jobs_hindered", namespace="team-a", reason="StateLost") == 1


def test_ages_are_those_of_the_job_that_waits_longest() -> None:
    registry = registry_with(
        Vitals(RunRef("team-a", "one", "1"), status(), unsaved_since=NOW - 5, idle_since=NOW - 900),
        Vitals(RunRef("team-a", "two", "2"), status(), unsaved_since=NOW - 60),
        Vitals(RunRef("team-b", "new", "3"), status()),
        Vitals(RunRef("team-b", "ahead", "4"), status(), unsaved_since=NOW + 5),
    )

    assert gauge(registry, "checkpoint_age_seconds", namespace="team-a") == 60
    assert gauge(registry, "idle_seconds", namespace="team-a") == 900
    assert gauge(registry, "checkpoint_age_seconds", namespace="team-b") == 0
    assert gauge(registry, "idle_seconds", namespace="team-b") == 0
    assert gauge(registry, "job_checkpoint_age_seconds", namespace="team-a", job="one") == 5


def test_letters_count_whether_their_job_is_there_or_not() -> None:
    registry = registry_with(
        Vitals(RunRef("team-a", "here", "1"), status(phase="Failed")),
        queues=(queue("here", "1", total=3, open=2, archived=1), queue("gone", "2", total=5, open=5)),
    )

    assert gauge(registry, "dead_letters", namespace="team-a", state="Open") == 7
    assert gauge(registry, "dead_letters", namespace="team-a", state="Archived") == 1
    assert gauge(registry, "dead_letters", namespace="team-a", state="Resolved") == 0
    assert gauge(registry, "job_dead_letters", namespace="team-a", job="here", state="Open") == 2
    assert gauge(registry, "job_dead_letters", namespace="team-a", job="gone", state="Open") is None


def test_breakers_count_while_their_jobs_go_on() -> None:
    breaker = {"breaker": {"state": "Open", "failuresInARow": 5}}
    registry = registry_with(
        Vitals(RunRef("team-a", "one", "1"), status(**breaker)),
        Vitals(RunRef("team-a", "two", "2"), status(phase="Failed", **breaker)),
        Vitals(RunRef("team-a", "none", "3"), status()),
    )

    assert gauge(registry, "breakers", namespace="team-a", state="Open") == 1
    assert gauge(registry, "breakers", namespace="team-a", state="Closed") == 0
    assert gauge(registry, "job_breaker_state", namespace="team-a", job="one", state="Open") == 1
    assert gauge(registry, "job_breaker_state", namespace="team-a", job="one", state="HalfOpen") == 0
    assert gauge(registry, "job_breaker_state", namespace="team-a", job="none", state="Open") is None


def test_no_series_of_single_jobs_unless_they_are_asked_for() -> None:
    registry = registry_with(Vitals(RunRef("team-a", "one", "1"), status()), per_job=False)

    assert not any("job" in sample.labels for family in registry.collect() for sample in family.samples)


async def test_a_process_says_whether_it_leads_from_its_start() -> None:
    registry, health = CollectorRegistry(), Health()
    tell_process(registry, health)
    assert (gauge(registry, "leader"), gauge(registry, "leader_epoch")) == (0, 0)

    health.leadership = leader = SoleLeader()
    assert (gauge(registry, "leader"), gauge(registry, "leader_epoch")) == (1, 1)
    await leader.release()

    assert gauge(registry, "leader") == 0
    assert gauge(registry, "build_info", version=__version__, python_version=platform.python_version()) == 1


# ---------------------------------------------------------------------------------------------------------- counters


def test_what_is_counted_in_a_namespace_is_there_before_it_happens() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry).expects("team-a")

    for outcome in ("Succeeded", "DeadLettered", "Skipped"):
        assert gauge(registry, "items_total", namespace="team-a", outcome=outcome) == 0
    assert gauge(registry, "dead_letters_added_total", namespace="team-a", reason="OOMKilled") == 0
    assert gauge(registry, "dead_letters_resolved_total", namespace="team-a") == 0
    assert gauge(registry, "jobs_finished_total", namespace="team-a", phase="Failed") == 0
    assert gauge(registry, "checkpoints_total", reason="Time", result="failure") == 0


async def test_an_event_loop_that_is_held_up_is_late() -> None:
    registry = CollectorRegistry()
    watching = asyncio.create_task(PrometheusMetrics(registry).watch_loop())
    clock = SystemClock()

    async with asyncio.timeout(30):
        while not gauge(registry, "event_loop_lag_seconds_count"):  # noqa: ASYNC110 - nobody tells when it has measured
            await asyncio.sleep(0.01)
        before = gauge(registry, "event_loop_lag_seconds_sum") or 0.0
        until = clock.now() + 1.5
        while clock.now() < until:
            """Something holds it up."""
        await asyncio.sleep(0.01)
    watching.cancel()

    assert 0.9 < (gauge(registry, "event_loop_lag_seconds_sum") or 0.0) - before < 10


# ------------------------------------------------------------------------------------------------------------ served


async def test_prometheus_can_read_what_is_served(unused_tcp_port: int) -> None:
    registry = registry_with(Vitals(RunRef("team-a", 'odd "name"\\', "1"), status(items={"total": 1, "pending": 1})))
    async with (
        serve_probes(unused_tcp_port, registry, Health()),
        aiohttp.ClientSession() as client,
        client.get(f"http://127.0.0.1:{unused_tcp_port}/metrics") as answer,
    ):
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = await answer.text()

    read = {family.name: family for family in text_string_to_metric_families(text)}
    (waiting,) = [one for one in read["mapreduce_items"].samples if one.labels["state"] == "Pending"]
    assert (waiting.labels["namespace"], waiting.value) == ("team-a", 1)
    assert {one.labels["job"] for one in read["mapreduce_job_phase"].samples} == {'odd "name"\\'}
    assert not any(name.endswith("_created") for name in read)
