"""Reads the segments of a run from the newest back to the first, since each knows the hash of the one before it.

A long chain is read several segments at a time: storage lists their keys, and the hashes say which of them count.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

from mapreduce_operator.core.checkpoint import DamagedError, JournalError, digest
from mapreduce_operator.core.journal import Salvaged, Segment, decode_segment, salvage
from mapreduce_operator.core.names import StorageKeys
from mapreduce_operator.engine.reading import read, read_checked
from mapreduce_operator.ports import ObjectStore

_FEW: Final = 8
"""So many segments are read one after another, which saves the list."""
_AHEAD: Final = 16
"""A segment holds up to 500 outcomes with a result of 4 KiB each, and some of them."""


async def segments_backwards(
    store: ObjectStore, keys: StorageKeys, sequence: int, sha256: str, *, down_to: int = 0, results: bool = True
) -> AsyncIterator[Segment]:
    """The chain of segments that ends in this one, the newest first, without the one whose number is `down_to`.

    Without `results`, those of the map are left out. Raises DamagedError, JournalError, StorageError.
    """
    listed = await list_segments(store, keys) if sequence - down_to > _FEW else {}
    ahead: dict[str, bytes] = {}
    while sequence != down_to:
        if sequence < down_to:
            raise JournalError(f"the segments of {keys.prefix} do not lead to its snapshot, number {down_to}")
        key = keys.segment(sequence, sha256)
        if key not in ahead and listed:
            ahead = await _read_ahead(store, [key for one in _window(sequence, down_to) for key in listed[one]])
        decode = partial(decode_segment, expected_sha256=sha256, where=key, results=results)
        segment = await _segment(store, key, decode, ahead.pop(key, None))
        yield segment
        sequence, sha256 = segment.header.before, segment.header.previous_sha256


async def list_segments(store: ObjectStore, keys: StorageKeys) -> defaultdict[int, list[str]]:
    """Keys of all segments by number, whether they count or not."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    async for key in store.list(keys.segments):
        found[sequence_of(keys.segments, key)].append(key)
    return found


async def all_segments(store: ObjectStore, keys: StorageKeys) -> AsyncIterator[Segment | Salvaged]:
    """All segments by number, whether they count or not, without results; what is left of those that are damaged."""
    async for key, data in objects_above(store, keys, 0):
        sha256 = whole_hash(data, key)
        yield salvage(data) if sha256 is None else decode_segment(data, sha256, key, results=False)


async def objects_above(store: ObjectStore, keys: StorageKeys, sequence: int) -> AsyncIterator[tuple[str, bytes]]:
    """Keys and content of the segments with a greater number, by number, whether they count or not."""
    numbers = await list_segments(store, keys)
    listed = [key for number in sorted(numbers) if number > sequence for key in numbers[number]]
    for first in range(0, len(listed), _AHEAD):
        for found in (await _read_ahead(store, listed[first : first + _AHEAD])).items():
            yield found


def sequence_of(prefix: str, key: str) -> int:
    """The number in the key of a segment or checkpoint; 0 for what is none."""
    number = key.removeprefix(prefix).partition("-")[0]
    return int(number) if number.isdecimal() else 0


def hash_in(key: str) -> str:
    """The part of the hash of an object that stands in its key, which is enough to find it."""
    return key.rpartition("/")[2].rpartition("-")[2].partition(".")[0]


def whole_hash(data: bytes, key: str) -> str | None:
    """The hash of an object that holds what its key tells of; None for one that is damaged."""
    sha256 = digest(data)
    return sha256 if sha256.startswith(hash_in(key)) else None


def _window(sequence: int, down_to: int) -> range:
    return range(sequence, max(down_to, sequence - _AHEAD), -1)


async def _read_ahead(store: ObjectStore, some: Sequence[str]) -> dict[str, bytes]:
    found = await asyncio.gather(*(read(store, key) for key in some))
    return {key: stored.data for key, stored in zip(some, found, strict=True) if stored is not None}


async def _segment(store: ObjectStore, key: str, decode: Callable[[bytes], Segment], data: bytes | None) -> Segment:
    if data is not None:
        try:
            return decode(data)
        except DamagedError:
            # The answer may be damaged, and not the object.
            pass
    return await read_checked(store, key, decode)
