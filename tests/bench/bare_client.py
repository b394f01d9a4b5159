"""What the platform gives without an operator: creates Jobs within a window, and deletes each when its pod has ended.

Runs in a pod of the operator's image with the operator's resources, so that both compete for the machine on the same
terms. It prepares one body, keeps no state but counts, and looks at nothing of a pod but its phase: whoever records
results or survives a crash does more than this.
"""

import asyncio
import json
import os
import resource
import ssl
import sys
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
JOB: Final = Path("/bench/job.json")
KEY: Final = b"benchmarks"
"""Stands for the item's key wherever the body has one."""
CONNECTIONS: Final = 64
"""As many as the operator has."""


class Metadata(msgspec.Struct, rename="camel"):
    labels: dict[str, str] = {}
    resource_version: str = ""


class Status(msgspec.Struct):
    phase: str = ""


class Pod(msgspec.Struct):
    metadata: Metadata
    status: Status


class Event(msgspec.Struct):
    type: str
    object: Pod


_events: Final = msgspec.json.Decoder(Event)


class BareClient:
    """One run over so many items."""

    def __init__(self, session: aiohttp.ClientSession, server: str, namespace: str, items: int, window: int) -> None:
        self._session: Final = session
        self._jobs: Final = f"{server}/apis/batch/v1/namespaces/{namespace}/jobs"
        self._pods: Final = f"{server}/api/v1/namespaces/{namespace}/pods"
        self._items: Final = items
        self._free: Final = asyncio.Semaphore(window)
        self._body: Final = JOB.read_bytes()
        self._ended: Final[set[str]] = set()
        self._all_ended: Final = asyncio.Event()

    async def run(self) -> None:
        async with self._session.get(self._pods, params={"limit": 1}) as response:
            version = msgspec.json.decode(await response.read(), type=Pods).metadata.resource_version
        async with asyncio.TaskGroup() as requests, asyncio.TaskGroup() as company:
            watch = company.create_task(self._watch(version, requests))
            progress = company.create_task(self._tell_progress())
            for number in range(self._items):
                await self._free.acquire()
                requests.create_task(self._create(number))
            await self._all_ended.wait()
            watch.cancel()
            progress.cancel()

    async def _create(self, number: int) -> None:
        body = self._body.replace(KEY, b"%010d" % number)
        async with self._session.post(self._jobs, data=body) as response:
            await response.read()

    async def _delete(self, job: str) -> None:
        async with self._session.delete(f"{self._jobs}/{job}", data=b'{"propagationPolicy":"Background"}') as response:
            await response.read()

    async def _watch(self, version: str, requests: asyncio.TaskGroup) -> None:
        query = {"watch": "true", "resourceVersion": version, "labelSelector": "batch.kubernetes.io/job-name"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(self._pods, params=query, timeout=timeout) as response:
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._take(_events.decode(line).object, requests)
        raise RuntimeError("the watch ended before the pods did")

    def _take(self, pod: Pod, requests: asyncio.TaskGroup) -> None:
        job = pod.metadata.labels["batch.kubernetes.io/job-name"]
        if pod.status.phase == "Failed":
            raise RuntimeError(f"the pod of {job} failed")
        if pod.status.phase != "Succeeded" or job in self._ended:
            return
        self._ended.add(job)
        self._free.release()
        requests.create_task(self._delete(job))
        if len(self._ended) == self._items:
            self._all_ended.set()

    async def _tell_progress(self) -> None:
        while True:
            await asyncio.sleep(1)
            tell({"done": len(self._ended)})


class Pods(msgspec.Struct):
    """A list, of which only the version counts."""

    metadata: Metadata


def tell(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main() -> None:
    server = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    token = (ACCOUNT / "token").read_text()
    context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=context),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Accept": "application/json"},
        raise_for_status=True,
        read_bufsize=1 << 20,
    ) as session:
        namespace, items, window = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        began, used_before = time.monotonic(), time.process_time()
        await BareClient(session, server, namespace, items, window).run()
        seconds, used = time.monotonic() - began, time.process_time() - used_before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tell({"seconds": seconds, "own_cpu_seconds": used, "peak_bytes": peak})


if __name__ == "__main__":
    asyncio.run(main())
