"""Names of Jobs, keys of items, keys in storage: valid, unique, and the same in every process."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.names import (
    RunRef,
    Stage,
    StorageKeys,
    item_key,
    job_name,
    results_config_map_name,
    run_labels,
    traceparent,
)
from tests.unit.core import strategies

RUN = RunRef("team-a", "licence-words", "6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?")


# ---------------------------------------------------------------------------------------------------------------- items


def test_an_item_has_one_trace_and_each_dispatch_a_place_in_it() -> None:
    first, second, other = (traceparent(RUN, key, number) for key, number in (("a", 1), ("a", 2), ("b", 1)))

    assert all(re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", one) for one in (first, second, other))
    assert first.split("-")[1] == second.split("-")[1] != other.split("-")[1]
    assert len({one.split("-")[2] for one in (first, second, other)}) == 3
    assert traceparent(RunRef(RUN.namespace, RUN.name, "another"), "a", 1) != first
    # The same in every process: a log line of yesterday leads to the trace.
    assert first == "00-7177998a7865ebf4bd0404bbf14d6ec4-622261346f644221-01"


def test_the_key_of_an_item_is_the_same_in_every_process() -> None:
    assert item_key("run-1", Stage.MAP, "GPL-3") == "qktyilxveq"


@given(st.text() | st.sampled_from(strategies.HOSTILE_TEXTS))
def test_any_id_has_a_key_that_may_stand_in_names_and_labels(name: str) -> None:
    assert re.fullmatch("[a-z2-7]{10}", item_key("run-1", Stage.MAP, name))


def test_ids_that_differ_in_case_or_in_spelling_have_different_keys() -> None:
    names = ["a", "A", "a ", " a", "\u00e9", "e\u0301", "../a", "1", "01"]

    assert len({item_key("run-1", Stage.MAP, name) for name in names}) == len(names)


def test_an_item_of_another_run_or_stage_has_another_key() -> None:
    keys = {item_key(uid, stage, "a") for uid in ("run-1", "run-2") for stage in Stage}

    assert len(keys) == 4


def test_keys_of_100_000_items_are_all_different_and_spread_evenly() -> None:
    keys = {item_key("run-1", Stage.MAP, str(number)) for number in range(100_000)}

    assert len(keys) == 100_000
    first_letters = [sum(key[0] == letter for key in keys) for letter in "abcdefghijklmnopqrstuvwxyz234567"]
    assert min(first_letters) > 2900
    assert max(first_letters) < 3400


# ----------------------------------------------------------------------------------------------------------------- Jobs


def test_a_job_is_named_after_its_run_its_item_and_its_dispatch() -> None:
    assert job_name(RUN, "abcdefghij", 12) == "licence-words-abcdefghij-d12"


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("a", "a"),
        ("a.b.c", "a-b-c"),
        ("x" * 63, "x" * 40),
        ("x" * 39 + "-y", "x" * 39),
        ("x" * 39 + ".y", "x" * 39),
        ("x" * 36 + "----y", "x" * 36),
        ("x" * 38 + ".-y", "x" * 38),
    ],
)
def test_the_beginning_of_a_long_name_is_used_and_does_not_end_in_a_dash(name: str, share: str) -> None:
    assert job_name(RunRef("team-a", name, "run-1"), "abcdefghij", 1) == f"{share}-abcdefghij-d1"


@given(strategies.runs, strategies.dispatches.map(lambda dispatch: (dispatch.item_key, dispatch.number)))
def test_names_of_jobs_fit_into_a_label_and_leave_room_for_the_suffix_of_a_pod(
    run: RunRef, dispatch: tuple[str, int]
) -> None:
    name = job_name(run, *dispatch)

    assert DNS_LABEL.fullmatch(name)
    assert len(name) <= 63 - len("-x7k2p")


def test_jobs_of_different_runs_items_and_dispatches_have_different_names() -> None:
    longer = (
        RunRef("team-a", "x" * 41, "run-1"),
        RunRef("team-a", "x" * 41, "run-2"),
        RunRef("team-a", "x" * 42, "run-3"),
    )
    names = {
        job_name(run, item_key(run.uid, stage, item), number)
        for run in longer
        for stage in Stage
        for item in ("a", "b")
        for number in (1, 2, 11)
    }

    assert len(names) == 3 * 2 * 2 * 3


@given(strategies.runs)
def test_the_config_maps_of_reduce_have_names_of_their_own(run: RunRef) -> None:
    other = RunRef(run.namespace, run.name, run.uid + "x")
    names = [results_config_map_name(one, part) for one in (run, other) for part in range(1, 17)]

    assert all(DNS_LABEL.fullmatch(name) and len(name) <= 63 for name in names)
    assert len(set(names)) == len(names)


# --------------------------------------------------------------------------------------------------------------- labels


@given(strategies.runs)
def test_labels_have_values_that_kubernetes_takes(run: RunRef) -> None:
    for value in run_labels(run).values():
        assert LABEL_VALUE.fullmatch(value)
        assert len(value) <= 63


# -------------------------------------------------------------------------------------------------------------- storage


def test_everything_of_a_run_lies_below_its_namespace_name_and_uid() -> None:
    keys = StorageKeys(RUN)
    prefix = "team-a/licence-words/6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11/"

    assert keys.prefix == prefix
    assert keys.head == prefix + "head.json"
    assert keys.plan_shard(3, "ab" * 32) == prefix + "plan/shard-00003-abababababababab.jsonl"
    assert keys.segment(12, "cd" * 32) == prefix + "journal/segment-0000000012-cdcdcdcdcdcdcdcd.jsonl"
    assert keys.snapshot(12, "cd" * 32) == prefix + "journal/snapshot-0000000012-cdcdcdcdcdcdcdcd.json"


def test_shards_and_segments_sort_in_their_order() -> None:
    keys = StorageKeys(RUN)
    shards = [keys.plan_shard(number, "f" * 64) for number in (0, 9, 10, 99, 100)]
    segments = [keys.segment(number, "f" * 64) for number in (1, 9, 10, 1_000_000, 999_999_999)]

    assert shards == sorted(shards)
    assert segments == sorted(segments)


def test_what_differs_in_content_does_not_overwrite_each_other() -> None:
    keys = StorageKeys(RUN)

    assert keys.segment(1, "a" * 64) != keys.segment(1, "b" * 64)
    assert keys.plan_shard(1, "a" * 64) != keys.plan_shard(1, "b" * 64)
    assert keys.snapshot(1, "a" * 64) != keys.snapshot(1, "b" * 64)


@given(strategies.runs, strategies.runs)
def test_no_run_lies_inside_another(one: RunRef, other: RunRef) -> None:
    if one != other:
        assert not StorageKeys(one).prefix.startswith(StorageKeys(other).prefix)
