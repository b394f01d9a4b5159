"""A process's way to storage: the ObjectStore port, with all that may go wrong on the way."""

import asyncio
import builtins
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Final, Protocol, TypeVar

from mapreduce_operator.ports import ObjectStore, StorageError, StoredObject
from tests.simulation.connection import Trip
from tests.simulation.process import Process

T = TypeVar("T")


class StorageFaults(Protocol):
    """What goes wrong between a process and storage."""

    def trip(self, call: str) -> Trip:
        """How a call travels."""

    def refused(self, call: str) -> StorageError | None:
        """Something that keeps the request from having an effect."""

    def lost(self, call: str) -> StorageError | None:
        """Something that keeps the answer from coming back, after the effect."""


class RemoteStore:
    """Fulfils the ObjectStore port over another one, which keeps the objects."""

    def __init__(
        self, inner: ObjectStore, process: Process, faults: StorageFaults, trace: Callable[[str], None] | None = None
    ) -> None:
        self._inner: Final = inner
        self._process: Final = process
        self._faults: Final = faults
        self._trace: Final = trace
        self._late: Final[set[asyncio.Task[object]]] = set()
        self.bytes_written = 0

    async def get(self, key: str) -> StoredObject | None:
        return await self._call("get", key, lambda: self._inner.get(key))

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        return await self._call("get", key, lambda: self._inner.get_within(key, limit))

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.bytes_written += len(data)
        call = "put if" if if_absent or if_match is not None else "put"
        return await self._call(call, key, lambda: self._inner.put(key, data, if_absent=if_absent, if_match=if_match))

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        for key in await self._call("list", prefix, lambda: self._listed(prefix)):
            yield key

    async def _listed(self, prefix: str) -> builtins.list[str]:
        return [key async for key in self._inner.list(prefix)]

    async def delete(self, keys: Iterable[str]) -> None:
        wanted = list(keys)
        await self._call("delete", f"{len(wanted)} objects", lambda: self._inner.delete(wanted))

    async def _call(self, call: str, about: str, effect: Callable[[], Awaitable[T]]) -> T:
        await self._process.point()
        trip = self._faults.trip(call)
        try:
            await asyncio.sleep(trip.there)
        except asyncio.CancelledError:
            if trip.straggles is not None and call.startswith(("put", "delete")):
                self._straggle(call, about, effect, trip.straggles)
            raise
        refused = self._faults.refused(call)
        if refused is not None:
            self._say(f"{call} {about} - {refused}")
            raise refused
        try:
            result = await effect()
        except StorageError as error:
            self._say(f"{call} {about} - {error}")
            await self._process.point()
            raise
        lost = self._faults.lost(call)
        self._say(f"{call} {about}" + (f", answer lost: {lost}" if lost else ""))
        await asyncio.sleep(trip.back)
        await self._process.point()
        if lost is not None:
            raise lost
        return result

    def _straggle(self, call: str, about: str, effect: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Nobody waits for the answer any more; the request arrives all the same."""

        async def arrive() -> None:
            await asyncio.sleep(seconds)
            try:
                await effect()
            except StorageError as error:
                self._say(f"{call} {about}, late - {error}")
            else:
                self._say(f"{call} {about}, late")

        task = asyncio.get_running_loop().create_task(arrive())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _say(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self._process.number}: {text}")
