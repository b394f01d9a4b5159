"""Dead letters get another run: what a Redrive takes, what it leaves, and what follows for its job.

All jobs are there from the start and fail side by side; each test goes on with its own.
"""

import json
from typing import Any, Final

import pytest

from tests.e2e.sandbox import GATED_OK, QUEUES, REDRIVES, Body, Sandbox, agent, condition, job, redrive

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

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
FAILS_IF_BAD: Final = f"grep -q bad /mapreduce/item.json && exit 1; {GATED_OK}"
GOOD: Final = {"it": "is good"}


def failing(name: str, *items: str, **more: Any) -> Body:
    """Each item that is called bad fails, once. What it is called is its id."""
    body = job(name, [{"it": item} for item in items], FAILS_IF_BAD, **({"map_": ONCE} | more))
    body["spec"]["input"]["idExpression"] = "item.it"
    return body


def thirty_of_which_ten_fail() -> Body:
    items: list[Any] = [
        {"number": number} | ({"poison": POISON[number]} if number in POISON else {}) for number in range(30)
    ]
    # A patch that takes away the poison leaves some here.
    items[16] = {"number": 16, "poison": "value", "more": {"poison": "value"}}
    body = job("thirty", items, FAILING_IN_THREE_WAYS, map_=ONCE)
    body["spec"]["input"]["idExpression"] = "'item-' + string(item.number)"
    body["spec"]["reduce"] = {"template": agent(SUM)}
    return body


BODIES: Final = [
    thirty_of_which_ten_fail(),
    failing("twice", "bad"),
    failing("contended", "bad 1", "bad 2", "bad 3"),
    job("wrong", [1, 2], "exit 1", map_=ONCE),
    failing("stopping", "bad", "gated", "good", map_={"maxParallel": 2} | ONCE, failurePolicy={"maxFailures": 1}),
    job(
        "refusing", ["only"], """echo '{"error":{"message":"no","retryable":false}}' > /mapreduce/result.json; exit 1"""
    ),
    failing("busy", "bad", "gated", map_={"maxParallel": 1} | ONCE),
    failing("paused", "bad"),
    failing("deleted", "bad", "bad too"),
    failing("clean", "bad"),
]


@pytest.fixture(scope="module", autouse=True)
def jobs(shared: Sandbox) -> None:
    for body in BODIES:
        shared.create(body)


def ended(shared: Sandbox, name: str, letters: int) -> str:
    """Waits until a job has ended with so many open letters; returns its name, which is that of its queue."""
    shared.until_finished(name, 300)
    shared.until_queued(name, open=letters)
    return name


def test_of_ten_dead_letters_nine_succeed_and_one_comes_back(shared: Sandbox) -> None:
    name = "thirty"
    status = shared.until_finished(name, 300)
    assert status["phase"] == "PartiallySucceeded"
    assert status["result"] == {"items": 20, "sum": sum(set(range(30)) - set(POISON))}

    queue = shared.until_queued(name, total=10, open=10)
    assert [group["count"] for group in queue["groups"]] == [4, 3, 3]
    assert queue["reasons"] == {"Error": 10}
    assert queue["causes"] == {"AttemptsExhausted": 7, "NotRetryable": 3}
    assert {one["itemId"] for one in queue["newest"]} == {f"item-{number}" for number in POISON}

    shared.create(redrive("patched", name, ALL, payloadPatch={"poison": None}, attempts=1, rerunReduce=True))
    shared.kubectl("wait", "--for=condition=Complete", "redrive/patched", "--timeout=180s")
    answer = shared.status("patched", REDRIVES)
    assert counts_of(answer) == {"selected": 10, "succeeded": 9, "failed": 1, "remaining": 0, "skipped": 0}
    assert answer["startTime"] <= answer["completionTime"]

    status = shared.until_finished(name)
    assert status["phase"] == "PartiallySucceeded"
    assert status["progress"] == "30/30"
    assert (status["items"]["succeeded"], status["items"]["deadLettered"]) == (29, 1)
    assert status["attempts"]["total"] == 40
    assert status["deadLetters"] == {"queue": name, "open": 1, "unresolved": 1}
    assert status["result"] == {"items": 29, "sum": sum(range(30)) - 16}

    queue = shared.until_queued(name, total=10, open=1, resolved=9, claimed=0, reprocessing=0)
    assert [(group["count"], group["samples"]) for group in queue["groups"]] == [(1, ["item-16"])]
    letter = shared.letters(name)["item-16"]
    assert [(one["dispatch"], one.get("redrive", ""), one["exitCode"]) for one in letter["history"]] == [
        (1, "", 3),
        (2, "patched", 3),
    ]
    assert letter["redrives"] == {"1": "patched"}
    # What an agent gets is patched, not what was planned.
    assert letter["payload"] == {"number": 16, "poison": "value", "more": {"poison": "value"}}

    again = redrive("again", name, {"ids": ["item-16", "item-1"]}, payloadPatch={"poison": None, "more": None})
    shared.create(again)
    answer = shared.until_redriven("again")
    assert counts_of(answer) == {"selected": 1, "succeeded": 1, "failed": 0, "remaining": 0, "skipped": 1}
    assert [one["itemId"] for one in answer["skippedLetters"]] == ["item-1"]
    status = shared.until(name, lambda status: status["items"]["succeeded"] == 30 and "completionTime" in status)
    assert status["phase"] == "Succeeded"
    # Nobody asked for the sum to be made anew.
    assert status["result"] == {"items": 29, "sum": sum(range(30)) - 16}
    shared.until_queued(name, open=0, resolved=10)


