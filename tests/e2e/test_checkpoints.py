"""Checkpoints: what gives rise to them, what becomes of a damaged one, and the ways back that people have.

All jobs are there from the start and run side by side. Then the operator is stopped in order, once for all of them, and
bits of what it stored are changed before it is started again.
"""

import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from kubernetes import client

from tests.e2e.sandbox import GATED_OK, Body, Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

log = logging.getLogger(__name__)

NAMESPACE: Final = "mapreduce-system"
OPERATOR: Final = "mapreduce-operator"
VOLUME_POD: Final = "e2e-volume"

DAMAGED: Final = {
    "segment": [("journal/segment-*", "verdict")],
    "head": [("head.json", "phase")],
    "both": [("head.json", "phase"), ("checkpoints/*", "phase")],
}
"""By the name of a job the objects in which one bit is changed, the newest of each kind, and in which word."""
SELDOM: Final[Body] = {"everyItems": 1000, "everySeconds": 3600}
"""Neither by number nor by time."""
DISPATCH: Final = """
    dispatch=$(sed -E 's/.*"dispatch":([0-9]+).*/\\1/' /mapreduce/context.json)
    if grep -q gated /mapreduce/item.json && [ "$dispatch" = 1 ]; then
        until [ -e /tmp/open ]; do sleep 0.1; done
    fi
    echo "$dispatch" > /mapreduce/result.json
"""
TABLE: Final = """
    word=$(sed -nE 's/.*"word":"([^"]*)".*/\\1/p' /mapreduce/context.json)
    table=$(sed -E 's/.*"id":("[^"]*"),"result":([0-9]+).*/\\1:\\2/' /mapreduce/results.jsonl | paste -sd,)
    printf '{"dispatches":{%s},"word":"%s"}' "$table" "$word" > /mapreduce/result.json
"""
"""Of which dispatch each result is, and a param of the job."""
FAILS_UNLESS_MENDED: Final = f"""
    if grep -q bad /mapreduce/item.json; then
        grep -q '"params":{{"mended":true}}' /mapreduce/context.json || exit 1
    fi
    {GATED_OK}
"""


FLIP: Final = """
import pathlib, sys
newest = max(pathlib.Path(sys.argv[1]).glob(sys.argv[2]))
data = bytearray(newest.read_bytes())
data[data.rindex(sys.argv[3].encode())] ^= 1
newest.write_bytes(data)
"""


def named(name: str, *items: str, script: str = GATED_OK, **more: Any) -> Body:
    """A job whose items are strings, which are their ids as well."""
    body = job(name, list(items), script, **more)
    body["spec"]["input"]["idExpression"] = "item"
    return body


def reading(name: str, config_map: str) -> Body:
    """A job whose items are those of a ConfigMap."""
    body = job(name, [], GATED_OK, suspendPolicy="Interrupt")
    body["spec"]["input"] = {"configMapRef": {"name": config_map, "key": "items"}, "idExpression": "item"}
    return body


def put_items(shared: Sandbox, *items: str) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "list"},
        "data": {"items": json.dumps(items)},
    }
    shared.kubectl("apply", "--filename=-", stdin=json.dumps(body))


@pytest.fixture(scope="module", autouse=True)
def jobs(shared: Sandbox) -> None:
    put_items(shared, "free", "gated")
    for body in [
        *(named(name, "free 1", "free 2", "free 3", "gated 1", "gated 2", checkpoint=SELDOM) for name in DAMAGED),
        named("seldom", "free", "gated 1", "gated 2", checkpoint=SELDOM, map_={"maxParallel": 1}),
        named("disabled", "free", "gated", checkpoint={"enabled": False}),
        reading("reading", "list"),
        named("late", "gated", activeDeadlineSeconds=30),
        named(
            "travelled", "free 1", "free 2", "free 3", "gated 1", "gated 2",
            script=DISPATCH, params={"word": "one"}, reduce={"template": agent(TABLE)},
        ),
        named(
            "retried", "good 1", "good 2", "good 3", "bad",
            script=FAILS_UNLESS_MENDED, map_={"maxParallel": 1, "retry": {"maxAttempts": 1}},
            checkpoint={"everyItems": 1, "keep": 2, "pinned": [1]},
        ),
    ]:  # fmt: skip
        shared.create(body)
    shared.apply_example("restore.yaml")


