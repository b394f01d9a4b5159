"""Runs as they stand in storage. What was read of one serves all questions to it until it has gone on.

Nothing is claimed or written, and the leader is not disturbed. Reading a large run takes memory and time, so that one
is read after another; whoever would have to wait for long is told to come back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint, DamagedError
from mapreduce_operator.core.dead_letters import ENTRY_CHARACTERS
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record, Salvaged, salvage
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.chain import segments_backwards
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.engine.journal import Journal, books_of
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.engine.plan_store import StoredPlan
from mapreduce_operator.engine.reading import read
from mapreduce_operator.engine.recovery import extended, newest_checkpoint, segment_before
from mapreduce_operator.ports import ObjectStore
from mapreduce_operator.serving.turns import Turns

KEPT: Final = 2
"""Pictures: two are compared at a time. That of a run of 100,000 items, with its endings, takes 130 MB."""

Place = tuple[int, str]
"""Number and hash of a segment."""
Warn = Callable[[str], None]
"""Is told what is not as it should be, where there is an answer all the same."""


class Ending(NamedTuple):
    """How the last dispatch of an item ended. The message is cut and the result left out: they are where it says."""

    outcome: Outcome
    place: Place


@dataclass(slots=True)
class Picture:
    """A run as of one of its checkpoints, without payloads and results, which may be large."""

    run: RunRef
    checkpoint: Checkpoint
    ids: Sequence[str]
    """Of all items, in the order of the plan."""
    plan: StoredPlan
    """Where their payloads are."""
    books: Books
    endings: Mapping[int, Ending] | None = field(default=None, repr=False)
    """By position, of all items of which a dispatch has ended; None as long as nobody has asked."""

    @property
    def keys(self) -> StorageKeys:
        return StorageKeys(self.run)

    @property
    def place(self) -> Place:
        """Of its last segment."""
        return self.checkpoint.sequence, self.checkpoint.tail_sha256

    def key(self, position: int) -> str:
        return self.books.ledgers[Stage.MAP].key(position)

    def position(self, item_id: str) -> int | None:
        """Position of the item with this id; None where there is none."""
        return self.books.ledgers[Stage.MAP].position(item_key(self.run.uid, Stage.MAP, item_id))


class Remaining(StoredCheckpoints):
    """Those of a run whose head may be damaged or gone: the newest that is left stands in for it, and `warn` is told.

    Nothing is written, so that this mends nothing.
    """

    def __init__(self, store: ObjectStore, warn: Warn) -> None:
        super().__init__(store, SystemClock(), SoleLeader(), Limits())
        self._warn: Final = warn

    async def latest(self, run: RunRef) -> Checkpoint | None:
        """As in the port, but for the head."""
        damage: DamagedError | None = None
        try:
            if (head := await super().latest(run)) is not None:
                return head
        except DamagedError as error:
            damage = error
        known = await newest_checkpoint(self._store, run)
        if known is None:
            if damage is not None:
                raise damage
            return None
        found = await extended(self._store, run, known)
        self._warn(
            f"{damage or f'{StorageKeys(run).head} is missing'}; this is as of checkpoint {found.sequence}, the newest "
            "that is left. A restart of the job mends it"
        )
        return found


class Pictures:
    """Takes them. All methods raise RefusedError when too many are waiting, JournalError and StorageError."""

    def __init__(self, store: ObjectStore) -> None:
        self.store: Final = store
        self._clock: Final = SystemClock()
        # The right to lead is only asked for where something is claimed, which reading does not.
        self._leadership: Final = SoleLeader()
        self.checkpoints: Final = StoredCheckpoints(store, self._clock, self._leadership, Limits())
        self._kept: Final[OrderedDict[tuple[RunRef, int, str], Picture]] = OrderedDict()
        self.turns: Final = Turns(1)
        """For what takes memory."""

    async def newest(self, run: RunRef, warn: Warn) -> Picture | None:
        """The run as it stands now; None for one that was never planned."""
        checkpoint = await Remaining(self.store, warn).latest(run)
        return None if checkpoint is None else await self.of(run, checkpoint)

    async def of(self, run: RunRef, checkpoint: Checkpoint) -> Picture:
        """The run as of one of its checkpoints."""
        place = run, checkpoint.sequence, checkpoint.tail_sha256
        if place not in self._kept:
            async with self.turns.one():
                if place not in self._kept:
                    self._kept[place] = await self._read(run, checkpoint)
                    if len(self._kept) > KEPT:
                        self._kept.popitem(last=False)
                return self._kept[place]
        self._kept.move_to_end(place)
        return self._kept[place]

    async def endings(self, picture: Picture, damaged: list[str]) -> Mapping[int, Ending]:
        """How the last dispatch of each item ended, by position, as far as that can be read; `damaged` is told why not.

        What is damaged is read again for the next question: somebody may have put it right.
        """
        if picture.endings is not None:
            return picture.endings
        async with self.turns.one():
            found = picture.endings
            if found is None:
                found = await self._endings(picture, damaged)
                picture.endings = None if damaged else found
        return found

    async def _read(self, run: RunRef, checkpoint: Checkpoint) -> Picture:
        journal = Journal(self.store, run, self._clock, self._leadership)
        journal.look_at(checkpoint)
        ids = await journal.plan.ids()
        # Of 100,000 items it takes a second or two, in which probes and others are answered.
        books = await asyncio.to_thread(books_of, run, ids, *await journal.history())
        return Picture(run, checkpoint, ids, journal.plan, books)

    async def _endings(self, picture: Picture, damaged: list[str]) -> dict[int, Ending]:
        ledger = picture.books.ledgers[Stage.MAP]
        found: dict[int, Ending] = {}
        async for place, records in records_from(self.store, picture, picture.place, damaged):
            for record in records:
                position = ledger.position(record.outcome.dispatch.item_key)
                if record.outcome.stage is Stage.MAP and position is not None and position not in found:
                    message = end_of(record.outcome.message, ENTRY_CHARACTERS)
                    found[position] = Ending(replace(record.outcome, message=message), place)
        if not damaged:
            return found
        # What is found of the others may be of an earlier dispatch.
        return {
            position: ending
            for position, ending in found.items()
            if ending.outcome.dispatch.number >= ended_dispatches(ledger[position])
        }


def ended_dispatches(item: Item) -> int:
    """How many dispatches of an item have ended."""
    return item.attempts + item.interruptions


async def records_from(
    store: ObjectStore, picture: Picture, place: Place, damaged: list[str]
) -> AsyncIterator[tuple[Place, Sequence[Record]]]:
    """The records of the segment at a place and of those before it, without results, each with the segment's place.

    Of a damaged segment it is what is left, and `damaged` gets what is wrong with it.
    """
    keys = picture.keys
    while place[0]:
        try:
            async for segment in segments_backwards(store, keys, *place, results=False):
                yield place, segment.records
                place = segment.header.before, segment.header.previous_sha256
        except DamagedError as error:
            left = await left_of(store, keys.segment(*place))
            damaged.append(str(error))
            yield place, left.records
            place = left.before or await segment_before(store, keys, place[0], picture.checkpoint)


async def left_of(store: ObjectStore, key: str) -> Salvaged:
    """What is left of a segment that is damaged or gone."""
    stored = await read(store, key)
    return Salvaged(None, None, []) if stored is None else salvage(stored.data)
