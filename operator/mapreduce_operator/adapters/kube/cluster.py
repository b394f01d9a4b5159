"""The `Cluster` port over the Kubernetes API: Jobs, pods, ConfigMaps, Events and the project's own kinds.

Guarantees: every method raises ClusterError or nothing, touches the object of one uid only where the port names one,
and ends in bounded time. There is no retrying beyond what a method says: a request that was refused, or that nobody
answered, is the engine's to repeat.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, Self

import msgspec

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.objects import Objects
from mapreduce_operator.adapters.kube.paging import Collection
from mapreduce_operator.adapters.kube.resources import (
    CONFIG_MAPS,
    DEAD_LETTER_QUEUES,
    EVENTS,
    FIELD_MANAGER,
    JOBS,
    MAPREDUCE_JOBS,
    PODS,
    REDRIVES,
    Resource,
)
from mapreduce_operator.adapters.kube.session import METADATA, ApiSession
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
from mapreduce_operator.core.workloads import AGENT_INDEX, PodSeen
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
_EVENT_MESSAGE_BYTES: Final = 1024
_LOG_SECONDS: Final = 5.0
_LOG_LINE_BYTES: Final = 16_384
"""Container runtimes break longer lines, and the kubelet counts the pieces."""

_job_pages: Final = msgspec.json.Decoder(Page[Job])
_pod_pages: Final = msgspec.json.Decoder(Page[Pod])


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
        self._objects: Final = Objects(api)
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
        query = {**FIELD_MANAGER, "dryRun": "All", "fieldValidation": "Strict"} if dry_run else FIELD_MANAGER
        return JobCreated(await self._objects.create(JOBS, namespace, manifest, query))

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        found = await self._objects.get(AnyObject, JOBS, namespace, name)
        return None if found is None else (found.metadata.uid, owner_uid(found.metadata))

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        await self._delete_very(JOBS, namespace, name, uid)

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
            await self._objects.patch(PODS, namespace, name, lost, subresource="status")
        except ClusterError as error:
            # INVALID: the name belongs to another pod by now, which the precondition of the deletion saves.
            if error.reason not in fine | {ClusterErrorReason.INVALID}:
                raise
        await self._objects.delete(
            PODS, namespace, name, {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}, fine=fine
        )

    async def read_log(self, namespace: str, pod: str, *, lines: int, limit: int) -> str:
        """As in the port; of lines that are longer than 16 KiB the last 16 KiB, as node agents keep them."""
        about = f"log of {PODS.about(namespace, pod)}"
        with translated(f"GET {about}"):
            async with asyncio.timeout(_LOG_SECONDS):
                query = {
                    "container": await self._agent_of(namespace, pod),
                    "tailLines": str(lines),
                    # Counted from the first of these lines: a smaller one would cut off the end.
                    "limitBytes": str(lines * _LOG_LINE_BYTES),
                }
                data = await self._api.request("GET", PODS.path(namespace, pod, "log"), about=about, query=query)
        # Replacing may make it longer, and the cut may go through a character.
        return data.decode(errors="replace").encode()[-limit:].decode(errors="ignore")

    async def _agent_of(self, namespace: str, pod: str) -> str:
        """Name of the agent's container: without one the API server refuses the log of a pod that has several."""
        query = {"fieldSelector": f"metadata.name={pod}"}
        # A list of one: the operator has no right to read a pod by its name.
        answer = await self._api.request("GET", PODS.path(namespace), about=PODS.about(namespace, pod), query=query)
        found = _pod_pages.decode(answer).items or ()
        containers = [container.name for one in found for container in one.spec.containers or ()]
        if not containers:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"GET {PODS.about(namespace, pod)}: there is no such pod")
        return containers[AGENT_INDEX]

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

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = await self._objects.get(ConfigMap, CONFIG_MAPS, namespace, name)
        if found is None:
            return None
        return {key: text.encode() for key, text in (found.data or {}).items()} | (found.binary_data or {})

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
                    query=FIELD_MANAGER,
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
        await self._objects.delete(CONFIG_MAPS, namespace, name, {}, fine={ClusterErrorReason.NOT_FOUND})

    # --------------------------------------------------------------------------------------------------- MapReduceJob

    async def write_status(self, run: RunRef, status: Mapping[str, JSON], *, replacing: int) -> None:
        """As in the port; NOT_FOUND when the object is gone, also when another one has its name by now."""
        # A test for null holds where there is nothing. There is a status always: the definition gives objects one.
        test = {"op": "test", "path": "/status/leaderEpoch", "value": replacing or None}
        try:
            await self._objects.replace_status(MAPREDUCE_JOBS, run.namespace, run.name, run.uid, status, test)
        except ClusterError as error:
            if error.reason is ClusterErrorReason.INVALID and (there := await self.status_epoch(run)) != replacing:
                raise ClusterError(
                    ClusterErrorReason.CONFLICT, f"{error}; its status is of leader epoch {there}, not {replacing}"
                ) from error
            raise

    async def status_epoch(self, run: RunRef) -> int:
        """As in the port; NOT_FOUND when there is no object of this uid."""
        found = await self._objects.get_very(MapReduceJobObject, MAPREDUCE_JOBS, run.namespace, run.name, run.uid)
        return 0 if found.status is None else found.status.leader_epoch

    async def fill_in_spec(self, run: RunRef, spec: Mapping[str, JSON], *, version: str) -> None:
        """As in the port; also CONFLICT when another object has its name by now."""
        patch = {"metadata": {"uid": run.uid, "resourceVersion": version}, "spec": spec}
        await self._objects.patch(MAPREDUCE_JOBS, run.namespace, run.name, patch)

    async def add_finalizer(self, run: RunRef) -> None:
        """As in the port; NOT_FOUND when the object is gone, INVALID when it is being deleted."""
        await self._objects.change_finalizers(
            MAPREDUCE_JOBS,
            run.namespace,
            run.name,
            run.uid,
            lambda there: there if FINALIZER in there else [*there, FINALIZER],
        )

    async def remove_finalizer(self, run: RunRef) -> None:
        """As in the port; an object that is gone has none."""
        await self._objects.remove_finalizer(MAPREDUCE_JOBS, run.namespace, run.name, run.uid)

    async def delete_run(self, run: RunRef) -> None:
        await self._delete_very(MAPREDUCE_JOBS, run.namespace, run.name, run.uid)

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
            "POST",
            EVENTS.path(run.namespace),
            about=EVENTS.about(run.namespace, run.name),
            query=FIELD_MANAGER,
            body=event,
        )

    # ----------------------------------------------------------------------------------- DeadLetterQueues and Redrives

    async def create_queue(self, namespace: str, manifest: Mapping[str, JSON]) -> str:
        return await self._objects.create(DEAD_LETTER_QUEUES, namespace, manifest)

    async def get_queue(self, namespace: str, name: str) -> Mapping[str, JSON] | None:
        return await self._objects.get(dict[str, JSON], DEAD_LETTER_QUEUES, namespace, name)

    async def write_queue_status(self, namespace: str, name: str, uid: str, status: Mapping[str, JSON]) -> None:
        await self._objects.replace_status(DEAD_LETTER_QUEUES, namespace, name, uid, status)

    async def remove_queue_finalizer(self, namespace: str, name: str, uid: str) -> None:
        await self._objects.remove_finalizer(DEAD_LETTER_QUEUES, namespace, name, uid)

    async def delete_queue(self, namespace: str, name: str, uid: str) -> None:
        await self._delete_very(DEAD_LETTER_QUEUES, namespace, name, uid)

    async def write_redrive_status(self, namespace: str, name: str, uid: str, status: Mapping[str, JSON]) -> None:
        await self._objects.replace_status(REDRIVES, namespace, name, uid, status)

    async def delete_redrive(self, namespace: str, name: str, uid: str) -> None:
        await self._delete_very(REDRIVES, namespace, name, uid)

    async def _delete_very(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        """Deletes the object of that uid; without it there is nothing to do."""
        # CONFLICT: the name belongs to another object by now.
        await self._objects.delete(
            resource,
            namespace,
            name,
            {"propagationPolicy": "Background", "preconditions": {"uid": uid}},
            fine={ClusterErrorReason.NOT_FOUND, ClusterErrorReason.CONFLICT},
        )


def _shortened(message: str) -> str:
    """An Event's message of at most 1024 bytes; kubectl shows no more, and newer API groups refuse it."""
    data = message.encode(errors="replace")
    if len(data) <= _EVENT_MESSAGE_BYTES:
        return data.decode()
    ellipsis = "…"
    return data[: _EVENT_MESSAGE_BYTES - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
