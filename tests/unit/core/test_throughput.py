import pytest

from mapreduce_operator.core.throughput import MIN_SAMPLES, WINDOW_SECONDS, Throughput, two_digits

NOW = 1_000_000.0


def begun() -> Throughput:
    throughput = Throughput()
    throughput.begin(NOW)
    return throughput


def test_nothing_is_said_before_enough_items_have_ended() -> None:
    throughput = begun()
    assert throughput.per_minute(NOW + 10) is None
    throughput.ended(MIN_SAMPLES - 1, NOW + 10)
    assert throughput.per_minute(NOW + 10) is None
    throughput.ended(1, NOW + 30)
    assert throughput.per_minute(NOW + 30) == 10.0


def test_the_last_minutes_count() -> None:
    throughput = begun()
    throughput.ended(1000, NOW + 100)
    throughput.ended(100, NOW + 650)
    assert throughput.per_minute(NOW + 690) == 110.0
    assert throughput.per_minute(NOW + 100 + WINDOW_SECONDS) == 10.0


def test_it_is_forgotten_when_nothing_ends_any_more() -> None:
    throughput = begun()
    throughput.ended(1000, NOW + 100)
    assert throughput.per_minute(NOW + 100 + WINDOW_SECONDS) is None


def test_the_first_second_is_no_division_by_nothing() -> None:
    throughput = begun()
    throughput.ended(50, NOW)
    assert throughput.per_minute(NOW) == 3000.0


def test_a_run_that_is_loaded_again_begins_anew() -> None:
    throughput = begun()
    throughput.ended(50, NOW + 60)
    throughput.begin(NOW + 120)
    assert throughput.per_minute(NOW + 120) is None


@pytest.mark.parametrize(
    ("number", "rounded"), [(0, 0), (0.012345, 0.012), (9.96, 10), (12.5, 12), (1234, 1200), (99.9, 100)]
)
def test_two_digits(number: float, rounded: float) -> None:
    assert two_digits(number) == rounded
