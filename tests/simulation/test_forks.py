"""Forks: another job that starts from a checkpoint of one, whatever becomes of its parent."""

import asyncio
import json
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import StorageError, StoredObject
from tests.simulation.agents import Ends, Seen, steady
from tests.simulation.going_back import (
    RUN,
    Agents,
    Runs,
    ask,
    checkpoint_with,
    durable_of,
    items,
    job,
    suspend,
    until_items,
)
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.letters import bodies
from tests.simulation.operator_in_memory import OperatorInMemory, audited, operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

CHILD = "run-2"


def fork(
    name: str = "child", uid: str = CHILD, *, parent: str = "demo", checkpoint: int | None = None, **more: Any
) -> dict[str, Any]:
    """A fork as a user applies it. `edits` and `parent_uid` are those of forkFrom, the rest belongs to the spec."""
    source: dict[str, Any] = {"job": {"name": parent}}
    if (parent_uid := more.pop("parent_uid", None)) is not None:
        source["job"]["uid"] = parent_uid
    if checkpoint is not None:
        source["checkpoint"] = checkpoint
    if (edits := more.pop("edits", None)) is not None:
        source["edits"] = edits
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": name, "namespace": "default", "uid": uid, "generation": 1},
        "spec": {"forkFrom": source} | more,
    }


def apply(operator: OperatorInMemory, store: MemoryStore, body: dict[str, Any]) -> None:
    """The user applies a fork, which is watched from now on."""
    audited(operator.cluster, body, store)
    operator.apply(body)


def stored(store: MemoryStore, uid: str = RUN) -> dict[str, bytes]:
    return {key: data for key, data in store.objects.items() if f"/{uid}/" in key}


def echoing(*failing: str) -> "Echo":
    return Echo(set(failing))


class Echo:
    """Agents that tell what they got; those of some items fail, as long as a test says so. A reduce counts."""

    def __init__(self, failing: set[str]) -> None:
        self.failing = failing
        self.seen: list[Seen] = []

    def __call__(self, seen: Seen) -> Ends:
        self.seen.append(seen)
        if seen.context["itemId"] in self.failing:
            return Ends(2.0, exit_code=1, message="boom")
        return Ends(2.0, message=json.dumps({"got": seen.item}))

    def of(self, item: str) -> Seen:
        """What the last agent of an item saw."""
        return next(seen for seen in reversed(self.seen) if seen.context["itemId"] == item)


async def test_successes_are_carried_over_and_the_rest_is_run() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abcdef"), store) as operator:
        await until_items(operator, succeeded=4)
        await suspend(operator)
        before, runs = stored(store), Runs(cluster)
        apply(operator, store, fork(checkpoint=checkpoint_with(cluster, 2)))
        status = await operator.until_finished(uid=CHILD)
        assert status["lineage"] == {"job": "demo", "uid": RUN, "checkpoint": checkpoint_with(cluster, 2), "depth": 1}
        assert (status["phase"], items(operator, CHILD)) == ("Succeeded", {"succeeded": 6})
        assert stored(store) == before
    assert runs.since == dict.fromkeys("cdef", 1)


async def test_without_a_number_it_is_the_newest_checkpoint_of_a_parent_that_goes_on() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), MemoryStore()
    async with operating(cluster, job("abcd"), store) as operator:
        await until_items(operator, succeeded=2)
        apply(operator, store, fork())
        await operator.until_finished()
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 4}
    assert cluster.runs_of == {"a": 1, "b": 1, "c": 2, "d": 2}


