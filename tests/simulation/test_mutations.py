"""What the invariants are worth: engines that are broken on purpose are found out."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from mapreduce_operator.api import BreakerState, MapReduceJobStatus, Redrive
from mapreduce_operator.core import run as core_run
from mapreduce_operator.core.agents import Agents
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason
from mapreduce_operator.core.commits import Commits
from mapreduce_operator.core.effects import DeleteJob, Effect
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.journal import Accepted, Segment
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.status import status_of
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine import loading, standing
from mapreduce_operator.engine import run as engine_run
from mapreduce_operator.engine.effects import Effects
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.redriving import Redriving
from mapreduce_operator.ports import DeposedError, ObjectStore, StoredObject
from tests.simulation.chaos_run import play
from tests.simulation.scenario import Life, Scenario, quiet, scenario

Scenarios = Callable[[], Iterator[Scenario]]


def everything() -> Iterator[Scenario]:
    """What `make soak` runs, with fewer items."""
    return (scenario(seed, items=40) for seed in range(40))


def deleted_while_nobody_looks() -> Iterator[Scenario]:
    """Operators die, and people delete Jobs meanwhile."""
    return (quiet(Life(dies_at=point, pause=60.0, deleted_by_hand=3)) for point in range(100, 400, 10))


def two_leaders() -> Iterator[Scenario]:
    """Operators are stopped, resumed beside the next one, and do not hear of it for a while."""
    return (quiet(Life(stops_at=point, stopped_for=1.0, unaware_for=20.0)) for point in range(50, 400, 10))


def found_in(scenarios: Scenarios, **mutation: Any) -> str:
    """The first violation."""
    return next((found[0] for one in scenarios() if (found := play(one, **mutation).violations)), "nothing")


@pytest.mark.parametrize("scenarios", [everything, deleted_while_nobody_looks, two_leaders])
def test_nothing_is_found_in_what_is_not_broken(scenarios: Scenarios) -> None:
    assert found_in(scenarios) == "nothing"


class DeletesTooEarly(Agents):
    """The Job goes before its outcome is durable."""

    def _settle(self, outcome: Outcome, now: float, **more: Any) -> list[Effect]:
        before = len(self._unsaved.records)
        effects = super()._settle(outcome, now, **more)
        return effects + [DeleteJob(outcome.job, outcome.job_uid)] * (len(self._unsaved.records) - before)


class DispatchesTooEarly(Agents):
    """The item takes its turn again before its last outcome is durable."""

    def _settle(self, outcome: Outcome, now: float, **more: Any) -> list[Effect]:
        effects = super()._settle(outcome, now, **more)
        ledger = self._ledgers[outcome.stage]
        ledger.enqueue(ledger.position(outcome.dispatch.item_key) or 0)
        return effects


class RecordsNoStarts(Commits):
    """A dispatch is known by its end alone."""

    def begin(self, reason: CommitReason, now: float, **more: Any) -> Batch:
        self._unsaved.starts.clear()
        # With its counts the checkpoint would contradict itself, and nothing would be run at all.
        return replace(super().begin(reason, now, **more), counts={})


class AdoptsNothing(Agents):
    """What an earlier operator started is none of our business."""

    def observe_job(self, job: JobSeen, deleted: bool, now: float) -> list[Effect]:
        known = self._sightings.is_carrying(job.uid) or self._sightings.is_settled(job.uid)
        return super().observe_job(job, deleted, now) if known else []


class RunsWhatIsNotClaimed(RunState):
    """What a Redrive takes has its turn before that is durable."""

    def redrive(self, accepted: Accepted, attempts: int, not_before: Mapping[int, float], now: float) -> None:
        super().redrive(accepted, attempts, not_before, now)
        for position in not_before:
            self.ledgers[Stage.MAP].enqueue(position)


class ForgetsItsBreaker(Commits):
    """The breaker is not written down."""

    def begin(self, reason: CommitReason, now: float, **more: Any) -> Batch:
        return replace(super().begin(reason, now, **more), breaker=None)


class ForgetsItsRetries(Agents):
    """Each operator has a budget of its own."""

    def resume(self, now: float) -> None:
        super().resume(now)
        self._retries = 0


class ForgetsHistory(Books):
    """Letters tell only of what the operator that writes them has seen."""

    def replay(self, segment: Segment) -> None:
        super().replay(segment)
        self._past.clear()


class TriesEverything(Guard):
    """Half-open is as good as closed."""

    def launches_left(self) -> int | None:
        return None if self.breaker.state is BreakerState.HALF_OPEN else super().launches_left()

    def admits(self, position: int) -> bool:
        return self.breaker.state is BreakerState.HALF_OPEN or super().admits(position)


class ForgetsRedrives(Redriving):
    """A Redrive that has taken its letters is not known again."""

    async def _answer(self, redrive: Redrive) -> None:
        self._state.redrives._uids.clear()
        await super()._answer(redrive)


@pytest.mark.parametrize(
    ("where", "name", "mutant", "violation"),
    [
        (loading, "RunState", RunsWhatIsNotClaimed, "was created although its outcome is durable"),
        (core_run, "Commits", ForgetsItsBreaker, "the breaker is"),
        (core_run, "Agents", ForgetsItsRetries, "the budget is"),
        (core_run, "Books", ForgetsHistory, "what happened is"),
        (core_run, "Guard", TriesEverything, "probes at a time"),
        (engine_run, "Redriving", ForgetsRedrives, "the Redrive redrive-"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_broken_letters_redrives_and_limits(
    where: ModuleType, name: str, mutant: type[object], violation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, mutant)
    assert violation in found_in(everything)


def test_a_letter_that_is_written_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async def commits_first(effects: Effects, batch: Batch) -> None:
        await effects._journal.append(batch)
        await effects._letters.write(batch.letters)

    monkeypatch.setattr(Effects, "_save", commits_first)
    assert "its body is not in storage" in found_in(everything)


@pytest.mark.parametrize(
    ("place", "mutant", "scenarios", "violation"),
    [
        ((core_run, "Agents"), DeletesTooEarly, everything, "deleted before its outcome was durable"),
        ((core_run, "Agents"), DispatchesTooEarly, everything, "created before the outcome of the dispatch before it"),
        ((core_run, "Commits"), RecordsNoStarts, deleted_while_nobody_looks, "is used twice"),
        ((core_run, "Agents"), AdoptsNothing, deleted_while_nobody_looks, "the run did not end"),
    ],
)
def test_a_broken_order_of_decisions(
    place: tuple[ModuleType, str],
    mutant: type[object],
    scenarios: Scenarios,
    violation: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(*place, mutant)
    assert violation in found_in(scenarios)


def test_a_status_that_claims_what_is_not_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    def tells_too_early(state: RunState, *more: Any) -> MapReduceJobStatus:
        waiting, state.unsaved.records = state.unsaved.records, []
        try:
            return status_of(state, *more)
        finally:
            state.unsaved.records = waiting

    monkeypatch.setattr(standing, "status_of", tells_too_early)
    assert "the status says" in found_in(everything)


class SwallowsItsDeposition(Journal):
    """Goes on as if the head had been moved."""

    async def append(self, batch: Batch) -> Checkpoint:
        try:
            return await super().append(batch)
        except DeposedError:
            return self.head


def test_a_leader_that_does_not_hear_that_it_is_deposed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_run, "Journal", SwallowsItsDeposition)
    found = found_in(two_leaders)
    assert "durable" in found or "counted more often than they came to be" in found


class Passing:
    """Fulfils ObjectStore over another one."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner

    async def get(self, key: str) -> StoredObject | None:
        return await self.inner.get(key)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return await self.inner.put(key, data, if_absent=if_absent, if_match=if_match)

    async def list(self, prefix: str) -> AsyncIterator[str]:
        async for key in self.inner.list(prefix):
            yield key

    async def delete(self, keys: Iterable[str]) -> None:
        await self.inner.delete(keys)


class PlainPut(Passing):
    """The head is written without a look at what is there."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        conditional = not key.endswith("head.json")
        return await super().put(
            key, data, if_absent=if_absent and conditional, if_match=if_match if conditional else None
        )


class HeadFirst(Passing):
    """A segment is written after the head that counts it."""

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.held: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if "/segment-" in key:
            self.held[key] = data
            return ""
        etag = await super().put(key, data, if_absent=if_absent, if_match=if_match)
        if key.endswith("/head.json"):
            for segment, content in self.held.items():
                await super().put(segment, content)
            self.held.clear()
        return etag


@pytest.mark.parametrize(
    ("mutant", "scenarios", "violation"),
    [(PlainPut, two_leaders, "the head went back"), (HeadFirst, everything, "which is not there")],
)
def test_a_broken_order_of_writes(
    mutant: Callable[[ObjectStore], ObjectStore], scenarios: Scenarios, violation: str
) -> None:
    assert violation in found_in(scenarios, store_of=mutant)
