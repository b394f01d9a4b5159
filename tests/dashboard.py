"""The dashboard of the chart, as far as tests look at it."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILES: Final = Path(__file__).parents[1] / "charts" / "mapreduce-operator" / "files"
DASHBOARD: Final[dict[str, Any]] = json.loads((FILES / "dashboard.json").read_text())
PANELS: Final[list[dict[str, Any]]] = DASHBOARD["panels"]
RULES: Final = FILES / "alerts.yaml"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or one kind of lines, of a panel."""

    panel: str
    expression: str
    labels: frozenset[str]
    """Those that its lines are told apart by."""


def queries(variables: Mapping[str, str]) -> Iterator[Query]:
    """All that the panels ask for, with the values of variables put in."""
    for panel in PANELS:
        for target in panel.get("targets", []):
            yield Query(
                panel["title"],
                re.sub(r"\$(\w+)", lambda found: variables[found[1]], target["expr"]),
                frozenset(re.findall(r"{{(\w+)}}", target["legendFormat"])),
            )


def metrics_in(text: str) -> set[str]:
    """Names of the project's metrics in a text; of a histogram without the suffix of its parts."""
    return {name.removesuffix("_bucket") for name in re.findall(r"\bmapreduce_[a-z0-9_]+", text)}
