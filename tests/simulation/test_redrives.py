"""Dead letters get another run: what a Redrive takes, how it is run, and what the job is told."""

import asyncio
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.simulation.agents import Ends, Seen
from tests.simulation.connection import NoFaults, Trip
from tests.simulation.jobs import condition_of, redrive, reduce_work
from tests.simulation.letters import bodies, fails, job, letters, queue_of
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio

LONG: str = "ü" * 2048
"""4 KiB of UTF-8."""


def counts(status: dict[str, Any]) -> tuple[int, int, int, int]:
    return status["selected"], status["succeeded"], status["failed"], status["remaining"]


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        ({"ids": ["a", "c"]}, {"a", "c"}),
        ({"filter": 'letter.message.contains("oo")'}, {"a", "b"}),
        ({"filter": 'item == "c" || letter.attempts > 5'}, {"c"}),
        ({"all": True}, {"a", "b", "c"}),
    ],
)
async def test_what_is_selected_is_run_again_and_the_counts_of_the_job_follow(
    selection: dict[str, Any], taken: set[str]
) -> None:
    broken = {"a": "boom", "b": "boom", "c": "bang"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    async with operating(cluster, job(["a", "b", "c", "d"]), store) as operator:
        await operator.until_finished()
        broken.clear()
        status = await operator.redrive("again", selection=selection)
        assert counts(status) == (len(taken), len(taken), 0, 0)
        assert condition_of({"status": status}, "Complete")["reason"] == "AllItemsSucceeded"
        await operator.until_finished()
        await asyncio.sleep(3)
    assert {name for name, runs in cluster.runs_of.items() if runs == 2} == taken
    left = 3 - len(taken)
    assert cluster.status["items"] | {"succeeded": 4 - left, "deadLettered": left} == cluster.status["items"]
    assert cluster.status["phase"] == ("Succeeded" if not left else "PartiallySucceeded")
    assert letters(cluster) == {
        state: count for state, count in {"total": 3, "open": left, "resolved": len(taken)}.items() if count
    }
    assert set(bodies(store)) == {"a", "b", "c"}


async def test_one_of_ten_fails_again_and_its_history_is_longer() -> None:
    broken = {name: f"item {name} is broken" for name in "abcdefghij"}
    reduced: list[str] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            (results,) = cluster.config_maps.values()
            reduced.append(results["data"]["results.jsonl"])
            return Ends(message=f'{{"runs": {len(reduced)}}}')
        return fails(broken)(seen)

    cluster, store = SimulatedCluster(agent), MemoryStore()
    body = job([*broken, "ok"], attempts=2, reduce=reduce_work())
    async with operating(cluster, body, store) as operator:
        first = await operator.until_finished()
        assert first["result"] == {"runs": 1}
        assert first["items"]["deadLettered"] == 10
        for name in "abcdefghi":
            del broken[name]
        status = await operator.redrive("again", rerunReduce=True, attempts=3)
        assert counts(status) == (10, 9, 1, 0)
        assert condition_of({"status": status}, "Complete")["reason"] == "SomeItemsFailed"
        await operator.until_finished()
        await asyncio.sleep(3)
    assert cluster.status["items"]["succeeded"] == 10
    assert cluster.status["result"] == {"runs": 2}
    assert [len(text.splitlines()) for text in reduced] == [1, 10]
    assert letters(cluster) == {"total": 10, "open": 1, "resolved": 9}
    letter = bodies(store)["j"]
    assert [(one["dispatch"], one.get("redrive")) for one in letter["history"]] == [
        (1, None),
        (2, None),
        (3, "again"),
        (4, "again"),
        (5, "again"),
    ]
    assert letter["redrives"] == {"1": "again"}
    assert letter["firstAttemptAt"] < letter["lastAttemptAt"]


async def test_whoever_waits_for_a_redrive_finds_the_job_and_the_queue_as_it_leaves_them() -> None:
    class SlowStatus(NoFaults):
        def trip(self, call: str) -> Trip:
            return Trip(2.0, 0.1) if call in {"write status", "write queue status"} else Trip()

    broken = {"a": "boom"}
    cluster = SimulatedCluster(fails(broken))
    async with operating(cluster, job(["a", "b"]), faults=SlowStatus()) as operator:
        await operator.until_finished()
        assert letters(cluster) == {"total": 1, "open": 1}
        broken.clear()
        await operator.redrive("again")
        assert cluster.status["phase"] == "Succeeded"
        assert letters(cluster) == {"total": 1, "resolved": 1}


async def test_items_and_template_can_be_patched_and_the_plan_stays_as_it_is() -> None:
    def agent(seen: Seen) -> Ends:
        return Ends(exit_code=0 if seen.item.get("url") == "new" else 1, message='{"ok": true}')

    cluster, store = SimulatedCluster(agent), MemoryStore()
    body = job([{"n": 1, "url": "old"}, {"n": 2, "url": "old"}])
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        patch = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}
        status = await operator.redrive("patched", payloadPatch={"url": "new"}, templatePatch=patch)
        assert counts(status) == (2, 2, 0, 0)
    images = [job.manifest["spec"]["template"]["spec"]["containers"][0]["image"] for job in cluster.history]
    assert images == ["agent:1", "agent:1", "agent:2", "agent:2"]
    assert {body["payload"]["url"] for body in bodies(store).values()} == {"old"}


