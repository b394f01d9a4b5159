"""What the chart renders, for its defaults and for every value that it has."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from mapreduce_operator.api import MapReduceJobSpec

PROJECT: Final = Path(__file__).parents[3]
CHART: Final = PROJECT / "charts" / "mapreduce-operator"
NAMESPACE: Final = "mapreduce-system"
NAME: Final = "mapreduce-operator"
CLUSTER_SCOPED: Final = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}

DEPLOYMENT: Final = f"Deployment/{NAME}"
API: Final = f"Deployment/{NAME}-api"
SERVICE_ACCOUNT: Final = f"ServiceAccount/{NAME}"
CLAIM: Final = f"PersistentVolumeClaim/{NAME}"
BUCKET: Final = "s3://bucket/prefix"
CRD: Final = "CustomResourceDefinition/mapreducejobs.mapreduce.dev"
POD: Final = "spec.template.spec"
CONTAINER: Final = f"{POD}.containers.operator"

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

    def notes(self, values: Values) -> str:
        arguments = ("--namespace", NAMESPACE, "--dry-run=client", "--output=json")
        done = self.run("install", NAME, str(CHART), *arguments, values=values)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["info"]["notes"])


@pytest.fixture(scope="module")
def helm() -> Helm:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("MAPREDUCE_CACHE") or caches / "mapreduce-operator")
    binary = shutil.which("helm") or shutil.which("helm", path=cache / "bin")
    if binary is None:
        pytest.fail("helm is missing: run dev/tools.sh")
    return Helm(binary)


@pytest.fixture(scope="module")
def defaults(helm: Helm) -> Manifests:
    return helm.template({})


@pytest.fixture(scope="module")
def schema() -> Any:
    return json.loads((CHART / "values.schema.json").read_text())


@pytest.fixture(scope="module")
def own_namespace(helm: Helm) -> Manifests:
    return helm.template(nested({"operator.watchNamespace": "team-a"}))


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


# ---------------------------------------------------------------------------------------------------- the whole chart


def test_lint_has_nothing_to_say(helm: Helm) -> None:
    done = helm.run("lint", "--strict", str(CHART))

    assert done.returncode == 0, done.stdout + done.stderr


def test_defaults_render_these_objects(defaults: Manifests) -> None:
    assert sorted(defaults) == sorted(
        [
            f"ClusterRole/{NAME}",
            f"ClusterRole/{NAME}-edit",
            f"ClusterRole/{NAME}-view",
            f"ClusterRoleBinding/{NAME}",
            CRD,
            "CustomResourceDefinition/deadletterqueues.mapreduce.dev",
            "CustomResourceDefinition/redrives.mapreduce.dev",
            DEPLOYMENT,
            CLAIM,
            f"Role/{NAME}-lease",
            f"RoleBinding/{NAME}-lease",
            f"Service/{NAME}-metrics",
            SERVICE_ACCOUNT,
            f"Pod/{NAME}-test",
            f"Role/{NAME}-test",
            f"RoleBinding/{NAME}-test",
            f"ServiceAccount/{NAME}-test",
        ]
    )


def component(name: str) -> str:
    """Of the release, by the end of an object's name."""
    return next((end for end in ("test", "api") if name.endswith(f"-{end}")), "operator")


def test_every_object_has_its_namespace_and_the_recommended_labels(defaults: Manifests) -> None:
    for name, manifest in defaults.items():
        expected = None if manifest["kind"] in CLUSTER_SCOPED else NAMESPACE
        assert manifest["metadata"].get("namespace") == expected, name
        assert (
            manifest["metadata"]["labels"].items()
            >= {
                "app.kubernetes.io/name": NAME,
                "app.kubernetes.io/instance": NAME,
                "app.kubernetes.io/version": "0.1.0",
                "app.kubernetes.io/component": component(name),
                "app.kubernetes.io/part-of": NAME,
                "app.kubernetes.io/managed-by": "Helm",
                "helm.sh/chart": f"{NAME}-0.1.0",
            }.items()
        ), name


def test_one_version_everywhere() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    dockerfile = (PROJECT / "images" / "operator" / "Dockerfile").read_text()

    assert chart["version"] == version
    assert chart["appVersion"] == version
    assert f"ARG VERSION={version}\n" in dockerfile


def test_digits_stay_text(helm: Helm) -> None:
    arguments = ("template", "1234", str(CHART), "--namespace", "5678")
    done = helm.run(*arguments, values={"priorityClassName": "90", "serviceAccount": {"name": "12"}})
    manifests = list(yaml.safe_load_all(done.stdout))

    assert {manifest["metadata"]["labels"]["app.kubernetes.io/instance"] for manifest in manifests} == {"1234"}
    assert {manifest["metadata"].get("namespace") for manifest in manifests} == {None, "5678"}
    pod = next(manifest for manifest in manifests if manifest["kind"] == "Deployment")["spec"]["template"]["spec"]
    assert (pod["priorityClassName"], pod["serviceAccountName"]) == ("90", "12")


def test_chart_may_be_part_of_another(helm: Helm, tmp_path: Path, defaults: Manifests) -> None:
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: platform, version: 1.0.0}")
    shutil.copytree(CHART, tmp_path / "charts" / CHART.name)

    assert helm.template({"global": {"storageClass": "x"}}, chart=tmp_path) == defaults


# ------------------------------------------------------------------------------------------------------------- values

