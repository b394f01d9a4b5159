"""Jobs with real agents: what succeeds, what fails, and what arrives."""

import base64
import hashlib
import json
from typing import Any

import pytest
from kubernetes import client

from tests.e2e.sandbox import AGENT_IMAGE, Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OK = """echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE" """


def test_the_licence_example_counts_as_wc_does(sandbox: Sandbox) -> None:
    name = sandbox.apply_example("licence-words.yaml")
    status = sandbox.until_finished(name, 300)
    assert status["phase"] == "Succeeded"
    assert status["progress"] == "14/14"
    assert status["result"]["words"] == counted_by_wc(sandbox, list(status["result"]["words"]))
    assert status["result"]["total"] == sum(status["result"]["words"].values())
    assert list(status["result"]["words"])[0:2] == ["Apache-2.0", "Artistic"]
    sandbox.until_no_job()


def counted_by_wc(sandbox: Sandbox, files: list[str]) -> dict[str, int]:
    """`wc -w` over the same files in the same image, without the operator."""
    client.CoreV1Api().create_namespaced_pod(sandbox.namespace, wc_pod(["wc", "-w", *files]))
    sandbox.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/wc", "--timeout=180s")
    lines = [line.split() for line in sandbox.kubectl("logs", "wc").splitlines()]
    return {file: int(words) for words, file in lines if file != "total"}


def wc_pod(command: list[str]) -> Any:
    restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "wc"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "wc",
                    "image": AGENT_IMAGE,
                    "command": command,
                    "workingDir": "/usr/share/common-licenses",
                    "securityContext": restricted,
                }
            ],
        },
    }


def test_the_flaky_example_shows_retries_and_failures_for_good(sandbox: Sandbox) -> None:
    name = sandbox.apply_example("flaky.yaml")
    status = sandbox.until_finished(name)
    assert status["phase"] == "PartiallySucceeded"
    assert status["items"] | {"total": 4, "succeeded": 2, "deadLettered": 2} == status["items"]
    # steady once, shaky and hopeless three times each, refused once.
    assert status["attempts"] == {"total": 8, "interruptions": 0, "retries": 4}
    assert status["positions"]["map"]["deadLettered"] == "2-3"
    assert [(failure["count"], failure["signature"]) for failure in status["failures"]] == [
        (5, "Error (exit code 1): attempt <n> of an item that fails <n> times"),
        (1, "Error (exit code 1): NotForMe: this item can never work"),
    ]
    assert condition(status, "Complete")["status"] == "True"


def test_exhausted_retries_fail_the_job_when_no_item_succeeds(sandbox: Sandbox) -> None:
    retry = {"maxAttempts": 2, "backoff": {"initialSeconds": 1}}
    name = sandbox.create(job("hopeless", [1, 2], "echo no luck >&2; exit 3", map_={"retry": retry}))
    status = sandbox.until_finished(name)
    assert (status["phase"], status["reason"]) == ("Failed", "NoItemSucceeded")
    assert status["attempts"]["total"] == 4
    assert "no luck" in status["failures"][0]["message"]
    assert condition(status, "Failed")["status"] == "True"
    assert condition(status, "Stalled")["status"] == "True"


HOSTILE: dict[str, Any] = {
    "quotes": "\"double\" 'single' `back`",
    "newlines": "one\ntwo\r\nthree\ttab",
    "substitution": "$(HOME) $(X) $$(X) ${PATH} %s",
    "injection": '"; rm -rf / #',
    "unicode": "äöü 漢字 🦀 \u2028 \u0000 \u001b[31m",
    "large": "x" * 30_000,
    "nested": {"a": [1, 2.5, None, True, {"b": "\\"}]},
    "empty": "",
}


