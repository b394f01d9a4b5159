"""Commands that change how a job goes on: what they patch, and how long they wait."""

import ast
import inspect
import re
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_operator.core import course
from mapreduce_operator.core.course import Course
from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event
from tests.unit.cli.little_cluster import FINISHED, JOBS, call, job, little_cluster, there

WORDS = f"{JOBS}/words"
GOES_ON = {"Suspended": ("False", "NotSuspended"), "Finished": ("False", "Planned")}
SUSPENDED = {"Suspended": ("True", "Suspended"), "Finished": ("False", "Planned")}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        yield api


def patches(api: FakeApi) -> list[Any]:
    return [asked.body for asked in api.asked_for("PATCH", WORDS)]


@pytest.mark.parametrize(
    ("words", "spec"),
    [
        (("suspend",), {"suspend": True}),
        (("suspend", "--interrupt"), {"suspend": True, "suspendPolicy": "Interrupt"}),
        (("resume",), {"suspend": False}),
        (("cancel",), {"cancel": True}),
        (("restart", "--token", "7"), {"cancel": False, "restart": {"phase": "Map", "token": "7"}}),
        *(
            (
                ("restart", "--phase", phase, "--token", "7"),
                {"cancel": False, "restart": {"phase": "Reduce", "token": "7"}},
            )
            for phase in ("reduce", "Reduce", "REDUCE")
        ),
    ],
)
async def test_a_command_is_a_patch_of_the_spec(api: FakeApi, words: tuple[str, ...], spec: dict[str, Any]) -> None:
    there(api, job(spec={"map": {}, "reduce": {}}, conditions=GOES_ON))
    assert await call(words[0], "words", *words[1:]) == 0
    assert patches(api) == [{"spec": spec}]
    assert api.asked[-1].query["fieldManager"] == "kubectl-mapreduce"
    assert api.asked[-1].headers["content-type"] == "application/merge-patch+json"


async def test_a_restore_suspends_and_is_the_same_twice_unless_it_is_asked_for_again(api: FakeApi) -> None:
    there(api, job(conditions=GOES_ON))
    for words in ((), (), ("--again",)):
        assert await call("restore", "words", "12", *words) == 0
    first, second, again = patches(api)
    assert first == second == {"spec": {"suspend": True, "restore": {"checkpoint": 12, "token": None}}}
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", again["spec"]["restore"]["token"])


