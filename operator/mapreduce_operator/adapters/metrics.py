"""The Metrics port on top of prometheus-client: what a process counts.

Labels are of closed or bounded sets: namespaces, states, reasons, verbs; never the name of a job, never an item. What
is so at the moment, and is not counted, stands in gauges.py.
"""

import asyncio
from itertools import product
from typing import Final, NoReturn

from prometheus_client import CollectorRegistry, Counter, Histogram

from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.items import FINAL_STATES
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.run import RunState

_AGENT: Final = (1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
_START: Final = (0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1800)
_JOB: Final = (10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 43200, 86400, 259200, 604800)
_STEP: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_REQUEST: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_CHECKPOINT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_BYTES: Final = (1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_LAG_SECONDS: Final = 0.5
"""How often the event loop is asked how late it is."""


class PrometheusMetrics:
    """Counters and histograms of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"mapreduce_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mapreduce_{name}", text, labels, buckets=buckets, registry=registry)

        self._items: Final = counter(
            "items_total",
            "Items of the map that came to an end; one that is run again, by a Redrive or a restart, counts again.",
            *("namespace", "outcome"),
        )
        self._attempts: Final = counter(
            "item_attempts_total",
            "Dispatches that ended by the agent's own doing: by success, or why not.",
            *("namespace", "reason"),
        )
        self._retries: Final = counter(
            "item_retries_total",
            "Attempts after which the item was given another one, by why they failed.",
            *("namespace", "reason"),
        )
        self._interruptions: Final = counter(
            "item_interruptions_total",
            "Dispatches that ended by somebody else's doing.",
            *("namespace", "reason"),
        )
        self._letters_added: Final = counter(
            "dead_letters_added_total",
            "Items that became dead letters, also those that do so again after a Redrive.",
            *("namespace", "reason"),
        )
        self._letters_resolved: Final = counter(
            "dead_letters_resolved_total", "Dead letters whose items have succeeded since.", "namespace"
        )
        self._jobs: Final = counter(
            "jobs_finished_total",
            "Jobs that came to their end; one that is reopened counts again.",
            *("namespace", "phase"),
        )
        self._checkpoints: Final = counter(
            "checkpoints_total",
            "Checkpoints that were written, and tries that failed, by what gave rise to them.",
            *("reason", "result"),
        )
        for labels in product(CommitReason, ("success", "failure")):
            self._checkpoints.labels(*labels)
        self._fallbacks: Final = counter(
            "checkpoint_fallbacks_total",
            "Loads of a run that had to do without something damaged: a checkpoint, a snapshot or outcomes.",
        )
        self._stale: Final = counter("stale_events_total", "Events of old dispatches that were ignored.")
        self._crashes: Final = counter(
            "run_crashes_total", "Runs that ended by an unexpected exception and were started anew."
        )
        self._kubernetes: Final = counter(
            "kubernetes_requests_total",
            "Requests to the API server, by their HTTP status; error: there was no answer.",
            *("verb", "resource", "code"),
        )
        self._storage: Final = counter(
            "storage_requests_total", "Operations on storage, by what came of them.", *("operation", "result")
        )
        self._item_seconds: Final = histogram(
            "item_duration_seconds", "How long agents ran.", _AGENT, *("namespace", "outcome")
        )
        self._start_seconds: Final = histogram(
            "item_start_seconds",
            "From the creation of a dispatch's Job to the start of its agent.",
            _START,
            "namespace",
        )
        self._job_seconds: Final = histogram(
            "job_duration_seconds", "How long jobs took, from when they began or were reopened.", _JOB, "phase"
        )
        self._checkpoint_seconds: Final = histogram(
            "checkpoint_duration_seconds",
            "How long it took until a checkpoint was written, by what gave rise to it; failed tries included.",
            _CHECKPOINT,
            "reason",
        )
        self._checkpoint_bytes: Final = histogram(
            "checkpoint_size_bytes", "What was written for a checkpoint: its segment, and sometimes a snapshot.", _BYTES
        )
        self._step_seconds: Final = histogram(
            "reconcile_duration_seconds", "How long one step of a run took, from its news to what follows.", _STEP
        )
        self._kubernetes_seconds: Final = histogram(
            "kubernetes_request_duration_seconds",
            "Until the answer of the API server began.",
            _REQUEST,
            *("verb", "resource"),
        )
        self._storage_seconds: Final = histogram(
            "storage_request_duration_seconds", "How long operations on storage took.", _REQUEST, "operation"
        )
        self._lag: Final = histogram("event_loop_lag_seconds", "How late the event loop came to what was due.", _STEP)

    # ---------------------------------------------------------------------------------------------------- the port

    def expects(self, namespace: str) -> None:
        # To rates, a series that begins with 1 has never grown.
        for state in FINAL_STATES:
            self._items.labels(namespace, state)
        for reason in Reason:
            self._letters_added.labels(namespace, reason)
        self._letters_resolved.labels(namespace)
        for phase in FINAL_PHASES:
            self._jobs.labels(namespace, phase)

    def committed(self, run: RunState, batch: Batch, seconds: float, size: int) -> None:
        namespace = run.ref.namespace
        for record in batch.records:
            self._dispatch(namespace, record)
            if record.outcome.stage is Stage.MAP and record.item.final:
                self._item(run, record)
        self._items.labels(namespace, ItemState.SKIPPED).inc(len(batch.left_out))
        self.checkpointed(batch.reason, seconds, size)
        if batch.turn.phase in FINAL_PHASES and run.committed_turn.phase not in FINAL_PHASES:
            self._jobs.labels(namespace, batch.turn.phase).inc()
            self._job_seconds.labels(batch.turn.phase).observe(batch.at - batch.opened_at)

    def _dispatch(self, namespace: str, record: Record) -> None:
        outcome = record.outcome
        reason = outcome.reason or Verdict.SUCCEEDED.value
        if outcome.verdict is Verdict.INTERRUPTED:
            self._interruptions.labels(namespace, reason).inc()
        else:
            self._attempts.labels(namespace, reason).inc()
            if not record.item.final:
                self._retries.labels(namespace, reason).inc()
        if outcome.started_at:
            self._item_seconds.labels(namespace, outcome.verdict).observe(outcome.ended_at - outcome.started_at)

    def _item(self, run: RunState, record: Record) -> None:
        namespace, outcome = run.ref.namespace, record.outcome
        self._items.labels(namespace, record.item.state).inc()
        if record.item.state is ItemState.DEAD_LETTERED:
            self._letters_added.labels(namespace, outcome.reason or "").inc()
        elif run.dead_letters.get(run.books.position_of(outcome)) is not None:
            self._letters_resolved.labels(namespace).inc()

    def checkpointed(self, reason: str, seconds: float, size: int) -> None:
        self._checkpoints.labels(reason, "success").inc()
        self._checkpoint_seconds.labels(reason).observe(seconds)
        self._checkpoint_bytes.observe(size)

    def commit_failed(self, reason: str) -> None:
        self._checkpoints.labels(reason, "failure").inc()

    def fell_back(self) -> None:
        self._fallbacks.inc()

    def agent_started(self, namespace: str, seconds: float) -> None:
        self._start_seconds.labels(namespace).observe(seconds)

    def stepped(self, seconds: float) -> None:
        self._step_seconds.observe(seconds)

    def stale_events(self, number: int) -> None:
        self._stale.inc(number)

    def run_crashed(self) -> None:
        self._crashes.inc()

    # ------------------------------------------------------------------------------------------- of other adapters

    def kubernetes_request(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """A request was answered, or failed: then its code is "error"."""
        self._kubernetes.labels(verb, resource, code).inc()
        self._kubernetes_seconds.labels(verb, resource).observe(seconds)

    def storage_request(self, operation: str, result: str, seconds: float) -> None:
        """An operation on storage came to its end."""
        self._storage.labels(operation, result).inc()
        self._storage_seconds.labels(operation).observe(seconds)

    async def watch_loop(self) -> NoReturn:
        """Measures, until it is cancelled, how late the event loop is."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self._lag.observe(loop.time() - due)
