"""What people ask of dead letters, in CEL: which ones they mean, and which ones may be given another run.

An expression is over `letter`, `item` (its payload) and `now`. It must be right as a whole: what can be found wrong
without a letter is found when it is compiled, and a letter for which it has no answer is an error too, so that nothing
is ever selected, or left out, by accident.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mapreduce_operator.api import Cause, EligibilityRule, LetterState
from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.letters import Attempt, Letter, moment

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
_VARIABLES: Final = ("letter", "item", "now")
_TYPES: Final = ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")
_CONVERSIONS: Final = ("bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
_OF_TEXTS: Final = ("contains", "endsWith", "matches", "size", "startsWith")
_OF_TIMES: Final = (
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)
FUNCTIONS: Final = (*_CONVERSIONS, *_OF_TEXTS, *_OF_TIMES)
"""The functions of CEL, without operators and macros. The library finds out only when it calls one that there is none,
which may be never: behind `||`, or for no letter that is there today.
"""

RULES_SECONDS: Final = 1.0
"""For all rules of a queue over one letter, in seconds of the processor."""
FILTER_SECONDS: Final = 300.0
"""For all letters together, in seconds of the processor. 100,000 letters that are asked for a reason take 2.5 s."""

_LETTER_FIELD: Final = re.compile(r"(?<![\w.])letter\.(\w+)")


class LetterFilter:
    """A compiled question to letters that is answered with true or false."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError for a text that is no expression, and for names that do not exist."""
        self._expression: Final = Expression(text, seconds=FILTER_SECONDS)
        _check_names(self._expression)
        # Most questions do without them, and they are long.
        self._with_history: Final = _HISTORY in text
        self._with_item: Final = "item" in text

    @property
    def spent(self) -> float:
        """What all answers took so far, in seconds of the processor."""
        return self._expression.spent

    def matches(self, letter: Letter, state: LetterState, now: float) -> bool:
        """Whether the letter is meant; raises ExpressionError where there is no answer, or none of true and false."""
        told: dict[str, Any] = {name: field(letter, state) for name, field in FIELDS.items()}
        if self._with_history:
            told[_HISTORY] = [_account(attempt) for attempt in letter.history]
        try:
            item = msgspec.json.decode(letter.payload) if self._with_item else None
            value = self._expression.evaluate({"letter": told, "item": item, "now": moment(now)})
        except (ExpressionError, RecursionError) as error:
            raise ExpressionError(f"letter {_short(letter.id)}: {error}. {_advice(error)}") from error
        if not isinstance(value, bool):
            raise ExpressionError(
                f"letter {_short(letter.id)}: {self._expression.text!r} gave {_short(value)}, not true or false. "
                "Compare it with something"
            )
        return value


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


def _check_names(expression: Expression) -> None:
    # Which fields are asked for is not told by the library.
    code = re.sub(r"\s*\.\s*", ".", expression.code)
    known: list[tuple[str, Iterable[str], Iterable[str]]] = [
        ("function", expression.functions, FUNCTIONS),
        ("variable", expression.variables - {*_TYPES}, _VARIABLES),
        ("field of letter", _LETTER_FIELD.findall(code), (*FIELDS, _HISTORY)),
    ]
    for kind, names, there in known:
        for name in sorted(set(names) - set(there)):
            raise ExpressionError(f"{expression.text!r}: there is no {kind} {name!r}; there are {', '.join(there)}")


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


def _advice(error: Exception) -> str:
    match error.__cause__:
        case KeyError(args=(name, *_)):
            return f"Where not all items have it, ask for that first: has(item.{name}) && …"
        case _:
            return "A value may be null or of another type in some letters, ask for that first: item.x != null && …"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
