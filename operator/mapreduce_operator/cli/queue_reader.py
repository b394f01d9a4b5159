"""The letters of one dead letter queue as they lie in storage, read one after another and never all at once.

Nothing is written, neither to storage nor to the API server: whoever leads is not disturbed. Where a letter stands
follows from the journal, as in the operator itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Final, NoReturn

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.api import DeadLetterQueue, ItemState, LetterState
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.letter_queries import LetterFilter
from mapreduce_operator.core.letters import Letter, LetterError, decode_letter
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.engine.loading import read_books
from mapreduce_operator.engine.orphans import listed, state_without_job
from mapreduce_operator.engine.reading import read
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason, ObjectStore, StoredObject

AT_ONCE: Final = 32
"""Bodies that are read, and held, at the same time."""


class CommandError(Exception):
    """What a command cannot do, and what to do about it, on one line."""


class ReadOnlyStore:
    """An `ObjectStore` in which nobody can change anything."""

    def __init__(self, store: ObjectStore) -> None:
        self._store: Final = store

    async def get(self, key: str) -> StoredObject | None:
        return await self._store.get(key)

    def list(self, prefix: str) -> AsyncIterator[str]:
        return self._store.list(prefix)

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> NoReturn:
        del data, if_absent, if_match
        raise PermissionError(f"{key} is not written: this store is for reading")

    async def delete(self, keys: Iterable[str]) -> NoReturn:
        raise PermissionError(f"{', '.join(keys)} are not deleted: this store is for reading")


async def run_of_queue(cluster: Cluster, namespace: str, name: str) -> tuple[RunRef, bool]:
    """(the run whose letters a queue holds, whether its MapReduceJob is still there). Raises ClusterError."""
    body = await cluster.get_queue(namespace, name)
    if body is None:
        raise CommandError(
            f"there is no DeadLetterQueue {name!r} in the namespace {namespace!r}; `kubectl get dlq -A` lists all"
        )
    run = RunRef.of_queue(DeadLetterQueue.model_validate(body))
    try:
        await cluster.status_epoch(run)
    except ClusterError as error:
        if error.reason is not ClusterErrorReason.NOT_FOUND:
            raise
        return run, False
    return run, True


class QueueReader:
    """Reads the letters of one run. What it gives is as of the moment at which it is asked first."""

    def __init__(self, store: ObjectStore, run: RunRef, runner: asyncio.Runner, *, job_exists: bool) -> None:
        """`runner` does all waiting, so that whoever goes through the letters may be a plain loop."""
        self._store: Final = ReadOnlyStore(store)
        self._run: Final = run
        self._keys: Final = StorageKeys(run)
        self._runner: Final = runner
        self.unreadable: Final[list[str]] = []
        """What is wrong with the bodies that were passed over."""
        self.states: Final[Mapping[str, LetterState]] = runner.run(self._states_now(job_exists))
        """Where each letter is, by the key of its item, in the order in which they were added."""

    def letters(
        self, state: LetterState | None = None, asked: LetterFilter | None = None, now: float = 0.0
    ) -> Iterator[tuple[Letter, LetterState]]:
        """The letters that are in a state and meant by a filter; all of them without either.

        Raises ExpressionError for a letter for which the filter has no answer, and StorageError.
        """
        keys = [key for key, there in self.states.items() if state in {None, there}]
        for first in range(0, len(keys), AT_ONCE):
            for letter in self._runner.run(self._read_some(keys[first : first + AT_ONCE])):
                there = self.states[letter.key]
                if asked is None or asked.matches(letter, there, now):
                    yield letter, there

    def letter(self, item_id: str) -> tuple[Letter, LetterState]:
        """The letter of one item."""
        key = item_key(self._run.uid, Stage.MAP, item_id)
        state = self.states.get(key)
        if state is None:
            raise CommandError(f"no letter of the queue is of an item {item_id!r}; `mapreduce dlq list` shows all")
        letter = self._runner.run(self._read(key))
        if isinstance(letter, str):
            raise CommandError(letter)
        return letter, state

    # ---------------------------------------------------------------------------------------------- from storage

    async def _states_now(self, job_exists: bool) -> dict[str, LetterState]:
        # The right to lead is only asked for where something is claimed, which reading does not.
        books = await read_books(Journal(self._store, self._run, SystemClock(), SoleLeader()), self._run)
        if not job_exists:
            return await self._states_without_job(books)
        if books is None:
            raise CommandError(
                f"storage has no {self._keys.head}: is this the storage that the operator uses? The status of the "
                "MapReduceJob names it"
            )
        return dict(_states(books, books.account.dead_letters))

    async def _states_without_job(self, books: Books | None) -> dict[str, LetterState]:
        keys = await listed(self._store, self._keys)
        if books is None:
            return dict.fromkeys(keys, LetterState.OPEN)
        positions = {key: books.ledgers[Stage.MAP].position(key) for key in keys}
        states = {key: state_without_job(books, at) for key, at in positions.items() if at is not None}
        return {key: state for key, state in states.items() if state is not None}

    async def _read_some(self, keys: Sequence[str]) -> list[Letter]:
        found = await asyncio.gather(*map(self._read, keys))
        self.unreadable.extend(one for one in found if isinstance(one, str))
        return [one for one in found if isinstance(one, Letter)]

    async def _read(self, key: str) -> Letter | str:
        """The letter of an item, or what is wrong with it."""
        where = self._keys.letter(key)
        stored = await read(self._store, where)
        if stored is None:
            return f"{where} is not in storage: it was purged just now, or is lost"
        try:
            return decode_letter(stored.data, where)
        except LetterError as error:
            return str(error)


def _states(books: Books, letters: DeadLetters) -> Iterator[tuple[str, LetterState]]:
    ledger = books.ledgers[Stage.MAP]
    for entry, state, _ in letters.all():
        runs = state is LetterState.CLAIMED and ledger[entry.position].state is ItemState.RUNNING
        yield ledger.key(entry.position), LetterState.REPROCESSING if runs else state