async def test_each_edit_of_items_runs_what_it_changes_and_no_more() -> None:
    agents = echoing()
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abcdef"), store) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        edits = [
            {"id": "a", "patch": {"more": 1}},
            {"id": "b", "remove": True},
            {"id": "c", "reset": True},
            {"id": "d", "patch": {"id": "d"}},
            {"add": {"id": "x", "n": 7}},
        ]
        apply(operator, store, fork(input={"idExpression": "item.id"}, edits={"items": edits}))
        status = await operator.until_finished(uid=CHILD)
        assert (status["plan"]["items"], items(operator, CHILD)) == (6, {"succeeded": 6})
    assert runs.since == {"a": 1, "c": 1, "x": 1}
    assert agents.of("a").item == {"id": "a", "more": 1}
    assert agents.of("x").item == {"id": "x", "n": 7}


async def test_what_is_edited_is_not_skipped_any_more() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    body = job("abcd")
    body["spec"]["map"]["skip"] = ["a", "b", "c", "d", "x"]
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        edits = [
            {"id": "a", "reset": True},
            {"id": "b", "patch": {"more": 1}},
            {"id": "c", "remove": True},
            {"add": {"id": "x"}},
        ]
        apply(operator, store, fork(input={"idExpression": "item.id"}, edits={"items": edits}))
        await operator.until_finished(uid=CHILD)
        assert cluster.mapreducejobs[CHILD]["spec"]["map"]["skip"] == ["d"]
        assert items(operator, CHILD) == {"succeeded": 3, "skipped": 1}
    assert runs.since == {"a": 1, "b": 1, "x": 1}


async def test_the_map_the_reduce_and_the_params_are_filled_in_and_edited() -> None:
    agents = echoing()
    cluster, store = SimulatedCluster(agents), MemoryStore()
    body = job("abc", reduce=reduce_work(), params={"model": "one", "depth": 3})
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        template = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}
        edits = {"params": {"model": "two", "depth": None}, "template": template, "items": [{"id": "b", "reset": True}]}
        apply(operator, store, fork(edits=edits))
        status = await operator.until_finished(uid=CHILD)
        assert status["phase"] == "Succeeded"
        filled = cluster.mapreducejobs[CHILD]["spec"]
        assert filled["map"] == body["spec"]["map"]
        assert filled["reduce"] == body["spec"]["reduce"]
        assert filled["params"] == body["spec"]["params"]
    assert agents.of("b").context["params"] == {"model": "two"}
    (last,) = [one for one in cluster.history if one.seen.owner_uid == CHILD and one.context["itemId"] == "b"]
    assert last.manifest["spec"]["template"]["spec"]["containers"][0]["image"] == "agent:2"
    assert cluster.runs_of == {"a": 1, "b": 2, "c": 1, "reduce": 2}


async def test_the_reduce_of_a_fork_sees_what_was_carried_over() -> None:
    agents = echoing()
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("ab", reduce=reduce_work()), store) as operator:
        await operator.until_finished()
        seen: list[str] = []
        cluster.on_create.append(
            lambda created: (
                seen.extend(
                    text
                    for (_, name), one in cluster.config_maps.items()
                    if "child" in name
                    for text in one["data"].values()
                )
                if created.context["itemId"] == "reduce"
                else None
            )
        )
        apply(operator, store, fork(edits={"items": [{"id": "b", "patch": {"new": True}}]}))
        await operator.until_finished(uid=CHILD)
    text = "".join(seen)
    assert '"id":"a"' in text.replace(" ", "")
    assert '"new":true' in text.replace(" ", "")


@pytest.mark.parametrize("include", [True, False])
async def test_dead_letters_come_along_with_their_bodies_or_are_run(include: bool) -> None:
    agents = Agents("b", "d")
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abcd"), store) as operator:
        await operator.until_finished()
        before = stored(store)
        agents.failing.clear()
        runs = Runs(cluster)
        apply(operator, store, fork(resumePolicy={"includeDeadLetters": include}))
        await operator.until_finished(uid=CHILD)
        if include:
            assert items(operator, CHILD) == {"succeeded": 4}
        else:
            assert items(operator, CHILD) == {"succeeded": 2, "deadLettered": 2}
            status = operator.status_of(CHILD)
            assert status["deadLetters"] == {"queue": "child", "open": 2, "unresolved": 2}
            told = await operator.redrive("of-the-child", queue="child")
            assert (told["selected"], told["succeeded"]) == (2, 2)
            await operator.until(lambda: items(operator, CHILD) == {"succeeded": 4}, 300)
        assert stored(store) == before
    assert runs.since == {"b": 1, "d": 1}


