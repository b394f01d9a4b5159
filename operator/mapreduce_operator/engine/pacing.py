"""How fast this process writes to the API server: as fast as it can, until the server complains.

One pace for all runs, since the server counts them as one client. A complaint (429) holds everybody up for as long as
the server asks, and makes known what it bears: the rate of that moment. From then on the rate is a function of time
alone. It starts below what the server bore, comes close to it within seconds, stays there for a while, and then grows
faster and faster, until the next complaint or until nothing is left of the limit. Thus a server that is always short
is rarely annoyed, and one that has recovered is soon used to the full.

A server that is away (5xx, broken connections, time-outs) is another matter: it says nothing about rates. After two
such answers in a row, each further one makes all writes wait longer; the first that gets through ends that.

Reads are not paced: there are few of them.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

log = logging.getLogger(__name__)

WRITES_IN_FLIGHT: Final = 48
"""Fewer than the connections to the API server, so that status, Events and lists do not wait behind the writes."""
_APPROACH_SECONDS: Final = 8.0
"""From a complaint until the rate is again what it was then."""
_GROWTH_SECONDS: Final = 1.0
"""Beyond that: the smaller, the sooner a limit that is gone is forgotten."""
_EARLY_SECONDS: Final = 1.0
"""A complaint that comes so soon after the last one means that the rate is far off."""
_FAR, _NEAR = 0.5, 0.8
"""Shares of the rate that are left after a complaint."""
_LEAST: Final = 1.0
_UNLIMITED: Final = 1000.0
"""Writes per second. A rate above the second is none: one process does not write so much."""
_TICK_SECONDS: Final = 0.0005
"""A wait so short is none: no timer is that exact."""
_RETRY_SECONDS: Final = 0.2
"""After a complaint that does not say how long to wait."""
_LONGEST_RETRY_SECONDS: Final = 60.0
"""Whoever asks for more is no API server but something in between."""
_AWAY_PAUSES: Final = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds for everybody, by the number of answers in a row that say that the server is away."""


class Pace:
    """Lets writes through: in the order in which they come, never too many at a time, none while the server rests."""

    def __init__(self, chance: random.Random | None = None) -> None:
        """`chance` spreads the writes a little, so that several processes and runs do not beat in step."""
        self._chance: Final = chance or random.Random()  # noqa: S311 - not a secret
        self._slots: Final = asyncio.Semaphore(WRITES_IN_FLIGHT)
        self._gate: Final = asyncio.Lock()
        self._next = 0.0
        self._resumed = 0.0
        self._borne: float | None = None
        """Writes per second at the last complaint; None while there is no limit."""
        self._share = _NEAR
        self._away = 0
        self._begun: Final[deque[float]] = deque(maxlen=int(_UNLIMITED))
        """Moments of the last writes."""

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One write: waits until it may begin, and learns from the ClusterError that it raises, if any.

        The wait ends when the server takes writes again, which it may never do; whoever has better to do cancels it.
        """
        async with self._slots:
            async with self._gate:
                began = await self._may_begin()
            try:
                yield
            except ClusterError as error:
                self._refused(error, began)
                raise
            self._away = 0

    async def _may_begin(self) -> float:
        """Returns the moment of the next write. There is one caller at a time, so that nobody overtakes."""
        clock = asyncio.get_running_loop()
        # Both moments may be put off meanwhile.
        while (wait := max(self._next, self._resumed) - clock.time()) > _TICK_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(wait)
        now = clock.time()
        rate = self._rate(now)
        if rate is not None:
            self._next = now + self._chance.uniform(0.9, 1.1) / rate
        self._begun.append(now)
        return now

    @property
    def rate(self) -> float:
        """Writes per second that are allowed at this moment; 1000 is no limit."""
        return self._rate(asyncio.get_running_loop().time()) or _UNLIMITED

    def _rate(self, now: float) -> float | None:
        """Writes per second at this moment, None for no limit."""
        if self._away:
            # A server that comes back is tried by a few, not by all that wait.
            return 1 / _AWAY_PAUSES[1]
        if self._borne is None:
            return None
        # A cubic: steep far from what the server bore, flat near it, and steep again beyond.
        distance = now - self._resumed - _APPROACH_SECONDS
        bend = distance / (_APPROACH_SECONDS if distance < 0 else _GROWTH_SECONDS)
        rate = self._borne * (1 + (1 - self._share) * bend**3)
        return max(rate, _LEAST) if rate < _UNLIMITED else None

    def _refused(self, error: ClusterError, began: float) -> None:
        now = asyncio.get_running_loop().time()
        # What began before the last refusal says nothing new, but it may say to wait longer.
        is_news = began >= self._resumed
        asked = min(error.retry_after or 0.0, _LONGEST_RETRY_SECONDS)
        if error.reason is ClusterErrorReason.THROTTLED:
            self._away = 0
            if is_news:
                self._slow_down(now)
            self._rest(now, asked or _RETRY_SECONDS)
        elif error.reason is not ClusterErrorReason.UNAVAILABLE:
            self._away = 0
        elif is_news:
            self._rest(now, max(asked, pause_after(self._away, _AWAY_PAUSES)))
            self._away += 1

    def _slow_down(self, now: float) -> None:
        rate = self._rate(now)
        if rate is not None and now - self._resumed < _EARLY_SECONDS:
            self._borne, self._share = rate, _FAR
            return
        lately = sum(begun > now - 1.0 for begun in self._begun)
        self._borne, self._share = max(_LEAST, lately if rate is None else min(rate, lately)), _NEAR
        if rate is None:
            log.info("the API server refuses writes after %d within a second; they are slowed down", lately)

    def _rest(self, now: float, seconds: float) -> None:
        self._resumed = max(self._resumed, now + seconds * self._chance.uniform(1.0, 1.1))
