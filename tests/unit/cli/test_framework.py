"""Where commands work, how they fail, and how they are completed."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mapreduce_operator.cli.app import complete
from tests.unit.adapters.kube.fake_api import FakeApi, answer, broken, failure, text
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
        (failure(403, "Forbidden", "you cannot get it"), 6, "you cannot get it (HTTP 403); ask for the role"),
        (failure(401, "Unauthorized", "Unauthorized"), 6, "Unauthorized"),
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


async def test_the_names_of_jobs_are_completed(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", ELSEWHERE.format("other"), answer({"items": [job("words"), job("worms"), job("pages")]}))
    assert await call_completion("-n", "other", "watch", "wor") == 0
    assert capsys.readouterr().out == "words\nworms\n:4\n"


async def test_commands_and_choices_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert await call_completion("checkpoints", "sh") == 0
    assert capsys.readouterr().out.partition("\t")[0] == "show"
    assert await call_completion("restart", "words", "--phase", "r") == 0
    assert capsys.readouterr().out == "reduce\n:4\n"
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
