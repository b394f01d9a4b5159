"""The pods: what they may do on their node, where they run, and where their storage is."""

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml

from tests.unit.chart.rendering import (
    ALONE,
    API,
    BUCKET,
    CHART,
    CLAIM,
    CONTAINER,
    DEPLOYMENT,
    NAME,
    NODE_AFFINITY,
    POD,
    PROJECT,
    SERVICE_ACCOUNT,
    Helm,
    Manifests,
    Values,
    at,
    nested,
)


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


SELECTOR: Final = {
    "app.kubernetes.io/name": NAME,
    "app.kubernetes.io/instance": NAME,
    "app.kubernetes.io/component": "operator",
}
OF_THE_VOLUME: Final[dict[str, Any]] = {
    "matchLabels": {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": NAME},
    "matchExpressions": [{"key": "app.kubernetes.io/component", "operator": "In", "values": ["operator", "api"]}],
}
NODE_OF_THE_VOLUME: Final = {"topologyKey": "kubernetes.io/hostname", "labelSelector": OF_THE_VOLUME}
TOGETHER: Final = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [NODE_OF_THE_VOLUME]}}
NODE_OF_A_REPLICA: Final = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": SELECTOR}}
APART: Final = {
    "podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": NODE_OF_A_REPLICA}]
    }
}
BUDGET: Final = f"PodDisruptionBudget/{NAME}"
BUDGET_OF_API: Final = f"PodDisruptionBudget/{NAME}-api"


def test_the_api_only_reads_the_storage(defaults: Manifests) -> None:
    container = f"{POD}.containers.api"
    operator, api = (at(defaults, name, f"{POD}.securityContext") for name in (DEPLOYMENT, API))
    assert api == operator
    assert at(defaults, API, f"{container}.securityContext") == at(defaults, DEPLOYMENT, f"{CONTAINER}.securityContext")
    mounted = at(defaults, DEPLOYMENT, f"{CONTAINER}.volumeMounts.storage")
    assert at(defaults, API, f"{container}.volumeMounts.storage") == mounted | {"readOnly": True}
    assert at(defaults, API, "spec.selector.matchLabels") == SELECTOR | {"app.kubernetes.io/component": "api"}


def test_the_term_of_the_affinity_fits_the_pods_of_both(defaults: Manifests) -> None:
    """Else the first of them would wait for ever: a pod whose own term does not fit it must find another one."""
    for name in (DEPLOYMENT, API):
        labels = at(defaults, name, "spec.template.metadata.labels")
        assert labels.items() >= OF_THE_VOLUME["matchLabels"].items()
        (expression,) = OF_THE_VOLUME["matchExpressions"]
        assert labels[expression["key"]] in expression["values"]


def test_an_upgrade_needs_no_more_room_and_leaves_one_of_two_pods(defaults: Manifests) -> None:
    assert at(defaults, DEPLOYMENT, "spec.replicas") == 2
    assert at(defaults, DEPLOYMENT, "spec.strategy") == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
    }


@pytest.mark.parametrize(
    ("settings", "operator", "api"),
    [
        ({}, TOGETHER, TOGETHER),
        ({"storage.persistence.existingClaim": "mine"}, TOGETHER, TOGETHER),
        ({"replicas": 1}, TOGETHER, TOGETHER),
        ({"api.enabled": False}, TOGETHER, None),
        (ALONE, None, None),
        ({"storage.persistence.accessModes": ["ReadWriteOnce", "ReadWriteMany"]}, APART, None),
        ({"storage.url": BUCKET}, APART, None),
        ({"replicas": 1, "storage.url": BUCKET}, None, None),
        ({"affinity": NODE_AFFINITY}, TOGETHER | NODE_AFFINITY, TOGETHER | NODE_AFFINITY),
        ({"affinity": {"podAffinity": {}}}, {"podAffinity": {}}, {"podAffinity": {}}),
        (
            {"affinity": NODE_AFFINITY | {"podAntiAffinity": {}}, "storage.url": BUCKET},
            NODE_AFFINITY | {"podAntiAffinity": {}},
            None,
        ),
    ],
)
def test_pods_share_the_node_of_a_volume_and_replicas_otherwise_keep_apart(
    helm: Helm, settings: dict[str, Any], operator: Any, api: Any
) -> None:
    manifests = helm.template(nested(settings))

    assert at(manifests, DEPLOYMENT, f"{POD}.affinity") == operator
    assert at(manifests, API, f"{POD}.affinity") == api


