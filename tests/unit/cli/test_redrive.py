"""Commands about items that were given up: the Redrives that they make, and what they tell of them."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, failure
from tests.unit.cli.little_cluster import JOBS, QUEUES, REDRIVES, call, job, little_cluster, there

REFUSED = failure(422, "Invalid", "the server rejected our request due to an error in our request")
ARCHIVED = "it is archived: force: true takes it all the same"
QUEUE: dict[str, Any] = {
    "kind": "DeadLetterQueue",
    "metadata": {"name": "words", "namespace": "team", "uid": "uid-queue"},
    "spec": {"jobRef": {"name": "words", "uid": "uid-words"}},
    "status": {"letters": {"total": 9, "open": 4, "resolved": 3, "archived": 2}},
}


def redrive(kind: str = "Complete", reason: str = "AllItemsSucceeded", **status: Any) -> dict[str, Any]:
    return {
        "kind": "Redrive",
        "metadata": {"name": "words-x7k2p", "namespace": "team", "resourceVersion": "1", "generation": 1},
        "spec": {"queue": "words"},
        "status": {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": "so it is"}]} | status,
    }


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        there(api, job(deadLetters={"queue": "words"}))
        api.on("GET", f"{QUEUES}/words", answer(QUEUE))
        api.on("PATCH", f"{QUEUES}/words", answer(QUEUE))
        api.on("DELETE", f"{QUEUES}/words", answer(QUEUE))
        api.on("POST", REDRIVES, answer(redrive()))
        yield api


def created(api: FakeApi) -> Any:
    (asked,) = api.asked_for("POST", REDRIVES)
    return asked.body


async def test_a_redrive_with_everything(api: FakeApi) -> None:
    assert (
        await call(
            *("redrive", "words", "--filter", "true", "--force", "--attempts", "2", "--parallelism", "5"),
            *("--delay", "1m", "--patch", '{"a":null}', "--template-patch", '{"spec":{}}', "--rerun-reduce"),
            *("--name", "once-more"),
        )
        == 0
    )
    assert created(api) == {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "Redrive",
        "metadata": {"name": "once-more"},
        "spec": {
            "queue": "words",
            "selection": {"filter": "true"},
            "force": True,
            "attempts": 2,
            "parallelism": 5,
            "delay": {"strategy": "Fixed", "seconds": 60},
            "payloadPatch": {"a": None},
            "templatePatch": {"spec": {}},
            "rerunReduce": True,
        },
    }


@pytest.mark.parametrize(
    ("words", "selection"),
    [
        (("redrive", "words", "--all"), {"all": True}),
        (("redrive", "words", "--id", "a", "--id", "b"), {"ids": ["a", "b"]}),
        (("items", "retry", "words", "a", "b"), {"ids": ["a", "b"]}),
        (("items", "retry", "words", "--filter", "true"), {"filter": "true"}),
    ],
)
async def test_which_letters_are_meant(api: FakeApi, words: tuple[str, ...], selection: dict[str, Any]) -> None:
    assert await call(*words) == 0
    assert created(api)["spec"] == {"queue": "words", "selection": selection}
    assert created(api)["metadata"] == {"generateName": "words-"}


async def test_a_selection_is_asked_for_with_options_that_there_are(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    there(api, job(deadLetters={"queue": "words"}))
    for words, told in (
        (("redrive", "words"), "--filter or --all\n"),
        (("items", "retry", "words"), "`redrive --all`"),
    ):
        assert await call(*words) == 2
        assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [("redrive", "words"), ("redrive", "words", "--all", "--id", "a"), ("items", "retry", "words")]
)
async def test_letters_are_meant_in_one_way(api: FakeApi, words: tuple[str, ...]) -> None:
    assert await call(*words) == 2
    assert api.asked_for("POST", REDRIVES) == []


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (redrive(selected=2, succeeded=2), 0, "2 of 2 items succeeded"),
        (redrive(reason="SomeItemsFailed", selected=2, succeeded=1, failed=1), 4, "1 of 2 items succeeded"),
        (redrive(reason="AllItemsFailed", selected=2, failed=2), 3, "0 of 2 items succeeded"),
        (redrive(reason="NothingSelected", selected=0), 1, "NothingSelected: so it is"),
        (redrive("Failed", "InvalidFilter"), 1, "InvalidFilter: so it is"),
        (
            redrive(selected=1, succeeded=1, skippedLetters=[{"itemId": "a\x1b[2J", "reason": "not eligible"}]),
            0,
            "not taken: a [2J: not eligible",
        ),
        (
            redrive(reason="NothingSelected", selected=0, skippedLetters=[{"itemId": "a", "reason": ARCHIVED}]),
            1,
            "not taken: a: it is archived: --force takes it all the same\n",
        ),
    ],
)
async def test_the_end_of_a_redrive(
    api: FakeApi, capsys: pytest.CaptureFixture[str], body: dict[str, Any], code: int, told: str
) -> None:
    api.on("GET", f"{REDRIVES}/words-x7k2p", answer(body))
    assert await call("redrive", "words", "--all", "--wait") == code
    assert told in "".join(capsys.readouterr())


async def test_the_redrive_is_printed_for_programs(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert await call("redrive", "words", "--all", "-o", "name") == 0
    assert capsys.readouterr().out == "redrive/words-x7k2p\n"
    body = redrive(reason="SomeItemsFailed", selected=2, succeeded=1, failed=1)
    api.on("GET", f"{REDRIVES}/words-x7k2p", answer(body))
    assert await call("redrive", "words", "--all", "-o", "yaml", "--wait") == 4
    assert yaml.safe_load(capsys.readouterr().out) == body


async def test_what_was_made_is_printed_although_nobody_waits_any_longer(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    under_way = redrive(selected=2)
    under_way["status"]["conditions"] = []
    api.on("GET", f"{REDRIVES}/words-x7k2p", answer(under_way))
    api.on("GET", REDRIVES, chunks(hangs=True))
    assert await call("redrive", "words", "--all", "-o", "json", "--wait", "--timeout", "1s") == 7
    output = capsys.readouterr()
    assert json.loads(output.out) == under_way
    assert "takes longer than 1s to end" in output.err


async def test_a_job_without_dead_letters(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job())
    assert await call("items", "retry", "words", "a") == 5
    assert "kubectl mapreduce restart words --phase Map" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("work", "after"), [({"skip": ["a"]}, ["a", "b"]), ({"skip": []}, ["b", "a"]), ({}, ["b", "a"])]
)
async def test_items_are_left_out_beside_those_that_were_before(
    api: FakeApi, capsys: pytest.CaptureFixture[str], work: dict[str, Any], after: list[str]
) -> None:
    there(api, job(generation=3, spec={"map": work}))
    assert await call("items", "skip", "words", "b", "a", "b") == 0
    (asked,) = api.asked_for("PATCH", f"{JOBS}/words")
    assert asked.headers["content-type"] == "application/json-patch+json"
    assert asked.body == [
        {"op": "test", "path": "/metadata/generation", "value": 3},
        {"op": "add", "path": "/spec/map/skip", "value": after},
    ]
    output = capsys.readouterr()
    assert output.out == "spec.map.skip of mapreducejob/words names 2 items\n"
    assert output.err == "", "nobody could be asked whether the job has such items"


async def test_a_skip_does_not_undo_what_somebody_else_changed(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    there(api, job(generation=1), job(generation=2))
    api.on("PATCH", f"{JOBS}/words", REFUSED)
    assert await call("items", "skip", "words", "a") == 1
    assert "somebody else changed mapreducejob/words just now, and nothing was skipped: try again" in (
        capsys.readouterr().err
    )


async def test_a_skip_that_is_refused_for_what_it_says(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("PATCH", f"{JOBS}/words", failure(422, "Invalid", "Too many: 1001"))
    assert await call("items", "skip", "words", "a") == 1
    assert "Too many: 1001" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "policy", "count"),
    [
        (("--older-than", "7d"), {"retentionSeconds": 604_800, "purgeOpen": False}, 5),
        (("--older-than", "1h", "--open", "--yes"), {"retentionSeconds": 3600, "purgeOpen": True}, 9),
    ],
)
async def test_old_letters_are_purged_by_the_policy_of_the_queue(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], policy: dict[str, Any], count: int
) -> None:
    assert await call("dlq", "purge", "words", *words) == 0
    (asked,) = api.asked_for("PATCH", f"{QUEUES}/words")
    assert asked.body == {"spec": policy}
    output = capsys.readouterr().out
    assert f"it has {count} letters of these" in output
    undone = "`kubectl mapreduce dlq purge words --older-than 1h` ends that"
    assert (undone in output) == ("--open" in words)


@pytest.mark.parametrize("words", [("--older-than", "1h", "--open"), ("--all",)])
async def test_where_nobody_can_be_asked_it_has_to_be_said(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    gone = answer({"kind": "Status", "code": 404, "reason": "NotFound", "message": "gone"}, 404)
    api.on("GET", f"{JOBS}/words", gone)
    assert await call("dlq", "purge", "words", *words) == 1
    assert "Say so with --yes" in capsys.readouterr().err
    assert {asked.verb for asked in api.asked} == {"GET"}


async def test_a_queue_whose_job_is_there_is_not_deleted(api: FakeApi) -> None:
    assert await call("dlq", "purge", "words", "--all", "--yes") == 1
    assert api.asked_for("DELETE", f"{QUEUES}/words") == []


async def test_a_queue_whose_job_is_gone_is_deleted_with_its_letters(api: FakeApi) -> None:
    namesake = job()
    namesake["metadata"]["uid"] = "another"
    there(api, namesake)
    assert await call("dlq", "purge", "words", "--all", "--yes") == 0
    (asked,) = api.asked_for("DELETE", f"{QUEUES}/words")
    assert asked.body == {"preconditions": {"uid": "uid-queue"}}


@pytest.mark.parametrize("words", [(), ("--all", "--older-than", "1d")])
async def test_purging_asks_what_for(api: FakeApi, words: tuple[str, ...]) -> None:
    assert await call("dlq", "purge", "words", *words) == 2
    assert {asked.verb for asked in api.asked} <= {"GET"}
