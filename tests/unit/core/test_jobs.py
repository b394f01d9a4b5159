"""The Job of a dispatch: what the template leaves open is restricted, and no item data gets near a command line."""

# ruff: noqa: S108 - /tmp of the pod, where it is a volume of its own

import copy
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import MapWork, ReduceWork
from mapreduce_operator.core.jobs import Manifest, Revision, manifest, owner_reference, prepare
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.plan import PlannedItem, canonical
from mapreduce_operator.core.workloads import Carried, Dispatch
from tests.unit.core import strategies

RUN = RunRef("team-a", "licence-words", "6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11")
DISPATCH = Dispatch("abcdefghij", 3)
ITEM = PlannedItem("GPL-3", b'{"file":"GPL-3"}')
SMALLEST: dict[str, Any] = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}


def map_work(template: dict[str, Any], **more: Any) -> MapWork:
    return MapWork.model_validate({"template": template, "timeoutSeconds": 600} | more)


def context_of(body: Manifest) -> Any:
    return json.loads(body["spec"]["template"]["metadata"]["annotations"]["mapreduce.dev/context"])


def map_pod(template: dict[str, Any]) -> Manifest:
    """The pod spec that a map template becomes."""
    return prepare(Stage.MAP, map_work(template), RUN).pod_spec


def with_spec(**fields: Any) -> dict[str, Any]:
    return {"spec": SMALLEST["spec"] | fields}


def with_agent(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [SMALLEST["spec"]["containers"][0] | fields]}}


# -------------------------------------------------------------------------------------------------------- the whole Job


def test_the_smallest_template_becomes_a_restricted_job() -> None:
    work = map_work(SMALLEST)

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=2, item=ITEM, work=work)

    revision = prepare(Stage.MAP, work, RUN).hash
    labels = {
        "app.kubernetes.io/managed-by": "mapreduce-operator",
        "mapreduce.dev/run-uid": "6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11",
        "mapreduce.dev/job": "licence-words",
        "mapreduce.dev/stage": "map",
        "mapreduce.dev/item-key": "abcdefghij",
        "mapreduce.dev/dispatch": "3",
        "mapreduce.dev/template-revision": revision,
    }
    context = (
        '{"attempt":2,"dispatch":3,"itemId":"GPL-3","job":"licence-words",'
        '"jobUid":"6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11","maxAttempts":3,"namespace":"team-a","timeoutSeconds":600}'
    )
    assert body == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "licence-words-abcdefghij-d3",
            "namespace": "team-a",
            "labels": labels,
            "annotations": {"mapreduce.dev/item-id": "GPL-3"},
            "ownerReferences": [
                {
                    "apiVersion": "mapreduce.dev/v1alpha1",
                    "kind": "MapReduceJob",
                    "name": "licence-words",
                    "uid": "6d3f1c1e-2f0b-4d0e-9b53-0b1f6f3c9a11",
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "mapreduce.dev/context": context,
                        "mapreduce.dev/item-id": "GPL-3",
                        "mapreduce.dev/item": '{"file":"GPL-3"}',
                        "mapreduce.dev/traceparent": "00-7ef12a6af3a8dea04f5cb9bdfc8b18c8-44866992ecf68c4b-01",
                    },
                },
                "spec": {
                    "restartPolicy": "Never",
                    "activeDeadlineSeconds": 600,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "securityContext": {
                        "runAsNonRoot": True,
                        "runAsUser": 65532,
                        "runAsGroup": 65532,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "volumes": [
                        {
                            "name": "mapreduce",
                            "downwardAPI": {
                                "items": [
                                    {
                                        "path": "item.json",
                                        "fieldRef": {"fieldPath": "metadata.annotations['mapreduce.dev/item']"},
                                    },
                                    {
                                        "path": "context.json",
                                        "fieldRef": {"fieldPath": "metadata.annotations['mapreduce.dev/context']"},
                                    },
                                ]
                            },
                        },
                        {"name": "mapreduce-tmp", "emptyDir": {}},
                    ],
                    "containers": [
                        {
                            "name": "agent",
                            "image": "agent:1",
                            "terminationMessagePath": "/mapreduce/result.json",
                            "terminationMessagePolicy": "FallbackToLogsOnError",
                            "securityContext": {
                                "allowPrivilegeEscalation": False,
                                "readOnlyRootFilesystem": True,
                                "capabilities": {"drop": ["ALL"]},
                            },
                            "volumeMounts": [
                                {"name": "mapreduce-tmp", "mountPath": "/tmp"},
                                {
                                    "name": "mapreduce",
                                    "mountPath": "/mapreduce/item.json",
                                    "subPath": "item.json",
                                    "readOnly": True,
                                },
                                {
                                    "name": "mapreduce",
                                    "mountPath": "/mapreduce/context.json",
                                    "subPath": "context.json",
                                    "readOnly": True,
                                },
                            ],
                            "env": [
                                {"name": "MAPREDUCE_JOB", "value": "licence-words"},
                                {"name": "MAPREDUCE_NAMESPACE", "value": "team-a"},
                                {"name": "MAPREDUCE_CONTEXT_FILE", "value": "/mapreduce/context.json"},
                                {"name": "MAPREDUCE_RESULT_FILE", "value": "/mapreduce/result.json"},
                                {"name": "HOME", "value": "/tmp"},
                                {"name": "MAPREDUCE_ITEM_FILE", "value": "/mapreduce/item.json"},
                                {
                                    "name": "TRACEPARENT",
                                    "valueFrom": {
                                        "fieldRef": {"fieldPath": "metadata.annotations['mapreduce.dev/traceparent']"}
                                    },
                                },
                            ],
                        }
                    ],
                },
            },
        },
    }


