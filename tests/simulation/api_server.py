"""What the API server of a simulated cluster stores and tells: objects, versions, lists and watches.

Nothing here waits, so that every request has its effect at one moment. Kept as the real one keeps it: one version for
everything, each kind's changes in order, a list that is whole as of its version, and a watch that tells all that came
after a version, once. What makes that unpleasant (delays, repetitions, broken streams) is the connection's.
"""

import asyncio
from base64 import b64decode
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from mapreduce_operator.core.merge_patch import merge_patch
from mapreduce_operator.core.names import ANNOTATION_CONTEXT, RunRef
from mapreduce_operator.core.workloads import Carried, Dispatch, JobSeen, PodSeen, Workload
from mapreduce_operator.ports import Change, ClusterError, ClusterErrorReason, JobCreated, Listing, WorkloadKind
from tests.simulation.agents import Ends
from tests.simulation.objects import Objects
from tests.simulation.timeline import LoopClock


@dataclass(slots=True, eq=False)
class Job:
    """A Job, present or deleted, with its pod."""

    manifest: Mapping[str, Any]
    seen: JobSeen
    context: dict[str, Any]
    """What its agent finds in context.json."""
    creator: int
    """The process that created it."""
    created_at: float
    pod: "Pod | None" = None
    present: bool = True
    removed_by_hand_at: float | None = None
    touched: bool = False
    """Somebody else than the agent had a hand in its end, or in what is left of it."""
    shown: Ends | None = None
    """How the agent ended by itself, once the API server has shown it."""

    @property
    def name(self) -> str:
        return self.seen.name

    @property
    def uid(self) -> str:
        return self.seen.uid

    @property
    def dispatch(self) -> Dispatch:
        return self.seen.carried.dispatches[0]

    @property
    def alive(self) -> bool:
        """Its agent runs or may still start, as far as the API server knows."""
        if self.pod is not None:
            return self.pod.present and not self.pod.seen.ended and self.pod.seen.agent is None
        return self.present and not self.seen.finished


@dataclass(slots=True, eq=False)
class Pod:
    """The pod of a Job, and what its kubelet knows of it."""

    job: Job
    seen: PodSeen
    present: bool = True
    timer: asyncio.TimerHandle | None = None
    """The next thing that happens to it by itself."""
    ends: Ends | None = None
    """How the agent will end if it is let alone; None before it runs."""
    unsaid: PodSeen | None = None
    """Its state on a node that cannot reach the API server."""
    deadline: float = 0.0
    """When its node ends it."""


