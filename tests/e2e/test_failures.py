"""Each way to fail, by a real pod: what it is called, whether it is an attempt, and what is told of it.

All jobs are there from the start and run side by side; each test waits for its own.
"""

import itertools
from typing import Any, Final

import pytest
from kubernetes import client

from tests.e2e.sandbox import GATED_OK, QUEUES, Body, Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OK: Final = """echo '{"ok":true}' > /mapreduce/result.json"""
REFUSAL: Final = '{"error":{"reason":"NotForMe","message":"not for me","retryable":false}}'
ONCE: Final[Body] = {"retry": {"maxAttempts": 1}}
AT_ONCE: Final[Body] = {"type": "Fixed", "initialSeconds": 1, "jitter": 0}
NEEDS_100_MB: Final = """
    data=$(head -c 50000000 /dev/zero | tr '\\0' x)
    limit=/sys/fs/cgroup/memory.max
    [ -e $limit ] || limit=/sys/fs/cgroup/memory/memory.limit_in_bytes
    printf '{"limit":%d,"used":%d}' "$(cat $limit)" "${#data}" > /mapreduce/result.json
"""
RESULT_OF_THE_FIRST: Final = """sed -E 's/.*"result":(.*)}$/\\1/' /mapreduce/results.jsonl > /mapreduce/result.json"""


def with_container(body: Body, **fields: Any) -> Body:
    body["spec"]["map"]["template"]["spec"]["containers"][0] |= fields
    return body


def accompanied(name: str, script: str) -> Body:
    """A second container goes on for an hour beside the agent."""
    body = job(name, [1], script)
    containers = body["spec"]["map"]["template"]["spec"]["containers"]
    containers.append(containers[0] | {"name": "second", "command": ["sleep", "3600"]})
    return body


def needing_memory(name: str, retry: Body) -> Body:
    resources = {"requests": {"cpu": "5m", "memory": "32Mi"}, "limits": {"memory": "32Mi"}}
    body = with_container(job(name, [1], NEEDS_100_MB, map_={"retry": retry}), resources=resources)
    body["spec"]["reduce"] = {"template": agent(RESULT_OF_THE_FIRST)}
    return body


BODIES: Final = [
    job(
        "exits-1",
        [1],
        """
            echo "looked for /data/$(cat /mapreduce/item.json)" >&2
            echo 'no luck' >&2
            exit 1
        """,
        map_={"retry": {"maxAttempts": 3, "backoff": AT_ONCE}},
    ),
    job("exits-42", [1], "exit 42", map_={"retry": {"rules": [{"action": "DoNotRetry", "onExitCodes": [42]}]}}),
    job(
        "refuses",
        [1],
        f"""
            echo 'looked at it' >&2
            echo '{REFUSAL}' > /mapreduce/result.json
            exit 1
        """,
    ),
    needing_memory("oom", {"maxAttempts": 1}),
    needing_memory("oom-raised", {"backoff": AT_ONCE, "onOOM": {"factor": 8, "maxMemory": "512Mi"}}),
    job("slow", [1], "sleep 600", map_={"timeoutSeconds": 10} | ONCE),
    job("silent", [1], "true", map_=ONCE),
    with_container(job("imageless", [1, 2, 3, 4], OK, map_={"pendingTimeoutSeconds": 15}), image="localhost/none:1"),
    # It waits from the first test of the module on until its own one.
    with_container(
        job("secretless", [1, 2, 3], OK, map_={"pendingTimeoutSeconds": 3600}),
        envFrom=[{"secretRef": {"name": "credentials"}}],
    ),
    accompanied("accompanied", OK),
    accompanied("accompanied-refuses", f"echo '{REFUSAL}' > /mapreduce/result.json; exit 3"),
    job("evicted", ["gated"], GATED_OK),
    job("deleted", ["gated"], GATED_OK),
    job("bounded", list(range(10)), "exit 1", map_={"maxParallel": 1} | ONCE, failurePolicy={"maxFailures": 2}),
    job(
        "crowded",
        ["bad 1", "bad 2", "good 1", "good 2"],
        f"grep -q bad /mapreduce/item.json && exit 1; {OK}",
        map_={"maxParallel": 1} | ONCE,
        deadLetter={"capacity": 1},
    ),
]


@pytest.fixture(scope="module", autouse=True)
def jobs(shared: Sandbox) -> None:
    for body in BODIES:
        shared.create(body)


