"""The status is written when it changed, once a second at most, and never over that of a later leader."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any, Final, cast

import pytest

from mapreduce_operator.api import MapReduceJobStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.reporter import INTERVAL_SECONDS, Reporter
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason, DeposedError
from tests.unit.engine.parts import Leader

RUN: Final = RunRef("default", "demo", "run-1")


class StatusServer:
    """The part of the Cluster port that keeps statuses, as the API server and its fence do."""

    def __init__(self, there: dict[str, Any] | None = None) -> None:
        self.there = there
        self.writes: list[dict[str, Any]] = []
        self.asked = 0
        self.fail: list[ClusterError | None] = []
        """What the next writes end with; None for one that goes well."""
        self.performs = False
        """Whether a write that fails has its effect all the same."""
        self.before_write: Callable[[], None] = lambda: None

    async def write_status(self, run: RunRef, status: Mapping[str, Any], *, replacing: int) -> None:
        assert run == RUN
        await asyncio.sleep(0)
        self.before_write()
        error = self.fail.pop(0) if self.fail else None
        if error is not None and not self.performs:
            raise error
        if self.epoch != replacing:
            raise ClusterError(ClusterErrorReason.CONFLICT, f"the status is of epoch {self.epoch}, not {replacing}")
        assert self.epoch <= status["leaderEpoch"], "the status of a later leader was overwritten"
        self.there = dict(status)
        self.writes.append(self.there)
        if error is not None:
            raise error

    async def status_epoch(self, run: RunRef) -> int:
        assert run == RUN
        self.asked += 1
        await asyncio.sleep(0)
        return self.epoch

    @property
    def epoch(self) -> int:
        return 0 if self.there is None else int(self.there.get("leaderEpoch", 0))


def status(reason: str, epoch: int | None = None) -> MapReduceJobStatus:
    return MapReduceJobStatus.model_validate({"reason": reason, "leader_epoch": epoch})


class Composer:
    """What there is to be told."""

    def __init__(self, reason: str | None = "Planned") -> None:
        self.reason = reason
        self.asked_at: list[float] = []

    def __call__(self) -> MapReduceJobStatus | None:
        self.asked_at.append(asyncio.get_running_loop().time())
        return None if self.reason is None else status(self.reason)


def reporter(
    server: StatusServer,
    composer: Composer,
    leader: Leader | None = None,
    written: MapReduceJobStatus | None = None,
) -> Reporter:
    return Reporter(cast("Cluster", server), leader or Leader(), RUN, composer, written)


def unavailable(retry_after: float | None = None) -> ClusterError:
    return ClusterError(ClusterErrorReason.UNAVAILABLE, "no answer", retry_after=retry_after)


# ---------------------------------------------------------------------------------------------------------- the fence


async def test_the_first_status_carries_the_epoch_of_who_wrote_it() -> None:
    server = StatusServer()

    await reporter(server, Composer(), Leader(3)).write()

    assert server.writes == [status("Planned", 3).to_kubernetes()]


async def test_what_did_not_change_is_not_written_not_even_by_the_next_leader() -> None:
    server, composer = StatusServer(), Composer()
    first = reporter(server, composer, Leader(1))
    await first.write()
    await first.write()

    second = reporter(server, composer, Leader(2), first.written)
    await second.write()

    assert len(server.writes) == 1


async def test_a_leader_goes_on_from_the_status_of_an_earlier_one() -> None:
    server = StatusServer({"reason": "Planned", "leaderEpoch": 1})

    await reporter(server, Composer("Done"), Leader(2), status("Planned", 1)).write()

    assert server.there == status("Done", 2).to_kubernetes()
    assert server.asked == 0


@pytest.mark.parametrize("known", [None, status("Planned"), status("Planned", 1)], ids=["none", "unnumbered", "first"])
@pytest.mark.parametrize("there", [0, 1, 2], ids=["unnumbered", "first", "second"])
async def test_a_conflict_with_an_earlier_leader_is_looked_at_and_the_status_written(
    known: MapReduceJobStatus | None, there: int
) -> None:
    server = StatusServer({"reason": "Other"} | ({"leaderEpoch": there} if there else {}))

    writer = reporter(server, Composer("Done"), Leader(3), known)
    await writer.write()

    assert server.there == status("Done", 3).to_kubernetes()
    assert writer.written == status("Done", 3)


async def test_a_status_that_vanished_is_written_anew() -> None:
    server = StatusServer()

    await reporter(server, Composer("Done"), Leader(3), status("Planned", 2)).write()

    assert server.there == status("Done", 3).to_kubernetes()


@pytest.mark.parametrize("known", [None, status("Planned", 3)], ids=["fresh", "wrote before"])
async def test_the_status_of_a_later_leader_is_left_alone_by_who_does_not_lead(
    known: MapReduceJobStatus | None,
) -> None:
    later = {"reason": "Later", "leaderEpoch": 4}
    server, leader = StatusServer(later), Leader(3)
    leader.held = False
    writer = reporter(server, Composer("Stale"), leader, known)

    with pytest.raises(DeposedError):
        await writer.write()

    assert server.there == later
    assert server.writes == []
    assert writer.written == known


async def test_a_status_of_a_later_leader_that_was_read_with_the_object_is_left_alone() -> None:
    later = status("Later", 4)
    server, leader = StatusServer(later.to_kubernetes()), Leader(3)
    leader.held = False

    with pytest.raises(DeposedError):
        await reporter(server, Composer("Stale"), leader, later).write()

    assert server.there == later.to_kubernetes()


async def test_who_does_lead_surpasses_the_epoch_of_a_status_that_was_read_with_the_object() -> None:
    later = status("Later", 4)
    server, leader = StatusServer(later.to_kubernetes()), Leader(1)

    await reporter(server, Composer("New"), leader, later).write()

    assert leader.epoch == 5
    assert server.there == status("New", 5).to_kubernetes()


async def test_who_does_lead_surpasses_an_epoch_that_a_deleted_lease_left_behind() -> None:
    server, leader = StatusServer({"reason": "Old", "leaderEpoch": 9}), Leader(1)

    await reporter(server, Composer("New"), leader).write()

    assert leader.epoch == 10
    assert server.there == status("New", 10).to_kubernetes()


async def test_a_status_that_others_keep_changing_is_given_up_after_a_few_tries() -> None:
    server = StatusServer({"leaderEpoch": 1})

    def another_leader_of_old_writes() -> None:
        server.there = {"leaderEpoch": (server.epoch or 0) % 2 + 1}

    server.before_write = another_leader_of_old_writes
    with pytest.raises(ClusterError) as error:
        await reporter(server, Composer(), Leader(9)).write()

    assert error.value.reason is ClusterErrorReason.CONFLICT
    assert server.writes == []


@pytest.mark.parametrize("known", [None, status("Planned", 1)], ids=["first", "next"])
async def test_a_write_whose_answer_was_lost_is_written_again_and_no_deposition(
    known: MapReduceJobStatus | None,
) -> None:
    server = StatusServer(None if known is None else known.to_kubernetes())
    leader = Leader(2)
    writer = reporter(server, Composer("Done"), leader, known)
    server.fail, server.performs = [unavailable()], True
    with pytest.raises(ClusterError):
        await writer.write()
    assert writer.written == known

    await writer.write()

    assert server.there == status("Done", 2).to_kubernetes()
    assert leader.epoch == 2


async def test_an_error_that_is_no_conflict_is_not_tried_again_at_once() -> None:
    server = StatusServer()
    server.fail = [ClusterError(ClusterErrorReason.FORBIDDEN, "no right")]

    with pytest.raises(ClusterError, match="no right"):
        await reporter(server, Composer()).write()

    assert server.asked == 0
    assert server.writes == []


async def test_where_there_is_nothing_to_tell_nothing_is_written() -> None:
    server = StatusServer()

    await reporter(server, Composer(None)).write()

    assert server.writes == []


# ---------------------------------------------------------------------------------------------------------- in a loop


@asynccontextmanager
async def serving(writer: Reporter) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(writer.serve())
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.looptime
async def test_many_requests_are_one_write_and_the_last_word_is_told() -> None:
    server, composer = StatusServer(), Composer("0")
    writer = reporter(server, composer)
    async with serving(writer):
        for number in range(30):
            composer.reason = f"Reason{number}"
            writer.request()
            await asyncio.sleep(0.1)
        await asyncio.sleep(2 * INTERVAL_SECONDS)

    told = composer.asked_at
    assert len(server.writes) <= 5
    assert all(later - earlier >= INTERVAL_SECONDS for earlier, later in pairwise(told))
    assert server.there == status("Reason29", 1).to_kubernetes()


@pytest.mark.looptime
async def test_a_write_that_failed_is_tried_again_without_being_asked(caplog: pytest.LogCaptureFixture) -> None:
    server = StatusServer()
    server.fail = [unavailable(), unavailable(retry_after=20)]
    writer = reporter(server, Composer())
    with caplog.at_level(logging.WARNING):
        async with serving(writer):
            writer.request()
            await asyncio.sleep(10)
            assert server.writes == [], "the API server asked for 20 s of peace"
            await asyncio.sleep(20)

    assert len(server.writes) == 1
    assert "the status of default/demo was not written: no answer" in caplog.text


@pytest.mark.looptime
async def test_an_object_that_is_gone_needs_no_status_any_more() -> None:
    server = StatusServer()
    server.fail = [ClusterError(ClusterErrorReason.NOT_FOUND, "gone")]
    writer = reporter(server, Composer())
    async with serving(writer) as task:
        writer.request()
        await asyncio.sleep(5)
        assert task.done()
        assert task.exception() is None


@pytest.mark.looptime
async def test_a_deposition_ends_the_loop() -> None:
    server, leader = StatusServer({"leaderEpoch": 4}), Leader(3)
    leader.held = False
    writer = reporter(server, Composer(), leader)
    writer.request()

    with pytest.raises(DeposedError):
        await writer.serve()
