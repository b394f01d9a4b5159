"""Each right that a release gives its service accounts is used, and nothing is asked for that it does not give."""

import json
import logging
import os
import subprocess
import uuid
from pathlib import Path
from typing import Final

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, KubeconfigCredentials
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.e2e.sandbox import GATED_OK, REDRIVES, Sandbox, job, redrive
from tests.helm.release import Release
from tests.helm.rights import CLUSTER, Right, asked, granted

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)

ACCOUNTS: Final = ["mapreduce-operator", "mapreduce-operator-api", "mapreduce-operator-test"]
FINALIZERS: Final = Right("mapreduce.dev", "mapreducejobs/finalizers", "update")
"""No request is for it: the API server looks for it when a Job is created whose owner waits for its deletion."""


@pytest.fixture(scope="module", autouse=True)
def local_cluster() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
    done = subprocess.run([CLUSTER, "kubeconfig"], env=environment, check=True, capture_output=True, timeout=60)
    if os.environ.get("KUBECONFIG") != done.stdout.decode().strip():
        pytest.skip("only the local cluster is known to have an audit log, and to guard owner references")


def test_each_pod_has_one_of_the_accounts(release: Release) -> None:
    pods = [one for one in release.manifests() if one["kind"] in {"Deployment", "Pod"}]
    specs = [pod["spec"].get("template", pod)["spec"] for pod in pods]

    assert sorted(spec["serviceAccountName"] for spec in specs) == ACCOUNTS


async def test_a_redrive_that_took_the_name_of_another_is_left_alone(
    release: Release, sandbox: Sandbox, tmp_path: Path
) -> None:
    """With the operator's account, since no user can be so fast that the operator itself comes to it each time."""
    token = sandbox.kubectl("create", "token", "mapreduce-operator", f"--namespace={release.namespace}").strip()
    kubeconfig = json.loads(sandbox.kubectl("config", "view", "--raw", "--minify", "--output=json"))
    kubeconfig["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    name = sandbox.create(redrive("again", "none", {"all": True}))
    status = sandbox.until(name, lambda status: status.get("phase") == "Waiting", of=REDRIVES)

    async with ApiSession(await KubeconfigCredentials.load(tmp_path / "kubeconfig")) as api:
        with pytest.raises(ClusterError) as caught:
            await KubeCluster(api).write_redrive_status(sandbox.namespace, name, str(uuid.uuid4()), {})

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND
    assert sandbox.status(name, REDRIVES) == status


@pytest.mark.parametrize("account", ACCOUNTS)
def test_each_right_is_used_and_no_other_is_needed(release: Release, account: str) -> None:
    may = granted(release.manifests(), account)
    did = asked(release.namespace).get(account, {})

    unused = may.keys() - did.keys() - {FINALIZERS}
    missing = did.keys() - may.keys()
    log.info("%s: %d rights given, %d asked for", account, len(may), len(did))
    assert may
    assert not unused | missing, "\n".join(
        (
            *(f"never used: {right}, given by {may[right]}" for right in sorted(unused)),
            *(f"not given: {right}, asked for by {did[right]}" for right in sorted(missing)),
            "The audit log goes back to the last `make e2e`; if that did not run in whole, rights look unused.",
        )
    )


def test_the_right_that_no_request_is_for_is_needed(release: Release, sandbox: Sandbox, tmp_path: Path) -> None:
    owner = sandbox.get(sandbox.create(job("owner", [1], GATED_OK, suspend=True)))
    reference = {key: owner[key] for key in ("apiVersion", "kind")} | {
        key: owner["metadata"][key] for key in ("name", "uid")
    }
    owned = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "owned", "ownerReferences": [reference | {"blockOwnerDeletion": True}]},
        "spec": {"template": {"spec": owner["spec"]["map"]["template"]["spec"] | {"restartPolicy": "Never"}}},
    }
    manifest = tmp_path / "job.json"
    manifest.write_text(json.dumps(owned))
    create = ("create", "--dry-run=server", f"--filename={manifest}")
    sandbox.kubectl("create", "role", "lesser", "--verb=create", "--resource=jobs")
    sandbox.kubectl("create", "rolebinding", "lesser", "--role=lesser", f"--serviceaccount={sandbox.namespace}:default")

    sandbox.kubectl(*create, f"--as=system:serviceaccount:{release.namespace}:mapreduce-operator")
    refused = sandbox.refused(*create, f"--as=system:serviceaccount:{sandbox.namespace}:default")

    assert "cannot set blockOwnerDeletion" in refused
