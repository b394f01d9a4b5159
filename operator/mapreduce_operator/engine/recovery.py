"""What is left of a run when objects in storage are damaged or gone, and how it goes on from there.

The newest checkpoint that is whole takes the place of a head that is not. Where a segment is damaged, the run goes back
to the last one before it, and what survived of it and of those after it is told again: each line of a segment has a
checksum of its own. So only items whose outcomes are lost run again. Nothing is deleted.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from mapreduce_operator.api import Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    Checkpoint,
    CommitReason,
    DamagedError,
    PlanInfo,
    decode_checkpoint,
    digest,
)
from mapreduce_operator.core.journal import Segment, SegmentHeader, decode_segment, salvage
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.phases import RECOVERED, Turn
from mapreduce_operator.core.plan import decode_shard_list
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.engine.chain import list_segments
from mapreduce_operator.engine.reading import read, read_checked
from mapreduce_operator.ports import ObjectStore

log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------ instead of the head


async def newest_checkpoint(store: ObjectStore, run: RunRef) -> Checkpoint | None:
    """The newest checkpoint that is kept and whole; None where there is none. Raises StorageError."""
    keys = StorageKeys(run)
    for key in sorted([key async for key in store.list(keys.checkpoints)], reverse=True):
        try:
            checkpoint = await read_checked(store, key, partial(decode_checkpoint, where=key))
        except DamagedError as error:
            log.warning("%s", error)
        else:
            if checkpoint.run_uid == run.uid:
                return checkpoint
    return None


async def from_segments(store: ObjectStore, run: RunRef, now: float) -> Checkpoint | None:
    """A checkpoint made of what is left where there is no checkpoint: the plan, and the newest segment, if any.

    None where no plan is left, or several, of which nothing says which one counts. Raises StorageError.
    """
    keys = StorageKeys(run)
    plans = [plan for key in [key async for key in store.list(keys.plans)] if (plan := await _plan(store, key))]
    if len(plans) != 1:
        return None
    found = Checkpoint(
        schema_version=SCHEMA_VERSION,
        run_uid=run.uid,
        phase=Phase.MAP,
        phase_reason=RECOVERED,
        phase_message="the state of the run was rebuilt from its plan, its segments and its Jobs",
        plan=plans[0],
        started_at=now,
        opened_at=now,
        turned_at=now,
        committed_at=now,
    )
    newest = await _newest_segment(store, keys, 0)
    return found if newest is None else _at(found, *newest)


async def extended(store: ObjectStore, run: RunRef, found: Checkpoint) -> Checkpoint:
    """The checkpoint, or a later one made of segments that follow it, where no object tells of that any more."""
    newest = await _newest_segment(store, StorageKeys(run), found.sequence)
    return found if newest is None else _at(found, *newest)


def _at(checkpoint: Checkpoint, sha256: str, segment: Segment) -> Checkpoint:
    """The checkpoint that was made with a segment, as far as that tells; all else is that of an earlier one."""
    header = segment.header
    same = header.phase is checkpoint.phase
    return msgspec.structs.replace(
        checkpoint,
        phase=header.phase,
        phase_reason=checkpoint.phase_reason if same else RECOVERED,
        phase_message=checkpoint.phase_message if same else "the phase is known by the journal alone",
        sequence=header.sequence,
        tail_sha256=sha256,
        epoch=max(header.epoch, checkpoint.epoch),
        committed_at=header.at,
        reason=header.reason,
        counts={},
    )


async def _plan(store: ObjectStore, key: str) -> PlanInfo | None:
    stored = await read(store, key)
    if stored is None or digest(stored.data)[:16] not in key:
        return None
    shards = decode_shard_list(stored.data)
    return PlanInfo(sum(shard.items for shard in shards), 0, digest(stored.data))


async def _newest_segment(store: ObjectStore, keys: StorageKeys, above: int) -> tuple[str, Segment] | None:
    """Hash and content of the newest segment that is whole, of those with a greater number than `above`."""
    listed = await list_segments(store, keys)
    for sequence in sorted((number for number in listed if number > above), reverse=True):
        found = [one for key in listed[sequence] if (one := await _whole(store, key)) is not None]
        if found:
            return max(found, key=lambda one: one[1].header.epoch)
    return None


async def _whole(store: ObjectStore, key: str) -> tuple[str, Segment] | None:
    """Hash and content of a segment, by the part of its hash that stands in its key; None for one that is damaged."""
    stored = await read(store, key)
    if stored is None or digest(stored.data)[:16] not in key:
        return None
    sha256 = digest(stored.data)
    return sha256, decode_segment(stored.data, sha256, key)


# ------------------------------------------------------------------------------------------------------- the segments


@dataclass(slots=True)
class Survivors:
    """What is left of the journal of a run."""

    base: Checkpoint
    """The last point before the damage."""
    snapshot: Snapshot | None
    before: list[Segment]
    """Segments up to the base, in their order."""
    after: list[Segment]
    """What is left of those after it, in their order."""
    damaged: list[str] = field(default_factory=list)
    """Keys of the objects."""
    lost: int = 0
    """Outcomes that are known to be lost."""


async def survivors(store: ObjectStore, run: RunRef, head: Checkpoint, snapshot: Snapshot | None) -> Survivors:
    """Reads the journal down to the snapshot, whatever is damaged. Raises StorageError, JournalError."""
    keys = StorageKeys(run)
    covered = head.snapshot.sequence if head.snapshot is not None and snapshot is not None else 0
    left = Survivors(head, snapshot, [], [])
    chain: list[Segment] = []
    whole = 0
    """How many of the chain's end are whole."""
    base, sequence = (head.sequence, head.tail_sha256), head.sequence
    key = keys.segment(sequence, head.tail_sha256)
    while sequence > covered:
        try:
            segment, lost = await read_checked(store, key, partial(_checked, key=key)), 0
            whole += 1
        except DamagedError as error:
            log.warning("%s", error)
            left.damaged.append(key)
            segment, lost = await _what_is_left(store, keys, key, sequence, head, covered=covered)
            whole, base = 0, (segment.header.before, segment.header.previous_sha256)
        left.lost += lost
        chain.append(segment)
        sequence = segment.header.before
        key = keys.segment(sequence, segment.header.previous_sha256)
    chain.reverse()
    left.before, left.after = chain[:whole], chain[whole:]
    if left.damaged:
        kept = head.snapshot if snapshot is not None else None
        left.base = msgspec.structs.replace(head, sequence=base[0], tail_sha256=base[1], snapshot=kept)
    return left


