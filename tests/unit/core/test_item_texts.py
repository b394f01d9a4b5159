"""From bytes to values: every format, compressed or not, within its bounds, and complaints that name the line."""

import csv
import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import InputFormat
from mapreduce_operator.core.item_texts import ARRAY_BYTES, LINE_BYTES, TEXT_BYTES, text_of, values_in
from mapreduce_operator.core.plan import InputError
from tests.unit.core import strategies

JSON, LINES, CSV = InputFormat.JSON, InputFormat.JSON_LINES, InputFormat.CSV


def read(text: str | bytes, form: InputFormat) -> list[Any]:
    return [*values_in(text.encode() if isinstance(text, str) else text, form, "key 'k'")]


def refused(text: str | bytes, form: InputFormat) -> tuple[str, str]:
    """Reason and text of the complaint."""
    with pytest.raises(InputError) as caught:
        read(text, form)
    return caught.value.reason, str(caught.value)


def refused_bytes(data: bytes) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        text_of(data, "key 'k'")
    return caught.value.reason, str(caught.value)


# ---------------------------------------------------------------------------------------------------------------- bytes


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")))
def test_a_text_is_the_same_whether_it_is_compressed_or_not(text: str) -> None:
    data = text.encode()

    assert text_of(data, "k") == text_of(gzip.compress(data), "k") == data


def test_what_was_compressed_in_parts_is_one_text() -> None:
    assert text_of(gzip.compress(b"1\n") + gzip.compress(b"2\n"), "k") == b"1\n2\n"


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert text_of(b"\xef\xbb\xbf[1]", "k") == b"[1]"


@pytest.mark.parametrize("data", [b"\xff\xfe[\x001\x00", b'"caf\xe9"', b'"\xc3', b"\xed\xa0\x80"])
def test_what_is_not_utf_8_is_refused_and_an_example_shown(data: bytes) -> None:
    reason, message = refused_bytes(data)

    assert reason == "InputMalformed"
    assert message.startswith("key 'k' is not UTF-8, but for example b'")


def test_a_letter_between_two_pieces_of_the_text_is_whole() -> None:
    data = b"x" * ((1 << 20) - 1) + "ü".encode()
    assert text_of(data, "k") == data
    assert refused_bytes(data[:-1])[0] == "InputMalformed"


@pytest.mark.parametrize(
    "data",
    [b"\x1f\x8b", b"\x1f\x8bno gzip", gzip.compress(b"[1]")[:-4], gzip.compress(b"1") + b"x"],
    ids=["two bytes", "no gzip", "cut", "more"],
)
def test_what_only_begins_as_gzip_is_refused(data: bytes) -> None:
    reason, message = refused_bytes(data)

    assert reason == "InputMalformed"
    assert message.startswith("key 'k' begins as gzip does, and cannot be decompressed: ")


def test_a_text_just_as_long_as_allowed_is_read_and_what_grows_beyond_is_refused() -> None:
    assert len(text_of(gzip.compress(b" " * TEXT_BYTES, 1), "k")) == TEXT_BYTES

    for data in (b" " * (TEXT_BYTES + 1), gzip.compress(b" " * (TEXT_BYTES + 1), 1)):
        assert refused_bytes(data) == (
            "InputTooLarge",
            "key 'k' has more than 67,108,864 bytes of text. Split it into several jobs",
        )


# ----------------------------------------------------------------------------------------------------------------- JSON


def test_a_json_text_is_one_array() -> None:
    assert read('[{"a": 1}, "b",\n null]', JSON) == [{"a": 1}, "b", None]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{}", "an object"),
        ('"a"', "a string"),
        ("1", "a number"),
        ("1.5", "a number"),
        ("true", "a boolean"),
        ("null", "null"),
    ],
)
def test_a_json_text_that_is_no_array_is_refused_with_a_hint(text: str, kind: str) -> None:
    assert refused(text, JSON) == (
        "InputMalformed",
        f"key 'k' holds {kind}, not a JSON array; for one value per line set format: JSONLines",
    )


@pytest.mark.parametrize("text", ["", "[1, 2", "[1] [2]", "[1e999]", "[" * 5000 + "]" * 5000])
def test_a_text_that_is_no_json_is_refused_and_its_source_named(text: str) -> None:
    reason, message = refused(text, JSON)

    assert reason == "InputMalformed"
    assert message.startswith("key 'k' is no valid JSON: ")


def test_a_long_array_is_refused_with_the_way_that_takes_more() -> None:
    assert read("[" + " " * (ARRAY_BYTES - 2) + "]", JSON) == []

    reason, message = refused("[" + " " * (ARRAY_BYTES - 1) + "]", JSON)
    assert reason == "InputTooLarge"
    assert message.endswith("Write one value on each line, and set format: JSONLines")


