"""Object storage in which nobody can change anything."""

from collections.abc import AsyncIterator, Iterable
from typing import Final, NoReturn

from mapreduce_operator.ports import ObjectStore, StoredObject


class ReadOnlyStore:
    """An `ObjectStore` in front of another one that lets reading through, and nothing else."""

    def __init__(self, store: ObjectStore) -> None:
        self._store: Final = store

    async def get(self, key: str) -> StoredObject | None:
        return await self._store.get(key)

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        return await self._store.get_within(key, limit)

    def list(self, prefix: str) -> AsyncIterator[str]:
        return self._store.list(prefix)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> NoReturn:
        del data, if_absent, if_match
        raise PermissionError(f"{key} is not written: this store is for reading")

    async def delete(self, keys: Iterable[str]) -> NoReturn:
        raise PermissionError(f"{', '.join(keys)} are not deleted: this store is for reading")
