"""The two that run the same Jobs: the installed operator, and a client that does nothing but that."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubernetes import client

from mapreduce_operator.api import MapReduceJob
from mapreduce_operator.core.jobs import manifest, prepare
from mapreduce_operator.core.names import LABEL_MANAGED_BY, RunRef, Stage
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.workloads import Dispatch
from tests.bench import bare_client
from tests.bench.figures import Figures, cpu_in, seconds, writes_in
from tests.bench.simulated_nodes import LABEL, kubectl, only_there

GROUP, VERSION, PLURAL = "mapreduce.dev", "v1alpha1", "mapreducejobs"
SYSTEM: Final = "mapreduce-system"
OPERATOR: Final = "mapreduce-operator"
NAME: Final = "benchmark"
_OWN: Final = {"POST jobs", "DELETE jobs"}
"""Written by the contestant alone: controllers change Jobs, but neither make nor delete them here."""
_POLL_SECONDS: Final = 0.5

Progress = Callable[[int], None]
"""Called with the number of items that have ended."""


def benchmark_job(items: int, window: int) -> dict[str, Any]:
    """The MapReduceJob of the benchmark: the defaults, but for the window."""
    template = {"spec": {"containers": [{"name": "agent", "image": "localhost/simulated"}], **only_there()}}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "MapReduceJob",
        "metadata": {"name": NAME},
        "spec": {
            "input": {"items": [{"number": number} for number in range(items)]},
            "map": {"template": template, "maxParallel": window},
        },
    }


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    kubectl("create", "namespace", name)
    try:
        kubectl("wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=30s")
        yield name
    finally:
        # The next run shall find a quiet cluster.
        kubectl("delete", "namespace", name, "--timeout=120s")


@dataclass(frozen=True, slots=True)
class _Cost:
    """What the cluster has done since its start, or since an earlier moment."""

    writes: Counter[str]
    cpu_ticks: Counter[str]

    @classmethod
    def so_far(cls) -> "_Cost":
        node = kubectl("get", "nodes", "--selector", f"!{LABEL}", "--output=jsonpath={.items[*].metadata.name}")
        # Processes come and go while they are listed.
        stats = subprocess.run(
            ["docker", "exec", node, "sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || true"],
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        ).stdout
        return cls(writes_in(kubectl("get", "--raw", "/metrics")), cpu_in(stats))

    def since(self, before: "_Cost") -> "_Cost":
        return _Cost(self.writes - before.writes, self.cpu_ticks - before.cpu_ticks)


def _wait_until_pods_are_gone(namespace: str) -> None:
    """The end of a Job is followed by that of its pod, which is part of its cost."""
    core = client.CoreV1Api()
    while core.list_namespaced_pod(namespace, limit=1).items:
        time.sleep(_POLL_SECONDS)


# ------------------------------------------------------------------------------------------------------------ operator


@dataclass(frozen=True, slots=True)
class _Process:
    """The operator's process, as its own /proc tells."""

    cpu_seconds: float
    peak_bytes: int
    written_bytes: int

    @classmethod
    def of(cls, pod: str) -> "_Process":
        text = kubectl(
            *("exec", "--namespace", SYSTEM, pod, "--", "cat", "/proc/1/stat", "/proc/1/status", "/proc/1/io")
        )
        stat, *lines = text.splitlines()
        values = dict(line.split(":", 1) for line in lines)
        return cls(
            cpu_seconds=seconds(cpu_in(stat).total()),
            peak_bytes=int(values["VmHWM"].split()[0]) * 1024,
            written_bytes=int(values["wchar"]),
        )


def restart_operator() -> None:
    """A process whose peak is its own, not that of an earlier run."""
    kubectl("rollout", "restart", "deployment", OPERATOR, "--namespace", SYSTEM)
    kubectl("rollout", "status", "deployment", OPERATOR, "--namespace", SYSTEM, "--timeout=120s")


