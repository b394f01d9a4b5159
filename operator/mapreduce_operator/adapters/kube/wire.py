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
    active_deadline_seconds: float | None = None
    termination_grace_period_seconds: float | None = None


class Terminated(Narrow):
    exit_code: int
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Waiting(Narrow):
    reason: str = ""
    message: str = ""


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
    start_time: datetime | None = None
    conditions: list[Condition] | None = None
    init_container_statuses: list[ContainerStatus] | None = None
    container_statuses: list[ContainerStatus] | None = None


class Pod(Narrow):
    metadata: Metadata = msgspec.field(default_factory=Metadata)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ConfigMap(Narrow):
    data: dict[str, str] | None = None
    binary_data: dict[str, bytes] | None = None


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
    metadata, status = pod.metadata, pod.status
    carried = Carried.from_labels(metadata.labels or {})
    if carried is None:
        return None
    owner = _controller(metadata)
    job = owner if owner is not None and owner.kind == "Job" else _NO_JOB
    disruption, unschedulable, preparing = "", "", False
    for condition in status.conditions or ():
        if condition.type == "PodScheduled":
            unschedulable = "" if condition.status == "True" else condition.message or condition.reason
        elif condition.type == "PodReadyToStartContainers":
            # Of a pod that has ended it is false again.
            preparing = condition.status == "False" and status.phase == "Pending"
        elif condition.type == "DisruptionTarget" and condition.status == "True":
            disruption = condition.reason
    agent = _agent_state(pod)
    end = _end(agent.terminated) if agent.terminated else None
    started = agent.running is not None or (end is not None and end.started_at > 0)
    waiting = agent.waiting or _NOT_WAITING
    deadline = 0.0
    if status.start_time is not None and pod.spec.active_deadline_seconds is not None:
        deadline = _unix(status.start_time) + pod.spec.active_deadline_seconds
    failed_init, failed_init_name = None, ""
    if status.init_container_statuses and not started:
        waiting = _problem_of(status.init_container_statuses) or waiting
        failed_init, failed_init_name = _failed(status.init_container_statuses)
    return PodSeen(
        namespace=metadata.namespace,
        name=metadata.name,
        uid=metadata.uid,
        job=job.name,
        job_uid=job.uid,
        carried=carried,
        phase=status.phase,
        node=pod.spec.node_name,
        deleting=metadata.deletion_timestamp is not None,
        grace_seconds=metadata.deletion_grace_period_seconds or 0.0,
        gone=gone,
        reason=status.reason,
        message=status.message,
        disruption=disruption,
        started=started,
        waiting=waiting.reason,
        waiting_message=waiting.message,
        preparing=preparing,
        unschedulable=unschedulable,
        failed_init=failed_init,
        failed_init_name=failed_init_name,
        agent=end,
        # The agent's own does not run any more.
        outlived=end is not None and any(one.state.running for one in status.container_statuses or ()),
        deadline=deadline,
        stop_seconds=pod.spec.termination_grace_period_seconds or 0.0,
    )


def owner_uid(metadata: Metadata) -> str:
    """Uid of the controlling owner, "" for none."""
    owner = _controller(metadata)
    return owner.uid if owner else ""


_NO_JOB: Final = OwnerReference(uid="")
_NOT_WAITING: Final = Waiting()
_IN_ORDER: Final = frozenset({"PodInitializing", "ContainerCreating"})
"""Reasons for which a container waits when nothing is wrong."""


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


def _problem_of(statuses: list[ContainerStatus]) -> Waiting | None:
    """What an init container waits for. Those after it merely wait for it."""
    for status in statuses:
        if status.state.waiting and status.state.waiting.reason not in _IN_ORDER:
            return status.state.waiting
    return None


def _failed(statuses: list[ContainerStatus]) -> tuple[ContainerEnd | None, str]:
    """The end of the init container that failed, and its name.

    It is the last one that ended so: sidecars that began before it are killed after it.
    """
    for status in reversed(statuses):
        end = status.state.terminated
        if end is not None and end.exit_code:
            return _end(end), status.name
    return None, ""


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
    """Seconds since the epoch, 0 for a time that is not known; the runtimes' zero times are of the years 1 and 1970."""
    return max(time.timestamp(), 0.0) if time else 0.0
