"""What becomes of items that are given up: letters, their queue, and how long both stay."""

import asyncio
from collections.abc import Iterable

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import StorageError, StorageErrorReason
from tests.simulation.agents import Ends, Seen
from tests.simulation.connection import NoFaults, Trip
from tests.simulation.jobs import condition_of, map_reduce_job
from tests.simulation.letters import bodies, fails, job, letters, queue_of
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_letters_tell_the_whole_story_and_those_that_failed_alike_are_one_group() -> None:
    refused = {name: f"connect to 10.0.0.{number}:5432 refused" for number, name in enumerate("abc")}
    cluster, store = SimulatedCluster(fails(refused | {"d": "boom"})), MemoryStore()
    body = job(["a", "b", "c", "d", "e"], attempts=2)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    queue = queue_of(cluster)
    assert queue["spec"] == {"jobRef": {"name": "demo", "uid": "run-1"}, "onFull": "Pause", "purgeOpen": False}
    assert letters(cluster) == {"total": 4, "open": 4}
    groups = [(group["count"], group["reason"], sorted(group["samples"])) for group in queue["status"]["groups"]]
    assert groups == [(3, "Error", ["a", "b", "c"]), (1, "Error", ["d"])]
    assert queue["status"]["causes"] == {"AttemptsExhausted": 4}
    assert queue["status"]["nodes"] == {"node-1": 4}
    assert condition_of(queue, "Empty")["status"] == "False"
    assert {one["itemId"]: one["attempts"] for one in queue["status"]["newest"]} == dict.fromkeys("abcd", 2)
    assert status["deadLetters"] == {"queue": "demo", "open": 4, "unresolved": 4}
    letter = bodies(store)["b"]
    assert set(bodies(store)) == set("abcd")
    assert letter["payload"] == "b"
    assert letter["attempts"] == 2
    assert [(one["dispatch"], one["exitCode"], one["message"], one["node"]) for one in letter["history"]] == [
        (number, 1, refused["b"], "node-1") for number in (1, 2)
    ]
    jobs = [job for job in cluster.history if job.context["itemId"] == "b"]
    assert [one["job"] for one in letter["history"]] == [job.name for job in jobs]
    assert letter["history"][-1]["logTail"] == f"log of {jobs[-1].name}-pod"


async def test_an_item_that_is_interrupted_too_often_tells_of_every_interruption() -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(30.0)), MemoryStore()
    body = map_reduce_job([1], map_={"retry": {"maxInterruptions": 1}})
    async with operating(cluster, body, store) as operator:
        for _ in range(2):
            await operator.until(lambda: any(not pod.seen.deleting for pod in cluster.pods.values()))
            await asyncio.sleep(2)
            cluster.evict(next(pod for pod in cluster.pods.values() if not pod.seen.deleting))
        await operator.until_finished()
    (letter,) = bodies(store).values()
    assert letter["cause"] == "TooManyInterruptions"
    assert [one["verdict"] for one in letter["history"]] == ["Interrupted", "Interrupted"]


async def test_whoever_waits_for_the_end_of_a_job_finds_its_letters_in_the_queue() -> None:
    class SlowQueues(NoFaults):
        def trip(self, call: str) -> Trip:
            return Trip(2.0, 0.1) if call == "write queue status" else Trip()

    cluster = SimulatedCluster(lambda seen: Ends(1.0 if seen.item == "a" else 1.5, 1, "boom"))
    async with operating(cluster, job(["a", "b"]), faults=SlowQueues()) as operator:
        await operator.until_finished()
        assert letters(cluster) == {"total": 2, "open": 2}


async def test_the_letter_is_in_storage_before_the_job_is_failed_by_it() -> None:
    class Watched(MemoryStore):
        order: list[str]

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if "/dead-letters/" in key or (key.endswith("head.json") and b'"phase":"Failed"' in data):
                self.order.append("letter" if "/dead-letters/" in key else "failed")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    cluster, store = SimulatedCluster(fails({"b": "boom"})), Watched()
    store.order = []
    async with operating(cluster, job(["a", "b", "c"], failurePolicy={"onExhausted": "Stop"}), store) as operator:
        status = await operator.until_finished()
    assert store.order[:2] == ["letter", "failed"]
    assert status["reason"] == "ItemFailed"


async def test_a_queue_with_open_letters_outlives_its_job_and_goes_with_its_letters() -> None:
    cluster, store = SimulatedCluster(fails({"b": "boom"})), MemoryStore()
    async with operating(cluster, job(["a", "b"]), store) as operator:
        await operator.until_finished()
        operator.delete()
        await operator.until(lambda: not cluster.finalizers, 90)
        assert set(store.objects) == {key for key in store.objects if "/dead-letters/" in key}
        assert len(bodies(store)) == 1
        await asyncio.sleep(30)
        assert letters(cluster) == {"total": 1, "open": 1}
        status = await operator.redrive("late")
        assert condition_of({"status": status}, "Failed")["reason"] == "JobGone"
        cluster.queues.delete("demo")
        await operator.until(lambda: not cluster.queues.by_name, 60)
    assert store.objects == {}


