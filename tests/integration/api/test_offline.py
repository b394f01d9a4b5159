"""`kubectl mapreduce validate` takes what a real API server takes, and blames the same fields of what it refuses."""

import itertools
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from mapreduce_operator.cli.admission import complaints_about
from tests.integration.api.conftest import Objects
from tests.integration.api.test_manifests import (
    INVALID,
    INVALID_FORKS,
    SMALLEST,
    VALID,
    VALID_FORKS,
    spec_with,
)
from tests.integration.api.test_redrives import INVALID_QUEUES, INVALID_REDRIVES, QUEUE, REDRIVE

pytestmark = pytest.mark.cluster

PAIRS = 100
UNCHECKED = "some validation rules were not checked because the object was invalid"
OF_SCALE = ".spec.map.maxParallel"
"""What the subresource says besides of a map that is none."""
ODD: list[object] = [None, "", "x", "1", 0, -1, 1, 1.0, 2.5, 10**12, True, [], [None], ["a", "a"], {}, {"a": None}]
FIELDS = [
    *("input", "input.items", "input.idExpression", "input.configMapRef", "input.maxItems", "map", "map.template"),
    *("input.object", "input.filter", "input.orderBy", "input.offset", "input.limit"),
    *("map.maxParallel", "map.timeoutSeconds", "map.retry", "map.retry.maxAttempts", "map.retry.backoff"),
    *("map.retry.backoff.jitter", "map.retry.rules", "map.result", "map.result.required", "map.skip", "reduce"),
    *("map.template.metadata", "map.template.spec.containers", "map.template.spec.nodeSelector", "params"),
    *("successPolicy.minSuccessRatio", "failurePolicy", "failurePolicy.retryBudget", "deadLetter.capacity", "suspend"),
    *("checkpoint.pinned", "checkpoint.enabled", "restore", "restart", "forkFrom", "retention", "cancel"),
]


def test_jobs_are_taken_and_refused_as_by_the_api_server(jobs: Objects) -> None:
    chance = random.Random(7)
    wrong = [spec_with(path, value) for path, value, _ in INVALID]
    known = [*wrong, *(spec_with(path, value) for path, value in VALID)]
    pairs = [merged(chance.choice(wrong), chance.choice(wrong)) for _ in range(PAIRS)]
    odd = [spec_with(path, value) for path, value in itertools.product(FIELDS, ODD)]
    specs = [*known, *(spec for spec, _ in INVALID_FORKS), *VALID_FORKS, *pairs, *odd]
    assert not (found := [*disagreements(jobs, specs)]), "\n".join(found)


def test_queues_and_redrives_are_taken_and_refused_as_by_the_api_server(queues: Objects, redrives: Objects) -> None:
    assert [*disagreements(queues, [QUEUE, *(QUEUE | spec for spec, _ in INVALID_QUEUES)])] == []
    assert [*disagreements(redrives, [REDRIVE, *(REDRIVE | spec for spec, _ in INVALID_REDRIVES)])] == []


@pytest.mark.parametrize(
    "metadata",
    [
        *({"name": name} for name in ("Words", "w.", "-w", "w" * 64, "w" * 254, "a.b")),
        *({"generateName": name} for name in ("w-", "Words-", "w.")),
        *({"labels": labels} for labels in ({"a b": "c"}, {"a": "b c"}, {"a/b/c": "d"}, {"A/b": "d"}, {"a": "x" * 64})),
        *({"annotations": entries} for entries in ({"a b": "c"}, {"a": "b c"}, {"a": "x" * 262_144})),
        {"name": ""},
        {"lables": {}},
    ],
)
def test_metadata_is_taken_and_refused_as_by_the_api_server(jobs: Objects, metadata: dict[str, Any]) -> None:
    given = metadata if {"name", "generateName"} & metadata.keys() else {"name": "words"} | metadata
    assert said(jobs, SMALLEST, given) == said_offline(jobs, SMALLEST, given)


def merged(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return one | {name: merged(one[name], value) if name in one else value for name, value in other.items()}
    return other


def disagreements(objects: Objects, specs: list[Any]) -> Iterator[str]:
    """What is said of which spec: by the API server, and offline."""
    for spec in specs:
        online, offline = (ask(objects, spec, {"name": "words"}) for ask in (said, said_offline))
        if online != offline:
            yield f"{online or '{}'} and not {offline or '{}'}: {json.dumps(spec)[:500]}"


def said(objects: Objects, spec: Any, metadata: dict[str, Any]) -> set[str]:
    try:
        objects.api.create_namespaced_custom_object(
            objects.group,
            "v1alpha1",
            objects.namespace,
            objects.plural,
            body={"apiVersion": objects.api_version, "kind": objects.kind, "metadata": metadata, "spec": spec},
            dry_run="All",
            field_validation="Strict",
        )
    except client.ApiException as error:
        body = json.loads(error.body or "")
        if unknown := re.findall(r'unknown field "[^"]*"', body["message"]):
            return {*unknown}
        return {
            cause["field"].removeprefix("<nil>")
            for cause in body["details"]["causes"]
            if UNCHECKED not in cause["message"] and cause["field"] != OF_SCALE
        }
    return set()


def said_offline(objects: Objects, spec: Any, metadata: dict[str, Any]) -> set[str]:
    body = {"apiVersion": "mapreduce.dev/v1alpha1", "kind": objects.kind, "metadata": metadata, "spec": spec}
    return {one.text if one.text.startswith("unknown field") else one.field for one in complaints_about(body)}
