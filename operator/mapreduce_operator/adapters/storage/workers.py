"""Threads of a store's own, for work that blocks.

asyncio's default pool would do until a volume or a service hangs: then its threads would be taken, and with them name
resolution, away from everybody else.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from mapreduce_operator.ports import StorageError

_CLOSE_SECONDS: Final = 60.0

T = TypeVar("T")


class Workers:
    """A number of threads; what is more than they can do at a time waits.

    It waits here and not in the threads' own queue. That one would keep what was given up while all of them hang, with
    its data, and grow with each new try.
    """

    def __init__(self, name: str, threads: int, seconds: float) -> None:
        """Each piece of work has so many seconds, the wait for a thread included."""
        self._name: Final = name
        self._number: Final = threads
        self._seconds: Final = seconds
        self._threads: Final = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free: Final = asyncio.Semaphore(threads)
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises; TimeoutError when its time is over.

        A thread cannot be stopped: work that has begun goes on then, or when the caller is cancelled.
        """
        if self._closed:
            raise RuntimeError(f"the {self._name} is closed")
        async with asyncio.timeout(self._seconds):
            await self._free.acquire()
            doing = asyncio.get_running_loop().run_in_executor(self._threads, work)
            doing.add_done_callback(self._ended)
            return await asyncio.shield(doing)

    def _ended(self, doing: asyncio.Future[T]) -> None:
        self._free.release()
        if not doing.cancelled():
            # Nobody asks how work ended that was given up, and asyncio would complain of that.
            doing.exception()

    async def close(self) -> None:
        """Waits for all that was given; no more work is taken. Raises StorageError if it takes too long."""
        if self._closed:
            return
        self._closed = True
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                for _ in range(self._number):
                    # Those who wait already come before.
                    await self._free.acquire()
        except TimeoutError as error:
            raise StorageError(f"The {self._name} did not finish its work within {_CLOSE_SECONDS:.0f} s.") from error
        self._threads.shutdown()
