"""What keeps agents from being started: the breaker with its probes, the queue's capacity, limits, the budget."""

from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mapreduce_operator.api import BreakerState, DeadLetterPolicy, ItemState, OnFull
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.guard import Guard
from tests.unit.core.scenes import NOW, spec

COUNTS: Final = dict.fromkeys(ItemState, 0)


def guard(items: int = 10, **more: Any) -> Guard:
    return Guard(spec(**more), items)


def with_breaker(failures: int = 2, probes: int = 2) -> Guard:
    """One that opens for 60 s."""
    breaker = {"failuresInARow": failures, "openSeconds": 60, "probes": probes}
    return guard(failurePolicy={"circuitBreaker": breaker})


def half_open(probes: int = 2) -> Guard:
    """Half-open after 60 s; items 0 and 1 failed."""
    opened = with_breaker(probes=probes)
    for position in range(2):
        opened.attempt_ended(position, succeeded=False, now=NOW)
    opened.at(NOW + 60)
    return opened


def with_queue(capacity: int | None, on_full: OnFull = OnFull.PAUSE, **more: Any) -> Guard:
    return guard(deadLetter={"capacity": capacity, "onFull": on_full}, **more)


# ---------------------------------------------------------------------------------------------------------- the breaker


def test_without_a_breaker_nothing_is_held_back() -> None:
    free = guard()
    for position in range(100):
        free.attempt_ended(position, succeeded=False, now=NOW)

    assert (free.launches_left(), free.admits(0), free.hindrance(0)) == (None, True, None)


def test_an_open_breaker_starts_nothing_and_takes_back_what_was_about_to_start() -> None:
    opened = with_breaker()
    opened.attempt_ended(0, succeeded=False, now=NOW)
    assert (opened.launches_left(), opened.admits(1)) == (None, True)

    opened.attempt_ended(1, succeeded=False, now=NOW)

    assert (opened.launches_left(), opened.admits(2)) == (0, False)


def test_half_open_starts_exactly_so_many_probes() -> None:
    probing = half_open()
    assert probing.launches_left() == 2

    probing.launched(5)
    assert (probing.launches_left(), probing.admits(5), probing.admits(6)) == (1, True, False)
    probing.launched(6)

    assert probing.launches_left() == 0


@pytest.mark.parametrize("interrupted", [True, False])
def test_another_probe_takes_the_place_of_one_that_says_nothing(interrupted: bool) -> None:
    probing = half_open(probes=1)
    probing.launched(5)

    if interrupted:
        probing.ended_otherwise(5)

    assert probing.launches_left() == int(interrupted)


def test_what_was_started_before_it_opened_is_no_probe() -> None:
    probing = half_open(probes=1)

    states = []
    for position, succeeded in ((7, True), (8, False)):
        probing.attempt_ended(position, succeeded, now=NOW + 61)
        states.append(probing.breaker.state)
    probing.launched(5)
    probing.attempt_ended(5, succeeded=True, now=NOW + 62)

    assert states == [BreakerState.HALF_OPEN, BreakerState.HALF_OPEN]
    assert probing.breaker.state is BreakerState.CLOSED


def test_a_probe_that_outlives_a_breaker_that_closed_is_none_when_it_opens_again() -> None:
    probing = with_breaker(probes=1)
    probing.resume(Breaker(BreakerState.HALF_OPEN, 2), [3, 4, 5], NOW)
    probing.attempt_ended(3, succeeded=True, now=NOW + 61)
    for position in range(2):
        probing.attempt_ended(position, succeeded=False, now=NOW + 62)
    probing.at(NOW + 122)

    assert probing.launches_left() == 1
    probing.attempt_ended(4, succeeded=True, now=NOW + 123)
    assert probing.breaker.state is BreakerState.HALF_OPEN


@pytest.mark.parametrize("saved", [None, Breaker(failures=1)])
def test_what_ran_when_a_closed_breaker_was_resumed_is_no_probe_later(saved: Breaker | None) -> None:
    resumed = with_breaker()
    resumed.resume(saved, [3, 4], NOW)
    for position in range(2):
        resumed.attempt_ended(position, succeeded=False, now=NOW)
    resumed.at(NOW + 60)

    assert resumed.launches_left() == 2


def test_an_agent_that_was_found_alive_while_the_breaker_is_not_closed_is_a_probe() -> None:
    probing = half_open()

    probing.adopted(3)
    probing.adopted(3)

    assert probing.launches_left() == 1


