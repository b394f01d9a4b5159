"""Reads the input of a job and plans it. What is wrong with it raises InputError, for the user to mend."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mapreduce_operator.api import ConfigMapInput, Input, ObjectInput
from mapreduce_operator.core.checkpoint import digest
from mapreduce_operator.core.item_texts import TEXT_BYTES, text_of, values_in
from mapreduce_operator.core.names import RunRef, input_key
from mapreduce_operator.core.plan import InputError, Limits, Planned, keys_of, planning
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ObjectTooLargeError


async def plan_input(world: World, run: RunRef, source: Input) -> Planned:
    """The plan of the input as it is now.

    Raises InputError, and ClusterError or StorageError when it cannot be read.
    """
    values: Iterable[Any]
    if (reference := source.reference) is not None:
        data, where = await read_input(world, run, reference), place_of(run, reference)
        values, sha256 = values_in(text_of(data, where), reference.format, where), digest(data)
    elif source.items is not None:
        values, sha256 = source.items, ""
    else:
        raise InputError("InputMalformed", "spec.input has no source of items. Give items, configMapRef or object")
    planned = await _planned(values, source, world.limits)
    keys_of(run.uid, [item.id for item in planned.items])
    return replace(planned, input_sha256=sha256)


async def _planned(values: Iterable[Any], source: Input, limits: Limits) -> Planned:
    steps = planning(values, source, limits)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            planned: Planned = end.value
            return planned
        await asyncio.sleep(0)


async def read_input(world: World, run: RunRef, reference: ConfigMapInput | ObjectInput) -> bytes:
    """What the items are read from, as it is stored; raises as `plan_input` does."""
    if isinstance(reference, ConfigMapInput):
        return await _read_config_map(world, run, reference)
    return await _read_object(world, run, reference)


def place_of(run: RunRef, reference: ConfigMapInput | ObjectInput) -> str:
    """What the items are read from, for people."""
    if isinstance(reference, ConfigMapInput):
        return f"key {reference.key!r} of the ConfigMap {reference.name!r}"
    return f"the object {input_key(run.namespace, reference.key)!r}"


async def _read_config_map(world: World, run: RunRef, reference: ConfigMapInput) -> bytes:
    data = await world.cluster.read_config_map(run.namespace, reference.name)
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


async def _read_object(world: World, run: RunRef, reference: ObjectInput) -> bytes:
    key = input_key(run.namespace, reference.key)
    try:
        found = await world.store.get_within(key, TEXT_BYTES)
    except ObjectTooLargeError as error:
        raise InputError("InputTooLarge", f"{error}. Split it into several jobs") from error
    if found is None:
        raise InputError(
            "InputObjectNotFound",
            f"spec.input.object names {reference.key!r}, and there is no object {world.storage_url.rstrip('/')}/{key}. "
            "Put it there, or correct the key; the job goes on by itself",
        )
    return found.data


def _some(keys: list[str]) -> str:
    return ", ".join(map(repr, keys[:10])) + (" and more" if len(keys) > 10 else "") if keys else "no keys"
