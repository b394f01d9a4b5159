"""What the status tells of outcomes beside counts: failures by reason, and what reduce came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mapreduce_operator.api import Reason
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict

SAMPLE_CHARACTERS: Final = 256
"""What the status shows of a failure's message."""


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a reason was seen, with the first item as a sample."""

    count: int
    position: int
    message: str


@dataclass(frozen=True, slots=True)
class Tally:
    """A value: adding a record makes another one."""

    failures: Mapping[Reason, FailureCount] = field(default_factory=dict)
    reduce_result: bytes | None = None
    reduce_message: str = ""

    def with_record(self, record: Record, position: int) -> "Tally":
        """The tally after one more outcome, of the item at that position."""
        outcome = record.outcome
        if outcome.stage is Stage.REDUCE:
            return replace(self, reduce_result=outcome.result, reduce_message=outcome.message)
        reason = (
            outcome.reason if outcome.verdict is Verdict.FAILED else record.item.reason if record.item.final else None
        )
        if reason is None:
            return self
        known = self.failures.get(reason) or FailureCount(0, position, end_of(outcome.message, SAMPLE_CHARACTERS))
        return replace(self, failures={**self.failures, reason: replace(known, count=known.count + 1)})
