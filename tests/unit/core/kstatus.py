"""What kstatus (sigs.k8s.io/cli-utils), and with it Flux, Argo CD and `helm --wait`, concludes from an object."""

from typing import Literal

from mapreduce_operator.api import DeadLetterQueueStatus, RedriveStatus


def kstatus(
    status: DeadLetterQueueStatus | RedriveStatus, generation: int
) -> Literal["InProgress", "Failed", "Current"]:
    """Its generic rules, in their order."""
    if status.observed_generation != generation:
        return "InProgress"
    holds = {one.type: one.status == "True" for one in status.conditions}
    if holds.get("Reconciling"):
        return "InProgress"
    if holds.get("Stalled"):
        return "Failed"
    return "Current" if holds.get("Ready", True) else "InProgress"
