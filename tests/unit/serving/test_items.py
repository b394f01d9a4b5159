"""The items of a job, as the API tells them: where each stands, all of one, and what they came to."""

import asyncio
import threading
from typing import Any

import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.core.item_queries import ItemFilter, ItemStatus
from mapreduce_operator.serving import filtering
from mapreduce_operator.serving import items as items_module
from tests.conformance.written_run import CRASHED, GIVEN_UP, WrittenRun, done
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure
from tests.unit.core.scenes import RUN
from tests.unit.serving.conftest import Asking, job_path
from tests.unit.serving.scenes import API, KEYS

ODD = "../ü?&=%2F#"


@pytest.fixture
async def written(store: FileStore) -> WrittenRun:
    """A succeeded; b did so at its second attempt; c was given up after an interruption; d runs; e waits for its turn.

    What was dispatched of f is not committed.
    """
    written = WrittenRun(store, ["a", "b", "c", "d", "e", ODD], RUN)
    await written.plan()
    written.runs("a")
    written.runs("b", CRASHED)
    await written.commit()
    written.runs("b", done({"words": 7}))
    written.runs("c", interrupted=True)
    await written.commit(with_snapshot=True)
    written.runs("c", GIVEN_UP)
    written.starts("d")
    await written.commit()
    return written


def status_with(*, sequence: int, running: str) -> dict[str, Any]:
    status = {"checkpoint": {"sequence": sequence}, "positions": {"map": {"running": running}}}
    return {"metadata": {"name": RUN.name, "uid": RUN.uid}, "status": status}


def states_in(lines: list[Any]) -> dict[str, str]:
    return {item["id"]: item["state"] for item in lines}


