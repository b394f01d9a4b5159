"""Faults by chance: an API server and storage that are slow, refuse, lose answers, and are away at times."""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from mapreduce_operator.ports import (
    ClusterError,
    ClusterErrorReason,
    StorageConflictError,
    StorageError,
    StorageErrorReason,
    WorkloadKind,
)
from tests.simulation.connection import LONGEST_TRIP_SECONDS, Stream, Trip

Outages = tuple[tuple[float, float], ...]
"""From when to when something is away, in seconds of the loop's time."""


@dataclass(frozen=True, slots=True)
class Climate:
    """How bad it is, over a whole run."""

    faults: float = 0.0
    """Chance of a request to fail."""
    slow: float = 0.0
    """Chance of a request or an event to take seconds."""
    outages: Outages = ()


class Weather:
    """What API server and storage have in common."""

    def __init__(self, climate: Climate, chance: Random) -> None:
        self._climate: Final = climate
        self._draw: Final = chance.random

    def trip(self, call: str) -> Trip:
        del call
        return Trip(self._seconds(), self._seconds(), self._draw() if self._draw() < 0.5 else None)

    def _seconds(self) -> float:
        if self._climate.slow and self._draw() < self._climate.slow:
            # Mostly below a second, at times long enough to outlive what the engine waits for.
            return float(0.1 * (10 * LONGEST_TRIP_SECONDS) ** self._draw())
        return 0.001 + 0.02 * self._draw()

    def chance(self) -> float:
        return self._draw()

    def _away(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(start <= now < end for start, end in self._climate.outages)

    def _strikes(self, weight: float = 1.0) -> bool:
        return self._climate.faults > 0.0 and self._draw() < self._climate.faults * weight


_OF_CREATION: Final = (
    (ClusterErrorReason.CONFLICT, "operation cannot be fulfilled on resourcequotas"),
    (ClusterErrorReason.QUOTA, "exceeded quota: agents"),
)


class ApiWeather(Weather):
    """Fulfils ApiFaults."""

    def refused(self, call: str) -> ClusterError | None:
        if self._away():
            return ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused")
        if not self._strikes():
            return None
        draw = self._draw()
        # Seldom: a server that throttles is asked for less from then on, and the run only takes longer.
        if draw < 0.05:
            asked = float(int(5 * self._draw())) or None
            return ClusterError(ClusterErrorReason.THROTTLED, "too many requests", retry_after=asked)
        if draw < 0.3 and call == "create job":
            return ClusterError(*_OF_CREATION[int(self._draw() * len(_OF_CREATION))])
        return ClusterError(ClusterErrorReason.UNAVAILABLE, "the server is currently unable to handle the request")

    def lost(self, call: str) -> ClusterError | None:
        del call
        if self._away() or self._strikes(0.5):
            return ClusterError(ClusterErrorReason.UNAVAILABLE, "the connection broke before the answer")
        return None

    def stream(self, kind: WorkloadKind) -> Stream:
        del kind
        if not self._climate.faults:
            return Stream()
        seconds = 1.0 + 60.0 * self._draw()
        for start, _ in self._climate.outages:
            # An API server that goes away takes its watches with it.
            if 0 < start - asyncio.get_running_loop().time() < seconds:
                return Stream(start - asyncio.get_running_loop().time(), ClusterErrorReason.UNAVAILABLE, repeats=0.1)
        ends = (None, None, ClusterErrorReason.UNAVAILABLE, ClusterErrorReason.EXPIRED)
        return Stream(seconds, ends[int(self._draw() * len(ends))], repeats=0.1)


class StorageWeather(Weather):
    """Fulfils StorageFaults."""

    def refused(self, call: str) -> StorageError | None:
        del call
        if self._away():
            return StorageError("no route to host")
        if self._strikes():
            if self._draw() < 0.3:
                return StorageError("please reduce your request rate", StorageErrorReason.THROTTLED)
            return StorageError("we encountered an internal error, please try again")
        return None

    def lost(self, call: str) -> StorageError | None:
        if self._away() or self._strikes(0.5):
            return StorageError("the connection broke before the answer")
        if call == "put if" and self._strikes(0.5):
            # A client that tries again by itself is told that its own first try was faster.
            return StorageConflictError("at least one of the pre-conditions you specified did not hold")
        return None
