"""Deletes Jobs whose MapReduceJob is gone for good.

A run deletes its own Jobs, and Kubernetes those whose owner is gone. What is left is for here: an object that was
deleted with `--cascade=orphan`, or without its finalizer, while no operator was there to see it. Nothing is deleted on
the mere ground that a run is not known: the API server must have said that there is no such object, twice, minutes
apart. Of a Job that something else owns by now, hands are kept off.
"""

import asyncio
import logging
from collections.abc import Container
from typing import Final

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.world import World
from mapreduce_operator.logs import about_run
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 120.0
"""Between two looks. The first comes as late, when Kopf has listed all objects."""


async def sweep(world: World, informer: Informer, in_our_care: Container[str]) -> None:
    """Looks for such Jobs until cancelled. `in_our_care` are the uids of the runs that look after their own."""
    gone: set[RunRef] = set()
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        orphans = _orphans(informer, in_our_care)
        gone_before, gone = gone, {run for run in orphans if await _is_gone(world.cluster, run)}
        for run in gone & gone_before:
            with about_run(run):
                await _delete(world, run, orphans[run])


def _orphans(informer: Informer, in_our_care: Container[str]) -> dict[RunRef, list[JobSeen]]:
    orphans: dict[RunRef, list[JobSeen]] = {}
    for uid in informer.runs():
        if uid in in_our_care:
            continue
        for job in informer.known(uid):
            # Kubernetes takes the owner's reference away when it orphans.
            if isinstance(job, JobSeen) and job.carried.run_name and job.owner_uid in {"", uid} and not job.deleting:
                orphans.setdefault(RunRef(job.namespace, job.carried.run_name, uid), []).append(job)
    return orphans


async def _is_gone(cluster: Cluster, run: RunRef) -> bool:
    try:
        await cluster.status_epoch(run)
    except ClusterError as error:
        if error.reason is ClusterErrorReason.NOT_FOUND:
            return True
        with about_run(run):
            log.warning("%s/%s: whether it is gone is not known: %s", run.namespace, run.name, error)
    return False


async def _delete(world: World, run: RunRef, jobs: list[JobSeen]) -> None:
    deleted = 0
    try:
        for job in jobs:
            async with world.pace.turn():
                await world.cluster.delete_job(job.namespace, job.name, job.uid)
            deleted += 1
    except ClusterError as error:
        log.warning("%s/%s: Jobs without a MapReduceJob stay for now: %s", run.namespace, run.name, error)
    if deleted:
        log.info(
            "%s/%s: the MapReduceJob %s is gone; %d Jobs that it left were deleted",
            run.namespace,
            run.name,
            run.uid,
            deleted,
        )
