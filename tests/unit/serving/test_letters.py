"""The letters of a queue, as the API tells them: where each stands, which ones are meant, and what cannot be read."""

import json
from pathlib import Path
from typing import Any

import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.core.names import RunRef, StorageKeys
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure
from tests.unit.serving.conftest import Asking, queue_path
from tests.unit.serving.scenes import API, KEYS, files, key

ALL = {"aside": "Archived", "again": "Reprocessing", "waits": "Claimed", "mended": "Resolved", "open": "Open"}

pytestmark = pytest.mark.usefixtures("run")


def states_in(lines: list[Any]) -> dict[str, str]:
    return {letter["id"]: letter["state"] for letter in lines}


@pytest.mark.parametrize("what", ["letters", "bodies"])
async def test_each_letter_is_told_with_where_it_stands(ask: Asking, what: str) -> None:
    assert states_in(await ask.lines_of_queue(what)) == ALL


async def test_in_short_a_letter_has_what_filters_know(ask: Asking) -> None:
    first = (await ask.lines_of_queue("letters", state="Open"))[0]

    assert (first["cause"], first["reason"], first["exitCode"], first["node"]) == (
        *("AttemptsExhausted", "Error"),
        *(2, "node-1"),
    )
    assert "history" not in first


async def test_a_body_has_all_of_it(ask: Asking) -> None:
    body = (await ask.lines_of_queue("bodies", state="Open"))[0]

    assert body["payload"] == {"name": "open", "size": 4}
    assert body["history"][0]["logTail"].endswith("its last line")


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        ({"state": "Open"}, ["open"]),
        ({"filter": "letter.exitCode == 1"}, ["aside", "again", "waits", "mended"]),
        ({"filter": "item.size == 5 && letter.redrives == 0"}, ["aside", "again", "waits"]),
        ({"filter": "letter.exitCode == 1", "state": "Archived"}, ["aside"]),
        ({"filter": 'now > timestamp("2020-01-01T00:00:00Z")'}, list(ALL)),
        ({"filter": "letter.exitCode == 3"}, []),
    ],
)
async def test_a_choice_is_by_state_and_by_filter(ask: Asking, choice: dict[str, str], ids: list[str]) -> None:
    assert list(states_in(await ask.lines_of_queue("letters", **choice))) == ids


@pytest.mark.parametrize("what", ["letters", "bodies", "analysis"])
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
async def test_a_wrong_filter_is_an_error_and_gives_out_nothing(ask: Asking, what: str, wrong: str, why: str) -> None:
    code, reason, message = await ask.refused(queue_path(what), filter=wrong)

    assert (code, reason) == (400, "InvalidFilter")
    assert why in message


async def test_one_letter_is_told_with_its_state(ask: Asking) -> None:
    letter = await ask.of_queue("letter", id="waits")

    assert (letter["id"], letter["state"], letter["cause"]) == ("waits", "Claimed", "AttemptsExhausted")


@pytest.mark.parametrize("item_id", ["well", "nothing", "..", "../x", "a/b?c&d", "ü" * 4096])
async def test_an_item_without_a_letter_is_not_found(ask: Asking, item_id: str) -> None:
    code, reason, message = await ask.refused(queue_path("letter"), id=item_id)

    assert (code, reason) == (404, "LetterNotFound")
    assert repr(item_id) in message
    assert "`kubectl mapreduce dlq list demo -n default` shows all" in message


async def test_the_analysis_goes_over_what_is_chosen(ask: Asking) -> None:
    found = await ask.of_queue("analysis")
    assert found["letters"] == 5
    assert found["states"] == dict.fromkeys(ALL.values(), 1)
    assert sum(group["count"] for group in found["groups"]) == 5

    only_open = await ask.of_queue("analysis", state="Open")
    assert (only_open["letters"], only_open["reasons"], only_open["nodes"]) == (1, {"Error": 1}, {"node-1": 1})


async def test_nothing_is_ever_written(ask: Asking, api: FakeApi, tmp_path: Path) -> None:
    before = files(tmp_path)
    assert len(before) > 8

    for what in ("letters", "bodies", "analysis"):
        await ask.get(queue_path(what), filter="true")

    assert files(tmp_path) == before
    assert {(asked.verb, "reviews" in asked.path) for asked in api.asked} == {("GET", False), ("POST", True)}


# ------------------------------------------------------------------------------------------------- what is not there


