"""What the chart makes of the rules and of the dashboard is what the other tests look at."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.dashboard import DASHBOARD, RULES
from tests.tools import program

CHART: Final = Path(__file__).parents[3] / "charts" / "mapreduce-operator"
KINDS: Final = ("podMonitor", "prometheusRule", "dashboard")
SWITCHES: Final = [f"metrics.{kind}.enabled=true" for kind in KINDS]
LARGEST_CONFIG_MAP: Final = 1_048_576


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    return {manifest["kind"]: manifest for manifest in rendered()}


def rendered(*values: str) -> list[dict[str, Any]]:
    """The chart's objects, with these values beside those that switch monitoring on."""
    settings = [f"--set={value}" for value in (*SWITCHES, *values)]
    command = [program("helm"), "template", "mapreduce-operator", str(CHART), *settings]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def test_the_rules_are_those_of_the_file_without_links_that_lead_nowhere(manifests: dict[str, Any]) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]["runbook_url"]

    assert manifests["PrometheusRule"]["spec"] == rules


@pytest.mark.parametrize("base", ["https://git.example.org/docs", "https://git.example.org/docs/"])
def test_links_lead_to_where_the_documents_are(base: str) -> None:
    (spec,) = [
        manifest["spec"]
        for manifest in rendered(f"metrics.prometheusRule.runbookBaseUrl={base}")
        if manifest["kind"] == "PrometheusRule"
    ]

    expected = RULES.read_text().replace("runbook_url: docs/", "runbook_url: https://git.example.org/docs/")
    assert spec == yaml.safe_load(expected)


def test_the_pods_that_are_scraped_have_the_containers_that_the_rules_name() -> None:
    containers = {
        container["name"]
        for manifest in rendered()
        if manifest["kind"] == "Deployment"
        for container in manifest["spec"]["template"]["spec"]["containers"]
    }
    named = set(re.findall(r'container="(\w+)"', RULES.read_text()))

    assert named
    assert named <= containers


def test_labels_may_be_none() -> None:
    found = [
        manifest["metadata"]["labels"]
        for manifest in rendered(*(f"metrics.{kind}.labels=null" for kind in KINDS))
        if manifest["kind"] in {"PodMonitor", "PrometheusRule", "ConfigMap"}
    ]

    assert len(found) == len(KINDS)
    assert all("app.kubernetes.io/name" in labels for labels in found)
    assert not any("grafana_dashboard" in labels for labels in found)


def test_the_dashboard_is_that_of_the_file_and_small_enough(manifests: dict[str, Any]) -> None:
    data = manifests["ConfigMap"]["data"]

    assert [json.loads(text) for name, text in data.items() if name.endswith(".json")] == [DASHBOARD]
    assert len(json.dumps(data)) < LARGEST_CONFIG_MAP
