"""An object store on one volume: the default, which needs no configuration.

Guarantees and limits of the files stand in `folder`. What comes on top: nothing blocks the event loop.
"""

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from mapreduce_operator.adapters.storage.folder import Folder
from mapreduce_operator.adapters.storage.keys import begins_keys, checked_key
from mapreduce_operator.adapters.storage.workers import Workers
from mapreduce_operator.ports import StoredObject

_THREADS: Final = 4


class FileStore:
    """`ObjectStore` over a folder. Opening it touches the disk and sweeps what a crash left behind.

    A write whose task is cancelled may still happen: its thread cannot be stopped.
    """

    def __init__(self, root: Path) -> None:
        self._folder: Final = Folder(root)
        self._workers: Final = Workers("file-store", _THREADS)

    async def close(self) -> None:
        """Waits for what is under way; afterwards this store writes nothing any more and takes no more work."""
        await self._workers.close()

    async def get(self, key: str) -> StoredObject | None:
        return await self._workers.run(partial(self._folder.read, checked_key(key)))

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return await self._workers.run(
            partial(self._folder.write, checked_key(key), data, if_absent=if_absent, if_match=if_match)
        )

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        """Walks folder by folder, so that only one folder's keys and their siblings above are in memory."""
        if not begins_keys(prefix):
            return
        start, slash, _ = prefix.rpartition("/")
        pending = [start + slash]
        while pending:
            key = pending.pop()
            if key and not key.endswith("/"):
                yield key
                continue
            children = await self._workers.run(partial(self._folder.children, key))
            pending.extend(child for child in reversed(children) if child.startswith(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        await self._workers.run(partial(self._folder.remove, [checked_key(key) for key in keys]))
