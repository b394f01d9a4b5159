"""The kinds of objects that the operator touches, and where the API server has them."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from mapreduce_operator.api import API_VERSION
from mapreduce_operator.core.names import MANAGED_BY

FIELD_MANAGER: Final = {"fieldManager": MANAGED_BY}
"""Query of every write: in whose name it is done."""


@dataclass(frozen=True, slots=True)
class Resource:
    api: str
    """Path of the API group and its version."""
    plural: str

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Path of an object, or of the collection; an empty namespace is all namespaces."""
        parts = [self.api]
        if namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def about(self, namespace: str, name: str = "") -> str:
        """The same for people."""
        return f"{self.plural} {namespace or '*'}/{name}" if name else f"{self.plural} in {namespace or '*'}"


JOBS: Final = Resource("/apis/batch/v1", "jobs")
PODS: Final = Resource("/api/v1", "pods")
CONFIG_MAPS: Final = Resource("/api/v1", "configmaps")
EVENTS: Final = Resource("/api/v1", "events")
LEASES: Final = Resource("/apis/coordination.k8s.io/v1", "leases")

MAPREDUCE_JOBS: Final = Resource(f"/apis/{API_VERSION}", "mapreducejobs")
DEAD_LETTER_QUEUES: Final = Resource(f"/apis/{API_VERSION}", "deadletterqueues")
REDRIVES: Final = Resource(f"/apis/{API_VERSION}", "redrives")


def resource_in(path: str) -> str:
    """What a path of the API is about: the plural of the kind, with the subresource, such as "pods/log"."""
    parts = path.strip("/").split("/")
    # The core group has no name: /api/v1 against /apis/batch/v1.
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join(parts[::2])
