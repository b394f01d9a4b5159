"""What survived of a damaged journal, made whole: facts whose causes are lost are left out or fitted to what is known.

A line that is lost takes away one fact, and others may build on it: the outcome of a dispatch on its start, a claim on
the dead letter that it takes, a mark on a letter. Each is held against the run as it has been read back so far. What
cannot be so any more is dropped; that a dispatch was there is never forgotten, since its number must not come again.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

import msgspec

from mapreduce_operator.api import ItemState, LetterState
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, Claim, Mark, MarkKind, Record, Segment, Start, Undone
from mapreduce_operator.core.names import Stage

_WAITING: Final = frozenset({ItemState.PENDING, ItemState.RETRY_WAIT})


def fitted(segment: Segment, books: Books) -> Segment:
    """The segment as it can follow what the books hold."""
    return _Fitting(segment, books).segment()


class _Fitting:
    def __init__(self, segment: Segment, books: Books) -> None:
        self._segment = segment
        self._books = books
        self._letters = books.account.dead_letters
        self._dispatches: dict[tuple[Stage, str], int] = {}
        """How many dispatches an item has had at least, where a fact that tells so is dropped or changed."""

    def segment(self) -> Segment:
        header = self._segment.header
        starts = tuple(start for start in header.starts if self._is_started(start))
        redrives = list(self._redrives())
        numbers = {*range(1, len(self._books.account.redrives) + len(redrives) + 1)}
        claims = tuple(claim for claim in header.claims if self._is_claimed(claim, numbers))
        taken = Counter(claim.redrive for claim in claims)
        claimed = {claim.key: claim.redrive for claim in claims}
        records = list(self._records(claimed, {start.key for start in starts}))
        fitting = msgspec.structs.replace(
            header,
            starts=starts,
            redrives=tuple(msgspec.structs.replace(one, selected=taken[one.number]) for one in redrives),
            claims=claims,
            marks=tuple(mark for mark in header.marks if self._is_marked(mark)),
            called_off=tuple(one for one in header.called_off if one.number in numbers),
            given_back=tuple(key for key in header.given_back if self._is_given_back(key, numbers)),
            left_out=tuple(key for key in header.left_out if self._is_left_out(key)),
            count=len(records),
        )
        # Last, since all of the above may tell of dispatches.
        undone = (Undone(stage, key, dispatches) for (stage, key), dispatches in self._dispatches.items())
        return Segment(msgspec.structs.replace(fitting, undone=(*header.undone, *undone)), records)

    def _item(self, stage: Stage, key: str) -> Item | None:
        ledger = self._books.ledgers[stage]
        position = ledger.position(key)
        return None if position is None else ledger[position]

    def _counts(self, stage: Stage, key: str, dispatches: int) -> None:
        self._dispatches[stage, key] = max(dispatches, self._dispatches.get((stage, key), 0))

    def _is_started(self, start: Start) -> bool:
        item = self._item(start.stage, start.key)
        if item is None:
            return False
        if item.final:
            self._counts(start.stage, start.key, start.dispatch)
            return False
        if item.dispatch < start.dispatch:
            self._counts(start.stage, start.key, start.dispatch - 1)
        return True

    def _redrives(self) -> Iterator[Accepted]:
        """Those whose numbers go on from the known ones: after one that is lost, the others are taken anew."""
        known = len(self._books.account.redrives)
        for accepted in self._segment.header.redrives:
            if accepted.number == known + 1:
                known += 1
                yield accepted

    def _is_claimed(self, claim: Claim, numbers: set[int]) -> bool:
        item = self._item(claim.stage, claim.key)
        if item is None or not item.final or claim.redrive not in {0, *numbers}:
            return False
        if claim.excused > item.interruptions:
            self._counts(claim.stage, claim.key, item.attempts + claim.excused)
        return True

    def _records(self, claimed: Mapping[str, int], started: set[str]) -> Iterator[Record]:
        for record in self._segment.records:
            outcome, after = record.outcome, record.item
            key = outcome.dispatch.item_key
            before = self._item(outcome.stage, key)
            if before is None:
                continue
            if before.final and key not in started and not after.final:
                # What it was taken from its letter by is lost: it stays there.
                self._counts(outcome.stage, key, outcome.dispatch.number)
            elif before.state is not ItemState.SUCCEEDED or outcome.stage is Stage.REDUCE:
                # It is of the Redrive that took the item, as far as that is known.
                redrive = claimed.get(key, 0 if before.final else before.redrive)
                fits = after.redrive == redrive
                yield (
                    record
                    if fits
                    else Record(outcome, replace(after, redrive=redrive, allowed=after.allowed if redrive else 0))
                )

    def _is_marked(self, mark: Mark) -> bool:
        position = self._books.ledgers[Stage.MAP].position(mark.key)
        state = None if position is None else self._letters.state(position)
        return state is not None if mark.kind is MarkKind.PURGED else state is LetterState.OPEN

    def _is_given_back(self, key: str, numbers: set[int]) -> bool:
        item, position = self._item(Stage.MAP, key), self._books.ledgers[Stage.MAP].position(key)
        if item is None or position is None:
            return False
        return item.redrive in numbers and item.state in _WAITING

    def _is_left_out(self, key: str) -> bool:
        item, position = self._item(Stage.MAP, key), self._books.ledgers[Stage.MAP].position(key)
        if item is None or position is None:
            return False
        return item.state in _WAITING and self._letters.get(position) is None
