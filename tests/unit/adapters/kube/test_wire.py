import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mapreduce_operator.adapters.kube import wire
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen
from tests.unit.adapters.kube.objects import (
    JOB_UID,
    LABELS,
    POD_UID,
    RUN_UID,
    condition,
    job,
    pod,
    running,
    terminated,
    waiting,
)

CARRIED = Carried(RUN_UID, Stage.MAP, (Dispatch("abcdefghij", 2),), "5f1c")
EVICTED = condition("DisruptionTarget", reason="EvictionByEvictionAPI", message="Eviction API: evicting")


def job_view(body: dict[str, Any]) -> JobSeen | None:
    return wire.job_seen(msgspec.json.decode(json.dumps(body), type=wire.Job))


def pod_view(body: dict[str, Any], *, gone: bool = False) -> PodSeen | None:
    return wire.pod_seen(msgspec.json.decode(json.dumps(body), type=wire.Pod), gone=gone)


def seen_pod(body: dict[str, Any], *, gone: bool = False) -> PodSeen:
    view = pod_view(body, gone=gone)
    assert view is not None
    return view


# ---------------------------------------------------------------------------------------------------------------- Jobs


def test_a_running_job() -> None:
    assert job_view(job()) == JobSeen(
        namespace="team-a",
        name="licence-words-abcdefghij-d2",
        uid=JOB_UID,
        owner_uid=RUN_UID,
        carried=CARRIED,
    )


def test_a_complete_job() -> None:
    view = job_view(job(condition("SuccessCriteriaMet"), condition("Complete")))

    assert view is not None
    assert (view.complete, view.failed_reason, view.finished) == (True, None, True)


def test_a_job_whose_pods_are_still_ending_is_not_complete() -> None:
    view = job_view(job(condition("SuccessCriteriaMet")))

    assert view is not None
    assert not view.finished


@pytest.mark.parametrize("kind", ["Failed", "FailureTarget"])
def test_a_failed_job_tells_the_reason(kind: str) -> None:
    view = job_view(job(condition(kind, reason="BackoffLimitExceeded", message="Job has reached the limit")))

    assert view is not None
    assert (view.failed_reason, view.failed_message) == ("BackoffLimitExceeded", "Job has reached the limit")
    assert view.finished


def test_failed_is_heard_before_its_announcement() -> None:
    view = job_view(job(condition("FailureTarget", reason="PodFailurePolicy"), condition("Failed", reason="Later")))

    assert view is not None
    assert view.failed_reason == "Later"


def test_a_condition_that_is_not_true_says_nothing() -> None:
    view = job_view(job(condition("Failed", "False", "BackoffLimitExceeded"), condition("Complete", "Unknown")))

    assert view is not None
    assert not view.finished


def test_a_job_that_is_being_deleted() -> None:
    view = job_view(job(deletionTimestamp="2025-06-01T10:01:00Z"))

    assert view is not None
    assert view.deleting


def test_a_job_without_a_controlling_owner() -> None:
    view = job_view(job(ownerReferences=[{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]))

    assert view is not None
    assert view.owner_uid == ""


def test_a_job_without_status_is_a_new_one() -> None:
    body = job()
    body["status"] = {}

    view = job_view(body)

    assert view is not None
    assert not view.finished


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {"app.kubernetes.io/managed-by": "mapreduce-operator"},
        LABELS | {"mapreduce.dev/dispatch": "two"},
        LABELS | {"mapreduce.dev/stage": "shuffle"},
    ],
)
def test_what_does_not_carry_our_labels_is_not_ours(labels: dict[str, str] | None) -> None:
    assert job_view(job(labels=labels)) is None
    assert pod_view(pod(labels=labels)) is None


# ---------------------------------------------------------------------------------------------------------------- pods


def test_a_pod_that_succeeded_with_a_result() -> None:
    body = pod("Succeeded", terminated("aside", exitCode=7), terminated("agent", message='{"words": 5644}'))

    assert pod_view(body) == PodSeen(
        namespace="team-a",
        name="licence-words-abcdefghij-d2-x7k2p",
        uid=POD_UID,
        job="licence-words-abcdefghij-d2",
        job_uid=JOB_UID,
        started=True,
        carried=CARRIED,
        phase="Succeeded",
        node="node-1",
        agent=ContainerEnd(
            exit_code=0,
            reason="Completed",
            message='{"words": 5644}',
            started_at=1748772002.0,
            finished_at=1748772012.0,
        ),
    )


