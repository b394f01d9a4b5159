"""A process's connection to the simulated API server: the Cluster port, with all that may go wrong on the way."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeVar

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.workloads import JobSeen, PodSeen, Workload
from mapreduce_operator.ports import (
    Bookmark,
    Change,
    ClusterError,
    ClusterErrorReason,
    DeposedError,
    JobCreated,
    Leadership,
    Listing,
    WorkloadKind,
)
from tests.simulation.process import Process
from tests.simulation.simulated_cluster import SimulatedCluster

T = TypeVar("T")

LONGEST_TRIP_SECONDS: Final = 12.0
"""Of a request or its answer, in the worst weather."""


class Trip(NamedTuple):
    """How a call travels: decided when it begins, so that nothing depends on the order of cancellations."""

    there: float = 0.005
    """Seconds that the request is under way."""
    back: float = 0.005
    """Seconds that the answer is under way."""
    straggles: float | None = None
    """If the process dies or gives the call up before the request arrives: seconds after which it arrives all the same,
    None if it does not.
    """


@dataclass(frozen=True, slots=True)
class Stream:
    """How one watch goes."""

    seconds: float | None = None
    """When it ends; None for never."""
    breaks: ClusterErrorReason | None = None
    """How it ends; None for in order."""
    repeats: float = 0.0
    """Chance of each event to come twice in a row."""


class ApiFaults(Protocol):
    """What goes wrong between a process and the API server."""

    def trip(self, call: str) -> Trip:
        """How a call travels."""

    def refused(self, call: str) -> ClusterError | None:
        """Something that keeps the request from having an effect."""

    def lost(self, call: str) -> ClusterError | None:
        """Something that keeps the answer from coming back, after the effect."""

    def stream(self, kind: WorkloadKind) -> Stream:
        """How the watch that begins now goes."""

    def chance(self) -> float: ...


class NoFaults:
    """Fulfils ApiFaults: all is well. Tests override what shall go wrong."""

    def trip(self, call: str) -> Trip:
        del call
        return Trip()

    def refused(self, call: str) -> ClusterError | None:
        del call
        return None

    def lost(self, call: str) -> ClusterError | None:
        del call
        return None

    def stream(self, kind: WorkloadKind) -> Stream:
        del kind
        return Stream()

    def chance(self) -> float:
        return 1.0


class Connection:
    """Fulfils the Cluster port."""

    def __init__(
        self,
        server: SimulatedCluster,
        process: Process | None = None,
        faults: ApiFaults | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        self._server: Final = server
        self._process: Final = process if process is not None else Process()
        self._faults: Final = faults if faults is not None else NoFaults()
        self._leadership: Final = leadership
        self.calls: Final[dict[str, int]] = {}
        """Requests by verb and kind."""
        self.told: Final[dict[str, tuple[float, float]]] = {}
        """When this process was told of each Job or its pod, first and last, by the Job's uid."""
        self.listed: Final[dict[WorkloadKind, float]] = {}
        """When each kind was listed first."""

    async def create_job(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JobCreated:
        if dry_run:
            return await self._call("try job", lambda: self._server.create_job(namespace, manifest, dry_run=True))
        number = self._process.number
        created = await self._call(
            "create job",
            lambda: self._server.create_job(namespace, manifest, process=number),
            manifest["metadata"]["name"],
        )
        self._tell(created.uid)
        return created

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        return await self._call("get job", lambda: self._server.get_job(namespace, name), name)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        await self._call("delete job", lambda: self._server.delete_job(namespace, name, uid), name)

    async def delete_jobs(self, run: RunRef) -> None:
        await self._call("delete jobs", lambda: self._server.delete_jobs(run))

    async def find_pod(self, namespace: str, job_uid: str) -> PodSeen | None:
        return await self._call("find pod", lambda: self._server.find_pod(namespace, job_uid), job_uid)

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        await self._call("delete pod", lambda: self._server.delete_pod(namespace, name, uid), name)

    async def list_workloads(self, kind: WorkloadKind) -> Listing:
        listing = await self._call(f"list {kind}", lambda: self._server.listing(kind))
        self.listed.setdefault(kind, asyncio.get_running_loop().time())
        for workload in listing.workloads:
            self._tell(job_uid_of(workload))
        return listing

    async def watch_workloads(
        self, kind: WorkloadKind, resource_version: str
    ) -> AsyncGenerator[Change | Bookmark, None]:
        call = f"watch {kind}"
        await self._process.point()
        self._count(call)
        refused = self._faults.refused(call)
        if refused is not None:
            await asyncio.sleep(self._faults.trip(call).there)
            raise refused
        loop, stream = asyncio.get_running_loop(), self._faults.stream(kind)
        end = None if stream.seconds is None else loop.time() + stream.seconds
        alarm = None if end is None else loop.call_at(end, self._server.wake, kind)
        after = int(resource_version)
        try:
            while end is None or loop.time() < end:
                await self._server.news(kind, after)
                # Told one after another, each kind at its own pace: Jobs and pods overtake each other.
                await asyncio.sleep(self._faults.trip(call).back)
                for change in self._told(kind, after, stream):
                    after = int(change.resource_version)
                    await self._process.point()
                    self._tell(job_uid_of(change.workload))
                    yield change
            if stream.breaks is None:
                yield Bookmark(str(after))
        finally:
            if alarm is not None:
                alarm.cancel()
        if stream.breaks is not None:
            raise ClusterError(stream.breaks, f"WATCH {kind}: the stream broke")

    def _told(self, kind: WorkloadKind, after: int, stream: Stream) -> Iterator[Change]:
        for change in self._server.changes(kind, after):
            yield change
            if stream.repeats and self._faults.chance() < stream.repeats:
                yield change

    async def read_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        return await self._call("get config map", lambda: self._server.read_config_map(namespace, name))

    async def write_config_map(self, namespace: str, manifest: Mapping[str, Any]) -> None:
        await self._call("write config map", lambda: self._server.write_config_map(namespace, manifest))

    async def delete_config_map(self, namespace: str, name: str) -> None:
        await self._call("delete config map", lambda: self._server.delete_config_map(namespace, name))

    async def write_status(self, run: RunRef, status: Mapping[str, Any], *, replacing: int) -> None:
        number = self._process.number
        await self._call(
            "write status", lambda: self._server.write_status(run, status, replacing=replacing, process=number)
        )

    async def status_epoch(self, run: RunRef) -> int:
        return await self._call("get status", lambda: self._server.status_epoch(run))

    async def fill_in_spec(self, run: RunRef, spec: Mapping[str, Any], *, version: str) -> None:
        await self._call("fill in spec", lambda: self._server.fill_in_spec(run, spec, version))

    async def add_finalizer(self, run: RunRef) -> None:
        await self._call("add finalizer", lambda: self._server.add_finalizer(run))

    async def remove_finalizer(self, run: RunRef) -> None:
        await self._call("remove finalizer", lambda: self._server.remove_finalizer(run))

    async def delete_run(self, run: RunRef) -> None:
        await self._call("delete object", lambda: self._server.delete_run(run))

    async def post_event(self, run: RunRef, *, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        await self._call(
            "post event", lambda: self._server.post_event(run, kind=kind, reason=reason, message=message), reason
        )

    async def read_log(self, namespace: str, pod: str, *, lines: int, limit: int) -> str:
        del namespace, lines
        text = await self._call("get log", lambda: self._server.read_log(pod), pod)
        return text[-limit:]

    async def create_queue(self, namespace: str, manifest: Mapping[str, Any]) -> str:
        del namespace
        return await self._call(
            "create queue", lambda: self._server.queues.create(manifest), manifest["metadata"]["name"]
        )

    async def get_queue(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        del namespace
        return await self._call("get queue", lambda: self._server.queues.get(name), name)

    async def write_queue_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> None:
        del namespace
        process = self._process.number
        await self._call(
            "write queue status", lambda: self._server.queues.replace_status(name, uid, status, process), name
        )

    async def remove_queue_finalizer(self, namespace: str, name: str, uid: str) -> None:
        del namespace
        await self._call("remove queue finalizer", lambda: self._server.queues.remove_finalizer(name, uid), name)

    async def delete_queue(self, namespace: str, name: str, uid: str) -> None:
        del namespace
        await self._call("delete queue", lambda: self._server.queues.delete(name, uid), name)

    async def write_redrive_status(self, namespace: str, name: str, uid: str, status: Mapping[str, Any]) -> None:
        del namespace
        process = self._process.number
        await self._call(
            "write redrive status", lambda: self._server.redrives.replace_status(name, uid, status, process), name
        )

    async def delete_redrive(self, namespace: str, name: str, uid: str) -> None:
        del namespace
        await self._call("delete redrive", lambda: self._server.redrives.delete(name, uid), name)

    # ---------------------------------------------------------------------------------------------------- inside

    async def _call(self, call: str, effect: Callable[[], T], about: str = "") -> T:
        """One request and its answer."""
        await self._process.point()
        self._count(call)
        # As in the session of the real adapter: whoever does not lead any more sends nothing but reads.
        if self._leadership is not None and not self._leadership.held and not call.startswith(("get", "list")):
            raise DeposedError(f"{call} was not sent: this process does not lead any more")
        trip = self._faults.trip(call)
        try:
            await asyncio.sleep(trip.there)
        except asyncio.CancelledError:
            self._straggle(call, effect, about, trip.straggles)
            raise
        refused = self._faults.refused(call)
        if refused is not None:
            self._trace(f"{call} {about} - {refused}")
            raise refused
        try:
            result = effect()
        except ClusterError as error:
            self._trace(f"{call} {about} - {error}")
            await asyncio.sleep(trip.back)
            await self._process.point()
            raise
        lost = self._faults.lost(call)
        self._trace(f"{call} {about}" + (f", answer lost: {lost}" if lost else ""))
        await asyncio.sleep(trip.back)
        await self._process.point()
        if lost is not None:
            raise lost
        return result

    def _straggle(self, call: str, effect: Callable[[], object], about: str, seconds: float | None) -> None:
        """Nobody waits for the answer any more; the request may arrive all the same."""
        if seconds is None:
            return

        def arrive() -> None:
            try:
                effect()
            except ClusterError as error:
                self._trace(f"{call} {about}, late - {error}")
            else:
                self._trace(f"{call} {about}, late")

        asyncio.get_running_loop().call_later(seconds, arrive)

    def _tell(self, job_uid: str) -> None:
        now = asyncio.get_running_loop().time()
        first, _ = self.told.get(job_uid, (now, now))
        self.told[job_uid] = first, now

    def _count(self, call: str) -> None:
        self.calls[call] = self.calls.get(call, 0) + 1

    def _trace(self, text: str) -> None:
        if self._server.trace is not None:
            self._server.trace(f"{self._process.number}: {text}")


def job_uid_of(workload: Workload) -> str:
    return workload.uid if isinstance(workload, JobSeen) else workload.job_uid
