"""What the API server says of a new object of ours, found out without one.

It reads the schema that the CustomResourceDefinition has, in the order in which the API server goes: unknown fields;
nulls and defaults; types, bounds and lists; and then, unless something is missing or of a wrong type, the rules in CEL.
Complaints have its form: the field, the kind of the error, and what is wrong.

Limit: what a field of a pod template holds is only looked at as far as our schema types it. The operator tries
templates out by a dry run, which needs a cluster.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from mapreduce_operator.api.crd import RESOURCES, definition
from mapreduce_operator.api.objectmeta import SUBDOMAIN
from mapreduce_operator.cli.apiserver import Body
from mapreduce_operator.core.expressions import Expression, ExpressionError

Schema = Mapping[str, Any]

_SUBDOMAIN: Final = re.compile(SUBDOMAIN)
_LABEL_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_METADATA: Final = frozenset(
    {
        *("name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences"),
        # Of an object that was read from a cluster.
        *("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields"),
        *("deletionGracePeriodSeconds", "selfLink"),
    }
)
_ANNOTATIONS_BYTES: Final = 262_144
_PRESERVES: Final = "x-kubernetes-preserve-unknown-fields"
_RULES: Final = "x-kubernetes-validations"
_REASONS: Final = {"FieldValueRequired": "Required value", "FieldValueForbidden": "Forbidden"}
_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    # 1.0 is an integer in JSON.
    "integer": lambda value: (
        not isinstance(value, bool) and (isinstance(value, int) or (isinstance(value, float) and value.is_integer()))
    ),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a field."""

    field: str
    text: str
    blocks: bool = False
    """Rules are not asked after it: the object does not have the form that they rely on."""

    def __str__(self) -> str:
        return f"{self.field}: {self.text}" if self.field else self.text


@cache
def schema_of(kind: str) -> Schema:
    """The schema of a kind of ours; raises KeyError for another one."""
    resource = {one.kind: one for one in RESOURCES}[kind]
    schema: Schema = definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def complaints_about(body: Body) -> list[Complaint]:
    """All that the API server would refuse an object of ours for, when it is created."""
    schema, written = schema_of(body["kind"]), body.get("metadata")
    if wrong := [*_wrong_types_of_metadata({} if written is None else written)]:
        return wrong
    metadata = _named(written or {})
    if unknown := [*_unknown_fields(body, schema)]:
        return unknown
    made = copy.deepcopy(
        {name: value for name, value in body.items() if name not in {"apiVersion", "kind", "metadata"}}
    )
    fill_in(made, schema)
    found = [*_faults_of_metadata(metadata), *_faults(made, schema, "")]
    if any(one.blocks for one in found):
        return found
    return [*found, *_broken_rules(made | {"metadata": metadata}, schema, "")]


# ------------------------------------------------------------------------------------------------ what is not known


def _unknown_fields(body: Body, schema: Schema) -> Iterator[Complaint]:
    metadata = body.get("metadata") or {}
    yield from (
        _unknown(name, "") for name in body if name not in {*schema["properties"], "apiVersion", "kind", "metadata"}
    )
    yield from (_unknown(name, "metadata") for name in metadata if name not in _METADATA)
    for name, value in schema["properties"].items():
        if name in body:
            yield from _unknown_within(body[name], value, name)


def _unknown_within(value: Any, schema: Schema, path: str) -> Iterator[Complaint]:
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if name in properties:
                yield from _unknown_within(inner, properties[name], _joined(path, name))
            elif isinstance(others, dict):
                yield from _unknown_within(inner, others, _joined(path, name))
            elif not schema.get(_PRESERVES):
                yield _unknown(name, path)
    elif isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            yield from _unknown_within(inner, schema["items"], f"{path}[{number}]")


def _unknown(name: str, path: str) -> Complaint:
    return Complaint("", f'unknown field "{_joined(path, name)}"', blocks=True)


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


# -------------------------------------------------------------------------------------------------- what is filled in


