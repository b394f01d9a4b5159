"""One list+watch over the Jobs and one over the pods of all runs.

Keeps the last view of each, skips what did not change, and tells each run of its own. Survives whatever ends a stream:
it goes on from the last version it knows, and lists anew when that is too old. A listing also finds what was deleted
while nobody watched.

What this relies on: a list that names no version is as new as the latest write, whichever API server answers it, and
all its pages are of one version; a watch tells every change after the version it starts from, in order and once, also
where the API server itself has still to reach that version. So knowledge never goes back: nothing that was told as
deleted comes again, and what a watch tells of an unknown object's end was told before.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from mapreduce_operator.core.workloads import PodSeen, Workload
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.ports import Bookmark, Cluster, ClusterError, ClusterErrorReason, WorkloadKind

log = logging.getLogger(__name__)

_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Seconds between tries after failures in a row."""
_TRIES_OF_ONE_VERSION: Final = 4
_TAKEN_AT_ONCE: Final = 500
"""Of a listing; then whoever else has something to do comes first."""

Listener = Callable[[Workload, bool], None]
"""Called with a workload and whether it was deleted."""


class Informer:
    """Knows all Jobs and pods that this operator manages."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster: Final = cluster
        self._listener: Listener | None = None
        self._known: Final[dict[WorkloadKind, dict[str, Workload]]] = {"jobs": {}, "pods": {}}
        self._runs: Final[dict[str, dict[str, Workload]]] = {}
        self._synced: Final[dict[WorkloadKind, asyncio.Event]] = {"jobs": asyncio.Event(), "pods": asyncio.Event()}

    async def serve(self, listener: Listener) -> None:
        """Watches until cancelled, and tells the listener of each change."""
        self._listener = listener
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follow("jobs"))
            tasks.create_task(self._follow("pods"))

    async def wait_until_synced(self) -> None:
        """Returns when both kinds were listed once: what is not known from then on does not exist."""
        for event in self._synced.values():
            await event.wait()

    @property
    def synced(self) -> bool:
        return all(event.is_set() for event in self._synced.values())

    def runs(self) -> list[str]:
        """Uids of all runs that have Jobs or pods."""
        return list(self._runs)

    def known(self, run_uid: str) -> list[Workload]:
        """Jobs and pods of a run, in their last state."""
        return list(self._runs.get(run_uid, {}).values())

    async def _follow(self, kind: WorkloadKind) -> None:
        version: str | None = None
        failures = 0
        while True:
            try:
                if version is None:
                    version = await self._list(kind)
                async with aclosing(self._cluster.watch_workloads(kind, version)) as changes:
                    async for change in changes:
                        version = change.resource_version
                        failures = 0
                        if not isinstance(change, Bookmark):
                            self._take(kind, change.workload, change.deleted)
                failures = 0
                # The server ends a stream every few minutes; one that ends them at once shall not be hammered.
                await asyncio.sleep(_PAUSES[0])
            except ClusterError as error:
                pause = pause_after(failures, _PAUSES)
                failures += 1
                expired = error.reason is ClusterErrorReason.EXPIRED
                if not expired:
                    log.warning("watching %s was interrupted: %s", kind, error)
                # A stream that breaks again and again may do so because of the version it starts from.
                if expired or failures % _TRIES_OF_ONE_VERSION == 0:
                    version = None
                await asyncio.sleep(max(pause, error.retry_after or 0.0))

    async def _list(self, kind: WorkloadKind) -> str:
        listing = await self._cluster.list_workloads(kind)
        present = {workload.uid for workload in listing.workloads}
        for gone in [workload for uid, workload in self._known[kind].items() if uid not in present]:
            self._take(kind, gone, deleted=True)
        for number, workload in enumerate(listing.workloads, start=1):
            self._take(kind, workload, deleted=False)
            if number % _TAKEN_AT_ONCE == 0:
                await asyncio.sleep(0)
        self._synced[kind].set()
        return listing.resource_version

    def _take(self, kind: WorkloadKind, workload: Workload, deleted: bool) -> None:
        known = self._known[kind]
        before = known.get(workload.uid)
        if deleted:
            if before is None:
                return
            del known[workload.uid]
            mine = self._runs[before.carried.run_uid]
            del mine[workload.uid]
            if not mine:
                del self._runs[before.carried.run_uid]
            if isinstance(workload, PodSeen) and not workload.gone:
                workload = workload.as_gone()
        else:
            if before == workload:
                return
            if before is not None and before.carried.run_uid != workload.carried.run_uid:
                # Somebody edited the label: for the run that had it, it is gone.
                self._take(kind, before, deleted=True)
            known[workload.uid] = workload
            self._runs.setdefault(workload.carried.run_uid, {})[workload.uid] = workload
        if self._listener is not None:
            self._listener(workload, deleted)
