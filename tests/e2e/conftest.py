"""The cluster of `make cluster-up` with the operator of `make deploy`, and a namespace for each test."""

import secrets
import subprocess
from collections.abc import Iterator

import pytest
from kubernetes import client, config

from tests.e2e.sandbox import Sandbox


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Fails, rather than skips, where no cluster is: a green run must have run."""
    config.load_kube_config()  # type: ignore[no-untyped-call]
    client.CoreV1Api().list_node(_request_timeout=60)


def namespace(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A namespace that enforces the restricted Pod Security Standard: agents must pass it without asking for more."""
    core = client.CoreV1Api()
    name = f"e2e-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=labels)))
    # A pod needs it, and it comes a moment after the namespace.
    sandbox = Sandbox(name)
    sandbox.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=180s")
    failed_before = request.session.testsfailed
    yield sandbox
    if request.session.testsfailed > failed_before:
        _dump(name)
    sandbox.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


sandbox = pytest.fixture(namespace, name="sandbox")
shared = pytest.fixture(namespace, name="shared", scope="module")
"""One for all tests of a module, so that what they look at can run at the same time."""


def _dump(namespace: str) -> None:
    for command in (
        ["kubectl", "describe", "mrj,dlq,redrives", "--namespace", namespace],
        ["kubectl", "get", "jobs,pods", "--namespace", namespace, "--output", "wide"],
        ["kubectl", "logs", "--namespace", "mapreduce-system", "deployment/mapreduce-operator", "--tail", "60"],
    ):
        print(f"\n$ {' '.join(command)}", flush=True)  # noqa: T201
        subprocess.run(command, check=False, timeout=120)
