import json
from typing import Any

import pytest

from tests.tools import program
from tests.unit.chart.rendering import CHART, Helm, Manifests, nested


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(program("helm"))


@pytest.fixture(scope="session")
def defaults(helm: Helm) -> Manifests:
    return helm.template({})


@pytest.fixture(scope="session")
def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="session")
def own_namespace(helm: Helm) -> Manifests:
    return helm.template(nested({"operator.watchNamespace": "team-a"}))
