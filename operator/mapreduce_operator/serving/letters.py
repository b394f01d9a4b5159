"""The letters of one dead letter queue as they lie in storage, read one after another and never all at once.

Where a letter stands follows from the journal, as in the operator itself.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ItemState, LetterState
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.dead_letters import ENTRY_CHARACTERS
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.letter_analysis import Comparison
from mapreduce_operator.core.letter_export import json_line
from mapreduce_operator.core.letter_queries import FIELDS, LetterFilter
from mapreduce_operator.core.letters import Letter
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.engine.orphans import state_without_job
from mapreduce_operator.engine.reading import letters_in, read_letters
from mapreduce_operator.ports import ObjectStore
from mapreduce_operator.serving.errors import RefusedError
from mapreduce_operator.serving.filtering import Filters
from mapreduce_operator.serving.pictures import Picture, Pictures, Warn


class Letters:
    """Those of one run. What it gives is as of the moment at which its states were read."""

    def __init__(self, store: ObjectStore, run: RunRef, states: Mapping[str, LetterState]) -> None:
        self._store: Final = store
        self._run: Final = run
        self._keys: Final = StorageKeys(run)
        self._states: Final = states
        """Where each letter is, by the key of its item, in the order in which they were added."""
        self._unreadable: Final[dict[str, str]] = {}
        """What is wrong with the bodies that were passed over, by the same keys."""

    @classmethod
    async def of(cls, pictures: Pictures, run: RunRef, warn: Warn, *, job_exists: bool) -> "Letters":
        """The letters of a run. Raises RefusedError, JournalError, StorageError."""
        keys = StorageKeys(run)
        picture = await (pictures.newest(run, warn) if job_exists else cls._of_a_job_that_is_gone(pictures, run, warn))
        if picture is None and job_exists:
            raise RefusedError(
                404,
                "NotInStorage",
                f"storage has no {keys.head}: is this the storage that the operator uses? The status of the "
                "MapReduceJob names it",
            )
        if picture is None:
            return cls(pictures.store, run, dict.fromkeys(await letters_in(pictures.store, keys), LetterState.OPEN))
        books, ledger = picture.books, picture.books.ledgers[Stage.MAP]
        states = {
            ledger.key(entry.position): state
            for entry, _, _ in books.account.dead_letters.all()
            if (state := state_of_letter(books, entry.position, job_exists=job_exists)) is not None
        }
        if not job_exists:
            # Some bodies may have been deleted since, which the journal of a job that is gone does not tell of.
            there = set(await letters_in(pictures.store, keys))
            states = {key: state for key, state in states.items() if key in there}
        return cls(pictures.store, run, states)

    @staticmethod
    async def _of_a_job_that_is_gone(pictures: Pictures, run: RunRef, warn: Warn) -> Picture | None:
        """None where the journal does not tell: the operator takes all letters for open then, and they are."""
        try:
            checkpoint = await pictures.checkpoints.latest(run)
            return None if checkpoint is None else await pictures.of(run, checkpoint)
        except JournalError as error:
            warn(f"{error}; the job is gone, and all of its letters are taken for open")
            return None

    async def chosen(
        self, state: LetterState | None, asked: LetterFilter | None, now: float, filters: Filters
    ) -> list[str]:
        """Keys of the letters that are in a state and meant by a filter; all of them without either.

        Raises ExpressionError for a letter for which the filter has no answer, RefusedError where it takes too long,
        and StorageError.
        """
        keys = [key for key, there in self._states.items() if state in {None, there}]
        if asked is None:
            return keys
        found = filters.passed(self._read(keys), lambda entry: asked.matches(*entry, now))
        return [letter.key async for letter, _ in found]

    async def in_short(self, keys: Iterable[str]) -> AsyncIterator[bytes]:
        """A line for each letter, with what filters know, and the end of its message."""
        async for letter, state in self._read(keys):
            row = {name: get(letter, state) for name, get in FIELDS.items()}
            row["message"] = end_of(letter.message, ENTRY_CHARACTERS)
            yield msgspec.json.encode(row) + b"\n"
        self._check()

    async def whole(self, keys: Iterable[str]) -> AsyncIterator[bytes]:
        """A line for each letter, with all that there is of it."""
        async for letter, state in self._read(keys):
            yield json_line(letter, state)
        self._check()

    async def one(self, item_id: str, queue: str) -> bytes:
        """The letter of one item, whole. `queue` is where it is looked for, by its name."""
        key = item_key(self._run.uid, Stage.MAP, item_id)
        if key not in self._states:
            raise RefusedError(
                404,
                "LetterNotFound",
                f"no letter of the queue is of an item {item_id!r}; `kubectl mapreduce dlq list {queue} "
                f"-n {self._run.namespace}` shows all",
            )
        async for letter, state in self._read([key]):
            return json_line(letter, state)
        raise RefusedError(500, "Damaged", self._unreadable[key])

    async def compared(self, keys: Iterable[str]) -> dict[str, Any]:
        """What the letters have in common."""
        comparison, states = Comparison(), Counter[str]()
        async for letter, state in self._read(keys):
            comparison.add(letter)
            states[state.value] += 1
        self._check()
        found: dict[str, Any] = msgspec.to_builtins(comparison.analysis())
        return found | {"states": dict(states.most_common())}

    async def _read(self, keys: Iterable[str]) -> AsyncIterator[tuple[Letter, LetterState]]:
        async for key, letter in read_letters(self._store, self._keys, keys):
            if isinstance(letter, Letter):
                yield letter, self._states[key]
            elif letter is None:
                where = self._keys.letter(key)
                self._unreadable[key] = f"{where} is not in storage: it was purged just now, or is lost"
            else:
                self._unreadable[key] = str(letter)

    def _check(self) -> None:
        if self._unreadable:
            raise RefusedError(
                500,
                "LettersUnreadable",
                f"{len(self._unreadable):,} of {len(self._states):,} letters could not be read and are left out, such "
                f"as: {next(iter(self._unreadable.values()))}",
            )


def state_of_letter(books: Books, position: int, *, job_exists: bool) -> LetterState | None:
    """Where the letter of an item is; None for one that has none."""
    if not job_exists:
        return state_without_job(books, position)
    state = books.account.dead_letters.state(position)
    runs = state is LetterState.CLAIMED and books.ledgers[Stage.MAP][position].state is ItemState.RUNNING
    return LetterState.REPROCESSING if runs else state
