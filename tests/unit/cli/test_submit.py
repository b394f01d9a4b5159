"""Commands that make a job: what they create."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_operator.cli import stalls
from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event, failure
from tests.unit.cli.little_cluster import FINISHED, JOBS, call, job, little_cluster, there

MANIFEST = """
apiVersion: mapreduce.dev/v1alpha1
kind: MapReduceJob
metadata: {name: words}
spec: {params: {model: small}, input: {items: [2026-01-01]}}
"""
MAP: dict[str, Any] = {"apiVersion": "mapreduce.dev/v1alpha1", "kind": "MapReduceJob"}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        api.on("POST", JOBS, answer(job()))
        yield api


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "words.yaml"
    path.write_text(MANIFEST)
    return path


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


def created(api: FakeApi) -> Any:
    (asked,) = api.asked_for("POST", JOBS)
    return asked.body


async def test_a_job_is_created_as_it_stands_in_its_file(api: FakeApi, file: Path) -> None:
    assert await call("run", str(file)) == 0
    spec = {"params": {"model": "small"}, "input": {"items": ["2026-01-01"]}}
    assert created(api) == MAP | {"metadata": {"name": "words"}, "spec": spec}
    assert api.asked[-1].query == {"fieldManager": "kubectl-mapreduce", "fieldValidation": "Strict"}


@pytest.mark.parametrize(
    ("words", "metadata"),
    [
        (("--name", "other"), {"name": "other"}),
        (("--generate-name",), {"generateName": "words-"}),
        (("--name", "other", "--generate-name"), {"generateName": "other-"}),
    ],
)
async def test_a_job_under_another_name(
    api: FakeApi, file: Path, words: tuple[str, ...], metadata: dict[str, str]
) -> None:
    assert await call("run", str(file), *words) == 0
    assert created(api)["metadata"] == metadata


async def test_params_are_set(api: FakeApi, file: Path) -> None:
    assert await call("run", str(file), "--set", "depth=3", "--set", "model=large", "--set", 'list=["a"]') == 0
    assert created(api)["spec"]["params"] == {"model": "large", "depth": 3, "list": ["a"]}


@pytest.mark.parametrize("spec", ["", "spec:", "spec: {params: }"])
async def test_params_are_set_where_there_are_none(api: FakeApi, file: Path, spec: str) -> None:
    rewrite(file, f"kind: MapReduceJob\nmetadata:\n{spec}")
    assert await call("run", str(file), "--name", "words", "--set", "depth=3") == 0
    assert created(api) == {"kind": "MapReduceJob", "metadata": {"name": "words"}, "spec": {"params": {"depth": 3}}}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("metadata", "metadata: x"),
        ("metadata", "metadata: []"),
        ("spec", "metadata: {name: a}\nspec: 1"),
        ("spec.params", "metadata: {name: a}\nspec: {params: [1]}"),
    ],
)
async def test_a_value_in_the_place_of_fields(
    api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str], field: str, text: str
) -> None:
    rewrite(file, f"kind: MapReduceJob\n{text}")
    assert await call("run", str(file), "--set", "depth=3") == 1
    assert f"{file}: {field} must be of type object" in capsys.readouterr().err
    assert api.asked == []


async def test_a_mapping_is_merged_into_another(api: FakeApi, file: Path) -> None:
    rewrite(
        file,
        "kind: MapReduceJob\nmetadata: {name: words}\nspec: {params: {a: &a {b: &b {x: 1}, c: &c {<<: *b, x: 2}}, "
        "d: {<<: *c, z: 3}}}",
    )
    assert await call("run", str(file)) == 0
    assert created(api)["spec"]["params"] == {"a": {"b": {"x": 1}, "c": {"x": 2}}, "d": {"x": 2, "z": 3}}


async def test_a_dry_run_makes_nothing(api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("run", str(file), "--dry-run", "--wait") == 0
    assert api.asked[-1].query["dryRun"] == "All"
    assert capsys.readouterr().out == "mapreducejob/words created (server dry run)\n"


async def test_the_object_is_printed_for_programs(api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("run", str(file), "--generate-name", "-o", "name") == 0
    assert capsys.readouterr().out == "mapreducejob/words\n"
    there(api, job(phase="Failed", conditions=FINISHED | {"Failed": ("True", "Cancelled")}))
    assert await call("run", str(file), "-o", "json", "--wait") == 3
    output = capsys.readouterr()
    assert json.loads(output.out)["status"]["phase"] == "Failed"
    assert "Failed (Cancelled)" in output.err


@pytest.mark.parametrize("output", ["name", "yaml"])
async def test_what_was_made_is_printed_although_nobody_waits_any_longer(
    api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    there(api, job(phase="Map"))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("run", str(file), "-o", output, "--wait", "--timeout", "1s") == 7
    printed = capsys.readouterr().out
    assert printed == "mapreducejob/words\n" if output == "name" else yaml.safe_load(printed) == job(phase="Map")


STALLED: dict[str, Any] = {"phase": "Planning", "conditions": {"Stalled": ("True", "DuplicateItems")}}
MISSING: dict[str, Any] = {"phase": "Planning", "conditions": {"Stalled": ("True", "ConfigMapNotFound")}}


@pytest.mark.parametrize("words", [("run",), ("run", "-o", "name"), ("fork", "words", "words")])
async def test_a_job_that_cannot_begin_is_not_waited_for(
    api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    there(api, job(**STALLED))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call(*words, *([str(file)] if words[0] == "run" else []), "--wait") == 1
    told = capsys.readouterr()
    assert "words cannot begin: DuplicateItems: Stalled is True. It is there, and begins when" in told.err
    assert ("mapreducejob/words\n" in told.out) == ("name" in words)


async def test_what_is_missing_may_come_in_a_moment(
    api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there(api, job(**MISSING))
    found = chunks(event("MODIFIED", job(phase="Succeeded", conditions=FINISHED)), pause=0.1, hangs=True)
    api.on("GET", JOBS, found)
    assert await call("run", str(file), "--wait") == 0
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("run", str(file), "--wait", "--timeout", "1s") == 7
    monkeypatch.setattr(stalls, "_PATIENCE_SECONDS", 0.2)
    assert await call("run", str(file), "--wait") == 1
    assert "words cannot begin: ConfigMapNotFound" in capsys.readouterr().err


@pytest.mark.parametrize(
    "state",
    [
        STALLED | {"items": {"total": 1}},
        {"phase": "Planning", "conditions": {"Accepted": ("False", "Planning")}},
    ],
)
async def test_a_job_that_has_begun_or_is_about_to_is_waited_for(
    api: FakeApi, file: Path, state: dict[str, Any]
) -> None:
    there(api, job(**state))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("run", str(file), "--wait", "--timeout", "1s") == 7


async def test_a_name_that_is_taken(api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", JOBS, failure(409, "AlreadyExists", "taken"))
    there(api, job(phase="Map"))
    assert await call("run", str(file)) == 1
    assert "mapreducejob/words is there already, Map: run it under another name" in capsys.readouterr().err


async def test_the_namespace_of_the_file_counts(api: FakeApi, file: Path) -> None:
    rewrite(file, MANIFEST.replace("{name: words}", "{name: words, namespace: far}"))
    api.on("POST", JOBS.replace("team", "far"), answer(job()))
    assert await call("run", str(file)) == 0
    assert await call("run", str(file), "-n", "far") == 0
    assert await call("run", str(file), "-n", "near") == 2
    assert api.asked_for("POST", JOBS) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "words.yaml holds no MapReduceJob, and `run` takes one"),
        (f"{MANIFEST}---\n{MANIFEST}", "holds 2 MapReduceJobs, and `run` takes one"),
        (f"{MANIFEST}---\nkind: ConfigMap\n", "holds a ConfigMap as well"),
        (f"{MANIFEST}---\na: 1\n", "holds an object without a kind as well"),
        ("[1]", "this is no object of Kubernetes"),
        ("a: 1\na: 2", "the key 'a' is there twice"),
        ("a: [", "is no YAML"),
        ("yes: 1", "words.yaml: the key yes is not the text 'yes' but 'true' to kubectl: put it in quotes"),
        ("a: {? [b] : 1}", "a key is a list or a mapping, and has to be a text"),
        ("? {a: 1}\n: 1", "line 1, column 3"),
        (MANIFEST.replace("name: words", ""), "metadata.name is missing"),
    ],
)
async def test_a_file_that_holds_no_job(
    api: FakeApi, file: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    rewrite(file, text)
    assert await call("run", str(file)) == 1
    assert told in capsys.readouterr().err
    assert api.asked == []


async def test_a_fork_with_all_kinds_of_edits(api: FakeApi) -> None:
    there(api, job())
    edits = (
        *("--patch", 'a={"mode":"strict"}', "--remove", "b", "--reset", "c", "--add", '{"file":"d"}'),
        *("--set", "model=large", "--template-patch", json.dumps({"spec": {"nodeSelector": None}})),
    )
    assert await call("fork", "words", "again", "--at", "12", *edits) == 0
    fork = {
        "job": {"name": "words"},
        "checkpoint": 12,
        "edits": {
            "items": [
                {"id": "a", "patch": {"mode": "strict"}},
                {"id": "b", "remove": True},
                {"id": "c", "reset": True},
                {"add": {"file": "d"}},
            ],
            "params": {"model": "large"},
            "template": {"spec": {"nodeSelector": None}},
        },
    }
    assert created(api) == MAP | {"metadata": {"name": "again"}, "spec": {"forkFrom": fork}}


async def test_items_that_a_fork_runs_although_its_parent_skips_them(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    there(api, job(spec={"map": {"skip": ["a", "b", "c", "d"]}}))
    assert await call("fork", "words", "again", "--reset", "a", "--patch", "b={}", "--remove", "c", "--reset", "x") == 0
    assert capsys.readouterr().err == "note: skipped in words, and not in again, as they are edited: b, a\n"


async def test_a_fork_of_a_job_that_is_gone(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("fork", "words", "again") == 5
    assert "say which one it was with --uid" in capsys.readouterr().err
    assert await call("fork", "words", "again", "--uid", "5d1f") == 0
    assert created(api)["spec"] == {"forkFrom": {"job": {"name": "words", "uid": "5d1f"}}}
