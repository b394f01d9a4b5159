"""The operator dies, or is stopped for a while, at every single point of a small run."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.simulation.chaos import Verdict, play
from tests.simulation.scenario import Life, quiet


def at_every_point(lives: Callable[[int], tuple[Life, ...]], step: int = 1) -> Iterator[Verdict]:
    """Runs with a death at point 1, 2, 3, … of the first operator, until it ends before it gets there."""
    for point in count(1, step):
        verdict = play(quiet(*lives(point)))
        yield verdict
        if not verdict.struck:
            return


def check(verdicts: Iterator[Verdict]) -> int:
    """Returns the number of runs."""
    number = 0
    for point, verdict in enumerate(verdicts):
        assert verdict.violations == [], f"run {point}"
        number += 1
    return number


def test_killed_at_any_point() -> None:
    assert check(at_every_point(lambda point: (Life(dies_at=point),))) > 200


@pytest.mark.parametrize("later", [1, 4, 17])
def test_killed_again_soon_after_the_start(later: int) -> None:
    lives = at_every_point(lambda point: (Life(dies_at=point, pause=0.3), Life(dies_at=later)), step=5)
    assert check(lives) > 40


@pytest.mark.parametrize("unaware", [0.0, 3.0], ids=["knows", "believes-it-leads"])
def test_stopped_at_any_point_and_resumed_beside_the_next(unaware: float) -> None:
    lives = at_every_point(lambda point: (Life(stops_at=point, stopped_for=2.0, unaware_for=unaware),), step=2)
    assert check(lives) > 100
