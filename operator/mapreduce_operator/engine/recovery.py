"""What is left of a run when objects in storage are damaged or gone, and how it goes on from there.

The newest checkpoint that is whole takes the place of a head that is not. Where a segment is damaged, the run goes back
to the last one before it, and what survived of it and of those after it is told again: each line of a segment has a
checksum of its own. So only items whose outcomes are lost run again. Nothing is deleted.
"""

import contextlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from mapreduce_operator.api import Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    Checkpoint,
    CommitReason,
    DamagedError,
    PlanInfo,
    decode_checkpoint,
    digest,
)
from mapreduce_operator.core.journal import Salvaged, Segment, SegmentHeader, Undone, decode_segment, salvage
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.phases import RECOVERED, Turn
from mapreduce_operator.core.plan import decode_shard_list
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.texts import counted
from mapreduce_operator.engine.chain import hash_in, list_segments, objects_above, sequence_of, whole_hash
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
    return await extended(store, run, found)


async def extended(store: ObjectStore, run: RunRef, found: Checkpoint) -> Checkpoint:
    """The checkpoint, or a later one made of the segments that follow it, where no object tells of that any more.

    They may be damaged themselves. What leads elsewhere, to a branch that was left or to another plan, is left out.
    """
    keys = StorageKeys(run)
    told: dict[str, tuple[int, str, Salvaged]] = {}
    """Number and hash of each segment, and its first and last line, by its key."""
    async for key, data in objects_above(store, keys, found.sequence):
        number, sha256 = sequence_of(keys.segments, key), whole_hash(data, key) or hash_in(key)
        told[key] = number, sha256, salvage(data, records_too=False)
    ours = keys.segment(found.sequence, found.tail_sha256)
    for key in sorted(told, key=lambda one: (told[one][0], _epoch(told[one][2])), reverse=True):
        at: str | None = key
        while at in told:
            before = told[at][2].before
            at = keys.segment(*before) if before is not None else None
        if at == ours:
            return _at(found, *told[key])
    return found


def _epoch(left: Salvaged) -> int:
    return left.header.epoch if left.header is not None else 0


def _at(found: Checkpoint, sequence: int, sha256: str, left: Salvaged) -> Checkpoint:
    """The checkpoint that was made with a segment, as far as that tells; all else is that of an earlier one."""
    header = left.header
    phase = header.phase if header is not None else found.phase
    same = phase is found.phase
    return msgspec.structs.replace(
        found,
        phase=phase,
        phase_reason=found.phase_reason if same else RECOVERED,
        phase_message=found.phase_message if same else "the phase is known by the journal alone",
        sequence=sequence,
        tail_sha256=sha256,
        previous=left.before,
        # It may be of a branch that the segment is not of.
        snapshot=None,
        epoch=max(_epoch(left), found.epoch),
        committed_at=header.at if header is not None else found.committed_at,
        reason=header.reason if header is not None else found.reason,
        counts={},
    )


async def _plan(store: ObjectStore, key: str) -> PlanInfo | None:
    data = await _as_named(store, key)
    if data is None:
        return None
    return PlanInfo(sum(shard.items for shard in decode_shard_list(data)), 0, digest(data))


async def _as_named(store: ObjectStore, key: str) -> bytes | None:
    """What an object holds, if it has the hash that its key tells of, and not only for once."""

    def checked(data: bytes) -> bytes:
        if whole_hash(data, key) is None:
            raise DamagedError(f"{key} is damaged: its name tells of another hash")
        return data

    try:
        return await read_checked(store, key, checked)
    except DamagedError:
        return None


# ------------------------------------------------------------------------------------------------------- the segments


