"""Limits on failure, judged by what really ran: breaker, budget of retries, and what stops or pauses a job."""

from collections.abc import Callable
from typing import Any, Final

from tests.simulation.api_server import Job
from tests.simulation.connection import LONGEST_TRIP_SECONDS
from tests.simulation.durable import LEFT_OUT, Durable, Line
from tests.simulation.timeline import EPOCH, LoopClock


class LimitsAudit:
    """Follows the limits in the spec of one run, which nobody edits; `skewed` tells that clocks differ."""

    def __init__(
        self,
        durable: Durable,
        clock: LoopClock,
        spec: dict[str, Any],
        items: int,
        wrong: Callable[[str], None],
        *,
        skewed: bool,
    ) -> None:
        self._durable: Final = durable
        self._clock: Final = clock
        self._wrong: Final = wrong
        self._skewed: Final = skewed
        policy = spec.get("failurePolicy", {})
        self._breaker: Final[dict[str, Any]] = policy.get("circuitBreaker", {})
        self._max_failures: Final[int | None] = policy.get("maxFailures")
        budget = policy.get("retryBudget", {})
        limits = [budget["maxRetries"]] if "maxRetries" in budget else []
        limits += [int(budget["maxRatio"] * items)] if "maxRatio" in budget else []
        self._budget: Final = min(limits, default=None)
        self._stopped_since: float | None = None
        self._state, self._failures, self._at = "Closed", 0, EPOCH
        self._open_until = 0.0
        self._went_back = False
        """The breaker is what it was at an earlier checkpoint: which probes had passed by then is not known here."""
        self._created: Final[list[Job]] = []
        durable.on_commit.append(self._on_commit)

    def _on_commit(self, header: dict[str, Any], lines: list[Line]) -> None:
        counts = self._durable.counts[header["sequence"]]
        if self._budget is not None and counts.retries > self._budget:
            self._wrong(f"{counts.retries} retries were spent; the budget is {self._budget}")
        failed = counts.dead_lettered + counts.skipped - [*self._durable.settled.values()].count(LEFT_OUT)
        if self._max_failures is not None and failed >= self._max_failures:
            self._stopped_since = self._stopped_since or self._clock.now()
        else:
            self._stopped_since = None
        if self._breaker:
            self._follow_breaker(header, lines)

    def _follow_breaker(self, header: dict[str, Any], lines: list[Line]) -> None:
        """The breaker in the head is what the outcomes in the journal make of the one before."""
        told = self._durable.head.get("breaker") or {}
        state, failures = told.get("state", "Closed"), told.get("failures", 0)
        passed, self._at = header["at"] - self._at, header["at"]
        goes_on = "previous" not in header and header["reason"] not in {"Fork", "Recovery"}
        if self._state == "Closed" and header["sequence"] == self._durable.sequence and goes_on:
            expected, since = "Closed", self._failures
            for line in lines:
                if line["stage"] == "map" and line["verdict"] != "Interrupted" and expected == "Closed":
                    since = 0 if line["verdict"] == "Succeeded" else since + 1
                    expected = "Open" if since >= self._breaker["failuresInARow"] else "Closed"
            quick = 0 <= passed < self._breaker["openSeconds"] and not self._skewed
            if expected == "Closed" and (state, failures) != (expected, since):
                self._wrong(f"the breaker is {state} after {failures} failures; the journal tells of {since}")
            if expected == "Open" and state == "Closed" and quick:
                self._wrong(f"the breaker is closed after {since} failures in a row")
        if not goes_on or state == "Closed":
            self._went_back = not goes_on and state != "Closed"
        if state == "Open" and told["openUntil"] != self._open_until:
            self._open_until, self._went_back = told["openUntil"], not goes_on
        self._state, self._failures = state, failures

    def created(self, job: Job) -> None:
        """A leader creates a Job for an item of the map."""
        now = self._clock.now()
        self._created.append(job)
        stopped = self._stopped_since is not None and now - self._stopped_since > LONGEST_TRIP_SECONDS
        if stopped and job.dispatch.item_key not in self._durable.claims:
            self._wrong(f"{job.name} was created although the job is stopped")
        if self._state == "Closed" or self._skewed or self._went_back:
            return
        if now < self._open_until:
            # A request that was under way when it opened.
            if now > self._open_until - self._breaker["openSeconds"] + LONGEST_TRIP_SECONDS:
                self._wrong(f"{job.name} was created although the breaker is open")
            return
        probes = [one for one in self._created if one.created_at >= self._open_until]
        if any(failed(one) and one.dispatch not in self._durable.outcomes for one in self._created):
            # It may have been open once more since, which is not durable yet.
            return
        passed = sum(one.shown is not None and not failed(one) for one in probes)
        # One whose creation was under way when it opened counts if it ends after the wait, and not if it ends before.
        opened = self._open_until - self._breaker["openSeconds"]
        early = [one for one in self._created if opened <= one.created_at < self._open_until]
        perhaps = passed + sum(one.shown is not None and not failed(one) for one in early)
        flying = [one.name for one in probes if one.alive and not one.touched]
        if perhaps < self._breaker["probes"] < passed + len(flying):
            self._wrong(f"{len(flying)} probes at a time, {passed} have passed; with {job.name}: {flying}")


def failed(job: Job) -> bool:
    """Its agent ended by itself and did not succeed."""
    return job.shown is not None and (job.shown.exit_code != 0 or not job.shown.valid)