def check_window(window: int) -> None:
    """Fails early where the operator would not go as far as the bare client."""
    cap = int(_operator_environment()["MAPREDUCE_MAX_ACTIVE_JOBS"])
    if window > cap:
        raise SystemExit(
            f"error: the operator runs {cap} Jobs at once (operator.maxActiveJobs): --window {window} is more"
        )


def _operator_environment() -> dict[str, str]:
    return {one["name"]: one["value"] for one in _operator_container()["env"] if "value" in one}


def _operator_container() -> dict[str, Any]:
    deployment = json.loads(kubectl("get", "deployment", OPERATOR, "--namespace", SYSTEM, "--output=json"))
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def _operator_pods() -> list[str]:
    selector = f"app.kubernetes.io/name={OPERATOR},app.kubernetes.io/component=operator"
    return kubectl("get", "pods", "--namespace", SYSTEM, "--selector", selector, "--output=name").split()


def run_operator(namespace: str, items: int, window: int, progress: Progress) -> Figures:
    """A MapReduceJob from its creation until it is complete and all its Jobs are deleted."""
    objects, batch = client.CustomObjectsApi(), client.BatchV1Api()
    with _namespace(namespace):
        processes = {pod: _Process.of(pod) for pod in _operator_pods()}
        before = _Cost.so_far()
        began = time.monotonic()
        objects.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, benchmark_job(items, window))
        object_bytes = status_bytes = 0
        while True:
            body: Any = objects.get_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, NAME)
            status = body.get("status", {})
            object_bytes, status_bytes = max(object_bytes, _size(body)), max(status_bytes, _size(status))
            progress(status.get("items", {}).get("succeeded", 0))
            if "completionTime" in status and not batch.list_namespaced_job(namespace, limit=1).items:
                break
            time.sleep(_POLL_SECONDS)
        elapsed = time.monotonic() - began
        if status["items"]["succeeded"] != items:
            raise RuntimeError(f"{NAME} ended as {status['phase']} with {status['items']}")
        _wait_until_pods_are_gone(namespace)
        cost = _Cost.so_far().since(before)
        # Of several replicas, the one at work.
        after = {pod: _Process.of(pod) for pod in processes}
        pod = max(after, key=lambda one: after[one].cpu_seconds - processes[one].cpu_seconds)
        own = Counter({k: v for k, v in cost.writes.items() if k in _OWN or PLURAL in k or "dry run" in k})
        # The creation was ours.
        own.subtract({f"POST {PLURAL}": 1})
        own["POST events"] = _events_of_operator(namespace)
        own = +own
        stored = _stored(pod, body["metadata"]["uid"])
        return Figures(
            items=items,
            seconds=elapsed,
            own_cpu_seconds=after[pod].cpu_seconds - processes[pod].cpu_seconds,
            peak_bytes=after[pod].peak_bytes,
            cpu_ticks=cost.cpu_ticks,
            own_writes=own,
            other_writes=cost.writes - own,
            object_bytes=object_bytes,
            status_bytes=status_bytes,
            written_bytes=after[pod].written_bytes - processes[pod].written_bytes,
            stored_files=len(stored),
            stored_bytes=sum(stored),
        )


def _size(body: Any) -> int:
    """Bytes as JSON, which is how the API server stores custom resources."""
    return len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())


def _events_of_operator(namespace: str) -> int:
    """They are created and never changed, so that each is one request."""
    selector = f"source={OPERATOR}"
    return len(kubectl("get", "events", "--namespace", namespace, "--field-selector", selector, "-o=name").split())


def _stored(pod: str, uid: str) -> list[int]:
    """Sizes of the run's objects in storage."""
    root = _operator_environment()["MAPREDUCE_STORAGE_URL"].removeprefix("file://")
    find = ("find", root, "-type", "f", "-path", f"*/{uid}/*", "-printf", "%s\\n")
    return list(map(int, kubectl("exec", "--namespace", SYSTEM, pod, "--", *find).split()))


# --------------------------------------------------------------------------------------------------------- bare client


