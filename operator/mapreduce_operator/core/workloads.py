"""What the engine knows of Jobs and pods: narrow views, free of Kubernetes' wire format.

Adapters make them, the ledger and the failure table read them. They are values: two views are equal when nothing that
matters here has changed, which is how unchanged watch events are skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mapreduce_operator.core.names import (
    LABEL_DISPATCH,
    LABEL_ITEM,
    LABEL_JOB,
    LABEL_REVISION,
    LABEL_RUN,
    LABEL_STAGE,
    Stage,
)

AGENT_INDEX: Final = 0
"""The agent is the first container of the template."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One launch of an item, numbered per item from 1."""

    item_key: str
    number: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What a Job or pod of ours carries, read from its labels."""

    run_uid: str
    stage: Stage
    dispatches: tuple[Dispatch, ...]
    revision: str
    run_name: str = field(default="", compare=False)
    """Name of the MapReduceJob; for messages and for asking after it, the uid is what counts."""

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> "Carried | None":
        """None when the labels are not ours: someone may use our managed-by value, or edit a label by hand."""
        try:
            return cls(
                run_uid=labels[LABEL_RUN],
                stage=Stage(labels[LABEL_STAGE]),
                dispatches=(Dispatch(labels[LABEL_ITEM], int(labels[LABEL_DISPATCH])),),
                revision=labels[LABEL_REVISION],
                run_name=labels.get(LABEL_JOB, ""),
            )
        except (KeyError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class JobSeen:
    """A Job of ours as the API server shows it."""

    namespace: str
    name: str
    uid: str
    owner_uid: str
    carried: Carried
    deleting: bool = False
    complete: bool = False
    failed_reason: str | None = None
    """Reason of the condition Failed=True (or FailureTarget), such as BackoffLimitExceeded or PodFailurePolicy."""
    failed_message: str = ""

    @property
    def finished(self) -> bool:
        return self.complete or self.failed_reason is not None


@dataclass(frozen=True, slots=True)
class ContainerEnd:
    """How a container ended: the agent's, or an init container."""

    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    """The termination message: what the agent wrote to its result file, or the end of its log if it wrote nothing
    and failed."""
    started_at: float = 0.0
    """0 for one that never ran: its node could not start it, or does not know it any more."""
    finished_at: float = 0.0


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of ours as the API server shows it."""

    namespace: str
    name: str
    uid: str
    job: str
    """Name of the Job that owns the pod."""
    job_uid: str
    carried: Carried
    phase: str
    node: str = ""
    deleting: bool = False
    grace_seconds: float = 0.0
    """While it is being deleted: how long its kubelet lets the agent go on."""
    gone: bool = False
    """Seen in a DELETED event: this is its last state."""
    reason: str = ""
    message: str = ""
    disruption: str = ""
    """Reason of the condition DisruptionTarget=True, such as EvictionByEvictionAPI."""
    started: bool = False
    """The agent's container runs, or has run."""
    waiting: str = ""
    """Why the agent's container, or an init container before it, does not run yet, such as ImagePullBackOff."""
    waiting_message: str = ""
    preparing: bool = False
    """Its node has still to make its volumes and its network; images are pulled after that."""
    unschedulable: str = ""
    """Why it has no node, in the scheduler's words."""
    failed_init: ContainerEnd | None = None
    """How an init container failed, so that the agent did not run."""
    failed_init_name: str = ""
    agent: ContainerEnd | None = None
    outlived: bool = False
    """The agent has ended, and another container of the pod goes on."""
    deadline: float = 0.0
    """When its node ends it, in seconds since the epoch by the clock of the node; 0 while that is not known."""
    stop_seconds: float = 0.0
    """How long its containers may go on when their node ends them."""

    def as_gone(self) -> "PodSeen":
        """This pod, found deleted by a listing rather than by an event."""
        return replace(self, gone=True)

    @property
    def ended(self) -> bool:
        return self.gone or self.phase in {"Succeeded", "Failed"}

    @property
    def agent_in_time(self) -> bool:
        """The agent ended before the deadline of its pod, and so not by it."""
        return self.agent is not None and 0.0 < self.agent.finished_at < self.deadline


Workload = JobSeen | PodSeen
