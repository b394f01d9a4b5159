"""The checkpoints of runs as they are kept in object storage: listed, loaded, and forked from.

Nothing here changes the run that is read, or disturbs a leader that is at work on it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec

from mapreduce_operator.api import ItemState, MapReduceJobSpec, Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.carrying import Carried, CarriedLetter, DispatchedKey, Saved, carried, edited_items
from mapreduce_operator.core.checkpoint import (
    Checkpoint,
    CommitReason,
    DamagedError,
    JournalError,
    Lineage,
    decode_checkpoint,
    verified,
)
from mapreduce_operator.core.letters import Letter, encode_letter, merged
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import Limits, canonical, keys_of
from mapreduce_operator.core.survival import fitted
from mapreduce_operator.engine.bodies import write_body
from mapreduce_operator.engine.chain import all_segments, sequence_of
from mapreduce_operator.engine.journal import Journal, books_of
from mapreduce_operator.engine.reading import letters_in, patiently, read_checked, read_letters
from mapreduce_operator.engine.recovery import dispatches_known, survivors, what_is_lost
from mapreduce_operator.ports import (
    Checkpointer,
    CheckpointNotFoundError,
    Clock,
    Leadership,
    ObjectStore,
    StorageConflictError,
)

log = logging.getLogger(__name__)

_AT_ONCE: Final = 8
_RECORDS: Final = 500
"""Of one segment, as in a commit under load."""


class StoredCheckpoints(Checkpointer):
    """Over any object store."""

    def __init__(self, store: ObjectStore, clock: Clock, leadership: Leadership, limits: Limits) -> None:
        self._store: Final = store
        self._clock: Final = clock
        self._leadership: Final = leadership
        self._limits: Final = limits

    async def list(self, run: RunRef) -> list[Checkpoint]:
        """As in the port."""
        latest = await self.latest(run)
        if latest is None:
            return []
        keys = StorageKeys(run)
        listed = [key async for key in self._store.list(keys.checkpoints)]
        # The newest is the head, whether its object is there or not; the leader may have gone on since that was read.
        listed = [key for key in listed if sequence_of(keys.checkpoints, key) < latest.sequence]
        # A leader that was deposed just then, and its successor, may both have kept the same one.
        found: dict[int, Checkpoint] = {}
        for first in range(0, len(listed), _AT_ONCE):
            some = await asyncio.gather(*map(self._read, listed[first : first + _AT_ONCE]))
            found.update((one.sequence, one) for one in some if one is not None)
        return [*found.values(), latest]

    async def _read(self, key: str) -> Checkpoint | None:
        """A checkpoint that is kept; None for one that is damaged, or has gone meanwhile."""
        try:
            return await read_checked(self._store, key, partial(decode_checkpoint, where=key))
        except DamagedError:
            return None

    async def latest(self, run: RunRef) -> Checkpoint | None:
        """As in the port."""
        return await self._journal(run).peek()

    async def find(self, run: RunRef, sequence: int | None) -> Checkpoint:
        """The checkpoint with a number, or the newest one. Raises CheckpointNotFoundError."""
        latest = await self.latest(run)
        if latest is not None and sequence in {None, latest.sequence}:
            return latest
        keys = StorageKeys(run)
        found: Checkpoint | None = None
        if latest is not None and sequence is not None and sequence < latest.sequence:
            async for key in self._store.list(f"{keys.checkpoints}{sequence:010d}-"):
                found = await self._read(key) or found
        if found is None:
            if latest is None:
                raise CheckpointNotFoundError(f"the job {run.name} has no checkpoint yet")
            raise CheckpointNotFoundError(
                f"the job {run.name} keeps no checkpoint {sequence}; status.checkpoint.kept says which ones it keeps"
            )
        return found

    async def load(self, run: RunRef, sequence: int | None) -> Saved:
        """As in the port."""
        return await self.read(run, await self.find(run, sequence))

    async def read(self, run: RunRef, checkpoint: Checkpoint) -> Saved:
        """The run as of one of its checkpoints. Raises JournalError, StorageError."""
        journal = self._journal(run, checkpoint)
        items = [item async for item in journal.plan.items()]
        books = await journal.books([item.id for item in items])
        ledger = books.ledgers[Stage.MAP]
        records = await journal.last_records({ledger.key(position) for position in range(len(ledger))})
        return Saved(checkpoint, items, books, records)

    async def read_what_is_left(self, run: RunRef, checkpoint: Checkpoint) -> tuple[Saved, str]:
        """The same where segments may be damaged: and what is to be said of that, "" where all is whole.

        Outcomes that are lost are those of items that are to be run. Raises JournalError, StorageError.
        """
        try:
            return await self.read(run, checkpoint), ""
        except DamagedError as error:
            log.warning("%s", error)
        journal = self._journal(run, checkpoint)
        items = [item async for item in journal.plan.items()]
        left = await survivors(self._store, run, checkpoint, None)
        books = books_of(run, [item.id for item in items], None, left.before)
        segments = left.before
        for segment in left.after:
            segments.append(fitted(segment, books))
            books.replay(segments[-1])
        for one in dispatches_known(await journal.snapshot(), books):
            books.undo(one)
        records = {
            record.outcome.dispatch.item_key: record
            for segment in segments
            for record in segment.records
            if record.outcome.stage is Stage.MAP
        }
        return Saved(checkpoint, items, books, records), what_is_lost(left.damaged, left.lost)

    async def books(self, run: RunRef, checkpoint: Checkpoint) -> Books:
        """The run as of one of its checkpoints, without payloads and results."""
        journal = self._journal(run, checkpoint)
        return await journal.books(await journal.plan.ids())

    async def dispatched(self, run: RunRef) -> dict[DispatchedKey, int]:
        """How many dispatches each item of a run has had, by all segments, whether they count or not.

        Raises JournalError, StorageError.
        """
        keys = StorageKeys(run)
        found: dict[DispatchedKey, int] = {}
        async for segment in all_segments(self._store, keys):
            told: list[tuple[Stage, str, int]] = []
            if segment.header is not None:
                told += [(one.stage, one.key, one.dispatch) for one in segment.header.starts]
                told += [(one.stage, one.key, one.dispatches) for one in segment.header.undone]
            for record in segment.records:
                dispatch = record.outcome.dispatch
                told.append((record.outcome.stage, dispatch.item_key, dispatch.number))
            for stage, key, number in told:
                found[stage, key] = max(number, found.get((stage, key), 0))
        return found

    async def spec(self, run: RunRef, checkpoint: Checkpoint) -> bytes:
        """What the run ran then: map, reduce and params, as a JSON text. Raises JournalError, StorageError."""
        if not checkpoint.spec_sha256:
            raise JournalError(
                f"checkpoint {checkpoint.sequence} of the job {run.name} does not say what was run: an older operator "
                "wrote it"
            )
        key = StorageKeys(run).spec(checkpoint.spec_sha256)
        return await read_checked(self._store, key, lambda data: verified(data, checkpoint.spec_sha256, key))

    async def fork(
        self,
        run: RunRef,
        sequence: int | None,
        child: RunRef,
        spec: MapReduceJobSpec,
        *,
        started_at: float | None = None,
    ) -> Checkpoint:
        """As in the port."""
        saved, damage = await self.read_what_is_left(run, await self.find(run, sequence))
        edits = spec.fork_from.edits.items if spec.fork_from is not None else ()
        planned, rerun = edited_items(saved.items, edits, spec.input.id_expression, self._limits)
        keys_of(child.uid, [item.id for item in planned.items])
        taken = carried(saved, child.uid, planned.items, spec.resume_policy, rerun=rerun)
        await self.copy_letters(run, child, saved, taken.letters)
        parent = saved.checkpoint
        lineage = Lineage(run.name, run.uid, parent.sequence, 1 + (parent.lineage.depth if parent.lineage else 0))
        text, now = canonical(spec.work_as_written()), self._clock.now()
        message = (
            f"forked from checkpoint {parent.sequence} of {run.name}: {len(taken.records):,} outcomes carried over"
            f"{f'; {damage}' if damage else ''}"
        )
        began = now if started_at is None else started_at
        standing = Batch(
            CommitReason.FORK, now, Turn(Phase.MAP, "Forked", message), None, None, opened_at=began, spec=text
        )
        journal, batches = self._journal(child), batches_of(taken, standing, len(planned.items))
        return await journal.create(
            planned, text, batches, started_at=began, lineage=lineage, kept=spec.checkpoint.enabled
        )

    async def copy_letters(self, run: RunRef, child: RunRef, saved: Saved, letters: Iterable[CarriedLetter]) -> None:
        """Gives the child bodies of its own of the dead letters that it begins with. Raises StorageError."""
        known, new = saved.books.account.dead_letters, {one.key_before: one for one in letters}
        async for key, found in read_letters(self._store, StorageKeys(run), new):
            one, before = new[key], saved.books.position(Stage.MAP, key)
            purged = found is None and known.get(before) is not None
            letter = known.body(before, saved.items[before], key) if purged else found
            if isinstance(letter, Letter):
                await self._add(child, msgspec.structs.replace(letter, key=one.key, position=one.position))

    async def put_back_letters(self, run: RunRef, checkpoint: Checkpoint, books: Books) -> None:
        """Writes the letters that a checkpoint of the run tells of, and that were purged since. Raises StorageError."""
        known, there = books.account.dead_letters, set(await letters_in(self._store, StorageKeys(run)))
        plan, ledger = self._journal(run, checkpoint).plan, books.ledgers[Stage.MAP]
        # In the order of the plan, of which only a few shards stay in memory.
        purged = sorted(one.position for one, _, _ in known.all() if ledger.key(one.position) not in there)
        for first in range(0, len(purged), _AT_ONCE):
            some = [known.body(one, await plan.item(one), ledger.key(one)) for one in purged[first : first + _AT_ONCE]]
            await asyncio.gather(*(self._add(run, one) for one in some))

    async def _add(self, run: RunRef, letter: Letter) -> None:
        await patiently(lambda: self._write(StorageKeys(run).letter(letter.key), letter))

    async def _write(self, where: str, letter: Letter) -> None:
        try:
            await self._store.put(where, encode_letter(letter), if_absent=True)
        except StorageConflictError:
            # An attempt that failed left it, as of an earlier checkpoint; or another leader, and the run has gone on.
            await write_body(self._store, where, lambda there: letter if there is None else merged(letter, there))

    def _journal(self, run: RunRef, checkpoint: Checkpoint | None = None) -> Journal:
        """Of a run, as it is or as of one of its checkpoints."""
        journal = Journal(self._store, run, self._clock, self._leadership)
        if checkpoint is not None:
            journal.look_at(checkpoint)
        return journal


def batches_of(taken: Carried, standing: Batch, items: int) -> list[Batch]:
    """Batches with which a run begins, the last of which says where it stands."""
    some = range(0, max(1, len(taken.records)), _RECORDS)
    batches = [replace(standing, records=taken.records[first : first + _RECORDS]) for first in some]
    counts = Counter(record.item.state for record in taken.records)
    counts[ItemState.PENDING] = items - counts.total()
    batches[0] = replace(batches[0], undone=taken.undone, claims=taken.claims)
    if taken.marks:
        # Of one segment, marks count before records.
        batches.append(replace(standing, marks=taken.marks))
    batches[-1] = replace(batches[-1], counts=counts)
    return batches
