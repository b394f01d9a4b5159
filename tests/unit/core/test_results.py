"""What reduce gets: a line for each item, in the order of the plan."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.results import CONFIG_MAP_BYTES, ReduceInput, ResultsTooLargeError, reduce_input
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies

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


def test_reduce_is_an_item_whose_payload_is_the_counts() -> None:
    found = reduce_input([("a", succeeded(b"1")), ("b", failed(Reason.ERROR, "boom", 1))])

    assert found.as_item() == PlannedItem("reduce", b'{"items":{"deadLettered":1,"skipped":0,"succeeded":1,"total":2}}')


# ------------------------------------------------------------------------------------------------------------ ConfigMap


def test_the_files_travel_in_a_config_map_of_the_run() -> None:
    found = reduce_input([("a", succeeded('"ü"'.encode())), ("b", failed(Reason.ERROR, "boom", 1))])

    body = found.config_map(RUN)

    assert (body["apiVersion"], body["kind"]) == ("v1", "ConfigMap")
    assert body["metadata"]["namespace"] == "team-a"
    assert body["metadata"]["labels"]["mapreduce.dev/run-uid"] == "run-1"
    assert body["metadata"]["ownerReferences"][0]["uid"] == "run-1"
    assert body["data"] == {
        "results.jsonl": '{"id":"a","result":"ü"}\n',
        "failures.jsonl": '{"cause":"AttemptsExhausted","exitCode":1,"id":"b","message":"boom","reason":"Error"}\n',
    }


def test_results_that_just_fit_are_taken() -> None:
    found = ReduceInput(b"x" * (CONFIG_MAP_BYTES - 10), b"y" * 10, {})

    assert len(found.config_map(RUN)["data"]["results.jsonl"]) == CONFIG_MAP_BYTES - 10


def test_results_that_do_not_fit_are_refused_with_their_size_and_what_to_do() -> None:
    found = ReduceInput(b"x" * CONFIG_MAP_BYTES, b"y", {})

    with pytest.raises(ResultsTooLargeError) as refused:
        found.config_map(RUN)

    assert "1,000,001 bytes" in str(refused.value)
    assert "a ConfigMap takes 1,000,000" in str(refused.value)
    assert "all results are kept in storage" in str(refused.value)


def test_the_size_is_counted_in_bytes_not_in_characters() -> None:
    found = reduce_input([(str(number), succeeded(('"' + "ü" * 2000 + '"').encode())) for number in range(250)])

    with pytest.raises(ResultsTooLargeError):
        found.config_map(RUN)
