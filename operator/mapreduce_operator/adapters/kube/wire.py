"""Jobs and pods as the API server writes them, narrowed to what the engine looks at.

Only the fields named here are decoded; all others are skipped by the parser without becoming objects, which makes an
event five to a hundred times cheaper than with a typed client. Null stands for "absent" where Go writes it so.
"""

from datetime import datetime
from typing import Final, Generic, TypeVar

import msgspec

from mapreduce_operator.core.workloads import AGENT_INDEX, Carried, ContainerEnd, JobSeen, PodSeen


class Narrow(msgspec.Struct, rename="camel", gc=False):
    """Values only, no cycles: the garbage collector need not look at them."""


class OwnerReference(Narrow):
    uid: str
    kind: str = ""
    name: str = ""
    controller: bool = False


class Metadata(Narrow):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: float | None = None
    labels: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None


class Condition(Narrow):
    type: str
    status: str = ""
    reason: str = ""
    message: str = ""


class AnyObject(Narrow):
    """What all objects have."""

    metadata: Metadata


class MapReduceJobStatus(Narrow):
    leader_epoch: int = 0


class MapReduceJobObject(Narrow):
    metadata: Metadata
    status: MapReduceJobStatus | None = None


class JobStatus(Narrow):
    conditions: list[Condition] | None = None


class Job(Narrow):
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    status: JobStatus = msgspec.field(default_factory=JobStatus)


class Container(Narrow):
    name: str = ""


class PodSpec(Narrow):
    containers: list[Container] | None = None
    node_name: str = ""


class Terminated(Narrow):
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(Narrow):
    reason: str = ""


class Running(Narrow):
    started_at: datetime | None = None


class ContainerState(Narrow):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(Narrow):
    name: str = ""
    state: ContainerState = msgspec.field(default_factory=ContainerState)


class PodStatus(Narrow):
    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Pod(Narrow):
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ConfigMap(Narrow):
    data: dict[str, str] | None = None


class ListMetadata(Narrow):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


ItemT = TypeVar("ItemT")


class Page(Narrow, Generic[ItemT]):
    """One page of a list."""

    metadata: ListMetadata
    items: list[ItemT] | None = None


class WatchEventType(Narrow):
    """What a line of a watch tells, before anything of the object is made."""

    type: str


class WatchEvent(Narrow, Generic[ItemT]):
    """One line of a watch. Bookmarks hold an object of the kind that is watched, with hardly more than its version."""

    type: str
    object: ItemT


def job_seen(job: Job) -> JobSeen | None:
    """The engine's view of a Job; None when its labels are not ours."""
    carried = Carried.from_labels(job.metadata.labels or {})
    if carried is None:
        return None
    true = _true_conditions(job.status.conditions)
    failed = true.get("Failed") or true.get("FailureTarget")
    return JobSeen(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        owner_uid=owner_uid(job.metadata),
        carried=carried,
        deleting=job.metadata.deletion_timestamp is not None,
        # Not SuccessCriteriaMet, which comes while pods are still ending.
        complete="Complete" in true,
        failed_reason=failed.reason if failed else None,
        failed_message=failed.message if failed else "",
    )


def pod_seen(pod: Pod, *, gone: bool = False) -> PodSeen | None:
    """The engine's view of a pod; None when its labels are not ours."""
    carried = Carried.from_labels(pod.metadata.labels or {})
    if carried is None:
        return None
    owner = _controller(pod.metadata)
    job = owner if owner is not None and owner.kind == "Job" else _NO_JOB
    disruption = _true_conditions(pod.status.conditions).get("DisruptionTarget")
    agent = _agent_state(pod)
    return PodSeen(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        job=job.name,
        job_uid=job.uid,
        carried=carried,
        phase=pod.status.phase,
        node=pod.spec.node_name,
        deleting=pod.metadata.deletion_timestamp is not None,
        grace_seconds=pod.metadata.deletion_grace_period_seconds or 0.0,
        gone=gone,
        reason=pod.status.reason,
        message=pod.status.message,
        disruption=disruption.reason if disruption else "",
        started=agent.running is not None or (agent.terminated is not None and agent.terminated.started_at is not None),
        waiting=agent.waiting.reason if agent.waiting else "",
        agent=_end(agent.terminated) if agent.terminated else None,
    )


def owner_uid(metadata: Metadata) -> str:
    """Uid of the controlling owner, "" for none."""
    owner = _controller(metadata)
    return owner.uid if owner else ""


_NO_JOB: Final = OwnerReference(uid="")


def _controller(metadata: Metadata) -> OwnerReference | None:
    return next((owner for owner in metadata.owner_references or () if owner.controller), None)


def _true_conditions(conditions: list[Condition] | None) -> dict[str, Condition]:
    return {condition.type: condition for condition in conditions or () if condition.status == "True"}


def _agent_state(pod: Pod) -> ContainerState:
    """The state of the agent's container. Statuses come in another order than containers, so it is found by name."""
    containers = pod.spec.containers or ()
    if len(containers) <= AGENT_INDEX:
        return ContainerState()
    name = containers[AGENT_INDEX].name
    statuses = (status.state for status in pod.status.container_statuses or () if status.name == name)
    return next(statuses, ContainerState())


def _end(end: Terminated) -> ContainerEnd:
    return ContainerEnd(
        exit_code=end.exit_code,
        signal=end.signal,
        reason=end.reason,
        message=end.message,
        started_at=_unix(end.started_at),
        finished_at=_unix(end.finished_at),
    )


def _unix(time: datetime | None) -> float:
    """Seconds since the epoch, 0 for a time that is not known."""
    return time.timestamp() if time else 0.0
