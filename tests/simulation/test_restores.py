"""Going back to a checkpoint: what ended after it is run again, and nothing else."""

import asyncio

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import steady
from tests.simulation.going_back import (
    RUN,
    Agents,
    ReadStore,
    Runs,
    ask,
    checkpoint_with,
    durable_of,
    finish,
    items,
    job,
    kept,
    restore,
    suspend,
    until_items,
)
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.letters import bodies
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_what_ended_after_the_checkpoint_is_run_again_and_nothing_else() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abcdef")) as operator:
        await until_items(operator, succeeded=4)
        await suspend(operator)
        ended, runs = items(operator)["succeeded"], Runs(cluster)
        status = await restore(operator, checkpoint_with(cluster, 2))
        assert items(operator) == {"succeeded": 2, "pending": 4}
        assert status["checkpoint"]["reason"] == "Restore"
        assert status["restore"]["sequence"] == status["checkpoint"]["sequence"]
        assert status["attempts"] == {"total": 2, "interruptions": ended - 2, "retries": 0}
        assert runs.since == {}
        status = await finish(operator)
    assert runs.since == dict.fromkeys("cdef", 1)
    assert (status["phase"], status["items"]["succeeded"]) == ("Succeeded", 6)


async def test_forward_again_to_a_checkpoint_of_the_branch_that_was_left() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abcdef")) as operator:
        await until_items(operator, succeeded=5)
        await suspend(operator)
        later = checkpoint_with(cluster, 5)
        await restore(operator, checkpoint_with(cluster, 1))
        runs = Runs(cluster)
        operator.edit(lambda spec: spec.update(suspend=False))
        await until_items(operator, succeeded=2)
        await suspend(operator)
        status = await restore(operator, later)
        assert status["items"]["succeeded"] == 5
        before = runs.since
        await finish(operator)
    assert set(before) <= {"b", "c"}
    assert runs.since == {**before, "f": 1}


async def test_a_job_that_has_ended_goes_back_too() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abcd")) as operator:
        await operator.until_finished()
        await asyncio.sleep(60)
        await suspend(operator)
        runs = Runs(cluster)
        status = await restore(operator, checkpoint_with(cluster, 3))
        assert "completionTime" not in status
        assert status["phase"] == "Paused"
        await finish(operator)
    assert runs.since == {"d": 1}


async def test_checkpoint_0_is_the_plan() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abc")) as operator:
        await until_items(operator, succeeded=2)
        await suspend(operator)
        assert 0 in kept(operator)
        runs = Runs(cluster)
        await restore(operator, 0)
        assert items(operator) == {"pending": 3}
        await finish(operator)
    assert runs.since == dict.fromkeys("abc", 1)


async def test_a_checkpoint_in_the_reduce_runs_the_reduce_again_over_the_results_of_then() -> None:
    cluster = SimulatedCluster(steady(5.0))
    async with operating(cluster, job("abc", reduce=reduce_work())) as operator:
        await operator.until_finished()
        reducing = max(number for number, one in durable_of(cluster).counts.items() if one.succeeded == 3) - 1
        await suspend(operator)
        runs = Runs(cluster)
        await restore(operator, reducing)
        status = await finish(operator)
    assert runs.since == {"reduce": 1}
    assert (status["phase"], status["reduce"]["state"]) == ("Succeeded", "Succeeded")


async def test_a_dead_letter_that_came_after_the_checkpoint_is_none_any_more() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd")) as operator:
        await until_items(operator, succeeded=2, dead_lettered=1)
        await suspend(operator)
        status = await restore(operator, checkpoint_with(cluster, 1, dead_lettered=0))
        assert status.get("deadLetters", {}).get("open", 0) == 0
        agents.failing.clear()
        status = await finish(operator)
        assert status["items"]["succeeded"] == 4
        assert status.get("deadLetters", {}).get("unresolved", 0) == 0


