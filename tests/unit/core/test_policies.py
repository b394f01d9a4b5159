"""The limits of a failure policy: what each bears, what it does not, and what it says."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import ItemState, MapReduceJobSpec, OnExhausted, RetryBudget
from mapreduce_operator.core.policies import retry_budget, stop_of

TEMPLATE = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}


def spec(**policy: Any) -> MapReduceJobSpec:
    return MapReduceJobSpec.model_validate(
        {"input": {"items": []}, "map": {"template": TEMPLATE}, "failurePolicy": policy}
    )


def threshold(ratio: float, min_samples: int = 10) -> MapReduceJobSpec:
    return spec(failureThreshold={"ratio": ratio, "minSamples": min_samples})


def counts(succeeded: int = 0, lettered: int = 0, skipped: int = 0, pending: int = 0) -> Mapping[ItemState, int]:
    return dict.fromkeys(ItemState, 0) | {
        ItemState.SUCCEEDED: succeeded,
        ItemState.DEAD_LETTERED: lettered,
        ItemState.SKIPPED: skipped,
        ItemState.PENDING: pending,
    }


def reason(counts: Mapping[ItemState, int], spec: MapReduceJobSpec) -> str | None:
    stop = stop_of(counts, spec)
    return stop[0] if stop else None


any_counts = st.fixed_dictionaries({state: st.integers(0, 1000) for state in ItemState})

# ----------------------------------------------------------------------------------------------------------- each limit


@given(any_counts)
def test_without_limits_any_number_of_failures_is_borne(counts: Mapping[ItemState, int]) -> None:
    assert stop_of(counts, spec()) is None


@pytest.mark.parametrize(
    ("on_exhausted", "expected"),
    [(OnExhausted.STOP, "ItemFailed"), (OnExhausted.DEAD_LETTER, None), (OnExhausted.SKIP, None)],
)
def test_the_first_item_that_is_given_up_stops_a_job_that_wants_it_so(
    on_exhausted: OnExhausted, expected: str | None
) -> None:
    policy = spec(onExhausted=on_exhausted)

    assert reason(counts(succeeded=99, pending=1), policy) is None
    assert reason(counts(succeeded=99, lettered=1, pending=100), policy) == expected


@pytest.mark.parametrize(
    ("lettered", "skipped", "stops"),
    [(2, 0, False), (3, 0, True), (4, 0, True), (0, 2, False), (0, 3, True), (1, 1, False), (1, 2, True)],
)
def test_so_many_failures_stop_the_job_whether_they_are_kept_or_left_out(
    lettered: int, skipped: int, stops: bool
) -> None:
    expected = "MaxFailuresReached" if stops else None

    assert reason(counts(lettered=lettered, skipped=skipped, pending=50), spec(maxFailures=3)) == expected


@pytest.mark.parametrize(
    ("succeeded", "failed", "ratio", "stops"),
    [
        (5, 4, 0.3, False),  # too few to judge by
        (6, 4, 0.3, True),
        (7, 3, 0.3, False),  # just as many as are borne
        (69, 31, 0.3, True),
        (93, 7, 0.07, False),
        (71, 29, 0.29, False),
        (70, 30, 0.29, True),
        (2, 1, 0.334, False),
        (20, 10, 0.333, True),
        (10, 0, 0.0, False),
        (99_999, 1, 0.0, True),
        (0, 100, 1.0, False),
    ],
)
def test_a_share_that_is_just_reached_is_borne_and_more_is_not(
    succeeded: int, failed: int, ratio: float, stops: bool
) -> None:
    expected = "FailureThresholdExceeded" if stops else None

    assert reason(counts(succeeded, lettered=failed, pending=1000), threshold(ratio)) == expected
    assert reason(counts(succeeded, skipped=failed), threshold(ratio)) == expected


def test_only_items_that_have_ended_are_samples() -> None:
    running = {ItemState.RUNNING: 500, ItemState.RETRY_WAIT: 500, ItemState.PENDING: 500}

    assert reason({**counts(lettered=9), **running}, threshold(0.5)) is None
    assert reason({**counts(lettered=10), **running}, threshold(0.5)) == "FailureThresholdExceeded"


def test_nothing_has_ended_yet() -> None:
    assert reason(counts(pending=5), threshold(0.0, min_samples=1)) is None


@given(st.integers(1, 10_000), st.integers(1, 99))
def test_every_ratio_of_whole_percent_is_exceeded_by_exactly_one_more_than_that_share(
    hundredth: int, percent: int
) -> None:
    policy = threshold(float(f"0.{percent:02d}"))
    borne = counts(succeeded=hundredth * (100 - percent), lettered=hundredth * percent)
    one_more = counts(succeeded=hundredth * (100 - percent) - 1, lettered=hundredth * percent + 1)

    assert reason(borne, policy) is None
    assert reason(one_more, policy) == "FailureThresholdExceeded"


# ----------------------------------------------------------------------------------------------------------- together


def test_a_limit_holds_when_no_item_is_left_to_stop() -> None:
    assert reason(counts(succeeded=97, lettered=3), spec(maxFailures=3)) == "MaxFailuresReached"
    assert reason(counts(succeeded=9, lettered=1), spec(onExhausted="Stop")) == "ItemFailed"
    assert reason(counts(succeeded=5, lettered=5), threshold(0.4)) == "FailureThresholdExceeded"


def test_a_limit_that_is_raised_holds_no_longer() -> None:
    failed = counts(succeeded=7, lettered=3, pending=90)

    assert reason(failed, spec(maxFailures=3)) == "MaxFailuresReached"
    assert reason(failed, spec(maxFailures=4)) is None


def test_one_limit_is_enough_beside_others_that_are_not_reached() -> None:
    policy = spec(maxFailures=100, failureThreshold={"ratio": 0.1, "minSamples": 10})

    assert reason(counts(succeeded=8, lettered=2), policy) == "FailureThresholdExceeded"
    assert reason(counts(succeeded=9000, lettered=100), policy) == "MaxFailuresReached"


@given(
    any_counts, st.sampled_from(OnExhausted), st.none() | st.integers(1, 2000), st.floats(0, 1), st.integers(1, 2000)
)
def test_no_further_failure_makes_a_job_go_on(
    counts: dict[ItemState, int], on_exhausted: OnExhausted, most: int | None, ratio: float, min_samples: int
) -> None:
    policy = spec(
        onExhausted=on_exhausted, maxFailures=most, failureThreshold={"ratio": ratio, "minSamples": min_samples}
    )

    for state in (ItemState.DEAD_LETTERED, ItemState.SKIPPED):
        if stop_of(counts, policy) is not None:
            assert stop_of({**counts, state: counts[state] + 1}, policy) is not None


@pytest.mark.parametrize(
    ("policy", "what", "advice"),
    [
        (
            spec(onExhausted="Stop"),
            "400 of 10,000 items failed and failurePolicy.onExhausted is Stop",
            "set it to DeadLetter or Skip to go on without items that fail",
        ),
        (
            spec(maxFailures=400),
            "400 of 10,000 items failed and failurePolicy.maxFailures is 400",
            "raise it to bear more failures",
        ),
        (
            threshold(0.25),
            "of 1,234 items that have ended 400 failed and failurePolicy.failureThreshold.ratio is 0.25",
            "raise it to bear more failures",
        ),
    ],
)
def test_it_is_told_what_happened_with_figures_and_what_can_be_done(
    policy: MapReduceJobSpec, what: str, advice: str
) -> None:
    stop = stop_of(counts(succeeded=834, lettered=300, skipped=100, pending=8766), policy)

    assert stop is not None
    assert stop[1] == f"{what}; status.failures says why; {advice}"


# --------------------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize(
    ("most", "ratio", "items", "budget"),
    [
        (None, None, 1000, None),
        (0, None, 1000, 0),
        (70, None, 1000, 70),
        (None, 0.5, 1000, 500),
        (None, 0.5, 7, 3),
        (None, 0.0, 1000, 0),
        (None, 0.29, 100, 29),
        (None, 0.00001, 100_000, 1),
        (None, 100.0, 100_000, 10_000_000),
        (None, 2.0, 0, 0),
        (499, 0.5, 1000, 499),
        (500, 0.5, 1000, 500),
        (501, 0.5, 1000, 500),
    ],
)
def test_the_smaller_of_both_bounds_is_the_budget(
    most: int | None, ratio: float | None, items: int, budget: int | None
) -> None:
    assert retry_budget(RetryBudget(max_retries=most, max_ratio=ratio), items) == budget


def test_without_a_budget_any_number_of_retries_is_allowed() -> None:
    assert retry_budget(None, 1000) is None


@given(st.integers(0, 10_000), st.integers(0, 1000))
def test_a_share_of_whole_percent_is_reckoned_as_it_is_written(percent: int, items: int) -> None:
    ratio = float(f"{percent // 100}.{percent % 100:02d}")

    assert retry_budget(RetryBudget(max_ratio=ratio), items) == percent * items // 100
