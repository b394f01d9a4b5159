"""What an action of Argo CD makes of an object as the API server has it, with its defaults and its managed fields."""

from typing import Any

import pytest

from tests.integration.api.conftest import Objects
from tests.unit.gitops import argocd
from tests.unit.gitops.scenes import CUSTOMIZATIONS, outcomes, scenes

pytestmark = pytest.mark.cluster

EDITS = {
    "suspend": {"suspend": True},
    "resume": {"suspend": False},
    "cancel": {"cancel": True},
    "restart-map": {"restart": {"phase": "Map", "token": "argocd-1"}, "cancel": False},
    "restart-reduce": {"restart": {"phase": "Reduce", "token": "argocd-1"}},
}
"""What is new in the spec of an object of generation 1."""


def live(jobs: Objects, action: str) -> Any:
    """The scene of an action, on the API server."""
    scene = scenes()["MapReduceJob", outcomes()["MapReduceJob", action][0]]
    jobs.create(action, scene["spec"])
    jobs.patch_status(action, scene["status"] | {"observedGeneration": 1})
    return jobs.get(action)


@pytest.mark.parametrize("action", EDITS)
def test_an_action_changes_its_field_and_no_other(jobs: Objects, action: str) -> None:
    before = live(jobs, action)

    after = argocd.patched(CUSTOMIZATIONS / "MapReduceJob", action, before)

    patch = argocd.merge_patch(before, after)
    assert patch == {"spec": EDITS[action]}
    assert jobs.patch(action, patch["spec"])["spec"] == before["spec"] | EDITS[action]


def test_a_checkpoint_is_asked_for_by_an_annotation_alone(jobs: Objects) -> None:
    before = live(jobs, "checkpoint")

    after = argocd.patched(CUSTOMIZATIONS / "MapReduceJob", "checkpoint", before)

    token = f"argocd-{before['metadata']['resourceVersion']}"
    assert argocd.merge_patch(before, after) == {"metadata": {"annotations": {"mapreduce.dev/checkpoint": token}}}


def test_the_redrive_of_an_action_is_one_that_the_api_server_takes(jobs: Objects, redrives: Objects) -> None:
    redrive = argocd.created(CUSTOMIZATIONS / "MapReduceJob", "redrive-all", live(jobs, "redrive-all"))

    assert redrives.create(redrive["metadata"]["name"], redrive["spec"], dry_run=True)["spec"]["queue"] == "demo"
