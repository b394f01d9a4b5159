"""Asks entries what a filter in CEL says of them, on a thread beside the event loop.

A filter is anybody's text, and one evaluation may take a second. There is one thread, so that all filters together take
no more of the processor than one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from mapreduce_operator.serving.errors import RefusedError

SECONDS: Final = 30.0
"""Of the processor, for all entries of one question."""
_TOGETHER: Final = 16
"""So many are asked before the next filter has its turn."""

T = TypeVar("T")


class Filters:
    """The thread."""

    def __init__(self) -> None:
        self._thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="filters")

    async def passed(self, entries: AsyncIterator[T], meant: Callable[[T], bool]) -> AsyncIterator[T]:
        """The entries that are meant, in their order. Raises RefusedError where that takes too long, and as `meant`."""
        loop, spent, asked = asyncio.get_running_loop(), 0.0, 0
        async for some in _together(entries):
            found, seconds = await loop.run_in_executor(self._thread, _judged, some, meant, SECONDS - spent)
            spent += seconds
            if spent > SECONDS:
                raise RefusedError(
                    400,
                    "FilterTooSlow",
                    f"the filter took more than {SECONDS:g} s, and was through with {asked:,} entries then: narrow the "
                    "question by a state, or ask for less of each entry",
                )
            asked += len(some)
            for entry in found:
                yield entry


async def _together(entries: AsyncIterator[T]) -> AsyncIterator[list[T]]:
    some: list[T] = []
    async for entry in entries:
        some.append(entry)
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some


def _judged(entries: Sequence[T], meant: Callable[[T], bool], seconds: float) -> tuple[list[T], float]:
    """Those that are meant, and what that took; not all of them were asked where it is more than `seconds`."""
    began, found = time.thread_time(), list[T]()
    for entry in entries:
        if meant(entry):
            found.append(entry)
        if time.thread_time() - began > seconds:
            break
    return found, time.thread_time() - began
