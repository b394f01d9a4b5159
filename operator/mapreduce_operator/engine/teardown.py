"""What happens when a MapReduceJob is deleted: its Jobs go, then its storage, then the finalizer, all in bounded time.

A finalizer that waits for ever is worse than a leftover: what could not be removed in time is named in the log, and
the object is let go.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import LetterState, MapReduceJob, MapReduceJobStatus, OnDelete
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine.handover import remove_parts
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.loading import load
from mapreduce_operator.engine.queue import QueueKeeper
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError

log = logging.getLogger(__name__)

JOBS_SECONDS: Final = 60.0
STORAGE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2.0


Kept = Callable[[str], bool]
"""Says of a key in storage whether the object stays."""


async def letters_left(
    world: World,
    job: MapReduceJob,
    journal: Journal,
    *,
    state: RunState | None,
    ids: list[str],
    written: MapReduceJobStatus | None,
) -> Kept | None:
    """Which objects are dead letters that nobody has resolved: they outlive the job. None where there are none.

    `state` is None for a run that is not in memory; `written` is its last status. Makes the queue if there is none yet.
    """
    run = RunRef.of(job)
    keys = StorageKeys(run)
    if state is None:
        if written is None or written.plan is None:
            return None
        if written.completion_time is not None and not (written.dead_letters and written.dead_letters.unresolved):
            return None
        try:
            async with asyncio.timeout(STORAGE_SECONDS):
                # The head is deleted first: whoever died then knew which letters stay, and nobody knows it now.
                if await journal.peek() is None:
                    return lambda key: key.startswith(keys.letters)
                loaded = await load(world, run, journal, job, planned_before=True)
        except (TimeoutError, InputError, StorageError, JournalError, ClusterError) as error:
            log.warning("%s/%s: all its letters stay, also resolved ones: %s", run.namespace, run.name, error)
            return lambda key: key.startswith(keys.letters)
        state, ids = loaded.state, loaded.ids
    left = {
        keys.letter(state.ledgers[Stage.MAP].key(entry.position))
        for entry, where, _ in state.dead_letters.all()
        if where is not LetterState.RESOLVED
    }
    if not left:
        return None
    if world.desk.queue_of(run) is None:
        keeper = QueueKeeper(world, state, Letters(world, run, journal), ids.__getitem__, lambda: None)
        try:
            async with asyncio.timeout(STORAGE_SECONDS):
                await keeper.keep()
        except (TimeoutError, ClusterError) as error:
            if isinstance(error, ClusterError) and error.reason is ClusterErrorReason.TERMINATING:
                # Whoever deletes a namespace deletes what belongs to it; nobody could look at the letters any more.
                return None
            log.warning("%s/%s: its letters stay without a queue: %s", run.namespace, run.name, error)
    return left.__contains__


async def tear_down(
    world: World, job: MapReduceJob, journal: Journal, letters: Kept | None, changed: asyncio.Event
) -> None:
    """Removes what the run left, and lets the object go. `changed` is set whenever a workload of the run changed.

    Its dead letter queue stays with the objects that `letters` names; with None it goes.
    """
    run = RunRef.of(job)
    try:
        async with asyncio.timeout(JOBS_SECONDS):
            await _delete_jobs(world, run, changed)
    except TimeoutError:
        log.warning("%s/%s: not all Jobs were deleted within %.0f s", run.namespace, run.name, JOBS_SECONDS)
    if job.spec.retention.on_delete is OnDelete.DELETE:
        try:
            async with asyncio.timeout(STORAGE_SECONDS):
                await journal.delete_all(*((letters,) if letters is not None else ()))
        except (TimeoutError, StorageError) as error:
            log.warning("%s/%s: storage was not cleaned up: %s", run.namespace, run.name, str(error) or "time ran out")
    while True:
        try:
            queue = world.desk.queue_of(run)
            if queue is not None and letters is None:
                name, uid = queue.metadata.name, queue.metadata.uid
                await world.cluster.remove_queue_finalizer(run.namespace, name, uid)
                await world.cluster.delete_queue(run.namespace, name, uid)
            await world.cluster.remove_finalizer(run)
        except ClusterError as error:
            log.warning("%s/%s: the finalizer was not removed: %s", run.namespace, run.name, error)
            await asyncio.sleep(max(_RETRY_SECONDS, error.retry_after or 0.0))
        else:
            return


async def _delete_jobs(world: World, run: RunRef, changed: asyncio.Event) -> None:
    while True:
        changed.clear()
        try:
            await world.cluster.delete_jobs(run)
            await remove_parts(world.cluster, run, kept=0)
        except ClusterError as error:
            log.warning("%s/%s: %s", run.namespace, run.name, error)
        if not any(isinstance(workload, JobSeen) for workload in world.known_workloads(run.uid)):
            return
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await changed.wait()
        except TimeoutError:
            continue