def counts_of(answer: Body) -> Body:
    return {word: answer[word] for word in ("selected", "succeeded", "failed", "remaining", "skipped")}


def test_the_same_redrive_applied_again_changes_nothing(shared: Sandbox) -> None:
    name = ended(shared, "twice", 1)
    body = redrive("twice", name, ALL, attempts=1)
    for answer in ("created", "unchanged"):
        assert answer in shared.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    before = shared.until_redriven("twice")
    assert counts_of(before) == {"selected": 1, "succeeded": 0, "failed": 1, "remaining": 0, "skipped": 0}
    assert condition(before, "Complete")["reason"] == "AllItemsFailed"
    # One that comes later and is answered shows that the first would have been.
    assert "unchanged" in shared.kubectl("apply", "--filename=-", stdin=json.dumps(body))
    shared.create(redrive("later", name, {"filter": "false"}))
    assert condition(shared.until_redriven("later"), "Complete")["reason"] == "NothingSelected"
    assert shared.status("twice", REDRIVES) == before
    assert shared.status(name)["attempts"]["total"] == 2
    assert "create another one" in shared.refused(
        "patch", "redrive/twice", "--type=merge", '-p={"spec":{"force":true}}'
    )


def test_two_redrives_at_once_do_not_take_the_same_letter(shared: Sandbox) -> None:
    name = ended(shared, "contended", 3)
    for one in ("left", "right"):
        shared.create(redrive(one, name, ALL, payloadPatch=GOOD))
    answers = [shared.until_redriven(one) for one in ("left", "right")]
    assert all(condition(answer, "Complete")["status"] == "True" for answer in answers)
    assert sorted(answer["selected"] for answer in answers) == [0, 3]
    status = shared.until(name, lambda status: status["phase"] == "Succeeded")
    assert status["attempts"]["total"] == 6


