"""From the bytes of a watch to its events.

The server writes one JSON document per line. Lines are as long as objects are, so they are put together here, without
the limit that aiohttp's own line reader has.
"""

from typing import Final

import msgspec

from mapreduce_operator.adapters.kube.errors import Status, error_in_stream, translated
from mapreduce_operator.adapters.kube.wire import AnyObject, Job, Metadata, Pod, WatchEvent, job_seen, pod_seen
from mapreduce_operator.core.workloads import Workload
from mapreduce_operator.ports import Bookmark, Change, WorkloadKind

_events: Final = msgspec.json.Decoder(WatchEvent)
_statuses: Final = msgspec.json.Decoder(Status)
_objects: Final = msgspec.json.Decoder(AnyObject)
_jobs: Final = msgspec.json.Decoder(Job)
_pods: Final = msgspec.json.Decoder(Pod)


class Lines:
    """Puts lines together from chunks.

    What has no line's end is never given out: if the stream ends there, the next watch tells it again.
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def take(self, chunk: bytes) -> list[bytes]:
        """The lines that this chunk ends."""
        first, *others = chunk.split(b"\n")
        self._parts.append(first)
        if not others:
            return []
        ended = [b"".join(self._parts), *others[:-1]]
        self._parts = [others[-1]]
        return [line for line in ended if line.strip()]


def event_in(line: bytes, kind: WorkloadKind, *, request: str) -> Change | Bookmark:
    """What a line says; raises ClusterError for an ERROR event and for what is no event.

    A change of an object that is not ours becomes a bookmark: it tells nothing but how far the stream has come.
    """
    with translated(request):
        event = _events.decode(line)
        if event.type == "ERROR":
            raise error_in_stream(_statuses.decode(event.object), request=request)
        if event.type == "BOOKMARK":
            return Bookmark(_objects.decode(event.object).metadata.resource_version)
        deleted = event.type == "DELETED"
        if kind == "jobs":
            job = _jobs.decode(event.object)
            return _told(job_seen(job), job.metadata, deleted=deleted)
        pod = _pods.decode(event.object)
        return _told(pod_seen(pod, gone=deleted), pod.metadata, deleted=deleted)


def _told(workload: Workload | None, metadata: Metadata, *, deleted: bool) -> Change | Bookmark:
    if workload is None:
        return Bookmark(metadata.resource_version)
    return Change(workload, deleted, metadata.resource_version)
