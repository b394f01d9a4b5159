"""The dashboard is what Grafana takes, and asks for what there is. Whether it shows anything, tests/e2e tells."""

import itertools
import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from tests.dashboard import DASHBOARD, PANELS, RULES, metrics_in, queries
from tests.documented_metrics import documented
from tests.tools import program

CHOSEN: Final = {"namespace": ".*", "job": "one", "__rate_interval": "1m", "__range": "3h"}
COLUMNS: Final = 24


def test_no_two_panels_have_the_same_id_or_title() -> None:
    ids = [panel["id"] for panel in PANELS]
    titles = [panel["title"] for panel in PANELS if panel["type"] != "text"]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


def test_no_two_panels_cover_the_same_place() -> None:
    def cells(panel: Any) -> set[tuple[int, int]]:
        place = panel["gridPos"]
        return set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )

    for one, other in itertools.combinations(PANELS, 2):
        assert not cells(one) & cells(other), f"{one['title']}, {other['title']}"
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in PANELS)


def test_every_panel_asks_the_data_source_that_is_chosen() -> None:
    shown = [panel for panel in PANELS if panel["type"] not in {"row", "text"}]

    assert all(panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for panel in shown)
    assert all(panel["targets"] for panel in shown)


def test_variables_are_the_ones_that_are_chosen_from() -> None:
    assert [variable["name"] for variable in DASHBOARD["templating"]["list"]] == ["datasource", "namespace", "job"]


def test_every_query_can_be_read(tmp_path: Path) -> None:
    rules = [{"record": f"query_{number}", "expr": query.expression} for number, query in enumerate(queries(CHOSEN))]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [program("promtool"), "check", "rules", str(file)], check=False, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rules) >= len([panel for panel in PANELS if panel["type"] not in {"row", "text"}])


def test_every_metric_in_panels_and_rules_is_in_the_list_of_metrics() -> None:
    wanted = metrics_in(RULES.read_text()) | {
        name for query in queries(CHOSEN) for name in metrics_in(query.expression)
    }

    assert wanted <= documented().keys()
