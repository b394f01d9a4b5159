"""A cluster in memory: Jobs whose pods run agents that a test describes, on a fake clock.

It keeps what the API server keeps and says it as a watch does: with versions, in order per kind, and late. It also
keeps watch itself over what must never happen (two live pods of one item, a Job name used twice, more Jobs than
allowed), so that every simulation checks it.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import msgspec

from mapreduce_operator.core.names import ANNOTATION_CONTEXT, ANNOTATION_ITEM, RunRef
from mapreduce_operator.core.workloads import Carried, ContainerEnd, JobSeen, PodSeen, Workload
from mapreduce_operator.ports import (
    Bookmark,
    Change,
    ClusterError,
    ClusterErrorReason,
    JobCreated,
    Listing,
    WorkloadKind,
)

EPOCH = 1_800_000_000.0


class LoopClock:
    """Wall-clock time that follows the event loop's, fake or not."""

    def now(self) -> float:
        return EPOCH + asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Seen:
    """What an agent sees of its dispatch."""

    item: Any
    context: dict[str, Any]

    @property
    def attempt(self) -> int:
        number: int = self.context["attempt"]
        return number

    @property
    def dispatch(self) -> int:
        number: int = self.context["dispatch"]
        return number


@dataclass(frozen=True)
class Ends:
    """How an agent ends: after so many seconds, with this code and this text in its result file."""

    seconds: float = 1.0
    exit_code: int = 0
    message: str = '{"ok": true}'
    oom: bool = False


Agent = Callable[[Seen], Ends]


@dataclass
class _Job:
    manifest: Mapping[str, Any]
    seen: JobSeen
    pod: PodSeen | None = None
    task: asyncio.Task[None] | None = None


