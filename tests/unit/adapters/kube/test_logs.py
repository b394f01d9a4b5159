from typing import Any

import pytest

from mapreduce_operator.adapters.kube import KubeCluster
from mapreduce_operator.adapters.kube import cluster as cluster_module
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure, silence, text

PODS = "/api/v1/namespaces/team-a/pods"
LOG = f"{PODS}/x/log"


def pods(*containers: str) -> Any:
    pod = {"metadata": {"name": "x"}, "spec": {"containers": [{"name": name} for name in containers]}}
    return answer({"metadata": {"resourceVersion": "9"}, "items": [pod]})


async def test_of_the_agents_log_no_more_is_asked_for_than_the_last_lines(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, pods("agent", "sidecar"))
    api.on("GET", LOG, text("one\ntwo\n"))

    assert await cluster.read_log("team-a", "x", lines=20, limit=4096) == "one\ntwo\n"

    (found,), (asked,) = api.asked_for("GET", PODS), api.asked_for("GET", LOG)
    assert found.query == {"fieldSelector": "metadata.name=x"}
    assert asked.query == {"container": "agent", "tailLines": "20", "limitBytes": "327680"}


async def test_a_log_is_cut_to_its_end_between_characters(api: FakeApi, cluster: KubeCluster) -> None:
    api.on("GET", PODS, pods("agent"))
    api.on("GET", LOG, text("the beginning, ä, the end"))

    assert await cluster.read_log("team-a", "x", lines=20, limit=10) == ", the end"
    assert await cluster.read_log("team-a", "x", lines=20, limit=11) == "ä, the end"


async def test_a_node_that_does_not_answer_is_not_waited_for_long(
    api: FakeApi, cluster: KubeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Less than the two seconds that the session grants a request.
    monkeypatch.setattr(cluster_module, "_LOG_SECONDS", 0.2)
    api.on("GET", PODS, pods("agent"))
    api.on("GET", LOG, silence())

    with pytest.raises(ClusterError, match="log of pods team-a/x: no answer in time") as caught:
        await cluster.read_log("team-a", "x", lines=20, limit=4096)

    assert caught.value.reason is ClusterErrorReason.UNAVAILABLE


@pytest.mark.parametrize(
    ("found", "log", "reason"),
    [
        (answer({"metadata": {}, "items": []}), text(""), ClusterErrorReason.NOT_FOUND),
        (answer({"metadata": {}, "items": [{"metadata": {"name": "x"}}]}), text(""), ClusterErrorReason.NOT_FOUND),
        (text("no JSON"), text(""), ClusterErrorReason.UNAVAILABLE),
        (pods("agent"), failure(404, "NotFound", 'pods "x" not found'), ClusterErrorReason.NOT_FOUND),
        (pods("agent"), failure(400, "BadRequest", "is waiting to start"), ClusterErrorReason.INVALID),
        (pods("agent"), failure(500, "InternalError", "dial tcp: i/o timeout"), ClusterErrorReason.UNAVAILABLE),
        (pods("agent"), failure(403, "Forbidden", "pods/log"), ClusterErrorReason.FORBIDDEN),
    ],
    ids=["no pod", "no containers", "no JSON", "gone meanwhile", "not started", "node away", "no right"],
)
async def test_a_log_that_cannot_be_read_says_why(
    api: FakeApi, cluster: KubeCluster, found: Any, log: Any, reason: ClusterErrorReason
) -> None:
    api.on("GET", PODS, found)
    api.on("GET", LOG, log)

    with pytest.raises(ClusterError, match="pods team-a/x") as caught:
        await cluster.read_log("team-a", "x", lines=20, limit=4096)

    assert caught.value.reason is reason
