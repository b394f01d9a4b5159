"""The part of an object that the API server owns."""

from datetime import datetime

from pydantic import Field

from mapreduce_operator.api.model import Model


class ObjectMeta(Model):
    """What the operator needs of an object's metadata; the API server owns its schema."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
