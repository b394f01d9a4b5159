import asyncio
import time
from contextlib import aclosing

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster
from mapreduce_operator.adapters.kube.watching import Lines
from mapreduce_operator.core.workloads import JobSeen, PodSeen
from mapreduce_operator.ports import Bookmark, Change, ClusterError, ClusterErrorReason, WorkloadKind
from tests.unit.adapters.kube.fake_api import FakeApi, broken, chunks, event, failure, silence, text
from tests.unit.adapters.kube.objects import BOOKMARK, condition, job, pod, terminated

PODS = "/api/v1/pods"
JOBS = "/apis/batch/v1/jobs"
GONE = {
    "status": "Failure",
    "kind": "Status",
    "code": 410,
    "reason": "Expired",
    "message": "too old resource version: 1 (2)",
}
TIMEOUT = {
    "status": "Failure",
    "kind": "Status",
    "code": 504,
    "reason": "Timeout",
    "message": "etcdserver: request timed out",
}


async def told(cluster: KubeCluster, kind: WorkloadKind = "pods") -> list[Change | Bookmark]:
    return [news async for news in cluster.watch_workloads(kind, "1000")]


async def told_until_error(cluster: KubeCluster) -> tuple[list[Change | Bookmark], ClusterError]:
    """What came before the error, and the error."""
    news = []
    watch = cluster.watch_workloads("pods", "1000")
    while True:
        try:
            news.append(await anext(watch))
        except ClusterError as error:
            return news, error


def versions(news: list[Change | Bookmark]) -> list[str]:
    return [one.resource_version for one in news]


async def test_a_watch_asks_for_ours_since_a_version_with_bookmarks(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks())

    assert await told(cluster) == []

    (asked,) = api.asked
    timeout = int(asked.query.pop("timeoutSeconds"))
    assert 240 <= timeout <= 420
    assert asked.query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "labelSelector": "app.kubernetes.io/managed-by=mapreduce-operator",
        "resourceVersion": "1000",
    }


async def test_a_watch_may_be_of_one_namespace(api: FakeApi, session: ApiSession) -> None:
    api.on("GET", "/api/v1/namespaces/team-a/pods", chunks(event("BOOKMARK", BOOKMARK)))

    assert await told(KubeCluster(session, namespace="team-a")) == [Bookmark("3003")]


async def test_changes_come_in_their_order(api: FakeApi, cluster: KubeCluster) -> None:
    ended = pod("Succeeded", terminated(), resourceVersion="2003")
    api.on(
        "GET",
        PODS,
        chunks(
            event("ADDED", pod("Pending")),
            event("MODIFIED", ended) + event("BOOKMARK", BOOKMARK) + event("DELETED", ended | {"x": 1}),
        ),
    )

    news = await told(cluster)

    assert versions(news) == ["2002", "2003", "3003", "2003"]
    added, modified, bookmark, deleted = news
    assert isinstance(bookmark, Bookmark)
    assert isinstance(added, Change)
    assert isinstance(modified, Change)
    assert isinstance(deleted, Change)
    assert isinstance(modified.workload, PodSeen)
    assert isinstance(deleted.workload, PodSeen)
    assert (added.deleted, modified.deleted, deleted.deleted) == (False, False, True)
    assert (modified.workload.gone, deleted.workload.gone) == (False, True)
    assert deleted.workload.phase == "Succeeded"


async def test_jobs_are_told_as_jobs(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", JOBS, chunks(event("DELETED", job(condition("Complete")))))

    (change,) = await told(cluster, "jobs")

    assert isinstance(change, Change)
    assert isinstance(change.workload, JobSeen)
    assert change.workload.complete
    assert change.deleted


async def test_what_is_not_ours_tells_only_how_far_the_stream_is(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod(labels={"app.kubernetes.io/managed-by": "mapreduce-operator"}))))

    assert await told(cluster) == [Bookmark("2002")]


async def test_lines_may_come_in_any_pieces(api: FakeApi, cluster: KubeCluster) -> None:
    data = event("ADDED", pod()) + event("BOOKMARK", BOOKMARK) + event("MODIFIED", pod(resourceVersion="3004"))
    api.on("GET", PODS, chunks(*(data[start : start + 97] for start in range(0, len(data), 97)), pause=0.001))

    assert versions(await told(cluster)) == ["2002", "3003", "3004"]


async def test_lines_may_be_long(api: FakeApi, cluster: KubeCluster) -> None:
    large = pod(annotations={"mapreduce.dev/item": "ä" * 3_000_000})
    api.on("GET", PODS, chunks(event("ADDED", large) * 2))

    assert versions(await told(cluster)) == ["2002", "2002"]


