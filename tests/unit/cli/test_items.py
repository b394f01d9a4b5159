"""`items list`, `items show` and `results` print what the read-only API tells of the items of a job."""

import json
import re

import pytest

from mapreduce_operator.adapters.storage import FileStore
from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.cli.conftest import Call
from tests.unit.serving.scenes import API, JOB, KEYS, write_run


@pytest.fixture(autouse=True)
async def run(store: FileStore) -> None:
    await write_run(store)


def cells(line: str) -> list[str]:
    return re.split(" {3,}", line)


async def test_items_are_listed_in_the_order_of_the_plan(call: Call) -> None:
    code, out, _ = await call("items", "list", "demo")
    head, *lines = out.splitlines()

    assert code == 0
    assert cells(head) == ["ID", "STATE", "REASON", "ATTEMPTS", "INTERRUPTIONS", "LAST ATTEMPT", "MESSAGE"]
    assert [cells(line)[:2] for line in lines] == [
        *(["aside", "DeadLettered"], ["again", "Running"], ["waits", "Pending"]),
        *(["mended", "Succeeded"], ["open", "DeadLettered"], ["well", "Succeeded"]),
    ]
    assert lines[4].endswith("=cmd() [2J")


async def test_what_is_wrong_with_storage_is_told_beside_the_answer(call: Call, store: FileStore) -> None:
    there = await store.get(KEYS.head)
    assert there is not None
    before = (await call("items", "list", "demo"))[1]
    await store.put(KEYS.head, there.data[:-9])

    code, out, err = await call("items", "list", "demo")

    assert (code, out) == (0, before)
    assert err.startswith(f"warning: {KEYS.head} is damaged: ")
    assert err.count("\n") == 1


async def test_results_that_are_lost_are_told_after_all_others(call: Call, store: FileStore) -> None:
    segment = await anext(aiter(store.list(KEYS.segments)))
    there = await store.get(segment)
    assert there is not None
    assert there.data.count(b'"verdict":"Succeeded"') == 1
    await store.put(segment, there.data.replace(b'"verdict":"Succeeded"', b'"verdict":"succeeded"'))

    code, out, err = await call("results", "demo")

    assert code == 1
    assert [cells(line)[0] for line in out.splitlines()] == ["ID", "mended"]
    assert err.startswith("error: how the last dispatch of 1 item ended cannot be read, nor its result")
    assert segment in err


async def test_wide_tells_more(call: Call) -> None:
    head, _, _, _, _, line, _ = (await call("items", "list", "demo", "-o", "wide"))[1].splitlines()

    assert dict(zip(cells(head), cells(line), strict=False))["POSITION"] == "4"
    assert {"CAUSE", "EXIT CODE", "NODE", "SECONDS", "NEXT ATTEMPT"} < set(cells(head))


@pytest.mark.parametrize(
    ("choice", "ids"),
    [
        (["--state", "DeadLettered"], ["aside", "open"]),
        (["--filter", "status.redrive > 0 && item.size == 5"], ["again", "waits"]),
        (["--limit", "1", "--state", "Succeeded"], ["mended"]),
    ],
)
async def test_a_choice_is_by_state_filter_and_number(call: Call, choice: list[str], ids: list[str]) -> None:
    assert (await call("items", "list", "demo", "-o", "name", *choice))[1].split() == ids


async def test_one_item_is_shown_with_all_its_dispatches(call: Call) -> None:
    _, shown, _ = await call("items", "show", "demo", "mended")

    assert "state:          Succeeded\n" in shown
    assert "letter:         Resolved (AttemptsExhausted)\n" in shown
    assert 'item:\n  {"name":"mended","size":6}\nresult:\n  null\n' not in shown
    assert "\ndispatch 1: Failed\n" in shown
    assert "\ndispatch 2: Succeeded\n" in shown
    assert "  redrive:        mend\n" in shown
    assert not re.search(r"^(key|redrive|dispatch):", shown, re.MULTILINE), "what only programs can use"
    assert re.search(r"\n  endedAt:        \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", shown)
    told = json.loads((await call("items", "show", "demo", "mended", "-o", "json"))[1])
    assert (told["position"], len(told["history"])) == (3, 2)


async def test_results_come_as_lines_for_programs(call: Call) -> None:
    _, out, _ = await call("results", "demo", "-o", "jsonl")

    assert [(one["position"], one["id"]) for one in map(json.loads, out.splitlines())] == [(3, "mended"), (5, "well")]
    head, *lines = (await call("results", "demo"))[1].splitlines()
    assert (cells(head), [cells(line)[0] for line in lines]) == (["ID", "RESULT"], ["mended", "well"])


async def test_the_result_of_the_reduce_is_told_by_itself(api: FakeApi, call: Call) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", answer(JOB | {"spec": {"map": {}, "reduce": {}}}))
    assert (await call("results", "demo", "--reduce", "-o", "json"))[1] == "null\n"
    assert "state:          Pending\n" in (await call("results", "demo", "--reduce"))[1]


async def test_a_job_without_a_reduce_has_no_result_of_one(api: FakeApi, call: Call) -> None:
    api.on("GET", f"{API}/mapreducejobs/demo", answer(JOB | {"kind": "MapReduceJob", "spec": {"map": {}}}))
    for words in (("results", "demo", "--reduce"), ("logs", "demo", "--reduce")):
        code, out, err = await call(*words)
        assert (code, out) == (1, "")
        assert "mapreducejob/demo has no reduce" in err


async def test_ids_that_leave_nothing_out_are_told(api: FakeApi, call: Call) -> None:
    job = {"kind": "MapReduceJob", "metadata": JOB["metadata"] | {"generation": 1}, "spec": {"map": {}}}
    api.on("GET", f"{API}/mapreducejobs/demo", answer(job | {"status": JOB["status"]}))
    api.on("PATCH", f"{API}/mapreducejobs/demo", answer(job))
    code, out, err = await call("items", "skip", "demo", "waits", "well", "open", 'a\\"ö\x1b')

    assert (code, out) == (0, "spec.map.skip of mapreducejob/demo names 4 items\n")
    assert err.splitlines() == [
        "warning: the item well has ended (Succeeded) and stays as it is",
        "warning: the item open has ended (DeadLettered) and stays as it is",
        'warning: demo has no item a\\"ö: `kubectl mapreduce items list demo` shows all',
    ]


async def test_what_does_not_exist_is_told_with_a_code(call: Call) -> None:
    code, out, err = await call("items", "show", "demo", "nothing")
    assert (code, out) == (5, "")
    assert "the job demo has no item 'nothing'; `kubectl mapreduce items list demo` shows all" in err

    code, _, err = await call("items", "list", "gone")
    assert code == 5
    assert "there is no MapReduceJob 'gone'" in err