def only_letter(shared: Sandbox, name: str) -> Body:
    """The one letter of a job that has ended, as its body in storage tells it."""
    status = shared.until_finished(name, 300)
    assert (status["items"]["deadLettered"], status["deadLetters"]["open"]) == (1, 1)
    (letter,) = shared.letters(status["deadLetters"]["queue"]).values()
    assert letter["attempts"] == status["attempts"]["total"]
    return letter


def told(letter: Body) -> tuple[str, str, int]:
    return letter["cause"], letter["reason"], letter["attempts"]


def test_exit_code_1_is_retried_and_the_letter_tells_of_each_attempt(shared: Sandbox) -> None:
    letter = only_letter(shared, "exits-1")
    assert told(letter) == ("AttemptsExhausted", "Error", 3)
    assert letter["payload"] == 1
    history = letter["history"]
    assert [one["dispatch"] for one in history] == [1, 2, 3]
    for one in history:
        assert (one["verdict"], one["reason"], one["exitCode"]) == ("Failed", "Error", 1)
        assert "no luck" in one["message"]
        assert one["node"]
        assert one["startedAt"] <= one["endedAt"]
        assert one["pod"].startswith(one["job"])
    assert len({one["pod"] for one in history}) == 3
    assert "looked for /data/1" in history[-1]["logTail"]
    # One second was waited between two of them.
    assert all(former["endedAt"] < latter["startedAt"] for former, latter in itertools.pairwise(history))


def test_an_exit_code_that_a_rule_calls_not_retryable_is_one_attempt(shared: Sandbox) -> None:
    letter = only_letter(shared, "exits-42")
    assert told(letter) == ("NotRetryable", "Error", 1)
    assert letter["exitCode"] == 42


def test_an_agent_that_calls_its_error_not_retryable_is_tried_once(shared: Sandbox) -> None:
    letter = only_letter(shared, "refuses")
    assert told(letter) == ("NotRetryable", "Error", 1)
    assert letter["message"] == "NotForMe: not for me"
    assert letter["history"][0]["logTail"] == "looked at it\n"


def test_too_little_memory_has_a_reason_of_its_own(shared: Sandbox) -> None:
    assert told(only_letter(shared, "oom")) == ("AttemptsExhausted", "OOMKilled", 1)


def test_the_attempt_after_an_oom_kill_really_has_more_memory(shared: Sandbox) -> None:
    status = shared.until_finished("oom-raised", 300)
    assert status["phase"] == "Succeeded"
    assert status["attempts"]["total"] == 2
    assert status["failuresByReason"] == {"OOMKilled": 1}
    assert status["result"] == {"limit": 8 * 32 * 1024**2, "used": 50_000_000}


def test_an_agent_that_runs_too_long_is_stopped_and_its_pod_is_gone(shared: Sandbox) -> None:
    letter = only_letter(shared, "slow")
    assert told(letter) == ("AttemptsExhausted", "DeadlineExceeded", 1)
    assert shared.until_pods(lambda pods: not pods, job="slow") == []


def test_exit_code_0_without_a_result_is_a_failure(shared: Sandbox) -> None:
    assert told(only_letter(shared, "silent")) == ("AttemptsExhausted", "ResultMissing", 1)
    assert shared.status("silent")["phase"] == "Failed"


def test_an_image_that_does_not_exist_pauses_the_job_until_it_is_corrected(shared: Sandbox) -> None:
    # As many as make it clear that the template is at fault; the fourth may be kept back by then.
    # On a slow node one or the other may not have come so far in its time that it is known what it lacks.
    status = shared.until(
        "imageless",
        lambda status: (
            status.get("attempts", {}).get("interruptions", 0) >= 3
            and condition(status, "Stalled")["reason"] == "ImageUnavailable"
        ),
    )
    stalled = condition(status, "Stalled")
    assert stalled["status"] == "True"
    assert "localhost/none:1" in stalled["message"]
    assert "correct its name" in stalled["message"]
    assert status["attempts"]["total"] == 0
    assert status["items"]["deadLettered"] == 0
    shared.until_event("imageless", "FirstImageUnavailable")
    shared.patch("imageless", {"map": {"template": agent(OK)}})
    status = shared.until_finished("imageless")
    assert (status["phase"], status["attempts"]["total"]) == ("Succeeded", 4)
    assert "deadLetters" not in status
    assert condition(status, "Stalled")["status"] == "Absent"


def test_a_missing_secret_pauses_the_job_until_it_is_there(shared: Sandbox) -> None:
    status = shared.until("secretless", lambda status: condition(status, "Stalled")["status"] == "True")
    assert condition(status, "Stalled")["reason"] == "ConfigurationError"
    assert 'secret "credentials" not found' in condition(status, "Stalled")["message"]
    shared.kubectl("create", "secret", "generic", "credentials", "--from-literal=user=me")
    status = shared.until_finished("secretless")
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == {"total": 3, "interruptions": 0, "retries": 0}


