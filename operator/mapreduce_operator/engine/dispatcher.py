"""Creates and deletes the Jobs of one run, and says in the engine's words how that went.

Whatever may pass by itself (an API server that throttles, restarts or does not answer) is waited out here, within a
bound; whatever needs a decision is told.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.core.effects import DeleteJob
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import JSON, Cluster, ClusterError, ClusterErrorReason

log = logging.getLogger(__name__)

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
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

    def __init__(self, cluster: Cluster, run: RunRef) -> None:
        self._cluster: Final = cluster
        self._run: Final = run

    async def create(self, manifest: Mapping[str, JSON]) -> Launched | TemplateRejected | LaunchRefused:
        """Creates a Job under its deterministic name, or finds that it exists already."""
        name: str = manifest["metadata"]["name"]
        message = ""
        for pause in _PAUSES:
            try:
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
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
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
            f"a Job named {name!r} exists in {self._run.namespace!r} and does not belong to this run; delete it",
        )

    async def try_out(self, manifest: Mapping[str, JSON]) -> str | None:
        """The API server's word against a Job, by a dry run; None when it would take it. Waits until it answers."""
        failures = 0
        while True:
            try:
                await self._cluster.create_job(self._run.namespace, manifest, dry_run=True)
            except ClusterError as error:
                if error.reason in {ClusterErrorReason.QUOTA, ClusterErrorReason.ALREADY_EXISTS}:
                    return None
                if error.reason not in _PASSING:
                    return str(error)
                await asyncio.sleep(max(_PAUSES[min(failures, len(_PAUSES) - 1)], error.retry_after or 0.0))
                failures += 1
            else:
                return None

    async def delete(self, job: DeleteJob) -> None:
        """Deletes a Job. A failure never touches the item; a Job that stays is found again by the next operator."""
        error: ClusterError | None = None
        for pause in _PAUSES:
            try:
                await self._cluster.delete_job(self._run.namespace, job.name, job.uid)
            except ClusterError as caught:
                error = caught
                await asyncio.sleep(max(pause, caught.retry_after or 0.0))
            else:
                return
        log.warning("the Job %s/%s was not deleted: %s", self._run.namespace, job.name, error)
