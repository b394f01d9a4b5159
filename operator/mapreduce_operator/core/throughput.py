"""How fast the items of a run come to their end, for people who wait for it."""

from collections import deque
from math import floor, log10
from typing import Final

WINDOW_SECONDS: Final = 600.0
MIN_SAMPLES: Final = 5
"""Fewer ends say nothing about the others."""


class Throughput:
    """Ends of items over the last minutes, as far as this process has seen them."""

    def __init__(self) -> None:
        self._ended: Final[deque[tuple[float, int]]] = deque()
        self._since: float | None = None
        """Nothing is known of the time before."""

    def begin(self, now: float) -> None:
        """Items may come to their end from now on."""
        self._ended.clear()
        self._since = now

    def ended(self, items: int, now: float) -> None:
        """So many items have come to their end."""
        if items:
            self._ended.append((now, items))

    def per_minute(self, now: float) -> float | None:
        """Items a minute, to two digits, so that it changes seldom; None while too few have ended to tell."""
        while self._ended and self._ended[0][0] <= now - WINDOW_SECONDS:
            self._ended.popleft()
        items = sum(count for _, count in self._ended)
        if self._since is None or items < MIN_SAMPLES:
            return None
        return two_digits(60.0 * items / max(1.0, min(WINDOW_SECONDS, now - self._since)))


def two_digits(number: float) -> float:
    """The number rounded to two significant digits."""
    return round(number, 1 - floor(log10(number))) if number > 0 else 0.0