def test_a_second_container_that_goes_on_keeps_no_result_waiting(shared: Sandbox) -> None:
    status = shared.until_finished("accompanied")
    assert (status["phase"], status["attempts"]["total"]) == ("Succeeded", 1)
    shared.until_pods(lambda pods: not pods, job="accompanied")


def test_a_failure_beside_a_second_container_is_the_agents_own(shared: Sandbox) -> None:
    letter = only_letter(shared, "accompanied-refuses")
    assert (told(letter), letter["exitCode"]) == (("NotRetryable", "Error", 1), 3)


def test_an_evicted_pod_is_an_interruption(shared: Sandbox) -> None:
    (pod,) = shared.until_running(1, job="evicted")
    client.CoreV1Api().create_namespaced_pod_eviction(
        pod.metadata.name, shared.namespace, client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name))
    )
    assert_interrupted_once(shared, "evicted", "Evicted")


def test_a_pod_that_somebody_deletes_is_an_interruption(shared: Sandbox) -> None:
    (pod,) = shared.until_running(1, job="deleted")
    shared.kubectl("delete", "pod", pod.metadata.name, "--wait=false")
    assert_interrupted_once(shared, "deleted", "Deleted")


def assert_interrupted_once(shared: Sandbox, name: str, reason: str) -> None:
    status = shared.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == {"total": 1, "interruptions": 1, "retries": 0}
    assert status["failuresByReason"] == {reason: 1}
    assert "deadLetters" not in status


def test_the_circuit_breaker_opens_and_closes_again(sandbox: Sandbox) -> None:
    # What all of them need is away until the breaker is open: how fast each of them fails decides nothing.
    body = job(
        "broken",
        list(range(4)),
        f"""[ -n "${{NEEDED:-}}" ] || exit 1; {OK}""",
        map_={"retry": {"maxAttempts": 20, "backoff": AT_ONCE}},
        failurePolicy={"circuitBreaker": {"failuresInARow": 3, "openSeconds": 3, "probes": 1}},
    )
    needed = {"configMapKeyRef": {"name": "needed", "key": "is", "optional": True}}
    name = sandbox.create(with_container(body, env=[{"name": "NEEDED", "valueFrom": needed}]))
    status = sandbox.until(name, lambda status: status.get("breaker", {}).get("state") == "Open")
    assert status["breaker"]["failuresInARow"] >= 3
    assert status["breaker"]["openUntil"]
    assert condition(status, "Progressing")["reason"] == "CircuitOpen"
    assert status["items"]["succeeded"] == 0
    sandbox.kubectl("create", "configmap", "needed", "--from-literal=is=there")
    status = sandbox.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["breaker"]["state"] == "Closed"
    retries = status["attempts"]["retries"]
    assert retries >= 3
    assert status["attempts"] == {"total": 4 + retries, "interruptions": 0, "retries": retries}
    sandbox.until_events(name, {"Planned", "FirstError", "CircuitOpen", "CircuitClosed", "Succeeded"})


def test_max_failures_stops_the_job_and_keeps_every_letter(shared: Sandbox) -> None:
    status = shared.until_finished("bounded")
    assert (status["phase"], status["reason"]) == ("Failed", "MaxFailuresReached")
    assert (status["items"]["deadLettered"], status["items"]["pending"]) == (2, 8)
    assert "maxFailures is 2" in condition(status, "Failed")["message"]
    queue = status["deadLetters"]["queue"]
    assert shared.until_queued(queue, open=2)["reasons"] == {"Error": 2}
    assert len(shared.letters(queue)) == 2


def test_a_full_queue_pauses_the_job_until_there_is_room(shared: Sandbox) -> None:
    name = "crowded"
    status = shared.until(name, lambda status: condition(status, "Progressing")["reason"] == "DeadLetterQueueFull")
    assert (status["items"]["deadLettered"], status["items"]["pending"]) == (1, 3)
    full = shared.until(name, lambda status: condition(status, "Full")["status"] == "True", of=QUEUES)
    assert "its capacity is 1" in condition(full, "Full")["message"]
    shared.kubectl("patch", "dlq", name, "--type=merge", "--patch", '{"spec": {"capacity": 5}}')
    status = shared.until_finished(name)
    assert (status["items"]["deadLettered"], status["items"]["succeeded"]) == (2, 2)
