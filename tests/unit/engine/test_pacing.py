"""Writes go as fast as the API server takes them, which is found out by its complaints alone."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from mapreduce_operator.engine.pacing import WRITES_IN_FLIGHT, Pace
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, DeposedError

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

THROTTLED, UNAVAILABLE = ClusterErrorReason.THROTTLED, ClusterErrorReason.UNAVAILABLE
LATENCY = 0.05


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Server:
    """Takes so many writes per second, those of one second at once, and refuses the others."""

    limit: float | None
    away: bool = False
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    in_flight: int = 0
    peak: int = 0
    tokens: float = 0.0
    counted: float = 0.0

    async def write(self) -> None:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(LATENCY)
        finally:
            self.in_flight -= 1
        if self.away:
            self.refused.append(now())
            raise ClusterError(UNAVAILABLE, "connection refused")
        if self.limit is not None:
            self.tokens = min(self.limit, self.tokens + (now() - self.counted) * self.limit)
            self.counted = now()
            if self.tokens < 1:
                self.refused.append(now())
                raise ClusterError(THROTTLED, "too many requests", retry_after=1.0)
            self.tokens -= 1
        self.taken.append(now())

    def rates(self, since: float) -> tuple[float, float]:
        """Writes taken per second, and the share of those that were refused."""
        taken, refused = (sum(at > since for at in moments) for moments in (self.taken, self.refused))
        return taken / (now() - since), refused / (taken + refused)


@asynccontextmanager
async def writing(pace: Pace, server: Server, clients: int = 60) -> AsyncIterator[None]:
    """So many want to write all the time."""

    async def client() -> None:
        while True:
            with suppress(ClusterError):
                async with pace.turn():
                    await server.write()

    async with asyncio.TaskGroup() as tasks:
        writers = [tasks.create_task(client()) for _ in range(clients)]
        yield
        for writer in writers:
            writer.cancel()


@pytest.fixture
def pace() -> Pace:
    return Pace(random.Random(7))


async def fail(pace: Pace, reason: ClusterErrorReason, retry_after: float | None = None) -> None:
    with pytest.raises(ClusterError):
        async with pace.turn():
            raise ClusterError(reason, "no", retry_after=retry_after)


async def time_of_a_write(pace: Pace) -> float:
    async with pace.turn():
        return now()


async def test_nothing_but_the_number_in_flight_limits_writes_while_the_server_does_not_complain(pace: Pace) -> None:
    server = Server(limit=None)
    async with writing(pace, server):
        await asyncio.sleep(10)
    assert server.peak == WRITES_IN_FLIGHT
    assert len(server.taken) > 0.99 * WRITES_IN_FLIGHT * 10 / LATENCY


@pytest.mark.parametrize("limit", [10, 20, 50])
async def test_a_server_that_is_short_is_used_to_the_full_and_rarely_annoyed(pace: Pace, limit: int) -> None:
    server = Server(limit)
    async with writing(pace, server):
        await asyncio.sleep(60)
        achieved, refused = server.rates(since=0)
    assert achieved >= 0.8 * limit
    assert refused < 0.1


async def test_a_limit_that_falls_is_found_anew(pace: Pace) -> None:
    server = Server(limit=100)
    async with writing(pace, server):
        await asyncio.sleep(30)
        server.limit = 20
        changed = now()
        await asyncio.sleep(60)
        achieved, refused = server.rates(since=changed)
    assert achieved >= 0.8 * 20
    assert refused < 0.1


async def test_a_limit_that_is_gone_is_soon_forgotten(pace: Pace) -> None:
    server = Server(limit=20)
    async with writing(pace, server):
        await asyncio.sleep(30)
        server.limit = None
        await asyncio.sleep(20)
        before = now()
        await asyncio.sleep(1)
        achieved, _ = server.rates(since=before)
    assert achieved >= 0.9 * WRITES_IN_FLIGHT / LATENCY


async def test_retry_after_holds_for_everybody(pace: Pace) -> None:
    await fail(pace, THROTTLED, retry_after=7)
    assert 7 <= await time_of_a_write(pace) < 8


async def test_a_later_complaint_prolongs_the_rest(pace: Pace) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail(pace, THROTTLED, retry_after=2))
        tasks.create_task(fail(pace, THROTTLED, retry_after=9))
        await asyncio.sleep(1)
        write = tasks.create_task(time_of_a_write(pace))
    assert write.result() >= 9


async def test_an_absurd_retry_after_is_cut(pace: Pace) -> None:
    await fail(pace, THROTTLED, retry_after=86_400)
    assert await time_of_a_write(pace) < 90


async def test_writes_begin_in_the_order_in_which_they_were_asked_for(pace: Pace) -> None:
    order: list[int] = []

    async def write(number: int) -> None:
        async with pace.turn():
            order.append(number)

    await fail(pace, THROTTLED, retry_after=1)
    async with asyncio.TaskGroup() as tasks:
        writes = []
        for number in range(2 * WRITES_IN_FLIGHT):
            writes.append(tasks.create_task(write(number)))
            await asyncio.sleep(0)
        given_up = [0, 5, WRITES_IN_FLIGHT + 3]
        for number in given_up:
            writes[number].cancel()
    assert order == [number for number in range(2 * WRITES_IN_FLIGHT) if number not in given_up]


async def test_a_server_that_is_away_is_asked_seldom_and_found_again_at_once(pace: Pace) -> None:
    server = Server(limit=None)
    async with writing(pace, server):
        await asyncio.sleep(5)
        server.away = True
        await asyncio.sleep(60)
        asked = len(server.refused)
        server.away = False
        back = now()
        await asyncio.sleep(10)
    # All that were in flight when it went, and a few since.
    assert asked < WRITES_IN_FLIGHT + 30
    first = next(at for at in server.taken if at > back)
    assert first - back < 6
    assert sum(at > first + 1 for at in server.taken) > 0.8 * (75 - first - 1) * WRITES_IN_FLIGHT / LATENCY


async def test_many_connections_that_break_at_once_are_one_failure(pace: Pace) -> None:
    async def break_off() -> None:
        with suppress(ClusterError):
            async with pace.turn():
                await asyncio.sleep(1)
                raise ClusterError(UNAVAILABLE, "connection reset")

    async with asyncio.TaskGroup() as tasks:
        for _ in range(WRITES_IN_FLIGHT):
            tasks.create_task(break_off())
    assert await time_of_a_write(pace) < 1.5


async def test_what_fails_for_one_run_alone_does_not_hold_up_the_others(pace: Pace) -> None:
    """Such as an admission webhook that does not answer, which the API server reports as an error of its own."""
    server = Server(limit=None)

    async def unlucky() -> None:
        while True:
            with suppress(ClusterError):
                async with pace.turn():
                    await asyncio.sleep(LATENCY)
                    raise ClusterError(UNAVAILABLE, "failed calling webhook")
            await asyncio.sleep(0.5)

    async with asyncio.TaskGroup() as tasks:
        others = [tasks.create_task(unlucky()) for _ in range(10)]
        async with writing(pace, server):
            await asyncio.sleep(20)
        for other in others:
            other.cancel()
    assert len(server.taken) > 0.6 * 20 * WRITES_IN_FLIGHT / LATENCY


@pytest.mark.parametrize("error", [DeposedError("epoch 2 leads"), RuntimeError("a bug")])
async def test_other_errors_pass_untouched_and_free_the_turn(pace: Pace, error: Exception) -> None:
    for _ in range(2 * WRITES_IN_FLIGHT):
        with pytest.raises(type(error)) as caught:
            async with pace.turn():
                raise error
        assert caught.value is error
    assert await time_of_a_write(pace) == now()
