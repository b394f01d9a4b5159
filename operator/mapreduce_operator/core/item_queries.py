"""What is told of the items of a run, one by one, and what people ask of them.

An expression is over `status` (where the item stands), `item` (its payload) and `now`. Fields that dead letters have
too bear the same names.
"""

from datetime import datetime
from typing import Final

import msgspec

from mapreduce_operator.api import Cause, ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import moment
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.questions import Question, in_short


class ItemStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Where an item stands, and how its last dispatch ended. All fields are there for every item."""

    id: str
    position: int
    """In the plan, from 0."""
    state: ItemState
    cause: Cause | None = None
    """Why it was given up."""
    reason: Reason | None = None
    """Why its last dispatch did not succeed."""
    exit_code: int | None = None
    message: str = ""
    node: str = ""
    attempts: int = 0
    interruptions: int = 0
    redrive: int = 0
    """Number of the Redrive that took it last; 0 for none."""
    seconds: float | None = None
    """How long the agent of its last dispatch ran; null where it is not known to have started."""
    last_attempt: datetime | None = None
    """When its last dispatch ended."""
    next_attempt: datetime | None = None
    """In RetryWait: when it may be dispatched again."""

    @classmethod
    def of(cls, name: str, position: int, item: Item, last: Outcome | None, *, runs: bool) -> "ItemStatus":
        """`last` is how its last dispatch ended; `runs` says that an agent is at work of which `item` does not know."""
        seen = cls(
            id=name,
            position=position,
            state=ItemState.RUNNING if runs else item.state,
            cause=item.cause,
            reason=item.reason,
            attempts=item.attempts,
            interruptions=item.interruptions,
            redrive=item.redrive,
            next_attempt=moment(item.not_before) if item.state is ItemState.RETRY_WAIT and not runs else None,
        )
        if last is None:
            return seen
        return msgspec.structs.replace(
            seen,
            exit_code=last.exit_code,
            message=last.message,
            node=last.node,
            seconds=round(last.ended_at - last.started_at, 3) if last.started_at else None,
            last_attempt=moment(last.ended_at),
        )


_FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(ItemStatus))


class ItemFilter:
    """A compiled question to items that is answered with true or false."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for a text that is no expression, and for names that do not exist."""
        self._question: Final = Question(text, "status", _FIELDS)

    @property
    def asks_item(self) -> bool:
        """Whether it needs the payload."""
        return self._question.asks_item

    def matches(self, status: ItemStatus, payload: bytes, now: float) -> bool:
        """Whether the item is meant; raises ExpressionError where there is no answer, or none of true and false."""
        told = {name: getattr(status, field) for name, field in zip(_FIELDS, status.__struct_fields__, strict=True)}
        return self._question.answer(f"item {in_short(status.id)}", told, payload, now)
