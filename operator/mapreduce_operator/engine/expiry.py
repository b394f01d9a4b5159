"""Deletes jobs and Redrives that have ended and whose time to live is over.

What the user asked for meanwhile comes first: an object is deleted only while its status answers to the spec as it is.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from mapreduce_operator.api import MapReduceJob, MapReduceJobStatus, Redrive, RedriveStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.world import World
from mapreduce_operator.logs import about_run
from mapreduce_operator.ports import ClusterError

log = logging.getLogger(__name__)

LOOKS_SECONDS: Final = 10.0
"""Between two looks."""


async def expire(world: World, jobs: Callable[[], Iterable[tuple[MapReduceJob, MapReduceJobStatus | None]]]) -> None:
    """Looks until cancelled. `jobs` gives those in our care, each with the status that was written last."""
    while True:
        await asyncio.sleep(LOOKS_SECONDS)
        now = world.clock.now()
        for job in [one for one, status in jobs() if _is_over(one, status, now)]:
            run = RunRef.of(job)
            # Letters that it has not taken yet would be gone under its hands.
            if not world.desk.waiting_for(run):
                with about_run(run):
                    await _delete(f"the job {run.namespace}/{run.name}", world.cluster.delete_run(run))
        for redrive in world.desk.redrives():
            if _is_over(redrive, redrive.status, now):
                namespace, name = redrive.metadata.namespace, redrive.metadata.name
                await _delete(
                    f"the Redrive {namespace}/{name}",
                    world.cluster.delete_redrive(namespace, name, redrive.metadata.uid),
                )


def _is_over(one: MapReduceJob | Redrive, status: MapReduceJobStatus | RedriveStatus | None, now: float) -> bool:
    lives = one.spec.ttl_seconds_after_finished
    if lives is None or status is None or status.completion_time is None:
        return False
    if one.metadata.deletion_timestamp is not None or status.observed_generation != one.metadata.generation:
        return False
    return now >= status.completion_time.timestamp() + lives


async def _delete(what: str, deletion: Awaitable[None]) -> None:
    try:
        await deletion
    except ClusterError as error:
        log.warning("%s, whose time to live is over, was not deleted yet: %s", what, error)
    else:
        log.info("%s was deleted: its time to live is over", what)
