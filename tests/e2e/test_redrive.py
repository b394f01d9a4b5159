"""Dead letters get another run: what a Redrive takes, what it leaves, and what follows for its job."""

import json
from typing import Any, Final

import pytest

from tests.e2e.sandbox import GATED_OK, QUEUES, REDRIVES, Body, Sandbox, agent, condition, job, redrive

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

ALL: Final = {"all": True}
ONCE: Final[Body] = {"retry": {"maxAttempts": 1}}

FAILING_IN_THREE_WAYS: Final = """
    field() { sed -nE "s/.*\\"$1\\":\\"?([^,\\"}]*).*/\\1/p" /mapreduce/item.json; }
    number=$(field number)
    case $(field poison) in
        file)
            echo "cannot open /data/input-$number.csv: No such file or directory" >&2
            exit 1 ;;
        value)
            echo "ValueError: invalid literal for int() with base 10: 'x$number'" >&2
            exit 3 ;;
        request)
            id=$(printf '5f3c%04x-1111-4222-8333-444455556666' "$number")
            printf '{"error":{"message":"request %s: HTTP 503 Service Unavailable","retryable":false}}' "$id" \\
                > /mapreduce/result.json
            exit 1 ;;
    esac
    printf '{"number":%d}' "$number" > /mapreduce/result.json
"""
SUM: Final = """
    sed -E 's/.*"number":([0-9]+).*/\\1/' /mapreduce/results.jsonl |
        awk '{ sum += $1 } END { printf "{\\"items\\":%d,\\"sum\\":%d}", NR, sum }' > /mapreduce/result.json
"""
POISON: Final = {1: "file", 4: "file", 7: "file", 10: "file", 13: "value", 16: "value", 19: "value"} | dict.fromkeys(
    (22, 25, 28), "request"
)
FAILS: Final = "echo no luck >&2; exit 1"
FAILS_IF_BAD: Final = f"grep -q bad /mapreduce/item.json && exit 1; {GATED_OK}"


def of_thirty_ten_fail() -> Body:
    items: list[Any] = [
        {"number": number} | ({"poison": POISON[number]} if number in POISON else {}) for number in range(30)
    ]
    # The patch takes away the poison of all; this one is poisoned twice.
    items[16] = {"number": 16, "poison": "value", "more": {"poison": "value"}}
    body = job("thirty", items, FAILING_IN_THREE_WAYS, map_=ONCE)
    body["spec"]["input"]["idExpression"] = "'item-' + string(item.number)"
    body["spec"]["reduce"] = {"template": agent(SUM)}
    return body


def test_of_ten_dead_letters_nine_succeed_and_one_comes_back(sandbox: Sandbox) -> None:
    name = sandbox.create(of_thirty_ten_fail())
    status = sandbox.until_finished(name)
    assert status["phase"] == "PartiallySucceeded"
    assert status["result"] == {"items": 20, "sum": sum(set(range(30)) - set(POISON))}

    queue = sandbox.until_queued(name, total=10, open=10)
    assert sorted((group["reason"], group["count"]) for group in queue["groups"]) == [
        ("Error", 3),
        ("Error", 3),
        ("Error", 4),
    ]
    assert queue["reasons"] == {"Error": 10}
    assert queue["causes"] == {"AttemptsExhausted": 7, "NotRetryable": 3}
    assert {one["itemId"] for one in queue["newest"]} == {f"item-{number}" for number in POISON}

    sandbox.create(redrive("patched", name, ALL, payloadPatch={"poison": None}, attempts=1, rerunReduce=True))
    sandbox.kubectl("wait", "--for=condition=Complete", "redrive/patched", "--timeout=60s")
    answer = sandbox.status("patched", REDRIVES)
    assert counts_of(answer) == {"selected": 10, "succeeded": 9, "failed": 1, "remaining": 0, "skipped": 0}
    assert answer["startTime"] <= answer["completionTime"]

    status = sandbox.until_finished(name)
    assert status["phase"] == "PartiallySucceeded"
    assert status["progress"] == "30/30"
    assert (status["items"]["succeeded"], status["items"]["deadLettered"]) == (29, 1)
    assert status["attempts"]["total"] == 40
    assert status["deadLetters"] == {"queue": name, "open": 1, "unresolved": 1}
    assert status["result"] == {"items": 29, "sum": sum(range(30)) - 16}

    queue = sandbox.until_queued(name, total=10, open=1, resolved=9, claimed=0, reprocessing=0)
    assert [(group["count"], group["samples"]) for group in queue["groups"]] == [(1, ["item-16"])]
    letter = sandbox.letters(name)["item-16"]
    assert [(one["dispatch"], one.get("redrive", ""), one["exitCode"]) for one in letter["history"]] == [
        (1, "", 3),
        (2, "patched", 3),
    ]
    assert letter["redrives"] == ["patched"]
    # What an agent gets is patched, not what was planned.
    assert letter["payload"] == {"number": 16, "poison": "value", "more": {"poison": "value"}}

    again = redrive("again", name, {"ids": ["item-16", "item-1"]}, payloadPatch={"poison": None, "more": None})
    sandbox.create(again)
    answer = sandbox.until_redriven("again")
    assert counts_of(answer) == {"selected": 1, "succeeded": 1, "failed": 0, "remaining": 0, "skipped": 1}
    assert [one["itemId"] for one in answer["skippedLetters"]] == ["item-1"]
    status = sandbox.until(name, lambda status: status["items"]["succeeded"] == 30 and "completionTime" in status)
    assert status["phase"] == "Succeeded"
    # Nobody asked for the sum to be made anew.
    assert status["result"] == {"items": 29, "sum": sum(range(30)) - 16}
    sandbox.until_queued(name, open=0, resolved=10)


