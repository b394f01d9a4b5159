"""A run: everything that is decided about one MapReduceJob, as a state and the effects that follow from it.

The engine tells what happened (`observe_pod`, `started`, `committed`, …) and asks `decide` what to do next. Nothing
here waits, reads a clock or does anything, so that every race, retry and crash can be replayed.

Two kinds of truth live side by side: the ledgers know what has happened, `committed_*` what is durable. Jobs are
deleted and the status speaks only by the second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from mapreduce_operator.api import (
    BreakerState,
    DeadLetterPolicy,
    ItemState,
    LetterState,
    MapReduceJobSpec,
    OnExhausted,
    Phase,
    Reason,
    Retry,
    SuspendPolicy,
    Work,
)
from mapreduce_operator.core.account import Account
from mapreduce_operator.core.batches import Batch, GivenUp, Uncommitted
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.dead_letters import DeadLetters
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
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import FINAL_STATES, Ended, Item, Redriven, Refused, Started
from mapreduce_operator.core.jobs import Revision
from mapreduce_operator.core.journal import Accepted, Claim, CommitReason, Mark, MarkKind, Record, Segment, Start
from mapreduce_operator.core.ledger import Ledger
from mapreduce_operator.core.letters import Attempt
from mapreduce_operator.core.names import RunRef, Stage, item_key, job_name
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import FINAL_PHASES, NEXT, REDRIVING, Turn, after_map, after_reduce
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.redrives import Redrives, patched_item
from mapreduce_operator.core.sightings import Sightings
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.startup import Startup
from mapreduce_operator.core.tally import Tally
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen

VANISHED_SECONDS: Final = 60.0
"""How often Jobs of which nothing is known are asked for."""
MAX_REDRIVE_SECONDS: Final = 86_400
"""The longest wait that a Redrive can ask for."""
MAX_UNCOMMITTED: Final = 500
"""Outcomes that may wait for storage before dispatching pauses; their Jobs stay, so nothing is lost meanwhile."""


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
        self.unsaved: Final = Uncommitted()
        self.uncommitted_since = 0.0
        self.commit_in_flight = False
        self.account: Final = Account()
        self.guard: Final = Guard(spec, len(keys))
        self.startup: Final = Startup()
        self.reduce_ready = False
        self._past: dict[int, list[Attempt]] = {}
        """Dispatches of the map items that have not succeeded so far, since the plan or the last Redrive."""
        self._retries = 0
        self._giving_up: dict[str, str] = {}
        """Names of Jobs that are to be deleted as soon as their start is durable, since their pods cannot start."""
        self._reduce_again = False
        """A Redrive asked for the reduce to run again."""
        self._breaker_told = BreakerState.CLOSED
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
    def uncommitted(self) -> Sequence[Record]:
        """Outcomes that are not durable yet."""
        return self.unsaved.records

    @property
    def tally(self) -> Tally:
        return self.account.tally

    @property
    def dead_letters(self) -> DeadLetters:
        return self.account.dead_letters

    @property
    def redrives(self) -> Redrives:
        return self.account.redrives

    @property
    def open_letters(self) -> int:
        return self.dead_letters.counts[LetterState.OPEN]

    @property
    def phase(self) -> Phase:
        return self.turn.phase

    @property
    def finished(self) -> bool:
        """The end of the run is durable and no Job of it is left to delete."""
        ended = self.turn.phase in FINAL_PHASES and self.committed_turn.phase in FINAL_PHASES
        return ended and not self.unsaved

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

    def wanted(self, now: float) -> int:
        """Jobs that the run would start now if the operator's own cap allowed it."""
        if not self._may_dispatch():
            return 0
        wanted = sum(room for _, room in self._lanes(now))
        if self.phase is Phase.MAP:
            wanted = min(wanted, self._spec.map.max_parallel - self.ledgers[Stage.MAP].running)
            if (left := self.guard.launches_left()) is not None:
                wanted = min(wanted, left)
        return max(0, wanted)

    def _lanes(self, now: float) -> Iterator[tuple[int, int]]:
        """Which lanes of the present stage have items to start, and how many: Redrives first, then all others."""
        if self.phase is Phase.REDUCE:
            if self.reduce_ready and self._spec.reduce:
                ready = self.ledgers[Stage.REDUCE].ready()
                yield 0, self._startable(Stage.REDUCE, self.templates.revision(Stage.REDUCE), ready, now)
            return
        ledger = self.ledgers[Stage.MAP]
        for number in self.redrives.running():
            accepted, ready = self.redrives[number].accepted, ledger.ready(number)
            if accepted.parallelism:
                ready = min(ready, accepted.parallelism - ledger.running_in(number))
            yield number, self._startable(Stage.MAP, self.templates.redriven(accepted), ready, now)
        if self.turn.reason != REDRIVING and not self.guard.is_full(self.open_letters):
            yield 0, self._startable(Stage.MAP, self.templates.revision(Stage.MAP), ledger.ready(), now)

    def _startable(self, stage: Stage, revision: Revision | None, ready: int, now: float) -> int:
        """How many of so many items may be started: of those whose template is at fault one at a time, as a probe."""
        if ready <= 0 or revision is None:
            return 0
        if not self.startup.suspect(stage, revision.hash, self._left(stage)):
            return ready
        return int(self.startup.may_probe(stage, revision.hash, self.active, now))

    def _left(self, stage: Stage) -> int:
        """Items of a stage that are not at their end."""
        counts = self.ledgers[stage].counts
        return len(self.ledgers[stage]) - sum(counts[state] for state in FINAL_STATES)

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """(reason, message) of what a person has to mend before items can run."""
        if self.templates.obstacle is not None:
            return self.templates.obstacle
        problem = self._start_problem()
        return problem[:2] if problem is not None and problem[2] else None

    def not_starting(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of why pods that are there do not start; None where they do."""
        problem = self._start_problem()
        return (problem[:2] if problem else None) or self.startup.unschedulable() or self.startup.podless(now)

    def _start_problem(self) -> tuple[str, str, bool] | None:
        stage = Stage.REDUCE if self.phase is Phase.REDUCE else Stage.MAP
        revision = self.templates.revision(stage)
        return self.startup.problem(stage, revision.hash, self._left(stage)) if revision is not None else None

    def next_wake(self, now: float) -> float | None:
        """When `decide` has something to do even if nothing happens, in seconds since the epoch."""
        moments = [] if (due := self._sightings.next_due()) is None else [due]
        if self.active and self._vanished_due is not None:
            moments.append(self._vanished_due)
        if (trial := self.templates.next_trial()) is not None:
            moments.append(trial)
        if not self._spec.suspend:
            moments += [at for ledger in self.ledgers.values() if (at := ledger.next_release()) is not None]
        if (due := self.startup.next_due(now, self._pending_seconds)) is not None:
            moments.append(due)
        if self.guard.breaker.state is BreakerState.OPEN:
            moments.append(self.guard.breaker.open_until)
        if self.unsaved and not self.commit_in_flight:
            moments.append(self.uncommitted_since + self._spec.checkpoint.every_seconds)
        return max(min(moments), now) if moments else None

    # --------------------------------------------------------------------------------------------- what happened

    def respec(self, spec: MapReduceJobSpec, now: float) -> None:
        """The user changed the spec: it serves all decisions from now on."""
        self._spec = spec
        self.guard.respec(spec, now)
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
            name = job_name(self.ref, key, dispatch)
            self._sightings.carries(job_uid, name)
            self.startup.expects(job_uid, name, now)
            self._since(now)
            self.unsaved.starts.append(Start(stage, key, dispatch, job_uid))
        return True

    def awaits_job(self, stage: Stage, position: int, dispatch: int) -> bool:
        """The dispatch is being launched, nothing has been seen of its Job, and the spec still lets it start."""
        ledger = self.ledgers[stage]
        item = ledger[position]
        if item.state is not ItemState.RUNNING or item.dispatch != dispatch or item.job_uid:
            return False
        fits = stage is Stage.REDUCE or (ledger.running <= self._spec.map.max_parallel and self.guard.admits(position))
        return fits and self._may_dispatch()

    def refused(self, stage: Stage, position: int, dispatch: int) -> None:
        """The Job of a dispatch does not exist and will not; its number is used again."""
        if stage is Stage.MAP:
            self.guard.ended_otherwise(position)
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
                self.startup.observe(pod, now)
            return []
        return self._settle(outcome_of_pod(pod, rule, now), now, still_to_go=_JOB if pod.gone else _JOB_AND_POD)

    def no_pod(self, job: JobSeen, now: float) -> list[Effect]:
        """The pod of a Job that ended or vanished is gone as well, and nobody has seen how it ended."""
        if not self._sightings.is_carrying(job.uid):
            return []
        return self._settle(outcome_of_job(job, job.carried.dispatches[0], now), now, still_to_go=_JOB)

    def as_run(self, position: int, item: PlannedItem) -> PlannedItem:
        """A map item as its agent gets it: as it was planned, or as the Redrive that took it last patches it."""
        number = self.ledgers[Stage.MAP][position].redrive
        return patched_item(self.redrives[number].accepted, item) if number else item

    def redrive(self, accepted: Accepted, attempts: int, not_before: dict[int, float], now: float) -> None:
        """A Redrive takes letters that are open or archived: the positions in `not_before`, each with its time to wait.

        What it takes is run as soon as that is durable. A run that has ended goes back to its map for it.
        """
        ledger, retry = self.ledgers[Stage.MAP], self._retry(Stage.MAP)
        self._since(now)
        self.unsaved.redrives.append(accepted)
        self.redrives.accept(accepted, durable=False)
        self._reduce_again |= accepted.rerun_reduce
        for position, at in not_before.items():
            item = ledger.apply(position, Redriven(accepted.number, attempts, at), retry, now)
            if item is None:
                raise ValueError(f"item {position} is no dead letter and cannot be redriven")
            self._claim(Stage.MAP, ledger.key(position), item)
            self.dead_letters.turn(position, LetterState.CLAIMED)
        if self.phase in FINAL_PHASES:
            what = f"the Redrive {accepted.name} runs {accepted.selected:,} dead letters again"
            self._turn_to(Turn(Phase.MAP, REDRIVING, what))

    def requeue(self, policy: DeadLetterPolicy | None, now: float) -> None:
        """The DeadLetterQueue changed, or there is none."""
        self.guard.requeue(policy)
        self._set_aside(now)

    def may_redrive(self) -> bool:
        """Letters can be taken: not while the reduce runs over the results as they are."""
        return self.phase is not Phase.REDUCE and self.turn.phase is self.committed_turn.phase

    def purge(self, positions: Sequence[int], now: float) -> None:
        """The bodies of these letters are deleted; their items stay what they are."""
        for position in positions:
            self._mark(position, MarkKind.PURGED, now)
            self.dead_letters.remove(position)

    def _mark(self, position: int, kind: MarkKind, now: float) -> None:
        self._since(now)
        self.unsaved.marks.append(Mark(self.ledgers[Stage.MAP].key(position), kind))

    def _claim(self, stage: Stage, key: str, item: Item) -> None:
        self.unsaved.claims.append(Claim(stage, key, item.redrive, item.allowed, item.excused, item.not_before))

    def begin_commit(self, reason: CommitReason, now: float, *, with_snapshot: bool = False) -> Batch:
        """Everything that is not durable yet; what comes after is in the next batch."""
        self.commit_in_flight = True
        snapshot = self._snapshot() if with_snapshot else None
        breaker = self.guard.breaker
        return self.unsaved.batch(reason, now, self.turn, breaker if breaker != Breaker() else None, snapshot)

    def committed(self, batch: Batch, now: float) -> list[Effect]:
        """A batch is durable: its Jobs may go, what it took may be run, and the status may say so."""
        self.commit_in_flight = False
        self.unsaved.drop(batch)
        self.uncommitted_since = now
        before, self.committed_turn = self.committed_turn, batch.turn
        effects: list[Effect] = []
        for accepted in batch.redrives:
            self.redrives[accepted.number].durable = True
        for claim in batch.claims:
            self.ledgers[claim.stage].enqueue(self._position_of(claim.stage, claim.key))
        for record in batch.records:
            position = self._position(record.outcome)
            self.account.take(record, position)
            self.ledgers[record.outcome.stage].enqueue(position)
            if record.outcome.job:
                effects.append(DeleteJob(record.outcome.job, record.outcome.job_uid))
        self._set_aside(now)
        if before.phase is not batch.turn.phase:
            effects.append(
                Announce(
                    "Warning" if batch.turn.phase is Phase.FAILED else "Normal",
                    batch.turn.reason if batch.turn.phase is Phase.MAP else _PHASE_EVENTS[batch.turn.phase],
                    batch.turn.message,
                )
            )
        return effects

    def _set_aside(self, now: float) -> None:
        """Makes room in a queue that is over its capacity."""
        for position in list(islice(self.dead_letters.open(), self.guard.excess(self.open_letters))):
            self._mark(position, MarkKind.ARCHIVED, now)
            self.dead_letters.turn(position, LetterState.ARCHIVED)

    def _snapshot(self) -> Snapshot:
        """As the run will be read back once everything that is not durable yet is."""
        account = self.account.copy() if self.unsaved.records else self.account
        for record in self.unsaved.records:
            account.take(record, self._position(record.outcome))
        return Snapshot(
            items={stage: list(_durable(ledger)) for stage, ledger in self.ledgers.items()},
            tally=account.tally,
            announced=frozenset(self._announced),
            past={position: list(attempts) for position, attempts in self._past.items()},
            letters=list(account.dead_letters.all()),
            redrives=[(one.accepted, one.succeeded, one.failed, one.ended_at) for one in account.redrives.all()],
            failed_starts=self.startup.failed,
            reduce_again=self._reduce_again,
        )

    # --------------------------------------------------------------------------------------------------- coming back

    def restore(self, snapshot: Snapshot) -> None:
        """Brings a run back as of a snapshot, before the segments that came after it are replayed."""
        self.account.tally = snapshot.tally
        for letter in snapshot.letters:
            self.dead_letters.restore(*letter)
        for redrive in snapshot.redrives:
            self.redrives.restore(*redrive)
        self._past = {position: list(attempts) for position, attempts in snapshot.past.items()}
        self.startup.restore(snapshot.failed_starts)
        self._reduce_again = snapshot.reduce_again
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
        for accepted in segment.header.redrives:
            self.redrives.accept(accepted, durable=True)
            self._reduce_again |= accepted.rerun_reduce
        if segment.header.phase is Phase.REDUCE:
            self._reduce_again = False
        for claim in segment.header.claims:
            self._reclaim(claim)
        for mark in segment.header.marks:
            position = self._position_of(Stage.MAP, mark.key)
            if mark.kind is MarkKind.PURGED:
                self.dead_letters.remove(position)
            else:
                self.dead_letters.turn(position, LetterState.ARCHIVED)
        for record in segment.records:
            position = self._position(record.outcome)
            self.ledgers[record.outcome.stage].restore(position, record.item)
            self._keep_history(record.outcome, record.item, position)
            # As if the Job had been expected and had ended: so a success speaks for its template.
            self.startup.expects(record.outcome.job_uid, record.outcome.job, record.outcome.ended_at)
            self.startup.ended(record.outcome, record.outcome.ended_at)
            if record.item.final and record.item.redrive:
                self.redrives.settle(record.item.redrive)
            self.account.take(record, position)
            if record.outcome.reason is not None:
                self._announced.add(record.outcome.reason)

    def _reclaim(self, claim: Claim) -> None:
        ledger, position = self.ledgers[claim.stage], self._position_of(claim.stage, claim.key)
        state = ItemState.RETRY_WAIT if claim.not_before else ItemState.PENDING
        item = replace(
            ledger[position],
            state=state,
            not_before=claim.not_before,
            cause=None,
            excused=claim.excused,
            allowed=claim.allowed,
            redrive=claim.redrive,
        )
        ledger.restore(position, item)
        if claim.stage is Stage.MAP:
            self.dead_letters.turn(position, LetterState.CLAIMED)

    def resume(self, now: float, breaker: Breaker | None = None) -> None:
        """The past is told. Some of the Jobs that carried running dispatches when it ended may be gone by now."""
        for stage, ledger in self.ledgers.items():
            # Written by a clock that was ahead, a wait could last for ever.
            longest = self._retry(stage).backoff.max_seconds
            for position in ledger.in_state(ItemState.RETRY_WAIT):
                item = ledger[position]
                latest = now + (max(longest, MAX_REDRIVE_SECONDS) if item.redrive else longest)
                if item.not_before > latest:
                    ledger.restore(position, replace(item, not_before=latest))
        self._retries = self.tally.retries
        self.guard.resume(breaker, self.ledgers[Stage.MAP].in_state(ItemState.RUNNING), now)
        for job in self.carrying():
            self._sightings.carries(job.uid, job.name)
            self.startup.expects(job.uid, job.name, now, resumed=True)
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
        effects += self._breaker_moves(now)
        effects += self._give_up_starts(now)
        if self._spec.suspend and self._spec.suspend_policy is SuspendPolicy.INTERRUPT:
            effects += self._interrupt()
        self._turn_if_done(now)
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
        left = min(granted, self.wanted(now))
        effects: list[Effect] = []
        for lane, room in list(self._lanes(now)) if left else ():
            for _ in range(min(room, left)):
                position = self.ledgers[stage].dispatch_next(self._retry(stage), now, lane)
                if position is None:
                    break
                left -= 1
                effects.append(self._launch(stage, position))
        return effects

    def _launch(self, stage: Stage, position: int) -> Launch:
        ledger = self.ledgers[stage]
        item = ledger[position]
        if stage is Stage.MAP:
            self.guard.launched(position)
        return Launch(
            stage,
            position,
            Dispatch(ledger.key(position), item.dispatch),
            attempt=item.attempts + 1,
            max_attempts=item.allowed or self._retry(stage).max_attempts,
            redrive=item.redrive,
            oom_kills=item.oom_kills,
        )

    def commit_if_due(self, now: float) -> list[Effect]:
        """After what comes first: a change of phase, enough outcomes, enough time, or nothing else to do."""
        if self.commit_in_flight:
            return []
        if self.turn.phase is not self.committed_turn.phase:
            return [Commit(CommitReason.PHASE_CHANGE)]
        if not self.unsaved:
            return []
        if self.unsaved.urgent:
            return [Commit(CommitReason.REDRIVE)]
        if len(self.uncommitted) >= self._spec.checkpoint.every_items:
            return [Commit(CommitReason.ITEMS)]
        if now >= self.uncommitted_since + self._spec.checkpoint.every_seconds:
            return [Commit(CommitReason.TIME)]
        return [Commit(CommitReason.IDLE)] if self.active == 0 or self._spec.suspend else []

    def _may_dispatch(self) -> bool:
        if self._spec.suspend or self.phase is not self.committed_turn.phase or self.phase in FINAL_PHASES:
            return False
        if self._stop() is not None:
            return False
        return len(self.uncommitted) <= MAX_UNCOMMITTED and self.templates.good

    def _stop(self) -> tuple[str, str] | None:
        """(reason, message) of why no more items are started for good; those that run come to their end."""
        if self.phase is not Phase.MAP or self.turn.reason == REDRIVING:
            return None
        return self.guard.stop(self.ledgers[Stage.MAP].counts, self.open_letters)

    @property
    def hindrance(self) -> tuple[str, str] | None:
        """(reason, message) of what keeps items from being started for now, or for good; None when nothing does."""
        if self.phase is not Phase.MAP:
            return None
        return self._stop() or self.guard.hindrance(self.open_letters)

    def _interrupt(self) -> list[Effect]:
        effects: list[Effect] = []
        # One that is not known to have been started, by whoever comes next, must not vanish.
        unrecorded = {start.job_uid for start in self.unsaved.starts}
        for ledger in self.ledgers.values():
            for position in ledger.in_state(ItemState.RUNNING):
                uid = ledger[position].job_uid
                if uid and uid not in unrecorded and (name := self._sightings.interrupt(uid)) is not None:
                    effects.append(DeleteJob(name, uid))
        return effects

    def _settle(self, outcome: Outcome, now: float, *, still_to_go: frozenset[str]) -> list[Effect]:
        if outcome.verdict is Verdict.INTERRUPTED and self._sightings.is_interrupting(outcome.job_uid):
            outcome = replace(outcome, reason=Reason.SUSPENDED, message=MEANINGS[Reason.SUSPENDED].hint)
        else:
            outcome = self.startup.explained(outcome)
        ledger, retry = self.ledgers[outcome.stage], self._retry(outcome.stage)
        position = ledger.position(outcome.dispatch.item_key)
        if position is None:
            self._stale_events += 1
            return []
        if ledger[position].state is not ItemState.RUNNING:
            # A Job whose creation seemed to have failed may exist all the same.
            ledger.apply(position, Started(outcome.dispatch.number, outcome.job_uid), retry, now)
        skip = self._spec.failure_policy.on_exhausted is OnExhausted.SKIP and outcome.stage is Stage.MAP
        item = ledger.apply(position, Ended(outcome, self.guard.budget_left(self._retries), skip), retry, now)
        if item is None:
            self._stale_events += 1
            return []
        self._since(now)
        self.unsaved.records.append(Record(outcome, item))
        self._sightings.settle(outcome.job_uid, still_to_go)
        self.startup.ended(outcome, now)
        self._giving_up.pop(outcome.job_uid, None)
        if outcome.stage is Stage.MAP:
            self._account_for(outcome, item, position, now)
        return self._announce_first(outcome, position)

    def _account_for(self, outcome: Outcome, item: Item, position: int, now: float) -> None:
        if outcome.verdict is Verdict.INTERRUPTED:
            self.guard.ended_otherwise(position)
        else:
            self.guard.attempt_ended(position, outcome.verdict is Verdict.SUCCEEDED, now)
        self._retries += item.state is ItemState.RETRY_WAIT and not item.redrive
        history = self._keep_history(outcome, item, position)
        if item.state is ItemState.DEAD_LETTERED:
            self.unsaved.letters.append(GivenUp(position, item, outcome, history))
        if item.final and item.redrive:
            self.redrives.settle(item.redrive)

    def _keep_history(self, outcome: Outcome, item: Item, position: int) -> tuple[Attempt, ...]:
        """The dispatches of a map item up to this one; they are kept as long as it may become a dead letter."""
        if outcome.stage is Stage.REDUCE:
            return ()
        past = self._past.pop(position, [])
        if item.state is ItemState.SUCCEEDED:
            return ()
        redrive = self.redrives[item.redrive].accepted.name if item.redrive else ""
        past.append(Attempt.of(outcome, redrive=redrive))
        if not item.final:
            self._past[position] = past
        return tuple(past)

    def _since(self, now: float) -> None:
        """Something is not durable yet, since now or longer."""
        if not self.unsaved:
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

    def _give_up_starts(self, now: float) -> list[Effect]:
        """Deletes the Jobs of pods that have had their time to start, or whose template was corrected."""
        revisions: dict[Stage, set[str]] = {
            stage: {revision.hash} if (revision := self.templates.revision(stage)) is not None else set()
            for stage in Stage
        }
        revisions[Stage.MAP].update(
            self.templates.redriven(self.redrives[number].accepted).hash for number in self.redrives.running()
        )
        for pod in (*self.startup.overdue(now, self._pending_seconds), *self.startup.stale(revisions)):
            self._giving_up[pod.job_uid] = pod.job
        recorded = self._giving_up.keys() - {start.job_uid for start in self.unsaved.starts}
        return [DeleteJob(self._giving_up.pop(uid), uid) for uid in sorted(recorded)]

    @property
    def _pending_seconds(self) -> dict[Stage, float]:
        return {
            stage: float((self.work(stage) or self._last_reduce or self._spec.map).pending_timeout_seconds)
            for stage in Stage
        }

    def _breaker_moves(self, now: float) -> list[Effect]:
        """The breaker follows the clock; people are told when it opens and when it is closed again."""
        self.guard.at(now)
        before, state = self._breaker_told, self.guard.breaker.state
        if state is BreakerState.HALF_OPEN or state is before:
            return []
        self._breaker_told = state
        if state is BreakerState.OPEN:
            return [Announce("Warning", *hindrance)] if (hindrance := self.hindrance) is not None else []
        return [Announce("Normal", "CircuitClosed", "the probes succeeded; agents are started as usual")]

    def _turn_if_done(self, now: float) -> None:
        ledger, reducing = self.ledgers[Stage.MAP], self.ledgers[Stage.REDUCE]
        if self.phase is Phase.MAP:
            redriving = self.turn.reason == REDRIVING
            if ledger.running == 0 and (stop := self._stop()) is not None:
                self._turn_to(Turn(Phase.FAILED, *stop))
            elif ledger.finished or (redriving and next(self.redrives.running(), None) is None):
                self._turn_to(self._after_map(now))
        elif self.phase is not Phase.REDUCE:
            return
        elif self._spec.reduce is not None and reducing.finished:
            self._turn_to(after_reduce(reducing[0].state is ItemState.SUCCEEDED, ledger.counts, self._spec))
        elif self._spec.reduce is None and not reducing.running:
            # It was taken out of the spec: one that runs may end, and decides nothing.
            self._turn_to(after_map(ledger.counts, self._spec))

    def _after_map(self, now: float) -> Turn:
        """Where the run goes; a reduce that has run before runs again only when a Redrive asked for that."""
        counts = self.ledgers[Stage.MAP].counts
        if (stop := self.guard.stop(counts, self.open_letters)) is not None:
            return Turn(Phase.FAILED, *stop)
        turn, ledger = after_map(counts, self._spec), self.ledgers[Stage.REDUCE]
        if turn.phase is not Phase.REDUCE:
            return turn
        if not ledger[0].final:
            self._reduce_again = False
            return turn
        if not self._reduce_again:
            return after_reduce(ledger[0].state is ItemState.SUCCEEDED, counts, self._spec)
        retry = self._retry(Stage.REDUCE)
        item = ledger.apply(0, Redriven(0, retry.max_attempts), retry, now)
        if item is None:
            raise RuntimeError(f"{self.ref.namespace}/{self.ref.name}: the reduce cannot be run again")
        self._claim(Stage.REDUCE, ledger.key(0), item)
        self._reduce_again = self.reduce_ready = False
        return turn

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
