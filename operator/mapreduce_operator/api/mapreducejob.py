"""The MapReduceJob: what users write, and the object around it."""

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from mapreduce_operator.api.enums import OnDelete, SuspendPolicy
from mapreduce_operator.api.fork import ForkFrom
from mapreduce_operator.api.input import Input
from mapreduce_operator.api.model import API_VERSION, ApiVersion, Model, rule
from mapreduce_operator.api.objectmeta import ObjectMeta
from mapreduce_operator.api.policies import DeadLetterPolicy, FailurePolicy
from mapreduce_operator.api.resuming import CheckpointNumber, Restart, Restore, ResumePolicy
from mapreduce_operator.api.status import MapReduceJobStatus
from mapreduce_operator.api.work import MapWork, ReduceWork

KIND: Final = "MapReduceJob"


class SuccessPolicy(Model):
    """When the job counts as successful."""

    min_success_ratio: float = Field(default=0, ge=0, le=1)
    """Share of the items that must succeed, from 0 to 1; with fewer the job fails. With 0, one success is enough."""


class CheckpointPolicy(Model):
    """How much may happen before it is made safe in storage, and for how long one can go back to it.

    Whichever comes first makes a checkpoint. What happened since the last one is not lost when the operator
    dies: finished Jobs are kept until their outcomes are safe.
    """

    enabled: bool = True
    """Whether there are checkpoints to go back to. With false, outcomes and results are made safe all the same and the
    job goes on after the operator was restarted; it cannot be restored to an earlier state, nor forked.
    """

    every_items: int = Field(default=100, ge=1, le=10_000)
    """A checkpoint is written after this many outcomes."""

    every_seconds: int = Field(default=1, ge=1, le=3600)
    """A checkpoint is written after this many seconds, if there are outcomes to write. The status speaks only of what
    is safe, so it lags behind by up to as much.
    """

    keep: int = Field(default=10, ge=2, le=100)
    """How many of the last checkpoints are kept. Those at a change of phase, those that are pinned and those that a
    fork started from are kept beside them.
    """

    pinned: frozenset[CheckpointNumber] = Field(default=frozenset(), max_length=32)
    """Sequence numbers of checkpoints to keep for as long as they stand here."""


class Retention(Model):
    """What stays when the job is deleted."""

    on_delete: OnDelete = OnDelete.DELETE
    """What happens to plan, journal and results in storage when this object is deleted."""


