"""The agents of a run: their Jobs and pods as they are seen, and the outcomes that follow from that."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from mapreduce_operator.api import (
    Cause,
    ItemState,
    OnExhausted,
    Reason,
)
from mapreduce_operator.core.batches import GivenUp, Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.course import Course
from mapreduce_operator.core.dispatching import Dispatching
from mapreduce_operator.core.effects import (
    DeleteJob,
    Effect,
    FindPod,
    FindVanished,
    RemovePod,
)
from mapreduce_operator.core.failures import MEANINGS, outcome_of_job, outcome_of_pod, success_of_pod
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import Ended, Item, Refused, Started
from mapreduce_operator.core.journal import Record, Start
from mapreduce_operator.core.letterbox import Letterbox
from mapreduce_operator.core.names import RunRef, Stage, job_name
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.sightings import Sightings
from mapreduce_operator.core.starting import Starting
from mapreduce_operator.core.story import Story
from mapreduce_operator.core.tally import is_retry
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen
from mapreduce_operator.core.works import Works

VANISHED_SECONDS: Final = 60.0
"""How often Jobs of which nothing is known are asked for."""
_JOB: Final = frozenset({"job"})
_JOB_AND_POD: Final = frozenset({"job", "pod"})


class Agents:
    """Those of one run. An agent is known by its Job; whoever started that, it is taken over."""

    def __init__(
        self,
        ref: RunRef,
        works: Works,
        books: Books,
        unsaved: Uncommitted,
        *,
        course: Course,
        guard: Guard,
        letterbox: Letterbox,
        dispatching: Dispatching,
        starting: Starting,
        story: Story,
    ) -> None:
        self._ref: Final = ref
        self._works: Final = works
        self._books: Final = books
        self._ledgers: Final = books.ledgers
        self._letters: Final = books.account.dead_letters
        self._redrives: Final = books.account.redrives
        self._unsaved: Final = unsaved
        self._course: Final = course
        self._guard: Final = guard
        self._letterbox: Final = letterbox
        self._dispatching: Final = dispatching
        self._starting: Final = starting
        self._story: Final = story
        self._sightings: Final = Sightings()
        self._retries = 0
        self._stale_events = 0
        self._vanished_due: float | None = None

    def resume(self, now: float) -> None:
        """The past is told. Jobs that carried running dispatches then may be gone by now."""
        self._retries = self._books.account.tally.retries
        for job in self.carrying():
            self._sightings.carries(job.uid, job.name)
            self._books.startup.expects(job.uid, job.name, now, resumed=True)
        self._vanished_due = now

    def look(self, now: float) -> list[Effect]:
        """What follows where nobody has told in time of what became of an agent, or of its pod."""
        effects: list[Effect] = [FindPod(job) for job in self._sightings.take_orphans(now)]
        if self._vanished_due is not None and now >= self._vanished_due:
            self._vanished_due = now + VANISHED_SECONDS
            effects += [FindVanished()] if self._books.active else []
        effects += [RemovePod(pod.name, pod.uid) for pod in self._sightings.take_lost(now)]
        outlived = self._sightings.take_outlived(now)
        effects += [one for outcome in outlived for one in self._settle(outcome, now, still_to_go=_JOB_AND_POD)]
        return effects

    def next_look(self) -> float | None:
        """When there is something to look for, in seconds since the epoch."""
        moments = [] if (due := self._sightings.next_due()) is None else [due]
        if self._books.active and self._vanished_due is not None:
            moments.append(self._vanished_due)
        return min(moments, default=None)

    def carrying(self) -> list[JobSeen]:
        """The Jobs that carry running dispatches, as far as they are known without having been seen."""
        return [
            JobSeen(
                self._ref.namespace,
                job_name(self._ref, ledger.key(position), ledger[position].dispatch),
                ledger[position].job_uid,
                self._ref.uid,
                Carried(
                    self._ref.uid, stage, (Dispatch(ledger.key(position), ledger[position].dispatch),), revision=""
                ),
            )
            for stage, ledger in self._ledgers.items()
            for position in ledger.in_state(ItemState.RUNNING)
            if ledger[position].job_uid
        ]

    def take_stale(self) -> int:
        """How many events did not apply since this was asked last."""
        stale, self._stale_events = self._stale_events, 0
        return stale

    # --------------------------------------------------------------------------------------------- what happened

    def started(self, stage: Stage, position: int, dispatch: int, job_uid: str, now: float) -> bool:
        """The Job of a dispatch exists. False when the item is not at that dispatch, or in another Job's hands."""
        ledger = self._ledgers[stage]
        if ledger[position].job_uid != job_uid or not self._sightings.is_carrying(job_uid):
            if ledger.apply(position, Started(dispatch, job_uid), self._works.retry(stage), now) is None:
                return False
            key = ledger.key(position)
            name = job_name(self._ref, key, dispatch)
            self._sightings.carries(job_uid, name)
            self._books.startup.expects(job_uid, name, now)
            if stage is Stage.MAP:
                self._guard.adopted(position)
            self._unsaved.begin(now)
            self._unsaved.starts.append(Start(stage, key, dispatch, job_uid))
        return True

    def refused(self, stage: Stage, position: int, dispatch: int) -> None:
        """The Job of a dispatch does not exist and will not; its number is used again."""
        item = self._ledgers[stage].apply(position, Refused(dispatch), self._works.retry(stage), 0.0)
        # Its Job may have been seen while the answer that it exists was waited for in vain.
        if item is not None and stage is Stage.MAP:
            self._guard.ended_otherwise(position)

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
        self._books.startup.observe(pod, now)
        success = success_of_pod(pod, rule, now)
        if success is None and pod.outlived:
            self._sightings.outlives(pod, outcome_of_pod(pod, rule, now), now)
        return success

    def no_pod(self, job: JobSeen, now: float) -> list[Effect]:
        """The pod of a Job that ended or vanished is gone as well, and nobody has seen how it ended."""
        if not self._sightings.is_carrying(job.uid):
            return []
        return self._settle(outcome_of_job(job, job.carried.dispatches[0], now), now, still_to_go=_JOB)

    def interrupt(self, stage: Stage, positions: Iterable[int]) -> Iterator[Effect]:
        """Stops the agents of these items, as far as it is durable that they were started."""
        unrecorded = self._unsaved.unrecorded
        for position in positions:
            uid = self._ledgers[stage][position].job_uid
            if uid and uid not in unrecorded and (name := self._sightings.interrupt(uid)) is not None:
                yield DeleteJob(name, uid)

    # ---------------------------------------------------------------------------------------------------- inside

    def _settle(self, outcome: Outcome, now: float, *, still_to_go: frozenset[str]) -> list[Effect]:
        if outcome.verdict is Verdict.INTERRUPTED and self._sightings.is_interrupting(outcome.job_uid):
            outcome = replace(outcome, reason=Reason.SUSPENDED, message=self._why_interrupted(outcome))
        else:
            outcome = self._books.startup.explained(outcome)
        ledger, retry = self._ledgers[outcome.stage], self._works.retry(outcome.stage)
        position = ledger.position(outcome.dispatch.item_key)
        if position is None:
            self._stale_events += 1
            return []
        if ledger[position].state is not ItemState.RUNNING:
            # A Job whose creation seemed to have failed may exist all the same.
            ledger.apply(position, Started(outcome.dispatch.number, outcome.job_uid), retry, now)
        # What was a dead letter before never vanishes from the queue.
        skip = (
            self._works.spec.failure_policy.on_exhausted is OnExhausted.SKIP
            and outcome.stage is Stage.MAP
            and self._letters.get(position) is None
        )
        current = self._dispatching.revision(outcome.stage, ledger[position].redrive)
        changed = current is not None and current.hash != outcome.revision
        budget_left = outcome.stage is Stage.REDUCE or self._guard.budget_left(self._retries)
        gives_back = self._gives_back(outcome, position)
        ended = Ended(outcome, budget_left, skip, template_changed=changed, gives_back=gives_back)
        item = ledger.apply(position, ended, retry, now)
        if item is None:
            self._stale_events += 1
            return []
        self._unsaved.begin(now)
        record = Record(outcome, item)
        self._unsaved.records.append(record)
        self._retries += outcome.stage is Stage.MAP and is_retry(record)
        self._sightings.settle(outcome.job_uid, still_to_go)
        self._books.startup.ended(outcome, now)
        self._starting.ended(outcome.job_uid)
        if outcome.stage is Stage.MAP:
            self._account_for(outcome, item, position, now)
        return list(self._story.failed(outcome, position))

    def _why_interrupted(self, outcome: Outcome) -> str:
        if self._course.ends_now and (stop := self._course.stop()) is not None:
            return stop[1]
        position = self._ledgers[outcome.stage].position(outcome.dispatch.item_key)
        if outcome.stage is Stage.MAP and position is not None and not self._letterbox.is_wanted(position):
            return "spec.map.skip names the item, so its agent was stopped"
        return MEANINGS[Reason.SUSPENDED].hint

    def _gives_back(self, outcome: Outcome, position: int) -> Cause | None:
        """Why the item was a dead letter, if the Redrive that runs it was called off."""
        number = self._ledgers[Stage.MAP][position].redrive if outcome.stage is Stage.MAP else 0
        entry = self._letters.get(position) if number and self._redrives[number].called_off is not None else None
        return entry.cause if entry is not None else None

    def _account_for(self, outcome: Outcome, item: Item, position: int, now: float) -> None:
        if outcome.verdict is Verdict.INTERRUPTED:
            self._guard.ended_otherwise(position)
        else:
            self._guard.attempt_ended(position, outcome.verdict is Verdict.SUCCEEDED, now)
        history = self._books.tell(outcome, item, position)
        if item.state is ItemState.DEAD_LETTERED:
            self._unsaved.letters.append(GivenUp(position, item, outcome, history))

    def _adopt(self, carried: Carried, job_uid: str, now: float) -> bool:
        """Takes over a Job that an earlier operator left behind, or whose creation seemed to have failed.

        False when it does not carry the item's present dispatch.
        """
        if self._sightings.is_carrying(job_uid):
            return True
        dispatch = carried.dispatches[0]
        position = self._ledgers[carried.stage].position(dispatch.item_key)
        return position is not None and self.started(carried.stage, position, dispatch.number, job_uid, now)

    def _is_over(self, job: JobSeen) -> bool:
        """The dispatch of the Job has a durable outcome.

        A Job ahead of what is known is left alone: an item runs again only after the outcome before is durable, so
        that it would mean that records are missing.
        """
        ledger, dispatch = self._ledgers[job.carried.stage], job.carried.dispatches[0]
        position = ledger.position(dispatch.item_key)
        if position is None:
            return False
        # The dispatch that ended last is over when its outcome is durable, those before it are.
        waiting = 0 if ledger.is_settled(position) else 1
        return dispatch.number < ledger[position].dispatch - waiting
