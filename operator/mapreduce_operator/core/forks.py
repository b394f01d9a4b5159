"""What a job with forkFrom is run as: its own map and params, with the edits over them."""

from pydantic import ValidationError

from mapreduce_operator.api import MapReduceJobSpec, PodTemplate
from mapreduce_operator.core.merge_patch import merge_named, merge_patch
from mapreduce_operator.core.plan import InputError


def with_edits(spec: MapReduceJobSpec) -> MapReduceJobSpec:
    """The spec with the template and the params that the edits of a fork make; the same for any other job.

    Raises InputError where they make no template.
    """
    if spec.fork_from is None:
        return spec
    edits, update = spec.fork_from.edits, dict[str, object]()
    if edits.template is not None:
        try:
            template = PodTemplate.model_validate(merge_named(spec.map.template.as_written(), edits.template))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                "InvalidEdits",
                f"spec.forkFrom.edits.template makes no pod template of spec.map.template: {where}: {first['msg']}",
            ) from error
        update["map"] = spec.map.model_copy(update={"template": template})
    if edits.params is not None:
        update["params"] = merge_patch(spec.params, edits.params)
    return spec.model_copy(update=update) if update else spec
