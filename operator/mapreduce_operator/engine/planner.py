"""Reads the input of a job and plans it. What is wrong with it raises InputError, for the user to mend."""

from dataclasses import replace

from mapreduce_operator.api import ConfigMapInput, Input
from mapreduce_operator.core.checkpoint import digest
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import InputError, Limits, Planned, keys_of, parse_text, plan_items
from mapreduce_operator.ports import Cluster


async def plan_input(cluster: Cluster, run: RunRef, source: Input, limits: Limits) -> Planned:
    """The plan of the input as it is now; raises InputError, or ClusterError when it cannot be read."""
    if source.config_map_ref is None:
        if source.items is None:
            raise InputError("InputMalformed", "spec.input has neither items nor configMapRef. Give one of them")
        values, input_sha256 = list(source.items), ""
    else:
        text = await read_text(cluster, run, source.config_map_ref)
        where = f"key {source.config_map_ref.key!r} of the ConfigMap {source.config_map_ref.name!r}"
        values, input_sha256 = parse_text(text, source.config_map_ref.format, where), digest(text.encode())
    planned = plan_items(
        values,
        id_expression=source.id_expression,
        on_duplicate=source.on_duplicate,
        max_items=source.max_items,
        limits=limits,
    )
    keys_of(run.uid, [item.id for item in planned.items])
    return replace(planned, input_sha256=input_sha256)


async def read_text(cluster: Cluster, run: RunRef, reference: ConfigMapInput) -> str:
    """What a ConfigMap holds as input; raises InputError where it holds none, or ClusterError."""
    data = await cluster.read_config_map(run.namespace, reference.name)
    if data is None:
        raise InputError(
            "ConfigMapNotFound",
            f"spec.input.configMapRef names the ConfigMap {reference.name!r}, which does not exist in the namespace "
            f"{run.namespace!r}. Create it, or correct the name; the job goes on by itself",
        )
    if reference.key not in data:
        raise InputError(
            "ConfigMapKeyNotFound",
            f"the ConfigMap {reference.name!r} has no key {reference.key!r} in its data; it has {_some(sorted(data))}. "
            "Add it, or correct spec.input.configMapRef.key; the job goes on by itself",
        )
    return data[reference.key]


def _some(keys: list[str]) -> str:
    return ", ".join(map(repr, keys[:10])) + (" and more" if len(keys) > 10 else "") if keys else "no keys"
