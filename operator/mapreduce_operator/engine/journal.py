"""Reads and writes what makes a run durable. The order of writes is the point of this module:

plan shards, then the head (create-only); later a segment, from time to time a snapshot, then the head
(compare-and-swap). Whatever is interrupted between two of these leaves the head on the last state that is whole.

Who leads puts the epoch of his leadership into the head before anything else. A former leader that knows nothing of it
holds a version of the head that is not there any more, so that whatever it still writes does not count.
"""

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from mapreduce_operator.api import Phase
from mapreduce_operator.core import journal as codec
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.journal import (
    Head,
    JournalError,
    PlanInfo,
    Record,
    Segment,
    SegmentHeader,
    SnapshotInfo,
)
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.plan import Planned, PlannedItem, ShardInfo, decode_shard, encode_shards, plan_hash
from mapreduce_operator.core.snapshot import Snapshot, decode_snapshot, encode_snapshot
from mapreduce_operator.engine.reading import read
from mapreduce_operator.ports import Clock, DeposedError, Leadership, ObjectStore, StorageConflictError

log = logging.getLogger(__name__)

_CACHED_SHARDS: Final = 4
_CLAIMS: Final = 10
_SNAPSHOT_AFTER: Final = 1 << 18
"""Bytes of segments that are read at a load rather than covered by a snapshot."""


