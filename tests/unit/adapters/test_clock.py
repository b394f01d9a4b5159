import time
from dataclasses import dataclass

import pytest

from mapreduce_operator.adapters.clock import SystemClock


@dataclass
class Machine:
    """What `time` says."""

    wall: float = 1_800_000_000.0
    steady: float = 12_345.0

    def passes(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall)
    monkeypatch.setattr(time, "monotonic", lambda: machine.steady)
    return machine


def test_the_clock_tells_the_time() -> None:
    before = time.time()

    now = SystemClock().now()

    assert before - 1.0 < now < time.time() + 1.0


def test_the_clock_goes_on(machine: Machine) -> None:
    clock = SystemClock()

    machine.passes(90.0)

    assert clock.now() == 1_800_000_090.0


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_machine_whose_time_is_set_fires_nothing_early_and_holds_nothing_up(machine: Machine, step: float) -> None:
    clock = SystemClock()
    machine.passes(10.0)
    retry_at = clock.now() + 30.0

    machine.wall += step
    machine.passes(29.0)
    assert clock.now() == retry_at - 1.0
    machine.passes(1.0)
    assert clock.now() == retry_at

    assert SystemClock().now() == machine.wall, "a new process begins with the machine's time"
