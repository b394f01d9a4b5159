"""The way to the read-only API: the token, the port-forward, and what goes wrong; and `logs`, which goes it."""

import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.adapters.kube.fake_api import Answer, FakeApi, answer, broken, chunks, running_fake_api, text
from tests.unit.cli.little_cluster import JOBS, call, job, little_cluster, there

PODS = "/api/v1/namespaces/mapreduce-system/pods"
ACCOUNTS = "/api/v1/namespaces/mapreduce-system/serviceaccounts"
AGENTS = "/api/v1/namespaces/team/pods"
ITEM = "/v1/namespaces/team/mapreducejobs/words/item"
LABELS = {"app.kubernetes.io/instance": "release"}
READY = {"conditions": [{"type": "Ready", "status": "True"}]}
API_POD: dict[str, Any] = {
    "metadata": {"name": "api-1", "namespace": "mapreduce-system", "labels": LABELS},
    "status": READY,
}
HISTORY = {
    "state": "DeadLettered",
    "dispatch": 4,
    "history": [{"dispatch": 1, "logTail": "one"}, {"dispatch": 2, "logTail": "t\x1bwo"}],
}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        there(api, job())
        api.on("GET", AGENTS, answer({"items": []}))
        api.on("GET", PODS, answer({"items": [API_POD]}))
        yield api


@pytest.fixture
async def reading(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    """The read-only API, and a kubectl whose port-forward leads to it and writes down how it was called."""
    del api
    async with running_fake_api() as reading:
        port = reading.url.rpartition(":")[2]
        kubectl(tmp_path, monkeypatch, f"echo 'Forwarding from 127.0.0.1:{port} -> 8081'\nexec sleep 50")
        yield reading


def kubectl(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "kubectl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$$ $*" > {folder}/called\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def called(folder: Path) -> tuple[int, str]:
    """(process, arguments) of the port-forward."""
    number, _, words = (folder / "called").read_text().strip().partition(" ")
    return int(number), words


async def test_the_end_of_a_log_that_was_kept(
    reading: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reading.on("GET", ITEM, answer(HISTORY))
    assert await call("logs", "words", "a/b") == 0
    assert capsys.readouterr().out == "t wo\n"
    assert await call("logs", "words", "a/b", "--dispatch", "1") == 0
    assert capsys.readouterr().out == "one\n"
    asked, _ = reading.asked
    assert (asked.query, asked.headers["authorization"]) == ({"id": "a/b"}, "Bearer secret")
    process, words = called(tmp_path)
    assert words == "--namespace=mapreduce-system port-forward --address=127.0.0.1 pod/api-1 :8081"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize(
    ("dispatch", "told"),
    [
        (
            ["--dispatch", "3"],
            "nothing is kept of the log of dispatch 3 of 3 of the item 'a b' of words, and it has no",
        ),
        (["--dispatch", "9", "-f"], "the item 'a b' of words has no dispatch 9: it was dispatched 3 times"),
    ],
)
async def test_a_log_that_is_not_kept(
    reading: FakeApi, capsys: pytest.CaptureFixture[str], dispatch: list[str], told: str
) -> None:
    reading.on("GET", ITEM, answer(HISTORY))
    assert await call("logs", "words", "a b", *dispatch) == 5
    error = capsys.readouterr().err
    assert told in error
    assert "`kubectl mapreduce items show words 'a b'`" in error


async def test_the_port_forward_goes_to_the_same_cluster(reading: FakeApi, tmp_path: Path) -> None:
    reading.on("GET", ITEM, answer(HISTORY))
    config = str(tmp_path / "config")
    assert await call("logs", "words", "a", "--context", "here", "--kubeconfig", config) == 0
    assert called(tmp_path)[1].startswith(f"--kubeconfig={config} --context=here --namespace=")


async def test_who_has_a_certificate_reads_by_the_account_for_readers(
    api: FakeApi, reading: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config"
    rewrite(config, "token: secret", "{}")
    reading.on("GET", ITEM, answer(HISTORY))
    api.on("GET", ACCOUNTS, answer({"items": []}))
    assert await call("logs", "words", "a") == 6
    assert "has a certificate and no token" in capsys.readouterr().err
    others = {"metadata": {"name": "other-reader", "labels": {"app.kubernetes.io/instance": "other"}}}
    api.on("GET", ACCOUNTS, answer({"items": [others, {"metadata": {"name": "reader", "labels": LABELS}}]}))
    api.on("POST", f"{ACCOUNTS}/reader/token", answer({"status": {"token": "short"}}))
    assert await call("logs", "words", "a") == 0
    assert reading.asked[-1].headers["authorization"] == "Bearer short"


@pytest.mark.parametrize(
    ("place", "where"),
    [([], "--namespace=team"), (["-n", "other"], "--namespace=other"), (["-A"], "--all-namespaces")],
)
async def test_gc_is_told_where(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: list[str], where: str
) -> None:
    del api
    kubectl(tmp_path, monkeypatch, "exit 0")
    assert await call("gc", "--older-than", "1d", "--dry-run", *place) == 0
    assert called(tmp_path)[1] == (
        "--namespace=mapreduce-system exec api-1 --quiet -- python -m mapreduce_operator.gc "
        f"{where} --older-than=86400s --output=table --dry-run"
    )


def rewrite(file: Path, old: str, new: str) -> None:
    written = file.read_text()
    assert old in written
    file.write_text(written.replace(f"{{{old}}}", new))


def refused(status: int, message: str) -> Answer:
    return answer({"error": {"reason": "Reason", "message": message}}, status)


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (refused(403, "you may not get mapreducejobs/items"), 6, "error: you may not get mapreducejobs/items\n"),
        (refused(401, "no token"), 6, "no token"),
        (refused(404, "there is no item 'a'"), 5, "there is no item 'a'"),
        (text("<html>", 502), 1, "HTTP 502"),
        (text("<html>"), 1, "is no JSON"),
        (broken(), 1, "the operator's API broke off"),
        (
            answer({"state": "Pending", "dispatch": 1, "history": []}),
            5,
            "the item 'a' of words has not started: it is Pending; `kubectl mapreduce items show words a`",
        ),
    ],
)
async def test_what_goes_wrong_there(
    reading: FakeApi, capsys: pytest.CaptureFixture[str], given: Answer, code: int, told: str
) -> None:
    reading.on("GET", ITEM, given)
    assert await call("logs", "words", "a") == code
    assert told in capsys.readouterr().err


async def test_an_api_that_is_busy_is_asked_again(reading: FakeApi) -> None:
    async def busy(_: web.Request) -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "0"})

    reading.on("GET", ITEM, busy, busy, answer(HISTORY))
    assert await call("logs", "words", "a") == 0
    assert len(reading.asked) == 3


