"""CEL expressions: they answer, or they say what is wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.expressions import Expression, ExpressionError
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
        ("item.missing", "no such field 'missing'"),
        ("item.deep.missing", "no such field 'missing'"),
        ("other", "other"),
        ("nosuch(item)", "nosuch"),
        ("item.words + item.file", "operand types"),
        ("item.words > 'a'", "operand types"),
        ("item.tags[7]", "7"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulo by zero"),
        ("[0].map(number, 1 / number)", "division by zero"),
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
