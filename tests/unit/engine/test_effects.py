"""What a run does beside its loop: Jobs that vanished while nobody told of them."""

import asyncio

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.effects import FindPod, FindVanished
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.sightings import POD_GRACE_SECONDS
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen, Workload
from mapreduce_operator.engine.effects import Effects
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.troubles import Troubles
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.unit.engine.parts import NOW
from tests.unit.engine.test_loading import RUN, Process, items_of, left_running

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def comes_back(store: MemoryStore) -> Process:
    """A process that finds a run whose first item has a recorded start."""
    await left_running(store)
    return Process(store)


async def finds_vanished(process: Process) -> list[tuple[Workload, bool]]:
    """What a run is told when it asks for Jobs of which nothing is known."""
    loaded = await process.load(planned_before=True)
    told: list[tuple[Workload, bool]] = []
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        effects = Effects(
            process.world,
            process.journal,
            loaded.state,
            loaded.ids,
            letters=Letters(process.world, RUN, process.journal),
            troubles=Troubles(),
            tasks=tasks,
            wake=lambda: None,
            tell=lambda workload, deleted: told.append((workload, deleted)),
        )
        assert FindVanished() in loaded.state.decide(NOW), "asked for as soon as the run is back"
        effects.start(FindVanished())
    for workload, deleted in told:
        assert isinstance(workload, JobSeen)
        loaded.state.agents.observe_job(workload, deleted, NOW)
    process.state = loaded.state
    return told


async def test_a_recorded_start_whose_job_vanished_becomes_one_interruption() -> None:
    process = await comes_back(store := MemoryStore())

    ((vanished, deleted),) = await finds_vanished(process)

    assert (vanished.uid, deleted) == ("uid-1", True)
    assert process.jobs.asked == [vanished.name]
    assert isinstance(vanished, JobSeen)
    assert FindPod(vanished) in process.state.decide(NOW + POD_GRACE_SECONDS)
    process.state.agents.no_pod(vanished, NOW + POD_GRACE_SECONDS)
    assert items_of(process.state) == [Item(ItemState.PENDING, interruptions=1, reason=Reason.DELETED), Item()]
    await process.journal.append(process.state.commits.begin(CommitReason.ITEMS, NOW))
    again = await Process(store).load(planned_before=True)
    assert again.state.agents.carrying() == []
    assert items_of(again.state) == items_of(process.state)


@pytest.mark.parametrize(
    ("uid", "is_gone"), [("uid-1", False), ("uid-2", True), (None, True)], ids=["alive", "created anew", "gone"]
)
async def test_what_the_informer_does_not_know_is_asked_for_by_name_and_uid(uid: str | None, is_gone: bool) -> None:
    process = await comes_back(MemoryStore())
    (expected,) = (await process.load(planned_before=True)).state.agents.carrying()
    if uid is not None:
        process.jobs.jobs[expected.name] = (uid, RUN.uid)

    told = await finds_vanished(process)

    assert [workload.uid for workload, _ in told] == ["uid-1"] * is_gone


@pytest.mark.parametrize(("what", "asked"), [("job", 0), ("pod", 1)])
async def test_a_job_that_the_informer_knows_is_not_asked_for_and_its_pod_is_not_it(what: str, asked: int) -> None:
    process = await comes_back(MemoryStore())
    (job,) = (await process.load(planned_before=True)).state.agents.carrying()
    carried = Carried(RUN.uid, Stage.MAP, (Dispatch(job.carried.dispatches[0].item_key, 1),), "5f1c")
    known: dict[str, Workload] = {
        "job": JobSeen("default", job.name, "uid-1", RUN.uid, carried),
        "pod": PodSeen("default", f"{job.name}-x", "pod-1", job.name, "uid-1", carried, phase="Running"),
    }
    process.known = [known[what]]

    assert len(await finds_vanished(process)) == len(process.jobs.asked) == asked


async def test_an_api_server_that_does_not_answer_is_asked_again_and_is_no_sign() -> None:
    process = await comes_back(MemoryStore())
    (job,) = (await process.load(planned_before=True)).state.agents.carrying()
    process.jobs.jobs[job.name] = ("uid-1", RUN.uid)
    process.jobs.error = ClusterError(ClusterErrorReason.UNAVAILABLE, "no answer")
    asyncio.get_running_loop().call_later(5, lambda: setattr(process.jobs, "error", None))

    assert await finds_vanished(process) == []
    assert len(process.jobs.asked) > 1
