"""Creates and deletes the Jobs of one run, and says in the engine's words how that went.

Whatever may pass by itself (an API server that throttles, restarts or does not answer) is waited out here: for a Job
that is to be created within a bound, since the item can wait elsewhere; for one that is to be deleted until it is.
Whatever needs a decision is told. All writes go at the pace that this process shares.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from mapreduce_operator.core.effects import DeleteJob
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import JobSeen, PodSeen
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.ports import JSON, Cluster, ClusterError, ClusterErrorReason

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_REMOVAL_PAUSES: Final = (*_PAUSES, 10.0, 20.0, 30.0)
"""Seconds between the tries of one write, beside what the pace asks of all."""
_REMOVAL_TRIES_IN_SILENCE: Final = 3
_PASSING: Final = frozenset({ClusterErrorReason.THROTTLED, ClusterErrorReason.UNAVAILABLE, ClusterErrorReason.CONFLICT})


@dataclass(frozen=True, slots=True)
class Launched:
    """The Job exists, created by this call or by an earlier one whose answer was lost."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TemplateRejected:
    """The API server says that such a Job is wrong; another try changes nothing until the template does."""

    message: str


@dataclass(frozen=True, slots=True)
class LaunchRefused:
    """There is no Job, and another try later may do: a quota, a name that is taken, an API server that is away."""

    reason: str
    message: str


class Dispatcher:
    """Jobs of one run."""

    def __init__(self, cluster: Cluster, run: RunRef, pace: Pace) -> None:
        self._cluster: Final = cluster
        self._run: Final = run
        self._pace: Final = pace
        self._told: Final[dict[str, ClusterErrorReason]] = {}
        """Why removals of a kind fail, as far as the log says so already."""

    async def create(
        self, manifest: Mapping[str, JSON], is_wanted: Callable[[], bool]
    ) -> Launched | TemplateRejected | LaunchRefused | None:
        """Creates a Job under its deterministic name, or finds that it exists already.

        `is_wanted` is asked before each request: while an answer that was lost is waited for, the Job may run, end and
        be deleted, and its name is free again. None when it is not wanted any more.
        """
        name: str = manifest["metadata"]["name"]
        message = ""
        for pause in _PAUSES:
            try:
                async with self._pace.turn():
                    if not is_wanted():
                        return None
                    created = await self._cluster.create_job(self._run.namespace, manifest)
                return Launched(name, created.uid)
            except ClusterError as error:
                message = str(error)
                if error.reason is ClusterErrorReason.ALREADY_EXISTS:
                    found = await self._adopt(name)
                    if found is not None:
                        return found
                elif error.reason is ClusterErrorReason.INVALID or error.reason is ClusterErrorReason.FORBIDDEN:
                    return TemplateRejected(message)
                elif error.reason is ClusterErrorReason.QUOTA:
                    return LaunchRefused("QuotaLimited", message)
                elif error.reason not in _PASSING:
                    return LaunchRefused("JobRefused", message)
                await asyncio.sleep(pause)
        return LaunchRefused("ClusterUnavailable", message)

    async def _adopt(self, name: str) -> Launched | LaunchRefused | None:
        """None when the Job of that name vanished meanwhile, or could not be looked at."""
        try:
            found = await self._cluster.get_job(self._run.namespace, name)
        except ClusterError as error:
            log.warning("%s/%s: %s", self._run.namespace, name, error)
            return None
        if found is None:
            return None
        uid, owner_uid = found
        if owner_uid == self._run.uid:
            return Launched(name, uid)
        return LaunchRefused(
            "JobNameTaken",
            f"a Job named {name!r} exists in the namespace {self._run.namespace!r} and does not belong to this run. "
            f"Delete it (`kubectl -n {self._run.namespace} delete job {name}`); the item is then run by itself",
        )

    async def try_out(self, manifest: Mapping[str, JSON]) -> str | None:
        """The API server's word against a Job, by a dry run; None when it would take it. Waits until it answers."""
        failures = 0
        while True:
            try:
                async with self._pace.turn():
                    await self._cluster.create_job(self._run.namespace, manifest, dry_run=True)
            except ClusterError as error:
                if error.reason in {ClusterErrorReason.QUOTA, ClusterErrorReason.ALREADY_EXISTS}:
                    return None
                if error.reason not in _PASSING:
                    return str(error)
                await asyncio.sleep(pause_after(failures, _PAUSES))
                failures += 1
            else:
                return None

    async def delete(self, job: DeleteJob) -> None:
        """Deletes a Job, and does not return before it has. No failure touches the item."""
        await self._remove("jobs", job.name, lambda: self._cluster.delete_job(self._run.namespace, job.name, job.uid))

    async def find_pod(self, job: JobSeen) -> PodSeen | None:
        """The pod of a Job, or None where there is none. Asks until it gets an answer."""
        return await self._answer(job, lambda: self._cluster.find_pod(job.namespace, job.uid))

    async def is_gone(self, job: JobSeen) -> bool:
        """There is no such Job any more. Asks until it gets an answer."""
        found = await self._answer(job, lambda: self._cluster.get_job(job.namespace, job.name))
        return found is None or found[0] != job.uid

    async def _answer(self, job: JobSeen, question: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await question()
            except ClusterError as error:
                log.warning("%s/%s: %s", job.namespace, job.name, error)
                await asyncio.sleep(max(pause_after(failures, _PAUSES), error.retry_after or 0.0))
                failures += 1

    async def remove_pod(self, name: str, uid: str) -> None:
        """Removes a pod without waiting for its kubelet, and does not return before it has."""
        await self._remove("pods", name, lambda: self._cluster.delete_pod(self._run.namespace, name, uid))

    async def _remove(self, kind: str, name: str, request: Callable[[], Awaitable[None]]) -> None:
        failures = 0
        while True:
            try:
                async with self._pace.turn():
                    await request()
            except ClusterError as error:
                self._tell(kind, name, error, failures)
                # A right that is missing is not there a second later.
                step = len(_REMOVAL_PAUSES) if error.reason is ClusterErrorReason.FORBIDDEN else failures
                await asyncio.sleep(pause_after(step, _REMOVAL_PAUSES))
                failures += 1
            else:
                self._told.pop(kind, None)
                return

    def _tell(self, kind: str, name: str, error: ClusterError, failures: int) -> None:
        """Says once for all objects of a kind why they stay: what keeps one from going keeps hundreds."""
        passing = error.reason in _PASSING and failures < _REMOVAL_TRIES_IN_SILENCE
        if passing or self._told.get(kind) is error.reason:
            return
        self._told[kind] = error.reason
        cure = (
            f'. Grant the operator\'s service account the verb "delete" on "{kind}" in this namespace'
            if error.reason is ClusterErrorReason.FORBIDDEN
            else ""
        )
        log.warning(
            "%s/%s: %s such as %s stay and are deleted as soon as that is possible: %s%s",
            self._run.namespace,
            self._run.name,
            kind,
            name,
            error,
            cure,
        )
