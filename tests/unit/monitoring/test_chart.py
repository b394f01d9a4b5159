"""What the chart makes of the rules and of the dashboard is what the other tests look at."""

import json
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.dashboard import DASHBOARD, RULES
from tests.tools import program

CHART: Final = Path(__file__).parents[3] / "charts" / "mapreduce-operator"
SWITCHES: Final = ("metrics.prometheusRule.enabled=true", "metrics.dashboard.enabled=true")
LARGEST_CONFIG_MAP: Final = 1_048_576


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    switches = [f"--set={switch}" for switch in SWITCHES]
    command = [program("helm"), "template", "mapreduce-operator", str(CHART), *switches]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return {manifest["kind"]: manifest for manifest in yaml.safe_load_all(rendered)}


def test_the_rules_are_those_of_the_file(manifests: dict[str, Any]) -> None:
    assert manifests["PrometheusRule"]["spec"] == yaml.safe_load(RULES.read_text())


def test_the_dashboard_is_that_of_the_file_and_small_enough(manifests: dict[str, Any]) -> None:
    data = manifests["ConfigMap"]["data"]

    assert [json.loads(text) for name, text in data.items() if name.endswith(".json")] == [DASHBOARD]
    assert len(json.dumps(data)) < LARGEST_CONFIG_MAP
