"""A run: everything that is decided about one MapReduceJob, as a state and the effects that follow from it.

The engine tells what happened (`observe_pod`, `started`, `commits.done`, …) and asks `decide` what to do next. Nothing
here waits, reads a clock or does anything, so that every race, retry and crash can be replayed.

Two kinds of truth live side by side: the ledgers know what has happened, the account of the books and the committed
turn what is durable. Jobs are deleted and the status speaks only by the second.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mapreduce_operator.api import (
    BreakerState,
    Cause,
    DeadLetterPolicy,
    ItemState,
    MapReduceJobSpec,
    OnExhausted,
    Phase,
    Reason,
    Restart,
    RestartPhase,
    ResultsAs,
    ResumePolicy,
    SuspendPolicy,
)
from mapreduce_operator.core.batches import GivenUp, Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint, Restarted, digest
from mapreduce_operator.core.commits import Commits
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.course import Course
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.dispatching import Dispatching
from mapreduce_operator.core.effects import (
    DeleteJob,
    Effect,
    FindPod,
    FindVanished,
    PrepareReduce,
    RemovePod,
)
from mapreduce_operator.core.failures import MEANINGS, TEMPLATE_FAULTS, outcome_of_job, outcome_of_pod, success_of_pod
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import FINAL_STATES, Ended, Item, Refused, Started
from mapreduce_operator.core.journal import Accepted, Record, Start
from mapreduce_operator.core.letterbox import Letterbox
from mapreduce_operator.core.names import RunRef, Stage, job_name
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import FINAL_PHASES, REDRIVING, REDUCING_AGAIN, RESTARTED, Turn
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.redrives import Redrives, patched_item
from mapreduce_operator.core.results import outgrown
from mapreduce_operator.core.sightings import Sightings
from mapreduce_operator.core.starting import Starting
from mapreduce_operator.core.story import Story
from mapreduce_operator.core.tally import Tally, is_retry
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.texts import counted
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen
from mapreduce_operator.core.works import Works

VANISHED_SECONDS: Final = 60.0
"""How often Jobs of which nothing is known are asked for."""


class RunState:
    """The state of one run from its plan to its end."""

    def __init__(
        self, ref: RunRef, spec: MapReduceJobSpec, keys: list[str], turn: Turn, *, shortest_id: int = 0
    ) -> None:
        """`shortest_id` is how many bytes the shortest id has: what is known here of the ids that reduce gets."""
        self.ref: Final = ref
        self._shortest_id: Final = shortest_id
        self.works: Final = Works(spec)
        self.books: Final = Books(ref, keys)
        self.ledgers: Final = self.books.ledgers
        self.unsaved: Final = Uncommitted()
        self.guard: Final = Guard(spec, len(keys))
        self.course: Final = Course(self.books, self.guard, self.unsaved, spec, turn)
        self.letterbox: Final = Letterbox(ref, spec, self.books, self.guard, self.unsaved)
        self.templates: Final = Templates(ref, spec)
        self._starting: Final = Starting(self.books, self.templates, spec)
        self._story: Final = Story(self.books.announced)
        self._sightings: Final = Sightings()
        self.dispatching: Final = Dispatching(
            self.works,
            self.books,
            self.unsaved,
            course=self.course,
            guard=self.guard,
            letterbox=self.letterbox,
            templates=self.templates,
            starting=self._starting,
        )
        self.commits: Final = Commits(
            self.works,
            self.books,
            self.unsaved,
            course=self.course,
            guard=self.guard,
            letterbox=self.letterbox,
            story=self._story,
        )
        self._retries = 0
        self._stale_events = 0
        self._preparing_reduce = False
        self._vanished_due: float | None = None
        self.checkpoint: Checkpoint | None = None
        """The last one that everything here knows of; None before the past is told."""

    # ------------------------------------------------------------------------------------------------ what is so

    @property
    def spec(self) -> MapReduceJobSpec:
        return self.works.spec

    @property
    def uncommitted(self) -> Sequence[Record]:
        """Outcomes that are not durable yet."""
        return self.unsaved.records

    @property
    def tally(self) -> Tally:
        return self.books.account.tally

    @property
    def dead_letters(self) -> DeadLetters:
        return self.books.account.dead_letters

    @property
    def redrives(self) -> Redrives:
        return self.books.account.redrives

    @property
    def turn(self) -> Turn:
        return self.course.turn

    @property
    def committed_turn(self) -> Turn:
        return self.course.committed

    @property
    def phase(self) -> Phase:
        return self.course.turn.phase

    @property
    def finished(self) -> bool:
        """The end of the run is durable and none of its Jobs is left."""
        ended = self.turn.phase in FINAL_PHASES and self.committed_turn.phase in FINAL_PHASES
        return ended and not self.unsaved and not self.active

    @property
    def active(self) -> int:
        """Jobs whose agents run or are being started."""
        return self.books.active

    def take_stale(self) -> int:
        """How many events did not apply since this was asked last."""
        stale, self._stale_events = self._stale_events, 0
        return stale

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """(reason, message) of what a person has to mend before items can run."""
        return self._starting.obstacle(self.course.stage)

    def not_starting(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of why pods that are there do not start; None where they do."""
        return self._starting.difficulty(self.course.stage, now)

    @property
    def outgrown(self) -> str | None:
        """Why reduce cannot get the results that are durable already; None where it can, or there is none."""
        if self.phase is not Phase.MAP:
            return None
        succeeded = self.ledgers[Stage.MAP].counts[ItemState.SUCCEEDED]
        return outgrown(self.spec.reduce, succeeded, self.tally.result_bytes, self._shortest_id)

    def next_wake(self, now: float) -> float | None:
        """When `decide` has something to do even if nothing happens, in seconds since the epoch."""
        moments = [] if (due := self._sightings.next_due()) is None else [due]
        if self.active and self._vanished_due is not None:
            moments.append(self._vanished_due)
        if self.phase not in FINAL_PHASES and (trial := self.templates.next_trial()) is not None:
            moments.append(trial)
        if not self.spec.suspend:
            moments += [at for ledger in self.ledgers.values() if (at := ledger.next_release()) is not None]
        if (due := self._starting.next_due(now)) is not None:
            moments.append(due)
        if self.guard.breaker.state is BreakerState.OPEN:
            moments.append(self.guard.breaker.open_until)
        if (deadline := self.course.deadline) is not None and not self.course.overdue:
            moments.append(deadline)
        if (due := self.commits.next_due()) is not None:
            moments.append(due)
        return max(min(moments), now) if moments else None

    # --------------------------------------------------------------------------------------------- what happened

    def respec(self, spec: MapReduceJobSpec, now: float) -> None:
        """The user changed the spec: it serves all decisions from now on."""
        self.works.respec(spec)
        self.guard.respec(spec, now)
        self.course.respec(spec)
        self.letterbox.respec(spec)
        before = {stage: self.templates.revision(stage) for stage in Stage}
        self.templates.respec(spec)
        self._starting.respec(spec)
        for stage, revision in before.items():
            current = self.templates.revision(stage)
            if revision is not None and current is not None and revision.hash != current.hash:
                # What was wrong with the template before says nothing any more.
                self.ledgers[stage].hasten(TEMPLATE_FAULTS, now)

    def reduce_prepared(self, results_as: ResultsAs) -> None:
        self._preparing_reduce = False
        self.course.reduce_ready = results_as

    def reduce_impossible(self, message: str) -> None:
        """The results cannot be handed to reduce; the run ends, and keeps them."""
        self._preparing_reduce = False
        if self.phase is Phase.REDUCE:
            self.course.turn_to(Turn(Phase.FAILED, "ResultsTooLarge", message))

    def started(self, stage: Stage, position: int, dispatch: int, job_uid: str, now: float) -> bool:
        """The Job of a dispatch exists. False when the item is not at that dispatch, or in another Job's hands."""
        ledger = self.ledgers[stage]
        if ledger[position].job_uid != job_uid or not self._sightings.is_carrying(job_uid):
            if ledger.apply(position, Started(dispatch, job_uid), self.works.retry(stage), now) is None:
                return False
            key = ledger.key(position)
            name = job_name(self.ref, key, dispatch)
            self._sightings.carries(job_uid, name)
            self.books.startup.expects(job_uid, name, now)
            if stage is Stage.MAP:
                self.guard.adopted(position)
            self.unsaved.begin(now)
            self.unsaved.starts.append(Start(stage, key, dispatch, job_uid))
        return True

    def refused(self, stage: Stage, position: int, dispatch: int) -> None:
        """The Job of a dispatch does not exist and will not; its number is used again."""
        item = self.ledgers[stage].apply(position, Refused(dispatch), self.works.retry(stage), 0.0)
        # Its Job may have been seen while the answer that it exists was waited for in vain.
        if item is not None and stage is Stage.MAP:
            self.guard.ended_otherwise(position)

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
        """A pod changed; one that ended, or whose agent did, becomes an outcome."""
        if self._sightings.is_settled(pod.job_uid):
            if pod.gone:
                self._sightings.gone(pod.job_uid, "pod")
            return []
        if not pod.job_uid:
            return []
        outcome = outcome_of_pod(pod, rule, now) if pod.ended else self._outcome_before_the_pod_ended(pod, rule, now)
        if outcome is None:
            return []
        return self._settle(outcome, now, still_to_go=_JOB if pod.gone else _JOB_AND_POD)

    def _outcome_before_the_pod_ended(self, pod: PodSeen, rule: ResultRule, now: float) -> Outcome | None:
        # Its Job may have been deleted, under the eyes of nobody who could have recorded its start.
        if not self._adopt(pod.carried, pod.job_uid, now):
            return None
        self._sightings.lives(pod, now)
        self.books.startup.observe(pod, now)
        success = success_of_pod(pod, rule, now)
        if success is None and pod.outlived:
            self._sightings.outlives(pod, outcome_of_pod(pod, rule, now), now)
        return success

    def no_pod(self, job: JobSeen, now: float) -> list[Effect]:
        """The pod of a Job that ended or vanished is gone as well, and nobody has seen how it ended."""
        if not self._sightings.is_carrying(job.uid):
            return []
        return self._settle(outcome_of_job(job, job.carried.dispatches[0], now), now, still_to_go=_JOB)

    def as_run(self, position: int, item: PlannedItem) -> PlannedItem:
        """A map item as its agent gets it: as it was planned, or as the Redrive that took it last patches it."""
        number = self.ledgers[Stage.MAP][position].redrive
        return patched_item(self.redrives[number].accepted, item) if number else item

    def redrive(self, accepted: Accepted, attempts: int, not_before: Mapping[int, float], now: float) -> None:
        """A Redrive takes letters that are takeable: the positions in `not_before`, each with its time to wait.

        What it takes is run as soon as that is durable. A run that has ended goes back to its map for it.
        """
        self.letterbox.take(accepted, attempts, not_before, self.works.retry(Stage.MAP), now)
        message = f"the Redrive {accepted.name} runs {accepted.selected:,} dead letters again"
        self.course.reopen(REDRIVING, message, now)

    def restart(self, restart: Restart, policy: ResumePolicy, now: float) -> None:
        """Goes back to the map for the items that were given up, or to the reduce; successes stay what they are."""
        if restart.phase is RestartPhase.MAP:
            taken = self.letterbox.restart(restart.token, policy, self.works.retry(Stage.MAP), now)
            ledger = self.ledgers[Stage.MAP]
            left = len(ledger) - sum(ledger.counts[state] for state in FINAL_STATES)
            message = f"the map was begun again with {counted(left, 'item')}, of which {taken:,} had been given up"
            self.course.reopen(RESTARTED, message, now)
        else:
            self.books.reduce_again = self.unsaved.reduce_again = True
            self.course.reopen(REDUCING_AGAIN, "the reduce runs again over the results as they are", now)
        self.commits.restarted(Restarted(restart.phase, restart.token, now))

    def what_became_of(self, restart: Restart) -> str:
        """What came of a restart that was answered, for people."""
        if restart.phase is RestartPhase.REDUCE and self.books.reduce_again:
            if self.phase in FINAL_PHASES:
                return f"the reduce has not run again, since the job came to its end before it ({self.turn.reason})"
            return "the reduce runs when the map is over"
        if restart.phase is RestartPhase.MAP and self.letterbox.restarted(restart.token) == 0:
            return (
                "the phase Map was begun again: no item that had been given up was to be run, so a reduce that has "
                "ended is not run again"
            )
        return f"the phase {restart.phase} was begun again"

    def requeue(self, policy: DeadLetterPolicy | None, now: float) -> None:
        """The DeadLetterQueue changed, or there is none."""
        self.guard.requeue(policy)
        self.letterbox.set_aside(now)

    # --------------------------------------------------------------------------------------------------- coming back

    def resume(self, now: float, checkpoint: Checkpoint) -> None:
        """The past is told, up to a checkpoint. Jobs that carried running dispatches then may be gone by now."""
        self.checkpoint = checkpoint
        self.commits.throughput.begin(now)
        self.commits.answers, self.course.opened_at = checkpoint.answers, checkpoint.opened_at
        self.books.resume({stage: self.works.retry(stage).backoff.max_seconds for stage in Stage}, now)
        self._retries = self.tally.retries
        # The spec that is committed is one that an operator has seen.
        seen = checkpoint.sequence > 0 and checkpoint.spec_sha256 == digest(self.works.text)
        self._story.resume(self.outgrown, self.letterbox.unknown if seen else ())
        self.guard.resume(checkpoint.breaker, self.ledgers[Stage.MAP].in_state(ItemState.RUNNING), now)
        for job in self.carrying():
            self._sightings.carries(job.uid, job.name)
            self.books.startup.expects(job.uid, job.name, now, resumed=True)
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
        """What follows from the state, but for new Jobs and commits: ask `dispatching` next, and `commits` last."""
        effects: list[Effect] = [FindPod(job) for job in self._sightings.take_orphans(now)]
        if self._vanished_due is not None and now >= self._vanished_due:
            self._vanished_due = now + VANISHED_SECONDS
            effects += [FindVanished()] if self.active else []
        effects += [RemovePod(pod.name, pod.uid) for pod in self._sightings.take_lost(now)]
        outlived = self._sightings.take_outlived(now)
        effects += [one for outcome in outlived for one in self._settle(outcome, now, still_to_go=_JOB_AND_POD)]
        if self.phase not in FINAL_PHASES:
            effects += self.templates.try_out(now)
        self.guard.at(now)
        self.course.at(now)
        effects += self._story.outgrown(self.outgrown)
        effects += self._story.skipped(self.letterbox.unknown)
        effects += self._story.breaker(self.guard.breaker.state, self.guard.circuit())
        for hopeless in list(self._starting.hopeless()):
            self.letterbox.call_off(*hopeless, now)
        if self.course.ends_now and (stop := self.course.stop()) is not None:
            for number in list(self.redrives.running()):
                self.letterbox.call_off(number, *stop, now)
        self.letterbox.give_back(now)
        self.letterbox.leave_out(now)
        effects += self._starting.give_up(self.unsaved.unrecorded, now)
        interrupting = self.spec.suspend and self.spec.suspend_policy is SuspendPolicy.INTERRUPT
        if interrupting or self.course.ends_now:
            for stage, ledger in self.ledgers.items():
                effects += self._interrupt(stage, ledger.in_state(ItemState.RUNNING))
        else:
            effects += self._interrupt(Stage.MAP, self.letterbox.unwanted(ItemState.RUNNING))
        self.course.turn_if_done(self.works.retry(Stage.REDUCE), now)
        for stage, ledger in self.ledgers.items():
            ledger.release(self.works.retry(stage), now)
        if (prepare := self._prepare_reduce()) is not None:
            self._preparing_reduce = True
            effects.append(prepare)
        return effects

    def _prepare_reduce(self) -> PrepareReduce | None:
        """Not before the phase is durable, and again when its agent is to get the results in another form."""
        reduce = self.spec.reduce
        if reduce is None or self._preparing_reduce or self.course.reduce_ready is reduce.results_as:
            return None
        if self.phase is not Phase.REDUCE or not self.course.settled or self.ledgers[Stage.REDUCE].running:
            return None
        return PrepareReduce(reduce.results_as)

    def _interrupt(self, stage: Stage, positions: Iterable[int]) -> Iterator[Effect]:
        unrecorded = self.unsaved.unrecorded
        for position in positions:
            uid = self.ledgers[stage][position].job_uid
            if uid and uid not in unrecorded and (name := self._sightings.interrupt(uid)) is not None:
                yield DeleteJob(name, uid)

    def _settle(self, outcome: Outcome, now: float, *, still_to_go: frozenset[str]) -> list[Effect]:
        if outcome.verdict is Verdict.INTERRUPTED and self._sightings.is_interrupting(outcome.job_uid):
            outcome = replace(outcome, reason=Reason.SUSPENDED, message=self._why_interrupted(outcome))
        else:
            outcome = self.books.startup.explained(outcome)
        ledger, retry = self.ledgers[outcome.stage], self.works.retry(outcome.stage)
        position = ledger.position(outcome.dispatch.item_key)
        if position is None:
            self._stale_events += 1
            return []
        if ledger[position].state is not ItemState.RUNNING:
            # A Job whose creation seemed to have failed may exist all the same.
            ledger.apply(position, Started(outcome.dispatch.number, outcome.job_uid), retry, now)
        # What was a dead letter before never vanishes from the queue.
        skip = (
            self.spec.failure_policy.on_exhausted is OnExhausted.SKIP
            and outcome.stage is Stage.MAP
            and self.dead_letters.get(position) is None
        )
        current = self.dispatching.revision(outcome.stage, ledger[position].redrive)
        changed = current is not None and current.hash != outcome.revision
        budget_left = outcome.stage is Stage.REDUCE or self.guard.budget_left(self._retries)
        gives_back = self._gives_back(outcome, position)
        ended = Ended(outcome, budget_left, skip, template_changed=changed, gives_back=gives_back)
        item = ledger.apply(position, ended, retry, now)
        if item is None:
            self._stale_events += 1
            return []
        self.unsaved.begin(now)
        record = Record(outcome, item)
        self.unsaved.records.append(record)
        self._retries += outcome.stage is Stage.MAP and is_retry(record)
        self._sightings.settle(outcome.job_uid, still_to_go)
        self.books.startup.ended(outcome, now)
        self._starting.ended(outcome.job_uid)
        if outcome.stage is Stage.MAP:
            self._account_for(outcome, item, position, now)
        return list(self._story.failed(outcome, position))

    def _why_interrupted(self, outcome: Outcome) -> str:
        if self.course.ends_now and (stop := self.course.stop()) is not None:
            return stop[1]
        position = self.ledgers[outcome.stage].position(outcome.dispatch.item_key)
        if outcome.stage is Stage.MAP and position is not None and not self.letterbox.is_wanted(position):
            return "spec.map.skip names the item, so its agent was stopped"
        return MEANINGS[Reason.SUSPENDED].hint

    def _gives_back(self, outcome: Outcome, position: int) -> Cause | None:
        """Why the item was a dead letter, if the Redrive that runs it was called off."""
        number = self.ledgers[Stage.MAP][position].redrive if outcome.stage is Stage.MAP else 0
        entry = self.dead_letters.get(position) if number and self.redrives[number].called_off is not None else None
        return entry.cause if entry is not None else None

    def _account_for(self, outcome: Outcome, item: Item, position: int, now: float) -> None:
        if outcome.verdict is Verdict.INTERRUPTED:
            self.guard.ended_otherwise(position)
        else:
            self.guard.attempt_ended(position, outcome.verdict is Verdict.SUCCEEDED, now)
        history = self.books.tell(outcome, item, position)
        if item.state is ItemState.DEAD_LETTERED:
            self.unsaved.letters.append(GivenUp(position, item, outcome, history))

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


_JOB: Final = frozenset({"job"})
_JOB_AND_POD: Final = frozenset({"job", "pod"})