async def test_what_cannot_be_taken_is_listed_with_the_reason() -> None:
    never = '{"error": {"message": "never", "retryable": false}}'
    cluster, store = SimulatedCluster(fails({"a": "boom", "b": never})), MemoryStore()
    asked = ["a", "b", "ok", "../x", "a/../a", LONG, "a", "A"]
    async with operating(cluster, job(["a", "b", "ok"]), store) as operator:
        await operator.until_finished()
        status = await operator.redrive("again", selection={"ids": asked})
        assert counts(status) == (1, 0, 1, 0)
        assert status["skipped"] == 6
        skipped = {one["itemId"]: one["reason"] for one in status["skippedLetters"]}
        assert "force: true" in skipped["b"]
        assert "Succeeded" in skipped["ok"]
        assert {name: why for name, why in skipped.items() if "no item with this id" in why}.keys() == {
            "../x",
            "a/../a",
            "A",
            LONG[:252] + "…",
        }
        forced = await operator.redrive("forced", selection={"ids": ["b"]}, force=True)
        assert counts(forced) == (1, 0, 1, 0)
        none = await operator.redrive("none", selection={"ids": ["../x", LONG]})
        assert counts(none) == (0, 0, 0, 0)
        assert condition_of({"status": none}, "Complete")["reason"] == "NothingSelected"
    assert cluster.runs_of == {"a": 2, "b": 2, "ok": 1}


@pytest.mark.parametrize(
    "text", ["letter.", "letter.attempts", "letter.nothing == 1", "item.x.y > 1", "1 + 1", "lettr"]
)
async def test_a_wrong_filter_selects_nothing_and_says_why(text: str) -> None:
    cluster = SimulatedCluster(fails({"a": "boom", "b": "boom"}))
    async with operating(cluster, job(["a", "b", "c"])) as operator:
        await operator.until_finished()
        status = await operator.redrive("wrong", selection={"filter": text})
        failed = condition_of({"status": status}, "Failed")
        assert failed["status"] == "True"
        assert failed["reason"] == "InvalidFilter"
        assert "Nothing was taken" in failed["message"]
        await asyncio.sleep(30)
    assert len(cluster.history) == 3
    assert letters(cluster) == {"total": 2, "open": 2}


async def test_an_unknown_queue_is_waited_for() -> None:
    cluster = SimulatedCluster(lambda seen: Ends(20.0, exit_code=int(seen.item == "a")))
    async with operating(cluster, job(["a", "b"])) as operator:
        cluster.redrives.create(redrive("early"))
        early = cluster.redrives.by_name["early"]
        await operator.until(lambda: condition_of(early, "Accepted")["reason"] == "QueueNotFound", 15)
        assert condition_of(early, "Accepted")["status"] == "False"
        cluster.redrives.create(redrive("lost", queue="nowhere"))
        status = await operator.until_redriven("early")
        assert counts(status) == (1, 0, 1, 0)
        lost = cluster.redrives.by_name["lost"]
        assert condition_of(lost, "Accepted")["reason"] == "QueueNotFound"
        assert lost["status"]["phase"] == "Waiting"
        await operator.until_finished()


async def test_letters_are_redriven_while_their_job_still_runs() -> None:
    broken = {"a": "boom"}
    slow = {"b", "c", "d", "e"}

    def agent(seen: Seen) -> Ends:
        return Ends(100.0) if seen.item in slow else fails(broken)(seen)

    cluster = SimulatedCluster(agent)
    async with operating(cluster, job(["a", *slow], map_={"maxParallel": 2})) as operator:
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1}, 60)
        broken.clear()
        status = await operator.redrive("at-once")
        assert counts(status) == (1, 1, 0, 0)
        assert "completionTime" not in cluster.status
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"
    assert cluster.peak <= 2


