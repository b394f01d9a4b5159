"""From the bytes of a watch to its events.

The server writes one JSON document per line. Lines are as long as objects are, so they are put together here, without
the limit that aiohttp's own line reader has.
"""

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from mapreduce_operator.adapters.kube.errors import Status, error_in_stream, translated
from mapreduce_operator.adapters.kube.wire import Job, Pod, WatchEvent, WatchEventType, job_seen, pod_seen
from mapreduce_operator.core.workloads import Workload
from mapreduce_operator.ports import Bookmark, Change, WorkloadKind

_types: Final = msgspec.json.Decoder(WatchEventType)
_jobs: Final = msgspec.json.Decoder(WatchEvent[Job])
_pods: Final = msgspec.json.Decoder(WatchEvent[Pod])
_errors: Final = msgspec.json.Decoder(WatchEvent[Status])


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
        # The object of an ERROR is a Status, whose fields are of other types than those of what is watched.
        if _types.decode(line).type == "ERROR":
            raise error_in_stream(_errors.decode(line).object, request=request)
        event = _jobs.decode(line) if kind == "jobs" else _pods.decode(line)
        version = event.object.metadata.resource_version
        if not version:
            raise msgspec.ValidationError(f"an event of type {event.type!r} without a resourceVersion")
        seen = None if event.type == "BOOKMARK" else _seen(event)
        return Bookmark(version) if seen is None else Change(seen, event.type == "DELETED", version)


async def objects_in(chunks: AsyncIterator[bytes], *, request: str) -> AsyncIterator[dict[str, Any]]:
    """An object of any kind, watched alone, each time that it has changed.

    Ends when it is deleted, when the watch has an error to tell, or with the stream. Raises ClusterError.
    """
    lines = Lines()
    async for chunk in chunks:
        for line in lines.take(chunk):
            with translated(request):
                event = msgspec.json.decode(line, type=dict[str, Any])
            if event["type"] not in {"ADDED", "MODIFIED"}:
                return
            yield event["object"]


def _seen(event: WatchEvent[Job] | WatchEvent[Pod]) -> Workload | None:
    if isinstance(event.object, Job):
        return job_seen(event.object)
    return pod_seen(event.object, gone=event.type == "DELETED")