@dataclass
class ApiServer:
    """Objects of one namespace. `audit` hooks see every change of Jobs and status before anybody else does."""

    clock: LoopClock = field(default_factory=LoopClock)
    config_maps: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    refuse: Callable[[Mapping[str, Any], bool], ClusterError | None] = lambda manifest, dry_run: None  # noqa: ARG005
    """May refuse a Job, as admission does: gets the manifest and whether it is a dry run."""

    def __post_init__(self) -> None:
        self.queues = Objects("deadletterqueues", self.clock)
        self.redrives = Objects("redrives", self.clock)
        self.jobs: dict[str, Job] = {}
        self.history: list[Job] = []
        """All Jobs ever created."""
        self.pods: dict[str, Pod] = {}
        self.status_of: dict[str, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.finalizers: set[str] = set()
        self.deleted: set[str] = set()
        """Uids of objects that somebody deleted: each is gone when its finalizer is."""
        self.on_gone: list[Callable[[str], None]] = []
        """Called with the uid of an object that is gone."""
        self.on_create: list[Callable[[Job], None]] = []
        self.on_delete: list[Callable[[Job], None]] = []
        """Called when an operator deletes a Job, before it is gone."""
        self.on_status: list[Callable[[str, dict[str, Any], int], None]] = []
        """Called with the uid of the object, its new status and the process that wrote it."""
        self.mapreducejobs: dict[str, dict[str, Any]] = {}
        """MapReduceJobs without their status, by uid."""
        self.on_edit: list[Callable[[str, dict[str, Any]], None]] = []
        """Called with a uid and the spec that somebody changed."""
        self.on_deletion: list[Callable[[str], None]] = []
        """Called with the uid of an object that an operator has deleted, which its finalizer holds."""
        self.on_fill_in: list[Callable[[str], None]] = []
        """Called with the uid of a fork that is filled in, and before that whenever it changed."""
        self.trace: Callable[[str], None] | None = None
        self._version = 0
        self._log: dict[WorkloadKind, list[Change]] = {"jobs": [], "pods": []}
        self._versions: dict[WorkloadKind, list[int]] = {"jobs": [], "pods": []}
        self._waiting: dict[WorkloadKind, list[asyncio.Future[None]]] = {"jobs": [], "pods": []}

    # ------------------------------------------------------------------------------------------------------- Jobs

    def create_job(
        self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False, process: int = 0
    ) -> JobCreated:
        refusal = self.refuse(manifest, dry_run)
        if refusal is not None:
            raise refusal
        if dry_run:
            return JobCreated("dry-run")
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise ClusterError(ClusterErrorReason.ALREADY_EXISTS, f"jobs {name!r} already exists")
        carried = Carried.from_labels(manifest["metadata"]["labels"])
        assert carried is not None
        uid = f"job-{len(self.history) + 1}"
        owner = manifest["metadata"]["ownerReferences"][0]["uid"]
        context = msgspec.json.decode(manifest["spec"]["template"]["metadata"]["annotations"][ANNOTATION_CONTEXT])
        job = Job(manifest, JobSeen(namespace, name, uid, owner, carried), context, process, self.clock.now())
        for hook in self.on_create:
            hook(job)
        self.jobs[name] = job
        self.history.append(job)
        self.tell(job.seen)
        self.job_created(job)
        return JobCreated(uid)

    def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        del namespace
        job = self.jobs.get(name)
        return (job.uid, job.seen.owner_uid) if job else None

    def find_pod(self, namespace: str, job_uid: str) -> PodSeen | None:
        del namespace
        return next((pod.seen for pod in self.pods.values() if pod.seen.job_uid == job_uid), None)

    def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """An operator deletes a Job."""
        del namespace
        job = self.jobs.get(name)
        if job is None or job.uid != uid:
            return
        for hook in self.on_delete:
            hook(job)
        if job.present:
            self._remove(job)

    def delete_jobs(self, run: RunRef) -> None:
        for job in [job for job in self.jobs.values() if job.seen.carried.run_uid == run.uid]:
            self.delete_job(run.namespace, job.name, job.uid)

    def delete_job_by_hand(self, job: Job) -> None:
        """A person deletes a Job."""
        if job.present:
            job.removed_by_hand_at = self.clock.now()
            self._remove(job)

    def _remove(self, job: Job) -> None:
        """A Job is deleted in the background: it is gone at once, its pod follows."""
        job.present = False
        # Whatever its agent has not shown yet, somebody else decides now.
        job.touched = True
        del self.jobs[job.name]
        self.tell(replace(job.seen, deleting=True), deleted=True)
        self.job_deleted(job)

    def job_created(self, job: Job) -> None:
        """For controllers to act upon."""

    def job_deleted(self, job: Job) -> None:
        """For controllers to act upon."""

    # ---------------------------------------------------------------------------------------------- list and watch

    def tell(self, workload: Workload, *, deleted: bool = False) -> None:
        """Something changed; watches will say so."""
        kind: WorkloadKind = "jobs" if isinstance(workload, JobSeen) else "pods"
        self._version += 1
        self._log[kind].append(Change(workload, deleted, str(self._version)))
        self._versions[kind].append(self._version)
        self.wake(kind)
        if self.trace is not None:
            self.trace(f"  {told(workload, deleted=deleted)}")

    def wake(self, kind: WorkloadKind) -> None:
        """Lets watches look again."""
        for waiting in self._waiting[kind]:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting[kind].clear()

    def listing(self, kind: WorkloadKind) -> Listing:
        workloads: list[Workload] = (
            [job.seen for job in self.jobs.values()] if kind == "jobs" else [pod.seen for pod in self.pods.values()]
        )
        return Listing(workloads, str(self._version))

    def changes(self, kind: WorkloadKind, after: int) -> Iterator[Change]:
        """What came after a version, up to now."""
        return iter(self._log[kind][bisect_right(self._versions[kind], after) :])

    async def news(self, kind: WorkloadKind, after: int) -> None:
        """Returns when there are changes after a version, or when watches are to look again."""
        if not self._versions[kind] or self._versions[kind][-1] <= after:
            waiting = asyncio.get_running_loop().create_future()
            self._waiting[kind].append(waiting)
            await waiting

    # ----------------------------------------------------------------------------------------- everything else

    @property
    def status(self) -> dict[str, Any]:
        """The status of the only run."""
        return next(iter(self.status_of.values()), {})

    @property
    def names_used(self) -> list[str]:
        return [job.name for job in self.history]

    def read_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        found = self.config_maps.get((namespace, name))
        if found is None:
            return None
        texts, packed = found.get("data", {}), found.get("binaryData", {})
        return {key: text.encode() for key, text in texts.items()} | {key: b64decode(it) for key, it in packed.items()}

    def write_config_map(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        self.config_maps[namespace, manifest["metadata"]["name"]] = dict(manifest)

    def delete_config_map(self, namespace: str, name: str) -> None:
        self.config_maps.pop((namespace, name), None)

    def write_status(self, run: RunRef, status: Mapping[str, Any], *, replacing: int, process: int = 0) -> None:
        self._check_presence(run)
        there = self.status_epoch(run)
        if there != replacing:
            raise ClusterError(ClusterErrorReason.CONFLICT, f"the status is of leader epoch {there}, not {replacing}")
        # As the API server would store it.
        stored: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(status))
        for hook in self.on_status:
            hook(run.uid, stored, process)
        self.status_of[run.uid] = stored
        self.statuses.append({"run": run.uid, **stored})
        self._touch(run.uid)

    def status_epoch(self, run: RunRef) -> int:
        self._check_presence(run)
        return int(self.status_of.get(run.uid, {}).get("leaderEpoch", 0))

    def apply(self, body: dict[str, Any]) -> None:
        """A user applies a MapReduceJob."""
        uid: str = body["metadata"]["uid"]
        self.mapreducejobs[uid] = body
        self._touch(uid)

    def edited(self, uid: str) -> None:
        """The spec of a MapReduceJob was changed in place."""
        body = self.mapreducejobs[uid]
        body["metadata"]["generation"] += 1
        self._touch(uid)
        for hook in self.on_edit:
            hook(uid, body["spec"])

    def _touch(self, uid: str) -> None:
        """A MapReduceJob changed. Only of one that is to be filled in does it matter that each change is told."""
        body = self.mapreducejobs.get(uid)
        if body is None:
            return
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)
        if "map" not in body["spec"]:
            for hook in list(self.on_fill_in):
                hook(uid)

    def fill_in_spec(self, run: RunRef, spec: Mapping[str, Any], version: str) -> None:
        """A merge patch with uid and resourceVersion as preconditions."""
        self._check_presence(run)
        found = [one for one in self.mapreducejobs.values() if one["metadata"]["name"] == run.name]
        if not found:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"mapreducejobs {run.name!r} not found")
        metadata = found[0]["metadata"]
        if (metadata["uid"], metadata["resourceVersion"]) != (run.uid, version):
            raise ClusterError(ClusterErrorReason.CONFLICT, f"it is {metadata['uid']} of {metadata['resourceVersion']}")
        found[0]["spec"].update(merge_patch(found[0]["spec"], msgspec.json.decode(msgspec.json.encode(spec))))
        self.edited(run.uid)
        for hook in list(self.on_fill_in):
            hook(run.uid)

    def begin_deletion(self, uid: str) -> None:
        """Somebody deletes a MapReduceJob."""
        self.deleted.add(uid)
        self.mapreducejobs[uid]["metadata"]["deletionTimestamp"] = "2027-01-15T08:00:00Z"

    def delete_run(self, run: RunRef) -> None:
        if run.uid not in self.deleted and run.uid in self.finalizers:
            self.begin_deletion(run.uid)
            for hook in list(self.on_deletion):
                hook(run.uid)

    def add_finalizer(self, run: RunRef) -> None:
        self._check_presence(run)
        self.finalizers.add(run.uid)

    def remove_finalizer(self, run: RunRef) -> None:
        if run.uid in self.finalizers:
            self.finalizers.discard(run.uid)
            if run.uid in self.deleted:
                for hook in self.on_gone:
                    hook(run.uid)

    def _check_presence(self, run: RunRef) -> None:
        if run.uid in self.deleted and run.uid not in self.finalizers:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"mapreducejobs {run.name!r} not found")

    def post_event(self, run: RunRef, *, kind: str, reason: str, message: str) -> None:
        del run, kind
        self.events.append((reason, message))


def told(workload: Workload, *, deleted: bool) -> str:
    """A change in a few words, for a trace."""
    words = [workload.name]
    if isinstance(workload, JobSeen):
        words += ["complete"] * workload.complete + [workload.failed_reason or ""]
    else:
        end = workload.agent
        words += [workload.phase, workload.reason, workload.disruption, "deleting" * workload.deleting]
        words += [f"exit {end.exit_code}"] if end else []
    return " ".join(word for word in [*words, "GONE" * deleted] if word)
