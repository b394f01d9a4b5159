"""An object store in memory, for tests and the simulation. Nothing survives the process."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Final

from mapreduce_operator.adapters.storage.keys import check_size, checked_key, etag_of
from mapreduce_operator.ports import StorageConflictError, StoredObject


class MemoryStore:
    """`ObjectStore` with the semantics of the durable ones.

    Each operation gives way to other tasks once before its effect and once after. Nothing here would need to wait,
    but a store that never lets others run hides their races, and the simulation crashes runs at their awaits: before
    the effect is a request that was lost, after it is an answer that was lost.
    """

    def __init__(self) -> None:
        self.objects: Final[dict[str, bytes]] = {}
        """The objects by key, for tests to look at and to damage."""

    async def close(self) -> None:
        """Nothing to release; the objects stay, so that a store can be "reopened"."""

    async def get(self, key: str) -> StoredObject | None:
        checked_key(key)
        await asyncio.sleep(0)
        data = self.objects.get(key)
        found = None if data is None else StoredObject(data, etag_of(data))
        await asyncio.sleep(0)
        return found

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        found = await self.get(key)
        if found is not None:
            check_size(key, len(found.data), limit)
        return found

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        checked_key(key)
        await asyncio.sleep(0)
        there = self.objects.get(key)
        if if_absent and there is not None:
            raise StorageConflictError(f"Did not write {key}: it exists already.")
        if if_match is not None and (there is None or etag_of(there) != if_match):
            raise StorageConflictError(f"Did not write {key}: version {if_match} was expected and is not there.")
        self.objects[key] = bytes(data)
        await asyncio.sleep(0)
        return etag_of(data)

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        await asyncio.sleep(0)
        found = sorted(key for key in self.objects if key.startswith(prefix))
        await asyncio.sleep(0)
        for key in found:
            yield key

    async def delete(self, keys: Iterable[str]) -> None:
        """Unlike a single put, many deletions are no single step: a crash may come between any two."""
        for key in [checked_key(key) for key in keys]:
            await asyncio.sleep(0)
            self.objects.pop(key, None)
        await asyncio.sleep(0)
