"""Runs as they stand in storage. What was read of one serves all questions to it until it has gone on.

Nothing is claimed or written, and the leader is not disturbed. Reading a large run takes memory and time, so that one
is read after another; whoever would have to wait for long is told to come back.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint
from mapreduce_operator.core.dead_letters import ENTRY_CHARACTERS
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.journal import Segment
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.chain import segments_backwards
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.engine.journal import Journal, books_of
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.engine.plan_store import StoredPlan
from mapreduce_operator.ports import ObjectStore
from mapreduce_operator.serving.turns import Turns

KEPT: Final = 2
"""Pictures: two are compared at a time. That of a run of 100,000 items, with its endings, takes 130 MB."""

Place = tuple[int, str]
"""Number and hash of a segment."""


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

    def key(self, position: int) -> str:
        return self.books.ledgers[Stage.MAP].key(position)

    def position(self, item_id: str) -> int | None:
        """Position of the item with this id; None where there is none."""
        return self.books.ledgers[Stage.MAP].position(item_key(self.run.uid, Stage.MAP, item_id))


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

    async def newest(self, run: RunRef) -> Picture | None:
        """The run as it stands now; None for one that was never planned."""
        checkpoint = await self.checkpoints.latest(run)
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

    async def endings(self, picture: Picture) -> Mapping[int, Ending]:
        """How the last dispatch of each item ended, by position."""
        if picture.endings is None:
            async with self.turns.one():
                if picture.endings is None:
                    picture.endings = await self._endings(picture)
        return picture.endings

    async def _read(self, run: RunRef, checkpoint: Checkpoint) -> Picture:
        journal = Journal(self.store, run, self._clock, self._leadership)
        journal.look_at(checkpoint)
        ids = await journal.plan.ids()
        # Of 100,000 items it takes a second or two, in which probes and others are answered.
        books = await asyncio.to_thread(books_of, run, ids, *await journal.history())
        return Picture(run, checkpoint, ids, journal.plan, books)

    async def _endings(self, picture: Picture) -> dict[int, Ending]:
        ledger = picture.books.ledgers[Stage.MAP]
        found: dict[int, Ending] = {}
        newest = picture.checkpoint.sequence, picture.checkpoint.tail_sha256
        async for place, segment in segments_from(self.store, picture.keys, newest):
            for record in segment.records:
                position = ledger.position(record.outcome.dispatch.item_key)
                if record.outcome.stage is Stage.MAP and position is not None and position not in found:
                    message = end_of(record.outcome.message, ENTRY_CHARACTERS)
                    found[position] = Ending(replace(record.outcome, message=message), place)
        return found


async def segments_from(store: ObjectStore, keys: StorageKeys, place: Place) -> AsyncIterator[tuple[Place, Segment]]:
    """The segment at a place and those before it, each with its own place, without results."""
    async for segment in segments_backwards(store, keys, *place, results=False):
        yield place, segment
        place = segment.header.before, segment.header.previous_sha256
