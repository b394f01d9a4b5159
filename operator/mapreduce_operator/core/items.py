"""The state machine of one item.

    Pending -> Running -> Succeeded
                       -> RetryWait -> Pending        an attempt that failed and is worth another one
                       -> DeadLettered | Skipped      one that is not, or the last one allowed
                       -> Pending                     an interruption: somebody else ended the dispatch
                       -> RetryWait -> Pending        one by a template that cannot start
    DeadLettered -> Pending | RetryWait               a Redrive takes it
    DeadLettered | Skipped -> Pending                 the map is restarted
    Pending | RetryWait -> DeadLettered | Skipped     the Redrive is called off
    Pending | RetryWait -> Skipped                    the user does not want it to be run
    Succeeded | DeadLettered -> Pending               the reduce is run again

Attempts and interruptions live on the item and never go down; together they number its dispatches. `transition` is
the only way from one state to another, and its only clock is the `now` that it is given.
"""

from dataclasses import dataclass, replace
from typing import Final

from mapreduce_operator.api import Cause, ItemState, Reason, Retry, RetryAction
from mapreduce_operator.core.backoff import chance_of, delay_seconds
from mapreduce_operator.core.failures import MEANINGS, REST_SECONDS, TEMPLATE_FAULTS
from mapreduce_operator.core.outcomes import Outcome, Verdict

GIVEN_UP: Final = frozenset({ItemState.DEAD_LETTERED, ItemState.SKIPPED})
FINAL_STATES: Final = GIVEN_UP | {ItemState.SUCCEEDED}


@dataclass(frozen=True, slots=True)
class Item:
    """Where one item stands."""

    state: ItemState = ItemState.PENDING
    attempts: int = 0
    """Dispatches that the agent ended, by success or failure. Only these count against maxAttempts."""
    interruptions: int = 0
    """Dispatches that somebody else ended."""
    not_before: float = 0.0
    """In RetryWait: when the next attempt may start, in seconds since the epoch."""
    job_uid: str = ""
    """In Running: the Job that carries the dispatch; empty until the API server has answered."""
    reason: Reason | None = None
    """Why the last dispatch did not succeed."""
    cause: Cause | None = None
    """Why it was given up."""
    excused: int = 0
    """Interruptions that are not held against the item."""
    oom_kills: int = 0
    allowed: int = 0
    """How many attempts it may have in all, where a Redrive granted more; 0 where maxAttempts says it."""
    redrive: int = 0
    """Number of the Redrive that took it last; 0 for none."""
    before: Cause | None = None
    """Why it had been given up when it was taken, as long as it is not at its end again."""

    @property
    def dispatch(self) -> int:
        """Number of the running dispatch, or of the next one."""
        return self.attempts + self.interruptions + 1

    @property
    def final(self) -> bool:
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class Dispatched:
    """The item's next Job is being created."""


