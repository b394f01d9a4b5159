"""What a job with forkFrom is run as: its own map and params, with the edits over them."""

from mapreduce_operator.api import MapReduceJobSpec
from mapreduce_operator.core.merge_patch import merge_patch
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.template_patches import patched, template_problem


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
