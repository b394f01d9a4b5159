"""spec.map.skip: items that the user does not want to be run, as if they were not in the input."""

import asyncio
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, Seen, steady
from tests.simulation.going_back import RUN, Agents, Runs, ask, items, job, restart, until_items
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


def skip(operator: OperatorInMemory, ids: str) -> None:
    """The user skips these items, and no others any more."""

    def change(spec: dict[str, Any]) -> None:
        spec["map"]["skip"] = list(ids)

    operator.edit(change, RUN)


async def test_items_that_wait_are_skipped_and_the_job_succeeds_without_them() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd")) as operator:
        await until_items(operator, succeeded=1)
        skip(operator, "cd")
        await until_items(operator, succeeded=1, skipped=2)
        assert cluster.status["checkpoint"]["reason"] == "Skip"
        status = await operator.until_finished(120)
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllItemsSucceeded")
        assert items(operator) == {"succeeded": 2, "skipped": 2}
        assert status["progress"] == "4/4"
        assert status["positions"]["map"]["skipped"] == "2-3"
    assert cluster.runs_of == {"a": 1, "b": 1}


async def test_those_that_are_named_from_the_start_are_never_run() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abc", map_={"skip": ["b"]})) as operator:
        status = await operator.until_finished()
        assert status["phase"] == "Succeeded"
    assert cluster.runs_of == {"a": 1, "c": 1}


async def test_all_of_them_leave_nothing_to_do() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("ab", map_={"skip": ["a", "b"]}, reduce=reduce_work())) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"]) == ("Succeeded", "NoItems")
        assert items(operator) == {"skipped": 2}
    assert cluster.runs_of == {}


async def test_an_agent_that_runs_is_stopped() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(5000.0 if seen.context["itemId"] == "b" else 2.0))
    async with operating(cluster, job("abc")) as operator:
        await operator.until(lambda: cluster.runs_of.get("b") == 1)
        skip(operator, "b")
        status = await operator.until_finished(120)
        assert status["phase"] == "Succeeded"
        assert items(operator) == {"succeeded": 2, "skipped": 1}
        assert status["attempts"] == {"total": 2, "interruptions": 1, "retries": 0}
        assert cluster.jobs == {}


async def test_one_that_waits_for_another_attempt_does_not_get_it() -> None:
    cluster = SimulatedCluster(Agents("a"))
    retry = {"maxAttempts": 9, "backoff": {"initialSeconds": 3000, "maxSeconds": 3000}}
    async with operating(cluster, job("ab", map_={"retry": retry})) as operator:
        await until_items(operator, succeeded=1, retry_wait=1)
        skip(operator, "a")
        status = await operator.until_finished(60)
        assert status["phase"] == "Succeeded"
        assert items(operator) == {"succeeded": 1, "skipped": 1}


async def test_what_has_ended_stays_what_it_is_and_failures_still_count() -> None:
    cluster = SimulatedCluster(Agents("a", seconds=20.0))
    async with operating(cluster, job("abc")) as operator:
        await until_items(operator, succeeded=1, dead_lettered=1)
        skip(operator, "abc")
        status = await operator.until_finished(60)
        assert status["phase"] == "PartiallySucceeded"
        assert items(operator) == {"succeeded": 1, "deadLettered": 1, "skipped": 1}


async def test_skipped_items_are_no_failures_to_the_limits_of_the_job() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, job("abcd", failurePolicy={"maxFailures": 1})) as operator:
        await until_items(operator, succeeded=1)
        skip(operator, "bc")
        status = await operator.until_finished(120)
        assert status["phase"] == "Succeeded"


async def test_the_reduce_gets_nothing_of_them() -> None:
    agents = Agents("a")
    cluster = SimulatedCluster(agents)
    retry = {"maxAttempts": 9, "backoff": {"initialSeconds": 3000, "maxSeconds": 3000}}
    body = job("abc", map_={"retry": retry}, reduce=reduce_work(runWhen="AllSucceeded"))
    async with operating(cluster, body) as operator:
        await until_items(operator, succeeded=2, retry_wait=1)
        skip(operator, "a")
        status = await operator.until_finished(120)
        assert status["phase"] == "Succeeded"
    assert cluster.runs_of == {"a": 1, "b": 1, "c": 1, "reduce": 1}


async def test_an_item_that_is_taken_out_again_is_run_when_the_map_is_restarted() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc", map_={"skip": ["b", "c"]}), store) as operator:
        await operator.until_finished()
        skip(operator, "c")
        await asyncio.sleep(100)
        assert items(operator) == {"succeeded": 1, "skipped": 2}
        runs = Runs(cluster)
        status = await restart(operator, "Map", "1")
        assert (status["phase"], items(operator)) == ("Succeeded", {"succeeded": 2, "skipped": 1})
    assert runs.since == {"b": 1}


async def test_a_redrive_that_runs_is_called_off_for_the_item_and_its_letter_is_open_again() -> None:
    agents = Agents("a", "b", seconds=20.0)
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: items(operator).get("running") == 1)
        skip(operator, "ab")
        told = await operator.until_redriven("again")
        assert (told["succeeded"], told["failed"]) == (0, 2)
        await operator.until_finished(60)
        assert items(operator) == {"succeeded": 1, "deadLettered": 2}
        assert operator.status_of(RUN)["deadLetters"]["open"] == 2


