"""Whether all that a checkpoint needs is there and whole: its plan, its segments, its snapshot, and what was run.

Unlike a load, which ends at the first fault, this goes on behind it. What several checkpoints need is read once.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from mapreduce_operator.core.checkpoint import Checkpoint, DamagedError, JournalError, PlanInfo, verified
from mapreduce_operator.core.journal import Segment, decode_segment, salvage
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.packing import PackingError
from mapreduce_operator.core.plan import ShardInfo, decode_shard, decode_shard_list
from mapreduce_operator.core.snapshot import decode_snapshot
from mapreduce_operator.core.texts import counted
from mapreduce_operator.core.validation import violations
from mapreduce_operator.engine.reading import read, read_checked
from mapreduce_operator.serving.pictures import Pictures, Place


class Audit:
    """Of the checkpoints of one run. Raises StorageError where storage does not answer."""

    def __init__(self, pictures: Pictures, run: RunRef) -> None:
        self._pictures: Final = pictures
        self._store: Final = pictures.store
        self._run: Final = run
        self._keys: Final = StorageKeys(run)
        self._objects: Final[dict[str, list[str]]] = {}
        """What is wrong with an object, by its key."""
        self._chains: Final[dict[Place, list[str]]] = {}
        """What is wrong with a segment and those before it."""

    async def problems(self, checkpoint: Checkpoint) -> list[str]:
        """All that is wrong, a sentence each."""
        found = [
            *await self._plan(checkpoint.plan),
            *await self._segments((checkpoint.sequence, checkpoint.tail_sha256)),
            *await self._snapshot(checkpoint),
            *await self._spec(checkpoint),
        ]
        return found or await self._contradictions(checkpoint)

    async def _object(self, key: str, check: Callable[[bytes], object]) -> list[str]:
        if key not in self._objects:
            try:
                await read_checked(self._store, key, check)
            except (JournalError, PackingError) as error:
                self._objects[key] = [str(error)]
            else:
                self._objects[key] = []
        return self._objects[key]

    async def _plan(self, plan: PlanInfo) -> list[str]:
        shards, key = plan.shards, self._keys.plan(plan.sha256)
        if not shards:
            try:
                shards = await read_checked(
                    self._store, key, lambda data: decode_shard_list(verified(data, plan.sha256, key))
                )
            except JournalError as error:
                return [str(error)]
        found: list[str] = []
        for number, shard in enumerate(shards):
            key = self._keys.plan_shard(number, shard.sha256)
            found += await self._object(key, partial(_check_shard, shard=shard, key=key))
        if (planned := sum(shard.items for shard in shards)) != plan.items:
            found.append(f"the checkpoint has {counted(plan.items, 'item')}, and its plan {planned:,}")
        return found

    async def _segments(self, place: Place) -> list[str]:
        path: list[tuple[Place, list[str]]] = []
        while place[0] and place not in self._chains:
            problems, before = await self._segment(place)
            path.append((place, problems))
            place = before
        found = self._chains.get(place, [])
        for passed, problems in reversed(path):
            found = self._chains[passed] = [*found, *problems] if problems else found
        return found

    async def _segment(self, place: Place) -> tuple[list[str], Place]:
        """What is wrong with one segment, and the place of the one before it."""
        key = self._keys.segment(*place)
        try:
            segment = await read_checked(
                self._store, key, partial(decode_segment, expected_sha256=place[1], where=key, results=False)
            )
        except JournalError as error:
            stored = await read(self._store, key)
            before = salvage(stored.data).before if stored is not None else None
            if before is None:
                return [f"{error}; which segments came before it cannot be told"], (0, "")
            return [str(error)], before
        return list(_wrong(segment, place, key)), (segment.header.before, segment.header.previous_sha256)

    async def _snapshot(self, checkpoint: Checkpoint) -> list[str]:
        info = checkpoint.snapshot
        if info is None:
            return []
        key = self._keys.snapshot(info.sequence, info.sha256)
        return await self._object(key, partial(decode_snapshot, expected_sha256=info.sha256, where=key))

    async def _spec(self, checkpoint: Checkpoint) -> list[str]:
        sha256 = checkpoint.spec_sha256
        if not sha256:
            return []
        key = self._keys.spec(sha256)
        return await self._object(key, lambda data: verified(data, sha256, key))

    async def _contradictions(self, checkpoint: Checkpoint) -> list[str]:
        try:
            picture = await self._pictures.of(self._run, checkpoint)
        except JournalError as error:
            return [str(error)]
        return violations(picture.books, checkpoint.phase, checkpoint.counts)


def _check_shard(data: bytes, shard: ShardInfo, key: str) -> None:
    items = len(decode_shard(verified(data, shard.sha256, key)))
    if items != shard.items:
        raise DamagedError(f"{key} has {counted(items, 'item')}, and the plan tells of {shard.items:,}")


def _wrong(segment: Segment, place: Place, key: str) -> Iterator[str]:
    header = segment.header
    if header.sequence != place[0]:
        yield f"{key} says that its number is {header.sequence}"
    # Version 1 did not count.
    if header.count not in {0, len(segment.records)}:
        yield f"{key} has {counted(len(segment.records), 'record')}, and says that it has {header.count:,}"
