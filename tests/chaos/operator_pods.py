"""The operator as it is installed: its pods, the processes in them, and which of them leads."""

import os
import subprocess
import time
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


class OperatorPods:
    """Everything that is done to the operator; what its containers logged before that is kept."""

    def __init__(self) -> None:
        self._core: Final = client.CoreV1Api()
        self._leases: Final = client.CoordinationV1Api()
        self.logs: Final[list[str]] = []

    def all(self) -> list[Any]:
        pods: list[Any] = self._core.list_namespaced_pod(
            NAMESPACE, label_selector=f"app.kubernetes.io/name={RELEASE}"
        ).items
        return pods

    def leader(self, seconds: float = 60) -> tuple[Any, Process]:
        """The pod that holds the Lease and the process in it; waits until there is one."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lease = self._leases.read_namespaced_lease(RELEASE, NAMESPACE)
            holder = (lease.spec.holder_identity if lease.spec else None) or ""
            for pod in self.all():
                # A process that was killed holds the Lease until it runs out, also while another is in its pod.
                if holder.startswith(f"{pod.metadata.name}_") and (process := process_of(pod)) is not None:
                    return pod, process
            time.sleep(_POLL_SECONDS)
        raise AssertionError(f"no operator led within {seconds:.0f} s")

    def kill(self, pod: Any, process: Process) -> None:
        """Its container is started again by the kubelet: at once, the second time after 10 s, later and later."""
        self.keep_log(pod)
        process.signal("KILL")

    def delete(self, pod: Any) -> None:
        """With no time to say goodbye; another pod takes its place."""
        self.keep_log(pod)
        self._core.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)

    def keep_log(self, pod: Any, *, previous: bool = False) -> None:
        name = pod.metadata.name
        try:
            text = self._core.read_namespaced_pod_log(name, NAMESPACE, previous=previous, timestamps=True)
        except client.ApiException as error:
            text = f"no log: {error.reason} {error.body}"
        self.logs.append(f"--- {name}{', the container before' if previous else ''}\n{text}")
