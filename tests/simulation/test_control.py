"""What a user does to a job while it runs: suspend, scale, correct, delete."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.simulation.agents import steady
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


async def test_suspend_with_drain_lets_agents_end_and_starts_no_more() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, map_reduce_job(list(range(20)), map_={"maxParallel": 4})) as operator:
        await operator.until(lambda: len(cluster.names_used) == 4)
        operator.edit(lambda spec: spec.update(suspend=True))
        await asyncio.sleep(120)
        assert len(cluster.names_used) == 4
        assert cluster.status["phase"] == "Paused"
        assert cluster.status["items"]["succeeded"] == 4
        assert operator.condition("Suspended")["status"] == "True"
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"
    assert status["attempts"] == {"total": 20, "interruptions": 0, "retries": 0}


async def test_suspend_with_interrupt_stops_agents_and_counts_no_attempt() -> None:
    cluster = SimulatedCluster(steady(100.0))
    body = map_reduce_job([1, 2, 3], suspendPolicy="Interrupt")
    async with operating(cluster, body) as operator:
        await operator.until(lambda: sum(job.pod is not None for job in cluster.jobs.values()) == 3)
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: cluster.jobs == {}, 30)
        await operator.until(lambda: cluster.status["attempts"]["interruptions"] == 3, 30)
        assert cluster.status["attempts"]["total"] == 0
        operator.edit(lambda spec: spec.update(suspend=False))
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 3, "interruptions": 3, "retries": 0}
    assert operator.counted("mapreduce_item_interruptions_total", reason="Suspended") == 3


async def test_a_suspended_job_starts_nothing_and_its_plan_is_made() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, map_reduce_job([1, 2], suspend=True)) as operator:
        await asyncio.sleep(60)
        assert cluster.names_used == []
        assert cluster.status["plan"]["items"] == 2
        operator.edit(lambda spec: spec.update(suspend=False))
        await operator.until_finished()


async def test_max_parallel_is_followed_up_and_down_at_once() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, map_reduce_job(list(range(60)), map_={"maxParallel": 2})) as operator:
        await asyncio.sleep(30)
        assert cluster.peak == 2
        operator.edit(lambda spec: spec["map"].update(maxParallel=12))
        await asyncio.sleep(5)
        assert cluster.status["active"] == 12
        operator.edit(lambda spec: spec["map"].update(maxParallel=0))
        await asyncio.sleep(60)
        assert cluster.status["active"] == 0
        assert operator.condition("Progressing")["reason"] == "MaxParallelIsZero"
        operator.edit(lambda spec: spec["map"].update(maxParallel=5))
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 60
    assert cluster.peak == 12


async def test_bad_input_is_reported_with_its_position_and_correcting_it_is_enough() -> None:
    cluster = SimulatedCluster(steady())
    body = map_reduce_job([{"id": "a"}, {"name": "b"}, {"id": "a"}])
    body["spec"]["input"]["idExpression"] = "item.id"
    async with operating(cluster, body) as operator:
        await operator.until(lambda: operator.condition("Stalled")["status"] == "True")
        assert cluster.status["reason"] == "InvalidItems"
        assert "item 1" in operator.condition("Accepted")["message"]
        operator.edit(lambda spec: spec["input"].update(items=[{"id": "a"}, {"id": "b"}, {"id": "a"}]))
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "DuplicateItems", 20)
        assert "item 2 has the id of item 0" in operator.condition("Accepted")["message"]
        assert cluster.names_used == []
        operator.edit(lambda spec: spec["input"].update(onDuplicate="KeepFirst"))
        status = await operator.until_finished()
    assert status["items"]["total"] == 2
    assert status["plan"]["duplicates"] == 1
    assert operator.condition("Stalled")["status"] == "Absent"


async def test_more_items_than_the_job_may_have_are_not_planned() -> None:
    cluster = SimulatedCluster(steady())
    body = map_reduce_job([1, 2, 3])
    body["spec"]["input"]["maxItems"] = 2
    async with operating(cluster, body) as operator:
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "InputTooLarge")
        assert cluster.names_used == []
        operator.edit(lambda spec: spec["input"].update(maxItems=3))
        await operator.until_finished()


async def test_a_config_map_may_come_later() -> None:
    cluster = SimulatedCluster(steady())
    body = map_reduce_job()
    body["spec"]["input"] = {"configMapRef": {"name": "files", "key": "list", "format": "JSONLines"}}
    async with operating(cluster, body) as operator:
        await operator.until(lambda: operator.condition("Accepted")["reason"] == "ConfigMapNotFound")
        cluster.config_maps["default", "files"] = {"data": {"other": "1"}}
        await operator.until(lambda: operator.condition("Accepted")["reason"] == "ConfigMapKeyNotFound")
        cluster.config_maps["default", "files"] = {"data": {"list": '"a"\n\n{"b": \n'}}
        await operator.until(lambda: operator.condition("Accepted")["reason"] == "InputMalformed")
        assert "line 3" in operator.condition("Accepted")["message"]
        cluster.config_maps["default", "files"] = {"data": {"list": '"a"\n\n{"b": 1}\n'}}
        status = await operator.until_finished()
    assert status["items"]["succeeded"] == 2


async def test_a_template_that_the_api_server_refuses_creates_no_job_until_it_is_corrected() -> None:
    cluster = SimulatedCluster(steady())
    cluster.refuse = lambda manifest, _: (
        ClusterError(ClusterErrorReason.INVALID, "spec.template.spec.volumes[0].name: Required value")
        if "volumeless" in str(manifest["spec"]["template"]["metadata"]["labels"])
        else None
    )
    body = map_reduce_job([1], reduce=reduce_work())
    body["spec"]["reduce"]["template"]["metadata"] = {"labels": {"volumeless": "yes"}}
    async with operating(cluster, body) as operator:
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "TemplateRejected")
        message = operator.condition("Stalled")["message"]
        assert "spec.reduce.template" in message
        assert "volumes[0].name" in message
        assert cluster.names_used == []
        operator.edit(lambda spec: spec["reduce"]["template"]["metadata"].update(labels={}))
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"


async def test_a_corrected_template_serves_the_dispatches_from_then_on() -> None:
    cluster = SimulatedCluster(steady(5.0))
    store = MemoryStore()
    async with operating(cluster, map_reduce_job(list(range(8)), map_={"maxParallel": 2}), store) as operator:
        await operator.until(lambda: len(cluster.names_used) == 2)
        before = cluster.status["templateRevisions"]["map"]
        operator.edit(lambda spec: spec["map"]["template"]["spec"]["containers"][0].update(image="agent:2"))
        await operator.until_finished()
    images = {job.manifest["spec"]["template"]["spec"]["containers"][0]["image"] for job in cluster.history}
    assert images == {"agent:1", "agent:2"}
    after = cluster.status["templateRevisions"]["map"]
    lines = [
        msgspec.json.decode(line[9:])
        for key, stored in store.objects.items()
        if "/segment-" in key
        for line in stored.splitlines()
    ]
    assert {line["revision"] for line in lines if "verdict" in line} == {before, after}
    assert before != after


async def test_jobs_and_pods_get_the_labels_that_are_let_through_as_they_are_when_they_start() -> None:
    cluster = SimulatedCluster(steady(5.0))
    tried: list[dict[str, str]] = []

    def policy(manifest: Mapping[str, Any], dry_run: bool) -> None:
        if dry_run:
            tried.append(manifest["spec"]["template"]["metadata"]["labels"])

    cluster.refuse = policy
    body = map_reduce_job([1, 2], map_={"maxParallel": 1})
    body["metadata"]["labels"] = {"team": "a", "app.kubernetes.io/instance": "shop"}
    async with operating(cluster, body, copied_labels=("team", "cost-centre")) as operator:
        await operator.until(lambda: len(cluster.history) == 1)
        body["metadata"]["labels"]["team"] = "b"
        operator.observe()
        await operator.until_finished()
    metadata = [job.manifest["metadata"] for job in cluster.history]
    metadata += [job.manifest["spec"]["template"]["metadata"] for job in cluster.history]
    assert [one["labels"]["team"] for one in metadata] == ["a", "b", "a", "b"]
    assert not any({"app.kubernetes.io/instance", "cost-centre"} & one["labels"].keys() for one in metadata)
    # A policy of the cluster that asks for the label lets the template pass too, and is not asked again.
    assert [labels["team"] for labels in tried] == ["a"]


async def test_an_invalid_rule_stops_dispatching_until_it_is_corrected() -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, map_reduce_job([1], map_={"result": {"rule": "result."}})) as operator:
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "InvalidResultRule")
        assert cluster.names_used == []
        operator.edit(lambda spec: spec["map"]["result"].update(rule="result.ok"))
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"


async def test_a_quota_is_waited_out_and_burns_no_attempt() -> None:
    cluster = SimulatedCluster(steady(5.0))

    def quota(_: object, dry_run: bool) -> ClusterError | None:
        full = not dry_run and sum(not job.seen.finished for job in cluster.jobs.values()) >= 2
        return ClusterError(ClusterErrorReason.QUOTA, "exceeded quota: two-jobs") if full else None

    cluster.refuse = quota
    async with operating(cluster, map_reduce_job(list(range(10)))) as operator:
        await operator.until(lambda: operator.condition("Progressing")["reason"] == "QuotaLimited")
        assert "two-jobs" in operator.condition("Progressing")["message"]
        status = await operator.until_finished()
    assert status["attempts"] == {"total": 10, "interruptions": 0, "retries": 0}
    assert cluster.peak == 2


async def test_deleting_a_running_job_leaves_no_job_no_storage_and_no_finalizer() -> None:
    cluster, store = SimulatedCluster(steady(1000.0)), MemoryStore()
    async with operating(cluster, map_reduce_job(list(range(20))), store) as operator:
        await operator.until(lambda: len(cluster.names_used) == 10)
        assert cluster.finalizers == {"run-1"}
        operator.delete()
        await operator.until(lambda: cluster.finalizers == set(), 90)
    assert cluster.jobs == {}
    assert [key async for key in store.list("")] == []


async def test_storage_is_kept_on_delete_where_the_user_wants_it() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    async with operating(cluster, map_reduce_job([1], retention={"onDelete": "Keep"}), store) as operator:
        await operator.until_finished()
        operator.delete()
        await operator.until(lambda: cluster.finalizers == set(), 90)
    assert any([key.endswith("head.json") async for key in store.list("")])


async def test_the_operators_cap_is_respected() -> None:
    cluster = SimulatedCluster(steady(10.0))
    async with operating(cluster, map_reduce_job(list(range(20))), capacity=3) as operator:
        await operator.until(lambda: operator.condition("Progressing")["reason"] == "OperatorLimited")
        await operator.until_finished()
    assert cluster.peak == 3
