"""What all models of the API share: how they read, how they are written, and how they state rules for the API server.

The attribute docstrings of the models are what `kubectl explain` shows, so they speak to the author of a manifest.
Limits stand on every string, list and map: they keep objects small, and the API server needs them to bound the cost of
the rules.
"""

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

ApiVersion = Literal["mapreduce.dev/v1alpha1"]
API_VERSION: Final[ApiVersion] = "mapreduce.dev/v1alpha1"


class Model(BaseModel):
    """A part of a custom resource: immutable in Python, camelCase in Kubernetes.

    Unknown fields are dropped on reading, so that an operator can read objects that a newer one wrote.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def to_kubernetes(self) -> dict[str, Any]:
        """This object as the API server takes it, in plain JSON types, without the fields that are None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def rule(
    cel: str,
    message: str,
    *,
    field: str,
    reason: Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"] = "FieldValueInvalid",
) -> JsonDict:
    """One entry of x-kubernetes-validations.

    `field` is the path, from the object that carries the rule, of the field to blame; the empty path blames the object
    itself. The rule is checked by the API server, not by the models: what the operator reads has passed it.
    """
    blamed: JsonDict = {"fieldPath": field} if field else {}
    return {"rule": cel, "message": message, "reason": reason} | blamed
