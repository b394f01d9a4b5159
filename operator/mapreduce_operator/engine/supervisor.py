"""Keeps one run per MapReduceJob alive, and brings all of them to a safe stop.

A run that fails by an unexpected exception is started anew after a pause: what it needs is durable or alive in the
cluster, so nothing is lost by it, and no other run notices. Only a run that finds another leader ends them all.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from mapreduce_operator.api import DeadLetterQueue, MapReduceJob, MapReduceJobStatus, Redrive, lacks_map
from mapreduce_operator.api.model import Model
from mapreduce_operator.core.names import ANNOTATION_CHECKPOINT, RunRef
from mapreduce_operator.core.workloads import JobSeen, PodSeen, Workload
from mapreduce_operator.engine.expiry import expire
from mapreduce_operator.engine.forking import Filling
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.leadership import deposition
from mapreduce_operator.engine.orphans import look_after
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.run import Run
from mapreduce_operator.engine.sweep import sweep
from mapreduce_operator.engine.world import World
from mapreduce_operator.logs import about_run
from mapreduce_operator.ports import Vitals

log = logging.getLogger(__name__)

_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds before a failed run is started anew."""
_HEALTHY_SECONDS: Final = 300.0
"""A run that lived so long starts over with the shortest pause."""


class _Charge:
    """One object in our care: its latest version, the run at work on it, and the task that keeps it alive."""

    def __init__(self, job: MapReduceJob) -> None:
        self.job = job
        self.run: Run | None = None
        self.task: asyncio.Task[None] | None = None

    def is_at(self, body: Mapping[str, Any]) -> bool:
        """Nothing that matters changed: our own status updates come back as events once a second."""
        known, metadata = self.job.metadata, body["metadata"]
        annotations = metadata.get("annotations") or {}
        return (
            known.generation == metadata.get("generation")
            and known.annotations.get(ANNOTATION_CHECKPOINT) == annotations.get(ANNOTATION_CHECKPOINT)
            and (known.deletion_timestamp is not None) == ("deletionTimestamp" in metadata)
            # Parsed once more when it is planned, to be rid of its items.
            and not (self.job.spec.input.items and _is_planned(body))
        )


class _Fork:
    """One object whose map is filled in, and the task that does it."""

    def __init__(self, filling: Filling) -> None:
        self.filling: Final = filling
        self.task: asyncio.Task[None] | None = None


