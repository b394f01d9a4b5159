"""A run with dead letters on a little cluster: what the parts of the engine that look after letters need."""

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import DeadLetterQueue, MapReduceJob, Redrive
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import Letter, decode_letter
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key, job_name
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.core.queue_report import queue_manifest
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, PodSeen
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.loading import load
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.world import World
from tests.unit.engine.little_cluster import LittleCluster
from tests.unit.engine.parts import HandClock, Leader

if TYPE_CHECKING:
    from mapreduce_operator.core.run import RunState
    from mapreduce_operator.ports import Cluster

RUN: Final = RunRef("team-a", "words", "run-1-of-words")
KEYS: Final = StorageKeys(RUN)
TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}


def map_reduce_job(items: list[Any], **spec: Any) -> MapReduceJob:
    """Items are objects with a name; each has one attempt."""
    source = {"items": items, "idExpression": "item.name"}
    return MapReduceJob.model_validate(
        {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "MapReduceJob",
            "metadata": {"name": RUN.name, "namespace": RUN.namespace, "uid": RUN.uid, "generation": 1},
            "spec": {"input": source, "map": {"template": TEMPLATE, "retry": {"maxAttempts": 1}}} | spec,
        }
    )


def key_of(name: str) -> str:
    return item_key(RUN.uid, Stage.MAP, name)


class Office:
    """One process with one run, whose agents end as the test says."""

    def __init__(self, store: MemoryStore | None = None, cluster: LittleCluster | None = None) -> None:
        self.store = store or MemoryStore()
        self.cluster = cluster or LittleCluster()
        self.clock = HandClock()
        leadership = Leader()
        self.world = World(
            cluster=cast("Cluster", self.cluster),
            store=self.store,
            suitability=Suitability(self.store, "test"),
            storage_url="memory://",
            clock=self.clock,
            metrics=PrometheusMetrics(CollectorRegistry()),
            capacity=Capacity(100),
            pace=Pace(),
            limits=Limits(item_bytes=200),
            leadership=leadership,
            known_workloads=lambda _: [],
        )
        self.journal = Journal(self.store, RUN, self.clock, leadership)
        self.state: RunState
        self.ids: list[str]
        self.letters: Letters
        self.woken = asyncio.Event()

    async def open(self, *names: str, **spec: Any) -> None:
        """Plans the run, or loads it."""
        items: list[Any] = [{"name": name, "n": number} for number, name in enumerate(names)]
        job = map_reduce_job(items, **spec)
        loaded = await load(self.world, RUN, self.journal, job, planned_before=not names)
        self.state, self.ids = loaded.state, loaded.ids
        self.letters = Letters(self.world, RUN, self.journal)
        for stage in Stage:
            if (revision := self.state.templates.revision(stage)) is not None:
                self.state.templates.tried(stage, revision.hash, None, self.clock.now())

    def end(self, name: str, message: str = "boom", *, succeeds: bool = False) -> None:
        """The item is started if it waits for that, and its agent ends."""
        now = self.clock.now()
        self.state.decide(now)
        self.state.dispatching.launch(100, now)
        ledger = self.state.ledgers[Stage.MAP]
        position = self.ids.index(name)
        dispatch = Dispatch(ledger.key(position), ledger[position].dispatch)
        job = job_name(RUN, dispatch.item_key, dispatch.number)
        self.state.agents.started(Stage.MAP, position, dispatch.number, f"uid-{job}", now)
        exit_code = 0 if succeeds else 1
        agent = ContainerEnd(
            exit_code, message='{"ok": true}' if succeeds else message, started_at=now - 5, finished_at=now
        )
        pod = PodSeen(
            RUN.namespace,
            f"{job}-x7k2p",
            f"pod-{job}",
            job,
            f"uid-{job}",
            Carried(RUN.uid, Stage.MAP, (dispatch,), "5f1c"),
            phase="Succeeded" if succeeds else "Failed",
            started=True,
            node="node-1",
            agent=agent,
        )
        self.state.agents.observe_pod(pod, self.state.templates.rule(Stage.MAP), now)

    async def commit(self) -> None:
        """What was decided becomes durable: bodies first, as engine.effects does it."""
        self.state.decide(self.clock.now())
        batch = self.state.commits.begin(CommitReason.ITEMS, self.clock.now())
        await self.letters.write(batch.letters)
        await self.journal.append(batch)
        self.state.commits.done(batch, self.clock.now())

    async def with_letters(self, *names: str, done: tuple[str, ...] = (), **spec: Any) -> None:
        """A run of which these items failed for good, one second after the other, and others are done."""
        await self.open(*names, *done, **spec)
        for name in names:
            self.clock.time += 1
            self.end(name, f"boom of {name}")
        for name in done:
            self.end(name, succeeds=True)
        await self.commit()

    def item(self, name: str) -> Item:
        return self.state.ledgers[Stage.MAP][self.ids.index(name)]

    def body(self, name: str) -> Letter:
        """The letter in storage."""
        key = KEYS.letter(key_of(name))
        return decode_letter(self.store.objects[key], key)

    def has_body(self, name: str) -> bool:
        return KEYS.letter(key_of(name)) in self.store.objects

    # ---------------------------------------------------------------------------------------------------- objects

    def queue(self, name: str = RUN.name, run: RunRef = RUN, **spec: Any) -> DeadLetterQueue:
        """A queue that is there, and of which the desk knows."""
        manifest = queue_manifest(run, name, map_reduce_job([]).spec.dead_letter)
        manifest["spec"] |= spec
        queue = DeadLetterQueue.model_validate(self.cluster.put_queue(manifest))
        self.world.desk.observe_queue(queue)
        return queue

    def redrive(self, name: str = "again", selection: dict[str, Any] | None = None, **spec: Any) -> Redrive:
        """A Redrive of all letters of the queue, or of some, of which the desk is told."""
        body = {
            "metadata": {"name": name, "namespace": RUN.namespace, "uid": f"uid-{name}", "generation": 1},
            "spec": {"queue": RUN.name, "selection": selection or {"all": True}} | spec,
        }
        body["metadata"] |= {"creationTimestamp": f"2027-01-15T08:00:{len(self.cluster.redrives):02}Z"}
        self.cluster.redrives.add(f"uid-{name}")
        redrive = Redrive.model_validate(body)
        self.world.desk.observe_redrive(redrive)
        return redrive

    def told(self, name: str = "again") -> dict[str, Any]:
        """The last status that was written of a Redrive."""
        return dict(next(status for one, status in reversed(self.cluster.redrive_statuses) if one == name))


def reason_of(status: dict[str, Any], kind: str) -> tuple[str, str]:
    """(status, reason) of a condition."""
    return next((one["status"], one["reason"]) for one in status["conditions"] if one["type"] == kind)


def message_of(status: dict[str, Any], kind: str) -> str:
    return next(str(one["message"]) for one in status["conditions"] if one["type"] == kind)
