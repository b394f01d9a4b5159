"""What reduce gets: a line for each item, in the order of the plan."""

import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, Reason, ReduceWork, ResultsAs
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.results import (
    MAX_PARTS,
    PART_BYTES,
    Handover,
    ReduceInput,
    ResultsTooLargeError,
    outgrown,
    reduce_input,
)
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies
from tests.unit.core.scenes import TEMPLATE

RUN = RunRef("team-a", "demo", "run-1")


def succeeded(result: bytes) -> Record:
    outcome = Outcome(Stage.MAP, Dispatch("key", 1), "u", Verdict.SUCCEEDED, exit_code=0, result=result)
    return Record(outcome, Item(ItemState.SUCCEEDED, 1))


def failed(reason: Reason, message: str, exit_code: int | None) -> Record:
    outcome = Outcome(Stage.MAP, Dispatch("key", 1), "u", Verdict.FAILED, reason, message, exit_code)
    return Record(outcome, Item(ItemState.DEAD_LETTERED, 1, reason=reason, cause=Cause.ATTEMPTS_EXHAUSTED))


def test_results_and_failures_come_in_the_order_of_the_plan() -> None:
    given_in_plan_order = [
        ("GPL-3", succeeded(b'{"words":5644}')),
        ("broken", failed(Reason.ERROR, "no such file", 3)),
        ("Apache-2.0", succeeded(b'{"words":1581}')),
        ("slow", failed(Reason.DEADLINE_EXCEEDED, "too long", None)),
    ]

    found = reduce_input(given_in_plan_order)

    assert found.results == (b'{"id":"GPL-3","result":{"words":5644}}\n{"id":"Apache-2.0","result":{"words":1581}}\n')
    assert found.failures == (
        b'{"cause":"AttemptsExhausted","exitCode":3,"id":"broken","message":"no such file","reason":"Error"}\n'
        b'{"cause":"AttemptsExhausted","id":"slow","message":"too long","reason":"DeadlineExceeded"}\n'
    )
    assert found.counts == {"total": 4, "succeeded": 2, "deadLettered": 2, "skipped": 0}


def test_an_item_that_was_interrupted_too_often_is_told_as_such_and_not_by_its_last_interruption() -> None:
    evicted = Outcome(Stage.MAP, Dispatch("key", 11), "u", Verdict.INTERRUPTED, Reason.EVICTED, "drained")
    given_up = Record(
        evicted,
        Item(ItemState.DEAD_LETTERED, interruptions=11, reason=Reason.EVICTED, cause=Cause.TOO_MANY_INTERRUPTIONS),
    )

    found = reduce_input([("a", given_up)])

    assert found.failures == b'{"cause":"TooManyInterruptions","id":"a","message":"drained","reason":"Evicted"}\n'


def test_items_that_were_left_out_are_counted_apart_from_those_in_the_queue() -> None:
    left_out = Record(failed(Reason.ERROR, "boom", 1).outcome, Item(ItemState.SKIPPED, 1, reason=Reason.ERROR))

    found = reduce_input([("a", succeeded(b"1")), ("b", left_out), ("c", failed(Reason.ERROR, "boom", 1))])

    assert found.counts == {"total": 3, "succeeded": 1, "deadLettered": 1, "skipped": 1}
    assert found.failures.count(b"\n") == 2, "reduce is told of both"


def test_the_same_outcomes_are_the_same_bytes() -> None:
    outcomes = [("a", succeeded(b"1")), ("b", failed(Reason.ERROR, "boom", 1))]

    assert reduce_input(outcomes) == reduce_input(list(outcomes))


def test_results_stay_as_their_agents_wrote_them() -> None:
    found = reduce_input([("a", succeeded(b'{"ratio":1.50,"big":12345678901234567890123,"s":"\\u00fc"}'))])

    assert found.results == b'{"id":"a","result":{"ratio":1.50,"big":12345678901234567890123,"s":"\\u00fc"}}\n'


def test_a_success_without_a_result_has_the_result_null() -> None:
    assert reduce_input([("a", succeeded(b"null"))]).results == b'{"id":"a","result":null}\n'


@given(st.lists(st.tuples(strategies.item_ids | st.sampled_from(strategies.HOSTILE_TEXTS), strategies.json_values)))
def test_every_item_is_one_line_whatever_stands_in_it(items: list[tuple[str, Any]]) -> None:
    found = reduce_input((name, succeeded(msgspec.json.encode(value))) for name, value in items)

    lines = found.results.split(b"\n")
    assert lines.pop() == b""
    assert [json.loads(line) for line in lines] == [{"id": name, "result": value} for name, value in items]