def test_a_reduce_agent_finds_results_and_failures_and_the_counts_but_no_item() -> None:
    work = ReduceWork.model_validate({"template": SMALLEST, "timeoutSeconds": 600})
    item = PlannedItem("reduce", canonical({"items": {"total": 3, "succeeded": 2, "deadLettered": 1}}))

    results = {"configMap": {"name": "results"}}
    revision = prepare(Stage.REDUCE, work, RUN)
    body = manifest(revision, RUN, DISPATCH, attempt=1, item=item, work=work, results=results)

    pod = body["spec"]["template"]
    assert json.loads(pod["metadata"]["annotations"]["mapreduce.dev/context"]) == {
        "attempt": 1,
        "dispatch": 3,
        "itemId": "reduce",
        "items": {"total": 3, "succeeded": 2, "deadLettered": 1},
        "job": "licence-words",
        "jobUid": RUN.uid,
        "maxAttempts": 3,
        "namespace": "team-a",
        "timeoutSeconds": 600,
    }
    assert "mapreduce.dev/item" not in pod["metadata"]["annotations"]
    assert [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]] == [
        "/tmp",
        "/mapreduce/context.json",
        "/mapreduce/results.jsonl",
        "/mapreduce/failures.jsonl",
    ]
    assert all(mount["readOnly"] for mount in pod["spec"]["containers"][0]["volumeMounts"][1:])
    assert pod["spec"]["volumes"][-1] == {"name": "mapreduce-results"} | results
    variables = pod["spec"]["containers"][0]["env"]
    assert {variable["name"]: variable["value"] for variable in variables if "value" in variable} == {
        "MAPREDUCE_JOB": "licence-words",
        "MAPREDUCE_NAMESPACE": "team-a",
        "MAPREDUCE_CONTEXT_FILE": "/mapreduce/context.json",
        "MAPREDUCE_RESULT_FILE": "/mapreduce/result.json",
        "MAPREDUCE_RESULTS_FILE": "/mapreduce/results.jsonl",
        "MAPREDUCE_FAILURES_FILE": "/mapreduce/failures.jsonl",
        "HOME": "/tmp",
    }
    assert body["metadata"]["labels"]["mapreduce.dev/stage"] == "reduce"


def test_a_reduce_that_reads_parts_finds_them_in_directories_and_no_file_that_is_not_all() -> None:
    work = ReduceWork.model_validate({"template": SMALLEST, "resultsAs": "Directory"})
    results = {"projected": {"sources": [{"configMap": {"name": "results"}}]}}

    revision = prepare(Stage.REDUCE, work, RUN)
    body = manifest(revision, RUN, DISPATCH, attempt=1, item=ITEM, work=work, results=results)

    pod = body["spec"]["template"]["spec"]
    assert pod["containers"][0]["volumeMounts"][2:] == [
        {"name": "mapreduce-results", "mountPath": "/mapreduce/results", "subPath": "results", "readOnly": True},
        {"name": "mapreduce-results", "mountPath": "/mapreduce/failures", "subPath": "failures", "readOnly": True},
    ]
    assert pod["volumes"][-1] == {"name": "mapreduce-results"} | results
    variables = {variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]}
    assert variables["MAPREDUCE_RESULTS_DIRECTORY"] == "/mapreduce/results"
    assert variables["MAPREDUCE_FAILURES_DIRECTORY"] == "/mapreduce/failures"
    assert not {"MAPREDUCE_RESULTS_FILE", "MAPREDUCE_FAILURES_FILE"} & variables.keys()
    assert revision.pod_spec["volumes"][-1]["name"] != "mapreduce-results", "other dispatches may have other parts"