async def test_a_job_that_was_stopped_runs_what_is_redriven_and_nothing_else() -> None:
    broken = {"a": "boom", "b": "boom"}
    cluster = SimulatedCluster(fails(broken))
    body = job(["a", "b", "c", "d"], map_={"maxParallel": 1}, failurePolicy={"maxFailures": 2})
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"]) == ("Failed", "MaxFailuresReached")
        assert status["items"]["pending"] == 2
        del broken["a"]
        redriven = await operator.redrive("again")
        assert counts(redriven) == (2, 1, 1, 0)
        status = await operator.until_finished()
        await asyncio.sleep(60)
    assert cluster.status["phase"] == "Failed"
    assert cluster.status["items"] | {"succeeded": 1, "deadLettered": 1, "pending": 2} == cluster.status["items"]
    assert cluster.runs_of == {"a": 2, "b": 2}


async def test_a_suspended_job_runs_what_was_taken_when_it_is_resumed() -> None:
    broken = {"a": "boom"}
    cluster = SimulatedCluster(fails(broken))
    async with operating(cluster, job(["a", "b"])) as operator:
        await operator.until_finished()
        broken.clear()
        operator.edit(lambda spec: spec.update(suspend=True))
        cluster.redrives.create(redrive("again"))
        await asyncio.sleep(60)
        assert counts(cluster.redrives.by_name["again"]["status"]) == (1, 0, 0, 1)
        assert letters(cluster) == {"total": 1, "claimed": 1}
        assert len(cluster.history) == 2
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_redriven("again")
        assert counts(status) == (1, 1, 0, 0)


async def test_two_redrives_at_once_do_not_take_the_same_letter() -> None:
    broken = dict.fromkeys("abcdef", "boom")
    cluster = SimulatedCluster(lambda seen: Ends(10.0, exit_code=int(seen.item in broken)))
    async with operating(cluster, job([*broken, "ok"])) as operator:
        await operator.until_finished()
        broken.clear()
        cluster.redrives.create(redrive("one", selection={"ids": ["a", "b", "c", "d"]}))
        cluster.redrives.create(redrive("two", selection={"ids": ["c", "d", "e", "f"]}))
        one, two = await operator.until_redriven("one"), await operator.until_redriven("two")
        assert counts(one) == (4, 4, 0, 0)
        assert counts(two) == (2, 2, 0, 0)
        assert {one["itemId"]: one["reason"] for one in two["skippedLetters"]} == dict.fromkeys(
            "cd", "another Redrive has taken it"
        )
    assert all(runs == (1 if name == "ok" else 2) for name, runs in cluster.runs_of.items())


@pytest.mark.parametrize("graceful", [True, False])
async def test_a_redrive_that_is_seen_again_never_runs_twice(graceful: bool) -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(5.0, exit_code=1)), MemoryStore()
    body = job(["a", "b", "c"])
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    # Every operator dies a little later in the life of the Redrive.
    cluster.redrives.create(redrive("again"))
    for life in range(1, 30):
        async with operating(cluster, body, store, graceful=graceful):
            await asyncio.sleep(0.15 * life)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_redriven("again")
        assert counts(status) == (3, 0, 3, 0)
        await asyncio.sleep(30)
    async with operating(cluster, body, store):
        await asyncio.sleep(60)
    assert cluster.runs_of == dict.fromkeys("abc", 2)
    assert letters(cluster) == {"total": 3, "open": 3}


async def test_a_redrive_of_a_job_that_ended_is_answered_by_the_next_operator_whatever_it_is_told_first() -> None:
    class SlowListings(NoFaults):
        def trip(self, call: str) -> Trip:
            return Trip(3.0, 0.1) if call.startswith("list") else Trip()

    broken = {"a": "boom"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    body = job(["a", "b"])
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
    broken.clear()
    cluster.redrives.create(redrive("again"))
    async with operating(cluster, body, store, faults=SlowListings()) as operator:
        status = await operator.until_redriven("again", 30)
        assert counts(status) == (1, 1, 0, 0)


async def test_what_a_deleted_redrive_has_taken_comes_to_its_end() -> None:
    cluster, store = SimulatedCluster(lambda _: Ends(10.0, exit_code=1)), MemoryStore()
    body = job(["a", "b"])
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: letters(cluster).get("reprocessing") == 2, 30)
        cluster.redrives.delete("again")
        await asyncio.sleep(3)
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: letters(cluster) == {"total": 2, "open": 2}, 60)
        # One of the same name is another one.
        status = await operator.redrive("again")
        assert counts(status) == (2, 0, 2, 0)
    assert len(bodies(store)["a"]["history"]) == 3


