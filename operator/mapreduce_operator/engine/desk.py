"""The desk: what objects of users say of runs other than their own.

Dead letter queues and Redrives as they were told last, and jobs by their names, since others may be forked from them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mapreduce_operator.api import (
    DeadLetterQueue,
    DeadLetterQueueStatus,
    LetterCounts,
    MapReduceJob,
    Redrive,
    RedriveStatus,
)
from mapreduce_operator.core.checkpoint import Lineage
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.redrive_report import is_over


class Desk:
    """What people ask of dead letters. Whoever subscribed for a run is told when something of it changed."""

    def __init__(self) -> None:
        self._queues: Final[dict[str, DeadLetterQueue]] = {}
        self._queues_of: Final[dict[RunRef, set[str]]] = {}
        """Uids of the queues of each run: asked for by every run, again and again."""
        self._redrives: Final[dict[str, Redrive]] = {}
        self._being_answered: Final[set[str]] = set()
        self._overwritten: Final[dict[str, None]] = {}
        """Uids of Redrives that were answered for good, and whose status may not say so."""
        self._runs: Final[dict[tuple[str, str], RunRef]] = {}
        """By namespace and name."""
        self._forks: Final[dict[str, MapReduceJob]] = {}
        """Jobs that are forked from others, by uid."""
        self._lineages: Final[dict[str, Lineage]] = {}
        self._listeners: Final[dict[RunRef, Callable[[], None]]] = {}

    def subscribe(self, run: RunRef, listener: Callable[[], None]) -> None:
        self._listeners[run] = listener

    def unsubscribe(self, run: RunRef) -> None:
        self._listeners.pop(run, None)

    def observe_job(self, job: MapReduceJob) -> None:
        self._runs[job.metadata.namespace, job.metadata.name] = RunRef.of(job)
        if job.spec.fork_from is not None:
            self._forks[job.metadata.uid] = job

    def forget_job(self, run: RunRef) -> None:
        # Another one of that name may be there by now.
        if self._runs.get((run.namespace, run.name)) == run:
            del self._runs[run.namespace, run.name]
        self._forks.pop(run.uid, None)
        self._lineages.pop(run.uid, None)

    def descends(self, run: RunRef, lineage: Lineage) -> None:
        """The run is a fork, and was made from that checkpoint."""
        self._lineages[run.uid] = lineage

    def observe_queue(self, queue: DeadLetterQueue) -> None:
        known = self._queues.get(queue.metadata.uid)
        if known is not None:
            self._strike_out(known)
        self._queues[queue.metadata.uid] = queue
        self._queues_of.setdefault(RunRef.of_queue(queue), set()).add(queue.metadata.uid)
        # Our own status updates come back as events once a second; a former leader's are news.
        same = known is not None and (known.metadata.generation, _counts(known)) == (
            queue.metadata.generation,
            _counts(queue),
        )
        if not same or queue.metadata.deletion_timestamp is not None:
            self._tell(queue)

    def reported(self, uid: str, status: DeadLetterQueueStatus) -> None:
        """The status of a queue was written."""
        if (known := self._queues.get(uid)) is not None:
            self._queues[uid] = known.model_copy(update={"status": status})

    def forget_queue(self, uid: str) -> None:
        queue = self._queues.pop(uid, None)
        if queue is not None:
            self._strike_out(queue)
            self._tell(queue)

    def _strike_out(self, queue: DeadLetterQueue) -> None:
        run = RunRef.of_queue(queue)
        self._queues_of[run].remove(queue.metadata.uid)
        if not self._queues_of[run]:
            del self._queues_of[run]

    def observe_redrive(self, redrive: Redrive) -> None:
        known = self._redrives.get(redrive.metadata.uid)
        if known is not None and is_over(known) and not is_over(redrive):
            # An echo of what was written before; or a former leader wrote what it believed.
            self._overwritten[redrive.metadata.uid] = None
        else:
            self._overwritten.pop(redrive.metadata.uid, None)
        if known is not None:
            # What this process has written is newer than what comes back.
            redrive = redrive.model_copy(update={"status": known.status or redrive.status})
        self._redrives[redrive.metadata.uid] = redrive
        if known is None:
            self._tell_queue_of(redrive)

    def forget_redrive(self, uid: str) -> None:
        redrive = self._redrives.pop(uid, None)
        self._overwritten.pop(uid, None)
        if redrive is not None:
            self._tell_queue_of(redrive)

    @contextmanager
    def answering(self, redrive: Redrive) -> Iterator[bool]:
        """Whether its status may be written: nobody else is at it, and it is as whoever decided on it knew it.

        Of two writes under way either may be the last one to arrive.
        """
        uid = redrive.metadata.uid
        known = self._redrives.get(uid)
        if uid in self._being_answered or known is None or known.status != redrive.status:
            yield False
            return
        self._being_answered.add(uid)
        try:
            yield True
        finally:
            self._being_answered.remove(uid)

    def answered(self, redrive: Redrive, status: RedriveStatus, *, written: bool = True) -> None:
        """A status was written, or may have been: then it is written again, since somebody may have read it."""
        uid = redrive.metadata.uid
        # Not as it was when the write began: it may be about to be deleted since.
        if (known := self._redrives.get(uid)) is not None:
            self._redrives[uid] = known.model_copy(update={"status": status})
            if written:
                self._overwritten.pop(uid, None)
            else:
                self._overwritten[uid] = None

    def _tell(self, queue: DeadLetterQueue) -> None:
        if (listener := self._listeners.get(RunRef.of_queue(queue))) is not None:
            listener()

    def _tell_queue_of(self, redrive: Redrive) -> None:
        queue = self.queue_named(redrive.metadata.namespace, redrive.spec.queue)
        if queue is not None:
            self._tell(queue)

    # --------------------------------------------------------------------------------------------------- what is so

    def run_named(self, namespace: str, name: str) -> RunRef | None:
        """The run of the job with that name."""
        return self._runs.get((namespace, name))

    def forked_from(self, run: RunRef) -> set[int]:
        """Numbers of the checkpoints of a run that other jobs are forked from, or are about to be."""
        found = set[int]()
        for job in self._forks.values():
            lineage, source = self._lineages.get(job.metadata.uid), job.spec.fork_from
            if lineage is not None and lineage.uid == run.uid:
                found.add(lineage.sequence)
            elif source is not None and source.checkpoint is not None:
                named = source.job.uid is None and source.job.name == run.name
                if job.metadata.namespace == run.namespace and (named or source.job.uid == run.uid):
                    found.add(source.checkpoint)
        return found

    def queues(self) -> list[DeadLetterQueue]:
        return list(self._queues.values())

    def queue_named(self, namespace: str, name: str) -> DeadLetterQueue | None:
        return next(
            (one for one in self._queues.values() if (one.metadata.namespace, one.metadata.name) == (namespace, name)),
            None,
        )

    def queue_of(self, run: RunRef) -> DeadLetterQueue | None:
        """The queue of a run, also while it is being deleted. The oldest, should somebody have made another one."""
        return min(self._of(run), key=_age, default=None)

    def waiting(self) -> list[Redrive]:
        """Redrives that have not come to their end, in the order of their creation."""
        redrives = [one for one in self._redrives.values() if not is_over(one) and not one.metadata.deletion_timestamp]
        return sorted(redrives, key=_age)

    def redrives(self) -> list[Redrive]:
        return list(self._redrives.values())

    def knows(self, uid: str) -> bool:
        """There is a Redrive with that uid, and it is not being deleted."""
        redrive = self._redrives.get(uid)
        return redrive is not None and redrive.metadata.deletion_timestamp is None

    def overwritten(self) -> list[Redrive]:
        """Redrives whose last status may not be the one that is there."""
        return [self._redrives[uid] for uid in self._overwritten]

    def waiting_for(self, run: RunRef) -> list[Redrive]:
        """Those of a run."""
        names = {(run.namespace, one.metadata.name) for one in self._of(run)}
        return [one for one in self.waiting() if (one.metadata.namespace, one.spec.queue) in names] if names else []

    def _of(self, run: RunRef) -> list[DeadLetterQueue]:
        return [self._queues[uid] for uid in self._queues_of.get(run, ())]


def _age(one: DeadLetterQueue | Redrive) -> tuple[str, str]:
    """In the order of their creation; objects of the same second by their names."""
    return str(one.metadata.creation_timestamp), one.metadata.name


def _counts(queue: DeadLetterQueue) -> LetterCounts | None:
    return queue.status.letters if queue.status else None
