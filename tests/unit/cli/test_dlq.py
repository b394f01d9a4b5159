"""The command line reads the letters of a real run, says where each stands, and never writes."""

import asyncio
import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.cli.__main__ import main
from mapreduce_operator.core.names import RunRef
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure
from tests.unit.cli.conftest import API, KEYS, key

Call = Callable[..., Coroutine[Any, Any, str]]


@pytest.fixture
def call(run: RunRef, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `mapreduce …` in a thread, as the API server needs this one; gives what it printed."""
    del run, api
    monkeypatch.setenv("MAPREDUCE_STORAGE_URL", f"file://{tmp_path}")

    async def call(*arguments: str, code: int = 0) -> str:
        out = io.BytesIO()
        assert await asyncio.to_thread(main, arguments, out) == code
        return out.getvalue().decode()

    return call


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Objects with their content and the time of their last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".store" not in path.parts
    }


def states_in(text: str) -> dict[str, str]:
    return {letter["id"]: letter["state"] for letter in json.loads(text)}


ALL = {"open": "Open", "mended": "Resolved", "waits": "Claimed", "again": "Reprocessing", "aside": "Archived"}


# --------------------------------------------------------------------------------------------------------------- list


async def test_the_list_says_where_each_letter_stands_and_begins_with_the_newest(call: Call) -> None:
    found = states_in(await call("dlq", "list", "default/demo", "-o", "json"))

    assert list(found.items()) == list(ALL.items())


async def test_the_table_has_a_line_for_each_letter(call: Call) -> None:
    head, first, *others = (await call("dlq", "list", "default/demo")).splitlines()

    assert re.split(" {3,}", head) == [
        *("ID", "STATE", "CAUSE", "REASON", "EXIT CODE", "SIGNATURE", "ATTEMPTS", "NODE", "LAST ATTEMPT", "MESSAGE")
    ]
    assert first.split()[:5] == ["open", "Open", "AttemptsExhausted", "Error", "2"]
    assert first.endswith("=cmd() [2J"), "what an agent says does not reach the terminal as a command"
    assert len(others) == 4


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        (["--state", "Open"], ["open"]),
        (["--filter", "letter.exitCode == 1"], ["mended", "waits", "again", "aside"]),
        (["--filter", "item.size == 5 && letter.redrives == 0"], ["waits", "again", "aside"]),
        (["--filter", "letter.exitCode == 1", "--state", "Archived"], ["aside"]),
        (["--filter", 'now > timestamp("2020-01-01T00:00:00Z")'], list(ALL)),
        (["--filter", "letter.exitCode == 3"], []),
    ],
)
async def test_a_choice_is_by_state_and_by_filter(call: Call, choice: list[str], ids: list[str]) -> None:
    assert list(states_in(await call("dlq", "list", "default/demo", "-o", "json", *choice))) == ids


@pytest.mark.parametrize(
    "command", [["list"], ["analyze"], ["export", "--format", "csv"], ["export", "--format", "jsonl"]]
)
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("letter.exitCode ==", "is no valid CEL expression"),
        ("letter.exit == 1", "there is no field of letter 'exit'"),
        ("letter.attempts", "not true or false"),
        # Only the letter that is read last has no answer.
        ('letter.id != "open" || item.missing == 1', "has(item.missing)"),
    ],
)
async def test_a_wrong_filter_is_an_error_and_gives_out_nothing(
    call: Call, capsys: pytest.CaptureFixture[str], command: list[str], wrong: str, why: str
) -> None:
    assert await call("dlq", *command, "default/demo", "--filter", wrong, code=1) == ""

    told = capsys.readouterr().err
    assert told.startswith("mapreduce: ")
    assert why in told
    assert len(told.splitlines()) == 1


# --------------------------------------------------------------------------------------------------------------- show


async def test_one_letter_is_shown_with_its_whole_history(call: Call) -> None:
    shown = await call("dlq", "show", "default/demo", "open")

    assert "state:          Open\n" in shown
    assert 'item:\n  {"name":"open","size":4}\n' in shown
    assert "\ndispatch 1: Failed\n" in shown
    assert "  node:           node-1\n" in shown
    assert "  duration:       60 s\n" in shown
    assert f"  log:\n     [31mthe log of demo-{key('open')}-d1 [0m\n    its last line\n" in shown


async def test_a_letter_as_json_is_its_body_with_its_state(call: Call) -> None:
    letter = json.loads(await call("dlq", "show", "default/demo", "waits", "-o", "json"))

    assert (letter["id"], letter["state"], letter["cause"]) == ("waits", "Claimed", "AttemptsExhausted")
    assert letter["history"][0]["logTail"].endswith("its last line")


@pytest.mark.parametrize("item_id", ["well", "nothing", "../x", "ü" * 4096])
async def test_an_item_without_a_letter_is_an_error(
    call: Call, capsys: pytest.CaptureFixture[str], item_id: str
) -> None:
    assert await call("dlq", "show", "default/demo", item_id, code=1) == ""
    assert "no letter of the queue is of an item" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ analyze


async def test_the_analysis_goes_over_what_is_chosen(call: Call) -> None:
    found = json.loads(await call("dlq", "analyze", "default/demo", "-o", "json"))
    assert found["letters"] == 5
    assert found["states"] == {"Open": 1, "Resolved": 1, "Claimed": 1, "Reprocessing": 1, "Archived": 1}
    assert sum(group["count"] for group in found["groups"]) == 5

    only_open = json.loads(await call("dlq", "analyze", "default/demo", "-o", "json", "--state", "Open"))
    assert (only_open["letters"], only_open["reasons"], only_open["nodes"]) == (1, {"Error": 1}, {"node-1": 1})


async def test_the_analysis_as_a_table(call: Call) -> None:
    text = await call("dlq", "analyze", "default/demo", "--state", "Open")

    assert text.startswith("1 letter: 1 Open\n\nCOUNT   REASON   SIGNATURE")
    assert "\nNODE     COUNT\nnode-1   1\n" in text


async def test_an_empty_choice_is_analyzed_too(call: Call) -> None:
    assert await call("dlq", "analyze", "default/demo", "--filter", "false") == "0 letters\n"


# ------------------------------------------------------------------------------------------------------------- export


async def test_json_lines_are_the_bodies_with_their_states(call: Call) -> None:
    lines = (await call("dlq", "export", "default/demo", "--format", "jsonl")).splitlines()

    assert {letter["id"]: letter["state"] for letter in map(json.loads, lines)} == ALL


async def test_csv_has_one_row_for_each_letter_and_no_formula(call: Call) -> None:
    rows = list(csv.DictReader(io.StringIO(await call("dlq", "export", "default/demo", "--format", "csv"))))

    assert {row["id"]: row["state"] for row in rows} == ALL
    assert next(row["message"] for row in rows if row["id"] == "open").startswith("'=")


async def test_an_export_takes_a_filter(call: Call) -> None:
    text = await call("dlq", "export", "default/demo", "--format", "jsonl", "--filter", 'letter.state == "Open"')
    assert [json.loads(line)["id"] for line in text.splitlines()] == ["open"]


# ------------------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    "command",
    [
        ["list", "default/demo"],
        ["show", "default/demo", "open"],
        ["analyze", "default/demo"],
        ["export", "default/demo", "--format", "csv", "--filter", "true"],
    ],
)
async def test_nothing_is_ever_written(call: Call, api: FakeApi, tmp_path: Path, command: list[str]) -> None:
    before = files(tmp_path)
    assert len(before) > 8

    assert await call("dlq", *command)

    assert files(tmp_path) == before
    assert {asked.verb for asked in api.asked} == {"GET"}


async def test_of_a_queue_whose_job_is_gone_all_that_is_there_is_open(
    call: Call, api: FakeApi, store: FileStore
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    await store.delete([KEYS.head, KEYS.letter(key("again"))])

    found = states_in(await call("dlq", "list", "default/demo", "-o", "json"))

    assert found == dict.fromkeys(["open", "mended", "waits", "aside"], "Open")


async def test_a_later_job_of_the_same_name_is_another_one(call: Call, api: FakeApi) -> None:
    """The journal was kept (onDelete: Keep): it tells what was dealt with. What was taken is open again."""
    api.on("GET", f"{API}/mapreducejobs/demo", answer({"metadata": {"name": "demo", "uid": "run-2"}}))

    found = states_in(await call("dlq", "list", "default/demo", "-o", "json"))

    assert found == {"open": "Open", "again": "Open", "waits": "Open", "mended": "Resolved", "aside": "Archived"}


async def test_a_body_that_is_no_letter_by_the_journal_is_none_when_the_job_is_gone(
    call: Call, api: FakeApi, store: FileStore
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    stored = await store.get(KEYS.letter(key("open")))
    assert stored is not None
    # The first is an item that succeeded, the second is of no plan.
    for left_behind in (key("well"), "0123abcd"):
        await store.put(KEYS.letter(left_behind), stored.data)

    found = states_in(await call("dlq", "list", "default/demo", "-o", "json"))

    assert set(found) == set(ALL)


async def test_bodies_that_cannot_be_read_are_named_and_the_others_shown(
    call: Call, capsys: pytest.CaptureFixture[str], store: FileStore
) -> None:
    await store.delete([KEYS.letter(key("open"))])
    await store.put(KEYS.letter(key("aside")), b"{")

    text = await call("dlq", "list", "default/demo", "-o", "json", "--filter", "true", code=1)

    assert set(states_in(text)) == {"mended", "waits", "again"}
    told = capsys.readouterr().err
    assert "2 of 5 letters could not be read and are left out" in told
    assert KEYS.letter(key("aside")) in told or KEYS.letter(key("open")) in told


@pytest.mark.parametrize("item_id", ["open", "aside"])
async def test_one_body_that_cannot_be_read_is_an_error(
    call: Call, capsys: pytest.CaptureFixture[str], store: FileStore, item_id: str
) -> None:
    await store.delete([KEYS.letter(key("open"))])
    await store.put(KEYS.letter(key("aside")), b"{")

    assert await call("dlq", "show", "default/demo", item_id, code=1) == ""
    assert KEYS.letter(key(item_id)) in capsys.readouterr().err


async def test_other_storage_than_that_of_the_operator_is_an_error(
    call: Call, capsys: pytest.CaptureFixture[str], store: FileStore
) -> None:
    await store.delete([KEYS.head])

    assert await call("dlq", "list", "default/demo", code=1) == ""
    assert f"storage has no {KEYS.head}" in capsys.readouterr().err


async def test_a_damaged_journal_is_an_error(call: Call, capsys: pytest.CaptureFixture[str], store: FileStore) -> None:
    segments = [name async for name in store.list(f"{KEYS.prefix}journal/segment-")]
    await store.put(segments[-1], b"{}")

    assert await call("dlq", "list", "default/demo", code=1) == ""
    assert f"{segments[-1]} is damaged" in capsys.readouterr().err


async def test_a_queue_that_does_not_exist_is_an_error(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("dlq", "list", "default/other", code=1) == ""
    assert "there is no DeadLetterQueue 'other' in the namespace 'default'" in capsys.readouterr().err


async def test_what_the_api_server_refuses_is_an_error(
    call: Call, api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", f"{API}/deadletterqueues/demo", failure(403, "Forbidden", "not yours"))

    assert await call("dlq", "list", "default/demo", code=1) == ""
    assert "not yours" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", ["../x", "demo", "default/", "/demo", "default/demo/x", "default/../x", "Default/demo"]
)
def test_what_names_no_queue_is_a_wrong_command_line(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["dlq", "list", path])

    assert ended.value.code == 2
    assert "is no NAMESPACE/QUEUE" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["dlq"], ["dlq", "list"], ["dlq", "export", "a/b"], ["dlq", "list", "a/b", "--state", "open"], ["dlq", "x"]],
)
def test_a_command_line_that_cannot_be_understood_is_told_so(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


# ------------------------------------------------------------------------------------------------------- as a program


async def program(redirection: str, *arguments: str) -> tuple[int | None, bytes, bytes]:
    """What the console script and `python -m` start, behind a shell."""
    line = shlex.join([sys.executable, "-m", "mapreduce_operator.cli", *arguments])
    process = await asyncio.create_subprocess_shell(
        f"{line} {redirection}", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out, err


@pytest.mark.usefixtures("call")
async def test_what_it_prints_and_how_it_ends() -> None:
    code, out, err = await program("", "dlq", "list", "default/demo")
    assert (code, out[:2], err) == (0, b"ID", b"")

    code, out, err = await program("", "dlq", "list", "default/other")
    assert (code, out, err[:11]) == (1, b"", b"mapreduce: ")


@pytest.mark.usefixtures("call")
async def test_a_reader_that_has_enough_is_no_fault() -> None:
    _, out, err = await program("| true", "dlq", "list", "default/demo")
    assert (out, err) == (b"", b"")