def test_pods_that_are_to_spread_are_counted_by_their_own_labels(helm: Helm) -> None:
    spread = [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"} for key in ("zone", "example.org/rack")
    ]
    settings = {"storage.url": BUCKET, "topologySpreadConstraints": spread, "api.topologySpreadConstraints": spread}
    manifests = helm.template(nested(settings))

    for name in (DEPLOYMENT, API):
        selector = at(manifests, name, "spec.selector")
        expected = [constraint | {"labelSelector": selector} for constraint in spread]
        assert at(manifests, name, f"{POD}.topologySpreadConstraints") == expected


@pytest.mark.parametrize(
    ("settings", "budgeted"),
    [
        # With one, a drained node would keep its second pod for ever: the first one's replacement must be beside it.
        ({"api.replicas": 2}, set()),
        ({"replicas": 1, "storage.url": BUCKET}, set()),
        ({"storage.persistence.accessModes": ["ReadWriteMany"]}, {BUDGET}),
        ({"storage.url": BUCKET}, {BUDGET}),
        ({"storage.url": BUCKET, "api.replicas": 2}, {BUDGET, BUDGET_OF_API}),
        ({"storage.url": BUCKET, "api.replicas": 2, "api.enabled": False}, {BUDGET}),
        ({"storage.url": BUCKET, "api.replicas": 2, "replicas": 1}, {BUDGET_OF_API}),
    ],
)
def test_a_disruption_budget_keeps_one_of_several_nodes_replicas(
    helm: Helm, settings: dict[str, Any], budgeted: set[str]
) -> None:
    manifests = helm.template(nested(settings))

    assert {name for name in manifests if name.startswith("PodDisruptionBudget")} == budgeted
    for name in budgeted:
        selector = SELECTOR | ({"app.kubernetes.io/component": "api"} if name == BUDGET_OF_API else {})
        assert at(manifests, name, "spec") == {
            "minAvailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": selector},
        }


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
    ("secrets", "of_the_api"),
    [
        ({"storage.s3.existingSecret": "writer"}, "writer"),
        ({"storage.s3.existingSecret": "writer", "api.existingSecret": "reader"}, "reader"),
        ({"api.existingSecret": "reader"}, "reader"),
    ],
)
def test_the_api_may_have_keys_of_its_own(helm: Helm, secrets: dict[str, str], of_the_api: str) -> None:
    manifests = helm.template(nested({"storage.url": BUCKET, **secrets}))

    for container, secret in (
        ((DEPLOYMENT, CONTAINER), secrets.get("storage.s3.existingSecret")),
        ((API, f"{POD}.containers.api"), of_the_api),
    ):
        name, path = container
        env = at(manifests, name, f"{path}.env")
        keys = [variable["valueFrom"]["secretKeyRef"] for variable in env if variable["name"].startswith("AWS_")]
        assert [key["name"] for key in keys] == ([] if secret is None else [secret] * 3)


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
        ({"api.existingSecret": "keys"}, "api.existingSecret is set, but storage.url is file:///", "s3://bucket"),
        ({"serviceAccount.name": "a", "api.serviceAccount.name": "a"}, "both mean a, but .* rights", "two names"),
        ({"serviceAccount.name": f"{NAME}-api"}, f"both mean {NAME}-api, but", "two names"),
        *(
            ({"storage.url": f"file://{path}"}, f"at {path} the container has other files", "file:///var/lib/mapreduce")
            for path in [
                "/tmp",  # noqa: S108
                "/opt",
                "/opt/mapreduce-operator",
                "/opt/mapreduce-operator/data",
                "/var",
                "/var/run/data",
                "/etc",
                "/usr/lib",
                "/lib64",
            ]
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
        {"storage.url": "file:///opt/mapreduce-operator-data"},
        {"storage.url": "file:///library"},
        # Shared by a decision of yours, with rights that you bind: the chart creates one of the two, or none.
        {"serviceAccount.name": "a", "api.serviceAccount.name": "a", "api.serviceAccount.create": False},
        {"serviceAccount.name": f"{NAME}-api", "api.enabled": False},
        {"storage.url": "s3://bucket/a/b_c/d.e", "storage.s3.endpoint": "https://[fd00::1]:8333/"},
    ],
)
def test_values_that_go_together_are_taken(helm: Helm, settings: dict[str, Any]) -> None:
    assert DEPLOYMENT in helm.template(nested(settings))


def values_of_documents() -> Iterator[Any]:
    """Every block of Helm values in the documents: YAML that is no manifest, nor a part of one."""
    for document in [PROJECT / "README.md", CHART / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```yaml\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
            values = yaml.safe_load(block)
            if not {"kind", "spec"} & values.keys():
                yield pytest.param(values, id=f"{document.name}:{','.join(values)}")


def test_the_documents_have_values() -> None:
    assert len(list(values_of_documents())) >= 3


@pytest.mark.parametrize("values", list(values_of_documents()))
def test_values_in_the_documents_are_taken(helm: Helm, values: Values) -> None:
    assert DEPLOYMENT in helm.template(values)
