"""Nodes that kwok plays.

Their pods cost the machine next to nothing, so that the control plane and its clients are all that is measured.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

LABEL: Final = "mapreduce.dev/simulated"
NODES: Final = 10
_STOP_SECONDS: Final = 10


def only_there() -> dict[str, Any]:
    """The part of a pod's spec that brings it to these nodes, where no other pod goes."""
    return {"nodeSelector": {LABEL: "true"}, "tolerations": [{"key": LABEL, "operator": "Exists"}]}


@contextmanager
def simulated_nodes(log: Path) -> Iterator[None]:
    """Ready nodes, as long as the context lasts."""
    nodes = [f"simulated-{number}" for number in range(NODES)]
    with log.open("w") as output:
        kwok = subprocess.Popen(
            ["kwok", "--config", str(Path(__file__).with_name("simulated_pods.yaml"))],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        kubectl("apply", "--filename", "-", body={"apiVersion": "v1", "kind": "List", "items": list(map(_node, nodes))})
        kubectl("wait", "--for=condition=Ready", "node", "--selector", f"{LABEL}=true", "--timeout=60s")
        yield
    finally:
        kubectl("delete", "node", "--selector", f"{LABEL}=true", "--timeout=60s")
        kwok.terminate()
        kwok.wait(_STOP_SECONDS)


def _node(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {LABEL: "true", "kubernetes.io/hostname": name}},
        "spec": {"taints": [{"key": LABEL, "effect": "NoSchedule"}]},
    }


def kubectl(*arguments: str, body: Any = None) -> str:
    """What kubectl prints; raises CalledProcessError after kubectl has said why."""
    return subprocess.run(
        ["kubectl", *arguments],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        input=None if body is None else json.dumps(body),
    ).stdout