def test_how_results_are_handed_over_is_part_of_the_revision() -> None:
    as_files, in_parts, unsaid = (
        prepare(Stage.REDUCE, ReduceWork.model_validate({"template": SMALLEST} | more), RUN).hash
        for more in ({"resultsAs": "File"}, {"resultsAs": "Directory"}, {})
    )

    assert as_files == unsaid != in_parts


@pytest.mark.parametrize("volumes", ["many", {"name": "data"}])
def test_malformed_volumes_of_a_reduce_stay_for_the_dry_run_to_refuse(volumes: Any) -> None:
    template = {"spec": SMALLEST["spec"] | {"volumes": volumes}}
    work = ReduceWork.model_validate({"template": template})

    revision = prepare(Stage.REDUCE, work, RUN)
    body = manifest(revision, RUN, DISPATCH, attempt=1, item=ITEM, work=work, results={"configMap": {"name": "r"}})

    assert body["spec"]["template"]["spec"]["volumes"] == volumes


def test_agents_of_both_stages_find_the_params_beside_the_rest() -> None:
    params: dict[str, Any] = {"model": "large", "checks": ["lint", {"strict": None}], "empty": ""}
    map_, reduce = map_work(SMALLEST), ReduceWork.model_validate({"template": SMALLEST})
    whole = PlannedItem("reduce", canonical({"items": {"total": 3}}))

    for stage, work, item in ((Stage.MAP, map_, ITEM), (Stage.REDUCE, reduce, whole)):
        without = manifest(prepare(stage, work, RUN), RUN, DISPATCH, attempt=1, item=item, work=work)
        given = manifest(prepare(stage, work, RUN, params), RUN, DISPATCH, attempt=1, item=item, work=work)

        assert context_of(given) == context_of(without) | {"params": params}


def test_a_job_without_params_does_not_speak_of_them() -> None:
    work = map_work(SMALLEST)

    body = manifest(prepare(Stage.MAP, work, RUN, {}), RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert body == manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=ITEM, work=work)
    assert "params" not in context_of(body)


def test_the_labels_of_a_job_say_what_it_carries() -> None:
    work = map_work(SMALLEST)
    revision = prepare(Stage.MAP, work, RUN)

    body = manifest(revision, RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    expected = Carried(RUN.uid, Stage.MAP, (DISPATCH,), revision.hash)
    assert Carried.from_labels(body["metadata"]["labels"]) == expected
    assert Carried.from_labels(body["spec"]["template"]["metadata"]["labels"]) == expected


def test_labels_and_annotations_of_the_template_go_to_the_pod_and_not_to_the_job() -> None:
    work = map_work({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}} | SMALLEST)

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert body["spec"]["template"]["metadata"]["labels"]["team"] == "a"
    assert body["spec"]["template"]["metadata"]["annotations"]["note"] == "b"
    assert "team" not in body["metadata"]["labels"]
    assert "note" not in body["metadata"]["annotations"]


def test_labels_of_the_template_do_not_replace_ours() -> None:
    work = map_work({"metadata": {"labels": {"mapreduce.dev/run-uid": "forged"}}} | SMALLEST)

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert body["spec"]["template"]["metadata"]["labels"]["mapreduce.dev/run-uid"] == RUN.uid


