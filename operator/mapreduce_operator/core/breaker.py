"""The circuit breaker of a run: pauses dispatching when attempts fail one after another, whatever their items.

    Closed -> Open        so many attempts failed without a success in between
    Open -> HalfOpen      the time to wait is over
    HalfOpen -> Closed    as many probes as the policy asks for have succeeded
             -> Open      one of them has failed

A probe is a dispatch that was started while half-open; which ones are in flight, the caller knows. An interrupted one
says nothing: it is in flight no longer, so that another may take its place. What ends while the breaker is open was
started before and changes nothing.

A breaker is a value, so that the journal can hold it and a restarted operator goes on with it. All moments are seconds
since the epoch. Without a policy a breaker is closed.
"""

import msgspec

from mapreduce_operator.api import BreakerState, CircuitBreaker


class Breaker(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Where the breaker of a run stands. Methods return the same object when nothing changes."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    """Attempts that failed since the last one that succeeded, as far as they count."""
    open_until: float = 0.0
    """In Open: when it becomes half-open."""
    successes: int = 0
    """In HalfOpen: probes that succeeded."""

    def after_attempt(self, succeeded: bool, policy: CircuitBreaker | None, now: float, *, probe: bool) -> "Breaker":
        """The breaker after the agent of any item ended by itself; interruptions are no attempts."""
        if policy is None:
            return self._closed()
        half_open = self.state is BreakerState.HALF_OPEN
        if self.state is BreakerState.OPEN or (half_open and not probe):
            return self
        if succeeded:
            passed = not half_open or self.successes + 1 >= policy.probes
            return self._closed() if passed else Breaker(BreakerState.HALF_OPEN, successes=self.successes + 1)
        failures = self.failures + 1
        if half_open or failures >= policy.failures_in_a_row:
            return Breaker(BreakerState.OPEN, failures, open_until=now + policy.open_seconds)
        return Breaker(failures=failures)

    def at(self, now: float) -> "Breaker":
        """The breaker at a moment: half-open if the time to wait is over."""
        over = self.state is BreakerState.OPEN and self.open_until <= now
        return Breaker(BreakerState.HALF_OPEN, self.failures) if over else self

    def resumed(self, policy: CircuitBreaker | None, now: float) -> "Breaker":
        """The breaker that goes on under this policy: in an operator that was started anew, or after an edit.

        It waits no longer than the policy says, though another clock or another policy said when it opens, and it asks
        for no more probes than are asked for now.
        """
        if policy is None or (self.state is BreakerState.HALF_OPEN and self.successes >= policy.probes):
            return self._closed()
        latest = now + policy.open_seconds
        if self.state is BreakerState.OPEN and self.open_until > latest:
            return msgspec.structs.replace(self, open_until=latest)
        return self

    def launches_left(self, policy: CircuitBreaker | None, probes_in_flight: int) -> int | None:
        """How many agents may be started now; None for any number. While half-open, each of them is a probe."""
        if policy is None or self.state is BreakerState.CLOSED:
            return None
        if self.state is BreakerState.OPEN:
            return 0
        return max(0, policy.probes - self.successes - probes_in_flight)

    def _closed(self) -> "Breaker":
        closed = Breaker()
        return self if self == closed else closed
