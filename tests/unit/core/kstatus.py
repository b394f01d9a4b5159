"""What kstatus (sigs.k8s.io/cli-utils), and with it Flux and `helm --wait`, concludes from an object of ours."""

from collections.abc import Mapping
from typing import Any, Literal


def kstatus(status: Mapping[str, Any], generation: int) -> Literal["InProgress", "Failed", "Current"]:
    """Its rules for what is no kind of Kubernetes' own and is not being deleted, in their order.

    They stand in pkg/kstatus/status, in generic.go and status.go.
    """
    if status.get("observedGeneration", generation) != generation:
        return "InProgress"
    conditions = status.get("conditions", [])
    for condition in conditions:
        if condition["status"] == "True" and condition["type"] in {"Reconciling", "Stalled"}:
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = all(condition["status"] == "True" for condition in conditions if condition["type"] == "Ready")
    return "Current" if ready else "InProgress"
