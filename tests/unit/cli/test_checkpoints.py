"""The command line tells of the checkpoints of a real run, says all that is wrong with them, and never writes."""

import asyncio
import io
import json
import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.api import ItemState
from mapreduce_operator.cli.__main__ import main
from mapreduce_operator.core.checkpoint import encode_checkpoint
from mapreduce_operator.core.names import RunRef, StorageKeys
from tests.conformance.written_run import CRASHED, GIVEN_UP, WrittenRun
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure
from tests.unit.cli.conftest import API, KEYS
from tests.unit.cli.test_dlq import files
from tests.unit.core.scenes import RUN

Call = Callable[..., Coroutine[Any, Any, str]]
OLDER: Final = replace(RUN, uid="run-0")


@pytest.fixture
async def written(store: FileStore) -> WrittenRun:
    """At checkpoint 4: a succeeded, b did so at its second attempt, c is a dead letter, d runs; 2 has a snapshot."""
    written = WrittenRun(store, ["a", "b", "c", "d"], RUN)
    await written.plan()
    written.runs("a")
    written.runs("b", CRASHED)
    await written.commit()
    written.runs("b")
    written.runs("c", interrupted=True)
    await written.commit(with_snapshot=True)
    written.runs("c", GIVEN_UP)
    await written.commit()
    written.starts("d")
    await written.commit()
    return written


