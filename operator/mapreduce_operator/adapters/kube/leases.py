"""The `Leases` port over a coordination.k8s.io Lease, written as other controllers write theirs."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.resources import FIELD_MANAGER, LEASES
from mapreduce_operator.adapters.kube.session import ApiSession
from mapreduce_operator.adapters.kube.wire import Metadata, Narrow
from mapreduce_operator.core.names import LABEL_MANAGED_BY, MANAGED_BY
from mapreduce_operator.ports import JSON, ClusterError, ClusterErrorReason, Lease, LeaseRecord


class LeaseSpec(Narrow):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: datetime | None = None
    renew_time: datetime | None = None
    lease_transitions: int | None = None


class LeaseObject(Narrow):
    metadata: Metadata
    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


class KubeLeases:
    """Fulfils `Leases` for the Lease of one name. Needs the verbs get, create and update."""

    def __init__(self, api: ApiSession, namespace: str, name: str) -> None:
        """The session is not to be one whose writes are fenced by the very leadership that this Lease decides."""
        self._api: Final = api
        self._namespace: Final = namespace
        self._name: Final = name

    async def read(self) -> Lease | None:
        try:
            return await self._request("GET", self._name)
        except ClusterError as error:
            if error.reason is ClusterErrorReason.NOT_FOUND:
                return None
            raise

    async def create(self, record: LeaseRecord) -> Lease:
        return await self._request("POST", "", self._object(record))

    async def replace(self, record: LeaseRecord, version: str) -> Lease:
        # The API server creates a Lease that is replaced and not there, whatever version is named; but none with a uid.
        uid, _, resource_version = version.partition("/")
        return await self._request("PUT", self._name, self._object(record, uid=uid, resourceVersion=resource_version))

    def _object(self, record: LeaseRecord, **metadata: str) -> JSON:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "labels": {LABEL_MANAGED_BY: MANAGED_BY}, **metadata},
            "spec": {
                # Nobody is written as an absent field.
                "holderIdentity": record.holder or None,
                "leaseDurationSeconds": record.duration,
                "acquireTime": _written(record.acquired_at),
                "renewTime": _written(record.renewed_at),
                "leaseTransitions": record.transitions,
            },
        }

    async def _request(self, verb: str, target: str, body: JSON = None) -> Lease:
        about = LEASES.about(self._namespace, self._name)
        answer = await self._api.request(
            verb,
            LEASES.path(self._namespace, target),
            about=about,
            query=None if body is None else FIELD_MANAGER,
            body=body,
        )
        with translated(f"{verb} {about}"):
            found = msgspec.json.decode(answer, type=LeaseObject)
        spec = found.spec
        record = LeaseRecord(
            holder=spec.holder_identity or "",
            duration=spec.lease_duration_seconds or 0,
            acquired_at=_read(spec.acquire_time),
            renewed_at=_read(spec.renew_time),
            transitions=spec.lease_transitions or 0,
        )
        return Lease(record, f"{found.metadata.uid}/{found.metadata.resource_version}")


def _written(seconds: float) -> str:
    """The API server takes six digits of a second, no fewer."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()
