"""From the name of an object to the run in storage: that of a job, which may be gone, or of a queue."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.kube.objects import Objects
from mapreduce_operator.adapters.kube.resources import DEAD_LETTER_QUEUES, MAPREDUCE_JOBS
from mapreduce_operator.adapters.kube.wire import AnyObject, Narrow
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.ports import ObjectStore
from mapreduce_operator.serving.errors import RefusedError

_INTERVAL: Final = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")


class _States(Narrow):
    running: str = ""


class _Positions(Narrow):
    map: _States | None = None


class _Checkpoint(Narrow):
    sequence: int


class _Status(Narrow):
    checkpoint: _Checkpoint | None = None
    positions: _Positions | None = None


class _Job(AnyObject):
    status: _Status | None = None


class _JobReference(Narrow):
    name: str
    uid: str


class _QueueSpec(Narrow):
    job_ref: _JobReference


class _Queue(AnyObject):
    spec: _QueueSpec


@dataclass(frozen=True, slots=True)
class Found:
    """A run, and what the status of its job says of it."""

    run: RunRef
    job_exists: bool
    sequence: int = 0
    """Number of the checkpoint that the status is of."""
    running: str = ""
    """Positions of the items whose agents are at work, as intervals."""

    def running_since(self, sequence: int, items: int) -> frozenset[int]:
        """Positions, of so many, of the items that run; none where the status is older than that checkpoint."""
        return frozenset(_positions(self.running, items)) if self.sequence >= sequence else frozenset()


class Runs:
    """All methods raise RefusedError where there is no such thing, ClusterError and StorageError."""

    def __init__(self, api: ApiSession, store: ObjectStore) -> None:
        self._objects: Final = Objects(api)
        self._store: Final = store

    async def of_job(self, namespace: str, name: str, uid: str) -> Found:
        """The run of the job as it is now, or of one of that name that was deleted and whose storage was kept."""
        job = await self._objects.get(_Job, MAPREDUCE_JOBS, namespace, name)
        if job is not None and uid in {"", job.metadata.uid}:
            status = job.status or _Status()
            running = status.positions.map.running if status.positions and status.positions.map else ""
            sequence = status.checkpoint.sequence if status.checkpoint else 0
            return Found(RunRef(namespace, name, job.metadata.uid), True, sequence, running)
        uids, kept = set[str](), set[str]()
        async for key in self._store.list(f"{namespace}/{name}/"):
            uids.add(one := key.split("/")[2])
            # Dead letters that nobody resolved outlive a job and its storage.
            if not key.startswith(StorageKeys(RunRef(namespace, name, one)).letters):
                kept.add(one)
        missing = f"there is no MapReduceJob {name!r} in the namespace {namespace!r}"
        if uids and not kept:
            raise RefusedError(
                404,
                "JobNotFound",
                f"the job {name!r} of {namespace!r} was deleted with its storage; what is left are its dead letters: "
                f"`kubectl mapreduce dlq list {name} -n {namespace}`",
            )
        if uid and uid not in kept:
            raise RefusedError(404, "JobNotFound", f"storage keeps no job {name!r} of {namespace!r} with the uid {uid}")
        match [uid] if uid else sorted(kept):
            case [only]:
                return Found(RunRef(namespace, name, only), False)
            case []:
                raise RefusedError(
                    404,
                    "JobNotFound",
                    f"{missing}, and storage keeps none of that name; `kubectl mapreduce status` lists all jobs",
                )
            case _:
                raise RefusedError(
                    404,
                    "JobNotFound",
                    f"{missing}, and storage keeps {len(kept)} of that name: give --uid {', '.join(sorted(kept))}",
                )

    async def of_queue(self, namespace: str, name: str) -> Found:
        """The run whose letters a queue holds: only of its own namespace, whatever uid somebody writes into it."""
        queue = await self._objects.get(_Queue, DEAD_LETTER_QUEUES, namespace, name)
        if queue is None:
            raise RefusedError(
                404,
                "QueueNotFound",
                f"there is no DeadLetterQueue {name!r} in the namespace {namespace!r}; `kubectl get dlq` lists those "
                "that there are",
            )
        reference = queue.spec.job_ref
        job = await self._objects.get(AnyObject, MAPREDUCE_JOBS, namespace, reference.name)
        exists = job is not None and job.metadata.uid == reference.uid
        return Found(RunRef(namespace, reference.name, reference.uid), exists)


def _positions(intervals: str, items: int) -> Iterator[int]:
    """Those below `items` in a text such as "0-5,7"; what was cut of it is not there."""
    ahead = 0
    for interval in intervals.split(","):
        found = _INTERVAL.fullmatch(interval)
        if found is not None:
            # Whoever may write a status could say anything in it: each position comes once, however often it is there.
            last = min(int(found[2] or found[1]), items - 1)
            yield from range(max(int(found[1]), ahead), last + 1)
            ahead = max(ahead, last + 1)
