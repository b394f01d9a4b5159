"""The Metrics port on top of prometheus-client. Labels are of closed sets, never names or ids."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class PrometheusMetrics:
    """Counters of one operator process, and whether it leads."""

    def __init__(self, registry: CollectorRegistry, leads: Callable[[], bool]) -> None:
        self._outcomes: Final = Counter(
            "mapreduce_outcomes",
            "Dispatches that ended and whose outcome is durable.",
            ["verdict", "reason"],
            registry=registry,
        )
        self._stale: Final = Counter(
            "mapreduce_stale_events", "Events of old dispatches that were ignored.", registry=registry
        )
        self._commits: Final = Histogram(
            "mapreduce_checkpoint_seconds",
            "Time to write a checkpoint, by what gave rise to it.",
            ["reason"],
            registry=registry,
        )
        self._crashes: Final = Counter(
            "mapreduce_run_crashes",
            "Runs that ended by an unexpected exception and were started anew.",
            registry=registry,
        )

        Gauge(
            "mapreduce_leader", "1 for the process that leads, 0 for one that follows.", registry=registry
        ).set_function(leads)

    def outcome(self, verdict: str, reason: str) -> None:
        self._outcomes.labels(verdict, reason).inc()

    def stale_events(self, number: int) -> None:
        self._stale.inc(number)

    def commit(self, reason: str, seconds: float) -> None:
        self._commits.labels(reason).observe(seconds)

    def run_crashed(self) -> None:
        self._crashes.inc()
