import pytest

from mapreduce_operator.adapters.kube import KubeCluster
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

pytestmark = pytest.mark.cluster


async def test_a_config_map_from_beginning_to_end(cluster: KubeCluster, namespace: str) -> None:
    assert await cluster.read_config_map(namespace, "results") is None

    await cluster.write_config_map(namespace, {"metadata": {"name": "results"}, "data": {"a": "1", "b": "2"}})
    assert await cluster.read_config_map(namespace, "results") == {"a": b"1", "b": b"2"}

    await cluster.write_config_map(namespace, {"metadata": {"name": "results"}, "data": {"b": "ü\n"}})
    assert await cluster.read_config_map(namespace, "results") == {"b": "ü\n".encode()}

    packed = {"metadata": {"name": "results"}, "data": {"b": ""}, "binaryData": {"items.gz": "H4s="}}
    await cluster.write_config_map(namespace, packed)
    assert await cluster.read_config_map(namespace, "results") == {"b": b"", "items.gz": b"\x1f\x8b"}

    await cluster.delete_config_map(namespace, "results")
    await cluster.delete_config_map(namespace, "results")
    assert await cluster.read_config_map(namespace, "results") is None


async def test_a_config_map_that_is_too_large_is_invalid(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(ClusterError, match="Too long") as caught:
        await cluster.write_config_map(namespace, {"metadata": {"name": "large"}, "data": {"a": "x" * 1_100_000}})

    assert caught.value.reason is ClusterErrorReason.INVALID


async def test_a_namespace_that_is_missing_is_not_found(cluster: KubeCluster) -> None:
    with pytest.raises(ClusterError) as caught:
        await cluster.write_config_map("mapreduce-none", {"metadata": {"name": "results"}})

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND
