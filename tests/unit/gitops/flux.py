"""Judges objects by expressions as Flux does (runtime/cel of fluxcd/pkg)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import cel
import yaml

_ORDER: Final[tuple[tuple[Literal["inProgress", "failed", "current"], str], ...]] = (
    ("inProgress", "InProgress"),
    ("failed", "Failed"),
    ("current", "Current"),
)


def expressions(kustomization: Path) -> dict[str, dict[str, str]]:
    """healthCheckExprs, by kind."""
    spec = yaml.safe_load(kustomization.read_text())["spec"]
    assert spec["wait"] is True
    return {one["kind"]: one for one in spec["healthCheckExprs"]}


def judged(by: Mapping[str, str], body: Mapping[str, Any]) -> str:
    """InProgress, Failed, Current; or Unknown where an expression has no value, so that Flux asks again."""
    status, generation = body.get("status", {}), body["metadata"]["generation"]
    if status.get("observedGeneration", generation) != generation:
        return "InProgress"
    for key, conclusion in _ORDER:
        if key not in by:
            continue
        try:
            # The fields of the object are the variables; one that is not there is not declared.
            holds = cel.evaluate(by[key], dict(body))
        except RuntimeError:
            return "Unknown"
        assert isinstance(holds, bool)
        if holds:
            return conclusion
    return "InProgress"