# ----------------------------------------------------------------------------------------------------- the ways back


def test_a_restore_runs_again_exactly_what_ended_after_the_checkpoint(shared: Sandbox) -> None:
    name = "travelled"
    pods = shared.until_at_work(name, "gated 1", "gated 2")
    early = shared.until_succeeded(name, 3)["checkpoint"]["sequence"]
    shared.open_gates(pods)
    status = shared.until_finished(name)
    late = status["checkpoint"]["sequence"]
    first: Body = {"dispatches": dict.fromkeys(["free 1", "free 2", "free 3", "gated 1", "gated 2"], 1), "word": "one"}
    assert status["result"] == first
    assert {early, late} <= expanded(status["checkpoint"]["kept"])

    shared.patch(name, {"suspend": True, "restore": {"checkpoint": early}})
    status = shared.until(name, lambda status: "restore" in status)
    assert (status["restore"]["checkpoint"], status["restore"]["sequence"]) == (early, late + 1)
    assert condition(status, "Restored")["status"] == "True"
    assert (status["phase"], status["items"]["succeeded"], status["items"]["pending"]) == ("Paused", 3, 2)
    shared.patch(name, {"suspend": False})
    status = shared.until_finished(name)
    assert status["result"]["dispatches"] == first["dispatches"] | {"gated 1": 2, "gated 2": 2}
    shared.until_started(name, (5 + 1) + (2 + 1))

    # What came after the checkpoint is not lost by that.
    shared.patch(name, {"suspend": True, "restore": {"checkpoint": late}})
    status = shared.until(name, lambda status: status["restore"]["checkpoint"] == late and "completionTime" in status)
    assert (status["phase"], status["result"]) == ("Succeeded", first)
    shared.until_started(name, (5 + 1) + (2 + 1))


def expanded(intervals: str) -> set[int]:
    """The numbers of intervals such as `1,40,62-71`."""
    bounds = [[int(number) for number in one.split("-")] for one in intervals.split(",")]
    return {number for one in bounds for number in range(one[0], one[-1] + 1)}


def test_a_restart_of_the_reduce_runs_no_item(shared: Sandbox) -> None:
    name = "travelled"
    before = shared.until_finished(name)
    shared.patch(name, {"suspend": False, "params": {"word": "two"}, "restart": {"phase": "Reduce", "token": "1"}})
    status = shared.until(name, lambda status: "restart" in status and "completionTime" in status)
    assert status["result"] == before["result"] | {"word": "two"}
    assert condition(status, "Restarted")["status"] == "True"
    shared.until_started(name, (5 + 1) + (2 + 1) + 1)


def test_the_example_goes_back_to_its_first_item(shared: Sandbox) -> None:
    shared.follow_example("restore.yaml")
    status = shared.until_finished("steps")
    assert status["result"] == {"one": 1, "two": 2, "three": 2, "four": 2}
    assert (status["restore"]["checkpoint"], status["restart"]["phase"]) == (1, "Reduce")
    shared.until_started("steps", (4 + 1) + (3 + 1) + 1)


def test_a_restart_of_the_map_runs_what_was_given_up_and_nothing_else(shared: Sandbox) -> None:
    name = "retried"
    status = shared.until_finished(name)
    assert (status["phase"], status["items"]["deadLettered"]) == ("PartiallySucceeded", 1)
    shared.patch(name, {"params": {"mended": True}, "restart": {"phase": "Map", "token": "mended"}})
    status = shared.until(name, lambda status: status["phase"] == "Succeeded")
    assert (status["restart"]["phase"], status["restart"]["token"]) == ("Map", "mended")
    assert status["items"]["succeeded"] == status["items"]["total"] == 4
    shared.until_started(name, 4 + 1)
    shared.until_queued(name, open=0, resolved=1)
    kept, sequence = expanded(status["checkpoint"]["kept"]), status["checkpoint"]["sequence"]
    assert {1, sequence - 1, sequence} <= kept
    assert 2 not in kept


