"""A run: everything that is decided about one MapReduceJob, as a state and the effects that follow from it.

The engine tells what happened (`observe_pod`, `started`, `committed`, …) and asks `decide` what to do next. Nothing
here waits, reads a clock or does anything, so that every race, retry and crash can be replayed.

Two kinds of truth live side by side: the ledgers know what has happened, `committed_*` what is durable. Jobs are
deleted and the status speaks only by the second.
"""

from collections.abc import Iterator
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
    FindPod,
    FindVanished,
    Launch,
    PrepareReduce,
    RemovePod,
)
from mapreduce_operator.core.failures import MEANINGS, end_of, outcome_of_job, outcome_of_pod
from mapreduce_operator.core.items import Ended, Item, Refused, Started
from mapreduce_operator.core.journal import CommitReason, Record, Segment, Start
from mapreduce_operator.core.ledger import Ledger
from mapreduce_operator.core.names import RunRef, Stage, item_key, job_name
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import FINAL_PHASES, NEXT, Turn, after_map, after_reduce
from mapreduce_operator.core.sightings import Sightings
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.tally import Tally
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen

VANISHED_SECONDS: Final = 60.0
"""How often Jobs of which nothing is known are asked for."""
MAX_UNCOMMITTED: Final = 500
"""Outcomes that may wait for storage before dispatching pauses; their Jobs stay, so nothing is lost meanwhile."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit makes durable.

    Nothing in it changes when storage is asked again: a write whose answer was lost is known again by its bytes.
    """

    reason: CommitReason
    at: float
    turn: Turn
    starts: tuple[Start, ...]
    records: tuple[Record, ...]
    snapshot: Snapshot | None


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
        self.starts: list[Start] = []
        self.uncommitted: list[Record] = []
        self.uncommitted_since = 0.0
        self.commit_in_flight = False
        self.tally = Tally()
        self.reduce_ready = False
        self._stale_events = 0
        self._spec = spec
        self._last_reduce = spec.reduce
        self.templates: Final = Templates(ref, spec)
        self._preparing_reduce = False
        self._announced: set[Reason] = set()
        self._sightings: Final = Sightings()
        self._vanished_due: float | None = None

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
        moments = [] if (due := self._sightings.next_due()) is None else [due]
        if self.active and self._vanished_due is not None:
            moments.append(self._vanished_due)
        if (trial := self.templates.next_trial()) is not None:
            moments.append(trial)
        if not self._spec.suspend:
            moments += [at for ledger in self.ledgers.values() if (at := ledger.next_release()) is not None]
        if (self.uncommitted or self.starts) and not self.commit_in_flight:
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

    def started(self, stage: Stage, position: int, dispatch: int, job_uid: str, now: float) -> bool:
        """The Job of a dispatch exists. False when the item is not at that dispatch, or in another Job's hands."""
        ledger = self.ledgers[stage]
        if ledger[position].job_uid != job_uid or not self._sightings.is_carrying(job_uid):
            if ledger.apply(position, Started(dispatch, job_uid), self._retry(stage), now) is None:
                return False
            key = ledger.key(position)
            self._sightings.carries(job_uid, job_name(self.ref, key, dispatch))
            self._since(now)
            self.starts.append(Start(stage, key, dispatch, job_uid))
        return True

    def awaits_job(self, stage: Stage, position: int, dispatch: int) -> bool:
        """The dispatch is being launched, nothing has been seen of its Job, and the spec still lets it start."""
        ledger = self.ledgers[stage]
        item = ledger[position]
        if item.state is not ItemState.RUNNING or item.dispatch != dispatch or item.job_uid:
            return False
        fits = stage is Stage.REDUCE or ledger.running <= self._spec.map.max_parallel
        return fits and self._may_dispatch()

    def refused(self, stage: Stage, position: int, dispatch: int) -> None:
        """The Job of a dispatch does not exist and will not; its number is used again."""
        self.ledgers[stage].apply(position, Refused(dispatch), self._retry(stage), 0.0)

    def observe_job(self, job: JobSeen, deleted: bool, now: float) -> list[Effect]:
        """A Job changed. Only its end without its pod's matters here; pods tell the rest."""
        if self._sightings.is_settled(job.uid):
            if deleted:
                self._sightings.gone(job.uid, "job")
            return []
        if not self._adopt(job.carried, job.uid, now):
            # One whose outcome is durable was about to be deleted when an earlier operator died.
            delete = self._is_over(job) and not deleted and not job.deleting
            return [DeleteJob(job.name, job.uid)] if delete else []
        if deleted or job.finished:
            self._sightings.ended(job, now, deleted=deleted)
        return []

    def observe_pod(self, pod: PodSeen, rule: ResultRule, now: float) -> list[Effect]:
        """A pod changed; one that ended becomes an outcome."""
        if self._sightings.is_settled(pod.job_uid):
            if pod.gone:
                self._sightings.gone(pod.job_uid, "pod")
            return []
        if not pod.job_uid:
            return []
        if not pod.ended:
            # Its Job may have been deleted, under the eyes of nobody who could have recorded its start.
            if self._adopt(pod.carried, pod.job_uid, now):
                self._sightings.lives(pod, now)
            return []
        return self._settle(outcome_of_pod(pod, rule, now), now, still_to_go=_JOB if pod.gone else _JOB_AND_POD)

    def no_pod(self, job: JobSeen, now: float) -> list[Effect]:
        """The pod of a Job that ended or vanished is gone as well, and nobody has seen how it ended."""
        if not self._sightings.is_carrying(job.uid):
            return []
        return self._settle(outcome_of_job(job, job.carried.dispatches[0], now), now, still_to_go=_JOB)

    def begin_commit(self, reason: CommitReason, now: float, *, with_snapshot: bool = False) -> Batch:
        """Everything that is not durable yet; what comes after is in the next batch."""
        self.commit_in_flight = True
        snapshot = self._snapshot() if with_snapshot else None
        return Batch(reason, now, self.turn, tuple(self.starts), tuple(self.uncommitted), snapshot)

    def committed(self, batch: Batch, now: float) -> list[Effect]:
        """A batch is durable: its Jobs may go, and the status may say so."""
        self.commit_in_flight = False
        del self.starts[: len(batch.starts)]
        del self.uncommitted[: len(batch.records)]
        self.uncommitted_since = now
        before, self.committed_turn = self.committed_turn, batch.turn
        effects: list[Effect] = []
        for record in batch.records:
            position = self._position(record.outcome)
            self.tally = self.tally.with_record(record, position)
            self.ledgers[record.outcome.stage].enqueue(position)
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

    def _snapshot(self) -> Snapshot:
        """As the run will be read back once everything that is not durable yet is."""
        tally = self.tally
        for record in self.uncommitted:
            tally = tally.with_record(record, self._position(record.outcome))
        items = {stage: list(_durable(ledger)) for stage, ledger in self.ledgers.items()}
        return Snapshot(items, tally, frozenset(self._announced))

    # --------------------------------------------------------------------------------------------------- coming back

    def restore(self, snapshot: Snapshot) -> None:
        """Brings a run back as of a snapshot, before the segments that came after it are replayed."""
        self.tally = snapshot.tally
        self._announced.update(snapshot.announced)
        for stage, items in snapshot.items.items():
            for position, item in items:
                self.ledgers[stage].restore(position, item)

    def replay(self, segment: Segment) -> None:
        """Brings back what one commit made durable; segments come in their order."""
        for start in segment.header.starts:
            ledger, position = self.ledgers[start.stage], self._position_of(start.stage, start.key)
            runs = replace(ledger[position], state=ItemState.RUNNING, job_uid=start.job_uid, not_before=0.0)
            ledger.restore(position, runs)
        for record in segment.records:
            position = self._position(record.outcome)
            self.ledgers[record.outcome.stage].restore(position, record.item)
            self.tally = self.tally.with_record(record, position)
            if record.outcome.reason is not None:
                self._announced.add(record.outcome.reason)

    def resume(self, now: float) -> None:
        """The past is told. Some of the Jobs that carried running dispatches when it ended may be gone by now."""
        for stage, ledger in self.ledgers.items():
            # Written by a clock that was ahead, a wait could last for ever.
            latest = now + self._retry(stage).backoff.max_seconds
            for position in ledger.in_state(ItemState.RETRY_WAIT):
                if ledger[position].not_before > latest:
                    ledger.restore(position, replace(ledger[position], not_before=latest))
        for job in self.carrying():
            self._sightings.carries(job.uid, job.name)
        self._vanished_due = now

    def carrying(self) -> list[JobSeen]:
        """The Jobs that carry running dispatches, as far as they are known without having been seen."""
        return [
            JobSeen(
                self.ref.namespace,
                job_name(self.ref, ledger.key(position), ledger[position].dispatch),
                ledger[position].job_uid,
                self.ref.uid,
                Carried(self.ref.uid, stage, (Dispatch(ledger.key(position), ledger[position].dispatch),), revision=""),
            )
            for stage, ledger in self.ledgers.items()
            for position in ledger.in_state(ItemState.RUNNING)
            if ledger[position].job_uid
        ]

    # ------------------------------------------------------------------------------------------------ what to do

    def decide(self, now: float) -> list[Effect]:
        """What follows from the state, but for new Jobs: ask `launch` for these next, and `commit_if_due` at last."""
        effects: list[Effect] = [FindPod(job) for job in self._sightings.take_orphans(now)]
        if self._vanished_due is not None and now >= self._vanished_due:
            self._vanished_due = now + VANISHED_SECONDS
            effects += [FindVanished()] if self.active else []
        effects += [RemovePod(pod.name, pod.uid) for pod in self._sightings.take_lost(now)]
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
        if not self.uncommitted and not self.starts:
            return []
        if len(self.uncommitted) >= self._spec.checkpoint.every_items:
            return [Commit(CommitReason.ITEMS)]
        if now >= self.uncommitted_since + self._spec.checkpoint.every_seconds:
            return [Commit(CommitReason.TIME)]
        return [Commit(CommitReason.IDLE)] if self.active == 0 or self._spec.suspend else []

    def _may_dispatch(self) -> bool:
        if self._spec.suspend or self.phase is not self.committed_turn.phase or self.phase in FINAL_PHASES:
            return False
        return len(self.uncommitted) <= MAX_UNCOMMITTED and self.templates.good

    def _interrupt(self) -> list[Effect]:
        effects: list[Effect] = []
        # One that is not known to have been started, by whoever comes next, must not vanish.
        unrecorded = {start.job_uid for start in self.starts}
        for ledger in self.ledgers.values():
            for position in ledger.in_state(ItemState.RUNNING):
                uid = ledger[position].job_uid
                if uid and uid not in unrecorded and (name := self._sightings.interrupt(uid)) is not None:
                    effects.append(DeleteJob(name, uid))
        return effects

    def _settle(self, outcome: Outcome, now: float, *, still_to_go: frozenset[str]) -> list[Effect]:
        if outcome.verdict is Verdict.INTERRUPTED and self._sightings.is_interrupting(outcome.job_uid):
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
        self._since(now)
        self.uncommitted.append(Record(outcome, item))
        self._sightings.settle(outcome.job_uid, still_to_go)
        return self._announce_first(outcome, position)

    def _since(self, now: float) -> None:
        """Something is not durable yet, since now or longer."""
        if not self.uncommitted and not self.starts:
            self.uncommitted_since = now

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
        return self._position_of(outcome.stage, outcome.dispatch.item_key)

    def _position_of(self, stage: Stage, key: str) -> int:
        """Position of an item that is known to be of this run."""
        position = self.ledgers[stage].position(key)
        if position is None:
            raise KeyError(f"no item of {self.ref.namespace}/{self.ref.name} has the key {key}")
        return position

    def _adopt(self, carried: Carried, job_uid: str, now: float) -> bool:
        """Takes over a Job that an earlier operator left behind, or whose creation seemed to have failed.

        False when it does not carry the item's present dispatch.
        """
        if self._sightings.is_carrying(job_uid):
            return True
        dispatch = carried.dispatches[0]
        position = self.ledgers[carried.stage].position(dispatch.item_key)
        return position is not None and self.started(carried.stage, position, dispatch.number, job_uid, now)

    def _is_over(self, job: JobSeen) -> bool:
        """The dispatch of the Job has a durable outcome.

        A Job ahead of what is known is left alone: an item runs again only after the outcome before is durable, so
        that it would mean that records are missing.
        """
        ledger, dispatch = self.ledgers[job.carried.stage], job.carried.dispatches[0]
        position = ledger.position(dispatch.item_key)
        if position is None:
            return False
        # The dispatch that ended last is over when its outcome is durable, those before it are.
        waiting = 0 if ledger.is_settled(position) else 1
        return dispatch.number < ledger[position].dispatch - waiting


def _durable(ledger: Ledger) -> Iterator[tuple[int, Item]]:
    """What is to be read back of the items; one whose Job is just being created was never started."""
    for position, item in ledger.changed():
        if item.state is not ItemState.RUNNING or item.job_uid:
            yield position, item
        elif item.dispatch > 1:
            yield position, replace(item, state=ItemState.PENDING)


_JOB: Final = frozenset({"job"})
_JOB_AND_POD: Final = frozenset({"job", "pod"})
_PHASE_EVENTS: Final = {
    Phase.REDUCE: "ReduceStarted",
    Phase.SUCCEEDED: "Succeeded",
    Phase.PARTIALLY_SUCCEEDED: "PartiallySucceeded",
    Phase.FAILED: "Failed",
}
