"""The letters of a queue are read in small numbers, and a store for reading is for nothing else."""

import asyncio
from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import FileStore, MemoryStore
from mapreduce_operator.api import LetterState
from mapreduce_operator.cli import queue_reader
from mapreduce_operator.cli.queue_reader import QueueReader, ReadOnlyStore
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import StorageError, StoredObject
from tests.unit.cli.conftest import KEYS


class Counting(MemoryStore):
    """Knows how many letters were read, and fails to read some of them at first."""

    bodies = 0
    faults = 0

    async def get(self, key: str) -> StoredObject | None:
        if key.startswith(KEYS.letters):
            if self.faults:
                self.faults -= 1
                raise StorageError("503 Slow Down")
            self.bodies += 1
        return await super().get(key)


async def copied(store: FileStore) -> Counting:
    copy = Counting()
    async for key in store.list(KEYS.prefix):
        there = await store.get(key)
        assert there is not None
        await copy.put(key, there.data)
    return copy


async def test_bodies_are_read_when_their_turn_comes(
    store: FileStore, run: RunRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_reader, "AT_ONCE", 2)
    copy = await copied(store)

    def read() -> list[int]:
        with asyncio.Runner() as runner:
            letters = QueueReader(copy, run, runner, job_exists=True).letters()
            return [copy.bodies, *(copy.bodies for _ in letters)]

    assert await asyncio.to_thread(read) == [0, 2, 2, 4, 4, 5]


async def test_only_those_of_the_asked_state_are_read(store: FileStore, run: RunRef) -> None:
    copy = await copied(store)

    def read() -> list[str]:
        with asyncio.Runner() as runner:
            queue = QueueReader(copy, run, runner, job_exists=True)
            return [letter.id for letter, _ in queue.letters(LetterState.OPEN)]

    assert await asyncio.to_thread(read) == ["open"]
    assert copy.bodies == 1


async def test_one_fault_of_storage_is_not_one_of_the_whole(store: FileStore, run: RunRef) -> None:
    copy = await copied(store)
    copy.faults = 2

    def ids() -> list[str]:
        with asyncio.Runner() as runner:
            return [letter.id for letter, _ in QueueReader(copy, run, runner, job_exists=True).letters()]

    assert await asyncio.to_thread(ids) == ["aside", "again", "waits", "mended", "open"]


async def test_a_store_for_reading_refuses_writes(tmp_path: Path) -> None:
    there = FileStore(tmp_path)
    await there.put("a", b"1")
    store = ReadOnlyStore(there)

    with pytest.raises(PermissionError, match="b is not written"):
        await store.put("b", b"2")
    with pytest.raises(PermissionError, match="a are not deleted"):
        await store.delete(["a"])

    found = await store.get("a")
    assert found is not None
    assert ([key async for key in store.list("")], found.data) == (["a"], b"1")
    await there.close()
