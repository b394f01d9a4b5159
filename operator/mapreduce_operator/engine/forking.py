"""Makes a job with forkFrom what it is: finds its parent, fills in what it leaves out, and carries outcomes over."""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from pydantic import ValidationError

from mapreduce_operator.api import ForkFrom, MapReduceJob, MapReduceJobStatus, Phase
from mapreduce_operator.core.checkpoint import CommitReason, JournalError
from mapreduce_operator.core.conditions import Situation
from mapreduce_operator.core.course import end_without_plan
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.forks import inherited_map, with_edits
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.status import Report, seen_at, status_without_plan
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


async def fork(world: World, job: MapReduceJob, source: ForkFrom, started_at: float | None = None) -> None:
    """Makes the run of a job, taken up at that time or now, from a checkpoint of its parent.

    Raises InputError, StorageError.
    """
    child = RunRef.of(job)
    parent = parent_of(world, child.namespace, source)
    # Raises what is wrong with the other edits.
    spec = with_edits(job.spec)
    try:
        making = world.checkpoints.fork(parent, source.checkpoint, child, spec, started_at=started_at)
        await world.counted(CommitReason.FORK, making)
    except CheckpointNotFoundError as error:
        raise InputError("CheckpointNotFound", f"spec.forkFrom: {error}") from error
    except JournalError as error:
        raise InputError("ForkParentDamaged", f"spec.forkFrom: {error}") from error


class Filling:
    """Fills in the map, and what else a fork leaves out, from its parent's checkpoint: once, for as long as it takes.

    The spec is the user's; but what is missing in it comes from somewhere that may not be there tomorrow.
    """

    def __init__(self, world: World, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        self.run: Final = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
        self._world: Final = world
        self._body = body
        self._changed: Final = asyncio.Event()
        self._problem: tuple[str, str] | None = None
        written = MapReduceJobStatus.model_validate(body["status"]) if body.get("status") else None
        started = written.start_time if written is not None else None
        self._start_time: Final = started.timestamp() if started is not None else world.clock.now()
        self._end: Turn | None = None
        self._ended = written if written is not None and written.completion_time is not None else None
        """The status with which the job has ended before it could be filled in."""
        self._reporter: Final = Reporter(world.cluster, world.leadership, self.run, self._status, written)

    @property
    def reported(self) -> MapReduceJobStatus | None:
        """The status as it was written last."""
        return self._reporter.written

    def observe(self, body: Mapping[str, Any]) -> None:
        """The object changed, and its map is missing still."""
        before, self._body = _edition(self._body), body
        if _edition(body) != before:
            # Not for the status: each problem that it tells of would be followed by the next attempt.
            self._changed.set()

    async def serve(self) -> None:
        """Returns when everything is filled in, or the object is gone."""
        while True:
            self._changed.clear()
            try:
                if "deletionTimestamp" in self._body["metadata"]:
                    await self._world.cluster.remove_finalizer(self.run)
                    return
                await self._fill_in()
            except (InputError, CheckpointNotFoundError, JournalError, StorageError, ClusterError) as error:
                if isinstance(error, ClusterError) and error.reason is ClusterErrorReason.NOT_FOUND:
                    return
                await self._tell((reason_of(error), f"spec.map is not filled in yet: {error}"))
            else:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_AGAIN_SECONDS):
                    await self._changed.wait()

    async def _fill_in(self) -> None:
        """Raises CONFLICT when the object has changed since it was looked at: its map may be the user's own by now."""
        spec, metadata = self._body["spec"], self._body["metadata"]
        try:
            source = ForkFrom.model_validate(spec["forkFrom"])
        except ValidationError as error:
            raise InputError("InvalidEdits", f"spec.forkFrom cannot be read: {error.error_count()} problems") from error
        parent, checkpoints = parent_of(self._world, self.run.namespace, source), self._world.checkpoints
        text = await checkpoints.spec(parent, await checkpoints.find(parent, source.checkpoint))
        was: dict[str, Any] = msgspec.json.decode(text)
        missing: dict[str, Any] = {name: was[name] for name in _FILLED_IN if name in was and name not in spec}
        missing["map"] = inherited_map(missing["map"], source, spec.get("input", {}).get("idExpression"))
        await self._world.cluster.fill_in_spec(self.run, missing, version=metadata["resourceVersion"])

    async def _tell(self, problem: tuple[str, str]) -> None:
        spec, before = self._body["spec"], (self._problem, self._end)
        self._problem, self._end = (
            problem,
            end_without_plan(
                cancel=spec.get("cancel", False),
                active_deadline_seconds=spec.get("activeDeadlineSeconds"),
                started_at=self._start_time,
                now=self._world.clock.now(),
            ),
        )
        if (self._problem, self._end) == before:
            return
        if self._problem != before[0]:
            log.warning("%s/%s: %s", self.run.namespace, self.run.name, problem[1])
            await announce(self._world, self.run, Announce("Warning", *problem))
        if self._end is None:
            self._ended = None
        elif self._ended is None:
            self._ended = self._composed(self._end, planned=False)
            await announce(self._world, self.run, Announce("Warning", self._end.phase.value, self._end.message))
        try:
            await self._reporter.write()
        except ClusterError as error:
            log.warning("%s/%s: the status was not written: %s", self.run.namespace, self.run.name, error)

    @property
    def _generation(self) -> int:
        generation: int = self._body["metadata"].get("generation", 0)
        return generation

    def _status(self) -> MapReduceJobStatus:
        if self._ended is not None:
            return seen_at(self._ended, self._generation, "")
        return self._composed(Turn(Phase.PLANNING, "Planning", "the fork is being prepared"))

    def _composed(self, turn: Turn, *, planned: bool = True) -> MapReduceJobStatus:
        url, before = self._world.storage_url, self._reporter.conditions
        situation = Situation(turn.phase, turn.reason, turn.message, planned=planned, obstacle=self._problem)
        report = Report(self.run, self._generation, situation, url, self._start_time, before)
        return status_without_plan(report, self._world.clock.now())


def _edition(body: Mapping[str, Any]) -> tuple[int, bool]:
    """Changes with what users ask of the object."""
    metadata = body["metadata"]
    return metadata.get("generation", 0), "deletionTimestamp" in metadata
