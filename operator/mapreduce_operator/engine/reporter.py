"""Writes the status of one job: at most once a second, and only when something changed.

A status carries the epoch of the leadership under which it was written, and replaces no status of a later leader.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import Condition, MapReduceJobStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason, Leadership

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0
_ATTEMPTS: Final = 5


class Reporter:
    """Asks for the status when it is time to write it, so that many changes become one request."""

    def __init__(
        self,
        cluster: Cluster,
        leadership: Leadership,
        run: RunRef,
        compose: Callable[[], MapReduceJobStatus | None],
        written: MapReduceJobStatus | None,
    ) -> None:
        self._cluster: Final = cluster
        self._leadership: Final = leadership
        self._run: Final = run
        self._compose: Final = compose
        self._due: Final = asyncio.Event()
        self._turn: Final = asyncio.Lock()
        self.written = written
        """As it was written last, by this process or an earlier one."""
        self._there = (written.leader_epoch if written is not None else None) or 0

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """As they were written last."""
        return self.written.conditions if self.written else ()

    def request(self) -> None:
        """Something changed; it will be in the next status."""
        self._due.set()

    async def serve(self) -> None:
        """Writes until cancelled, or until the object is gone."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.write()
            except ClusterError as error:
                if error.reason is ClusterErrorReason.NOT_FOUND:
                    return
                log.warning("the status of %s/%s was not written: %s", self._run.namespace, self._run.name, error)
                self._due.set()
                await asyncio.sleep(max(_RETRY_SECONDS, error.retry_after or 0.0))
            await asyncio.sleep(INTERVAL_SECONDS)

    async def write(self) -> None:
        """Writes the status now if it differs from the last one written. Raises ClusterError, DeposedError."""
        # One at a time: a request that is slow must not arrive after one that was composed later.
        async with self._turn:
            await self._write()

    async def _write(self) -> None:
        status = self._compose()
        if status is None or (self.written and _of_epoch(self.written.leader_epoch, status) == self.written):
            return
        for attempt in range(1, _ATTEMPTS + 1):
            if self._there > self._leadership.epoch:
                await self._leadership.surpass(self._there)
            epoch = self._leadership.epoch
            status = _of_epoch(epoch, status)
            try:
                await self._cluster.write_status(self._run, status.to_kubernetes(), replacing=self._there)
            except ClusterError as error:
                if error.reason is not ClusterErrorReason.CONFLICT or attempt == _ATTEMPTS:
                    raise
                self._there = await self._cluster.status_epoch(self._run)
            else:
                self.written, self._there = status, epoch
                return


def _of_epoch(epoch: int | None, status: MapReduceJobStatus) -> MapReduceJobStatus:
    return status.model_copy(update={"leader_epoch": epoch})
