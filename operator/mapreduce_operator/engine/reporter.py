"""Writes the status of one job: at most once a second, and only when something changed."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import Condition, MapReduceJobStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason

log = logging.getLogger(__name__)

INTERVAL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 2.0


class Reporter:
    """Asks for the status when it is time to write it, so that many changes become one request."""

    def __init__(
        self,
        cluster: Cluster,
        run: RunRef,
        compose: Callable[[], MapReduceJobStatus | None],
        written: MapReduceJobStatus | None,
    ) -> None:
        self._cluster: Final = cluster
        self._run: Final = run
        self._compose: Final = compose
        self._due: Final = asyncio.Event()
        self.written = written
        """As it was written last, by this process or an earlier one."""

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
        """Writes the status now if it differs from the last one written. Raises ClusterError."""
        status = self._compose()
        if status is not None and status != self.written:
            await self._cluster.write_status(self._run, status.to_kubernetes())
            self.written = status
