"""What a user does to a running job, and what happens to the operator meanwhile."""

import json

import pytest
from kubernetes import client

from tests.e2e.sandbox import Sandbox, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

SLOW = """sleep 4; echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE" """
ENDLESS = "sleep 3600"


def alive(sandbox: Sandbox) -> int:
    return sum(not (job.status.succeeded or job.status.failed) for job in sandbox.jobs())


def test_suspend_interrupts_and_resume_goes_on(sandbox: Sandbox) -> None:
    name = sandbox.create(job("paused", list(range(6)), SLOW, map_={"maxParallel": 3}, suspendPolicy="Interrupt"))
    sandbox.until_pods(lambda pods: sum(pod.status.phase == "Running" for pod in pods) == 3)
    sandbox.patch(name, {"suspend": True})
    status = sandbox.until(name, lambda status: status["phase"] == "Paused" and status["active"] == 0)
    sandbox.until_pods(lambda pods: not pods)
    assert condition(status, "Suspended")["status"] == "True"
    sandbox.patch(name, {"suspend": False})
    status = sandbox.until_finished(name)
    assert status["items"]["succeeded"] == 6
    assert status["attempts"]["total"] == 6
    assert status["attempts"]["interruptions"] > 0


def test_suspend_with_drain_lets_agents_end(sandbox: Sandbox) -> None:
    name = sandbox.create(job("drained", list(range(6)), SLOW, map_={"maxParallel": 2}))
    sandbox.until(name, lambda status: status.get("active") == 2)
    sandbox.patch(name, {"suspend": True})
    status = sandbox.until(name, lambda s: s["phase"] == "Paused" and s["active"] == 0 and s["items"]["running"] == 0)
    assert status["attempts"]["interruptions"] == 0
    assert status["items"]["succeeded"] == status["attempts"]["total"] < 6
    sandbox.patch(name, {"suspend": False})
    assert sandbox.until_finished(name)["attempts"] == {"total": 6, "interruptions": 0}


def test_kubectl_scale_up_and_down_while_running(sandbox: Sandbox) -> None:
    name = sandbox.create(job("scaled", list(range(24)), SLOW, map_={"maxParallel": 1}))
    sandbox.until(name, lambda status: status.get("active") == 1)
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=6")
    sandbox.until(name, lambda status: status["active"] == 6)
    assert alive(sandbox) <= 6
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=0")
    sandbox.until(name, lambda status: status["active"] == 0)
    sandbox.kubectl("scale", f"mrj/{name}", "--replicas=12")
    status = sandbox.until_finished(name)
    assert status["attempts"] == {"total": 24, "interruptions": 0}


def test_deleting_a_running_job_leaves_no_job(sandbox: Sandbox) -> None:
    name = sandbox.create(job("doomed", list(range(20)), ENDLESS, map_={"maxParallel": 5}))
    sandbox.until_pods(lambda pods: sum(pod.status.phase == "Running" for pod in pods) == 5)
    sandbox.kubectl("delete", "mrj", name, "--timeout=60s")
    assert sandbox.jobs() == []
    sandbox.until_pods(lambda pods: not pods)


def test_the_operator_is_deleted_while_a_job_runs_and_each_item_counts_once(sandbox: Sandbox) -> None:
    core = client.CoreV1Api()
    name = sandbox.create(job("survivor", list(range(30)), SLOW, map_={"maxParallel": 6}))
    for done, grace in ((3, 0), (14, 30)):
        sandbox.until_succeeded(name, done)
        core.delete_collection_namespaced_pod(
            "mapreduce-system", label_selector="app.kubernetes.io/name=mapreduce-operator", grace_period_seconds=grace
        )
    status = sandbox.until_finished(name, 150)
    assert status["phase"] == "Succeeded"
    assert status["items"]["succeeded"] == 30
    assert status["attempts"] == {"total": 30, "interruptions": 0}
    assert sandbox.jobs() == []


def test_an_evicted_pod_is_an_interruption(sandbox: Sandbox) -> None:
    name = sandbox.create(job("evicted", [1], "sleep 8; echo 1 > /mapreduce/result.json"))
    (pod,) = sandbox.until_pods(lambda pods: len(pods) == 1 and pods[0].status.phase == "Running")
    client.CoreV1Api().create_namespaced_pod_eviction(
        pod.metadata.name, sandbox.namespace, client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name))
    )
    status = sandbox.until_finished(name)
    assert status["attempts"] == {"total": 1, "interruptions": 1}


def test_a_corrected_template_serves_from_then_on(sandbox: Sandbox) -> None:
    name = sandbox.create(
        job("corrected", list(range(4)), "exit 1", map_={"maxParallel": 1, "retry": {"maxAttempts": 1}})
    )
    before = sandbox.until(name, lambda s: s.get("items", {}).get("deadLettered", 0) >= 1)["templateRevisions"]["map"]
    template = json.loads(json.dumps(sandbox.get(name)["spec"]["map"]["template"]))
    template["spec"]["containers"][0]["command"][2] = SLOW
    sandbox.patch(name, {"map": {"template": template}})
    status = sandbox.until_finished(name)
    assert status["items"]["succeeded"] >= 1
    assert status["templateRevisions"]["map"] != before