async def test_a_queue_whose_letters_are_all_resolved_goes_with_its_job() -> None:
    broken = {"b": "boom"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    async with operating(cluster, job(["a", "b"]), store) as operator:
        await operator.until_finished()
        broken.clear()
        await operator.redrive("again")
        await operator.until_finished()
        await operator.until(lambda: letters(cluster) == {"total": 1, "resolved": 1}, 30)
        operator.delete()
        await operator.until(lambda: not cluster.finalizers, 90)
    assert cluster.queues.by_name == {}
    assert store.objects == {}


async def test_only_letters_that_nobody_has_resolved_outlive_the_job() -> None:
    broken = {"a": "boom", "b": "boom"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    async with operating(cluster, job(["a", "b", "c"]), store) as operator:
        await operator.until_finished()
        del broken["a"]
        await operator.redrive("again")
    async with operating(cluster, operator.body, store) as operator:
        await asyncio.sleep(10)
        operator.delete()
        await operator.until(lambda: not cluster.finalizers, 90)
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1}, 30)
    assert [body["payload"] for body in bodies(store).values()] == ["b"]


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same-operator", "next-operator"])
async def test_a_queue_that_is_deleted_while_its_job_is_there_comes_again(ended: bool, restarted: bool) -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(exit_code=1) if seen.item == "a" else Ends(1.0 if ended else 1000.0)

    cluster, store = SimulatedCluster(agent), MemoryStore()
    async with operating(cluster, job(["a", "b"]), store) as operator:
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1}, 60)
        await (operator.until_finished() if ended else asyncio.sleep(5))
        await asyncio.sleep(5)
        first = queue_of(cluster)["metadata"]["uid"]

        def comes_again() -> bool:
            queue = cluster.queues.by_name.get("demo")
            return queue is not None and queue["metadata"]["uid"] != first and letters(cluster) == one_open

        one_open = {"total": 1, "open": 1}
        if not restarted:
            cluster.queues.delete("demo")
            await operator.until(comes_again, 60)
    if restarted:
        cluster.queues.delete("demo")
        async with operating(cluster, operator.body, store) as operator:
            await operator.until(comes_again, 60)


@pytest.mark.parametrize("queue_first", [True, False])
async def test_a_namespace_that_is_deleted_takes_its_letters_along(queue_first: bool) -> None:
    cluster, store = SimulatedCluster(fails({"a": "boom"})), MemoryStore()
    async with operating(cluster, job(["a", "b"]), store) as operator:
        await operator.until_finished()
        await asyncio.sleep(5)
        cluster.queues.terminating = True
        # In whatever order the namespace's controller deletes what is in it.
        if queue_first:
            cluster.queues.delete("demo")
            await asyncio.sleep(30)
        operator.delete()
        await asyncio.sleep(30)
        cluster.queues.delete("demo")
        await operator.until(lambda: not cluster.finalizers and not cluster.queues.by_name, 120)
        await operator.until(lambda: not store.objects, 60)


async def test_a_name_that_an_earlier_jobs_queue_has_is_not_taken_from_it() -> None:
    cluster, store = SimulatedCluster(fails({"a": "boom"})), MemoryStore()
    async with operating(cluster, job(["a", "b"], retention={"onDelete": "Keep"}), store) as operator:
        await operator.until_finished()
        operator.delete()
        await operator.until(lambda: not cluster.finalizers, 90)
    cluster.deleted.clear()
    second = map_reduce_job(["a", "b"], uid="run-2", map_={"retry": {"maxAttempts": 1}})
    async with operating(cluster, second, store) as operator:
        await operator.until(lambda: "completionTime" in cluster.status_of.get("run-2", {}), 600)
        await asyncio.sleep(5)
    refs = {name: body["spec"]["jobRef"]["uid"] for name, body in cluster.queues.by_name.items()}
    assert refs == {"demo": "run-1", "demo-run-2": "run-2"}
    assert cluster.status_of["run-2"]["deadLetters"]["queue"] == "demo-run-2"


