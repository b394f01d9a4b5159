"""What the operator rests on goes away in the middle of a run: its storage, a bucket here, and the API server."""

import logging
import time

import pytest
from kubernetes import client

from tests.chaos.machines import process_of, repair_cluster
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Sandbox, condition
from tests.seaweedfs import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400), pytest.mark.usefixtures("bucket")]

log = logging.getLogger(__name__)

ITEMS = 30
AWAY_SECONDS = 30


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
