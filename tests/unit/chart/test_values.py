"""Every value of the chart: what it changes, how it is described, and what is refused."""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.dashboard import RULES
from tests.unit.chart.rendering import (
    ALONE,
    API,
    BUCKET,
    CHART,
    CLAIM,
    CONTAINER,
    CRD,
    DEPLOYMENT,
    NAME,
    NAMESPACE,
    NODE_AFFINITY,
    POD,
    SERVICE_ACCOUNT,
    TRIAL,
    Helm,
    Manifests,
    at,
    default_values,
    nested,
)

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
LINKED_RULES: Final = yaml.safe_load(RULES.read_text().replace("docs/alerts", "https://git.example.org/docs/alerts"))
DASHBOARD: Final = f"ConfigMap/{NAME}-dashboard"
POLICY: Final = f"NetworkPolicy/{NAME}"
SCRAPE: Final = {"port": "probes", "path": "/metrics", "interval": "30s", "honorLabels": True}
RELABELING: Final = {"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}
DNS: Final = [{"ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]}]
PROMETHEUS: Final = {"namespaceSelector": {"matchLabels": {"team": "monitoring"}}}
DIGEST: Final = f"sha256:{'0' * 64}"
TOLERATION: Final = {"key": "dedicated", "operator": "Equal", "value": "control", "effect": "NoSchedule"}
SECRET_VARIABLES: Final = {"secretRef": {"name": "proxy"}}
SPREAD: Final = {
    "maxSkew": 1,
    "topologyKey": "zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"team": "a"}},
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
            (f"ClusterRoleBinding/{NAME}-api", "", None),
            (f"ServiceAccount/{NAME}-reader", "", None),
            (f"Role/{NAME}-api-users", "", None),
            (f"Role/{NAME}-test", "", None),
            (f"RoleBinding/{NAME}-test", "", None),
        ],
    ),
    "rbac.aggregate": (False, [(f"ClusterRole/{NAME}-view", "", None), (f"ClusterRole/{NAME}-edit", "", None)]),
    "api.enabled": (
        False,
        [(API, "", None), (f"ServiceAccount/{NAME}-api", "", None), (f"Role/{NAME}-api-users", "", None)],
    ),
    "api.replicas": (2, [(API, "spec.replicas", 2)]),
    "api.topologySpreadConstraints": ([SPREAD], [(API, f"{POD}.topologySpreadConstraints", [SPREAD])]),
    "api.existingSecret": (
        "reader-keys",
        [
            (
                API,
                f"{POD}.containers.api.env.AWS_ACCESS_KEY_ID.valueFrom.secretKeyRef",
                {"name": "reader-keys", "key": "AWS_ACCESS_KEY_ID"},
            )
        ],
    ),
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
    "metrics.podMonitor.scrapeTimeout": (
        "5s",
        [(POD_MONITOR, "spec.podMetricsEndpoints", [SCRAPE | {"scrapeTimeout": "5s"}])],
    ),
    "metrics.podMonitor.relabelings": (
        [RELABELING],
        [(POD_MONITOR, "spec.podMetricsEndpoints", [SCRAPE | {"relabelings": [RELABELING]}])],
    ),
    "metrics.podMonitor.labels": ({"release": "main"}, [(POD_MONITOR, "metadata.labels.release", "main")]),
    "metrics.podMonitor.namespace": ("monitoring", [(POD_MONITOR, "metadata.namespace", "monitoring")]),
    "metrics.prometheusRule.enabled": (True, [(RULE, "metadata.namespace", NAMESPACE)]),
    "metrics.prometheusRule.runbookBaseUrl": (
        "https://git.example.org/docs",
        [(RULE, "spec", LINKED_RULES)],
    ),
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
    "podLabels": (
        {"team": "a"},
        [(DEPLOYMENT, "spec.template.metadata.labels.team", "a"), (TRIAL, "metadata.labels.team", "a")],
    ),
    "podAnnotations": (
        {"team": "a"},
        [(DEPLOYMENT, "spec.template.metadata.annotations", {"team": "a"}), (TRIAL, "metadata.annotations.team", "a")],
    ),
    "extraEnv": (
        [{"name": "HTTPS_PROXY", "value": "http://proxy"}],
        [(DEPLOYMENT, f"{CONTAINER}.env.HTTPS_PROXY.value", "http://proxy")],
    ),
    "extraEnvFrom": (
        [SECRET_VARIABLES],
        [
            (DEPLOYMENT, f"{CONTAINER}.envFrom", [SECRET_VARIABLES]),
            (API, f"{POD}.containers.api.envFrom", [SECRET_VARIABLES]),
        ],
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

MONITORING: Final = [
    *(("podMonitor", value) for value in ("interval", "scrapeTimeout", "relabelings")),
    *((name, value) for name in ("podMonitor", "prometheusRule", "dashboard") for value in ("labels", "namespace")),
    ("prometheusRule", "runbookBaseUrl"),
    ("dashboard", "annotations"),
]
# Of values that make sense only with others: these others.
BESIDE: Final[dict[str, dict[str, Any]]] = {
    "storage.persistence.enabled": ALONE,
    "api.existingSecret": {"storage.url": BUCKET},
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
        ("storage.s3.endpoint", "seaweedfs:8333"),
        ("storage.s3.endpoint", "http://key:secret@seaweedfs:8333"),
        ("storage.s3.region", "EU Central"),
        ("storage.s3.pathStyle", "yes"),
        ("storage.s3.existingSecret", "Bucket_Keys"),
        ("storage.s3.accessKey", "AKIA"),
        ("storage.persistence.size", "a lot"),
        ("storage.persistence.accessModes", ["ReadOnlyMany"]),
        ("storage.persistence.storageClassName", False),
        ("storage.persistence.existingClaim", "My_Claim"),
        ("global.imageRegistry", "mirror.example.org/"),
        ("operator.copiedLabels", ["team,cost"]),
        ("enabled", "yes"),
        ("serviceAccount.name", "Robot"),
        ("api.serviceAccount.name", "two words"),
        ("api.existingSecret", "Keys"),
        ("api.replicas", 0),
        ("api.port", 8081),
        ("metrics.podMonitor.interval", "often"),
        ("metrics.prometheusRule.runbookBaseUrl", "docs"),
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
        ("extraVolumeMounts", [{"name": "ca"}]),
        ("storage.url", 1),
        ("metrics.podMonitor.scrapeTimeout", "soon"),
        ("extraEnvFrom", [{"name": "proxy"}]),
    ],
)
def test_schema_refuses_and_names_the_place(helm: Helm, path: str, value: Any) -> None:
    refusal = helm.refusal(nested({path: value}))

    group, _, name = path.rpartition(".")
    assert re.search(rf"'/{path.replace('.', '/')}(/.*)?'|at '/?{group}'.*'{name}'", refusal), refusal


@pytest.mark.parametrize("name", [*ENVIRONMENT, *OF_A_BUCKET])
def test_a_variable_of_the_charts_own_cannot_be_set_beside_it(helm: Helm, name: str) -> None:
    refusal = helm.refusal({"extraEnv": [{"name": name, "value": "x"}]})

    assert f"extraEnv has {name}, but the chart sets" in refusal
    assert "set the value instead" in refusal


def test_keys_of_a_bucket_stand_in_one_place(helm: Helm) -> None:
    keys = {"extraEnv": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}]}

    assert DEPLOYMENT in helm.template(nested({"storage.url": BUCKET, **keys}))
    for secret in ("storage.s3.existingSecret", "api.existingSecret"):
        refusal = helm.refusal(nested({"storage.url": BUCKET, secret: "bucket-keys", **keys}))
        assert "extraEnv has AWS_ACCESS_KEY_ID, but the chart takes that from the Secret" in refusal


@pytest.mark.parametrize("name", ["storage", "tmp"])
def test_a_volume_of_the_charts_own_cannot_be_replaced(helm: Helm, name: str) -> None:
    refusal = helm.refusal({"extraVolumes": [{"name": name, "emptyDir": {}}]})

    assert f"extraVolumes has a volume called {name}, but so is one of the chart's own" in refusal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "s3://",
        "s3://b",
        "s3://Bucket",
        "s3://bucket/",
        "s3://bucket/../other",
        "s3://key:secret@bucket",
        "https://bucket.s3.amazonaws.com",
        "/var/lib/mapreduce-operator",
        "file://var/lib",
        "file:///var/../etc",
        "file:///",
    ],
)
def test_a_url_that_is_no_storage_is_refused_with_one_that_is(helm: Helm, url: str) -> None:
    refusal = helm.refusal(nested({"storage.url": url}))

    assert f'storage.url is "{url}", which is neither a folder, such as file:///var/lib/mapreduce-operator' in refusal
    assert "nor a bucket, s3://bucket/prefix" in refusal
