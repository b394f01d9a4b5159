"""A namespace of a real cluster for each test, and objects of our kinds under a group of their own.

With another group the tests meet neither an operator that runs in the same cluster nor the definition it came with.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, KubeconfigCredentials
from mapreduce_operator.adapters.kube import cluster as cluster_module
from mapreduce_operator.adapters.kube.resources import DEAD_LETTER_QUEUES, MAPREDUCE_JOBS, REDRIVES, Resource
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

DEFINITIONS = Path(__file__).parents[3] / "crds"
DEFINITIONS_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
REAL_IMAGE = "docker.io/library/debian:bookworm-slim"
CREATED_BY_TESTS = {"app.kubernetes.io/managed-by": "mapreduce-tests"}


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = 120) -> None:
    try:
        async with asyncio.timeout(seconds):
            # Nothing tells when a server's state has changed but asking again.
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")


async def call(api: ApiSession, verb: str, path: str, body: Any = None) -> Any:
    return json.loads(await api.request(verb, path, about=path, body=body))


def _service_account(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/serviceaccounts/default"


async def _is_there(api: ApiSession, path: str) -> bool:
    try:
        await call(api, "GET", path)
    except ClusterError as error:
        return error.reason is not ClusterErrorReason.NOT_FOUND
    return True


@pytest.fixture
async def api() -> AsyncIterator[ApiSession]:
    async with ApiSession(await KubeconfigCredentials.load()) as api:
        yield api


@pytest.fixture
async def namespace(api: ApiSession) -> AsyncIterator[str]:
    name = f"mapreduce-adapters-{secrets.token_hex(4)}"
    await call(api, "POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": CREATED_BY_TESTS}})
    await until(lambda: _is_there(api, _service_account(name)), "the service account without which no pod is admitted")
    yield name
    await call(api, "DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def cluster(api: ApiSession, namespace: str) -> KubeCluster:
    return KubeCluster(api, namespace=namespace)


@pytest.fixture
async def some_node_has_the_image(api: ApiSession) -> None:
    nodes = await call(api, "GET", "/api/v1/nodes")
    names = {name for node in nodes["items"] for image in node["status"].get("images", ()) for name in image["names"]}
    if REAL_IMAGE not in names:
        pytest.skip(f"no node has {REAL_IMAGE}: dev/images.sh load brings it there")


@pytest.fixture
def service_account(namespace: str) -> str:
    """Path of the namespace's default service account."""
    return _service_account(namespace)


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one kind in a namespace."""

    api: ApiSession
    resource: Resource
    kind: str
    namespace: str

    async def create(self, name: str, spec: Any) -> str:
        """Creates an object and returns its uid."""
        created = await call(self.api, "POST", self.resource.path(self.namespace), self.manifest(name, spec))
        return str(created["metadata"]["uid"])

    def manifest(self, name: str, spec: Any) -> dict[str, Any]:
        api_version = self.resource.api.removeprefix("/apis/")
        return {"apiVersion": api_version, "kind": self.kind, "metadata": {"name": name}, "spec": spec}

    async def get(self, name: str) -> Any:
        return await call(self.api, "GET", self.resource.path(self.namespace, name))

    async def merge(self, name: str, patch: Any) -> None:
        path = self.resource.path(self.namespace, name)
        await self.api.request("PATCH", path, about=name, body=patch, content_type="application/merge-patch+json")

    async def delete(self, name: str) -> None:
        await call(self.api, "DELETE", self.resource.path(self.namespace, name))

    async def is_gone(self, name: str) -> bool:
        return not await _is_there(self.api, self.resource.path(self.namespace, name))


@dataclass(frozen=True, slots=True)
class Runs(Objects):
    """The MapReduceJobs of a namespace."""

    async def create_run(self, name: str) -> RunRef:
        template = {"spec": {"containers": [{"name": "agent", "image": "localhost/none:1"}]}}
        uid = await self.create(name, {"input": {"items": [1]}, "map": {"template": template}})
        return RunRef(self.namespace, name, uid)


@asynccontextmanager
async def served(api: ApiSession, resource: Resource) -> AsyncIterator[tuple[Resource, str]]:
    """One of our kinds under a group of its own, and the kind's name."""
    group = f"t{secrets.token_hex(4)}.mapreduce.dev"
    file = DEFINITIONS / f"mapreduce.dev_{resource.plural}.yaml"
    definition = yaml.safe_load(await asyncio.to_thread(file.read_text, encoding="utf-8"))
    name = f"{resource.plural}.{group}"
    definition["metadata"] = {"name": name, "labels": CREATED_BY_TESTS}
    definition["spec"]["group"] = group
    resource = replace(resource, api=f"/apis/{group}/v1alpha1")

    async def is_served() -> bool:
        try:
            await call(api, "GET", resource.path(""))
        except ClusterError as error:
            # "storage is (re)initializing" comes as 429.
            if error.reason not in {ClusterErrorReason.NOT_FOUND, ClusterErrorReason.THROTTLED}:
                raise
            return False
        return True

    await call(api, "POST", DEFINITIONS_PATH, definition)
    try:
        await until(is_served, f"{group} is served")
        yield resource, definition["spec"]["names"]["kind"]
    finally:
        await call(api, "DELETE", f"{DEFINITIONS_PATH}/{name}")


@pytest.fixture
async def runs(api: ApiSession, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runs]:
    async with served(api, MAPREDUCE_JOBS) as (resource, kind):
        monkeypatch.setattr(cluster_module, "MAPREDUCE_JOBS", resource)
        yield Runs(api, resource, kind, namespace)


@pytest.fixture
async def queues(api: ApiSession, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Objects]:
    async with served(api, DEAD_LETTER_QUEUES) as (resource, kind):
        monkeypatch.setattr(cluster_module, "DEAD_LETTER_QUEUES", resource)
        yield Objects(api, resource, kind, namespace)


@pytest.fixture
async def redrives(api: ApiSession, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Objects]:
    async with served(api, REDRIVES) as (resource, kind):
        monkeypatch.setattr(cluster_module, "REDRIVES", resource)
        yield Objects(api, resource, kind, namespace)
