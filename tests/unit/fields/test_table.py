"""Every field that a user may set has a test, and it is known whether that test notices when the field is ignored."""

import ast
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.fields.__main__ import main
from tests.fields.ignored import without
from tests.fields.table import entries
from tests.fields.walk import fields

PROJECT: Final = Path(__file__).resolve().parents[3]
ENTRIES: Final = entries()


@cache
def functions_of(file: str) -> frozenset[str]:
    tree = ast.parse((PROJECT / file).read_text())
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_field_stands_in_the_table_once_and_no_other() -> None:
    named = [f"{one.kind} {one.path}" for one in ENTRIES]

    assert sorted(named) == sorted(fields())


@pytest.mark.parametrize("file", sorted({one.test.partition("::")[0] for one in ENTRIES}))
def test_every_test_that_is_named_exists(file: str) -> None:
    named = {one.test.partition("::")[2].partition("[")[0] for one in ENTRIES if one.test.startswith(file)}

    assert named <= functions_of(file)


def test_a_field_that_must_be_there_is_replaced_and_any_other_is_left_out() -> None:
    replaced = {f"{one.kind} {one.path}" for one in ENTRIES if one.instead is not None}

    assert replaced == {name for name, required in fields().items() if required}


@pytest.mark.parametrize(
    ("path", "instead", "expected"),
    [
        ("a.b[].c", None, {"a": {"b": [{"d": 2}, {}]}, "e": 3}),
        ("a.b[].c", "7", {"a": {"b": [{"c": 7, "d": 2}, {}]}, "e": 3}),
        ("e", None, {"a": {"b": [{"c": 1, "d": 2}, {}]}}),
        ("a.x.y", "7", {"a": {"b": [{"c": 1, "d": 2}, {}]}, "e": 3}),
    ],
)
def test_what_is_ignored(path: str, instead: str | None, expected: object) -> None:
    spec = {"a": {"b": [{"c": 1, "d": 2}, {}]}, "e": 3}

    assert without(spec, path.split("."), instead) == expected
    assert spec == {"a": {"b": [{"c": 1, "d": 2}, {}]}, "e": 3}


def test_a_test_that_does_not_notice_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drains = "tests/simulation/test_control.py::test_suspend_with_drain_lets_agents_end_and_starts_no_more"
    table = tmp_path / "fields.yaml"
    table.write_text(f"MapReduceJob:\n  spec.suspend: {drains}\n  spec.cancel: {drains}\n")

    assert main(["--table", str(table)]) == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"MapReduceJob spec.cancel: {drains} does not notice that it is ignored",
        "1 of 2 fields have a test that fails without them",
    ]
