"""What the status tells of outcomes beside counts: failures by reason and by signature, and what reduce came to."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.signatures import signature_of

SAMPLE_CHARACTERS: Final = 256
"""What the status shows of a failure's message."""
SIGNATURES: Final = 100
"""So many kinds of failure are told apart. What comes later and is like none of them is counted by its reason alone."""


def is_retry(record: Record) -> bool:
    """The job itself gives the item another attempt."""
    failed = record.outcome.verdict is Verdict.FAILED
    return failed and record.item.state is ItemState.RETRY_WAIT and not record.item.redrive


@dataclass(frozen=True, slots=True)
class FailureCount:
    """How often a kind of failure was seen, with the first item as a sample."""

    reason: Reason
    signature: str
    count: int
    position: int
    message: str


@dataclass(frozen=True, slots=True)
class Tally:
    """A value: adding a record makes another one."""

    failures: Mapping[str, FailureCount] = field(default_factory=dict)
    """By the id of their signature."""
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    """All dispatches that did not succeed."""
    retries: int = 0
    """Of the job itself, without those that Redrives granted."""
    reduce_result: bytes | None = None
    reduce_message: str = ""
    result_bytes: int = 0
    """Of all results of the map."""

    def with_record(self, record: Record, position: int) -> "Tally":
        """The tally after one more outcome, of the item at that position."""
        outcome = record.outcome
        if outcome.stage is Stage.REDUCE:
            # An interruption says nothing; the result of an earlier reduce holds until the agent has ended.
            interrupted = outcome.verdict is Verdict.INTERRUPTED
            result = self.reduce_result if interrupted else outcome.result
            return replace(self, reduce_result=result, reduce_message=outcome.message)
        reason = outcome.reason
        if reason is None:
            return replace(self, result_bytes=self.result_bytes + len(outcome.result or b"") + record.left_out)
        tally = replace(
            self,
            reasons={**self.reasons, reason: self.reasons.get(reason, 0) + 1},
            retries=self.retries + is_retry(record),
        )
        if outcome.verdict is not Verdict.FAILED and not record.item.final:
            return tally
        signature = signature_of(reason, outcome.exit_code, outcome.message)
        known = self.failures.get(signature.id)
        if known is None:
            if len(self.failures) >= SIGNATURES:
                return tally
            message = end_of(outcome.message, SAMPLE_CHARACTERS)
            known = FailureCount(reason, signature.text, 0, position, message)
        return replace(tally, failures={**self.failures, signature.id: replace(known, count=known.count + 1)})
