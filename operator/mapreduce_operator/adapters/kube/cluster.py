"""The `Cluster` port over the Kubernetes API: Jobs, pods, ConfigMaps, Events and the MapReduceJob itself.

Guarantees: every method raises ClusterError or nothing, touches the object of one uid only where the port names one,
and ends in bounded time. There is no retrying beyond what a method says: a request that was refused, or that nobody
answered, is the engine's to repeat.
"""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self, TypeVar

import msgspec

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.paging import Collection
from mapreduce_operator.adapters.kube.resources import (
    CONFIG_MAPS,
    EVENTS,
    JOBS,
    MAPREDUCE_JOBS,
    PODS,
    Resource,
)
from mapreduce_operator.adapters.kube.session import JSON_BODY, JSON_PATCH, MERGE_PATCH, METADATA, ApiSession
from mapreduce_operator.adapters.kube.watching import Lines, event_in
from mapreduce_operator.adapters.kube.wire import (
    AnyObject,
    ConfigMap,
    Job,
    MapReduceJobObject,
    Page,
    Pod,
    job_seen,
    owner_uid,
    pod_seen,
)
from mapreduce_operator.api import API_VERSION, KIND
from mapreduce_operator.core.failures import NODE_LOST
from mapreduce_operator.core.names import FINALIZER, LABEL_MANAGED_BY, LABEL_RUN, MANAGED_BY, RunRef
from mapreduce_operator.core.workloads import PodSeen
from mapreduce_operator.ports import (
    JSON,
    Bookmark,
    Change,
    Clock,
    ClusterError,
    ClusterErrorReason,
    JobCreated,
    Listing,
    WorkloadKind,
)

_OURS: Final = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
_MANAGER: Final = {"fieldManager": MANAGED_BY}
_ATTEMPTS: Final = 5
_EVENT_MESSAGE_BYTES: Final = 1024

_job_pages: Final = msgspec.json.Decoder(Page[Job])
_pod_pages: Final = msgspec.json.Decoder(Page[Pod])

T = TypeVar("T")


