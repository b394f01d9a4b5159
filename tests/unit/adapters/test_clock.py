import time

from mapreduce_operator.adapters.clock import SystemClock


def test_the_clock_tells_the_time() -> None:
    clock = SystemClock()

    before, now, after = time.time(), clock.now(), time.time()

    assert before <= now <= after