class MapReduceJobSpec(Model):
    """What to run, over what, and how."""

    model_config = ConfigDict(
        json_schema_extra={
            # The map of a fork is filled in by the operator, so that a rule has to ask for it.
            "required": [],
            "x-kubernetes-validations": [
                rule(
                    "has(self.map) || has(self.forkFrom)",
                    "map must be given: only a job with forkFrom takes it from another one",
                    field=".map",
                    reason="FieldValueRequired",
                ),
                rule(
                    "!has(oldSelf.map) || has(self.map)",
                    "map cannot be taken out: what was filled in for a fork is its own from then on",
                    field=".map",
                    reason="FieldValueForbidden",
                ),
                # dyn: the API server's type of the input leaves out `items`, whose entries have no type.
                rule(
                    "[has(dyn(self.input).items), has(self.input.configMapRef), has(self.input.object),"
                    " has(self.forkFrom)]"
                    ".exists_one(given, given)",
                    "exactly one source of items must be given: input.items, input.configMapRef, input.object or"
                    " forkFrom",
                    field=".input",
                    reason="FieldValueRequired",
                ),
                rule(
                    "!has(self.forkFrom) || !(has(self.input.filter) || has(self.input.limit)"
                    " || (has(self.input.orderBy) && self.input.orderBy.size() > 0)"
                    " || (has(self.input.offset) && self.input.offset > 0))",
                    "input.filter, orderBy, offset and limit choose among items that are read; a fork has those of its"
                    " parent, and forkFrom.edits changes them",
                    field=".input",
                    reason="FieldValueForbidden",
                ),
                # dyn, for the same reason as above.
                rule(
                    "!has(dyn(self).params)"
                    " || dyn(self).params.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_.-]{0,62}$'))",
                    "names of params consist of letters, digits, '_', '-' and '.', begin with a letter or '_', and are"
                    " at most 63 characters long",
                    field=".params",
                ),
            ],
        }
    )

    input: Input = Input()

    fork_from: ForkFrom | None = None

    map: MapWork

    reduce: ReduceWork | None = None

    params: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=64,
        # Spelt out, since a map of anything is free-form otherwise, and no rule sees the names in it then.
        json_schema_extra={"additionalProperties": {"x-kubernetes-preserve-unknown-fields": True}},
    )
    """Values for the agents, any JSON, by names such as `model` or `max-depth`: 16 KiB in all. All agents find them in
    /mapreduce/context.json, as `params`. They may be changed at any time; agents that start from then on have the new
    ones. A null is the same as no value.
    """

    failure_policy: FailurePolicy = FailurePolicy()

    success_policy: SuccessPolicy = SuccessPolicy()

    dead_letter: DeadLetterPolicy = DeadLetterPolicy()

    checkpoint: CheckpointPolicy = CheckpointPolicy()

    restore: Restore | None = None

    restart: Restart | None = None

    resume_policy: ResumePolicy = ResumePolicy()

    retention: Retention = Retention()

    ttl_seconds_after_finished: int | None = Field(default=None, ge=0, le=315_360_000)
    """How long the job stays after it has ended, in seconds. Then the operator deletes it, as if somebody had: its
    storage goes by spec.retention, and letters that nobody has resolved stay with their queue. A job that is taken up
    again lives on. Without it, the job stays until somebody deletes it.
    """

    active_deadline_seconds: int | None = Field(default=None, ge=1, le=315_360_000)
    """How long the job may take in all, in seconds, the time during which it is suspended included. Then agents that
    run are stopped, no more are started, and the job fails, with the reason DeadlineExceeded; items that did not end
    stay Pending. It is counted from status.startTime, and anew when a job that ended is taken up again. A job that
    cannot be planned fails by it as well.
    """

    cancel: bool = False
    """Ends the job: agents that run are stopped, no more are started, and the job fails, with the reason Cancelled.
    Results and dead letters stay. With false again, spec.restart takes the job up where it was; one that was not
    planned yet goes on by itself.
    """

    suspend: bool = False
    """Starts no agents as long as it is true. Nothing is lost: with false the job goes on."""

    suspend_policy: SuspendPolicy = SuspendPolicy.DRAIN
    """What happens to agents that run when the job is suspended. Drain: they may end. Interrupt: they are stopped, and
    run again later; no attempt is counted.
    """

    def work_as_written(self) -> dict[str, Any]:
        """What the agents run (map, reduce and params) as it would stand in a manifest, in plain JSON types.

        Nothing is dropped and nothing filled in. With a source of items it is a spec again.
        """
        return self.model_dump(
            mode="json",
            by_alias=True,
            exclude_unset=True,
            include={"map", "params"} if self.reduce is None else {"map", "reduce", "params"},
        )


class MapReduceJob(Model):
    """Runs a container over every item of a list, thousands at a time, and reduces the results.

    Each item is the run of an agent in a pod of its own. The agent finds its item in /mapreduce/item.json and writes at
    most 4,096 bytes of JSON to /mapreduce/result.json; it needs no SDK. Failed items are tried again as spec.map.retry
    says; those that fail for good go to a DeadLetterQueue and do not stop the others, and a Redrive gives them another
    run. Then an optional reduce makes one
    result of all results, which stands in status.result.

    Change spec.map.maxParallel or use `kubectl scale` to run more or fewer agents at a time, and spec.suspend to pause.
    Wait for the end with `kubectl wait --for=condition=Finished`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "self.metadata.name.size() <= 63",
                    "metadata.name must be at most 63 characters long: it becomes the value of a label",
                    field="",
                ),
                rule(
                    "!has(oldSelf.status) || !has(oldSelf.status.plan) || self.spec.input == oldSelf.spec.input",
                    "spec.input cannot be changed after the items were planned: create another job for other items",
                    field=".spec.input",
                    reason="FieldValueForbidden",
                ),
                rule(
                    "!has(oldSelf.status) || !has(oldSelf.status.plan)"
                    " || (has(self.spec.forkFrom) ? has(oldSelf.spec.forkFrom)"
                    " && self.spec.forkFrom == oldSelf.spec.forkFrom : !has(oldSelf.spec.forkFrom))",
                    "spec.forkFrom cannot be changed after the items were planned: create another fork",
                    field=".spec.forkFrom",
                    reason="FieldValueForbidden",
                ),
                rule(
                    "!has(oldSelf.status) || !has(oldSelf.status.deadLetters)"
                    " || self.spec.deadLetter == oldSelf.spec.deadLetter",
                    "the job has a DeadLetterQueue by now, named in status.deadLetters.queue: change that instead",
                    field=".spec.deadLetter",
                    reason="FieldValueForbidden",
                ),
            ]
        }
    )

    api_version: ApiVersion = API_VERSION
    kind: Literal["MapReduceJob"] = KIND
    metadata: ObjectMeta
    spec: MapReduceJobSpec

    status: MapReduceJobStatus | None = None
