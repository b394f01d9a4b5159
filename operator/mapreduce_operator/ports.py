"""What the engine needs of the world, as Protocols; `adapters` fulfil them, and the simulation does so in memory.

Every method of a port either does what it says or raises one of the errors defined here. Nothing else crosses: no
HTTP status, no client library's exception.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal, Protocol

from mapreduce_operator.api import MapReduceJobSpec, MapReduceJobStatus, Phase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.carrying import Saved
from mapreduce_operator.core.checkpoint import Checkpoint
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import PodSeen, Workload

JSON = Any
"""A JSON value: what the API server, a payload or a result may hold."""


class Clock(Protocol):
    """Wall-clock time. Waiting is asyncio's business, so that a fake loop clock drives both."""

    def now(self) -> float:
        """Seconds since the epoch."""


class Metrics(Protocol):
    """Counts what happened. Counters only grow, and what a restarted operator finds again is not counted again."""

    def expects(self, namespace: str) -> None:
        """There is a job in the namespace: its counters are there, and 0, before the first thing is counted."""

    def committed(self, run: RunState, batch: Batch, seconds: float, size: int) -> None:
        """A batch became durable, by a checkpoint of so many bytes that took so long; to be told before the run is."""

    def checkpointed(self, reason: str, seconds: float, size: int) -> None:
        """A checkpoint of so many bytes was made of something else than what a run came to: a plan, a restore."""

    def commit_failed(self, reason: str) -> None:
        """A try to write a checkpoint failed."""

    def fell_back(self) -> None:
        """A run was loaded without something that is damaged."""

    def agent_started(self, namespace: str, seconds: float) -> None:
        """An agent started, so long after its Job was created."""

    def stepped(self, seconds: float) -> None:
        """A run took in what had happened, and did what follows."""

    def stale_events(self, number: int) -> None:
        """News of old dispatches came and were ignored."""

    def run_crashed(self) -> None:
        """A run ended by an unexpected exception and is taken up again."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What gauges tell of one MapReduceJob at a moment. Moments are in seconds since the epoch."""

    run: RunRef
    status: MapReduceJobStatus | None
    """As it was written last; None where none was."""
    unsaved_since: float | None = None
    """When the first happened of what is not durable yet; None where everything is."""
    idle_since: float | None = None
    """When an item was last started or came to its end; None while an agent runs, and for what is not to go on."""

    @property
    def phase(self) -> Phase:
        return (self.status and self.status.phase) or Phase.PLANNING

    @property
    def agents(self) -> int:
        """Jobs that are alive, or are being created."""
        return (self.status and self.status.active) or 0


# ------------------------------------------------------------------------------------------------------- leadership


class DeposedError(Exception):
    """Another process leads by now, or may: this one writes nothing more and ends."""


class Leadership(Protocol):
    """The right to write, which one process has at a time."""

    @property
    def held(self) -> bool:
        """False from the moment at which another process may have taken over, by a clock that does not jump."""

    @property
    def epoch(self) -> int:
        """Number of this leadership: greater than that of each one before it."""

    async def surpass(self, epoch: int) -> None:
        """Answers something durable that carries a greater epoch than ours.

        That of a later leader: raises DeposedError. That of an earlier one whose Lease was deleted since: raises our
        epoch above it.
        """


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What a Lease says. Times are seconds since the epoch, by the holder's clock: for people, and to tell news."""

    holder: str
    """Identity of the process that leads; "" when it gave the Lease back."""
    duration: int
    """Seconds without news after which another may lead."""
    acquired_at: float
    renewed_at: float
    transitions: int


@dataclass(frozen=True, slots=True)
class Lease:
    record: LeaseRecord
    version: str
    """Opaque, for a later `replace`."""


class Leases(Protocol):
    """The one Lease over which processes compete. All methods raise ClusterError, and have a bound in time."""

    async def read(self) -> Lease | None:
        """The Lease, or None where there is none."""

    async def create(self, record: LeaseRecord) -> Lease:
        """Raises ALREADY_EXISTS when somebody was faster."""

    async def replace(self, record: LeaseRecord, version: str) -> Lease:
        """Raises CONFLICT when the Lease is not of this version any more, CONFLICT or NOT_FOUND when it is gone."""


# ---------------------------------------------------------------------------------------------------------- storage


