"""Each rewriting from pydantic's JSON schema to a structural schema, on the smallest model that shows it."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, JsonValue, create_model

from mapreduce_operator.api.model import Model
from mapreduce_operator.api.structural import NotStructuralError, structural


def schema_of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The structural schema of a field `it` of this type."""
    model = create_model("Holder", it=(annotation, default))
    schema: dict[str, Any] = structural(model.model_json_schema())["properties"]["it"]
    return schema


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Point(Model):
    """A point."""

    x: int = 1
    y: int = 2
    names: tuple[str, ...] = ()


class Line(Model):
    start: Point = Point()
    width: float = Field(default=0.5, gt=0)


class Tree(BaseModel):
    children: list["Tree"] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    known: int


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    known: int


class Ruled(BaseModel):
    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [{"rule": "self.known > 0"}]})
    known: int


def test_a_reference_is_replaced_by_what_it_refers_to() -> None:
    assert schema_of(Colour) == {"type": "string", "enum": ["Red", "Blue"]}


def test_what_stands_beside_a_reference_wins_over_what_it_refers_to() -> None:
    assert schema_of(Annotated[Point, Field(description="The start.")])["description"] == "The start."
    assert schema_of(Point)["description"] == "A point."


def test_the_same_model_may_be_used_twice() -> None:
    model = create_model("Holder", a=(Point, ...), b=(Point, ...))
    properties = structural(model.model_json_schema())["properties"]

    assert properties["a"] == properties["b"]
    assert properties["a"]["properties"] is not properties["b"]["properties"]


def test_null_is_the_same_as_absent() -> None:
    assert schema_of(int | None, None) == {"type": "integer"}


def test_limits_of_an_optional_field_are_kept() -> None:
    assert schema_of(str | None, Field(default=None, max_length=3)) == {"type": "string", "maxLength": 3}


def test_titles_are_left_out_but_not_a_field_called_title() -> None:
    model = create_model("Holder", title=(str, ...))

    assert structural(model.model_json_schema()) == {
        "type": "object",
        "required": ["title"],
        "properties": {"title": {"type": "string"}},
    }


def test_a_default_is_kept_and_told() -> None:
    assert schema_of(int, Field(default=3, description="How many.")) == {
        "description": "How many. Defaults to 3.",
        "type": "integer",
        "default": 3,
    }
    assert schema_of(Colour, Colour.RED)["default"] == "Red"
    assert schema_of(bool, False)["description"] == "Defaults to false."


@pytest.mark.parametrize(
    ("annotation", "default"), [(list[int], []), (dict[str, int], {}), (str, ""), (frozenset[int], frozenset())]
)
def test_an_empty_default_is_the_same_as_absent(annotation: Any, default: Any) -> None:
    assert "default" not in schema_of(annotation, default)


def test_an_object_with_defaults_is_filled_in_by_the_api_server() -> None:
    line = schema_of(Line, Line())

    assert line["default"] == {}
    assert line["properties"]["start"]["default"] == {}
    assert line["properties"]["start"]["properties"]["x"]["default"] == 1


def test_an_object_whose_default_is_not_that_of_its_fields_is_refused() -> None:
    with pytest.raises(NotStructuralError, match=r"^\.it: its default differs"):
        schema_of(Point, Point(x=5))


def test_an_exclusive_minimum_of_an_integer_becomes_the_next_one() -> None:
    assert schema_of(Annotated[int, Field(gt=0)]) == {"type": "integer", "minimum": 1}
    assert schema_of(Annotated[int, Field(gt=0, ge=5)]) == {"type": "integer", "minimum": 5}


def test_an_exclusive_minimum_of_a_number_becomes_a_switch() -> None:
    assert schema_of(Annotated[float, Field(gt=0)]) == {"type": "number", "minimum": 0, "exclusiveMinimum": True}
    assert schema_of(Annotated[float, Field(gt=0, ge=0.5)]) == {"type": "number", "minimum": 0.5}


def test_a_constant_becomes_an_enumeration_of_one() -> None:
    assert schema_of(Literal["Never"]) == {"type": "string", "enum": ["Never"]}


