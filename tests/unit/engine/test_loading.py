"""A run is brought to where it can go on, and never to where it was not."""

from typing import Any, Final, cast

import pytest
from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import MapReduceJob, Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import CommitReason, StateLostError
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Start
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key, job_name
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import InputError, Limits
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import Carried, Dispatch, Workload
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.loading import Loaded, load
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import (
    Cluster,
    ClusterError,
    DeposedError,
    StorageError,
    StorageErrorReason,
)
from tests.unit.engine.parts import NOW, HandClock, Leader, LossyStore

RUN: Final = RunRef("default", "demo", "run-1")
KEYS: Final = StorageKeys(RUN)
FIRST: Final = item_key(RUN.uid, Stage.MAP, "a")
NAME: Final = job_name(RUN, FIRST, 1)
CARRIED: Final = Carried(RUN.uid, Stage.MAP, (Dispatch(FIRST, 1),), "5f1c")


def map_reduce_job(**source: Any) -> MapReduceJob:
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    return MapReduceJob.model_validate(
        {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "MapReduceJob",
            "metadata": {"name": "demo", "namespace": "default", "uid": RUN.uid, "generation": 1},
            "spec": {
                "input": {"items": ["a", "b"], "idExpression": "item"} | source,
                "map": {"template": template},
            },
        }
    )


class Jobs:
    """The part of the Cluster port that loading asks."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[str, str]] = {}
        """Uid and owner's uid by name."""
        self.finalizers: list[RunRef] = []
        self.asked: list[str] = []
        self.error: ClusterError | None = None

    async def add_finalizer(self, run: RunRef) -> None:
        self.finalizers.append(run)

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        assert namespace == RUN.namespace
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        return self.jobs.get(name)


class Process:
    """One operator process, with what it may use."""

    def __init__(self, store: MemoryStore, jobs: Jobs | None = None, leader: Leader | None = None) -> None:
        self.store = store
        self.jobs = jobs or Jobs()
        self.known: list[Workload] = []
        self.state: RunState
        self.clock = HandClock()
        self.registry = CollectorRegistry()
        leadership = leader or Leader()
        self.world = World(
            cluster=cast("Cluster", self.jobs),
            store=store,
            suitability=Suitability(store, "test"),
            storage_url="memory://",
            clock=self.clock,
            metrics=PrometheusMetrics(self.registry),
            capacity=Capacity(10),
            pace=Pace(),
            limits=Limits(),
            leadership=leadership,
            known_workloads=lambda uid: [one for one in self.known if one.carried.run_uid == uid],
        )
        self.journal = Journal(store, RUN, self.clock, leadership)

    async def load(self, job: MapReduceJob | None = None, *, planned_before: bool = False) -> Loaded:
        return await load(self.world, RUN, self.journal, job or map_reduce_job(), planned_before=planned_before)


def items_of(state: RunState) -> list[Item]:
    return [state.ledgers[Stage.MAP][position] for position in range(2)]


async def left_running(store: MemoryStore) -> None:
    """A run whose first item has a recorded start."""
    process = Process(store)
    loaded = await process.load()
    assert loaded.state.agents.started(Stage.MAP, 0, 1, "uid-1", NOW)
    await process.journal.append(loaded.state.commits.begin(CommitReason.TIME, NOW))


# ------------------------------------------------------------------------------------------------------------- planning


async def test_a_run_that_is_new_is_planned_and_durable_before_it_is_given_out() -> None:
    process = Process(store := MemoryStore())

    loaded = await process.load()

    assert KEYS.head in store.objects
    assert process.jobs.finalizers == [RUN]
    assert loaded.ids == ["a", "b"]
    assert items_of(loaded.state) == [Item(), Item()]
    assert [(event.reason, event.message) for event in loaded.events] == [("Planned", "planned 2 items")]


async def test_what_was_left_out_of_the_input_is_told() -> None:
    job = map_reduce_job(items=["a", "b", "a"], onDuplicate="KeepFirst")

    (event,) = (await Process(MemoryStore()).load(job)).events

    assert event.message == "planned 2 items of 3"


async def test_an_input_that_cannot_be_planned_leaves_nothing_behind() -> None:
    store = MemoryStore()

    with pytest.raises(InputError):
        await Process(store).load(map_reduce_job(items=["a", "a"]))

    assert store.objects == {}


