"""The cluster of `make cluster-up`, whose nodes and whose operator are treated badly."""

import logging
import os
import random
import secrets
from collections.abc import Iterator

import pytest

from tests.chaos.machines import address_that_pods_reach
from tests.chaos.operator_pods import OperatorPods
from tests.chaos.witness import Witness
from tests.e2e.conftest import cluster, sandbox
from tests.e2e.sandbox import Sandbox

__all__ = ["cluster", "sandbox"]

log = logging.getLogger(__name__)
# It tells of each try while an API server is away.
logging.getLogger("urllib3").setLevel(logging.ERROR)


@pytest.fixture
def chance() -> random.Random:
    """What is random in a test; CHAOS_SEED=n repeats its choices, though not the cluster's timing."""
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbits(32))
    log.info("CHAOS_SEED=%d", seed)
    return random.Random(seed)


@pytest.fixture
def operator() -> OperatorPods:
    return OperatorPods()


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