def test_hostile_payloads_arrive_byte_for_byte(sandbox: Sandbox) -> None:
    script = """
        sum=$(sha256sum < "$MAPREDUCE_ITEM_FILE" | cut -d' ' -f1)
        printf '{"sum":"%s","bytes":%d}' "$sum" "$(wc -c < "$MAPREDUCE_ITEM_FILE")" > "$MAPREDUCE_RESULT_FILE"
    """
    body = job("hostile", [{"kind": kind, "data": data} for kind, data in HOSTILE.items()], script)
    body["spec"]["input"]["idExpression"] = "item.kind"
    # The reducer returns what the agents saw.
    body["spec"]["reduce"] = {
        "template": agent("""
            pairs=$(sed -E 's/.*"id":("[^"]*").*"sum":("[^"]*").*/\\1:\\2/' "$MAPREDUCE_RESULTS_FILE" | paste -sd,)
            printf '{%s}' "$pairs" > "$MAPREDUCE_RESULT_FILE"
        """)
    }
    status = sandbox.until_finished(sandbox.create(body))
    assert status["phase"] == "Succeeded"
    expected = {
        kind: hashlib.sha256(
            json.dumps({"data": data, "kind": kind}, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()
        for kind, data in HOSTILE.items()
    }
    assert status["result"] == expected


def test_ids_may_be_anything(sandbox: Sandbox) -> None:
    ids = ["../x", "UPPER", "upper", "a b", "ü" * 1000, "漢字", "-", "a/b/c", '"quoted"', "x" * 4000]
    body = job("ids", ids, OK)
    body["spec"]["input"]["idExpression"] = "item"
    status = sandbox.until_finished(sandbox.create(body))
    assert status["items"]["succeeded"] == len(ids)


def test_an_agent_sees_its_context_and_runs_restricted(sandbox: Sandbox) -> None:
    script = """
        token=absent; [ ! -e /var/run/secrets/kubernetes.io/serviceaccount ] || token=present
        root=writable; touch /probe 2>/dev/null || root=read-only
        tmp=read-only; touch "$HOME/probe" && tmp=writable
        printf '{"uid":%d,"token":"%s","root":"%s","tmp":"%s","home":"%s","context":%s}' \\
            "$(id -u)" "$token" "$root" "$tmp" "$HOME" "$(cat /mapreduce/context.json)" > /mapreduce/result.json
    """
    body = job("context", ["only"], script, map_={"timeoutSeconds": 55, "retry": {"maxAttempts": 2}})
    body["spec"]["input"]["idExpression"] = "item"
    body["spec"]["reduce"] = {
        "template": agent("""sed -E 's/.*"result":(.*)}$/\\1/' /mapreduce/results.jsonl > /mapreduce/result.json""")
    }
    status = sandbox.until_finished(sandbox.create(body))
    result = status["result"]
    uid = sandbox.get("context")["metadata"]["uid"]
    assert result.pop("context") == {
        "job": "context",
        "namespace": sandbox.namespace,
        "jobUid": uid,
        "itemId": "only",
        "dispatch": 1,
        "attempt": 1,
        "maxAttempts": 2,
        "timeoutSeconds": 55,
    }
    assert result == {"uid": 65532, "token": "absent", "root": "read-only", "tmp": "writable", "home": "/tmp"}  # noqa: S108


def test_a_config_map_as_input_may_come_later(sandbox: Sandbox) -> None:
    body = job("listed", [], OK)
    body["spec"]["input"] = {"configMapRef": {"name": "files", "key": "list", "format": "JSONLines"}}
    name = sandbox.create(body)
    status = sandbox.until(name, lambda status: condition(status, "Stalled")["status"] == "True")
    assert condition(status, "Accepted")["reason"] == "ConfigMapNotFound"
    assert sandbox.jobs() == []
    sandbox.kubectl("create", "configmap", "files", '--from-literal=list="a"\n{"b": 1}\n3\n')
    status = sandbox.until_finished(name)
    assert status["items"]["succeeded"] == 3


def test_a_template_that_the_api_server_refuses_is_reported_and_can_be_corrected(sandbox: Sandbox) -> None:
    body = job("typo", [1], OK)
    body["spec"]["map"]["template"]["spec"]["containers"][0]["imagePulPolicy"] = "Always"
    name = sandbox.create(body)
    status = sandbox.until(name, lambda status: condition(status, "Stalled")["status"] == "True")
    assert condition(status, "Stalled")["reason"] == "TemplateRejected"
    assert "imagePulPolicy" in condition(status, "Stalled")["message"]
    assert sandbox.jobs() == []
    sandbox.patch(name, {"map": {"template": agent(OK)}})
    assert sandbox.until_finished(name)["phase"] == "Succeeded"


def test_reduce_in_any_image_gets_failures_and_counts_too(sandbox: Sandbox) -> None:
    body = job(
        "partial",
        ["good", "bad"],
        """grep -q good /mapreduce/item.json || exit 7; echo '"fine"' > /mapreduce/result.json""",
        map_={"retry": {"maxAttempts": 1}},
    )
    body["spec"]["input"]["idExpression"] = "item"
    body["spec"]["reduce"] = {
        "template": agent("""
            printf '{"results":"%s","failures":"%s","items":%s}' \\
                "$(base64 -w0 /mapreduce/results.jsonl)" "$(base64 -w0 /mapreduce/failures.jsonl)" \\
                "$(sed -E 's/.*"items":(\\{[^}]*\\}).*/\\1/' /mapreduce/context.json)" > /mapreduce/result.json
        """)
    }
    status = sandbox.until_finished(sandbox.create(body))
    assert status["phase"] == "PartiallySucceeded"
    result = status["result"]
    assert base64.b64decode(result["results"]) == b'{"id":"good","result":"fine"}\n'
    failure = json.loads(base64.b64decode(result["failures"]))
    assert failure | {"id": "bad", "reason": "Error", "exitCode": 7} == failure
    assert result["items"] == {"deadLettered": 1, "skipped": 0, "succeeded": 1, "total": 2}
