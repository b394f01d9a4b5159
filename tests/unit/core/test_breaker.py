"""The circuit breaker: when it opens, how many probes it lets through, and what it makes of a restart or an edit."""

from typing import Final

import msgspec
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapreduce_operator.api import BreakerState, CircuitBreaker
from mapreduce_operator.core.breaker import Breaker

NOW: Final = 1_790_000_000.0

POLICY: Final = CircuitBreaker(failures_in_a_row=3, open_seconds=60, probes=2)

CLOSED: Final = Breaker()
OPEN: Final = Breaker(BreakerState.OPEN, failures=3, open_until=NOW + 60)
HALF_OPEN: Final = Breaker(BreakerState.HALF_OPEN, failures=3)


def after(breaker: Breaker, *outcomes: bool, probe: bool = False) -> Breaker:
    """The breaker after attempts that succeeded or failed, one after another."""
    for succeeded in outcomes:
        breaker = breaker.after_attempt(succeeded, POLICY, NOW, probe=probe)
    return breaker


# --------------------------------------------------------------------------------------------------------------- closed


def test_it_opens_with_the_last_of_so_many_failures_in_a_row() -> None:
    assert after(CLOSED, False, False) == Breaker(failures=2)
    assert after(CLOSED, False, False, False) == OPEN


def test_a_success_in_between_makes_it_count_anew() -> None:
    assert after(CLOSED, False, False, True) == CLOSED
    assert after(CLOSED, False, False, True, False, False) == Breaker(failures=2)


def test_a_success_of_a_breaker_without_failures_is_no_news() -> None:
    assert after(CLOSED, True) is CLOSED


def test_one_failure_may_be_enough() -> None:
    policy = CircuitBreaker(failures_in_a_row=1, open_seconds=60)

    assert CLOSED.after_attempt(False, policy, NOW, probe=False).state is BreakerState.OPEN


def test_while_closed_any_number_of_agents_may_start() -> None:
    assert Breaker(failures=2).launches_left(POLICY, 0) is None


# ----------------------------------------------------------------------------------------------------------------- open


def test_while_open_no_agent_starts() -> None:
    assert OPEN.launches_left(POLICY, 0) == 0


@pytest.mark.parametrize("succeeded", [True, False])
@pytest.mark.parametrize("probe", [True, False])
def test_while_open_the_outcomes_of_agents_that_were_started_before_change_nothing(
    succeeded: bool, probe: bool
) -> None:
    assert OPEN.after_attempt(succeeded, POLICY, NOW + 59, probe=probe) is OPEN


def test_it_is_half_open_from_the_moment_at_which_the_wait_is_over() -> None:
    assert OPEN.at(NOW + 59.9) is OPEN
    assert OPEN.at(NOW + 60) == HALF_OPEN
    assert OPEN.at(NOW + 86_400) == HALF_OPEN


@pytest.mark.parametrize("breaker", [CLOSED, Breaker(failures=2), HALF_OPEN])
def test_time_changes_nothing_else(breaker: Breaker) -> None:
    assert breaker.at(NOW + 86_400) is breaker


# ------------------------------------------------------------------------------------------------------------ half-open


@pytest.mark.parametrize(
    ("successes", "in_flight", "left"), [(0, 0, 2), (0, 1, 1), (0, 2, 0), (1, 0, 1), (1, 1, 0), (0, 3, 0), (1, 3, 0)]
)
def test_while_half_open_exactly_so_many_probes_may_run(successes: int, in_flight: int, left: int) -> None:
    breaker = Breaker(BreakerState.HALF_OPEN, successes=successes)

    assert breaker.launches_left(POLICY, in_flight) == left


@pytest.mark.parametrize("probes", [1, 2, 3, 10])
def test_it_is_closed_when_all_probes_have_succeeded(probes: int) -> None:
    policy = CircuitBreaker(probes=probes)
    breaker = HALF_OPEN

    for successes in range(1, probes):
        breaker = breaker.after_attempt(True, policy, NOW, probe=True)
        assert (breaker.state, breaker.successes) == (BreakerState.HALF_OPEN, successes)
    assert breaker.after_attempt(True, policy, NOW, probe=True) == CLOSED