def test_an_agent_that_was_found_alive_while_the_breaker_is_closed_is_none() -> None:
    closed = with_breaker()
    closed.adopted(3)
    for position in range(2):
        closed.attempt_ended(position, succeeded=False, now=NOW)
    closed.at(NOW + 60)

    assert closed.launches_left() == 2


@pytest.mark.parametrize(
    ("saved", "left"),
    [
        (None, None),
        (Breaker(failures=1), None),
        (Breaker(BreakerState.OPEN, 2, NOW + 30), 0),
        (Breaker(BreakerState.HALF_OPEN, 2), 0),
        (Breaker(BreakerState.HALF_OPEN, successes=1), 0),
    ],
)
def test_what_runs_when_an_operator_is_started_anew_counts_as_a_probe(saved: Breaker | None, left: int | None) -> None:
    resumed = with_breaker()

    resumed.resume(saved, [3, 4], NOW)

    assert resumed.launches_left() == left
    assert resumed.breaker == (saved or Breaker())


def test_a_saved_breaker_goes_on_and_waits_no_longer_than_the_policy_says() -> None:
    resumed = with_breaker()

    resumed.resume(Breaker(BreakerState.OPEN, 2, NOW + 10**6), [], NOW)

    assert resumed.breaker.open_until == NOW + 60


def test_a_breaker_that_is_taken_out_of_the_spec_holds_nothing_back_any_more() -> None:
    probing = half_open()

    probing.respec(spec(), NOW + 61)

    assert (probing.launches_left(), probing.admits(9), probing.hindrance(0)) == (None, True, None)


def test_a_breaker_that_is_not_closed_says_so() -> None:
    opened = with_breaker()
    for position in range(2):
        opened.attempt_ended(position, succeeded=False, now=NOW)
    told = opened.hindrance(0)
    assert told is not None
    assert told[0] == "CircuitOpen"
    assert told[1].startswith("2 attempts in a row failed")

    opened.at(NOW + 60)

    told = opened.hindrance(0)
    assert told is not None
    assert told[0] == "CircuitHalfOpen"