def test_a_pod_whose_agent_failed() -> None:
    view = seen_pod(pod("Failed", terminated(exitCode=3, reason="Error", message="Traceback …")))

    assert view.agent is not None
    assert (view.agent.exit_code, view.agent.reason, view.agent.message) == (3, "Error", "Traceback …")
    assert view.ended


def test_a_pod_whose_agent_was_killed_for_its_memory() -> None:
    view = seen_pod(pod("Failed", terminated(exitCode=137, reason="OOMKilled", signal=9)))

    assert view.agent is not None
    assert (view.agent.exit_code, view.agent.signal, view.agent.reason) == (137, 9, "OOMKilled")


def test_a_pod_that_was_evicted() -> None:
    body = pod(
        "Failed",
        terminated(exitCode=143, reason="Error"),
        status={"conditions": [condition("PodScheduled"), condition("Ready", "False", "PodFailed"), EVICTED]},
        deletionTimestamp="2025-06-01T10:00:30Z",
        deletionGracePeriodSeconds=30,
    )

    view = seen_pod(body)

    assert view.disruption == "EvictionByEvictionAPI"
    assert view.deleting
    assert view.ended


def test_a_pod_that_the_kubelet_evicted_before_its_containers_began() -> None:
    body = pod(
        "Failed",
        status={
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [condition("DisruptionTarget", reason="TerminationByKubelet")],
            "containerStatuses": None,
        },
    )

    view = seen_pod(body)

    assert (view.reason, view.message) == ("Evicted", "The node was low on resource: memory.")
    assert view.disruption == "TerminationByKubelet"
    assert view.agent is None


def test_a_disruption_that_is_not_true_is_none() -> None:
    view = seen_pod(pod(status={"conditions": [EVICTED | {"status": "False"}]}))

    assert view.disruption == ""


def test_a_pod_that_exceeded_its_deadline() -> None:
    body = pod(
        "Failed",
        terminated(exitCode=137, reason="Error"),
        status={"reason": "DeadlineExceeded", "message": "Pod was active on the node longer than the deadline"},
    )

    view = seen_pod(body)

    assert view.reason == "DeadlineExceeded"
    assert view.agent is not None


def test_a_pod_knows_its_deadline_and_how_long_its_containers_get_to_stop() -> None:
    body = pod("Running", status={"startTime": "2025-06-01T10:00:01Z"})
    body["spec"] |= {"activeDeadlineSeconds": 60, "terminationGracePeriodSeconds": 7}

    assert seen_pod(body).deadline == datetime(2025, 6, 1, 10, 1, 1, tzinfo=UTC).timestamp()
    assert seen_pod(body).stop_seconds == 7
    del body["status"]["startTime"]
    assert seen_pod(body).deadline == 0


@pytest.mark.parametrize(
    ("agent", "other", "outlived"),
    [
        (terminated(), running("aside"), True),
        (terminated(), terminated("aside"), False),
        (terminated(), waiting("aside"), False),
        (running("agent"), running("aside"), False),
        (running("agent"), terminated("aside"), False),
    ],
)
def test_a_pod_outlives_its_agent_while_another_container_runs(
    agent: dict[str, Any], other: dict[str, Any], outlived: bool
) -> None:
    assert seen_pod(pod("Running", other, agent)).outlived is outlived


def test_a_pod_that_waits_for_its_image() -> None:
    view = seen_pod(pod("Pending", waiting("aside"), waiting("agent", "ImagePullBackOff")))

    assert (view.phase, view.agent, view.ended) == ("Pending", None, False)
    assert (view.started, view.waiting) == (False, "ImagePullBackOff")


def test_a_pod_that_waits_for_its_image_says_what_its_kubelet_says() -> None:
    container = waiting("agent", "ErrImagePull")
    container["state"]["waiting"]["message"] = "connection refused"

    assert seen_pod(pod("Pending", container)).waiting_message == "connection refused"


def test_a_pod_whose_init_container_waits_for_its_image_waits_for_that() -> None:
    """Containers after it wait as well, for it."""
    inits = [
        terminated("first"),
        waiting("second", "ImagePullBackOff"),
        waiting("third", "PodInitializing"),
    ]

    view = seen_pod(pod("Pending", waiting(reason="PodInitializing"), status={"initContainerStatuses": inits}))

    assert (view.started, view.waiting, view.failed_init) == (False, "ImagePullBackOff", None)


