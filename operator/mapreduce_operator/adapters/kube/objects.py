"""One object at a time: by its name, or only the very object of a uid, whatever has its name by now."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import msgspec

from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.resources import FIELD_MANAGER, Resource
from mapreduce_operator.adapters.kube.session import JSON_BODY, JSON_PATCH, MERGE_PATCH, METADATA, ApiSession
from mapreduce_operator.adapters.kube.wire import AnyObject, MapReduceJobObject
from mapreduce_operator.core.names import FINALIZER
from mapreduce_operator.ports import JSON, ClusterError, ClusterErrorReason

_ATTEMPTS: Final = 5

T = TypeVar("T")
ObjectT = TypeVar("ObjectT", AnyObject, MapReduceJobObject)


class Objects:
    """Objects of all kinds, one by one. Every method raises ClusterError or nothing."""

    def __init__(self, api: ApiSession) -> None:
        self._api: Final = api

    async def get(self, form: type[T], resource: Resource, namespace: str, name: str) -> T | None:
        """The object of this name, of which `form` says what is read, or None where there is none."""
        about = resource.about(namespace, name)
        accept = METADATA if form is AnyObject else JSON_BODY
        try:
            answer = await self._api.request("GET", resource.path(namespace, name), about=about, accept=accept)
        except ClusterError as error:
            if error.reason is ClusterErrorReason.NOT_FOUND:
                return None
            raise
        with translated(f"GET {about}"):
            return msgspec.json.decode(answer, type=form)

    async def get_very(self, form: type[ObjectT], resource: Resource, namespace: str, name: str, uid: str) -> ObjectT:
        """The very object; NOT_FOUND when there is none of this uid."""
        found = await self.get(form, resource, namespace, name)
        if found is None or found.metadata.uid != uid:
            other = "" if found is None else f", {found.metadata.uid} has its name"
            raise ClusterError(
                ClusterErrorReason.NOT_FOUND,
                f"GET {resource.about(namespace, name)}: the object with uid {uid} is gone{other}",
            )
        return found

    async def create(
        self, resource: Resource, namespace: str, manifest: Mapping[str, JSON], query: Mapping[str, str] = FIELD_MANAGER
    ) -> str:
        """Creates an object and returns its uid; ALREADY_EXISTS when its name is taken."""
        about = resource.about(namespace, str(manifest.get("metadata", {}).get("name", "")))
        answer = await self._api.request(
            "POST", resource.path(namespace), about=about, query=query, body=manifest, accept=METADATA
        )
        with translated(f"POST {about}"):
            return msgspec.json.decode(answer, type=AnyObject).metadata.uid

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        patch: JSON,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> None:
        await self._api.request(
            "PATCH",
            resource.path(namespace, name, subresource),
            about=resource.about(namespace, name),
            query=FIELD_MANAGER,
            body=patch,
            content_type=content_type,
            accept=METADATA,
        )

    async def replace_status(
        self, resource: Resource, namespace: str, name: str, uid: str, status: Mapping[str, JSON], *tests: JSON
    ) -> None:
        """Replaces the status of the very object; NOT_FOUND when it is gone, INVALID when one of the tests fails."""
        # A JSON patch, since a merge patch would take a null within a result for a deletion.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            *tests,
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            await self.patch(resource, namespace, name, patch, content_type=JSON_PATCH, subresource="status")
        except ClusterError as error:
            if error.reason is ClusterErrorReason.INVALID:
                await self.get_very(AnyObject, resource, namespace, name, uid)  # raises if the uid was the reason
            raise

    async def change_finalizers(
        self, resource: Resource, namespace: str, name: str, uid: str, change: Callable[[Sequence[str]], Sequence[str]]
    ) -> None:
        """Reads, changes and writes, against the version that was read; again when somebody was faster."""
        for attempt in range(1, _ATTEMPTS + 1):
            metadata = (await self.get_very(AnyObject, resource, namespace, name, uid)).metadata
            there = metadata.finalizers or []
            wanted = change(there)
            if wanted == there:
                return
            patch = {"uid": uid, "resourceVersion": metadata.resource_version, "finalizers": wanted}
            try:
                await self.patch(resource, namespace, name, {"metadata": patch})
            except ClusterError as error:
                if error.reason is not ClusterErrorReason.CONFLICT or attempt == _ATTEMPTS:
                    raise
            else:
                return

    async def remove_finalizer(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Removes our finalizer, keeping those of others. An object that is gone has none."""
        try:
            await self.change_finalizers(
                resource, namespace, name, uid, lambda there: [one for one in there if one != FINALIZER]
            )
        except ClusterError as error:
            if error.reason is not ClusterErrorReason.NOT_FOUND:
                raise

    async def delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: Mapping[str, JSON],
        *,
        fine: set[ClusterErrorReason],
    ) -> None:
        """Deletes an object; errors with one of the reasons in `fine` are as good as done."""
        try:
            await self._api.request(
                "DELETE", resource.path(namespace, name), about=resource.about(namespace, name), body=options
            )
        except ClusterError as error:
            if error.reason not in fine:
                raise