def counts_of(answer: Body) -> Body:
    return {word: answer[word] for word in ("selected", "succeeded", "failed", "remaining", "skipped")}


def test_the_same_redrive_applied_again_changes_nothing(sandbox: Sandbox) -> None:
    name = sandbox.create(job("failing", [1], FAILS, map_=ONCE))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=1)
    body = redrive("twice", name, ALL, attempts=1)
    for answer in ("created", "unchanged"):
        assert answer in sandbox.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    before = sandbox.until_redriven("twice")
    assert counts_of(before) == {"selected": 1, "succeeded": 0, "failed": 1, "remaining": 0, "skipped": 0}
    assert condition(before, "Complete")["reason"] == "AllItemsFailed"
    # One that comes later and is answered shows that the first would have been.
    assert "unchanged" in sandbox.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    sandbox.create(redrive("later", name, {"filter": "false"}))
    assert condition(sandbox.until_redriven("later"), "Complete")["reason"] == "NothingSelected"
    assert sandbox.status("twice", REDRIVES) == before
    assert sandbox.status(name)["attempts"]["total"] == 2
    assert "create another one" in sandbox.refused(
        "patch", "redrive/twice", "--type=merge", '-p={"spec":{"force":true}}'
    )


def test_two_redrives_at_once_do_not_take_the_same_letter(sandbox: Sandbox) -> None:
    name = sandbox.create(
        job("contended", [{"it": f"is bad {number}"} for number in range(3)], FAILS_IF_BAD, map_=ONCE)
    )
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=3)
    for one in ("left", "right"):
        sandbox.create(redrive(one, name, ALL, payloadPatch={"it": "is good"}))
    answers = [sandbox.until_redriven(one) for one in ("left", "right")]
    assert all(condition(answer, "Complete")["status"] == "True" for answer in answers)
    assert sorted(answer["selected"] for answer in answers) == [0, 3]
    status = sandbox.until(name, lambda status: status["phase"] == "Succeeded")
    assert status["attempts"]["total"] == 6


