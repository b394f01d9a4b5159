"""As much of an API server as the engine's parts need when they are tried one by one: versions, lists and watches.

Workloads appear and go as the test says; nothing runs. Lists and watches meet the faults that the test prepares.
"""

import asyncio
import copy
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import Any, Literal

from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen, Workload
from mapreduce_operator.ports import (
    Bookmark,
    Change,
    ClusterError,
    ClusterErrorReason,
    JobCreated,
    Listing,
    WorkloadKind,
)

EXPIRED = ClusterError(ClusterErrorReason.EXPIRED, "too old resource version")
BROKEN = ClusterError(ClusterErrorReason.UNAVAILABLE, "connection reset")


def carried(run_uid: str = "run-1", key: str = "abcdefghij", dispatch: int = 1) -> Carried:
    return Carried(run_uid, Stage.MAP, (Dispatch(key, dispatch),), "5f1c", run_name="words")


def a_job(uid: str, name: str = "", run_uid: str = "run-1") -> JobSeen:
    return JobSeen("team-a", name or f"words-{uid}", uid, run_uid, carried(run_uid))


def a_pod(uid: str, job_uid: str = "job-1", run_uid: str = "run-1", phase: str = "Running") -> PodSeen:
    return PodSeen("team-a", f"words-{uid}", uid, "words", job_uid, carried(run_uid), phase)


def kind_of(workload: Workload) -> WorkloadKind:
    return "jobs" if isinstance(workload, JobSeen) else "pods"


