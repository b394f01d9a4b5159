"""Keeps the DeadLetterQueue of one run: makes it with the first letter, and tells there what becomes of the letters."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import DeadLetterQueue, DeadLetterQueueStatus, LetterState
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.letter_queries import Eligibility
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.queue_report import queue_manifest, queue_status
from mapreduce_operator.core.run import RunState
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError, StorageErrorReason

log = logging.getLogger(__name__)

_INTERVAL_SECONDS: Final = 1.0
_PURGE_SECONDS: Final = 60.0
"""How often letters whose time is over are looked for."""
_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
_UID_SHARE: Final = 8


class QueueKeeper:
    """The queue of one run, while it is at work."""

    def __init__(
        self,
        world: World,
        state: RunState,
        letters: Letters,
        id_of: Callable[[int], str],
        wake: Callable[[], None],
    ) -> None:
        """`id_of` gives the id of the item at a position; `wake` lets the run look at its state again."""
        self._world: Final = world
        self._run: Final = state.ref
        self._state: Final = state
        self._letters: Final = letters
        self._id_of: Final = id_of
        self._wake: Final = wake
        self._due: Final = asyncio.Event()
        self._queue: DeadLetterQueue | None = None
        self._written: DeadLetterQueueStatus | None = None
        self._judged: tuple[int, str] = (-1, "")
        self._doomed: list[str] = []
        """Keys of items whose letters are being purged."""
        self._purge_at = 0.0
        self._failed = False
        self._turn: Final = asyncio.Lock()

    @property
    def pending(self) -> bool:
        """Letters are being purged."""
        return bool(self._doomed)

    @property
    def owes(self) -> bool:
        """There are letters of which no queue tells, and nothing is known to keep it from that."""
        found = self._state.dead_letters
        if not len(found) or self._failed:
            return False
        told = self._written.letters if self._queue is not None and self._written is not None else None
        if told is None:
            return True
        resolved = found.counts[LetterState.RESOLVED]
        return (told.total, told.open, told.resolved) != (len(found), found.open_count, resolved)

    @property
    def name(self) -> str:
        """Name of the queue; "" while there is none."""
        return self._queue.metadata.name if self._queue else ""

    def request(self) -> None:
        """Something changed; it will be in the next status."""
        self._due.set()

    async def serve(self) -> None:
        """Keeps the queue until cancelled."""
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PURGE_SECONDS):
                    await self._due.wait()
            self._due.clear()
            failed = False
            # Neither keeps the other waiting: the API server may be away, or storage may not delete.
            for part in (self.keep, self.purge):
                try:
                    await part()
                except (ClusterError, StorageError) as error:
                    failed = True
                    log.warning("%s/%s: the dead letter queue waits: %s", self._run.namespace, self._run.name, error)
            if failed:
                self._due.set()
            await asyncio.sleep(pause_after(failures, _PAUSES) if failed else _INTERVAL_SECONDS)
            failures = failures + 1 if failed else 0

    async def purge(self) -> None:
        """Deletes the letters whose time is over, when it is durable that they are let go. Raises StorageError."""
        if self._doomed and not self._state.unsaved.marks:
            try:
                await self._letters.delete(self._doomed)
            except StorageError as error:
                if error.reason is not StorageErrorReason.FORBIDDEN:
                    raise
                # Nobody counts them any more; that the operator may not delete must not keep the run at work.
                log.warning("%s/%s: bodies of purged letters stay: %s", self._run.namespace, self._run.name, error)
            else:
                log.info("%s/%s: %d letters were purged", self._run.namespace, self._run.name, len(self._doomed))
            self._doomed.clear()
            self._wake()
        now = self._world.clock.now()
        if now >= self._purge_at:
            # To look costs the more the more letters there are.
            self._purge_at = now + _PURGE_SECONDS
            self._doomed += self._state.letterbox.purge(self._state.guard.queue, now)
        if self._doomed:
            self._due.set()
            self._wake()

    async def keep(self) -> None:
        """Makes the queue if there is none, and writes its status if that changed. Raises ClusterError."""
        # One at a time: a status that is slow must not arrive after one that was composed later.
        async with self._turn:
            owed = self.owes
            try:
                await self._keep()
                # One that is going, or gone, comes again by itself: nobody waits for that.
                self._failed = self._queue is None and len(self._state.dead_letters) > 0
            except ClusterError:
                self._failed = True
                raise
            finally:
                if owed and not self.owes:
                    # The end of the run may be told now.
                    self._wake()

    async def _keep(self) -> None:
        known = self._world.desk.queue_of(self._run)
        if known is not None and known.metadata.deletion_timestamp is not None:
            # Its letters stay where they are, and the queue comes again.
            await self._world.cluster.remove_queue_finalizer(
                self._run.namespace, known.metadata.name, known.metadata.uid
            )
            self._queue = None
            return
        if known is not None:
            self._queue = known
        if self._queue is None:
            if not len(self._state.dead_letters):
                return
            self._queue = await self._make()
            self._wake()
        await self._write(self._queue)

    async def _make(self) -> DeadLetterQueue:
        """Under the name of the job, or with a part of its uid behind it where an earlier job's queue has that name."""
        names = (self._run.name, f"{self._run.name}-{self._run.uid[:_UID_SHARE]}")
        # Both are looked for before one is made: the desk may not have been told yet of the one that there is.
        there = {name: await self._world.cluster.get_queue(self._run.namespace, name) for name in names}
        for body in there.values():
            if body is not None and (queue := DeadLetterQueue.model_validate(body)).spec.job_ref.uid == self._run.uid:
                return self._found(queue)
        for name in [name for name, body in there.items() if body is None]:
            manifest = queue_manifest(self._run, name, self._state.spec.dead_letter)
            try:
                await self._world.cluster.create_queue(self._run.namespace, manifest)
            except ClusterError as error:
                if error.reason is not ClusterErrorReason.ALREADY_EXISTS:
                    raise
            body = await self._world.cluster.get_queue(self._run.namespace, name)
            if body is not None and (queue := DeadLetterQueue.model_validate(body)).spec.job_ref.uid == self._run.uid:
                return self._found(queue)
        raise ClusterError(
            ClusterErrorReason.CONFLICT, f"the names {' and '.join(names)} are taken by queues of other jobs"
        )

    def _found(self, queue: DeadLetterQueue) -> DeadLetterQueue:
        self._written = None
        self._world.desk.observe_queue(queue)
        return queue

    async def _write(self, queue: DeadLetterQueue) -> None:
        now = self._world.clock.now()
        conditions = queue.status.conditions if queue.status else ()
        status = queue_status(
            self._state.dead_letters,
            run=self._run,
            id_of=self._id_of,
            storage_url=self._world.storage_url,
            generation=queue.metadata.generation,
            reprocessing=sum(
                self._state.ledgers[Stage.MAP].running_in(number) for number in self._state.redrives.running()
            ),
            full=self._state.guard.full(self._state.dead_letters.open_count),
            mistake=self._mistake(queue),
            before=self._written.conditions if self._written else conditions,
            now=now,
        )
        if status == self._written:
            return
        try:
            await self._world.cluster.write_queue_status(
                self._run.namespace, queue.metadata.name, queue.metadata.uid, status.to_kubernetes()
            )
        except ClusterError as error:
            if error.reason is not ClusterErrorReason.NOT_FOUND:
                raise
            self._world.desk.forget_queue(queue.metadata.uid)
            self._queue = None
            self._due.set()
        else:
            self._written = status
            self._world.desk.reported(queue.metadata.uid, status)

    def _mistake(self, queue: DeadLetterQueue) -> str:
        """What is wrong with the rules of the queue; looked for once per generation."""
        if self._judged[0] != queue.metadata.generation:
            try:
                Eligibility(queue.spec.eligibility)
                self._judged = queue.metadata.generation, ""
            except ExpressionError as error:
                self._judged = queue.metadata.generation, f"{error}. Nothing is redriven until it is corrected"
        return self._judged[1]