async def test_a_dead_letter_that_was_redriven_after_the_checkpoint_is_open_again() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        ended = checkpoint_with(cluster, 2, dead_lettered=1)
        agents.failing.clear()
        status = await operator.redrive("again")
        assert status["succeeded"] == 1
        await operator.until_finished()
        await suspend(operator)
        status = await restore(operator, ended)
        assert status["deadLetters"]["open"] == 1
        operator.edit(lambda spec: spec.update(suspend=False))
        runs = Runs(cluster)
        told = await operator.redrive("once-more")
        assert (told["selected"], told["succeeded"]) == (1, 1)
        await operator.until(lambda: operator.status_of(RUN)["items"]["succeeded"] == 3)
    assert runs.since == {"b": 1}


async def test_a_dead_letter_that_was_purged_after_the_checkpoint_is_back_without_its_history() -> None:
    agents = Agents("b")
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abc", deadLetter={"retentionSeconds": 600}), store) as operator:
        await operator.until_finished()
        ended, before = checkpoint_with(cluster, 2, dead_lettered=1), bodies(store)["b"]
        agents.failing.clear()
        await operator.redrive("again")
        await operator.until_finished()
        await operator.until(lambda: not bodies(store), 900)
        await suspend(operator)
        status = await restore(operator, ended)
        assert status["deadLetters"]["open"] == 1
        told = {"cause", "reason", "message", "signature", "attempts", "payload", "lastAttemptAt"}
        assert {name: bodies(store)["b"][name] for name in told} == {name: before[name] for name in told}
        assert (before["history"], bodies(store)["b"].get("history", [])) != ([], before["history"])
        operator.edit(lambda spec: spec.update(suspend=False))
        found = await operator.redrive("once-more")
        assert (found["selected"], found["succeeded"]) == (1, 1)


async def test_a_restore_into_a_redrive_that_was_under_way_runs_the_rest_of_it_again() -> None:
    agents = Agents("b", "c", "d")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abcd")) as operator:
        await operator.until_finished()
        agents.failing.clear()
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: items(operator).get("succeeded") == 2)
        status = await operator.until_redriven("again")
        assert status["succeeded"] == 3
        await operator.until_finished()
        await suspend(operator)
        runs = Runs(cluster)
        await restore(operator, checkpoint_with(cluster, 2))
        status = await finish(operator)
        assert status["items"]["succeeded"] == 4
        await asyncio.sleep(60)
    assert runs.since == {"c": 1, "d": 1}


async def test_a_redrive_that_was_taken_after_the_checkpoint_is_not_taken_again_when_it_was_answered() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    async with operating(cluster, job("abc")) as operator:
        await operator.until_finished()
        ended = checkpoint_with(cluster, 2, dead_lettered=1)
        await operator.redrive("again")
        await operator.until_finished()
        await suspend(operator)
        runs = Runs(cluster)
        await restore(operator, ended)
        operator.edit(lambda spec: spec.update(suspend=False))
        await asyncio.sleep(120)
    assert runs.since == {}


async def test_a_running_job_is_not_touched_until_it_is_suspended_and_its_agents_have_ended() -> None:
    cluster = SimulatedCluster(steady(20.0))
    async with operating(cluster, job("abcd")) as operator:
        await until_items(operator, succeeded=2)
        ask(operator, restore={"checkpoint": checkpoint_with(cluster, 1)})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "NotSuspended", 10)
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: operator.condition("Restored")["reason"] == "AgentsRunning", 10)
        await operator.until(lambda: operator.condition("Restored")["status"] == "True", 60)
        assert items(operator) == {"succeeded": 1, "pending": 3}
        await finish(operator)
    assert cluster.runs_of == {"a": 1, "b": 2, "c": 2, "d": 1}


async def test_a_checkpoint_that_is_not_kept_is_said_and_can_be_corrected() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job("abcdef")) as operator:
        await until_items(operator, succeeded=4)
        await suspend(operator)
        ask(operator, restore={"checkpoint": 99})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "CheckpointNotFound", 30)
        assert "99" in operator.condition("Restored")["message"]
        await asyncio.sleep(10)
        before, sequence = items(operator), operator.status_of(RUN)["checkpoint"]["sequence"]
        await asyncio.sleep(200)
        assert (items(operator), operator.status_of(RUN)["checkpoint"]["sequence"]) == (before, sequence)
        await restore(operator, checkpoint_with(cluster, 1))
        assert items(operator) == {"succeeded": 1, "pending": 5}


