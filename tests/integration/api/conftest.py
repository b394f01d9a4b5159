"""The CustomResourceDefinitions on a real API server, under a group of their own.

With another group the tests meet neither an operator that runs in the same cluster, which would act on their objects,
nor the definitions that it came with.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from kubernetes import client, config

from mapreduce_operator.api import crd
from mapreduce_operator.api.crd import RESOURCES

CREATED_BY_TESTS = {"app.kubernetes.io/managed-by": "mapreduce-tests"}


def until(condition: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def refusal(error: client.ApiException) -> str:
    assert error.status in {400, 422}
    message: str = json.loads(error.body or "")["message"]
    return message


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one kind in one namespace."""

    api: client.CustomObjectsApi
    group: str
    namespace: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1alpha1"

    def _where(self) -> dict[str, Any]:
        return {"group": self.group, "version": "v1alpha1", "namespace": self.namespace, "plural": self.plural}

    def create(self, name: str, spec: dict[str, Any], *, dry_run: bool = False, validation: str = "Strict") -> Any:
        return self.api.create_namespaced_custom_object(
            **self._where(),
            body={
                "apiVersion": self.api_version,
                "kind": self.kind,
                "metadata": {"name": name},
                "spec": spec,
            },
            dry_run="All" if dry_run else None,
            field_validation=validation,
        )

    def get(self, name: str) -> Any:
        return self.api.get_namespaced_custom_object(**self._where(), name=name)

    def replace(self, name: str, body: Any) -> Any:
        return self.api.replace_namespaced_custom_object(**self._where(), name=name, body=body)

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


@pytest.fixture(scope="session", name="definitions")
def _definitions(api_client: client.ApiClient) -> Iterator[dict[str, Any]]:
    """The definitions by kind, as the API server has them, once objects can be created."""
    group = f"t{secrets.token_hex(4)}.mapreduce.dev"
    names = {resource.kind: f"{resource.plural}.{group}" for resource in RESOURCES}
    definitions = client.ApiextensionsV1Api(api_client)
    try:
        for resource in RESOURCES:
            wanted = crd.definition(resource)
            wanted["metadata"] = {"name": names[resource.kind], "labels": CREATED_BY_TESTS}
            wanted["spec"]["group"] = group
            definitions.patch_custom_resource_definition(
                names[resource.kind],
                wanted,
                field_manager="mapreduce-tests",
                force=True,
                _content_type="application/apply-patch+yaml",
            )
        for resource in RESOURCES:
            name = names[resource.kind]
            until(partial(is_established, definitions, name), f"{name} is established")
            until(partial(is_served, api_client, group, resource.plural), f"{name} is served")
        yield {kind: definitions.read_custom_resource_definition(name) for kind, name in names.items()}
    finally:
        for name in names.values():
            definitions.delete_custom_resource_definition(name)


@pytest.fixture(scope="session", name="definition")
def _definition(definitions: dict[str, Any]) -> Any:
    return definitions["MapReduceJob"]


def conditions(definitions: client.ApiextensionsV1Api, name: str) -> dict[str, str]:
    status = definitions.read_custom_resource_definition(name).status
    return {condition.type: condition.status for condition in (status and status.conditions) or ()}


def is_established(definitions: client.ApiextensionsV1Api, name: str) -> bool:
    return conditions(definitions, name).get("Established") == "True"


def is_served(api_client: client.ApiClient, group: str, plural: str) -> bool:
    try:
        client.CustomObjectsApi(api_client).list_cluster_custom_object(group, "v1alpha1", plural)
    except client.ApiException as error:
        # "storage is (re)initializing" comes as 429.
        if error.status in {404, 429}:
            return False
        raise
    return True


@pytest.fixture(scope="module", name="namespace")
def _namespace(api_client: client.ApiClient) -> Iterator[str]:
    namespaces = client.CoreV1Api(api_client)
    namespace = f"mapreduce-api-{secrets.token_hex(4)}"
    namespaces.create_namespace(
        client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace, labels=CREATED_BY_TESTS))
    )
    try:
        yield namespace
    finally:
        namespaces.delete_namespace(namespace)


def objects(api_client: client.ApiClient, definition: Any, namespace: str) -> Objects:
    names = definition.spec.names
    return Objects(client.CustomObjectsApi(api_client), definition.spec.group, namespace, names.kind, names.plural)


@pytest.fixture(scope="module", name="jobs")
def _jobs(api_client: client.ApiClient, definitions: dict[str, Any], namespace: str) -> Objects:
    return objects(api_client, definitions["MapReduceJob"], namespace)


@pytest.fixture(scope="module", name="queues")
def _queues(api_client: client.ApiClient, definitions: dict[str, Any], namespace: str) -> Objects:
    return objects(api_client, definitions["DeadLetterQueue"], namespace)


@pytest.fixture(scope="module", name="redrives")
def _redrives(api_client: client.ApiClient, definitions: dict[str, Any], namespace: str) -> Objects:
    return objects(api_client, definitions["Redrive"], namespace)
