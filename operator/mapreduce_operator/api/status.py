"""What the operator reports of a job: bounded, below 64 KiB however many items there are.

Free texts are cut to their limit instead of being refused: a status must not fail to be written because an agent was
wordy.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, JsonValue

from mapreduce_operator.api.enums import BreakerState, ConditionStatus, ItemState, Phase, RestartPhase
from mapreduce_operator.api.model import Model
from mapreduce_operator.api.objectmeta import JobName, Uid

POSITIONS_MAX_LENGTH: Final = 5632
"""Characters of one string of positions; six of them are most of a status."""
_POSITIONS_READ: Final = 6144
"""What an earlier operator wrote is still a status."""


UNSEEN_GENERATION: Final = -1
"""Of a job that no operator has seen."""


def _cut_to(length: int) -> Callable[[object], object]:
    def cut(text: object) -> object:
        return text[: length - 1] + "…" if isinstance(text, str) and len(text) > length else text

    return cut


def _whole_seconds(time: datetime) -> datetime:
    return time.replace(microsecond=0)


Count = Annotated[int, Field(ge=0)]
Timestamp = Annotated[AwareDatetime, AfterValidator(_whole_seconds)]
"""A point in time, in whole seconds as everywhere in Kubernetes; seconds since 1970 are taken too."""
ReasonWord = Annotated[str, Field(max_length=128, pattern="^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
Positions = Annotated[str, Field(max_length=_POSITIONS_READ)]
Text128 = Annotated[str, BeforeValidator(_cut_to(128)), Field(max_length=128)]
ItemId = Annotated[str, BeforeValidator(_cut_to(253)), Field(max_length=253)]
Text256 = Annotated[str, BeforeValidator(_cut_to(256)), Field(max_length=256)]
Text1024 = Annotated[str, BeforeValidator(_cut_to(1024)), Field(max_length=1024)]


class Condition(Model):
    """One aspect of the job's state, in the form that all Kubernetes tools know."""

    type: str = Field(min_length=1, max_length=64, pattern="^[A-Z][A-Za-z0-9]*$")
    """What the condition is about, such as Ready, Complete, Failed or Finished."""

    status: ConditionStatus
    """Whether it holds: True, False or Unknown."""

    observed_generation: Count | None = None
    """The metadata.generation of the job that the condition was derived from."""

    last_transition_time: Timestamp
    """When the status of the condition changed last."""

    reason: ReasonWord
    """Why, in one word for programs."""

    message: Text1024
    """Why, and what to do about it, for people."""


class PlanStatus(Model):
    """The plan of the job: its items in their order, safe in storage. From then on spec.input cannot be changed."""

    items: Count
    """How many items there are."""

    read: Count | None = None
    """How many items the input had. They are those of the plan, and those that were left out."""

    filtered_out: Count = 0
    """How many items were left out by input.filter."""

    duplicates: Count = 0
    """How many items were left out because their id came before; only with input.onDuplicate KeepFirst."""

    out_of_range: Count = 0
    """How many items were left out by input.offset and input.limit."""

    sha256: str = Field(max_length=64, pattern="^[0-9a-f]{64}$")
    """Hash of the plan's content."""

    prefix: str = Field(max_length=1024)
    """Where the plan lies in storage: the beginning of its keys."""


class ItemCounts(Model):
    """How many items are in each state; they add up to total."""

    total: Count = 0
    """All items."""

    pending: Count = 0
    """Items that wait for their turn."""

    running: Count = 0
    """Items with an agent at work, or whose outcome is not yet safe in storage."""

    retry_wait: Count = 0
    """Items that failed and wait to be tried again."""

    succeeded: Count = 0
    """Items that are done."""

    dead_lettered: Count = 0
    """Items that were given up and are in the dead letter queue."""

    skipped: Count = 0
    """Items that were given up and left out."""


class AttemptCounts(Model):
    """How often agents ran, over all items."""

    total: Count = 0
    """Runs that ended by the agent's own doing: success, failure or timeout."""

    interruptions: Count = 0
    """Runs that ended by somebody else's doing, such as an eviction."""

    retries: Count = 0
    """Failed runs after which the item was given another one."""


class ThroughputStatus(Model):
    """How fast items end. It is there once at least five have ended under the present leader, while the job goes on."""

    items_per_minute: float = Field(ge=0)
    """Items that ended, per minute, over the last ten minutes."""

    remaining_seconds: Count
    """When the map is done at this rate, in seconds from now."""


class StatePositions(Model):
    """Which items are in each state: their positions in the plan, counted from 0, as intervals such as `0-5,7`."""

    pending: Positions = ""
    """Items that wait for their turn."""

    running: Positions = ""
    """Items with an agent at work, or whose outcome is not yet safe in storage."""

    retry_wait: Positions = ""
    """Items that failed and wait to be tried again."""

    succeeded: Positions = ""
    """Items that are done."""

    dead_lettered: Positions = ""
    """Items that were given up and are in the dead letter queue."""

    skipped: Positions = ""
    """Items that were given up and left out."""


class StagePositions(Model):
    """Which items are in which state."""

    map: StatePositions | None = None


class FailureSummary(Model):
    """One kind of failure, and how often it was seen."""

    reason: Text128
    """Why the dispatches failed, in one word."""

    signature: Text256 = ""
    """What their messages have in common, with placeholders for what differs from item to item."""

    count: Count
    """How many dispatches failed like this."""

    sample_item_id: ItemId
    """One of the items that failed like this."""

    message: Text256 = ""
    """What that item's agent said."""