def test_what_is_wrong_with_a_redrive_is_said_and_nothing_is_taken(shared: Sandbox) -> None:
    name = ended(shared, "wrong", 2)
    long, outside = "ü" * 2048, "../x"
    shared.create(redrive("syntax", name, {"filter": "letter.reason = 'Error'"}))
    shared.create(redrive("unknown-field", name, {"filter": "letter.raeson == 'Error' || true"}))
    shared.create(redrive("no-bool", name, {"filter": "letter.attempts"}))
    shared.create(redrive("nobody", "no-such-queue", ALL))
    shared.create(redrive("strangers", name, {"ids": [outside, long]}))
    shared.create(redrive("unpatchable", name, ALL, payloadPatch={"a": 1}))
    shared.create(redrive("misfit", name, ALL, templatePatch={"spec": {"containers": "none"}}))

    for one, word in (("syntax", "letter.reason = 'Error'"), ("unknown-field", "raeson"), ("no-bool", "true or false")):
        answer = shared.until_redriven(one)
        failed = condition(answer, "Failed")
        assert (failed["status"], failed["reason"]) == ("True", "InvalidFilter")
        assert word in failed["message"]
        assert "Nothing was taken" in failed["message"]
        assert (answer["phase"], answer["selected"]) == ("Failed", 0)

    failed = condition(shared.until_redriven("misfit"), "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "InvalidTemplatePatch")

    for one, reason in (("strangers", "the job has no item with this id"), ("unpatchable", "no JSON object")):
        answer = shared.until_redriven(one)
        assert counts_of(answer) == {"selected": 0, "succeeded": 0, "failed": 0, "remaining": 0, "skipped": 2}
        assert condition(answer, "Complete")["reason"] == "NothingSelected"
        assert all(reason in skipped["reason"] for skipped in answer["skippedLetters"])
    ids = [skipped["itemId"] for skipped in shared.status("strangers", REDRIVES)["skippedLetters"]]
    assert ids == [outside, long[:252] + "…"]

    waiting = shared.until("nobody", lambda status: condition(status, "Accepted")["status"] == "False", of=REDRIVES)
    assert condition(waiting, "Accepted")["reason"] == "QueueNotFound"
    assert "no-such-queue" in condition(waiting, "Accepted")["message"]

    shared.until_queued(name, total=2, open=2, claimed=0)
    assert shared.status(name)["attempts"]["total"] == 2


def test_a_redrive_of_a_job_at_its_limit_of_failures_waits_and_runs_what_it_took_and_no_more(shared: Sandbox) -> None:
    name = "stopping"
    pods = until_only_gated(shared, name)
    shared.until(name, lambda status: condition(status, "Progressing")["reason"] == "MaxFailuresReached")
    shared.until_queued(name, open=1)
    shared.create(redrive("early", name, ALL, payloadPatch=GOOD))
    shared.until("early", lambda status: condition(status, "Accepted")["reason"] == "Stopping", of=REDRIVES)
    shared.open_gates(pods)
    assert shared.until_redriven("early")["succeeded"] == 1
    status = shared.until(name, lambda status: status["items"]["succeeded"] == 2 and "completionTime" in status)
    assert (status["phase"], status["reason"]) == ("Failed", "NotAllItemsRun")
    assert (status["items"]["pending"], status["attempts"]["total"]) == (1, 3)


def test_letters_that_are_not_eligible_are_taken_by_force_only(shared: Sandbox) -> None:
    name = ended(shared, "refusing", 1)
    shared.create(redrive("gentle", name, ALL))
    answer = shared.until_redriven("gentle")
    assert (answer["selected"], answer["skipped"]) == (0, 1)
    assert "force: true" in answer["skippedLetters"][0]["reason"]
    shared.create(redrive("forced", name, ALL, force=True))
    answer = shared.until_redriven("forced")
    assert (answer["selected"], answer["failed"]) == (1, 1)


def test_a_redrive_of_a_running_job_waits_for_room_below_its_limit(shared: Sandbox) -> None:
    name = "busy"
    pods = until_only_gated(shared, name)
    shared.until_queued(name, open=1)
    shared.create(redrive("patient", name, ALL, payloadPatch=GOOD))
    answer = shared.until("patient", lambda status: status.get("selected") == 1, of=REDRIVES)
    assert answer["remaining"] == 1
    shared.until_queued(name, open=0, claimed=1)
    assert shared.status(name)["active"] == 1
    shared.open_gates(pods)
    assert shared.until_redriven("patient")["succeeded"] == 1
    status = shared.until_finished(name)
    assert (status["phase"], status["attempts"]["total"]) == ("Succeeded", 3)


def until_only_gated(shared: Sandbox, name: str) -> list[Any]:
    """Waits until the agent of the gated item is the only one that runs; returns its pod."""

    def running(pods: list[Any]) -> list[Any]:
        return [pod for pod in pods if pod.status.phase == "Running"]

    def is_alone(pods: list[Any]) -> bool:
        items = [pod.metadata.annotations["mapreduce.dev/item"] for pod in running(pods)]
        return items == ['{"it":"gated"}']

    return running(shared.until_pods(is_alone, job=name))


def test_a_redrive_of_a_suspended_job_waits_until_it_is_resumed(shared: Sandbox) -> None:
    name = ended(shared, "paused", 1)
    shared.patch(name, {"suspend": True})
    # The operator is told of jobs and of Redrives by two watches: either may be late.
    edited = shared.get(name)["metadata"]["generation"]
    shared.until(name, lambda status: status["observedGeneration"] == edited)
    shared.create(redrive("suspended", name, ALL, payloadPatch=GOOD))
    answer = shared.until("suspended", lambda status: status.get("remaining") == 1, of=REDRIVES)
    progressing = condition(answer, "Progressing")
    assert (progressing["status"], progressing["reason"]) == ("False", "Suspended")
    status = shared.until(name, lambda status: status["phase"] == "Paused")
    assert (status["items"]["pending"], status["active"]) == (1, 0)
    shared.patch(name, {"suspend": False})
    assert shared.until_redriven("suspended")["succeeded"] == 1
    shared.until(name, lambda status: status["phase"] == "Succeeded")


def test_the_example_reads_well_from_the_first_letter_to_the_last(sandbox: Sandbox) -> None:
    name = sandbox.apply_example("dead-letters.yaml")
    status = sandbox.until_finished(name)
    assert status["result"] == {"orders": 2, "sum": 24.9}
    sandbox.until_queued(name, open=3)
    header, row = sandbox.kubectl("get", "dlq").splitlines()
    assert header.split() == ["NAME", "JOB", "OPEN", "REPROCESSING", "RESOLVED", "REASON", "OLDEST", "AGE"]
    assert row.split()[:6] == ["orders", "orders", "3", "0", "0", "Error"]
    assert "cannot read the amount <value>" in sandbox.kubectl("get", "dlq", "--output=wide")
    text = sandbox.kubectl("describe", "dlq", name)
    assert "cannot read the amount '12,50'" in text
    assert "open letters: 3. Create a Redrive to give them another run" in text

    analysis = sandbox.dlq("analyze", name)
    assert "3 letters: 3 Open" in analysis
    assert "cannot read the amount <value>" in analysis

    fix = sandbox.apply_example("redrive.yaml")
    sandbox.kubectl("wait", "--for=condition=Complete", f"redrive/{fix}", "--timeout=180s")
    header, row = sandbox.kubectl("get", "redrives").splitlines()
    assert header.split() == ["NAME", "QUEUE", "PHASE", "SELECTED", "SUCCEEDED", "FAILED", "SKIPPED", "REASON", "AGE"]
    assert row.split()[:8] == ["decimal-commas", "orders", "Complete", "3", "2", "1", "0", "SomeItemsFailed"]
    assert "2 of 3 items succeeded, 1 back in the queue" in sandbox.kubectl("describe", "redrive", fix)
    assert sandbox.status(name)["result"] == {"orders": 4, "sum": 44.65}
    sandbox.until_queued(name, open=1, resolved=2)
    assert [line.split()[:2] for line in sandbox.dlq("list", name, "--state=Open").splitlines()[1:]] == [
        ["A-1005", "Open"]
    ]
    story = sandbox.dlq("show", name, "A-1005")
    assert "dispatch 2: Failed" in story
    assert "decimal-commas" in story
    assert len(sandbox.dlq("export", name, "--format=jsonl").splitlines()) == 3


def test_a_queue_with_open_letters_outlives_its_job_and_its_storage_goes_with_it(shared: Sandbox) -> None:
    name = ended(shared, "deleted", 2)
    shared.create(redrive("half", name, {"filter": "item.it == 'bad'"}, payloadPatch=GOOD))
    assert shared.until_redriven("half")["succeeded"] == 1
    storage = shared.until_queued(name, open=1, resolved=1)["storage"]
    shared.kubectl("delete", "mrj", name, "--timeout=180s")
    assert len(shared.stored(f"{storage}*.json").splitlines()) >= 1

    shared.create(redrive("late", name, ALL))
    failed = condition(shared.until_redriven("late"), "Failed")
    assert (failed["status"], failed["reason"]) == ("True", "JobGone")
    # What was resolved is not open again because nobody remembers it.
    status = shared.status(name, QUEUES)
    assert [(one["itemId"], one["state"]) for one in status["newest"] if one["state"] != "Resolved"] == [
        ("bad too", "Open")
    ]
    assert status["letters"]["open"] == 1

    shared.kubectl("delete", "dlq", name, "--timeout=180s")
    assert shared.stored(f"{storage}*.json") == ""


def test_a_queue_without_open_letters_goes_with_its_job(shared: Sandbox) -> None:
    name = ended(shared, "clean", 1)
    shared.create(redrive("all", name, ALL, payloadPatch=GOOD))
    assert shared.until_redriven("all")["succeeded"] == 1
    storage = shared.until_queued(name, open=0)["storage"]
    shared.kubectl("delete", "mrj", name, "--timeout=180s")
    shared.kubectl("wait", "--for=delete", f"dlq/{name}", "--timeout=180s")
    assert shared.stored(f"{storage}*.json") == ""


def test_a_namespace_that_is_deleted_leaves_nothing_in_storage(sandbox: Sandbox) -> None:
    name = sandbox.create(failing("doomed", "bad"))
    storage = sandbox.until_finished(name)["storage"]
    sandbox.until_queued(name, open=1)
    assert sandbox.stored(f"{storage}*/*") != ""
    sandbox.kubectl("delete", "namespace", sandbox.namespace, "--timeout=180s")
    assert sandbox.stored(f"{storage}*/*") == ""