ENVIRONMENT: Final = {
    "MAPREDUCE_STORAGE_URL": "file:///var/lib/mapreduce-operator",
    "MAPREDUCE_PROBE_PORT": "8080",
    "MAPREDUCE_IDENTITY": {"fieldRef": {"fieldPath": "metadata.name"}},
    "MAPREDUCE_LEASE_NAMESPACE": NAMESPACE,
    "MAPREDUCE_LEASE_NAME": NAME,
    "MAPREDUCE_LEASE_SECONDS": "15",
    "MAPREDUCE_WATCH_NAMESPACE": "",
    "MAPREDUCE_MAX_ACTIVE_JOBS": "500",
    "MAPREDUCE_MAX_ITEMS": "100000",
    "MAPREDUCE_MAX_ITEM_BYTES": "32768",
    "MAPREDUCE_COPIED_LABELS": "",
    "MAPREDUCE_PER_JOB_METRICS": "false",
    "MAPREDUCE_LOG_LEVEL": "INFO",
    "MAPREDUCE_LOG_FORMAT": "json",
}
OF_A_BUCKET: Final = ("MAPREDUCE_S3_ENDPOINT", "MAPREDUCE_S3_REGION", "MAPREDUCE_S3_PATH_STYLE")
POD_MONITOR: Final = f"PodMonitor/{NAME}"
RULE: Final = f"PrometheusRule/{NAME}"
DASHBOARD: Final = f"ConfigMap/{NAME}-dashboard"
POLICY: Final = f"NetworkPolicy/{NAME}"
SCRAPE: Final = {"port": "probes", "path": "/metrics", "interval": "30s", "honorLabels": True}
DNS: Final = [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}]
PROMETHEUS: Final = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
DIGEST: Final = f"sha256:{'0' * 64}"
TOLERATION: Final = {"key": "dedicated", "operator": "Equal", "value": "control", "effect": "NoSchedule"}
SPREAD: Final = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
NODE_AFFINITY: Final = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "Exists"}]}]
        }
    }
}

