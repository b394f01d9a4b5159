"""The informer over a bad line to a real API server, while somebody else creates, ends and deletes Jobs and pods."""

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, KubeconfigCredentials
from mapreduce_operator.core.names import RunRef, run_labels
from mapreduce_operator.core.workloads import JobSeen, PodSeen, Workload
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.ports import Bookmark, Change, ClusterError, ClusterErrorReason, WorkloadKind
from tests.integration.adapters.bad_line import BadLine, bad_line
from tests.integration.adapters.conftest import call, until

pytestmark = pytest.mark.cluster

OBJECTS = 60
"""In a storm, half of them Jobs; so the test takes seconds, and there is news all the time."""


class Forgetful(KubeCluster):
    """Starts a watch from the beginning of time when told to, which the API server has long forgotten."""

    forgets = 0
    expired = 0

    async def watch_workloads(
        self, kind: WorkloadKind, resource_version: str
    ) -> AsyncGenerator[Change | Bookmark, None]:
        if self.forgets:
            self.forgets -= 1
            resource_version = "1"
        try:
            async for change in super().watch_workloads(kind, resource_version):
                yield change
        except ClusterError as error:
            self.expired += error.reason is ClusterErrorReason.EXPIRED
            raise


@dataclass
class Watched:
    """An informer at the far end of a bad line, and all that it told."""

    line: BadLine
    cluster: Forgetful
    informer: Informer
    told: list[tuple[Workload, bool]] = field(default_factory=list)

    def take(self, workload: Workload, deleted: bool) -> None:
        self.told.append((workload, deleted))

    def known(self) -> dict[str, Workload]:
        return {workload.uid: workload for run in self.informer.runs() for workload in self.informer.known(run)}