async def test_a_dead_letter_that_was_purged_after_the_checkpoint_comes_along_without_its_history() -> None:
    agents = Agents("b")
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abc", deadLetter={"retentionSeconds": 600}), store) as operator:
        await operator.until_finished()
        ended = checkpoint_with(cluster, 2, dead_lettered=1)
        agents.failing.clear()
        await operator.redrive("again")
        await operator.until_finished()
        await operator.until(lambda: not bodies(store), 900)
        apply(operator, store, fork(checkpoint=ended, resumePolicy={"includeDeadLetters": False}))
        await operator.until_finished(uid=CHILD)
        assert [body["message"] for body in bodies(store).values()] == ["boom"]
        told = await operator.redrive("of-the-child", queue="child")
        assert (told["selected"], told["succeeded"]) == (1, 1)


@pytest.mark.parametrize("again", ["fails", "runs"])
async def test_a_fork_that_has_to_begin_anew_tells_of_its_letters_as_they_are_by_then(again: str) -> None:
    class Headless(MemoryStore):
        fails = True

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if self.fails and key.endswith(f"/{CHILD}/head.json"):
                raise StorageError("no space left on device")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "a":
            return Ends()
        return Ends(500.0 if seen.dispatch == 3 and again == "runs" else 2.0, 1, "boom")

    cluster, store = SimulatedCluster(agent), Headless()
    async with operating(cluster, job("ab"), store) as operator:
        await operator.until_finished()
        await operator.redrive("once")
        apply(operator, store, fork(resumePolicy={"includeDeadLetters": False}))
        await operator.until(lambda: any("/dead-letters/" in key for key in stored(store, CHILD)), 60)
        if again == "fails":
            await operator.redrive("again")
        else:
            cluster.redrives.create(redrive("again"))
            await until_items(operator, running=1)
        store.fails = False
        await operator.until_finished(uid=CHILD)
    parent, child = (
        json.loads(data) for uid in (RUN, CHILD) for key, data in stored(store, uid).items() if "/dead-letters/" in key
    )
    of_parent = [f"demo-{parent['key']}-d{number}" for number in (1, 2, 3)]
    jobs = of_parent if again == "fails" else [f"child-{child['key']}-d1"]
    assert [one["job"] for one in child["history"]] == jobs


@pytest.mark.parametrize("include", [True, False])
async def test_items_that_were_left_out_stay_so_or_are_run(include: bool) -> None:
    agents = Agents("b")
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abc", failurePolicy={"onExhausted": "Skip"}), store) as operator:
        await operator.until_finished()
        agents.failing.clear()
        runs = Runs(cluster)
        apply(operator, store, fork(resumePolicy={"includeFailed": include}))
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == ({"succeeded": 3} if include else {"succeeded": 2, "skipped": 1})
    assert runs.since == ({"b": 1} if include else {})


async def test_additional_attempts_hold_for_a_fork() -> None:
    cluster, store = SimulatedCluster(Agents("b")), MemoryStore()
    async with operating(cluster, job("ab"), store) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        apply(operator, store, fork(resumePolicy={"additionalAttempts": 3}))
        await operator.until_finished(uid=CHILD)
    assert runs.since == {"b": 3}


async def test_a_fork_of_many_letters_is_made_where_each_write_fails_once() -> None:
    class Failing(MemoryStore):
        failed: set[str]

        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if f"/{CHILD}/dead-letters/" in key and key not in self.failed:
                self.failed.add(key)
                raise StorageError("please try again")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    cluster, store = SimulatedCluster(Agents(*"abcdefghijkl")), Failing()
    store.failed = set()
    async with operating(cluster, job("abcdefghijkl"), store) as operator:
        await operator.until_finished()
        apply(operator, store, fork(resumePolicy={"includeDeadLetters": False}))
        await operator.until_finished(30, uid=CHILD)
        assert items(operator, CHILD) == {"deadLettered": 12}


