"""What commands are told and what they print: tables, and texts of agents that cannot play tricks on a terminal."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mapreduce_operator.cli.kubectl_yaml import written

ITEM_CHARACTERS: Final = 64
"""Of the id of an item in a table."""
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


def span(seconds: float) -> str:
    """A length of time, as exact as people want it, in the way of kubectl."""
    whole = max(0, round(seconds))
    for unit, size, below in (("m", 60, 3 * 3600), ("h", 3600, 2 * 86_400)):
        if whole < 120:
            return f"{whole}s"
        if whole < below:
            large, rest = divmod(whole, size)
            smaller = (
                f"{rest // (size // 60)}{'s' if unit == 'm' else 'm'}" if large < 10 and rest >= size // 60 else ""
            )
            return f"{large}{unit}{smaller}"
    return f"{whole // 86_400}d"


def length(seconds: float) -> str:
    """A length of time as people write it on a command line, such as 1h30m."""
    left, parts = round(seconds), list[str]()
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines in columns, as kubectl writes them."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        yield _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n"


def pairs(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Lines with a name and a value each, for the values that are there."""
    for name, value in values.items():
        text = ", ".join(value) if isinstance(value, tuple) else printable(told(value))
        if text:
            yield f"{indent}{name.replace('_', ' ') + ':':<16}" + text.replace("\n", f"\n{indent}{'':<16}") + "\n"


def as_json(value: Any) -> str:
    return escaped(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n"


def escaped(json: str) -> str:
    """The same JSON, in which nothing is left that a terminal would obey."""
    return _NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def as_yaml(value: Any) -> str:
    return written(msgspec.to_builtins(value))
