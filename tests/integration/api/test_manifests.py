"""Which manifests the API server takes, what it makes of them, and how it refuses the others: by naming the field."""

import copy
from typing import Any

import pytest
from kubernetes import client

from mapreduce_operator.api import ForkFrom, MapReduceJobSpec, lacks_map
from tests.integration.api.conftest import Objects, refusal

pytestmark = pytest.mark.cluster

AGENT = {"name": "agent", "image": "debian"}
TEMPLATE: dict[str, Any] = {"spec": {"containers": [AGENT]}}
SMALLEST: dict[str, Any] = {"input": {"items": [1]}, "map": {"template": TEMPLATE}}
FORK: dict[str, Any] = {"job": {"name": "words"}}


def spec_with(path: str, value: object) -> dict[str, Any]:
    """The smallest spec with one field set, by its dotted path."""
    spec = copy.deepcopy(SMALLEST)
    *parents, name = path.split(".")
    parent = spec
    for step in parents:
        parent = parent.setdefault(step, {})
    parent[name] = value
    return spec


def agent_with(**fields: object) -> dict[str, Any]:
    return {"spec": {"containers": [AGENT | fields]}}


def rule_with(**fields: object) -> list[dict[str, object]]:
    return [{"action": "Retry"} | fields]


ONE_SOURCE = (
    "spec.input: Required value: exactly one source of items must be given: input.items, input.configMapRef,"
    " input.object or forkFrom"
)
NO_DELAYS = 'spec.map.retry.backoff.delays: Invalid value: "object": delays must be given for the type Custom'