def test_everything_of_a_run_is_owned_by_its_object() -> None:
    assert owner_reference(RUN) == {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "name": "licence-words",
        "uid": RUN.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


@given(strategies.runs)
def test_names_of_any_length_give_names_of_jobs_that_fit(run: RunRef) -> None:
    work = map_work(SMALLEST)

    name = manifest(prepare(Stage.MAP, work, run), run, Dispatch("abcdefghij", 1100), attempt=1, item=ITEM, work=work)[
        "metadata"
    ]["name"]

    assert len(name) <= 63
    assert "." not in name
    assert not name.removesuffix("-abcdefghij-d1100").endswith("-")


# ------------------------------------------------------------------------------------------------------------ item data


@pytest.mark.parametrize("text", [*strategies.HOSTILE_TEXTS, "x" * 30_000], ids=lambda text: ascii(text)[:20])
def test_an_item_reaches_its_agent_byte_for_byte_and_by_no_other_way_than_its_files(text: str) -> None:
    work = map_work(with_agent(command=["agent", "$(MAPREDUCE_JOB)"], args=["--file", "/mapreduce/item.json"]))
    item = PlannedItem(f"id-{text[:1000]}", canonical({"text": text}))

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=item, work=work)

    annotations = body["spec"]["template"]["metadata"]["annotations"]
    assert annotations["mapreduce.dev/item"].encode() == item.payload
    assert annotations["mapreduce.dev/item-id"] == item.id
    assert json.loads(annotations["mapreduce.dev/context"])["itemId"] == item.id
    assert body["spec"]["template"]["spec"] == map_pod(
        with_agent(command=["agent", "$(MAPREDUCE_JOB)"], args=["--file", "/mapreduce/item.json"])
    ), "the same for every item"


@given(strategies.item_ids, strategies.json_values)
def test_nothing_of_the_pod_but_its_annotations_and_labels_depends_on_the_item(name: str, value: Any) -> None:
    work = map_work(SMALLEST)
    revision = prepare(Stage.MAP, work, RUN)

    one = manifest(revision, RUN, DISPATCH, attempt=1, item=PlannedItem(name, canonical(value)), work=work)
    other = manifest(revision, RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert one["spec"]["template"]["spec"] == other["spec"]["template"]["spec"]
    assert one["metadata"]["labels"] == other["metadata"]["labels"]


@given(strategies.item_ids, strategies.json_values)
def test_a_job_can_be_written_and_read_as_json_without_loss(name: str, value: Any) -> None:
    work = map_work(SMALLEST)

    body = manifest(
        prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=PlannedItem(name, canonical(value)), work=work
    )

    assert json.loads(msgspec.json.encode(body)) == body


# --------------------------------------------------------------------------------------- what the template says is kept


@pytest.mark.parametrize(
    ("template", "path", "value"),
    [
        (with_spec(automountServiceAccountToken=True), ("automountServiceAccountToken",), True),
        (with_spec(enableServiceLinks=True), ("enableServiceLinks",), True),
        (with_spec(securityContext={"runAsNonRoot": False}), ("securityContext", "runAsNonRoot"), False),
        (with_spec(securityContext={"runAsUser": 0}), ("securityContext", "runAsUser"), 0),
        (with_spec(securityContext={"runAsGroup": 0}), ("securityContext", "runAsGroup"), 0),
        (with_spec(securityContext={"fsGroup": 7}), ("securityContext", "fsGroup"), 7),
        (
            with_spec(securityContext={"seccompProfile": {"type": "Unconfined"}}),
            ("securityContext", "seccompProfile"),
            {"type": "Unconfined"},
        ),
        (
            with_agent(securityContext={"allowPrivilegeEscalation": True}),
            ("containers", 0, "securityContext", "allowPrivilegeEscalation"),
            True,
        ),
        (
            with_agent(securityContext={"readOnlyRootFilesystem": False}),
            ("containers", 0, "securityContext", "readOnlyRootFilesystem"),
            False,
        ),
        (
            with_agent(securityContext={"capabilities": {"add": ["NET_BIND_SERVICE"]}}),
            ("containers", 0, "securityContext", "capabilities"),
            {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
        ),
        (
            with_agent(securityContext={"capabilities": {"drop": []}}),
            ("containers", 0, "securityContext", "capabilities"),
            {"drop": []},
        ),
        (with_spec(nodeSelector={"disk": "fast"}), ("nodeSelector",), {"disk": "fast"}),
        (with_spec(serviceAccountName="agent"), ("serviceAccountName",), "agent"),
        (with_spec(restartPolicy="Never"), ("restartPolicy",), "Never"),
        (with_agent(resources={"limits": {"cpu": "1"}}), ("containers", 0, "resources"), {"limits": {"cpu": "1"}}),
    ],
)
def test_the_own_value_of_the_template_wins(template: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
    found: Any = map_pod(template)
    for step in path:
        found = found[step]

    assert found == value


def test_what_a_template_relaxes_is_relaxed_alone() -> None:
    pod = map_pod(
        {
            "spec": {
                "securityContext": {"runAsUser": 1000},
                "containers": [SMALLEST["spec"]["containers"][0] | {"securityContext": {"runAsUser": 0}}],
            }
        }
    )

    assert pod["securityContext"] == {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["containers"][0]["securityContext"] == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_volumes_mounts_and_variables_of_the_template_are_kept_and_ours_come_after() -> None:
    volume = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    mount = {"name": "models", "mountPath": "/models"}
    variable = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "token", "key": "token"}}}
    template = with_spec(volumes=[volume])
    template["spec"]["containers"] = [SMALLEST["spec"]["containers"][0] | {"volumeMounts": [mount], "env": [variable]}]

    pod = map_pod(template)

    assert [one["name"] for one in pod["volumes"]] == ["models", "mapreduce", "mapreduce-tmp"]
    assert pod["volumes"][0] == volume
    assert [one["mountPath"] for one in pod["containers"][0]["volumeMounts"]] == [
        "/models",
        "/tmp",
        "/mapreduce/item.json",
        "/mapreduce/context.json",
    ]
    assert pod["containers"][0]["env"][0] == variable


@pytest.mark.parametrize("path", ["/tmp", "/tmp/"])
def test_a_template_that_brings_its_own_tmp_keeps_it(path: str) -> None:
    own = {"name": "scratch", "mountPath": path}

    pod = map_pod(with_agent(volumeMounts=[own]))

    mounts = pod["containers"][0]["volumeMounts"]
    assert [mount for mount in mounts if mount["mountPath"].rstrip("/") == "/tmp"] == [own]


def test_a_mount_below_tmp_is_no_tmp() -> None:
    pod = map_pod(with_agent(volumeMounts=[{"name": "cache", "mountPath": "/tmp/cache"}]))

    assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]][:2] == ["/tmp/cache", "/tmp"]


