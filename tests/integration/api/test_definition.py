"""The API server takes the definition, and users find their way in it."""

import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from kubernetes import client

from mapreduce_operator.api import crd
from tests.integration.api.conftest import Objects, conditions, until

pytestmark = pytest.mark.cluster

SPEC = {"input": {"items": [1]}, "map": {"template": {"spec": {"containers": [{"name": "agent", "image": "debian"}]}}}}


def kubectl(*arguments: str) -> str:
    # With a cache of its own: whoever asks for a category later must not be told of groups that are gone.
    with tempfile.TemporaryDirectory() as cache:
        words = ["kubectl", "--cache-dir", cache, *arguments]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def explain(definition: Any, field: str) -> str:
    group_version = f"{definition.spec.group}/v1alpha1"

    def is_published() -> bool:
        index = kubectl("get", "--raw", "/openapi/v3")
        return group_version in index and definition.spec.names.kind in kubectl(
            "get", "--raw", f"/openapi/v3/apis/{group_version}"
        )

    until(is_published, f"the documentation of {definition.metadata.name} is published")
    return kubectl("explain", field, f"--api-version={group_version}")


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
        assert tuple(accepted.spec.names.short_names or ()) == resource.short_names


def test_the_definitions_are_established_and_structural(
    api_client: client.ApiClient, definitions: dict[str, Any]
) -> None:
    for definition in definitions.values():
        found = conditions(client.ApiextensionsV1Api(api_client), definition.metadata.name)

        assert found["Established"] == "True"
        assert found["NamesAccepted"] == "True"
        assert found.get("NonStructuralSchema", "False") == "False"


@pytest.mark.parametrize(
    ("kind", "field", "expected"),
    [
        ("MapReduceJob", "", ["Runs a container over every item of a list", "spec\t<Object> -required-"]),
        ("MapReduceJob", ".spec.map", ["Runs an agent for each item", "maxParallel\t<integer>", "Defaults to 3600."]),
        (
            "MapReduceJob",
            ".spec",
            ["input\t<Object>\n", "map\t<Object>\n", "forkFrom\t<Object>", "params\t<map[string]"],
        ),
        (
            "MapReduceJob",
            ".spec.forkFrom",
            ["job\t<Object> -required-", "checkpoint\t<integer>", "in place of an input"],
        ),
        ("MapReduceJob", ".spec.restart", ["phase\t<string> -required-", "token\t<string> -required-"]),
        ("MapReduceJob", ".spec.map.template.spec.containers", ["image\t<string> -required-"]),
        ("MapReduceJob", ".spec.map.retry.backoff.type", ["ENUM:", "Fibonacci"]),
        ("MapReduceJob", ".status.conditions", ["lastTransitionTime\t<string> -required-"]),
        ("DeadLetterQueue", "", ["Holds the items that a MapReduceJob gave up", "spec\t<Object> -required-"]),
        ("DeadLetterQueue", ".spec", ["jobRef\t<Object> -required-", "onFull\t<string>", "Defaults to Pause."]),
        ("DeadLetterQueue", ".status.newest", ["message\t<string>", "What its agent said last"]),
        ("Redrive", ".spec", ["selection\t<Object> -required-", "payloadPatch\t<Object>", "RFC 7396"]),
        ("Redrive", ".spec.selection", ["exactly one of ids, filter and all"]),
    ],
)
def test_explain_says_what_a_field_is_for(
    definitions: dict[str, Any], kind: str, field: str, expected: list[str]
) -> None:
    definition = definitions[kind]

    explained = explain(definition, f"{definition.spec.names.plural}{field}")

    for text in expected:
        assert text in explained


