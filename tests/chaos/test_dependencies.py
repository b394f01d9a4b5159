"""What the operator rests on goes away in the middle of a run: its storage, a bucket here, and the API server."""

import logging
import time
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.chaos.machines import address_that_pods_reach, process_of, repair_cluster
from tests.chaos.operator_pods import NAMESPACE, deploy
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Sandbox, condition
from tests.seaweedfs import ACCESS_KEY, SECRET_KEY, SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

log = logging.getLogger(__name__)

ITEMS = 30
SECRET = "chaos-storage"  # noqa: S105 - the name of one
AWAY_SECONDS = 30


@pytest.fixture(scope="module", autouse=True)
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


def test_storage_that_goes_away_holds_a_run_up_and_spoils_nothing(
    sandbox: Sandbox, witness: Witness, bucket: SeaweedFS
) -> None:
    sandbox.create(witness.listener.job("stored", ITEMS))
    witness.until("10 ends", lambda: len(witness.ended) >= 10)
    bucket.kill()
    away = time.monotonic()
    witness.until(
        "a condition that says so", lambda: condition(witness.status, "CheckpointHealthy")["status"] == "False"
    )
    said = time.monotonic() - away
    saved = witness.status["items"]["succeeded"]
    time.sleep(max(0.0, away + AWAY_SECONDS - time.monotonic()))
    assert witness.status["items"]["succeeded"] == saved
    bucket.start()
    log.info("storage away for %.1f s, which the status said after %.1f s", time.monotonic() - away, said)
    witness.until_finished()
    sandbox.until_no_job()
    assert condition(witness.status, "CheckpointHealthy")["status"] == "True"
    witness.assert_each_item_counted_once(ITEMS)


def test_a_restart_of_the_api_server_loses_nothing(sandbox: Sandbox, witness: Witness) -> None:
    sandbox.create(witness.listener.job("watched", ITEMS))
    witness.until("10 ends", lambda: len(witness.ended) >= 10)
    (pod,) = client.CoreV1Api().list_namespaced_pod("kube-system", label_selector="component=kube-apiserver").items
    process = process_of(pod)
    assert process is not None
    process.signal("KILL")
    killed, statuses = time.monotonic(), len(witness.written)
    witness.until("a status from after that", lambda: len(witness.written) > statuses, 120)
    log.info("the API server was killed; the next status came %.1f s later", time.monotonic() - killed)
    repair_cluster()
    assert process_of(pod) is None, "it is the same API server as before"
    witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS)
