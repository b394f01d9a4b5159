"""What people ask of dead letters: which ones they mean, and which ones may be given another run.

An expression is over `letter`, `item` (its payload) and `now`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mapreduce_operator.api import Cause, EligibilityRule, LetterState
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.letters import Attempt, Letter
from mapreduce_operator.core.questions import Question, in_short

FIELDS: Final[Mapping[str, Callable[[Letter, LetterState], Any]]] = {
    "id": lambda letter, _: letter.id,
    "state": lambda _, state: state,
    "cause": lambda letter, _: letter.cause,
    "reason": lambda letter, _: letter.reason,
    "exitCode": lambda letter, _: letter.exit_code,
    "message": lambda letter, _: letter.message,
    "signature": lambda letter, _: letter.signature_id,
    "signatureText": lambda letter, _: letter.signature,
    "node": lambda letter, _: letter.node,
    "attempts": lambda letter, _: letter.attempts,
    "interruptions": lambda letter, _: letter.interruptions,
    "redrives": lambda letter, _: len(letter.redrives),
    "firstAttempt": lambda letter, _: letter.first_attempt_at,
    "lastAttempt": lambda letter, _: letter.last_attempt_at,
}
"""The fields of `letter`, without its history. All are there for every letter; exitCode is null where there is none."""

_HISTORY: Final = "history"

RULES_SECONDS: Final = 1.0
"""For all rules of a queue over one letter, in seconds of the processor."""


class LetterFilter:
    """A compiled question to letters that is answered with true or false."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for a text that is no expression, and for names that do not exist."""
        self._question: Final = Question(text, "letter", (*FIELDS, _HISTORY))
        # Most questions do without it, and it is long.
        self._with_history: Final = _HISTORY in text

    @property
    def spent(self) -> float:
        """What all answers took so far, in seconds of the processor."""
        return self._question.spent

    def matches(self, letter: Letter, state: LetterState, now: float) -> bool:
        """Whether the letter is meant; raises ExpressionError where there is no answer, or none of true and false."""
        told: dict[str, Any] = {name: field(letter, state) for name, field in FIELDS.items()}
        if self._with_history:
            told[_HISTORY] = [_account(attempt) for attempt in letter.history]
        return self._question.answer(f"letter {in_short(letter.id)}", told, bytes(letter.payload), now)


class Eligibility:
    """Which letters may be given another run without force: the rules of a queue, and what holds without one."""

    def __init__(self, rules: Sequence[EligibilityRule]) -> None:
        """Raises ExpressionError that names the rule that is wrong."""
        self._rules: Final[list[tuple[str, LetterFilter, EligibilityRule]]] = []
        for number, rule in enumerate(rules):
            where = f"spec.eligibility[{number}]"
            try:
                self._rules.append((where, LetterFilter(rule.filter), rule))
            except ExpressionError as error:
                raise ExpressionError(f"{where}.filter: {error}") from error

    def verdict(self, letter: Letter, state: LetterState, now: float, *, patched: bool) -> tuple[bool, str]:
        """(may be taken, why), for a Redrive that patches the item or the template, or does not.

        A letter for which a rule has no answer may not be taken, since the rule may be there to prevent just that.
        """
        left = RULES_SECONDS
        for where, asked, rule in self._rules:
            if left < 0:
                return (
                    False,
                    f"the rules of the queue before {where} take longer than {RULES_SECONDS} s for this letter",
                )
            left += asked.spent
            try:
                if asked.matches(letter, state, now):
                    return rule.eligible, rule.note or f"{where} of the queue says so"
            except ExpressionError as error:
                return False, f"{where}.filter of the queue has no answer: {error}"
            left -= asked.spent
        obstacle = _OBSTACLES.get(letter.cause, "")
        return (False, obstacle) if obstacle and not patched else (True, "")


_OBSTACLES: Final = {
    Cause.NOT_RETRYABLE: "trying again is of no use as the item and the template are: give a patch, or force: true",
    Cause.TOO_MANY_INTERRUPTIONS: "it was interrupted too often and may harm its nodes: give a patch, or force: true",
}


def _account(attempt: Attempt) -> dict[str, Any]:
    return {
        "dispatch": attempt.dispatch,
        "verdict": attempt.verdict,
        "reason": attempt.reason,
        "exitCode": attempt.exit_code,
        "message": attempt.message,
        "node": attempt.node,
        "redrive": attempt.redrive,
        "startedAt": attempt.started_at,
        "endedAt": attempt.ended_at,
    }