INVALID: list[tuple[str, Any, str]] = [
    ("input", {}, ONE_SOURCE),
    ("input", {"onDuplicate": "KeepFirst"}, ONE_SOURCE),
    ("input", None, ONE_SOURCE),
    ("input.configMapRef", {"name": "a", "key": "b"}, ONE_SOURCE),
    ("input.object", {"key": "a"}, ONE_SOURCE),
    ("forkFrom", FORK, ONE_SOURCE),
    ("input.items", "1,2,3", "spec.input.items"),
    ("input.items", [0] * 50_001, "spec.input.items: Too many: 50001: must have at most 50000 items"),
    ("input", {"configMapRef": {"name": "Upper", "key": "k"}}, "spec.input.configMapRef.name"),
    ("input", {"configMapRef": {"name": "a"}}, "spec.input.configMapRef.key: Required value"),
    ("input", {"configMapRef": {"name": "a", "key": "k", "format": "TSV"}}, "spec.input.configMapRef.format"),
    ("input", {"object": {}}, "spec.input.object.key: Required value"),
    *(
        ("input", {"object": {"key": key}}, "spec.input.object.key")
        for key in (
            "",
            "/a",
            "a/",
            "a//b",
            "..",
            "../b/c",
            "a/../b",
            "a/.b",
            ".",
            "a b",
            "a\\b",
            "ä",
            "a" * 256,
            "a/" * 256 + "a",
        )
    ),
    ("input", {"object": {"key": "a", "format": "TSV"}}, "spec.input.object.format"),
    ("input.filter", "", "spec.input.filter"),
    ("input.filter", "x" * 2049, "spec.input.filter: Too long"),
    ("input.orderBy", [{"expression": "item"}] * 5, "spec.input.orderBy: Too many: 5"),
    ("input.orderBy", [{}], "spec.input.orderBy[0].expression: Required value"),
    ("input.orderBy", [{"expression": "x" * 1025}], "spec.input.orderBy[0].expression: Too long"),
    ("input.orderBy", [{"expression": "x", "order": "Random"}], "spec.input.orderBy[0].order: Unsupported value"),
    ("input.offset", -1, "spec.input.offset"),
    ("input.offset", 200_001, "spec.input.offset"),
    ("input.limit", 0, "spec.input.limit"),
    ("input.limit", 100_001, "spec.input.limit"),
    ("input.idExpression", "x" * 1025, "spec.input.idExpression: Too long"),
    ("input.idExpression", "", "spec.input.idExpression"),
    ("input.onDuplicate", "Ignore", 'spec.input.onDuplicate: Unsupported value: "Ignore"'),
    ("input.emptyPolicy", "succeed", 'spec.input.emptyPolicy: Unsupported value: "succeed"'),
    ("input.maxItems", 100_001, "spec.input.maxItems"),
    ("map", None, "spec.map: Required value: map must be given: only a job with forkFrom takes it from another one"),
    ("map.maxParallel", -1, "spec.map.maxParallel"),
    ("map.maxParallel", "ten", "spec.map.maxParallel"),
    ("map.maxParallel", 1.5, "spec.map.maxParallel"),
    ("map.timeoutSeconds", 0, "spec.map.timeoutSeconds"),
    ("map.timeoutSeconds", "10m", "spec.map.timeoutSeconds"),
    ("map.template", {}, "spec.map.template.spec: Required value"),
    ("map.template.spec", {}, "spec.map.template.spec.containers: Required value"),
    ("map.template.spec.containers", [], "spec.map.template.spec.containers"),
    ("map.template.spec.containers", "agent", "spec.map.template.spec.containers"),
    ("map.template.spec.containers", [{"name": "a"}], "spec.map.template.spec.containers[0].image: Required value"),
    ("map.template.spec.containers", [{"image": "i"}], "spec.map.template.spec.containers[0].name: Required value"),
    ("map.template.spec.containers", [AGENT, AGENT], "spec.map.template.spec.containers[1]: Duplicate value"),
    ("map.template", agent_with(command="sh -c true"), "spec.map.template.spec.containers[0].command"),
    ("map.template", agent_with(args=[1]), "spec.map.template.spec.containers[0].args[0]"),
    ("map.template", agent_with(terminationMessagePath="/x"), "spec.map.template.spec.containers: Forbidden: terminat"),
    ("map.template", agent_with(terminationMessagePolicy="File"), "terminationMessagePolicy of the first container"),
    ("map.template.spec.restartPolicy", "OnFailure", "spec.map.template.spec.restartPolicy: Unsupported value"),
    ("map.template.spec.activeDeadlineSeconds", 60, "spec.map.template.spec.activeDeadlineSeconds: Forbidden"),
    ("map.template.spec.activeDeadlineSeconds", 60, "use timeoutSeconds"),
    ("reduce", {"template": {"spec": {"containers": [AGENT], "activeDeadlineSeconds": 60}}}, "use timeoutSeconds"),
    ("map.template.metadata", {"labels": {"a": 1}}, "spec.map.template.metadata.labels.a"),
    ("map.template.metadata", {"labels": {"a": "x" * 64}}, "spec.map.template.metadata.labels.a"),
    ("map.template.metadata", {"labels": {"mapreduce.dev/job": "x"}}, "spec.map.template.metadata.labels: Forbidden"),
    ("map.template.metadata", {"annotations": {"mapreduce.dev/i": "x"}}, "template.metadata.annotations: Forbidden"),
    ("map.retry.maxAttempts", 0, "spec.map.retry.maxAttempts"),
    ("map.retry.maxInterruptions", 1001, "spec.map.retry.maxInterruptions"),
    ("map.retry.backoff.type", "Random", "spec.map.retry.backoff.type: Unsupported value"),
    ("map.retry.backoff.jitter", 1.1, "spec.map.retry.backoff.jitter"),
    ("map.retry.backoff.maxSeconds", 5, "spec.map.retry.backoff.maxSeconds"),
    ("map.retry.backoff.initialSeconds", 301, "maxSeconds must not be less than initialSeconds"),
    ("map.retry.backoff", {"type": "Custom"}, NO_DELAYS),
    (
        "map.retry.backoff",
        {"type": "Custom", "delays": []},
        NO_DELAYS,
    ),
    (
        "map.retry.backoff",
        {"delays": [1]},
        NO_DELAYS,
    ),
    (
        "map.retry.backoff",
        {"type": "Fixed", "delays": [1]},
        "delays must be given for the type Custom, and for no other",
    ),
    ("map.retry.backoff", {"type": "Custom", "delays": [-1]}, "spec.map.retry.backoff.delays[0]"),
    ("map.retry.onOOM", {}, "spec.map.retry.onOOM.maxMemory: Required value"),
    ("map.retry.onOOM", {"maxMemory": "eight"}, "spec.map.retry.onOOM.maxMemory"),
    ("map.retry.onOOM", {"maxMemory": "8Gi", "factor": 1}, "spec.map.retry.onOOM.factor"),
    ("map.pendingTimeoutSeconds", 0, "spec.map.pendingTimeoutSeconds"),
    ("map.retry.rules", rule_with(), "spec.map.retry.rules[0]: Required value: a rule must say what it is for"),
    ("map.retry.rules", rule_with(onExitCodes=[]), "spec.map.retry.rules[0]: Required value"),
    ("map.retry.rules", rule_with(onExitCodes=[0]), "spec.map.retry.rules[0].onExitCodes[0]"),
    ("map.retry.rules", rule_with(onExitCodes=[3, 3]), "spec.map.retry.rules[0].onExitCodes[1]: Duplicate value"),
    ("map.retry.rules", rule_with(onReasons=["Evicted"]), "spec.map.retry.rules[0].onReasons[0]: Unsupported value"),
    ("map.retry.rules", rule_with(onExitCodes=[1], action="Ignore"), "spec.map.retry.rules[0].action"),
    ("map.retry.rules", rule_with(onExitCodes=[1]) * 21, "spec.map.retry.rules"),
    ("map.result.rule", "x" * 1025, "spec.map.result.rule"),
    ("map.result.required", "yes", "spec.map.result.required"),
    ("reduce", {}, "spec.reduce.template: Required value"),
    ("reduce", {"template": TEMPLATE, "runWhen": "Never"}, "spec.reduce.runWhen: Unsupported value"),
    ("reduce", {"template": TEMPLATE, "retry": {"backoff": {"maxSeconds": 1}}}, "spec.reduce.retry.backoff.maxSeconds"),
    ("successPolicy.minSuccessRatio", 1.5, "spec.successPolicy.minSuccessRatio"),
    ("failurePolicy.onExhausted", "Custom", 'spec.failurePolicy.onExhausted: Unsupported value: "Custom"'),
    ("failurePolicy.maxFailures", 0, "spec.failurePolicy.maxFailures"),
    ("failurePolicy.maxFailures", -1, "spec.failurePolicy.maxFailures"),
    ("failurePolicy.failureThreshold", {"ratio": 1.5}, "spec.failurePolicy.failureThreshold.ratio"),
    ("failurePolicy.failureThreshold", {}, "spec.failurePolicy.failureThreshold.ratio: Required value"),
    ("failurePolicy.failureThreshold", {"ratio": 0.5, "minSamples": 0}, "failurePolicy.failureThreshold.minSamples"),
    ("failurePolicy.retryBudget.maxRetries", -1, "spec.failurePolicy.retryBudget.maxRetries"),
    ("failurePolicy.retryBudget.maxRatio", -0.1, "spec.failurePolicy.retryBudget.maxRatio"),
    ("failurePolicy.retryBudget", {}, "spec.failurePolicy.retryBudget: Required value: maxRetries, maxRatio or both"),
    ("failurePolicy.circuitBreaker.failuresInARow", 0, "spec.failurePolicy.circuitBreaker.failuresInARow"),
    ("failurePolicy.circuitBreaker.openSeconds", 0, "spec.failurePolicy.circuitBreaker.openSeconds"),
    ("failurePolicy.circuitBreaker.probes", 0, "spec.failurePolicy.circuitBreaker.probes"),
    ("deadLetter.capacity", 0, "spec.deadLetter.capacity"),
    ("deadLetter.onFull", "Evict", 'spec.deadLetter.onFull: Unsupported value: "Evict"'),
    ("deadLetter.onFull", "Archive", "spec.deadLetter.onFull: Invalid value"),
    ("deadLetter.onFull", "Fail", "onFull needs a capacity"),
    ("deadLetter.purgeOpen", True, "purgeOpen needs retentionSeconds"),
    ("deadLetter.retentionSeconds", 0, "spec.deadLetter.retentionSeconds"),
    ("checkpoint.everyItems", 0, "spec.checkpoint.everyItems"),
    ("checkpoint.everySeconds", 3601, "spec.checkpoint.everySeconds"),
    ("checkpoint.enabled", "yes", "spec.checkpoint.enabled"),
    ("checkpoint.keep", 1, "spec.checkpoint.keep"),
    ("checkpoint.keep", 101, "spec.checkpoint.keep"),
    ("checkpoint.pinned", [-1], "spec.checkpoint.pinned[0]"),
    ("checkpoint.pinned", [3, 3], "spec.checkpoint.pinned[1]: Duplicate value"),
    ("checkpoint.pinned", list(range(33)), "spec.checkpoint.pinned: Too many"),
    ("restore", {}, "spec.restore.checkpoint: Required value"),
    ("restore", {"checkpoint": -1}, "spec.restore.checkpoint"),
    ("restore", {"checkpoint": 10_000_000_000}, "spec.restore.checkpoint"),
    ("restore", {"checkpoint": 1, "token": "x" * 64}, "spec.restore.token: Too long"),
    ("restart", {"phase": "Map"}, "spec.restart.token: Required value"),
    ("restart", {"phase": "Map", "token": ""}, "spec.restart.token"),
    ("restart", {"phase": "Map", "token": "x" * 64}, "spec.restart.token: Too long"),
    ("restart", {"token": "1"}, "spec.restart.phase: Required value"),
    ("restart", {"phase": "Planning", "token": "1"}, 'spec.restart.phase: Unsupported value: "Planning"'),
    ("resumePolicy.additionalAttempts", 0, "spec.resumePolicy.additionalAttempts"),
    ("resumePolicy.includeFailed", "no", "spec.resumePolicy.includeFailed"),
    ("params", {"max depth": 1}, "spec.params: Invalid value"),
    ("params", {"1st": 1}, "names of params consist of letters, digits"),
    ("params", {"good": 1, "p" * 64: 1}, "spec.params: Invalid value"),
    ("params", {"": 1}, "spec.params: Invalid value"),
    ("params", [1], "spec.params"),
    ("params", {f"p{number}": 1 for number in range(65)}, "spec.params: Too many"),
    ("activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds"),
    ("activeDeadlineSeconds", "1h", "spec.activeDeadlineSeconds"),
    ("retention.onDelete", "Orphan", "spec.retention.onDelete: Unsupported value"),
    ("suspend", "true", "spec.suspend"),
    ("suspendPolicy", "Kill", "spec.suspendPolicy: Unsupported value"),
    ("maxParallel", 3, 'unknown field "spec.maxParallel"'),
    ("map.template.metadata", {"name": "agent"}, 'unknown field "spec.map.template.metadata.name"'),
    ("reduce", {"template": TEMPLATE, "maxParallel": 3}, 'unknown field "spec.reduce.maxParallel"'),
]