@pytest.fixture
def call(written: WrittenRun, api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `mapreduce checkpoints …` in a thread, as the API server needs this one; gives what it printed."""
    del written, api
    monkeypatch.setenv("MAPREDUCE_STORAGE_URL", f"file://{tmp_path}")

    async def call(command: str, *arguments: str, code: int = 0) -> str:
        out = io.BytesIO()
        assert await asyncio.to_thread(main, ("checkpoints", command, "default/demo", *arguments), out) == code
        return out.getvalue().decode()

    return call


def cells(line: str) -> list[str]:
    return re.split(" {3,}", line)


async def damage(store: FileStore, prefix: str) -> str:
    """One bit of the first object below a prefix is another one; gives its key."""
    key = await anext(aiter(store.list(prefix)))
    there = await store.get(key)
    assert there is not None
    data = bytearray(there.data)
    data[len(data) // 2] ^= 1
    await store.put(key, bytes(data))
    return key


# --------------------------------------------------------------------------------------------------------------- list


async def test_the_list_has_a_line_for_each(call: Call) -> None:
    head, *lines = (await call("list")).splitlines()

    assert cells(head) == [
        *("SEQUENCE", "TIME", "REASON", "PHASE", "SUCCEEDED", "GIVEN UP", "LEFT", "BYTES", "SECONDS")
    ]
    assert [[row[0], *row[2:7]] for row in map(cells, lines)] == [
        ["0", "PhaseChange", "Map", "0", "0", "4"],
        ["1", "Items", "Map", "1", "0", "3"],
        ["2", "Items", "Map", "2", "0", "2"],
        ["3", "Items", "Map", "2", "1", "1"],
        ["4", "Items", "Map", "2", "1", "1"],
    ]
    assert cells(lines[1])[1] == "2027-01-15T08:00:01Z"


async def test_the_list_as_json(call: Call) -> None:
    first, *_, last = json.loads(await call("list", "-o", "json"))

    assert first["items"] == {"Pending": 4}
    assert last["items"] == {"Succeeded": 2, "DeadLettered": 1, "Running": 1}
    assert last["bytes"] > 100


# --------------------------------------------------------------------------------------------------------------- show


async def test_one_is_shown_with_its_items_by_state(call: Call) -> None:
    shown = await call("show", "4")

    assert "sequence:       4\n" in shown
    assert "because:        Planned: the items are planned\n" in shown
    assert re.search(r"\nsnapshot:\n  sequence:       2\n  bytes:          \d+\n", shown)
    assert [cells(line) for line in shown.splitlines()[-4:]] == [
        ["ITEMS", "COUNT", "SUCH AS"],
        ["Running", "1", "d"],
        ["Succeeded", "2", "a, b"],
        ["DeadLettered", "1", "c"],
    ]


async def test_one_as_json(call: Call) -> None:
    shown = json.loads(await call("show", "2", "-o", "json"))

    assert (shown["sequence"], shown["planned"], shown["lineage"], shown["snapshot"]["sequence"]) == (2, 4, None, 2)
    assert shown["items"] == {
        "Succeeded": {"count": 2, "such as": ["a", "b"]},
        "Pending": {"count": 2, "such as": ["c", "d"]},
    }


@pytest.mark.parametrize("command", [["show", "9"], ["diff", "1", "9"], ["validate", "9"]])
async def test_one_that_is_not_kept_is_an_error(
    call: Call, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert await call(*command, code=1) == ""
    assert "demo keeps no checkpoint 9" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- diff


async def test_the_difference_is_told_by_item(call: Call) -> None:
    head, *lines = (await call("diff", "1", "4")).splitlines()

    assert cells(head) == ["ID", "AT 1", "AT 4", "ATTEMPTS", "INTERRUPTIONS"]
    assert [cells(line) for line in lines] == [
        ["b", "RetryWait", "Succeeded", "1 -> 2"],
        ["c", "Pending", "DeadLettered", "0 -> 1", "0 -> 1"],
        ["d", "Pending", "Running"],
    ]


async def test_the_difference_as_json(call: Call) -> None:
    assert json.loads(await call("diff", "3", "2", "-o", "json")) == [
        {
            "id": "c",
            "before": {"state": "DeadLettered", "attempts": 1, "interruptions": 1},
            "after": {"state": "Pending", "attempts": 0, "interruptions": 1},
        }
    ]


async def test_what_does_not_differ_is_not_told(call: Call) -> None:
    assert len((await call("diff", "3", "3")).splitlines()) == 1


# ----------------------------------------------------------------------------------------------------------- validate


async def test_what_is_whole_is_told_so(call: Call) -> None:
    head, *lines = (await call("validate")).splitlines()

    assert cells(head) == ["CHECKPOINT", "PROBLEMS"]
    assert [cells(line) for line in lines] == [[one, "0"] for one in ("0", "1", "2", "3", "4", "4 (head)")]
    assert json.loads(await call("validate", "3", "-o", "json")) == [{"checkpoint": "3", "problems": []}]


@pytest.mark.parametrize(
    ("prefix", "bad"),
    [
        (f"{KEYS.prefix}plan/plan-", ["0", "1", "2", "3", "4", "4 (head)"]),
        (f"{KEYS.prefix}plan/shard-", ["0", "1", "2", "3", "4", "4 (head)"]),
        (f"{KEYS.segments}0000000001", ["1", "2", "3", "4", "4 (head)"]),
        (f"{KEYS.segments}0000000003", ["3", "4", "4 (head)"]),
        (f"{KEYS.segments}0000000004", ["4", "4 (head)"]),
        (KEYS.snapshots, ["2", "3", "4", "4 (head)"]),
        (f"{KEYS.prefix}specs/", ["0", "1", "2", "3", "4", "4 (head)"]),
        (f"{KEYS.checkpoints}0000000002", ["2"]),
        (f"{KEYS.checkpoints}0000000004", ["4"]),
        (KEYS.head, ["head"]),
    ],
)
async def test_what_is_damaged_or_gone_is_named_where_it_is_needed(
    call: Call, capsys: pytest.CaptureFixture[str], store: FileStore, prefix: str, bad: list[str]
) -> None:
    key = await damage(store, prefix)

    found = json.loads(await call("validate", "-o", "json", code=1))

    assert [one["checkpoint"] for one in found if one["problems"]] == bad
    assert all(key in problem for one in found for problem in one["problems"])
    assert f"{len(bad)} of {len(found)} are not whole" in capsys.readouterr().err

    await store.delete([key])
    if "checkpoints" not in key and key != KEYS.head:
        found = json.loads(await call("validate", "-o", "json", code=1))
        assert [one["checkpoint"] for one in found if one["problems"]] == bad
        assert f"{key} is missing" in found[-1]["problems"][0]


async def test_all_that_is_wrong_is_told_at_once(call: Call, store: FileStore) -> None:
    keys = [
        await damage(store, prefix)
        for prefix in (f"{KEYS.prefix}plan/shard-", KEYS.segments, f"{KEYS.segments}0000000003", KEYS.snapshots)
    ]

    text = await call("validate", "4", code=1)

    told = text.partition("\n4 (head):\n")[2]
    assert len(told.splitlines()) == 4
    assert all(key in told for key in keys)


async def test_a_checkpoint_that_contradicts_itself_is_not_whole(
    call: Call, written: WrittenRun, store: FileStore
) -> None:
    """As a fault of the operator would make it: the hashes are right."""
    wrong = msgspec.structs.replace(written.journal.head, counts={ItemState.SUCCEEDED: 4})
    await store.put(KEYS.head, encode_checkpoint(wrong))

    found = json.loads(await call("validate", "-o", "json", code=1))

    assert [one["checkpoint"] for one in found if one["problems"]] == ["4 (head)"]
    assert "the checkpoint counts 4 Succeeded" in found[-1]["problems"][0]


async def test_other_commands_lead_there(call: Call, capsys: pytest.CaptureFixture[str], store: FileStore) -> None:
    await damage(store, KEYS.head)

    assert await call("list", code=1) == ""
    assert "`mapreduce checkpoints validate default/demo` says which ones are whole" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- which run it is of


async def test_nothing_is_ever_written(call: Call, api: FakeApi, tmp_path: Path) -> None:
    before = files(tmp_path)
    for command in (["list"], ["show", "4"], ["diff", "0", "4"], ["validate"]):
        assert await call(*command)

    assert files(tmp_path) == before
    assert {asked.verb for asked in api.asked} == {"GET"}


async def test_it_is_of_the_job_that_is_there(call: Call, store: FileStore) -> None:
    """An older one of the same name kept its storage."""
    await older(store)

    assert len(json.loads(await call("list", "-o", "json"))) == 5
    assert len(json.loads(await call("list", "-o", "json", "--uid", OLDER.uid))) == 1


async def test_a_job_that_was_deleted_is_found_in_storage(
    call: Call, api: FakeApi, store: FileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    assert len(json.loads(await call("list", "-o", "json"))) == 5

    await older(store)
    assert await call("list", code=1) == ""
    assert "storage keeps 2 of that name: give --uid run-0, run-1" in capsys.readouterr().err

    await store.delete([key async for key in store.list("")])
    assert await call("list", code=1) == ""
    assert (
        "there is no MapReduceJob 'demo' in the namespace 'default', and storage keeps none" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["list", "validate"])
async def test_a_job_that_has_not_been_planned_is_told_so(
    call: Call, api: FakeApi, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", answer({"metadata": {"name": "demo", "uid": "run-2"}}))

    assert await call(command, code=1) == ""
    assert f"storage has no {StorageKeys(RunRef('default', 'demo', 'run-2')).head}" in capsys.readouterr().err


async def older(store: FileStore) -> None:
    await WrittenRun(store, ["x"], OLDER).plan()


@pytest.mark.parametrize("arguments", [["show", "a/b"], ["show", "a/b", "-1"], ["diff", "a/b", "1"], ["list", "b"]])
def test_a_command_line_that_cannot_be_understood_is_told_so(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["checkpoints", *arguments])
    assert ended.value.code == 2