def test_a_variable_that_the_template_sets_is_not_set_again() -> None:
    pod = map_pod(with_agent(env=[{"name": "HOME", "value": "/home/agent"}]))

    assert [one["value"] for one in pod["containers"][0]["env"] if one["name"] == "HOME"] == ["/home/agent"]


def test_other_containers_get_the_files_too_and_only_the_first_owes_the_result() -> None:
    one, two = SMALLEST["spec"]["containers"][0], {"name": "helper", "image": "helper:1"}
    template = {
        "spec": {
            "initContainers": [{"name": "fetch", "image": "fetch:1"}],
            "containers": [one, two | {"terminationMessagePath": "/dev/log"}],
        }
    }

    pod = map_pod(template)

    for container in (*pod["initContainers"], *pod["containers"]):
        assert "/mapreduce/item.json" in [mount["mountPath"] for mount in container["volumeMounts"]]
        assert "MAPREDUCE_ITEM_FILE" in [variable["name"] for variable in container["env"]]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    agent, helper = pod["containers"]
    assert (agent["terminationMessagePath"], agent["terminationMessagePolicy"]) == (
        "/mapreduce/result.json",
        "FallbackToLogsOnError",
    )
    assert helper["terminationMessagePath"] == "/dev/log"
    assert "terminationMessagePath" not in pod["initContainers"][0]


@pytest.mark.parametrize("name", ["volumes", "initContainers", "securityContext"])
def test_a_null_in_the_pod_means_not_given(name: str) -> None:
    pod = map_pod(with_spec(**{name: None}))

    assert {field: value for field, value in pod.items() if value is not None} == map_pod(SMALLEST)


@pytest.mark.parametrize("name", ["volumeMounts", "env", "securityContext"])
def test_a_null_in_a_container_means_not_given(name: str) -> None:
    (agent,) = map_pod(with_agent(**{name: None}))["containers"]

    assert [agent] == map_pod(SMALLEST)["containers"]


@pytest.mark.parametrize("name", ["automountServiceAccountToken", "enableServiceLinks"])
def test_a_null_gives_no_token_away(name: str) -> None:
    assert map_pod(with_spec(**{name: None}))[name] is False


def test_a_null_relaxes_nothing() -> None:
    nulls = dict.fromkeys(("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile"))

    assert map_pod(with_spec(securityContext=nulls)) == map_pod(SMALLEST)


