"""What is so at the moment, told at each scrape from what is at hand.

Nothing here is counted up or down, so that nothing drifts: a process that was started anew tells the same as the one
before, and an object that is deleted takes its series along. States of jobs and letters are those of the statuses that
the operator wrote, so that metrics and `kubectl get` never disagree for longer than a second. Each job costs the same,
however many items it has.
"""

import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from mapreduce_operator import __version__
from mapreduce_operator.adapters.probes import Health
from mapreduce_operator.api import BreakerState, DeadLetterQueue, ItemState, LetterState, Phase
from mapreduce_operator.core.conditions import hindrance_in
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.ports import Clock, Vitals


def tell_process(registry: CollectorRegistry, health: Health) -> None:
    """Which program this is, and whether it leads."""
    Gauge(
        "mapreduce_build_info",
        "Always 1: the version of the operator, and of Python.",
        ["version", "python_version"],
        registry=registry,
    ).labels(__version__, platform.python_version()).set(1)
    Gauge("mapreduce_leader", "1 for the process that leads, 0 for one that follows.", registry=registry).set_function(
        lambda: health.leadership is not None and health.leadership.held
    )
    Gauge(
        "mapreduce_leader_epoch",
        "Number of the leadership of this process, each greater than the one before; 0 before it has led.",
        registry=registry,
    ).set_function(lambda: 0 if health.leadership is None else health.leadership.epoch)


class FleetGauges(Collector):
    """The gauges of a process that leads, over all its jobs. To be collected where nothing changes meanwhile."""

    def __init__(
        self,
        vitals: Callable[[], Iterable[Vitals]],
        queues: Callable[[], Iterable[DeadLetterQueue]],
        clock: Clock,
        *,
        agents_limit: int,
        write_rate: Callable[[], float],
        per_job: bool = False,
    ) -> None:
        """With `per_job`, each job that there is has series of its own beside those of its namespace."""
        self._vitals: Final = vitals
        self._queues: Final = queues
        self._clock: Final = clock
        self._agents_limit: Final = agents_limit
        self._write_rate: Final = write_rate
        self._per_job: Final = per_job

    def collect(self) -> Iterator[GaugeMetricFamily]:
        jobs, queues, now = list(self._vitals()), list(self._queues()), self._clock.now()
        yield GaugeMetricFamily(
            "mapreduce_agents_limit", "Jobs that may be alive at once, over all MapReduceJobs.", self._agents_limit
        )
        yield GaugeMetricFamily(
            "mapreduce_kubernetes_write_rate",
            "Writes per second to the API server that the operator allows itself now; 1000 is no limit.",
            self._write_rate(),
        )
        yield from _by_namespace(jobs, queues, now)
        if self._per_job:
            yield from _by_job(jobs, queues, now)


def _by_namespace(jobs: list[Vitals], queues: list[DeadLetterQueue], now: float) -> Iterator[GaugeMetricFamily]:
    phases, items, agents = _Tally(Phase), _Tally(ItemState), Counter[str]()
    hindered, breakers, letters = _Tally(), _Tally(BreakerState), _Tally(LetterState)
    age, idle = defaultdict[str, float](float), defaultdict[str, float](float)
    for job in jobs:
        namespace = job.run.namespace
        phases.add(namespace, job.phase)
        if job.status is not None and (reason := hindrance_in(job.status)) is not None:
            hindered.add(namespace, reason)
        if job.phase in FINAL_PHASES:
            continue
        age[namespace] = max(age[namespace], _since(job.unsaved_since, now))
        idle[namespace] = max(idle[namespace], _since(job.idle_since, now))
        agents[namespace] += job.agents
        for state, number in _items(job):
            items.add(namespace, state, number)
        if job.status is not None and job.status.breaker is not None:
            breakers.add(namespace, job.status.breaker.state)
    for queue in queues:
        for letter_state, number in _letters(queue):
            letters.add(queue.metadata.namespace, letter_state, number)
    yield phases.family("jobs", "Jobs, by where they are.", "phase")
    yield items.family("items", "Items of the jobs that are not finished, by where they are.", "state")
    yield _family("agents", "Jobs of agents that are alive, or are being started.", agents)
    yield letters.family("dead_letters", "Dead letters, by where they are.", "state")
    yield hindered.family("jobs_hindered", "Jobs that something keeps from going on, by the reason.", "reason")
    yield breakers.family("breakers", "Jobs with a circuit breaker that are not finished, by its state.", "state")
    yield _family(
        "checkpoint_age_seconds",
        "How long something has waited to become durable: the longest of all jobs; 0 where nothing waits.",
        age,
    )
    yield _family(
        "idle_seconds",
        "Since when no item was started or came to an end, of the job for which that is longest and of which no agent "
        "is known to run; 0 where all go on. Jobs that are suspended, or whose maxParallel is 0, do not count.",
        idle,
    )


