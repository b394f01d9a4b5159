"""A run with letters in all states, as the engine writes it; an API server that knows of it, and the read-only API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.api import DeadLetterPolicy, OnFull
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.names import Stage, StorageKeys, item_key
from mapreduce_operator.core.plan import Limits, Planned, PlannedItem, canonical, keys_of
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import ContainerEnd
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.world import World
from mapreduce_operator.serving.access import Access
from mapreduce_operator.serving.metrics import ApiMetrics
from mapreduce_operator.serving.pictures import Pictures
from mapreduce_operator.serving.read_only import ReadOnlyStore
from mapreduce_operator.serving.routes import Answers, Service
from mapreduce_operator.serving.runs import Runs
from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.core.scenes import DONE, NOW, PLANNED, RUN, launch, observe, pod, spec, take_templates
from tests.unit.engine.parts import HandClock, Leader

if TYPE_CHECKING:
    from mapreduce_operator.ports import Cluster, Metrics, ObjectStore

KEYS: Final = StorageKeys(RUN)
API: Final = "/apis/mapreduce.dev/v1alpha1/namespaces/default"
QUEUE: Final[dict[str, Any]] = {
    "apiVersion": "mapreduce.dev/v1alpha1",
    "kind": "DeadLetterQueue",
    "metadata": {"name": "demo", "namespace": "default", "uid": "queue-1"},
    "spec": {"jobRef": {"name": RUN.name, "uid": RUN.uid}},
}
JOB: Final[dict[str, Any]] = {"metadata": {"name": RUN.name, "uid": RUN.uid}, "status": {"leaderEpoch": 1}}


def key(item_id: str) -> str:
    return item_key(RUN.uid, Stage.MAP, item_id)


class Logs:
    """The part of the Cluster port that writing letters asks."""

    async def read_log(self, namespace: str, pod: str, *, lines: int, limit: int) -> str:
        assert (namespace, lines > 0, limit > 0) == (RUN.namespace, True, True)
        return f"\x1b[31mthe log of {pod.removesuffix('-x7k2p')}\x1b[0m\nits last line"


@dataclass
class Operator:
    """What the engine does of a run, step by step."""

    store: FileStore
    ids: list[str]
    state: RunState = field(init=False)
    journal: Journal = field(init=False)
    letters: Letters = field(init=False)

    async def plan(self) -> None:
        clock, leader = HandClock(), Leader(epoch=7)
        self.journal = Journal(self.store, RUN, clock, leader)
        await self.journal.create(
            Planned([PlannedItem(one, canonical({"name": one, "size": len(one)})) for one in self.ids], duplicates=0),
            b"{}",
        )
        self.state = RunState(RUN, spec({"retry": {"maxAttempts": 1}}), keys_of(RUN.uid, self.ids), PLANNED)
        take_templates(self.state)
        world = World(
            cluster=cast("Cluster", Logs()),
            store=self.store,
            suitability=Suitability(self.store, "test"),
            storage_url="file:///tmp",
            clock=clock,
            metrics=cast("Metrics", None),
            capacity=Capacity(10),
            pace=Pace(),
            limits=Limits(),
            leadership=leader,
            known_workloads=lambda _: [],
        )
        self.letters = Letters(world, RUN, self.journal)

    async def commit(self, *, with_snapshot: bool = False) -> None:
        batch = self.state.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=with_snapshot)
        await self.letters.write(batch.letters)
        await self.journal.append(batch)
        self.state.commits.done(batch, NOW)
        await self.journal.keep()

    def ends(self, item_id: str, seconds: float, end: ContainerEnd, dispatch: int = 1) -> None:
        seen = pod(f"demo-{key(item_id)}-d{dispatch}", end, node="node-1")
        observe(self.state, seen, seconds)

    def redrive(self, name: str, *ids: str, number: int) -> None:
        positions = [self.ids.index(one) for one in ids]
        accepted = Accepted(number=number, uid=f"uid-{name}", name=name, at=NOW, selected=len(ids))
        self.state.redrive(accepted, 1, dict.fromkeys(positions, 0.0), NOW)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Objects with their content and the time of their last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and ".store" not in path.parts
    }


async def write_run(store: FileStore) -> None:
    """Its letters, the oldest first: aside (Archived), again (Reprocessing), waits (Claimed), mended (Resolved), open.

    One item succeeded at once and has none. Half of the story lies in a snapshot.
    """
    operator = Operator(store, ["aside", "again", "waits", "mended", "open", "well"])
    await operator.plan()
    launch(operator.state)
    operator.ends("well", 5, DONE)
    for seconds, item_id in enumerate(["aside", "again", "waits", "mended"], start=10):
        end = ContainerEnd(1, message=f"no disk for {item_id}: {seconds}", started_at=NOW, finished_at=NOW + seconds)
        operator.ends(item_id, seconds, end)
    operator.ends("open", 60, ContainerEnd(2, message="=cmd()\x1b[2J", started_at=NOW, finished_at=NOW + 60))
    await operator.commit()
    operator.state.requeue(DeadLetterPolicy(capacity=4, on_full=OnFull.ARCHIVE), NOW)
    operator.redrive("mend", "mended", number=1)
    await operator.commit()
    launch(operator.state, 70)
    await operator.commit(with_snapshot=True)
    operator.ends("mended", 80, DONE, dispatch=2)
    operator.redrive("once-more", "again", "waits", number=2)
    await operator.commit()
    again = operator.state.dispatching.launch(1, NOW + 90)
    assert [getattr(effect, "position", None) for effect in again] == [1]
    operator.state.agents.started(Stage.MAP, 1, 2, "uid-again-2", NOW + 90)
    await operator.commit()


# ------------------------------------------------------------------------------------------------------- the API server

TOKEN: Final = "let me in"  # noqa: S105 - of a user of these tests
TOKEN_REVIEWS: Final = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
USER: Final = {"username": "jane", "uid": "u-1", "groups": ["devs"], "extra": {"scopes": ["all"]}}


def knows_jane(api: FakeApi) -> None:
    """The API server has the queue and its job, and knows a user by her token who may read all of the namespace."""

    async def review(request: web.Request) -> web.StreamResponse:
        token = (await request.json())["spec"]["token"]
        status = {"authenticated": True, "user": USER} if token == TOKEN else {"error": "invalid bearer token"}
        return web.json_response({"status": status}, status=201)

    async def access(request: web.Request) -> web.StreamResponse:
        asked = (await request.json())["spec"]
        allowed = asked["user"] == USER["username"] and asked["resourceAttributes"]["namespace"] == RUN.namespace
        return web.json_response({"status": {"allowed": allowed}}, status=201)

    api.on("POST", TOKEN_REVIEWS, review)
    api.on("POST", ACCESS_REVIEWS, access)
    api.on("GET", f"{API}/deadletterqueues/demo", answer(QUEUE))
    api.on("GET", f"{API}/mapreducejobs/demo", answer(JOB))


# --------------------------------------------------------------------------------------------------- the read-only API


@dataclass
class Served:
    """The read-only API on a port of loopback."""

    port: int
    registry: CollectorRegistry
    pictures: Pictures
    service: Service


@asynccontextmanager
async def served(api: ApiSession, store: "ObjectStore") -> AsyncIterator[Served]:
    readable, registry = ReadOnlyStore(store), CollectorRegistry()
    pictures = Pictures(readable)
    service = Service(Answers(pictures, Runs(api, readable)), Access(api), ApiMetrics(registry))
    runner = service.runner()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield Served(runner.addresses[0][1], registry, pictures, service)
    await runner.cleanup()
