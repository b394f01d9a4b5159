"""What takes too long for every day: `make soak` runs it."""

import pytest

from tests.simulation.scenario import Life, quiet_redrive
from tests.simulation.test_crashes import at_points
from tests.simulation.test_scale import cost_of

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("later", [1, 2, 5, 9, 23, 60])
def test_killed_at_any_point_and_again(later: int) -> None:
    at_points(lambda point: (Life(dies_at=point, pause=0.3), Life(dies_at=later, pause=0.3)))


@pytest.mark.parametrize("later", [1, 9, 60])
def test_killed_at_any_point_of_a_run_with_redrives_and_again(later: int) -> None:
    def lives(point: int) -> tuple[Life, ...]:
        return Life(dies_at=point, pause=0.3), Life(dies_at=later, pause=0.3)

    at_points(lives, given=quiet_redrive)


@pytest.mark.parametrize("unaware", [0.0, 3.0])
def test_stopped_at_any_point_of_a_run_with_redrives(unaware: float) -> None:
    at_points(lambda point: (Life(stops_at=point, stopped_for=2.0, unaware_for=unaware),), given=quiet_redrive)


@pytest.mark.parametrize("unaware", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("stopped_for", [0.1, 2.0, 20.0])
def test_stopped_at_any_point(stopped_for: float, unaware: float) -> None:
    at_points(lambda point: (Life(stops_at=point, stopped_for=stopped_for, unaware_for=unaware),))


@pytest.mark.asyncio
async def test_ten_thousand_items_cost_twice_as_much_as_five_thousand() -> None:
    few, many = await cost_of(5_000), await cost_of(10_000)
    assert many.written < 1.15 * few.written
    assert many.job_calls == pytest.approx(few.job_calls, rel=0.05)
    assert many.status_bytes < 64 * 1024
