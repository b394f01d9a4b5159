"""The part of an object that the API server owns."""

from datetime import datetime
from typing import Annotated, Final

from pydantic import Field

from mapreduce_operator.api.model import Model

SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""A DNS subdomain as RFC 1123 has it, in small letters: what names of objects are, of up to 253 characters."""
JobName = Annotated[str, Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""The name of a MapReduceJob."""
Uid = Annotated[str, Field(min_length=1, max_length=64, pattern="^[A-Za-z0-9]([-A-Za-z0-9._]*[A-Za-z0-9])?$")]
"""The uid of an object; it becomes part of keys in storage."""


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
