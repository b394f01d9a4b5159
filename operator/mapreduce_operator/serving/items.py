"""The items of one run, as they are told: where each stands, all of one, and what they came to."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ItemState
from mapreduce_operator.core.checkpoint import DamagedError
from mapreduce_operator.core.item_queries import ItemFilter, ItemStatus
from mapreduce_operator.core.journal import decode_segment
from mapreduce_operator.core.letter_queries import FIELDS
from mapreduce_operator.core.letters import Attempt, Letter
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.texts import counted
from mapreduce_operator.engine.reading import read_checked, read_letter
from mapreduce_operator.serving.errors import ADVICE, RefusedError
from mapreduce_operator.serving.filtering import Filters
from mapreduce_operator.serving.letters import state_of_letter
from mapreduce_operator.serving.pictures import (
    Ending,
    Picture,
    Pictures,
    Place,
    Warn,
    ended_dispatches,
    left_of,
    records_from,
)

AT_ONCE: Final = 10_000
"""So many results, of 4 KiB at most, are held at a time, to be told in the order of the plan."""
_SEGMENTS: Final = 8
_PAUSE: Final = 1000
"""After so many items others get their turn."""


class Items:
    """As of one checkpoint. `running` are positions whose agents are at work since."""

    def __init__(self, pictures: Pictures, filters: Filters, picture: Picture, running: Collection[int] = ()) -> None:
        self._pictures: Final = pictures
        self._filters: Final = filters
        self._store: Final = pictures.store
        self._picture: Final = picture
        self._ledger: Final = picture.books.ledgers[Stage.MAP]
        self._running: Final = running
        self._damage: Final[list[str]] = []
        """What of the journal could not be read for this answer."""

    # -------------------------------------------------------------------------------------------------- all of them

    async def told(
        self, state: ItemState | None, asked: ItemFilter | None, limit: int, now: float
    ) -> AsyncIterator[bytes]:
        """A line for each item that is in a state and meant by a filter, in the order of the plan; `limit` at most.

        Raises ExpressionError before the first line for an item for which the filter has no answer, and RefusedError
        where the filter takes too long; or after the last line where not all can be read.
        """
        endings = await self._pictures.endings(self._picture, self._damage)
        entries = self._in_state(endings, state, with_payload=asked is not None and asked.asks_item)
        if asked is not None:
            entries = self._filters.passed(entries, lambda entry: asked.matches(*entry, now))
        chosen = list(islice([status.position async for status, _ in entries], limit or None))
        for position in chosen:
            yield msgspec.json.encode(self._status(position, endings)) + b"\n"
        # What is lost of the others may be what a filter asks for.
        self._check(
            [one for one in (chosen if asked is None else range(len(self._ledger))) if self._lost(one, endings)]
        )

    def _lost(self, position: int, endings: Mapping[int, Ending]) -> bool:
        """How its last dispatch ended cannot be read."""
        return position not in endings and ended_dispatches(self._ledger[position]) > 0

    def _check(self, lost: Sequence[int]) -> None:
        if self._damage and lost:
            raise RefusedError(
                500,
                "ItemsUnreadable",
                f"how the last dispatch of {counted(len(lost), 'item')} ended cannot be read, nor its result, such as "
                f"of {self._picture.ids[lost[0]]!r}: {self._damage[0]}; {ADVICE}",
            )

    async def _in_state(
        self, endings: Mapping[int, Ending], state: ItemState | None, *, with_payload: bool
    ) -> AsyncIterator[tuple[ItemStatus, bytes]]:
        payloads = self._picture.plan.items() if with_payload else None
        for position in range(len(self._ledger)):
            payload = (await anext(payloads)).payload if payloads is not None else b""
            status = self._status(position, endings)
            if state in {None, status.state}:
                yield status, payload
            if not position % _PAUSE:
                await asyncio.sleep(0)

    def _status(self, position: int, endings: Mapping[int, Ending]) -> ItemStatus:
        item, ending = self._ledger[position], endings.get(position)
        runs = position in self._running and not item.final
        outcome = None if ending is None else ending.outcome
        return ItemStatus.of(self._picture.ids[position], position, item, outcome, runs=runs)

    # ----------------------------------------------------------------------------------------------------------- one

    async def one(self, position: int, warn: Warn, *, job_exists: bool) -> dict[str, Any]:
        """All that is known of an item."""
        picture = self._picture
        endings = await self._pictures.endings(picture, self._damage)
        key, ending = picture.key(position), endings.get(position)
        letter = await read_letter(self._store, picture.keys, key)
        state = state_of_letter(picture.books, position, job_exists=job_exists)
        results = {} if ending is None else await self._results({position: ending})
        if self._lost(position, endings) or (
            self._ledger[position].state is ItemState.SUCCEEDED and position not in results
        ):
            self._check([position])
        history = await self._history(position, ending, letter)
        if self._damage and len(history) < ended_dispatches(self._ledger[position]):
            warn(f"the history of the item is not whole: {self._damage[0]}; {ADVICE}")
        return {
            **msgspec.to_builtins(self._status(position, endings)),
            "key": key,
            "dispatch": self._ledger[position].dispatch,
            "payload": msgspec.Raw((await picture.plan.item(position)).payload),
            "result": results.get(position),
            "history": history,
            "letter": None
            if letter is None or state is None
            else {name: get(letter, state) for name, get in FIELDS.items()} | {"omitted": letter.omitted},
        }

    async def _history(self, position: int, ending: Ending | None, letter: Letter | None) -> list[Attempt]:
        """Its dispatches in their order: as the journal knows them, or as its letter does, which has more to tell."""
        key, redrives = self._picture.key(position), self._picture.books.account.redrives
        ended = self._ledger[position].attempts + self._ledger[position].interruptions
        found: dict[int, Attempt] = {}
        if ending is not None:
            async with self._pictures.turns.one():
                async for _, records in records_from(self._store, self._picture, ending.place, self._damage):
                    for record in records:
                        outcome, number = record.outcome, record.item.redrive
                        if outcome.dispatch.item_key == key:
                            name = redrives[number].accepted.name if number else ""
                            attempt = Attempt.of(outcome, redrive=name, redrive_number=number)
                            found[outcome.dispatch.number] = attempt
                    if len(found) >= ended:
                        break
        found |= {attempt.dispatch: attempt for attempt in (letter.history if letter is not None else ())}
        return [found[number] for number in sorted(found)]

    # ------------------------------------------------------------------------------------------------------- results

    async def results(self) -> AsyncIterator[bytes]:
        """A line with position, id and result for each item that has succeeded, in the order of the plan.

        Raises RefusedError after the last one where results are lost.
        """
        endings, lost = await self._pictures.endings(self._picture, self._damage), list[int]()
        done = (one for one in range(len(self._ledger)) if self._ledger[one].state is ItemState.SUCCEEDED)
        while some := list(islice(done, AT_ONCE)):
            async with self._pictures.turns.one():
                found = await self._results({position: endings[position] for position in some if position in endings})
            for position in some:
                if position in found:
                    line = {"position": position, "id": self._picture.ids[position], "result": found[position]}
                    yield msgspec.json.encode(line) + b"\n"
                else:
                    lost.append(position)
        self._check(lost)

    async def _results(self, endings: Mapping[int, Ending]) -> dict[int, msgspec.Raw]:
        """The results of dispatches, by position, of those that have one."""
        places: defaultdict[Place, dict[tuple[str, int], int]] = defaultdict(dict)
        for position, ending in endings.items():
            dispatch = ending.outcome.dispatch
            places[ending.place][dispatch.item_key, dispatch.number] = position
        found: dict[int, msgspec.Raw] = {}
        left = iter(places.items())
        while some := list(islice(left, _SEGMENTS)):
            for told in await asyncio.gather(*(self._results_in(place, wanted) for place, wanted in some)):
                found |= told
        return found

    async def _results_in(self, place: Place, wanted: Mapping[tuple[str, int], int]) -> dict[int, msgspec.Raw]:
        key = self._picture.keys.segment(*place)
        decode = partial(decode_segment, expected_sha256=place[1], where=key)
        try:
            records = (await read_checked(self._store, key, decode)).records
        except DamagedError as error:
            records = (await left_of(self._store, key)).records
            self._damage.append(str(error))
        found: dict[int, msgspec.Raw] = {}
        for record in records:
            dispatch, result = record.outcome.dispatch, record.outcome.result
            position = wanted.get((dispatch.item_key, dispatch.number))
            if position is not None and result is not None:
                found[position] = msgspec.Raw(result)
        return found


def result_of_reduce(picture: Picture) -> dict[str, Any]:
    """Where the reduce of a run stands, and what it came to."""
    item, tally = picture.books.ledgers[Stage.REDUCE][0], picture.books.account.tally
    return {
        "state": item.state,
        "attempts": item.attempts,
        "message": "" if item.state is ItemState.SUCCEEDED else tally.reduce_message,
        "result": None if tally.reduce_result is None else msgspec.Raw(tally.reduce_result),
    }