async def test_one_that_is_wanted_again_before_it_is_durable_waits_for_that() -> None:
    cluster, store = SimulatedCluster(steady(20.0)), Hanging()
    body = job("abcd")
    async with operating(cluster, body, store, graceful=False) as operator:
        await until_items(operator, succeeded=1)
        store.hangs()
        await asyncio.sleep(30)
        skip(operator, "d")
        await asyncio.sleep(3)
        skip(operator, "")
        ask(operator, restart={"phase": "Map", "token": "1"})
        await asyncio.sleep(3)
        store.goes_on()
        await asyncio.sleep(5)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished(120)
        assert (status["phase"], items(operator)) == ("Succeeded", {"succeeded": 4})


async def test_one_that_is_skipped_again_is_still_no_failure() -> None:
    cluster = SimulatedCluster(Agents("a", seconds=5.0))
    retry = {"maxAttempts": 9, "backoff": {"initialSeconds": 3000, "maxSeconds": 3000}}
    async with operating(cluster, job("ab", map_={"retry": retry})) as operator:
        await until_items(operator, succeeded=1, retry_wait=1)
        skip(operator, "a")
        await operator.until_finished(60)
        skip(operator, "")
        ask(operator, restart={"phase": "Map", "token": "1"})
        await until_items(operator, retry_wait=1)
        skip(operator, "a")
        status = await operator.until_finished(60)
        assert (status["phase"], status["reason"]) == ("Succeeded", "AllItemsSucceeded")


async def test_a_failure_is_one_again_when_its_restart_is_called_off() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(2000.0 if seen.context["itemId"] == "a" else 5.0))
    retry = {"maxInterruptions": 0}
    body = job("ab", map_={"retry": retry, "maxParallel": 2}, failurePolicy={"onExhausted": "Skip"})
    async with operating(cluster, body) as operator:
        await until_items(operator, succeeded=1)
        cluster.delete_pod_gently(next(iter(cluster.pods.values())))
        status = await operator.until_finished(100)
        assert (status["phase"], items(operator)) == ("PartiallySucceeded", {"succeeded": 1, "skipped": 1})
        ask(operator, restart={"phase": "Map", "token": "1"})
        await until_items(operator, running=1)
        ask(operator, cancel=True)
        await operator.until(lambda: operator.status_of(RUN)["reason"] == "Cancelled", 60)
        ask(operator, cancel=False, resumePolicy={"includeFailed": False}, restart={"phase": "Map", "token": "2"})
        await asyncio.sleep(60)
        status = await operator.until_finished()
        assert (status["phase"], items(operator)) == ("PartiallySucceeded", {"succeeded": 1, "skipped": 1})


async def test_an_agent_that_takes_its_time_to_end_costs_no_commits() -> None:
    cluster, store = SimulatedCluster(_the_first_traps), MemoryStore()
    checkpoint = {"everyItems": 1000, "everySeconds": 3600}
    body = job("abcdefghijklmnopqrst", map_={"maxParallel": 3}, checkpoint=checkpoint)
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.runs_of.get("a") == 1)
        await asyncio.sleep(3)
        before = segments(store)
        skip(operator, "a")
        await asyncio.sleep(25)
        assert sum(cluster.runs_of.values()) > 10
        assert segments(store) == before + 1
        await operator.until_finished(300)


def _the_first_traps(seen: Seen) -> Ends:
    return Ends(5000.0, traps=29.0) if seen.context["itemId"] == "a" else Ends(3.0)


def segments(store: MemoryStore) -> int:
    return sum("/journal/segment-" in key for key in store.objects)


class Hanging(MemoryStore):
    """Writes wait as long as a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()

    def hangs(self) -> None:
        self._may_go_on.clear()

    def goes_on(self) -> None:
        self._may_go_on.set()

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        await self._may_go_on.wait()
        return await super().put(key, data, if_absent=if_absent, if_match=if_match)


async def test_a_restarted_operator_knows_what_was_skipped() -> None:
    cluster, store, body = SimulatedCluster(steady(20.0)), MemoryStore(), job("abcd")
    async with operating(cluster, body, store, graceful=False) as operator:
        await until_items(operator, succeeded=1)
        skip(operator, "d")
        await until_items(operator, skipped=1)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished(120)
        assert items(operator) == {"succeeded": 3, "skipped": 1}
        assert status["phase"] == "Succeeded"


async def test_ids_that_no_item_has_are_told_of_once_for_each_change() -> None:
    cluster, store = SimulatedCluster(steady(50.0)), MemoryStore()
    body = job("abcd", map_={"skip": ["b", "x", "y" * 4096]})

    def told() -> list[str]:
        return [message for reason, message in cluster.events if reason == "UnknownItemsSkipped"]

    async with operating(cluster, body, store) as operator:
        await until_items(operator, succeeded=1)
        (message,) = told()
        assert message.startswith(f"spec.map.skip names 2 ids that no item has, such as 'x', '…{'y' * 59}'. ")
    async with operating(cluster, body, store) as operator:
        await asyncio.sleep(10)
        assert len(told()) == 1, "the next operator has nothing new to tell"
        skip(operator, "bz")
        await operator.until_finished()
        assert [message.partition(",")[0] for message in told()[1:]] == ["spec.map.skip names 1 id that no item has"]
        assert items(operator) == {"succeeded": 3, "skipped": 1}
