"""Dead letters for other programs: JSON lines with everything, CSV with one row per letter. Both letter by letter."""

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

import msgspec

from mapreduce_operator.api import LetterState
from mapreduce_operator.core.letter_queries import FIELDS
from mapreduce_operator.core.letters import SCHEMA_VERSION, Letter

COLUMNS: Final = (*FIELDS, "item")
"""The columns bear the names that filters use. Times are in UTC, item is the payload as a JSON text."""

_FORMULA: Final = re.compile(
    r"""[\s\x00-\x1f"'\u200b-\u200f\u2060\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n\x00]"""
)
"""Texts that a spreadsheet may run as a formula: OWASP's list of first characters, the full-width ones too, also behind
what an import may strip.
"""


class _Line(Letter, frozen=True, kw_only=True, tag=SCHEMA_VERSION):
    state: LetterState


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Line)


class _Echo:
    """A file for the csv module that keeps nothing: writing a row gives its text."""

    def write(self, text: str) -> str:
        return text


def json_line(letter: Letter, state: LetterState) -> bytes:
    """The letter as it lies in storage, with its state, on a line of its own."""
    return _encoder.encode(_Line(**msgspec.structs.asdict(letter), state=state)) + b"\n"


def letter_in(line: bytes) -> tuple[Letter, LetterState]:
    """The letter in such a line, and its state. Raises msgspec.DecodeError."""
    found = _decoder.decode(line)
    return found, found.state


def csv_rows(letters: Iterable[tuple[Letter, LetterState]]) -> Iterator[str]:
    """A row with the names of the columns, then one for each letter, as in RFC 4180.

    A text that a spreadsheet could take for a formula begins with an apostrophe. All texts are in quotes, numbers are
    not, and an exit code that does not exist is empty.
    """
    rows = csv.writer(_Echo(), quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    yield rows.writerow(COLUMNS)
    for letter, state in letters:
        item = bytes(letter.payload).decode()
        yield rows.writerow([_cell(value) for value in (*(get(letter, state) for get in FIELDS.values()), item)])


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return msgspec.to_builtins(value) if isinstance(value, datetime) else value
