"""An API server to which the kubeconfig leads, and the command line against it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mapreduce_operator.cli.app import main
from tests.unit.adapters.kube.fake_api import FakeApi, answer, running_fake_api

JOBS = "/apis/mapreduce.dev/v1alpha1/namespaces/team/mapreducejobs"
QUEUES = "/apis/mapreduce.dev/v1alpha1/namespaces/team/deadletterqueues"
REDRIVES = "/apis/mapreduce.dev/v1alpha1/namespaces/team/redrives"
CREATED = "2026-11-21T10:00:00Z"


@asynccontextmanager
async def little_cluster(folder: Path) -> AsyncIterator[FakeApi]:
    """Its kubeconfig is folder/config; the namespace of the current context is `team`."""
    async with running_fake_api() as api:
        (folder / "config").write_text(
            f"""
apiVersion: v1
kind: Config
current-context: here
users: [{{name: somebody, user: {{token: secret}}}}]
clusters: [{{name: fake, cluster: {{server: '{api.url}'}}}}]
contexts:
- {{name: here, context: {{cluster: fake, user: somebody, namespace: team}}}}
- {{name: there, context: {{cluster: fake, user: somebody}}}}
"""
        )
        yield api


async def call(*words: str) -> int:
    """The exit code of a command line. It has an event loop of its own, as the real one has."""
    return await asyncio.to_thread(main, words)


def job(name: str = "words", *, generation: int = 1, spec: Any = None, **status: Any) -> dict[str, Any]:
    """A MapReduceJob as the API server has it; `conditions` are given as TYPE=(status, reason)."""
    conditions = [
        {"type": kind, "status": value, "reason": reason, "message": f"{kind} is {value}"}
        for kind, (value, reason) in status.pop("conditions", {}).items()
    ]
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "resourceVersion": "1",
            "generation": generation,
            "creationTimestamp": CREATED,
        },
        "spec": spec or {"map": {}},
        "status": {"observedGeneration": generation, "conditions": conditions} | status,
    }


FINISHED = {"Finished": ("True", "AllItemsSucceeded"), "Complete": ("True", "AllItemsSucceeded")}


def there(api: FakeApi, *bodies: dict[str, Any]) -> None:
    """The job, first as it is at first; a patch of it is answered with it as well."""
    path = f"{JOBS}/{bodies[0]['metadata']['name']}"
    api.on("GET", path, *map(answer, bodies))
    api.on("PATCH", path, answer(bodies[0]))
