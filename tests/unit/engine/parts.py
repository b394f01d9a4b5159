"""Parts that tests of the engine put together: a clock, a leadership, and a store whose answers get lost."""

import asyncio

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import DeposedError, StorageError

NOW = 1_800_000_000.0


class HandClock:
    """Fulfils the Clock port: goes on when the test says so."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time


class Leader:
    """Fulfils the Leadership port: holds the Lease until the test says otherwise."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.held = True

    async def surpass(self, epoch: int) -> None:
        await asyncio.sleep(0)
        if not self.held:
            raise DeposedError(f"epoch {epoch} leads, this one is {self.epoch}")
        self.epoch = epoch + 1


class LossyStore(MemoryStore):
    """Loses one put: the request, or only its answer."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []
        """Keys in the order of their writes, with or without effect."""
        self.written: dict[str, int] = {}
        """Bytes by key, as often as they were written."""
        self.lose: int | None = None
        """Number of the put that is lost, counted from 1 for the next one."""
        self.performs = True
        """Whether that put has its effect all the same."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.puts.append(key)
        lost = False
        if self.lose is not None:
            self.lose -= 1
            lost = self.lose == 0
        if lost and not self.performs:
            raise StorageError(f"the request to put {key} was lost")
        etag = await super().put(key, data, if_absent=if_absent, if_match=if_match)
        self.written[key] = self.written.get(key, 0) + len(data)
        if lost:
            raise StorageError(f"the answer to putting {key} was lost")
        return etag
