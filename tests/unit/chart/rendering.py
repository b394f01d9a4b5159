"""The chart as Helm renders it, and where to look in it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

PROJECT: Final = Path(__file__).parents[3]
CHART: Final = PROJECT / "charts" / "mapreduce-operator"
NAMESPACE: Final = "mapreduce-system"
NAME: Final = "mapreduce-operator"
CLUSTER_SCOPED: Final = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}

DEPLOYMENT: Final = f"Deployment/{NAME}"
API: Final = f"Deployment/{NAME}-api"
TRIAL: Final = f"Pod/{NAME}-test"
SERVICE_ACCOUNT: Final = f"ServiceAccount/{NAME}"
CLAIM: Final = f"PersistentVolumeClaim/{NAME}"
BUCKET: Final = "s3://bucket/prefix"
CRD: Final = "CustomResourceDefinition/mapreducejobs.mapreduce.dev"
POD: Final = "spec.template.spec"
CONTAINER: Final = f"{POD}.containers.operator"
ALONE: Final = {"replicas": 1, "api.enabled": False}
NODE_AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "Exists"}]}]
        }
    }
}

Values = Mapping[str, Any]
Manifests = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    binary: str

    def run(self, *arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.binary, *arguments, *(() if values is None else ("--values", "-"))],
            input=None if values is None else json.dumps(values),
            env={**os.environ, "KUBECONFIG": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )

    def template(self, values: Values, *, chart: Path = CHART) -> Manifests:
        """The rendered objects by kind and name."""
        done = self.run("template", NAME, str(chart), "--namespace", NAMESPACE, values=values)
        assert done.returncode == 0, done.stderr
        rendered = [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]
        manifests = {f"{manifest['kind']}/{manifest['metadata']['name']}": manifest for manifest in rendered}
        assert len(manifests) == len(rendered)
        return manifests

    def refusal(self, values: Values) -> str:
        done = self.run("template", NAME, str(CHART), values=values)
        assert done.returncode != 0, f"accepted: {values}"
        return done.stderr

    def notes(self, values: Values, *, namespace: str = NAMESPACE) -> str:
        arguments = ("--namespace", namespace, "--dry-run=client", "--output=json")
        done = self.run("install", NAME, str(CHART), *arguments, values=values)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["info"]["notes"])


def nested(settings: Mapping[str, Any]) -> Values:
    """Values from their dotted paths."""
    values: dict[str, Any] = {}
    for path, value in settings.items():
        *groups, name = path.split(".")
        place = values
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return values


def at(manifests: Manifests, name: str, path: str = "") -> Any:
    """What stands at a dotted path of an object, where a list's elements go by their names; None if nothing does."""
    found = manifests.get(name)
    for key in filter(None, path.split(".")):
        if isinstance(found, list):
            found = next((element for element in found if element["name"] == key), None)
        else:
            found = (found or {}).get(key)
    return found


def default_values(values: Any = None, node: Any = None, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every value of the chart: its dotted path, its default, its part of the schema."""
    values = values or yaml.safe_load((CHART / "values.yaml").read_text())
    node = node or json.loads((CHART / "values.schema.json").read_text())
    for key, value in values.items():
        inner = node["properties"][key]
        if isinstance(value, dict) and value and "properties" in inner:
            yield from default_values(value, inner, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, inner


def rules(manifests: Manifests, name: str) -> dict[tuple[str, str], list[str]]:
    flat = [
        ((group, resource), rule["verbs"])
        for rule in at(manifests, name, "rules")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]
    assert len(dict(flat)) == len(flat)
    return dict(flat)
