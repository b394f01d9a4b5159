"""A namespace of a real cluster for each test, and MapReduceJobs under a group of their own.

With another group the tests meet neither an operator that runs in the same cluster nor the definition it came with.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, KubeconfigCredentials
from mapreduce_operator.adapters.kube import cluster as cluster_module
from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

DEFINITION = Path(__file__).parents[3] / "crds" / "mapreduce.dev_mapreducejobs.yaml"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CREATED_BY_TESTS = {"app.kubernetes.io/managed-by": "mapreduce-tests"}


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 30) -> None:
    try:
        async with asyncio.timeout(seconds):
            # Nothing tells when a server's state has changed but asking again.
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def call(api: ApiSession, verb: str, path: str, body: Any = None) -> Any:
    return json.loads(await api.request(verb, path, about=path, body=body))


@pytest.fixture
async def api() -> AsyncIterator[ApiSession]:
    async with ApiSession(await KubeconfigCredentials.load()) as api:
        yield api


@pytest.fixture
async def namespace(api: ApiSession) -> AsyncIterator[str]:
    name = f"mapreduce-adapters-{secrets.token_hex(4)}"
    await call(api, "POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": CREATED_BY_TESTS}})
    yield name
    await call(api, "DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def cluster(api: ApiSession, namespace: str) -> KubeCluster:
    return KubeCluster(api, namespace=namespace)


@dataclass(frozen=True, slots=True)
class Runs:
    """The MapReduceJobs of a namespace."""

    api: ApiSession
    path: str
    api_version: str
    namespace: str

    async def create(self, name: str) -> RunRef:
        template = {"spec": {"containers": [{"name": "agent", "image": "localhost/none:1"}]}}
        body = {
            "apiVersion": self.api_version,
            "kind": "MapReduceJob",
            "metadata": {"name": name},
            "spec": {"input": {"items": [1]}, "map": {"template": template}},
        }
        created = await call(self.api, "POST", self.path, body)
        return RunRef(self.namespace, name, created["metadata"]["uid"])

    async def get(self, name: str) -> Any:
        return await call(self.api, "GET", f"{self.path}/{name}")

    async def merge(self, name: str, patch: Any) -> None:
        await self.api.request(
            "PATCH", f"{self.path}/{name}", about=name, body=patch, content_type="application/merge-patch+json"
        )

    async def delete(self, name: str) -> None:
        await call(self.api, "DELETE", f"{self.path}/{name}")

    async def is_gone(self, name: str) -> bool:
        try:
            await self.get(name)
        except ClusterError as error:
            return error.reason is ClusterErrorReason.NOT_FOUND
        return False


@pytest.fixture
async def runs(api: ApiSession, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    group = f"t{secrets.token_hex(4)}.mapreduce.dev"
    definition = yaml.safe_load(await asyncio.to_thread(DEFINITION.read_text, encoding="utf-8"))
    name = f"mapreducejobs.{group}"
    definition["metadata"] = {"name": name, "labels": CREATED_BY_TESTS}
    definition["spec"]["group"] = group
    resource = replace(MAPREDUCE_JOBS, api=f"/apis/{group}/v1alpha1")
    monkeypatch.setattr(cluster_module, "MAPREDUCE_JOBS", resource)
    runs = Runs(api, resource.path(namespace), f"{group}/v1alpha1", namespace)

    async def is_served() -> bool:
        try:
            await call(api, "GET", runs.path)
        except ClusterError as error:
            # "storage is (re)initializing" comes as 429.
            if error.reason not in {ClusterErrorReason.NOT_FOUND, ClusterErrorReason.THROTTLED}:
                raise
            return False
        return True

    await call(api, "POST", DEFINITIONS, definition)
    try:
        await until(is_served, f"{group} is served")
        yield runs
    finally:
        await call(api, "DELETE", f"{DEFINITIONS}/{name}")