class Stream:
    """A watch that is open, until the test closes it."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.end: ClusterError | Literal["ends"] | None = None

    def close(self, end: ClusterError | Literal["ends"]) -> None:
        self.end = end
        self.news.set()


class LittleCluster:
    """Fulfils the Cluster port as far as a run needs it that starts no agents."""

    def __init__(self) -> None:
        self.there: dict[WorkloadKind, dict[str, Workload]] = {"jobs": {}, "pods": {}}
        self.version = 100
        self.compacted = 0
        """Watches from before this version get a 410."""
        self.history: dict[WorkloadKind, list[tuple[int, Change]]] = {"jobs": [], "pods": []}
        self.streams: dict[WorkloadKind, list[Stream]] = {"jobs": [], "pods": []}
        self.asked: list[tuple[str, WorkloadKind, str]] = []
        """Lists and watches in their order, the latter with their version."""
        self.list_seconds = 0.01
        self.list_faults: list[ClusterError] = []
        self.watch_faults: list[ClusterError] = []
        self.statuses: list[tuple[str, Mapping[str, Any]]] = []
        self.mapreduce_jobs: set[RunRef] = set()
        """Objects that `status_epoch` finds."""
        self.created: list[str] = []
        self.deleted: list[str] = []
        self.released: list[str] = []
        """Uids of the objects whose finalizer was removed."""
        self.faults: dict[str, Exception] = {}
        """What the method of this name raises, once."""
        self.queues: dict[tuple[str, str], dict[str, Any]] = {}
        """DeadLetterQueues by namespace and name."""
        self.deletions: list[str] = []
        """Names of jobs and Redrives that the operator deleted."""
        self.queue_statuses: list[tuple[str, Mapping[str, Any]]] = []
        """Statuses that were written, with the names of their queues."""
        self.redrives: set[str] = set()
        """Uids of the Redrives that are there."""
        self.redrive_statuses: list[tuple[str, Mapping[str, Any]]] = []
        self.dry_runs: list[Mapping[str, Any]] = []
        self.logs: dict[str, str] = {}
        """By the names of pods."""
        self.log_seconds = 0.01

    # ------------------------------------------------------------------------------------------ what happens there

    def put(self, workload: Workload) -> None:
        """Creates or changes an object."""
        self.there[kind_of(workload)][workload.uid] = workload
        self._record(workload, deleted=False)

    def remove(self, uid: str) -> None:
        kind: WorkloadKind = "jobs" if uid in self.there["jobs"] else "pods"
        workload = self.there[kind].pop(uid)
        self._record(replace(workload, deleting=True), deleted=True)

    def _record(self, workload: Workload, *, deleted: bool) -> None:
        self.version += 1
        kind = kind_of(workload)
        if deleted and isinstance(workload, PodSeen):
            workload = workload.as_gone()
        self.history[kind].append((self.version, Change(workload, deleted, str(self.version))))
        for stream in self.streams[kind]:
            stream.news.set()

    def compact(self) -> None:
        """Forgets all that was."""
        self.compacted = self.version
        for history in self.history.values():
            history.clear()

    def cut(self, kind: WorkloadKind, end: ClusterError | Literal["ends"] = BROKEN) -> None:
        """Ends all watches of a kind."""
        for stream in self.streams[kind]:
            stream.close(end)

    def listing(self, kind: WorkloadKind) -> Listing:
        return Listing(list(self.there[kind].values()), str(self.version))

    # ------------------------------------------------------------------------------------------------- lists, watches

    async def list_workloads(self, kind: WorkloadKind) -> Listing:
        self.asked.append(("list", kind, ""))
        listing = self.listing(kind)
        fault = self.list_faults.pop(0) if self.list_faults else None
        await asyncio.sleep(self.list_seconds)
        if fault is not None:
            raise fault
        return listing

    async def watch_workloads(
        self, kind: WorkloadKind, resource_version: str
    ) -> AsyncGenerator[Change | Bookmark, None]:
        self.asked.append(("watch", kind, resource_version))
        version = int(resource_version)
        await asyncio.sleep(0.01)
        if self.watch_faults:
            raise self.watch_faults.pop(0)
        if version < self.compacted:
            raise EXPIRED
        stream = Stream()
        self.streams[kind].append(stream)
        try:
            while True:
                for number, change in list(self.history[kind]):
                    if number > version:
                        version = number
                        yield change
                if stream.end == "ends":
                    yield Bookmark(str(version))
                    return
                if stream.end is not None:
                    raise stream.end
                await stream.news.wait()
                stream.news.clear()
        finally:
            self.streams[kind].remove(stream)

    # -------------------------------------------------------------------------------------------------- what runs ask

    def _meet_a_fault(self, method: str) -> None:
        fault = self.faults.pop(method, None)
        if fault is not None:
            raise fault

    async def create_job(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JobCreated:
        await asyncio.sleep(0.01)
        if dry_run:
            self._meet_a_fault("dry_run")
            self.dry_runs.append(manifest)
            return JobCreated("dry-run")
        self._meet_a_fault("create_job")
        metadata = manifest["metadata"]
        self.created.append(metadata["name"])
        labelled = Carried.from_labels(metadata["labels"])
        assert labelled is not None
        uid = f"job-{len(self.created)}"
        self.put(JobSeen(namespace, metadata["name"], uid, metadata["ownerReferences"][0]["uid"], labelled))
        return JobCreated(uid)

    async def find_pod(self, namespace: str, job_uid: str) -> PodSeen | None:
        await asyncio.sleep(0.01)
        for pod in self.there["pods"].values():
            if isinstance(pod, PodSeen) and (pod.namespace, pod.job_uid) == (namespace, job_uid):
                return pod
        return None

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        await asyncio.sleep(0.01)
        for job in self.there["jobs"].values():
            if isinstance(job, JobSeen) and (job.namespace, job.name) == (namespace, name):
                return job.uid, job.owner_uid
        return None

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        await asyncio.sleep(0.01)
        self._meet_a_fault("delete_job")
        job = self.there["jobs"].get(uid)
        if job is not None and (job.namespace, job.name) == (namespace, name):
            self.deleted.append(name)
            self.remove(uid)

    async def delete_jobs(self, run: RunRef) -> None:
        for uid in [uid for uid, job in self.there["jobs"].items() if job.carried.run_uid == run.uid]:
            self.remove(uid)

    async def write_status(self, run: RunRef, status: Mapping[str, Any], *, replacing: int) -> None:
        del replacing
        await asyncio.sleep(0.01)
        self.statuses.append((run.uid, status))

    async def status_epoch(self, run: RunRef) -> int:
        await asyncio.sleep(0.01)
        self._meet_a_fault("status_epoch")
        if run not in self.mapreduce_jobs:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"{run.name} is gone")
        return 1

    async def add_finalizer(self, run: RunRef) -> None:
        del run
        await asyncio.sleep(0.01)
        self._meet_a_fault("add_finalizer")

    async def remove_finalizer(self, run: RunRef) -> None:
        await asyncio.sleep(0.01)
        self.released.append(run.uid)

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        del namespace, name
        return None

    async def delete_config_map(self, namespace: str, name: str) -> None:
        del namespace, name
        await asyncio.sleep(0.01)

    async def post_event(self, run: RunRef, *, kind: str, reason: str, message: str) -> None:
        del run, kind, reason, message
        await asyncio.sleep(0.01)

    async def read_log(self, namespace: str, pod: str, *, lines: int, limit: int) -> str:
        del namespace, lines
        await asyncio.sleep(self.log_seconds)
        if pod not in self.logs:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"{pod} is gone")
        return self.logs[pod][-limit:]

    # ---------------------------------------------------------------------------------------- dead letters, Redrives

    def put_queue(self, manifest: Mapping[str, Any], uid: str = "") -> dict[str, Any]:
        """A queue as the API server keeps it."""
        body = copy.deepcopy(dict(manifest))
        self.version += 1
        body["metadata"] |= {
            "uid": uid or f"queue-{self.version}",
            "generation": 1,
            "creationTimestamp": "2027-01-15T08:00:00Z",
        }
        self.queues[body["metadata"]["namespace"], body["metadata"]["name"]] = body
        return body

    def queue_with(self, uid: str) -> dict[str, Any] | None:
        return next((body for body in self.queues.values() if body["metadata"]["uid"] == uid), None)

    async def create_queue(self, namespace: str, manifest: Mapping[str, Any]) -> str:
        await asyncio.sleep(0.01)
        self._meet_a_fault("create_queue")
        name: str = manifest["metadata"]["name"]
        if (namespace, name) in self.queues:
            raise ClusterError(ClusterErrorReason.ALREADY_EXISTS, f"{name} exists")
        uid: str = self.put_queue(manifest)["metadata"]["uid"]
        self._meet_a_fault("answer to create_queue")
        return uid

    async def get_queue(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        await asyncio.sleep(0.01)
        self._meet_a_fault("get_queue")
        return copy.deepcopy(self.queues.get((namespace, name)))

    async def write_queue_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> None:
        await asyncio.sleep(0.01)
        self._meet_a_fault("write_queue_status")
        body = self.queues.get((namespace, name))
        if body is None or body["metadata"]["uid"] != uid:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"{name} is gone")
        body["status"] = dict(status)
        self.queue_statuses.append((name, status))

    async def remove_queue_finalizer(self, namespace: str, name: str, uid: str) -> None:
        await asyncio.sleep(0.01)
        self._meet_a_fault("remove_queue_finalizer")
        body = self.queues.get((namespace, name))
        if body is not None and body["metadata"]["uid"] == uid:
            body["metadata"]["finalizers"] = []
            if "deletionTimestamp" in body["metadata"]:
                del self.queues[namespace, name]

    async def delete_queue(self, namespace: str, name: str, uid: str) -> None:
        await asyncio.sleep(0.01)
        body = self.queues.get((namespace, name))
        if body is None or body["metadata"]["uid"] != uid:
            return
        if body["metadata"].get("finalizers"):
            body["metadata"]["deletionTimestamp"] = "2027-01-15T09:00:00Z"
        else:
            del self.queues[namespace, name]

    async def delete_run(self, run: RunRef) -> None:
        self.deletions.append(run.name)

    async def delete_redrive(self, namespace: str, name: str, uid: str) -> None:
        del namespace, uid
        self.deletions.append(name)

    async def write_redrive_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> None:
        del namespace
        await asyncio.sleep(0.01)
        self._meet_a_fault("write_redrive_status")
        if uid not in self.redrives:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"{name} is gone")
        self.redrive_statuses.append((name, status))
