"""A job that starts from a checkpoint of another one."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from mapreduce_operator.api.model import Model, rule
from mapreduce_operator.api.objectmeta import JobName, Uid
from mapreduce_operator.api.resuming import CheckpointNumber


class ForkParent(Model):
    """The MapReduceJob to start from."""

    name: JobName
    """Its name, in the namespace of this job."""

    uid: Uid | None = None
    """Its uid. Only needed when the parent was deleted and kept its storage (retention.onDelete Keep)."""


class ItemEdit(Model):
    """One change of the items: exactly one of patch, remove, reset and add."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                # dyn: the API server's type of this object leaves out `add`, which has no type.
                rule(
                    "[has(self.patch), has(self.remove), has(self.reset), has(dyn(self).add)].exists_one(given, given)",
                    "exactly one of patch, remove, reset and add must be given",
                    field="",
                    reason="FieldValueRequired",
                ),
                rule(
                    "has(self.id) != has(dyn(self).add)",
                    "id must be given with patch, remove and reset, and not with add, whose id is found as for any"
                    " item",
                    field=".id",
                ),
            ]
        }
    )

    id: str | None = Field(default=None, min_length=1, max_length=4096)
    """Id of an item of the parent."""

    patch: dict[str, JsonValue] | None = None
    """Changes the item, which keeps its id: a JSON merge patch (RFC 7396) over the item, which must be an object. It is
    run again if that makes another item of it. A null takes a field away; `kubectl apply` drops it before it is sent,
    `kubectl create` and `kubectl apply --server-side` do not.
    """

    remove: Literal[True] | None = None
    """Leaves the item out."""

    reset: Literal[True] | None = None
    """Runs the item again, as if it had never been run."""

    add: JsonValue | None = None
    """A new item, any JSON value but null. It comes after those of the parent. Its id is found by input.idExpression of
    this job, which is not taken over from the parent; without one it is a hash of the content.
    """


class ForkEdits(Model):
    """What is different from the parent. The parent itself is never changed."""

    items: tuple[ItemEdit, ...] = Field(default=(), max_length=1000)
    """Changes of the items; at most one for each of the parent's."""

    params: dict[str, JsonValue] | None = None
    """A JSON merge patch (RFC 7396) over spec.params."""

    template: dict[str, JsonValue] | None = None
    """Changes spec.map.template: a merge patch, in which lists of objects with names, such as containers, are merged by
    name.
    """


class ForkFrom(Model):
    """Starts from a checkpoint of another job, in place of an input.

    Items that had succeeded there are carried over with their results, unless they are edited; all others are run, and
    resumePolicy says what becomes of those that had been given up. The parent may go on, change or be deleted
    meanwhile. Without a map, that of the checkpoint is filled in, and reduce and params unless they are given; items
    that are edited or added are taken out of its skip.
    """

    job: ForkParent

    checkpoint: CheckpointNumber | None = None
    """Sequence number of the checkpoint. Without it, the newest one."""

    edits: ForkEdits = ForkEdits()


def lacks_map(body: Mapping[str, Any]) -> bool:
    """Whether an object, as the API server has it, is a fork whose map has yet to be filled in from its parent."""
    spec = body["spec"]
    return "forkFrom" in spec and "map" not in spec
