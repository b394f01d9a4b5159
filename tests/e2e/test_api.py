"""The read-only API of the real release: who may ask what, that it writes nothing, and that it tells what is so."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.e2e.sandbox import QUEUES, Body, Sandbox, agent, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RELEASE = ("--namespace", "mapreduce-system")
API = "deployment/mapreduce-operator-api"
NAME = "told"
SCRIPT = """
    if grep -q bad /mapreduce/item.json; then echo 'this one is bad' >&2; exit 1; fi
    cp /mapreduce/item.json /mapreduce/result.json
"""
COUNTS = "wc -l < /mapreduce/results.jsonl > /mapreduce/result.json"


@dataclass(frozen=True)
class Api:
    """The API at the end of a port-forward, asked with one token."""

    port: int
    token: str
    namespace: str

    def get(self, path: str, **query: Any) -> tuple[int, str]:
        """Code and text of the answer; the path is that behind the namespace."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        connection.request("GET", f"/v1/namespaces/{self.namespace}/{path}?{urlencode(query)}", headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def told(self, path: str, **query: Any) -> Any:
        code, text = self.get(path, **query)
        assert code == 200, text
        return json.loads(text)

    def lines(self, path: str, **query: Any) -> list[Any]:
        code, text = self.get(path, **query)
        assert code == 200, text
        return [json.loads(line) for line in text.splitlines()]


@contextmanager
def forwarded(target: str, port: int) -> Iterator[int]:
    """A local port that leads to one of the release."""
    line = ["kubectl", *RELEASE, "port-forward", "--address=127.0.0.1", target, f":{port}"]
    with subprocess.Popen(line, text=True, stdout=subprocess.PIPE) as forward:
        assert forward.stdout is not None
        try:
            found = re.search(r"127\.0\.0\.1:(\d+)", forward.stdout.readline())
            assert found, "kubectl port-forward said nothing"
            yield int(found[1])
        finally:
            forward.terminate()


@pytest.fixture(scope="module")
def finished(shared: Sandbox) -> Body:
    """The status of a job of two good items, a bad one and a reduce."""
    items = [{"name": name} for name in ("good", "better", "bad")]
    body = job(NAME, items, SCRIPT, map_={"retry": {"maxAttempts": 1}}, reduce={"template": agent(COUNTS)})
    body["spec"]["input"]["idExpression"] = "item.name"
    shared.create(body)
    return shared.until_finished(NAME)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with forwarded(API, 8081) as port:
        yield port


def token_of(sandbox: Sandbox, account: str) -> str:
    sandbox.kubectl("create", "serviceaccount", account)
    return sandbox.kubectl("create", "token", account).strip()


@pytest.fixture(scope="module")
def viewer(shared: Sandbox, port: int) -> Api:
    """Somebody with the cluster's own role view in the namespace, and nothing else."""
    token = token_of(shared, "viewer")
    shared.kubectl(
        *("create", "rolebinding", "viewers", "--clusterrole=view"), f"--serviceaccount={shared.namespace}:viewer"
    )
    shared.until_may("viewer", "get", f"mapreducejobs.mapreduce.dev/{NAME}")
    return Api(port, token, shared.namespace)


# ---------------------------------------------------------------------------------------------------- what is told


def test_it_tells_what_is_so(viewer: Api, finished: Body) -> None:
    jobs = f"mapreducejobs/{NAME}"

    items = viewer.lines(f"{jobs}/items")
    assert {one["id"]: one["state"] for one in items} == {
        "good": "Succeeded",
        "better": "Succeeded",
        "bad": "DeadLettered",
    }
    assert sum(one["state"] == "Succeeded" for one in items) == finished["items"]["succeeded"]
    mixed = 'item.name.startsWith("b") && status.state == "Succeeded"'
    assert [one["id"] for one in viewer.lines(f"{jobs}/items", filter=mixed)] == ["better"]
    bad = viewer.told(f"{jobs}/item", id="bad")
    assert (bad["payload"], bad["letter"]["state"]) == ({"name": "bad"}, "Open")
    assert "this one is bad" in bad["history"][0]["logTail"]

    assert viewer.lines(f"{jobs}/results") == [
        {"position": 0, "id": "good", "result": {"name": "good"}},
        {"position": 1, "id": "better", "result": {"name": "better"}},
    ]
    assert viewer.told(f"{jobs}/results/reduce")["result"] == finished["result"] == 2

    checkpoints = viewer.told(f"{jobs}/checkpoints")
    assert checkpoints[-1]["sequence"] == finished["checkpoint"]["sequence"]
    assert all(one["problems"] == [] for one in viewer.told(f"{jobs}/checkpoints/validation"))


