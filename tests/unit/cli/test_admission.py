"""What is said offline of manifests of which it is known what a real API server says: those of the integration tests.

tests/integration/api/test_offline.py compares both, field by field.
"""

from typing import Any

import pytest

from mapreduce_operator.cli.admission import complaints_about
from tests.integration.api.test_manifests import (
    INVALID,
    INVALID_FORKS,
    SMALLEST,
    VALID,
    VALID_FORKS,
    spec_with,
)


def job(spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": "words"} | metadata,
        "spec": spec,
    }


def said(body: dict[str, Any]) -> str:
    return ", ".join(map(str, complaints_about(body)))


@pytest.mark.parametrize(("path", "value", "expected"), INVALID)
def test_an_invalid_manifest_is_refused_as_the_api_server_does(path: str, value: object, expected: str) -> None:
    assert expected in said(job(spec_with(path, value)))


@pytest.mark.parametrize(("spec", "expected"), INVALID_FORKS)
def test_an_invalid_fork_is_refused_as_the_api_server_does(spec: dict[str, Any], expected: str) -> None:
    assert expected in said(job(spec))


@pytest.mark.parametrize(("path", "value"), VALID)
def test_a_valid_manifest_is_taken(path: str, value: object) -> None:
    assert said(job(spec_with(path, value))) == ""


@pytest.mark.parametrize("spec", VALID_FORKS)
def test_a_valid_fork_is_taken(spec: dict[str, Any]) -> None:
    assert said(job(spec)) == ""


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"name": "Words"}, 'metadata.name: Invalid value: "Words"'),
        ({"name": ""}, "metadata.name: Required value: name or generateName is required"),
        ({"name": "w" * 64}, "metadata.name must be at most 63 characters long"),
        ({"labels": {"a b": "c"}}, 'metadata.labels: Invalid value: "a b"'),
        ({"labels": {"a": "b c"}}, 'metadata.labels: Invalid value: "b c"'),
        ({"annotations": {"a": 1}}, "metadata.annotations.a: Invalid value: 1"),
        ({"name": 5}, 'metadata.name: Invalid value: "integer": must be of type string'),
        ({"labels": "x"}, 'metadata.labels: Invalid value: "string": must be of type object'),
        ({"lables": {}}, 'unknown field "metadata.lables"'),
    ],
)
def test_metadata_is_looked_at(metadata: dict[str, Any], expected: str) -> None:
    assert expected in said(job(SMALLEST, **metadata))


@pytest.mark.parametrize(("metadata", "kind"), [("x", "string"), ([], "array"), (0, "integer")])
def test_metadata_has_fields(metadata: object, kind: str) -> None:
    body = job(SMALLEST) | {"metadata": metadata}
    assert said(body) == f'metadata: Invalid value: "{kind}": must be of type object'


def test_a_manifest_that_is_looked_at_is_not_changed() -> None:
    body = job(spec_with("input.onDuplicate", None))
    before = repr(body)
    complaints_about(body)
    assert repr(body) == before