@pytest.mark.parametrize(("kept", "code"), [("0,4-9", 1), ("12", 0), ("3,10-14", 0), ("…,20-30", 0), ("", 0)])
async def test_a_checkpoint_that_is_not_kept_is_not_asked_for(
    api: FakeApi, capsys: pytest.CaptureFixture[str], kept: str, code: int
) -> None:
    there(api, job(conditions=GOES_ON, checkpoint={"sequence": 30, "kept": kept}))
    assert await call("restore", "words", "12") == code
    assert len(patches(api)) == 1 - code
    refused = "words keeps no checkpoint 12, and nothing was changed: it keeps 0,4-9"
    assert (refused in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize(
    ("words", "spec", "code"),
    [
        (("restart", "words", "--phase", "Reduce"), {"map": {}}, 1),
        (("restart", "words", "--phase", "Reduce"), {"forkFrom": {}}, 0),
        (("restart", "words", "--phase", "Map"), {"map": {}}, 0),
    ],
)
async def test_a_reduce_that_is_not_there_is_not_begun_again(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], spec: dict[str, Any], code: int
) -> None:
    there(api, job(spec=spec, conditions=GOES_ON))
    assert await call(*words) == code
    assert len(patches(api)) == 1 - code
    assert ("mapreducejob/words has no reduce" in capsys.readouterr().err) == (code == 1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("suspend", "words"), "will be suspended\n"),
        (("cancel", "words"), "will be cancelled\n"),
        (("restart", "words"), "will begin its phase Map again\n"),
        (("restore", "words", "3"), "will go back to checkpoint 3, and is suspended\n"),
    ],
)
async def test_what_was_asked_for_is_told(
    api: FakeApi, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    there(api, job(conditions=GOES_ON))
    assert await call(*words) == 0
    assert capsys.readouterr().out == f"mapreducejob/words {told}"


@pytest.mark.parametrize("command", ["suspend", "resume", "cancel", "checkpoint"])
async def test_a_job_that_has_ended_is_left_alone(
    api: FakeApi, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    there(api, job(phase="Succeeded", conditions=FINISHED))
    code = await call(command, "words")
    assert (code, patches(api)) == (1 if command == "checkpoint" else 0, [])
    output = "".join(capsys.readouterr())
    assert "has ended" in output
    assert ("`kubectl mapreduce restart words --phase Map` runs" in output) == (command == "resume")


async def test_a_job_that_ends_while_its_going_on_is_waited_for(
    api: FakeApi, capsys: pytest.CaptureFixture[str]
) -> None:
    over = job(generation=2, phase="Failed", conditions=FINISHED)
    there(api, job(conditions=SUSPENDED), over)
    assert await call("resume", "words", "--wait") == 0
    assert patches(api) == [{"spec": {"suspend": False}}]
    assert capsys.readouterr().out.startswith("mapreducejob/words has ended: Failed; ")


@pytest.mark.parametrize(
    ("words", "later"),
    [
        (("suspend", "words"), job(generation=2, conditions=SUSPENDED)),
        (("resume", "words"), job(generation=2, conditions=GOES_ON)),
        (("cancel", "words"), job(generation=2, phase="Failed", conditions={"Finished": ("True", "Cancelled")})),
        (("restart", "words", "--token", "7"), job(generation=2, restart={"token": "7"})),
        (("restore", "words", "3"), job(generation=2, restore={"checkpoint": 3, "token": ""})),
    ],
)
async def test_waiting_ends_when_it_is_done(api: FakeApi, words: tuple[str, ...], later: dict[str, Any]) -> None:
    before = job(conditions=GOES_ON)
    # The spec has changed, and the operator has not seen it: what the status says is of before.
    unseen = job(conditions=SUSPENDED | FINISHED, restore={"checkpoint": 3})
    unseen["metadata"]["generation"] = 2
    there(api, before, unseen)
    api.on("GET", JOBS, chunks(event("MODIFIED", later), hangs=True))
    assert await call(*words, "--wait") == 0
    (watch,) = api.asked_for("GET", JOBS)
    assert watch.query["fieldSelector"] == "metadata.name=words"


async def test_a_job_that_ends_before_it_is_cancelled(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(conditions=GOES_ON), job(generation=2, phase="Succeeded", conditions=FINISHED))
    assert await call("cancel", "words", "--wait") == 0
    assert capsys.readouterr().out == "mapreducejob/words had ended before: Succeeded\n"


async def test_waiting_has_an_end_of_its_own(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(conditions=GOES_ON))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("suspend", "words", "--wait", "--timeout", "1s") == 7
    assert "takes longer than 1s to stand still" in capsys.readouterr().err


async def test_a_job_that_is_deleted_meanwhile(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(conditions=GOES_ON))
    gone = answer({"kind": "Status", "code": 404, "reason": "NotFound", "message": "gone"}, 404)
    api.on("GET", WORDS, answer(job(conditions=GOES_ON)), answer(job(conditions=GOES_ON)), gone)
    api.on("GET", JOBS, chunks(event("DELETED", job())))
    assert await call("suspend", "words", "--wait") == 5
    assert "mapreducejobs team/words was deleted while it was waited for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "code"),
    [("CheckpointNotFound", 1), ("NotSuspended", 1), ("AgentsRunning", 7), ("StorageUnavailable", 7)],
)
async def test_what_cannot_be_done_is_not_waited_for(api: FakeApi, reason: str, code: int) -> None:
    there(api, job(conditions=SUSPENDED | {"Restored": ("False", reason)}))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("restore", "words", "99", "--wait", "--timeout", "1s" if code == 7 else "1m") == code


def reasons_to_wait() -> list[str]:
    """All that Course.redrive_waits can give, and with it the condition Restarted."""
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(Course.redrive_waits))).body
    answers = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    pairs = [answer.elts[0] for answer in answers if isinstance(answer, ast.Tuple)]
    reasons = [reason.value for reason in pairs if isinstance(reason, ast.Constant)]
    reasons += [getattr(course, answer.id)[0] for answer in answers if isinstance(answer, ast.Name)]
    assert len(reasons) == len(answers) - 1, "all but None are known"
    return [str(reason) for reason in reasons]


@pytest.mark.parametrize("reason", reasons_to_wait())
async def test_a_restart_is_waited_for_unless_somebody_has_to_act(api: FakeApi, reason: str) -> None:
    there(api, job(conditions=GOES_ON | {"Restarted": ("False", reason)}))
    api.on("GET", JOBS, chunks(hangs=True))
    code = 1 if reason == "Cancelled" else 7
    assert await call("restart", "words", "--wait", "--timeout", "1s" if code == 7 else "1m") == code


async def test_a_restart_that_is_refused_says_why_and_no_more(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    there(api, job(conditions=GOES_ON | {"Restarted": ("False", "NoReduce")}))
    api.on("GET", JOBS, chunks(hangs=True))
    assert await call("restart", "words", "--wait", "--timeout", "1m") == 1
    error = capsys.readouterr().err
    assert "words: NoReduce: " in error
    assert "checkpoints list" not in error


async def test_a_checkpoint_is_asked_for_by_its_token(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    written = {"sequence": 14, "token": "mine"}
    there(api, job(conditions=GOES_ON), job(conditions=GOES_ON, checkpoint={"sequence": 13, "token": "old"}))
    api.on("GET", JOBS, chunks(event("MODIFIED", job(conditions=GOES_ON, checkpoint=written)), hangs=True))
    assert await call("checkpoint", "words", "--token", "mine", "--wait") == 0
    assert patches(api) == [{"metadata": {"annotations": {"mapreduce.dev/checkpoint": "mine"}}}]
    assert capsys.readouterr().out == "mapreducejob/words wrote checkpoint 14 with the token mine\n"


async def test_a_job_without_checkpoints_cannot_be_asked_for_one(api: FakeApi) -> None:
    there(api, job(spec={"checkpoint": {"enabled": False}}, conditions=GOES_ON))
    assert await call("checkpoint", "words") == 1
    assert patches(api) == []
