"""How long an item waits before its next attempt."""

from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Backoff, BackoffType
from mapreduce_operator.core.backoff import chance_of, delay_seconds
from tests.unit.core import strategies


@pytest.mark.parametrize(
    ("kind", "waits"),
    [
        (BackoffType.FIXED, [10, 10, 10, 10, 10, 10, 10, 10]),
        (BackoffType.LINEAR, [10, 20, 30, 40, 50, 60, 70, 80]),
        (BackoffType.EXPONENTIAL, [10, 20, 40, 80, 160, 320, 640, 1280]),
        (BackoffType.FIBONACCI, [10, 20, 30, 50, 80, 130, 210, 340]),
    ],
)
def test_waits_grow_from_failure_to_failure_as_their_type_says(kind: BackoffType, waits: list[float]) -> None:
    backoff = Backoff(type=kind, initial_seconds=10, max_seconds=86_400, jitter=0)

    assert [delay_seconds(backoff, failures, 0.5) for failures in range(1, 9)] == waits


@pytest.mark.parametrize("kind", BackoffType)
def test_the_types_are_all_in_the_table_and_start_with_the_initial_wait(kind: BackoffType) -> None:
    assert delay_seconds(Backoff(type=kind, initial_seconds=7, jitter=0), 1, 0.5) == 7


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


@given(strategies.backoffs, st.integers(1, 100), strategies.chances)
def test_any_wait_lies_between_the_base_less_jitter_and_the_base(
    backoff: Backoff, failures: int, chance: float
) -> None:
    base = delay_seconds(backoff.model_copy(update={"jitter": 0.0}), failures, chance)

    wait = delay_seconds(backoff, failures, chance)

    assert base * (1 - backoff.jitter) <= wait <= base <= backoff.max_seconds


@given(strategies.backoffs, st.integers(1, 99), strategies.chances)
def test_no_wait_is_shorter_than_the_one_before_with_the_same_chance(
    backoff: Backoff, failures: int, chance: float
) -> None:
    assert delay_seconds(backoff, failures, chance) <= delay_seconds(backoff, failures + 1, chance)


@pytest.mark.parametrize("kind", BackoffType)
def test_a_hundred_attempts_are_no_trouble(kind: BackoffType) -> None:
    backoff = Backoff(type=kind, initial_seconds=1, max_seconds=86_400, jitter=0)

    assert 1 <= delay_seconds(backoff, 100, 0.0) <= 86_400


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
