"""Two operators, one of which leads, and what becomes of a leader that is gone or only seems to be."""

import logging
import random
import time

import pytest

from tests.chaos.operator_pods import OperatorPods
from tests.chaos.witness import Witness
from tests.e2e.sandbox import Sandbox

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

log = logging.getLogger(__name__)

ITEMS = 30


def test_the_other_replica_takes_over_from_one_that_died(
    sandbox: Sandbox, witness: Witness, operator: OperatorPods, chance: random.Random
) -> None:
    sandbox.create(witness.listener.job("taken-over", ITEMS))
    ends = chance.randrange(5, ITEMS // 2)
    witness.until(f"{ends} ends", lambda: len(witness.ended) >= ends)
    leader = operator.leader()
    others = {pod.metadata.name for pod in operator.all()} - {leader.pod_name}
    epoch = witness.epoch
    # Its pod goes, too: its container would be started again, and might lead again.
    operator.kill(leader)
    died = time.monotonic()
    operator.delete(leader)
    witness.until("a status written by another leader", lambda: witness.epoch > epoch)
    seconds = time.monotonic() - died
    jobs = len(witness.jobs)
    witness.until("another Job", lambda: len(witness.jobs) > jobs)
    log.info(
        "after %d ends, %s with epoch %d died; epoch %d wrote after %.1f s, its Job was seen after %.1f s",
        ends, leader.pod_name, epoch, witness.epoch, seconds, time.monotonic() - died,
    )  # fmt: skip
    assert seconds < 30
    assert operator.leader().pod_name in others
    witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS)


def test_a_leader_that_comes_back_after_it_was_replaced_ends_and_changes_nothing(
    sandbox: Sandbox, witness: Witness, operator: OperatorPods, chance: random.Random
) -> None:
    sandbox.create(witness.listener.job("deposed", ITEMS))
    ends = chance.randrange(5, ITEMS // 2)
    witness.until(f"{ends} ends", lambda: len(witness.ended) >= ends)
    leader = operator.leader()
    time.sleep(chance.random())
    epoch = witness.epoch
    leader.process.signal("STOP")
    seconds = witness.until("a status written by another leader", lambda: witness.epoch > epoch)
    log.info("stopped %s with epoch %d; epoch %d wrote after %.1f s", leader.pod_name, epoch, witness.epoch, seconds)
    # Its successor is at work when it goes on, with everything in mind that it was about to do.
    jobs = len(witness.jobs)
    witness.until("another Job", lambda: len(witness.jobs) > jobs)
    leader.process.signal("CONT")
    assert operator.exit_code_of_next_end(leader) == 1
    witness.until_finished()
    sandbox.until_no_job()
    witness.assert_each_item_counted_once(ITEMS)
    epochs = [one.status.get("leaderEpoch", 0) for one in witness.written]
    log.info(
        "%d statuses of the leader that was stopped, then %d of its successor",
        epochs.count(epoch),
        epochs.count(witness.epoch),
    )
