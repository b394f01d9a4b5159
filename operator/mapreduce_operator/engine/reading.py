"""Reads one object of many: where storage fails now and then, a fault of one must not be one of the whole."""

import asyncio
from typing import Final

from mapreduce_operator.ports import ObjectStore, StorageError, StoredObject

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)


async def read(store: ObjectStore, key: str) -> StoredObject | None:
    """The object, or None where there is none. Raises StorageError when storage has failed for some seconds."""
    for pause in _PAUSES:
        try:
            return await store.get(key)
        except StorageError:
            await asyncio.sleep(pause)
    return await store.get(key)
