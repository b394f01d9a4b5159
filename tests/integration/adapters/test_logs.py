"""The end of an agent's log, as the kubelet of a real node gives it."""

from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.integration.adapters.conftest import REAL_IMAGE, call, until

pytestmark = pytest.mark.cluster


class Pods:
    """Pods of a namespace, without a Job."""

    def __init__(self, api: ApiSession, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, name: str, *commands: str, image: str = REAL_IMAGE) -> None:
        """A pod with a container for each command; the first one is the agent."""
        containers = [
            {"name": f"c{place}", "image": image, "imagePullPolicy": "Never", "command": ["sh", "-c", command]}
            for place, command in enumerate(commands)
        ]
        spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": containers}
        await call(self._api, "POST", self._path, {"metadata": {"name": name}, "spec": spec})

    async def ended(self, name: str) -> None:
        async def has_ended() -> bool:
            return await self._phase(name) in {"Succeeded", "Failed"}

        await until(has_ended, f"{name} has ended")

    async def waits(self, name: str) -> None:
        async def is_waiting() -> bool:
            statuses = (await self._get(name))["status"].get("containerStatuses", ())
            return any("reason" in status["state"].get("waiting", {}) for status in statuses)

        await until(is_waiting, f"{name} waits")

    async def _phase(self, name: str) -> str:
        return str((await self._get(name))["status"].get("phase"))

    async def _get(self, name: str) -> Any:
        return await call(self._api, "GET", f"{self._path}/{name}")


@pytest.fixture
def pods(api: ApiSession, namespace: str) -> Pods:
    return Pods(api, namespace)


@pytest.mark.usefixtures("some_node_has_the_image")
async def test_the_last_lines_come_and_of_them_the_last_bytes(cluster: KubeCluster, pods: Pods, namespace: str) -> None:
    await pods.create("talker", "for i in $(seq 1000); do echo line $i; done; exit 3")
    # On its own: the order of what comes by two streams is not that in which it was written.
    await pods.create("complainer", "echo to stderr >&2; exit 3")
    await pods.ended("talker")
    await pods.ended("complainer")

    few = await cluster.read_log(namespace, "talker", lines=3, limit=4096)
    short = await cluster.read_log(namespace, "talker", lines=3, limit=10)
    errors = await cluster.read_log(namespace, "complainer", lines=3, limit=4096)
    many = await cluster.read_log(namespace, "talker", lines=5000, limit=100_000)

    assert few == "line 998\nline 999\nline 1000\n"
    assert short == "line 1000\n"
    assert errors == "to stderr\n"
    assert many.startswith("line 1\nline 2\n")
    assert len(many.splitlines()) == 1000


@pytest.mark.usefixtures("some_node_has_the_image")
async def test_of_several_containers_the_agents_log_is_read(cluster: KubeCluster, pods: Pods, namespace: str) -> None:
    await pods.create("two", "echo I am the agent", "echo I am its sidecar")
    await pods.ended("two")

    assert await cluster.read_log(namespace, "two", lines=10, limit=4096) == "I am the agent\n"


@pytest.mark.usefixtures("some_node_has_the_image")
async def test_the_end_of_an_endless_line_that_is_no_text_is_there(
    cluster: KubeCluster, pods: Pods, namespace: str
) -> None:
    # ä in UTF-8, then in Latin-1.
    await pods.create("wordy", "head -c 300000 /dev/zero | tr '\\0' x; printf '\\303\\244 \\344 the end'")
    await pods.ended("wordy")

    read = await cluster.read_log(namespace, "wordy", lines=20, limit=4096)
    cut = await cluster.read_log(namespace, "wordy", lines=20, limit=13)

    assert len(read.encode()) == 4096
    assert read.endswith("xxä � the end")
    assert cut == " � the end"


@pytest.mark.usefixtures("some_node_has_the_image")
async def test_an_agent_that_said_nothing_has_an_empty_log(cluster: KubeCluster, pods: Pods, namespace: str) -> None:
    await pods.create("silent", "exit 1")
    await pods.ended("silent")

    assert await cluster.read_log(namespace, "silent", lines=10, limit=4096) == ""


async def test_a_pod_that_is_gone_has_no_log(cluster: KubeCluster, namespace: str) -> None:
    with pytest.raises(ClusterError, match=f"pods {namespace}/nobody") as caught:
        await cluster.read_log(namespace, "nobody", lines=10, limit=4096)

    assert caught.value.reason is ClusterErrorReason.NOT_FOUND


async def test_an_agent_that_has_not_started_has_no_log(cluster: KubeCluster, pods: Pods, namespace: str) -> None:
    await pods.create("stuck", "true", image="localhost/none:1")
    await pods.waits("stuck")

    with pytest.raises(ClusterError, match="waiting to start") as caught:
        await cluster.read_log(namespace, "stuck", lines=10, limit=4096)

    assert caught.value.reason is ClusterErrorReason.INVALID
