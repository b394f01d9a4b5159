"""Filters over dead letters: they mean what they say, and one that is wrong selects nothing."""

import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, EligibilityRule, LetterState, Reason
from mapreduce_operator.core.expressions import FUNCTIONS, ExpressionError
from mapreduce_operator.core.letter_queries import FIELDS, RULES_SECONDS, Eligibility, LetterFilter
from mapreduce_operator.core.letters import Attempt, Letter, moment
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.plan import canonical
from tests.unit.core import strategies

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""
NOW = T0 + 3 * 3600

ITEM = {
    "n": 5,
    "ratio": 5.0,
    "name": "f(x)",
    "title": "a && b",
    "größe": "XL",
    "tags": ["red", "dark blue"],
    "deep": {"list": [{"k": 1}]},
    "nothing": None,
}


def letter_of(item: Any = ITEM, **changes: Any) -> Letter:
    letter = Letter(
        id="GPL-3",
        key="abc",
        position=7,
        payload=msgspec.Raw(canonical(item)),
        cause=Cause.ATTEMPTS_EXHAUSTED,
        reason=Reason.OOM_KILLED,
        exit_code=137,
        message="out of memory in 'f(x)' && more",
        signature_id="5f1c",
        signature="out of memory in <text>",
        first_attempt_at=moment(T0),
        last_attempt_at=moment(T0 + 3600),
        attempts=3,
        interruptions=1,
        node="node-1",
        history=(
            Attempt(
                dispatch=1, verdict=Verdict.INTERRUPTED, reason=Reason.EVICTED, node="node-2", ended_at=moment(T0 + 60)
            ),
            Attempt(dispatch=2, verdict=Verdict.FAILED, reason=Reason.OOM_KILLED, exit_code=137, ended_at=moment(T0)),
        ),
        redrives={1: "mend"},
    )
    return msgspec.structs.replace(letter, **changes)


def matches(text: str, letter: Letter | None = None) -> bool:
    return LetterFilter(text).matches(letter or letter_of(), LetterState.OPEN, NOW)


# --------------------------------------------------------------------- the language, by the defects of earlier systems


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # Numbers are numbers, however they are written.
        ("item.n == 5", True),
        ("item.n == 5.0", True),
        ("item.ratio == 5", True),
        ("item.n != 5", False),
        ("item.n < 5.5 && item.n >= 5", True),
        ("item.n == '5'", False),
        # Lists hold numbers as well as texts.
        ("item.n in [1, 5]", True),
        ("item.ratio in [1, 5]", True),
        ("item.n in ['5']", False),
        ("'red' in item.tags", True),
        # Arguments that are texts are without their quotes, and commas in them divide nothing.
        ("item.name.contains('x')", True),
        ('item.name.contains("x")', True),
        ("item.name.contains(\"'x'\")", False),
        ("item.name.matches('^[a-z]{1,2}[(]')", True),
        ("item.name.endsWith(')') && item.name.startsWith('f(')", True),
        # The length of a list.
        ("size(item.tags) == 2", True),
        ("item.tags.size() == 2", True),
        # Negation binds more than `and`, and that more than `or`.
        ("!(item.n == 6) && item.n == 6", False),
        ("!(item.n == 6 && item.n == 6)", True),
        ("!(item.n == 5) && (item.n == 6) || true", True),
        ("!(item.n == 5) && ((item.n == 6) || true)", False),
        ("true || false && false", True),
        ("(true || false) && false", False),
        # What stands in quotes is no operator and no parenthesis.
        ("item.name == 'f(x)'", True),
        ("item.title == 'a && b'", True),
        ("item.title == 'a' || item.title == 'b'", False),
        ("item.tags.exists(tag, tag == 'dark blue')", True),
        ("letter.message.contains(\"in 'f(x)' && more\")", True),
        ("letter.message == 'letter.nosuch // item.?x .map(y, z) nosuch(1)'", False),
        (r"letter.message == r'\' || letter.message == '\'' || letter.message == '''it's'''", False),
        ("item.n == 5 // && nosuch(letter.nosuch)", True),
        # Characters beyond ASCII.
        ("item['größe'] == 'XL'", True),
        ("letter.message.contains('größe')", False),
        ("item['größe'].matches('^.L$')", True),
        # null is a value; a field that is missing is asked for with has().
        ("item.nothing == null", True),
        ("has(item.nothing)", True),
        ("has(item.missing)", False),
        ("has(item.missing) && item.missing > 3", False),
        ("!has(item.missing) || item.missing == null", True),
        ("item.n == null", False),
        # Paths and lists.
        ("item.deep.list[0].k == 1", True),
        ("item.deep.list.all(one, one.k > 0)", True),
        ("item.deep . list . exists( one , one.k == 2)", False),
    ],
)
def test_a_filter_means_what_it_says(text: str, answer: bool) -> None:
    assert matches(text) is answer


