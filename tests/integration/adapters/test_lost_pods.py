"""A pod whose kubelet is gone: a real API server, Job controller and collector of pods, and a node that nobody runs."""

import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster
from mapreduce_operator.api import MapReduceJobSpec, Reason
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.failures import outcome_of_pod
from mapreduce_operator.core.jobs import manifest, prepare
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.workloads import Dispatch, JobSeen, PodSeen
from mapreduce_operator.ports import Change
from tests.integration.adapters.conftest import call, until

pytestmark = pytest.mark.cluster


@pytest.fixture
async def dead_node(api: ApiSession) -> AsyncIterator[str]:
    name = f"dead-{secrets.token_hex(4)}"
    await call(api, "POST", "/api/v1/nodes", {"metadata": {"name": name}})
    yield name
    await call(api, "DELETE", f"/api/v1/nodes/{name}")


async def test_a_pod_is_removed_without_the_word_of_its_kubelet(
    api: ApiSession, cluster: KubeCluster, namespace: str, dead_node: str
) -> None:
    owner = await call(api, "POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "owner"}})
    run = RunRef(namespace, "words", owner["metadata"]["uid"])
    template = {"spec": {"nodeName": dead_node, "containers": [{"name": "agent", "image": "localhost/none:1"}]}}
    spec = MapReduceJobSpec.model_validate({"input": {"items": [1]}, "map": {"template": template}})
    body = manifest(
        prepare(Stage.MAP, spec.map, run),
        run,
        Dispatch("abcdefghij", 1),
        attempt=1,
        item=PlannedItem("one", b"1"),
        work=spec.map,
    )
    body["metadata"]["ownerReferences"] = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": run.uid, "controller": True}
    ]
    await cluster.create_job(namespace, body)
    pods: list[PodSeen] = []

    async def is_there() -> bool:
        pods[:] = [pod for pod in (await cluster.list_workloads("pods")).workloads if isinstance(pod, PodSeen)]
        return bool(pods)

    await until(is_there, "the Job has a pod")
    path = f"/api/v1/namespaces/{namespace}/pods/{pods[0].name}"
    await call(api, "DELETE", path, {"gracePeriodSeconds": 7})
    listing = await cluster.list_workloads("pods")
    (stuck,) = listing.workloads
    assert isinstance(stuck, PodSeen)
    assert (stuck.deleting, stuck.grace_seconds, stuck.ended) == (True, 7.0, False)

    await cluster.delete_pod(namespace, stuck.name, str(uuid.uuid4()))
    assert [pod.uid for pod in (await cluster.list_workloads("pods")).workloads] == [stuck.uid]

    await cluster.delete_pod(namespace, stuck.name, stuck.uid)
    last = stuck
    async with aclosing(cluster.watch_workloads("pods", listing.resource_version)) as changes:
        async for change in changes:
            if isinstance(change, Change) and isinstance(change.workload, PodSeen):
                last = change.workload
                if change.deleted:
                    break

    outcome = outcome_of_pod(last, ResultRule(required=True), now=0.0)
    assert (outcome.reason, outcome.node) == (Reason.NODE_LOST, dead_node)

    async def has_failed() -> bool:
        jobs = (await cluster.list_workloads("jobs")).workloads
        return any(isinstance(job, JobSeen) and job.finished for job in jobs)

    await until(has_failed, "the Job knows that its pod failed")
    await cluster.delete_pod(namespace, stuck.name, stuck.uid)
