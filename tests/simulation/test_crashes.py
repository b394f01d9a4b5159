"""The operator dies, or is stopped for a while, at every single point of a small run."""

from collections.abc import Callable
from itertools import count

import pytest

from tests.simulation.chaos_run import play
from tests.simulation.scenario import Life, Scenario, quiet, quiet_redrive


def at_points(
    lives: Callable[[int], tuple[Life, ...]], first: int = 1, step: int = 1, given: Callable[..., Scenario] = quiet
) -> int:
    """Strikes at one point of the first operator after the other, until it ends before it gets there.

    Returns the number of that point.
    """
    for point in count(first, step):
        verdict = play(given(*lives(point)))
        assert verdict.violations == [], f"{lives(point)}"
        if not verdict.struck:
            return point
    raise AssertionError


@pytest.mark.parametrize("first", range(1, 5))
def test_killed_at_any_point(first: int) -> None:
    assert at_points(lambda point: (Life(dies_at=point, pause=0.3),), first, step=4) > 150


def test_killed_at_any_point_of_a_run_with_redrives() -> None:
    points = at_points(lambda point: (Life(dies_at=point, pause=0.3),), step=5, given=quiet_redrive)
    assert points > 300


@pytest.mark.parametrize("later", [1, 4, 17])
def test_killed_again_soon_after_the_start(later: int) -> None:
    at_points(lambda point: (Life(dies_at=point, pause=0.3), Life(dies_at=later, pause=0.3)), step=7)


@pytest.mark.parametrize("unaware", [0.0, 3.0], ids=["knows", "believes-it-leads"])
def test_stopped_at_any_point_and_resumed_beside_the_next(unaware: float) -> None:
    at_points(lambda point: (Life(stops_at=point, stopped_for=2.0, unaware_for=unaware),), step=3)