def _checked(data: bytes, key: str) -> Segment:
    if digest(data)[:16] not in key:
        raise DamagedError(f"{key} is damaged: its SHA-256 is not the one that it was written with")
    return decode_segment(data, digest(data), key)


async def _what_is_left(
    store: ObjectStore, keys: StorageKeys, key: str, sequence: int, head: Checkpoint, *, covered: int
) -> tuple[Segment, int]:
    """A damaged segment without what is lost of it, and how many outcomes that is at least."""
    stored = await read(store, key)
    header, records = salvage(stored.data) if stored is not None else (None, [])
    if header is not None and header.sequence == sequence:
        return Segment(header, records), header.count - len(records)
    listed = await list_segments(store, keys)
    before = max((number for number in listed if covered < number < sequence), default=covered)
    found = [one for other in listed[before] if (one := await _whole(store, other)) is not None]
    if found:
        sha256, _ = max(found, key=lambda one: one[1].header.epoch)
    else:
        # Damaged as well: what stands in its key is enough to find it, and to see that.
        sha256 = listed[before][0].rpartition("-")[2].removesuffix(".jsonl") if listed[before] else ""
    header = SegmentHeader(
        sequence, sha256, head.phase, head.committed_at, CommitReason.RECOVERY, previous=before, count=len(records)
    )
    return Segment(header, records), 1


def told_again(segments: Iterable[Segment], turn: Turn, kept: bool) -> list[Batch]:
    """Batches that make the same facts durable again."""
    return [
        Batch(
            CommitReason.RECOVERY,
            segment.header.at,
            Turn(segment.header.phase, turn.reason, turn.message),
            None,
            None,
            starts=segment.header.starts,
            records=tuple(segment.records),
            redrives=segment.header.redrives,
            claims=segment.header.claims,
            marks=segment.header.marks,
            called_off=segment.header.called_off,
            given_back=segment.header.given_back,
            undone=segment.header.undone,
            reduce_again=segment.header.reduce_again,
            kept=kept,
        )
        for segment in segments
    ]
