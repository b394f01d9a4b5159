"""A supervisor at work on a little cluster."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from tests.unit.engine.little_cluster import LittleCluster
from tests.unit.engine.parts import NOW, Leader

if TYPE_CHECKING:
    from mapreduce_operator.ports import Cluster


class LoopClock:
    def now(self) -> float:
        return NOW + asyncio.get_running_loop().time()


class Counts:
    """Fulfils the Metrics port; only crashes matter here."""

    def __init__(self) -> None:
        self.crashes = 0

    def outcome(self, verdict: str, reason: str) -> None:
        """Nothing ends here."""

    def stale_events(self, number: int) -> None:
        """Nothing is late here."""

    def commit(self, reason: str, seconds: float) -> None:
        """Not of interest."""

    def run_crashed(self) -> None:
        self.crashes += 1


@dataclass
class Operator:
    cluster: LittleCluster
    counts: Counts
    supervisor: Supervisor
    engine: asyncio.Task[None]

    def jobs_of(self, run_uid: str) -> int:
        return sum(job.carried.run_uid == run_uid for job in self.cluster.there["jobs"].values())


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    cluster, counts, store = LittleCluster(), Counts(), MemoryStore()
    port = cast("Cluster", cluster)
    informer = Informer(port)
    world = World(
        cluster=port,
        store=store,
        suitability=Suitability(store, "process-1"),
        storage_url="memory://",
        clock=LoopClock(),
        metrics=counts,
        capacity=Capacity(100),
        pace=Pace(),
        limits=Limits(),
        leadership=Leader(),
        known_workloads=informer.known,
    )
    supervisor = Supervisor(world, informer)
    engine = asyncio.create_task(supervisor.serve())
    yield Operator(cluster, counts, supervisor, engine)
    engine.cancel()
    await asyncio.gather(engine, return_exceptions=True)
