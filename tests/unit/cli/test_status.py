"""Jobs in a table, and one in full."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_operator.cli.watch import told as watched
from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.cli.little_cluster import JOBS, call, job, little_cluster, there

AT_WORK: dict[str, Any] = {
    "phase": "Map",
    "progress": "3/10",
    "items": {"total": 10, "running": 3, "succeeded": 2, "deadLettered": 1, "skipped": 1},
    "throughput": {"itemsPerMinute": 1234.5, "remainingSeconds": 7300},
    "checkpoint": {"sequence": 4, "reason": "Time", "time": "2026-11-21T10:00:00Z", "kept": "0-4"},
    "deadLetters": {"queue": "words"},
    "failures": [{"count": 2, "reason": "Error", "sampleItemId": "a", "message": "no disk\nat all\x1b[2J"}],
    "conditions": {"Ready": ("True", "Planned"), "CheckpointHealthy": ("False", "StorageFull")},
}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        there(api, job(**AT_WORK))
        api.on("GET", JOBS, answer({"items": [job(**AT_WORK), {**job("new"), "status": {}}]}))
        yield api


async def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert await call("status", *words) == 0
    return capsys.readouterr().out


async def test_a_table(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    heads, words, new = (await told(capsys)).splitlines()
    assert heads.split() == ["NAME", "PHASE", "PROGRESS", "RUNNING", "FAILED", "REASON", "ITEMS/MIN", "LEFT", "AGE"]
    assert words.split()[:-1] == ["words", "Map", "3/10", "3", "1", "Planned", "1,234", "121m"]
    assert new.split()[:-1] == ["new", "-", "-", "0", "0", "-", "-", "-"]
    heads, words, _ = (await told(capsys, "-o", "wide")).splitlines()
    assert heads.split()[-3:] == ["SKIPPED", "CHECKPOINT", "QUEUE"]
    assert words.split()[-3:] == ["1", "4", "words"]
    api.on("GET", JOBS.replace("/namespaces/team", ""), answer({"items": [job(**AT_WORK)]}))
    heads, words = (await told(capsys, "-A")).splitlines()
    assert (heads.split()[0], words.split()[:2]) == ("NAMESPACE", ["team", "words"])


@pytest.mark.usefixtures("api")
async def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert await told(capsys, "-o", "name") == "mapreducejob/words\nmapreducejob/new\n"
    found = json.loads(await told(capsys, "-o", "json"))
    assert (found["kind"], [one["metadata"]["name"] for one in found["items"]]) == ("List", ["words", "new"])
    assert yaml.safe_load(await told(capsys, "words", "-o", "yaml")) == job(**AT_WORK)


async def test_yaml_is_read_by_kubectl_as_it_was_meant(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(spec={"map": {}, "input": {"items": [{"n": "1e3"}]}}))
    assert "\n    - 'n': '1e3'\n" in await told(capsys, "words", "-o", "yaml")


@pytest.mark.usefixtures("api")
async def test_one_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [" ".join(line.split()) for line in (await told(capsys, "words")).splitlines()]
    for line in (
        "because: Planned: Ready is True",
        "speed: 1,234 items/min, about 121m left",
        "checkpoint: 4 (Time, 2026-11-21T10:00:00Z)",
        "deadLettered 1",
        "2 Error a no disk at all [2J",
        "CheckpointHealthy: StorageFull: CheckpointHealthy is False",
    ):
        assert line in lines


async def test_what_several_conditions_say_is_told_once(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    stalled = job(phase="Planning")
    stalled["status"]["conditions"] = [
        {"type": kind, "status": status, "reason": "DuplicateItems", "message": "item 1 has the id of item 0"}
        for kind, status in (("Ready", "False"), ("Accepted", "False"), ("Stalled", "True"), ("Progressing", "False"))
    ]
    there(api, stalled)
    assert (await told(capsys, "words")).count("item 1 has the id of item 0") == 1
    assert watched(stalled) == "Planning  DuplicateItems: item 1 has the id of item 0"


async def test_who_manages_which_field_is_no_matter(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    noted = job()
    noted["metadata"]["managedFields"] = [{"manager": "kubectl-mapreduce"}]
    there(api, noted)
    api.on("GET", JOBS, answer({"items": [noted]}))
    assert json.loads(await told(capsys, "words", "-o", "json")) == job()
    assert yaml.safe_load(await told(capsys, "-o", "yaml"))["items"] == [job()]


@pytest.mark.parametrize("options", [(), ("-n", "team")], ids=["as the kubeconfig says", "as told"])
async def test_no_jobs(api: FakeApi, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]) -> None:
    api.on("GET", JOBS, answer({"items": []}))
    assert await call("status", *options) == 0
    output = capsys.readouterr()
    assert (output.out, output.err) == (
        "",
        f"no MapReduceJobs in the namespace team; `kubectl mapreduce {' '.join(('run FILE', *options))}` makes one\n",
    )
