"""What an operator that comes next makes of the last checkpoint: nothing is lost, and nothing runs twice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, Seen, steady
from tests.simulation.jobs import map_reduce_job, redrive, reduce_work
from tests.simulation.letters import letters
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.process import Process
from tests.simulation.saves import NotedStore, ended, job
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore
from tests.simulation.weather import Climate, StorageWeather
from tests.unit.core.golden import expected, stored

pytestmark = pytest.mark.asyncio


async def test_two_of_five_are_done_when_the_operator_dies() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), NotedStore()
    body = job([1, 2, 3, 4, 5], every_items=1)
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: cluster.status.get("items", {}).get("succeeded") == 2)
        last = store.saves[-1].sequence
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.status["checkpoint"]["sequence"] > last)
        assert cluster.status["items"]["succeeded"] >= 2
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 5
    assert status["attempts"] == {"total": 5, "interruptions": 0, "retries": 0}
    assert cluster.runs_of == dict.fromkeys("12345", 1)


async def test_ten_are_done_five_failed_and_fifteen_pending_so_twenty_are_left_to_run() -> None:
    broken = {0, 3, 6, 9, 12}
    cluster = SimulatedCluster(lambda seen: Ends(2.0, exit_code=int(seen.item in broken and seen.attempt == 1)))
    store = MemoryStore()
    retry = {"maxAttempts": 2, "backoff": {"initialSeconds": 60, "maxSeconds": 60, "jitter": 0}}
    body = job(list(range(30)), every_items=1, map_={"maxParallel": 15, "retry": retry})
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: len(cluster.history) == 15)
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: cluster.status.get("items", {}).get("retryWait") == 5)
        left = {"total": 30, "pending": 15, "retryWait": 5, "succeeded": 10}
        await operator.until(lambda: {state: n for state, n in cluster.status["items"].items() if n} == left, 10)
    before = dict(cluster.runs_of)
    async with operating(cluster, body, store) as operator:
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_finished()
    assert {int(name) for name, runs in cluster.runs_of.items() if runs > before.get(name, 0)} == {
        *broken,
        *range(15, 30),
    }
    assert len(cluster.history) == 15 + 20
    assert status["items"]["succeeded"] == 30
    assert status["attempts"] == {"total": 35, "interruptions": 0, "retries": 5}


async def test_each_item_runs_once_over_many_resumes_in_a_row() -> None:
    cluster, store = SimulatedCluster(steady(3.0)), NotedStore()
    body = job(list(range(20)), every_items=2, map_={"maxParallel": 3})
    lives = 0
    while "completionTime" not in cluster.status:
        async with operating(cluster, body, store, graceful=False) as operator:
            goal = len(store.saves) + 1
            await operator.until(
                lambda goal=goal: len(store.saves) >= goal or "completionTime" in cluster.status  # type: ignore[misc]
            )
        lives += 1
    assert lives > 5
    assert cluster.runs_of == {str(number): 1 for number in range(20)}
    assert cluster.status["items"]["succeeded"] == 20
    assert sum(save.outcomes for save in store.saves) == 20


async def test_what_was_in_progress_is_adopted_harvested_or_interrupted_and_no_attempt_is_charged() -> None:
    seconds = {"adopted": 100.0, "harvested": 10.0, "interrupted": 100.0}
    cluster, store = (
        SimulatedCluster(lambda seen: Ends(seconds[seen.item], message=json.dumps(seen.item))),
        NotedStore(),
    )
    body = job(list(seconds), every_seconds=1, map_={"maxParallel": 3})
    async with operating(cluster, body, store, graceful=False) as operator:
        await operator.until(lambda: len(cluster.runs_of) == 3)
        await asyncio.sleep(3)
    await asyncio.sleep(20)
    jobs = {job.context["itemId"]: job for job in cluster.jobs.values()}
    assert jobs["harvested"].seen.complete
    cluster.delete_job_by_hand(jobs["interrupted"])
    await asyncio.sleep(5)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 3
    # One attempt is allowed: an interruption that counted as one would have made a dead letter.
    assert status["attempts"] == {"total": 3, "interruptions": 1, "retries": 0}
    assert cluster.runs_of == {"adopted": 1, "harvested": 1, "interrupted": 2}


async def test_items_go_on_in_the_order_of_the_plan() -> None:
    reduced: list[str] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            (files,) = cluster.config_maps.values()
            reduced.append(files["data"]["results.jsonl"])
        return Ends(5.0, message=json.dumps(seen.context["itemId"]))

    cluster, store = SimulatedCluster(agent), MemoryStore()
    ids = [f"item-{number * 7 % 20}" for number in range(20)]
    body = job(ids, every_items=1, reduce=reduce_work())
    for goal in (4, 11):
        async with operating(cluster, body, store, graceful=False) as operator:
            await operator.until(lambda goal=goal: ended(cluster, goal))  # type: ignore[misc]
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    assert list(cluster.runs_of) == [*ids, "reduce"]
    assert reduced == ["".join(json.dumps({"id": name, "result": name}, separators=(",", ":")) + "\n" for name in ids)]


@asynccontextmanager
async def both(cluster: SimulatedCluster, store: MemoryStore) -> AsyncIterator[OperatorInMemory]:
    """An operator at work on two jobs that differ in nothing but their names."""
    first, second = (twin(number) for number in (1, 2))
    async with operating(cluster, first, store, graceful=False) as operator:
        operator.supervisor.observe(second)
        yield operator


def twin(number: int) -> dict[str, Any]:
    body = map_reduce_job(
        list(range(12)),
        uid=f"run-{number}",
        map_={"maxParallel": 2},
        checkpoint={"everyItems": 2, "everySeconds": 1},
        reduce=reduce_work(),
    )
    body["metadata"]["name"] = f"twin-{number}"
    return body


async def test_two_jobs_at_once_do_not_mix_over_a_restart() -> None:
    reduced: dict[str, list[tuple[str, int]]] = {}

    def agent(seen: Seen) -> Ends:
        name = seen.context["job"]
        if seen.context["itemId"] == "reduce":
            (files,) = (
                files for files in cluster.config_maps.values() if files["metadata"]["name"].startswith(f"{name}-")
            )
            reduced[name] = [tuple(json.loads(line)["result"]) for line in files["data"]["results.jsonl"].splitlines()]
        return Ends(3.0, message=json.dumps([name, seen.item]))

    cluster, store = SimulatedCluster(agent), MemoryStore()

    def done(uid: str) -> int:
        items: dict[str, int] = cluster.status_of.get(uid, {}).get("items", {})
        return items.get("succeeded", 0)

    async with both(cluster, store) as operator:
        await operator.until(lambda: done("run-1") >= 4 and done("run-2") >= 4)
    async with both(cluster, store) as operator:
        await operator.until(lambda: all("completionTime" in status for status in cluster.status_of.values()))
    for number in (1, 2):
        assert done(f"run-{number}") == 12
        assert reduced[f"twin-{number}"] == [(f"twin-{number}", item) for item in range(12)]
    runs = [(job.seen.owner_uid, job.context["itemId"]) for job in cluster.history]
    assert len(runs) == len(set(runs)) == 2 * 13


# ---------------------------------------------------------------------------------------------------- earlier versions


@asynccontextmanager
async def taken_over(cluster: SimulatedCluster, store: MemoryStore, ids: list[str]) -> AsyncIterator[OperatorInMemory]:
    """An operator of today at work on a run that an earlier version left. No audit: what it would count was before."""
    body = map_reduce_job(
        [{"id": name} for name in ids],
        map_={"maxParallel": 4, "retry": {"maxAttempts": 2, "backoff": {"initialSeconds": 1, "jitter": 0}}},
        reduce=reduce_work(runWhen="Always"),
    )
    body["spec"]["input"]["idExpression"] = "item.id"
    remote = RemoteStore(store, Process(), StorageWeather(Climate(), Random(0)))
    async with operating(cluster, body, remote) as operator:
        yield operator


def results(cluster: SimulatedCluster) -> dict[str, Any]:
    """What the reduce got, by item id, in its order."""
    (files,) = cluster.config_maps.values()
    return {line["id"]: line["result"] for line in map(json.loads, files["data"]["results.jsonl"].splitlines())}


async def test_a_run_that_version_1_left_in_the_middle_of_its_map_goes_on() -> None:
    reduced: list[dict[str, Any]] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            reduced.append(results(cluster))
        return Ends(2.0, message=json.dumps({"dispatch": seen.dispatch}))

    cluster, store, before = SimulatedCluster(agent), stored("running"), expected("running")
    cluster.redrives.create(redrive("under-way"))
    items = before["items"]
    async with taken_over(cluster, store, list(items)) as operator:
        status = await operator.until_finished()
        await operator.until_redriven("under-way")
    given_up = {"never-1", "patched-1"}
    left = items.keys() - before["results"].keys() - given_up
    assert left == {"dead-1", "dead-2", "long-1", "long-2", "plain-5", "retried-2"}
    assert cluster.runs_of == dict.fromkeys([*left, "reduce"], 1)
    # Those that ran have no Jobs any more: they were interrupted, and their numbers do not come again.
    dispatches = {name: items[name]["attempts"] + items[name]["interruptions"] + 1 for name in left}
    ran = {"long-1", "long-2", "retried-2"}
    now = {name: {"dispatch": number + (name in ran)} for name, number in dispatches.items()}
    assert reduced == [{name: (before["results"] | now)[name] for name in items if name not in given_up}]
    assert status["items"] | {"succeeded": 12, "deadLettered": 2} == status["items"]


async def test_a_run_that_version_1_brought_to_its_end_is_not_run_again_but_its_letters_can_be() -> None:
    reduced: list[dict[str, Any]] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            reduced.append(results(cluster))
        return Ends(2.0, message='"today"')

    cluster, store, before = SimulatedCluster(agent), stored("ended"), expected("ended")
    for one in before["redrives"]:
        cluster.redrives.create(redrive(one["accepted"]["name"]))
    async with taken_over(cluster, store, list(before["items"])) as operator:
        status = await operator.until_finished()
        await asyncio.sleep(30)
        assert cluster.history == []
        assert status["result"] == before["tally"]["reduceResult"]
        assert letters(cluster) == {"total": 7, "open": 4, "resolved": 2, "archived": 1}
        for one in before["redrives"]:
            told = await operator.until_redriven(one["accepted"]["name"])
            assert (told["succeeded"], told["failed"]) == (one["succeeded"], one["failed"])
        redriven = await operator.redrive("again", selection={"ids": ["back-1"]}, rerunReduce=True)
        await operator.until_finished()
    assert redriven["succeeded"] == 1
    assert cluster.runs_of == {"back-1": 1, "reduce": 1}
    assert reduced == [{name: (before["results"] | {"back-1": "today"})[name] for name in reduced[0]}]
    assert reduced[0].keys() == before["results"].keys() | {"back-1"}
