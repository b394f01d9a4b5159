"""Reads and writes what makes a run durable. The order of writes is the point of this module:

shards of the plan, their list, then the head (create-only); later segments, from time to time a snapshot, then the
head (compare-and-swap). Whatever is interrupted between two of these leaves the head on the last state that is whole.
The object that keeps a checkpoint comes after the head, so that there is none of a checkpoint that never counted.

Who leads puts the epoch of his leadership into the head before anything else. A former leader that knows nothing of it
holds a version of the head that is not there any more, so that whatever it still writes does not count.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from mapreduce_operator.api import Phase
from mapreduce_operator.core import checkpoint as codec
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import (
    Checkpoint,
    CommitReason,
    DamagedError,
    JournalError,
    Lineage,
    SnapshotInfo,
    digest,
)
from mapreduce_operator.core.journal import Record, Segment, encode_segment
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.packing import pack
from mapreduce_operator.core.plan import Planned, keys_of
from mapreduce_operator.core.sizes import as_text
from mapreduce_operator.core.snapshot import Snapshot, decode_snapshot
from mapreduce_operator.engine.chain import segments_backwards
from mapreduce_operator.engine.kept import Kept
from mapreduce_operator.engine.plan_store import StoredPlan
from mapreduce_operator.engine.reading import read_checked
from mapreduce_operator.ports import Clock, DeposedError, Leadership, ObjectStore, StorageConflictError, StorageError

log = logging.getLogger(__name__)

_CLAIMS: Final = 10
_SNAPSHOT_AFTER: Final = 1 << 18
"""Bytes of segments that are read at a load rather than covered by a snapshot."""


def books_of(run: RunRef, ids: Sequence[str], snapshot: Snapshot | None, segments: Iterable[Segment]) -> Books:
    """New books of a run with these items, which are told what was committed."""
    books = Books(run, keys_of(run.uid, ids))
    books.read_back(snapshot, segments)
    return books


class Journal:
    """The durable side of one run. `head` is what the last successful write or load made of it."""

    def __init__(self, store: ObjectStore, run: RunRef, clock: Clock, leadership: Leadership) -> None:
        self._store: Final = store
        self._run: Final = run
        self._clock: Final = clock
        self._leadership: Final = leadership
        self._keys: Final = StorageKeys(run)
        self._etag = ""
        self._head: Checkpoint | None = None
        self._refused_at = 0
        """Size of the journal when a snapshot was not written for what it was."""
        self.snapshot_problem: tuple[bool, str, str] | None = None
        """What a condition is to say of the last snapshot: status, reason, message."""
        self.plan: Final = StoredPlan(store, self._keys)
        self.kept: Final = Kept(store, self._keys)
        self._written: tuple[Batch, Checkpoint] | None = None
        """The checkpoint that a batch makes, while the head does not say so."""

    @property
    def head(self) -> Checkpoint:
        if self._head is None:
            raise RuntimeError("the run has neither been planned nor loaded")
        return self._head

    @property
    def is_uncertain(self) -> bool:
        """Whether a head was written is not known: its answer was lost, and nobody has asked again."""
        return self._written is not None

    @property
    def snapshot_due(self) -> bool:
        """So much was written since the last snapshot that another one costs no more than that."""
        last = self.head.snapshot
        covered, size = (last.journal_size, last.size) if last else (0, 0)
        # One that must not be written costs as much as one that is, and the next will hardly be another.
        since = self.head.journal_size - max(covered, self._refused_at)
        return since >= max(_SNAPSHOT_AFTER, size, self._refused_at)

    # -------------------------------------------------------------------------------------------------- the head

    async def peek(self) -> Checkpoint | None:
        """The committed point of the run, for reading alone, or None when it was never planned.

        Whoever leads is not disturbed and goes on. Raises JournalError when it is damaged.
        """
        found = await self._stored_head()
        if found is None:
            return None
        self._take(found[0], "")
        return found[0]

    def look_at(self, checkpoint: Checkpoint) -> None:
        """Reads the run as of one of its checkpoints from now on; nothing can be written."""
        self._take(checkpoint, "")

    async def load(self) -> Checkpoint | None:
        """The committed point of the run, which is ours from now on, or None when it was never planned.

        Raises JournalError when it is damaged, DeposedError when a later leader has it.
        """
        for _ in range(_CLAIMS):
            found = await self._stored_head()
            if found is None:
                return None
            head, etag = found
            if head.epoch == self._leadership.epoch:
                self._take(head, etag)
                return head
            if await self._claim(head, etag):
                return self.head
            log.info("%s moved while it was claimed: the former leader was at work until now", self._keys.head)
        raise DeposedError(f"{self._keys.head} could not be claimed: somebody else moves it again and again")

    async def replace(self, head: Checkpoint) -> bool:
        """Puts a checkpoint in the place of a head that is damaged or gone, and makes it ours; False if it moved."""
        stored = await self._store.get(self._keys.head)
        return await self._claim(head, stored.etag if stored is not None else None)

    async def _claim(self, head: Checkpoint, etag: str | None) -> bool:
        """Puts our epoch into the head, in place of the version `etag` of it, or of none."""
        if head.epoch > self._leadership.epoch:
            await self._leadership.surpass(head.epoch)
        ours = msgspec.structs.replace(head, epoch=self._leadership.epoch)
        data = codec.encode_checkpoint(ours)
        try:
            etag = await self._store.put(self._keys.head, data, if_absent=etag is None, if_match=etag)
        except StorageConflictError:
            return False
        self._take(ours, etag)
        return True

    async def _stored_head(self) -> tuple[Checkpoint, str] | None:
        """The head as it stands there, and its etag."""
        for last in (False, True):
            stored = await self._store.get(self._keys.head)
            if stored is None:
                return None
            try:
                head = codec.decode_checkpoint(stored.data, self._keys.head)
            except DamagedError:
                if last:
                    raise
            else:
                if head.run_uid != self._run.uid:
                    raise JournalError(f"{self._keys.head} belongs to the run {head.run_uid}, not to {self._run.uid}")
                return head, stored.etag
        raise AssertionError

    async def _swap(self, head: Checkpoint) -> str:
        """Moves the head. A swap whose answer was lost looks like one that was lost to another: the content tells."""
        data = codec.encode_checkpoint(head)
        try:
            return await self._store.put(self._keys.head, data, if_match=self._etag)
        except StorageConflictError as error:
            stored = await self._stored_head()
            if stored is not None and stored[0] == head:
                return stored[1]
            raise DeposedError(f"{self._keys.head} was moved by another operator: {error}") from error

    def _take(self, head: Checkpoint, etag: str) -> None:
        self._head, self._etag, self._written = head, etag, None
        self.plan.look_at(head.plan)

    # --------------------------------------------------------------------------------------------------- writing

    async def create(
        self,
        planned: Planned,
        spec: bytes,
        batches: Sequence[Batch] = (),
        *,
        started_at: float | None = None,
        lineage: Lineage | None = None,
        kept: bool = True,
    ) -> Checkpoint:
        """Makes a plan durable, and what is carried over into it. Nothing may be dispatched before this returns.

        `started_at` is when the run was taken up, now if it is not given: planning may have waited for its input.
        """
        now = self._clock.now()
        started_at = now if started_at is None else started_at
        head = Checkpoint(
            schema_version=codec.SCHEMA_VERSION,
            run_uid=self._run.uid,
            phase=Phase.MAP,
            phase_reason="Planned",
            phase_message=f"{len(planned.items):,} items are planned",
            plan=await self.plan.write(planned),
            epoch=self._leadership.epoch,
            started_at=started_at,
            opened_at=started_at,
            turned_at=now,
            committed_at=now,
            reason=CommitReason.PHASE_CHANGE,
            spec_sha256=await self._write_spec("", spec),
            lineage=lineage,
        )
        if batches:
            head = await self._write(head, batches, first=1)
        try:
            self._take(head, await self._store.put(self._keys.head, codec.encode_checkpoint(head), if_absent=True))
        except StorageConflictError:
            # Our own write, whose answer was lost, or the plan of a former leader that came just before.
            planned_before = await self.load()
            if planned_before is None:
                raise
            return planned_before
        if kept:
            await self.keep()
        return head

    async def append(self, batch: Batch) -> Checkpoint:
        """Makes a batch durable: its records in a segment, then the head that counts it.

        Raises StorageError when nothing is known to be written, and the same batch may be given again; raises
        DeposedError when another leader has moved the head.
        """
        return await self.branch(self.head, [batch])

    async def branch(self, base: Checkpoint, batches: Sequence[Batch]) -> Checkpoint:
        """The same for batches that follow an earlier checkpoint than the head; what came after that counts no more.

        A base with sequence 0 is the beginning, with the plan that it names.
        """
        if not self._etag:
            raise RuntimeError(f"{self._keys.head} was only peeked at; what was not loaded cannot be moved")
        if batches[-1].kept:
            await self.keep()
        # Asked for the same again, since an answer was lost, the very same head is written: it is known by its bytes.
        if self._written is None or self._written[0] is not batches[-1]:
            self._written = batches[-1], await self._write(base, batches, first=self.head.sequence + 1)
        head = self._written[1]
        self._take(head, await self._swap(head))
        return head

    async def _write(self, base: Checkpoint, batches: Sequence[Batch], *, first: int) -> Checkpoint:
        """The checkpoint that the last of the batches makes, with everything written that it names."""
        started, last, size = self._clock.now(), batches[-1], 0
        sequence, tail_sha256, previous = first - 1, base.tail_sha256, base.sequence
        link = base.previous
        for batch in batches:
            sequence, link = sequence + 1, (previous, tail_sha256)
            header = batch.header(sequence, previous, tail_sha256, self._leadership.epoch)
            data = encode_segment(header, batch.records)
            tail_sha256, previous = digest(data), sequence
            await self._store.put(self._keys.segment(sequence, tail_sha256), data)
            size += len(data)
        journal_size = base.journal_size + size
        snapshot = base.snapshot
        if last.snapshot is not None:
            text, self.snapshot_problem = as_text(last.snapshot, last.turn.phase, last.counts)
            if text is None:
                self._refused_at = self.head.journal_size
            else:
                snapshot, packed = await self._write_snapshot(text, sequence, journal_size)
                size += packed
        return msgspec.structs.replace(
            base,
            phase=last.turn.phase,
            phase_reason=last.turn.reason,
            phase_message=last.turn.message,
            sequence=sequence,
            tail_sha256=tail_sha256,
            previous=link,
            journal_size=journal_size,
            snapshot=snapshot,
            epoch=self._leadership.epoch,
            opened_at=last.opened_at or base.opened_at,
            turned_at=base.turned_at if last.turn.phase is base.phase else last.at,
            committed_at=last.at,
            reason=last.reason,
            breaker=last.breaker,
            counts=dict(last.counts),
            size=size,
            seconds=round(self._clock.now() - started, 3),
            spec_sha256=await self._write_spec(base.spec_sha256, last.spec),
            answers=last.answers,
        )

    async def _write_snapshot(self, text: bytes, sequence: int, journal_size: int) -> tuple[SnapshotInfo, int]:
        """What a checkpoint says of its snapshot, and how many bytes were written."""
        data = pack(text)
        info = SnapshotInfo(sequence, digest(data), len(text), journal_size)
        key = self._keys.snapshot(sequence, info.sha256)
        await self._store.put(key, data)
        self.kept.add_snapshot(key)
        return info, len(data)

    async def _write_spec(self, before: str, spec: bytes) -> str:
        sha256 = digest(spec)
        if sha256 != before:
            await self._store.put(self._keys.spec(sha256), spec)
        return sha256

    async def keep(self) -> None:
        """Gives the head an object of its own, so that one can come back to it; if not now, before the next commit.

        To be called when everybody knows of the head: what is told of the run meanwhile would be behind it.
        """
        head = self.head
        if self.kept.knows(head.sequence):
            return
        data = codec.encode_checkpoint(head)
        snapshot = head.snapshot.sequence if head.snapshot else 0
        key = self._keys.checkpoint(head.sequence, snapshot, head.reason or CommitReason.IDLE, digest(data))
        try:
            await self._store.put(key, data)
        except StorageError as error:
            log.warning("checkpoint %d of %s is not kept yet: %s", head.sequence, self._keys.prefix, error)
        else:
            self.kept.add_checkpoint(key)

    # ------------------------------------------------------------------------------------------------ what was

    async def history(self) -> tuple[Snapshot | None, list[Segment]]:
        """What was committed: the last snapshot, and the segments after it in their order.

        Without the results, which would be most of the memory. A snapshot that is damaged or missing is done without.
        """
        snapshot = await self.snapshot()
        covered = self.head.snapshot.sequence if self.head.snapshot and snapshot else 0
        segments = [segment async for segment in self._segments_backwards(down_to=covered, results=False)]
        return snapshot, segments[::-1]

    async def check(self) -> None:
        """Reads all segments, also what a snapshot spares. Raises DamagedError where one is damaged or gone."""
        async for _ in self._segments_backwards(results=False):
            pass

    async def books(self, ids: Sequence[str]) -> Books:
        """What was committed, told to new books of a run with these items."""
        return books_of(self._run, ids, *await self.history())

    async def snapshot(self) -> Snapshot | None:
        """The snapshot that a load begins with; None where there is none, or it is damaged."""
        info = self.head.snapshot
        if info is None:
            return None
        key = self._keys.snapshot(info.sequence, info.sha256)
        try:
            return await read_checked(self._store, key, lambda data: decode_snapshot(data, info.sha256, key))
        except DamagedError as error:
            log.warning("%s; the whole journal is read instead", error)
            return None

    async def last_records(self, keys: Collection[str]) -> dict[str, Record]:
        """The last committed record of each of these items that has one."""
        last: dict[str, Record] = {}
        async for segment in self._segments_backwards():
            for record in reversed(segment.records):
                key = record.outcome.dispatch.item_key
                if key in keys:
                    last.setdefault(key, record)
        return last

    def _segments_backwards(self, *, down_to: int = 0, results: bool = True) -> AsyncIterator[Segment]:
        head = self.head
        return segments_backwards(
            self._store, self._keys, head.sequence, head.tail_sha256, down_to=down_to, results=results
        )

    async def delete_all(self, stays: Callable[[str], bool] = lambda _: False) -> None:
        """Deletes everything of the run whose key does not stay, the head first: without it nothing else counts."""
        await self._store.delete([self._keys.head])
        keys = [key async for key in self._store.list(self._keys.prefix)]
        await self._store.delete(key for key in keys if not stays(key))
