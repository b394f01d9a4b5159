"""Reads one object of many: where storage fails now and then, a fault of one must not be one of the whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import islice
from typing import Final, TypeVar

from mapreduce_operator.core.checkpoint import DamagedError
from mapreduce_operator.core.letters import Letter, LetterError, decode_letter
from mapreduce_operator.core.names import StorageKeys
from mapreduce_operator.ports import ObjectStore, StorageError, StoredObject

T = TypeVar("T")

_AT_ONCE: Final = 8
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
_LONG_SECONDS: Final = 5.0
"""Storage that hangs so long is asked once more, and then no more: whoever reads has waited long enough to say so."""


async def read(store: ObjectStore, key: str) -> StoredObject | None:
    """The object, or None where there is none. Raises StorageError after five failures, or two waits in vain."""
    return await patiently(lambda: store.get(key))


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """One of many calls that may be made again. Raises StorageError after five failures, or two waits in vain.

    One answer that never comes must not end a reading of hundreds of objects, which would begin anew with the first.
    """
    clock, hung = asyncio.get_running_loop(), False
    for pause in _PAUSES:
        began = clock.time()
        try:
            return await call()
        except StorageError:
            hangs = clock.time() - began > _LONG_SECONDS
            if hung and hangs:
                raise
            hung = hung or hangs
            await asyncio.sleep(pause)
    return await call()


async def read_checked(store: ObjectStore, key: str, decode: Callable[[bytes], T]) -> T:
    """What an object holds. What looks damaged is read once more: the answer may have been, and not the object.

    Raises DamagedError for an object that is damaged or missing, StorageError, and what `decode` raises.
    """
    for last in (False, True):
        stored = await read(store, key)
        if stored is None:
            raise DamagedError(f"{key} is missing")
        try:
            return decode(stored.data)
        except DamagedError:
            if last:
                raise
    raise AssertionError


async def read_letter(store: ObjectStore, keys: StorageKeys, key: str) -> Letter | None:
    """The letter of an item, or None where there is none. Raises StorageError, LetterError."""
    where = keys.letter(key)
    stored = await read(store, where)
    return None if stored is None else decode_letter(stored.data, where)


async def letters_in(store: ObjectStore, keys: StorageKeys) -> list[str]:
    """Keys of the items of which there are letters in storage. Raises StorageError."""
    return [key.removeprefix(keys.letters).removesuffix(".json") async for key in store.list(keys.letters)]


async def read_letters(
    store: ObjectStore, keys: StorageKeys, items: Iterable[str]
) -> AsyncIterator[tuple[str, Letter | LetterError | None]]:
    """Each of these items, by key, with its letter, with None for none, or why it cannot be read.

    A few of them are read, and held, at the same time. Raises StorageError.
    """

    async def read_one(key: str) -> tuple[str, Letter | LetterError | None]:
        try:
            return key, await read_letter(store, keys, key)
        except LetterError as error:
            return key, error

    ahead = iter(items)
    while some := list(islice(ahead, _AT_ONCE)):
        for one in await asyncio.gather(*map(read_one, some)):
            yield one
            # What is asked of each letter, in CEL, may take its time; all others get theirs in between.
            await asyncio.sleep(0)
