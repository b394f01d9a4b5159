"""What is left of a run when objects in storage are damaged or gone, and how it goes on from there.

The newest checkpoint that is whole takes the place of a head that is not. Where a segment is damaged, the run goes back
to the last one before it, and what survived of it and of those after it is told again: each line of a segment has a
checksum of its own. So only items whose outcomes are lost run again. Nothing is deleted.
"""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
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
from mapreduce_operator.core.journal import Record, Segment, SegmentHeader, decode_segment, salvage
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.phases import RECOVERED, Turn
from mapreduce_operator.core.plan import decode_shard_list
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.engine.chain import list_segments, sequence_of
from mapreduce_operator.engine.reading import read, read_checked
from mapreduce_operator.ports import ObjectStore

log = logging.getLogger(__name__)


# ------------------------------------------------------------------------------------------------ instead of the head


async def newest_checkpoint(store: ObjectStore, run: RunRef) -> Checkpoint | None:
    """The newest checkpoint of a run that is whole; None where there is none. Raises StorageError."""
    keys = StorageKeys(run)
    listed = sorted([key async for key in store.list(keys.checkpoints)], reverse=True)
    found: Checkpoint | None = None
    for key in listed:
        if found is not None and sequence_of(keys.checkpoints, key) < found.sequence:
            break
        try:
            checkpoint = await read_checked(store, key, partial(decode_checkpoint, where=key))
        except DamagedError as error:
            log.warning("%s", error)
            continue
        if checkpoint.run_uid == run.uid and (found is None or counts_before(checkpoint, found)):
            found = checkpoint
    return found


def counts_before(one: Checkpoint, other: Checkpoint) -> bool:
    """Of two checkpoints with the same number, whether the first one counts.

    The other was written by somebody who was deposed, or died, before the head was moved to it.
    """
    return (one.epoch, one.committed_at) > (other.epoch, other.committed_at)


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
    listed = await list_segments(store, keys)
    sequence, sha256, segment = await _newest_segment(store, listed, max(listed, default=0))
    if segment is None:
        return found
    header = segment.header
    return msgspec.structs.replace(
        found,
        phase=header.phase,
        sequence=sequence,
        tail_sha256=sha256,
        epoch=header.epoch,
        committed_at=header.at,
        reason=header.reason,
    )


async def _plan(store: ObjectStore, key: str) -> PlanInfo | None:
    stored = await read(store, key)
    if stored is None or digest(stored.data)[:16] not in key:
        return None
    shards = decode_shard_list(stored.data)
    return PlanInfo(sum(shard.items for shard in shards), 0, digest(stored.data))


async def _newest_segment(
    store: ObjectStore, listed: defaultdict[int, list[str]], newest: int
) -> tuple[int, str, Segment | None]:
    """Number, hash and content of the newest segment that is whole, from a number downwards, by the hash in its key."""
    for sequence in sorted((number for number in listed if number <= newest), reverse=True):
        found: list[tuple[int, str, Segment]] = []
        for key in listed[sequence]:
            stored = await read(store, key)
            if stored is None or digest(stored.data)[:16] not in key:
                continue
            sha256 = digest(stored.data)
            found.append((sequence, sha256, decode_segment(stored.data, sha256, key)))
        if found:
            return max(found, key=lambda one: one[2].header.epoch)
    return 0, "", None


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
    listed = await list_segments(store, keys)
    chain: list[Segment] = []
    whole = 0
    """How many of the chain's end are whole."""
    base = head.sequence, head.tail_sha256
    left = Survivors(head, snapshot, [], [])
    sequence, sha256 = base
    while sequence > covered:
        key = keys.segment(sequence, sha256)
        try:
            segment = await read_checked(store, key, partial(decode_segment, expected_sha256=sha256, where=key))
            whole += 1
        except DamagedError as error:
            log.warning("%s", error)
            left.damaged.append(key)
            segment, lost = await _what_is_left(store, key, sequence, head, listed)
            left.lost += lost
            whole, base = 0, (segment.header.before, segment.header.previous_sha256)
        chain.append(segment)
        sequence, sha256 = segment.header.before, segment.header.previous_sha256
    chain.reverse()
    left.before, left.after = chain[:whole], chain[whole:]
    if left.damaged:
        _forget_unknown_redrives(left)
        left.base = msgspec.structs.replace(
            head,
            sequence=base[0],
            tail_sha256=base[1],
            snapshot=head.snapshot if snapshot is not None else None,
        )
    else:
        left.before, left.after = chain, []
    return left


async def _what_is_left(
    store: ObjectStore, key: str, sequence: int, head: Checkpoint, listed: defaultdict[int, list[str]]
) -> tuple[Segment, int]:
    """A damaged segment without what is lost of it, and how many outcomes that is at least."""
    stored = await read(store, key)
    header, records = salvage(stored.data) if stored is not None else (None, [])
    if header is not None:
        return Segment(msgspec.structs.replace(header, sequence=sequence), records), header.count - len(records)
    before, sha256, _ = await _newest_segment(store, listed, sequence - 1)
    header = SegmentHeader(
        sequence, sha256, head.phase, head.committed_at, CommitReason.RECOVERY, previous=before, count=len(records)
    )
    return Segment(header, records), 1


def _forget_unknown_redrives(left: Survivors) -> None:
    """With the header of a segment, Redrives and what they took may be lost; their items are then as any other."""
    known = {accepted.number for accepted, *_ in left.snapshot.redrives} if left.snapshot else set()
    known.update(accepted.number for one in (*left.before, *left.after) for accepted in one.header.redrives)
    left.after = [_without_unknown(segment, known) for segment in left.after]


def _without_unknown(segment: Segment, known: Collection[int]) -> Segment:
    header = segment.header
    numbers = {record.item.redrive for record in segment.records} | {claim.redrive for claim in header.claims}
    if numbers <= {0, *known}:
        return segment
    return Segment(
        msgspec.structs.replace(
            header,
            claims=tuple(claim for claim in header.claims if claim.redrive in {0, *known}),
            called_off=tuple(one for one in header.called_off if one.number in known),
            given_back=(),
        ),
        [_as_any_other(record) if record.item.redrive not in {0, *known} else record for record in segment.records],
    )


def _as_any_other(record: Record) -> Record:
    return Record(record.outcome, replace(record.item, redrive=0))


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