async def test_a_redrive_runs_no_more_items_at_a_time_than_it_says() -> None:
    names = "abcdefgh"
    cluster = SimulatedCluster(lambda _: Ends(10.0, exit_code=1))
    async with operating(cluster, job([*names])) as operator:
        await operator.until_finished()
        cluster.peak = 0
        started = asyncio.get_running_loop().time()
        await operator.redrive("narrow", parallelism=2)
        assert asyncio.get_running_loop().time() - started > 40
    assert cluster.peak == 2


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        ({"strategy": "Fixed", "seconds": 100}, [100, 100, 100]),
        ({"strategy": "Exponential", "seconds": 100, "maxSeconds": 300}, [100, 200, 300]),
        ({"strategy": "Immediate", "seconds": 100}, [0, 0, 0]),
    ],
)
async def test_redriven_items_wait_as_the_redrive_says_though_all_have_one_name(
    delay: dict[str, Any], waits: list[int]
) -> None:
    cluster, store = SimulatedCluster(fails({"a": "boom"})), MemoryStore()
    body = job(["a", "b"])
    for wait in waits:
        async with operating(cluster, body, store) as operator:
            await operator.until(lambda: letters(cluster).get("open") == 1, 60)
            await operator.until_finished()
            started = asyncio.get_running_loop().time()
            cluster.redrives.create(redrive("nightly", delay=delay))
            await asyncio.sleep(2)
        async with operating(cluster, body, store) as operator:
            await operator.until_redriven("nightly")
            assert wait <= asyncio.get_running_loop().time() - started < wait + 10
            cluster.redrives.delete("nightly")


async def test_the_api_servers_word_against_a_patched_template_refuses_the_redrive() -> None:
    cluster = SimulatedCluster(fails({"a": "boom"}))
    async with operating(cluster, job(["a", "b"])) as operator:
        await operator.until_finished()
        status = await operator.redrive("no-field", templatePatch={"containers": []})
        assert condition_of({"status": status}, "Failed")["reason"] == "InvalidTemplatePatch"
        status = await operator.redrive("no-image", templatePatch={"spec": {"containers": [{"name": "other"}]}})
        assert condition_of({"status": status}, "Failed")["reason"] == "InvalidTemplatePatch"
        assert letters(cluster) == {"total": 1, "open": 1}
    assert len(cluster.history) == 2


async def test_a_patch_that_a_later_template_does_not_fit_calls_the_redrive_off() -> None:
    cluster = SimulatedCluster(fails({"a": "boom"}))
    async with operating(cluster, job(["a", "b"])) as operator:
        await operator.until_finished()
        operator.edit(lambda spec: spec.update(suspend=True))
        patch = {"spec": {"containers": [{"name": "agent", "imagePullPolicy": "Always"}]}}
        cluster.redrives.create(redrive("again", templatePatch=patch))
        await operator.until(lambda: letters(cluster) == {"total": 1, "claimed": 1}, 30)
        containers = operator.body["spec"]["map"]["template"]["spec"]["containers"]
        containers[0]["name"] = "worker"
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_redriven("again")
        assert condition_of({"status": status}, "Failed")["reason"] == "InvalidTemplatePatch"
        assert counts(status) == (1, 0, 1, 0)
        await operator.until_finished()
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1}, 30)
        assert operator.counted("mapreduce_run_crashes_total") == 0
    assert len(cluster.history) == 2


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_patched_image_that_cannot_be_pulled_calls_the_redrive_off(restarted: bool) -> None:
    broken = {"a": "boom", "b": "boom"}
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    cluster.keeps_waiting = lambda pod: "ImagePullBackOff" if "typo:1" in str(pod.job.manifest) else ""
    body = job(["a", "b", "c"])
    body["spec"]["map"]["pendingTimeoutSeconds"] = 60
    patch = {"spec": {"containers": [{"name": "agent", "image": "typo:1"}]}}
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        cluster.redrives.create(redrive("again", templatePatch=patch))
        await operator.until(lambda: letters(cluster).get("reprocessing") == 2, 30)
        if not restarted:
            await operator.until_redriven("again", 600)
    async with operating(cluster, body, store) as operator:
        status = await operator.until_redriven("again", 600)
        assert condition_of({"status": status}, "Failed")["reason"] == "ImageUnavailable"
        assert counts(status) == (2, 0, 2, 0)
        await operator.until(lambda: letters(cluster) == {"total": 2, "open": 2}, 60)
        await operator.until_finished(60)
        assert operator.condition("Stalled")["status"] == "Absent"
        broken.clear()
        assert counts(await operator.redrive("right")) == (2, 2, 0, 0)
    assert [one["reason"] for one in bodies(store)["a"]["history"]][:2] == ["Error", "ImageUnavailable"]


