"""What the documents and the examples show is what the API server takes, field by field."""

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.e2e.sandbox import Sandbox

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

PROJECT: Final = Path(__file__).resolve().parents[2]


def example_files() -> list[Path]:
    return sorted((PROJECT / "examples").glob("*.yaml"))


def manifests_of_documents() -> list[object]:
    """Every object of ours in README.md and docs/, as it is written there."""
    found: list[object] = []
    for document in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            body = yaml.safe_load(block)
            if isinstance(body, dict) and body.get("kind") in {"MapReduceJob", "DeadLetterQueue", "Redrive"}:
                found.append(pytest.param(block, id=f"{document.name}:{body['metadata']['name']}"))
    return found


def strict_dry_run(sandbox: Sandbox, manifest: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "apply", "--namespace", sandbox.namespace, "--dry-run=server", "--validate=strict", "--filename=-"],
        input=manifest,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("file", example_files(), ids=lambda file: file.name)
def test_the_api_server_takes_every_example(sandbox: Sandbox, file: Path) -> None:
    done = strict_dry_run(sandbox, file.read_text())
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("manifest", manifests_of_documents())
def test_the_api_server_takes_every_manifest_of_the_documents(sandbox: Sandbox, manifest: str) -> None:
    done = strict_dry_run(sandbox, manifest)
    assert done.returncode == 0, done.stderr


def test_a_field_that_does_not_exist_would_be_noticed(sandbox: Sandbox) -> None:
    manifest = (PROJECT / "examples" / "flaky.yaml").read_text().replace("maxParallel:", "maxParalell:")
    done = strict_dry_run(sandbox, manifest)
    assert done.returncode != 0
    assert "maxParalell" in done.stderr
