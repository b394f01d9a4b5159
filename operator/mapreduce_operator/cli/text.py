"""What commands print for people: tables, and texts of agents that cannot play tricks on a terminal."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_GAP: Final = "   "
_NOT_PRINTABLE: Final = re.compile(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Escape sequences and marks of writing direction among them."""


def printable(text: str) -> str:
    """The text without what a terminal would obey. Its lines stay."""
    return _NOT_PRINTABLE.sub(" ", text)


def one_line(text: str, characters: int) -> str:
    """The text as the cell of a table."""
    line = " ".join(printable(text).split())
    return line if len(line) <= characters else line[: characters - 1] + "…"


def told(value: Any) -> str:
    """A value for people; empty where there is none."""
    match value:
        case None:
            return ""
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case _:
            return str(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines in columns, as kubectl writes them."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"