def test_what_is_wrong_with_a_redrive_is_said_and_nothing_is_taken(sandbox: Sandbox) -> None:
    name = sandbox.create(job("failing", [1, 2], FAILS, map_=ONCE))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=2)
    long, outside = "ü" * 2048, "../x"
    sandbox.create(redrive("syntax", name, {"filter": "letter.reason = 'Error'"}))
    sandbox.create(redrive("unknown-field", name, {"filter": "letter.raeson == 'Error' || true"}))
    sandbox.create(redrive("no-bool", name, {"filter": "letter.attempts"}))
    sandbox.create(redrive("nobody", "no-such-queue", ALL))
    sandbox.create(redrive("strangers", name, {"ids": [outside, long]}))
    sandbox.create(redrive("unpatchable", name, ALL, payloadPatch={"a": 1}))
    sandbox.create(redrive("misfit", name, ALL, templatePatch={"spec": {"containers": "none"}}))

    for one, word in (("syntax", "letter.reason = 'Error'"), ("unknown-field", "raeson"), ("no-bool", "true or false")):
        answer = sandbox.until_redriven(one)
        failed = condition(answer, "Failed")
        assert (failed["status"], failed["reason"]) == ("True", "InvalidFilter")
        assert word in failed["message"]
        assert "Nothing was taken" in failed["message"]
        assert (answer["phase"], answer["selected"]) == ("Failed", 0)

    failed = condition(sandbox.until_redriven("misfit"), "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "InvalidTemplatePatch")

    for one, reason in (("strangers", "the job has no item with this id"), ("unpatchable", "no JSON object")):
        answer = sandbox.until_redriven(one)
        assert counts_of(answer) == {"selected": 0, "succeeded": 0, "failed": 0, "remaining": 0, "skipped": 2}
        assert condition(answer, "Complete")["reason"] == "NothingSelected"
        assert all(reason in skipped["reason"] for skipped in answer["skippedLetters"])
    ids = [skipped["itemId"] for skipped in sandbox.status("strangers", REDRIVES)["skippedLetters"]]
    assert ids == [outside, long[:252] + "…"]

    waiting = sandbox.until("nobody", lambda status: condition(status, "Accepted")["status"] == "False", of=REDRIVES)
    assert condition(waiting, "Accepted")["reason"] == "QueueNotFound"
    assert "no-such-queue" in condition(waiting, "Accepted")["message"]

    sandbox.until_queued(name, total=2, open=2, claimed=0)
    assert sandbox.status(name)["attempts"]["total"] == 2


def test_letters_that_are_not_eligible_are_taken_by_force_only(sandbox: Sandbox) -> None:
    script = """echo '{"error":{"message":"no","retryable":false}}' > /mapreduce/result.json; exit 1"""
    name = sandbox.create(job("refusing", ["only"], script))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=1)
    sandbox.create(redrive("gentle", name, ALL))
    answer = sandbox.until_redriven("gentle")
    assert (answer["selected"], answer["skipped"]) == (0, 1)
    assert "force: true" in answer["skippedLetters"][0]["reason"]
    sandbox.create(redrive("forced", name, ALL, force=True))
    answer = sandbox.until_redriven("forced")
    assert (answer["selected"], answer["failed"]) == (1, 1)


def test_a_redrive_of_a_running_job_waits_for_room_below_its_limit(sandbox: Sandbox) -> None:
    items: list[Any] = [{"it": "is bad"}, {"it": "is gated"}]
    name = sandbox.create(job("full", items, FAILS_IF_BAD, map_={"maxParallel": 1} | ONCE))
    pods = sandbox.until_pods(lambda pods: [gated(pod) for pod in pods if pod.status.phase == "Running"] == [True])
    sandbox.until_queued(name, open=1)
    sandbox.create(redrive("patient", name, ALL, payloadPatch={"it": "is good"}))
    answer = sandbox.until("patient", lambda status: status.get("selected") == 1, of=REDRIVES)
    assert answer["remaining"] == 1
    sandbox.until_queued(name, open=0, claimed=1)
    assert len(sandbox.jobs()) == 1
    sandbox.open_gates([pod for pod in pods if gated(pod)])
    assert sandbox.until_redriven("patient")["succeeded"] == 1
    status = sandbox.until_finished(name)
    assert (status["phase"], status["attempts"]["total"]) == ("Succeeded", 3)


def gated(pod: Any) -> bool:
    return "gated" in pod.metadata.annotations["mapreduce.dev/item"]


