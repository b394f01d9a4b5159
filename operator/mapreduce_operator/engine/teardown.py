"""What happens when a MapReduceJob is deleted: its Jobs go, then its storage, then the finalizer, all in bounded time.

A finalizer that waits for ever is worse than a leftover: what could not be removed in time is named in the log, and
the object is let go.
"""

import asyncio
import logging
from typing import Final

from mapreduce_operator.api import OnDelete, Retention
from mapreduce_operator.core.names import RunRef, results_config_map_name
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

JOBS_SECONDS: Final = 60.0
STORAGE_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = 2.0


async def tear_down(
    world: World, run: RunRef, journal: Journal, retention: Retention, changed: asyncio.Event, *, keep_letters: bool
) -> None:
    """Removes what the run left, and lets the object go. `changed` is set whenever a workload of the run changed.

    With `keep_letters` its dead letter queue stays, and the letters with it.
    """
    try:
        async with asyncio.timeout(JOBS_SECONDS):
            await _delete_jobs(world, run, changed)
    except TimeoutError:
        log.warning("%s/%s: not all Jobs were deleted within %.0f s", run.namespace, run.name, JOBS_SECONDS)
    if retention.on_delete is OnDelete.DELETE:
        try:
            async with asyncio.timeout(STORAGE_SECONDS):
                await journal.delete_all(but_letters=keep_letters)
        except (TimeoutError, StorageError) as error:
            log.warning("%s/%s: storage was not cleaned up: %s", run.namespace, run.name, str(error) or "time ran out")
    while True:
        try:
            queue = world.desk.queue_of(run.uid)
            if queue is not None and not keep_letters:
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
            await world.cluster.delete_config_map(run.namespace, results_config_map_name(run))
        except ClusterError as error:
            log.warning("%s/%s: %s", run.namespace, run.name, error)
        if not any(isinstance(workload, JobSeen) for workload in world.known_workloads(run.uid)):
            return
        try:
            async with asyncio.timeout(_RETRY_SECONDS):
                await changed.wait()
        except TimeoutError:
            continue