class ProbesAreBounded(RuleBasedStateMachine):
    """Whatever ends in whatever way: half-open, there are never more agents started than probes are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.guard = with_breaker(failures=2, probes=3)
        self.now = NOW
        self.running: dict[int, bool] = {}
        """Positions, and whether they were started while half-open, since it was so."""
        self.next = 0
        self.passed = 0

    def probes(self) -> int:
        return sum(self.running.values())

    @rule()
    def one_is_started(self) -> None:
        left = self.guard.launches_left()
        if left is None or left > 0:
            self.running[self.next] = self.guard.breaker.state is BreakerState.HALF_OPEN
            self.guard.launched(self.next)
            self.next += 1

    @precondition(lambda self: bool(self.running))
    @rule(data=st.data(), succeeded=st.booleans())
    def an_attempt_ends(self, data: st.DataObject, succeeded: bool) -> None:
        position = data.draw(st.sampled_from(sorted(self.running)))
        probe, state = self.running.pop(position), self.guard.breaker.state
        self.guard.attempt_ended(position, succeeded, self.now)
        if state is BreakerState.HALF_OPEN and probe:
            self.passed += 1
            if not succeeded:
                assert self.guard.breaker.state is BreakerState.OPEN
            else:
                closed = self.guard.breaker.state is BreakerState.CLOSED
                assert closed == (self.passed == 3)
        elif state is not BreakerState.CLOSED:
            assert self.guard.breaker.state is state
        if self.guard.breaker.state is not BreakerState.HALF_OPEN:
            self.passed = 0
        if self.guard.breaker.state is BreakerState.CLOSED:
            self.running = dict.fromkeys(self.running, False)

    @precondition(lambda self: bool(self.running))
    @rule(data=st.data())
    def one_is_interrupted(self, data: st.DataObject) -> None:
        position = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[position]
        self.guard.ended_otherwise(position)

    @rule(seconds=st.sampled_from([1, 30, 60]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.guard.at(self.now)

    @invariant()
    def there_are_never_too_many_probes(self) -> None:
        if self.guard.breaker.state is BreakerState.HALF_OPEN:
            assert self.guard.launches_left() == max(0, 3 - self.passed - self.probes())
            assert self.probes() + self.passed <= 3
        elif self.guard.breaker.state is BreakerState.OPEN:
            assert self.guard.launches_left() == 0
        else:
            assert self.guard.launches_left() is None

    @invariant()
    def only_probes_are_admitted(self) -> None:
        for position, probe in self.running.items():
            half = self.guard.breaker.state is BreakerState.HALF_OPEN
            closed = self.guard.breaker.state is BreakerState.CLOSED
            assert self.guard.admits(position) == (closed or (half and probe))


TestProbesAreBounded = ProbesAreBounded.TestCase
TestProbesAreBounded.settings = settings(stateful_step_count=40)


# ----------------------------------------------------------------------------------------------------------- the budget


@pytest.mark.parametrize(
    ("budget", "left"),
    [
        (None, [True] * 7),
        ({"maxRetries": 0}, [False] * 7),
        ({"maxRetries": 3}, [True] * 3 + [False] * 4),
        ({"maxRatio": 0.5}, [True] * 5 + [False] * 2),
        ({"maxRetries": 2, "maxRatio": 0.5}, [True] * 2 + [False] * 5),
    ],
)
def test_a_budget_is_spent_to_its_last_retry_and_not_beyond(budget: dict[str, Any] | None, left: list[bool]) -> None:
    limited = guard(items=10, failurePolicy={"retryBudget": budget})

    assert [limited.budget_left(retries) for retries in range(7)] == left


# --------------------------------------------------------------------------------------------------------- the capacity


@pytest.mark.parametrize(("on_full", "full"), [(OnFull.PAUSE, [False, True, True]), (OnFull.FAIL, [False, True, True])])
def test_a_queue_is_full_when_it_holds_as_many_open_letters_as_it_may(on_full: OnFull, full: list[bool]) -> None:
    limited = with_queue(3, on_full)

    assert [limited.is_full(letters) for letters in (2, 3, 4)] == full
    assert [limited.excess(letters) for letters in (2, 3, 4)] == [0, 0, 0]


def test_a_queue_that_archives_is_never_full_and_says_what_is_too_much() -> None:
    limited = with_queue(3, OnFull.ARCHIVE)

    assert [limited.is_full(letters) for letters in (2, 3, 4, 100)] == [False] * 4
    assert [limited.excess(letters) for letters in (2, 3, 4, 100)] == [0, 0, 1, 97]


@pytest.mark.parametrize("on_full", OnFull)
def test_without_a_capacity_there_is_always_room(on_full: OnFull) -> None:
    free = with_queue(None, on_full)

    assert (free.is_full(10**6), free.excess(10**6), free.full(10**6), free.stop(COUNTS, 10**6)) == (
        False,
        0,
        None,
        None,
    )


def test_a_full_queue_says_how_full_it_is_and_what_to_do() -> None:
    told = (
        "no more items are started: the dead letter queue holds 1,234 open letters, its capacity is 1,000. "
        "Redrive its letters, or raise the capacity of the DeadLetterQueue"
    )
    assert with_queue(1000).full(1234) == ("DeadLetterQueueFull", told)
    assert with_queue(1000).hindrance(1234) == with_queue(1000).full(1234)
    assert with_queue(1000).stop(COUNTS, 1234) is None


def test_a_queue_that_fails_when_it_is_full_stops_the_job() -> None:
    stop = with_queue(2, OnFull.FAIL).stop(COUNTS, 2)

    assert stop is not None
    assert stop[0] == "DeadLetterQueueFull"
    assert "holds 2 open letters, its capacity is 2, and onFull is Fail" in stop[1]
    assert with_queue(2, OnFull.FAIL).stop(COUNTS, 1) is None


def test_the_queue_itself_outweighs_the_spec_of_its_job_as_long_as_there_is_one() -> None:
    limited = with_queue(2)

    limited.requeue(DeadLetterPolicy(capacity=5))
    assert (limited.is_full(3), limited.queue.capacity) == (False, 5)

    limited.requeue(None)
    assert (limited.is_full(3), limited.queue.capacity) == (True, 2)


def test_limits_of_the_failure_policy_stop_the_job_too() -> None:
    limited = guard(failurePolicy={"maxFailures": 2})

    stop = limited.stop(COUNTS | {ItemState.DEAD_LETTERED: 1, ItemState.SKIPPED: 1, ItemState.PENDING: 8}, 1)

    assert stop is not None
    assert stop[0] == "MaxFailuresReached"
    assert limited.stop(COUNTS | {ItemState.DEAD_LETTERED: 1, ItemState.PENDING: 9}, 1) is None


def test_a_limit_that_is_raised_holds_at_once() -> None:
    limited = guard(failurePolicy={"maxFailures": 2})

    limited.respec(spec(failurePolicy={"maxFailures": 3}), NOW)

    assert limited.stop(COUNTS | {ItemState.DEAD_LETTERED: 2}, 2) is None
