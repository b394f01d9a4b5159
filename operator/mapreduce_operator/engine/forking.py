"""Makes a job with forkFrom what it is: finds its parent, fills in what it leaves out, and carries outcomes over."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ForkFrom, MapReduceJob, MapReduceJobStatus, Phase
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.conditions import Situation
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.forks import with_edits
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.status import Report, status_without_plan
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.engine.effects import announce
from mapreduce_operator.engine.reporter import Reporter
from mapreduce_operator.engine.troubles import reason_of
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import CheckpointNotFoundError, ClusterError, ClusterErrorReason, StorageError

log = logging.getLogger(__name__)

_AGAIN_SECONDS: Final = 5.0
"""A parent may come later, or make its first checkpoint."""
_FILLED_IN: Final = ("map", "reduce", "params")


def parent_of(world: World, namespace: str, source: ForkFrom) -> RunRef:
    """The run to fork from; raises InputError where there is none of that name."""
    name, uid = source.job.name, source.job.uid
    if uid is not None:
        return RunRef(namespace, name, uid)
    run = world.desk.run_named(namespace, name)
    if run is None:
        raise InputError(
            "ForkParentNotFound",
            f"spec.forkFrom.job names the MapReduceJob {name!r}, which does not exist in the namespace {namespace!r}. "
            "Correct the name; if the job was deleted and its storage kept, give its uid as well",
        )
    return run


async def fork(world: World, job: MapReduceJob, source: ForkFrom) -> None:
    """Makes the run of a job from a checkpoint of its parent. Raises InputError, StorageError."""
    child = RunRef.of(job)
    parent = parent_of(world, child.namespace, source)
    # Raises what is wrong with the other edits.
    spec = with_edits(job.spec)
    try:
        await _checkpoints(world).fork(parent, source.checkpoint, child, spec)
    except CheckpointNotFoundError as error:
        raise InputError("CheckpointNotFound", f"spec.forkFrom: {error}") from error
    except JournalError as error:
        raise InputError("ForkParentDamaged", f"spec.forkFrom: {error}") from error


async def fill_in(world: World, body: Mapping[str, Any]) -> None:
    """Fills in the map, and what else a fork leaves out, from its parent's checkpoint: once, for as long as it takes.

    The spec is the user's; but what is missing in it comes from somewhere that may not be there tomorrow.
    """
    metadata, spec = body["metadata"], body["spec"]
    run = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    source = ForkFrom.model_validate(spec["forkFrom"])
    problem: tuple[str, str] | None = None

    def status() -> MapReduceJobStatus:
        situation = Situation(Phase.PLANNING, "Planning", "the fork is being prepared", obstacle=problem)
        generation = metadata.get("generation", 0)
        report = Report(run, generation, situation, world.storage_url, world.clock.now(), reporter.conditions)
        return status_without_plan(report, world.clock.now())

    reporter = Reporter(world.cluster, world.leadership, run, status, None)
    while True:
        try:
            await _fill_in(world, run, source, spec)
        except (InputError, CheckpointNotFoundError, JournalError, StorageError, ClusterError) as error:
            if isinstance(error, ClusterError) and error.reason is ClusterErrorReason.NOT_FOUND:
                return
            found = reason_of(error), f"spec.map is not filled in yet: {error}"
        else:
            return
        if found != problem:
            problem = found
            log.warning("%s/%s: %s", run.namespace, run.name, found[1])
            await announce(world, run, Announce("Warning", *found))
            try:
                await reporter.write()
            except ClusterError as error:
                log.warning("%s/%s: the status was not written: %s", run.namespace, run.name, error)
        await asyncio.sleep(_AGAIN_SECONDS)


async def _fill_in(world: World, run: RunRef, source: ForkFrom, spec: Mapping[str, Any]) -> None:
    parent, checkpoints = parent_of(world, run.namespace, source), _checkpoints(world)
    text = await checkpoints.spec(parent, await checkpoints.find(parent, source.checkpoint))
    was: dict[str, Any] = msgspec.json.decode(text)
    await world.cluster.fill_in_spec(run, {name: was[name] for name in _FILLED_IN if name in was and name not in spec})


def _checkpoints(world: World) -> StoredCheckpoints:
    return StoredCheckpoints(world.store, world.clock, world.leadership, world.limits)