@pytest.mark.usefixtures("written")
class TestAllOfThem:
    async def test_they_are_told_in_the_order_of_the_plan(self, ask: Asking) -> None:
        lines = await ask.lines_of_job("items")

        assert list(states_in(lines).items()) == [
            *(("a", "Succeeded"), ("b", "Succeeded"), ("c", "DeadLettered")),
            *(("d", "Running"), ("e", "Pending"), (ODD, "Pending")),
        ]
        assert [line["position"] for line in lines] == list(range(6))

    async def test_each_says_how_its_last_dispatch_ended(self, ask: Asking) -> None:
        first, second, third, *_, last = await ask.lines_of_job("items")

        assert (second["attempts"], second["interruptions"], second["reason"]) == (2, 0, None)
        assert (third["attempts"], third["interruptions"]) == (1, 1)
        assert (third["cause"], third["reason"], third["exitCode"]) == ("NotRetryable", "Error", 1)
        assert "no such page" in third["message"]
        assert first["lastAttempt"] is not None
        assert (last["lastAttempt"], last["seconds"], last["exitCode"], last["message"]) == (None, None, None, "")
        assert first.keys() == last.keys()

    @pytest.mark.parametrize(
        ("choice", "ids"),
        [
            ({"state": "Succeeded"}, ["a", "b"]),
            ({"state": "Skipped"}, []),
            ({"filter": "status.attempts > 1 || status.interruptions > 0"}, ["b", "c"]),
            ({"filter": 'status.state == "Pending" && item.size > 1'}, [ODD]),
            ({"filter": "status.lastAttempt == null"}, ["d", "e", ODD]),
            ({"filter": "status.lastAttempt != null && now > status.lastAttempt", "state": "DeadLettered"}, []),
            ({"limit": 2}, ["a", "b"]),
            ({"limit": 1, "state": "Pending"}, ["e"]),
        ],
    )
    async def test_a_choice_is_by_state_filter_and_number(
        self, ask: Asking, choice: dict[str, Any], ids: list[str]
    ) -> None:
        assert list(states_in(await ask.lines_of_job("items", **choice))) == ids

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ("letter.attempts > 1", "there is no variable 'letter'"),
            ("status.tries > 1", "there is no field of status 'tries'; there are id, position, state"),
            ("status.attempts", "not true or false"),
            # Only the last item has no answer.
            ("item.size < 5 || item.missing", "has(item.missing)"),
        ],
    )
    async def test_a_wrong_filter_is_an_error_and_gives_out_nothing(self, ask: Asking, wrong: str, why: str) -> None:
        code, reason, message = await ask.refused(job_path("items"), filter=wrong)

        assert (code, reason) == (400, "InvalidFilter")
        assert why in message

    async def test_a_filter_that_takes_too_long_is_told_to_ask_of_fewer(
        self, ask: Asking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(filtering, "SECONDS", 1e-9)

        code, reason, message = await ask.refused(job_path("items"), filter="status.attempts > 1")

        assert (code, reason) == (400, "FilterTooSlow")
        assert "narrow the question by a state" in message
        assert await ask.lines_of_job("items", filter="status.attempts > 1", state="Skipped") == []

    async def test_while_a_filter_is_asked_the_event_loop_goes_on(
        self, ask: Asking, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began, ends = asyncio.Event(), threading.Event()
        loop, matches = asyncio.get_running_loop(), ItemFilter.matches

        def slow(self: ItemFilter, status: ItemStatus, payload: bytes, now: float) -> bool:
            loop.call_soon_threadsafe(began.set)
            assert ends.wait(120)
            return matches(self, status, payload, now)

        monkeypatch.setattr(ItemFilter, "matches", slow)
        filtered = asyncio.create_task(ask.lines_of_job("items", filter="status.attempts > 1"))
        await began.wait()

        assert len(await ask.lines_of_job("items")) == 6
        assert not filtered.done()
        ends.set()
        assert list(states_in(await filtered)) == ["b"]

    async def test_those_whose_agents_have_just_been_started_run(self, ask: Asking, api: FakeApi) -> None:
        """The status knows of them before the next checkpoint does; of what ended it knows nothing better."""
        api.on("GET", f"{API}/mapreducejobs/demo", answer(status_with(sequence=3, running="1,3-4,…")))

        states = states_in(await ask.lines_of_job("items"))

        assert (states["b"], states["d"], states["e"], states[ODD]) == ("Succeeded", "Running", "Running", "Pending")
        assert (await ask.of_job("item", id="e"))["state"] == "Running"

    @pytest.mark.parametrize(
        "running", ["4-99999999999", "4-9999999999", "4-,5-…,4", "4," * 1000, "4-5,0-5", "-4", "²,4", "5-4,4"]
    )
    async def test_whatever_a_status_says_it_costs_no_more_than_the_job_has_items(
        self, ask: Asking, api: FakeApi, running: str
    ) -> None:
        api.on("GET", f"{API}/mapreducejobs/demo", answer(status_with(sequence=3, running=running)))

        states = states_in(await ask.lines_of_job("items"))

        assert list(states) == ["a", "b", "c", "d", "e", ODD]
        assert states["a"] == "Succeeded"

    async def test_a_status_that_is_older_than_the_checkpoint_decides_nothing(self, ask: Asking, api: FakeApi) -> None:
        api.on("GET", f"{API}/mapreducejobs/demo", answer(status_with(sequence=2, running="4")))

        assert states_in(await ask.lines_of_job("items"))["e"] == "Pending"

    async def test_what_was_read_serves_the_next_question_until_the_job_goes_on(
        self, ask: Asking, written: WrittenRun, store: FileStore
    ) -> None:
        await ask.lines_of_job("items")
        segment = await anext(aiter(store.list(f"{KEYS.segments}0000000001")))
        kept = await store.get(segment)
        assert kept is not None
        await store.delete([segment])

        assert states_in(await ask.lines_of_job("items"))["d"] == "Running"

        written.ends("d")
        await written.commit()
        assert (await ask.lines_of_job("items"))[-1]["error"]["reason"] == "ItemsUnreadable"

        await store.put(segment, kept.data)
        assert states_in(await ask.lines_of_job("items"))["d"] == "Succeeded"


@pytest.mark.usefixtures("written")
class TestOne:
    async def test_all_of_it_is_told(self, ask: Asking) -> None:
        item = await ask.of_job("item", id="b")

        assert (item["state"], item["payload"], item["result"]) == ("Succeeded", {"id": "b", "size": 1}, {"words": 7})
        assert [(one["dispatch"], one["verdict"]) for one in item["history"]] == [(1, "Failed"), (2, "Succeeded")]
        assert item["history"][0]["message"] == "boom"
        assert (item["dispatch"], item["letter"]) == (3, None)

    async def test_what_never_ran_has_no_history(self, ask: Asking) -> None:
        item = await ask.of_job("item", id=ODD)

        assert (item["state"], item["result"], item["history"], item["dispatch"]) == ("Pending", None, [], 1)

    @pytest.mark.parametrize("item_id", ["g", "..", "a/../b", "ü" * 4096])
    async def test_an_item_that_does_not_exist_is_not_found(self, ask: Asking, item_id: str) -> None:
        code, reason, message = await ask.refused(job_path("item"), id=item_id)

        assert (code, reason) == (404, "ItemNotFound")
        assert repr(item_id) in message


@pytest.mark.usefixtures("run")
class TestWithLetters:
    async def test_the_letter_of_an_item_adds_to_its_history(self, ask: Asking) -> None:
        item = await ask.of_job("item", id="mended")

        assert (item["state"], item["letter"]["state"]) == ("Succeeded", "Resolved")
        assert [(one["dispatch"], one["verdict"]) for one in item["history"]] == [(1, "Failed"), (2, "Succeeded")]
        assert item["history"][0]["logTail"].endswith("its last line")
        assert (item["history"][1]["redrive"], item["history"][1]["redriveNumber"]) == ("mend", 1)

    async def test_one_that_was_redriven_knows_by_which(self, ask: Asking) -> None:
        redrives = {item["id"]: item["redrive"] for item in await ask.lines_of_job("items")}

        assert redrives == {"aside": 0, "again": 2, "waits": 2, "mended": 1, "open": 0, "well": 0}


@pytest.mark.usefixtures("written")
class TestResults:
    @pytest.mark.parametrize("at_once", [1, 10_000])
    async def test_they_are_told_in_the_order_of_the_plan(
        self, ask: Asking, written: WrittenRun, monkeypatch: pytest.MonkeyPatch, at_once: int
    ) -> None:
        monkeypatch.setattr(items_module, "AT_ONCE", at_once)
        written.ends("d", done(None))
        await written.commit()

        assert await ask.lines_of_job("results") == [
            {"position": 0, "id": "a", "result": {"of": "a", "dispatch": 1}},
            {"position": 1, "id": "b", "result": {"words": 7}},
            {"position": 3, "id": "d", "result": None},
        ]

    async def test_a_job_that_is_gone_still_has_its_results(self, ask: Asking, api: FakeApi) -> None:
        api.on("GET", f"{API}/mapreducejobs/demo", failure(404, "NotFound", "not found"))

        assert len(await ask.lines_of_job("results")) == 2
        assert len(await ask.lines_of_job("results", uid=RUN.uid)) == 2
        code, reason, _ = await ask.refused(job_path("results"), uid="run-0")
        assert (code, reason) == (404, "JobNotFound")

    async def test_a_segment_that_is_lost_in_between_ends_the_lines_with_an_error(
        self, ask: Asking, store: FileStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(items_module, "AT_ONCE", 1)
        await ask.lines_of_job("items")
        lost = await anext(aiter(store.list(f"{KEYS.segments}0000000002")))
        await store.delete([lost])

        first, error = await ask.lines_of_job("results")

        assert first["id"] == "a"
        assert error["error"]["reason"] == "ItemsUnreadable"
        assert f"{lost} is missing" in error["error"]["message"]

    async def test_that_of_the_reduce_is_told_by_itself(self, ask: Asking) -> None:
        assert await ask.of_job("results/reduce") == {
            "state": "Pending",
            "attempts": 0,
            "message": "",
            "result": None,
        }
