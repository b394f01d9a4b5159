"""Filter and order: what a naive reference says of the same items, and complaints about those without an answer."""

from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import OrderBy, SortOrder
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.item_expressions import ItemFilter, ItemOrder

UP, DOWN = SortOrder.ASCENDING, SortOrder.DESCENDING
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.5, float("inf")]),
    st.sampled_from(["", "a", "B", "b", "ä", "\U0001f9ea"]),
)
ITEMS = st.lists(st.dictionaries(st.sampled_from("xy"), VALUES), max_size=12)


def ordered(items: list[Any], *by: OrderBy) -> list[Any]:
    order = ItemOrder(by)
    ranked = [(order.ranks(item), item) for item in items]
    order.sort(ranked)
    return [item for _, item in ranked]


def compared(one: Any, other: Any) -> int:
    """What comes first of two values that are not null."""
    kinds = [0 if isinstance(value, bool) else 2 if isinstance(value, str) else 1 for value in (one, other)]
    if kinds[0] != kinds[1]:
        return kinds[0] - kinds[1]
    return int(one > other) - int(one < other)


def reference(items: list[dict[str, Any]], *by: tuple[str, SortOrder]) -> list[Any]:
    """The same order, by comparing all with all."""

    def of_two(one: dict[str, Any], other: dict[str, Any]) -> int:
        for name, order in by:
            a, b = one.get(name), other.get(name)
            if a is None or b is None:
                found = (a is None) - (b is None)
            else:
                found = compared(a, b) * (-1 if order is DOWN else 1)
            if found:
                return found
        return 0

    return sorted(items, key=cmp_to_key(of_two))


# ------------------------------------------------------------------------------------------------------------ the order


@given(ITEMS, st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from([UP, DOWN])), max_size=4))
def test_items_come_in_the_order_that_a_naive_reference_puts_them_in(
    items: list[dict[str, Any]], by: list[tuple[str, SortOrder]]
) -> None:
    found = ordered(items, *(OrderBy(expression=f"item.{name}", order=order) for name, order in by))

    assert [id(item) for item in found] == [id(item) for item in reference(items, *by)]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (UP, [False, True, -1, 0.5, 1, "", "B", "a", "ä", None]),
        (DOWN, ["ä", "a", "B", "", 1, 0.5, -1, True, False, None]),
    ],
)
def test_kinds_of_values_have_an_order_of_their_own_and_null_is_last(order: SortOrder, expected: list[Any]) -> None:
    mixed = ["a", None, 1, True, "", 0.5, "ä", False, -1, "B"]

    assert ordered(mixed, OrderBy(expression="item", order=order)) == expected


@pytest.mark.parametrize("order", [UP, DOWN])
def test_what_is_equal_stays_in_the_order_of_the_input_and_what_is_missing_is_as_null(order: SortOrder) -> None:
    items = [{"n": 0}, {"n": 1, "x": 7}, {"n": 2, "x": None}, {"n": 3, "x": 7.0}, {"n": 4}]

    found = ordered(items, OrderBy(expression="item.x", order=order))
    assert [item["n"] for item in found] == [1, 3, 0, 2, 4]


def test_large_numbers_are_compared_exactly() -> None:
    assert ordered([2**53 + 1, float(2**53)], OrderBy(expression="item")) == [float(2**53), 2**53 + 1]


@pytest.mark.parametrize(
    ("expression", "item", "told"),
    [
        ("item", [1], "gave an array; items are put in order by booleans, numbers and strings"),
        ("item", {"a": 1}, "gave an object; items are put in order"),
        ("double(item)", "NaN", "gave NaN; "),
        ("timestamp(item)", "2026-01-01T00:00:00Z", "gave datetime; "),
        ("bytes(item)", "x", "gave bytes; "),
        ("item.x", "text", "'item.x': No such overload"),
        ("item.x[1]", {"x": [1]}, "index out of bounds"),
    ],
)
def test_what_cannot_be_compared_is_refused(expression: str, item: Any, told: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        ordered([item], OrderBy(expression=expression))

    assert str(refused.value).startswith("orderBy ")
    assert told in str(refused.value)


def test_of_several_expressions_the_wrong_one_is_named() -> None:
    with pytest.raises(ExpressionError, match=r"^\[1\]\.expression: 'itme\.x': there is no variable 'itme'"):
        ItemOrder([OrderBy(expression="item.x"), OrderBy(expression="itme.x")])


# ----------------------------------------------------------------------------------------------------------- the filter


@pytest.mark.parametrize(
    ("text", "item", "kept"),
    [
        ("item.n > 1", {"n": 2}, True),
        ("item.n > 1", {"n": 1}, False),
        ("has(item.n) && item.n == 5", {}, False),
        ("item.n == 5", {"n": 5.0}, True),
        ("item in [1, 2]", 2, True),
        ("!(item.a && item.b) || item.c", {"a": True, "b": True, "c": False}, False),
        ("item.name == 'Grüße && \\'so\\''", {"name": "Grüße && 'so'"}, True),
        ("item.tags.exists(tag, tag == 'x')", {"tags": ["y", "x"]}, True),
    ],
)
def test_the_filter_says_which_items_are_meant(text: str, item: Any, kept: bool) -> None:
    assert ItemFilter(text).keeps(item) is kept


@pytest.mark.parametrize(
    ("text", "item", "told"),
    [
        (
            "item.n > 1",
            {},
            "filter 'item.n > 1': no such field 'n'. Where not all items have it, ask for that first: has",
        ),
        ("item.n > 1", {"n": "2"}, "filter 'item.n > 1': No such overload"),
        ("item.n", {"n": 1}, "filter 'item.n' gave a number, not true or false"),
    ],
)
def test_an_item_without_an_answer_is_an_error(text: str, item: Any, told: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        ItemFilter(text).keeps(item)

    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["item.", "itme.n > 1", "lower(item.n) == 'a'", "now > item.n", "item.l.map(x, x)"])
def test_a_wrong_filter_is_refused_without_an_item(text: str) -> None:
    with pytest.raises(ExpressionError):
        ItemFilter(text)