async def test_a_fork_that_waits_for_storage_tries_again_now_and_then_whatever_it_tells() -> None:
    class Away(MemoryStore):
        away = False
        asked = 0

        async def get(self, key: str) -> StoredObject | None:
            if self.away:
                self.asked += 1
                raise StorageError(f"request {self.asked} failed")
            return await super().get(key)

    cluster, store = SimulatedCluster(steady()), Away()
    async with operating(cluster, job("ab"), store) as operator:
        await operator.until_finished()
        store.away = True
        apply(operator, store, fork())
        await asyncio.sleep(60)
        assert operator.status_of(CHILD)["phase"] == "Planning"
        assert 10 <= store.asked <= 13
        store.away = False
        await operator.until_finished(uid=CHILD)


async def test_a_fork_of_a_fork_knows_how_deep_it_is() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        apply(operator, store, fork(edits={"items": [{"id": "a", "reset": True}]}))
        await operator.until_finished(uid=CHILD)
        edits = {"items": [{"id": "b", "reset": True}]}
        apply(operator, store, fork("grandchild", "run-3", parent="child", edits=edits))
        status = await operator.until_finished(uid="run-3")
        assert (status["lineage"]["job"], status["lineage"]["depth"]) == ("child", 2)
    assert cluster.runs_of == {"a": 2, "b": 2, "c": 1}


async def test_the_parent_is_deleted_while_its_child_runs_and_the_child_goes_on() -> None:
    cluster, store = SimulatedCluster(steady(10.0)), MemoryStore()
    body = job("abcd")
    async with operating(cluster, body, store) as operator:
        await until_items(operator, succeeded=2)
        apply(operator, store, fork())
        await until_items(operator, CHILD, succeeded=2, running=1)
        operator.delete(RUN)
        await operator.until(lambda: RUN not in cluster.finalizers, 300)
        del cluster.mapreducejobs[RUN]
        assert stored(store) == {}
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 4}
        # Also for an operator that never knew the parent.
        ask(operator, CHILD, suspend=True)
        await asyncio.sleep(30)


async def test_a_parent_whose_storage_was_kept_is_known_by_its_uid() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc", retention={"onDelete": "Keep"}), store) as operator:
        await operator.until_finished()
        operator.delete(RUN)
        await operator.until(lambda: RUN not in cluster.finalizers, 300)
        del cluster.mapreducejobs[RUN]
        runs = Runs(cluster)
        edits = {"items": [{"id": "c", "reset": True}]}
        apply(operator, store, fork(edits=edits))
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "ForkParentNotFound", 60)
        ask(operator, CHILD, forkFrom={"job": {"name": "demo", "uid": RUN}, "edits": edits})
        await operator.until_finished(uid=CHILD)
    assert runs.since == {"c": 1}


async def test_a_parent_that_comes_later_is_waited_for() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    child = fork(map={**job("")["spec"]["map"]})
    audited(cluster, child, store)
    async with operating(cluster, child, store) as operator:
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "ForkParentNotFound", 60)
        parent = job("ab")
        audited(cluster, parent, store)
        operator.apply(parent)
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 2}


