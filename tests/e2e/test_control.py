"""What a user does to a running job, and what happens to the operator meanwhile."""

import json

import pytest
from kubernetes import client

from tests.e2e.sandbox import GATED_OK, REDRIVES, Sandbox, condition, job, redrive

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SLOW = """sleep 4; echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE" """
ENDLESS = "sleep 3600"


def gated(number: int) -> list[str]:
    return [f"gated {position}" for position in range(number)]


def free(number: int) -> list[str]:
    return [f"free {position}" for position in range(number)]


def test_suspend_interrupts_and_resume_goes_on(sandbox: Sandbox) -> None:
    items = [*gated(3), *free(3)]
    name = sandbox.create(job("paused", items, GATED_OK, map_={"maxParallel": 3}, suspendPolicy="Interrupt"))
    sandbox.until_running(3)
    sandbox.patch(name, {"suspend": True})
    status = sandbox.until(name, lambda status: status["phase"] == "Paused" and status["active"] == 0)
    sandbox.until_pods(lambda pods: not pods)
    assert condition(status, "Suspended")["status"] == "True"
    sandbox.patch(name, {"suspend": False})
    status = sandbox.until_finished(name)
    assert status["items"]["succeeded"] == 6
    assert status["attempts"] == {"total": 6, "interruptions": 3, "retries": 0}


def test_suspend_with_drain_lets_agents_end(sandbox: Sandbox) -> None:
    name = sandbox.create(job("drained", [*gated(2), *free(4)], GATED_OK, map_={"maxParallel": 2}))
    pods = sandbox.until_running(2)
    sandbox.patch(name, {"suspend": True})
    sandbox.until(name, lambda status: status["phase"] == "Paused")
    sandbox.open_gates(pods)
    status = sandbox.until(name, lambda s: s["phase"] == "Paused" and s["active"] == 0 and s["items"]["running"] == 0)
    assert status["items"]["succeeded"] == 2
    assert status["attempts"] == {"total": 2, "interruptions": 0, "retries": 0}
    sandbox.patch(name, {"suspend": False})
    assert sandbox.until_finished(name)["attempts"] == {"total": 6, "interruptions": 0, "retries": 0}


def test_kubectl_scale_up_and_down_while_running(sandbox: Sandbox) -> None:
    name = sandbox.create(job("scaled", [*gated(6), *free(18)], GATED_OK, map_={"maxParallel": 1}))
    sandbox.until(name, lambda status: status.get("active") == 1)
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=6")
    sandbox.until(name, lambda status: status["active"] == 6)
    pods = sandbox.until_running(6)
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=0")
    sandbox.until(name, lambda status: condition(status, "Progressing")["reason"] == "MaxParallelIsZero")
    sandbox.open_gates(pods)
    status = sandbox.until(name, lambda status: status["active"] == 0 and status["items"]["running"] == 0)
    assert (status["items"]["succeeded"], status["items"]["pending"]) == (6, 18)
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=12")
    status = sandbox.until_finished(name)
    assert status["attempts"] == {"total": 24, "interruptions": 0, "retries": 0}


def test_deleting_a_running_job_leaves_no_job(sandbox: Sandbox) -> None:
    name = sandbox.create(job("doomed", list(range(20)), ENDLESS, map_={"maxParallel": 5}))
    sandbox.until_running(5)
    sandbox.kubectl("delete", "mrj", name, "--timeout=180s")
    assert sandbox.jobs() == []
    sandbox.until_pods(lambda pods: not pods)


def delete_operators(grace_seconds: int) -> None:
    client.CoreV1Api().delete_collection_namespaced_pod(
        "mapreduce-system",
        label_selector="app.kubernetes.io/name=mapreduce-operator,app.kubernetes.io/component=operator",
        grace_period_seconds=grace_seconds,
    )


def test_the_operator_is_deleted_while_a_job_runs_and_each_item_counts_once(sandbox: Sandbox) -> None:
    name = sandbox.create(job("survivor", list(range(30)), SLOW, map_={"maxParallel": 6}))
    for done, grace in ((3, 0), (14, 30)):
        assert "completionTime" not in sandbox.until_succeeded(name, done)
        delete_operators(grace)
    status = sandbox.until_finished(name, 400)
    assert status["phase"] == "Succeeded"
    assert status["items"]["succeeded"] == 30
    assert status["attempts"] == {"total": 30, "interruptions": 0, "retries": 0}
    sandbox.until_no_job()


def test_the_operator_is_deleted_while_a_redrive_runs_and_each_letter_is_run_once(sandbox: Sandbox) -> None:
    fails_at_first = f"""grep -q '"attempt":1,' /mapreduce/context.json && exit 1; {SLOW}"""
    name = sandbox.create(job("redriven", list(range(8)), fails_at_first, map_={"retry": {"maxAttempts": 1}}))
    sandbox.until_finished(name)
    sandbox.until_queued(name, open=8)
    sandbox.create(redrive("again", name, {"all": True}, parallelism=4))
    sandbox.until("again", lambda status: status.get("selected") == 8, of=REDRIVES)
    delete_operators(0)
    answer = sandbox.until_redriven("again")
    assert (answer["succeeded"], answer["failed"], answer["skipped"]) == (8, 0, 0)
    status = sandbox.until(name, lambda status: status["phase"] == "Succeeded")
    assert status["attempts"] == {"total": 16, "interruptions": 0, "retries": 0}
    sandbox.until_queued(name, open=0, resolved=8)


def test_a_corrected_template_serves_from_then_on(sandbox: Sandbox) -> None:
    # The first item fails at once, the second when the template is corrected already; it was launched before.
    fails = GATED_OK + "exit 1"
    items = [*free(1), *gated(1), "late 1", "late 2"]
    name = sandbox.create(job("corrected", items, fails, map_={"maxParallel": 1, "retry": {"maxAttempts": 1}}))
    before = sandbox.until(name, lambda s: s.get("items", {}).get("deadLettered", 0) == 1)["templateRevisions"]["map"]
    pods = sandbox.until_running(1)
    template = json.loads(json.dumps(sandbox.get(name)["spec"]["map"]["template"]))
    template["spec"]["containers"][0]["command"][2] = GATED_OK
    sandbox.patch(name, {"map": {"template": template}})
    sandbox.until(name, lambda status: status["templateRevisions"]["map"] != before)
    sandbox.open_gates(pods)
    status = sandbox.until_finished(name)
    assert (status["items"]["succeeded"], status["items"]["deadLettered"]) == (2, 2)
