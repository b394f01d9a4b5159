"""`checkpoints` prints what the read-only API tells of those of a job, and fails for what is not whole."""

import json
import re

import pytest

from mapreduce_operator.adapters.storage import FileStore
from tests.unit.cli.conftest import Call
from tests.unit.serving.scenes import KEYS
from tests.unit.serving.test_checkpoints import damage, older, write_checkpoints


@pytest.fixture(autouse=True)
async def written(store: FileStore) -> None:
    await write_checkpoints(store)


def cells(line: str) -> list[str]:
    return re.split(" {3,}", line)


async def test_the_list_has_a_line_for_each(call: Call) -> None:
    code, out, _ = await call("checkpoints", "list", "demo")
    head, *lines = out.splitlines()

    assert code == 0
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
    assert (await call("checkpoints", "list", "demo", "-o", "name"))[1].split() == ["0", "1", "2", "3", "4"]


async def test_one_is_shown_with_its_items_by_state(call: Call) -> None:
    _, shown, _ = await call("checkpoints", "show", "demo", "4")

    assert "sequence:       4\n" in shown
    assert "because:        Planned: the items are planned\n" in shown
    assert "started:        2027-01-15T08:00:00Z\n" in shown
    assert re.search(r"\nsnapshot:\n  sequence:       2\n  bytes:          \d+\n", shown)
    assert [cells(line) for line in shown.splitlines()[-4:]] == [
        ["ITEMS", "COUNT", "SUCH AS"],
        ["Running", "1", "d"],
        ["Succeeded", "2", "a, b"],
        ["DeadLettered", "1", "c"],
    ]


async def test_the_difference_is_told_by_item(call: Call) -> None:
    head, *lines = (await call("checkpoints", "diff", "demo", "1", "4"))[1].splitlines()

    assert cells(head) == ["ID", "AT 1", "AT 4", "ATTEMPTS", "INTERRUPTIONS"]
    assert [cells(line) for line in lines] == [
        ["b", "RetryWait", "Succeeded", "1 -> 2"],
        ["c", "Pending", "DeadLettered", "0 -> 1", "0 -> 1"],
        ["d", "Pending", "Running"],
    ]
    assert (await call("checkpoints", "diff", "demo", "0", "1", "-o", "name"))[1].split() == ["a", "b"]


async def test_what_is_whole_is_no_error(call: Call) -> None:
    code, out, err = await call("checkpoints", "validate", "demo", "3")
    assert (code, cells(out.splitlines()[-1]), err) == (0, ["3", "0"], "")


async def test_what_is_damaged_is_told_and_an_error(call: Call, store: FileStore) -> None:
    key = await damage(store, f"{KEYS.segments}0000000003")

    code, out, err = await call("checkpoints", "validate", "demo")

    assert code == 1
    assert "3 of 6 are not whole" in err
    assert key in out.partition("\n3:\n")[2]
    code, out, _ = await call("checkpoints", "validate", "demo", "-o", "json")
    assert code == 1
    assert [one["checkpoint"] for one in json.loads(out) if one["problems"]] == ["3", "4", "4 (head)"]


async def test_an_older_job_of_the_same_name_is_found_by_its_uid(call: Call, store: FileStore) -> None:
    await older(store)

    assert (await call("checkpoints", "list", "demo", "--uid", "run-0", "-o", "name"))[1] == "0\n"


async def test_one_that_is_not_kept_is_told_with_a_code(call: Call) -> None:
    code, out, err = await call("checkpoints", "show", "demo", "9")

    assert (code, out) == (5, "")
    assert "demo keeps no checkpoint 9" in err


@pytest.mark.parametrize("words", [["show", "a"], ["show", "a", "-1"], ["diff", "a", "1"], ["list", "a b"]])
async def test_a_command_line_that_cannot_be_understood_is_told_so(call: Call, words: list[str]) -> None:
    assert (await call("checkpoints", *words))[0] == 2