# Of each value: another setting than the default, and what must then stand where.
EFFECTS: Final[dict[str, tuple[Any, list[tuple[str, str, Any]]]]] = {
    "global.imageRegistry": (
        "mirror.example.org:5000/hub",
        [(DEPLOYMENT, f"{CONTAINER}.image", "mirror.example.org:5000/hub/mapreduce-operator:0.1.0")],
    ),
    "nameOverride": (
        "runner",
        [(f"Deployment/{NAME}-runner", "metadata.name", f"{NAME}-runner"), (DEPLOYMENT, "", None)],
    ),
    "fullnameOverride": ("runner", [("Deployment/runner", "metadata.name", "runner"), (DEPLOYMENT, "", None)]),
    "commonLabels": (
        {"team": "a"},
        [
            (DEPLOYMENT, "metadata.labels.team", "a"),
            (DEPLOYMENT, "spec.template.metadata.labels.team", "a"),
            (CLAIM, "metadata.labels.team", "a"),
        ],
    ),
    "replicas": (3, [(DEPLOYMENT, "spec.replicas", 3)]),
    "image.repository": ("example.org/mine", [(DEPLOYMENT, f"{CONTAINER}.image", "example.org/mine:0.1.0")]),
    "image.tag": ("dev", [(DEPLOYMENT, f"{CONTAINER}.image", "mapreduce-operator:dev")]),
    "image.digest": (DIGEST, [(DEPLOYMENT, f"{CONTAINER}.image", f"mapreduce-operator@{DIGEST}")]),
    "image.pullPolicy": ("Never", [(DEPLOYMENT, f"{CONTAINER}.imagePullPolicy", "Never")]),
    "imagePullSecrets": ([{"name": "login"}], [(DEPLOYMENT, f"{POD}.imagePullSecrets", [{"name": "login"}])]),
    "operator.watchNamespace": (
        "team-a",
        [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_WATCH_NAMESPACE.value", "team-a")],
    ),
    "operator.maxActiveJobs": (
        2000000,
        [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_MAX_ACTIVE_JOBS.value", "2000000")],
    ),
    "operator.maxItems": (2000000, [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_MAX_ITEMS.value", "2000000")]),
    "operator.maxItemBytes": (1048576, [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_MAX_ITEM_BYTES.value", "1048576")]),
    "operator.leaseSeconds": (30, [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_LEASE_SECONDS.value", "30")]),
    "operator.copiedLabels": (
        ["team", "example.org/cost-centre"],
        [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_COPIED_LABELS.value", "team,example.org/cost-centre")],
    ),
    "operator.logLevel": ("DEBUG", [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_LOG_LEVEL.value", "DEBUG")]),
    "operator.logFormat": ("text", [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_LOG_FORMAT.value", "text")]),
    "storage.url": (
        "file:///srv/map.reduce",
        [
            (DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_STORAGE_URL.value", "file:///srv/map.reduce"),
            (DEPLOYMENT, f"{CONTAINER}.volumeMounts.storage.mountPath", "/srv/map.reduce"),
        ],
    ),
    "storage.s3.endpoint": (
        "http://seaweedfs.storage:8333",
        [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_S3_ENDPOINT.value", "http://seaweedfs.storage:8333")],
    ),
    "storage.s3.region": (
        "eu-central-1",
        [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_S3_REGION.value", "eu-central-1")],
    ),
    "storage.s3.pathStyle": (False, [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_S3_PATH_STYLE.value", "false")]),
    "storage.s3.existingSecret": (
        "bucket-keys",
        [
            (
                DEPLOYMENT,
                f"{CONTAINER}.env.AWS_ACCESS_KEY_ID.valueFrom.secretKeyRef",
                {"name": "bucket-keys", "key": "AWS_ACCESS_KEY_ID"},
            ),
            (
                DEPLOYMENT,
                f"{CONTAINER}.env.AWS_SECRET_ACCESS_KEY.valueFrom.secretKeyRef",
                {"name": "bucket-keys", "key": "AWS_SECRET_ACCESS_KEY"},
            ),
            (
                DEPLOYMENT,
                f"{CONTAINER}.env.AWS_SESSION_TOKEN.valueFrom.secretKeyRef",
                {"name": "bucket-keys", "key": "AWS_SESSION_TOKEN", "optional": True},
            ),
        ],
    ),
    "storage.persistence.enabled": (
        False,
        [(CLAIM, "", None), (DEPLOYMENT, f"{POD}.volumes.storage", {"name": "storage", "emptyDir": {}})],
    ),
    "storage.persistence.size": ("20Gi", [(CLAIM, "spec.resources.requests.storage", "20Gi")]),
    "storage.persistence.storageClassName": ("", [(CLAIM, "spec.storageClassName", "")]),
    "storage.persistence.accessModes": (["ReadWriteMany"], [(CLAIM, "spec.accessModes", ["ReadWriteMany"])]),
    "storage.persistence.existingClaim": (
        "mine",
        [(CLAIM, "", None), (DEPLOYMENT, f"{POD}.volumes.storage.persistentVolumeClaim.claimName", "mine")],
    ),
    "storage.persistence.retain": (False, [(CLAIM, "metadata.annotations", None)]),
    "crds.install": (False, [(CRD, "", None)]),
    "crds.keep": (False, [(CRD, "metadata.annotations", None)]),
    "serviceAccount.create": (
        False,
        [(SERVICE_ACCOUNT, "", None), (DEPLOYMENT, f"{POD}.serviceAccountName", "default")],
    ),
    "serviceAccount.name": (
        "robot",
        [
            ("ServiceAccount/robot", "metadata.name", "robot"),
            (DEPLOYMENT, f"{POD}.serviceAccountName", "robot"),
            (f"ClusterRoleBinding/{NAME}", "subjects.robot.namespace", NAMESPACE),
            (f"RoleBinding/{NAME}-lease", "subjects.robot.namespace", NAMESPACE),
        ],
    ),
    "serviceAccount.annotations": (
        {"example.org/role": "storage"},
        [(SERVICE_ACCOUNT, "metadata.annotations", {"example.org/role": "storage"})],
    ),
    "rbac.create": (
        False,
        [
            (f"ClusterRole/{NAME}", "", None),
            (f"ClusterRoleBinding/{NAME}", "", None),
            (f"Role/{NAME}-lease", "", None),
            (f"RoleBinding/{NAME}-lease", "", None),
        ],
    ),
    "rbac.aggregate": (False, [(f"ClusterRole/{NAME}-view", "", None), (f"ClusterRole/{NAME}-edit", "", None)]),
    "api.enabled": (False, [(API, "", None), (f"ServiceAccount/{NAME}-api", "", None)]),
    "api.replicas": (2, [(API, "spec.replicas", 2)]),
    "api.resources.requests": (
        {"cpu": "2"},
        [(API, f"{POD}.containers.api.resources.requests", {"cpu": "2", "memory": "96Mi"})],
    ),
    "api.resources.limits": ({"memory": "1Gi"}, [(API, f"{POD}.containers.api.resources.limits", {"memory": "1Gi"})]),
    "api.serviceAccount.create": (
        False,
        [(f"ServiceAccount/{NAME}-api", "", None), (API, f"{POD}.serviceAccountName", "default")],
    ),
    "api.serviceAccount.name": (
        "reader",
        [("ServiceAccount/reader", "metadata.name", "reader"), (API, f"{POD}.serviceAccountName", "reader")],
    ),
    "api.serviceAccount.annotations": (
        {"example.org/role": "storage"},
        [(f"ServiceAccount/{NAME}-api", "metadata.annotations", {"example.org/role": "storage"})],
    ),
    "metrics.perJob": (True, [(DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_PER_JOB_METRICS.value", "true")]),
    "metrics.service.enabled": (False, [(f"Service/{NAME}-metrics", "", None)]),
    "metrics.podMonitor.enabled": (True, [(POD_MONITOR, "spec.podMetricsEndpoints", [SCRAPE])]),
    "metrics.podMonitor.interval": ("1m", [(POD_MONITOR, "spec.podMetricsEndpoints", [SCRAPE | {"interval": "1m"}])]),
    "metrics.podMonitor.labels": ({"release": "main"}, [(POD_MONITOR, "metadata.labels.release", "main")]),
    "metrics.podMonitor.namespace": ("monitoring", [(POD_MONITOR, "metadata.namespace", "monitoring")]),
    "metrics.prometheusRule.enabled": (True, [(RULE, "metadata.namespace", NAMESPACE)]),
    "metrics.prometheusRule.labels": ({"release": "main"}, [(RULE, "metadata.labels.release", "main")]),
    "metrics.prometheusRule.namespace": ("monitoring", [(RULE, "metadata.namespace", "monitoring")]),
    "metrics.dashboard.enabled": (True, [(DASHBOARD, "metadata.labels.grafana_dashboard", "1")]),
    "metrics.dashboard.labels": ({"found_by": "me"}, [(DASHBOARD, "metadata.labels.found_by", "me")]),
    "metrics.dashboard.annotations": (
        {"grafana_folder": "Batch"},
        [(DASHBOARD, "metadata.annotations", {"grafana_folder": "Batch"})],
    ),
    "metrics.dashboard.namespace": ("monitoring", [(DASHBOARD, "metadata.namespace", "monitoring")]),
    "networkPolicy.enabled": (True, [(POLICY, "spec.ingress", [{"ports": [{"port": "probes"}]}])]),
    "networkPolicy.metricsFrom": (
        [PROMETHEUS],
        [(POLICY, "spec.ingress", [{"ports": [{"port": "probes"}], "from": [PROMETHEUS]}])],
    ),
    "networkPolicy.apiServerPorts": ([16443], [(POLICY, "spec.egress", [*DNS, {"ports": [{"port": 16443}]}])]),
    "networkPolicy.egress": (
        [{"to": [PROMETHEUS]}],
        [(POLICY, "spec.egress", [*DNS, {"ports": [{"port": 443}, {"port": 6443}]}, {"to": [PROMETHEUS]}])],
    ),
    "podSecurityContext": (
        {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        [
            (
                DEPLOYMENT,
                f"{POD}.securityContext",
                {
                    "runAsNonRoot": True,
                    "fsGroupChangePolicy": "OnRootMismatch",
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            )
        ],
    ),
    "securityContext": (
        {"readOnlyRootFilesystem": False},
        [(DEPLOYMENT, f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False)],
    ),
    "resources.requests": (
        {"cpu": "2"},
        [(DEPLOYMENT, f"{CONTAINER}.resources.requests", {"cpu": "2", "memory": "128Mi"})],
    ),
    "resources.limits": ({"memory": "1Gi"}, [(DEPLOYMENT, f"{CONTAINER}.resources.limits", {"memory": "1Gi"})]),
    "nodeSelector": ({"disk": "ssd"}, [(DEPLOYMENT, f"{POD}.nodeSelector", {"disk": "ssd"})]),
    "tolerations": ([TOLERATION], [(DEPLOYMENT, f"{POD}.tolerations", [TOLERATION])]),
    "affinity": (
        NODE_AFFINITY,
        [(DEPLOYMENT, f"{POD}.affinity.nodeAffinity", NODE_AFFINITY["nodeAffinity"])],
    ),
    "topologySpreadConstraints": ([SPREAD], [(DEPLOYMENT, f"{POD}.topologySpreadConstraints", [SPREAD])]),
    "priorityClassName": ("high", [(DEPLOYMENT, f"{POD}.priorityClassName", "high")]),
    "podLabels": ({"team": "a"}, [(DEPLOYMENT, "spec.template.metadata.labels.team", "a")]),
    "podAnnotations": ({"team": "a"}, [(DEPLOYMENT, "spec.template.metadata.annotations", {"team": "a"})]),
    "extraEnv": (
        [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        [(DEPLOYMENT, f"{CONTAINER}.env.HTTPS_PROXY.value", "http://proxy")],
    ),
    "extraVolumes": (
        [{"name": "ca", "configMap": {"name": "ca"}}],
        [(DEPLOYMENT, f"{POD}.volumes.ca.configMap.name", "ca")],
    ),
    "extraVolumeMounts": (
        [{"name": "ca", "mountPath": "/etc/ca"}],
        [(DEPLOYMENT, f"{CONTAINER}.volumeMounts.ca.mountPath", "/etc/ca")],
    ),
}

ALONE: Final = {"replicas": 1, "api.enabled": False}
MONITORING: Final = [
    ("podMonitor", "interval"),
    *((name, value) for name in ("podMonitor", "prometheusRule", "dashboard") for value in ("labels", "namespace")),
    ("dashboard", "annotations"),
]
# Of values that make sense only with others: these others.
BESIDE: Final[dict[str, dict[str, Any]]] = {
    "storage.persistence.enabled": ALONE,
    **{f"metrics.{name}.{value}": {f"metrics.{name}.enabled": True} for name, value in MONITORING},
    **{
        f"networkPolicy.{name}": {"networkPolicy.enabled": True} for name in ("metricsFrom", "apiServerPorts", "egress")
    },
    **{f"storage.s3.{name}": {"storage.url": BUCKET} for name in ("endpoint", "region", "pathStyle", "existingSecret")},
}


def test_no_value_is_missing_from_the_table_of_effects() -> None:
    assert [path for path, _, _ in default_values()] == list(EFFECTS)


@pytest.mark.parametrize("path", EFFECTS)
def test_each_value_has_its_effect(helm: Helm, defaults: Manifests, path: str) -> None:
    changed, effects = EFFECTS[path]

    manifests = helm.template(nested({path: changed, **BESIDE.get(path, {})}))

    for name, place, expected in effects:
        assert at(manifests, name, place) == expected
        assert at(defaults, name, place) != expected


def test_readme_lists_each_value_with_default_and_description() -> None:
    rows = [line for line in (CHART / "README.md").read_text().splitlines() if line.startswith("| `")]

    expected = [
        f"| `{path}` | `{json.dumps(default)}` | {node['description']} |" for path, default, node in default_values()
    ]

    assert rows == expected


def test_environment_by_default(defaults: Manifests) -> None:
    env = at(defaults, DEPLOYMENT, f"{CONTAINER}.env")

    assert {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in env} == ENVIRONMENT


def test_labels_of_the_chart_win_over_pod_labels(helm: Helm) -> None:
    manifests = helm.template({"podLabels": {"app.kubernetes.io/name": "other"}})

    assert at(manifests, DEPLOYMENT, "spec.template.metadata.labels").items() >= (
        at(manifests, DEPLOYMENT, "spec.selector.matchLabels").items()
    )


# ------------------------------------------------------------------------------------------------------------- schema


def objects_in(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in node.get("properties", {}).items():
        yield f"{path}/{key}", inner
        yield from objects_in(inner, f"{path}/{key}")
    if "items" in node:
        yield from objects_in(node["items"], f"{path}[]")


def test_schema_describes_every_value(schema: Any) -> None:
    assert [path for path, node in objects_in(schema) if not node.get("description")] == []


def test_schema_is_closed_wherever_the_chart_has_values(schema: Any) -> None:
    assert schema["additionalProperties"] is False
    # In `global` stand the values of other charts as well.
    groups = {path.rpartition(".")[0].replace(".", "/") for path, _, _ in default_values()} - {"", "global"}
    nodes = dict(objects_in(schema))
    assert {group for group in groups if nodes[f"/{group}"]["additionalProperties"] is not False} == set()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 0),
        ("replicas", "2"),
        ("image.registry", "example.org"),
        ("image.tag", 1.0),
        ("image.digest", "0123"),
        ("image.pullPolicy", "Sometimes"),
        ("imagePullSecrets", ["login"]),
        ("operator.maxActiveJobs", 0),
        ("operator.maxItems", "100"),
        ("operator.maxItemBytes", 1.5),
        ("operator.watchNamespace", "Team_A"),
        ("operator.leaseSeconds", 4),
        ("operator.logLevel", "info"),
        ("operator.logFormat", "xml"),
        ("storage.url", "s3://"),
        ("storage.url", "s3://Bucket"),
        ("storage.url", "s3://bucket/"),
        ("storage.url", "s3://bucket/../other"),
        ("storage.url", "s3://key:secret@bucket"),
        ("storage.url", "https://bucket.s3.amazonaws.com"),
        ("storage.s3.endpoint", "seaweedfs:8333"),
        ("storage.s3.endpoint", "http://key:secret@seaweedfs:8333"),
        ("storage.s3.region", "EU Central"),
        ("storage.s3.pathStyle", "yes"),
        ("storage.s3.existingSecret", "Bucket_Keys"),
        ("storage.s3.accessKey", "AKIA"),
        ("storage.url", "/var/lib/mapreduce-operator"),
        ("storage.url", "file://var/lib"),
        ("storage.url", "file:///var/../etc"),
        ("storage.url", "file:///"),
        ("storage.persistence.size", "a lot"),
        ("storage.persistence.accessModes", ["ReadOnlyMany"]),
        ("storage.persistence.storageClassName", False),
        ("global.imageRegistry", "mirror.example.org/"),
        ("operator.copiedLabels", ["team,cost"]),
        ("api.replicas", 0),
        ("api.port", 8081),
        ("metrics.podMonitor.interval", "often"),
        ("metrics.dashboard.labels", {"grafana_dashboard": 1}),
        ("networkPolicy.apiServerPorts", ["https"]),
        ("networkPolicy.metricsFrom", ["monitoring"]),
        ("crds.install", "yes"),
        ("serviceAccount.annotations", {"a": 1}),
        ("rbac.clusterAdmin", True),
        ("metrics.service.port", 9090),
        ("resources.claims", []),
        ("podLabels", {"team": True}),
        ("fullnameOverride", "With Blank"),
        ("extraVolumes", [{"name": "storage", "emptyDir": {}}]),
        ("extraVolumeMounts", [{"name": "ca"}]),
        *(("extraEnv", [{"name": name, "value": "x"}]) for name in (*ENVIRONMENT, *OF_A_BUCKET)),
    ],
)
def test_schema_refuses_and_names_the_place(helm: Helm, path: str, value: Any) -> None:
    refusal = helm.refusal(nested({path: value}))

    group, _, name = path.rpartition(".")
    assert re.search(rf"'/{path.replace('.', '/')}(/.*)?'|at '/?{group}'.*'{name}'", refusal), refusal


# ----------------------------------------------------------------------------------------------------------------- CRDs


def test_crds_of_the_chart_are_those_of_the_project() -> None:
    project, chart = (
        {path.name: path.read_text() for path in folder.iterdir()}
        for folder in (PROJECT / "crds", CHART / "files" / "crds")
    )

    assert "mapreducejobs.mapreduce.dev" in "".join(project.values())
    assert chart == project, "run make crds"


def test_the_charts_description_lists_the_crds() -> None:
    listed = yaml.safe_load((CHART / "Chart.yaml").read_text())["annotations"]["artifacthub.io/crds"]
    files = [yaml.safe_load(path.read_text()) for path in (CHART / "files" / "crds").iterdir()]

    assert {(crd["kind"], crd["name"]) for crd in yaml.safe_load(listed)} == {
        (crd["spec"]["names"]["kind"], crd["metadata"]["name"]) for crd in files
    }


def test_crds_are_rendered_unchanged_and_kept(defaults: Manifests) -> None:
    files = [yaml.safe_load(path.read_text()) for path in (CHART / "files" / "crds").iterdir()]

    for crd in files:
        rendered = at(defaults, f"CustomResourceDefinition/{crd['metadata']['name']}")
        assert rendered["spec"] == crd["spec"]
        expected = {**crd["metadata"].get("annotations", {}), "helm.sh/resource-policy": "keep"}
        assert rendered["metadata"]["annotations"] == expected
    assert {name for name in defaults if name.startswith("CustomResourceDefinition")} == {
        f"CustomResourceDefinition/{crd['metadata']['name']}" for crd in files
    }


# ----------------------------------------------------------------------------------------------------------------- RBAC

OPERATOR_RULES: Final = {
    ("mapreduce.dev", "mapreducejobs"): ["get", "list", "watch", "patch"],
    ("mapreduce.dev", "mapreducejobs/status"): ["patch"],
    ("mapreduce.dev", "mapreducejobs/finalizers"): ["update"],
    ("mapreduce.dev", "deadletterqueues"): ["create", "get", "list", "watch", "patch", "delete"],
    ("mapreduce.dev", "deadletterqueues/status"): ["patch"],
    ("mapreduce.dev", "redrives"): ["get", "list", "watch"],
    ("mapreduce.dev", "redrives/status"): ["patch"],
    ("batch", "jobs"): ["create", "get", "list", "watch", "delete", "deletecollection"],
    ("", "pods"): ["list", "watch", "delete"],
    ("", "pods/status"): ["patch"],
    ("", "pods/log"): ["get"],
    ("", "configmaps"): ["get", "create", "update", "delete"],
    ("", "events"): ["create"],
}
READ: Final = ["get", "list", "watch"]
CHANGE: Final = ["update", "patch", "delete", "deletecollection"]
VIEW_RULES: Final = {
    ("mapreduce.dev", "mapreducejobs"): READ,
    ("mapreduce.dev", "mapreducejobs/status"): ["get"],
    ("mapreduce.dev", "mapreducejobs/scale"): ["get"],
    ("mapreduce.dev", "deadletterqueues"): READ,
    ("mapreduce.dev", "deadletterqueues/status"): ["get"],
    ("mapreduce.dev", "redrives"): READ,
    ("mapreduce.dev", "redrives/status"): ["get"],
}
EDIT_RULES: Final = VIEW_RULES | {
    ("mapreduce.dev", "mapreducejobs"): [*READ, "create", *CHANGE],
    ("mapreduce.dev", "mapreducejobs/scale"): ["get", "update", "patch"],
    ("mapreduce.dev", "deadletterqueues"): [*READ, *CHANGE],
    ("mapreduce.dev", "redrives"): [*READ, "create", *CHANGE],
}


def rules(manifests: Manifests, name: str) -> dict[tuple[str, str], list[str]]:
    flat = [
        ((group, resource), rule["verbs"])
        for rule in at(manifests, name, "rules")
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    ]
    assert len(dict(flat)) == len(flat)
    return dict(flat)


def test_no_rule_has_a_wildcard(defaults: Manifests, own_namespace: Manifests) -> None:
    roles = [
        manifest
        for manifest in [*defaults.values(), *own_namespace.values()]
        if manifest["kind"] in {"Role", "ClusterRole"}
    ]

    assert len(roles) == 8
    assert "*" not in json.dumps([role["rules"] for role in roles])


def test_operator_has_exactly_these_rights(defaults: Manifests) -> None:
    assert rules(defaults, f"ClusterRole/{NAME}") == OPERATOR_RULES

    binding = at(defaults, f"ClusterRoleBinding/{NAME}")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


def test_users_rights_are_part_of_the_clusters_own_roles(defaults: Manifests) -> None:
    assert rules(defaults, f"ClusterRole/{NAME}-view") == VIEW_RULES
    assert rules(defaults, f"ClusterRole/{NAME}-edit") == EDIT_RULES

    def part_of(name: str) -> set[str]:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        labels = at(defaults, name, "metadata.labels")
        return {label.removeprefix(prefix) for label in labels if label.startswith(prefix)}

    assert part_of(f"ClusterRole/{NAME}-view") == {"view", "edit", "admin"}
    assert part_of(f"ClusterRole/{NAME}-edit") == {"edit", "admin"}


@pytest.mark.parametrize("watched", ["", "team-a", NAMESPACE])
def test_the_lease_is_the_only_object_of_its_kind_that_the_operator_changes(helm: Helm, watched: str) -> None:
    manifests = helm.template(nested({"operator.watchNamespace": watched}))

    group = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    assert at(manifests, f"Role/{NAME}-lease", "rules") == [
        {**group, "resourceNames": [NAME], "verbs": ["get", "update"]},
        {**group, "verbs": ["create"]},
    ]
    binding = at(manifests, f"RoleBinding/{NAME}-lease")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": f"{NAME}-lease"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]
    for name in (f"Role/{NAME}-lease", f"RoleBinding/{NAME}-lease"):
        assert at(manifests, name, "metadata.namespace") == NAMESPACE
    env = at(manifests, DEPLOYMENT, f"{CONTAINER}.env")
    lease = {variable["name"]: variable.get("value") for variable in env}
    assert (lease["MAPREDUCE_LEASE_NAMESPACE"], lease["MAPREDUCE_LEASE_NAME"]) == (NAMESPACE, NAME)


def test_with_a_namespace_to_watch_the_rights_end_there(own_namespace: Manifests) -> None:
    assert {manifest["kind"] for manifest in own_namespace.values()} & CLUSTER_SCOPED == {"CustomResourceDefinition"}
    assert rules(own_namespace, f"Role/{NAME}") == OPERATOR_RULES
    assert at(own_namespace, f"Role/{NAME}", "metadata.namespace") == "team-a"

    binding = at(own_namespace, f"RoleBinding/{NAME}")
    assert binding["metadata"]["namespace"] == "team-a"
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


# ------------------------------------------------------------------------------------------------------------------ pod


def test_pod_meets_the_restricted_standard_with_a_read_only_root(defaults: Manifests) -> None:
    pod = at(defaults, DEPLOYMENT, POD)
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & pod.keys()

    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all("hostPort" not in port for port in container["ports"])
    assert pod["volumes"] == [
        {"name": "storage", "persistentVolumeClaim": {"claimName": NAME}},
        {"name": "tmp", "emptyDir": {}},
    ]
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/var/lib/mapreduce-operator", "/tmp"]  # noqa: S108


def test_only_the_pod_gets_the_token(defaults: Manifests) -> None:
    assert at(defaults, SERVICE_ACCOUNT, "automountServiceAccountToken") is False
    assert at(defaults, DEPLOYMENT, f"{POD}.automountServiceAccountToken") is True


def test_probes_and_metrics_are_on_the_port_that_the_operator_serves(defaults: Manifests) -> None:
    container = at(defaults, DEPLOYMENT, CONTAINER)
    port = int(at(defaults, DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_PROBE_PORT.value"))

    assert container["ports"] == [{"name": "probes", "containerPort": port}]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "probes"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes"}
    service = at(defaults, f"Service/{NAME}-metrics", "spec")
    assert service["ports"] == [{"name": "metrics", "port": port, "targetPort": "probes"}]
    assert service["selector"] == at(defaults, DEPLOYMENT, "spec.selector.matchLabels")


# ------------------------------------------------------------------------------------------------- replicas and storage

SELECTOR: Final = {
    "app.kubernetes.io/name": NAME,
    "app.kubernetes.io/instance": NAME,
    "app.kubernetes.io/component": "operator",
}
NODE_OF_A_REPLICA: Final = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": SELECTOR}}
TOGETHER: Final = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NODE_OF_A_REPLICA]}}
APART: Final = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": NODE_OF_A_REPLICA}]
    }
}
BUDGET: Final = f"PodDisruptionBudget/{NAME}"


def test_an_upgrade_needs_no_more_room_and_leaves_one_of_two_pods(defaults: Manifests) -> None:
    assert at(defaults, DEPLOYMENT, "spec.replicas") == 2
    assert at(defaults, DEPLOYMENT, "spec.strategy") == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


@pytest.mark.parametrize(
    ("settings", "affinity"),
    [
        ({}, TOGETHER),
        ({"storage.persistence.existingClaim": "mine"}, TOGETHER),
        ({"storage.persistence.accessModes": ["ReadWriteOnce", "ReadWriteMany"]}, APART),
        ({"storage.url": BUCKET}, APART),
        ({"replicas": 1}, None),
        ({"replicas": 1, "storage.url": BUCKET}, None),
        ({"affinity": NODE_AFFINITY}, TOGETHER | NODE_AFFINITY),
        ({"affinity": {"podAffinity": {}}}, {"podAffinity": {}}),
        (
            {"affinity": NODE_AFFINITY | {"podAntiAffinity": {}}, "storage.url": BUCKET},
            NODE_AFFINITY | {"podAntiAffinity": {}},
        ),
    ],
)
def test_replicas_share_the_node_of_a_volume_and_otherwise_keep_apart(
    helm: Helm, settings: dict[str, Any], affinity: Any
) -> None:
    assert at(helm.template(nested(settings)), DEPLOYMENT, f"{POD}.affinity") == affinity


@pytest.mark.parametrize(
    ("settings", "budgeted"),
    [
        # With one, a drained node would keep its second pod for ever: the first one's replacement must be beside it.
        ({}, False),
        ({"replicas": 1, "storage.url": BUCKET}, False),
        ({"storage.persistence.accessModes": ["ReadWriteMany"]}, True),
        ({"storage.url": BUCKET}, True),
    ],
)
def test_a_disruption_budget_keeps_one_of_several_nodes_replicas(
    helm: Helm, settings: dict[str, Any], budgeted: bool
) -> None:
    expected = {"minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow", "selector": {"matchLabels": SELECTOR}}
    assert at(helm.template(nested(settings)), BUDGET, "spec") == (expected if budgeted else None)


def test_with_a_bucket_there_is_no_volume(helm: Helm) -> None:
    manifests = helm.template(nested({"storage.url": BUCKET}))

    assert CLAIM not in manifests
    assert at(manifests, DEPLOYMENT, f"{POD}.volumes") == [{"name": "tmp", "emptyDir": {}}]
    assert [mount["name"] for mount in at(manifests, DEPLOYMENT, f"{CONTAINER}.volumeMounts")] == ["tmp"]
    assert at(manifests, DEPLOYMENT, f"{CONTAINER}.env.MAPREDUCE_STORAGE_URL.value") == BUCKET


def test_without_a_secret_credentials_are_the_environments(helm: Helm) -> None:
    env = at(helm.template(nested({"storage.url": BUCKET})), DEPLOYMENT, f"{CONTAINER}.env")

    assert [variable["name"] for variable in env if variable["name"].startswith("AWS_")] == []
    assert "MAPREDUCE_S3_PATH_STYLE" not in {variable["name"] for variable in env}


@pytest.mark.parametrize(
    ("settings", "cause", "cure"),
    [
        (
            {"api.enabled": False, "storage.persistence.enabled": False},
            "replicas is 2, but .* a storage of its own",
            "set replicas to 1",
        ),
        (
            {"api.enabled": False, "storage.persistence.accessModes": ["ReadWriteOncePod"]},
            "replicas is 2, but .*ReadWriteOncePod takes one pod",
            "set replicas to 1",
        ),
        (
            {"replicas": 1, "storage.persistence.enabled": False},
            "api.enabled is true, but .* the API cannot read it",
            "set api.enabled to false",
        ),
        (
            {"replicas": 1, "storage.persistence.accessModes": ["ReadWriteOncePod"]},
            "api.enabled is true, but .*ReadWriteOncePod takes one pod",
            "set api.enabled to false",
        ),
        *(
            ({f"storage.s3.{name}": value}, f"storage.s3.{name} is set, but storage.url is file:///", "s3://bucket")
            for name, value in [
                ("endpoint", "http://seaweedfs:8333"),
                ("region", "eu-central-1"),
                ("pathStyle", False),
                ("existingSecret", "bucket-keys"),
            ]
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    helm: Helm, settings: dict[str, Any], cause: str, cure: str
) -> None:
    refusal = helm.refusal(nested(settings))

    assert re.search(cause, refusal), refusal
    assert cure in refusal


@pytest.mark.parametrize(
    "settings",
    [
        {**ALONE, "storage.persistence.enabled": False},
        {**ALONE, "storage.persistence.accessModes": ["ReadWriteOncePod"]},
        {"storage.url": BUCKET, "storage.persistence.enabled": False},
        {"storage.url": "s3://bucket.with.dots"},
        {"storage.url": "s3://bucket/a/b_c/d.e", "storage.s3.endpoint": "https://[fd00::1]:8333/"},
    ],
)
def test_values_that_go_together_are_taken(helm: Helm, settings: dict[str, Any]) -> None:
    assert DEPLOYMENT in helm.template(nested(settings))


def values_of_documents() -> Iterator[Any]:
    """Every block of Helm values in the documents: YAML that is no manifest, nor a part of one."""
    for document in [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            values = yaml.safe_load(block)
            if not {"kind", "spec"} & values.keys():
                yield pytest.param(values, id=f"{document.name}:{','.join(values)}")


def test_the_documents_have_values() -> None:
    assert len(list(values_of_documents())) >= 3


@pytest.mark.parametrize("values", list(values_of_documents()))
def test_values_in_the_documents_are_taken(helm: Helm, values: Values) -> None:
    assert DEPLOYMENT in helm.template(values)


# ---------------------------------------------------------------------------------------------------------------- trial

TRIAL: Final = f"Pod/{NAME}-test"


def test_the_trial_is_there_for_helm_test_alone(defaults: Manifests) -> None:
    hooks = {
        name: manifest["metadata"].get("annotations", {}).get("helm.sh/hook") for name, manifest in defaults.items()
    }

    assert {name: hook for name, hook in hooks.items() if hook} == {
        TRIAL: "test",
        f"ServiceAccount/{NAME}-test": "test",
        f"Role/{NAME}-test": "test",
        f"RoleBinding/{NAME}-test": "test",
    }


@pytest.mark.parametrize("namespace", [NAMESPACE, "team-a"])
def test_the_trial_runs_where_the_operator_looks(helm: Helm, namespace: str) -> None:
    watched = namespace if namespace != NAMESPACE else ""
    manifests = helm.template(nested({"operator.watchNamespace": watched, "image.tag": "dev"}))

    where, text = at(manifests, TRIAL, "spec.containers.trial.args")
    spec = json.loads(text)["spec"]
    assert MapReduceJobSpec.model_validate(spec).input.items == ("one", "two", "three")
    assert spec["map"]["template"]["spec"]["containers"][0]["image"] == "mapreduce-operator:dev"
    assert where == namespace
    assert at(manifests, f"Role/{NAME}-test", "metadata.namespace") == namespace
    assert rules(manifests, f"Role/{NAME}-test") == {("mapreduce.dev", "mapreducejobs"): ["create", "watch", "delete"]}


# ---------------------------------------------------------------------------------------------------------------- notes


def test_notes_warn_of_storage_that_does_not_last(helm: Helm) -> None:
    assert "WARNING" not in helm.notes({})
    without_volume = helm.notes(nested({"storage.persistence.enabled": False, **ALONE}))
    assert "WARNING: storage is an emptyDir" in without_volume


def test_notes_say_where_storage_is_and_where_the_pods_are(helm: Helm) -> None:
    on_volume = helm.notes({})
    assert f"Storage is the volume of pvc/{NAME}." in on_volume
    assert "Of its 2 pods one leads, all on the node of the volume." in on_volume
    assert f"get lease {NAME}" in on_volume

    in_bucket = helm.notes(nested({"storage.url": BUCKET, "storage.s3.existingSecret": "bucket-keys"}))
    assert f"Storage is {BUCKET}, with the credentials of secret/bucket-keys." in in_bucket
    assert "on nodes of their own where there are enough" in in_bucket
    assert "delete pvc" not in in_bucket


def test_notes_say_what_to_do_next(helm: Helm) -> None:
    assert "kubectl get mrj --watch" in helm.notes({})
    assert "kubectl -n team-a get mrj --watch" in helm.notes(nested({"operator.watchNamespace": "team-a"}))


def test_notes_say_what_stays_behind(helm: Helm) -> None:
    kept = helm.notes({})
    for plural in ("mapreducejobs", "deadletterqueues", "redrives"):
        assert f"delete crd {plural}.mapreduce.dev" in kept
    assert f"delete pvc {NAME}" in kept
    assert f"delete lease {NAME}" in kept

    nothing = helm.notes({"crds": {"keep": False}, "storage": {"persistence": {"retain": False}}})
    assert "delete crd" not in nothing
    assert "delete pvc" not in nothing