class KubeCluster:
    """Fulfils `Cluster`. Lists and watches one namespace, or all when it is empty."""

    def __init__(
        self,
        api: ApiSession,
        *,
        namespace: str = "",
        clock: Clock | None = None,
        watch_seconds: tuple[int, int] = (240, 420),
    ) -> None:
        """Takes the session over; `watch_seconds` is the range of a watch's length before the server ends it."""
        self._api: Final = api
        self._namespace: Final = namespace
        self._clock: Final[Clock] = clock or SystemClock()
        self._watch_seconds: Final = watch_seconds

    async def close(self) -> None:
        await self._api.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---------------------------------------------------------------------------------------------------------- Jobs

    async def create_job(self, namespace: str, manifest: Mapping[str, JSON], *, dry_run: bool = False) -> JobCreated:
        # A real create is not strict: what the dry run accepted must not fail later for a field that a newer or older
        # API server does not know.
        query = {**_MANAGER, "dryRun": "All", "fieldValidation": "Strict"} if dry_run else _MANAGER
        name = str(manifest.get("metadata", {}).get("name", ""))
        created = await self._object(
            AnyObject, "POST", JOBS.path(namespace), JOBS.about(namespace, name), query=query, body=manifest
        )
        return JobCreated(created.metadata.uid)

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        try:
            found = await self._object(AnyObject, "GET", JOBS.path(namespace, name), JOBS.about(namespace, name))
        except ClusterError as error:
            if error.reason is ClusterErrorReason.NOT_FOUND:
                return None
            raise
        return found.metadata.uid, owner_uid(found.metadata)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        # CONFLICT: the name belongs to another Job by now.
        await self._delete(
            JOBS, namespace, name, options, fine={ClusterErrorReason.NOT_FOUND, ClusterErrorReason.CONFLICT}
        )

    async def delete_jobs(self, run: RunRef) -> None:
        selector = f"{_OURS},{LABEL_RUN}={run.uid}"
        await Collection(self._api, JOBS, run.namespace, selector, _job_pages).delete()

    async def find_pod(self, namespace: str, job_uid: str) -> PodSeen | None:
        # The Job controller puts this label on the pods that it makes.
        selector = f"{_OURS},batch.kubernetes.io/controller-uid={job_uid}"
        pods, _ = await Collection(self._api, PODS, namespace, selector, _pod_pages).read(pod_seen)
        return next(iter(pods), None)

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """As in the port. The pod is marked as failed before.

        Without that the Job controller keeps it by its finalizer, as one that never ended. Kubernetes' own collector of
        pods goes about it in the same order.
        """
        fine = {ClusterErrorReason.NOT_FOUND, ClusterErrorReason.CONFLICT}
        lost = {
            "metadata": {"uid": uid},
            "status": {
                "phase": "Failed",
                "reason": NODE_LOST,
                "message": "the node did not say in time that the agent ended; the pod was removed without its word",
            },
        }
        try:
            await self._api.request(
                "PATCH",
                PODS.path(namespace, name, "status"),
                about=PODS.about(namespace, name),
                query=_MANAGER,
                body=lost,
                content_type=MERGE_PATCH,
                accept=METADATA,
            )
        except ClusterError as error:
            # INVALID: the name belongs to another pod by now, which the precondition of the deletion saves.
            if error.reason not in fine | {ClusterErrorReason.INVALID}:
                raise
        await self._delete(PODS, namespace, name, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}, fine=fine)

    # ------------------------------------------------------------------------------------------------- list and watch

    async def list_workloads(self, kind: WorkloadKind) -> Listing:
        if kind == "jobs":
            jobs, version = await Collection(self._api, JOBS, self._namespace, _OURS, _job_pages).read(job_seen)
            return Listing([*jobs], version)
        pods, version = await Collection(self._api, PODS, self._namespace, _OURS, _pod_pages).read(pod_seen)
        return Listing([*pods], version)

    async def watch_workloads(
        self, kind: WorkloadKind, resource_version: str
    ) -> AsyncGenerator[Change | Bookmark, None]:
        """As in the port. Whoever leaves the loop early closes the generator (`contextlib.aclosing`)."""
        resource = JOBS if kind == "jobs" else PODS
        about = resource.about(self._namespace)
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "labelSelector": _OURS,
            "resourceVersion": resource_version,
            # Chance spreads the watches of several replicas and kinds over time.
            "timeoutSeconds": str(random.randint(*self._watch_seconds)),  # noqa: S311
        }
        lines = Lines()
        async with aclosing(self._api.stream(resource.path(self._namespace), about=about, query=query)) as chunks:
            async for chunk in chunks:
                for line in lines.take(chunk):
                    yield event_in(line, kind, request=f"WATCH {about}")

    # ----------------------------------------------------------------------------------------------------- ConfigMaps

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        path, about = CONFIG_MAPS.path(namespace, name), CONFIG_MAPS.about(namespace, name)
        try:
            return (await self._object(ConfigMap, "GET", path, about)).data or {}
        except ClusterError as error:
            if error.reason is ClusterErrorReason.NOT_FOUND:
                return None
            raise

    async def write_config_map(self, namespace: str, manifest: Mapping[str, JSON]) -> None:
        """Creates, and replaces when that fails because there is one. It may be deleted in between: then again."""
        name = str(manifest["metadata"]["name"])
        about = CONFIG_MAPS.about(namespace, name)
        attempts = [("POST", ""), ("PUT", name)] * 2
        expected = {"POST": ClusterErrorReason.ALREADY_EXISTS, "PUT": ClusterErrorReason.NOT_FOUND}
        for verb, target in attempts:
            try:
                await self._api.request(
                    verb,
                    CONFIG_MAPS.path(namespace, target),
                    about=about,
                    query=_MANAGER,
                    body=manifest,
                    accept=METADATA,
                )
            except ClusterError as error:
                if error.reason is not expected[verb]:
                    raise
            else:
                return
        raise ClusterError(ClusterErrorReason.CONFLICT, f"PUT {about}: it comes and goes while being written")

    async def delete_config_map(self, namespace: str, name: str) -> None:
        await self._delete(CONFIG_MAPS, namespace, name, {}, fine={ClusterErrorReason.NOT_FOUND})

    # --------------------------------------------------------------------------------------------------- MapReduceJob

    async def write_status(self, run: RunRef, status: Mapping[str, JSON], *, replacing: int | None) -> None:
        """As in the port; NOT_FOUND when the object is gone, also when another one has its name by now."""
        # A JSON patch, since a merge patch would take a null within a result for a deletion. A test for null holds
        # where there is nothing.
        epoch = {"path": "/status"} if replacing is None else {"path": "/status/leaderEpoch"}
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": run.uid},
            {"op": "test", **epoch, "value": replacing or None},
            {"op": "add", "path": "/status", "value": status},
        ]
        try:
            await self._patch(run, patch, JSON_PATCH, subresource="status")
        except ClusterError as error:
            if error.reason is ClusterErrorReason.INVALID:
                there = await self.status_epoch(run)  # raises NOT_FOUND if the uid was the reason
                if there != replacing:
                    raise ClusterError(
                        ClusterErrorReason.CONFLICT, f"{error}; its status is of leader epoch {there}, not {replacing}"
                    ) from error
            raise

    async def status_epoch(self, run: RunRef) -> int | None:
        """As in the port; NOT_FOUND when there is no object of this uid."""
        status = (await self._mapreduce_job(run)).status
        return None if status is None else status.leader_epoch

    async def add_finalizer(self, run: RunRef) -> None:
        """As in the port; NOT_FOUND when the object is gone, INVALID when it is being deleted."""
        await self._change_finalizers(run, lambda there: there if FINALIZER in there else [*there, FINALIZER])

    async def remove_finalizer(self, run: RunRef) -> None:
        """As in the port; an object that is gone has none."""
        try:
            await self._change_finalizers(run, lambda there: [one for one in there if one != FINALIZER])
        except ClusterError as error:
            if error.reason is not ClusterErrorReason.NOT_FOUND:
                raise

    async def post_event(self, run: RunRef, *, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        now = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            "metadata": {"generateName": f"{run.name}.", "namespace": run.namespace},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "namespace": run.namespace,
                "name": run.name,
                "uid": run.uid,
            },
            "type": kind,
            "reason": reason,
            "message": _shortened(message),
            "source": {"component": MANAGED_BY},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.request(
            "POST", EVENTS.path(run.namespace), about=EVENTS.about(run.namespace, run.name), query=_MANAGER, body=event
        )

    async def _change_finalizers(self, run: RunRef, change: Callable[[Sequence[str]], Sequence[str]]) -> None:
        """Reads, changes and writes, against the version that was read; again when somebody was faster."""
        for attempt in range(1, _ATTEMPTS + 1):
            metadata = (await self._mapreduce_job(run)).metadata
            there = metadata.finalizers or []
            wanted = change(there)
            if wanted == there:
                return
            patch = {"uid": run.uid, "resourceVersion": metadata.resource_version, "finalizers": wanted}
            try:
                await self._patch(run, {"metadata": patch})
            except ClusterError as error:
                if error.reason is not ClusterErrorReason.CONFLICT or attempt == _ATTEMPTS:
                    raise
            else:
                return

    async def _mapreduce_job(self, run: RunRef) -> MapReduceJobObject:
        """The very object; NOT_FOUND when there is none of this uid."""
        path, about = MAPREDUCE_JOBS.path(run.namespace, run.name), MAPREDUCE_JOBS.about(run.namespace, run.name)
        found = await self._object(MapReduceJobObject, "GET", path, about)
        if found.metadata.uid != run.uid:
            raise ClusterError(
                ClusterErrorReason.NOT_FOUND,
                f"GET {about}: the object with uid {run.uid} is gone, {found.metadata.uid} has its name",
            )
        return found

    async def _patch(self, run: RunRef, patch: JSON, content_type: str = MERGE_PATCH, subresource: str = "") -> None:
        await self._api.request(
            "PATCH",
            MAPREDUCE_JOBS.path(run.namespace, run.name, subresource),
            about=MAPREDUCE_JOBS.about(run.namespace, run.name),
            query=_MANAGER,
            body=patch,
            content_type=content_type,
            accept=METADATA,
        )

    # ------------------------------------------------------------------------------------------------------ all kinds

    async def _object(
        self,
        kind: type[T],
        verb: str,
        path: str,
        about: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, JSON] | None = None,
    ) -> T:
        accept = METADATA if kind is AnyObject else JSON_BODY
        answer = await self._api.request(verb, path, about=about, query=query, body=body, accept=accept)
        with translated(f"{verb} {about}"):
            return msgspec.json.decode(answer, type=kind)

    async def _delete(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        options: Mapping[str, JSON],
        *,
        fine: set[ClusterErrorReason],
    ) -> None:
        try:
            await self._api.request(
                "DELETE", resource.path(namespace, name), about=resource.about(namespace, name), body=options
            )
        except ClusterError as error:
            if error.reason not in fine:
                raise


def _shortened(message: str) -> str:
    """An Event's message of at most 1024 bytes; kubectl shows no more, and newer API groups refuse it."""
    data = message.encode(errors="replace")
    if len(data) <= _EVENT_MESSAGE_BYTES:
        return data.decode()
    ellipsis = "…"
    return data[: _EVENT_MESSAGE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
