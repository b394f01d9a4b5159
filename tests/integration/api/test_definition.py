"""The API server takes the definition, and users find their way in it."""

import subprocess
from typing import Any

import pytest
import yaml
from kubernetes import client

from mapreduce_operator.api import crd
from tests.integration.api.conftest import Jobs, conditions, until

pytestmark = pytest.mark.cluster

SPEC = {"input": {"items": [1]}, "map": {"template": {"spec": {"containers": [{"name": "agent", "image": "debian"}]}}}}


def kubectl(*arguments: str) -> str:
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True, timeout=30).stdout


def test_the_committed_definitions_are_accepted(api_client: client.ApiClient) -> None:
    for resource in crd.RESOURCES:
        accepted = client.ApiextensionsV1Api(api_client).patch_custom_resource_definition(
            resource.name,
            yaml.safe_load(crd.manifest(resource)),
            field_manager="mapreduce-tests",
            field_validation="Strict",
            force=True,
            dry_run="All",
            _content_type="application/apply-patch+yaml",
        )
        assert accepted.spec.names.short_names == [resource.short_name]


def test_the_definition_is_established_and_structural(api_client: client.ApiClient, definition: Any) -> None:
    found = conditions(client.ApiextensionsV1Api(api_client), definition.metadata.name)

    assert found["Established"] == "True"
    assert found["NamesAccepted"] == "True"
    assert found.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", ["Runs a container over every item of a list", "spec\t<Object> -required-"]),
        (".spec.map", ["Runs an agent for each item", "maxParallel\t<integer>", "Defaults to 3600."]),
        (".spec.map.template.spec.containers", ["image\t<string> -required-"]),
        (".spec.map.retry.backoff.type", ["ENUM:", "Fibonacci"]),
        (".status.conditions", ["lastTransitionTime\t<string> -required-"]),
    ],
)
def test_explain_says_what_a_field_is_for(definition: Any, field: str, expected: list[str]) -> None:
    group_version = f"{definition.spec.group}/v1alpha1"
    until(lambda: group_version in kubectl("get", "--raw", "/openapi/v3"), "the documentation is published")

    explained = kubectl("explain", f"mapreducejobs{field}", f"--api-version={group_version}")

    for text in expected:
        assert text in explained


def test_get_shows_how_far_a_job_is(jobs: Jobs) -> None:
    jobs.create("shown", SPEC)
    jobs.patch_status(
        "shown",
        {
            "phase": "Map",
            "progress": "812/1000",
            "active": 9,
            "items": {"total": 1000, "deadLettered": 7},
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Running",
                    "message": "",
                    "lastTransitionTime": "2026-11-21T10:00:00Z",
                }
            ],
        },
    )

    header, row = kubectl("get", f"mapreducejobs.{jobs.group}", "-n", jobs.namespace, "-o", "wide").splitlines()

    assert header.split() == ["NAME", "PHASE", "PROGRESS", "FAILED", "PARALLEL", "ACTIVE", "REASON", "AGE"]
    assert row.split()[:-1] == ["shown", "Map", "812/1000", "7", "10", "9", "Running"]


def test_scale_changes_how_many_agents_run(jobs: Jobs) -> None:
    jobs.create("scaled", SPEC)
    jobs.patch_status("scaled", {"active": 4, "selector": "mapreduce.dev/run-uid=5d1f"})

    kubectl("scale", f"mapreducejobs.{jobs.group}/scaled", "-n", jobs.namespace, "--replicas=50")
    scale = jobs.scale("scaled", 0)

    assert scale["status"] == {"replicas": 4, "selector": "mapreduce.dev/run-uid=5d1f"}
    assert jobs.get("scaled")["spec"]["map"]["maxParallel"] == 0


def test_scale_keeps_to_the_limits(jobs: Jobs) -> None:
    jobs.create("scaled-too-far", SPEC)

    with pytest.raises(client.ApiException, match=r"spec\.map\.maxParallel"):
        jobs.scale("scaled-too-far", 10_001)
