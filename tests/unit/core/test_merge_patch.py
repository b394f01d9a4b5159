"""Merge patches: the table of RFC 7386, and lists of objects with names."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.merge_patch import merge_named, merge_patch
from tests.unit.core import strategies

RFC_7386_APPENDIX_A: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize("merge", [merge_patch, merge_named])
@pytest.mark.parametrize(("target", "patch", "result"), RFC_7386_APPENDIX_A)
def test_the_examples_of_the_rfc(merge: Any, target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result


@pytest.mark.parametrize("merge", [merge_patch, merge_named])
@given(target=strategies.json_values, patch=strategies.json_values)
def test_a_patch_changes_neither_the_target_nor_itself_and_says_the_same_twice(
    merge: Any, target: Any, patch: Any
) -> None:
    target_before, patch_before = copy.deepcopy(target), copy.deepcopy(patch)

    once = merge(target, patch)

    assert (target, patch) == (target_before, patch_before)
    assert merge(once, patch) == once


@given(strategies.json_values)
def test_an_empty_patch_of_an_object_changes_nothing(target: Any) -> None:
    assert merge_patch(target, {}) == (target if isinstance(target, dict) else {})


# ------------------------------------------------------------------------------------------------------- lists by name

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "a"}},
    "spec": {
        "containers": [
            {
                "name": "agent",
                "image": "agent:1",
                "command": ["run", "--fast"],
                "env": [{"name": "MODEL", "value": "small"}, {"name": "DEBUG", "value": "1"}],
                "resources": {"limits": {"memory": "1Gi", "cpu": "1"}},
            },
            {"name": "proxy", "image": "proxy:7"},
        ],
        "tolerations": [{"key": "spot"}],
    },
}


def patched(patch: dict[str, Any]) -> Any:
    return merge_named(TEMPLATE, {"spec": patch})["spec"]


def test_a_container_is_patched_where_it_stands_and_the_others_stay() -> None:
    spec = patched({"containers": [{"name": "proxy", "image": "proxy:8"}]})

    assert spec["containers"] == [TEMPLATE["spec"]["containers"][0], {"name": "proxy", "image": "proxy:8"}]


def test_what_is_deep_in_a_container_is_patched_alone() -> None:
    spec = patched(
        {"containers": [{"name": "agent", "resources": {"limits": {"memory": "4Gi"}}, "command": ["run", "--slow"]}]}
    )

    agent = spec["containers"][0]
    assert agent["resources"] == {"limits": {"memory": "4Gi", "cpu": "1"}}
    assert agent["command"] == ["run", "--slow"]
    assert agent["image"] == "agent:1"


def test_environment_variables_are_merged_by_name_and_new_ones_come_last() -> None:
    spec = patched({"containers": [{"name": "agent", "env": [{"name": "NEW", "value": "x"}, {"name": "DEBUG"}]}]})

    assert spec["containers"][0]["env"] == [
        {"name": "MODEL", "value": "small"},
        {"name": "DEBUG", "value": "1"},
        {"name": "NEW", "value": "x"},
    ]


def test_null_removes_inside_of_entries_old_and_new() -> None:
    spec = patched({"containers": [{"name": "agent", "resources": None}, {"name": "extra", "image": None}]})

    assert "resources" not in spec["containers"][0]
    assert [one["name"] for one in spec["containers"]] == ["agent", "proxy", "extra"]
    assert spec["containers"][2] == {"name": "extra"}


def test_a_list_that_was_not_there_is_made() -> None:
    assert patched({"volumes": [{"name": "cache", "emptyDir": {}}]})["volumes"] == [{"name": "cache", "emptyDir": {}}]


def test_lists_without_names_are_replaced_and_an_empty_list_empties() -> None:
    assert patched({"tolerations": [{"key": "gpu"}]})["tolerations"] == [{"key": "gpu"}]
    assert patched({"containers": []})["containers"] == []


def test_names_that_do_not_tell_entries_apart_merge_nothing() -> None:
    mounts = [{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}]
    one = [{"name": "data", "mountPath": "/c"}]

    assert merge_named(mounts, one) == one
    assert merge_named(one, mounts) == mounts
    assert merge_named([{"key": "no name"}], one) == one


def test_the_plain_merge_patch_replaces_lists_even_if_they_have_names() -> None:
    assert merge_patch([{"name": "a", "x": 1}], [{"name": "a", "y": 2}]) == [{"name": "a", "y": 2}]


named_lists = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abcde")}, optional={"x": st.integers(), "y": st.integers()}),
    unique_by=lambda entry: entry["name"],
    min_size=1,
)


@given(named_lists, named_lists)
def test_no_entry_is_lost_and_the_order_stays(target: list[dict[str, Any]], patch: list[dict[str, Any]]) -> None:
    merged = merge_named(target, patch)

    names = [entry["name"] for entry in target]
    assert [entry["name"] for entry in merged] == names + [one["name"] for one in patch if one["name"] not in names]
    for entry in merged:
        before = next((one for one in target if one["name"] == entry["name"]), {})
        change = next((one for one in patch if one["name"] == entry["name"]), {})
        assert entry == before | change