@dataclass
class SimulatedCluster:
    """Fulfils the Cluster port."""

    agent: Agent
    clock: LoopClock = field(default_factory=LoopClock)
    latency: float = 0.005
    pod_start: float = 0.5
    config_maps: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    refuse: Callable[[Mapping[str, Any], bool], ClusterError | None] = lambda manifest, dry_run: None  # noqa: ARG005
    """May refuse a Job: gets the manifest and whether it is a dry run."""

    def __post_init__(self) -> None:
        self.jobs: dict[str, _Job] = {}
        self.names_used: list[str] = []
        self.manifests: list[Mapping[str, Any]] = []
        self.status: dict[str, Any] = {}
        self.statuses: list[dict[str, Any]] = []
        self.events: list[tuple[str, str]] = []
        self.finalizers: set[str] = set()
        self.peak = 0
        self.runs_of: dict[str, int] = {}
        """Agents that were started, by item id."""
        self.violations: list[str] = []
        self._versions = itertools.count(1)
        self._log: dict[WorkloadKind, list[tuple[int, Change]]] = {"jobs": [], "pods": []}
        self._news = asyncio.Condition()

    # ----------------------------------------------------------------------------------------------------- port

    async def create_job(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JobCreated:
        await asyncio.sleep(self.latency)
        refusal = self.refuse(manifest, dry_run)
        if refusal is not None:
            raise refusal
        if dry_run:
            return JobCreated("dry-run")
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise ClusterError(ClusterErrorReason.ALREADY_EXISTS, f"jobs {name!r} already exists")
        if name in self.names_used:
            self.violations.append(f"the Job name {name} is used twice")
        self.names_used.append(name)
        self.manifests.append(manifest)
        carried = Carried.from_labels(manifest["metadata"]["labels"])
        assert carried is not None
        uid = f"job-{len(self.names_used)}"
        owner = manifest["metadata"]["ownerReferences"][0]["uid"]
        job = self.jobs[name] = _Job(manifest, JobSeen(namespace, name, uid, owner, carried))
        self._check_one_live_pod(carried)
        await self._tell("jobs", job.seen)
        job.task = asyncio.create_task(self._run(job))
        self.peak = max(self.peak, sum(not other.seen.finished for other in self.jobs.values()))
        await asyncio.sleep(self.latency)
        return JobCreated(uid)

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        del namespace
        await asyncio.sleep(self.latency)
        job = self.jobs.get(name)
        return (job.seen.uid, job.seen.owner_uid) if job else None

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        del namespace
        await asyncio.sleep(self.latency)
        job = self.jobs.get(name)
        if job is not None and job.seen.uid == uid:
            await self._delete(job)

    async def delete_jobs(self, run: RunRef) -> None:
        await asyncio.sleep(self.latency)
        for job in [job for job in self.jobs.values() if job.seen.carried.run_uid == run.uid]:
            await self._delete(job)

    async def list_workloads(self, kind: WorkloadKind) -> Listing:
        await asyncio.sleep(self.latency)
        workloads: list[Workload] = [job.seen for job in self.jobs.values()]
        if kind == "pods":
            workloads = [job.pod for job in self.jobs.values() if job.pod is not None]
        return Listing(workloads, str(next(self._versions)))

    async def watch_workloads(
        self, kind: WorkloadKind, resource_version: str
    ) -> AsyncGenerator[Change | Bookmark, None]:
        version = int(resource_version)
        log, position = self._log[kind], 0
        while True:
            async with self._news:
                while len(log) <= position:
                    await self._news.wait()
            number, change = log[position]
            position += 1
            if number > version:
                await asyncio.sleep(self.latency)
                yield change

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, str] | None:
        await asyncio.sleep(self.latency)
        found = self.config_maps.get((namespace, name))
        return None if found is None else found["data"]

    async def write_config_map(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        await asyncio.sleep(self.latency)
        self.config_maps[namespace, manifest["metadata"]["name"]] = dict(manifest)

    async def delete_config_map(self, namespace: str, name: str) -> None:
        await asyncio.sleep(self.latency)
        self.config_maps.pop((namespace, name), None)

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        del namespace
        await asyncio.sleep(self.latency)
        for job in list(self.jobs.values()):
            if job.pod is not None and (job.pod.name, job.pod.uid) == (name, uid):
                job.pod = replace(job.pod, deleting=True, gone=True)
                await self._tell("pods", job.pod, deleted=True)

    async def write_status(self, run: RunRef, status: Mapping[str, Any], *, replacing: int | None) -> None:
        await asyncio.sleep(self.latency)
        there = await self.status_epoch(run)
        if there != replacing:
            raise ClusterError(ClusterErrorReason.CONFLICT, f"the status is of leader epoch {there}, not {replacing}")
        # As the API server would store it.
        self.status = msgspec.json.decode(msgspec.json.encode(status))
        self.statuses.append({"run": run.uid, **self.status})

    async def status_epoch(self, run: RunRef) -> int | None:
        del run
        epoch: int = self.status.get("leaderEpoch", 0)
        return epoch if self.status else None

    async def add_finalizer(self, run: RunRef) -> None:
        await asyncio.sleep(self.latency)
        self.finalizers.add(run.uid)

    async def remove_finalizer(self, run: RunRef) -> None:
        await asyncio.sleep(self.latency)
        self.finalizers.discard(run.uid)

    async def post_event(self, run: RunRef, *, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        del run, kind
        await asyncio.sleep(self.latency)
        self.events.append((reason, message))

    # ---------------------------------------------------------------------------------------------------- inside

    async def _run(self, job: _Job) -> None:
        """The life of the Job's pod: what the scheduler, the kubelet and the Job controller do."""
        await asyncio.sleep(self.pod_start)
        template = job.manifest["spec"]["template"]
        annotations = template["metadata"]["annotations"]
        context = msgspec.json.decode(annotations[ANNOTATION_CONTEXT])
        seen = Seen(msgspec.json.decode(annotations.get(ANNOTATION_ITEM, "null")), context)
        self.runs_of[context["itemId"]] = self.runs_of.get(context["itemId"], 0) + 1
        job.pod = PodSeen(
            namespace=job.seen.namespace,
            name=f"{job.seen.name}-pod",
            uid=f"pod-of-{job.seen.uid}",
            job=job.seen.name,
            job_uid=job.seen.uid,
            carried=job.seen.carried,
            phase="Running",
            node="node-1",
            started=True,
        )
        await self._tell("pods", job.pod)
        ends = self.agent(seen)
        limit = template["spec"]["activeDeadlineSeconds"]
        started = self.clock.now()
        await asyncio.sleep(min(ends.seconds, limit))
        end = ContainerEnd(
            exit_code=ends.exit_code if ends.seconds <= limit else 137,
            reason="OOMKilled" if ends.oom else "Completed" if ends.exit_code == 0 else "Error",
            message=ends.message if ends.seconds <= limit else "",
            started_at=started,
            finished_at=self.clock.now(),
        )
        reason = "DeadlineExceeded" if ends.seconds > limit else ""
        good = end.exit_code == 0
        job.pod = replace(job.pod, phase="Succeeded" if good else "Failed", reason=reason, agent=end)
        await self._tell("pods", job.pod)
        await asyncio.sleep(self.latency)
        job.seen = replace(job.seen, complete=good, failed_reason=None if good else "BackoffLimitExceeded")
        await self._tell("jobs", job.seen)

    async def evict(self, name: str) -> None:
        """The Eviction API takes the Job's pod away."""
        job = self.jobs[name]
        assert job.task is not None
        assert job.pod is not None
        job.task.cancel()
        job.pod = replace(job.pod, phase="Failed", deleting=True, disruption="EvictionByEvictionAPI")
        await self._tell("pods", job.pod)
        job.seen = replace(job.seen, failed_reason="PodFailurePolicy")
        await self._tell("jobs", job.seen)

    async def _delete(self, job: _Job) -> None:
        if self.jobs.pop(job.seen.name, None) is None:
            return
        if job.task is not None:
            job.task.cancel()
        await self._tell("jobs", replace(job.seen, deleting=True), deleted=True)
        if job.pod is not None:
            job.pod = replace(job.pod, deleting=True, gone=True)
            await self._tell("pods", job.pod, deleted=True)

    async def _tell(self, kind: WorkloadKind, workload: Workload, *, deleted: bool = False) -> None:
        version = next(self._versions)
        self._log[kind].append((version, Change(workload, deleted, str(version))))
        async with self._news:
            self._news.notify_all()

    def _check_one_live_pod(self, carried: Carried) -> None:
        key = carried.dispatches[0].item_key
        alive = [
            job.seen.name
            for job in self.jobs.values()
            if job.seen.carried.dispatches[0].item_key == key
            and not job.seen.finished
            and not (job.pod is not None and job.pod.ended)
        ]
        if len(alive) > 1:
            self.violations.append(f"live at the same time: {alive}")
