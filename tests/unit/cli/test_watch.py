"""The progress of a job: as lines, as a picture, and how it ended."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mapreduce_operator.cli.watch import picture
from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event, failure
from tests.unit.cli.little_cluster import FINISHED, JOBS, call, job, little_cluster, there

ITEMS = {"total": 10, "pending": 4, "running": 3, "succeeded": 2, "deadLettered": 1}
AT_WORK: dict[str, Any] = {
    "phase": "Map",
    "progress": "3/10",
    "items": ITEMS,
    "startTime": "2026-11-21T10:00:00Z",
    "throughput": {"itemsPerMinute": 12.34, "remainingSeconds": 200},
    "conditions": {"Finished": ("False", "Planned"), "Progressing": ("False", "CircuitOpen")},
}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        yield api


@pytest.mark.parametrize(
    ("phase", "conditions", "code"),
    [
        ("Succeeded", FINISHED, 0),
        ("PartiallySucceeded", FINISHED, 4),
        ("Failed", {"Finished": ("True", "Cancelled"), "Failed": ("True", "Cancelled")}, 3),
    ],
)
async def test_a_job_is_watched_to_its_end(
    api: FakeApi, capsys: pytest.CaptureFixture[str], phase: str, conditions: Any, code: int
) -> None:
    there(api, job(**AT_WORK))
    end = job(phase=phase, progress="10/10", conditions=conditions)
    api.on("GET", JOBS, chunks(event("MODIFIED", job(**AT_WORK)), event("MODIFIED", end), hangs=True))
    assert await call("watch", "words") == code
    output = capsys.readouterr()
    first, last = [line[11:] for line in output.out.splitlines()]
    assert first == (
        "Map  3/10  4 pending  3 running  2 succeeded  1 deadLettered  12.34 items/min, about 3m20s left  "
        "CircuitOpen: Progressing is False"
    )
    assert last == f"{phase}  10/10"
    assert (phase in output.err) is (code != 0)


async def test_a_watch_that_breaks_is_begun_again(api: FakeApi) -> None:
    end = job(phase="Succeeded", conditions=FINISHED)
    end["metadata"]["resourceVersion"] = "2"
    there(api, job(**AT_WORK), end)
    api.on("GET", JOBS, chunks(breaks=True))
    assert await call("watch", "words") == 0
    assert len(api.asked_for("GET", JOBS)) == 1


async def test_a_job_that_is_deleted_meanwhile(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    gone = failure(404, "NotFound", "gone")
    there(api, job(**AT_WORK))
    api.on("GET", f"{JOBS}/words", answer(job(**AT_WORK)), gone)
    api.on("GET", JOBS, chunks(event("DELETED", job(**AT_WORK))))
    assert await call("watch", "words") == 5
    assert "mapreducejob/words was deleted while it was watched" in capsys.readouterr().err
    api.on("GET", f"{JOBS}/words", gone)
    assert await call("watch", "words") == 5
    assert "there is no MapReduceJob 'words'" in capsys.readouterr().err


async def test_a_job_that_nobody_has_taken_up(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, {**job(), "status": {"observedGeneration": -1}})
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("watch", "words", "--timeout", "1s") == 7
    output = capsys.readouterr()
    assert output.out.endswith("Z  not taken up by an operator yet\n")
    assert "has not ended within 1s; it goes on, and so does `kubectl mapreduce watch words`" in output.err


async def test_an_end_that_a_change_of_the_spec_has_made_old_is_none(api: FakeApi) -> None:
    old = job(phase="Succeeded", conditions=FINISHED)
    old["metadata"]["generation"] = 2
    there(api, old)
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("watch", "words", "--timeout", "1s") == 7


def test_the_picture_shows_all_and_obeys_no_agent() -> None:
    failure = {"count": 3, "reason": "Error", "sampleItemId": "[red]a[/]", "message": "no disk\x1b[2J"}
    body = job(**AT_WORK, failures=[failure], deadLetters={"queue": "words"}, reduce={"state": "Pending"})
    plain, terminal = io.StringIO(), io.StringIO()
    Console(width=100, file=plain).print(picture(body, 1_795_255_300.0))
    Console(width=100, file=terminal, force_terminal=True).print(picture(body, 1_795_255_300.0))
    for told in ("words   Map   100s   dead letters in words", "30%", "3 of 10", "4 pending", "0 skipped"):
        assert told in plain.getvalue()
    for told in ("12.34 items/min, about 3m20s left   reduce Pending", "[red]a[/]", "no disk [2J", "CircuitOpen"):
        assert told in plain.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
