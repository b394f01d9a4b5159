"""CEL, the one expression language of the project: ids, rules over results, and later filters over dead letters.

Expressions are compiled once. A wrong expression never counts as an answer: it raises, and the text names the
expression and what is wrong with it.
"""

from collections.abc import Mapping
from typing import Any, Final

import cel


class ExpressionError(Exception):
    """An expression that cannot be compiled, or that has no value for these variables."""


class Expression:
    """A compiled CEL expression."""

    def __init__(self, text: str) -> None:
        self.text: Final = text
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise ExpressionError(f"{text!r} is no valid CEL expression: {_first_line(error)}") from error

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The value for these variables; raises ExpressionError where there is none."""
        try:
            return self._program.execute(dict(variables))
        except KeyError as error:
            raise ExpressionError(f"{self.text!r}: no such field {error}") from error
        except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
            raise ExpressionError(f"{self.text!r}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