@pytest.mark.parametrize(
    "text",
    [
        'letter.id == "GPL-3"',
        'letter.state == "Open"',
        'letter.state in ["Open", "Archived"]',
        'letter.cause == "AttemptsExhausted"',
        'letter.reason == "OOMKilled"',
        "letter.exitCode == 137 && letter.exitCode > 100",
        'letter.message.startsWith("out of memory")',
        'letter.signature == "5f1c"',
        'letter.signatureText.endsWith("<text>")',
        'letter.node == "node-1"',
        "letter.attempts == 3",
        "letter.interruptions == 1",
        "letter.redrives == 1",
        'letter.firstAttempt == timestamp("2026-01-01T00:00:00Z")',
        'letter.lastAttempt > timestamp("2025-12-31T23:00:00-01:00")',
        'letter.lastAttempt - letter.firstAttempt == duration("1h")',
        'now - letter.lastAttempt == duration("2h")',
        "letter.lastAttempt.getHours() == 1",
        "size(letter.history) == 2",
        'letter.history.exists(one, one.reason == "Evicted" && one.node == "node-2")',
        'letter.history[1].verdict == "Failed" && letter.history[1].exitCode == 137',
        "letter.history.all(one, one.startedAt == null && one.endedAt < now)",
        'letter["reason"] == "OOMKilled" && item["n"] == 5',
        "type(item) == map && type(item.n) == int",
    ],
)
def test_all_that_is_told_of_a_letter_can_be_asked_for(text: str) -> None:
    assert matches(text)


def test_an_exit_code_that_does_not_exist_is_null() -> None:
    assert matches("letter.exitCode == null", letter_of(exit_code=None))


@pytest.mark.parametrize(
    ("item", "text"), [(7, "item == 7"), ("a", "item == 'a'"), (None, "item == null"), ([1], "item[0] == 1")]
)
def test_an_item_may_be_any_value(item: Any, text: str) -> None:
    assert matches(text, letter_of(item))


comparisons = st.sampled_from(["<", "<=", "==", "!=", ">=", ">"])
PYTHON = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    ">": lambda a, b: a > b,
}
whole = st.integers(-(2**53), 2**53)


@given(whole | whole.map(float), comparisons, whole)
def test_numbers_compare_as_numbers_whether_they_have_a_point_or_not(value: float, operator: str, other: int) -> None:
    assert matches(f"item.n {operator} {other}", letter_of({"n": value})) is PYTHON[operator](value, other)


@given(strategies.item_ids | st.sampled_from(strategies.HOSTILE_TEXTS))
def test_a_text_is_equal_to_itself_whatever_stands_in_it(text: str) -> None:
    quoted = msgspec.json.encode(text).decode()

    assert matches(f"letter.message == {quoted} && item == {quoted}", letter_of(text, message=text))


truths = st.recursive(
    st.sampled_from(["a", "b", "c"]),
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.just("and"), inner, inner)
        | st.tuples(st.just("or"), inner, inner)
    ),
    max_leaves=8,
)


def _text(truth: Any) -> str:
    match truth:
        case str(name):
            return f"item.{name}"
        case ("not", inner):
            return f"!({_text(inner)})"
        case ("and", left, right):
            # No parentheses but around `or`: the precedence is what is tested.
            return " && ".join(f"({_text(one)})" if one[0] == "or" else _text(one) for one in (left, right))
        case _:
            _, left, right = truth
            return f"{_text(left)} || {_text(right)}"


def _value(truth: Any, item: dict[str, bool]) -> bool:
    match truth:
        case str(name):
            return item[name]
        case ("not", inner):
            return not _value(inner, item)
        case ("and", left, right):
            return _value(left, item) and _value(right, item)
        case _:
            _, left, right = truth
            return _value(left, item) or _value(right, item)


@given(truths, st.fixed_dictionaries({name: st.booleans() for name in "abc"}))
def test_not_and_or_bind_in_this_order(truth: Any, item: dict[str, bool]) -> None:
    assert matches(_text(truth), letter_of(item)) is _value(truth, item)


