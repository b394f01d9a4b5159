"""A pytest plugin: as if the operator did not know one of the fields.

`--ignored-field` takes the field from all specs before they are parsed, or puts another value in its place where one is
given with `--instead`, as JSON.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from mapreduce_operator.api import DeadLetterQueue, MapReduceJob, Redrive
from mapreduce_operator.api.model import Model
from tests.fields.walk import SPECS

OBJECTS: Final[dict[str, type[Model]]] = {
    "MapReduceJob": MapReduceJob,
    "DeadLetterQueue": DeadLetterQueue,
    "Redrive": Redrive,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--ignored-field", required=True)
    parser.addoption("--instead")


def pytest_configure(config: pytest.Config) -> None:
    kind, _, path = config.getoption("--ignored-field").partition(" spec.")
    instead: str | None = config.getoption("--instead")
    steps = path.split(".")
    parse_through(kind, lambda spec: without(spec, steps, instead))


def parse_through(kind: str, change: Callable[[Any], Any]) -> None:
    """Has every spec of a kind changed before it is parsed."""
    spec = SPECS[kind]

    def schema(source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(change, handler(source))

    spec.__get_pydantic_core_schema__ = staticmethod(schema)  # type: ignore[method-assign]
    spec.model_rebuild(force=True)
    OBJECTS[kind].model_rebuild(force=True)


def without(value: Any, steps: list[str], instead: str | None) -> Any:
    if not isinstance(value, Mapping):
        return value
    first, *further = steps
    name = first.removesuffix("[]")
    if name not in value:
        return value
    kept = {key: below for key, below in value.items() if key != name}
    if further:
        below = value[name]
        inside = (
            [without(one, further, instead) for one in below] if first != name else without(below, further, instead)
        )
        return kept | {name: inside}
    return kept | ({name: json.loads(instead)} if instead is not None else {})
