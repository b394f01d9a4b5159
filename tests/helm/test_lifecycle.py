"""A release from its installation to its end, with jobs at work meanwhile."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.sandbox import GATED_OK, Body, Sandbox, condition, job
from tests.helm.release import CHART, Release, Values

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

ITEMS = ["gated a", "gated b", "c", "d"]
PODS = "--selector=app.kubernetes.io/instance=mapreduce-operator,app.kubernetes.io/component in (operator, api)"
CLAIM = "pvc/mapreduce-operator"
ONCE_EACH = {"total": 4, "interruptions": 0, "retries": 0}


def slow_job(name: str) -> Body:
    """One whose first two agents wait at their gates, and the other two items for them."""
    input_ = {"items": ITEMS, "idExpression": "item"}
    return job(name, [], GATED_OK, map_={"maxParallel": 2}, input=input_)


def pods_of(release: Release, place: Sandbox) -> set[str]:
    return set(place.kubectl("get", "pods", PODS, "--output=name", f"--namespace={release.namespace}").split())


def pods_in_place_of(before: set[str], release: Release, place: Sandbox) -> set[str]:
    """Those that took the places of all of them."""
    place.kubectl("wait", "--for=delete", *before, f"--namespace={release.namespace}", "--timeout=180s")
    after = pods_of(release, place)
    assert len(after) == len(before)
    return after


def uids(pods: list[Any]) -> set[str]:
    return {pod.metadata.uid for pod in pods}


def next_version(folder: Path) -> Path:
    """The chart as it might be one version later: a resource shows another column."""
    chart = folder / CHART.name
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    about.write_text(about.read_text().replace("\nversion: ", "\nversion: 1"))
    path = chart / "files" / "crds" / "mapreduce.dev_mapreducejobs.yaml"
    crd = yaml.safe_load(path.read_text())
    column = {"name": "Uid", "type": "string", "jsonPath": ".metadata.uid", "priority": 1}
    crd["spec"]["versions"][0]["additionalPrinterColumns"].append(column)
    path.write_text(yaml.safe_dump(crd))
    return chart


def test_an_upgrade_and_a_rollback_do_not_disturb_a_job(
    release: Release, deployed: Values, place: Sandbox, tmp_path: Path
) -> None:
    name = place.create(slow_job("upgraded"))
    agents = place.until_at_work(name, *ITEMS[:2])
    before = pods_of(release, place)

    release.upgrade({**deployed, "podAnnotations": {"example.org/now": "new"}}, chart=next_version(tmp_path))

    between = pods_in_place_of(before, release, place)
    assert "UID" in place.kubectl("get", "mrj", "--output=wide")
    assert uids(place.until_at_work(name, *ITEMS[:2])) == uids(agents)
    place.open_gates(agents[:1])
    place.until_succeeded(name, 3)

    release.rollback()

    pods_in_place_of(between, release, place)
    assert release.values() == deployed
    assert "UID" not in place.kubectl("get", "mrj", "--output=wide")
    place.open_gates(agents[1:])
    status = place.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == ONCE_EACH


def test_helm_test_runs_a_job_and_leaves_nothing(release: Release, place: Sandbox) -> None:
    assert "succeeded, and is deleted" in release.test()

    left = place.kubectl("get", "mrj,pods,roles", "--output=name", f"--namespace={release.namespace}")
    assert "test" not in left


def test_the_pods_meet_the_restricted_standard(release: Release) -> None:
    """The API server says what it would have against the pods that are there."""
    label = ["label", "namespace", release.namespace, "pod-security.kubernetes.io/enforce=restricted", "--overwrite"]
    command = ["kubectl", *label, "--dry-run=server"]
    done = subprocess.run(command, check=False, text=True, capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_uninstallation_leaves_is_gone_on_with(release: Release, deployed: Values, place: Sandbox) -> None:
    name = place.create(slow_job("outlived"))
    agents = place.until_at_work(name, *ITEMS[:2])

    release.uninstall()

    assert pods_of(release, place) == set()
    assert "Bound" in place.kubectl("get", CLAIM, f"--namespace={release.namespace}")
    assert place.status(name)["phase"] == "Map"
    assert uids(place.until_at_work(name, *ITEMS[:2])) == uids(agents)
    # An agent that ends now does so with nobody to see it.
    place.open_gates(agents[:1])
    place.kubectl("wait", "--for=condition=Complete", f"job/{agents[0].metadata.labels['job-name']}", "--timeout=180s")

    release.install(deployed)

    place.until_succeeded(name, 3)
    place.open_gates(agents[1:])
    status = place.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == ONCE_EACH


@pytest.fixture
def alone(release: Release, deployed: Values) -> Body:
    """The cluster without the release of `make deploy`; the image that it had."""
    release.uninstall()
    image: Body = deployed["image"]
    return image


def test_a_release_for_one_namespace_leaves_the_others_alone(
    alone: Body, sandbox: Sandbox, watched: Sandbox, elsewhere: Sandbox
) -> None:
    small = Release("small", sandbox.namespace)
    small.install(
        {
            "image": alone,
            "replicas": 1,
            "crds": {"install": False},
            "operator": {"watchNamespace": watched.namespace},
            "storage": {"persistence": {"enabled": False}},
            "api": {"enabled": False},
            "networkPolicy": {"enabled": True},
        }
    )
    unseen = elsewhere.create(job("unseen", ITEMS, "exit 1"))
    name = watched.create(job("seen", ITEMS[2:], GATED_OK))

    assert watched.until_finished(name)["phase"] == "Succeeded"
    assert elsewhere.status(unseen) == {"observedGeneration": -1}
    account = f"--as=system:serviceaccount:{sandbox.namespace}:small-mapreduce-operator"
    watched.kubectl("get", "mrj,jobs,pods", account)
    for kind in ("mrj", "jobs", "pods"):
        assert "is forbidden" in elsewhere.refused("get", kind, account).lower()
    roles = watched.kubectl("get", "clusterroles", "--selector=app.kubernetes.io/instance=small", "--output=name")
    assert roles == ""
    assert f"mapreducejobs {watched.namespace}/small-mapreduce-operator-test-" in small.test()
    watched.kubectl("delete", "mrj", "--all", "--timeout=180s")
    small.uninstall()


def test_with_no_values_it_is_ready_for_jobs(alone: Body, release: Release, sandbox: Sandbox) -> None:
    # From nothing: the claim is bound to a node that this release would not run on.
    sandbox.kubectl("delete", CLAIM, "lease/mapreduce-operator", f"--namespace={release.namespace}", "--timeout=180s")

    # No registry has the image: where the nodes do not have it by the chart's name for it, they must be told.
    release.install({} if alone["repository"] == "mapreduce-operator" else {"image": alone})

    name = sandbox.create(job("first", ITEMS[2:], GATED_OK))
    assert condition(sandbox.until_finished(name), "Complete")["status"] == "True"
    assert "succeeded, and is deleted" in release.test()
    sandbox.kubectl("delete", "mrj", "--all", "--timeout=180s")
    release.uninstall()
