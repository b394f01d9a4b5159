"""What people ask of records, in CEL: of dead letters, and of items.

An expression is over the record, `item` (the payload of its item) and `now`. It must be right as a whole: what can be
found wrong without a record is found when it is compiled, and a record for which it has no answer is an error too, so
that nothing is ever selected, or left out, by accident.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.letters import moment

QUESTION_SECONDS: Final = 300.0
"""For all records together, in seconds of the processor. 100,000 letters that are asked for a reason take 2.5 s."""


class Question:
    """A compiled question to records that is answered with true or false."""

    def __init__(self, text: str, record: str, fields: Collection[str]) -> None:
        """`record` is the name of the variable that holds a record, and these are the fields that it may ask for.

        Raises ExpressionError for a text that is no expression, and for names that do not exist.
        """
        self._expression: Final = Expression(text, seconds=QUESTION_SECONDS)
        self._record: Final = record
        _check_names(self._expression, record, fields)
        self.asks_item: Final = "item" in text
        """Most questions do without the payload, which is long."""

    @property
    def spent(self) -> float:
        """What all answers took so far, in seconds of the processor."""
        return self._expression.spent

    def answer(self, who: str, told: Mapping[str, Any], payload: bytes, now: float) -> bool:
        """Whether a record is meant. `who` names it in errors; the payload is only looked at if it is asked for.

        Raises ExpressionError where there is no answer, or none of true and false.
        """
        try:
            item = msgspec.json.decode(payload) if self.asks_item else None
            value = self._expression.evaluate({self._record: told, "item": item, "now": moment(now)})
        except (ExpressionError, RecursionError) as error:
            raise ExpressionError(f"{who}: {error}. {advice(error)}") from error
        if not isinstance(value, bool):
            raise ExpressionError(
                f"{who}: {self._expression.text!r} gave {in_short(value)}, not true or false. Compare it with something"
            )
        return value


def in_short(value: Any) -> str:
    """A value as part of an error's text."""
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _check_names(expression: Expression, record: str, fields: Collection[str]) -> None:
    expression.check_names((record, "item", "now"))
    # Which fields are asked for is not told by the library.
    code = re.sub(r"\s*\.\s*", ".", expression.code)
    asked = re.findall(rf"(?<![\w.]){record}\.(\w+)", code)
    expression.check(f"field of {record}", asked, fields)


def advice(error: Exception) -> str:
    """What to do about an error of an expression over records that are not all alike."""
    match error.__cause__:
        case KeyError(args=(name, *_)):
            return f"Where not all items have it, ask for that first: has(item.{name}) && …"
        case _:
            return "A value may be null or of another type in some of them, ask for that first: item.x != null && …"
