"""Stores that lack something are found out, and asking costs little."""

import asyncio
from collections.abc import AsyncGenerator, Iterable

import pytest

from mapreduce_operator.adapters.storage import MemoryStore
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason, StoredObject


class CountingStore(MemoryStore):
    """Counts writes, and fails as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.down = False

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.puts += 1
        if self.down:
            await asyncio.sleep(1)
            raise StorageError(f"no answer to put {self.puts}")
        return await super().put(key, data, if_absent=if_absent, if_match=if_match)


class IgnoresIfAbsent(MemoryStore):
    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        del if_absent
        return await super().put(key, data, if_match=if_match)


class IgnoresIfMatch(MemoryStore):
    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        del if_match
        return await super().put(key, data, if_absent=if_absent)


class NeverMatches(MemoryStore):
    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        return await super().put(key, data, if_absent=if_absent, if_match=if_match and "other")


class ForgetsWrites(MemoryStore):
    async def get(self, key: str) -> StoredObject | None:
        await super().get(key)
        return None


class ListsLate(MemoryStore):
    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        async for key in super().list(f"{prefix}as-of-yesterday/"):
            yield key


class KeepsDeleted(MemoryStore):
    async def delete(self, keys: Iterable[str]) -> None:
        del keys
        await super().delete([])


class LosesAnswers(MemoryStore):
    """Every swap goes through and is sent a second time, as after an answer that was lost."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        etag = await super().put(key, data, if_absent=if_absent, if_match=if_match)
        return etag if if_match is None else await super().put(key, data, if_match=if_match)


async def test_a_store_that_does_all_is_suitable_and_stays_as_it_was() -> None:
    store = MemoryStore()
    await store.put("team/job/uid/head.json", b"{}")

    await Suitability(store, "one").check()

    assert store.objects == {"team/job/uid/head.json": b"{}"}


@pytest.mark.parametrize(
    ("store", "fault"),
    [
        (IgnoresIfAbsent(), "two operators could write over each other"),
        (IgnoresIfMatch(), "two operators could write over each other"),
        (NeverMatches(), "refuses to replace the very version that is there"),
        (ForgetsWrites(), "does not give back what was just written"),
        (ListsLate(), "does not list what was just written"),
        (KeepsDeleted(), "keeps what was deleted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, MemoryStore) else "",
)
async def test_what_a_store_lacks_is_said_with_a_cure(store: MemoryStore, fault: str) -> None:
    with pytest.raises(StorageError, match=fault) as refused:
        await Suitability(store, "one").check()

    assert refused.value.reason is StorageErrorReason.UNSUITABLE
    assert "Use a service that" in str(refused.value)


async def test_the_object_is_deleted_whatever_the_verdict() -> None:
    store = IgnoresIfAbsent()

    with pytest.raises(StorageError):
        await Suitability(store, "one").check()

    assert store.objects == {}


async def test_a_swap_whose_answer_was_lost_is_no_fault() -> None:
    store = LosesAnswers()
    etag = await store.put("other", b"one")
    with pytest.raises(StorageConflictError):
        await store.put("other", b"two", if_match=etag)

    await Suitability(store, "one").check()


async def test_what_an_earlier_process_left_behind_does_no_harm() -> None:
    store = MemoryStore()
    await store.put("_probe/one", b"sixth")

    await Suitability(store, "one").check()


async def test_processes_that_ask_at_the_same_time_do_not_meet() -> None:
    store = MemoryStore()

    await asyncio.gather(*(Suitability(store, f"process-{number}").check() for number in range(8)))

    assert store.objects == {}


async def test_a_good_answer_is_remembered_and_shared() -> None:
    store = CountingStore()
    suitability = Suitability(store, "one")
    await Suitability(store, "other").check()
    puts_of_one_check = store.puts

    await asyncio.gather(*(suitability.check() for _ in range(20)))
    await suitability.check()

    assert store.puts == 2 * puts_of_one_check


@pytest.mark.looptime
async def test_a_failure_is_shared_by_those_who_wait_and_forgotten_by_the_next() -> None:
    store = CountingStore()
    suitability = Suitability(store, "one")
    store.down = True

    ends = await asyncio.gather(*(suitability.check() for _ in range(20)), return_exceptions=True)

    assert {str(end) for end in ends} == {"no answer to put 1"}
    assert asyncio.get_running_loop().time() < 2
    with pytest.raises(StorageError, match="no answer to put 2"):
        await suitability.check()
    store.down = False
    await suitability.check()


@pytest.mark.looptime
async def test_whoever_goes_away_takes_nothing_from_those_who_wait() -> None:
    store = CountingStore()
    store.down = True
    suitability = Suitability(store, "one")
    first, second = (asyncio.ensure_future(suitability.check()) for _ in range(2))
    await asyncio.sleep(0.5)
    store.down = False

    first.cancel()

    await second
    assert first.cancelled()
    assert store.objects == {}
