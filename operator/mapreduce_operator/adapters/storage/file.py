"""An object store on one volume: the default, which needs no configuration.

Guarantees and limits of the files stand in `folder`. What comes on top: nothing blocks the event loop. All work is
done by a few threads of the store's own, since a volume that hangs would otherwise take asyncio's default pool, and
with it name resolution, away from everybody else.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from mapreduce_operator.adapters.storage.folder import Folder
from mapreduce_operator.adapters.storage.keys import checked_key
from mapreduce_operator.ports import StorageError, StoredObject

_THREADS: Final = 4
_CLOSE_SECONDS: Final = 60.0

T = TypeVar("T")


class FileStore:
    """`ObjectStore` over a folder. Opening it touches the disk and sweeps what a crash left behind.

    A write whose task is cancelled may still happen: its thread cannot be stopped.
    """

    def __init__(self, root: Path) -> None:
        self._folder: Final = Folder(root)
        self._threads: Final = ThreadPoolExecutor(_THREADS, thread_name_prefix="file-store")

    async def close(self) -> None:
        """Waits for what is under way; afterwards this store writes nothing any more and takes no more work."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.to_thread(self._threads.shutdown)
        except TimeoutError as error:
            raise StorageError(f"The volume did not finish its work within {_CLOSE_SECONDS:.0f} s.") from error

    async def get(self, key: str) -> StoredObject | None:
        return await self._in_thread(partial(self._folder.read, checked_key(key)))

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return await self._in_thread(
            partial(self._folder.write, checked_key(key), data, if_absent=if_absent, if_match=if_match)
        )

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        """Walks folder by folder, so that only one folder's keys and their siblings above are in memory."""
        start, slash, _ = prefix.rpartition("/")
        if slash and not _is_key(start):
            return
        pending = [start + slash]
        while pending:
            key = pending.pop()
            if key and not key.endswith("/"):
                yield key
                continue
            children = await self._in_thread(partial(self._folder.children, key))
            pending.extend(child for child in reversed(children) if child.startswith(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        await self._in_thread(partial(self._folder.remove, [checked_key(key) for key in keys]))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _is_key(text: str) -> bool:
    try:
        checked_key(text)
    except ValueError:
        return False
    return True
