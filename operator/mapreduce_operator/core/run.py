"""A run: everything that is decided about one MapReduceJob, as a state and the effects that follow from it.

The engine tells what happened (`observe_pod`, `started`, `committed`, …) and asks `decide` what to do next. Nothing
here waits, reads a clock or does anything, so that every race, retry and crash can be replayed.

Two kinds of truth live side by side: the ledgers know what has happened, `committed_*` what is durable. Jobs are
deleted and the status speaks only by the second.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from mapreduce_operator.api import (
    ItemState,
    MapReduceJobSpec,
    Phase,
    Reason,
    Retry,
    SuspendPolicy,
    Work,
)
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.effects import (
    Announce,
    Commit,
    DeleteJob,
    Effect,
    Launch,
    PrepareReduce,
)
from mapreduce_operator.core.failures import MEANINGS, end_of, outcome_of_job, outcome_of_pod
from mapreduce_operator.core.items import Ended, Refused, Started
from mapreduce_operator.core.journal import CommitReason, Record
from mapreduce_operator.core.ledger import Ledger
from mapreduce_operator.core.names import RunRef, Stage, item_key
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import FINAL_PHASES, NEXT, Turn, after_map, after_reduce
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.workloads import Dispatch, JobSeen, PodSeen

SAMPLE_CHARACTERS: Final = 256
"""What the status shows of a failure's message."""
POD_GRACE_SECONDS: Final = 5.0
"""Jobs and pods come by two streams: so long a Job that ended waits for its pod's own account."""
MAX_UNCOMMITTED: Final = 500
"""Outcomes that may wait for storage before dispatching pauses; their Jobs stay, so nothing is lost meanwhile."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a reason was seen in committed attempts, with the first item as a sample."""

    count: int
    position: int
    message: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit makes durable."""

    reason: CommitReason
    turn: Turn
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class _Orphan:
    """A Job that ended or vanished and whose pod has not been seen to end."""

    job: JobSeen
    due: float


class RunState:
    """The state of one run from its plan to its end."""

    def __init__(self, ref: RunRef, spec: MapReduceJobSpec, keys: list[str], turn: Turn) -> None:
        self.ref: Final = ref
        self.ledgers: Final = {
            Stage.MAP: Ledger(keys),
            Stage.REDUCE: Ledger([item_key(ref.uid, Stage.REDUCE, "reduce")]),
        }
        self.turn = turn
        self.committed_turn = turn
        self.uncommitted: list[Record] = []
        self.uncommitted_since = 0.0
        self.commit_in_flight = False
        self.failures: dict[Reason, FailureCount] = {}
        self.reduce_result: bytes | None = None
        self.reduce_message = ""
        self.reduce_ready = False
        self._stale_events = 0
        self._spec = spec
        self._last_reduce = spec.reduce
        self.templates: Final = Templates(ref, spec)
        self._preparing_reduce = False
        self._announced: set[Reason] = set()
        self._live_pods: set[str] = set()
        self._orphans: dict[str, _Orphan] = {}
        self._jobs: dict[str, str] = {}
        self._interrupting: set[str] = set()
        # Job and pod of a dispatch whose outcome is known are told of until they are gone; that is no news.
        self._settled: dict[str, set[str]] = {}

    # ------------------------------------------------------------------------------------------------ what is so

    @property
    def spec(self) -> MapReduceJobSpec:
        return self._spec

    @property
    def phase(self) -> Phase:
        return self.turn.phase

    @property
    def finished(self) -> bool:
        """The end of the run is durable and no Job of it is left to delete."""
        return self.committed_turn.phase in FINAL_PHASES and not self.uncommitted

    @property
    def active(self) -> int:
        """Jobs whose agents run or are being started."""
        return sum(ledger.running for ledger in self.ledgers.values())

    def take_stale(self) -> int:
        """How many events did not apply since this was asked last."""
        stale, self._stale_events = self._stale_events, 0
        return stale

    def work(self, stage: Stage) -> Work | None:
        """What a stage runs, or None for a job without reduce."""
        return self._spec.map if stage is Stage.MAP else self._spec.reduce

    def _retry(self, stage: Stage) -> Retry:
        """The retry policy of a stage. A reduce that was taken out of the spec while it runs is judged by its own."""
        return (self.work(stage) or self._last_reduce or self._spec.map).retry

    def wanted(self) -> int:
        """Jobs that the run would start now if the operator's own cap allowed it."""
        if not self._may_dispatch():
            return 0
        if self.phase is Phase.REDUCE:
            return self.ledgers[Stage.REDUCE].ready if self.reduce_ready and self._spec.reduce else 0
        ledger = self.ledgers[Stage.MAP]
        return max(0, min(ledger.ready, self._spec.map.max_parallel - ledger.running))

    def next_wake(self, now: float) -> float | None:
        """When `decide` has something to do even if nothing happens, in seconds since the epoch."""
        moments = [orphan.due for orphan in self._orphans.values()]
        if (trial := self.templates.next_trial()) is not None:
            moments.append(trial)
        if not self._spec.suspend:
            moments += [at for ledger in self.ledgers.values() if (at := ledger.next_release()) is not None]
        if self.uncommitted and not self.commit_in_flight:
            moments.append(self.uncommitted_since + self._spec.checkpoint.every_seconds)
        return max(min(moments), now) if moments else None

    # --------------------------------------------------------------------------------------------- what happened

    def respec(self, spec: MapReduceJobSpec) -> None:
        """The user changed the spec: it serves all decisions from now on."""
        self._spec = spec
        self._last_reduce = spec.reduce or self._last_reduce
        self.templates.respec(spec)

    def reduce_prepared(self) -> None:
        self._preparing_reduce = False
        self.reduce_ready = True

    def reduce_impossible(self, message: str) -> None:
        """The results cannot be handed to reduce; the run ends, and keeps them."""
        self._preparing_reduce = False
        if self.phase is Phase.REDUCE:
            self._turn_to(Turn(Phase.FAILED, "ResultsTooLarge", message))

    def started(self, stage: Stage, position: int, dispatch: int, job_name: str, job_uid: str) -> None:
        """The Job of a dispatch exists."""
        if self.ledgers[stage].apply(position, Started(dispatch, job_uid), self._retry(stage), 0.0) is not None:
            self._jobs[job_uid] = job_name

    def refused(self, stage: Stage, position: int, dispatch: int) -> None:
        """The Job of a dispatch does not exist and will not; its number is used again."""
        self.ledgers[stage].apply(position, Refused(dispatch), self._retry(stage), 0.0)

    def observe_job(self, job: JobSeen, deleted: bool, now: float) -> list[Effect]:
        """A Job changed. Only its end without its pod's matters here; pods tell the rest."""
        if job.uid in self._settled:
            if deleted:
                self._forget(job.uid, "job")
            return []
        if job.uid not in self._jobs and not self._adopt(job):
            # One whose outcome is durable was about to be deleted when an earlier operator died.
            delete = self._is_over(job) and not deleted and not job.deleting
            return [DeleteJob(job.name, job.uid)] if delete else []
        if (deleted or job.finished) and job.uid not in self._orphans:
            self._orphans[job.uid] = _Orphan(job, now + POD_GRACE_SECONDS)
        return []

    def observe_pod(self, pod: PodSeen, rule: ResultRule, now: float) -> list[Effect]:
        """A pod changed; one that ended becomes an outcome."""
        if pod.job_uid in self._settled:
            if pod.gone:
                self._forget(pod.job_uid, "pod")
            return []
        if not pod.job_uid:
            return []
        if not pod.ended:
            self._live_pods.add(pod.job_uid)
            return []
        return self._settle(outcome_of_pod(pod, rule, now), now, still_to_go={"job"} if pod.gone else {"job", "pod"})

    def begin_commit(self, reason: CommitReason) -> Batch:
        """Everything that is not durable yet; what comes after is in the next batch."""
        self.commit_in_flight = True
        return Batch(reason, self.turn, tuple(self.uncommitted))

    def committed(self, batch: Batch, now: float) -> list[Effect]:
        """A batch is durable: its Jobs may go, and the status may say so."""
        self.commit_in_flight = False
        del self.uncommitted[: len(batch.records)]
        self.uncommitted_since = now
        before, self.committed_turn = self.committed_turn, batch.turn
        effects: list[Effect] = []
        for record in batch.records:
            self.count(record)
            self.ledgers[record.outcome.stage].enqueue(self._position(record.outcome))
            if record.outcome.job:
                effects.append(DeleteJob(record.outcome.job, record.outcome.job_uid))
        if before.phase is not batch.turn.phase:
            effects.append(
                Announce(
                    "Warning" if batch.turn.phase is Phase.FAILED else "Normal",
                    _PHASE_EVENTS[batch.turn.phase],
                    batch.turn.message,
                )
            )
        return effects

    def replay(self, records: Iterable[Record]) -> None:
        """Brings committed outcomes back, in their order."""
        for record in records:
            self.ledgers[record.outcome.stage].restore(self._position(record.outcome), record.item)
            self.count(record)

    def count(self, record: Record) -> None:
        """Takes a committed record into what the status shows."""
        outcome = record.outcome
        if outcome.stage is Stage.REDUCE:
            self.reduce_result = outcome.result
            self.reduce_message = outcome.message
            return
        reason = (
            outcome.reason if outcome.verdict is Verdict.FAILED else record.item.reason if record.item.final else None
        )
        if reason is not None:
            known = self.failures.get(reason)
            position = self._position(outcome)
            self.failures[reason] = (
                replace(known, count=known.count + 1)
                if known
                else FailureCount(1, position, end_of(outcome.message, SAMPLE_CHARACTERS))
            )

    # ------------------------------------------------------------------------------------------------ what to do

    def decide(self, now: float) -> list[Effect]:
        """What follows from the state, but for new Jobs: ask `launch` for these next, and `commit_if_due` at last."""
        effects = self._settle_orphans(now)
        if self.phase not in FINAL_PHASES:
            effects += self.templates.try_out(now)
        if self._spec.suspend and self._spec.suspend_policy is SuspendPolicy.INTERRUPT:
            effects += self._interrupt()
        self._turn_if_done()
        for stage, ledger in self.ledgers.items():
            ledger.release(self._retry(stage), now)
        unprepared = not self.reduce_ready and not self._preparing_reduce
        if self.phase is Phase.REDUCE and self.committed_turn.phase is Phase.REDUCE and unprepared:
            self._preparing_reduce = True
            effects.append(PrepareReduce())
        return effects

    def launch(self, granted: int, now: float) -> list[Effect]:
        """Starts items, at most as many as the operator's own cap allows."""
        stage = Stage.REDUCE if self.phase is Phase.REDUCE else Stage.MAP
        ledger = self.ledgers[stage]
        effects: list[Effect] = []
        for _ in range(min(granted, self.wanted())):
            position = ledger.dispatch_next(self._retry(stage), now)
            if position is None:
                break
            item = ledger[position]
            effects.append(Launch(stage, position, Dispatch(ledger.key(position), item.dispatch), item.attempts + 1))
        return effects

    def commit_if_due(self, now: float) -> list[Effect]:
        """After what comes first: a change of phase, enough outcomes, enough time, or nothing else to do."""
        if self.commit_in_flight:
            return []
        if self.turn.phase is not self.committed_turn.phase:
            return [Commit(CommitReason.PHASE_CHANGE)]
        if not self.uncommitted:
            return []
        if len(self.uncommitted) >= self._spec.checkpoint.every_items:
            return [Commit(CommitReason.ITEMS)]
        if now >= self.uncommitted_since + self._spec.checkpoint.every_seconds:
            return [Commit(CommitReason.TIME)]
        return [Commit(CommitReason.IDLE)] if self.active == 0 else []

    def _may_dispatch(self) -> bool:
        if self._spec.suspend or self.phase is not self.committed_turn.phase or self.phase in FINAL_PHASES:
            return False
        return len(self.uncommitted) <= MAX_UNCOMMITTED and self.templates.good

    def _interrupt(self) -> list[Effect]:
        effects: list[Effect] = []
        for ledger in self.ledgers.values():
            for position in ledger.in_state(ItemState.RUNNING):
                uid = ledger[position].job_uid
                if uid and uid not in self._interrupting:
                    self._interrupting.add(uid)
                    effects.append(DeleteJob(self._jobs[uid], uid))
        return effects

    def _settle_orphans(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for uid, orphan in list(self._orphans.items()):
            if orphan.due <= now:
                if uid in self._live_pods:
                    self._orphans[uid] = replace(orphan, due=now + POD_GRACE_SECONDS)
                    continue
                effects += self._settle(
                    outcome_of_job(orphan.job, orphan.job.carried.dispatches[0], now), now, still_to_go={"job"}
                )
        return effects

    def _settle(self, outcome: Outcome, now: float, *, still_to_go: set[str]) -> list[Effect]:
        if outcome.verdict is Verdict.INTERRUPTED and outcome.job_uid in self._interrupting:
            outcome = replace(outcome, reason=Reason.SUSPENDED, message=MEANINGS[Reason.SUSPENDED].hint)
        ledger, retry = self.ledgers[outcome.stage], self._retry(outcome.stage)
        position = ledger.position(outcome.dispatch.item_key)
        if position is None:
            self._stale_events += 1
            return []
        if ledger[position].state is not ItemState.RUNNING:
            # A Job whose creation seemed to have failed may exist all the same.
            ledger.apply(position, Started(outcome.dispatch.number, outcome.job_uid), retry, now)
        item = ledger.apply(position, Ended(outcome), retry, now)
        if item is None:
            self._stale_events += 1
            return []
        if not self.uncommitted:
            self.uncommitted_since = now
        self.uncommitted.append(Record(outcome, item))
        self._orphans.pop(outcome.job_uid, None)
        self._jobs.pop(outcome.job_uid, None)
        self._live_pods.discard(outcome.job_uid)
        self._interrupting.discard(outcome.job_uid)
        self._settled[outcome.job_uid] = still_to_go
        return self._announce_first(outcome, position)

    def _announce_first(self, outcome: Outcome, position: int) -> list[Effect]:
        """One Event for the first failure of each reason: the story of a job, not that of its items."""
        if outcome.reason is None or outcome.reason in self._announced:
            return []
        self._announced.add(outcome.reason)
        what = "reduce" if outcome.stage is Stage.REDUCE else f"item {position}"
        return [
            Announce(
                "Normal" if outcome.verdict is Verdict.INTERRUPTED else "Warning",
                f"First{outcome.reason}",
                f"{what} (Job {outcome.job}): {end_of(outcome.message, 300)} - {MEANINGS[outcome.reason].hint} "
                "Further ones are counted, not announced.",
            )
        ]

    def _turn_if_done(self) -> None:
        counts, reducing = self.ledgers[Stage.MAP].counts, self.ledgers[Stage.REDUCE]
        if self.phase is Phase.MAP and self.ledgers[Stage.MAP].finished:
            self._turn_to(after_map(counts, self._spec))
        elif self.phase is not Phase.REDUCE:
            return
        elif self._spec.reduce is not None and reducing.finished:
            self._turn_to(after_reduce(reducing[0].state is ItemState.SUCCEEDED, counts, self._spec))
        elif self._spec.reduce is None and not reducing.running:
            # It was taken out of the spec: one that runs may end, and decides nothing.
            self._turn_to(after_map(counts, self._spec))

    def _turn_to(self, turn: Turn) -> None:
        if turn.phase not in NEXT[self.phase]:
            raise RuntimeError(f"{self.ref.namespace}/{self.ref.name}: {self.phase} is not followed by {turn.phase}")
        self.turn = turn

    def _position(self, outcome: Outcome) -> int:
        """Position of an item that is known to be of this run."""
        position = self.ledgers[outcome.stage].position(outcome.dispatch.item_key)
        if position is None:
            raise KeyError(f"no item of {self.ref.namespace}/{self.ref.name} has the key {outcome.dispatch.item_key}")
        return position

    def _adopt(self, job: JobSeen) -> bool:
        """Takes over a Job that an earlier operator left behind, or whose creation seemed to have failed.

        False when it does not carry the item's present dispatch.
        """
        ledger, dispatch = self.ledgers[job.carried.stage], job.carried.dispatches[0]
        position = ledger.position(dispatch.item_key)
        if position is None or ledger[position].final or dispatch.number != ledger[position].dispatch:
            return False
        self.started(job.carried.stage, position, dispatch.number, job.name, job.uid)
        return job.uid in self._jobs

    def _is_over(self, job: JobSeen) -> bool:
        """The dispatch of the Job has a durable outcome.

        A Job ahead of what is known is left alone: an item runs again only after the outcome before is durable, so
        that it would mean that records are missing.
        """
        ledger, dispatch = self.ledgers[job.carried.stage], job.carried.dispatches[0]
        position = ledger.position(dispatch.item_key)
        return position is not None and dispatch.number < ledger[position].dispatch

    def _forget(self, job_uid: str, gone: str) -> None:
        """A Job, or the pod of it, is gone; when both are, nothing more is told of them."""
        still_to_go = self._settled[job_uid]
        still_to_go.discard(gone)
        if not still_to_go:
            del self._settled[job_uid]


_PHASE_EVENTS: Final = {
    Phase.REDUCE: "ReduceStarted",
    Phase.SUCCEEDED: "Succeeded",
    Phase.PARTIALLY_SUCCEEDED: "PartiallySucceeded",
    Phase.FAILED: "Failed",
}