def test_a_job_that_takes_longer_than_it_may_is_stopped(shared: Sandbox) -> None:
    status = shared.until_finished("late")
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")
    assert (status["items"]["pending"], status["attempts"]["total"]) == (1, 0)
    shared.until_pods(lambda pods: not pods, job="late")


# --------------------------------------------------------------------------------------- the operator and its storage


@contextmanager
def operator_stopped(shared: Sandbox) -> Iterator[str]:
    """Stops the operator in order; gives the name of a pod that has its volume meanwhile, at the same place."""
    deployment: Any = client.AppsV1Api().read_namespaced_deployment(OPERATOR, NAMESPACE)
    replicas, spec = deployment.spec.replicas, deployment.spec.template.spec
    (container,), grace_seconds = spec.containers, spec.termination_grace_period_seconds
    container.command = ["sleep", "infinity"]
    container.liveness_probe = container.readiness_probe = spec.affinity = None
    spec.termination_grace_period_seconds = 0
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name=VOLUME_POD), spec=spec)

    def kubectl(*arguments: str) -> None:
        shared.kubectl("--namespace", NAMESPACE, *arguments)

    kubectl("scale", f"deployment/{OPERATOR}", "--replicas=0")
    try:
        asked = time.monotonic()
        selector = f"--selector=app.kubernetes.io/name={OPERATOR},app.kubernetes.io/component=operator"
        kubectl("wait", "--for=delete", "pods", selector, "--timeout=180s")
        seconds = time.monotonic() - asked
        log.info("the operator was gone %.1f s after it was asked to stop", seconds)
        # By then a kubelet kills one that has not ended by itself.
        assert seconds < grace_seconds
        client.CoreV1Api().create_namespaced_pod(NAMESPACE, pod)
        kubectl("wait", "--for=condition=Ready", f"pod/{VOLUME_POD}", "--timeout=180s")
        yield VOLUME_POD
    finally:
        kubectl("scale", f"deployment/{OPERATOR}", f"--replicas={replicas}")
        kubectl("delete", "pod", VOLUME_POD, "--ignore-not-found")
        kubectl("rollout", "status", f"deployment/{OPERATOR}", "--timeout=180s")


@pytest.fixture(scope="module")
def stopped(shared: Sandbox) -> dict[str, Body]:
    """What the jobs said while the operator was away. Its storage was damaged then, and it is back."""
    shared.until_at_work("reading", "gated")
    shared.until_succeeded("reading", 1)
    shared.patch("reading", {"suspend": True})
    shared.until("reading", lambda status: status["phase"] == "Paused" and status["active"] == 0)
    put_items(shared, "free", "new")
    shared.open_gates(shared.until_at_work("seldom", "gated 1"))
    shared.until_at_work("seldom", "gated 2")
    for name in DAMAGED:
        first, _ = shared.until_at_work(name, "gated 1", "gated 2")
        shared.patch(name, {"suspend": True})
        shared.until_succeeded(name, 3)
        shared.open_gates([first])
        shared.until_succeeded(name, 4)
    with operator_stopped(shared) as pod:
        found = {name: shared.status(name) for name in ("seldom", "disabled", *DAMAGED)}
        for name, objects in DAMAGED.items():
            folder = urlsplit(found[name]["storage"]).path
            for pattern, word in objects:
                flip = ("python3", "-c", FLIP, folder, pattern, word)
                shared.kubectl("--namespace", NAMESPACE, "exec", pod, "--quiet", "--", *flip)
    return found


