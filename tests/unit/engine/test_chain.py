"""The chain of segments is read from its end to its begin, however long it is and whatever lies beside it."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import Phase
from mapreduce_operator.core.checkpoint import CommitReason, DamagedError, JournalError, digest
from mapreduce_operator.core.journal import Record, SegmentHeader, encode_segment
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.engine.chain import all_segments, list_segments, segments_backwards, sequence_of
from mapreduce_operator.ports import StorageError, StoredObject
from tests.unit.engine.parts import NOW
from tests.unit.engine.test_journal import failed

pytestmark = pytest.mark.looptime

KEYS = StorageKeys(RunRef("default", "demo", "run-1"))


class SlowStore(MemoryStore):
    """Answers after a while, and knows what was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.lists = 0
        self.damaged_answers: dict[str, int] = {}
        """How many answers are damaged on their way, by key."""
        self.faults: dict[str, int] = {}
        """How many requests fail, by key."""

    async def get(self, key: str) -> StoredObject | None:
        self.got.append(key)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0.05)
        self.in_flight -= 1
        if self.faults.get(key, 0):
            self.faults[key] -= 1
            raise StorageError("slow down")
        stored = await super().get(key)
        if stored is not None and self.damaged_answers.get(key, 0):
            self.damaged_answers[key] -= 1
            return StoredObject(stored.data[:-1], stored.etag)
        return stored

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        self.lists += 1
        async for key in super().list(prefix):
            yield key


async def chain(
    store: MemoryStore, numbers: list[int], *, after: tuple[int, str] = (0, ""), epoch: int = 1
) -> tuple[int, str]:
    """Segments with these numbers, each after the one before it; returns number and hash of the last one."""
    previous, sha256 = after
    for number in numbers:
        header = SegmentHeader(
            number,
            sha256,
            Phase.MAP,
            NOW,
            CommitReason.ITEMS,
            previous=None if previous == number - 1 else previous,
            epoch=epoch,
            count=1,
        )
        data = encode_segment(header, [record(number, epoch)])
        previous, sha256 = number, digest(data)
        await store.put(KEYS.segment(number, sha256), data)
    return previous, sha256


def record(number: int, epoch: int = 1) -> Record:
    return failed(f"item-{number}", epoch)


async def numbers(store: MemoryStore, end: tuple[int, str], down_to: int = 0) -> list[int]:
    """Numbers of the chain that ends there, with all of them being what was written."""
    found = []
    async for segment in segments_backwards(store, KEYS, *end, down_to=down_to):
        assert segment.records == [record(segment.header.sequence, segment.header.epoch)]
        found.append(segment.header.sequence)
    return found


def key_of(store: MemoryStore, number: int) -> str:
    (key,) = [key for key in store.objects if key.startswith(f"{KEYS.segments}{number:010d}-")]
    return key


# ------------------------------------------------------------------------------------------------------- how it is read


@pytest.mark.parametrize("length", [0, 1, 8, 9, 16, 17, 60])
async def test_a_chain_is_read_from_the_newest_to_the_first(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))

    assert await numbers(store, end) == list(range(length, 0, -1))
    assert len(store.got) == len(set(store.got)) == length, "each of them once"


@pytest.mark.parametrize("length", [12, 60])
async def test_what_a_snapshot_covers_is_not_read(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))

    assert await numbers(store, end, down_to=length - 10) == list(range(length, length - 10, -1))
    assert len(store.got) == 10


async def test_a_short_chain_costs_no_list() -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, 9)))

    await numbers(store, end)

    assert (store.lists, store.most_in_flight) == (0, 1)


async def test_a_long_chain_is_read_ahead_and_never_too_much_of_it_at_once() -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, 101)))
    before = asyncio.get_running_loop().time()

    await numbers(store, end)

    assert asyncio.get_running_loop().time() - before < 100 * 0.05 / 8
    assert store.lists == 1
    assert 8 <= store.most_in_flight <= 16


async def test_what_nobody_asks_for_any_more_is_not_read() -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, 101)))

    async for segment in segments_backwards(store, KEYS, *end):
        if segment.header.sequence == 95:
            break

    assert len(store.got) <= 16


# ------------------------------------------------------------------------------------------------- what lies beside it


