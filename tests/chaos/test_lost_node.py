"""A node goes away with agents on it, and comes back."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from tests.chaos.machines import docker, repair_cluster
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Body, Sandbox

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

log = logging.getLogger(__name__)

ITEMS = 6
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def on_a_worker_if_there_is_one() -> Body:
    """The parts of a pod that let it run on any node, and leave one that is lost after 5 s rather than 5 min."""
    worker = {"matchExpressions": [{"key": CONTROL_PLANE, "operator": "DoesNotExist"}]}
    lost = [
        {"key": f"node.kubernetes.io/{word}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}
        for word in ("not-ready", "unreachable")
    ]
    return {
        "tolerations": [{"key": CONTROL_PLANE, "operator": "Exists", "effect": "NoSchedule"}, *lost],
        "affinity": {
            "nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": worker}]}
        },
    }


@pytest.fixture
def worker() -> Iterator[str]:
    nodes: list[Any] = client.CoreV1Api().list_node(label_selector=f"!{CONTROL_PLANE}").items
    (node,) = nodes
    yield node.metadata.name
    repair_cluster()


def test_items_on_a_lost_node_run_again_elsewhere_and_count_once(
    sandbox: Sandbox, witness: Witness, worker: str
) -> None:
    # No agent ends before the worker is back: none may have ended on it unseen.
    witness.listener.gate.clear()
    body = witness.listener.job("moved", ITEMS, map_={"maxParallel": ITEMS}, pod=on_a_worker_if_there_is_one())
    name = sandbox.create(body)
    pods = sandbox.until_running(ITEMS)
    assert {pod.spec.node_name for pod in pods} == {worker}
    witness.until("agents at work", lambda: len(witness.begun(1)) == ITEMS)
    docker("stop", worker)
    seconds = witness.until("their items at work again", lambda: len(witness.begun(2)) == ITEMS, 180)
    log.info("%s stopped: its %d items ran again %.0f s later", worker, ITEMS, seconds)
    pods = sandbox.until_running(ITEMS)
    assert worker not in {pod.spec.node_name for pod in pods}
    repair_cluster()
    witness.listener.gate.set()
    witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS, interruptions=ITEMS)
    reasons = sandbox.reasons(name)
    assert reasons & {"FirstNodeLost", "FirstEvicted"}
    log.info("interruptions: %d, announced as %s", witness.status["attempts"]["interruptions"], sorted(reasons))
