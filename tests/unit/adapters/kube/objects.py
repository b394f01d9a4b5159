"""Jobs and pods as the API server writes them, taken from a real one and shortened where it does not matter."""

from typing import Any

JOB_UID = "6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11"
POD_UID = "f0b6a0d2-9a0e-4ad5-8f5e-0e1c2b3a4d55"
RUN_UID = "3b1c8e52-7c1c-4f3f-8a4e-51b0a7f0c001"

LABELS = {
    "app.kubernetes.io/managed-by": "mapreduce-operator",
    "mapreduce.dev/run-uid": RUN_UID,
    "mapreduce.dev/job": "licence-words",
    "mapreduce.dev/stage": "map",
    "mapreduce.dev/item-key": "abcdefghij",
    "mapreduce.dev/dispatch": "2",
    "mapreduce.dev/template-revision": "5f1c",
}


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": None,
        "lastTransitionTime": "2025-06-01T10:00:20Z",
        "reason": reason,
        "message": message,
    }


def job(*conditions: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "licence-words-abcdefghij-d2",
            "namespace": "team-a",
            "uid": JOB_UID,
            "resourceVersion": "1001",
            "generation": 1,
            "creationTimestamp": "2025-06-01T10:00:00Z",
            "labels": dict(LABELS),
            "annotations": {"mapreduce.dev/item": '{"file": "GPL-3"}'},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other-uid"},
                {
                    "apiVersion": "mapreduce.dev/v1alpha1",
                    "kind": "MapReduceJob",
                    "name": "licence-words",
                    "uid": RUN_UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                },
            ],
            "managedFields": [{"manager": "mapreduce-operator", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        }
        | metadata,
        "spec": {"parallelism": 1, "template": {"metadata": {"creationTimestamp": None}, "spec": {"containers": []}}},
        "status": {"conditions": list(conditions), "uncountedTerminatedPods": {}, "ready": 0, "terminating": 0},
    }


def waiting(name: str = "agent", reason: str = "ContainerCreating") -> dict[str, Any]:
    return {
        "name": name,
        "state": {"waiting": {"reason": reason}},
        "lastState": {},
        "ready": False,
        "restartCount": 0,
        "image": "example.org/agent:1",
        "imageID": "",
        "started": False,
    }


def running(name: str = "agent") -> dict[str, Any]:
    return waiting(name) | {"state": {"running": {"startedAt": "2025-06-01T10:00:02Z"}}, "ready": True, "started": True}


def terminated(name: str = "agent", **end: Any) -> dict[str, Any]:
    return waiting(name) | {
        "state": {
            "terminated": {
                "exitCode": 0,
                "reason": "Completed",
                "startedAt": "2025-06-01T10:00:02Z",
                "finishedAt": "2025-06-01T10:00:12Z",
                "containerID": "containerd://0123",
            }
            | end
        }
    }


def pod(
    phase: str = "Running",
    *containers: dict[str, Any],
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "licence-words-abcdefghij-d2-x7k2p",
            "generateName": "licence-words-abcdefghij-d2-",
            "namespace": "team-a",
            "uid": POD_UID,
            "resourceVersion": "2002",
            "creationTimestamp": "2025-06-01T10:00:01Z",
            "labels": LABELS
            | {"batch.kubernetes.io/controller-uid": JOB_UID, "job-name": "licence-words-abcdefghij-d2"},
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": "licence-words-abcdefghij-d2",
                    "uid": JOB_UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
            "finalizers": ["batch.kubernetes.io/job-tracking"],
        }
        | metadata,
        "spec": {
            "nodeName": "node-1",
            "containers": [
                {"name": "agent", "image": "example.org/agent:1", "resources": {}},
                {"name": "aside", "image": "example.org/aside:1", "resources": {}},
            ],
            "restartPolicy": "Never",
        },
        "status": {
            "phase": phase,
            "conditions": [condition("PodScheduled")],
            "hostIP": "172.18.0.2",
            "startTime": "2025-06-01T10:00:01Z",
            "containerStatuses": list(containers),
            "qosClass": "BestEffort",
        }
        | (status or {}),
    }


BOOKMARK: dict[str, Any] = {
    "kind": "Pod",
    "apiVersion": "v1",
    "metadata": {"resourceVersion": "3003", "creationTimestamp": None},
    "spec": {"containers": None},
    "status": {},
}
