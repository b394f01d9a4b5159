"""The release of `make deploy`, which these tests have for themselves and leave as it was."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import cluster, namespace, sandbox
from tests.e2e.sandbox import PROJECT, Sandbox
from tests.helm.release import Release, Values

__all__ = ["cluster", "sandbox"]

watched = pytest.fixture(namespace, name="watched")
elsewhere = pytest.fixture(namespace, name="elsewhere")


@pytest.fixture(scope="session")
def release() -> Release:
    return Release("mapreduce-operator", "mapreduce-system")


@pytest.fixture(scope="session")
def deployed(release: Release) -> Values:
    """The values of `make deploy`."""
    return release.values()


@pytest.fixture(scope="module", autouse=True)
def as_it_was(deployed: Values) -> Iterator[None]:
    yield
    image = deployed["image"]
    name = f"{image['repository']}@{image['digest']}" if "digest" in image else f"{image['repository']}:{image['tag']}"
    deploy = [str(PROJECT / "dev" / "deploy.sh")]
    subprocess.run(deploy, check=True, timeout=900, env=os.environ | {"OPERATOR_IMAGE": name})


@pytest.fixture
def place(sandbox: Sandbox) -> Iterator[Sandbox]:
    """A namespace whose jobs are deleted while there is an operator to do it."""
    yield sandbox
    sandbox.kubectl("delete", "mrj,dlq", "--all", "--timeout=180s")
