"""Storage is damaged: what can be read is told, what is lost is said, and nothing is made up in its place."""

from typing import Any

import pytest

from mapreduce_operator.adapters.storage import FileStore
from tests.conformance.written_run import CRASHED, GIVEN_UP, WrittenRun
from tests.unit.adapters.kube.fake_api import FakeApi, failure
from tests.unit.core.scenes import RUN
from tests.unit.serving.conftest import Asking, job_path, queue_path
from tests.unit.serving.scenes import API, KEYS, write_run

ADVICE = "`kubectl mapreduce checkpoints validate` says which checkpoints of the job are whole"


@pytest.fixture
async def written(store: FileStore) -> WrittenRun:
    """A and b have succeeded, b at its second attempt, c was given up; e runs. A snapshot covers all of it."""
    written = WrittenRun(store, ["a", "b", "c", "d", "e"], RUN)
    await written.plan()
    written.runs("a")
    written.runs("b", CRASHED)
    written.starts("e")
    await written.commit()
    written.runs("b")
    await written.commit()
    written.runs("c", GIVEN_UP)
    await written.commit(with_snapshot=True)
    return written


async def segment(store: FileStore, number: int) -> str:
    (key,) = [key async for key in store.list(f"{KEYS.segments}{number:010d}-")]
    return key


async def changed(store: FileStore, key: str, old: bytes, new: bytes) -> str:
    there = await store.get(key)
    assert there is not None
    assert old in there.data
    await store.put(key, there.data.replace(old, new, 1))
    return key


async def whole(store: FileStore, key: str) -> bytes:
    there = await store.get(key)
    assert there is not None
    return there.data


def error_in(line: Any) -> tuple[str, str]:
    return line["error"]["reason"], line["error"]["message"]


# --------------------------------------------------------------------------------------- a segment under a snapshot


class TestALineOfASegment:
    @pytest.fixture(autouse=True)
    async def damaged(self, store: FileStore, written: WrittenRun) -> str:
        """The outcome of a is lost, that of the first attempt of b is whole."""
        del written
        return await changed(store, await segment(store, 1), b'"of":"a"', b'"of":"A"')

    async def test_all_items_are_listed_with_their_states_and_the_last_line_says_what_is_lost(
        self, ask: Asking, damaged: str
    ) -> None:
        *lines, last = await ask.lines_of_job("items")

        assert [(one["id"], one["state"]) for one in lines] == [
            *(("a", "Succeeded"), ("b", "Succeeded"), ("c", "DeadLettered"), ("d", "Pending"), ("e", "Running")),
        ]
        assert [one["lastAttempt"] is None for one in lines] == [True, False, False, True, True]
        reason, message = error_in(last)
        assert reason == "ItemsUnreadable"
        assert "how the last dispatch of 1 item ended cannot be read, nor its result, such as of 'a': " in message
        assert f"{damaged} is damaged" in message
        assert message.endswith(ADVICE)

    @pytest.mark.parametrize(
        ("choice", "ids", "is_told"),
        [
            ({"state": "Succeeded"}, ["a", "b"], True),
            ({"state": "DeadLettered"}, ["c"], False),
            ({"limit": 1}, ["a"], True),
            ({"filter": "status.exitCode == 1"}, ["c"], True),
        ],
    )
    async def test_what_is_lost_of_others_than_were_asked_for_is_not_told(
        self, ask: Asking, choice: dict[str, Any], ids: list[str], is_told: bool
    ) -> None:
        lines = await ask.lines_of_job("items", **choice)

        assert [one["id"] for one in lines if "id" in one] == ids
        assert ["error" in one for one in lines[len(ids) :]] == [True] * is_told

    async def test_all_other_results_are_told(self, ask: Asking, damaged: str) -> None:
        result, last = await ask.lines_of_job("results")

        assert result == {"position": 1, "id": "b", "result": {"dispatch": 2, "of": "b"}}
        assert damaged in error_in(last)[1]

    async def test_all_other_items_are_shown(self, ask: Asking, damaged: str) -> None:
        found = await ask.of_job("item", id="b")
        assert (found["result"], [one["dispatch"] for one in found["history"]]) == ({"dispatch": 2, "of": "b"}, [1, 2])
        assert await ask.warned(job_path("item"), id="b") == []
        assert (await ask.of_job("item", id="d"))["result"] is None

        code, reason, message = await ask.refused(job_path("item"), id="a")

        assert (code, reason) == (500, "ItemsUnreadable")
        assert damaged in message


