"""What an input asks of each item, in CEL over `item`: whether it is meant, and where it stands among the others.

As everywhere, an item for which there is no answer is an error: nothing is left out by accident. That a field is
missing is one answer where items are put in order: such items come last.
"""

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

from mapreduce_operator.api import OrderBy, SortOrder
from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.questions import advice
from mapreduce_operator.core.texts import kind_of

Rank = tuple[int, int, Any]
"""By which an item stands among others: whether it has a value, the kind of the value, the value."""

EXPRESSION_SECONDS: Final = 20.0
"""For all expressions of an input over all its items together, in seconds of the processor. One that asks for a field
takes 0.8 s for 100,000 items.
"""

_LAST: Final = 2


def item_expression(text: str) -> Expression:
    """A compiled expression over `item`; raises ExpressionError, also for functions and variables that do not exist."""
    expression = Expression(text, seconds=EXPRESSION_SECONDS)
    expression.check_names(("item",))
    return expression


class ItemFilter:
    """Says of each item whether it is one of the job."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError."""
        self.expression: Final = item_expression(text)

    def keeps(self, item: Any) -> bool:
        """Raises ExpressionError where the answer is none of true and false."""
        try:
            answer = self.expression.evaluate({"item": item})
        except ExpressionError as error:
            raise ExpressionError(f"filter {error}. {advice(error)}") from error
        if not isinstance(answer, bool):
            raise ExpressionError(f"filter {self.expression.text!r} gave {kind_of(answer)}, not true or false")
        return answer


class ItemOrder:
    """Puts items in order.

    Ascending: false, true, numbers, strings by their code points; descending is the reverse of that. Null, and a field
    that is missing, come last in either. Items that are equal stay in the order in which they came.
    """

    def __init__(self, by: Sequence[OrderBy]) -> None:
        """Raises ExpressionError that says which entry is wrong."""
        self.expressions: Final[list[Expression]] = []
        self._descending: Final = [one.order is SortOrder.DESCENDING for one in by]
        for number, one in enumerate(by):
            try:
                self.expressions.append(item_expression(one.expression))
            except ExpressionError as error:
                raise ExpressionError(f"[{number}].expression: {error}") from error

    def ranks(self, item: Any) -> tuple[Rank, ...]:
        """Where an item stands, entry by entry; raises ExpressionError for what cannot be compared."""
        return tuple(
            self._rank(item, expression, descending=descending)
            for expression, descending in zip(self.expressions, self._descending, strict=True)
        )

    def sort(self, ranked: list[tuple[tuple[Rank, ...], Any]]) -> None:
        """Sorts pairs of the ranks of an item and something else."""
        for number, descending in reversed([*enumerate(self._descending)]):
            ranked.sort(key=lambda pair, at=number: pair[0][at], reverse=descending)  # type: ignore[misc]

    def _rank(self, item: Any, expression: Expression, *, descending: bool) -> Rank:
        last = -_LAST if descending else _LAST
        try:
            value = expression.evaluate({"item": item})
        except ExpressionError as error:
            if isinstance(error.__cause__, KeyError):
                return last, 0, 0
            raise ExpressionError(f"orderBy {error}") from error
        match value:
            case None:
                return last, 0, 0
            case bool():
                return 0, 0, value
            case int() | float() if not isnan(value):
                return 0, 1, value
            case str():
                return 0, 2, value
            case _:
                what = "NaN" if isinstance(value, float) else kind_of(value)
                raise ExpressionError(
                    f"orderBy {expression.text!r} gave {what}; items are put in order by booleans, numbers and strings"
                )