async def test_a_plan_is_not_made_twice_whatever_became_of_the_input() -> None:
    store = MemoryStore()
    await Process(store).load()

    loaded = await Process(store).load(map_reduce_job(items=["x", "y", "z"]), planned_before=True)

    assert loaded.ids == ["a", "b"]
    assert loaded.events == []


async def test_a_run_that_was_planned_and_is_not_in_storage_is_not_planned_again() -> None:
    store = MemoryStore()

    with pytest.raises(StateLostError, match=r"default/demo/run-1/head\.json, which is missing\. Nothing is run"):
        await Process(store).load(planned_before=True)

    assert store.objects == {}


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
@pytest.mark.parametrize("planned_before", [True, False])
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
async def test_a_plan_whose_answer_was_lost_is_there_at_the_next_try(
    performs: bool, planned_before: bool, lost: int
) -> None:
    process = Process(store := LossyStore())
    await process.world.suitability.check()
    store.lose, store.performs = lost, performs
    with pytest.raises(StorageError):
        await process.load()
    process.clock.time += 5

    if planned_before and not any(key.startswith(KEYS.plans) for key in store.objects):
        with pytest.raises(StateLostError):
            await process.load(planned_before=True)
        return
    loaded = await process.load(planned_before=planned_before)

    assert loaded.ids == ["a", "b"]
    before = process.journal.head.sequence
    batch = loaded.state.commits.begin(CommitReason.TIME, NOW)
    assert (await process.journal.append(batch)).sequence == before + 1


async def test_nothing_is_planned_on_a_store_that_is_not_suitable() -> None:
    class Forgets(MemoryStore):
        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            del if_absent, if_match
            return await super().put(key, data)

    process = Process(store := Forgets())
    with pytest.raises(StorageError) as refused:
        await process.load()

    assert refused.value.reason is StorageErrorReason.UNSUITABLE
    assert store.objects == {}
    assert process.jobs.finalizers == []


# ---------------------------------------------------------------------------------------------------------- coming back


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
async def test_a_run_comes_back_from_its_snapshot_and_without_it(damaged: bool) -> None:
    store = MemoryStore()
    process = Process(store)
    loaded = await process.load()
    state = loaded.state
    for position, uid in enumerate(["uid-1", "uid-2"]):
        assert state.agents.started(Stage.MAP, position, 1, uid, NOW)
        batch = state.commits.begin(CommitReason.TIME, NOW, with_snapshot=position == 0)
        await process.journal.append(batch)
        state.commits.done(batch, NOW)
    if damaged:
        (key,) = [key for key in store.objects if "snapshot" in key]
        store.objects[key] = store.objects[key][:-1]

    again = await Process(store).load(planned_before=True)

    assert items_of(again.state) == items_of(state)
    assert sorted(job.uid for job in again.state.agents.carrying()) == ["uid-1", "uid-2"]


async def test_the_phase_comes_back_with_its_reason() -> None:
    store = MemoryStore()
    process = Process(store)
    await process.load()
    ended = Turn(Phase.FAILED, "NoItemSucceeded", "all 2 items failed")
    await process.journal.append(Batch(CommitReason.PHASE_CHANGE, NOW, ended, None, None))

    assert (await Process(store).load(planned_before=True)).state.committed_turn == ended


async def test_who_does_not_lead_any_more_loads_nothing() -> None:
    store = MemoryStore()
    await Process(store, leader=Leader(2)).load()
    former = Leader(1)
    former.held = False

    with pytest.raises(DeposedError):
        await Process(store, leader=former).load(planned_before=True)


async def test_what_is_loaded_is_out_of_the_hands_of_the_leader_before() -> None:
    store = MemoryStore()
    before = Process(store, leader=Leader(1))
    loaded = await before.load()
    await Process(store, leader=Leader(2)).load(planned_before=True)
    start = Start(Stage.MAP, FIRST, 1, "uid-1")

    with pytest.raises(DeposedError):
        await before.journal.append(Batch(CommitReason.TIME, NOW, loaded.state.turn, None, None, starts=(start,)))

    assert items_of((await Process(store, leader=Leader(3)).load(planned_before=True)).state) == [Item(), Item()]