@given(st.lists(st.tuples(strategies.item_ids, st.text())))
def test_every_failure_is_one_line_whatever_the_agent_said(items: list[tuple[str, str]]) -> None:
    found = reduce_input((name, failed(Reason.ERROR, message, 1)) for name, message in items)

    lines = found.failures.split(b"\n")
    assert lines.pop() == b""
    assert [(one["id"], one["message"]) for one in map(json.loads, lines)] == items


@pytest.mark.parametrize("found", [ReduceInput.empty(), reduce_input([])], ids=["empty", "of nothing"])
def test_without_items_there_are_two_empty_files(found: ReduceInput) -> None:
    assert (found.results, found.failures) == (b"", b"")
    assert found.counts == {"total": 0, "succeeded": 0, "deadLettered": 0, "skipped": 0}


# ------------------------------------------------------------------------------------------------------- handed over


def test_the_files_travel_in_a_config_map_of_the_run() -> None:
    found = reduce_input([("a", succeeded('"ü"'.encode())), ("b", failed(Reason.ERROR, "boom", 1))])

    handover, (body,) = found.hand_over(RUN, ResultsAs.FILE)

    assert (body["apiVersion"], body["kind"]) == ("v1", "ConfigMap")
    assert body["metadata"]["namespace"] == "team-a"
    assert body["metadata"]["labels"]["mapreduce.dev/run-uid"] == "run-1"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "run-1"
    assert body["data"] == {
        "results.jsonl": '{"id":"a","result":"ü"}\n',
        "failures.jsonl": '{"cause":"AttemptsExhausted","exitCode":1,"id":"b","message":"boom","reason":"Error"}\n',
    }
    assert handover.volume == {"configMap": {"name": body["metadata"]["name"]}}
    assert handover.item.id == "reduce"
    assert json.loads(handover.item.payload) == {
        "items": {"deadLettered": 1, "skipped": 0, "succeeded": 1, "total": 2},
        "resultsFiles": ["/mapreduce/results.jsonl"],
        "failuresFiles": ["/mapreduce/failures.jsonl"],
    }


def test_a_directory_has_a_file_of_each_kind_where_there_is_nothing_to_hand_over() -> None:
    handover, (body,) = ReduceInput.empty().hand_over(RUN, ResultsAs.DIRECTORY)

    assert body["data"] == {"results.jsonl": "", "failures.jsonl": ""}
    assert paths(handover) == (["/mapreduce/results/0001.jsonl"], ["/mapreduce/failures/0001.jsonl"])