def test_a_checkpoint_is_made_when_somebody_asks_for_it(shared: Sandbox) -> None:
    # One after another: that the second one runs shows that the operator knows of the first one's end.
    shared.until_at_work("seldom", "gated 1")
    assert shared.status("seldom")["items"]["succeeded"] == 0
    shared.kubectl("annotate", "mrj/seldom", "mapreduce.dev/checkpoint=now")
    status = shared.until("seldom", lambda status: status["checkpoint"].get("token") == "now")
    assert status["checkpoint"]["reason"] == "Manual"
    assert status["items"]["succeeded"] == 1
    header, row = shared.kubectl("get", "mrj/seldom", "--output=wide").splitlines()
    age = row[header.index("CHECKPOINT") :].split()[0]
    assert re.fullmatch(r"[0-9]+s", age)


def test_an_operator_that_is_stopped_saves_what_it_knows(shared: Sandbox, stopped: dict[str, Body]) -> None:
    status = stopped["seldom"]
    assert status["checkpoint"]["reason"] == "Shutdown"
    assert (status["items"]["succeeded"], status["items"]["running"]) == (2, 1)
    shared.open_gates(shared.until_at_work("seldom", "gated 2"))
    status = shared.until_finished("seldom")
    assert (status["phase"], status["attempts"]["total"]) == ("Succeeded", 3)
    shared.until_started("seldom", 3)


def test_a_job_without_checkpoints_goes_on_all_the_same(shared: Sandbox, stopped: dict[str, Body]) -> None:
    healthy = condition(stopped["disabled"], "CheckpointHealthy")
    assert (healthy["status"], healthy["reason"]) == ("True", "CheckpointsDisabled")
    assert stopped["disabled"]["checkpoint"]["kept"] == ""
    shared.open_gates(shared.until_at_work("disabled", "gated"))
    assert shared.until_finished("disabled")["attempts"] == {"total": 2, "interruptions": 0, "retries": 0}


@pytest.mark.parametrize("name", DAMAGED)
def test_one_bit_that_changed_in_storage_is_found_and_only_what_is_lost_runs_again(
    shared: Sandbox, stopped: dict[str, Body], name: str
) -> None:
    lost = 1 if name == "segment" else 0
    status = shared.until(name, lambda status: condition(status, "CheckpointHealthy")["reason"] == "Recovered")
    assert condition(status, "CheckpointHealthy")["status"] == "True"
    assert status["checkpoint"]["sequence"] > stopped[name]["checkpoint"]["sequence"]
    assert status["items"]["succeeded"] == 4 - lost
    shared.until_event(name, "CheckpointFallback")
    # One agent ran all the time.
    shared.open_gates(shared.until_at_work(name, "gated 2"))
    shared.patch(name, {"suspend": False})
    status = shared.until_finished(name)
    assert (status["phase"], status["items"]["succeeded"]) == ("Succeeded", 5)
    shared.until_started(name, 5 + lost)


@pytest.mark.usefixtures("stopped")
def test_a_new_input_is_said_and_planned_when_somebody_asks_for_it(shared: Sandbox) -> None:
    name = "reading"
    status = shared.until(name, lambda status: condition(status, "PlanCurrent")["status"] == "False")
    assert condition(status, "PlanCurrent")["reason"] == "InputChanged"
    assert (status["plan"]["items"], status["items"]["succeeded"], status["items"]["pending"]) == (2, 1, 1)
    shared.patch(name, {"restart": {"phase": "Plan", "token": "1"}})
    status = shared.until(name, lambda status: condition(status, "PlanCurrent")["status"] == "True")
    assert (status["restart"]["phase"], condition(status, "Restarted")["status"]) == ("Plan", "True")
    assert (status["items"]["succeeded"], status["items"]["pending"]) == (1, 1)
    shared.patch(name, {"suspend": False})
    status = shared.until_finished(name)
    assert (status["phase"], status["items"]["succeeded"]) == ("Succeeded", 2)
    shared.until_started(name, 3)
