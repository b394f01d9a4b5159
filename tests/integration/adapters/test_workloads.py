import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, paging
from mapreduce_operator.core.names import RunRef, run_labels
from mapreduce_operator.core.workloads import ContainerEnd, JobSeen, PodSeen
from mapreduce_operator.ports import Bookmark, Change, ClusterError, ClusterErrorReason
from tests.integration.adapters.conftest import REAL_IMAGE, call, until

pytestmark = pytest.mark.cluster


@dataclass(frozen=True, slots=True)
class Here:
    """A run in a namespace of its own, and what creates its Jobs."""

    cluster: KubeCluster
    run: RunRef
    owner_uid: str

    def manifest(
        self, image: str = "localhost/none:1", command: str = "true", run: RunRef | None = None
    ) -> dict[str, Any]:
        labels = run_labels(run or self.run) | {
            "mapreduce.dev/stage": "map",
            "mapreduce.dev/item-key": "abcdefghij",
            "mapreduce.dev/dispatch": "1",
            "mapreduce.dev/template-revision": "5f1c",
        }
        agent = {"name": "agent", "image": image, "imagePullPolicy": "Never", "command": ["sh", "-c", command]}
        pod = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [agent],
        }
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": self.owner_uid, "controller": True}
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {
                "name": f"licence-words-{secrets.token_hex(4)}",
                "labels": labels,
                "ownerReferences": [owner],
            },
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": labels}, "spec": pod}},
        }

    async def create(self, manifest: dict[str, Any]) -> str:
        """Uid of the new Job."""
        return (await self.cluster.create_job(self.run.namespace, manifest)).uid

    async def names(self) -> set[str]:
        return {seen.name for seen in (await self.cluster.list_workloads("jobs")).workloads}


@pytest.fixture
async def here(api: ApiSession, cluster: KubeCluster, namespace: str) -> Here:
    # The garbage collector would remove Jobs whose owner is missing.
    owner = await call(api, "POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "owner"}})
    return Here(cluster, RunRef(namespace, "licence-words", str(uuid.uuid4())), owner["metadata"]["uid"])


def name_of(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["name"])


def anything(change: Change) -> bool:
    return bool(change.workload)


async def first(
    watch: AsyncIterator[Change | Bookmark], wanted: Callable[[Change], bool], what: str, seconds: float = 120
) -> Change:
    try:
        async with asyncio.timeout(seconds):
            async for news in watch:
                if isinstance(news, Change) and wanted(news):
                    return news
    except TimeoutError:
        pytest.fail(f"not within {seconds} s: {what}")
    pytest.fail(f"the watch ended before: {what}")


async def test_a_job_is_created_once_and_can_be_adopted(here: Here) -> None:
    job = here.manifest()
    name = name_of(job)

    uid = await here.create(job)
    with pytest.raises(ClusterError, match=f"POST jobs {here.run.namespace}/{name}: .*already exists") as caught:
        await here.create(job)

    assert caught.value.reason is ClusterErrorReason.ALREADY_EXISTS
    assert await here.cluster.get_job(here.run.namespace, name) == (uid, here.owner_uid)
    assert await here.cluster.get_job(here.run.namespace, "missing") is None


async def test_a_dry_run_creates_nothing(here: Here) -> None:
    await here.cluster.create_job(here.run.namespace, here.manifest(), dry_run=True)

    assert await here.names() == set()


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("imagePullPolicies", "Never", "spec.template.spec.containers[0].imagePullPolicies"),
        ("imagePullPolicy", "Sometimes", "spec.template.spec.containers[0].imagePullPolicy"),
        ("image", "", "spec.template.spec.containers[0].image"),
        ("resources", {"limits": {"memory": "much"}}, "quantities must match"),
    ],
)
async def test_a_dry_run_refuses_a_wrong_template_by_naming_the_field(
    here: Here, field: str, value: object, named: str
) -> None:
    job = here.manifest()
    job["spec"]["template"]["spec"]["containers"][0][field] = value

    with pytest.raises(ClusterError) as caught:
        await here.cluster.create_job(here.run.namespace, job, dry_run=True)

    assert caught.value.reason is ClusterErrorReason.INVALID
    assert named in str(caught.value)


