"""The cluster of `make cluster-up`, whose nodes and whose operator are treated badly."""

import logging
import os
import random
import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.chaos.machines import address_that_pods_reach
from tests.chaos.operator_pods import NAMESPACE, OperatorPods, deploy
from tests.chaos.witness import Witness
from tests.e2e.conftest import cluster, sandbox
from tests.e2e.sandbox import Sandbox
from tests.seaweedfs import ACCESS_KEY, SECRET_KEY, SeaweedFS

__all__ = ["cluster", "sandbox"]

log = logging.getLogger(__name__)
# It tells of each try while an API server is away.
logging.getLogger("urllib3").setLevel(logging.ERROR)

SECRET = "chaos-storage"  # noqa: S105 - the name of one


@pytest.fixture
def chance() -> random.Random:
    """What is random in a test; CHAOS_SEED=n repeats its choices, though not the cluster's timing."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    log.info("CHAOS_SEED=%d", seed)
    return random.Random(seed)


@pytest.fixture
def operator() -> OperatorPods:
    return OperatorPods()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """The operator keeps its state in a bucket; afterwards it is as it was."""
    core = client.CoreV1Api()
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name=SECRET), string_data=keys)
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs"), address=address_that_pods_reach()) as seaweedfs:
        seaweedfs.make_bucket("state")
        core.create_namespaced_secret(NAMESPACE, secret)
        try:
            s3 = {"endpoint": seaweedfs.url, "region": "us-east-1", "existingSecret": SECRET}
            deploy("storage.url=s3://state/chaos", *(f"storage.s3.{key}={value}" for key, value in s3.items()))
            yield seaweedfs
        finally:
            deploy()
            core.delete_namespaced_secret(SECRET, NAMESPACE)


@pytest.fixture
def witness(request: pytest.FixtureRequest, sandbox: Sandbox, operator: OperatorPods) -> Iterator[Witness]:
    failed_before = request.session.testsfailed
    with Witness(sandbox.namespace, address_that_pods_reach()) as witness:
        yield witness
    if request.session.testsfailed > failed_before:
        for pod in operator.all():
            operator.keep_log(pod, previous=True)
            operator.keep_log(pod)
        print("\n".join(operator.logs), "\n", witness.account(), sep="\n")  # noqa: T201