async def test_a_checkpoint_that_is_not_kept_is_said_and_corrected() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        apply(operator, store, fork(checkpoint=99))
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "CheckpointNotFound", 60)
        conditions = operator.status_of(CHILD)["conditions"]
        assert any("99" in one["message"] for one in conditions)
        runs = Runs(cluster)
        ask(operator, CHILD, forkFrom={"job": {"name": "demo"}, "checkpoint": checkpoint_with(cluster, 2)})
        await operator.until_finished(uid=CHILD)
    assert runs.since == {"c": 1}


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        ({"id": "nobody", "reset": True}, "nobody"),
        ({"id": "b", "patch": {"big": "x" * 200_000}}, "bytes"),
        ({"add": {"id": "a"}}, "there already"),
        ({"add": {"no": "id"}}, "items[0]: has no id"),
    ],
)
async def test_edits_that_do_not_fit_are_said_and_corrected(edit: dict[str, Any], why: str) -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        apply(operator, store, fork(input={"idExpression": "item.id"}, edits={"items": [edit]}))
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "InvalidEdits", 60)
        assert any(why in one["message"] for one in operator.status_of(CHILD)["conditions"])
        runs = Runs(cluster)
        edits = {"items": [{"id": "a", "reset": True}]}
        ask(operator, CHILD, forkFrom={"job": {"name": "demo"}, "edits": edits})
        await operator.until_finished(uid=CHILD)
    assert runs.since == {"a": 1}


async def test_a_template_that_the_edits_spoil_is_said_and_corrected() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        apply(operator, store, fork(edits={"template": {"spec": {"containers": "none"}}}))
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "InvalidEdits", 60)
        ask(operator, CHILD, forkFrom={"job": {"name": "demo"}})
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 3}


async def test_a_fork_of_a_parent_whose_plan_is_damaged_is_said_and_waits() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        shard = max(key for key in stored(store) if "/shard-" in key)
        whole = store.objects[shard]
        store.objects[shard] = whole[:-5] + b"?" + whole[-4:]
        apply(operator, store, fork())
        await operator.until(lambda: operator.status_of(CHILD).get("reason") == "ForkParentDamaged", 60)
        store.objects[shard] = whole
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 3}


async def test_a_fork_of_a_suspended_job_that_never_began_runs_all_of_it() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc", suspend=True), store) as operator:
        await operator.until(lambda: "plan" in operator.status_of(RUN), 60)
        apply(operator, store, fork())
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 3}
        assert operator.status_of(CHILD)["lineage"]["checkpoint"] == 0


async def test_an_ended_job_is_forked_whole_and_only_its_reduce_runs() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, job("abc"), store) as operator:
        await operator.until_finished()
        runs = Runs(cluster)
        apply(operator, store, fork(reduce=reduce_work()))
        status = await operator.until_finished(uid=CHILD)
        assert status["reduce"]["state"] == "Succeeded"
    assert runs.since == {"reduce": 1}


async def test_a_fork_is_restored_and_restarted_like_any_other_job() -> None:
    agents = Agents("b")
    cluster, store = SimulatedCluster(agents), MemoryStore()
    async with operating(cluster, job("abcd"), store) as operator:
        await until_items(operator, succeeded=1, dead_lettered=1)
        await suspend(operator)
        given_up = checkpoint_with(cluster, 1, dead_lettered=1)
        policy = {"includeDeadLetters": False}
        apply(operator, store, fork(checkpoint=given_up, resumePolicy=policy))
        await operator.until_finished(uid=CHILD)
        assert items(operator, CHILD) == {"succeeded": 3, "deadLettered": 1}
        runs = Runs(cluster)
        first = min(number for number in durable_of(cluster, CHILD).counts if number)
        ask(operator, CHILD, suspend=True, restore={"checkpoint": first})
        await operator.until(lambda: operator.condition("Restored", CHILD)["status"] == "True", 300)
        assert items(operator, CHILD) == {"succeeded": 1, "deadLettered": 1, "pending": 2}
        ask(operator, CHILD, suspend=False)
        await operator.until_finished(uid=CHILD)
        agents.failing.clear()
        ask(operator, CHILD, resumePolicy={}, restart={"phase": "Map", "token": "1"})
        await operator.until(lambda: items(operator, CHILD) == {"succeeded": 4}, 300)
    assert runs.since == {"b": 1, "c": 1, "d": 1}
