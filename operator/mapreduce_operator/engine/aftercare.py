"""When a run that has ended is looked at once more.

It is not in memory any more, and to load it costs as much as it is long. So it is loaded for a Redrive, to purge
letters whose time is over, when its queue is not as the end of the run left it, and when somebody asks for a restart;
again for that when the spec is edited, or when what was in the way may pass by itself.
"""

from typing import Final

from mapreduce_operator.api import DeadLetterQueue, MapReduceJob, MapReduceJobStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.requests import asks_of_ended
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.world import World

SETTLE_SECONDS: Final = 15.0
"""After a start, Kopf tells of all queues within this time; one that is not known then is not there."""
LOOKS_SECONDS: Final = 10.0
"""Between two looks, unless somebody waits."""
REFUSED_SECONDS: Final = (60.0, 120.0, 300.0, 900.0)
"""After a restart or a restore could not be done, more than that, and longer each time."""


class Aftercare:
    """Of one run."""

    def __init__(self, world: World, run: RunRef) -> None:
        self._world: Final = world
        self._run: Final = run
        self._settled_at: Final = world.clock.now() + SETTLE_SECONDS
        self._rested_at = 0.0
        self._generation: int | None = None
        """Of the object, when the run was looked at."""
        self._may_pass = True
        self._looks = 0

    def looked(self, job: MapReduceJob, *, may_pass: bool) -> None:
        """The run was looked at just now, as this asks. `may_pass`: what could not be done may be possible yet."""
        self._rested_at = self._world.clock.now() + LOOKS_SECONDS
        self._looks = self._looks + 1 if job.metadata.generation == self._generation else 0
        self._generation, self._may_pass = job.metadata.generation, may_pass

    def next_look(self, job: MapReduceJob, ended: MapReduceJobStatus | None) -> float | None:
        """In seconds since the epoch; None for never, as things are. `ended` is the last status of the run."""
        if self._world.desk.waiting_for(self._run):
            return 0.0
        if ended is not None and asks_of_ended(job.spec, ended):
            if self._generation != job.metadata.generation:
                # Any field may have been what it waited for.
                return 0.0
            if self._may_pass:
                return self._rested_at + pause_after(self._looks, REFUSED_SECONDS)
        if ended is None or ended.dead_letters is None:
            return None
        queue = self._world.desk.queue_of(self._run)
        if queue is None:
            return max(self._settled_at, self._rested_at + SETTLE_SECONDS)
        if _is_behind(queue, ended):
            return self._rested_at
        purge_at = _purge_at(queue, ended)
        return None if purge_at is None else max(purge_at, self._rested_at)


def _is_behind(queue: DeadLetterQueue, ended: MapReduceJobStatus) -> bool:
    """It is being deleted, was edited, or does not show what the run came to."""
    if queue.metadata.deletion_timestamp is not None or queue.status is None or queue.status.letters is None:
        return True
    letters, told = queue.status.letters, ended.dead_letters
    edited = queue.status.observed_generation != queue.metadata.generation
    return edited or (
        told is not None and (letters.open, letters.total - letters.resolved) != (told.open, told.unresolved)
    )


def _purge_at(queue: DeadLetterQueue, ended: MapReduceJobStatus) -> float | None:
    """When the last of the letters that may be purged is old enough; None where there are none."""
    letters = queue.status.letters if queue.status else None
    if queue.spec.retention_seconds is None or ended.completion_time is None or letters is None:
        return None
    dealt_with = letters.resolved + letters.archived + (letters.open if queue.spec.purge_open else 0)
    return ended.completion_time.timestamp() + queue.spec.retention_seconds + 1.0 if dealt_with else None
