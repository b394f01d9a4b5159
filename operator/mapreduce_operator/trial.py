"""One job from its creation to its end, as `helm test` runs it in a pod of the release.

    python -m mapreduce_operator.trial NAMESPACE MANIFEST

MANIFEST is a MapReduceJob in JSON. Says what becomes of it. Exit code 0: it succeeded within two minutes, and is
deleted again. 1: it did not, and is left for a look at it; or it could not be created or followed.
"""

import asyncio
import sys
from contextlib import aclosing
from typing import Final

import msgspec

from mapreduce_operator.adapters.kube import ApiSession, CredentialsError, find_credentials
from mapreduce_operator.adapters.kube.resources import FIELD_MANAGER, MAPREDUCE_JOBS
from mapreduce_operator.adapters.kube.watching import objects_in
from mapreduce_operator.api import Phase
from mapreduce_operator.ports import JSON, ClusterError

SECONDS: Final = 120


class TrialError(Exception):
    """The job did not come to a good end; the text says how far it came, and how to go on."""


async def trial(api: ApiSession, namespace: str, manifest: JSON) -> None:
    """Runs the job. Raises TrialError or ClusterError."""
    created = msgspec.json.decode(
        await api.request(
            "POST",
            MAPREDUCE_JOBS.path(namespace),
            about=MAPREDUCE_JOBS.about(namespace),
            query=FIELD_MANAGER,
            body=manifest,
        )
    )
    name = created["metadata"]["name"]
    about = MAPREDUCE_JOBS.about(namespace, name)
    _say(f"{about} was created")
    status = await _end_of(api, namespace, name, created["metadata"]["resourceVersion"])
    if status.get("phase") != Phase.SUCCEEDED:
        came_to = f"its phase is {status['phase']}" if "phase" in status else "no operator has taken it on"
        raise TrialError(
            f"{about} has not succeeded, for which it has {SECONDS} s: {came_to}. "
            f"Look at it with kubectl -n {namespace} describe mrj {name}, and delete it then"
        )
    await api.request("DELETE", MAPREDUCE_JOBS.path(namespace, name), about=about)
    _say(f"{about} succeeded, and is deleted")


async def _end_of(api: ApiSession, namespace: str, name: str, version: str) -> JSON:
    """The status that a job has when it ended, was deleted, or the time is up."""
    status: JSON = {}
    query = {
        "watch": "true",
        "fieldSelector": f"metadata.name={name}",
        "resourceVersion": version,
        "timeoutSeconds": str(SECONDS),
    }
    about = MAPREDUCE_JOBS.about(namespace, name)
    async with aclosing(api.stream(MAPREDUCE_JOBS.path(namespace), about=about, query=query)) as chunks:
        async for body in objects_in(chunks, request=about):
            seen = body.get("status") or {}
            if seen.get("phase") != status.get("phase"):
                _say(f"phase {seen.get('phase')}, items {msgspec.json.encode(seen.get('items')).decode()}")
            status = seen
            if "completionTime" in status:
                break
    return status


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - `helm test --logs` shows it


async def _run(namespace: str, manifest: JSON) -> None:
    async with ApiSession(await find_credentials()) as api:
        await trial(api, namespace, manifest)


if __name__ == "__main__":
    try:
        asyncio.run(_run(sys.argv[1], msgspec.json.decode(sys.argv[2])))
    except (TrialError, ClusterError, CredentialsError) as error:
        sys.exit(f"error: {error}")