@pytest.mark.usefixtures("written")
async def test_a_dispatch_that_is_lost_from_a_history_is_said(ask: Asking, store: FileStore) -> None:
    damaged = await changed(store, await segment(store, 1), b"boom", b"bong")

    (warning,) = await ask.warned(job_path("item"), id="b")

    assert warning.startswith(f"the history of the item is not whole: {damaged} is damaged")
    assert [one["dispatch"] for one in (await ask.of_job("item", id="b"))["history"]] == [2]


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_an_earlier_dispatch_never_stands_in_for_one_that_is_lost(
    ask: Asking, store: FileStore, number: int
) -> None:
    """Also where all of a segment is gone, and what came before it is told by others."""
    missing = await segment(store, number)
    await store.delete([missing])

    *lines, last = await ask.lines_of_job("items")

    assert [one["state"] for one in lines] == ["Succeeded", "Succeeded", "DeadLettered", "Pending", "Running"]
    known = {one["id"] for one in lines if one["lastAttempt"] is not None}
    assert known == {"a", "b", "c"} - {1: {"a"}, 2: {"b"}, 3: {"c"}}[number]
    assert error_in(last)[1].count(f"{missing} is missing") == 1


@pytest.mark.usefixtures("written")
async def test_a_result_that_is_damaged_after_its_ending_was_read_is_not_made_up(ask: Asking, store: FileStore) -> None:
    assert len(await ask.lines_of_job("items")) == 5
    damaged = await changed(store, await segment(store, 2), b'"of":"b"', b'"of":"B"')

    result, last = await ask.lines_of_job("results")

    assert result["id"] == "a"
    assert damaged in error_in(last)[1]
    assert (await ask.refused(job_path("item"), id="b"))[1] == "ItemsUnreadable"


async def test_a_segment_that_no_snapshot_covers_leaves_states_unknown_and_none_is_told(
    ask: Asking, store: FileStore, written: WrittenRun
) -> None:
    written.runs("d")
    await written.commit()
    damaged = await changed(store, await segment(store, 4), b'"of":"d"', b'"of":"D"')

    for what in ("items", "results"):
        code, reason, message = await ask.refused(job_path(what))
        assert (code, reason) == (500, "Damaged")
        assert damaged in message


# ------------------------------------------------------------------------------------------------------------ the head


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize("how", ["damaged", "missing"])
async def test_the_newest_checkpoint_that_is_left_stands_in_for_the_head(
    ask: Asking, store: FileStore, how: str
) -> None:
    paths = ("items", "results", "results/reduce", "checkpoints", "checkpoints/3", "checkpoints/diff?from=1&to=3")
    before = {path: await ask.get(job_path(path)) for path in paths}
    head = await whole(store, KEYS.head)
    if how == "missing":
        await store.delete([KEYS.head])
    else:
        await store.put(KEYS.head, head[:-9])
    damage = f"{KEYS.head} is {how}"

    for path in paths:
        assert await ask.get(job_path(path)) == before[path]
        (warning,) = await ask.warned(job_path(path))
        assert warning.startswith(damage)
        assert "as of checkpoint 3, the newest that is left. A restart of the job mends it" in warning
    problems = {one["checkpoint"]: one["problems"] for one in await ask.of_job("checkpoints/validation")}
    assert {name: bool(found) for name, found in problems.items()} == {
        "0": False,
        "1": False,
        "2": False,
        "3": False,
        "head": True,
    }
    assert problems["head"][0].startswith(damage)


@pytest.mark.usefixtures("written")
async def test_where_nothing_is_left_there_is_no_answer(ask: Asking, store: FileStore) -> None:
    await store.delete([key async for key in store.list(KEYS.checkpoints)])
    await store.put(KEYS.head, (await whole(store, KEYS.head))[:-9])
    assert (await ask.refused(job_path("items")))[:2] == (500, "Damaged")

    await store.delete([KEYS.head])
    for what in ("items", "checkpoints", "checkpoints/validation"):
        assert (await ask.refused(job_path(what)))[:2] == (404, "NotPlanned")


# --------------------------------------------------------------------------------------------------------- the letters


async def test_without_job_and_journal_all_letters_are_open(ask: Asking, store: FileStore, api: FakeApi) -> None:
    await write_run(store)
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "gone"))
    before = await ask.lines_of_queue("letters")
    assert len({one["state"] for one in before}) > 1
    await store.put(KEYS.head, (await whole(store, KEYS.head))[:-9])

    for what in ("letters", "bodies"):
        told = await ask.lines_of_queue(what)
        assert sorted((one["id"], one["state"]) for one in told) == sorted((one["id"], "Open") for one in before)
        (warning,) = await ask.warned(queue_path(what))
        assert warning.startswith(f"{KEYS.head} is damaged")
        assert warning.endswith("the job is gone, and all of its letters are taken for open")