# ---------------------------------------------------------------------------------------------------------------- lines


def test_json_lines_are_one_value_each_and_empty_lines_are_skipped() -> None:
    assert read('{"a": 1}\n\n  "b"\r\nnull\n', LINES) == [{"a": 1}, "b", None]
    assert read("", LINES) == []


def test_malformed_lines_are_refused_by_their_numbers() -> None:
    reason, message = refused('{"a": 1}\n\noops\n3\n{"b": \n', LINES)

    assert reason == "InputMalformed"
    assert message.startswith("key 'k' has lines that are no valid JSON: line 3: ")
    assert "; line 5: " in message
    assert "line 4" not in message


def test_many_malformed_lines_are_counted_after_the_first_few() -> None:
    assert refused("oops\n" * 100, LINES)[1].endswith("; and 95 more")


def test_a_line_that_is_nested_too_deep_is_refused_by_its_number() -> None:
    assert "line 2: " in refused("1\n" + "[" * 5000 + "]" * 5000, LINES)[1]


def test_a_line_that_is_too_long_is_refused_by_its_number() -> None:
    assert read(f'1\n"{"x" * (LINE_BYTES - 3)}"\n', LINES)[1] == "x" * (LINE_BYTES - 3)

    assert (
        "line 2: it has 1,048,577 bytes; a line may have 1,048,576"
        in refused(f'1\n"{"x" * (LINE_BYTES - 2)}"\n', LINES)[1]
    )


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85"])
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    assert read(f'"a{separator}b"\n"c"', LINES) == [f"a{separator}b", "c"]


@given(st.lists(strategies.json_values, max_size=5), st.booleans())
def test_what_was_written_as_lines_is_read_as_items(values: list[Any], ascii_only: bool) -> None:
    assert read("\n".join(json.dumps(value, ensure_ascii=ascii_only) for value in values), LINES) == values


def test_lines_are_read_one_at_a_time() -> None:
    values = values_in(b"1\noops\n", LINES, "k")

    assert next(values) == 1


# ------------------------------------------------------------------------------------------------------------------ CSV


def test_rows_are_objects_of_strings_named_by_the_first_line() -> None:
    text = 'file,size\nGPL-3,7\n\n"a, b","c\nd"\r\n"say ""hi""",\n'

    assert read(text, CSV) == [
        {"file": "GPL-3", "size": "7"},
        {"file": "a, b", "size": "c\nd"},
        {"file": 'say "hi"', "size": ""},
    ]
    assert read("", CSV) == read("a,b\n", CSV) == []


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, max_size=2), max_size=5))
def test_what_was_written_as_csv_is_read_as_items(rows: list[list[str]]) -> None:
    file = io.StringIO()
    csv.writer(file).writerows([["a", "b"], *rows])

    assert read(file.getvalue(), CSV) == [{"a": one, "b": other} for one, other in rows]


def test_rows_with_a_wrong_number_of_cells_are_refused_by_the_line_on_which_they_begin() -> None:
    reason, message = refused('a,b\n1,2\n"x\ny",2\n3\n\n"p\nq"\n4,5,6\n', CSV)

    assert reason == "InputMalformed"
    assert message == (
        "key 'k' has lines with a wrong number of cells: line 5: 1 cell; the first line has 2; "
        "line 7: 1 cell; the first line has 2; line 9: 3 cells; the first line has 2"
    )


@pytest.mark.parametrize("header", ["a,a", "a,", ",", '"",b'])
def test_columns_have_names_of_their_own(header: str) -> None:
    reason, message = refused(f"{header}\n1,2\n", CSV)

    assert reason == "InputMalformed"
    assert message.startswith("key 'k', line 1: the first line of CSV names the columns")


def test_what_is_no_csv_is_refused_by_its_line() -> None:
    assert refused('a,b\n1,"x"y\n', CSV)[1].startswith("key 'k' is no valid CSV: line 2: ")
    assert refused('a,b\n1,2\n3,"x\n' + "y\n" * 10, CSV)[1].startswith("key 'k' is no valid CSV: line 3: ")


def test_a_row_that_is_too_long_is_refused_by_the_line_on_which_it_begins() -> None:
    rows = "1,2\n" + '3,"' + ",\n" * (LINE_BYTES // 2) + '"\n'

    assert refused(f"a,b\n{rows}", CSV)[1].startswith("key 'k' is no valid CSV: line 3: ")
    assert refused("a," * LINE_BYTES, CSV)[1] == (
        "key 'k' is no valid CSV: line 1: the row that begins here has more than 1,048,576 characters"
    )
