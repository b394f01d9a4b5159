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
    """A number of threads; what is more than they can do at a time waits."""

    def __init__(self, name: str, threads: int) -> None:
        self._name: Final = name
        self._threads: Final = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises. Work that has begun goes on even if the caller is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def close(self) -> None:
        """Waits for what is under way; no more work is taken. Raises StorageError if it takes too long."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(self._threads.shutdown)
        except TimeoutError as error:
            raise StorageError(f"The {self._name} did not finish its work within {_CLOSE_SECONDS:.0f} s.") from error