@pytest.mark.parametrize("again", [False, True], ids=["the same operator", "the next operator"])
async def test_what_was_refused_is_not_done_when_it_has_become_possible(again: bool) -> None:
    cluster, store, body = SimulatedCluster(steady()), MemoryStore(), job("abcdefgh")
    async with operating(cluster, body, store) as operator:
        await until_items(operator, succeeded=1)
        await suspend(operator)
        later = operator.status_of(RUN)["checkpoint"]["sequence"] + 3
        ask(operator, restore={"checkpoint": later})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "CheckpointNotFound", 60)
        if not again:
            await goes_past(operator, later)
    if again:
        async with operating(cluster, body, store) as operator:
            await goes_past(operator, later)


async def goes_past(operator: OperatorInMemory, checkpoint: int) -> None:
    """The job goes on past a checkpoint and is suspended; only a new token takes it back there."""
    ask(operator, suspend=False)
    await operator.until(lambda: operator.status_of(RUN)["checkpoint"]["sequence"] > checkpoint, 300)
    await suspend(operator)
    before = items(operator)
    await asyncio.sleep(200)
    assert items(operator) == before
    told = operator.condition("Restored")
    assert (told["status"], told["reason"]) == ("False", "CheckpointNotFound")
    assert told["message"].endswith("It is not tried again: ask for another checkpoint, or with another token")
    await restore(operator, checkpoint, "again")
    assert items(operator)["pending"] > before["pending"]


async def test_a_job_that_goes_on_after_a_refused_restore_is_not_busy() -> None:
    cluster = SimulatedCluster(steady(500.0))
    async with operating(cluster, job("ab", suspend=True)) as operator:
        ask(operator, restore={"checkpoint": 99})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "CheckpointNotFound", 60)
        ask(operator, suspend=False)
        await operator.until_finished()
        assert items(operator) == {"succeeded": 2}


async def test_the_next_operator_does_not_load_an_ended_job_again_and_again_for_a_refused_restore() -> None:
    cluster, store, body = SimulatedCluster(Agents("b")), ReadStore(), job("ab")
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        await suspend(operator)
        ask(operator, restore={"checkpoint": 99})
        await operator.until(lambda: operator.condition("Restored")["reason"] == "CheckpointNotFound", 60)
    async with operating(cluster, operator.body, store):
        await asyncio.sleep(30)
        store.reads = 0
        await asyncio.sleep(600)
        assert store.reads < 50


async def test_the_same_request_is_done_once_and_with_another_token_again() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    body = job("abcd")
    async with operating(cluster, body, store) as operator:
        await until_items(operator, succeeded=3)
        await suspend(operator)
        back = checkpoint_with(cluster, 1)
        await restore(operator, back)
        await finish(operator)
        await suspend(operator)
        await asyncio.sleep(100)
        assert items(operator) == {"succeeded": 4}
    async with operating(cluster, body, store) as operator:
        await asyncio.sleep(100)
        assert items(operator) == {"succeeded": 4}
        runs = Runs(cluster)
        await restore(operator, back, "again")
        assert items(operator) == {"succeeded": 1, "pending": 3}
        await finish(operator)
    assert runs.since == dict.fromkeys("bcd", 1)


async def test_attempts_that_were_undone_are_not_counted_against_an_item() -> None:
    agents = Agents("b")
    cluster = SimulatedCluster(agents)
    retry = {"maxAttempts": 3, "maxInterruptions": 1, "backoff": {"initialSeconds": 1, "jitter": 0}}
    async with operating(cluster, job("abc", map_={"retry": retry})) as operator:
        await operator.until_finished()
        assert cluster.runs_of["b"] == 3
        runs = Runs(cluster)
        await suspend(operator)
        await restore(operator, 0)
        status = await finish(operator)
        assert status["items"] == {"total": 3, "succeeded": 2, "deadLettered": 1} | {
            name: count for name, count in status["items"].items() if not count
        }
    assert runs.since == {"a": 1, "b": 3, "c": 1}