async def test_a_full_queue_pauses_the_job_until_there_is_room() -> None:
    cluster = SimulatedCluster(lambda _: Ends(5.0, exit_code=1))
    body = map_reduce_job(
        list(range(12)), map_={"maxParallel": 2, "retry": {"maxAttempts": 1}}, deadLetter={"capacity": 4}
    )
    async with operating(cluster, body) as operator:
        await operator.until(
            lambda: condition_of(queue_of(cluster), "Full")["status"] == "True" if cluster.queues.by_name else False,
            120,
        )
        await asyncio.sleep(120)
        assert operator.condition("Progressing")["reason"] == "DeadLetterQueueFull"
        assert "Ready" in {one["type"] for one in cluster.status["conditions"]}
        # Those that ran when the queue became full added theirs.
        full = len(cluster.history)
        assert 4 <= full <= 6
        assert letters(cluster)["open"] == full
        cluster.queues.edit("demo", capacity=9)
        await operator.until(lambda: len(cluster.history) > full, 30)
        await operator.until(lambda: letters(cluster)["open"] >= 9, 60)
        await asyncio.sleep(60)
        assert len(cluster.history) <= 11
        cluster.queues.edit("demo", capacity=None)
        status = await operator.until_finished()
    assert status["items"]["deadLettered"] == 12


async def test_a_full_queue_sets_the_oldest_letters_aside() -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(1.0 + seen.item, exit_code=1)

    cluster, store = SimulatedCluster(agent), MemoryStore()
    body = job(list(range(8)), deadLetter={"capacity": 3, "onFull": "Archive"})
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
        await operator.until(lambda: letters(cluster) == {"total": 8, "open": 3, "archived": 5}, 30)
    assert len(bodies(store)) == 8
    assert status["items"]["deadLettered"] == 8
    states = {one["itemId"]: one["state"] for one in queue_of(cluster)["status"]["newest"]}
    ids = {body["payload"]: item_id for item_id, body in bodies(store).items()}
    assert [states[ids[number]] for number in range(8)] == ["Archived"] * 5 + ["Open"] * 3


async def test_a_full_queue_fails_the_job_where_the_user_wants_it() -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(5.0, exit_code=1)), MemoryStore()
    body = map_reduce_job(
        list(range(12)),
        map_={"maxParallel": 2, "retry": {"maxAttempts": 1}},
        deadLetter={"capacity": 4, "onFull": "Fail"},
    )
    async with operating(cluster, body, store) as operator:
        status = await operator.until_finished()
    assert (status["phase"], status["reason"]) == ("Failed", "DeadLetterQueueFull")
    assert len(bodies(store)) == len(cluster.history) <= 6


@pytest.mark.parametrize("purge_open", [False, True])
async def test_letters_are_purged_when_their_time_is_over_and_open_ones_only_where_that_is_asked(
    purge_open: bool,
) -> None:
    broken = {"a": "boom", "b": "boom"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    policy = {"retentionSeconds": 600, "purgeOpen": purge_open}
    async with operating(cluster, job(["a", "b", "c"], deadLetter=policy), store) as operator:
        await operator.until_finished()
        del broken["a"]
        await operator.redrive("again")
        await operator.until_finished()
        await asyncio.sleep(300)
        assert len(bodies(store)) == 2
        await asyncio.sleep(600)
        left = [] if purge_open else ["b"]
        assert [body["payload"] for body in bodies(store).values()] == left
        assert letters(cluster) == ({} if purge_open else {"total": 1, "open": 1})
    async with operating(cluster, operator.body, store) as operator:
        status = await operator.redrive("once-more")
        assert status["selected"] == len(left)
        await operator.until_finished()
    assert cluster.status["items"]["succeeded"] == 2


class Keeping(MemoryStore):
    """Deletes nothing while there is a reason."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: StorageErrorReason | None = None

    async def delete(self, keys: Iterable[str]) -> None:
        if self.reason is not None and any("/dead-letters/" in key for key in keys):
            raise StorageError("nothing can be deleted", self.reason)
        await super().delete(keys)


async def test_a_job_says_that_it_has_ended_although_letters_cannot_be_deleted() -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(1.0 if seen.item == "a" else 300.0, exit_code=1, message="boom")

    cluster, store = SimulatedCluster(agent), Keeping()
    policy = {"retentionSeconds": 30, "purgeOpen": True}
    async with operating(cluster, job(["a", "b", "c"], deadLetter=policy), store) as operator:
        store.reason = StorageErrorReason.UNAVAILABLE
        status = await operator.until_finished(400)
        assert (status["phase"], status["items"]["deadLettered"]) == ("Failed", 3)
        await asyncio.sleep(300)
        store.reason = None
        await operator.until(lambda: not bodies(store), 900)


async def test_an_operator_that_may_not_delete_letters_plans_a_job_anew_all_the_same() -> None:
    cluster, store = SimulatedCluster(fails({"a": "boom"})), Keeping()
    policy = {"retentionSeconds": 30, "purgeOpen": True}
    async with operating(cluster, job(["a", "b"], deadLetter=policy), store) as operator:
        store.reason = StorageErrorReason.FORBIDDEN
        await operator.until_finished()
        await asyncio.sleep(300)
        operator.edit(lambda spec: spec.update(restart={"phase": "Plan", "token": "again"}))
        await operator.until(lambda: operator.condition("Restarted")["status"] == "True", 60)
        await operator.until_finished()