def test_parts_are_filled_one_after_the_other_and_failures_follow_the_results() -> None:
    line = b"x" * (PART_BYTES // 2 - 1) + b"\n"
    found = ReduceInput(line * 3, line * 2, {})

    handover, bodies = found.hand_over(RUN, ResultsAs.DIRECTORY)

    text = line.decode()
    assert [body["data"] for body in bodies] == [
        {"results.jsonl": text * 2},
        {"results.jsonl": text, "failures.jsonl": text},
        {"failures.jsonl": text},
    ]
    assert paths(handover) == (
        ["/mapreduce/results/0001.jsonl", "/mapreduce/results/0002.jsonl"],
        ["/mapreduce/failures/0001.jsonl", "/mapreduce/failures/0002.jsonl"],
    )


def test_the_config_maps_are_the_same_in_either_form() -> None:
    found = reduce_input([("a", succeeded(b"1")), ("b", failed(Reason.ERROR, "boom", 1))])

    assert found.hand_over(RUN, ResultsAs.FILE)[1] == found.hand_over(RUN, ResultsAs.DIRECTORY)[1]


SIZES = st.lists(st.integers(min_value=1, max_value=PART_BYTES // 3), max_size=20)


@given(SIZES, SIZES)
def test_the_parts_one_after_the_other_are_the_whole_text(results: list[int], failures: list[int]) -> None:
    found = ReduceInput(lines("é", results), lines("f", failures), {})

    handover, bodies = found.hand_over(RUN, ResultsAs.DIRECTORY)

    mounted = files(handover, bodies)
    names = sorted(mounted)
    assert "".join(mounted[name] for name in names if name.startswith("results/")).encode() == found.results
    assert "".join(mounted[name] for name in names if name.startswith("failures/")).encode() == found.failures
    assert all(text == "" or text.endswith("\n") for text in mounted.values()), "lines are whole"
    sizes = [sum(len(text.encode()) for text in body["data"].values()) for body in bodies]
    assert all(size <= PART_BYTES for size in sizes)
    assert all(sum(two) > PART_BYTES for two in pairwise(sizes)), "no more parts than are needed"
    told = [path.removeprefix("/mapreduce/") for one in paths(handover) for path in one]
    assert sorted(told) == names
    assert (handover, bodies) == found.hand_over(RUN, ResultsAs.DIRECTORY)


def test_the_names_of_the_parts_sort_as_they_follow_each_other() -> None:
    found = ReduceInput((b"x" * (PART_BYTES - 1) + b"\n") * 15, b"", {})

    results, _ = paths(found.hand_over(RUN, ResultsAs.DIRECTORY)[0])

    assert len(results) == 15
    assert results == sorted(results)


def test_results_that_just_fit_are_taken() -> None:
    found = ReduceInput(b"x" * (PART_BYTES - 10), b"y" * 10, {})

    _, (body,) = found.hand_over(RUN, ResultsAs.FILE)

    assert len(body["data"]["results.jsonl"]) == PART_BYTES - 10


def test_results_that_do_not_fit_into_files_are_refused_with_their_size_and_what_to_do() -> None:
    found = ReduceInput(b"x" * (PART_BYTES - 1) + b"\n", b"y\n", {})

    with pytest.raises(ResultsTooLargeError) as refused:
        found.hand_over(RUN, ResultsAs.FILE)

    assert "have 1,000,002 bytes" in str(refused.value)
    assert "at most 1,000,000 bytes" in str(refused.value)
    assert "Set spec.reduce.resultsAs to Directory" in str(refused.value)
    assert "All results are kept in storage" in str(refused.value)
    assert len(found.hand_over(RUN, ResultsAs.DIRECTORY)[1]) == 2, "it is what it says"


def test_results_that_do_not_fit_into_all_parts_are_refused() -> None:
    part = b"x" * (PART_BYTES - 1) + b"\n"
    ReduceInput(part * MAX_PARTS, b"", {}).hand_over(RUN, ResultsAs.DIRECTORY)

    with pytest.raises(
        ResultsTooLargeError, match=r"at most 16 parts of 1,000,000 bytes\. To reduce them, begin another job"
    ):
        ReduceInput(part * MAX_PARTS, b"y\n", {}).hand_over(RUN, ResultsAs.DIRECTORY)


def test_a_line_that_fits_into_no_part_is_refused() -> None:
    with pytest.raises(ResultsTooLargeError):
        ReduceInput(b"x" * (PART_BYTES + 1), b"", {}).hand_over(RUN, ResultsAs.DIRECTORY)


def test_the_size_is_counted_in_bytes_not_in_characters() -> None:
    found = reduce_input([(str(number), succeeded(('"' + "ü" * 2000 + '"').encode())) for number in range(250)])

    with pytest.raises(ResultsTooLargeError):
        found.hand_over(RUN, ResultsAs.FILE)


# --------------------------------------------------------------------------------------------------- before the end


@pytest.mark.parametrize(("results_as", "parts"), [("File", 1), ("Directory", MAX_PARTS)])
def test_what_can_never_be_handed_over_is_known_by_its_bytes(results_as: str, parts: int) -> None:
    reduce = ReduceWork.model_validate({"template": TEMPLATE, "resultsAs": results_as})
    results = [("id-1", succeeded(b"[1]")), ("longer-2", succeeded(b"22"))]
    lines = len(reduce_input(results).results)
    beside = lines - len(b"[1]22") - len("er-2")

    assert outgrown(reduce, 2, parts * PART_BYTES - beside, shortest_id=4) is None
    assert outgrown(reduce, 2, parts * PART_BYTES - beside + 1, shortest_id=4) is not None


def test_it_is_told_with_what_to_do_about_it() -> None:
    as_files, in_parts = (
        outgrown(ReduceWork.model_validate({"template": TEMPLATE, "resultsAs": one}), 1, 20_000_000, 1)
        for one in ("File", "Directory")
    )

    assert as_files is not None
    assert "at most 1,000,000 bytes as files" in as_files
    assert "Set spec.reduce.resultsAs to Directory" in as_files
    assert in_parts is not None
    assert "at most 16 parts of 1,000,000 bytes" in in_parts
    assert "resultsAs" not in in_parts
    assert all("The map goes on" in one for one in (as_files, in_parts))


def test_a_job_without_reduce_outgrows_nothing() -> None:
    assert outgrown(None, 1, 1_000_000_000, 1) is None


def paths(handover: Handover) -> tuple[list[str], list[str]]:
    """What the context says of results and failures."""
    context = json.loads(handover.item.payload)
    return context["resultsFiles"], context["failuresFiles"]


def files(handover: Handover, bodies: list[dict[str, Any]]) -> dict[str, str]:
    """The files of a projected volume, as the kubelet puts them there."""
    data = {body["metadata"]["name"]: body["data"] for body in bodies}
    mounted: dict[str, str] = {}
    for source in handover.volume["projected"]["sources"]:
        for item in source["configMap"]["items"]:
            assert item["path"] not in mounted
            mounted[item["path"]] = data[source["configMap"]["name"]][item["key"]]
    return mounted


def lines(character: str, sizes: list[int]) -> bytes:
    return "".join(character * (size // 2) + "\n" for size in sizes).encode()
