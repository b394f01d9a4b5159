"""The fields that users may set, as the models have them."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, get_args, get_origin

from mapreduce_operator.api import DeadLetterQueueSpec, MapReduceJobSpec, RedriveSpec
from mapreduce_operator.api.model import Model

SPECS: Final[dict[str, type[Model]]] = {
    "MapReduceJob": MapReduceJobSpec,
    "DeadLetterQueue": DeadLetterQueueSpec,
    "Redrive": RedriveSpec,
}


def fields() -> dict[str, bool]:
    """All fields that have none below them, such as `MapReduceJob spec.map.retry.rules[].action`; True if required."""
    return {f"{kind} spec.{path}": required for kind, spec in SPECS.items() for path, required in _below(spec)}


def _below(model: type[Model]) -> Iterator[tuple[str, bool]]:
    for name, field in model.model_fields.items():
        path = field.alias or name
        within = dict(_models_in(field.annotation))
        if not within:
            yield path, field.is_required()
        for brackets, inner in within.items():
            for below, required in _below(inner):
                yield f"{path}{brackets}.{below}", required


def _models_in(annotation: Any) -> Iterator[tuple[str, type[Model]]]:
    """The model that a field holds, as it is or, with brackets, in a list."""
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield "", annotation
    elif get_origin(annotation) is Annotated:
        yield from _models_in(get_args(annotation)[0])
    elif get_origin(annotation) is not dict:
        brackets = "[]" if get_origin(annotation) in {list, tuple, frozenset} else ""
        for argument in get_args(annotation):
            yield from ((brackets + deeper, model) for deeper, model in _models_in(argument))
