"""An operator on a simulated cluster: the real engine, with ports in memory."""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.gauges import FleetGauges
from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import Clock, ObjectStore
from tests.simulation.audit import Audit
from tests.simulation.connection import ApiFaults, Connection
from tests.simulation.jobs import condition_of, redrive
from tests.simulation.kopf_in_memory import KopfInMemory
from tests.simulation.process import Leads, Process
from tests.simulation.simulated_cluster import SimulatedCluster


class OperatorInMemory:
    """One operator process at work, and the object that a user applied."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        body: dict[str, Any],
        store: ObjectStore,
        *,
        capacity: int = 500,
        process: Process | None = None,
        faults: ApiFaults | None = None,
        leadership: Leads | None = None,
        chance: Random | None = None,
        clock: Clock | None = None,
        kopf: Random | None = None,
        copied_labels: tuple[str, ...] = (),
        per_job_metrics: bool = False,
    ) -> None:
        """Starts at once, on the running loop. `chance` is the operator's own; without one it is always the same.

        With `kopf` the operator is told of queues and Redrives late and twice.
        """
        self.cluster: Final = cluster
        self.body: Final = body
        self.process: Final = process if process is not None else Process()
        self.leadership: Final = leadership if leadership is not None else Leads()
        self.registry: Final = CollectorRegistry()
        self.connection: Final = Connection(cluster, self.process, faults, self.leadership)
        informer = Informer(self.connection)
        world = World(
            cluster=self.connection,
            store=store,
            suitability=Suitability(store, f"process-{self.process.number}"),
            storage_url="memory://",
            clock=clock if clock is not None else cluster.clock,
            metrics=PrometheusMetrics(self.registry),
            capacity=Capacity(capacity),
            pace=Pace(chance if chance is not None else Random(0)),
            limits=Limits(),
            leadership=self.leadership,
            known_workloads=informer.known,
            copied_labels=copied_labels,
        )
        self.supervisor: Final = Supervisor(world, informer)
        self.registry.register(
            FleetGauges(
                self.supervisor.vitals,
                world.desk.queues,
                world.clock,
                agents_limit=capacity,
                write_rate=lambda: world.pace.rate,
                per_job=per_job_metrics,
            )
        )
        self.engine: Final = asyncio.create_task(self.supervisor.serve())
        self._kopf: Final = KopfInMemory(cluster, self.supervisor, self.process, kopf, self._tell)
        if self.uid not in cluster.mapreducejobs:
            cluster.apply(body)
        for uid in cluster.mapreducejobs:
            self._tell(uid)

    @property
    def uid(self) -> str:
        uid: str = self.body["metadata"]["uid"]
        return uid

    def observe(self, uid: str = "") -> None:
        """The operator is told of an object as it is now: of the one that it began with, or of another one."""
        self._tell(uid or self.uid)

    def _tell(self, uid: str) -> None:
        if self.process.dead or uid not in self.cluster.mapreducejobs:
            return
        # As the definition has it, of a job that no operator has seen.
        status = self.cluster.status_of.get(uid, {"observedGeneration": -1})
        self.supervisor.observe(copy.deepcopy(self.cluster.mapreducejobs[uid]) | {"status": status})

    def apply(self, body: dict[str, Any]) -> None:
        """The user applies another MapReduceJob."""
        self.cluster.apply(body)
        self.observe(body["metadata"]["uid"])

    def edit(self, change: Callable[[dict[str, Any]], object], uid: str = "") -> None:
        """The user edits the spec of an object."""
        change(self.cluster.mapreducejobs[uid or self.uid]["spec"])
        self.cluster.edited(uid or self.uid)
        self.observe(uid)

    def annotate(self, name: str, value: str) -> None:
        """The user annotates the object, which is no new generation of it."""
        self.body["metadata"].setdefault("annotations", {})[name] = value
        self.observe()

    def delete(self, uid: str = "") -> None:
        """The user deletes an object."""
        uid = uid or self.uid
        self.cluster.begin_deletion(uid)
        self.observe(uid)

    def series(self, name: str = "mapreduce_") -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """What a scrape would see of the metrics whose names begin so, by name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name.startswith(name)
        }

    def counted(self, name: str, **labels: str) -> float:
        """The sum over all series of a metric that have these labels, of which there is none before the first."""
        found = self.series(name).items()
        return sum(value for (full, has), value in found if full == name and labels.items() <= has)

    def status_of(self, uid: str) -> dict[str, Any]:
        """The status of an object; empty before it has one."""
        return self.cluster.status_of.get(uid, {})

    async def drain(self) -> None:
        """SIGTERM."""
        await self.supervisor.drain(10.0)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL: nothing has an effect from now on, whatever the engine would still like to do."""
        self.process.die()
        while not self.engine.done():
            self.engine.cancel()
            await asyncio.wait([self.engine], timeout=0.001)
        if not self.engine.cancelled():
            self.engine.exception()  # looked at before, or of no interest any more
        await self._kopf.close()

    def condition(self, kind: str, uid: str = "") -> dict[str, Any]:
        return condition_of({"status": self.status_of(uid or self.uid)}, kind)

    async def until(self, holds: Callable[[], bool], seconds: float = 3600.0) -> None:
        """Lets time pass until something holds."""
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - on a fake clock, polling costs nothing and sees everything
                await asyncio.sleep(0.05)

    async def redrive(self, name: str, **spec: Any) -> dict[str, Any]:
        """A user applies a Redrive and waits for its end; returns the status."""
        self.cluster.redrives.create(redrive(name, **spec))
        return await self.until_redriven(name)

    async def until_redriven(self, name: str, seconds: float = 3600.0) -> dict[str, Any]:
        """Lets a Redrive come to its end; returns the status."""
        body = self.cluster.redrives.by_name[name]
        await self.until(
            lambda: "True" in (condition_of(body, "Complete")["status"], condition_of(body, "Failed")["status"]),
            seconds,
        )
        status: dict[str, Any] = body["status"]
        return status

    async def until_finished(self, seconds: float = 36000.0, uid: str = "") -> dict[str, Any]:
        """Lets a job come to its end; returns the status."""
        uid = uid or self.uid
        await self.until(lambda: "completionTime" in self.status_of(uid), seconds)
        return self.status_of(uid)


@asynccontextmanager
async def operating(
    cluster: SimulatedCluster,
    body: dict[str, Any],
    store: ObjectStore | None = None,
    *,
    capacity: int = 500,
    graceful: bool = True,
    faults: ApiFaults | None = None,
    leadership: Leads | None = None,
    copied_labels: tuple[str, ...] = (),
    per_job_metrics: bool = False,
) -> AsyncIterator[OperatorInMemory]:
    """An operator at work on one object. At the end it is shut down in order, or killed.

    The first one on a cluster brings the audit of that object with it; whatever a test is about, the invariants hold.
    """
    store = store if store is not None else MemoryStore()
    if isinstance(store, MemoryStore) and not cluster.audits:
        audited(cluster, body, store, capacity=capacity)
    operator = OperatorInMemory(
        cluster,
        body,
        store,
        capacity=capacity,
        faults=faults,
        leadership=leadership,
        copied_labels=copied_labels,
        per_job_metrics=per_job_metrics,
    )
    try:
        yield operator
        assert not operator.engine.done() or operator.engine.exception() is None
        if graceful:
            await operator.supervisor.drain(10.0)
    finally:
        await operator.kill()
    if graceful:
        for audit in cluster.audits.values():
            await audit.check_kept()
    assert not cluster.violations, cluster.violations


def audited(cluster: SimulatedCluster, body: dict[str, Any], store: MemoryStore, *, capacity: int = 500) -> Audit:
    """Has an object watched, which is to be applied next."""
    metadata = body["metadata"]
    run = RunRef(metadata["namespace"], metadata["name"], metadata["uid"])
    audit = cluster.audits[run.uid] = Audit(cluster, store, run, body["spec"], capacity=capacity)
    return audit
