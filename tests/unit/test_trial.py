"""The job of `helm test`: it is created, followed, and deleted when it succeeded."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.trial import TrialError, trial
from tests.unit.adapters.kube.conftest import Anonymous
from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event, running_fake_api

JOBS = "/apis/mapreduce.dev/v1alpha1/namespaces/team/mapreducejobs"
MANIFEST = {"metadata": {"generateName": "trial-"}, "spec": {}}


def job(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "trial-x", "resourceVersion": "7"}, "spec": {}, "status": status}


AT_WORK = job(phase="Map", items={"total": 3})


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running_fake_api() as api:
        api.on("POST", JOBS, answer(job()))
        api.on("DELETE", f"{JOBS}/trial-x", answer({}))
        yield api


@pytest.fixture
async def session(api: FakeApi) -> AsyncIterator[ApiSession]:
    async with ApiSession(Anonymous(api.url)) as session:
        yield session


async def test_a_job_that_succeeded_is_deleted_and_the_rest_of_the_watch_is_not_waited_for(
    api: FakeApi, session: ApiSession, capsys: pytest.CaptureFixture[str]
) -> None:
    end = job(phase="Succeeded", items={"total": 3}, completionTime="2026-11-21T10:00:00Z")
    told = [event("ADDED", job()), event("MODIFIED", AT_WORK), event("MODIFIED", end)]
    api.on("GET", JOBS, chunks(*told, hangs=True))

    await trial(session, "team", MANIFEST)

    assert [asked.verb for asked in api.asked] == ["POST", "GET", "DELETE"]
    (watch,) = api.asked_for("GET", JOBS)
    assert (watch.query["fieldSelector"], watch.query["resourceVersion"]) == ("metadata.name=trial-x", "7")
    assert capsys.readouterr().out.splitlines() == [
        "mapreducejobs team/trial-x was created",
        'phase Map, items {"total":3}',
        'phase Succeeded, items {"total":3}',
        "mapreducejobs team/trial-x succeeded, and is deleted",
    ]


@pytest.mark.parametrize(
    ("told", "came_to"),
    [
        ([], "no operator has taken it on"),
        ([event("MODIFIED", AT_WORK)], "its phase is Map"),
        ([event("MODIFIED", job(phase="Failed", completionTime="2026-11-21T10:00:00Z"))], "its phase is Failed"),
        ([event("MODIFIED", AT_WORK), event("DELETED", AT_WORK)], "its phase is Map"),
        ([event("ERROR", {"kind": "Status", "status": "Failure", "code": 410})], "no operator has taken it on"),
    ],
    ids=["time is up", "time is up at work", "failed", "deleted", "error"],
)
async def test_a_job_that_did_not_succeed_is_left_for_a_look_at_it(
    api: FakeApi, session: ApiSession, told: list[bytes], came_to: str
) -> None:
    api.on("GET", JOBS, chunks(*told))

    with pytest.raises(TrialError, match=re.escape(f"{came_to}. Look at it with kubectl -n team describe mrj trial-x")):
        await trial(session, "team", MANIFEST)

    assert [asked.verb for asked in api.asked] == ["POST", "GET"]
