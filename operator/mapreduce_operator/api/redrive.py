"""The Redrive: another run for dead letters, once, and the story of it."""

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from mapreduce_operator.api.enums import DelayStrategy
from mapreduce_operator.api.model import API_VERSION, ApiVersion, Model, rule
from mapreduce_operator.api.objectmeta import ObjectMeta
from mapreduce_operator.api.status import Condition, Count, ItemId, Text256, Timestamp

REDRIVE_KIND: Final = "Redrive"


class Selection(Model):
    """Which letters are meant: exactly one of ids, filter and all."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "[has(self.ids), has(self.filter), has(self.all)].exists_one(given, given)",
                    "exactly one of ids, filter and all must be given",
                    field="",
                    reason="FieldValueRequired",
                )
            ]
        }
    )

    ids: tuple[Annotated[str, Field(min_length=1, max_length=4096)], ...] | None = Field(
        default=None, min_length=1, max_length=10_000
    )
    """Ids of items."""

    filter: str | None = Field(default=None, min_length=1, max_length=1024)
    """A CEL expression over `letter` and `item` that is true for the letters that are meant, such as
    `letter.reason == "OOMKilled" && item.size < 1000`. A wrong expression selects nothing.
    """

    all: Literal[True] | None = None
    """All letters that are open and eligible."""


class Delay(Model):
    """When the items of the letters are run."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                # has: the API server also checks the default of this object, `{}`, before it fills it in.
                rule(
                    "!has(self.strategy) || self.strategy != 'Exponential' || !has(self.seconds)"
                    " || !has(self.maxSeconds) || self.maxSeconds >= self.seconds",
                    "maxSeconds must not be less than seconds",
                    field=".maxSeconds",
                )
            ]
        }
    )

    strategy: DelayStrategy = DelayStrategy.IMMEDIATE
    """Immediate: as soon as there is room. Fixed: after `seconds`. Exponential: after `seconds` for a letter that was
    never redriven before, twice as long for one that was redriven once, and so on up to maxSeconds. The waits between
    the attempts that follow are those of spec.map.retry.backoff of the job.
    """

    seconds: int = Field(default=10, ge=0, le=86_400)
    """How long, in seconds."""

    max_seconds: int = Field(default=3600, ge=0, le=86_400)
    """The longest wait of Exponential, in seconds."""


class RedriveSpec(Model):
    """What to run again, and how. It cannot be changed: create another Redrive instead."""

    queue: str = Field(min_length=1, max_length=253)
    """Name of the DeadLetterQueue, in the namespace of the Redrive."""

    selection: Selection

    force: bool = False
    """Takes letters that are archived or not eligible as well."""

    attempts: int | None = Field(default=None, ge=1, le=100)
    """How many attempts each item is granted on top of those that it had. Without it, as many as the maxAttempts of
    the job.
    """

    parallelism: int | None = Field(default=None, ge=1, le=10_000)
    """How many items of this Redrive may run at the same time; maxParallel of the job holds too."""

    delay: Delay = Delay()

    payload_patch: dict[str, JsonValue] | None = None
    """Changes the items before they are run: a JSON merge patch (RFC 7396) over each item, which must be an object.
    What the plan says is not changed. A null takes a field away; `kubectl apply` drops it before it is sent, `kubectl
    create` and `kubectl apply --server-side` do not.
    """

    template_patch: dict[str, JsonValue] | None = None
    """Changes spec.map.template of the job for the items of this Redrive: a merge patch, in which lists of objects with
    names, such as containers, are merged by name. Whoever may create a Redrive may run any pod with it, as with a
    MapReduceJob.
    """

    rerun_reduce: bool = False
    """Whether the reduce runs again, over the results as they are then, when all items of this Redrive have ended."""

    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=315_360_000)
    """How long this object stays after the Redrive has ended, in seconds; then the operator deletes it. Without it, it
    stays until somebody deletes it.
    """


class SkippedLetter(Model):
    """A letter that was asked for and not taken."""

    item_id: ItemId
    """Id of the item."""

    reason: Text256
    """Why it was not taken."""


class RedriveStatus(Model):
    """What became of the Redrive."""

    observed_generation: Count | None = None
    """The metadata.generation that this status answers to."""

    phase: str | None = Field(default=None, max_length=32)
    """Waiting, Running, Complete or Failed, for people. Programs should look at the conditions."""

    selected: Count | None = None
    """How many letters were taken."""

    succeeded: Count | None = None
    """How many of their items have succeeded."""

    failed: Count | None = None
    """How many of them failed again and are back in the queue."""

    remaining: Count | None = None
    """How many of them have not ended."""

    skipped: Count | None = None
    """How many letters were asked for and not taken."""

    skipped_letters: tuple[SkippedLetter, ...] = Field(default=(), max_length=50)
    """Some of these, and why."""

    start_time: Timestamp | None = None
    """When the letters were taken."""

    completion_time: Timestamp | None = None
    """When the last of them ended."""

    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=12,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    """The state of the Redrive, aspect by aspect, as `kubectl wait` reads it."""


class Redrive(Model):
    """Gives dead letters another run: with the template, the result contract and the accounting of their job.

    It runs once. Letters whose items succeed are resolved, the others go back to the queue with a longer history;
    the counts of the job follow. Wait for the end with `kubectl wait --for=condition=Complete`. Deleting a Redrive
    that runs calls it off: items that run finish, those that wait go back to the queue.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.spec == oldSelf.spec",
                    "spec cannot be changed: a Redrive runs once, create another one",
                    field=".spec",
                    reason="FieldValueForbidden",
                )
            ]
        }
    )

    api_version: ApiVersion = API_VERSION
    kind: Literal["Redrive"] = REDRIVE_KIND
    metadata: ObjectMeta
    spec: RedriveSpec

    status: RedriveStatus | None = None