def test_a_pod_whose_init_containers_are_in_order_waits_for_nothing_else() -> None:
    inits = [terminated("first"), waiting("second", "PodInitializing")]

    view = seen_pod(pod("Pending", waiting(reason="PodInitializing"), status={"initContainerStatuses": inits}))

    assert view.waiting == "PodInitializing"


def test_of_several_init_containers_the_last_that_failed_is_the_one_that_did() -> None:
    """A sidecar that began before it is killed after it."""
    inits = [
        terminated("sidecar", exitCode=137, reason="Error"),
        terminated("prepare", exitCode=7, reason="Error", message="cannot prepare"),
        waiting("more", "PodInitializing"),
    ]

    view = seen_pod(pod("Failed", waiting(reason="PodInitializing"), status={"initContainerStatuses": inits}))

    assert view.failed_init is not None
    assert (view.failed_init_name, view.failed_init.exit_code, view.failed_init.message) == (
        "prepare",
        7,
        "cannot prepare",
    )


def test_once_the_agent_runs_nothing_is_said_of_init_containers() -> None:
    inits = [terminated("sidecar", exitCode=137, reason="Error"), waiting("aside", "CrashLoopBackOff")]

    view = seen_pod(pod("Failed", terminated(exitCode=1), status={"initContainerStatuses": inits}))

    assert (view.started, view.waiting, view.failed_init, view.failed_init_name) == (True, "", None, "")


@pytest.mark.parametrize("started_at", [None, "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_a_container_that_could_not_be_started_has_not_started(started_at: str | None) -> None:
    """Its kubelet gives it an end all the same, with the zero time of whoever wrote it."""
    view = seen_pod(pod("Failed", terminated(exitCode=128, reason="StartError", startedAt=started_at)))

    assert view.agent is not None
    assert (view.started, view.agent.reason, view.agent.started_at) == (False, "StartError", 0.0)


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("Unschedulable", "0/3 nodes are available", "0/3 nodes are available"),
        ("SchedulingGated", "", "SchedulingGated"),
    ],
)
def test_a_pod_without_a_node_says_what_the_scheduler_says(reason: str, message: str, told: str) -> None:
    conditions = [condition("PodScheduled", "False", reason, message)]

    assert seen_pod(pod("Pending", status={"conditions": conditions})).unschedulable == told


def test_a_pod_that_has_a_node_is_not_unschedulable() -> None:
    conditions = [condition("PodScheduled", "True", message="of no interest")]

    assert seen_pod(pod("Pending", status={"conditions": conditions})).unschedulable == ""


@pytest.mark.parametrize(
    ("phase", "status", "preparing"),
    [("Pending", "False", True), ("Pending", "True", False), ("Failed", "False", False), ("Running", "True", False)],
)
def test_a_node_prepares_a_pod_before_it_pulls_images(phase: str, status: str, preparing: bool) -> None:
    conditions = [condition("PodScheduled"), condition("PodReadyToStartContainers", status)]

    assert seen_pod(pod(phase, status={"conditions": conditions})).preparing is preparing


def test_a_pod_that_was_never_scheduled_has_no_node() -> None:
    body = pod("Pending", status={"containerStatuses": None})
    del body["spec"]["nodeName"]

    assert seen_pod(body).node == ""


def test_an_earlier_end_of_a_restarted_agent_is_not_its_end() -> None:
    again = running() | {"restartCount": 1}
    again["lastState"] = terminated(exitCode=1)["state"]

    assert seen_pod(pod("Running", again)).agent is None


def test_a_deleted_pod_is_seen_in_its_last_state() -> None:
    view = seen_pod(pod("Running", waiting()), gone=True)

    assert view.gone
    assert view.ended
    assert view.phase == "Running"


def test_an_end_without_times_is_an_end() -> None:
    view = seen_pod(
        pod("Failed", terminated(exitCode=137, reason="ContainerStatusUnknown", startedAt=None, finishedAt=None))
    )

    assert view.agent is not None
    assert (view.agent.started_at, view.agent.finished_at) == (0.0, 0.0)


@pytest.mark.parametrize(
    "owners",
    [None, [], [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "x", "controller": True}]],
)
def test_a_pod_that_no_job_owns(owners: list[dict[str, Any]] | None) -> None:
    view = seen_pod(pod(ownerReferences=owners))

    assert (view.job, view.job_uid) == ("", "")


def test_a_pod_of_which_only_times_and_versions_changed_is_the_same() -> None:
    one = pod("Running", waiting())
    other = pod("Running", waiting() | {"ready": True}, resourceVersion="2003")

    assert pod_view(one) == pod_view(other)
