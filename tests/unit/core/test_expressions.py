"""CEL expressions: they answer, or they say what is wrong with them, and they do so in time."""

import time

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.expressions import SECONDS, SUMS, Expression, ExpressionError, macros_in
from tests.unit.core import strategies


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("item.file", "GPL-3"),
        ("item['odd name']", 1),
        ("item.words > 3 && item.words < 9", True),
        ("item.words == 5.0", True),
        ("item.tags.exists(tag, tag.startsWith('cop'))", True),
        ("has(item.missing)", False),
        ("has(item.missing) ? item.missing : 'none'", "none"),
        ("item.file + '@' + string(item.words)", "GPL-3@5"),
        ("size(item.tags)", 2),
        ("item.nothing == null", True),
        ("item.file in ['GPL-3', 'MIT']", True),
    ],
)
def test_an_expression_gives_its_value(text: str, value: object) -> None:
    item = {"file": "GPL-3", "odd name": 1, "words": 5, "tags": ["copyleft", "gnu"], "nothing": None}

    assert Expression(text).evaluate({"item": item}) == value


def test_an_expression_is_compiled_once_and_evaluated_often() -> None:
    expression = Expression("item * 2")

    assert [expression.evaluate({"item": number}) for number in (1, 2, 3)] == [2, 4, 6]


@pytest.mark.parametrize("text", ["", "item.", "item ==", "(item", "item = 1", "item.?x", "true ? 1", "\x00", "'open"])
def test_a_text_that_is_no_expression_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(text)

    assert repr(text) in str(refused.value)
    assert "is no valid CEL expression" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("item.", "line 1, column 6: Syntax error: no viable alternative at input '.'"),
        ("item.size ==\n+ 1", "line 2, column 1: Syntax error: extraneous input '+'"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        Expression(text)

    assert str(refused.value) == f"{text!r} is no valid CEL expression: {complaint}"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("item.missing", "no such field 'missing'"),
        ("item.deep.missing", "no such field 'missing'"),
        ("other", "other"),
        ("nosuch(item)", "nosuch"),
        ("item.words + item.file", "operand types"),
        ("item.words > 'a'", "operand types"),
        ("item.tags[7]", "7"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulo by zero"),
        ("[0].filter(number, 1 / number == 0)", "division by zero"),
        ("9223372036854775807 + 1", "overflow"),
        ("int(1e300)", "overflow"),
        ("int('five')", "invalid digit"),
        ("'a'.matches('(')", "regex"),
        ("timestamp('yesterday')", "timestamp"),
        ("!item.words", "operand types"),
    ],
)
def test_an_expression_without_a_value_says_why_and_is_quoted(text: str, complaint: str) -> None:
    expression = Expression(text)

    with pytest.raises(ExpressionError) as refused:
        expression.evaluate({"item": {"words": 5, "file": "GPL-3", "tags": [], "deep": {}}})

    assert repr(text) in str(refused.value)
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_variable_that_is_not_given_is_named() -> None:
    with pytest.raises(ExpressionError, match="'result'"):
        Expression("result.ok").evaluate({"item": {}})


@given(st.text(st.sampled_from("item.ab'\"()[]{}+-*/%<>=!&|?:,019eu x\n"), max_size=30), strategies.json_values)
def test_whatever_is_written_gives_a_value_or_an_error_that_quotes_it(text: str, item: object) -> None:
    try:
        Expression(text).evaluate({"item": item})
    except ExpressionError as error:
        assert repr(text) in str(error)  # noqa: PT017 - most texts are wrong, and some are not


@given(strategies.json_values)
def test_any_json_value_can_be_looked_at(item: object) -> None:
    assert Expression("size([item]) == 1").evaluate({"item": item}) is True


def test_functions_and_free_variables_are_known() -> None:
    expression = Expression("item.exists(one, size(one) > 2 && one == other) || 'x.all(y, z(y))' == \"\" // f(n)")

    assert expression.functions == {"size"}
    assert expression.variables == {"item", "other"}


# ------------------------------------------------------------------------------------------------------------- in time

LARGEST = [1] * 16_000
"""As a JSON text, an item of 32 KiB."""