def fill_in(value: Any, schema: Schema) -> None:
    """Takes out the nulls that mean nothing, and puts in the defaults."""
    if isinstance(value, list):
        for inner in value:
            fill_in(inner, schema.get("items", {}))
    if not isinstance(value, dict):
        return
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name in [name for name, inner in value.items() if inner is None and (name in properties or others)]:
        del value[name]
    for name, inner in properties.items():
        if name not in value and "default" in inner:
            value[name] = copy.deepcopy(inner["default"])
    for name, inner in value.items():
        fill_in(inner, properties.get(name) or others or {})


# --------------------------------------------------------------------------------------------- types, bounds and lists


def _faults(value: Any, schema: Schema, path: str) -> Iterator[Complaint]:
    kind = schema.get("type")
    if kind is not None and not _KINDS[kind](value):
        yield _wrong_type(path, value, kind)
        return
    if "enum" in schema and value not in schema["enum"]:
        supported = ", ".join(map(json.dumps, schema["enum"]))
        yield Complaint(path, f"Unsupported value: {_shown(value)}: supported values: {supported}", blocks=True)
    match value:
        case str():
            yield from _faults_of_text(value, schema, path)
        case dict():
            yield from _faults_of_object(value, schema, path)
        case list():
            yield from _faults_of_list(value, schema, path)
        case int() | float() if not isinstance(value, bool):
            yield from _faults_of_number(value, schema, path)
        case _:
            pass


def _wrong_type(path: str, value: Any, kind: str) -> Complaint:
    return Complaint(path, f'Invalid value: "{_kind(value)}": must be of type {kind}', blocks=True)


def _faults_of_text(value: str, schema: Schema, path: str) -> Iterator[Complaint]:
    length = len(value)
    if length > schema.get("maxLength", length):
        yield Complaint(path, f"Too long: may not be more than {schema['maxLength']:,} characters", blocks=True)
    if length < schema.get("minLength", 0):
        yield _invalid(path, value, f"should be at least {schema['minLength']} chars long")
    # In Python $ also stands before a line's end.
    if "pattern" in schema and not re.search(schema["pattern"].replace("$", r"\Z"), value):
        yield _invalid(path, value, f"should match '{schema['pattern']}'")


def _faults_of_number(value: float, schema: Schema, path: str) -> Iterator[Complaint]:
    least = schema.get("minimum", value)
    if value < least or (value == least and schema.get("exclusiveMinimum") and "minimum" in schema):
        than = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield _invalid(path, value, f"should be {than} {least}")
    if value > schema.get("maximum", value):
        yield _invalid(path, value, f"should be less than or equal to {schema['maximum']}")


def _faults_of_object(value: Body, schema: Schema, path: str) -> Iterator[Complaint]:
    properties, others = schema.get("properties", {}), schema.get("additionalProperties")
    yield from (
        Complaint(_joined(path, name), "Required value", blocks=True)
        for name in schema.get("required", ())
        if name not in value
    )
    yield from _too_many(len(value), schema.get("maxProperties"), path)
    for name, inner in value.items():
        yield from _faults(inner, properties.get(name) or others or {}, _joined(path, name))


def _faults_of_list(value: list[Any], schema: Schema, path: str) -> Iterator[Complaint]:
    yield from _too_many(len(value), schema.get("maxItems"), path)
    if len(value) < schema.get("minItems", 0):
        yield _invalid(path, value, f"should have at least {schema['minItems']} items")
    for number, inner in enumerate(value):
        yield from _faults(inner, schema.get("items", {}), f"{path}[{number}]")
    keys: list[str] = schema.get("x-kubernetes-list-map-keys", [])
    if schema.get("x-kubernetes-list-type") not in {"set", "map"}:
        return
    seen: set[str] = set()
    for number, inner in enumerate(value):
        told = _shown({key: inner.get(key) for key in keys} if keys and isinstance(inner, dict) else inner)
        if told in seen:
            yield Complaint(f"{path}[{number}]", f"Duplicate value: {told}")
        seen.add(told)


def _too_many(number: int, most: int | None, path: str) -> Iterator[Complaint]:
    if most is not None and number > most:
        yield Complaint(path, f"Too many: {number}: must have at most {most} items", blocks=True)


