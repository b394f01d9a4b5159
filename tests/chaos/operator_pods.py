"""The operator as it is installed: its pods, the processes in them, and which of them leads."""

import os
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client

from tests.chaos.machines import Process, process_of
from tests.e2e.sandbox import PROJECT

NAMESPACE: Final = "mapreduce-system"
RELEASE: Final = "mapreduce-operator"
_POLL_SECONDS: Final = 0.2


def deploy(*values: str) -> None:
    """Installs anew the image that is installed, as `make deploy` does, with these values of the chart."""
    deployment: Any = client.AppsV1Api().read_namespaced_deployment(RELEASE, NAMESPACE)
    image = deployment.spec.template.spec.containers[0].image
    options = [option for value in values for option in ("--set-string", value)]
    command = [str(PROJECT / "dev" / "deploy.sh"), *options]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OPERATOR_IMAGE": image})


@dataclass(frozen=True, slots=True)
class Leader:
    """The process that holds the Lease."""

    identity: str
    """Its name in the Lease, which no other process bears, not even the next one in the same pod."""
    pod: Any
    process: Process

    @property
    def pod_name(self) -> str:
        name: str = self.pod.metadata.name
        return name


class OperatorPods:
    """Everything that is done to the operator; what its containers logged before that is kept."""

    def __init__(self) -> None:
        self._core: Final = client.CoreV1Api()
        self._leases: Final = client.CoordinationV1Api()
        self._dead: Final[set[str]] = set()
        self.logs: Final[list[str]] = []

    def all(self) -> list[Any]:
        pods: list[Any] = self._core.list_namespaced_pod(
            NAMESPACE, label_selector=f"app.kubernetes.io/name={RELEASE},app.kubernetes.io/component=operator"
        ).items
        return pods

    def leader(self, seconds: float = 60) -> Leader:
        """Waits until somebody leads who has not been killed here."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lease = self._leases.read_namespaced_lease(RELEASE, NAMESPACE)
            holder = (lease.spec.holder_identity if lease.spec else None) or ""
            for pod in self.all() if holder not in self._dead else ():
                if holder.startswith(f"{pod.metadata.name}_") and (process := process_of(pod)) is not None:
                    return Leader(holder, pod, process)
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"nobody led within {seconds:.0f} s")

    def kill(self, leader: Leader) -> None:
        """Its container is started again by the kubelet: at once, the second time after 10 s, later and later."""
        self._dead.add(leader.identity)
        self.keep_log(leader.pod)
        leader.process.signal("KILL")

    def delete(self, leader: Leader) -> None:
        """With no grace; another pod takes its place."""
        self._dead.add(leader.identity)
        self.keep_log(leader.pod)
        self._core.delete_namespaced_pod(leader.pod_name, NAMESPACE, grace_period_seconds=0)

    def exit_code_of_next_end(self, leader: Leader, seconds: float = 60) -> int:
        """Waits until the process has ended and another one is in its container; returns how it ended."""
        restarts = leader.pod.status.container_statuses[0].restart_count
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pod: Any = self._core.read_namespaced_pod(leader.pod_name, NAMESPACE)
            status = pod.status.container_statuses[0]
            if status.restart_count > restarts:
                code: int = status.last_state.terminated.exit_code
                return code
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"{leader.identity} did not end within {seconds:.0f} s")

    def keep_log(self, pod: Any, *, previous: bool = False) -> None:
        name = pod.metadata.name
        try:
            text = self._core.read_namespaced_pod_log(name, NAMESPACE, previous=previous, timestamps=True)
        except client.ApiException as error:
            text = f"no log: {error.reason} {error.body}"
        self.logs.append(f"--- {name}{', the container before' if previous else ''}\n{text}")