def test_a_redrive_of_a_suspended_job_waits_until_it_is_resumed(sandbox: Sandbox) -> None:
    name = sandbox.create(job("paused", [{"it": "is bad"}], FAILS_IF_BAD, map_=ONCE))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=1)
    sandbox.patch(name, {"suspend": True})
    sandbox.create(redrive("patient", name, ALL, payloadPatch={"it": "is good"}))
    sandbox.until("patient", lambda status: status.get("remaining") == 1, of=REDRIVES)
    status = sandbox.until(name, lambda status: status["phase"] == "Paused")
    assert status["items"]["pending"] == 1
    assert sandbox.jobs() == []
    sandbox.patch(name, {"suspend": False})
    assert sandbox.until_redriven("patient")["succeeded"] == 1
    sandbox.until(name, lambda status: status["phase"] == "Succeeded")


def test_the_example_reads_well_from_the_first_letter_to_the_last(sandbox: Sandbox) -> None:
    name = sandbox.apply_example("dead-letters.yaml")
    status = sandbox.until_finished(name)
    assert status["result"] == {"orders": 2, "sum": 24.9}
    sandbox.until_queued(name, open=3)
    header, row = sandbox.kubectl("get", "dlq").splitlines()
    assert header.split() == ["NAME", "JOB", "OPEN", "CLAIMED", "REPROCESSING", "RESOLVED", "REASON", "OLDEST", "AGE"]
    assert row.split()[:7] == ["orders", "orders", "3", "0", "0", "0", "Error"]
    text = sandbox.kubectl("describe", "dlq", name)
    assert "cannot read the amount '12,50'" in text
    assert "3 letters are open; create a Redrive to give them another run" in text

    fix = sandbox.apply_example("redrive.yaml")
    sandbox.kubectl("wait", "--for=condition=Complete", f"redrive/{fix}", "--timeout=60s")
    header, row = sandbox.kubectl("get", "redrives").splitlines()
    assert header.split() == ["NAME", "QUEUE", "PHASE", "SELECTED", "SUCCEEDED", "FAILED", "SKIPPED", "AGE"]
    assert row.split()[:7] == ["decimal-commas", "orders", "Complete", "3", "2", "1", "0"]
    assert "2 of 3 items succeeded, 1 are back in the queue" in sandbox.kubectl("describe", "redrive", fix)
    assert sandbox.status(name)["result"] == {"orders": 4, "sum": 44.65}
    sandbox.until_queued(name, open=1, resolved=2)


def test_a_queue_with_open_letters_outlives_its_job_and_its_storage_goes_with_it(sandbox: Sandbox) -> None:
    body = job("gone", [{"it": "is bad"}, {"it": "is bad too"}], FAILS_IF_BAD, map_=ONCE)
    body["spec"]["input"]["idExpression"] = "item.it"
    name = sandbox.create(body)
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=2)
    sandbox.create(redrive("half", name, {"filter": "item.it == 'is bad'"}, payloadPatch={"it": "is good"}))
    assert sandbox.until_redriven("half")["succeeded"] == 1
    storage = sandbox.until_queued(name, open=1, resolved=1)["storage"]
    sandbox.kubectl("delete", "mrj", name, "--timeout=60s")
    assert len(sandbox.stored(f"{storage}*.json").splitlines()) >= 1

    sandbox.create(redrive("late", name, ALL))
    failed = condition(sandbox.until_redriven("late"), "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "JobGone")
    # What was resolved is not open again because nobody remembers it.
    status = sandbox.status(name, QUEUES)
    assert [(one["itemId"], one["state"]) for one in status["newest"] if one["state"] != "Resolved"] == [
        ("is bad too", "Open")
    ]
    assert status["letters"]["open"] == 1

    sandbox.kubectl("delete", "dlq", name, "--timeout=60s")
    assert sandbox.stored(f"{storage}*.json") == ""


def test_a_queue_without_open_letters_goes_with_its_job(sandbox: Sandbox) -> None:
    name = sandbox.create(job("clean", [{"it": "is bad"}], FAILS_IF_BAD, map_=ONCE))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=1)
    sandbox.create(redrive("all", name, ALL, payloadPatch={"it": "is good"}))
    assert sandbox.until_redriven("all")["succeeded"] == 1
    storage = sandbox.until_queued(name, open=0)["storage"]
    sandbox.kubectl("delete", "mrj", name, "--timeout=60s")
    sandbox.kubectl("wait", "--for=delete", f"dlq/{name}", "--timeout=30s")
    assert sandbox.stored(f"{storage}*.json") == ""
