"""Looks after what no run looks after: queues whose jobs are gone, and Redrives that no run can answer.

A queue with letters outlives its job. What is in it is read from the letters themselves then; its letters go when
their time is over, or when somebody deletes the queue. That a job is gone is concluded from the API server's own word
and never from the mere fact that it is not known here.
"""

import asyncio
import logging
from collections.abc import Container, Coroutine, Mapping
from math import inf
from typing import Final

from mapreduce_operator.api import DeadLetterQueue, LetterState, Redrive, RedriveStatus
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.dead_letters import DeadLetters, Entry
from mapreduce_operator.core.letters import Letter
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.core.queue_report import queue_status
from mapreduce_operator.core.redrive_report import refused, waiting
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.loading import read_books
from mapreduce_operator.engine.reading import letters_in, read_letters
from mapreduce_operator.engine.redrive_answers import write_answer
from mapreduce_operator.engine.world import World
from mapreduce_operator.logs import about_run
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0


async def look_after(world: World, in_our_care: Container[str]) -> None:
    """Looks until cancelled. `in_our_care` are the uids of the runs that look after their own."""
    orphans = Orphans(world)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        for queue in world.desk.queues():
            if queue.spec.job_ref.uid not in in_our_care:
                with about_run(RunRef.of_queue(queue)):
                    await _in_peace(f"the queue {_name(queue)}", orphans.keep(queue))
        for redrive in world.desk.overwritten():
            await _in_peace(f"the Redrive {_name(redrive)}", orphans.answer_again(redrive))
        for redrive in world.desk.waiting():
            found = world.desk.queue_named(redrive.metadata.namespace, redrive.spec.queue)
            if found is None or found.spec.job_ref.uid not in in_our_care:
                await _in_peace(f"the Redrive {_name(redrive)}", orphans.answer(redrive, found))


async def _in_peace(what: str, work: Coroutine[None, None, None]) -> None:
    """What fails for one object is tried again at the next look, and keeps nobody else waiting."""
    try:
        await work
    except (ClusterError, StorageError, JournalError) as error:
        log.warning("%s waits: %s", what, error)
    except Exception:
        # These are what users write: one that nobody thought of must not end the runs of all others.
        log.exception("%s failed unexpectedly and is looked at again", what)