@dataclass(slots=True)
class Survivors:
    """What is left of the journal of a run."""

    base: Checkpoint
    """The last point before the damage."""
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
    left = Survivors(head, [], [])
    chain: list[Segment] = []
    whole = 0
    """How many of the chain's end are whole."""
    sequence, sha256 = head.sequence, head.tail_sha256
    base = sequence, sha256
    while sequence > covered:
        key = keys.segment(sequence, sha256)
        try:
            segment, sha256 = await read_checked(store, key, partial(_checked, key=key))
            # A link that was found by the key has a part of the hash alone.
            base = base if whole else (sequence, sha256)
            whole += 1
        except DamagedError as error:
            log.warning("%s", error)
            left.damaged.append(key)
            segment, lost = await _what_is_left(store, keys, key, sequence, head, covered=covered)
            left.lost += lost
            whole, base = 0, (segment.header.before, segment.header.previous_sha256)
        chain.append(segment)
        sequence, sha256 = segment.header.before, segment.header.previous_sha256
    chain.reverse()
    left.before, left.after = chain[:whole], chain[whole:]
    if left.damaged:
        kept = head.snapshot if snapshot is not None else None
        left.base = msgspec.structs.replace(head, sequence=base[0], tail_sha256=base[1], snapshot=kept)
    return left


def _checked(data: bytes, key: str) -> tuple[Segment, str]:
    """A segment, and its hash."""
    if (sha256 := whole_hash(data, key)) is None:
        raise DamagedError(f"{key} is damaged: its SHA-256 is not the one that it was written with")
    return decode_segment(data, sha256, key), sha256


async def _what_is_left(
    store: ObjectStore, keys: StorageKeys, key: str, sequence: int, head: Checkpoint, *, covered: int
) -> tuple[Segment, int]:
    """A damaged segment without what is lost of it, and how many outcomes that is at least."""
    stored = await read(store, key)
    left = salvage(stored.data) if stored is not None else Salvaged(None, None, [])
    if left.header is not None and left.header.sequence == sequence:
        return Segment(left.header, left.records), left.header.count - len(left.records)
    before = left.before or await segment_before(store, keys, sequence, head, covered=covered)
    header = SegmentHeader(
        sequence,
        before[1],
        head.phase,
        head.committed_at,
        CommitReason.RECOVERY,
        previous=before[0],
        count=len(left.records),
    )
    return Segment(header, left.records), 1


async def segment_before(
    store: ObjectStore, keys: StorageKeys, sequence: int, head: Checkpoint, *, covered: int = 0
) -> tuple[int, str]:
    """Number and hash of the segment before one that is gone: as a checkpoint says, or else the next lower number."""
    if head.sequence == sequence and head.previous is not None:
        return head.previous
    async for key in store.list(f"{keys.checkpoints}{sequence:010d}-"):
        with contextlib.suppress(DamagedError):
            kept = await read_checked(store, key, partial(decode_checkpoint, where=key))
            if kept.previous is not None:
                return kept.previous
    listed = await list_segments(store, keys)
    number = max((number for number in listed if covered < number < sequence), default=covered)
    for one in listed[number]:
        stored = await read(store, one)
        if stored is not None and (sha256 := whole_hash(stored.data, one)) is not None:
            return number, sha256
    return number, hash_in(listed[number][0]) if listed[number] else ""


def dispatches_known(snapshot: Snapshot | None, books: Books) -> list[Undone]:
    """Dispatches that a snapshot alone still tells of: their numbers must not come again."""
    found: list[Undone] = []
    for stage, items in snapshot.items.items() if snapshot is not None else ():
        ledger = books.ledgers[stage]
        for position, item in items:
            if item.dispatch > ledger[position].dispatch:
                found.append(Undone(stage, ledger.key(position), item.dispatch - 1))
    return found


def what_is_lost(damaged: Sequence[str], outcomes: int) -> str:
    """What is to be said of damage; "" for none."""
    if not damaged:
        return ""
    lost = f"; at least {counted(outcomes, 'outcome')} lost, and what that was is run again" if outcomes else ""
    return f"this is damaged: {'; '.join(damaged)}{lost}"


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
            left_out=segment.header.left_out,
            undone=segment.header.undone,
            reduce_again=segment.header.reduce_again,
            kept=kept,
        )
        for segment in segments
    ]