def run_bare_client(namespace: str, items: int, window: int, progress: Progress) -> Figures:
    """The same Jobs, made and deleted by a pod that does nothing else."""
    with _namespace(namespace):
        before = _Cost.so_far()
        kubectl("apply", "--namespace", namespace, "--filename", "-", body=_bare_client(namespace, items, window))
        kubectl("wait", "--namespace", namespace, "pod/bare-client", "--for=jsonpath={.status.phase}=Running")
        report = _follow(namespace, progress)
        kubectl("delete", "--namespace", namespace, "pod/bare-client", "--timeout=60s")
        _wait_until_pods_are_gone(namespace)
        cost = _Cost.so_far().since(before)
        own = Counter({request: count for request, count in cost.writes.items() if request in _OWN})
        return Figures(
            items=items,
            **report,
            cpu_ticks=cost.cpu_ticks,
            own_writes=own,
            other_writes=cost.writes - own,
        )


def _follow(namespace: str, progress: Progress) -> dict[str, Any]:
    """What the client says of itself at its end."""
    with subprocess.Popen(
        ["kubectl", "logs", "--follow", "--namespace", namespace, "pod/bare-client"], text=True, stdout=subprocess.PIPE
    ) as logs:
        for line in logs.stdout or ():
            if not line.startswith("{"):
                sys.stderr.write(line)
                continue
            told: dict[str, Any] = json.loads(line)
            if "seconds" in told:
                return told
            progress(told["done"])
    raise RuntimeError("the bare client has failed; its log is above")


def _bare_client(namespace: str, items: int, window: int) -> dict[str, Any]:
    """The pod, what it may do, and the body of its Jobs."""
    operator = _operator_container()
    script = Path(bare_client.__file__)
    return _list(
        _object("v1", "ConfigMap", "bench", data={script.name: script.read_text(), "job.json": _job_body(namespace)}),
        _object("v1", "ServiceAccount", "bare-client"),
        _object(
            *("rbac.authorization.k8s.io/v1", "Role", "bare-client"),
            rules=[
                {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "delete"]},
                {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            ],
        ),
        _object(
            *("rbac.authorization.k8s.io/v1", "RoleBinding", "bare-client"),
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bare-client"},
            subjects=[{"kind": "ServiceAccount", "name": "bare-client"}],
        ),
        _object(
            *("v1", "Pod", "bare-client"),
            spec={
                "serviceAccountName": "bare-client",
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 0,
                "containers": [
                    {
                        "name": "client",
                        "image": operator["image"],
                        "command": [
                            *("/opt/mapreduce-operator/bin/python", f"/bench/{script.name}"),
                            *(namespace, str(items), str(window)),
                        ],
                        "resources": operator["resources"],
                        "volumeMounts": [{"name": "bench", "mountPath": "/bench"}],
                    }
                ],
                "volumes": [{"name": "bench", "configMap": {"name": "bench"}}],
            },
        ),
    )


def _job_body(namespace: str) -> str:
    """The Job that the operator makes for an item, but for its owner and the label by which the operator finds it."""
    job = MapReduceJob.model_validate(benchmark_job(1, 1) | {"metadata": _METADATA | {"namespace": namespace}})
    run = RunRef(namespace, NAME, job.metadata.uid)
    body = manifest(
        prepare(Stage.MAP, job.spec.map, run),
        run,
        Dispatch(bare_client.KEY.decode(), 1),
        attempt=1,
        item=PlannedItem("0123456789abcdef", b'{"number":1234}'),
        work=job.spec.map,
    )
    del body["metadata"]["ownerReferences"]
    for labels in (body["metadata"]["labels"], body["spec"]["template"]["metadata"]["labels"]):
        labels[LABEL_MANAGED_BY] = "bare-client"
    return json.dumps(body, separators=(",", ":"))


_METADATA: Final = {
    "name": NAME,
    "uid": "00000000-0000-0000-0000-000000000000",
    "generation": 1,
    "resourceVersion": "1",
}


def _object(api_version: str, kind: str, name: str, **parts: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **parts}


def _list(*objects: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": objects}
