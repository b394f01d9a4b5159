"""What hardly ever happens: names that are taken, nodes that are lost."""

import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client

from mapreduce_operator.core.names import RunRef, Stage, item_key, job_name
from tests.e2e.sandbox import AGENT_IMAGE, GATED_OK, Sandbox, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_a_job_whose_name_is_taken_runs_when_it_is_free(sandbox: Sandbox) -> None:
    body = job("taken", [], GATED_OK, suspend=True, input={"items": ["one"], "idExpression": "item"})
    name = sandbox.create(body)
    uid = sandbox.get(name)["metadata"]["uid"]
    stranger = job_name(RunRef(sandbox.namespace, name, uid), item_key(uid, Stage.MAP, "one"), 1)
    sandbox.kubectl("create", "job", stranger, f"--image={AGENT_IMAGE}")
    sandbox.patch(name, {"suspend": False})

    status = sandbox.until(name, lambda status: condition(status, "Progressing")["reason"] == "JobNameTaken")

    assert f"delete job {stranger}" in condition(status, "Progressing")["message"]
    sandbox.kubectl("delete", "job", stranger)
    status = sandbox.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["attempts"]["total"] == 1


@pytest.fixture
def dead_node() -> Iterator[str]:
    """A node that nobody runs."""
    core = client.CoreV1Api()
    name = f"dead-{secrets.token_hex(4)}"
    core.create_node(client.V1Node(metadata=client.V1ObjectMeta(name=name)))
    yield name
    core.delete_node(name)


def test_an_agent_whose_kubelet_is_gone_is_given_up(sandbox: Sandbox, dead_node: str) -> None:
    body = job("lost", ["one"], GATED_OK, map_={"retry": {"maxInterruptions": 0}})
    body["spec"]["map"]["template"]["spec"]["nodeName"] = dead_node
    name = sandbox.create(body)
    (pod,) = sandbox.until_pods(lambda pods: len(pods) == 1)
    sandbox.kubectl("delete", "pod", pod.metadata.name, "--wait=false", "--grace-period=1")

    status = sandbox.until_finished(name)

    assert status["failuresByReason"] == {"NodeLost": 1}
    sandbox.until_no_job()
