"""What a MapReduceJob means in Python: defaults, limits, and tolerance for what a newer operator wrote."""

import copy
import json
from typing import Any

import pytest
from pydantic import ValidationError

from mapreduce_operator.api import (
    BackoffType,
    EmptyPolicy,
    InputFormat,
    MapReduceJob,
    MapReduceJobSpec,
    OnDelete,
    OnDuplicate,
    Reason,
    RetryAction,
    RunWhen,
    SuspendPolicy,
)

TEMPLATE = {"spec": {"containers": [{"name": "agent", "image": "debian"}]}}
SMALLEST: dict[str, Any] = {
    "apiVersion": "mapreduce.dev/v1alpha1",
    "kind": "MapReduceJob",
    "metadata": {"name": "words", "namespace": "default", "uid": "5d1f", "generation": 2},
    "spec": {"input": {"items": [1]}, "map": {"template": TEMPLATE}},
}


def job_with(path: str, value: object) -> dict[str, Any]:
    """The smallest job with one field of its spec set, by its dotted path."""
    job = copy.deepcopy(SMALLEST)
    *parents, name = path.split(".")
    parent = job["spec"]
    for step in parents:
        parent = parent.setdefault(step, {})
    parent[name] = value
    return job


def test_what_is_not_given_has_the_documented_default() -> None:
    spec = MapReduceJob.model_validate(SMALLEST).spec

    assert spec.input.id_expression is None
    assert spec.input.max_items is None
    assert spec.input.on_duplicate is OnDuplicate.FAIL
    assert spec.input.empty_policy is EmptyPolicy.SUCCEED
    assert spec.map.max_parallel == 10
    assert spec.map.timeout_seconds == 3600
    assert spec.map.retry.max_attempts == 3
    assert spec.map.retry.max_interruptions == 10
    assert spec.map.retry.backoff.type is BackoffType.EXPONENTIAL
    assert spec.map.retry.backoff.initial_seconds == 10
    assert spec.map.retry.backoff.max_seconds == 300
    assert spec.map.retry.backoff.jitter == 0.2
    assert spec.map.retry.rules == ()
    assert spec.map.result.required
    assert spec.map.result.rule is None
    assert spec.reduce is None
    assert spec.success_policy.min_success_ratio == 0
    assert spec.checkpoint.every_items == 100
    assert spec.checkpoint.every_seconds == 1
    assert spec.checkpoint.enabled
    assert spec.checkpoint.keep == 10
    assert spec.checkpoint.pinned == set()
    assert (spec.restore, spec.restart, spec.fork_from) == (None, None, None)
    assert spec.resume_policy.include_failed
    assert spec.resume_policy.include_dead_letters
    assert spec.resume_policy.additional_attempts is None
    assert spec.params == {}
    assert spec.active_deadline_seconds is None
    assert spec.retention.on_delete is OnDelete.DELETE
    assert not spec.suspend
    assert spec.suspend_policy is SuspendPolicy.DRAIN


def test_a_reduce_has_the_defaults_of_a_map_and_runs_when_any_item_succeeded() -> None:
    spec = MapReduceJob.model_validate(job_with("reduce", {"template": TEMPLATE})).spec

    assert spec.reduce is not None
    assert spec.reduce.run_when is RunWhen.ANY_SUCCEEDED
    assert spec.reduce.retry == spec.map.retry
    assert spec.reduce.timeout_seconds == spec.map.timeout_seconds


def test_items_are_any_json_in_their_order() -> None:
    items = [{"file": "GPL-3", "deep": [{"a": None}]}, "text", 3, 2.5, True, None, [1, [2]], "", {}]

    assert MapReduceJob.model_validate(job_with("input.items", items)).spec.input.items == tuple(items)


def test_a_config_map_holds_a_json_array_unless_said_otherwise() -> None:
    job = MapReduceJob.model_validate(job_with("input", {"configMapRef": {"name": "items.v1", "key": "items.json"}}))

    assert job.spec.input.items is None
    assert job.spec.input.config_map_ref is not None
    assert job.spec.input.config_map_ref.format is InputFormat.JSON


