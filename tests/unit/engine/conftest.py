"""A supervisor at work on a little cluster."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.metrics import PrometheusMetrics
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


@dataclass
class Operator:
    cluster: LittleCluster
    registry: CollectorRegistry
    supervisor: Supervisor
    engine: asyncio.Task[None]

    @property
    def crashes(self) -> float | None:
        return self.registry.get_sample_value("mapreduce_run_crashes_total")

    def jobs_of(self, run_uid: str) -> int:
        return sum(job.carried.run_uid == run_uid for job in self.cluster.there["jobs"].values())


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    cluster, registry, store = LittleCluster(), CollectorRegistry(), MemoryStore()
    port = cast("Cluster", cluster)
    informer = Informer(port)
    world = World(
        cluster=port,
        store=store,
        suitability=Suitability(store, "process-1"),
        storage_url="memory://",
        clock=LoopClock(),
        metrics=PrometheusMetrics(registry),
        capacity=Capacity(100),
        pace=Pace(),
        limits=Limits(),
        leadership=Leader(),
        known_workloads=informer.known,
    )
    supervisor = Supervisor(world, informer)
    engine = asyncio.create_task(supervisor.serve())
    yield Operator(cluster, registry, supervisor, engine)
    engine.cancel()
    await asyncio.gather(engine, return_exceptions=True)
