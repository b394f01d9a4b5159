"""Reading one object of many."""

import asyncio

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.engine.reading import read
from mapreduce_operator.ports import StorageError, StoredObject

pytestmark = pytest.mark.looptime


class Failing(MemoryStore):
    """Fails as often as it is told to, each time after so many seconds."""

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.left = list(seconds)

    async def get(self, key: str) -> StoredObject | None:
        if self.left:
            await asyncio.sleep(self.left.pop(0))
            raise StorageError("the connection broke before the answer")
        return await super().get(key)


@pytest.mark.parametrize("seconds", [(0, 0, 0, 0), (10,), (0, 10, 0, 0)], ids=str)
async def test_a_fault_now_and_then_is_none_of_the_whole(seconds: tuple[float, ...]) -> None:
    store = Failing(*seconds)
    await store.put("words", b"MIT")

    found = await read(store, "words")

    assert found is not None
    assert found.data == b"MIT"


@pytest.mark.parametrize("seconds", [(0, 0, 0, 0, 0), (10, 10), (0, 10, 0, 10)], ids=str)
async def test_storage_that_is_away_or_hangs_is_not_asked_for_ever(seconds: tuple[float, ...]) -> None:
    store = Failing(*seconds)

    with pytest.raises(StorageError, match="before the answer"):
        await read(store, "words")

    assert not store.left