async def test_a_quota_that_is_used_up_is_told_apart(api: ApiSession, here: Here) -> None:
    quotas = f"/api/v1/namespaces/{here.run.namespace}/resourcequotas"
    await call(api, "POST", quotas, {"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}})

    async def is_refused() -> bool:
        try:
            await here.create(here.manifest())
        except ClusterError as error:
            return error.reason is ClusterErrorReason.QUOTA
        return False

    # The API server itself learns of the quota with a delay.
    await until(is_refused, "the quota refuses a Job")


async def test_what_is_created_is_listed_and_watched_until_it_is_gone(here: Here) -> None:
    before = await here.cluster.list_workloads("jobs")
    job = here.manifest()
    name = name_of(job)

    uid = await here.create(job)
    (seen,) = (await here.cluster.list_workloads("jobs")).workloads
    async with aclosing(here.cluster.watch_workloads("jobs", before.resource_version)) as watch:
        added = await first(watch, anything, "the Job appears")
        await here.cluster.delete_job(here.run.namespace, name, uid)
        deleted = await first(watch, lambda change: change.deleted, "the Job goes")

    assert before.workloads == []
    assert isinstance(seen, JobSeen)
    assert (seen.namespace, seen.name, seen.uid, seen.owner_uid) == (here.run.namespace, name, uid, here.owner_uid)
    assert seen.carried.run_uid == here.run.uid
    assert added.workload.uid == deleted.workload.uid == uid
    assert not added.deleted


async def test_pods_are_seen_with_the_job_they_belong_to(here: Here) -> None:
    before = await here.cluster.list_workloads("pods")
    job = here.manifest()

    uid = await here.create(job)
    async with aclosing(here.cluster.watch_workloads("pods", before.resource_version)) as watch:
        added = await first(watch, anything, "a pod appears")
        await here.cluster.delete_job(here.run.namespace, name_of(job), uid)
        deleted = await first(watch, lambda change: change.deleted, "the pod goes with its Job")

    assert isinstance(added.workload, PodSeen)
    assert isinstance(deleted.workload, PodSeen)
    assert (added.workload.job, added.workload.job_uid) == (name_of(job), uid)
    assert added.workload.agent is None
    assert not added.workload.gone
    assert deleted.workload.gone


@pytest.mark.usefixtures("some_node_has_the_image")
@pytest.mark.parametrize(
    ("command", "phase", "code", "message"),
    [
        ("printf '{\"words\": 7}' > /dev/termination-log", "Succeeded", 0, '{"words": 7}'),
        ("exit 3", "Failed", 3, ""),
        # Kubernetes makes one $ of two; and the first process of a container cannot kill itself.
        ("sh -c 'kill -9 $$$$'; exit $?", "Failed", 137, ""),
    ],
)
async def test_an_agents_end_is_seen(here: Here, command: str, phase: str, code: int, message: str) -> None:
    before = await here.cluster.list_workloads("pods")

    await here.create(here.manifest(image=REAL_IMAGE, command=command))

    async with aclosing(here.cluster.watch_workloads("pods", before.resource_version)) as watch:
        ended = await first(
            watch, lambda change: isinstance(change.workload, PodSeen) and change.workload.ended, "the pod ends"
        )
    assert isinstance(ended.workload, PodSeen)
    agent = ended.workload.agent
    assert isinstance(agent, ContainerEnd)
    assert (ended.workload.phase, agent.exit_code, agent.message) == (phase, code, message)
    assert 0 < agent.started_at <= agent.finished_at
    assert ended.workload.node


@pytest.mark.usefixtures("some_node_has_the_image")
@pytest.mark.parametrize(
    ("command", "complete", "reason"), [("true", True, None), ("false", False, "BackoffLimitExceeded")]
)
async def test_a_jobs_end_is_seen(here: Here, command: str, complete: bool, reason: str | None) -> None:
    before = await here.cluster.list_workloads("jobs")

    await here.create(here.manifest(image=REAL_IMAGE, command=command))

    async with aclosing(here.cluster.watch_workloads("jobs", before.resource_version)) as watch:
        ended = await first(
            watch, lambda change: isinstance(change.workload, JobSeen) and change.workload.finished, "the Job ends"
        )
    assert isinstance(ended.workload, JobSeen)
    assert (ended.workload.complete, ended.workload.failed_reason) == (complete, reason)


async def test_a_job_with_another_uid_is_left_alone(here: Here) -> None:
    job = here.manifest()
    name = name_of(job)
    uid = await here.create(job)

    await here.cluster.delete_job(here.run.namespace, name, str(uuid.uuid4()))
    assert await here.names() == {name}

    await here.cluster.delete_job(here.run.namespace, name, uid)

    async def is_gone() -> bool:
        return await here.cluster.get_job(here.run.namespace, name) is None

    await until(is_gone, "the Job is gone")
    await here.cluster.delete_job(here.run.namespace, name, uid)


async def test_all_jobs_of_a_run_are_deleted_and_no_others(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_PAGE_SIZE", 2)
    other = RunRef(here.run.namespace, here.run.name, str(uuid.uuid4()))
    kept = here.manifest(run=other)
    await here.create(kept)
    for _ in range(7):
        await here.create(here.manifest())

    await here.cluster.delete_jobs(here.run)

    async def is_left_alone() -> bool:
        return await here.names() == {name_of(kept)}

    await until(is_left_alone, "only the other run's Job is left")

    async def have_no_pods() -> bool:
        pods = (await here.cluster.list_workloads("pods")).workloads
        return {seen.carried.run_uid for seen in pods} <= {other.uid}

    await until(have_no_pods, "the pods are gone with their Jobs")


async def test_a_list_of_several_pages_is_whole(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [here.manifest() for _ in range(7)]
    for job in jobs:
        await here.create(job)
    monkeypatch.setattr(paging, "_PAGE_SIZE", 3)

    listing = await here.cluster.list_workloads("jobs")

    assert sorted(seen.name for seen in listing.workloads) == sorted(name_of(job) for job in jobs)
    assert int(listing.resource_version) > 0


async def test_a_watch_is_ended_by_the_server_in_time_with_a_bookmark(api: ApiSession, namespace: str) -> None:
    cluster = KubeCluster(api, namespace=namespace, watch_seconds=(3, 3))
    listing = await cluster.list_workloads("jobs")

    async with asyncio.timeout(120):
        news = [one async for one in cluster.watch_workloads("jobs", listing.resource_version)]

    assert all(isinstance(one, Bookmark) for one in news)