class BreakerStatus(Model):
    """The circuit breaker."""

    state: BreakerState
    """Closed, Open or HalfOpen."""

    failures_in_a_row: Count = 0
    """Attempts that failed since the last success."""

    open_until: Timestamp | None = None
    """While it is open: when probes are started."""


class DeadLetterStatus(Model):
    """The dead letters of the job."""

    queue: str = Field(default="", max_length=253)
    """Name of the DeadLetterQueue; empty for the moment until it is made."""

    open: Count = 0
    """Letters that nobody has dealt with."""

    unresolved: Count = 0
    """Letters whose items have not succeeded since: the open ones, and those that are redriven or archived."""


class ReduceStatus(Model):
    """The state of the reduce."""

    state: ItemState
    """Pending, Running, RetryWait, Succeeded or DeadLettered."""

    attempts: Count = 0
    """How many times its agent ran to its own end."""

    message: Text256 = ""
    """What its last failure said."""


class TemplateRevisions(Model):
    """Which revisions of the templates serve the agents that start now: hashes of their content."""

    map: str | None = Field(default=None, max_length=64)
    """Revision of spec.map.template."""

    reduce: str | None = Field(default=None, max_length=64)
    """Revision of spec.reduce.template."""


class CheckpointStatus(Model):
    """The last point of the job that is safe in storage; a restarted operator goes on from there."""

    sequence: Count
    """Number of the checkpoint; it only grows."""

    time: Timestamp
    """When it was written."""

    reason: ReasonWord
    """Why it was made."""

    token: str = Field(default="", max_length=63)
    """The annotation mapreduce.dev/checkpoint that was answered last: when it was seen, a checkpoint was written."""

    bytes: Count = 0
    """How much was written to storage for it, in bytes."""

    duration_seconds: float = Field(default=0, ge=0)
    """How long that took, in seconds."""

    kept: str = Field(default="", max_length=2048)
    """Sequence numbers of the checkpoints that the job can be restored to, or forked from, as intervals such as
    `1,40,62-71`.
    """

    stored_bytes: Count = 0
    """How much of the journal in storage counts, in bytes: without what was left behind by a restore."""


class RestoreStatus(Model):
    """The last spec.restore that was done."""

    checkpoint: Count
    """Sequence number of the checkpoint that the job was taken back to."""

    token: str = Field(default="", max_length=63)
    """Token of the request."""

    time: Timestamp
    """When it was done."""

    sequence: Count
    """Sequence number of the checkpoint with which the job went on from there."""


class RestartStatus(Model):
    """The last spec.restart that was done."""

    phase: RestartPhase
    """The phase that is run again."""

    token: str = Field(max_length=63)
    """Token of the request."""

    time: Timestamp
    """When it was done."""


class LineageStatus(Model):
    """Where a fork comes from."""

    job: JobName
    """Name of its parent."""

    uid: Uid
    """Uid of its parent."""

    checkpoint: Count
    """Sequence number of the parent's checkpoint."""

    depth: Annotated[int, Field(ge=1)]
    """How many forks it is away from a job that is not a fork."""


class MapReduceJobStatus(Model):
    """What the operator reports of the job. It never claims what is not yet safe in storage."""

    observed_generation: Annotated[int, Field(ge=UNSEEN_GENERATION)] | None = None
    """The metadata.generation that this status answers to; if it is older than the job's, the operator has not yet
    seen the last change. -1 as long as it has not seen the job at all.
    """

    phase: Phase | None = None
    """Where the job is, in one word. Programs should look at the conditions."""

    reason: ReasonWord | None = None
    """Why the job is in this phase, in one word."""

    progress: str | None = Field(default=None, max_length=32)
    """Items that are done and items in all, such as 812/1000."""

    active: Count | None = None
    """How many Jobs of this MapReduceJob are alive."""

    selector: str | None = Field(default=None, max_length=512)
    """Label selector of the agents' pods, for `kubectl get pods --selector` and autoscalers."""

    start_time: Timestamp | None = None
    """When the operator took the job up."""

    completion_time: Timestamp | None = None
    """When the job ended, well or not."""

    plan: PlanStatus | None = None

    items: ItemCounts | None = None

    attempts: AttemptCounts | None = None

    throughput: ThroughputStatus | None = None

    positions: StagePositions | None = None

    failures: tuple[FailureSummary, ...] = Field(default=(), max_length=10)
    """The most frequent kinds of failure."""

    failures_by_reason: dict[str, Count] = Field(default_factory=dict, max_length=32)
    """How many dispatches failed or were interrupted, by reason."""

    breaker: BreakerStatus | None = None

    dead_letters: DeadLetterStatus | None = None

    reduce: ReduceStatus | None = None

    result: JsonValue | None = None
    """What the reduce wrote: at most 4,096 bytes of JSON."""

    template_revisions: TemplateRevisions | None = None

    checkpoint: CheckpointStatus | None = None

    restore: RestoreStatus | None = None

    restart: RestartStatus | None = None

    lineage: LineageStatus | None = None

    leader_epoch: Count | None = None
    """Number of the leadership under which the operator wrote this status. It only grows; a former leader cannot write
    over a status with a greater one.
    """

    storage: str | None = Field(default=None, max_length=1024)
    """Where plan, journal and results of this job lie."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """The state of the job, aspect by aspect, as `kubectl wait` and other tools read it."""
