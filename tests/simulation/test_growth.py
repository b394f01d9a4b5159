"""What a long run costs: bytes in storage grow with its items, not with items times checkpoints; no step is long."""

import asyncio
import gc
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import flaky
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import operating
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore
from tests.simulation.weather import Climate, StorageWeather

pytestmark = pytest.mark.asyncio

FACTOR: Final = 1.05
"""So much more an item may cost in a run of ten times the length: a short one has hardly any snapshots."""
STEP_SECONDS: Final = 1.0
"""So long a reconciliation may take, and thus a step: 0.04 s were measured with 10,000 items on a machine at rest."""


class Stopwatch:
    """Knows the longest step of a task from one await to the next, in seconds of CPU: the clock of the loop jumps."""

    def __init__(self) -> None:
        """For the tasks that the running loop is given from now on."""
        self.longest = 0.0, ""
        """And the coroutine whose step it was."""
        asyncio.get_running_loop().set_task_factory(self._task)

    def _task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        return asyncio.Task(_Timed(coroutine, self), loop=loop, **options)


class _Timed(Coroutine[Any, Any, Any]):
    def __init__(self, coroutine: Any, stopwatch: Stopwatch) -> None:
        self._coroutine: Final = coroutine
        self._stopwatch: Final = stopwatch

    def send(self, value: Any) -> Any:
        began = time.thread_time()
        try:
            return self._coroutine.send(value)
        finally:
            step = time.thread_time() - began, self._coroutine.__qualname__
            self._stopwatch.longest = max(self._stopwatch.longest, step)

    def throw(self, *error: Any) -> Any:
        return self._coroutine.throw(*error)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()


@dataclass(frozen=True)
class Cost:
    """Of a whole run."""

    bytes_per_item: float
    """All that is put, also what is written over or deleted later."""
    longest_step: tuple[float, str]


async def cost_of(items: int) -> Cost:
    stopwatch = Stopwatch()
    cluster = SimulatedCluster(flaky(20))
    # Without the audit, which would look into every object of the run.
    store = RemoteStore(MemoryStore(), Process(), StorageWeather(Climate(), Random(0)))
    body = map_reduce_job([{"n": n} for n in range(items)], map_={"maxParallel": 100})
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] + status["items"]["deadLettered"] == items
    return Cost(store.bytes_written / items, stopwatch.longest)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Whichever step it falls into, a garbage collection takes as long as the tests before left objects behind."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("items", [3_000, 10_000])
async def test_what_an_item_costs_does_not_depend_on_the_length_of_the_run(items: int) -> None:
    short, long = await cost_of(1_000), await cost_of(items)
    assert long.bytes_per_item < FACTOR * short.bytes_per_item
    assert long.longest_step < (STEP_SECONDS, "")