async def test_of_a_queue_whose_job_is_gone_all_that_is_there_is_open(
    ask: Asking, api: FakeApi, store: FileStore
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    await store.delete([KEYS.head, KEYS.letter(key("again"))])

    found = states_in(await ask.lines_of_queue("letters"))

    assert found == dict.fromkeys(["open", "mended", "waits", "aside"], "Open")


async def test_a_later_job_of_the_same_name_is_another_one(ask: Asking, api: FakeApi) -> None:
    """The journal was kept (onDelete: Keep): it tells what was dealt with. What was taken is open again."""
    api.on("GET", f"{API}/mapreducejobs/demo", answer({"metadata": {"name": "demo", "uid": "run-2"}}))

    found = states_in(await ask.lines_of_queue("letters"))

    assert found == {"open": "Open", "again": "Open", "waits": "Open", "mended": "Resolved", "aside": "Archived"}


async def test_bodies_are_no_letters_but_by_the_journal_when_the_job_is_gone(
    ask: Asking, api: FakeApi, store: FileStore
) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))
    stored = await store.get(KEYS.letter(key("open")))
    assert stored is not None
    # The first is of an item that succeeded, the second of no plan; the third was purged.
    for left_behind in (key("well"), "0123abcd"):
        await store.put(KEYS.letter(left_behind), stored.data)
    await store.delete([KEYS.letter(key("aside"))])

    assert set(states_in(await ask.lines_of_queue("letters"))) == set(ALL) - {"aside"}


@pytest.mark.parametrize("what", ["letters", "bodies"])
async def test_bodies_that_cannot_be_read_are_named_after_the_others(ask: Asking, store: FileStore, what: str) -> None:
    await store.delete([KEYS.letter(key("open"))])
    await store.put(KEYS.letter(key("aside")), b"{")

    *lines, last = await ask.lines_of_queue(what, filter="true")

    assert set(states_in(lines)) == {"mended", "waits", "again"}
    assert "2 of 5 letters could not be read and are left out" in last["error"]["message"]
    assert KEYS.letter(key("aside")) in last["error"]["message"]


@pytest.mark.parametrize("item_id", ["open", "aside"])
async def test_one_body_that_cannot_be_read_is_an_error(ask: Asking, store: FileStore, item_id: str) -> None:
    await store.delete([KEYS.letter(key("open"))])
    await store.put(KEYS.letter(key("aside")), b"{")

    code, reason, message = await ask.refused(queue_path("letter"), id=item_id)

    assert (code, reason) == (500, "Damaged")
    assert KEYS.letter(key(item_id)) in message


async def test_other_storage_than_that_of_the_operator_is_told(ask: Asking, store: FileStore) -> None:
    await store.delete([key async for key in store.list(KEYS.prefix)])

    code, reason, message = await ask.refused(queue_path("letters"))

    assert (code, reason) == (404, "NotInStorage")
    assert KEYS.head in message


async def test_a_damaged_journal_is_an_error(ask: Asking, store: FileStore) -> None:
    segments = [name async for name in store.list(f"{KEYS.prefix}journal/segment-")]
    await store.put(segments[-1], b"{}")

    code, reason, message = await ask.refused(queue_path("letters"))

    assert (code, reason) == (500, "Damaged")
    assert f"{segments[-1]} is damaged" in message


async def test_a_queue_that_does_not_exist_is_not_found(ask: Asking, api: FakeApi) -> None:
    api.on("GET", f"{API}/deadletterqueues/demo", failure(404, "NotFound", "not found"))

    code, reason, message = await ask.refused(queue_path("letters"))

    assert (code, reason) == (404, "QueueNotFound")
    assert "there is no DeadLetterQueue 'demo' in the namespace 'default'" in message


async def test_a_queue_shows_nothing_of_another_namespace(ask: Asking, api: FakeApi, store: FileStore) -> None:
    """Whoever may edit his own queue could write any uid into it."""
    theirs = StorageKeys(RunRef("other", "demo", KEYS.run.uid))
    for name in [name async for name in store.list(KEYS.prefix)]:
        stored = await store.get(name)
        assert stored is not None
        await store.put(name.replace(KEYS.prefix, theirs.prefix), stored.data)
        await store.delete([name])
    api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))

    assert await ask.lines_of_queue("letters") == []


async def test_what_the_api_server_refuses_is_told(ask: Asking, api: FakeApi) -> None:
    api.on("GET", f"{API}/deadletterqueues/demo", failure(403, "Forbidden", "not yours"))

    code, reason, message = await ask.refused(queue_path("letters"))

    assert (code, reason) == (502, "ApiServerForbidden")
    assert "not yours" in message


async def test_lines_come_one_by_one_and_are_json_lines(ask: Asking) -> None:
    code, body = await ask.get(queue_path("letters"))

    assert (code, body.count(b"\n")) == (200, 5)
    assert all(json.loads(line) for line in body.splitlines())