@pytest.mark.parametrize("breaker", [HALF_OPEN, after(HALF_OPEN, True, probe=True)])
def test_one_probe_that_fails_opens_it_again_for_as_long(breaker: Breaker) -> None:
    again = breaker.after_attempt(False, POLICY, NOW + 100, probe=True)

    assert (again.state, again.open_until) == (BreakerState.OPEN, NOW + 160)
    assert again.failures == breaker.failures + 1
    assert again.at(NOW + 160).successes == 0, "the probes begin anew"


@pytest.mark.parametrize("succeeded", [True, False])
def test_while_half_open_only_probes_count(succeeded: bool) -> None:
    assert HALF_OPEN.after_attempt(succeeded, POLICY, NOW, probe=False) is HALF_OPEN


def test_another_probe_takes_the_place_of_one_that_was_interrupted() -> None:
    assert HALF_OPEN.launches_left(POLICY, probes_in_flight=2) == 0
    assert HALF_OPEN.launches_left(POLICY, probes_in_flight=1) == 1


# -------------------------------------------------------------------------------------------------- restarts and edits


def test_nothing_is_written_of_a_breaker_that_knows_of_no_failure() -> None:
    assert msgspec.json.encode(CLOSED) == b"{}"


def test_what_is_written_has_the_names_of_the_journal() -> None:
    assert msgspec.json.decode(msgspec.json.encode(OPEN)) == {"state": "Open", "failures": 3, "openUntil": NOW + 60}


def test_an_operator_whose_clock_is_behind_waits_no_longer_than_the_policy_says() -> None:
    assert OPEN.resumed(POLICY, NOW - 3600).open_until == NOW - 3540
    assert OPEN.resumed(POLICY, NOW - 3600).failures == 3


@pytest.mark.parametrize("now", [NOW, NOW + 30, NOW + 3600])
def test_what_is_left_of_the_wait_is_waited_after_a_restart(now: float) -> None:
    assert OPEN.resumed(POLICY, now) is OPEN


@pytest.mark.parametrize("breaker", [CLOSED, Breaker(failures=2), HALF_OPEN, after(HALF_OPEN, True, probe=True)])
def test_a_breaker_that_is_not_open_is_resumed_as_it_was(breaker: Breaker) -> None:
    assert breaker.resumed(POLICY, NOW) is breaker


def test_a_shorter_wait_holds_at_once() -> None:
    assert OPEN.resumed(CircuitBreaker(open_seconds=10), NOW).open_until == NOW + 10


def test_a_longer_wait_holds_from_the_next_time_on() -> None:
    assert OPEN.resumed(CircuitBreaker(open_seconds=600), NOW) is OPEN


def test_more_probes_may_start_when_more_are_asked_for() -> None:
    policy = CircuitBreaker(probes=5)
    breaker = after(HALF_OPEN, True, probe=True).resumed(policy, NOW)

    assert breaker.launches_left(policy, probes_in_flight=1) == 3


def test_fewer_probes_that_have_succeeded_already_close_it() -> None:
    policy = CircuitBreaker(probes=1)

    assert after(HALF_OPEN, True, probe=True).resumed(policy, NOW) == CLOSED
    assert HALF_OPEN.resumed(policy, NOW) is HALF_OPEN


@pytest.mark.parametrize("breaker", [CLOSED, Breaker(failures=2), OPEN, HALF_OPEN])
def test_without_a_policy_it_is_closed_and_stays_so(breaker: Breaker) -> None:
    assert breaker.resumed(None, NOW) == CLOSED
    assert breaker.after_attempt(False, None, NOW, probe=True) == CLOSED
    assert breaker.launches_left(None, 0) is None


def test_without_a_policy_nothing_is_news() -> None:
    assert CLOSED.resumed(None, NOW) is CLOSED
    assert CLOSED.after_attempt(False, None, NOW, probe=False) is CLOSED


# ------------------------------------------------------------------------------------------------------ any life at all

policies: Final = st.builds(
    CircuitBreaker,
    failures_in_a_row=st.integers(1, 4),
    open_seconds=st.integers(1, 100),
    probes=st.integers(1, 3),
)

FOLLOWING: Final = {
    BreakerState.CLOSED: {BreakerState.OPEN},
    BreakerState.OPEN: {BreakerState.HALF_OPEN},
    BreakerState.HALF_OPEN: {BreakerState.CLOSED, BreakerState.OPEN},
}


