"""The DeadLetterQueue: the items that a job gave up, for people to look at and to give another run."""

from typing import Final, Literal

from pydantic import ConfigDict, Field

from mapreduce_operator.api.enums import Cause, LetterState, Reason
from mapreduce_operator.api.model import API_VERSION, ApiVersion, Model, rule
from mapreduce_operator.api.objectmeta import JobName, ObjectMeta, Uid
from mapreduce_operator.api.policies import DeadLetterPolicy
from mapreduce_operator.api.status import Condition, Count, ItemId, Text256, Timestamp

QUEUE_KIND: Final = "DeadLetterQueue"


class JobReference(Model):
    """The MapReduceJob whose letters these are."""

    name: JobName
    """Its name, in the namespace of the queue."""

    uid: Uid
    """Its uid: a job of the same name that is created later is another one."""


class EligibilityRule(Model):
    """Says of some letters whether a Redrive may take them without force."""

    filter: str = Field(min_length=1, max_length=1024)
    """A CEL expression over `letter` and `item` that is true for the letters that the rule is for, such as
    `letter.reason == "OOMKilled"`.
    """

    eligible: bool
    """Whether they may be taken."""

    note: str = Field(default="", max_length=256)
    """Why, for those who meet the rule later."""


class DeadLetterQueueSpec(DeadLetterPolicy):
    """What the queue holds and for how long."""

    job_ref: JobReference

    eligibility: tuple[EligibilityRule, ...] = Field(default=(), max_length=20)
    """Which letters may be redriven without force. The first rule that matches decides. Without one, letters of items
    that the agent called not retryable, or that were interrupted too often, are only taken with force or with a patch.
    """


class LetterCounts(Model):
    """How many letters are in each state; they add up to total."""

    total: Count = 0
    """All letters."""

    open: Count = 0
    """Letters that nobody has dealt with."""

    claimed: Count = 0
    """Letters that a Redrive has taken and whose items wait for their turn."""

    reprocessing: Count = 0
    """Letters whose items are run again just now."""

    resolved: Count = 0
    """Letters whose items have succeeded since."""

    archived: Count = 0
    """Letters that were set aside."""


class LetterGroup(Model):
    """Letters whose last failure was the same."""

    signature: Text256
    """What their messages have in common, with placeholders for what differs from item to item."""

    signature_id: str = Field(max_length=16)
    """Short id of the signature, for filters: `letter.signature == "..."`."""

    reason: Reason
    """Why their last dispatches did not succeed."""

    count: Count
    """How many open letters failed like this."""

    first_time: Timestamp
    """When the first of them was added."""

    last_time: Timestamp
    """When the last of them was added."""

    samples: tuple[ItemId, ...] = Field(default=(), max_length=3)
    """Ids of some of the items."""


class LetterSummary(Model):
    """One letter, in short."""

    item_id: ItemId
    """Id of the item."""

    state: LetterState
    """Open, Claimed (also while its item runs), Resolved or Archived."""

    cause: Cause
    """Why the item is not tried again by itself."""

    reason: Reason
    """Why its last dispatch did not succeed."""

    signature: str = Field(default="", max_length=16)
    """Short id of the signature of its last failure."""

    attempts: Count
    """How many times its agent ran to its own end."""

    last_time: Timestamp
    """When its last dispatch ended."""

    message: Text256 = ""
    """What its agent said last."""

    body: str = Field(default="", max_length=2048)
    """Where its whole history lies in storage."""


class DeadLetterQueueStatus(Model):
    """What the operator reports of the queue."""

    observed_generation: Count | None = None
    """The metadata.generation that this status answers to."""

    letters: LetterCounts | None = None

    reasons: dict[str, Count] = Field(default_factory=dict, max_length=32)
    """How many letters are open, by the reason of their last failure."""

    causes: dict[str, Count] = Field(default_factory=dict, max_length=8)
    """How many letters are open, by why they were given up."""

    nodes: dict[str, Count] = Field(default_factory=dict, max_length=20)
    """How many letters are open, by the node of their last dispatch: the nodes with the most."""

    groups: tuple[LetterGroup, ...] = Field(default=(), max_length=10)
    """The largest groups of open letters that failed the same way."""

    oldest_time: Timestamp | None = None
    """When the open letter that is longest in the queue was added."""

    newest_time: Timestamp | None = None
    """When the last open letter was added."""

    newest: tuple[LetterSummary, ...] = Field(default=(), max_length=20)
    """The letters that were added last, the newest first."""

    storage: str | None = Field(default=None, max_length=1024)
    """Where the letters lie: the beginning of their keys in storage."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=12,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """The state of the queue, aspect by aspect."""


class DeadLetterQueue(Model):
    """Holds the items that a MapReduceJob gave up, with the whole history of each: nothing is dropped.

    The operator makes it with the first dead letter of a job, under the job's name. Its status shows how many letters
    there are, what they have in common and the newest ones; their bodies lie in storage. Create a Redrive to give
    letters another run. A queue with open letters stays when its job is deleted; delete it to delete its letters.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.spec.jobRef == oldSelf.spec.jobRef",
                    "spec.jobRef cannot be changed",
                    field=".spec.jobRef",
                    reason="FieldValueForbidden",
                )
            ]
        }
    )

    api_version: ApiVersion = API_VERSION
    kind: Literal["DeadLetterQueue"] = QUEUE_KIND
    metadata: ObjectMeta
    spec: DeadLetterQueueSpec

    status: DeadLetterQueueStatus | None = None
