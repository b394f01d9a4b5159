"""Notices that the input of a run has changed since it was planned. The plan stays what it is; people are told."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mapreduce_operator.api import ConfigMapInput, ObjectInput
from mapreduce_operator.core.checkpoint import digest
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.requests import Told
from mapreduce_operator.engine.planner import place_of, read_input
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

CONFIG_MAP_SECONDS: Final = 60.0
OBJECT_SECONDS: Final = 600.0
"""An object has up to 64 MiB, and all of it is read to be compared."""
_ADVICE: Final = "The plan that was made stays; set spec.restart with phase Plan to plan anew"


class InputWatch:
    """Of one run whose items come from somewhere else."""

    def __init__(
        self,
        world: World,
        run: RunRef,
        reference: ConfigMapInput | ObjectInput,
        planned_sha256: str,
        changed: Callable[[], None],
    ) -> None:
        self._world: Final = world
        self._run: Final = run
        self._reference: Final = reference
        self._planned: Final = planned_sha256
        self._changed: Final = changed
        self.condition: Told | None = None
        """PlanCurrent; None before the first look."""

    async def serve(self) -> None:
        """Looks now and then, until cancelled."""
        pause = CONFIG_MAP_SECONDS if isinstance(self._reference, ConfigMapInput) else OBJECT_SECONDS
        while True:
            try:
                found = await self._look()
            except (ClusterError, StorageError) as error:
                log.warning("%s/%s: the input was not compared: %s", self._run.namespace, self._run.name, error)
            else:
                if found != self.condition:
                    self.condition = found
                    self._changed()
            await asyncio.sleep(pause)

    async def _look(self) -> Told:
        where = place_of(self._run, self._reference)
        try:
            data = await read_input(self._world, self._run, self._reference)
        except InputError:
            return False, "InputGone", f"{where} is gone since the items were planned. {_ADVICE}"
        if digest(data) != self._planned:
            return False, "InputChanged", f"{where} has changed since the items were planned. {_ADVICE}"
        return True, "InputUnchanged", f"{where} is what was planned"
