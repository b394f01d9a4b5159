"""Turns the JSON schemas of pydantic into structural schemas, the narrower form that Kubernetes takes.

What has no counterpart there is refused, not dropped: a schema that says less than its model would let through what the
model does not take. Whatever stands in a model's `json_schema_extra` under an `x-kubernetes-` name goes through as it
is.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

Schema = dict[str, Any]

# In the order in which they are written.
_KEPT: Final[tuple[str, ...]] = (
    *("description", "type", "format", "enum", "default", "pattern", "minLength", "maxLength", "minimum", "maximum"),
    *("minItems", "maxItems", "minProperties", "maxProperties", "required"),
)
_REWRITTEN: Final = frozenset(
    {"$defs", "title", "const", "exclusiveMinimum", "uniqueItems", "properties", "items", "additionalProperties"}
)
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})
_FORMATS: Final = frozenset({"date-time"})


class NotStructuralError(Exception):
    """A model says something that a Kubernetes schema cannot say; the message begins with the path of the field."""


def structural(schema: Schema) -> Schema:
    """Convert a whole schema, as `model_json_schema(by_alias=True, mode="validation")` gives it."""
    return _convert(schema, schema.get("$defs", {}), "", ())


def _convert(schema: Schema, definitions: Mapping[str, Schema], path: str, within: tuple[str, ...]) -> Schema:
    schema, within = _inline(schema, definitions, path, within)
    extensions = {key: copy.deepcopy(value) for key, value in schema.items() if key.startswith("x-kubernetes-")}
    if foreign := sorted(schema.keys() - {*_KEPT} - _REWRITTEN - extensions.keys()):
        raise NotStructuralError(f"{path or '.'}: Kubernetes has no {', '.join(foreign)}")
    if "format" in schema and schema["format"] not in _FORMATS:
        raise NotStructuralError(f"{path}: Kubernetes has no format {schema['format']}")

    if "description" in schema:
        schema = schema | {"description": _reflow(schema["description"])}
    if "const" in schema:
        schema = schema | {"enum": [schema["const"]]}
    converted = {key: schema[key] for key in _KEPT if key in schema and (key != "required" or schema[key])}
    if "exclusiveMinimum" in schema:
        converted |= _exclusive_minimum(schema)
    match schema.get("type"):
        case "object":
            converted |= _object(schema, definitions, path, within)
        case "array":
            converted |= _array(schema, definitions, path, within)
        case None if not converted.keys() - {"description", "default"}:
            converted["x-kubernetes-preserve-unknown-fields"] = True
        case kind if kind not in _SCALARS:
            raise NotStructuralError(f"{path or '.'}: Kubernetes has no type {kind}")
    converted |= extensions
    return _with_settled_default(converted, path)


def _inline(
    schema: Schema, definitions: Mapping[str, Schema], path: str, within: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Replace references and `X | None` by what they stand for; what stands beside them wins.

    Absent and null are the same in Kubernetes, so that the null arm and a default of null say nothing.
    """
    while "$ref" in schema or "anyOf" in schema:
        beside = {key: value for key, value in schema.items() if key not in {"$ref", "anyOf"}}
        if "$ref" in schema:
            name = schema["$ref"].removeprefix("#/$defs/")
            if name in within:
                raise NotStructuralError(f"{path}: {name} contains itself, and Kubernetes has no references")
            within = (*within, name)
            schema = definitions[name] | beside
        else:
            arms = [arm for arm in schema["anyOf"] if arm != {"type": "null"}]
            if len(arms) != 1:
                raise NotStructuralError(f"{path}: Kubernetes has no union of types")
            schema = arms[0] | beside
    return schema, within


def _object(schema: Schema, definitions: Mapping[str, Schema], path: str, within: tuple[str, ...]) -> Schema:
    additional = schema.get("additionalProperties", False)
    if "properties" in schema:
        if isinstance(additional, dict):
            raise NotStructuralError(f"{path or '.'}: Kubernetes has either named fields or a map, not both")
        properties = {
            name: _convert(value, definitions, f"{path}.{name}", within) for name, value in schema["properties"].items()
        }
        return {"properties": properties} | ({"x-kubernetes-preserve-unknown-fields": True} if additional else {})
    if isinstance(additional, dict):
        additional, within = _inline(additional, definitions, f"{path}[*]", within)
    # A map of anything is free-form itself: as a map, the API server would take its nulls for fields that are absent.
    if additional is True or additional == {}:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return {"additionalProperties": _convert(additional, definitions, f"{path}[*]", within)} if additional else {}


def _array(schema: Schema, definitions: Mapping[str, Schema], path: str, within: tuple[str, ...]) -> Schema:
    if "items" not in schema:
        raise NotStructuralError(f"{path}: Kubernetes has no list without a schema of its entries")
    items = _convert(schema["items"], definitions, f"{path}[]", within)
    if not schema.get("uniqueItems"):
        return {"items": items, "x-kubernetes-list-type": "atomic"}
    if items.get("type") not in _SCALARS:
        raise NotStructuralError(f"{path}: Kubernetes has sets of scalars only")
    return {"items": items, "x-kubernetes-list-type": "set"}


def _exclusive_minimum(schema: Schema) -> Schema:
    """In OpenAPI 3.0 the keyword is a switch beside `minimum`, not a bound of its own."""
    bound = schema["exclusiveMinimum"]
    if schema["type"] == "integer":
        return {"minimum": max(bound + 1, schema.get("minimum", bound + 1))}
    if schema.get("minimum", bound) > bound:
        return {}
    return {"minimum": bound, "exclusiveMinimum": True}


def _with_settled_default(schema: Schema, path: str) -> Schema:
    """Reduce a default to what must be said.

    A field that is absent is the same as null, and for a text, list or map the same as empty. An object is filled in by
    the API server from the defaults of its fields as soon as it is there: `{}` is enough, and stays right when they
    change.
    """
    if "default" not in schema:
        return schema
    default = schema["default"]
    if default is None or (default in ("", [], {}) and not schema.get("properties")):
        return {key: value for key, value in schema.items() if key != "default"}
    if not schema.get("properties"):
        # `kubectl explain` shows no defaults.
        said = default if isinstance(default, str) else json.dumps(default)
        return schema | {"description": f"{schema.get('description', '')} Defaults to {said}.".lstrip()}
    if _without_empty(default) != _filled_in(schema):
        raise NotStructuralError(f"{path}: its default differs from the defaults of its fields")
    return schema | {"default": {}}


def _filled_in(schema: Schema) -> Schema:
    """What the API server makes of `{}`."""
    return {
        name: _filled_in(value) if value.get("properties") else value["default"]
        for name, value in schema["properties"].items()
        if "default" in value
    }


def _without_empty(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_empty(inner) for key, inner in value.items() if inner not in (None, "", [], {})}


def _reflow(text: str) -> str:
    """Undo the line breaks of the source, which mean nothing, and keep paragraphs."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
