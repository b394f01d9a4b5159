"""The state machine of one item.

    Pending -> Running -> Succeeded
                       -> RetryWait -> Pending        an attempt that failed and is worth another one
                       -> DeadLettered                one that is not, or the last one allowed
                       -> Pending                     an interruption: somebody else ended the dispatch

Attempts and interruptions live on the item and never go down; together they number its dispatches. `transition` is
the only way from one state to another, and its only clock is the `now` that it is given.
"""

from dataclasses import dataclass, replace
from typing import Final

from mapreduce_operator.api import ItemState, Reason, Retry, RetryAction
from mapreduce_operator.core.backoff import chance_of, delay_seconds
from mapreduce_operator.core.outcomes import Outcome, Verdict

FINAL_STATES: Final = frozenset({ItemState.SUCCEEDED, ItemState.DEAD_LETTERED})


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


ItemEvent = Dispatched | Started | Refused | Released | Ended


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
        case Ended(outcome) if item.state is ItemState.RUNNING and _is_current(
            item, outcome.dispatch.number, outcome.job_uid
        ):
            return _settle(item, outcome, retry, now)
        case _:
            return None


def _is_current(item: Item, dispatch: int, job_uid: str) -> bool:
    return not item.final and dispatch == item.dispatch and item.job_uid in {"", job_uid}


def _settle(item: Item, outcome: Outcome, retry: Retry, now: float) -> Item:
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return Item(ItemState.SUCCEEDED, item.attempts + 1, item.interruptions)
        case Verdict.INTERRUPTED:
            interrupted = Item(ItemState.PENDING, item.attempts, item.interruptions + 1, reason=outcome.reason)
            if interrupted.interruptions > retry.max_interruptions:
                return replace(interrupted, state=ItemState.DEAD_LETTERED, reason=Reason.TOO_MANY_INTERRUPTIONS)
            return interrupted
        case Verdict.FAILED:
            failed = Item(ItemState.DEAD_LETTERED, item.attempts + 1, item.interruptions, reason=outcome.reason)
            if not worth_retrying(outcome, failed.attempts, retry):
                return failed
            chance = chance_of(outcome.dispatch.item_key, outcome.dispatch.number)
            wait = delay_seconds(retry.backoff, failed.attempts, chance)
            return replace(failed, state=ItemState.RETRY_WAIT, not_before=now + wait)


def worth_retrying(outcome: Outcome, attempts: int, retry: Retry) -> bool:
    """The one predicate that decides between another attempt and the dead letters, so that nothing falls in between.

    The first rule that matches decides, before the agent's own word that it is of no use; neither can exceed
    maxAttempts.
    """
    if attempts >= retry.max_attempts:
        return False
    for rule in retry.rules:
        code_matches = not rule.on_exit_codes or outcome.exit_code in rule.on_exit_codes
        reason_matches = not rule.on_reasons or outcome.reason in rule.on_reasons
        if code_matches and reason_matches:
            return rule.action is RetryAction.RETRY
    return outcome.retryable
