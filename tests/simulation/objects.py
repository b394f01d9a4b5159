"""Objects of one kind as a simulated API server keeps them: DeadLetterQueues, or Redrives."""

import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from mapreduce_operator.core.names import FINALIZER
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.simulation.timeline import LoopClock

Body = dict[str, Any]


class Objects:
    """All of them in one namespace, by name."""

    def __init__(self, plural: str, clock: LoopClock) -> None:
        self.plural: Final = plural
        self.by_name: Final[dict[str, Body]] = {}
        self.on_change: Final[list[Callable[[Body, bool], None]]] = []
        """Called with an object as it is after a change, and whether it is gone."""
        self.on_status: Final[list[Callable[[Body, Body, int], None]]] = []
        """Called with an object, the status that it is about to get, and the process that gives it."""
        self.terminating = False
        """The namespace is being deleted."""
        self._clock: Final = clock
        self._created = 0

    def create(self, manifest: Mapping[str, Any]) -> str:
        """Returns the uid."""
        body: Body = msgspec.json.decode(msgspec.json.encode(manifest))
        metadata = body["metadata"]
        if self.terminating:
            raise ClusterError(ClusterErrorReason.TERMINATING, "unable to create new content: it is being terminated")
        if metadata["name"] in self.by_name:
            raise ClusterError(ClusterErrorReason.ALREADY_EXISTS, f"{self.plural} {metadata['name']!r} already exists")
        self._created += 1
        uid = f"{self.plural}-{self._created}"
        body["metadata"] = (
            {"namespace": "default"} | metadata | {"uid": uid, "generation": 1, "creationTimestamp": self._now()}
        )
        self.by_name[metadata["name"]] = body
        self._tell(body)
        return uid

    def get(self, name: str) -> Body | None:
        body = self.by_name.get(name)
        return None if body is None else copy.deepcopy(body)

    def replace_status(self, name: str, uid: str, status: Mapping[str, Any], process: int = 0) -> None:
        body = self._find(name, uid)
        stored: Body = msgspec.json.decode(msgspec.json.encode(status))
        for hook in self.on_status:
            hook(body, stored, process)
        if body.get("status") != stored:
            body["status"] = stored
            self._tell(body)

    def edit(self, name: str, **changes: Any) -> None:
        """A person changes the spec."""
        body = self.by_name[name]
        body["spec"] |= changes
        body["metadata"]["generation"] += 1
        self._tell(body)

    def delete(self, name: str, uid: str = "") -> None:
        """What is not there, or has another uid, is left alone."""
        body = self.by_name.get(name)
        if body is None or uid not in {"", body["metadata"]["uid"]}:
            return
        if not body["metadata"].get("finalizers"):
            self._remove(body)
        elif "deletionTimestamp" not in body["metadata"]:
            body["metadata"]["deletionTimestamp"] = self._now()
            self._tell(body)

    def remove_finalizer(self, name: str, uid: str) -> None:
        body = self.by_name.get(name)
        if body is None or uid != body["metadata"]["uid"] or FINALIZER not in body["metadata"].get("finalizers", ()):
            return
        body["metadata"]["finalizers"].remove(FINALIZER)
        if body["metadata"]["finalizers"] or "deletionTimestamp" not in body["metadata"]:
            self._tell(body)
        else:
            self._remove(body)

    def _find(self, name: str, uid: str) -> Body:
        body = self.by_name.get(name)
        if body is None or body["metadata"]["uid"] != uid:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"{self.plural} {name!r} of uid {uid} not found")
        return body

    def _remove(self, body: Body) -> None:
        del self.by_name[body["metadata"]["name"]]
        self._tell(body, gone=True)

    def _tell(self, body: Body, *, gone: bool = False) -> None:
        for hook in list(self.on_change):
            hook(copy.deepcopy(body), gone)

    def _now(self) -> str:
        return datetime.fromtimestamp(int(self._clock.now()), UTC).isoformat().replace("+00:00", "Z")
