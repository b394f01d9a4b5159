import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chart.rendering import CHART, Helm, Manifests, nested


@pytest.fixture(scope="session")
def helm() -> Helm:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("MAPREDUCE_CACHE") or caches / "mapreduce-operator")
    binary = shutil.which("helm") or shutil.which("helm", path=cache / "bin")
    if binary is None:
        pytest.fail("helm is missing: run dev/tools.sh")
    return Helm(binary)


@pytest.fixture(scope="session")
def defaults(helm: Helm) -> Manifests:
    return helm.template({})


@pytest.fixture(scope="session")
def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="session")
def own_namespace(helm: Helm) -> Manifests:
    return helm.template(nested({"operator.watchNamespace": "team-a"}))
