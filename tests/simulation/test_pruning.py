"""Which checkpoints stay, which go, and those that people ask for."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import ANNOTATION_CHECKPOINT
from tests.simulation.agents import Agent, Ends, steady
from tests.simulation.going_back import RUN, Runs, ask, checkpoint_with, durable_of, items, job, kept, restore, suspend
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, audited, operating
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.test_forks import CHILD, fork

pytestmark = pytest.mark.asyncio

ITEMS = 80


def many(items: int = ITEMS, **checkpoint: Any) -> dict[str, Any]:
    """Each outcome is a checkpoint."""
    body = map_reduce_job(
        list(range(items)),
        map_={"maxParallel": 2},
        checkpoint={"everyItems": 1, "everySeconds": 3600} | checkpoint,
        reduce=reduce_work(),
    )
    body["spec"]["input"]["idExpression"] = "string(item)"
    return body


def is_beyond(cluster: SimulatedCluster, sequence: int) -> bool:
    return durable_of(cluster).sequence > sequence


def large(seconds: float = 2.0) -> Agent:
    """With results of this size, snapshots are made."""
    return lambda _: Ends(seconds, message=f'"{"x" * 4000}"')


def objects(store: MemoryStore, kind: str, uid: str = RUN) -> list[str]:
    return [key for key in store.objects if f"/{uid}/{kind}" in key]


async def test_the_last_ones_stay_and_those_at_changes_of_phase() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, many(keep=5), store) as operator:
        await operator.until_finished()
        await asyncio.sleep(10)
        newest = operator.status_of(RUN)["checkpoint"]["sequence"]
        turned = checkpoint_with(cluster, ITEMS) - 1
        assert kept(operator) == [0, *range(newest - 4, newest + 1)]
        assert turned in kept(operator)
        assert len(objects(store, "checkpoints/")) == 6
        assert len(objects(store, "journal/segment-")) == newest


async def test_a_long_run_keeps_few_of_its_checkpoints_and_of_its_snapshots() -> None:
    cluster, store = SimulatedCluster(large()), MemoryStore()
    most: Counter[str] = Counter()

    def count(_: Any) -> None:
        for kind in ("checkpoints/", "journal/snapshot-"):
            most[kind] = max(most[kind], len(objects(store, kind)))

    cluster.on_create.append(count)
    async with operating(cluster, many(400, keep=10), store) as operator:
        await operator.until_finished()
    assert most["checkpoints/"] < 40
    assert 2 <= most["journal/snapshot-"] < 10


async def test_what_is_pinned_stays_until_it_is_not_any_more() -> None:
    cluster, store = SimulatedCluster(large()), MemoryStore()
    async with operating(cluster, many(120, keep=2, pinned=[7, 30]), store) as operator:
        await operator.until(lambda: durable_of(cluster).sequence > 50)
        assert {7, 30} <= set(kept(operator))
        assert 8 not in kept(operator)
        ask(operator, checkpoint={"everyItems": 1, "everySeconds": 3600, "keep": 2, "pinned": [30]})
        await operator.until_finished()
        await asyncio.sleep(70)
        ask(operator, suspend=True)
        await restore(operator, 30)
        assert items(operator)["succeeded"] == durable_of(cluster).counts[30].succeeded


async def test_a_checkpoint_that_a_fork_started_from_stays_for_as_long_as_the_fork() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, many(120, keep=2), store) as operator:
        await operator.until(lambda: durable_of(cluster).sequence == 10)
        child = fork(checkpoint=9, suspend=True)
        audited(cluster, child, store)
        operator.apply(child)
        await operator.until(lambda: "lineage" in operator.status_of(CHILD), 60)
        await operator.until_finished()
        assert 9 in kept(operator)
        # The child needs nothing of it any more, and somebody may want another one.
        ask(operator, CHILD, suspend=False)
        await operator.until_finished(uid=CHILD)


async def test_a_checkpoint_that_a_fork_waits_to_start_from_stays() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, many(120, keep=2), store) as operator:
        await operator.until(lambda: durable_of(cluster).sequence == 10)
        edits = {"items": [{"id": "nobody", "reset": True}]}
        child = fork(checkpoint=9, edits=edits)
        audited(cluster, child, store)
        operator.apply(child)
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "InvalidEdits", 60)
        await operator.until_finished()
        ask(operator, CHILD, forkFrom={"job": {"name": "demo"}, "checkpoint": 9})
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 120}


async def test_the_next_operator_knows_what_is_kept_and_prunes_on() -> None:
    cluster, store, body = SimulatedCluster(large()), MemoryStore(), many(120, keep=3)
    for _ in range(3):
        reached = durable_of(cluster).sequence if cluster.audits else 0
        async with operating(cluster, body, store, graceful=False) as operator:
            await operator.until(partial(is_beyond, cluster, reached + 14))
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        newest = operator.status_of(RUN)["checkpoint"]["sequence"]
        assert kept(operator) == [0, *range(newest - 2, newest + 1)]


async def test_a_job_without_checkpoints_goes_on_and_cannot_go_back() -> None:
    cluster, store = SimulatedCluster(large()), MemoryStore()
    body = many(120, enabled=False)
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: durable_of(cluster).sequence > 40)
        assert operator.condition("CheckpointHealthy")["reason"] == "CheckpointsDisabled"
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: durable_of(cluster).sequence > 60)
        await suspend(operator)
        before = items(operator)
        ask(operator, restore={"checkpoint": 10})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "CheckpointNotFound", 60)
        assert items(operator) == before
        assert kept(operator) == []
        ask(operator, suspend=False)
        await operator.until_finished()
    assert objects(store, "checkpoints/") == objects(store, "journal/snapshot-") == []
    assert set(cluster.runs_of.values()) == {1}


async def test_checkpoints_that_are_switched_on_later_are_kept_from_then_on() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abcdef", checkpoint={"enabled": False}), store) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 3)
        ask(operator, checkpoint={"everyItems": 1, "everySeconds": 3600})
        await operator.until_finished()
        await suspend(operator)
        assert 0 not in kept(operator)
        runs = Runs(cluster)
        await restore(operator, checkpoint_with(cluster, 5))
        ask(operator, suspend=False)
        await operator.until(lambda: items(operator) == {"succeeded": 6})
    assert runs.since == {"f": 1}


# ----------------------------------------------------------------------------------------------------- on demand


async def asked(operator: OperatorInMemory, token: str) -> dict[str, Any]:
    """Somebody asks for a checkpoint and waits for it; returns what the status says of it."""
    operator.annotate(ANNOTATION_CHECKPOINT, token)
    await operator.until(lambda: operator.status_of(RUN).get("checkpoint", {}).get("token") == token, 30)
    told: dict[str, Any] = operator.status_of(RUN)["checkpoint"]
    return told


async def test_a_checkpoint_on_demand_holds_what_has_happened_by_then() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(1.0 if int(seen.context["itemId"]) < 5 else 1000.0))
    body = many(20)
    body["spec"]["map"]["maxParallel"] = 20
    body["spec"]["checkpoint"] = {"everyItems": 1000, "everySeconds": 3600}
    async with operating(cluster, body) as operator:
        await operator.until(lambda: sum(one.shown is not None for one in cluster.history) == 5)
        await asyncio.sleep(1)
        assert items(operator).get("succeeded", 0) == 0
        told = await asked(operator, "now")
        assert told["reason"] == "Manual"
        assert items(operator)["succeeded"] == 5
        again = await asked(operator, "and now")
        assert again["sequence"] == told["sequence"] + 1


async def test_a_token_is_answered_once() -> None:
    cluster, store, body = SimulatedCluster(steady(100.0)), MemoryStore(), job("ab")
    async with operating(cluster, body, store) as operator:
        told = await asked(operator, "one")
        operator.observe()
        await asyncio.sleep(50)
        assert operator.status_of(RUN)["checkpoint"] == told
    async with operating(cluster, body, store) as operator:
        await asyncio.sleep(30)
    manual = {
        one["checkpoint"]["sequence"] for one in cluster.statuses if one.get("checkpoint", {}).get("reason") == "Manual"
    }
    assert len(manual) == 1


async def test_a_job_that_has_ended_has_nothing_to_save_and_says_so() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("ab")) as operator:
        await operator.until_finished()
        await asyncio.sleep(60)
        sequence = durable_of(cluster).sequence
        told = await asked(operator, "late")
        assert told["sequence"] == sequence == durable_of(cluster).sequence


async def test_a_suspended_job_saves_on_demand_too() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abc")) as operator:
        await operator.until(lambda: items(operator).get("succeeded") == 1)
        await suspend(operator)
        told = await asked(operator, "still")
        await restore(operator, told["sequence"])


async def test_without_checkpoints_it_is_answered_and_said() -> None:
    cluster = SimulatedCluster(steady(100.0))
    async with operating(cluster, job("ab", checkpoint={"enabled": False})) as operator:
        await operator.until(lambda: items(operator).get("running") == 1)
        await asked(operator, "one")
        assert "CheckpointsDisabled" in {reason for reason, _ in cluster.events}
