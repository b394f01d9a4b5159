"""How long an item waits before its next attempt."""

from statistics import fmean
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Backoff, BackoffType
from mapreduce_operator.core.backoff import chance_of, delay_seconds
from tests.unit.core import strategies

DELAYS: Final = (30, 5, 600)

customs: Final = st.builds(
    Backoff,
    type=st.just(BackoffType.CUSTOM),
    delays=st.lists(st.integers(0, 86_400), min_size=1, max_size=100).map(tuple),
    max_seconds=st.integers(0, 86_400),
    jitter=st.floats(0, 1),
)
"""Lists of waits, as the API server lets them through."""

failures_in_a_row: Final = st.integers(1, 100) | st.sampled_from([1000, 10**6, 10**400])


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        (BackoffType.FIXED, [10, 10, 10, 10, 10, 10, 10, 10]),
        (BackoffType.LINEAR, [10, 20, 30, 40, 50, 60, 70, 80]),
        (BackoffType.EXPONENTIAL, [10, 20, 40, 80, 160, 320, 640, 1280]),
        (BackoffType.FIBONACCI, [10, 20, 30, 50, 80, 130, 210, 340]),
        (BackoffType.CUSTOM, [30, 5, 600, 600, 600, 600, 600, 600]),
    ],
)
def test_waits_go_from_failure_to_failure_as_their_type_says(kind: BackoffType, waits: list[float]) -> None:
    delays = DELAYS if kind is BackoffType.CUSTOM else ()
    backoff = Backoff(type=kind, delays=delays, initial_seconds=10, max_seconds=86_400, jitter=0)

    assert [delay_seconds(backoff, failures, 0.5) for failures in range(1, 9)] == waits


@pytest.mark.parametrize("kind", BackoffType)
def test_all_types_start_with_the_initial_wait_where_no_list_says_otherwise(kind: BackoffType) -> None:
    assert delay_seconds(Backoff(type=kind, initial_seconds=7, jitter=0), 1, 0.5) == 7


def test_a_list_that_is_empty_waits_for_the_initial_wait_each_time() -> None:
    backoff = Backoff(type=BackoffType.CUSTOM, initial_seconds=7, jitter=0)

    assert [delay_seconds(backoff, failures, 0.5) for failures in (1, 2, 100)] == [7, 7, 7]


def test_the_longest_wait_holds_for_a_list_too() -> None:
    backoff = Backoff(type=BackoffType.CUSTOM, delays=DELAYS, max_seconds=20, jitter=0)

    assert [delay_seconds(backoff, failures, 0.5) for failures in range(1, 5)] == [20, 5, 20, 20]


def test_jitter_takes_away_from_a_list_too() -> None:
    backoff = Backoff(type=BackoffType.CUSTOM, delays=(100, 200), jitter=0.2)

    assert [delay_seconds(backoff, failures, 0.5) for failures in (1, 2)] == [90, 180]


@given(customs, failures_in_a_row)
def test_a_list_serves_in_its_order_and_its_last_wait_for_all_that_come_after(backoff: Backoff, failures: int) -> None:
    plain = backoff.model_copy(update={"jitter": 0.0, "max_seconds": 86_400})
    waits = [*backoff.delays, *[backoff.delays[-1]] * 1000]

    assert delay_seconds(plain, failures, 0.5) == waits[min(failures, len(waits)) - 1]


def test_no_wait_is_longer_than_the_longest_allowed() -> None:
    backoff = Backoff(type=BackoffType.EXPONENTIAL, initial_seconds=10, max_seconds=60, jitter=0)

    assert [delay_seconds(backoff, failures, 0.5) for failures in range(1, 6)] == [10, 20, 40, 60, 60]


def test_jitter_takes_away_and_never_adds() -> None:
    backoff = Backoff(type=BackoffType.FIXED, initial_seconds=100, jitter=0.2)

    assert [delay_seconds(backoff, 1, chance) for chance in (0.0, 0.5, 0.75)] == [100, 90, 85]


def test_the_longest_wait_holds_with_jitter_too() -> None:
    backoff = Backoff(type=BackoffType.EXPONENTIAL, initial_seconds=10, max_seconds=60, jitter=0.5)

    assert delay_seconds(backoff, 20, 0.0) == 60
    assert delay_seconds(backoff, 20, 0.5) == 45


@given(strategies.backoffs | customs, failures_in_a_row, strategies.chances)
def test_any_wait_lies_between_the_base_less_jitter_and_the_base(
    backoff: Backoff, failures: int, chance: float
) -> None:
    base = delay_seconds(backoff.model_copy(update={"jitter": 0.0}), failures, chance)

    wait = delay_seconds(backoff, failures, chance)

    assert 0 <= base * (1 - backoff.jitter) <= wait <= base <= backoff.max_seconds


@given(strategies.backoffs | customs, failures_in_a_row, strategies.chances)
def test_the_same_chance_gives_the_same_wait(backoff: Backoff, failures: int, chance: float) -> None:
    read_back = Backoff.model_validate(backoff.to_kubernetes())

    assert delay_seconds(read_back, failures, chance) == delay_seconds(backoff, failures, chance)


@given(strategies.backoffs, failures_in_a_row, strategies.chances)
def test_without_a_list_no_wait_is_shorter_than_the_one_before_with_the_same_chance(
    backoff: Backoff, failures: int, chance: float
) -> None:
    assert delay_seconds(backoff, failures, chance) <= delay_seconds(backoff, failures + 1, chance)


@pytest.mark.parametrize("failures", [10**6, 10**400])
@pytest.mark.parametrize(
    ("kind", "wait"),
    [
        (BackoffType.FIXED, 1),
        (BackoffType.LINEAR, 86_400),
        (BackoffType.EXPONENTIAL, 86_400),
        (BackoffType.FIBONACCI, 86_400),
        (BackoffType.CUSTOM, 1),
    ],
)
def test_any_number_of_failures_is_no_trouble(kind: BackoffType, wait: int, failures: int) -> None:
    backoff = Backoff(type=kind, initial_seconds=1, max_seconds=86_400, jitter=0)

    assert delay_seconds(backoff, failures, 0.0) == wait


def test_no_initial_wait_means_no_wait_at_all() -> None:
    assert delay_seconds(Backoff(initial_seconds=0), 5, 0.0) == 0


# --------------------------------------------------------------------------------------------------------------- chance


def test_the_chance_of_the_same_names_is_the_same_in_every_process() -> None:
    assert chance_of("abcdefghij", 1) == 0.8242298529320293


def test_names_are_told_apart_by_where_they_end() -> None:
    assert chance_of("ab", "c") != chance_of("a", "bc")
    assert chance_of("item", 11) != chance_of("item1", 1)


@given(st.lists(st.text() | st.integers(), max_size=3))
def test_a_chance_is_at_least_0_and_below_1(names: list[str | int]) -> None:
    assert 0 <= chance_of(*names) < 1


def test_chances_are_spread_evenly() -> None:
    chances = [chance_of("item", number) for number in range(10_000)]

    assert abs(fmean(chances) - 0.5) < 0.01
    assert all(900 < sum(tenth <= chance * 10 < tenth + 1 for chance in chances) < 1100 for tenth in range(10))