@pytest.mark.parametrize("length", [3, 40])
async def test_a_run_that_went_back_goes_on_from_there(length: int) -> None:
    store = SlowStore()
    restored = await chain(store, [1, 2])
    await chain(store, list(range(3, length)), after=restored)
    end = await chain(store, list(range(length, length + length)), after=restored)

    assert await numbers(store, end) == [*range(2 * length - 1, length - 1, -1), 2, 1]


async def test_a_run_that_begins_anew_does_not_lead_back_to_its_first_course() -> None:
    store = SlowStore()
    await chain(store, list(range(1, 31)))
    end = await chain(store, list(range(31, 61)))

    assert await numbers(store, end) == list(range(60, 30, -1))


@pytest.mark.parametrize("length", [4, 40])
async def test_what_a_deposed_leader_wrote_under_the_same_number_is_not_read_as_ours(length: int) -> None:
    store = SlowStore()
    common = await chain(store, [1, 2])
    await chain(store, list(range(3, length + 5)), after=common, epoch=1)
    end = await chain(store, list(range(3, length + 1)), after=common, epoch=2)

    found = [segment.header.epoch async for segment in segments_backwards(store, KEYS, *end)]

    assert found == [2] * (length - 2) + [1, 1]


async def test_a_chain_that_misses_the_snapshot_is_told() -> None:
    store = SlowStore()
    restored = await chain(store, [1, 2])
    end = await chain(store, [9], after=restored)

    with pytest.raises(JournalError, match=r"do not lead to its snapshot, number 5"):
        await numbers(store, end, down_to=5)


async def test_all_segments_are_listed_by_their_numbers_whether_they_count_or_not() -> None:
    store = MemoryStore()
    await chain(store, [1, 2])
    await chain(store, [2], epoch=2)
    await store.put(KEYS.snapshot(2, "ab" * 32), b"{}")

    found = await list_segments(store, KEYS)

    assert {number: len(keys) for number, keys in found.items()} == {1: 1, 2: 2}


@pytest.mark.parametrize(
    ("name", "number"), [("0000000012-abcdef.jsonl", 12), ("x-abcdef.jsonl", 0), ("", 0), ("-1-abcdef.jsonl", 0)]
)
def test_what_has_no_number_has_the_number_0(name: str, number: int) -> None:
    assert sequence_of(KEYS.segments, KEYS.segments + name) == number


# --------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("length", [3, 40])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_segment_that_is_damaged_is_told_after_it_was_read_twice(length: int, number: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))
    key = key_of(store, number)
    store.objects[key] = store.objects[key].replace(b"boom", b"bong")

    with pytest.raises(DamagedError, match=f"^{key} is damaged: its SHA-256 is not "):
        await numbers(store, end)
    assert store.got.count(key) >= 2


async def test_of_all_segments_a_damaged_one_tells_what_is_left_of_it() -> None:
    store = SlowStore()
    await chain(store, [1, 2, 3])
    whole = [segment.records async for segment in all_segments(store, KEYS)]
    key = key_of(store, 2)
    store.objects[key] = store.objects[key][:-3]

    assert [segment.records async for segment in all_segments(store, KEYS)] == whole


@pytest.mark.parametrize("length", [3, 40])
async def test_a_segment_that_is_missing_is_told(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))
    key = key_of(store, 2)
    del store.objects[key]

    with pytest.raises(DamagedError, match=f"^{key} is missing$"):
        await numbers(store, end)


@pytest.mark.parametrize("length", [3, 40])
async def test_an_answer_that_is_damaged_on_its_way_is_asked_for_again(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))
    store.damaged_answers = {key_of(store, number): 1 for number in range(1, length + 1)}

    assert await numbers(store, end) == list(range(length, 0, -1))


@pytest.mark.parametrize("length", [3, 40])
async def test_storage_that_fails_now_and_then_is_asked_again(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))
    store.faults = {key_of(store, 2): 3, key_of(store, length): 2}

    assert await numbers(store, end) == list(range(length, 0, -1))


@pytest.mark.parametrize("length", [3, 40])
async def test_storage_that_is_away_is_no_damage(length: int) -> None:
    store = SlowStore()
    end = await chain(store, list(range(1, length + 1)))
    store.faults = {key_of(store, 2): 100}

    with pytest.raises(StorageError, match="slow down"):
        await numbers(store, end)
