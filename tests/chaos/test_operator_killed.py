"""The operator dies again and again; its agents do not, and what they did is counted once."""

import logging
import random
import time

import pytest

from tests.chaos.operator_pods import OperatorPods
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Sandbox

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

log = logging.getLogger(__name__)

ITEMS = 60
DEATHS = 10


def test_an_operator_killed_ten_times_counts_each_item_once(
    sandbox: Sandbox, witness: Witness, operator: OperatorPods, chance: random.Random
) -> None:
    sandbox.create(witness.listener.job("killed", ITEMS))
    # After so many ends of agents, and up to a second: anywhere between two writes.
    for ends in sorted(chance.sample(range(1, ITEMS), DEATHS)):
        witness.until(f"{ends} ends", lambda ends=ends: len(witness.ended) >= ends)  # type: ignore[misc]
        time.sleep(chance.random())
        leader = operator.leader()
        # A container that dies a second time is not started again at once, a pod that is deleted is.
        if leader.pod.status.container_statuses[0].restart_count == 0 and chance.random() < 0.5:
            operator.kill(leader)
            how = "killed"
        else:
            operator.delete(leader)
            how = "deleted"
        log.info("%s %s when %d agents had ended", how, leader.pod_name, len(witness.ended))
    status = witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS)
    log.info("%d Jobs, %d attempts; the status says %s", len(witness.jobs), len(witness.ended), status["attempts"])
