"""Who may do what."""

import json
from typing import Final

import pytest

from tests.unit.chart.rendering import (
    CLUSTER_SCOPED,
    CONTAINER,
    DEPLOYMENT,
    NAME,
    NAMESPACE,
    Helm,
    Manifests,
    at,
    nested,
    rules,
)

OPERATOR_RULES: Final = {
    ("mapreduce.dev", "mapreducejobs"): ["get", "list", "watch", "patch", "delete"],
    ("mapreduce.dev", "mapreducejobs/status"): ["patch"],
    ("mapreduce.dev", "mapreducejobs/finalizers"): ["update"],
    ("mapreduce.dev", "deadletterqueues"): ["create", "get", "list", "watch", "patch", "delete"],
    ("mapreduce.dev", "deadletterqueues/status"): ["patch"],
    ("mapreduce.dev", "redrives"): ["get", "list", "watch", "delete"],
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
# What the read-only API tells.
TOLD: Final = {
    ("mapreduce.dev", "mapreducejobs/items"): ["get"],
    ("mapreduce.dev", "mapreducejobs/results"): ["get"],
    ("mapreduce.dev", "mapreducejobs/checkpoints"): ["get"],
    ("mapreduce.dev", "deadletterqueues/letters"): ["get"],
}
VIEW_RULES: Final = {
    ("mapreduce.dev", "mapreducejobs"): READ,
    ("mapreduce.dev", "mapreducejobs/status"): ["get"],
    ("mapreduce.dev", "mapreducejobs/scale"): ["get"],
    ("mapreduce.dev", "deadletterqueues"): READ,
    ("mapreduce.dev", "deadletterqueues/status"): ["get"],
    ("mapreduce.dev", "redrives"): READ,
    ("mapreduce.dev", "redrives/status"): ["get"],
    **TOLD,
}
EDIT_RULES: Final = VIEW_RULES | {
    ("mapreduce.dev", "mapreducejobs"): [*READ, "create", *CHANGE],
    ("mapreduce.dev", "mapreducejobs/scale"): ["get", "update", "patch"],
    ("mapreduce.dev", "deadletterqueues"): [*READ, *CHANGE],
    ("mapreduce.dev", "redrives"): [*READ, "create", *CHANGE],
}


def test_no_rule_has_a_wildcard(defaults: Manifests, own_namespace: Manifests) -> None:
    roles = [
        manifest
        for manifest in [*defaults.values(), *own_namespace.values()]
        if manifest["kind"] in {"Role", "ClusterRole"}
    ]

    assert len(roles) == 16
    assert "*" not in json.dumps([role["rules"] for role in roles])


def test_operator_has_exactly_these_rights(defaults: Manifests) -> None:
    assert rules(defaults, f"ClusterRole/{NAME}") == OPERATOR_RULES

    binding = at(defaults, f"ClusterRoleBinding/{NAME}")
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]


def test_users_rights_are_part_of_the_clusters_own_roles(defaults: Manifests) -> None:
    assert rules(defaults, f"ClusterRole/{NAME}-view") == VIEW_RULES
    # Whoever has the role edit has view's rights, too.
    assert rules(defaults, f"ClusterRole/{NAME}-edit") | TOLD == EDIT_RULES

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


def test_the_api_asks_who_somebody_is_and_reads_two_kinds(defaults: Manifests, own_namespace: Manifests) -> None:
    for manifests, kind in ((defaults, "ClusterRole"), (own_namespace, "Role")):
        assert rules(manifests, f"{kind}/{NAME}-api") == {
            ("mapreduce.dev", "mapreducejobs"): ["get"],
            ("mapreduce.dev", "deadletterqueues"): ["get"],
        }
        assert rules(manifests, f"ClusterRole/{NAME}-api-access") == {
            ("authentication.k8s.io", "tokenreviews"): ["create"],
            ("authorization.k8s.io", "subjectaccessreviews"): ["create"],
        }
        assert rules(manifests, f"{kind}/{NAME}-reader") == TOLD
        for name in (f"{kind}Binding/{NAME}-api", f"ClusterRoleBinding/{NAME}-api-access"):
            subject = {"kind": "ServiceAccount", "name": f"{NAME}-api", "namespace": NAMESPACE}
            assert at(manifests, name, "subjects") == [subject]


def test_users_of_the_api_reach_its_pods_by_a_role_that_nobody_has_yet(
    defaults: Manifests, own_namespace: Manifests
) -> None:
    name = f"Role/{NAME}-api-users"
    for manifests in (defaults, own_namespace):
        assert at(manifests, name, "metadata.namespace") == NAMESPACE
        assert rules(manifests, name) == {("", "pods"): ["get", "list"], ("", "pods/portforward"): ["get", "create"]}
        bindings = [manifest for manifest in manifests.values() if manifest["kind"].endswith("Binding")]
        assert f"{NAME}-api-users" not in {binding["roleRef"]["name"] for binding in bindings}


def test_with_a_namespace_to_watch_the_rights_end_there(own_namespace: Manifests) -> None:
    of_the_cluster = {name for name, manifest in own_namespace.items() if manifest["kind"] in CLUSTER_SCOPED}
    assert {name for name in of_the_cluster if not name.startswith("CustomResourceDefinition/")} == {
        f"ClusterRole/{NAME}-api-access",
        f"ClusterRoleBinding/{NAME}-api-access",
    }
    assert rules(own_namespace, f"Role/{NAME}") == OPERATOR_RULES
    assert at(own_namespace, f"Role/{NAME}", "metadata.namespace") == "team-a"

    binding = at(own_namespace, f"RoleBinding/{NAME}")
    assert binding["metadata"]["namespace"] == "team-a"
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}]