VALID = [
    ("input.items", []),
    ("input.items", [{"a": [{"b": None}]}, "text", 3, 2.5, True, None, [1, [2]], "", {}]),
    ("input", {"configMapRef": {"name": "items.v1", "key": "items.jsonl", "format": "JSONLines"}}),
    ("input", {"configMapRef": {"name": "items", "key": "items.csv.gz", "format": "CSV"}}),
    *(
        ("input", {"object": {"key": key, "format": "CSV"}})
        for key in ("a", "day=1/part-0.jsonl.gz", "_a/-b/C..d", "a" * 255, "a/" * 255 + "a")
    ),
    ("input.filter", "has(item.n) && item.n > 0"),
    ("input.orderBy", [{"expression": "item", "order": "Descending"}] * 4),
    ("input.offset", 200_000),
    ("input.limit", 100_000),
    ("input.maxItems", 100_000),
    ("map.maxParallel", 0),
    ("map.maxParallel", 10_000),
    ("map.retry.backoff", {"type": "Fixed", "initialSeconds": 0, "maxSeconds": 0, "jitter": 0}),
    ("map.retry.backoff", {"type": "Fibonacci", "initialSeconds": 300, "jitter": 1}),
    ("map.retry.backoff", {"type": "Custom", "delays": [0, 5, 86_400], "initialSeconds": 10}),
    ("map.retry.onOOM", {"maxMemory": "1.5Gi", "factor": 2}),
    ("map.retry.rules", rule_with(onExitCodes=list(range(1, 256)))),
    ("map.retry.rules", rule_with(onReasons=["Error", "OOMKilled", "DeadlineExceeded"], onExitCodes=[137]) * 20),
    ("map.result", {"required": False, "rule": "result.tests.failed == 0"}),
    ("map.template.spec.restartPolicy", "Never"),
    ("map.template.metadata", {"labels": {"app": "x"}, "annotations": {"example.com/note": "y" * 16_384}}),
    ("map.template.spec.containers", [AGENT, AGENT | {"name": "b", "terminationMessagePolicy": "File"}]),
    ("reduce", {"template": TEMPLATE, "runWhen": "Always", "timeoutSeconds": 60}),
    ("successPolicy.minSuccessRatio", 1),
    ("failurePolicy", {"onExhausted": "Stop", "maxFailures": 1, "retryBudget": {"maxRetries": 0, "maxRatio": 0.5}}),
    ("failurePolicy.failureThreshold", {"ratio": 0, "minSamples": 1}),
    ("failurePolicy.circuitBreaker", {}),
    ("failurePolicy.retryBudget", {"maxRatio": 0}),
    ("deadLetter", {}),
    ("deadLetter", {"onFull": "Pause", "purgeOpen": False, "retentionSeconds": 5}),
    ("deadLetter", {"capacity": 1, "onFull": "Archive", "retentionSeconds": 1, "purgeOpen": True}),
    ("suspend", True),
    ("checkpoint", {"enabled": False, "keep": 2, "pinned": [0, 40, 9_999_999_999]}),
    ("restore", {"checkpoint": 0}),
    ("restore", {"checkpoint": 40, "token": "again"}),
    ("restart", {"phase": "Plan", "token": "x" * 63}),
    ("resumePolicy", {"includeFailed": False, "includeDeadLetters": False, "additionalAttempts": 100}),
    ("params", {}),
    ("params", {"model": "large", "_depth": 3, "a.b-c": [None, {"d": None}], "p" * 63: True, "none": {}}),
    ("params", {f"p{number}": 1 for number in range(64)}),
    ("params", {"large": "x" * 100_000}),
    ("activeDeadlineSeconds", 1),
]


