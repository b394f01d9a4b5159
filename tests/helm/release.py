"""A release of the chart, and what an administrator does with it."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.e2e.sandbox import PROJECT, Body

CHART: Final = PROJECT / "charts" / "mapreduce-operator"

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    name: str
    namespace: str

    def install(self, values: Values) -> None:
        self._helm("install", self.name, str(CHART), "--wait", "--values=-", values=values)

    def upgrade(self, values: Values, *, chart: Path = CHART) -> None:
        self._helm("upgrade", self.name, str(chart), "--wait", "--values=-", values=values)

    def rollback(self) -> None:
        """To the revision before the last one."""
        self._helm("rollback", self.name, "--wait")

    def test(self) -> str:
        """What `helm test` prints, the log of its pod included."""
        return self._helm("test", self.name, "--logs")

    def uninstall(self) -> None:
        self._helm("uninstall", self.name, "--ignore-not-found", "--cascade=foreground", "--wait")

    def values(self) -> Values:
        """Those that it was given."""
        given: Values = json.loads(self._helm("get", "values", self.name, "--output=json")) or {}
        return given

    def manifests(self) -> list[Body]:
        """Everything that it consists of, what is there during `helm test` only included."""
        text = self._helm("get", "manifest", self.name) + "\n---\n" + self._helm("get", "hooks", self.name)
        return [manifest for manifest in yaml.safe_load_all(text) if manifest]

    def _helm(self, *arguments: str, values: Values | None = None) -> str:
        # `helm get` knows no time limit, and what does not wait needs none.
        limit = [] if arguments[0] == "get" else ["--timeout=300s"]
        done = subprocess.run(
            ["helm", *arguments, "--namespace", self.namespace, *limit],
            input=None if values is None else json.dumps(values),
            check=False,
            text=True,
            capture_output=True,
            timeout=330,
        )
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout
