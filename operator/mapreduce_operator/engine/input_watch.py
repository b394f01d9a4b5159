"""Notices that the input of a run has changed since it was planned. The plan stays what it is; people are told."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import ConfigMapInput
from mapreduce_operator.core.checkpoint import digest
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.requests import Told
from mapreduce_operator.engine.planner import read_text
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
_ADVICE: Final = "The plan that was made stays; set spec.restart with phase Plan to plan anew"


class InputWatch:
    """Of one run whose items come from a ConfigMap."""

    def __init__(
        self, world: World, run: RunRef, source: ConfigMapInput, planned_sha256: str, changed: Callable[[], None]
    ) -> None:
        self._world: Final = world
        self._run: Final = run
        self._source: Final = source
        self._planned: Final = planned_sha256
        self._changed: Final = changed
        self.condition: Told | None = None
        """PlanCurrent; None before the first look."""

    async def serve(self) -> None:
        """Looks now and then, until cancelled."""
        while True:
            try:
                found = await self._look()
            except ClusterError as error:
                log.warning("%s/%s: the input was not compared: %s", self._run.namespace, self._run.name, error)
            else:
                if found != self.condition:
                    self.condition = found
                    self._changed()
            await asyncio.sleep(EVERY_SECONDS)

    async def _look(self) -> Told:
        where = f"key {self._source.key!r} of the ConfigMap {self._source.name!r}"
        try:
            text = await read_text(self._world.cluster, self._run, self._source)
        except InputError:
            return False, "InputGone", f"{where} is gone since the items were planned. {_ADVICE}"
        if digest(text.encode()) != self._planned:
            return False, "InputChanged", f"{where} has changed since the items were planned. {_ADVICE}"
        return True, "InputUnchanged", f"{where} is what was planned"
