"""Patches of pod templates, as Redrives and forks have them, held to the rules that hold for templates themselves."""

from typing import Any

from pydantic import ValidationError

from mapreduce_operator.api import PodTemplate, Work
from mapreduce_operator.core.merge_patch import merge_named
from mapreduce_operator.core.names import GROUP


def patched(work: Work, patch: dict[str, Any]) -> PodTemplate:
    """The template after the patch; raises ValidationError when that makes no template of it."""
    return PodTemplate.model_validate(merge_named(work.template.as_written(), patch))


def template_problem(work: Work, patch: dict[str, Any], field: str) -> str | None:
    """Why a patch, which stands in `field`, cannot be what its author means; None where nothing is wrong with it.

    What the API server refuses in spec.map.template is refused here, where a patch would have no effect otherwise.
    """
    unknown = sorted(patch.keys() - {"metadata", "spec"})
    if unknown:
        return f"{field}.{unknown[0]} is no field of a pod template, which has metadata and spec"
    try:
        template = patched(work, patch)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return f"{field} makes no pod template of spec.map.template: {where}: {first['msg']}"
    agent, pod, carried = template.spec.containers[0], template.spec, template.metadata
    if pod.activeDeadlineSeconds is not None:
        return f"{field}.spec.activeDeadlineSeconds must not be set: the job's timeoutSeconds holds"
    for name in ("terminationMessagePath", "terminationMessagePolicy"):
        if getattr(agent, name) is not None:
            return f"{field} sets {name} of the first container: the result is read through it"
    for kind, names in (("labels", carried and carried.labels), ("annotations", carried and carried.annotations)):
        if any(name.startswith(f"{GROUP}/") for name in names or ()):
            return f"{field}.metadata.{kind} must not begin with {GROUP}/: these are the operator's"
    return None
