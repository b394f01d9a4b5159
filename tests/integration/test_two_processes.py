"""Two operators as real processes, on a real API server, with one Lease and one storage.

They watch a namespace of their own, in which there are no MapReduceJobs: the operator that is installed in the cluster
would work on them as well.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import CREATED_BY_TESTS, until

pytestmark = pytest.mark.cluster

LEASE = "mapreduce-operator"


def kubectl(*words: str, given: Any = None) -> str:
    text = None if given is None else json.dumps(given)
    return subprocess.run(["kubectl", *words], input=text, check=True, capture_output=True, text=True).stdout


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    def readiness(self) -> str:
        """Status and text of the probe, "" while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return f"{answer.status} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"
        except OSError:
            return ""

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    def leads(self) -> bool:
        return self.readiness().startswith("200 leading")

    def follows(self) -> bool:
        return self.readiness().startswith("200 following")

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, seconds: float = 20.0) -> int:
        return self.process.wait(seconds)


@dataclass(frozen=True, slots=True)
class Stage:
    """A namespace with a Lease that an earlier operator gave back, and a folder for storage."""

    namespace: str
    folder: Path
    started: list[Operator]

    def start(self, name: str, *, lease_seconds: int) -> Operator:
        port, log_file = free_port(), self.folder / f"{name}.log"
        environment = {
            **os.environ,
            "MAPREDUCE_STORAGE_URL": f"file://{self.folder}/storage",
            "MAPREDUCE_WATCH_NAMESPACE": self.namespace,
            "MAPREDUCE_LEASE_NAMESPACE": self.namespace,
            "MAPREDUCE_LEASE_SECONDS": str(lease_seconds),
            "MAPREDUCE_IDENTITY": name,
            "MAPREDUCE_PROBE_PORT": str(port),
            "MAPREDUCE_LOG_FORMAT": "text",
        }
        with log_file.open("wb") as log:
            process = subprocess.Popen([sys.executable, "-m", "mapreduce_operator"], env=environment, stderr=log)
        operator = Operator(name, process, port, log_file)
        self.started.append(operator)
        return operator

    def lease(self) -> Any:
        return json.loads(kubectl("-n", self.namespace, "get", "lease", LEASE, "-o", "json"))["spec"]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    namespace = f"mapreduce-leaders-{secrets.token_hex(4)}"
    kubectl(
        "create",
        "-f-",
        given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": CREATED_BY_TESTS}},
    )
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": namespace},
        "spec": {"leaseTransitions": 6},
    }
    kubectl("create", "-f-", given=lease)
    stage = Stage(namespace, tmp_path, [])
    try:
        yield stage
    finally:
        for operator in stage.started:
            operator.process.kill()
            operator.process.wait()
        kubectl("delete", "namespace", namespace, "--wait=false")


def within(seconds: float, condition: Callable[[], bool], operator: Operator, what: str) -> float:
    """Waits for it, as long as the operator lives; returns the seconds."""
    began = time.monotonic()
    until(lambda: condition() or operator.process.poll() is not None, f"{what}\n{operator.log}", seconds)
    assert operator.process.poll() is None, operator.log
    return time.monotonic() - began


def a_leader_and_followers(stage: Stage, number: int = 1, *, lease_seconds: int) -> tuple[Operator, list[Operator]]:
    operators = [stage.start(f"operator-{n}", lease_seconds=lease_seconds) for n in range(number + 1)]
    within(30, lambda: any(one.leads() for one in operators), operators[0], "one leads")
    (leader,) = (one for one in operators if one.leads())
    followers = [one for one in operators if one is not leader]
    for follower in followers:
        within(30, follower.follows, follower, f"{follower.name} follows")
    return leader, followers


def test_a_leader_that_is_killed_is_followed_in_less_than_half_a_minute(stage: Stage) -> None:
    leader, (follower,) = a_leader_and_followers(stage, lease_seconds=15)
    assert stage.lease()["holderIdentity"].startswith(f"{leader.name}_")
    assert stage.lease()["leaseTransitions"] == 7
    assert "mapreduce_leader 1.0" in leader.metrics()
    assert "mapreduce_leader 0.0" in follower.metrics()

    leader.tell(signal.SIGKILL)

    assert within(30, follower.leads, follower, f"{follower.name} leads") > 8
    assert stage.lease()["holderIdentity"].startswith(f"{follower.name}_")
    assert stage.lease()["leaseTransitions"] == 8


def test_a_leader_that_was_stopped_and_goes_on_after_the_takeover_ends_and_says_why(stage: Stage) -> None:
    leader, (follower,) = a_leader_and_followers(stage, lease_seconds=9)

    leader.tell(signal.SIGSTOP)
    within(20, follower.leads, follower, f"{follower.name} leads")
    leader.tell(signal.SIGCONT)

    assert leader.exit_code(5) == 1
    assert "deposed, so this process ends at once: the Lease was not renewed within 6 s" in leader.log
    assert "Traceback" not in leader.log
    assert stage.lease()["holderIdentity"].startswith(f"{follower.name}_")
    assert follower.leads()


def test_who_is_told_to_end_gives_the_lease_back(stage: Stage) -> None:
    leader, (follower, other) = a_leader_and_followers(stage, 2, lease_seconds=15)

    other.tell(signal.SIGTERM)
    assert other.exit_code(3) == 0
    assert leader.leads()

    leader.tell(signal.SIGTERM)
    leader.tell(signal.SIGTERM)
    within(5, follower.leads, follower, f"{follower.name} leads")
    assert leader.exit_code(5) == 0
    lines = leader.log.splitlines()
    saving, released = (
        next(n for n, line in enumerate(lines) if text in line) for text in ("saving", "gave the Lease")
    )
    assert saving < released
    assert not [line for line in lines if "Traceback" in line or " WARNING " in line or " ERROR " in line]
