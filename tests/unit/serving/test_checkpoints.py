"""The checkpoints of a job, as the API tells them: what each says, how two differ, and all that is wrong with them."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.api import ItemState
from mapreduce_operator.core.checkpoint import encode_checkpoint
from mapreduce_operator.core.names import RunRef, StorageKeys
from tests.conformance.written_run import CRASHED, GIVEN_UP, WrittenRun
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure
from tests.unit.core.scenes import RUN
from tests.unit.serving.conftest import Asking, job_path
from tests.unit.serving.scenes import API, KEYS, files

OLDER: Final = replace(RUN, uid="run-0")


async def write_checkpoints(store: FileStore) -> WrittenRun:
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


@pytest.fixture(autouse=True)
async def written(store: FileStore) -> WrittenRun:
    return await write_checkpoints(store)


async def damage(store: FileStore, prefix: str) -> str:
    """One bit of the first object below a prefix is another one; gives its key."""
    key = await anext(aiter(store.list(prefix)))
    there = await store.get(key)
    assert there is not None
    data = bytearray(there.data)
    data[len(data) // 2] ^= 1
    await store.put(key, bytes(data))
    return key


async def test_those_that_are_kept_are_told_the_oldest_first(ask: Asking) -> None:
    found = await ask.of_job("checkpoints")

    assert [(one["sequence"], one["reason"], one["phase"], one["items"]) for one in found] == [
        (0, "PhaseChange", "Map", {"Pending": 4}),
        (1, "Items", "Map", {"Pending": 2, "RetryWait": 1, "Succeeded": 1}),
        (2, "Items", "Map", {"Pending": 2, "Succeeded": 2}),
        (3, "Items", "Map", {"Pending": 1, "Succeeded": 2, "DeadLettered": 1}),
        (4, "Items", "Map", {"Running": 1, "Succeeded": 2, "DeadLettered": 1}),
    ]
    assert found[1]["time"] == "2027-01-15T08:00:01Z"
    assert found[-1]["bytes"] > 100


async def test_one_is_told_with_some_of_its_items_by_state(ask: Asking) -> None:
    found = await ask.of_job("checkpoints/2")

    assert (found["sequence"], found["planned"], found["lineage"], found["snapshot"]["sequence"]) == (2, 4, None, 2)
    assert found["because"] == "Planned: the items are planned"
    assert found["items"] == {
        "Succeeded": {"count": 2, "samples": ["a", "b"]},
        "Pending": {"count": 2, "samples": ["c", "d"]},
    }


@pytest.mark.parametrize(
    ("what", "query"), [("/9", {}), ("/diff", {"from_": 1, "to": 9}), ("/validation", {"sequence": 9})]
)
async def test_one_that_is_not_kept_is_not_found(ask: Asking, what: str, query: dict[str, int]) -> None:
    code, reason, message = await ask.refused(job_path(f"checkpoints{what}"), **query)

    assert (code, reason) == (404, "CheckpointNotFound")
    assert "demo keeps no checkpoint 9" in message


async def test_the_difference_is_told_by_item(ask: Asking) -> None:
    assert await ask.of_job("checkpoints/diff", from_=3, to=2) == [
        {
            "id": "c",
            "before": {"state": "DeadLettered", "attempts": 1, "interruptions": 1},
            "after": {"state": "Pending", "attempts": 0, "interruptions": 1},
        }
    ]
    assert [one["id"] for one in await ask.of_job("checkpoints/diff", from_=1, to=4)] == ["b", "c", "d"]


async def test_what_does_not_differ_is_not_told(ask: Asking) -> None:
    assert await ask.of_job("checkpoints/diff", from_=3, to=3) == []


# ----------------------------------------------------------------------------------------------------------- validate


async def test_what_is_whole_is_told_so(ask: Asking) -> None:
    found = await ask.of_job("checkpoints/validation")

    assert found == [{"checkpoint": one, "problems": []} for one in ("0", "1", "2", "3", "4", "4 (head)")]
    assert await ask.of_job("checkpoints/validation", sequence=3) == [{"checkpoint": "3", "problems": []}]


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
    ask: Asking, store: FileStore, prefix: str, bad: list[str]
) -> None:
    key = await damage(store, prefix)

    found = await ask.of_job("checkpoints/validation")

    assert [one["checkpoint"] for one in found if one["problems"]] == bad
    assert all(key in problem for one in found for problem in one["problems"])

    await store.delete([key])
    if "checkpoints" not in key and key != KEYS.head:
        found = await ask.of_job("checkpoints/validation")
        assert [one["checkpoint"] for one in found if one["problems"]] == bad
        assert f"{key} is missing" in found[-1]["problems"][0]


async def test_all_that_is_wrong_is_told_at_once(ask: Asking, store: FileStore) -> None:
    keys = [
        await damage(store, prefix)
        for prefix in (f"{KEYS.prefix}plan/shard-", KEYS.segments, f"{KEYS.segments}0000000003", KEYS.snapshots)
    ]

    _, head = await ask.of_job("checkpoints/validation", sequence=4)

    assert len(head["problems"]) == 4
    assert all(any(key in problem for problem in head["problems"]) for key in keys)


async def test_a_checkpoint_that_contradicts_itself_is_not_whole(
    ask: Asking, written: WrittenRun, store: FileStore
) -> None:
    """As a fault of the operator would make it: the hashes are right."""
    wrong = msgspec.structs.replace(written.journal.head, counts={ItemState.SUCCEEDED: 4})
    await store.put(KEYS.head, encode_checkpoint(wrong))

    found = await ask.of_job("checkpoints/validation")

    assert [one["checkpoint"] for one in found if one["problems"]] == ["4 (head)"]
    assert "the checkpoint counts 4 Succeeded" in found[-1]["problems"][0]


async def test_damage_does_not_hide_behind_what_was_read_before(ask: Asking, store: FileStore) -> None:
    await ask.of_job("checkpoints/validation")
    await ask.lines_of_job("items")
    key = await damage(store, f"{KEYS.segments}0000000004")

    found = await ask.of_job("checkpoints/validation")

    assert [one["checkpoint"] for one in found if one["problems"]] == ["4", "4 (head)"]
    assert key in found[-1]["problems"][0]


@pytest.mark.parametrize("what", ["items", "results", "checkpoints"])
async def test_other_questions_lead_there(ask: Asking, store: FileStore, what: str) -> None:
    await damage(store, KEYS.head)
    await store.delete([key async for key in store.list(KEYS.checkpoints)])

    code, reason, message = await ask.refused(job_path(what))

    assert (code, reason) == (500, "Damaged")
    assert "`kubectl mapreduce checkpoints validate` says which" in message


# ------------------------------------------------------------------------------------------------- which run it is of


async def test_nothing_is_ever_written(ask: Asking, tmp_path: Path) -> None:
    before = files(tmp_path)
    for what in ("checkpoints", "checkpoints/4", "checkpoints/validation", "items", "results"):
        await ask.get(job_path(what))

    assert files(tmp_path) == before


async def test_it_is_of_the_job_that_is_there(ask: Asking, store: FileStore) -> None:
    """An older one of the same name kept its storage."""
    await older(store)

    assert len(await ask.of_job("checkpoints")) == 5
    assert len(await ask.of_job("checkpoints", uid=RUN.uid)) == 5
    assert len(await ask.of_job("checkpoints", uid=OLDER.uid)) == 1


async def test_a_job_that_was_deleted_is_found_in_storage(ask: Asking, api: FakeApi, store: FileStore) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    assert len(await ask.of_job("checkpoints")) == 5

    await older(store)
    code, _, message = await ask.refused(job_path("checkpoints"))
    assert code == 404
    assert "storage keeps 2 of that name: give --uid run-0, run-1" in message

    await store.delete([key async for key in store.list("")])
    code, _, message = await ask.refused(job_path("checkpoints"))
    assert code == 404
    assert "there is no MapReduceJob 'demo' in the namespace 'default', and storage keeps none" in message

    await store.put(KEYS.letter("left"), b"{}")
    for what in ("checkpoints", "items", "results"):
        code, _, message = await ask.refused(job_path(what))
        assert code == 404
        assert "was deleted with its storage; what is left are its dead letters: `kubectl mapreduce dlq list" in message


@pytest.mark.parametrize("what", ["checkpoints", "checkpoints/validation", "items", "results"])
async def test_a_job_that_has_not_been_planned_is_told_so(ask: Asking, api: FakeApi, what: str) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", answer({"metadata": {"name": "demo", "uid": "run-2"}}))

    code, reason, message = await ask.refused(job_path(what))

    assert (code, reason) == (404, "NotPlanned")
    assert f"storage has no {StorageKeys(RunRef('default', 'demo', 'run-2')).head}" in message


async def older(store: FileStore) -> None:
    await WrittenRun(store, ["x"], OLDER).plan()