@pytest.mark.parametrize(
    ("pods", "code", "told"),
    [([], 5, "--operator-namespace"), ([API_POD | {"status": {}}], 1, "none of 1 pods of the operator is ready")],
)
async def test_an_api_that_is_not_there(
    api: FakeApi, capsys: pytest.CaptureFixture[str], pods: list[Any], code: int, told: str
) -> None:
    api.on("GET", PODS, answer({"items": pods}))
    assert await call("logs", "words", "a") == code
    assert told in capsys.readouterr().err


async def test_a_pod_elsewhere_that_looks_like_the_operator_is_given_no_token(api: FakeApi, reading: FakeApi) -> None:
    api.on("GET", PODS, answer({"items": []}))
    api.on("GET", "/api/v1/pods", answer({"items": [API_POD]}))
    assert await call("logs", "words", "a") == 5
    assert reading.asked == []


async def test_of_several_operators_in_a_namespace_none_is_guessed(
    api: FakeApi, reading: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = API_POD["metadata"]["labels"] | {"app.kubernetes.io/instance": "another"}
    another = API_POD | {"metadata": API_POD["metadata"] | {"labels": labels}}
    api.on("GET", PODS, answer({"items": [API_POD, another]}))
    assert await call("logs", "words", "a") == 1
    assert "has several operators, the releases another, " in capsys.readouterr().err
    assert reading.asked == []


async def test_a_port_forward_that_is_refused(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del api
    kubectl(tmp_path, monkeypatch, "echo 'error: pods \"api-1\" is forbidden' >&2; exit 1")
    assert await call("logs", "words", "a") == 6
    assert (
        "ask for the Role …-api-users of the chart in the namespace mapreduce-system, which" in capsys.readouterr().err
    )


async def test_the_log_of_the_newest_pod_of_an_item(api: FakeApi, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    pods = [
        {
            "metadata": {"name": f"words-a-d{number}", "labels": {"mapreduce.dev/dispatch": f"{number}"}},
            "spec": {"containers": [{"name": "agent"}, {"name": "beside"}]},
        }
        for number in (9, 10)
    ]
    api.on("GET", AGENTS, answer({"items": pods}))
    api.on("GET", f"{AGENTS}/words-a-d10/log", chunks(b"first\n", b"\xffsecond\n", pause=0.05))
    assert await call("logs", "words", "a", "--follow") == 0
    assert capfdbinary.readouterr().out == b"first\n\xffsecond\n"
    assert api.asked[-1].query == {"container": "agent", "follow": "true"}
    (listed,) = api.asked_for("GET", AGENTS)
    assert listed.query["labelSelector"].startswith("mapreduce.dev/run-uid=uid-words,mapreduce.dev/stage=map,")


async def test_the_reduce_of_a_job_has_a_log_as_well(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(spec={"map": {}, "reduce": {}}))
    assert await call("logs", "words", "--reduce") == 5
    (listed,) = api.asked_for("GET", AGENTS)
    assert listed.query["labelSelector"] == "mapreduce.dev/run-uid=uid-words,mapreduce.dev/stage=reduce"
    assert "the reduce of words has no pod" in capsys.readouterr().err
    assert await call("logs", "words") == 2
    assert api.asked_for("GET", JOBS) == []