# -------------------------------------------------------------------------------------------------- what is found wrong


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no valid CEL expression"),
        ("letter.attempts >", "is no valid CEL expression"),
        ("item.n = 5", "is no valid CEL expression"),
        ("letter.attempts == 3 AND item.n == 5", "is no valid CEL expression"),
        ("length(item.tags) == 3", "there is no function 'length'; there are "),
        ("is_null(item.n)", "there is no function 'is_null'"),
        ("item.name.lowerAscii() == 'a'", "there is no function 'lowerAscii'"),
        ("true || nosuch(item)", "there is no function 'nosuch'"),
        ("item.tags.exists(i, tag, tag == 'a')", "there is no function 'exists'"),
        ("n == 5", "there is no variable 'n'; there are letter, item, now"),
        ("attempts > 3", "there is no variable 'attempts'"),
        ("true || lettre.attempts > 3", "there is no variable 'lettre'"),
        ("item.tags.exists(t, t == tag)", "there is no variable 'tag'"),
        ("item.n == 5 && 'x.map(tag, 1)' == tag", "there is no variable 'tag'"),
        ("letter.reasn == 'OOMKilled'", "there is no field of letter 'reasn'; there are id, state, cause, reason, "),
        ("has(letter.reasn)", "there is no field of letter 'reasn'"),
        ("true || letter . exit_code == 1", "there is no field of letter 'exit_code'"),
        ("item.title == 'letter.id' && letter.nosuch == ''", "there is no field of letter 'nosuch'"),
        (r"item.title == r'\' && letter.nosuch == 'a'", "there is no field of letter 'nosuch'"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_refused_before_any_letter_is_looked_at(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        LetterFilter(text)

    assert repr(text) in str(refused.value)
    assert complaint in str(refused.value)


def test_a_field_of_an_item_may_be_called_letter_and_have_fields_of_its_own() -> None:
    assert matches("item.letter.nosuch == 1 && item . letter . nosuch == 1", letter_of({"letter": {"nosuch": 1}}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "item.missing == 3",
            "no such field 'missing'. Where not all items have it, ask for that first: has(item.missing) && …",
        ),
        ("item.missing == null", "no such field 'missing'"),
        ("item.deep.missing.more == 1", "no such field 'missing'"),
        ("letter['nosuch'] == 1", "no such field 'nosuch'"),
        ("item.n > 'a'", "A value may be null or of another type in some of them"),
        ("!item.n == 5", "A value may be null or of another type in some of them"),
        ("item.nothing > 1", "null or of another type"),
        ("item.n.startsWith('5')", "null or of another type"),
        ("item.tags[7] == 'a'", "index out of bounds"),
        ("item.name.matches('(')", "regex"),
        ("letter.lastAttempt > timestamp('yesterday')", "timestamp"),
        ("item.n", "gave 5, not true or false"),
        ("item.title", "gave 'a && b', not true or false"),
        ("item.nothing", "gave None, not true or false"),
        ("item.tags.filter(tag, tag == 'red')", "not true or false"),
    ],
)
def test_a_letter_without_an_answer_is_named_with_what_to_do(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        matches(text)

    assert str(refused.value).startswith("letter 'GPL-3': ")
    assert repr(text) in str(refused.value)
    assert complaint in str(refused.value)


def test_an_item_that_is_nested_too_deep_to_be_looked_at_is_an_error_too() -> None:
    deep = msgspec.structs.replace(letter_of(), payload=msgspec.Raw(b"[" * 5000 + b"]" * 5000))

    with pytest.raises(ExpressionError, match=r"letter 'GPL-3': .*recursion"):
        matches("size(item) == 1", deep)


def test_a_complaint_is_not_as_long_as_an_id_or_an_item_may_be() -> None:
    with pytest.raises(ExpressionError) as refused:
        matches("item", letter_of("ü" * 30_000, id="x" * 4096))

    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("state", LetterState)
def test_the_state_of_a_letter_is_what_is_told_with_it(state: LetterState) -> None:
    archived = LetterFilter('letter.state == "Archived"').matches(letter_of(), state, NOW)

    assert archived is (state is LetterState.ARCHIVED)


@given(st.text(st.sampled_from("item.letrno?(){}[]'\"=<>!&|5, \n/"), max_size=30), strategies.json_values)
def test_whatever_is_written_is_true_or_false_or_an_error(text: str, item: Any) -> None:
    try:
        answer = LetterFilter(text).matches(letter_of(item), LetterState.OPEN, NOW)
    except ExpressionError:
        return
    assert answer in {True, False}


EXAMPLES = {
    "bytes": "bytes('a') == b'a'",
    "double": "double(1) == 1.0",
    "duration": "duration('60s') == duration('1m')",
    "dyn": "dyn(1) == 1",
    "int": "int('1') == 1",
    "string": "string(1) == '1'",
    "timestamp": "timestamp('2026-01-01T00:00:00Z') < now",
    "type": "type(1) == int",
    "uint": "uint(1) == 1u",
    "contains": "'abc'.contains('b')",
    "endsWith": "'abc'.endsWith('c')",
    "matches": "'abc'.matches('a.c')",
    "size": "size('abc') == 3",
    "startsWith": "'abc'.startsWith('a')",
    "getFullYear": "now.getFullYear() == 2026",
    "getMonth": "now.getMonth() == 0",
    "getDate": "now.getDate() == 1",
    "getDayOfMonth": "now.getDayOfMonth() == 0",
    "getDayOfWeek": "now.getDayOfWeek() == 4",
    "getDayOfYear": "now.getDayOfYear() == 0",
    "getHours": "now.getHours() == 3",
    "getMinutes": "now.getMinutes() == 0",
    "getSeconds": "now.getSeconds() == 0",
    "getMilliseconds": "now.getMilliseconds() == 0",
}


def test_there_is_an_example_for_each_function() -> None:
    assert set(EXAMPLES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_function_that_is_offered_exists(name: str) -> None:
    assert matches(EXAMPLES[name])


def test_every_field_that_is_offered_can_be_compared() -> None:
    for name in FIELDS:
        assert matches(f"letter.{name} == letter.{name}")


# ---------------------------------------------------------------------------------------------------------- eligibility


def verdict(letter: Letter, *rules: EligibilityRule, patched: bool = False) -> tuple[bool, str]:
    return Eligibility(rules).verdict(letter, LetterState.OPEN, NOW, patched=patched)


@pytest.mark.parametrize("cause", [Cause.ATTEMPTS_EXHAUSTED, Cause.RETRY_BUDGET_EXHAUSTED])
def test_letters_that_only_ran_out_of_attempts_are_eligible(cause: Cause) -> None:
    assert verdict(letter_of(cause=cause)) == (True, "")


@pytest.mark.parametrize(
    ("cause", "why"), [(Cause.NOT_RETRYABLE, "of no use"), (Cause.TOO_MANY_INTERRUPTIONS, "interrupted too often")]
)
def test_letters_that_would_fail_the_same_way_need_a_patch_or_force(cause: Cause, why: str) -> None:
    eligible, reason = verdict(letter_of(cause=cause))

    assert not eligible
    assert why in reason
    assert "patch, or force" in reason
    assert verdict(letter_of(cause=cause), patched=True) == (True, "")


def test_every_cause_has_a_verdict() -> None:
    assert {cause for cause in Cause if not verdict(letter_of(cause=cause))[0]} == {
        Cause.NOT_RETRYABLE,
        Cause.TOO_MANY_INTERRUPTIONS,
    }


def test_the_first_rule_that_matches_decides_before_the_cause_and_whatever_is_patched() -> None:
    rules = (
        EligibilityRule(filter="item.n == 6", eligible=True),
        EligibilityRule(filter="item.n == 5", eligible=False, note="costs too much"),
        EligibilityRule(filter="true", eligible=True),
    )

    assert verdict(letter_of(), *rules) == (False, "costs too much")
    assert verdict(letter_of(), *rules, patched=True) == (False, "costs too much")
    assert verdict(letter_of({"n": 6}, cause=Cause.NOT_RETRYABLE), *rules) == (
        True,
        "spec.eligibility[0] of the queue says so",
    )
    assert verdict(letter_of({"n": 7}, cause=Cause.NOT_RETRYABLE), *rules)[0]


def test_rules_that_do_not_match_leave_it_to_the_cause() -> None:
    rule = EligibilityRule(filter='letter.reason == "Error"', eligible=False)

    assert verdict(letter_of(), rule) == (True, "")


def test_a_letter_for_which_a_rule_has_no_answer_is_not_eligible_and_told_why() -> None:
    rule = EligibilityRule(filter="item.price > 100", eligible=False, note="costs too much")

    eligible, reason = verdict(letter_of(), rule, patched=True)

    assert not eligible
    assert reason.startswith("spec.eligibility[0].filter of the queue has no answer: ")
    assert "has(item.price)" in reason


def test_rules_that_take_too_long_together_make_a_letter_not_eligible() -> None:
    # Each has an answer in time, none of which is yes.
    slow = EligibilityRule(filter=" || ".join([r"letter.id.matches('^\\w{99}x')"] * 20), eligible=True)
    began = time.thread_time()

    eligible, reason = verdict(letter_of(), *[slow] * 20)

    assert not eligible
    assert re.fullmatch(
        r"the rules of the queue before spec\.eligibility\[\d+\] take longer than 1\.0 s for this letter", reason
    )
    assert time.thread_time() - began < 5 * RULES_SECONDS


def test_a_rule_that_is_wrong_is_named() -> None:
    rules = [EligibilityRule(filter="true", eligible=True), EligibilityRule(filter="item.n =", eligible=True)]

    with pytest.raises(ExpressionError, match=r"^spec\.eligibility\[1\]\.filter: 'item\.n =' is no valid"):
        Eligibility(rules)
