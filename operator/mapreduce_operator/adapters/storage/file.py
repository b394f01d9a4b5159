"""An object store on one volume: the default, which needs no configuration.

Guarantees and limits of the files stand in `folder`. What comes on top: nothing blocks the event loop, and nothing
takes for ever, though a volume that hangs keeps its threads for as long as it likes.
"""

import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from mapreduce_operator.adapters.storage.folder import Folder
from mapreduce_operator.adapters.storage.keys import begins_keys, checked_key
from mapreduce_operator.adapters.storage.workers import Workers
from mapreduce_operator.ports import StorageError, StoredObject

_THREADS: Final = 4
_REQUEST_SECONDS: Final = 30.0
"""More than a write waits for its turn, so that what it waits for is told."""
_DELETED_AT_ONCE: Final = 1_000
"""Objects whose deletion has to fit into that time."""

P = ParamSpec("P")
T = TypeVar("T")


class FileStore:
    """`ObjectStore` over a folder. It touches the disk when it is first asked for something, and sweeps it then.

    Thus a volume that cannot be used, or hangs, is a trouble that passes, as it is with a service; whoever waits is
    told of it each time.

    One that is `read_only` does neither: what uses it may not write, and finds what others have written.

    Each step of an operation has `request_seconds`, the wait for a thread included. A write that is given up then, or
    whose task is cancelled, may still happen: its thread cannot be stopped.
    """

    def __init__(self, root: Path, *, read_only: bool = False, request_seconds: float = _REQUEST_SECONDS) -> None:
        self._root: Final = root
        self._read_only: Final = read_only
        self._seconds: Final = request_seconds
        self._workers: Final = Workers("file-store", _THREADS, request_seconds)
        self._opening: Final = threading.Lock()
        self._folder: Folder | None = None

    async def close(self) -> None:
        """Waits for what is under way; afterwards this store writes nothing any more and takes no more work."""
        await self._workers.close()

    async def get(self, key: str) -> StoredObject | None:
        checked_key(key)
        return await self._ask("read", key, Folder.read, key)

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        checked_key(key)
        return await self._ask("read", key, Folder.read, key, limit)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        checked_key(key)
        return await self._ask("write", key, Folder.write, key, data, if_absent=if_absent, if_match=if_match)

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
            children = await self._ask("list", key, Folder.children, key)
            pending.extend(child for child in reversed(children) if child.startswith(prefix))

    async def delete(self, keys: Iterable[str]) -> None:
        pending = iter([checked_key(key) for key in keys])
        while batch := list(islice(pending, _DELETED_AT_ONCE)):
            await self._ask("delete", batch[0], Folder.remove, batch)

    async def _ask(
        self, what: str, key: str, work: Callable[Concatenate[Folder, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        try:
            return await self._workers.run(lambda: work(self._opened(), *args, **kwargs))
        except TimeoutError as error:
            raise StorageError(
                f"Could not {what} {self._root / key}: no answer within {self._seconds:g} s. "
                "See to the volume, its node and its server; work goes on by itself."
            ) from error

    def _opened(self) -> Folder:
        """In a thread."""
        with self._opening:
            if self._folder is None:
                self._folder = Folder(self._root, read_only=self._read_only)
            return self._folder