@dataclass
class Storm:
    """Creates Jobs and pods, ends pods and deletes both, in the order of chance. Knows what it did."""

    api: ApiSession
    namespace: str
    run: RunRef
    living: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    async def blow(self) -> None:
        dice = random.Random(7)
        turns = asyncio.Semaphore(4)

        async def live(number: int) -> None:
            async with turns:
                await (self._job if number % 2 else self._pod)(f"storm-{number}", dice)

        await asyncio.gather(*(live(number) for number in range(OBJECTS)))

    async def _job(self, name: str, dice: random.Random) -> None:
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        template = {"metadata": {"labels": self._labels()}, "spec": {**POD, "restartPolicy": "Never"}}
        body = {"metadata": self._metadata(name), "spec": {"suspend": True, "template": template}}
        await self._create_and_delete(path, body, dice)

    async def _pod(self, name: str, dice: random.Random) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        await self._create_and_delete(path, {"metadata": self._metadata(name), "spec": POD}, dice, ends=True)

    async def _create_and_delete(
        self, path: str, body: dict[str, Any], dice: random.Random, *, ends: bool = False
    ) -> None:
        metadata = (await call(self.api, "POST", path, body))["metadata"]
        name, uid = metadata["name"], metadata["uid"]
        self.living.add(uid)
        await asyncio.sleep(dice.uniform(0, 0.3))
        if ends and dice.random() < 0.7:
            self.ended.add(uid)
            status = {"status": {"phase": "Succeeded"}}
            await self.api.request(
                "PATCH",
                f"{path}/{name}/status",
                about=name,
                body=status,
                content_type="application/merge-patch+json",
            )
            await asyncio.sleep(dice.uniform(0, 0.3))
        if dice.random() < 0.7:
            options = {"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
            await call(self.api, "DELETE", f"{path}/{name}", options)
            self.living.remove(uid)
            self.deleted.add(uid)

    def _metadata(self, name: str) -> dict[str, Any]:
        return {"name": name, "labels": self._labels()}

    def _labels(self) -> dict[str, str]:
        return run_labels(self.run) | {
            "mapreduce.dev/stage": "map",
            "mapreduce.dev/item-key": "abcdefghij",
            "mapreduce.dev/dispatch": "1",
            "mapreduce.dev/template-revision": "5f1c",
        }


POD = {
    "automountServiceAccountToken": False,
    "containers": [{"name": "agent", "image": "localhost/none:1"}],
    "nodeSelector": {"mapreduce.dev/no": "node"},
}


@asynccontextmanager
async def watching(
    namespace: str, watch_seconds: tuple[int, int] = (240, 420), silence_seconds: float = 30.0
) -> AsyncIterator[Watched]:
    async with bad_line(await KubeconfigCredentials.load()) as (line, credentials):
        api = ApiSession(credentials, request_seconds=30, silence_seconds=silence_seconds)
        async with Forgetful(api, namespace=namespace, watch_seconds=watch_seconds) as cluster:
            watched = Watched(line, cluster, Informer(cluster))
            task = asyncio.create_task(watched.informer.serve(watched.take))
            await watched.informer.wait_until_synced()
            yield watched
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def storm(api: ApiSession, namespace: str) -> Storm:
    return Storm(api, namespace, RunRef(namespace, "licence-words", str(uuid.uuid4())))


async def check(watched: Watched, storm: Storm, cluster: KubeCluster) -> None:
    """What is known is what there is; each end was told, and each deletion once."""

    async def is_true() -> bool:
        there = [one for kind in ("jobs", "pods") for one in (await cluster.list_workloads(kind)).workloads]
        return watched.known() == {one.uid: one for one in there}

    await until(is_true, "the informer knows what there is")
    assert watched.known().keys() == storm.living
    deletions = [workload.uid for workload, deleted in watched.told if deleted]
    assert len(deletions) == len(set(deletions))
    told = {workload.uid for workload, _ in watched.told}
    # What came and went between two listings was seen by nobody.
    assert set(deletions) == storm.deleted & told
    ends = {workload.uid for workload, _ in watched.told if isinstance(workload, PodSeen) and workload.ended}
    assert (storm.ended & storm.living) | (storm.deleted & told) <= ends | set(deletions)
    for uid in told:
        story = [deleted for workload, deleted in watched.told if workload.uid == uid]
        assert True not in story[:-1]


async def test_connections_that_are_cut_all_the_time(storm: Storm, cluster: KubeCluster) -> None:
    async with watching(storm.namespace) as watched:
        blowing = asyncio.create_task(storm.blow())
        cuts = 0

        async def there_is_news_of_both(since: int) -> bool:
            return blowing.done() or {type(workload) for workload, _ in watched.told[since:]} == {JobSeen, PodSeen}

        # With nothing between several cuts it would list anew, as it should, and miss what lived for a moment.
        while not blowing.done():
            await until(partial(there_is_news_of_both, len(watched.told)), "both streams go on")
            watched.line.cut()
            cuts += 1
        await blowing
        await check(watched, storm, cluster)
        assert cuts > 3
        # A version outlives its stream: nothing was missed.
        assert {workload.uid for workload, _ in watched.told} == storm.living | storm.deleted


async def test_a_line_that_falls_silent_without_a_word(storm: Storm, cluster: KubeCluster) -> None:
    # Impatient, so that what takes a minute and a half in the world takes two seconds here.
    async with watching(storm.namespace, silence_seconds=2.0) as watched:
        blowing = asyncio.create_task(storm.blow())
        await asyncio.sleep(0.5)
        watched.line.stall()
        opened = watched.line.connections
        await blowing

        async def are_given_up() -> bool:
            return watched.line.connections > opened

        # So that what the line kept back comes too late.
        await until(are_given_up, "streams that fell silent are given up")
        watched.line.flow()
        await check(watched, storm, cluster)


async def test_an_api_server_that_is_away_for_a_while(storm: Storm, cluster: KubeCluster) -> None:
    async with watching(storm.namespace) as watched:
        blowing = asyncio.create_task(storm.blow())
        await asyncio.sleep(0.5)
        watched.line.refuse()
        await blowing
        watched.line.flow()
        await check(watched, storm, cluster)


async def test_a_slow_line_and_watches_that_the_server_ends_every_second(storm: Storm, cluster: KubeCluster) -> None:
    async with watching(storm.namespace, watch_seconds=(1, 1)) as watched:
        watched.line.delay = 0.1
        await storm.blow()
        await check(watched, storm, cluster)
        assert {workload.uid for workload, _ in watched.told} == storm.living | storm.deleted


async def test_versions_that_the_server_has_forgotten(storm: Storm, cluster: KubeCluster) -> None:
    async with watching(storm.namespace) as watched:
        blowing = asyncio.create_task(storm.blow())
        while not blowing.done() or watched.cluster.expired <= 2:
            watched.cluster.forgets = 2
            watched.line.cut()
            await asyncio.sleep(0.7)
        await blowing
        watched.cluster.forgets = 0
        await check(watched, storm, cluster)


async def test_a_quiet_stream_learns_how_far_the_server_has_come(cluster: KubeCluster, namespace: str) -> None:
    """Else the version of a quiet stream would be too old one day."""
    listed = await cluster.list_workloads("pods")
    # It tells two seconds before the end: a server that takes longer than the rest to begin with the stream does not.
    quiet = KubeCluster(ApiSession(await KubeconfigCredentials.load()), namespace=namespace, watch_seconds=(15, 15))
    async with quiet:
        news = [one async for one in quiet.watch_workloads("pods", listed.resource_version)]
    assert news
    assert all(isinstance(one, Bookmark) for one in news)
    assert int(news[-1].resource_version) >= int(listed.resource_version)
