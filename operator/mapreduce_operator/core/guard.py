"""What keeps a run from starting agents although items wait: its own limits on failure.

The circuit breaker, the limits after which the job is stopped, and the capacity of its dead letter queue. All but the
breaker follows from counts and policies alone, so that a limit that is raised takes effect at once.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from mapreduce_operator.api import BreakerState, DeadLetterPolicy, ItemState, MapReduceJobSpec, OnFull
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.policies import retry_budget, stop_of

FULL: Final = "DeadLetterQueueFull"


class Guard:
    """The limits of one run. Positions are those of map items."""

    def __init__(self, spec: MapReduceJobSpec, items: int) -> None:
        self._items: Final = items
        self._spec = spec
        self._queue: DeadLetterPolicy | None = None
        self.breaker = Breaker()
        self._probes: set[int] = set()

    # ------------------------------------------------------------------------------------------------ what happened

    def respec(self, spec: MapReduceJobSpec, now: float) -> None:
        self._spec = spec
        self.breaker = self.breaker.resumed(spec.failure_policy.circuit_breaker, now)

    def requeue(self, policy: DeadLetterPolicy | None) -> None:
        """What the DeadLetterQueue says now; None while there is none, and the spec of the job says it."""
        self._queue = policy

    def resume(self, breaker: Breaker | None, running: Iterable[int], now: float) -> None:
        """The breaker as it was saved last. Whatever runs counts as a probe: so there are never too many of them."""
        self.breaker = (breaker or Breaker()).resumed(self._spec.failure_policy.circuit_breaker, now)
        if self.breaker.state is not BreakerState.CLOSED:
            self._probes.update(running)

    def at(self, now: float) -> None:
        self.breaker = self.breaker.at(now)

    def launched(self, position: int) -> None:
        if self.breaker.state is BreakerState.HALF_OPEN:
            self._probes.add(position)

    def adopted(self, position: int) -> None:
        """An agent runs. While the breaker is not closed it counts as a probe, whoever started it."""
        if self.breaker.state is not BreakerState.CLOSED:
            self._probes.add(position)

    def attempt_ended(self, position: int, succeeded: bool, now: float) -> None:
        """The agent of an item ended by itself."""
        policy = self._spec.failure_policy.circuit_breaker
        self.breaker = self.breaker.after_attempt(succeeded, policy, now, probe=position in self._probes)
        self._probes.discard(position)
        if self.breaker.state is BreakerState.CLOSED:
            self._probes.clear()

    def ended_otherwise(self, position: int) -> None:
        """The dispatch of an item was interrupted, or never began."""
        self._probes.discard(position)

    # --------------------------------------------------------------------------------------------------- what is so

    @property
    def queue(self) -> DeadLetterPolicy:
        return self._queue or self._spec.dead_letter

    def launches_left(self) -> int | None:
        """How many agents the breaker lets start now; None for any number."""
        return self.breaker.launches_left(self._spec.failure_policy.circuit_breaker, len(self._probes))

    def admits(self, position: int) -> bool:
        """A launch that was decided before may still take place."""
        half_open = self.breaker.state is BreakerState.HALF_OPEN
        return self.breaker.state is BreakerState.CLOSED or (half_open and position in self._probes)

    def budget_left(self, retries: int) -> bool:
        """Another retry may be spent after so many."""
        budget = retry_budget(self._spec.failure_policy.retry_budget, self._items)
        return budget is None or retries < budget

    def excess(self, open_letters: int) -> int:
        """How many open letters are to be set aside, so that the queue is not over its capacity."""
        if self.queue.on_full is not OnFull.ARCHIVE or self.queue.capacity is None:
            return 0
        return max(0, open_letters - self.queue.capacity)

    def is_full(self, open_letters: int) -> bool:
        capacity = self.queue.capacity
        return self.queue.on_full is not OnFull.ARCHIVE and capacity is not None and open_letters >= capacity

    def stop(self, counts: Mapping[ItemState, int], open_letters: int) -> tuple[str, str] | None:
        """(reason, message) of why the job must be stopped; None while it need not."""
        if self.queue.on_full is OnFull.FAIL and self.is_full(open_letters):
            message = (
                f"the dead letter queue holds {open_letters:,} open letters, its capacity is {self.queue.capacity:,}, "
                "and onFull is Fail. Redrive its letters, or raise the capacity"
            )
            return FULL, message
        return stop_of(counts, self._spec)

    def full(self, open_letters: int) -> tuple[str, str] | None:
        """(reason, message) while the queue is full, so that no new items are started."""
        if not self.is_full(open_letters):
            return None
        message = (
            f"no more items are started: the dead letter queue holds {open_letters:,} open letters, its capacity is "
            f"{self.queue.capacity:,}. Redrive its letters, or raise the capacity of the DeadLetterQueue"
        )
        return FULL, message

    def hindrance(self, open_letters: int) -> tuple[str, str] | None:
        """(reason, message) of what keeps new agents from being started for now; None when nothing does."""
        return self.full(open_letters) or self.circuit()

    def circuit(self) -> tuple[str, str] | None:
        """(reason, message) while the breaker is not closed."""
        match self.breaker.state:
            case BreakerState.OPEN:
                message = (
                    f"{self.breaker.failures:,} attempts in a row failed, so no agents are started for a while; then "
                    "some are, as probes. status.failures says what fails"
                )
                return "CircuitOpen", message
            case BreakerState.HALF_OPEN:
                return (
                    "CircuitHalfOpen",
                    "attempts in a row failed; a few agents run as probes, and the others follow when these succeed",
                )
        return None
