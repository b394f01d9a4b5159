"""What may change during the life of a job, and what may not."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client

from mapreduce_operator.api import (
    POSITIONS_MAX_LENGTH,
    CheckpointStatus,
    Condition,
    ConditionStatus,
    FailureSummary,
    ItemCounts,
    ItemState,
    LineageStatus,
    MapReduceJobStatus,
    Phase,
    PlanStatus,
    ReduceStatus,
    RestartPhase,
    RestartStatus,
    RestoreStatus,
    StagePositions,
    StatePositions,
    TemplateRevisions,
)
from tests.integration.api.conftest import Objects, refusal

pytestmark = pytest.mark.cluster

TEMPLATE: dict[str, Any] = {"spec": {"containers": [{"name": "agent", "image": "debian"}]}}
SPEC: dict[str, Any] = {
    "input": {"items": [{"file": "GPL-3"}, {"file": "BSD"}], "idExpression": "item.file"},
    "map": {"template": TEMPLATE},
}
PLAN = PlanStatus(items=2, sha256="0" * 64, prefix="default/words/5d1f/")
PLANNED = MapReduceJobStatus(phase=Phase.MAP, plan=PLAN)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def assert_input_is_fixed(refused: pytest.ExceptionInfo[client.ApiException]) -> None:
    assert refused.value.status == 422
    assert "spec.input: Forbidden: spec.input cannot be changed" in json.loads(refused.value.body or "")["message"]


@pytest.mark.parametrize(
    "change",
    [
        {"items": [{"file": "GPL-3"}]},
        {"items": [{"file": "GPL-3"}, {"file": "MIT"}]},
        {"items": None, "configMapRef": {"name": "items", "key": "items.json"}},
        {"items": None, "object": {"key": "items.json"}},
        {"filter": "item.file != ''"},
        {"orderBy": [{"expression": "item.file"}]},
        {"offset": 1},
        {"limit": 1},
        {"idExpression": "item.file + 'x'"},
        {"idExpression": None},
        {"onDuplicate": "KeepFirst"},
        {"emptyPolicy": "Fail"},
        {"maxItems": 10},
    ],
)
def test_input_can_be_corrected_until_it_is_planned_and_not_afterwards(
    jobs: Objects, request: pytest.FixtureRequest, change: dict[str, Any]
) -> None:
    name = f"corrected-{request.node.callspec.indices['change']}"
    jobs.create(name, SPEC)
    jobs.patch_status(name, {"phase": "Planning", "conditions": []})
    jobs.patch(name, {"input": change})
    jobs.patch(name, {"input": {"items": None, "configMapRef": None, "object": None} | SPEC["input"]})
    jobs.patch(name, {"input": {"onDuplicate": "Fail", "emptyPolicy": "Succeed", "maxItems": None}})
    jobs.patch(name, {"input": {"filter": None, "orderBy": [], "offset": 0, "limit": None}})

    jobs.patch_status(name, PLANNED.to_kubernetes())

    with pytest.raises(client.ApiException) as refused:
        jobs.patch(name, {"input": change})
    assert_input_is_fixed(refused)


def test_everything_else_stays_open_to_correction(jobs: Objects) -> None:
    jobs.create("open", SPEC)
    jobs.patch_status("open", PLANNED.to_kubernetes())
    corrected = {"spec": {"containers": [{"name": "agent", "image": "debian:bookworm", "command": ["true"]}]}}

    for change in (
        {"map": {"template": corrected}},
        {"map": {"maxParallel": 500, "timeoutSeconds": 60}},
        {"map": {"retry": {"maxAttempts": 9, "rules": [{"action": "DoNotRetry", "onExitCodes": [3]}]}}},
        {"map": {"result": {"required": False}}},
        {"reduce": {"template": TEMPLATE}},
        {"reduce": {"template": corrected, "runWhen": "Always"}},
        {"reduce": None},
        {"checkpoint": {"everyItems": 7, "enabled": False, "keep": 3, "pinned": [1]}},
        {"restore": {"checkpoint": 1}, "resumePolicy": {"includeFailed": False}},
        {"restart": {"phase": "Map", "token": "1"}},
        {"params": {"model": "large"}, "activeDeadlineSeconds": 60},
        {"retention": {"onDelete": "Keep"}},
        {"successPolicy": {"minSuccessRatio": 0.9}},
        {"suspend": True, "suspendPolicy": "Interrupt"},
        {"input": SPEC["input"]},
    ):
        jobs.patch("open", change)

    assert jobs.get("open")["metadata"]["generation"] == 15


FORK: dict[str, Any] = {
    "job": {"name": "words"},
    "edits": {"items": [{"id": "a", "patch": {"deep": [{"of": 1}]}}, {"add": {"deep": [{"of": 2}]}}]},
}


@pytest.mark.parametrize(
    "change",
    [
        {"job": {"name": "others"}},
        {"job": {"uid": "5d1f"}},
        {"checkpoint": 3},
        {"edits": {"items": None}},
        {"edits": {"items": [FORK["edits"]["items"][0], {"add": {"deep": [{"of": 3}]}}]}},
        {"edits": {"params": {"model": "large"}}},
        {"edits": {"template": {"spec": {}}}},
    ],
)
def test_a_fork_can_be_corrected_until_it_is_planned_and_not_afterwards(
    jobs: Objects, request: pytest.FixtureRequest, change: dict[str, Any]
) -> None:
    name = f"fork-{request.node.callspec.indices['change']}"
    jobs.create(name, {"forkFrom": FORK})
    jobs.patch_status(name, {"phase": "Planning", "conditions": []})
    jobs.patch(name, {"forkFrom": change})
    jobs.patch(name, {"forkFrom": None, "input": {"items": [1]}, "map": {"template": TEMPLATE}})
    jobs.patch(name, {"forkFrom": FORK, "input": {"items": None}})

    jobs.patch_status(name, PLANNED.to_kubernetes())

    jobs.patch(name, {"forkFrom": FORK, "map": {"maxParallel": 3}, "params": {"model": "large"}})
    with pytest.raises(client.ApiException, match=r"create another fork") as refused:
        jobs.patch(name, {"forkFrom": change})
    assert "spec.forkFrom: Forbidden: spec.forkFrom cannot be changed" in refusal(refused.value)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SPEC, {"forkFrom": FORK, "input": {"items": None}}),
        ({"forkFrom": FORK, "map": SPEC["map"]}, {"forkFrom": None, "input": {"items": [1]}}),
    ],
    ids=["to", "from"],
)
def test_a_planned_job_cannot_become_a_fork_nor_a_fork_another_job(
    jobs: Objects, request: pytest.FixtureRequest, before: dict[str, Any], after: dict[str, Any]
) -> None:
    name = f"becomes-{request.node.callspec.id}"
    jobs.create(name, before)
    jobs.patch_status(name, PLANNED.to_kubernetes())

    with pytest.raises(client.ApiException) as refused:
        jobs.patch(name, after)
    assert "spec.forkFrom: Forbidden: spec.forkFrom cannot be changed" in refusal(refused.value)


def test_the_map_of_a_fork_cannot_be_taken_away_from_another_job(jobs: Objects) -> None:
    jobs.create("bare", SPEC)

    with pytest.raises(client.ApiException, match="map must be given"):
        jobs.patch("bare", {"map": None})


@pytest.mark.parametrize("given", [{}, {"deadLetter": {}}, {"deadLetter": {"capacity": 5}}])
def test_dead_letter_can_be_changed_until_there_is_a_queue(
    jobs: Objects, request: pytest.FixtureRequest, given: dict[str, Any]
) -> None:
    name = f"queued-{request.node.callspec.indices['given']}"
    jobs.create(name, SPEC | given)
    jobs.patch_status(name, PLANNED.to_kubernetes())
    jobs.patch(name, {"deadLetter": {"capacity": 7, "onFull": "Fail"}})
    jobs.patch(name, {"deadLetter": {"capacity": None, "onFull": "Pause"} | given.get("deadLetter", {})})

    jobs.patch_status(name, {"deadLetters": {"queue": name, "open": 1}})

    jobs.patch(name, {"map": {"maxParallel": 3}, "failurePolicy": {"maxFailures": 7}})
    jobs.patch(name, given)
    for change in ({"capacity": 6}, {"capacity": 5, "onFull": "Fail"}, {"retentionSeconds": 9, "purgeOpen": True}):
        with pytest.raises(client.ApiException, match="change that instead") as refused:
            jobs.patch(name, {"deadLetter": change})
        assert "spec.deadLetter: Forbidden" in refusal(refused.value)


def test_a_job_applied_again_as_it_was_is_accepted_after_it_has_a_queue(jobs: Objects) -> None:
    jobs.create("applied-again", SPEC)
    jobs.patch_status("applied-again", {"deadLetters": {"queue": "applied-again", "open": 1}})

    found = jobs.get("applied-again")
    del found["spec"]["deadLetter"]

    assert jobs.replace("applied-again", found)["spec"]["deadLetter"] == {"onFull": "Pause", "purgeOpen": False}


def test_a_large_job_can_be_updated_and_a_change_of_its_last_item_is_noticed(jobs: Objects) -> None:
    items = [{"file": f"/src/module_{number:05d}.py", "deep": [{"of": number}]} for number in range(5000)]
    jobs.create("large", SPEC | {"input": {"items": items}})
    jobs.patch_status("large", PLANNED.to_kubernetes())

    jobs.patch("large", {"map": {"maxParallel": 50}})
    jobs.patch_status("large", {"progress": "1/5000"})

    items[-1]["deep"] = [{"of": -1}]
    with pytest.raises(client.ApiException) as refused:
        jobs.patch("large", {"input": {"items": items}})
    assert_input_is_fixed(refused)


def test_the_largest_status_is_accepted_and_comes_back_as_it_was(jobs: Objects) -> None:
    wordy = "ö" * 9000
    status = MapReduceJobStatus(
        observed_generation=1,
        phase=Phase.PARTIALLY_SUCCEEDED,
        reason="SomeItemsDeadLettered",
        progress="100000/100000",
        active=10_000,
        selector="mapreduce.dev/run-uid=5d1f",
        start_time=NOON,
        completion_time=NOON,
        plan=PLAN,
        items=ItemCounts(total=100_000, dead_lettered=100_000),
        positions=StagePositions(
            map=StatePositions(**dict.fromkeys(StatePositions.model_fields, "1" * POSITIONS_MAX_LENGTH))
        ),
        failures=(FailureSummary(reason=wordy, count=10**9, sample_item_id=wordy, message=wordy),) * 10,
        reduce=ReduceStatus(state=ItemState.DEAD_LETTERED, attempts=100, message=wordy),
        result={"words": None, "list": [None, {"a": 1.5}]},
        template_revisions=TemplateRevisions(map="abc", reduce="def"),
        checkpoint=CheckpointStatus(
            sequence=10**9,
            time=NOON,
            reason="PhaseChange",
            token="t" * 63,
            bytes=10**12,
            duration_seconds=0.125,
            kept="1," * 1024,
            stored_bytes=10**12,
        ),
        restore=RestoreStatus(checkpoint=10**9, token="t" * 63, time=NOON, sequence=10**9),
        restart=RestartStatus(phase=RestartPhase.REDUCE, token="t" * 63, time=NOON),
        lineage=LineageStatus(job="j" * 63, uid="u" * 64, checkpoint=10**9, depth=1000),
        storage="file:///var/lib/mapreduce",
        conditions=tuple(
            Condition(
                type=f"Type{number}",
                status=ConditionStatus.UNKNOWN,
                observed_generation=1,
                last_transition_time=NOON,
                reason="SomeReason",
                message=wordy,
            )
            for number in range(16)
        ),
    )
    jobs.create("largest", SPEC)

    # Not by a merge patch, which takes a null inside the result for a field to delete.
    stored = jobs.replace_status("largest", status.to_kubernetes())["status"]

    assert stored == status.to_kubernetes()
    assert MapReduceJobStatus.model_validate(stored) == status


def test_status_does_not_come_in_with_the_manifest_or_a_patch_of_the_spec(jobs: Objects) -> None:
    jobs.create("claims", SPEC)

    patched = jobs.patch("claims", {"suspend": True})

    assert patched["status"] == {"observedGeneration": -1}