class Supervisor:
    """All runs of this operator. `serve` must run for the others to have an effect."""

    def __init__(self, world: World, informer: Informer) -> None:
        self._world: Final = world
        self._informer: Final = informer
        self._charges: Final[dict[str, _Charge]] = {}
        self._forks: Final[dict[str, _Fork]] = {}
        """Those whose map is being filled in; they are told anew when that is done."""
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping: Final = asyncio.Event()

    async def serve(self) -> None:
        """Watches Jobs and pods, and carries all runs. Returns only when cancelled.

        Raises DeposedError as soon as any part finds that this process leads no more; then no run is at work. Raises a
        group of errors when the informer dies.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                tasks.create_task(self._informer.serve(self.notify))
                await self._informer.wait_until_synced()
                tasks.create_task(sweep(self._world, self._informer, self._charges.keys()))
                tasks.create_task(look_after(self._world, self._charges.keys()))
                tasks.create_task(expire(self._world, self._jobs))
                for uid, charge in self._charges.items():
                    known = self._informer.known(uid)
                    alive = {one.uid for one in known if isinstance(one, JobSeen) and not one.finished}
                    # The pod of a Job that somebody deleted goes on until its kubelet ends it.
                    alive |= {one.job_uid for one in known if isinstance(one, PodSeen) and not one.ended}
                    self._world.capacity.hold(RunRef.of(charge.job), len(alive))
                for charge in list(self._charges.values()):
                    self._care(charge, tasks)
                for fork in self._forks.values():
                    self._care_for_fork(fork, tasks)
        except ExceptionGroup as errors:
            if (deposed := deposition(errors)) is not None:
                raise deposed from None
            raise

    def observe(self, body: Mapping[str, Any]) -> None:
        """An object was listed, added or changed.

        It is parsed once per generation, since it may hold 50,000 items, and without them as soon as they are planned.
        """
        metadata = body["metadata"]
        uid: str = metadata["uid"]
        charge = self._charges.get(uid)
        if charge is not None and charge.is_at(body):
            return
        if lacks_map(body):
            self._observe_fork(body)
            return
        self._end_filling(uid)
        job = _read(MapReduceJob, _without_items(body) if _is_planned(body) else body)
        if job is None:
            return
        self._world.desk.observe_job(job)
        if charge is None:
            charge = self._charges[uid] = _Charge(job)
            self._world.metrics.expects(job.metadata.namespace)
            # Before the first listing an existing Job could be taken for one that is gone.
            if self._tasks is not None and self._informer.synced and not self._stopping.is_set():
                self._care(charge, self._tasks)
            return
        charge.job = job
        if charge.run is not None:
            charge.run.observe(job)

    def forget(self, uid: str) -> None:
        """An object is gone, whoever removed its finalizer."""
        self._end_filling(uid)
        charge = self._charges.pop(uid, None)
        if charge is None:
            return
        self._world.desk.forget_job(RunRef.of(charge.job))
        if charge.task is not None:
            charge.task.cancel()

    def _observe_fork(self, body: Mapping[str, Any]) -> None:
        uid = body["metadata"]["uid"]
        fork = self._forks.get(uid)
        if fork is None:
            fork = self._forks[uid] = _Fork(Filling(self._world, body))
        fork.filling.observe(body)
        if self._tasks is not None and self._informer.synced and not self._stopping.is_set():
            self._care_for_fork(fork, self._tasks)

    def _care_for_fork(self, fork: _Fork, tasks: asyncio.TaskGroup) -> None:
        if fork.task is None or fork.task.done():
            with about_run(fork.filling.run):
                fork.task = _begun(tasks, self._keep_filling(fork.filling), f"fill in {fork.filling.run.name}")

    async def _keep_filling(self, filling: Filling) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                await filling.serve()
            except Exception as error:
                if (deposed := deposition(error)) is not None:
                    raise deposed from None
                self._world.metrics.run_crashed()
                log.exception("the fork %s/%s could not be filled in", filling.run.namespace, filling.run.name)
                await asyncio.sleep(pause_after(failures, _PAUSES))
                failures += 1
            else:
                return

    def _end_filling(self, uid: str) -> None:
        fork = self._forks.pop(uid, None)
        if fork is not None and fork.task is not None:
            fork.task.cancel()

    def observe_queue(self, body: Mapping[str, Any]) -> None:
        """A DeadLetterQueue was listed, added or changed."""
        if (queue := _read(DeadLetterQueue, body)) is not None:
            self._world.desk.observe_queue(queue)

    def forget_queue(self, uid: str) -> None:
        """A DeadLetterQueue is gone."""
        self._world.desk.forget_queue(uid)

    def observe_redrive(self, body: Mapping[str, Any]) -> None:
        """A Redrive was listed, added or changed."""
        if (redrive := _read(Redrive, body)) is not None:
            self._world.desk.observe_redrive(redrive)

    def forget_redrive(self, uid: str) -> None:
        """A Redrive is gone; what it has taken comes to its end all the same."""
        self._world.desk.forget_redrive(uid)

    def notify(self, workload: Workload, deleted: bool) -> None:
        """A Job or pod changed: its run should look."""
        charge = self._charges.get(workload.carried.run_uid)
        if charge is not None and charge.run is not None:
            charge.run.notify(workload, deleted)

    def vitals(self) -> Iterator[Vitals]:
        """What metrics tell of each object that there is."""
        for charge in self._charges.values():
            run = charge.run
            yield run.vitals() if run is not None else Vitals(RunRef.of(charge.job), charge.job.status)
        for fork in self._forks.values():
            yield Vitals(fork.filling.run, fork.filling.reported)

    def _jobs(self) -> Iterator[tuple[MapReduceJob, MapReduceJobStatus | None]]:
        """All in our care, each with the status that was written last."""
        for charge in self._charges.values():
            yield charge.job, charge.run.reported if charge.run is not None else charge.job.status

    async def drain(self, seconds: float) -> None:
        """Saves everything and stops all runs; agents keep running. Returns within the given time."""
        self._stopping.set()
        tasks = [charge.task for charge in self._charges.values() if charge.task is not None]
        for charge in self._charges.values():
            if charge.run is not None:
                charge.run.stop()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            if late:
                log.warning(
                    "%d runs were not saved within %.0f s; their finished Jobs are read again", len(late), seconds
                )

    def _care(self, charge: _Charge, tasks: asyncio.TaskGroup) -> None:
        if charge.task is None:
            with about_run(RunRef.of(charge.job)):
                charge.task = _begun(tasks, self._keep_alive(charge), charge.job.metadata.name)

    async def _keep_alive(self, charge: _Charge) -> None:
        failures = 0
        while not self._stopping.is_set():
            charge.run = run = Run(charge.job, self._world)
            started = self._world.clock.now()
            try:
                await run.serve()
            except Exception as error:
                if (deposed := deposition(error)) is not None:
                    raise deposed from None
                if self._world.clock.now() - started > _HEALTHY_SECONDS:
                    failures = 0
                pause = pause_after(failures, _PAUSES)
                failures += 1
                charge.job = charge.job.model_copy(update={"status": run.reported})
                self._world.metrics.run_crashed()
                log.exception(
                    "the run %s/%s failed unexpectedly and starts anew in %.0f s",
                    run.ref.namespace,
                    run.ref.name,
                    pause,
                )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
            else:
                return


def _begun(tasks: asyncio.TaskGroup, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None] | None:
    """The work as a task; None where all work is coming to its end, of which Kopf has not heard yet."""
    try:
        return tasks.create_task(work, name=name)
    except RuntimeError:
        # A group has no other way to say that it takes no tasks any more.
        work.close()
        return None


ModelT = TypeVar("ModelT", bound=Model)


def _read(model: type[ModelT], body: Mapping[str, Any]) -> ModelT | None:
    """The object; None for one that cannot be read, which is said in the log."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        log.error(  # noqa: TRY400 - the text names the fields, a traceback would bury them
            "%s %s/%s cannot be read and is left alone: the CRD in the cluster is not this operator's? %s",
            model.__name__,
            body["metadata"].get("namespace"),
            body["metadata"].get("name"),
            # Fields, never values: a template may hold what no log should.
            "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:5]),
        )
        return None


def _is_planned(body: Mapping[str, Any]) -> bool:
    """Its items are safe in storage, and the API server lets nobody change them any more."""
    match body:
        case {"status": {"plan": {}}}:
            return True
    return False


def _without_items(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same object, but for inline items; Kopf's own stays as it is."""
    match body:
        case {"spec": {"input": {"items": _} as source} as spec}:
            return {**body, "spec": {**spec, "input": {**source, "items": ()}}}
    return body
