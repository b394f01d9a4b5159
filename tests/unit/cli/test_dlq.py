"""`dlq` prints what the read-only API tells of a queue, and says what cannot be told."""

import csv
import io
import json
import re

import pytest

from mapreduce_operator.adapters.storage import FileStore
from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.cli.conftest import Call
from tests.unit.serving.scenes import ACCESS_REVIEWS, KEYS, key, write_run

ALL = {"open": "Open", "mended": "Resolved", "waits": "Claimed", "again": "Reprocessing", "aside": "Archived"}


@pytest.fixture(autouse=True)
async def run(store: FileStore) -> None:
    await write_run(store)


async def test_the_list_begins_with_the_newest(call: Call) -> None:
    code, out, _ = await call("dlq", "list", "demo", "-o", "json")

    assert code == 0
    assert [(one["id"], one["state"]) for one in json.loads(out)] == list(ALL.items())
    assert (await call("dlq", "list", "demo", "-o", "name"))[1].split() == list(ALL)


async def test_the_table_has_a_line_for_each_letter(call: Call) -> None:
    head, first, *others = (await call("dlq", "list", "demo"))[1].splitlines()

    assert re.split(" {3,}", head) == [
        *("ID", "STATE", "CAUSE", "REASON", "EXIT CODE", "SIGNATURE", "ATTEMPTS", "NODE", "LAST ATTEMPT", "MESSAGE")
    ]
    assert first.split()[:5] == ["open", "Open", "AttemptsExhausted", "Error", "2"]
    assert first.endswith("=cmd() [2J"), "what an agent says does not reach the terminal as a command"
    assert len(others) == 4


async def test_a_choice_is_by_state_and_by_filter(call: Call) -> None:
    choice = ("--state", "Archived", "--filter", "letter.exitCode == 1")
    assert (await call("dlq", "list", "demo", "-o", "name", *choice))[1] == "aside\n"
    assert (await call("dlq", "export", "demo", "--format", "jsonl", *choice))[1].count("\n") == 1
    assert (await call("dlq", "analyze", "demo", *choice))[1].startswith("1 letter: 1 Archived\n")


async def test_one_letter_is_shown_with_its_whole_history(call: Call) -> None:
    _, shown, _ = await call("dlq", "show", "demo", "open")

    assert "state:          Open\n" in shown
    assert 'item:\n  {"name":"open","size":4}\n' in shown
    assert "\ndispatch 1: Failed\n" in shown
    assert "  node:           node-1\n" in shown
    assert "  duration:       60 s\n" in shown
    assert f"  log:\n     [31mthe log of demo-{key('open')}-d1 [0m\n    its last line\n" in shown


async def test_a_letter_as_json_is_its_body_with_its_state(call: Call) -> None:
    letter = json.loads((await call("dlq", "show", "demo", "waits", "-o", "json"))[1])

    assert (letter["id"], letter["state"], letter["cause"]) == ("waits", "Claimed", "AttemptsExhausted")
    assert letter["history"][0]["logTail"].endswith("its last line")


async def test_the_analysis_as_a_table(call: Call) -> None:
    _, text, _ = await call("dlq", "analyze", "demo", "--state", "Open")

    assert text.startswith("1 letter: 1 Open\n\nCOUNT   REASON   SIGNATURE")
    assert "\nNODE     COUNT\nnode-1   1\n" in text
    assert (await call("dlq", "analyze", "demo", "--filter", "false"))[1] == "0 letters\n"


async def test_json_lines_are_the_bodies_with_their_states(call: Call) -> None:
    _, text, _ = await call("dlq", "export", "demo", "--format", "jsonl")

    assert {letter["id"]: letter["state"] for letter in map(json.loads, text.splitlines())} == ALL


async def test_csv_has_one_row_for_each_letter_and_no_formula(call: Call) -> None:
    _, text, _ = await call("dlq", "export", "demo", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))

    assert {row["id"]: row["state"] for row in rows} == ALL
    last = next(row for row in rows if row["id"] == "open")
    assert last["message"].startswith("'=")
    assert last["item"] == '{"name":"open","size":4}'


# ------------------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("form", [["list"], ["export", "--format", "csv"], ["export", "--format", "jsonl"]])
async def test_letters_that_cannot_be_read_are_an_error_after_the_others(
    call: Call, store: FileStore, form: list[str]
) -> None:
    await store.put(KEYS.letter(key("aside")), b"{")

    code, out, err = await call("dlq", *form, "demo")

    assert code == 1
    assert "waits" in out
    assert "aside" not in out
    assert err.startswith("error: 1 of 5 letters could not be read and are left out, such as: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", [["list"], ["analyze"], ["export", "--format", "csv"]])
async def test_a_wrong_filter_is_an_error_and_prints_nothing(call: Call, command: list[str]) -> None:
    code, out, err = await call("dlq", *command, "demo", "--filter", 'letter.id != "open" || item.missing == 1')

    assert code == 1
    assert "waits" not in out
    assert "has(item.missing)" in err


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["list", "other"], 5, "there is no DeadLetterQueue 'other' in the namespace 'default'"),
        (["show", "demo", "../x"], 5, "no letter of the queue is of an item '../x'"),
        (["list", "demo", "-n", "elsewhere"], 6, "jane may not get deadletterqueues/letters of demo"),
    ],
)
async def test_what_cannot_be_told_has_a_code_of_its_own(call: Call, words: list[str], code: int, why: str) -> None:
    ended, out, err = await call("dlq", *words)

    assert (ended, out) == (code, "")
    assert why in err


async def test_who_may_not_is_told_by_whom_he_may(call: Call, api: FakeApi) -> None:
    api.on("POST", ACCESS_REVIEWS, answer({"status": {"allowed": False}}, 201))

    code, _, err = await call("dlq", "analyze", "demo")

    assert code == 6
    assert "the roles view, edit and admin hold that right" in err
