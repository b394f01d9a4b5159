"""What agents say comes to a terminal as text and as nothing else."""

import json
import re
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.cli.parameters import Duration
from mapreduce_operator.cli.text import as_json, as_yaml, length, one_line, printable, table, told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 漢字", "plain, größer, 漢字"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2J\x07", " [2J "),
        ("a\tb\rc", "a b c"),
        ("\x9b31m", " 31m"),
        ("\u202egpj.exe", " gpj.exe"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_a_cell_is_one_line_of_bounded_length(text: str, characters: int) -> None:
    cell = one_line(text, characters)
    assert len(cell) <= characters
    assert len(cell.splitlines()) <= 1


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(table(("A", "LONG"), [("wide", "x"), ("y", "")])) == ["A      LONG\n", "wide   x\n", "y\n"]


def test_a_table_without_rows_has_heads() -> None:
    assert list(table(("A", "B"), [])) == ["A   B\n"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0s"), (2, "2s"), (90, "1m30s"), (3600, "1h"), (5400, "1h30m"), (604_800, "7d"), (2_592_061, "30d1m1s")],
)
def test_a_length_of_time_is_told_as_people_write_it(seconds: float, told: str) -> None:
    assert length(seconds) == told
    assert Duration().convert(told, None, None) == seconds


@given(st.text())
def test_json_and_yaml_are_whole_and_obeyed_by_no_terminal(text: str) -> None:
    value = {text: [text]}
    assert json.loads(as_json(value)) == value
    assert yaml.safe_load(as_yaml(value)) == value
    for shown in (as_json(value), as_yaml(value)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)


def test_values_for_people() -> None:
    assert [told(None), told(0), told(datetime(2026, 1, 2, tzinfo=UTC))] == ["", "0", "2026-01-02T00:00:00Z"]
