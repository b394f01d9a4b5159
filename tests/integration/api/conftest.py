"""The CustomResourceDefinition on a real API server, under a group of its own.

With another group the tests meet neither an operator that runs in the same cluster, which would act on their objects,
nor the definition that it came with.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client, config

from mapreduce_operator.api import crd
from mapreduce_operator.api.crd import RESOURCES

CREATED_BY_TESTS = {"app.kubernetes.io/managed-by": "mapreduce-tests"}


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Jobs:
    """The MapReduceJobs of one namespace."""

    api: client.CustomObjectsApi
    group: str
    namespace: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1alpha1"

    def _where(self) -> dict[str, Any]:
        return {"group": self.group, "version": "v1alpha1", "namespace": self.namespace, "plural": "mapreducejobs"}

    def create(self, name: str, spec: dict[str, Any], *, dry_run: bool = False, validation: str = "Strict") -> Any:
        return self.api.create_namespaced_custom_object(
            **self._where(),
            body={
                "apiVersion": self.api_version,
                "kind": "MapReduceJob",
                "metadata": {"name": name},
                "spec": spec,
            },
            dry_run="All" if dry_run else None,
            field_validation=validation,
        )

    def get(self, name: str) -> Any:
        return self.api.get_namespaced_custom_object(**self._where(), name=name)

    def patch(self, name: str, spec: dict[str, Any]) -> Any:
        return self.api.patch_namespaced_custom_object(
            **self._where(), name=name, body={"spec": spec}, _content_type="application/merge-patch+json"
        )

    def patch_status(self, name: str, status: dict[str, Any]) -> Any:
        return self.api.patch_namespaced_custom_object_status(
            **self._where(), name=name, body={"status": status}, _content_type="application/merge-patch+json"
        )

    def replace_status(self, name: str, status: dict[str, Any]) -> Any:
        return self.api.replace_namespaced_custom_object_status(
            **self._where(), name=name, body=self.get(name) | {"status": status}
        )

    def scale(self, name: str, replicas: int) -> Any:
        return self.api.patch_namespaced_custom_object_scale(
            **self._where(),
            name=name,
            body={"spec": {"replicas": replicas}},
            _content_type="application/merge-patch+json",
        )


@pytest.fixture(scope="session", name="api_client")
def _api_client() -> Iterator[client.ApiClient]:
    config.load_kube_config()  # type: ignore[no-untyped-call]
    with client.ApiClient() as api_client:
        yield api_client


@pytest.fixture(scope="session", name="definition")
def _definition(api_client: client.ApiClient) -> Iterator[Any]:
    """The definition of MapReduceJob as the API server has it, once objects can be created."""
    (resource,) = RESOURCES
    wanted = crd.definition(resource)
    group = f"t{secrets.token_hex(4)}.mapreduce.dev"
    name = f"{resource.plural}.{group}"
    wanted["metadata"] = {"name": name, "labels": CREATED_BY_TESTS}
    wanted["spec"]["group"] = group

    definitions = client.ApiextensionsV1Api(api_client)
    definitions.patch_custom_resource_definition(
        name, wanted, field_manager="mapreduce-tests", force=True, _content_type="application/apply-patch+yaml"
    )
    try:
        until(lambda: conditions(definitions, name).get("Established") == "True", f"{name} is established")
        until(lambda: is_served(api_client, group), f"{group} is served")
        yield definitions.read_custom_resource_definition(name)
    finally:
        definitions.delete_custom_resource_definition(name)


def conditions(definitions: client.ApiextensionsV1Api, name: str) -> dict[str, str]:
    status = definitions.read_custom_resource_definition(name).status
    return {condition.type: condition.status for condition in (status and status.conditions) or ()}


def is_served(api_client: client.ApiClient, group: str) -> bool:
    try:
        client.CustomObjectsApi(api_client).list_cluster_custom_object(group, "v1alpha1", "mapreducejobs")
    except client.ApiException as error:
        if error.status == 404:
            return False
        raise
    return True


@pytest.fixture(scope="module", name="jobs")
def _jobs(api_client: client.ApiClient, definition: Any) -> Iterator[Jobs]:
    namespaces = client.CoreV1Api(api_client)
    namespace = f"mapreduce-api-{secrets.token_hex(4)}"
    namespaces.create_namespace(
        client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace, labels=CREATED_BY_TESTS))
    )
    try:
        yield Jobs(client.CustomObjectsApi(api_client), definition.spec.group, namespace)
    finally:
        namespaces.delete_namespace(namespace)