@dataclass(frozen=True, slots=True)
class Started:
    """The Job exists: created just now, or found alive by an operator that was started anew."""

    dispatch: int
    job_uid: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The Job was not created; the dispatch did not happen and its number is used again."""

    dispatch: int


@dataclass(frozen=True, slots=True)
class Released:
    """The time to wait before the next attempt is over."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A dispatch ended."""

    outcome: Outcome
    budget_left: bool = True
    """The job may spend another retry."""
    skip: bool = False
    """An item that is given up is left out and becomes no dead letter."""
    template_changed: bool = False
    """The template of the dispatch was corrected since, so that what was wrong with it says nothing any more."""
    gives_back: Cause | None = None
    """The Redrive of the item was called off: whatever is no success makes it the dead letter again that it was."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """A Redrive or a restart takes an item that was given up, or the reduce is run again."""

    redrive: int
    attempts: int
    """How many are granted."""
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class GivenBack:
    """The Redrive of an item that waits was called off: it is what it was before."""

    cause: Cause
    left_out: bool = False
    """It was no dead letter, and a restart took it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The user does not want the item to be run."""


ItemEvent = Dispatched | Started | Refused | Released | Ended | Redriven | GivenBack | LeftOut


def transition(item: Item, event: ItemEvent, retry: Retry, now: float) -> Item | None:
    """The item after the event, or None when the event does not apply: a duplicate, or news of an old dispatch.

    Watches may repeat, reorder and delay what they tell, so that an event that does not apply is normal; the caller
    counts it and goes on.
    """
    match event:
        case Dispatched() if item.state is ItemState.PENDING:
            return replace(item, state=ItemState.RUNNING, job_uid="", not_before=0.0)
        case Started(dispatch, job_uid) if _is_current(item, dispatch, job_uid):
            return replace(item, state=ItemState.RUNNING, job_uid=job_uid, not_before=0.0)
        case Refused(dispatch) if item.state is ItemState.RUNNING and dispatch == item.dispatch and not item.job_uid:
            return replace(item, state=ItemState.PENDING)
        case Released() if item.state is ItemState.RETRY_WAIT and item.not_before <= now:
            return replace(item, state=ItemState.PENDING, not_before=0.0)
        case Ended(outcome=outcome) if item.state is ItemState.RUNNING and _is_current(
            item, outcome.dispatch.number, outcome.job_uid
        ):
            return _settle(item, event, retry, now)
        case Redriven(redrive, attempts, not_before) if item.final:
            return replace(
                item,
                state=ItemState.RETRY_WAIT if not_before > now else ItemState.PENDING,
                not_before=not_before if not_before > now else 0.0,
                cause=None,
                excused=item.interruptions,
                allowed=item.attempts + attempts,
                redrive=redrive,
                before=item.cause,
            )
        case GivenBack() if item.redrive and item.state in {ItemState.PENDING, ItemState.RETRY_WAIT}:
            return as_given_back(item, event)
        case LeftOut() if item.state in {ItemState.PENDING, ItemState.RETRY_WAIT}:
            return as_left_out(item)
        case _:
            return None


def as_given_back(item: Item, back: GivenBack) -> Item:
    """The item when the Redrive that took it was called off."""
    state = ItemState.SKIPPED if back.left_out else ItemState.DEAD_LETTERED
    return replace(item, state=state, not_before=0.0, cause=back.cause, before=None)


def as_left_out(item: Item) -> Item:
    """The item when the user does not want it to be run."""
    return replace(item, state=ItemState.SKIPPED, not_before=0.0, cause=Cause.SKIPPED_BY_USER, before=None)


def continued(item: Item, dispatches: int) -> Item:
    """The item with so many dispatches behind it, of which those that it knows nothing of count as excused.

    Their outcomes were lost, or undone by going back to an earlier checkpoint. A number never comes again.
    """
    missing = max(0, dispatches - item.attempts - item.interruptions)
    return replace(
        item,
        state=ItemState.PENDING if item.state is ItemState.RUNNING else item.state,
        job_uid="",
        interruptions=item.interruptions + missing,
        excused=item.excused + missing,
    )


def _is_current(item: Item, dispatch: int, job_uid: str) -> bool:
    return not item.final and dispatch == item.dispatch and item.job_uid in {"", job_uid}


def _settle(item: Item, event: Ended, retry: Retry, now: float) -> Item:
    outcome = event.outcome
    ended = replace(item, job_uid="", not_before=0.0, reason=outcome.reason)
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return replace(ended, state=ItemState.SUCCEEDED, attempts=item.attempts + 1, before=None)
        case Verdict.INTERRUPTED:
            excused = outcome.reason is not None and MEANINGS[outcome.reason].excused
            ended = replace(ended, interruptions=item.interruptions + 1, excused=item.excused + excused)
            if event.gives_back is not None:
                return _given_up(ended, event.gives_back, event)
            if ended.interruptions - ended.excused > retry.max_interruptions:
                return _given_up(ended, Cause.TOO_MANY_INTERRUPTIONS, event)
            if outcome.reason in TEMPLATE_FAULTS and not event.template_changed:
                return replace(ended, state=ItemState.RETRY_WAIT, not_before=now + REST_SECONDS)
            return replace(ended, state=ItemState.PENDING)
        case Verdict.FAILED:
            ended = replace(
                ended, attempts=item.attempts + 1, oom_kills=item.oom_kills + (outcome.reason is Reason.OOM_KILLED)
            )
            cause = why_give_up(ended, outcome, retry, budget_left=event.budget_left) or event.gives_back
            if cause is not None:
                return _given_up(ended, cause, event)
            chance = chance_of(outcome.dispatch.item_key, outcome.dispatch.number)
            wait = delay_seconds(retry.backoff, ended.attempts, chance)
            return replace(ended, state=ItemState.RETRY_WAIT, not_before=now + wait)


def _given_up(item: Item, cause: Cause, event: Ended) -> Item:
    state = ItemState.SKIPPED if event.skip else ItemState.DEAD_LETTERED
    return replace(item, state=state, cause=cause, before=None)


def why_give_up(item: Item, outcome: Outcome, retry: Retry, *, budget_left: bool) -> Cause | None:
    """The one predicate that decides between another attempt (None) and the end, so that nothing falls in between.

    The first rule that matches decides, before the agent's own word that it is of no use; neither can exceed the
    attempts that are allowed. What a Redrive granted is not taken from the budget of the job.
    """
    if not _retryable(outcome, retry):
        return Cause.NOT_RETRYABLE
    if item.attempts >= (item.allowed or retry.max_attempts):
        return Cause.ATTEMPTS_EXHAUSTED
    if not budget_left and not item.redrive:
        return Cause.RETRY_BUDGET_EXHAUSTED
    return None


def _retryable(outcome: Outcome, retry: Retry) -> bool:
    for rule in retry.rules:
        code_matches = not rule.on_exit_codes or outcome.exit_code in rule.on_exit_codes
        reason_matches = not rule.on_reasons or outcome.reason in rule.on_reasons
        if code_matches and reason_matches:
            return rule.action is RetryAction.RETRY
    return outcome.retryable