def _invalid(path: str, value: Any, why: str) -> Complaint:
    return Complaint(path, f"Invalid value: {_shown(value)}: {path} in body {why}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _kind(value: Any) -> str:
    return "null" if value is None else next(kind for kind, is_one in _KINDS.items() if is_one(value))


# ------------------------------------------------------------------------------------------------------------ rules


def _broken_rules(value: Any, schema: Schema, path: str) -> Iterator[Complaint]:
    for rule in schema.get(_RULES, ()):
        # Those about a change have nothing to say of a new object.
        if "oldSelf" not in rule["rule"] and (text := _broken(rule, value)):
            yield Complaint(f"{path}{rule.get('fieldPath', '')}".lstrip("."), text)
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for name, inner in value.items():
            if inner_schema := properties.get(name) or others:
                yield from _broken_rules(inner, inner_schema, _joined(path, name))
    elif isinstance(value, list) and "items" in schema:
        for number, inner in enumerate(value):
            yield from _broken_rules(inner, schema["items"], f"{path}[{number}]")


def _broken(rule: Mapping[str, Any], value: Any) -> str:
    """What is said of a value that breaks a rule, "" for one that keeps it."""
    try:
        if _expression(rule["rule"]).evaluate({"self": value}):
            return ""
    except ExpressionError as error:
        return f'Invalid value: "{_kind(value)}": rule evaluation error: {error}'
    reason, message = rule.get("reason", ""), rule["message"]
    return f"{_REASONS[reason]}: {message}" if reason in _REASONS else f'Invalid value: "{_kind(value)}": {message}'


@cache
def _expression(text: str) -> Expression:
    return Expression(text)


# --------------------------------------------------------------------------------------------------------- metadata


def _wrong_types_of_metadata(metadata: Any) -> Iterator[Complaint]:
    """Of what is looked at further; the API server cannot even read an object with another type there."""
    if not isinstance(metadata, dict):
        yield _wrong_type("metadata", metadata, "object")
        return
    texts, mappings = ("name", "generateName", "namespace"), ("labels", "annotations")
    for kind, names in (("string", texts), ("object", mappings)):
        for name in names:
            value = metadata.get(name)
            if value is not None and not _KINDS[kind](value):
                yield _wrong_type(f"metadata.{name}", value, kind)


def _named(metadata: Body) -> Body:
    """With a name such as the API server makes up, where it has to."""
    prefix = metadata.get("generateName")
    return metadata if metadata.get("name") or not prefix else metadata | {"name": f"{prefix[:58]}x7k2p"}


def _faults_of_metadata(metadata: Body) -> Iterator[Complaint]:
    name, prefix = metadata.get("name") or "", metadata.get("generateName") or ""
    if not name:
        yield Complaint("metadata.name", "Required value: name or generateName is required", blocks=True)
    if name and (not _SUBDOMAIN.fullmatch(name) or len(name) > 253):
        yield Complaint("metadata.name", f"Invalid value: {_shown(name)}: a lowercase RFC 1123 subdomain is expected")
    # A dash at its end stands before what is put behind it.
    if prefix and not _SUBDOMAIN.fullmatch(f"{prefix[:-1]}x" if prefix[-1] == "-" else prefix):
        yield Complaint("metadata.generateName", f"Invalid value: {_shown(prefix)}: no beginning of a name")
    for kind in ("labels", "annotations"):
        for key, value in (metadata.get(kind) or {}).items():
            yield from _faults_of_entry(f"metadata.{kind}", key, value)
    for key, value in (metadata.get("labels") or {}).items():
        if isinstance(value, str) and value and (not _LABEL_NAME.fullmatch(value) or len(value) > 63):
            yield Complaint("metadata.labels", f"Invalid value: {_shown(value)}: no value of the label {key!r}")
    size = sum(len(f"{key}{value}".encode()) for key, value in (metadata.get("annotations") or {}).items())
    if size > _ANNOTATIONS_BYTES:
        yield Complaint("metadata.annotations", f"Too long: may not be more than {_ANNOTATIONS_BYTES:,} bytes")


def _faults_of_entry(path: str, key: str, value: Any) -> Iterator[Complaint]:
    prefix, _, name = key.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or len(name) > 63 or ("/" in key and not _SUBDOMAIN.fullmatch(prefix)):
        yield Complaint(path, f"Invalid value: {_shown(key)}: no name of a label or an annotation")
    if not isinstance(value, str):
        yield Complaint(_joined(path, key), f"Invalid value: {_shown(value)}: must be of type string", blocks=True)