class StorageErrorReason(StrEnum):
    """Why storage did not do it, as a person who is to mend it tells the cases apart; reasons of a condition."""

    UNAVAILABLE = "StorageUnavailable"  # down, slow, 5xx, time-outs, broken connections
    THROTTLED = "StorageThrottled"  # 429, SlowDown
    FULL = "StorageFull"  # no space, a quota
    FORBIDDEN = "StorageForbidden"  # credentials or rights
    NOT_FOUND = "BucketNotFound"
    UNSUITABLE = "StorageUnsuitable"  # it answers, and does not do what the engine relies on


class StorageError(Exception):
    """Storage did not do what was asked; nothing is known to have been written. The text says what, where and why."""

    def __init__(self, message: str, reason: StorageErrorReason = StorageErrorReason.UNAVAILABLE) -> None:
        super().__init__(message)
        self.reason: Final = reason


class StorageConflictError(StorageError):
    """A conditional write lost: the object exists already, or is not the version that was expected."""


class ObjectTooLargeError(Exception):
    """An object has more bytes than its reader takes. Storage is well, so that it is no StorageError."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    data: bytes
    etag: str
    """Opaque version of the object, for a later `if_match`."""


class ObjectStore(Protocol):
    """Durable bytes by key. Keys are slash-separated ASCII; a put is atomic and durable when it returns."""

    async def get(self, key: str) -> StoredObject | None:
        """The object, or None where there is none."""

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        """The same of an object that somebody else wrote: raises ObjectTooLargeError where it has more bytes."""

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """Writes an object and returns its etag; raises StorageConflictError when the condition does not hold."""

    def list(self, prefix: str) -> AsyncIterator[str]:
        """Keys below a prefix, in ascending order."""

    async def delete(self, keys: Iterable[str]) -> None:
        """Deletes objects; what is not there is as good as deleted."""


class CheckpointNotFoundError(Exception):
    """There is no such checkpoint, or it was not kept. The text says which, and where to look."""


class Checkpointer(Protocol):
    """The checkpoints of runs, read by whoever may read storage. No run is changed by any of this.

    All methods raise JournalError for what is damaged, and StorageError. A checkpoint that a deposed leader wrote, and
    that its successor did not take over, does not exist for them.
    """

    async def list(self, run: RunRef) -> list[Checkpoint]:
        """Those that are kept, by ascending number, the newest included; none for a run that was never planned."""

    async def latest(self, run: RunRef) -> Checkpoint | None:
        """The newest one, or None for a run that was never planned."""

    async def load(self, run: RunRef, sequence: int | None) -> Saved:
        """The run as of one of its checkpoints, None for the newest. Raises CheckpointNotFoundError."""

    async def fork(
        self,
        run: RunRef,
        sequence: int | None,
        child: RunRef,
        spec: MapReduceJobSpec,
        *,
        started_at: float | None = None,
    ) -> Checkpoint:
        """Makes a new run that starts from a checkpoint of another one, and needs nothing of it afterwards.

        `started_at` is when the child was taken up, now if it is not given.

        Outcomes are carried over as the edits and the resumePolicy of the child's spec say, but for those that are lost
        to damage: their items are run. Asked twice for the same child, it is made once.

        Raises InputError for edits that do not fit, CheckpointNotFoundError.
        """


# ---------------------------------------------------------------------------------------------------------- cluster


class ClusterErrorReason(StrEnum):
    """Why the API server did not do it, as far as the engine decides differently."""

    NOT_FOUND = "NotFound"
    ALREADY_EXISTS = "AlreadyExists"
    CONFLICT = "Conflict"
    INVALID = "Invalid"  # 400, 422: the object itself is wrong
    FORBIDDEN = "Forbidden"  # 403 other than quota: RBAC, admission
    QUOTA = "QuotaExceeded"
    TERMINATING = "NamespaceTerminating"  # 403: nothing is created in a namespace that is being deleted
    THROTTLED = "TooManyRequests"
    EXPIRED = "Expired"  # 410: list again
    UNAVAILABLE = "Unavailable"  # 5xx, time-outs, broken connections: the outcome of a write is unknown


class ClusterError(Exception):
    """The API server refused or could not be asked. The text is the server's own message, with verb and object."""

    def __init__(self, reason: ClusterErrorReason, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.reason: Final = reason
        self.retry_after: Final = retry_after
        """Seconds that the server asked to wait, if it did."""


WorkloadKind = Literal["jobs", "pods"]


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch. A deleted object comes in its last state, pods with `gone` set."""

    workload: Workload
    deleted: bool
    resource_version: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The stream is known to be complete up to this version."""

    resource_version: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A page-wise read of all workloads of a kind, complete as of one version."""

    workloads: list[Workload]
    resource_version: str


@dataclass(frozen=True, slots=True)
class JobCreated:
    uid: str


class Cluster(Protocol):
    """The Kubernetes API, as far as the engine uses it. All methods raise ClusterError, and have a bound in time."""

    async def create_job(self, namespace: str, manifest: Mapping[str, JSON], *, dry_run: bool = False) -> JobCreated:
        """Creates a Job; with dry_run it is only validated, strictly, as the API server would on a real create."""

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        """(uid, uid of the controlling owner or "") of whatever Job has this name, ours or not."""

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Deletes the Job and its pods in the background; one that is gone, or that has another uid, is left alone."""

    async def delete_jobs(self, run: RunRef) -> None:
        """Deletes all Jobs of a run, with their pods, in the background."""

    async def find_pod(self, namespace: str, job_uid: str) -> PodSeen | None:
        """The pod of a Job as it is now, or None where there is none."""

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """Removes a pod at once, without the word of its kubelet; one that is gone, or has another uid, is left."""

    async def read_log(self, namespace: str, pod: str, *, lines: int, limit: int) -> str:
        """The end of the log of a pod's agent: so many lines, and of these the last `limit` bytes of UTF-8.

        Within five seconds. Raises NOT_FOUND when the pod is gone, INVALID when its agent has not started.
        """

    async def list_workloads(self, kind: WorkloadKind) -> Listing:
        """All Jobs or pods that this operator manages, read page by page."""

    def watch_workloads(self, kind: WorkloadKind, resource_version: str) -> AsyncGenerator[Change | Bookmark, None]:
        """Changes since a version, until the server ends the stream; raises ClusterError(EXPIRED) on a 410."""

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """The `data` of a ConfigMap, in UTF-8, and its `binaryData`; None where there is no such ConfigMap."""

    async def write_config_map(self, namespace: str, manifest: Mapping[str, JSON]) -> None:
        """Creates a ConfigMap, or replaces the one of that name."""

    async def delete_config_map(self, namespace: str, name: str) -> None:
        """Deletes a ConfigMap; one that is gone is as good as deleted."""

    async def write_status(self, run: RunRef, status: Mapping[str, JSON], *, replacing: int) -> None:
        """Replaces the status of a MapReduceJob, only of the very object with that uid.

        Raises CONFLICT when the status that is there is not of the leader epoch `replacing`, as `status_epoch` says.
        """

    async def status_epoch(self, run: RunRef) -> int:
        """The leader epoch in the status; 0 where no leader has written one."""

    async def fill_in_spec(self, run: RunRef, spec: Mapping[str, JSON], *, version: str) -> None:
        """Adds fields that the spec of a MapReduceJob leaves out.

        Raises NOT_FOUND when it is gone, CONFLICT when it is not of that resourceVersion any more.
        """

    async def add_finalizer(self, run: RunRef) -> None:
        """Adds our finalizer, keeping those of others."""

    async def remove_finalizer(self, run: RunRef) -> None:
        """Removes our finalizer, keeping those of others; done already is fine."""

    async def delete_run(self, run: RunRef) -> None:
        """Deletes a MapReduceJob, which our finalizer holds; one that is gone, or has another uid, is left."""

    async def post_event(self, run: RunRef, *, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Posts an Event about a MapReduceJob."""

    async def create_queue(self, namespace: str, manifest: Mapping[str, JSON]) -> str:
        """Creates a DeadLetterQueue and returns its uid; raises ALREADY_EXISTS when its name is taken."""

    async def get_queue(self, namespace: str, name: str) -> Mapping[str, JSON] | None:
        """The DeadLetterQueue of this name as it stands there, whatever job it is of, or None where there is none."""

    async def write_queue_status(self, namespace: str, name: str, uid: str, status: Mapping[str, JSON]) -> None:
        """Replaces the status of the DeadLetterQueue with that uid; raises NOT_FOUND when it is gone."""

    async def remove_queue_finalizer(self, namespace: str, name: str, uid: str) -> None:
        """Removes our finalizer, keeping those of others; done already, or a queue that is gone, is fine."""

    async def delete_queue(self, namespace: str, name: str, uid: str) -> None:
        """Deletes a DeadLetterQueue, which its finalizers may hold; one that is gone, or has another uid, is left."""

    async def write_redrive_status(self, namespace: str, name: str, uid: str, status: Mapping[str, JSON]) -> None:
        """Replaces the status of the Redrive with that uid; raises NOT_FOUND when it is gone."""

    async def delete_redrive(self, namespace: str, name: str, uid: str) -> None:
        """Deletes a Redrive; one that is gone, or has another uid, is left."""
