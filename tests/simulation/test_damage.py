"""What is damaged in storage of a job that has ended: nobody reads it until somebody wants something of the job."""

import asyncio
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef, StorageKeys
from tests.simulation.agents import Ends, Seen
from tests.simulation.going_back import RUN, Runs, items, restart
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import OperatorInMemory, audited, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

ITEMS = 100
KEYS = StorageKeys(RunRef("default", "demo", RUN))


def job() -> dict[str, Any]:
    """Results of 4 KB, each saved by itself, so that a snapshot comes to be that covers most of them."""
    body = map_reduce_job(list(range(ITEMS)), map_={"maxParallel": 2}, checkpoint={"everyItems": 1})
    body["spec"]["input"]["idExpression"] = "string(item)"
    return body


def wordy(_: Seen) -> Ends:
    return Ends(2.0, message=f'"{"x" * 4000}"')


def damage_a_result(store: MemoryStore) -> str:
    """Of the first item that had one; returns the key of the segment."""
    assert any(key.startswith(KEYS.snapshots) for key in store.objects)
    key, data = next((key, data) for key, data in sorted(store.objects.items()) if b"xxx" in data)
    put(store, key, data.replace(b"xxx", b"xyx", 1))
    return key


def put(store: MemoryStore, key: str, data: bytes) -> None:
    """Not by a request, of which the audit would learn."""
    dict.__setitem__(store.objects, key, data)


async def until_recovered(operator: OperatorInMemory, *of: str) -> dict[str, Any]:
    """Until all items of the job have succeeded and the condition names what was damaged."""
    await operator.until(lambda: operator.condition("CheckpointHealthy")["reason"] == "Recovered", 300)
    status = await operator.until_finished(uid=RUN)
    assert (status["phase"], items(operator)) == ("Succeeded", {"succeeded": ITEMS})
    message = operator.condition("CheckpointHealthy")["message"]
    assert all(one in message for one in of), message
    return status


@pytest.mark.parametrize("phase", ["Map", "Plan"])
async def test_a_result_that_is_lost_is_made_again_by_a_restart(phase: str) -> None:
    cluster, store = SimulatedCluster(wordy), MemoryStore()
    # Checkpoints from before are kept, and what they lead to stays damaged.
    async with operating(cluster, job(), store, graceful=False) as operator:
        await operator.until_finished()
        segment, runs = damage_a_result(store), Runs(cluster)
        await restart(operator, phase, "1")
        await until_recovered(operator, segment, "at least 1 outcome lost")
        assert list(runs.since.values()) == [1]
        # All that the journal leads to is whole: nothing runs again.
        again = Runs(cluster)
        await restart(operator, phase, "2")
        assert again.since == {}


async def test_a_result_that_is_lost_is_made_again_by_a_fork_and_its_parent_is_left_alone() -> None:
    cluster, store = SimulatedCluster(wordy), MemoryStore()
    # Checkpoints from before are kept, and what they lead to stays damaged.
    async with operating(cluster, job(), store, graceful=False) as operator:
        await operator.until_finished()
        segment, runs = damage_a_result(store), Runs(cluster)
        before = {key: data for key, data in store.objects.items() if key.startswith(KEYS.prefix)}
        child = {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "MapReduceJob",
            "metadata": {"name": "child", "namespace": "default", "uid": "run-2", "generation": 1},
            "spec": {"forkFrom": {"job": {"name": "demo"}}},
        }
        audited(cluster, child, store)
        operator.apply(child)
        status = await operator.until_finished(uid="run-2")
        assert (status["phase"], items(operator, "run-2")) == ("Succeeded", {"succeeded": ITEMS})
        assert list(runs.since.values()) == [1]
        assert any(segment in message for reason, message in cluster.events if reason == "Forked")
        assert {key: data for key, data in store.objects.items() if key.startswith(KEYS.prefix)} == before


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "missing"])
async def test_a_restart_mends_the_head(gone: bool) -> None:
    cluster, store, body = SimulatedCluster(wordy), MemoryStore(), job()
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    head = store.objects[KEYS.head]
    if gone:
        del store.objects[KEYS.head]
    else:
        put(store, KEYS.head, head[:-9])
    async with operating(cluster, body, store) as operator:
        await asyncio.sleep(600)
        assert store.objects.get(KEYS.head) == (None if gone else head[:-9]), "nobody asked for anything"
        runs = Runs(cluster)
        await restart(operator, "Map", "1")
        await until_recovered(operator, KEYS.head)
        assert runs.since == {}
