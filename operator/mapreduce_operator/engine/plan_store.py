"""The plan of a run in storage: shards of items, and their list."""

import asyncio
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator
from itertools import accumulate
from typing import Final

from mapreduce_operator.core.checkpoint import DamagedError, PlanInfo, digest, verified
from mapreduce_operator.core.names import StorageKeys
from mapreduce_operator.core.packing import PackingError
from mapreduce_operator.core.plan import (
    Planned,
    PlannedItem,
    ShardInfo,
    decode_shard,
    decode_shard_list,
    encode_shard_list,
    encode_shards,
)
from mapreduce_operator.engine.reading import read_checked
from mapreduce_operator.ports import ObjectStore, StorageError

_CACHED_SHARDS: Final = 4


class StoredPlan:
    """Reads the plan that a checkpoint names, and writes new ones. A few shards stay in memory.

    What reads raises DamagedError for what is damaged or gone, and StorageError.
    """

    def __init__(self, store: ObjectStore, keys: StorageKeys) -> None:
        self._store: Final = store
        self._keys: Final = keys
        self._info: PlanInfo | None = None
        self._list: tuple[ShardInfo, ...] | None = None
        self._ends: list[int] = []
        self._shards: OrderedDict[int, list[PlannedItem]] = OrderedDict()
        self._turn: Final = asyncio.Lock()
        self._failure: StorageError | None = None
        self._failures = 0

    def look_at(self, info: PlanInfo) -> None:
        """This is the plan from now on."""
        if self._info is None or self._info.sha256 != info.sha256:
            self._info, self._list = info, None
            self._shards.clear()

    async def write(self, planned: Planned) -> PlanInfo:
        """Writes a plan, which counts when a head names its list. Raises StorageError."""
        shards: list[ShardInfo] = []
        for number, (info, data) in enumerate(encode_shards(planned.items)):
            await self._store.put(self._keys.plan_shard(number, info.sha256), data)
            shards.append(info)
        data = encode_shard_list(shards)
        await self._store.put(self._keys.plan(digest(data)), data)
        return PlanInfo(
            len(planned.items),
            planned.duplicates,
            digest(data),
            input_sha256=planned.input_sha256,
            filtered_out=planned.filtered_out,
            out_of_range=planned.out_of_range,
        )

    async def ids(self) -> list[str]:
        """Ids of all items in plan order."""
        return [item.id async for item in self.items()]

    async def items(self) -> AsyncIterator[PlannedItem]:
        """All items in plan order."""
        for number in range(len(await self._shard_list())):
            for item in await self._shard(number):
                yield item

    async def item(self, position: int) -> PlannedItem:
        """One item."""
        await self._shard_list()
        number = bisect_right(self._ends, position)
        if number not in self._shards:
            await self._cache(number)
        self._shards.move_to_end(number)
        return self._shards[number][position - (self._ends[number - 1] if number else 0)]

    async def _cache(self, number: int) -> None:
        """Many items of a shard are asked for at the same time: one reads it for all, or fails for all."""
        failures = self._failures
        async with self._turn:
            if number in self._shards:
                return
            if self._failure is not None and self._failures != failures:
                raise self._failure
            try:
                shard = await self._shard(number)
            except StorageError as error:
                self._failure, self._failures = error, self._failures + 1
                raise
            while len(self._shards) >= _CACHED_SHARDS:
                self._shards.popitem(last=False)
            self._shards[number] = shard

    async def _shard_list(self) -> tuple[ShardInfo, ...]:
        if self._info is None:
            raise RuntimeError("the run has neither been planned nor loaded")
        if self._list is None:
            sha256, key = self._info.sha256, self._keys.plan(self._info.sha256)
            self._list = self._info.shards or await read_checked(
                self._store, key, lambda data: decode_shard_list(verified(data, sha256, key))
            )
            self._ends = list(accumulate(shard.items for shard in self._list))
        return self._list

    async def _shard(self, number: int) -> list[PlannedItem]:
        info = (await self._shard_list())[number]
        key = self._keys.plan_shard(number, info.sha256)
        try:
            return await read_checked(self._store, key, lambda data: decode_shard(verified(data, info.sha256, key)))
        except PackingError as error:
            raise DamagedError(f"{key} cannot be unpacked: {error}") from error