def test_get_shows_how_far_a_job_is(jobs: Objects) -> None:
    jobs.create("shown", SPEC)
    jobs.patch_status(
        "shown",
        {
            "phase": "Map",
            "progress": "812/1000",
            "active": 9,
            "items": {"total": 1000, "deadLettered": 7},
            "checkpoint": {
                "sequence": 9,
                "time": (datetime.now(UTC) - timedelta(days=3, minutes=1)).isoformat(),
                "reason": "Items",
            },
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

    assert header.split() == [
        *("NAME", "PHASE", "PROGRESS", "FAILED", "PARALLEL", "ACTIVE", "SKIPPED", "REASON", "CHECKPOINT", "AGE")
    ]
    assert row.split()[:-1] == ["shown", "Map", "812/1000", "7", "10", "9", "0", "Running", "3d"]


def test_every_field_of_the_specs_explains_itself(definitions: dict[str, Any]) -> None:
    for definition in definitions.values():
        explained = explain(definition, f"{definition.spec.names.plural}.spec")

        assert "<no description>" not in explained.partition("FIELDS:")[2]


def test_get_shows_what_is_in_a_queue(queues: Objects) -> None:
    queues.create("words", {"jobRef": {"name": "words", "uid": "5d1f"}})
    failure = {
        "signature": "exit <n>",
        "signatureId": "a1",
        "count": 7,
        "firstTime": "2026-11-21T10:00:00Z",
        "lastTime": "2026-11-21T10:00:00Z",
    }
    queues.patch_status(
        "words",
        {
            "letters": {"total": 15, "open": 7, "claimed": 1, "reprocessing": 2, "resolved": 5},
            "groups": [failure | {"reason": "OOMKilled"}, failure | {"reason": "Error"}],
            "oldestTime": (datetime.now(UTC) - timedelta(days=3, minutes=1)).isoformat(),
        },
    )

    name = f"deadletterqueues.{queues.group}"
    header, row = kubectl("get", name, "-n", queues.namespace).splitlines()
    wide = kubectl("get", name, "-n", queues.namespace, "-o", "wide").splitlines()[0]

    assert header.split() == ["NAME", "JOB", "OPEN", "REPROCESSING", "RESOLVED", "REASON", "OLDEST", "AGE"]
    assert row.split()[:-1] == ["words", "words", "7", "2", "5", "OOMKilled", "3d"]
    assert {"CLAIMED", "ARCHIVED", "FULL", "SIGNATURE"} <= set(wide.split())


def test_get_shows_how_far_a_redrive_is(redrives: Objects) -> None:
    redrives.create("again", {"queue": "words", "selection": {"all": True}})
    redrives.patch_status(
        "again",
        {
            "phase": "Running",
            "selected": 10,
            "succeeded": 6,
            "failed": 1,
            "skipped": 2,
            "remaining": 3,
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "Redriving",
                    "message": "",
                    "lastTransitionTime": "2026-11-21T10:00:00Z",
                }
            ],
        },
    )

    header, row = kubectl("get", f"redrives.{redrives.group}", "-n", redrives.namespace, "-o", "wide").splitlines()

    assert header.split() == [
        *("NAME", "QUEUE", "PHASE", "SELECTED", "SUCCEEDED", "FAILED", "SKIPPED", "REMAINING", "REASON", "AGE")
    ]
    assert row.split()[:-1] == ["again", "words", "Running", "10", "6", "1", "2", "3", "Redriving"]


def test_scale_changes_how_many_agents_run(jobs: Objects) -> None:
    jobs.create("scaled", SPEC)
    jobs.patch_status("scaled", {"active": 4, "selector": "mapreduce.dev/run-uid=5d1f"})

    kubectl("scale", f"mapreducejobs.{jobs.group}/scaled", "-n", jobs.namespace, "--replicas=50")
    scale = jobs.scale("scaled", 0)

    assert scale["status"] == {"replicas": 4, "selector": "mapreduce.dev/run-uid=5d1f"}
    assert jobs.get("scaled")["spec"]["map"]["maxParallel"] == 0


def test_scale_keeps_to_the_limits(jobs: Objects) -> None:
    jobs.create("scaled-too-far", SPEC)

    with pytest.raises(client.ApiException, match=r"spec\.map\.maxParallel"):
        jobs.scale("scaled-too-far", 10_001)