NONSENSE = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
NESTED_NONSENSE = st.recursive(
    NONSENSE,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "mountPath", "value", "runAsUser"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(["volumes", "initContainers", "securityContext"]), NESTED_NONSENSE),
    st.dictionaries(st.sampled_from(["volumeMounts", "env", "securityContext"]), NESTED_NONSENSE),
)
def test_a_malformed_template_is_left_for_the_api_server_to_refuse(pod: dict[str, Any], agent: dict[str, Any]) -> None:
    work = map_work({"spec": pod | {"containers": [SMALLEST["spec"]["containers"][0] | agent]}})

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert body["spec"]["template"]["spec"]["containers"][0]["image"] == "agent:1"


# ------------------------------------------------------------------------------------------------------------ revisions


def prepared(template: dict[str, Any], **more: Any) -> Revision:
    return prepare(Stage.MAP, map_work(template, **more), RUN)


def test_a_template_is_not_changed_by_preparing_it() -> None:
    template = with_agent(env=[{"name": "A", "value": "1"}], volumeMounts=[{"name": "v", "mountPath": "/v"}])
    template |= {"metadata": {"labels": {"team": "a"}}}
    before, work = copy.deepcopy(template), map_work(template)

    first = prepare(Stage.MAP, work, RUN)
    second = prepare(Stage.MAP, work, RUN)

    assert template == before
    assert work.template.as_written() == before
    assert first == second


def test_labels_of_the_mapreducejob_give_way_to_those_of_the_template_and_of_the_operator() -> None:
    work = map_work({"metadata": {"labels": {"team": "template"}}} | SMALLEST)
    copied = {"team": "job", "tier": "job", "mapreduce.dev/job": "another"}

    body = manifest(prepare(Stage.MAP, work, RUN), RUN, DISPATCH, attempt=1, item=ITEM, work=work, labels=copied)

    def told(metadata: Manifest) -> list[str]:
        return [metadata["labels"][key] for key in copied]

    assert told(body["metadata"]) == ["job", "job", "licence-words"]
    assert told(body["spec"]["template"]["metadata"]) == ["template", "job", "licence-words"]


def test_making_a_job_changes_nothing_of_the_revision() -> None:
    work = map_work(SMALLEST)
    revision = prepare(Stage.MAP, work, RUN)
    before = copy.deepcopy(revision)

    manifest(revision, RUN, DISPATCH, attempt=1, item=ITEM, work=work)

    assert revision == before


def test_the_revision_of_a_template_is_the_same_in_every_process_and_in_every_order_of_keys() -> None:
    assert prepared({"spec": {"containers": [{"image": "agent:1", "name": "agent"}]}}).hash == prepared(SMALLEST).hash
    assert prepared(SMALLEST).hash == "5fc4c8e221"


@pytest.mark.parametrize(
    "template",
    [
        with_agent(image="agent:2"),
        with_agent(command=["run"]),
        with_agent(env=[{"name": "A", "value": "1"}]),
        with_spec(nodeSelector={"a": "b"}),
        with_spec(containers=[*SMALLEST["spec"]["containers"], {"name": "b", "image": "b"}]),
        {"metadata": {"labels": {"a": "b"}}} | SMALLEST,
        {"metadata": {"annotations": {"a": "b"}}} | SMALLEST,
    ],
)
def test_any_change_of_a_template_is_another_revision(template: dict[str, Any]) -> None:
    assert prepared(template).hash != prepared(SMALLEST).hash


def test_other_params_are_another_revision() -> None:
    work = map_work(SMALLEST)
    different: list[dict[str, Any]] = [{"a": 1}, {"a": 2}, {"a": 1, "b": 1}, {"b": 1}]

    hashes = [prepare(Stage.MAP, work, RUN, params).hash for params in ({}, *different)]

    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == prepare(Stage.MAP, work, RUN).hash
    assert prepare(Stage.MAP, work, RUN, {"b": 1, "a": 1}).hash == hashes[3], "in whatever order"


def test_a_change_beside_the_template_is_no_other_revision() -> None:
    changed = prepared(SMALLEST, timeoutSeconds=60, maxParallel=99, retry={"maxAttempts": 9})

    assert changed.hash == prepared(SMALLEST).hash


def test_a_changed_timeout_counts_from_the_next_job_on() -> None:
    assert prepared(SMALLEST, timeoutSeconds=60).pod_spec["activeDeadlineSeconds"] == 60
