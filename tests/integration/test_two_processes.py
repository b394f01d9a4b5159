"""Two operators as real processes, on a real API server, with one Lease and one storage.

They watch a namespace of their own, in which there are no MapReduceJobs: the operator that is installed in the cluster
would work on them as well.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api.conftest import CREATED_BY_TESTS, until
from tests.ports import free_ports

pytestmark = pytest.mark.cluster

LEASE = "mapreduce-operator"


def kubectl(*words: str, given: Any = None) -> str:
    text = None if given is None else json.dumps(given)
    return subprocess.run(["kubectl", *words], input=text, check=True, capture_output=True, text=True).stdout


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    process: subprocess.Popen[bytes]
    port: int
    log_file: Path

    def readiness(self) -> str:
        """Status and text of the probe, "" while nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=10) as answer:
                return f"{answer.status} {answer.read().decode()}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code} {error.read().decode()}"
        except OSError:
            return ""

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
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

    def exit_code(self, seconds: float = 60.0) -> int:
        return self.process.wait(seconds)


@dataclass(frozen=True, slots=True)
class Stage:
    """A namespace with a Lease that an earlier operator gave back, and a folder for storage."""

    namespace: str
    folder: Path
    started: list[Operator]

    def start(self, name: str, *, lease_seconds: int) -> Operator:
        (port,) = free_ports(1)
        log_file = self.folder / f"{name}.log"
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


def within(seconds: float, condition: Callable[[], bool], operator: Operator, what: str) -> None:
    """Waits for it, as long as the operator lives."""
    until(lambda: condition() or operator.process.poll() is not None, f"{what}\n{operator.log}", seconds)
    assert operator.process.poll() is None, operator.log


def a_leader_and_followers(stage: Stage, number: int = 1, *, lease_seconds: int) -> tuple[Operator, list[Operator]]:
    operators = [stage.start(f"operator-{n}", lease_seconds=lease_seconds) for n in range(number + 1)]
    leading: list[Operator] = []

    def one_leads() -> bool:
        leading[:] = [one for one in operators if one.leads()]
        return bool(leading)

    within(120, one_leads, operators[0], "one leads")
    (leader,) = leading
    followers = [one for one in operators if one is not leader]
    for follower in followers:
        within(120, follower.follows, follower, f"{follower.name} follows")
    return leader, followers


def test_a_leader_that_is_killed_is_followed_in_less_than_half_a_minute(stage: Stage) -> None:
    leader, (follower,) = a_leader_and_followers(stage, lease_seconds=15)
    assert "mapreduce_leader 1.0" in leader.metrics()
    assert "mapreduce_leader 0.0" in follower.metrics()
    before = stage.lease()
    assert before["holderIdentity"].startswith(f"{leader.name}_")
    assert before["leaseTransitions"] == 7

    leader.tell(signal.SIGKILL)
    killed_at = datetime.now(UTC)

    within(90, follower.leads, follower, f"{follower.name} leads")
    after = stage.lease()
    assert after["holderIdentity"].startswith(f"{follower.name}_")
    assert after["leaseTransitions"] == 8
    # What the Lease says, and not when it was seen: on a busy machine, looking takes its time.
    renewed_at, acquired_at = map(datetime.fromisoformat, (before["renewTime"], after["acquireTime"]))
    assert acquired_at - renewed_at > timedelta(seconds=14), "it did not wait until the Lease had run out"
    assert acquired_at - killed_at < timedelta(seconds=30)


def test_a_leader_that_was_stopped_and_goes_on_after_the_takeover_ends_and_says_why(stage: Stage) -> None:
    leader, (follower,) = a_leader_and_followers(stage, lease_seconds=15)

    leader.tell(signal.SIGSTOP)
    within(90, follower.leads, follower, f"{follower.name} leads")
    leader.tell(signal.SIGCONT)

    assert leader.exit_code() == 1
    assert "deposed, so this process ends at once: the Lease was not renewed within 10 s" in leader.log
    assert "Traceback" not in leader.log
    assert stage.lease()["holderIdentity"].startswith(f"{follower.name}_")
    assert follower.leads()


def test_who_is_told_to_end_gives_the_lease_back(stage: Stage) -> None:
    leader, (follower, other) = a_leader_and_followers(stage, 2, lease_seconds=60)

    other.tell(signal.SIGTERM)
    assert other.exit_code() == 0
    assert leader.leads()

    leader.tell(signal.SIGTERM)
    leader.tell(signal.SIGTERM)
    within(50, follower.leads, follower, f"{follower.name} leads, long before the Lease would have run out")
    assert leader.exit_code() == 0
    lines = leader.log.splitlines()
    saving, released = (
        next(n for n, line in enumerate(lines) if text in line) for text in ("saving", "gave the Lease")
    )
    assert saving < released
    assert not [line for line in lines if "Traceback" in line or " WARNING " in line or " ERROR " in line]