async def test_a_line_without_its_end_is_not_told(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod()), event("MODIFIED", pod())[:-1]))

    assert versions(await told(cluster)) == ["2002"]


async def test_a_connection_that_breaks_within_a_line_is_an_error(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod()), event("MODIFIED", pod())[:100], pause=0.01, breaks=True))

    news, error = await told_until_error(cluster)

    assert versions(news) == ["2002"]
    assert error.reason is ClusterErrorReason.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "reason"), [(GONE, ClusterErrorReason.EXPIRED), (TIMEOUT, ClusterErrorReason.UNAVAILABLE)]
)
async def test_an_error_in_the_stream_comes_after_what_was_before_it(
    api: FakeApi, cluster: KubeCluster, status: dict[str, object], reason: ClusterErrorReason
) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod()) + event("ERROR", status)))

    news, error = await told_until_error(cluster)

    assert versions(news) == ["2002"]
    assert error.reason is reason


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (failure(410, "Expired", "too old resource version"), ClusterErrorReason.EXPIRED),
        (failure(429, "TooManyRequests", "slow down", headers={"Retry-After": "1"}), ClusterErrorReason.THROTTLED),
        (failure(403, "Forbidden", "cannot watch"), ClusterErrorReason.FORBIDDEN),
        (failure(500, "InternalError", "oh"), ClusterErrorReason.UNAVAILABLE),
        (broken(), ClusterErrorReason.UNAVAILABLE),
        (text("<html>welcome</html>\n"), ClusterErrorReason.UNAVAILABLE),
        (chunks(b'{"type": "ADDED", "object": {}}\n'), ClusterErrorReason.UNAVAILABLE),
        (chunks(event("ADDED", pod())[:200] + b"\n"), ClusterErrorReason.UNAVAILABLE),
    ],
    ids=["410", "429", "403", "500", "broken", "no JSON", "no object", "cut short"],
)
async def test_a_watch_that_is_refused_or_talks_nonsense_is_an_error(
    api: FakeApi, cluster: KubeCluster, given: object, reason: ClusterErrorReason
) -> None:
    assert callable(given)
    api.on("GET", PODS, given)

    news, error = await told_until_error(cluster)

    assert news == []
    assert error.reason is reason
    assert str(error).startswith("WATCH pods in *: ")


@pytest.mark.parametrize("given", [silence(), chunks(event("ADDED", pod()), hangs=True)], ids=["at once", "later"])
async def test_a_stream_that_falls_silent_is_an_error(api: FakeApi, impatient: ApiSession, given: object) -> None:
    assert callable(given)
    api.on("GET", PODS, given)
    started = time.monotonic()

    async with asyncio.timeout(20):
        _, error = await told_until_error(KubeCluster(impatient))

    assert error.reason is ClusterErrorReason.UNAVAILABLE
    assert time.monotonic() - started > 1.9


async def test_a_slow_stream_is_no_silent_one(api: FakeApi, impatient: ApiSession) -> None:
    api.on("GET", PODS, chunks(*[event("BOOKMARK", BOOKMARK)] * 12, pause=0.2))

    assert versions(await told(KubeCluster(impatient))) == ["3003"] * 12


async def test_a_slow_reader_is_no_silent_stream(api: FakeApi, impatient: ApiSession) -> None:
    large = event("ADDED", pod(annotations={"mapreduce.dev/item": "x" * 1_000_000}))
    api.on("GET", PODS, chunks(*[large] * 8))

    count = 0
    async for _ in KubeCluster(impatient).watch_workloads("pods", "1"):
        await asyncio.sleep(0.35)
        count += 1

    assert count == 8


async def test_a_watch_that_is_left_ends_its_connection(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod()), hangs=True))

    async with aclosing(cluster.watch_workloads("pods", "1")) as news:
        await anext(news)

    async with asyncio.timeout(20):
        await api.left.wait()


async def test_watches_do_not_keep_requests_waiting(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, chunks(event("ADDED", pod()), hangs=True))
    watches = [cluster.watch_workloads("pods", "1") for _ in range(80)]
    for watch in watches:
        await anext(watch)

    assert await cluster.get_job("team-a", "x") is None

    for watch in watches:
        await watch.aclose()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_the_same_however_they_are_cut(size: int) -> None:
    data = b"one\n\ntwo\nthree\n\n\nfour\nrest"
    lines = Lines()

    taken = [line for start in range(0, len(data), size) for line in lines.take(data[start : start + size])]

    assert taken == [b"one", b"two", b"three", b"four"]
