"""The chart as a whole: what it consists of, its CRDs, its trial, its notes."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml

from mapreduce_operator.api import MapReduceJobSpec, RedriveSpec
from tests.unit.chart.rendering import (
    ALONE,
    API,
    BUCKET,
    CHART,
    CLAIM,
    CLUSTER_SCOPED,
    CRD,
    DEPLOYMENT,
    NAME,
    NAMESPACE,
    PROJECT,
    SERVICE_ACCOUNT,
    TRIAL,
    Helm,
    Manifests,
    at,
    nested,
    rules,
)


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
            API,
            f"ClusterRole/{NAME}-api",
            f"ClusterRole/{NAME}-api-access",
            f"ClusterRoleBinding/{NAME}-api",
            f"ClusterRoleBinding/{NAME}-api-access",
            f"ServiceAccount/{NAME}-api",
            f"Role/{NAME}-api-users",
            f"ClusterRole/{NAME}-reader",
            f"ClusterRoleBinding/{NAME}-reader",
            f"ServiceAccount/{NAME}-reader",
            f"Pod/{NAME}-test",
            f"Role/{NAME}-test",
            f"RoleBinding/{NAME}-test",
            f"ServiceAccount/{NAME}-test",
        ]
    )


def component(name: str) -> str:
    """Of the release, by the end of an object's name."""
    of_api = name.removesuffix("-access").removesuffix("-users")
    return next((part for part in ("test", "api", "reader") if of_api.endswith(f"-{part}")), "operator")


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
    done = helm.run(
        *arguments,
        values=nested(
            {
                "fullnameOverride": "runner",
                "priorityClassName": "90",
                "serviceAccount.name": "12",
                "api.serviceAccount.name": "34",
            }
        ),
    )
    manifests = list(yaml.safe_load_all(done.stdout))

    assert {manifest["metadata"]["labels"]["app.kubernetes.io/instance"] for manifest in manifests} == {"1234"}
    assert {manifest["metadata"].get("namespace") for manifest in manifests} == {None, "5678"}
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if manifest["kind"] == "Deployment"]
    assert {(pod["priorityClassName"], pod["serviceAccountName"]) for pod in pods} == {("90", "12"), ("90", "34")}


@pytest.mark.parametrize(("release", "name"), [("1234", f"1234-{NAME}"), ("team.runner", f"team.runner-{NAME}")])
def test_a_release_whose_name_a_service_cannot_have_is_told_what_to_do(helm: Helm, release: str, name: str) -> None:
    refused = helm.run("template", release, str(CHART))
    taken = helm.run("template", release, str(CHART), values={"fullnameOverride": "runner"})

    assert refused.returncode != 0
    assert f"objects would be called {name}, after the release" in refused.stderr
    assert "set fullnameOverride" in refused.stderr
    assert taken.returncode == 0, taken.stderr


def test_chart_may_be_part_of_another_that_can_leave_it_out(helm: Helm, tmp_path: Path, defaults: Manifests) -> None:
    dependency = {"name": CHART.name, "version": "0.1.0", "condition": f"{CHART.name}.enabled"}
    platform = {"apiVersion": "v2", "name": "platform", "version": "1.0.0", "dependencies": [dependency]}
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(platform))
    shutil.copytree(CHART, tmp_path / "charts" / CHART.name)

    assert helm.template({"global": {"storageClass": "x"}}, chart=tmp_path) == defaults
    assert helm.template({CHART.name: {"enabled": True}}, chart=tmp_path) == defaults
    assert helm.template({CHART.name: {"enabled": False}}, chart=tmp_path) == {}


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


def test_the_charts_description_has_examples_that_are_taken_and_its_image() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    job, redrive = yaml.safe_load(chart["annotations"]["artifacthub.io/crdsExamples"])

    assert MapReduceJobSpec.model_validate(job["spec"]).input.items == (1, 2, 3)
    assert RedriveSpec.model_validate(redrive["spec"]).queue == job["metadata"]["name"]
    (image,) = yaml.safe_load(chart["annotations"]["artifacthub.io/images"])
    assert image["image"] == f"{NAME}:{chart['appVersion']}"


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


def test_the_trials_pods_are_taken_where_pods_must_have_labels_and_resources(helm: Helm) -> None:
    given = {"podLabels": {"team": "a", "app.kubernetes.io/name": "other"}, "podAnnotations": {"inject": "false"}}
    manifests = helm.template(given)

    assert at(manifests, TRIAL, "metadata.labels").items() >= {"team": "a", "app.kubernetes.io/name": NAME}.items()
    annotations = at(manifests, TRIAL, "metadata.annotations")
    assert (annotations["inject"], annotations["helm.sh/hook"]) == ("false", "test")
    _, text = at(manifests, TRIAL, "spec.containers.trial.args")
    spec = json.loads(text)["spec"]
    MapReduceJobSpec.model_validate(spec)
    agents = spec["map"]["template"]
    assert agents["metadata"] == {"labels": given["podLabels"], "annotations": given["podAnnotations"]}
    for container in (at(manifests, TRIAL, "spec.containers.trial"), agents["spec"]["containers"][0]):
        resources = container["resources"]
        assert resources["requests"].keys() == {"cpu", "memory"}
        assert resources["limits"].keys() == {"memory"}


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
    assert f"helm -n {NAMESPACE} test {NAME}" in helm.notes({})
    assert "kubectl mapreduce results licence-words" in helm.notes({})
    assert "kubectl mapreduce" not in helm.notes(nested({"api.enabled": False}))
    assert "kubectl -n team-a get mrj --watch" in helm.notes(nested({"operator.watchNamespace": "team-a"}))


def test_notes_say_that_the_image_must_be_pushed_first(helm: Helm) -> None:
    assert f"Its image, {NAME}:0.1.0, is in no registry" in helm.notes({})
    for settings in ({"image.repository": "registry.example.org/mine"}, {"global.imageRegistry": "example.org"}):
        assert "is in no registry" not in helm.notes(nested(settings))


def test_notes_say_how_people_reach_the_api(helm: Helm) -> None:
    there = helm.notes({})
    assert f"kubectl -n {NAMESPACE} create rolebinding {NAME}-api-users --role={NAME}-api-users --group=GROUP" in there
    assert "MAPREDUCE_OPERATOR_NAMESPACE" not in there
    assert "create rolebinding" not in helm.notes(nested({"rbac.create": False}))

    elsewhere = helm.notes({}, namespace="batch")
    assert "export MAPREDUCE_OPERATOR_NAMESPACE=batch " in elsewhere
    assert "kubectl -n batch create rolebinding" in elsewhere
    assert "MAPREDUCE_OPERATOR_NAMESPACE" not in helm.notes(nested({"api.enabled": False}), namespace="batch")


def test_notes_say_what_stays_behind(helm: Helm) -> None:
    kept = helm.notes({})
    for plural in ("mapreducejobs", "deadletterqueues", "redrives"):
        assert f"delete crd {plural}.mapreduce.dev" in kept
    assert f"delete pvc {NAME}" in kept
    assert f"delete lease {NAME}" in kept

    nothing = helm.notes({"crds": {"keep": False}, "storage": {"persistence": {"retain": False}}})
    assert "delete crd" not in nothing
    assert "delete pvc" not in nothing
