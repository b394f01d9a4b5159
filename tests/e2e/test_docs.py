"""What the documents and the examples show is what the API server takes, field by field, and what the chart takes."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.e2e.sandbox import Sandbox, agent

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PROJECT: Final = Path(__file__).resolve().parents[2]
CHART: Final = PROJECT / "charts" / "mapreduce-operator"
DOCUMENTS: Final = [
    PROJECT / "README.md",
    CHART / "README.md",
    *sorted((PROJECT / "docs").glob("*.md")),
    *sorted((PROJECT / "gitops").rglob("*.md")),
]
FOREIGN_GROUPS: Final = {
    "argoproj.io",
    "kustomize.toolkit.fluxcd.io",
    "monitoring.coreos.com",
    "source.toolkit.fluxcd.io",
}
"""Of tools that the cluster does not have: nobody there knows their kinds."""


def blocks() -> Iterator[tuple[str, Any]]:
    """Every YAML block of the documents, with a name that tells where it stands, parsed into its objects."""
    for document in DOCUMENTS:
        text = document.read_text()
        for found in re.finditer(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, found.start()) + 1
            for body in yaml.safe_load_all(found[1]):
                yield f"{document.relative_to(PROJECT)}:{line}", body


def manifests() -> Iterator[Any]:
    """Those that are objects, or parts of a MapReduceJob, which are completed."""
    for where, body in blocks():
        if "kind" in body and body["apiVersion"].partition("/")[0] not in FOREIGN_GROUPS:
            yield pytest.param(body, id=where)
        elif body.keys() == {"spec"}:
            yield pytest.param(completed(body["spec"]), id=where)


def completed(spec: dict[str, Any]) -> dict[str, Any]:
    """A MapReduceJob of which only a part of the spec is shown."""
    source = {} if {"configMapRef", "object"} & spec.get("input", {}).keys() else {"items": [1]}
    rest = {} if "forkFrom" in spec else {"input": source, "map": {"template": agent("true")}}
    for stage in ("map", "input"):
        rest[stage] = rest.get(stage, {}) | spec.get(stage, {})
    shown = {name: value for name, value in spec.items() if name not in rest}
    kept = {name: value for name, value in rest.items() if value}
    metadata = {"name": "shown"}
    return {"apiVersion": "mapreduce.dev/v1alpha1", "kind": "MapReduceJob", "metadata": metadata, "spec": shown | kept}


def values() -> Iterator[Any]:
    """All others: values of the chart."""
    for where, body in blocks():
        if "kind" not in body and body.keys() != {"spec"}:
            yield pytest.param(body, id=where)
    for file in sorted((PROJECT / "examples").glob("values-*.yaml")):
        yield pytest.param(yaml.safe_load(file.read_text()), id=file.name)


def example_files() -> list[Path]:
    return sorted(file for file in (PROJECT / "examples").glob("*.yaml") if not file.name.startswith("values-"))


def strict_dry_run(sandbox: Sandbox, manifest: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "apply", "--namespace", sandbox.namespace, "--dry-run=server", "--validate=strict", "--filename=-"],
        input=manifest,
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.parametrize("file", example_files(), ids=lambda file: file.name)
def test_the_api_server_takes_every_example(shared: Sandbox, file: Path) -> None:
    done = strict_dry_run(shared, file.read_text())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("manifest", list(manifests()))
def test_the_api_server_takes_every_manifest_of_the_documents(shared: Sandbox, manifest: dict[str, Any]) -> None:
    done = strict_dry_run(shared, yaml.safe_dump(manifest))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shown", list(values()))
def test_the_chart_takes_all_values_of_the_documents(shown: dict[str, Any]) -> None:
    done = subprocess.run(
        ["helm", "template", "mapreduce-operator", str(CHART), "--values", "-"],
        input=yaml.safe_dump(shown),
        env={**os.environ, "KUBECONFIG": os.devnull},
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr


def test_a_field_that_does_not_exist_would_be_noticed(shared: Sandbox) -> None:
    manifest = (PROJECT / "examples" / "flaky.yaml").read_text().replace("maxParallel:", "maxParalell:")
    done = strict_dry_run(shared, manifest)
    assert done.returncode != 0
    assert "maxParalell" in done.stderr


def test_the_documents_have_manifests_and_values() -> None:
    assert len(list(manifests())) >= 15
    assert len(list(values())) >= 5
