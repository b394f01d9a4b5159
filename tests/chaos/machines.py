"""What is below Kubernetes: the kind cluster's nodes, which are containers, and the processes in them."""

import ipaddress
import json
import subprocess
from dataclasses import dataclass
from typing import Any

from tests.e2e.sandbox import PROJECT


def docker(*arguments: str, seconds: float = 60) -> str:
    """What docker prints."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


def repair_cluster() -> None:
    """Starts the nodes that are stopped, and waits until everything in them is well."""
    subprocess.run([PROJECT / "dev" / "cluster" / "cluster.sh", "up"], check=True, timeout=420)
    wait = ["kubectl", "wait", "--namespace=kube-system", "pods", "--all", "--for=condition=Ready", "--timeout=120s"]
    subprocess.run(wait, check=True, timeout=150)


def address_that_pods_reach() -> str:
    """This machine's own address on the network of the nodes."""
    (network,) = json.loads(docker("network", "inspect", "kind"))
    gateways = [ipaddress.ip_address(one["Gateway"]) for one in network["IPAM"]["Config"] if "Gateway" in one]
    return next(str(gateway) for gateway in gateways if gateway.version == 4)


@dataclass(frozen=True, slots=True)
class Process:
    """The main process of a container, as its node numbers it."""

    node: str
    pid: int

    def signal(self, name: str) -> None:
        docker("exec", self.node, "kill", f"-{name}", str(self.pid))


def processes(node: str) -> dict[str, Process]:
    """The containers that run on a node: id to process."""
    lines = docker("exec", node, "ctr", "--namespace", "k8s.io", "tasks", "ls").splitlines()[1:]
    tasks = [line.split() for line in lines]
    return {container: Process(node, int(pid)) for container, pid, state in tasks if state == "RUNNING"}


def process_of(pod: Any) -> Process | None:
    """The process of a pod's only container; None while it does not run."""
    for status in pod.status.container_statuses or []:
        if status.state.running and status.container_id:
            return processes(pod.spec.node_name).get(status.container_id.removeprefix("containerd://"))
    return None