class Journal:
    """The durable side of one run. `head` is what the last successful write or load made of it."""

    def __init__(self, store: ObjectStore, run: RunRef, clock: Clock, leadership: Leadership) -> None:
        self._store: Final = store
        self._run: Final = run
        self._clock: Final = clock
        self._leadership: Final = leadership
        self._keys: Final = StorageKeys(run)
        self._etag = ""
        self._head: Head | None = None
        self._ends: list[int] = []
        self._shards: OrderedDict[int, list[PlannedItem]] = OrderedDict()

    @property
    def head(self) -> Head:
        if self._head is None:
            raise RuntimeError("the run has neither been planned nor loaded")
        return self._head

    @property
    def snapshot_due(self) -> bool:
        """So much was written since the last snapshot that another one costs no more than that."""
        last = self.head.snapshot
        since = self.head.journal_size - (last.journal_size if last else 0)
        return since >= max(_SNAPSHOT_AFTER, last.size if last else 0)

    async def peek(self) -> Head | None:
        """The committed point of the run, for reading alone, or None when it was never planned.

        Whoever leads is not disturbed and goes on. Raises JournalError when it is damaged.
        """
        found = await self._stored_head()
        if found is None:
            return None
        self._take(found[0], "")
        return found[0]

    async def load(self) -> Head | None:
        """The committed point of the run, which is ours from now on, or None when it was never planned.

        Raises JournalError when it is damaged, DeposedError when a later leader has it.
        """
        for _ in range(_CLAIMS):
            found = await self._stored_head()
            if found is None:
                return None
            head, etag = found
            if head.epoch > self._leadership.epoch:
                await self._leadership.surpass(head.epoch)
            if head.epoch == self._leadership.epoch:
                self._take(head, etag)
                return head
            ours = msgspec.structs.replace(head, epoch=self._leadership.epoch)
            try:
                etag = await self._store.put(self._keys.head, codec.encode_head(ours), if_match=etag)
            except StorageConflictError:
                log.info("%s moved while it was claimed: the former leader was at work until now", self._keys.head)
            else:
                self._take(ours, etag)
                return ours
        raise DeposedError(f"{self._keys.head} could not be claimed: somebody else moves it again and again")

    async def _stored_head(self) -> tuple[Head, str] | None:
        """The head as it stands there, and its etag."""
        stored = await self._store.get(self._keys.head)
        if stored is None:
            return None
        head = codec.decode_head(stored.data, self._keys.head)
        if head.run_uid != self._run.uid:
            raise JournalError(f"{self._keys.head} belongs to the run {head.run_uid}, not to {self._run.uid}")
        return head, stored.etag

    async def create(self, planned: Planned) -> Head:
        """Makes a plan durable. Nothing may be dispatched before this returns."""
        shards: list[ShardInfo] = []
        for number, (info, data) in enumerate(encode_shards(planned.items)):
            await self._store.put(self._keys.plan_shard(number, info.sha256), data)
            shards.append(info)
        now = self._clock.now()
        head = Head(
            schema_version=codec.SCHEMA_VERSION,
            run_uid=self._run.uid,
            phase=Phase.MAP,
            phase_reason="Planned",
            phase_message=f"{len(planned.items):,} items are planned",
            plan=PlanInfo(
                items=len(planned.items), duplicates=planned.duplicates, sha256=plan_hash(shards), shards=shards
            ),
            epoch=self._leadership.epoch,
            started_at=now,
            turned_at=now,
            committed_at=now,
            reason=codec.CommitReason.PHASE_CHANGE,
        )
        try:
            self._take(head, await self._store.put(self._keys.head, codec.encode_head(head), if_absent=True))
        except StorageConflictError:
            # Our own write, whose answer was lost, or the plan of a former leader that came just before.
            planned_before = await self.load()
            if planned_before is None:
                raise
            return planned_before
        return head

    async def append(self, batch: Batch) -> Head:
        """Makes a batch durable: its records in a segment, then the head that counts it.

        Raises StorageError when nothing is known to be written, and the same batch may be given again; raises
        DeposedError when another leader has moved the head.
        """
        before = self.head
        if not self._etag:
            raise RuntimeError(f"{self._keys.head} was only peeked at; what was not loaded cannot be moved")
        sequence = before.sequence + 1
        header = SegmentHeader(
            sequence,
            before.tail_sha256,
            batch.turn.phase,
            batch.at,
            batch.reason,
            starts=batch.starts,
            redrives=batch.redrives,
            claims=batch.claims,
            marks=batch.marks,
            called_off=batch.called_off,
            given_back=batch.given_back,
        )
        data = codec.encode_segment(header, batch.records)
        sha256 = codec.digest(data)
        await self._store.put(self._keys.segment(sequence, sha256), data)
        journal_size = before.journal_size + len(data)
        head = msgspec.structs.replace(
            before,
            phase=batch.turn.phase,
            phase_reason=batch.turn.reason,
            phase_message=batch.turn.message,
            sequence=sequence,
            tail_sha256=sha256,
            journal_size=journal_size,
            snapshot=await self._write(batch.snapshot, sequence, journal_size) if batch.snapshot else before.snapshot,
            epoch=self._leadership.epoch,
            turned_at=before.turned_at if batch.turn.phase is before.phase else batch.at,
            committed_at=batch.at,
            reason=batch.reason,
            breaker=batch.breaker,
        )
        self._take(head, await self._swap(head))
        return head

    async def _write(self, snapshot: Snapshot, sequence: int, journal_size: int) -> SnapshotInfo:
        data = encode_snapshot(snapshot)
        sha256 = codec.digest(data)
        await self._store.put(self._keys.snapshot(sequence, sha256), data)
        return SnapshotInfo(sequence, sha256, len(data), journal_size)

    async def _swap(self, head: Head) -> str:
        """Moves the head. A swap whose answer was lost looks like one that was lost to another: the content tells."""
        data = codec.encode_head(head)
        try:
            return await self._store.put(self._keys.head, data, if_match=self._etag)
        except StorageConflictError as error:
            stored = await self._store.get(self._keys.head)
            if stored is not None and stored.data == data:
                return stored.etag
            raise DeposedError(f"{self._keys.head} was moved by another operator: {error}") from error

    def _take(self, head: Head, etag: str) -> None:
        if self._head is None:
            self._ends = list(accumulate(shard.items for shard in head.plan.shards))
        self._head, self._etag = head, etag

    async def ids(self) -> list[str]:
        """Ids of all items in plan order."""
        names: list[str] = []
        for number in range(len(self.head.plan.shards)):
            names += [item.id for item in await self._shard(number)]
        return names

    async def planned_item(self, position: int) -> PlannedItem:
        """One item of the plan; a few shards stay in memory."""
        number = bisect_right(self._ends, position)
        shard = self._shards.get(number)
        if shard is None:
            shard = self._shards[number] = await self._shard(number)
            while len(self._shards) > _CACHED_SHARDS:
                self._shards.popitem(last=False)
        else:
            self._shards.move_to_end(number)
        return shard[position - (self._ends[number - 1] if number else 0)]

    async def _shard(self, number: int) -> list[PlannedItem]:
        info = self.head.plan.shards[number]
        key = self._keys.plan_shard(number, info.sha256)
        return decode_shard(codec.verified(await self._read(key), info.sha256, key))

    async def _segments_backwards(self, down_to: int = 0) -> AsyncIterator[Segment]:
        """Committed segments, the newest first, since each knows the hash of the one before it."""
        sequence, sha256 = self.head.sequence, self.head.tail_sha256
        while sequence > down_to:
            key = self._keys.segment(sequence, sha256)
            segment = codec.decode_segment(await self._read(key), sha256, key)
            yield segment
            sequence, sha256 = sequence - 1, segment.header.previous_sha256

    async def history(self) -> tuple[Snapshot | None, list[Segment]]:
        """What was committed: the last snapshot, and the segments after it in their order.

        Without the results, which would be most of the memory. A snapshot that is damaged or missing is done without.
        """
        snapshot = await self._snapshot()
        covered = self.head.snapshot.sequence if self.head.snapshot and snapshot else 0
        segments = [
            Segment(segment.header, [record.without_result() for record in segment.records])
            async for segment in self._segments_backwards(down_to=covered)
        ]
        return snapshot, segments[::-1]

    async def _snapshot(self) -> Snapshot | None:
        info = self.head.snapshot
        if info is None:
            return None
        key = self._keys.snapshot(info.sequence, info.sha256)
        try:
            return decode_snapshot(await self._read(key), info.sha256, key)
        except JournalError as error:
            log.warning("%s; the whole journal is read instead", error)
            return None

    async def last_records(self, keys: Sequence[str]) -> list[Record]:
        """The last committed record of each of these items, in their order."""
        last: dict[str, Record] = {}
        async for segment in self._segments_backwards():
            for record in reversed(segment.records):
                last.setdefault(record.outcome.dispatch.item_key, record)
        return [last[key] for key in keys]

    async def _read(self, key: str) -> bytes:
        stored = await read(self._store, key)
        if stored is None:
            raise JournalError(f"{key} is missing; the head of the run says that it was written")
        return stored.data

    async def delete_all(self, stays: Callable[[str], bool] = lambda _: False) -> None:
        """Deletes everything of the run whose key does not stay, the head first: without it nothing else counts."""
        await self._store.delete([self._keys.head])
        keys = [key async for key in self._store.list(self._keys.prefix)]
        await self._store.delete(key for key in keys if not stays(key))
