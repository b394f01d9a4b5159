"""What a run comes to when its items have ended, for every policy."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import EmptyPolicy, ItemState, MapReduceJobSpec, Phase, RunWhen
from mapreduce_operator.core.phases import FINAL_PHASES, NEXT, after_map, after_reduce

TEMPLATE = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}


def spec(
    reduce: RunWhen | None = None, ratio: float = 0.0, empty: EmptyPolicy = EmptyPolicy.SUCCEED
) -> MapReduceJobSpec:
    """A spec without a reduce, or with one that runs when it is said."""
    body: dict[str, Any] = {
        "input": {"items": [], "emptyPolicy": empty},
        "map": {"template": TEMPLATE},
        "reduce": None if reduce is None else {"template": TEMPLATE, "runWhen": reduce},
        "successPolicy": {"minSuccessRatio": ratio},
    }
    return MapReduceJobSpec.model_validate(body)


def ended(succeeded: int, failed: int) -> Mapping[ItemState, int]:
    return dict.fromkeys(ItemState, 0) | {ItemState.SUCCEEDED: succeeded, ItemState.DEAD_LETTERED: failed}


# ----------------------------------------------------------------------------------------------------------- the phases


def test_every_phase_of_a_run_says_what_may_follow() -> None:
    assert set(NEXT) == set(Phase) - {Phase.PAUSED}
    assert all(following <= set(NEXT) for following in NEXT.values())


def test_what_is_final_is_left_for_a_map_alone_and_that_is_a_redrive() -> None:
    assert {Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED, Phase.FAILED} == FINAL_PHASES
    assert all(NEXT[phase] == {Phase.MAP} for phase in FINAL_PHASES)


def test_between_two_ends_no_phase_comes_twice_in_a_run() -> None:
    def reachable(phase: Phase) -> set[Phase]:
        following = frozenset() if phase in FINAL_PHASES else NEXT[phase]
        return set(following).union(*map(reachable, following))

    assert all(phase not in reachable(phase) for phase in NEXT)
    assert reachable(Phase.PLANNING) == set(NEXT) - {Phase.PLANNING}
    assert reachable(Phase.MAP) == {Phase.REDUCE} | FINAL_PHASES


# -------------------------------------------------------------------------------------------------------------- the map


@pytest.mark.parametrize(
    ("succeeded", "failed", "phase", "reason"),
    [
        (3, 0, Phase.SUCCEEDED, "AllItemsSucceeded"),
        (2, 1, Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed"),
        (1, 2, Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed"),
        (0, 3, Phase.FAILED, "NoItemSucceeded"),
    ],
)
def test_without_reduce_a_run_ends_with_its_map(succeeded: int, failed: int, phase: Phase, reason: str) -> None:
    turn = after_map(ended(succeeded, failed), spec())

    assert (turn.phase, turn.reason) == (phase, reason)


@pytest.mark.parametrize(
    ("run_when", "succeeded", "failed", "phase", "reason"),
    [
        (RunWhen.ALL_SUCCEEDED, 3, 0, Phase.REDUCE, "MapFinished"),
        (RunWhen.ALL_SUCCEEDED, 2, 1, Phase.FAILED, "ReduceNotRun"),
        (RunWhen.ALL_SUCCEEDED, 0, 3, Phase.FAILED, "ReduceNotRun"),
        (RunWhen.ANY_SUCCEEDED, 3, 0, Phase.REDUCE, "MapFinished"),
        (RunWhen.ANY_SUCCEEDED, 1, 2, Phase.REDUCE, "MapFinished"),
        (RunWhen.ANY_SUCCEEDED, 0, 3, Phase.FAILED, "NoItemSucceeded"),
        (RunWhen.ALWAYS, 3, 0, Phase.REDUCE, "MapFinished"),
        (RunWhen.ALWAYS, 1, 2, Phase.REDUCE, "MapFinished"),
        (RunWhen.ALWAYS, 0, 3, Phase.REDUCE, "MapFinished"),
    ],
)
def test_reduce_runs_when_the_spec_says_so(
    run_when: RunWhen, succeeded: int, failed: int, phase: Phase, reason: str
) -> None:
    turn = after_map(ended(succeeded, failed), spec(run_when))

    assert (turn.phase, turn.reason) == (phase, reason)


def test_a_reduce_that_wants_all_items_says_how_many_failed() -> None:
    turn = after_map(ended(1200, 34), spec(RunWhen.ALL_SUCCEEDED))

    assert turn.message.startswith("34 of 1,234 items failed and reduce.runWhen is AllSucceeded")


@pytest.mark.parametrize(
    ("empty", "reduce", "phase"),
    [
        (EmptyPolicy.SUCCEED, None, Phase.SUCCEEDED),
        (EmptyPolicy.SUCCEED, RunWhen.ALWAYS, Phase.SUCCEEDED),
        (EmptyPolicy.FAIL, None, Phase.FAILED),
        (EmptyPolicy.FAIL, RunWhen.ALWAYS, Phase.FAILED),
        (EmptyPolicy.RUN_REDUCE, None, Phase.SUCCEEDED),
        (EmptyPolicy.RUN_REDUCE, RunWhen.ALL_SUCCEEDED, Phase.REDUCE),
        (EmptyPolicy.RUN_REDUCE, RunWhen.ANY_SUCCEEDED, Phase.REDUCE),
        (EmptyPolicy.RUN_REDUCE, RunWhen.ALWAYS, Phase.REDUCE),
    ],
)
def test_a_run_without_items_does_what_the_empty_policy_says(
    empty: EmptyPolicy, reduce: RunWhen | None, phase: Phase
) -> None:
    turn = after_map(ended(0, 0), spec(reduce, empty=empty))

    assert (turn.phase, turn.reason) == (phase, "NoItems")


@pytest.mark.parametrize("unrun", [ItemState.PENDING, ItemState.RETRY_WAIT])
@pytest.mark.parametrize("reduce", [None, RunWhen.ALWAYS])
def test_a_map_that_was_stopped_before_all_items_ran_has_failed_whatever_the_others_came_to(
    unrun: ItemState, reduce: RunWhen | None
) -> None:
    turn = after_map({**ended(7, 2), unrun: 1234}, spec(reduce))

    assert (turn.phase, turn.reason) == (Phase.FAILED, "NotAllItemsRun")
    assert turn.message == "1,234 of 1,243 items were not run, since the job was stopped before"


def test_an_item_that_was_left_out_has_failed_like_one_in_the_queue() -> None:
    left_out = {**ended(2, 0), ItemState.SKIPPED: 1}

    assert after_map(left_out, spec()).reason == "SomeItemsFailed"
    assert after_map(left_out, spec(RunWhen.ALL_SUCCEEDED)).reason == "ReduceNotRun"
    assert after_map({**ended(0, 0), ItemState.SKIPPED: 3}, spec()).reason == "NoItemSucceeded"


# ------------------------------------------------------------------------------------------------------- success policy


@pytest.mark.parametrize(
    ("succeeded", "failed", "ratio", "phase"),
    [
        (7, 3, 0.7, Phase.PARTIALLY_SUCCEEDED),
        (69, 31, 0.7, Phase.FAILED),
        (7, 93, 0.07, Phase.PARTIALLY_SUCCEEDED),
        (55, 45, 0.55, Phase.PARTIALLY_SUCCEEDED),
        (1, 2, 0.333, Phase.PARTIALLY_SUCCEEDED),
        (1, 2, 0.334, Phase.FAILED),
        (99_999, 1, 1.0, Phase.FAILED),
        (100_000, 0, 1.0, Phase.SUCCEEDED),
        (1, 99_999, 0.00001, Phase.PARTIALLY_SUCCEEDED),
        (1, 99_999, 0.0, Phase.PARTIALLY_SUCCEEDED),
    ],
)
def test_a_ratio_that_is_just_reached_is_enough(succeeded: int, failed: int, ratio: float, phase: Phase) -> None:
    assert after_map(ended(succeeded, failed), spec(ratio=ratio)).phase is phase


@given(st.integers(1, 10_000), st.data())
def test_every_ratio_of_whole_percent_is_met_by_exactly_that_share(hundredth: int, data: st.DataObject) -> None:
    percent = data.draw(st.integers(1, 99))
    written = float(f"0.{percent:02d}")

    enough = ended(hundredth * percent, hundredth * (100 - percent))
    too_few = ended(hundredth * percent - 1, hundredth * (100 - percent) + 1)

    assert after_map(enough, spec(ratio=written)).phase is Phase.PARTIALLY_SUCCEEDED
    assert after_map(too_few, spec(ratio=written)).phase is Phase.FAILED


def test_too_few_successes_are_told_with_what_was_asked_for() -> None:
    turn = after_map(ended(1234, 8766), spec(ratio=0.5))

    assert turn.reason == "TooFewItemsSucceeded"
    assert turn.message == "1,234 of 10,000 items succeeded; successPolicy.minSuccessRatio asks for 0.5"


@pytest.mark.parametrize(
    ("run_when", "phase"),
    [
        (RunWhen.ANY_SUCCEEDED, Phase.FAILED),
        (RunWhen.ALL_SUCCEEDED, Phase.FAILED),
        (RunWhen.ALWAYS, Phase.REDUCE),
    ],
)
def test_with_too_few_successes_reduce_runs_only_when_it_always_does(run_when: RunWhen, phase: Phase) -> None:
    assert after_map(ended(1, 9), spec(run_when, ratio=0.5)).phase is phase


# --------------------------------------------------------------------------------------------------------------- reduce


@pytest.mark.parametrize(
    ("succeeded", "failed", "ratio", "phase", "reason"),
    [
        (3, 0, 0.0, Phase.SUCCEEDED, "AllItemsSucceeded"),
        (2, 1, 0.0, Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed"),
        (2, 1, 0.9, Phase.FAILED, "TooFewItemsSucceeded"),
        (0, 3, 0.0, Phase.FAILED, "NoItemSucceeded"),
        (0, 0, 0.0, Phase.SUCCEEDED, "NoItems"),
        (0, 0, 1.0, Phase.SUCCEEDED, "NoItems"),
    ],
)
def test_a_run_that_reduced_ends_as_its_items_did(
    succeeded: int, failed: int, ratio: float, phase: Phase, reason: str
) -> None:
    turn = after_reduce(reduce_succeeded=True, counts=ended(succeeded, failed), spec=spec(RunWhen.ALWAYS, ratio))

    assert (turn.phase, turn.reason) == (phase, reason)


@pytest.mark.parametrize(("succeeded", "failed"), [(3, 0), (2, 1), (0, 3), (0, 0)])
def test_a_run_whose_reduce_failed_has_failed_and_keeps_the_results(succeeded: int, failed: int) -> None:
    turn = after_reduce(reduce_succeeded=False, counts=ended(succeeded, failed), spec=spec(RunWhen.ALWAYS))

    assert (turn.phase, turn.reason) == (Phase.FAILED, "ReduceFailed")
    assert "kept" in turn.message


# ---------------------------------------------------------------------------------------------------------- all of them

SPECS = st.builds(spec, st.none() | st.sampled_from(RunWhen), st.floats(0, 1), st.sampled_from(EmptyPolicy))


@given(SPECS, st.integers(0, 30), st.integers(0, 30))
def test_every_turn_is_one_that_may_follow_and_says_why(spec: MapReduceJobSpec, succeeded: int, failed: int) -> None:
    turn = after_map(ended(succeeded, failed), spec)

    assert turn.phase in NEXT[Phase.MAP]
    assert turn.phase is not Phase.REDUCE or spec.reduce is not None
    assert turn.reason
    assert turn.message


@given(SPECS, st.booleans(), st.integers(0, 30), st.integers(0, 30))
def test_after_reduce_comes_the_end(
    spec: MapReduceJobSpec, reduce_succeeded: bool, succeeded: int, failed: int
) -> None:
    turn = after_reduce(reduce_succeeded, ended(succeeded, failed), spec)

    assert turn.phase in NEXT[Phase.REDUCE]
    assert turn.phase in FINAL_PHASES


@given(SPECS, st.integers(0, 30), st.integers(1, 30))
def test_no_run_with_failed_items_succeeds_altogether(spec: MapReduceJobSpec, succeeded: int, failed: int) -> None:
    for turn in (after_map(ended(succeeded, failed), spec), after_reduce(True, ended(succeeded, failed), spec)):
        assert turn.phase is not Phase.SUCCEEDED
