"""What a dry run and the status tell of a plan."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.cli.little_cluster import JOBS, call, job, little_cluster, there

MANIFEST = "apiVersion: mapreduce.dev/v1alpha1\nkind: MapReduceJob\nmetadata: {name: words}\nspec: {}\n"
SOURCE = {
    "items": [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}],
    "filter": "item.n > 1",
    "idExpression": "item.n",
    "limit": 2,
}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        yield api


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "words.yaml"
    path.write_text(MANIFEST)
    return str(path)


def taken(api: FakeApi, source: dict[str, Any] | None) -> dict[str, Any]:
    """The API server takes a job with this input."""
    body = job(spec={"map": {}} | ({} if source is None else {"input": source}))
    api.on("POST", JOBS, answer(body))
    return body


async def test_a_dry_run_tells_what_would_be_planned(
    api: FakeApi, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body = taken(api, SOURCE)

    assert await call("run", file, "--dry-run") == 0
    assert capsys.readouterr().out == (
        "mapreducejob/words created (server dry run)\n  2 items of 4 read: 1 filtered out, 1 out of range; first 2, 3\n"
    )

    assert await call("run", file, "--dry-run", "-o", "json") == 0
    counts = {"items": 2, "read": 4, "filteredOut": 1, "duplicates": 0, "outOfRange": 1}
    assert json.loads(capsys.readouterr().out) == body | {"plan": counts | {"firstIds": ["2", "3"]}}

    assert await call("run", file, "--dry-run", "-o", "name") == 0
    assert capsys.readouterr().out == "mapreducejob/words\n"


async def test_without_a_dry_run_nothing_is_planned(
    api: FakeApi, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    body = taken(api, SOURCE)

    assert await call("run", file, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == body


@pytest.mark.parametrize("source", [None, {"configMapRef": {"name": "a", "key": "b"}}, {"object": {"key": "a"}}])
async def test_of_items_that_stand_elsewhere_nothing_is_told(
    api: FakeApi, file: str, capsys: pytest.CaptureFixture[str], source: dict[str, Any] | None
) -> None:
    body = taken(api, source)

    assert await call("run", file, "--dry-run", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == body


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"items": [1, 1]}, "DuplicateItems: item 1 has the id of item 0"),
        ({"object": {"key": "a"}, "filter": "itme"}, "InvalidFilter: spec.input.filter: 'itme': "),
    ],
)
async def test_a_dry_run_of_what_would_not_be_planned_fails(
    api: FakeApi, file: str, capsys: pytest.CaptureFixture[str], source: dict[str, Any], told: str
) -> None:
    taken(api, source)

    assert await call("run", file, "--dry-run") == 1
    assert f"error: mapreducejob/words would be taken, and not planned: {told}" in capsys.readouterr().err


async def test_the_status_tells_what_became_of_what_was_read(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(plan={"items": 7, "read": 1000, "filteredOut": 990, "duplicates": 3, "outOfRange": 0}))

    assert await call("status", "words") == 0
    line = "plan:           7 items of 1,000 read: 990 filtered out, 3 left out as duplicates"
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("plan", [{"items": 7, "duplicates": 0}, {"items": 7, "read": 7, "duplicates": 0}])
async def test_where_nothing_was_left_out_the_status_only_counts(
    api: FakeApi, capsys: pytest.CaptureFixture[str], plan: dict[str, Any]
) -> None:
    there(api, job(plan=plan))

    assert await call("status", "words") == 0
    found = [line for line in capsys.readouterr().out.splitlines() if line.startswith("plan:")]
    assert found == (["plan:           7 items"] if "read" in plan else [])
