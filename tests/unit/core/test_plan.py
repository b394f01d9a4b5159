"""From input to plan: ids that do not depend on order, complaints that name the position, shards that lose no byte."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Input, OnDuplicate, OrderBy, SortOrder
from mapreduce_operator.core import plan as plans
from mapreduce_operator.core.packing import unpack
from mapreduce_operator.core.plan import (
    COMPLAINTS,
    ID_BYTES,
    SHARD_BYTES,
    SHARD_ITEMS,
    TURN_ITEMS,
    InputError,
    Limits,
    Planned,
    PlannedItem,
    ShardInfo,
    canonical,
    content_id,
    decode_shard,
    decode_shard_list,
    encode_shard_list,
    encode_shards,
    keys_of,
    plan_items,
    planning,
)
from tests.unit.core import strategies


def plan(
    values: list[Any],
    id_expression: str | None = None,
    on_duplicate: OnDuplicate = OnDuplicate.FAIL,
    max_items: int | None = None,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> Planned:
    return plan_items(
        values, Input(id_expression=id_expression, on_duplicate=on_duplicate, max_items=max_items), limits
    )


def ids(planned: Planned) -> list[str]:
    return [item.id for item in planned.items]


# ------------------------------------------------------------------------------------------------------------------ ids


@given(st.data(), st.lists(strategies.json_values, max_size=6))
def test_ids_depend_on_what_is_in_the_items_and_not_on_their_order(data: st.DataObject, values: list[Any]) -> None:
    shuffled = data.draw(st.permutations(values))

    one, other = (plan(some, on_duplicate=OnDuplicate.KEEP_FIRST) for some in (values, shuffled))

    assert set(ids(one)) == set(ids(other))


@given(st.lists(strategies.json_values, max_size=6))
def test_the_plan_keeps_the_order_of_the_input(values: list[Any]) -> None:
    planned = plan(values, on_duplicate=OnDuplicate.KEEP_FIRST)

    expected = list(dict.fromkeys(canonical(value) for value in values))
    assert [item.payload for item in planned.items] == expected
    assert len(planned.items) + planned.duplicates == len(values)


def test_equal_items_have_the_same_id_whatever_the_order_of_their_keys() -> None:
    one, other = plan([{"a": 1, "b": {"c": 2, "d": 3}}]), plan([{"b": {"d": 3, "c": 2}, "a": 1}])

    assert ids(one) == ids(other)


def test_items_that_look_alike_are_told_apart() -> None:
    values = [1, 1.0, "1", True, [1], {"1": 1}, None, "", [], {}, 0, -0.0, False, "null", 10**15, 1e15]

    assert len(set(ids(plan(values)))) == len(values)


def test_texts_that_only_look_the_same_are_different_items() -> None:
    assert len(set(ids(plan(["\u00e9", "e\u0301"])))) == 2


def test_the_id_of_an_item_is_the_same_in_every_process() -> None:
    assert ids(plan([{"file": "GPL-3"}])) == [hashlib.sha256(b'{"file":"GPL-3"}').hexdigest()[:16]]


@given(strategies.json_values)
def test_a_payload_is_the_canonical_json_of_the_item(value: Any) -> None:
    (item,) = plan([value]).items

    assert json.loads(item.payload) == value
    assert canonical(msgspec.json.decode(item.payload)) == item.payload
    assert item.id == content_id(item.payload)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("item.file", "GPL-3"),
        ("item.number", "7"),
        ("item.file + '/' + string(item.number)", "GPL-3/7"),
        ("item.large", "9223372036854775807"),
        ("item.unicode", "Lizenz-\U0001f9ea-ü"),
    ],
)
def test_an_expression_gives_the_ids(expression: str, name: str) -> None:
    item = {"file": "GPL-3", "number": 7, "large": 2**63 - 1, "unicode": "Lizenz-\U0001f9ea-ü"}

    assert ids(plan([item], expression)) == [name]


@given(strategies.item_ids)
def test_any_text_without_control_characters_may_be_an_id(name: str) -> None:
    assert ids(plan([name], "item")) == [name]


def test_ids_are_told_apart_by_case_and_by_spaces() -> None:
    assert ids(plan(["a", "A", "a ", "../a"], "item")) == ["a", "A", "a ", "../a"]


def test_an_empty_input_is_an_empty_plan() -> None:
    assert plan([]) == Planned([], duplicates=0)
    assert plan([], "item.id") == Planned([], duplicates=0)


# ----------------------------------------------------------------------------------------------------------- duplicates


def test_duplicates_are_refused_with_both_positions_and_what_to_do() -> None:
    with pytest.raises(InputError) as refused:
        plan([{"n": "a"}, {"n": "b"}, {"n": "a", "more": 1}], "item.n")

    assert refused.value.reason == "DuplicateItems"
    assert str(refused.value) == (
        "item 2 has the id of item 0, 'a'. Make the ids different with idExpression, or set onDuplicate: KeepFirst"
    )


def test_the_first_of_duplicates_is_kept_on_request_and_the_others_are_counted() -> None:
    planned = plan([{"n": "a", "v": 1}, {"n": "b"}, {"n": "a", "v": 2}, {"n": "a"}], "item.n", OnDuplicate.KEEP_FIRST)

    assert planned.items == [PlannedItem("a", b'{"n":"a","v":1}'), PlannedItem("b", b'{"n":"b"}')]
    assert planned.duplicates == 2


def test_a_number_and_a_text_that_reads_the_same_are_duplicates() -> None:
    with pytest.raises(InputError, match="item 1 has the id of item 0, '7'"):
        plan([7, "7"], "item")


def test_many_duplicates_are_counted_after_the_first_few() -> None:
    with pytest.raises(InputError) as refused:
        plan([0] * 1002)

    assert str(refused.value).count(" has the id of ") == COMPLAINTS
    assert "; and 996 more. " in str(refused.value)


def test_a_few_duplicates_are_all_spelt_out() -> None:
    with pytest.raises(InputError) as refused:
        plan([0] * (COMPLAINTS + 1))

    assert str(refused.value).count(" has the id of ") == COMPLAINTS
    assert " more" not in str(refused.value)


def test_a_long_id_is_not_spelt_out_in_full() -> None:
    with pytest.raises(InputError) as refused:
        plan(["x" * 4000, "x" * 4000], "item")

    assert len(str(refused.value)) < 300


# ------------------------------------------------------------------------------------------------------------ bad items


@pytest.mark.parametrize(
    ("values", "expression", "complaint"),
    [
        ([{"id": "a"}, {}], "item.id", "item 1: has no id: 'item.id': no such field 'id'"),
        (["a", {"id": "b"}], "item.id", "item 0: has no id: 'item.id': "),
        (["a", None], "item", "item 1: idExpression gave null; an id is a string or an integer"),
        (["a", 1.5], "item", "item 1: idExpression gave a number; "),
        (["a", True], "item", "item 1: idExpression gave a boolean; "),
        (["a", []], "item", "item 1: idExpression gave an array; "),
        (["a", {}], "item", "item 1: idExpression gave an object; "),
        (["a", ""], "item", "item 1: idExpression gave ''; an id has 1 to 4,096 bytes and no control characters"),
        (["a", "b\n"], "item", "item 1: idExpression gave 'b\\n'; "),
        (["a", "\x00"], "item", "item 1: idExpression gave '\\x00'; "),
        (["a", "\x7f"], "item", "item 1: idExpression gave '\\x7f'; "),
        (["a", "b\x9b2J"], "item", "item 1: idExpression gave 'b\\x9b2J'; "),
        (["a", 0], "'id-' + string(10 / item)", "item 0: has no id: \"'id-' + string(10 / item)\": "),
        ([1, 0], "10 / item", "item 1: has no id: '10 / item': division by zero"),
    ],
)
def test_an_item_without_a_usable_id_is_refused_by_its_position(
    values: list[Any], expression: str, complaint: str
) -> None:
    with pytest.raises(InputError) as refused:
        plan(values, expression)

    assert refused.value.reason == "InvalidItems"
    assert complaint in str(refused.value)


@pytest.mark.parametrize(("size", "fits"), [(ID_BYTES, True), (ID_BYTES + 1, False)])
@pytest.mark.parametrize("letter", ["x", "\u00fc"])
def test_the_length_of_an_id_is_counted_in_bytes(letter: str, size: int, fits: bool) -> None:
    name = letter * (size // len(letter.encode())) + "x" * (size % len(letter.encode()))
    if fits:
        assert ids(plan([name], "item")) == [name]
    else:
        with pytest.raises(InputError, match="item 0: idExpression gave"):
            plan([name], "item")


def test_an_item_just_as_large_as_allowed_is_planned_and_a_larger_one_refused_by_its_position() -> None:
    limits = Limits(item_bytes=100)
    assert len(plan(["x" * 98], limits=limits).items) == 1

    with pytest.raises(InputError) as refused:
        plan(["small", "x" * 99], limits=limits)

    assert refused.value.reason == "InvalidItems"
    assert "1 of 2 items cannot be planned: item 1: has 101 bytes; the limit is 100." in str(refused.value)


def test_many_bad_items_are_counted_after_the_first_few() -> None:
    with pytest.raises(InputError) as refused:
        plan([{}] * 1000, "item.id")

    assert str(refused.value).startswith("1,000 of 1,000 items cannot be planned: item 0: ")
    assert str(refused.value).endswith("; and 995 more")


@pytest.mark.parametrize("value", ["\ud800", {"\ud800": 1}, 10**5000], ids=["surrogate", "key", "digits"])
def test_what_has_no_json_text_is_refused_by_its_position(value: Any) -> None:
    with pytest.raises(InputError, match="item 1: is no JSON value"):
        plan(["fine", value])


def test_an_expression_that_is_none_is_refused_before_any_item_is_looked_at() -> None:
    with pytest.raises(InputError) as refused:
        plan([1, 2, 3], "item.")

    assert refused.value.reason == "InvalidIdExpression"
    assert str(refused.value).startswith("spec.input.idExpression: 'item.' is no valid CEL expression")


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize(
    ("max_items", "operator", "allowed", "whose"),
    [
        (None, 3, 3, "this operator's limit"),
        (2, 3, 2, "spec.input.maxItems"),
        (3, 3, 3, "spec.input.maxItems"),
        (5, 3, 3, "this operator's limit"),
    ],
)
def test_the_smaller_of_the_limits_counts_and_is_named(
    max_items: int | None, operator: int, allowed: int, whose: str
) -> None:
    limits = Limits(items=operator)
    assert len(plan(list(range(allowed)), max_items=max_items, limits=limits).items) == allowed

    with pytest.raises(InputError) as refused:
        plan(list(range(allowed + 1)), max_items=max_items, limits=limits)

    assert refused.value.reason == "InputTooLarge"
    assert f"the input has {allowed + 1} items; {whose} is {allowed}." in str(refused.value)


# ----------------------------------------------------------------------------------------------- one step after another


def selected(values: Iterable[Any], limits: Limits = Limits(), **source: Any) -> Planned:  # noqa: B008 - it is frozen
    return plan_items(values, Input(**source), limits)


def test_the_steps_come_one_after_another_and_are_counted() -> None:
    values = [
        {"id": name, "n": n} for name, n in [("a", 3), ("b", 0), ("c", 1), ("a", 2), ("d", 5), ("e", 4), ("b", 9)]
    ]

    planned = selected(
        values,
        filter="item.n < 9",
        order_by=[OrderBy(expression="item.n")],
        id_expression="item.id",
        on_duplicate=OnDuplicate.KEEP_FIRST,
        offset=1,
        limit=2,
    )

    # Of the two a's the one with 2 comes first when they are in order.
    assert [item.payload for item in planned.items] == [b'{"id":"c","n":1}', b'{"id":"a","n":2}']
    counts = (planned.read, planned.filtered_out, planned.duplicates, planned.out_of_range)
    assert counts == (7, 1, 1, 3)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=8),
    st.integers(0, 9),
    st.one_of(st.none(), st.integers(1, 9)),
)
def test_what_is_planned_is_what_a_naive_reference_plans(
    pairs: list[tuple[int, int]], offset: int, limit: int | None
) -> None:
    planned = selected(
        [list(pair) for pair in pairs],
        filter="item[1] != 1",
        order_by=[OrderBy(expression="item[1]", order=SortOrder.DESCENDING), OrderBy(expression="item[0]")],
        id_expression="item[0]",
        on_duplicate=OnDuplicate.KEEP_FIRST,
        offset=offset,
        limit=limit,
    )

    kept = sorted((pair for pair in pairs if pair[1] != 1), key=lambda pair: (-pair[1], pair[0]))
    firsts = {pair[0]: pair for pair in reversed(kept)}
    expected = [pair for pair in dict.fromkeys(kept) if firsts[pair[0]] == pair]
    chosen = expected[offset:][:limit]
    assert [json.loads(item.payload) for item in planned.items] == [list(pair) for pair in chosen]
    assert planned.read == len(pairs)
    assert planned.out_of_range == len(expected) - len(chosen)


@pytest.mark.parametrize(
    ("offset", "limit", "chosen"),
    [
        (0, None, "abc"),
        (0, 3, "abc"),
        (0, 2, "ab"),
        (1, None, "bc"),
        (1, 1, "b"),
        (2, 5, "c"),
        (3, None, ""),
        (3, 1, ""),
        (9, 9, ""),
    ],
)
def test_offset_and_limit_at_their_bounds(offset: int, limit: int | None, chosen: str) -> None:
    planned = selected("abc", id_expression="item", offset=offset, limit=limit)

    assert ids(planned) == list(chosen)
    assert planned.out_of_range == 3 - len(chosen)


def test_the_most_items_count_at_the_end() -> None:
    assert len(selected(range(9), filter="item < 3", max_items=3).items) == 3
    assert len(selected(range(9), limit=3, max_items=3).items) == 3
    assert len(selected(range(9), limit=3, limits=Limits(items=3)).items) == 3

    with pytest.raises(InputError, match=r"the input has 4 items, of 9 that were read; spec\.input\.maxItems is 3\."):
        selected(range(9), limit=4, max_items=3)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"filter": "item.n > 0"}, "item 1: filter 'item.n > 0': no such field 'n'. Where not all items have it"),
        ({"filter": "item.id"}, "item 0: filter 'item.id' gave a string, not true or false; item 1: "),
        ({"order_by": [OrderBy(expression="item")]}, "item 0: orderBy 'item' gave an object; items are put"),
    ],
)
def test_an_item_for_which_there_is_no_answer_is_refused_by_its_position(source: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as refused:
        selected([{"id": "a", "n": 1}, {"id": "b"}], **source)

    assert refused.value.reason == "InvalidItems"
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("source", "reason", "told"),
    [
        ({"filter": "itme.n > 0"}, "InvalidFilter", "spec.input.filter: 'itme.n > 0': there is no variable 'itme'"),
        ({"filter": "item."}, "InvalidFilter", "spec.input.filter: 'item.' is no valid CEL expression"),
        (
            {"order_by": [OrderBy(expression="item.n"), OrderBy(expression="lower(item.n)")]},
            "InvalidOrderBy",
            "spec.input.orderBy[1].expression: 'lower(item.n)': there is no function 'lower'",
        ),
        (
            {"id_expression": "itme.id"},
            "InvalidIdExpression",
            "spec.input.idExpression: 'itme.id': there is no variable 'itme'",
        ),
    ],
)
def test_a_wrong_expression_is_refused_whatever_the_items(source: dict[str, Any], reason: str, told: str) -> None:
    with pytest.raises(InputError) as refused:
        selected([], **source)

    assert refused.value.reason == reason
    assert str(refused.value).startswith(told)


def test_what_the_filter_leaves_out_need_not_be_fit_for_a_plan() -> None:
    planned = selected([{"n": 1}, {}, {"n": "x" * 200}], Limits(item_bytes=100), filter="has(item.n) && item.n == 1")

    assert (len(planned.items), planned.filtered_out) == (1, 2)


def test_more_is_read_than_may_be_kept_and_neither_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "READ_ITEMS", 1000)
    monkeypatch.setattr(plans, "KEPT_ITEMS", 100)
    assert selected(range(1000), filter="item < 100", limit=1).out_of_range == 99

    with pytest.raises(InputError, match=r"more than 100 items that its filter, if any, leaves to choose from"):
        selected(range(1000), filter="item < 102", limit=1)
    with pytest.raises(InputError, match=r"the input has more than 1,000 items\. Split it"):
        selected(range(1001), filter="false")


def test_expressions_have_an_end_of_their_time_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "EXPRESSION_SECONDS", 0.2)
    slow = [list(range(1000))] * 1_000

    with pytest.raises(InputError) as refused:
        selected(slow, filter="item.all(n, n >= 0)", order_by=[OrderBy(expression="item.all(n, n >= 0)")])

    assert refused.value.reason == "InputTooSlow"
    assert "took more than 0.2 s for the first" in str(refused.value)


def test_others_have_their_turn_while_items_are_planned() -> None:
    steps = planning(range(10 * TURN_ITEMS), Input(), Limits())

    assert sum(1 for _ in steps) == 10 + 2


# ----------------------------------------------------------------------------------------------------------------- keys


def test_keys_come_in_the_order_of_the_ids() -> None:
    assert keys_of("run-1", ["a", "b"]) == [*keys_of("run-1", ["a"]), *keys_of("run-1", ["b"])]


def test_two_ids_with_one_key_are_refused_rather_than_mixed_up() -> None:
    with pytest.raises(InputError) as refused:
        keys_of("run-1", ["a", "b", "a"])

    assert refused.value.reason == "DuplicateItems"


# --------------------------------------------------------------------------------------------------------------- shards


@given(st.lists(st.builds(PlannedItem, strategies.item_ids, strategies.json_values.map(canonical)), max_size=8))
def test_what_is_read_from_shards_is_what_was_written_byte_for_byte(items: list[PlannedItem]) -> None:
    shards = list(encode_shards(items))

    assert [item for _, data in shards for item in decode_shard(data)] == items
    assert [(info.items, info.sha256) for info, _ in shards] == [
        (unpack(data).count(b"\n"), hashlib.sha256(data).hexdigest()) for _, data in shards
    ]


@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_hostile_texts_pass_through_a_shard_unharmed(text: str) -> None:
    item = PlannedItem(text, canonical({text: [text]}))

    ((_, data),) = encode_shards([item])

    assert decode_shard(data) == [item]
    assert json.loads(decode_shard(data)[0].payload) == {text: [text]}


def test_a_plan_without_items_has_no_shards() -> None:
    assert list(encode_shards([])) == []


@pytest.mark.parametrize(
    ("number", "sizes"), [(SHARD_ITEMS, [SHARD_ITEMS]), (SHARD_ITEMS + 1, [SHARD_ITEMS, 1]), (2500, [1000, 1000, 500])]
)
def test_a_shard_ends_when_it_has_enough_items(number: int, sizes: list[int]) -> None:
    items = (PlannedItem(str(position), b"{}") for position in range(number))

    assert [info.items for info, _ in encode_shards(items)] == sizes


def test_a_shard_ends_before_it_has_too_many_bytes() -> None:
    items = [PlannedItem(str(position), canonical("x" * 30_000)) for position in range(100)]

    shards = list(encode_shards(items))

    assert all(len(unpack(data)) <= SHARD_BYTES for _, data in shards)
    assert [info.items for info, _ in shards] == [34, 34, 32]


def test_an_item_larger_than_a_shard_has_one_of_its_own() -> None:
    items = [PlannedItem("a", b"1"), PlannedItem("b", canonical("x" * SHARD_BYTES)), PlannedItem("c", b"1")]

    assert [info.items for info, _ in encode_shards(items)] == [1, 1, 1]


def test_a_large_shard_is_packed_and_its_hash_is_of_what_is_stored() -> None:
    items = [PlannedItem(f"item-{position}", canonical({"n": position})) for position in range(SHARD_ITEMS)]

    ((info, data),) = encode_shards(items)

    assert len(data) < len(unpack(data))
    assert info.sha256 == hashlib.sha256(data).hexdigest()
    assert decode_shard(data) == items


# ------------------------------------------------------------------------------------------------- the list of shards


@given(st.lists(st.builds(ShardInfo, st.integers(0, 1000), st.binary(max_size=8).map(bytes.hex)), max_size=5))
def test_what_is_read_from_a_list_of_shards_is_what_was_written(shards: list[ShardInfo]) -> None:
    assert decode_shard_list(encode_shard_list(shards)) == tuple(shards)


def test_a_plan_has_an_identity_that_changes_with_its_items_and_with_their_order() -> None:
    a, b = PlannedItem("a", b"1"), PlannedItem("b", b"2")
    several = [[a, b], [b, a], [a], [PlannedItem("a", b"2"), b], []]

    lists = [encode_shard_list([info for info, _ in encode_shards(items)]) for items in several]

    assert len(set(lists)) == len(several)
    assert encode_shard_list([info for info, _ in encode_shards([a, b])]) == lists[0]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'[{"items":3}]', b'[{"items":"3","sha256":"ab"}]', b"\xff"])
def test_what_is_no_list_of_shards_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_shard_list(data)
