"""How many failures a job bears, and what becomes of the items that are given up."""

from pydantic import ConfigDict, Field

from mapreduce_operator.api.enums import OnExhausted, OnFull
from mapreduce_operator.api.model import Model, rule


class FailureThreshold(Model):
    """Stops the job when too large a share of its items fails."""

    ratio: float = Field(ge=0, le=1)
    """The share of the items that ended, from 0 to 1, that may fail; with more the job is stopped."""

    min_samples: int = Field(default=10, ge=1, le=100_000)
    """How many items must have ended before the share means anything."""


class RetryBudget(Model):
    """A bound on the retries of all items together: beyond it a failed item is given up at once.

    Where both are given, the smaller one counts.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.maxRetries) || has(self.maxRatio)",
                    "maxRetries, maxRatio or both must be given: a budget without them bounds nothing",
                    field="",
                    reason="FieldValueRequired",
                )
            ]
        }
    )

    max_retries: int | None = Field(default=None, ge=0, le=10_000_000)
    """The number of retries that the job may spend."""

    max_ratio: float | None = Field(default=None, ge=0, le=100)
    """The number of retries that the job may spend, as a share of the number of its items: with 0.5, a job of 1,000
    items has 500.
    """


class CircuitBreaker(Model):
    """Pauses the job when attempts fail one after another: something that they all need may be away.

    Closed, agents start as usual. After failuresInARow it is open: none starts. After openSeconds it is half-open:
    as many agents as probes says are started, and no more. When all of these succeed it is closed again; when one fails
    it is open again.
    """

    failures_in_a_row: int = Field(default=5, ge=1, le=10_000)
    """How many attempts must fail, of whatever items, without a success in between."""

    open_seconds: int = Field(default=60, ge=1, le=86_400)
    """How long no agent is started."""

    probes: int = Field(default=1, ge=1, le=100)
    """How many agents are started to find out whether it works again."""


class FailurePolicy(Model):
    """What becomes of items that are given up, and how many of them the job bears."""

    on_exhausted: OnExhausted = OnExhausted.DEAD_LETTER
    """What becomes of an item that is not tried again. DeadLetter: it goes to the dead letter queue of the job, from
    where it can be given another run. Skip: it is left out. Stop: it goes to the queue, and the job is stopped.
    A job that is stopped starts no more agents, lets those that run finish, runs no reduce, and fails.
    """

    max_failures: int | None = Field(default=None, ge=1, le=100_000)
    """The job is stopped when this many items were given up."""

    failure_threshold: FailureThreshold | None = None

    retry_budget: RetryBudget | None = None

    circuit_breaker: CircuitBreaker | None = None


class DeadLetterPolicy(Model):
    """How the dead letter queue of the job begins. From then on change the DeadLetterQueue itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                # has: the API server also checks the default of this object, `{}`, before it fills it in.
                rule(
                    "!has(self.onFull) || self.onFull == 'Pause' || has(self.capacity)",
                    "onFull needs a capacity: a queue without one is never full",
                    field=".onFull",
                ),
                rule(
                    "!has(self.purgeOpen) || !self.purgeOpen || has(self.retentionSeconds)",
                    "purgeOpen needs retentionSeconds: without it no letter is deleted",
                    field=".purgeOpen",
                ),
            ]
        }
    )

    capacity: int | None = Field(default=None, ge=1, le=100_000)
    """How many open letters the queue holds before onFull happens. Without it there is no limit."""

    on_full: OnFull = OnFull.PAUSE
    """What happens when the queue is full. Pause: no more agents are started until there is room; those that run may
    still add theirs. Archive: the oldest open letters are set aside to make room. Fail: the job is stopped. No letter
    is ever dropped.
    """

    retention_seconds: int | None = Field(default=None, ge=1, le=315_360_000)
    """How long letters that were resolved or archived are kept after their last attempt. Without it, as long as the
    job is.
    """

    purge_open: bool = False
    """Whether letters that are still open are deleted as well when retentionSeconds have passed."""
