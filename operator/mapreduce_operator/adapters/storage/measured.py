"""An object store of which somebody is told how long it took, and what came of it."""

import builtins
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable
from typing import Final, Protocol, TypeVar

from mapreduce_operator.adapters.storage.opening import OpenedStore
from mapreduce_operator.ports import StorageConflictError, StorageError, StoredObject

T = TypeVar("T")


class Observer(Protocol):
    """Is told of each operation."""

    def __call__(self, operation: str, result: str, seconds: float) -> None:
        """`result` is success, not_found, conflict, or the reason of a StorageError."""


class MeasuredStore:
    """`OpenedStore` by way of another one.

    Nothing is told of an operation that its caller gives up, or of an object that is too large for its reader.
    """

    def __init__(self, store: OpenedStore, observe: Observer) -> None:
        self._store: Final = store
        self._observe: Final = observe

    async def close(self) -> None:
        await self._store.close()

    async def get(self, key: str) -> StoredObject | None:
        return await self._measured("get", self._store.get(key))

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        return await self._measured("get", self._store.get_within(key, limit))

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return await self._measured("put", self._store.put(key, data, if_absent=if_absent, if_match=if_match))

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        """All keys are read before the first is given: what is measured is the store, not who goes through them."""
        for key in await self._measured("list", self._listed(prefix)):
            yield key

    async def delete(self, keys: Iterable[str]) -> None:
        await self._measured("delete", self._store.delete(keys))

    async def _listed(self, prefix: str) -> builtins.list[str]:
        return [key async for key in self._store.list(prefix)]

    async def _measured(self, operation: str, work: Awaitable[T]) -> T:
        began = time.monotonic()

        def tell(result: str) -> None:
            self._observe(operation, result, time.monotonic() - began)

        try:
            answer = await work
        except StorageConflictError:
            tell("conflict")
            raise
        except StorageError as error:
            tell(error.reason)
            raise
        tell("not_found" if operation == "get" and answer is None else "success")
        return answer
