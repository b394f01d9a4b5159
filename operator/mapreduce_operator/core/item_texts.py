"""From the bytes of an input to its values: JSON, JSON lines or CSV, as they are or compressed by gzip.

Users write them, and they are read in a process that works for all users. So the size is bounded before anything is
made of them, and lines are read one at a time: who takes only some of the values never has all of them in memory.
"""

import csv
import gzip
import io
import zlib
from codecs import BOM_UTF8, getincrementaldecoder
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from mapreduce_operator.api import InputFormat
from mapreduce_operator.core.plan import InputError, Problems
from mapreduce_operator.core.texts import counted, kind_of

TEXT_BYTES: Final = 64 * 1024**2
"""Of what is read, before and after it is decompressed: 100,000 items of 670 bytes. An operator with 512 MiB holds it
once as it is stored and once as a text, beside the plan that is made of it and the runs that are at work.
"""
ARRAY_BYTES: Final = 8 * 1024**2
"""Of one JSON array, which is in memory as a whole: up to 25 times its size, where it holds many small objects."""
LINE_BYTES: Final = 1024**2
"""Of one line, or one row of CSV, for the same reason."""
_GZIP: Final = b"\x1f\x8b"
_CHUNK: Final = 1 << 20


def text_of(data: bytes, where: str) -> bytes:
    """The text of an input, decompressed if need be, in UTF-8; raises InputError that says what it is instead."""
    if data.startswith(_GZIP):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
                # Not all of it: what is small here may be as large as one likes when it is decompressed.
                data = packed.read(TEXT_BYTES + 1)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(
                "InputMalformed", f"{where} begins as gzip does, and cannot be decompressed: {error}"
            ) from error
    if len(data) > TEXT_BYTES:
        raise InputError(
            "InputTooLarge", f"{where} has more than {TEXT_BYTES:,} bytes of text. Split it into several jobs"
        )
    decoder = getincrementaldecoder("utf-8")()
    for begin in range(0, len(data) + 1, _CHUNK):
        # In pieces: as one string it would take up to four times as much.
        try:
            decoder.decode(data[begin : begin + _CHUNK], final=begin + _CHUNK > len(data))
        except UnicodeDecodeError as error:
            raise InputError(
                "InputMalformed",
                f"{where} is not UTF-8, but for example {error.object[error.start : error.start + 4]!r}. Write it anew "
                "in UTF-8",
            ) from error
    return data.removeprefix(BOM_UTF8)


def values_in(text: bytes, form: InputFormat, where: str) -> Iterator[Any]:
    """The values in a text of UTF-8, in their order; raises InputError that names lines or positions."""
    match form:
        case InputFormat.JSON:
            return _array(text, where)
        case InputFormat.JSON_LINES:
            return _lines(text, where)
        case InputFormat.CSV:
            return _table(text, where)


def _array(text: bytes, where: str) -> Iterator[Any]:
    if len(text) > ARRAY_BYTES:
        raise InputError(
            "InputTooLarge",
            f"{where} has {len(text):,} bytes; one JSON array may have {ARRAY_BYTES:,}. Write one value on each line, "
            "and set format: JSONLines",
        )
    try:
        values = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InputError("InputMalformed", f"{where} is no valid JSON: {error}") from error
    if not isinstance(values, list):
        raise InputError(
            "InputMalformed",
            f"{where} holds {kind_of(values)}, not a JSON array; for one value per line set format: JSONLines",
        )
    yield from values


def _lines(text: bytes, where: str) -> Iterator[Any]:
    problems = Problems()
    # Not splitlines: JSON strings may hold characters such as U+2028 that also end a line for Python.
    for number, line in enumerate(io.BytesIO(text), start=1):
        if line.isspace():
            continue
        if len(line) > LINE_BYTES:
            problems.add(f"line {number}: it has {len(line):,} bytes; a line may have {LINE_BYTES:,}")
            continue
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            problems.add(f"line {number}: {error}")
        else:
            yield value
    if problems:
        raise InputError("InputMalformed", f"{where} has lines that are no valid JSON: {problems}")


def _table(text: bytes, where: str) -> Iterator[dict[str, str]]:
    problems, header, line, taken = Problems(), list[str](), 1, 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for one in io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline=""):
            taken += len(one)
            if taken > LINE_BYTES:
                # A quote that is never closed makes one row of all that follows.
                raise csv.Error(f"the row that begins here has more than {LINE_BYTES:,} characters")
            yield one

    rows = csv.reader(lines(), strict=True)
    try:
        for row in rows:
            taken = 0
            if not header:
                header = row
                _check_header(header, line, where)
            elif len(row) == len(header):
                yield dict(zip(header, row, strict=True))
            elif row:
                problems.add(f"line {line}: {counted(len(row), 'cell')}; the first line has {len(header):,}")
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError("InputMalformed", f"{where} is no valid CSV: line {line}: {error}") from error
    if problems:
        raise InputError("InputMalformed", f"{where} has lines with a wrong number of cells: {problems}")


def _check_header(header: list[str], line: int, where: str) -> None:
    if header and (len(set(header)) < len(header) or "" in header):
        raise InputError(
            "InputMalformed",
            f"{where}, line {line}: the first line of CSV names the columns, each with a name of its own; it is "
            f"{', '.join(map(repr, header[:10]))}",
        )