def fork_with(**fields: object) -> dict[str, Any]:
    return {"forkFrom": FORK | fields}


def editing(*items: object) -> dict[str, Any]:
    return fork_with(edits={"items": [*items]})


ONE_EDIT = "spec.forkFrom.edits.items[0]: Required value: exactly one of patch, remove, reset and add must be given"
AN_ID = 'spec.forkFrom.edits.items[0].id: Invalid value: "object": id must be given with patch, remove and reset'

INVALID_FORKS: list[tuple[dict[str, Any], str]] = [
    (fork_with() | {"input": {"items": []}}, ONE_SOURCE),
    (fork_with() | {"input": {"configMapRef": {"name": "a", "key": "b"}}}, ONE_SOURCE),
    *(
        (fork_with() | {"input": chosen}, "spec.input: Forbidden: input.filter, orderBy, offset and limit choose among")
        for chosen in ({"filter": "true"}, {"limit": 1}, {"offset": 1}, {"orderBy": [{"expression": "item"}]})
    ),
    (fork_with() | {"map": {}}, "spec.map.template: Required value"),
    (fork_with(job=None), "spec.forkFrom.job: Required value"),
    (fork_with(job={}), "spec.forkFrom.job.name: Required value"),
    (fork_with(job={"name": "Words"}), "spec.forkFrom.job.name"),
    (fork_with(job={"name": "w" * 64}), "spec.forkFrom.job.name: Too long"),
    (fork_with(job={"name": "words", "uid": "../5d1f"}), "spec.forkFrom.job.uid"),
    (fork_with(job={"name": "words", "namespace": "other"}), 'unknown field "spec.forkFrom.job.namespace"'),
    (fork_with(checkpoint=-1), "spec.forkFrom.checkpoint"),
    (fork_with(checkpoint="latest"), "spec.forkFrom.checkpoint"),
    (fork_with(edits={"params": ["a"]}), "spec.forkFrom.edits.params"),
    (fork_with(edits={"template": "debian"}), "spec.forkFrom.edits.template"),
    (editing({}), ONE_EDIT),
    (editing({"id": "a"}), ONE_EDIT),
    (editing({"id": "a", "remove": True, "reset": True}), ONE_EDIT),
    (editing({"id": "a", "patch": {}, "reset": True}), ONE_EDIT),
    (editing({"add": 1, "reset": True}), ONE_EDIT),
    (editing({"add": None}), ONE_EDIT),
    (editing({"id": "a", "add": 1}), AN_ID),
    (editing({"remove": True}), AN_ID),
    (editing({"reset": True}), AN_ID),
    (editing({"patch": {"a": 1}}), AN_ID),
    (editing({"id": "", "reset": True}), "spec.forkFrom.edits.items[0].id"),
    (editing({"id": "a", "remove": False}), "spec.forkFrom.edits.items[0].remove: Unsupported value: false"),
    (editing({"id": "a", "patch": [1]}), "spec.forkFrom.edits.items[0].patch"),
    (editing(*[{"add": 1}] * 1001), "spec.forkFrom.edits.items: Too many"),
    (editing({"id": "a", "replace": {}}), 'unknown field "spec.forkFrom.edits.items[0].replace"'),
]

