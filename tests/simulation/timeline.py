"""Time that passes only when nothing else is left to do.

A loop of its own rather than looptime, which asks the operating system for input between any two steps: most of what a
simulated run costs would be that.
"""

import asyncio
import selectors
from typing import Final

EPOCH: Final = 1_800_000_000.0
"""Wall-clock time at the start of every simulation, in seconds since the epoch."""


class NothingLeftError(RuntimeError):
    """Every task waits for another one: no timer is set, so that nothing would ever happen again."""


class _Jump(selectors.SelectSelector):
    """Waits for nobody: the time that the loop would sleep is over at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeftError("nothing is left to do and nothing to wait for")
        self.now += timeout
        return []


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop without input, whose clock jumps to the next timer."""

    def __init__(self) -> None:
        self._jump: Final = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


class LoopClock:
    """Fulfils the Clock port: wall-clock time that follows the event loop's, fake or not."""

    def __init__(self, ahead: float = 0.0) -> None:
        """`ahead` of the true time by so many seconds: clocks of different nodes differ."""
        self._start: Final = EPOCH + ahead

    def now(self) -> float:
        return self._start + asyncio.get_running_loop().time()
