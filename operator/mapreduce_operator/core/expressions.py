"""CEL, the one expression language of the project: ids, rules over results, filters over dead letters.

Expressions are compiled once. A wrong expression never counts as an answer: it raises, and the text names the
expression and what is wrong with it.

Users write them, and they are evaluated between everything else that the operator does for all its users, in calls
that cannot be interrupted. So each of them must end in time, whatever it says: what makes values grow without bound is
refused when it is compiled, and a macro, such as `all`, stops when SECONDS are over. The longest evaluations that were
found take 1.2 s, over an item of 32 KiB: one that fills its SECONDS, and the step that it is at then.
"""

import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final

import cel

SECONDS: Final = 0.5
"""How long the macros of one evaluation may take, in seconds of the processor."""

SUMS: Final = 20
"""How often an expression may say +: each one copies what was added up so far, and may do so with whole lists."""

_TYPES: Final = ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")
_CONVERSIONS: Final = ("bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint")
_OF_TEXTS: Final = ("contains", "endsWith", "matches", "size", "startsWith")
_OF_TIMES: Final = (
    *("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear"),
    *("getHours", "getMinutes", "getSeconds", "getMilliseconds"),
)
FUNCTIONS: Final = (*_CONVERSIONS, *_OF_TEXTS, *_OF_TIMES)
"""The functions of CEL, without operators and macros. The library finds out only when it calls one that there is none,
which may be never: behind `||`, or for no record that is there today.
"""

_CONTINUE: Final = "continue_in_time"
_LITERAL_OR_COMMENT: Final = re.compile(
    r"""//[^\n]*
    | [bB]?[rR] (?: '''.*?''' | \"""(?s:.*?)\""" | '[^'\n]*' | "[^"\n]*" )
    | [bB]? (?: '''(?:\\.|[^\\])*?''' | \"""(?:\\.|[^\\])*?\""" | '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" )""",
    re.VERBOSE | re.DOTALL,
)
_CALL_OF_MACRO: Final = re.compile(r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(")
_COMPLAINT: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*?)(?: expecting .*)?$", re.MULTILINE)


class ExpressionError(Exception):
    """An expression that cannot be compiled, or that has no value for these variables."""


class Expression:
    """A compiled CEL expression."""

    def __init__(self, text: str, *, seconds: float = inf) -> None:
        """`seconds` of the processor are for all evaluations together: after them there are no more values.

        Raises ExpressionError for a text that is no expression, or one that might not end in time.
        """
        self.text: Final = text
        self._seconds: Final = seconds
        self.spent = 0.0
        """What all evaluations took so far, in seconds of the processor."""
        plain = self._compile(text)
        self.code: Final = _LITERAL_OR_COMMENT.sub(lambda found: " " * len(found[0]), text)
        """The text with spaces in the place of literals and comments."""
        macros = list(macros_in(self.code))
        self._check_growth(macros)
        references = plain.references()
        self.functions: Final = frozenset(filter(str.isidentifier, references["functions"]))
        """Names of the functions that are called, without operators and macros."""
        self.variables: Final = frozenset(references["variables"]) - {macro.variable for macro in macros}
        """Names of the variables that are asked for, without those that macros bind."""
        self._program: Final = self._compile(_in_time(text, macros)) if macros else plain

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """The value for these variables; raises ExpressionError where there is none, or none in time."""
        if self.spent > self._seconds:
            raise ExpressionError(
                f"{self.text!r} took more than {self._seconds:g} s for those before: ask for less, or of fewer"
            )
        began, late = time.thread_time(), False

        def in_time() -> bool | None:
            nonlocal late
            late = late or time.thread_time() > began + SECONDS
            # null is no condition, which ends the macro; an exception would be logged by the library.
            return None if late else True

        value = None
        try:
            value = self._program.execute(cel.Context(dict(variables), {_CONTINUE: in_time}))
        except KeyError as error:
            raise ExpressionError(f"{self.text!r}: no such field {error}") from error
        except (ValueError, TypeError, RuntimeError, IndexError, ArithmeticError) as error:
            if not late:
                raise ExpressionError(f"{self.text!r}: {_first_sentence(error)}") from error
        finally:
            self.spent += time.thread_time() - began
        if late:
            # Also where the library has a value all the same, as behind `||`.
            raise ExpressionError(
                f"{self.text!r} takes longer than {SECONDS} s: ask for less of each entry, or have shorter lists"
            )
        return value

    def check_names(self, variables: Collection[str]) -> None:
        """Raises ExpressionError where it asks for another variable than these, or calls a function there is not."""
        self.check("function", self.functions, FUNCTIONS)
        self.check("variable", self.variables - {*_TYPES}, variables)

    def check(self, kind: str, names: Iterable[str], there: Collection[str]) -> None:
        """Raises ExpressionError where one of the names, which are of this kind, is not there."""
        for name in sorted(set(names) - set(there)):
            raise ExpressionError(f"{self.text!r}: there is no {kind} {name!r}; there are {', '.join(there)}")

    def _compile(self, text: str) -> cel.Program:
        try:
            return cel.compile(text)
        except ValueError as error:
            found = _COMPLAINT.search(str(error))
            why = f"line {found[1]}, column {found[2]}: {found[3]}" if found else _first_sentence(error)
            raise ExpressionError(f"{self.text!r} is no valid CEL expression: {why}") from error

    def _check_growth(self, macros: "list[_Macro]") -> None:
        # Both double what they are given, again and again: [[x].map(a, a + a)].map(a, a + a), or one in the other.
        for number, macro in enumerate(macros):
            if macro.name == "map":
                raise ExpressionError(
                    f"{self.text!r}: map is not there. Ask for the entries themselves, with all, exists, exists_one or "
                    "filter"
                )
            for outer in macros[:number]:
                if macro.start < outer.end:
                    raise ExpressionError(
                        f"{self.text!r}: {macro.name} stands inside {outer.name}, where it might never come to an end. "
                        "Put it beside it, joined with && or ||, or let the agent find the answer"
                    )
        if self.code.count("+") > SUMS:
            raise ExpressionError(f"{self.text!r}: + stands in it more than {SUMS} times. Add up less")


@dataclass(frozen=True, slots=True)
class _Macro:
    name: str
    variable: str
    start: int
    """Where its name begins."""
    body: int
    """Where what it says of each entry begins."""
    end: int
    """Where that ends."""


def macros_in(code: str) -> Iterator[_Macro]:
    """The macros that stand in the code of an expression."""
    for call in _CALL_OF_MACRO.finditer(code):
        depth, marks = 0, []
        for at in range(call.end(), len(code)):
            if depth == 0 and code[at] in ",)":
                marks.append(at)
                if code[at] == ")":
                    break
            depth += (code[at] in "([{") - (code[at] in ")]}")
        # With another number of arguments it is a function, which there is not.
        if len(marks) == 2 or call[1] == "map":
            # The library takes (x) and .x for x.
            variable = code[call.end() : marks[0]].strip(" \t\r\n\f().")
            yield _Macro(call[1], variable, call.start(), marks[0] + 1, marks[-1])


def _in_time(text: str, macros: list[_Macro]) -> str:
    """The expression with macros that ask before each entry whether there is time left."""
    for macro in reversed(macros):
        body = f"{_CONTINUE}() ? ({text[macro.body : macro.end]}) : false"
        text = text[: macro.body] + body + text[macro.end :]
    return text


def _first_sentence(error: Exception) -> str:
    text = str(error)
    return text.splitlines()[0].partition(". ")[0] if text else type(error).__name__