VALID_FORKS: list[dict[str, Any]] = [
    fork_with(),
    fork_with(job={"name": "words", "uid": "59c40fd8-7273-4e41-a71a-9f1b6576fbf1"}, checkpoint=0),
    fork_with() | {"input": {"idExpression": "item.file", "maxItems": 7}},
    fork_with() | {"map": {"template": TEMPLATE}, "reduce": {"template": TEMPLATE}, "params": {"a": 1}},
    fork_with() | {"reduce": {"template": TEMPLATE}},
    editing(
        {"id": "a", "patch": {"hint": None, "deep": {"er": None}}},
        {"id": "b", "patch": {}},
        {"id": "ä" * 4096, "remove": True},
        {"id": "c", "reset": True},
        *({"add": item} for item in ({"file": None}, "text", 0, False, "", [], {}, [None])),
    ),
    editing(*[{"id": "a", "patch": {"a": 1}}] * 1000),
    fork_with(edits={"params": {"model": None}, "template": {"spec": {"nodeSelector": None}}}),
]


@pytest.mark.parametrize(("spec", "expected"), INVALID_FORKS)
def test_an_invalid_fork_is_refused_with_the_name_of_the_field(
    jobs: Objects, spec: dict[str, Any], expected: str
) -> None:
    with pytest.raises(client.ApiException) as refused:
        jobs.create("invalid", spec, dry_run=True)

    assert expected in refusal(refused.value)