def test_retry_rules_keep_their_order() -> None:
    rules = [
        {"action": "DoNotRetry", "onExitCodes": [3, 4]},
        {"action": "Retry", "onReasons": ["OOMKilled", "DeadlineExceeded"], "onExitCodes": [137]},
    ]
    never, always = MapReduceJob.model_validate(job_with("map.retry.rules", rules)).spec.map.retry.rules

    assert never.action is RetryAction.DO_NOT_RETRY
    assert never.on_exit_codes == {3, 4}
    assert never.on_reasons == set()
    assert always.action is RetryAction.RETRY
    assert always.on_reasons == {Reason.OOM_KILLED, Reason.DEADLINE_EXCEEDED}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input.items", [0] * 50_001),
        ("input.idExpression", "x" * 1025),
        ("input.idExpression", ""),
        ("input.maxItems", 0),
        ("input.maxItems", 100_001),
        ("input.onDuplicate", "Ignore"),
        ("input.emptyPolicy", "succeed"),
        ("input.configMapRef", {"name": "Upper", "key": "k"}),
        ("input.configMapRef", {"name": "a" * 254, "key": "k"}),
        ("input.configMapRef", {"name": "a", "key": "a/b"}),
        ("input.configMapRef", {"name": "a"}),
        ("map.maxParallel", -1),
        ("map.maxParallel", 10_001),
        ("map.timeoutSeconds", 0),
        ("map.timeoutSeconds", 604_801),
        ("map.retry.maxAttempts", 0),
        ("map.retry.maxAttempts", 101),
        ("map.retry.maxInterruptions", -1),
        ("map.retry.maxInterruptions", 1001),
        ("map.retry.backoff.type", "Random"),
        ("map.retry.backoff.initialSeconds", -1),
        ("map.retry.backoff.maxSeconds", 86_401),
        ("map.retry.backoff.jitter", 1.1),
        ("map.retry.rules", [{"action": "Retry", "onExitCodes": [0]}]),
        ("map.retry.rules", [{"action": "Retry", "onExitCodes": [256]}]),
        ("map.retry.rules", [{"action": "Retry", "onReasons": ["Evicted"]}]),
        ("map.retry.rules", [{"action": "Retry", "onReasons": ["Error"]}] * 21),
        ("map.retry.rules", [{"onReasons": ["Error"]}]),
        ("map.result.rule", "x" * 1025),
        ("map.template", {}),
        ("map.template", {"spec": {"containers": []}}),
        ("map.template", {"spec": {"containers": "agent"}}),
        ("map.template", {"spec": {"containers": [{"name": "agent"}]}}),
        ("map.template", {"spec": {"containers": [{"name": "agent", "image": "i", "command": "sh"}]}}),
        ("map.template", TEMPLATE | {"metadata": {"labels": {"a": "x" * 64}}}),
        ("map.template", {"spec": TEMPLATE["spec"] | {"restartPolicy": "OnFailure"}}),
        ("reduce", {"template": TEMPLATE, "runWhen": "Never"}),
        ("successPolicy.minSuccessRatio", 1.01),
        ("checkpoint.everyItems", 0),
        ("checkpoint.everySeconds", 3601),
        ("checkpoint.keep", 1),
        ("checkpoint.keep", 101),
        ("checkpoint.pinned", list(range(33))),
        ("checkpoint.pinned", [-1]),
        ("restore", {}),
        ("restore", {"checkpoint": -1}),
        ("restore", {"checkpoint": 1, "token": "x" * 64}),
        ("restart", {"phase": "Map"}),
        ("restart", {"phase": "Map", "token": ""}),
        ("restart", {"phase": "Map", "token": "x" * 64}),
        ("restart", {"phase": "Everything", "token": "1"}),
        ("resumePolicy.additionalAttempts", 0),
        ("params", {f"p{number}": 1 for number in range(65)}),
        ("params", [1]),
        ("activeDeadlineSeconds", 0),
        ("retention.onDelete", "Orphan"),
        ("suspendPolicy", "Kill"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_and_named(path: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        MapReduceJob.model_validate(job_with(path, value))

    assert {".".join(map(str, error["loc"])).startswith(f"spec.{path}") for error in refused.value.errors()} == {True}


def test_fields_of_a_newer_operator_are_ignored() -> None:
    newer = job_with("map.itemsPerBatch", 7) | {"status": {"phase": "Map", "novelty": {"a": 1}}}
    newer["spec"]["novelty"] = True

    job = MapReduceJob.model_validate(newer)

    assert job.spec == MapReduceJob.model_validate(SMALLEST).spec
    assert job.status is not None


def test_models_cannot_be_changed() -> None:
    job = MapReduceJob.model_validate(SMALLEST)

    with pytest.raises(ValidationError, match="frozen"):
        job.spec.map.max_parallel = 3  # type: ignore[misc]


def test_an_object_of_the_api_server_is_read_with_what_its_metadata_says() -> None:
    stored = SMALLEST | {
        "metadata": SMALLEST["metadata"]
        | {
            "resourceVersion": "812",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "deletionTimestamp": "2026-11-21T11:00:00Z",
            "finalizers": ["mapreduce.dev/finalizer"],
            "labels": {"team": "a"},
            "managedFields": [{"manager": "kubectl"}],
        }
    }
    metadata = MapReduceJob.model_validate(stored).metadata

    assert (metadata.name, metadata.namespace, metadata.uid) == ("words", "default", "5d1f")
    assert (metadata.generation, metadata.resource_version) == (2, "812")
    assert metadata.deletion_timestamp is not None
    assert metadata.finalizers == ("mapreduce.dev/finalizer",)
    assert metadata.labels == {"team": "a"}
    assert metadata.annotations == {}


WORK: dict[str, Any] = {
    "map": {
        "template": TEMPLATE | {"metadata": {"labels": {"a": "b"}}},
        "maxParallel": 3,
        "retry": {
            "rules": [{"action": "Retry", "onExitCodes": [2, 9, 137], "onReasons": ["DeadlineExceeded", "Error"]}],
            "onOOM": {"maxMemory": "8Gi"},
        },
    },
    "reduce": {"template": {"spec": TEMPLATE["spec"] | {"tolerations": None}}, "runWhen": "Always"},
    "params": {"model": "large", "limits": {"depth": 3, "none": None}},
}


@pytest.mark.parametrize(
    "work", [WORK, {"map": WORK["map"]}, {"map": WORK["map"], "params": {}}, {"map": WORK["map"], "reduce": None}]
)
def test_what_agents_run_is_written_as_in_the_manifest(work: dict[str, Any]) -> None:
    spec = MapReduceJobSpec.model_validate({"input": {"items": [1]}, "suspend": True} | work)

    written = spec.work_as_written()

    assert written == {name: value for name, value in work.items() if value is not None}
    assert json.loads(json.dumps(written)) == written
    again = MapReduceJobSpec.model_validate(written)
    assert (again.map, again.reduce, again.params) == (spec.map, spec.reduce, spec.params)
    assert again.work_as_written() == written


def test_what_agents_run_is_written_in_the_same_order_in_every_process() -> None:
    reasons = ["StorageExceeded", "Killed", "Error", "DeadlineExceeded"]
    rule = {"action": "Retry", "onExitCodes": [137, 3, 99], "onReasons": reasons}

    written = MapReduceJob.model_validate(job_with("map.retry.rules", [rule])).spec.work_as_written()

    assert written["map"]["retry"]["rules"] == [
        {"action": "Retry", "onExitCodes": [3, 99, 137], "onReasons": sorted(reasons)}
    ]


def test_a_job_written_and_read_again_is_the_same() -> None:
    job = MapReduceJob.model_validate(
        job_with("map.retry.rules", [{"action": "Retry", "onExitCodes": [2]}])
        | {"status": {"phase": "Map", "startTime": "2026-11-21T10:00:00Z"}}
    )

    assert MapReduceJob.model_validate(job.to_kubernetes()) == job


@pytest.mark.parametrize("stage", ["map", "reduce"])
def test_a_pod_of_either_stage_is_not_started_again_by_kubernetes(stage: str) -> None:
    template = {"spec": TEMPLATE["spec"] | {"restartPolicy": "OnFailure"}}

    with pytest.raises(ValidationError, match=f"{stage}.template.spec.restartPolicy"):
        MapReduceJobSpec.model_validate(
            {"input": {"items": [1]}, "map": {"template": TEMPLATE}, stage: {"template": template}}
        )