class BreakerLife(RuleBasedStateMachine):
    """A run that starts as many agents as it may, each of which succeeds, fails or is interrupted at some time."""

    @initialize(policy=policies)
    def begin(self, policy: CircuitBreaker) -> None:
        self.policy = policy
        self.breaker = Breaker()
        self.now = NOW
        self.agents: list[bool] = []
        """Whether each agent in flight is a probe."""
        self.in_a_row = 0
        """Attempts that failed while closed, since the last success."""
        self.passed = 0
        """Probes that succeeded since it became half-open."""

    def becomes(self, breaker: Breaker) -> None:
        before, self.breaker = self.breaker, breaker
        if breaker.state is not before.state:
            assert breaker.state in FOLLOWING[before.state]
            self.in_a_row = self.passed = 0

    @rule(wanted=st.integers(1, 6))
    def agents_are_started(self, wanted: int) -> None:
        half_open = self.breaker.state is BreakerState.HALF_OPEN
        for _ in range(wanted):
            left = self.breaker.launches_left(self.policy, sum(self.agents))
            assert (left is None) is (self.breaker.state is BreakerState.CLOSED)
            if left == 0:
                return
            self.agents.append(half_open)
            assert not half_open or sum(self.agents) + self.passed <= self.policy.probes

    def end(self, data: st.DataObject) -> bool:
        return self.agents.pop(data.draw(st.integers(0, len(self.agents) - 1), label="which agent"))

    @precondition(lambda self: self.agents)
    @rule(data=st.data())
    def an_agent_succeeds(self, data: st.DataObject) -> None:
        before, probe = self.breaker, self.end(data)
        after = before.after_attempt(True, self.policy, self.now, probe=probe)
        match before.state:
            case BreakerState.CLOSED:
                assert after == Breaker()
                self.in_a_row = 0
            case BreakerState.HALF_OPEN if probe:
                self.passed += 1
                assert (after.state is BreakerState.CLOSED) is (self.passed >= self.policy.probes)
            case _:
                assert after is before
        self.becomes(after)

    @precondition(lambda self: self.agents)
    @rule(data=st.data())
    def an_agent_fails(self, data: st.DataObject) -> None:
        before, probe = self.breaker, self.end(data)
        after = before.after_attempt(False, self.policy, self.now, probe=probe)
        match before.state:
            case BreakerState.CLOSED:
                self.in_a_row += 1
                assert (after.state is BreakerState.OPEN) is (self.in_a_row >= self.policy.failures_in_a_row)
            case BreakerState.HALF_OPEN if probe:
                assert after.state is BreakerState.OPEN
            case _:
                assert after is before
        if after.state is BreakerState.OPEN and before.state is not BreakerState.OPEN:
            assert after.open_until == self.now + self.policy.open_seconds
        self.becomes(after)

    @precondition(lambda self: self.agents)
    @rule(data=st.data())
    def an_agent_is_interrupted(self, data: st.DataObject) -> None:
        self.end(data)

    @rule(seconds=st.sampled_from([0, 1, 10, 100]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        over = self.breaker.state is BreakerState.OPEN and self.now >= self.breaker.open_until
        after = self.breaker.at(self.now)
        assert (after is not self.breaker) is over
        self.becomes(after)

    @rule(behind=st.sampled_from([0, 50, 3600]))
    def the_operator_starts_anew(self, behind: int) -> None:
        self.now -= behind
        read = msgspec.json.decode(msgspec.json.encode(self.breaker), type=Breaker)
        assert read == self.breaker
        self.becomes(read.resumed(self.policy, self.now))

    @rule(policy=policies)
    def the_policy_is_edited(self, policy: CircuitBreaker) -> None:
        self.policy = policy
        enough = self.breaker.state is BreakerState.HALF_OPEN and self.passed >= policy.probes
        after = self.breaker.resumed(policy, self.now)
        assert (after.state is not self.breaker.state) is enough
        self.becomes(after)

    @rule()
    def the_policy_is_taken_away_for_a_while(self) -> None:
        self.breaker = self.breaker.resumed(None, self.now).resumed(self.policy, self.now)
        assert self.breaker == Breaker()
        self.in_a_row = self.passed = 0

    @invariant()
    def it_is_never_stuck(self) -> None:
        if not self.agents:
            later = self.breaker.at(self.now + self.policy.open_seconds)
            assert later.launches_left(self.policy, 0) != 0

    @invariant()
    def while_open_nothing_starts(self) -> None:
        if self.breaker.state is BreakerState.OPEN:
            assert self.breaker.launches_left(self.policy, sum(self.agents)) == 0


TestBreakerLife = BreakerLife.TestCase
