"""How many do something at a time that takes memory, and how many wait for that: whoever is one too many comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mapreduce_operator.serving.errors import RefusedError

WAITING: Final = 8
_PATIENCE_SECONDS: Final = 60.0
"""Whoever asks hears nothing while he waits, and must not take that for a broken connection."""
_RETRY_SECONDS: Final = 2


class Turns:
    """So many at a time, and WAITING more wait."""

    def __init__(self, at_once: int) -> None:
        self._free: Final = asyncio.Semaphore(at_once)
        self._most: Final = at_once + WAITING
        self.waiting = 0
        """How many have their turn, or wait for it."""

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Waits for a turn, and has it. Raises RefusedError where too many wait, or one would wait too long."""
        if self.waiting >= self._most:
            raise _busy()
        self.waiting += 1
        try:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._free.acquire()
            except TimeoutError as error:
                raise _busy() from error
            try:
                yield
            finally:
                self._free.release()
        finally:
            self.waiting -= 1


def _busy() -> RefusedError:
    return RefusedError(
        503, "Busy", "too many other questions wait for their turn: ask again in a moment", retry_seconds=_RETRY_SECONDS
    )