def _by_job(jobs: list[Vitals], queues: list[DeadLetterQueue], now: float) -> Iterator[GaugeMetricFamily]:
    def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"mapreduce_job_{name}", text, labels=("namespace", "job", *labels))

    items = family("items", "Items of the job, by where they are.", "state")
    agents = family("agents", "Jobs of agents that are alive, or are being started.")
    letters = family("dead_letters", "Dead letters of the job, by where they are.", "state")
    age = family("checkpoint_age_seconds", "How long something has waited to become durable; 0 where nothing waits.")
    breaker = family("breaker_state", "1 for the state of the job's circuit breaker.", "state")
    phase = family("phase", "1 for where the job is.", "phase")
    failures = family(
        "failures", "Dispatches that did not succeed, by the reason, as the status counts them.", "reason"
    )
    for job in jobs:
        name = (job.run.namespace, job.run.name)
        phase.add_metric((*name, job.phase), 1)
        agents.add_metric(name, job.agents)
        age.add_metric(name, _since(job.unsaved_since, now))
        for state, number in _items(job):
            items.add_metric((*name, state), number)
        for reason, number in (job.status.failures_by_reason if job.status is not None else {}).items():
            failures.add_metric((*name, reason), number)
        for breaker_state, number in _breaker(job):
            breaker.add_metric((*name, breaker_state), number)
    there = {job.run.uid for job in jobs}
    for queue in queues:
        if queue.spec.job_ref.uid in there:
            for letter_state, number in _letters(queue):
                letters.add_metric((queue.metadata.namespace, queue.spec.job_ref.name, letter_state), number)
    yield from (items, agents, letters, age, breaker, phase, failures)


class _Tally:
    """Numbers by namespace and one more label, of which a namespace that has any has all, if they are known."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._known: Final = tuple(known)
        self._numbers: Final[dict[str, Counter[str]]] = {}

    def add(self, namespace: str, value: str, number: int = 1) -> None:
        counts = self._numbers.setdefault(namespace, Counter(dict.fromkeys(self._known, 0)))
        counts[value] += number

    def family(self, name: str, text: str, label: str) -> GaugeMetricFamily:
        family = GaugeMetricFamily(f"mapreduce_{name}", text, labels=("namespace", label))
        for namespace, counts in self._numbers.items():
            for value, number in counts.items():
                family.add_metric((namespace, value), number)
        return family


def _family(name: str, text: str, values: dict[str, int] | dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"mapreduce_{name}", text, labels=("namespace",))
    for namespace, value in values.items():
        family.add_metric((namespace,), value)
    return family


def _since(moment: float | None, now: float) -> float:
    return 0.0 if moment is None else max(0.0, now - moment)


def _items(job: Vitals) -> Iterator[tuple[ItemState, int]]:
    counts = job.status.items if job.status is not None else None
    if counts is not None:
        yield from ((state, getattr(counts, state.name.lower())) for state in ItemState)


def _letters(queue: DeadLetterQueue) -> Iterator[tuple[LetterState, int]]:
    counts = queue.status.letters if queue.status is not None else None
    if counts is not None:
        yield from ((state, getattr(counts, state.name.lower())) for state in LetterState)


def _breaker(job: Vitals) -> Iterator[tuple[BreakerState, int]]:
    breaker = job.status.breaker if job.status is not None else None
    if breaker is not None:
        yield from ((state, int(breaker.state is state)) for state in BreakerState)
