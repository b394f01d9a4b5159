"""The alerts fire when they should and not otherwise, as promtool sees it; and each has a section in the documents."""

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.dashboard import RULES, metrics_in
from tests.tools import program

PROJECT: Final = Path(__file__).parents[3]
DOCUMENT: Final = (PROJECT / "docs" / "alerts.md").read_text()
REASONS: Final = (PROJECT / "docs" / "troubleshooting.md").read_text()
TESTS: Final = sorted((PROJECT / "tests" / "alerts").glob("*.yaml"))
ALERTS: Final[dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_alerts_fire_as_their_tests_say(file: Path) -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(file)], check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    answers = {
        bool(one.get("exp_alerts"))
        for file in TESTS
        for test in yaml.safe_load(file.read_text())["tests"]
        for one in test["alert_rule_test"]
        if one["alertname"] == alert
    }

    assert answers == {True, False}


@pytest.mark.parametrize(("alert", "rule"), ALERTS.items(), ids=ALERTS)
def test_each_alert_says_how_bad_it_is_and_where_to_read_on(alert: str, rule: Any) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{alert.lower()}"


def test_the_document_has_a_section_for_each_alert_and_no_other() -> None:
    assert re.findall(r"^### (MapReduce\w+)$", DOCUMENT, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize(("alert", "rule"), ALERTS.items(), ids=ALERTS)
def test_the_document_states_how_bad_each_alert_is_and_when_it_fires(alert: str, rule: Any) -> None:
    section = DOCUMENT.split(f"### {alert}\n")[1].split("\n### ")[0]

    assert f"*{rule['labels']['severity']}*" in section
    assert metrics_in(section) >= metrics_in(rule["expr"])


def test_reasons_in_the_rules_are_those_of_the_operator() -> None:
    reasons = {
        word
        for rule in ALERTS.values()
        for words in re.findall(r'reason[!=]~"([^"]+)"', rule["expr"])
        for word in words.split("|")
    }

    assert "TemplateRejected" in reasons
    for reason in reasons:
        assert re.search(rf"^\| `{reason.replace('.*', '[A-Za-z]+')}` \|", REASONS, re.MULTILINE), reason