def test_lists_are_atomic_unless_said_otherwise() -> None:
    by_name = Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["x"]})

    assert schema_of(tuple[int, ...])["x-kubernetes-list-type"] == "atomic"
    assert schema_of(Annotated[list[Point], by_name])["x-kubernetes-list-type"] == "map"


def test_sets_become_lists_of_type_set() -> None:
    assert schema_of(Annotated[frozenset[Colour], Field(max_length=2)]) == {
        "type": "array",
        "maxItems": 2,
        "items": {"type": "string", "enum": ["Red", "Blue"]},
        "x-kubernetes-list-type": "set",
    }


def test_maps_have_a_schema_of_their_values() -> None:
    assert schema_of(Annotated[dict[str, Annotated[str, Field(max_length=9)]], Field(max_length=2)]) == {
        "type": "object",
        "maxProperties": 2,
        "additionalProperties": {"type": "string", "maxLength": 9},
    }


@pytest.mark.parametrize("annotation", [Any, JsonValue])
def test_any_json_value_is_kept_as_it_is(annotation: Any) -> None:
    assert schema_of(annotation) == {"x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize("annotation", [dict[str, Any], dict[str, JsonValue]])
def test_maps_of_any_values_preserve_their_fields(annotation: Any) -> None:
    assert schema_of(annotation) == {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def test_open_objects_preserve_unknown_fields() -> None:
    assert schema_of(Open)["x-kubernetes-preserve-unknown-fields"] is True
    assert "additionalProperties" not in schema_of(Open)


def test_a_list_of_required_fields_is_left_out_when_it_is_empty() -> None:
    model = create_model("Open", __config__=ConfigDict(json_schema_extra={"required": []}), it=(int, ...))

    assert "required" not in structural(model.model_json_schema())


def test_closed_objects_are_left_to_pruning() -> None:
    assert schema_of(Closed) == {"type": "object", "required": ["known"], "properties": {"known": {"type": "integer"}}}


def test_extensions_of_kubernetes_go_through() -> None:
    assert schema_of(Ruled)["x-kubernetes-validations"] == [{"rule": "self.known > 0"}]


def test_line_breaks_of_the_source_are_undone_and_paragraphs_kept() -> None:
    described = Annotated[int, Field(description="One\nsentence.\n\nAnother\n  one.")]

    assert schema_of(described)["description"] == "One sentence.\n\nAnother one."


@pytest.mark.parametrize(
    ("annotation", "complaint"),
    [
        (Tree, r"\.it\.children\[\]: Tree contains itself"),
        (int | str, r"\.it: Kubernetes has no union"),
        (tuple[int, str], r"\.it: Kubernetes has no prefixItems"),
        (Decimal, r"\.it: Kubernetes has no union"),
        (Annotated[int, Field(lt=3)], r"\.it: Kubernetes has no exclusiveMaximum"),
        (Annotated[int, Field(json_schema_extra={"readOnly": True})], r"\.it: Kubernetes has no readOnly"),
        (dict[Colour, str], r"\.it: Kubernetes has no propertyNames"),
        (bytes, r"\.it: Kubernetes has no format binary"),
        (frozenset[tuple[int, ...]], r"\.it: Kubernetes has sets of scalars only"),
        (None, r"\.it: Kubernetes has no type null"),
        (Literal[1, "a"], r"\.it: Kubernetes has no type None"),
    ],
)
def test_what_kubernetes_cannot_say_is_refused_with_its_path(annotation: Any, complaint: str) -> None:
    with pytest.raises(NotStructuralError, match=f"^{complaint}"):
        schema_of(annotation)


def test_a_list_needs_a_schema_of_its_entries() -> None:
    with pytest.raises(NotStructuralError, match="without a schema of its entries"):
        structural({"type": "object", "properties": {"it": {"type": "array"}}})


def test_an_object_is_either_a_map_or_has_named_fields() -> None:
    with pytest.raises(NotStructuralError, match="not both"):
        structural({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}})
