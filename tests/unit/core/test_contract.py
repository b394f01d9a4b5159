"""What an agent leaves behind, and what counts as a result."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import MapReduceJobStatus, Reason
from mapreduce_operator.core.contract import (
    RESULT_BYTES,
    RESULT_FILE,
    AgentError,
    Problem,
    ResultRule,
    read_error,
    read_result,
)
from mapreduce_operator.core.expressions import Expression
from tests.unit.core import strategies

REQUIRED = ResultRule(required=True)
OPTIONAL = ResultRule(required=False)


def ruled(text: str, item: bytes = b"null") -> ResultRule:
    return ResultRule(expression=Expression(text), item=item)


# ------------------------------------------------------------------------------------------------------------- presence


@pytest.mark.parametrize("text", ["", "   ", "\n\n\t "])
def test_an_agent_that_wrote_nothing_owes_a_result(text: str) -> None:
    assert read_result(text, REQUIRED) == (
        None,
        Problem(Reason.RESULT_MISSING, f"the agent exited with 0 but wrote nothing to {RESULT_FILE}"),
    )


def test_an_agent_that_owes_no_result_may_write_none() -> None:
    assert read_result("", OPTIONAL) == (None, None)


def test_a_result_that_is_not_owed_is_still_kept() -> None:
    assert read_result('{"a": 1}', OPTIONAL) == (b'{"a":1}', None)


@pytest.mark.parametrize("text", ["null", "false", "0", '""', "[]", "{}"])
def test_an_empty_value_is_a_result(text: str) -> None:
    assert read_result(text, REQUIRED) == (text.encode(), None)


# ----------------------------------------------------------------------------------------------------------------- form


@pytest.mark.parametrize(
    "text", ["done", "{'a': 1}", '{"a": 1,}', '{"a": 1} {"b": 2}', "NaN", "1e999", '{"a": 1', "\ufeff{}"]
)
def test_what_is_no_json_text_is_no_result(text: str) -> None:
    result, problem = read_result(text, REQUIRED)

    assert result is None
    assert problem is not None
    assert problem.reason is Reason.RESULT_INVALID
    assert problem.message.startswith(f"{RESULT_FILE} is no valid JSON text: ")
    assert "cut" not in problem.message


def test_invalid_json_is_no_result_where_none_is_owed_either() -> None:
    _, problem = read_result("done", OPTIONAL)

    assert problem is not None
    assert problem.reason is Reason.RESULT_INVALID


@pytest.mark.parametrize("letter", ["x", "ü", "\U0001f9ea"])
def test_a_result_that_was_cut_at_the_limit_is_called_so(letter: str) -> None:
    written = json.dumps({"text": letter * 5000}, ensure_ascii=False).encode()
    as_the_kubelet_cuts_it = written[:RESULT_BYTES].decode(errors="replace")

    result, problem = read_result(as_the_kubelet_cuts_it, REQUIRED)

    assert result is None
    assert problem == Problem(
        Reason.RESULT_INVALID, f"{RESULT_FILE} is no valid JSON text: it was cut at the limit of 4,096 bytes"
    )


@pytest.mark.parametrize(
    "number", ["1" * RESULT_BYTES, "-" + "1" * (RESULT_BYTES - 1), "1." + "0" * (RESULT_BYTES - 2)]
)
def test_a_number_that_fills_the_limit_may_have_been_cut_and_is_no_result(number: str) -> None:
    result, problem = read_result(number, REQUIRED)

    assert result is None
    assert problem == Problem(Reason.RESULT_INVALID, f"{RESULT_FILE} was cut at the limit of 4,096 bytes")


def test_a_number_below_the_limit_is_whole() -> None:
    assert read_result("1" * (RESULT_BYTES - 1), REQUIRED) == (b"1" * (RESULT_BYTES - 1), None)


def test_a_result_of_exactly_the_limit_is_whole() -> None:
    text = json.dumps("x" * (RESULT_BYTES - 2))

    assert read_result(text, REQUIRED) == (text.encode(), None)


@pytest.mark.parametrize("depth", [101, 300, 2047])
def test_a_result_that_is_nested_too_deep_is_invalid(depth: int) -> None:
    assert read_result("[" * depth + "]" * depth, REQUIRED) == (
        None,
        Problem(Reason.RESULT_INVALID, f"{RESULT_FILE} is no valid JSON text: it is nested deeper than 100 levels"),
    )


@pytest.mark.parametrize("depth", [1, 10, 100])
def test_a_result_that_is_nested_reasonably_can_also_be_shown_in_the_status(depth: int) -> None:
    text = "[" * depth + "]" * depth

    result, problem = read_result(text, REQUIRED)

    assert (result, problem) == (text.encode(), None)
    assert MapReduceJobStatus(result=msgspec.json.decode(text)).to_kubernetes()["result"] == json.loads(text)


@given(strategies.json_values, st.sampled_from([None, 0, 1, 4, "\t"]), st.booleans())
def test_however_it_was_printed_a_result_becomes_one_line_with_the_same_value(
    value: Any, indent: int | str | None, ascii_only: bool
) -> None:
    printed = json.dumps(value, indent=indent, ensure_ascii=ascii_only)

    result, problem = read_result(f"\n {printed}\r\n", REQUIRED)

    assert problem is None
    assert result is not None
    assert b"\n" not in result
    assert json.loads(result) == value


@pytest.mark.parametrize(
    "number", ["1.0", "1.50", "1e5", "1E+2", "-0", "-0.0", "0.1000", "12345678901234567890123456789", "1e-400"]
)
def test_numbers_stay_as_they_were_written(number: str) -> None:
    assert read_result(f'{{\n  "n": {number}\n}}', REQUIRED) == (f'{{"n":{number}}}'.encode(), None)


@pytest.mark.parametrize("string", [r'"ü \/ \u00fc \n"', '"a  b"', '"{ , : }"', '"\u2028"'])
def test_strings_stay_as_they_were_written(string: str) -> None:
    assert read_result(f"[ {string} ]", REQUIRED) == (f"[{string}]".encode(), None)


# ----------------------------------------------------------------------------------------------------------------- rule


def test_a_result_that_keeps_the_rule_is_a_result() -> None:
    assert read_result('{"failed": 0}', ruled("result.failed == 0")) == (b'{"failed":0}', None)


def test_a_result_that_breaks_the_rule_is_invalid_and_the_rule_is_quoted() -> None:
    assert read_result('{"failed": 2}', ruled("result.failed == 0")) == (
        None,
        Problem(Reason.RESULT_INVALID, "result.rule 'result.failed == 0' gave False, not true"),
    )


def test_a_rule_sees_the_item_too() -> None:
    rule = ruled("result.words == size(item.text)", item=b'{"text":"abc"}')

    assert read_result('{"words": 3}', rule)[1] is None
    assert read_result('{"words": 4}', rule)[1] is not None


@pytest.mark.parametrize(("text", "shown"), [("result.ok", "1"), ("'true'", "'true'"), ("null", "None")])
def test_only_true_keeps_a_rule(text: str, shown: str) -> None:
    _, problem = read_result('{"ok": 1}', ruled(text))

    assert problem == Problem(Reason.RESULT_INVALID, f"result.rule {text!r} gave {shown}, not true")


@pytest.mark.parametrize("text", ["result.missing == 1", "result.ok / 0 == 1", "result + 1 == 2"])
def test_a_rule_without_an_answer_is_not_kept_and_says_why(text: str) -> None:
    _, problem = read_result('{"ok": 1}', ruled(text))

    assert problem is not None
    assert problem.reason is Reason.RESULT_INVALID
    assert problem.message.startswith(f"result.rule has no answer: {text!r}: ")


def test_no_rule_is_asked_about_a_result_that_was_not_written() -> None:
    assert read_result("", ResultRule(required=False, expression=Expression("false"))) == (None, None)


# ---------------------------------------------------------------------------------------------------- the agent's error


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"error": {"message": "no such file"}}', AgentError("no such file", retryable=True)),
        ('{"error": {"reason": "NotFound", "message": "no file"}}', AgentError("NotFound: no file", retryable=True)),
        ('{"error": {"reason": "NotFound"}}', AgentError("NotFound", retryable=True)),
        ('{"error": {"message": "bad", "retryable": false}}', AgentError("bad", retryable=False)),
        ('{"error": {"message": "bad", "retryable": true}}', AgentError("bad", retryable=True)),
        ('{"error": {"message": "bad", "retryable": "no"}}', AgentError("bad", retryable=True)),
        ('{"error": {"message": 42}}', AgentError("42", retryable=True)),
        ('{"error": {}}', AgentError("the agent reported an error without a message", retryable=True)),
        ('\n {"error": {"message": "bad"}, "more": 1}\n', AgentError("bad", retryable=True)),
    ],
)
def test_a_failing_agent_may_say_what_is_wrong_and_whether_to_try_again(text: str, error: AgentError) -> None:
    assert read_error(text) == error


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last)",
        "{",
        "null",
        "[]",
        "{}",
        '"error"',
        '{"error": "bad"}',
        '{"error": null}',
    ],
)
def test_other_last_words_are_not_taken_for_the_agents_account(text: str) -> None:
    assert read_error(text) is None


def test_last_words_that_are_nested_too_deep_are_no_account() -> None:
    assert read_error("[" * 2048 + "]" * 2048) is None


@given(st.text() | st.recursive(st.text(), lambda inner: st.dictionaries(st.just("error"), inner)).map(json.dumps))
def test_no_last_words_are_too_odd_to_be_read(text: str) -> None:
    error = read_error(text)

    assert error is None or error.message
