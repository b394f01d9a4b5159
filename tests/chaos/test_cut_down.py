"""One run loses all that it rests on, one after the other: the operator, its storage, the kubelet of its agents."""

import logging
import time
from itertools import groupby, pairwise

import pytest

from tests.chaos.machines import docker
from tests.chaos.operator_pods import OperatorPods
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Body, Sandbox, condition
from tests.seaweedfs import SeaweedFS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

log = logging.getLogger(__name__)

ITEMS = 60
PARALLEL = 10
AWAY_SECONDS = 30
CHECKPOINT: Body = {"everyItems": 4, "everySeconds": 8}


def test_a_run_that_is_cut_down_three_times_counts_each_item_once_and_saves_as_it_was_told(
    sandbox: Sandbox, witness: Witness, operator: OperatorPods, bucket: SeaweedFS
) -> None:
    # While none can end, nothing but the clock gives rise to a checkpoint; when all may go on, their number does.
    witness.listener.gate.clear()
    body = witness.listener.job("cut-down", ITEMS, map_={"maxParallel": PARALLEL})
    body["spec"]["checkpoint"] = CHECKPOINT
    sandbox.create(body)
    sandbox.until_running(PARALLEL)
    witness.until("a checkpoint by the clock", lambda: "Time" in reasons(witness))
    witness.listener.gate.set()
    witness.until("a checkpoint by the number of items", lambda: "Items" in reasons(witness))

    witness.until("15 ends", lambda: len(witness.ended) >= 15)
    leader, epoch = operator.leader(), witness.epoch
    operator.kill(leader)
    seconds = witness.until("a status written by another leader", lambda: witness.epoch > epoch)
    log.info("%s was killed; the next leader wrote after %.1f s", leader.pod_name, seconds)

    witness.until("25 ends", lambda: len(witness.ended) >= 25)
    bucket.kill()
    away = time.monotonic()
    witness.until("a condition that says so", lambda: healthy(witness)["status"] == "False")
    log.info("storage is away; the status said %s after %.1f s", healthy(witness)["reason"], time.monotonic() - away)
    witness.until("30 ends", lambda: len(witness.ended) >= 30)
    # Agents go on meanwhile, and some are to be left for the kubelet.
    witness.listener.gate.clear()
    time.sleep(max(0.0, away + AWAY_SECONDS - time.monotonic()))
    bucket.start()
    seconds = witness.until("a condition that it is back", lambda: healthy(witness)["status"] == "True")
    log.info("the status said that storage is back after %.1f s", seconds)

    nodes = {pod.spec.node_name for pod in sandbox.until_running(PARALLEL)}
    for node in nodes:
        docker("exec", node, "systemctl", "restart", "kubelet")
    log.info("%d kubelets were restarted when %d agents had ended", len(nodes), len(witness.ended))
    witness.listener.gate.set()

    status = witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS)
    assert status["phase"] == "Succeeded"
    assert healthy(witness)["reason"] == "Saved"
    saves = checkpoints(witness)
    log.info("checkpoints that the status showed: %s", [(one["sequence"], one["reason"]) for one in saves])
    assert all(one["sequence"] < next_["sequence"] for one, next_ in pairwise(saves))
    assert {"Items", "Time", "PhaseChange"} <= reasons(witness) <= {"Items", "Time", "PhaseChange", "Idle"}


def healthy(witness: Witness) -> Body:
    return condition(witness.status, "CheckpointHealthy")


def checkpoints(witness: Witness) -> list[Body]:
    """What the status said of them, each once."""
    shown = [
        {word: one.status["checkpoint"][word] for word in ("sequence", "reason", "time")}
        for one in witness.written
        if "checkpoint" in one.status
    ]
    return [one for one, _ in groupby(shown)]


def reasons(witness: Witness) -> set[str]:
    return {one["reason"] for one in checkpoints(witness)}