def test_it_tells_of_letters(viewer: Api, finished: Body) -> None:
    queue = f"{QUEUES}/{finished['deadLetters']['queue']}"

    assert [one["id"] for one in viewer.lines(f"{queue}/letters", state="Open")] == ["bad"]
    assert viewer.told(f"{queue}/analysis")["reasons"] == {"Error": 1}
    assert viewer.told(f"{queue}/letter", id="bad")["payload"] == {"name": "bad"}


# ---------------------------------------------------------------------------------------------------- who may ask


@pytest.mark.usefixtures("finished")
def test_it_tells_nobody_else(viewer: Api, shared: Sandbox, port: int) -> None:
    path = f"mapreducejobs/{NAME}/items"

    assert Api(port, "", shared.namespace).get(path)[0] == 401
    assert Api(port, viewer.token[:-6] + "xxxxxx", shared.namespace).get(path)[0] == 401
    assert Api(port, viewer.token, "default").get(path)[0] == 403
    stranger = Api(port, token_of(shared, "stranger"), shared.namespace)
    code, text = stranger.get(path)
    assert code == 403
    assert f"system:serviceaccount:{shared.namespace}:stranger may not get mapreducejobs/items of {NAME}" in text
    # What is not there looks the same to who may not know.
    assert stranger.get("mapreducejobs/nothing/items")[0] == 403
    assert viewer.get("mapreducejobs/nothing/items")[0] == 404


@pytest.mark.usefixtures("finished")
def test_a_right_may_be_given_for_one_thing_and_is_taken_away_again(shared: Sandbox, port: int) -> None:
    reader = Api(port, token_of(shared, "reader"), shared.namespace)
    shared.kubectl(
        *("create", "role", "results", "--verb=get", "--resource=mapreducejobs.mapreduce.dev/results"),
        f"--resource-name={NAME}",
    )
    shared.kubectl(
        *("create", "rolebinding", "results", "--role=results"), f"--serviceaccount={shared.namespace}:reader"
    )
    shared.until_may("reader", "get", f"mapreducejobs.mapreduce.dev/{NAME}", "--subresource=results")

    assert len(reader.lines(f"mapreducejobs/{NAME}/results")) == 2
    assert reader.get(f"mapreducejobs/{NAME}/items")[0] == 403
    assert reader.get("mapreducejobs/other/results")[0] == 403


def test_it_takes_questions_on_loopback_only(shared: Sandbox) -> None:
    """From another pod, its probes answer and its questions do not."""
    pods = json.loads(
        shared.kubectl(*RELEASE, "get", "pods", "--selector=app.kubernetes.io/component=api", "--output=json")
    )["items"]
    # One that an upgrade replaced answers no more.
    address = next(pod["status"]["podIP"] for pod in pods if "deletionTimestamp" not in pod["metadata"])
    script = f"""
        exec 3<>/dev/tcp/{address}/8080
        printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3
        grep -q serving <&3
        if (exec 4<>/dev/tcp/{address}/8081) 2>/tmp/why; then exit 1; fi
        grep -q refused /tmp/why
        echo true > /mapreduce/result.json
    """
    name = shared.create(job("outside", [1], script, map_={"retry": {"maxAttempts": 1}}))

    assert shared.until_finished(name)["phase"] == "Succeeded"


# --------------------------------------------------------------------------------------------------- what it may do


def test_it_cannot_write_to_storage(shared: Sandbox) -> None:
    refused = shared.refused(*RELEASE, "exec", API, "--", "touch", "/var/lib/mapreduce-operator/written")
    assert "Read-only file system" in refused


def test_its_account_can_do_what_it_needs_and_no_more(shared: Sandbox) -> None:
    account = "--as=system:serviceaccount:mapreduce-system:mapreduce-operator-api"

    def rights(where: str) -> set[tuple[str, str]]:
        lines = shared.kubectl("auth", "can-i", "--list", account, "--namespace", where, "--no-headers").splitlines()
        found = {(line.split()[0], line.rpartition("[")[2].rstrip("]")) for line in lines if not line.startswith(" ")}
        # What everybody may who is known to the cluster.
        return {one for one in found if not one[0].startswith("selfsubject")}

    expected = {
        ("tokenreviews.authentication.k8s.io", "create"),
        ("subjectaccessreviews.authorization.k8s.io", "create"),
        ("mapreducejobs.mapreduce.dev", "get"),
        ("deadletterqueues.mapreduce.dev", "get"),
    }
    assert rights(shared.namespace) == expected
    assert rights("mapreduce-system") == expected