async def test_a_patched_template_that_is_refused_later_calls_the_redrive_off_and_starves_nobody() -> None:
    cluster, store = SimulatedCluster(lambda seen: Ends(5.0, exit_code=1 if seen.item == "a" else 0)), MemoryStore()
    body = job(["a", *(f"ok-{number}" for number in range(40))])
    body["spec"]["map"] |= {"maxParallel": 2}
    patch = {"spec": {"containers": [{"name": "agent", "image": "refused:1"}]}}
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1}, 120)
        cluster.refuse = lambda manifest, dry_run: (
            ClusterError(ClusterErrorReason.INVALID, "refused by a policy")
            if not dry_run and "refused:1" in str(manifest)
            else None
        )
        cluster.redrives.create(redrive("again", templatePatch=patch))
        status = await operator.until_redriven("again", 120)
        assert condition_of({"status": status}, "Failed")["reason"] == "TemplateRejected"
        status = await operator.until_finished(600)
    assert status["items"]["succeeded"] == 40
    assert letters(cluster) == {"total": 1, "open": 1}


async def test_what_waits_goes_back_when_the_redrive_is_deleted() -> None:
    runs = {"redriven": 0}

    def agent(seen: Seen) -> Ends:
        runs["redriven"] += seen.dispatch > 1
        return Ends(10.0, exit_code=1)

    cluster, store = SimulatedCluster(agent), MemoryStore()
    body = job(list("abcdefgh"))
    body["spec"]["map"] |= {"maxParallel": 2}
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        cluster.redrives.create(redrive("again"))
        await operator.until(lambda: letters(cluster).get("reprocessing") == 2, 30)
        await asyncio.sleep(61)
        before = runs["redriven"]
        cluster.redrives.delete("again")
        await operator.until(lambda: letters(cluster) == {"total": 8, "open": 8}, 60)
        status = await operator.until_finished(60)
    # Those that ran came to their end, and nothing else was started.
    assert runs["redriven"] <= before + 1
    assert status["items"]["deadLettered"] == 8


async def test_archived_letters_are_taken_with_force_only() -> None:
    broken = dict.fromkeys("abcd", "boom")
    cluster, store = SimulatedCluster(fails(broken)), MemoryStore()
    body = job([*broken], map_={"maxParallel": 1}, deadLetter={"capacity": 1, "onFull": "Archive"})
    async with operating(cluster, body, store) as operator:
        await operator.until_finished()
        await operator.until(lambda: letters(cluster) == {"total": 4, "open": 1, "archived": 3}, 30)
        status = await operator.redrive("plain", selection={"ids": ["a", "b"]})
        assert counts(status) == (0, 0, 0, 0)
        assert all("archived" in one["reason"] for one in status["skippedLetters"])
        broken.clear()
        status = await operator.redrive("forced", force=True)
        assert counts(status) == (4, 4, 0, 0)
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"


async def test_the_rules_of_the_queue_say_what_may_be_redriven() -> None:
    cluster = SimulatedCluster(fails({"a": "boom", "b": "disk full"}))
    async with operating(cluster, job(["a", "b", "c"])) as operator:
        await operator.until_finished()
        rule = {"filter": 'letter.message.contains("disk")', "eligible": False, "note": "wait for the new disk"}
        cluster.queues.edit("demo", eligibility=[rule])
        await asyncio.sleep(3)
        status = await operator.redrive("again")
        assert counts(status) == (1, 0, 1, 0)
        assert status["skippedLetters"] == [{"itemId": "b", "reason": "wait for the new disk"}]
        cluster.queues.edit("demo", eligibility=[{"filter": "letter.", "eligible": True}])
        await operator.until(lambda: condition_of(queue_of(cluster), "Ready")["reason"] == "InvalidEligibility", 30)
        status = await operator.redrive("wrong-rule")
        assert condition_of({"status": status}, "Failed")["reason"] == "InvalidEligibility"