@pytest.mark.parametrize("spec", VALID_FORKS)
def test_a_valid_fork_is_accepted_and_keeps_what_was_given(jobs: Objects, spec: dict[str, Any]) -> None:
    found = jobs.create("valid", spec, dry_run=True)

    assert lacks_map(found) is ("map" not in spec)
    assert found["spec"]["forkFrom"] == {"edits": {}} | spec["forkFrom"]
    read = MapReduceJobSpec.model_validate({"map": {"template": TEMPLATE}} | found["spec"])
    assert read.fork_from is not None
    assert read.fork_from == ForkFrom.model_validate(spec["forkFrom"])


def test_a_fork_is_filled_in_from_what_was_stored(jobs: Objects) -> None:
    parent = spec_with("params", {"model": "large"}) | {"reduce": {"template": TEMPLATE, "runWhen": "Always"}}
    work = MapReduceJobSpec.model_validate(jobs.create("parent", parent, dry_run=True)["spec"]).work_as_written()
    assert lacks_map(jobs.create("child", fork_with()))

    filled_in = jobs.patch("child", work)

    assert not lacks_map(filled_in)
    assert MapReduceJobSpec.model_validate(filled_in["spec"]).work_as_written() == work


def test_a_null_among_the_params_is_the_same_as_no_value(jobs: Objects) -> None:
    stored = jobs.create("nulls", spec_with("params", {"gone": None, "kept": {"inner": None}}), dry_run=True)

    assert stored["spec"]["params"] == {"kept": {"inner": None}}


