"""From what a real cluster has shown of pods that did not start, or ended badly, to what is concluded from it.

Recorded on Kubernetes 1.34 with containerd 1.6, one list of distinct states per case; times, ids and other conditions
are left out.
"""

import json
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from mapreduce_operator.adapters.kube import wire
from mapreduce_operator.api import Reason
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.failures import outcome_of_pod
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.startup import Startup
from mapreduce_operator.core.workloads import PodSeen
from tests.unit.adapters.kube.objects import pod

SEEN: Final[dict[str, list[dict[str, Any]]]] = json.loads(Path(__file__).with_name("pods_seen.json").read_text())
PENDING_SECONDS: Final = {Stage.MAP: 300.0, Stage.REDUCE: 300.0}

ENDED: Final = {
    "image-missing-until-deadline": Reason.IMAGE_UNAVAILABLE,
    "image-missing-deleted": Reason.IMAGE_UNAVAILABLE,
    "init-image-missing-until-deadline": Reason.IMAGE_UNAVAILABLE,
    "secret-of-volume-missing-until-deadline": Reason.NOT_STARTED,
    "secret-of-volume-missing-deleted": Reason.DELETED,
    "command-missing": Reason.CONFIGURATION_ERROR,
    "command-not-executable": Reason.CONFIGURATION_ERROR,
    "mount-over-a-file": Reason.CONFIGURATION_ERROR,
    "init-command-missing": Reason.CONFIGURATION_ERROR,
    "sysctl-forbidden": Reason.CONFIGURATION_ERROR,
    "node-without-room": Reason.NODE_LOST,
    "init-fails": Reason.INIT_FAILED,
    "init-fails-after-sidecar": Reason.INIT_FAILED,
    "init-out-of-memory": Reason.INIT_FAILED,
    "init-until-deadline": Reason.DEADLINE_EXCEEDED,
    "deadline": Reason.DEADLINE_EXCEEDED,
    "succeeds": None,
    "out-of-memory": Reason.OOM_KILLED,
    "child-out-of-memory": Reason.OOM_KILLED,
    "storage-of-container-exceeded": Reason.STORAGE_EXCEEDED,
    "storage-of-volume-exceeded": Reason.STORAGE_EXCEEDED,
    "exits-143": Reason.KILLED,
    "liveness-probe-fails": Reason.KILLED,
    "hook-fails": Reason.KILLED,
    "error-report-and-137": Reason.ERROR,
    "exits-139": Reason.ERROR,
}
STUCK: Final = {
    "image-missing": Reason.IMAGE_UNAVAILABLE,
    "image-never-pulled": Reason.IMAGE_UNAVAILABLE,
    "image-name-invalid": Reason.IMAGE_UNAVAILABLE,
    "init-image-missing": Reason.IMAGE_UNAVAILABLE,
    "sidecar-image-missing": Reason.IMAGE_UNAVAILABLE,
    "secret-of-variable-missing": Reason.CONFIGURATION_ERROR,
    "init-secret-missing": Reason.CONFIGURATION_ERROR,
    "runs-as-root": Reason.CONFIGURATION_ERROR,
    "secret-of-volume-missing": Reason.NOT_STARTED,
    "memory-limit-too-low-to-start": Reason.NOT_STARTED,
}
UNSCHEDULABLE: Final = ("unschedulable", "scheduling-gated", "claim-missing")


def views(case: str) -> list[PodSeen]:
    found = []
    for seen in SEEN[case]:
        body = pod(deletionTimestamp="2025-06-01T10:01:00Z") if seen["deleting"] else pod()
        body["status"] = seen["status"]
        view = wire.pod_seen(msgspec.json.decode(json.dumps(body), type=wire.Pod))
        assert view is not None
        found.append(view)
    return found


def test_every_case_is_looked_at() -> None:
    assert set(SEEN) == {*ENDED, *STUCK, *UNSCHEDULABLE}


@pytest.mark.parametrize(("case", "reason"), ENDED.items(), ids=ENDED.keys())
def test_a_pod_that_ended(case: str, reason: Reason | None) -> None:
    startup = Startup()
    states = views(case)
    ended = [state for state in states if state.ended]
    for state in states:
        if not state.ended:
            startup.observe(state, 0.0)

    # Whichever of its last states is the first to be seen.
    found = [startup.explained(outcome_of_pod(state, ResultRule(required=False), 1.0)).reason for state in ended]

    assert found
    assert set(found) == {reason}


@pytest.mark.parametrize(("case", "reason"), STUCK.items(), ids=STUCK.keys())
def test_a_pod_that_never_starts_is_given_up_in_time(case: str, reason: Reason) -> None:
    startup = Startup()
    for second, state in enumerate(views(case)):
        startup.observe(state, float(second))

    assert startup.overdue(299.0, PENDING_SECONDS) == []
    assert [one.job for one in startup.overdue(310.0, PENDING_SECONDS)] == ["licence-words-abcdefghij-d2"]
    told = startup.problem(Stage.MAP, "5f1c", items=1)
    assert told is not None
    assert told[0] == reason


@pytest.mark.parametrize("case", UNSCHEDULABLE)
def test_a_pod_without_a_node_waits_as_long_as_it_takes(case: str) -> None:
    startup = Startup()
    for state in views(case):
        startup.observe(state, 0.0)

    assert startup.overdue(1e9, PENDING_SECONDS) == []
    told = startup.unschedulable()
    assert told is not None
    assert SEEN[case][-1]["status"]["conditions"][0]["message"] in told[1]


def test_a_pod_that_starts_in_order_is_no_trouble() -> None:
    startup = Startup()
    for state in views("succeeds"):
        if not state.ended:
            startup.observe(state, 0.0)

    assert startup.overdue(1e9, PENDING_SECONDS) == []
    assert startup.problem(Stage.MAP, "5f1c", items=1) is None
    assert startup.unschedulable() is None
