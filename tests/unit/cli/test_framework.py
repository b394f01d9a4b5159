"""Where commands work, how they fail, and how they are completed."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mapreduce_operator.cli import parameters
from mapreduce_operator.cli.app import complete
from tests.unit.adapters.kube.fake_api import FakeApi, answer, broken, chunks, failure, text
from tests.unit.cli.little_cluster import JOBS, call, job, little_cluster, there

EVERYWHERE = "/apis/mapreduce.dev/v1alpha1/mapreducejobs"
ELSEWHERE = "/apis/mapreduce.dev/v1alpha1/namespaces/{}/mapreducejobs"
NONE = answer({"items": []})


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        yield api


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("status",), JOBS),
        (("status", "-n", "other"), ELSEWHERE.format("other")),
        (("-n", "other", "status"), ELSEWHERE.format("other")),
        (("-n", "first", "status", "-n", "last"), ELSEWHERE.format("last")),
        (("status", "--context", "there"), ELSEWHERE.format("default")),
        (("--context=there", "status"), ELSEWHERE.format("default")),
        (("status", "-A"), EVERYWHERE),
        (("-A", "status"), EVERYWHERE),
    ],
)
async def test_the_place_stands_before_or_behind_the_command(api: FakeApi, words: tuple[str, ...], path: str) -> None:
    api.on("GET", path, NONE)
    assert await call(*words) == 0
    assert [asked.path for asked in api.asked] == [path]


async def test_a_kubeconfig_by_its_path(api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", os.devnull)
    api.on("GET", JOBS, NONE)
    assert await call("status", "--kubeconfig", str(tmp_path / "config")) == 0
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("failing", "code", "told"),
    [
        (failure(403, "Forbidden", "you cannot get it"), 6, "you cannot get it (HTTP 403); ask for the role view in"),
        (failure(401, "Unauthorized", "Unauthorized"), 6, "Unauthorized (HTTP 401); the cluster does not know who you"),
        (failure(404, "NotFound", 'mapreducejobs "words" not found'), 5, "there is no MapReduceJob 'words'"),
        (broken(), 1, "check the cluster with `kubectl version`"),
        (failure(500, "InternalError", "etcd is away"), 1, "etcd is away"),
    ],
)
async def test_an_error_is_one_line_with_advice_and_a_code(
    api: FakeApi, capsys: pytest.CaptureFixture[str], failing: object, code: int, told: str
) -> None:
    api.on("GET", f"{JOBS}/words", failing)  # type: ignore[arg-type]
    assert await call("status", "words") == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert told in output.err


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("status",), "ask for the role view in the namespace"),
        (("suspend", "words"), "ask for the role edit in the namespace"),
        (("fork", "words", "again"), "ask for the role edit in the namespace"),
        (("status", "-A"), "-A takes the role view in all namespaces, by a ClusterRoleBinding"),
        (("version",), "ask for the Role …-api-users of the chart in the namespace mapreduce-system"),
        (("gc",), "ask for the rights to list pods and to create pods/exec in the namespace mapreduce-system"),
        (("items", "list", "words"), "ask for the Role …-api-users of the chart in the namespace mapreduce-system"),
    ],
)
async def test_who_is_refused_is_told_what_to_ask_for(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], advice: str
) -> None:
    there(api, job())
    no = failure(403, "Forbidden", "no")
    for verb, path in (
        *(("GET", JOBS), ("GET", EVERYWHERE), ("PATCH", f"{JOBS}/words"), ("POST", JOBS)),
        ("GET", "/api/v1/namespaces/mapreduce-system/pods"),
    ):
        api.on(verb, path, no)
    assert await call(*words) == 6
    assert advice in capsys.readouterr().err


async def test_a_namespace_that_is_missing(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", ELSEWHERE.format("far"), failure(404, "NotFound", 'namespaces "far" not found'))
    file = tmp_path / "words.yaml"
    file.write_text("kind: MapReduceJob\nmetadata: {name: words}")
    assert await call("run", str(file), "-n", "far") == 5
    assert "make the namespace with `kubectl create namespace far`, or" in capsys.readouterr().err


@pytest.mark.parametrize("before", [True, False])
async def test_in_the_name_of_somebody_else(api: FakeApi, before: bool) -> None:
    api.on("GET", JOBS, NONE)
    who = ("--as", "jane", "--as-group", "a", "--as-group", "b")
    assert await call(*((*who, "status") if before else ("status", *who))) == 0
    (asked,) = api.asked
    assert asked.headers["impersonate-user"] == "jane"
    assert asked.headers["impersonate-group"] == "a, b"


async def test_a_group_of_nobody(api: FakeApi) -> None:
    assert await call("status", "--as-group", "a") == 2
    assert api.asked == []


async def test_nobody_reads_in_the_name_of_somebody_else(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("items", "list", "words", "--as", "jane") == 2
    assert "the operator's API goes by your token, and would answer you and not jane" in capsys.readouterr().err
    assert api.asked == []


async def test_a_request_that_takes_too_long(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("status", "--request-timeout", "1s") == 1
    assert "no answer in time" in capsys.readouterr().err


async def test_advice_leads_to_the_same_place(api: FakeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", ELSEWHERE.format("other"), NONE)
    config = str(tmp_path / "config")
    assert await call("status", "-n", "other", "--context", "here", "--kubeconfig", config) == 0
    advice = f"`kubectl mapreduce run FILE -n other --context here --kubeconfig {config}` makes one\n"
    assert capsys.readouterr().err.endswith(advice)


async def test_a_cluster_without_the_operator(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", JOBS, text("404 page not found", 404))
    assert await call("status") == 5
    assert "install the operator's chart" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("nonsense",), ("status", "--nonsense"), ("watch",), ("watch", "a", "-A"), ("restore", "a", "x")]
)
async def test_a_command_line_that_cannot_be_understood(api: FakeApi, words: tuple[str, ...]) -> None:
    assert await call(*words) == 2
    assert api.asked == []


async def test_a_context_that_is_not_there(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("status", "--context", "nowhere") == 1
    assert "nowhere" in capsys.readouterr().err
    assert api.asked == []


async def test_the_names_of_jobs_are_completed(
    api: FakeApi, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "_COMPLETION_SECONDS", 60.0)
    api.on("GET", ELSEWHERE.format("other"), answer({"items": [job("words"), job("worms"), job("pages")]}))
    assert await call_completion("-n", "other", "watch", "wor") == 0
    assert capsys.readouterr().out == "words\nworms\n:4\n"


async def test_commands_and_choices_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert await call_completion("checkpoints", "sh") == 0
    assert capsys.readouterr().out.partition("\t")[0] == "show"
    assert await call_completion("restart", "words", "--phase", "r") == 0
    assert capsys.readouterr().out == "Reduce\n:4\n"
    assert await call_completion("run", "") == 0
    assert capsys.readouterr().out == ":0\n"


async def test_nothing_is_completed_where_nobody_answers(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", JOBS, broken())
    assert await call_completion("watch", "") == 0
    assert capsys.readouterr().out == ":4\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_script_for_shells(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    assert await call("completion", shell) == 0
    assert "kubectl-mapreduce" in capsys.readouterr().out


async def test_a_name_as_kubectl_prints_it(api: FakeApi) -> None:
    there(api, job())
    assert await call("status", "mapreducejob.mapreduce.dev/words") == 0
    assert api.asked[0].path == f"{JOBS}/words"


async def call_completion(*words: str) -> int:
    return await asyncio.to_thread(complete, words)