@pytest.mark.parametrize(("path", "value", "expected"), INVALID)
def test_an_invalid_manifest_is_refused_with_the_name_of_the_field(
    jobs: Objects, path: str, value: object, expected: str
) -> None:
    with pytest.raises(client.ApiException) as refused:
        jobs.create("invalid", spec_with(path, value), dry_run=True)

    assert expected in refusal(refused.value)


@pytest.mark.parametrize(("path", "value"), VALID)
def test_a_valid_manifest_is_accepted_and_keeps_what_was_given(jobs: Objects, path: str, value: object) -> None:
    found = jobs.create("valid", spec_with(path, value), dry_run=True)["spec"]
    for step in path.split("."):
        found = found[step]

    if isinstance(value, dict):
        assert value.items() <= found.items() or path == "reduce"
    else:
        assert found == value


def test_names_are_at_most_63_characters_long(jobs: Objects) -> None:
    jobs.create("x" * 63, SMALLEST, dry_run=True)

    with pytest.raises(client.ApiException) as refused:
        jobs.create("x" * 64, SMALLEST, dry_run=True)
    assert "metadata.name must be at most 63 characters long" in refusal(refused.value)


@pytest.mark.parametrize("given", [SMALLEST, SMALLEST | {"reduce": {"template": TEMPLATE}}])
def test_the_api_server_fills_in_the_defaults_of_the_models(jobs: Objects, given: dict[str, Any]) -> None:
    stored = jobs.create("defaults", given, dry_run=True)["spec"]

    assert MapReduceJobSpec.model_validate(stored) == MapReduceJobSpec.model_validate(given)
    assert stored["map"]["retry"]["backoff"] == {
        "type": "Exponential",
        "initialSeconds": 10,
        "maxSeconds": 300,
        "jitter": 0.2,
    }
    assert stored["failurePolicy"] == {"onExhausted": "DeadLetter"}
    assert stored["deadLetter"] == {"onFull": "Pause", "purgeOpen": False}
    assert stored["checkpoint"] == {"enabled": True, "everyItems": 100, "everySeconds": 1, "keep": 10}
    assert stored["resumePolicy"] == {"includeFailed": True, "includeDeadLetters": True}
    assert stored["suspend"] is False
    assert ("reduce" in stored) == ("reduce" in given)


def test_a_template_is_stored_as_it_was_written(jobs: Objects) -> None:
    template = {
        "metadata": {"labels": {"team": "docs"}},
        "spec": {
            "serviceAccountName": "words",
            "nodeSelector": {"disk": "fast"},
            "tolerations": [],
            "volumes": [{"name": "scratch", "emptyDir": {}}],
            "containers": [
                AGENT
                | {
                    "command": ["sh", "-c", "true"],
                    "env": [{"name": "A", "value": ""}],
                    "resources": {"limits": {"cpu": 1, "memory": "64Mi"}},
                    "novelty": {"of": ["a", "later", {"kubernetes": 1.5}]},
                }
            ],
        },
    }
    stored = jobs.create("template", spec_with("map.template", template), dry_run=True)

    assert stored["spec"]["map"]["template"] == template
    assert MapReduceJobSpec.model_validate(stored["spec"]).map.template.as_written() == template


def test_an_unknown_field_is_pruned_where_it_is_not_refused(jobs: Objects) -> None:
    stored = jobs.create("pruned", spec_with("map.novelty", 7), dry_run=True, validation="Ignore")

    assert "novelty" not in stored["spec"]["map"]


def test_thousands_of_inline_items_are_accepted(jobs: Objects) -> None:
    items = [{"file": f"/src/module_{number:05d}.py", "hint": "ä" * 30} for number in range(5000)]

    stored = jobs.create("large", spec_with("input.items", items))

    assert stored["spec"]["input"]["items"] == items
    assert MapReduceJobSpec.model_validate(stored["spec"]).input.items == tuple(items)