@pytest.mark.parametrize(
    "text",
    [
        "item.all(a, item.all(b, b == a))",
        "item.all(a,\n// a comment, with )\n item . exists ( b , b == a))",
        "item.all((a), [a].all(.b, b == a))",
        "item.all(a, ['),', \"),\"].exists(b, b == 'x'))",
        "item.exists_one(a, true || {'k': [1, 2]}['k'].filter(b, b == a) == [])",
    ],
)
def test_a_macro_inside_a_macro_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(ExpressionError, match=r"stands inside .*Put it beside it") as refused:
        Expression(text)

    assert repr(text) in str(refused.value)


def test_macros_may_stand_beside_one_another() -> None:
    text = "item.exists(a, a == 1) && (item.all(a, a > 2) || [')', '.all(b,'].exists(b, b == '.all(b,'))"

    assert Expression(text).evaluate({"item": [1, 2]}) is True
    assert Expression("item.filter(a, a > 1).filter(a, a > 2).exists_one(a, a == 3)").evaluate({"item": [1, 2, 3]})


def test_a_macro_that_makes_lists_is_refused() -> None:
    with pytest.raises(ExpressionError, match="map is not there"):
        Expression("item.map(a, a + a).map(a, a + a)")


def test_what_is_added_up_is_bounded() -> None:
    added = " + ".join(["item"] * (SUMS + 1))

    assert Expression(f"size({added}) > 0").evaluate({"item": LARGEST}) is True
    with pytest.raises(ExpressionError, match=f"more than {SUMS} times"):
        Expression(f"size({added} + item) > 0")


@pytest.mark.parametrize(
    "text",
    [
        "item.all(a, size(item + item) > 0)",
        "item.exists(a, size(item + item) < 0)",
        "item.exists_one(a, size(item + item) < 0)",
        "size(item.filter(a, true)) > 0",
        r"item.all(a, !'a'.matches('\\w{99}x'))",
        "item.all(a, size(item + item) > 0) || true",
        "true && (item.exists((a), size(item + item) < 0) || !false)",
    ],
)
def test_a_macro_that_takes_too_long_has_no_value(text: str) -> None:
    expression = Expression(text)
    began = time.thread_time()

    with pytest.raises(ExpressionError, match=rf"takes longer than {SECONDS} s: ask for less"):
        expression.evaluate({"item": LARGEST})

    assert time.thread_time() - began < 4 * SECONDS
    assert expression.evaluate({"item": [1]}) in {True, False}


def test_all_evaluations_together_have_their_time_too() -> None:
    expression = Expression("item.all(a, item == item)", seconds=0.05)

    def evaluate_until_refused() -> None:
        while True:
            assert expression.evaluate({"item": LARGEST[:500]}) is True

    with pytest.raises(ExpressionError, match=r"took more than 0\.05 s for those before"):
        evaluate_until_refused()


bodies = st.sampled_from(
    ["a > 1", "a == 1 || a == 2", "!(a in [1, 2])", "[a, a][0] > 1", "')' == \"x,\" || a > 0", "a > 1 ? true : a == 0"]
)
macros = st.builds("item.{}(a, {})".format, st.sampled_from(["all", "exists", "exists_one"]), bodies)
filters = st.builds("item.filter(a, {}) == [2]".format, bodies)


@given(st.lists(macros | filters, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=4))
def test_a_macro_has_the_value_that_the_library_gives_it(asked: list[str], item: list[int]) -> None:
    text = " && ".join(asked)

    assert Expression(text).evaluate({"item": item}) == cel.compile(text).execute({"item": item})


TOKENS = [*("item", ".", "all", "exists", "(", ")", ",", "a", "[1]", "true", '"', "'", "'" * 3, "\\", "r", "b", "//")]


@given(st.lists(st.sampled_from([*TOKENS, "\n", " ", "item.all(a,", "[1].exists((a), "]), max_size=12).map("".join))
def test_no_macro_is_overlooked_however_it_is_written(text: str) -> None:
    try:
        expression = Expression(text)
    except ExpressionError:
        return
    # What the library makes of all, and of exists.
    assert list(macros_in(expression.code)) or "@not_strictly_false" not in cel.compile(text).functions()
