"""What a job with forkFrom is run as: its own map and params, with the edits over them."""

from collections.abc import Mapping
from contextlib import suppress

from pydantic import JsonValue

from mapreduce_operator.api import ForkFrom, MapReduceJobSpec
from mapreduce_operator.core.merge_patch import merge_patch
from mapreduce_operator.core.plan import InputError, Limits, id_expression_of, plan_item
from mapreduce_operator.core.template_patches import patched, template_problem


def inherited_map(work: Mapping[str, JsonValue], source: ForkFrom, id_expression: str | None) -> dict[str, JsonValue]:
    """The map of a parent as its fork has it: items that the fork edits or adds are not skipped in it any more.

    Raises InputError for an id expression that is none.
    """
    skipped = work.get("skip")
    if not isinstance(skipped, list):
        return dict(work)
    wanted, expression = set[str](), id_expression_of(id_expression)
    for edit in source.edits.items:
        # An item that cannot be added is told of when all are planned, with its position.
        with suppress(InputError):
            wanted.add(edit.id if edit.id is not None else plan_item(edit.add, expression, Limits()).id)
    return {**work, "skip": [one for one in skipped if one not in wanted]}


def with_edits(spec: MapReduceJobSpec) -> MapReduceJobSpec:
    """The spec with the template and the params that the edits of a fork make; the same for any other job.

    Raises InputError where they do not fit the template.
    """
    if spec.fork_from is None:
        return spec
    edits, update = spec.fork_from.edits, dict[str, object]()
    if edits.template is not None:
        if (problem := template_problem(spec.map, edits.template, "spec.forkFrom.edits.template")) is not None:
            raise InputError("InvalidEdits", problem)
        update["map"] = spec.map.model_copy(update={"template": patched(spec.map, edits.template)})
    if edits.params is not None:
        update["params"] = merge_patch(spec.params, edits.params)
    return spec.model_copy(update=update) if update else spec


def as_before(spec: MapReduceJobSpec, before: MapReduceJobSpec) -> MapReduceJobSpec:
    """A spec whose edits do not fit any more, with the template and the params that ran before."""
    update = {"map": spec.map.model_copy(update={"template": before.map.template}), "params": before.params}
    return spec.model_copy(update=update)