class Orphans:
    """Queues and Redrives without a run."""

    def __init__(self, world: World) -> None:
        self._world: Final = world
        self._gone: Final[set[str]] = set()
        self._next_look: Final[dict[tuple[str, int], float]] = {}
        """When a queue of that uid and generation has something to purge, in seconds since the epoch."""

    async def keep(self, queue: DeadLetterQueue) -> None:
        """Does what a queue whose job is gone is due. Raises ClusterError, StorageError."""
        if not await self._job_is_gone(queue):
            return
        run, metadata = RunRef.of_queue(queue), queue.metadata
        if metadata.deletion_timestamp is not None:
            await self._delete_letters(run)
            await self._world.cluster.remove_queue_finalizer(metadata.namespace, metadata.name, metadata.uid)
            return
        now = self._world.clock.now()
        if now < self._next_look.get((metadata.uid, metadata.generation), 0.0):
            return
        letters, ids = await self._read(queue)
        next_look = await self._purge(queue, letters, ids, now)
        if not len(letters) and _should_have_letters(queue):
            # Another bucket, or a rule that deletes objects: no ground to delete anything.
            log.warning("the queue %s: storage has none of its letters; it is left alone", _name(queue))
            self._next_look[metadata.uid, metadata.generation] = inf
            return
        if not len(letters):
            await self._world.cluster.remove_queue_finalizer(metadata.namespace, metadata.name, metadata.uid)
            await self._world.cluster.delete_queue(metadata.namespace, metadata.name, metadata.uid)
            return
        status = queue_status(
            letters,
            run=run,
            id_of=ids.__getitem__,
            storage_url=self._world.storage_url,
            generation=metadata.generation,
            reprocessing=0,
            full=None,
            mistake="",
            before=queue.status.conditions if queue.status else (),
            now=now,
        )
        if status != queue.status:
            await self._world.cluster.write_queue_status(
                metadata.namespace, metadata.name, metadata.uid, status.to_kubernetes()
            )
        self._next_look[metadata.uid, metadata.generation] = next_look

    async def answer(self, redrive: Redrive, queue: DeadLetterQueue | None) -> None:
        """Says why nothing comes of a Redrive, now or ever. Raises ClusterError."""
        now = self._world.clock.now()
        if queue is None:
            message = (
                f"there is no DeadLetterQueue {redrive.spec.queue!r} in the namespace {redrive.metadata.namespace!r}; "
                "this goes on when there is. `kubectl get dlq` lists those that there are"
            )
            await self._write(redrive, waiting(redrive, "QueueNotFound", message, now))
        elif await self._job_is_gone(queue):
            message = (
                f"the MapReduceJob {queue.spec.job_ref.name!r} of the queue is gone, and with it template and plan. "
                "Its letters can be read, but not be run again: create a new job from them"
            )
            await self._write(redrive, refused(redrive, "JobGone", message, now))

    async def answer_again(self, redrive: Redrive) -> None:
        """Writes the answer that a former leader has overwritten. Raises ClusterError."""
        if redrive.status is not None:
            await write_answer(self._world, redrive, redrive.status)

    async def _write(self, redrive: Redrive, status: RedriveStatus) -> None:
        if status != redrive.status:
            await write_answer(self._world, redrive, status)

    async def _job_is_gone(self, queue: DeadLetterQueue) -> bool:
        run = RunRef.of_queue(queue)
        if run.uid in self._gone:
            return True
        try:
            await self._world.cluster.status_epoch(run)
        except ClusterError as error:
            if error.reason is not ClusterErrorReason.NOT_FOUND:
                raise
            self._gone.add(run.uid)
        return run.uid in self._gone

    async def _read(self, queue: DeadLetterQueue) -> tuple[DeadLetters, dict[int, str]]:
        """All letters that are there, and the ids of their items by position."""
        run = RunRef.of_queue(queue)
        found: list[tuple[Entry, LetterState, str]] = []
        ids: dict[int, str] = {}
        try:
            books = await read_books(Journal(self._world.store, run, self._world.clock, self._world.leadership))
        except JournalError as error:
            log.warning("%s; all letters of the queue %s are taken for open", error, _name(queue))
            books = None
        keys = StorageKeys(run)
        async for key, letter in read_letters(self._world.store, keys, await letters_in(self._world.store, keys)):
            if not isinstance(letter, Letter):
                log.warning("%s", letter or f"{keys.letter(key)} is not in storage any more")
                continue
            state = state_without_job(books, letter.position)
            if state is None:
                continue
            found.append((Entry.of(letter), state, letter.signature))
            ids[letter.position] = letter.id
        letters = DeadLetters()
        # Storage lists them by their keys, which are hashes.
        for one in sorted(found, key=lambda one: one[0].at):
            letters.restore(*one)
        return letters, ids

    async def _purge(self, queue: DeadLetterQueue, letters: DeadLetters, ids: Mapping[int, str], now: float) -> float:
        """Deletes the letters whose time is over; returns when that of the next one is, in seconds since the epoch."""
        run, kept, with_open = RunRef.of_queue(queue), queue.spec.retention_seconds, queue.spec.purge_open
        if kept is None:
            return inf
        expired = letters.expired(now - kept, with_open=with_open)
        keys = [item_key(run.uid, Stage.MAP, ids[position]) for position in expired]
        await self._world.store.delete([StorageKeys(run).letter(key) for key in keys])
        for position in expired:
            letters.remove(position)
        # In the order in which they were added.
        left = letters.expired(inf, with_open=with_open)
        oldest = letters.get(left[0]) if left else None
        return inf if oldest is None else oldest.at + kept

    async def _delete_letters(self, run: RunRef) -> None:
        await self._world.store.delete([key async for key in self._world.store.list(StorageKeys(run).letters)])


def state_without_job(books: Books | None, position: int) -> LetterState | None:
    """Where a letter is whose job is gone: what a Redrive had taken is open again, and all is without a journal.

    None for a body that is no letter by the journal: it was purged, or its item was not given up for good.
    """
    if books is None:
        return LetterState.OPEN
    known = books.account.dead_letters.state(position)
    return LetterState.OPEN if known is LetterState.CLAIMED else known


def _should_have_letters(queue: DeadLetterQueue) -> bool:
    """Its status tells of letters that nobody but a user would delete."""
    told = queue.status.letters if queue.status else None
    if told is None or queue.spec.purge_open:
        return False
    purgeable = told.resolved + (told.archived if queue.spec.retention_seconds is not None else 0)
    return told.total > purgeable


def _name(one: DeadLetterQueue | Redrive) -> str:
    return f"{one.metadata.namespace}/{one.metadata.name}"
