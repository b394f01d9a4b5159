import uuid
from dataclasses import replace

import pytest

from mapreduce_operator.adapters.kube import KubeCluster
from mapreduce_operator.core.names import FINALIZER
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.integration.adapters.conftest import Runs, call

pytestmark = pytest.mark.cluster

CONDITION = {
    "type": "Complete",
    "status": "False",
    "reason": "Running",
    "message": "",
    "lastTransitionTime": "2025-06-01T10:00:00Z",
}


async def test_a_status_is_written_whole(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")

    await cluster.write_status(run, {"observedGeneration": 1, "conditions": [CONDITION]}, replacing=0)
    first = (await runs.get("words"))["status"]
    await cluster.write_status(run, {"observedGeneration": 2}, replacing=0)
    second = (await runs.get("words"))["status"]

    assert first["observedGeneration"] == 1
    assert first["conditions"] == [CONDITION]
    assert second["observedGeneration"] == 2
    assert "conditions" not in second


@pytest.mark.parametrize("there", [None, 0, 7])
@pytest.mark.parametrize("expected", [0, 6, 7])
async def test_a_status_of_another_leader_is_not_written_over(
    cluster: KubeCluster, runs: Runs, there: int | None, expected: int
) -> None:
    run = await runs.create_run("words")
    if there is not None:
        await cluster.write_status(
            run, {"observedGeneration": 1} | ({"leaderEpoch": there} if there else {}), replacing=0
        )

    if (there or 0) == expected:
        await cluster.write_status(run, {"observedGeneration": 2}, replacing=expected)
    else:
        with pytest.raises(ClusterError) as caught:
            await cluster.write_status(run, {"observedGeneration": 2}, replacing=expected)
        assert caught.value.reason is ClusterErrorReason.CONFLICT

    assert await cluster.status_epoch(run) == (0 if (there or 0) == expected else there or 0)
    written = (await runs.get("words"))["status"]["observedGeneration"]
    assert written == (2 if (there or 0) == expected else 1 if there is not None else -1)


async def test_a_status_that_breaks_the_schema_is_refused_by_naming_the_field(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")

    with pytest.raises(ClusterError, match="observedGeneration") as caught:
        await cluster.write_status(run, {"observedGeneration": "many"}, replacing=0)

    assert caught.value.reason is ClusterErrorReason.INVALID


async def test_a_status_of_another_uid_is_refused(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")

    with pytest.raises(ClusterError) as caught:
        await cluster.write_status(replace(run, uid=str(uuid.uuid4())), {"observedGeneration": 1}, replacing=0)

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND
    assert (await runs.get("words"))["status"] == {"observedGeneration": -1}


async def test_a_status_of_what_is_gone_is_refused(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")
    await runs.delete("words")

    with pytest.raises(ClusterError) as caught:
        await cluster.write_status(run, {"observedGeneration": 1}, replacing=0)

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND


async def test_a_finalizer_holds_the_object_until_it_is_removed(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")
    await runs.merge("words", {"metadata": {"finalizers": ["example.org/other"]}})

    await cluster.add_finalizer(run)
    await cluster.add_finalizer(run)
    held = (await runs.get("words"))["metadata"]["finalizers"]
    await runs.delete("words")
    await cluster.remove_finalizer(run)
    await cluster.remove_finalizer(run)
    left = (await runs.get("words"))["metadata"]["finalizers"]
    await runs.merge("words", {"metadata": {"finalizers": None}})

    assert held == ["example.org/other", FINALIZER]
    assert left == ["example.org/other"]
    assert await runs.is_gone("words")
    await cluster.remove_finalizer(run)


async def test_the_last_finalizer_lets_the_object_go(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")
    await cluster.add_finalizer(run)
    await runs.delete("words")

    await cluster.remove_finalizer(run)

    assert await runs.is_gone("words")


async def test_only_the_object_of_that_uid_is_deleted(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")

    await cluster.delete_run(replace(run, uid=str(uuid.uuid4())))
    assert not await runs.is_gone("words")

    await cluster.delete_run(run)
    assert await runs.is_gone("words")
    await cluster.delete_run(run)


async def test_a_finalizer_of_another_uid_is_left_alone(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")
    await cluster.add_finalizer(run)
    other = replace(run, uid=str(uuid.uuid4()))

    await cluster.remove_finalizer(other)
    with pytest.raises(ClusterError) as caught:
        await cluster.add_finalizer(other)

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND
    assert (await runs.get("words"))["metadata"]["finalizers"] == [FINALIZER]
    await cluster.remove_finalizer(run)


async def test_an_object_that_is_being_deleted_takes_no_new_finalizer(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")
    await runs.merge("words", {"metadata": {"finalizers": ["example.org/other"]}})
    await runs.delete("words")

    with pytest.raises(ClusterError) as caught:
        await cluster.add_finalizer(run)

    assert caught.value.reason is ClusterErrorReason.INVALID
    await runs.merge("words", {"metadata": {"finalizers": None}})


async def test_an_event_is_found_by_its_object(cluster: KubeCluster, runs: Runs) -> None:
    run = await runs.create_run("words")

    for message in ("first", "second", "x" * 5_000):
        await cluster.post_event(run, kind="Warning", reason="ItemFailed", message=message)

    path = f"/api/v1/namespaces/{run.namespace}/events?fieldSelector=involvedObject.uid={run.uid}"
    events = (await call(runs.api, "GET", path))["items"]
    assert sorted(event["message"][:6] for event in events) == ["first", "second", "xxxxxx"]
    assert {event["source"]["component"] for event in events} == {"mapreduce-operator"}
    assert {(event["type"], event["reason"], event["count"]) for event in events} == {("Warning", "ItemFailed", 1)}
