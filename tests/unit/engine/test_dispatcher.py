"""Jobs are created once, and what is to be removed is removed in the end, whatever the API server says meanwhile."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, cast

import pytest

from mapreduce_operator.core.effects import DeleteJob
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.dispatcher import Dispatcher, Launched, LaunchRefused, TemplateRejected
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.ports import Cluster, ClusterError, ClusterErrorReason, DeposedError, JobCreated

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

RUN = RunRef("team-a", "words", "run-1")
MANIFEST = {"metadata": {"name": "words-abcdefghij-d1"}}
JOB = DeleteJob("words-abcdefghij-d1", "job-1")
UNAVAILABLE, FORBIDDEN = ClusterErrorReason.UNAVAILABLE, ClusterErrorReason.FORBIDDEN


def error(reason: ClusterErrorReason, message: str = "no", retry_after: float | None = None) -> ClusterError:
    return ClusterError(reason, message, retry_after=retry_after)


class Jobs:
    """A namespace with Jobs, by name their uid and that of their owner. Writes meet the faults first, one each."""

    def __init__(self, *faults: Exception | None) -> None:
        self.jobs: dict[str, tuple[str, str]] = {}
        self.pods: dict[str, str] = {}
        self.faults: Iterable[Exception | None] = iter(faults)
        self.writes: list[float] = []
        self.answers_get_lost = 0

    def _meet_a_fault(self) -> None:
        self.writes.append(asyncio.get_running_loop().time())
        fault = next(iter(self.faults), None)
        if fault is not None:
            raise fault

    async def create_job(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JobCreated:
        assert namespace == RUN.namespace
        self._meet_a_fault()
        name = manifest["metadata"]["name"]
        if name in self.jobs:
            raise error(ClusterErrorReason.ALREADY_EXISTS)
        if not dry_run:
            self.jobs[name] = (f"job-{len(self.writes)}", RUN.uid)
        if self.answers_get_lost:
            self.answers_get_lost -= 1
            raise error(UNAVAILABLE, "connection reset")
        return JobCreated(f"job-{len(self.writes)}")

    async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
        assert namespace == RUN.namespace
        return self.jobs.get(name)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        assert namespace == RUN.namespace
        self._meet_a_fault()
        if self.jobs.get(name, ("", ""))[0] == uid:
            del self.jobs[name]

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        assert namespace == RUN.namespace
        self._meet_a_fault()
        if self.pods.get(name) == uid:
            del self.pods[name]


def dispatcher(jobs: Jobs) -> Dispatcher:
    return Dispatcher(cast("Cluster", jobs), RUN, Pace())


def always() -> bool:
    return True


def now() -> float:
    return asyncio.get_running_loop().time()


Removal = Callable[[Dispatcher], Awaitable[None]]


async def delete(one: Dispatcher) -> None:
    await one.delete(JOB)


async def remove_pod(one: Dispatcher) -> None:
    await one.remove_pod("words-abcdefghij-d1-x7k2p", "pod-1")


removals = pytest.mark.parametrize("removal", [delete, remove_pod])


async def test_an_answer_that_is_lost_is_found_out_by_the_name() -> None:
    jobs = Jobs()
    jobs.answers_get_lost = 1
    assert await dispatcher(jobs).create(MANIFEST, always) == Launched(JOB.name, "job-1")
    assert len(jobs.jobs) == 1


async def test_a_job_that_ran_and_went_while_the_answer_was_waited_for_is_not_created_again() -> None:
    jobs = Jobs()
    jobs.answers_get_lost = 1

    def is_wanted() -> bool:
        jobs.jobs.clear()
        return not jobs.writes

    assert await dispatcher(jobs).create(MANIFEST, is_wanted) is None
    assert len(jobs.writes) == 1


async def test_a_job_of_our_name_that_is_not_ours_is_refused_at_once_and_left_alone() -> None:
    jobs = Jobs()
    jobs.jobs[JOB.name] = ("job-9", "somebody")
    refused = await dispatcher(jobs).create(MANIFEST, always)
    assert isinstance(refused, LaunchRefused)
    assert refused.reason == "JobNameTaken"
    assert f"kubectl -n team-a delete job {JOB.name}" in refused.message
    assert len(jobs.writes) == 1
    assert jobs.jobs == {JOB.name: ("job-9", "somebody")}


async def test_a_job_without_an_owner_is_not_ours() -> None:
    jobs = Jobs()
    jobs.jobs[JOB.name] = ("job-9", "")
    refused = await dispatcher(jobs).create(MANIFEST, always)
    assert isinstance(refused, LaunchRefused)
    assert refused.reason == "JobNameTaken"


async def test_a_name_that_becomes_free_is_taken() -> None:
    class Vanishing(Jobs):
        async def get_job(self, namespace: str, name: str) -> tuple[str, str] | None:
            await super().get_job(namespace, name)
            self.jobs.clear()
            return None

    jobs = Vanishing()
    jobs.jobs[JOB.name] = ("job-9", "somebody")
    assert await dispatcher(jobs).create(MANIFEST, always) == Launched(JOB.name, "job-2")


@pytest.mark.parametrize("reason", [ClusterErrorReason.THROTTLED, UNAVAILABLE, ClusterErrorReason.CONFLICT])
async def test_what_passes_is_waited_out(reason: ClusterErrorReason) -> None:
    assert isinstance(await dispatcher(Jobs(error(reason), error(reason))).create(MANIFEST, always), Launched)


async def test_an_api_server_that_stays_away_does_not_hold_a_launch_for_ever() -> None:
    jobs = Jobs(*[error(UNAVAILABLE, "connection refused")] * 100)
    assert await dispatcher(jobs).create(MANIFEST, always) == LaunchRefused("ClusterUnavailable", "connection refused")
    assert len(jobs.writes) == 5
    assert now() < 30


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (ClusterErrorReason.INVALID, TemplateRejected("no")),
        (FORBIDDEN, TemplateRejected("no")),
        (ClusterErrorReason.QUOTA, LaunchRefused("QuotaLimited", "no")),
        (ClusterErrorReason.NOT_FOUND, LaunchRefused("JobRefused", "no")),
    ],
)
async def test_what_does_not_pass_by_itself_is_told_at_once(
    reason: ClusterErrorReason, said: TemplateRejected | LaunchRefused
) -> None:
    jobs = Jobs(error(reason))
    assert await dispatcher(jobs).create(MANIFEST, always) == said
    assert len(jobs.writes) == 1


async def test_retry_after_holds_for_every_write() -> None:
    jobs = Jobs(error(ClusterErrorReason.THROTTLED, retry_after=20), None)
    both = dispatcher(jobs)
    await asyncio.gather(both.create(MANIFEST, always), both.delete(JOB))
    assert jobs.writes[0] == 0
    assert all(at >= 20 for at in jobs.writes[2:])


@removals
@pytest.mark.parametrize("reason", [*ClusterErrorReason])
async def test_a_removal_is_repeated_until_it_is_done(removal: Removal, reason: ClusterErrorReason) -> None:
    jobs = Jobs(*[error(reason)] * 40)
    jobs.jobs[JOB.name], jobs.pods["words-abcdefghij-d1-x7k2p"] = ("job-1", RUN.uid), "pod-1"
    await removal(dispatcher(jobs))
    assert len(jobs.jobs) + len(jobs.pods) == 1
    assert len(jobs.writes) == 41
    pauses = [later - earlier for earlier, later in itertools.pairwise(jobs.writes)]
    assert max(pauses) < 32
    assert min(pauses[-30:]) > 29


@removals
async def test_a_removal_can_be_given_up(removal: Removal) -> None:
    jobs = Jobs(*[error(UNAVAILABLE)] * 1000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(600):
            await removal(dispatcher(jobs))
    assert now() == 600


@removals
async def test_a_hiccup_of_the_api_server_is_no_news(removal: Removal, caplog: pytest.LogCaptureFixture) -> None:
    await removal(dispatcher(Jobs(*[error(UNAVAILABLE)] * 3)))
    assert caplog.text == ""


async def test_an_api_server_that_stays_away_is_told_once_for_all_jobs(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs(*[error(UNAVAILABLE, "connection refused")] * 1000)
    one = dispatcher(jobs)
    await asyncio.gather(*(one.delete(DeleteJob(f"words-{number}-d1", "job-1")) for number in range(50)))
    (record,) = caplog.records
    assert "team-a/words: jobs such as words-" in record.getMessage()
    assert "connection refused" in record.getMessage()


async def test_a_missing_right_is_named_once_for_each_kind_until_it_is_granted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    jobs = Jobs(*[error(FORBIDDEN, "cannot delete")] * 8)
    one = dispatcher(jobs)
    await asyncio.gather(one.delete(JOB), one.delete(JOB), one.remove_pod("pod", "pod-1"))
    assert [record.getMessage().rpartition(". ")[2] for record in caplog.records] == [
        'Grant the operator\'s service account the verb "delete" on "jobs" in this namespace',
        'Grant the operator\'s service account the verb "delete" on "pods" in this namespace',
    ]
    jobs.faults = iter([error(FORBIDDEN, "cannot delete")])
    await one.delete(JOB)
    assert len(caplog.records) == 3


@pytest.mark.parametrize(
    "write", [delete, remove_pod, lambda one: one.create(MANIFEST, always), lambda one: one.try_out({})]
)
async def test_whoever_does_not_lead_any_more_learns_of_it(write: Callable[[Dispatcher], Awaitable[object]]) -> None:
    deposed = DeposedError("epoch 2 leads")
    with pytest.raises(DeposedError) as caught:
        await write(dispatcher(Jobs(deposed)))
    assert caught.value is deposed
