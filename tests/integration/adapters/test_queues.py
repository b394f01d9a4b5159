import uuid
from typing import Any

import pytest

from mapreduce_operator.adapters.kube import KubeCluster
from mapreduce_operator.core.names import FINALIZER
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.integration.adapters.conftest import Objects

pytestmark = pytest.mark.cluster

QUEUE = {"jobRef": {"name": "words", "uid": "5d1f"}}
LETTERS = {"total": 3, "open": 2, "claimed": 0, "reprocessing": 0, "resolved": 1, "archived": 0}


def another_uid() -> str:
    return str(uuid.uuid4())


def held(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest | {"metadata": manifest["metadata"] | {"finalizers": [FINALIZER, "example.org/other"]}}


async def test_a_queue_is_created_once_and_read_as_it_is(cluster: KubeCluster, queues: Objects) -> None:
    manifest = held(queues.manifest("words", QUEUE | {"capacity": 7}))

    assert await cluster.get_queue(queues.namespace, "words") is None
    uid = await cluster.create_queue(queues.namespace, manifest)
    with pytest.raises(ClusterError, match=f"POST deadletterqueues {queues.namespace}/words: ") as caught:
        await cluster.create_queue(queues.namespace, manifest)
    found = await cluster.get_queue(queues.namespace, "words")

    assert caught.value.reason is ClusterErrorReason.ALREADY_EXISTS
    assert found is not None
    assert found == await queues.get("words")
    assert found["metadata"]["uid"] == uid
    assert found["spec"] == QUEUE | {"capacity": 7, "onFull": "Pause", "purgeOpen": False}
    await queues.merge("words", {"metadata": {"finalizers": None}})


async def test_a_queue_that_breaks_the_schema_is_refused_by_naming_the_field(
    cluster: KubeCluster, queues: Objects
) -> None:
    with pytest.raises(ClusterError, match=r"spec\.capacity") as caught:
        await cluster.create_queue(queues.namespace, queues.manifest("words", QUEUE | {"capacity": 0}))

    assert caught.value.reason is ClusterErrorReason.INVALID


async def test_the_status_of_a_queue_is_written_whole_and_to_no_other_uid(
    cluster: KubeCluster, queues: Objects
) -> None:
    uid = await queues.create("words", QUEUE)

    await cluster.write_queue_status(queues.namespace, "words", uid, {"letters": LETTERS, "storage": "a/b/"})
    first = (await queues.get("words"))["status"]
    await cluster.write_queue_status(queues.namespace, "words", uid, {"observedGeneration": 1})
    with pytest.raises(ClusterError, match=f"{uid} has its name") as of_another:
        await cluster.write_queue_status(queues.namespace, "words", another_uid(), {"observedGeneration": 2})
    with pytest.raises(ClusterError, match="observedGeneration") as invalid:
        await cluster.write_queue_status(queues.namespace, "words", uid, {"observedGeneration": "many"})
    second = (await queues.get("words"))["status"]
    await queues.delete("words")
    with pytest.raises(ClusterError) as gone:
        await cluster.write_queue_status(queues.namespace, "words", uid, {"observedGeneration": 2})

    assert first == {"letters": LETTERS, "storage": "a/b/"}
    assert second == {"observedGeneration": 1}
    assert of_another.value.reason is ClusterErrorReason.NOT_FOUND
    assert invalid.value.reason is ClusterErrorReason.INVALID
    assert gone.value.reason is ClusterErrorReason.NOT_FOUND


async def test_the_finalizer_of_a_queue_holds_it_until_it_is_removed(cluster: KubeCluster, queues: Objects) -> None:
    uid = await cluster.create_queue(queues.namespace, held(queues.manifest("words", QUEUE)))

    await cluster.delete_queue(queues.namespace, "words", uid)
    await cluster.remove_queue_finalizer(queues.namespace, "words", another_uid())
    before = (await queues.get("words"))["metadata"]
    await cluster.remove_queue_finalizer(queues.namespace, "words", uid)
    await cluster.remove_queue_finalizer(queues.namespace, "words", uid)
    after = (await queues.get("words"))["metadata"]
    await queues.merge("words", {"metadata": {"finalizers": None}})

    assert "deletionTimestamp" in before
    assert before["finalizers"] == [FINALIZER, "example.org/other"]
    assert after["finalizers"] == ["example.org/other"]
    assert await queues.is_gone("words")
    await cluster.remove_queue_finalizer(queues.namespace, "words", uid)


async def test_only_the_queue_of_that_uid_is_deleted(cluster: KubeCluster, queues: Objects) -> None:
    uid = await queues.create("words", QUEUE)

    await cluster.delete_queue(queues.namespace, "words", another_uid())
    assert not await queues.is_gone("words")

    await cluster.delete_queue(queues.namespace, "words", uid)
    assert await queues.is_gone("words")
    await cluster.delete_queue(queues.namespace, "words", uid)


async def test_only_the_redrive_of_that_uid_is_deleted(cluster: KubeCluster, redrives: Objects) -> None:
    uid = await redrives.create("again", {"queue": "words", "selection": {"all": True}})

    await cluster.delete_redrive(redrives.namespace, "again", another_uid())
    assert not await redrives.is_gone("again")

    await cluster.delete_redrive(redrives.namespace, "again", uid)
    assert await redrives.is_gone("again")
    await cluster.delete_redrive(redrives.namespace, "again", uid)


async def test_the_status_of_a_redrive_is_written_whole_and_to_no_other_uid(
    cluster: KubeCluster, redrives: Objects
) -> None:
    uid = await redrives.create("again", {"queue": "words", "selection": {"all": True}})

    await cluster.write_redrive_status(redrives.namespace, "again", uid, {"phase": "Running", "selected": 4})
    await cluster.write_redrive_status(redrives.namespace, "again", uid, {"phase": "Complete"})
    with pytest.raises(ClusterError) as of_another:
        await cluster.write_redrive_status(redrives.namespace, "again", another_uid(), {"phase": "Failed"})

    assert (await redrives.get("again"))["status"] == {"phase": "Complete"}
    assert of_another.value.reason is ClusterErrorReason.NOT_FOUND
