"""Where the items of a job come from, which of them it runs, in which order, and what is said of that."""

import asyncio
import gzip
from base64 import b64encode
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import StoredObject
from tests.simulation.agents import steady
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster

KEY = "_inputs/default/lists/files.jsonl"


def job_over(source: dict[str, Any]) -> dict[str, Any]:
    body = map_reduce_job()
    body["spec"]["input"] = source
    return body


def from_object(**source: Any) -> dict[str, Any]:
    return job_over({"object": {"key": "lists/files.jsonl", "format": "JSONLines"}} | source)


async def accepted(operator: OperatorInMemory, reason: str) -> str:
    """Waits until it is said why the job is not planned; returns the message."""
    await operator.until(lambda: operator.condition("Accepted")["reason"] == reason, 300)
    return str(operator.condition("Accepted")["message"])


async def test_an_object_may_come_later_and_is_read_below_the_namespace_of_the_job() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    await store.put("_inputs/other/lists/files.jsonl", b'"of somebody else"\n')
    async with operating(cluster, from_object(), store) as operator:
        message = await accepted(operator, "InputObjectNotFound")
        assert f"there is no object memory:/{KEY}. Put it there" in message
        await store.put(KEY, b'"a"\n{"b"\n')
        assert "line 2" in await accepted(operator, "InputMalformed")
        await store.put(KEY, gzip.compress(b'"a"\n\n{"b": 1}\n'))
        status = await operator.until_finished(300)
    assert status["items"]["succeeded"] == 2


async def test_an_object_that_is_too_large_is_not_read() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    await store.put(KEY, b" " * (64 * 1024**2 + 1))
    async with operating(cluster, from_object(), store) as operator:
        assert "has 67,108,865 bytes; the limit is 67,108,864" in await accepted(operator, "InputTooLarge")


async def test_an_input_that_takes_long_to_refuse_is_looked_at_less_often() -> None:
    class Slow(MemoryStore):
        reads = 0

        async def get_within(self, key: str, limit: int) -> StoredObject | None:
            self.reads += 1
            await asyncio.sleep(10.0)
            return await super().get_within(key, limit)

    cluster, store = SimulatedCluster(steady()), Slow()
    async with operating(cluster, from_object(), store) as operator:
        await accepted(operator, "InputObjectNotFound")
        before = store.reads
        await asyncio.sleep(1100.0)
        assert 9 <= store.reads - before <= 10
        await store.put(KEY, b'"a"\n')
        await operator.until_finished(300)


async def test_the_object_stays_when_the_job_is_deleted() -> None:
    cluster, store = SimulatedCluster(steady()), MemoryStore()
    await store.put(KEY, b'"a"\n')
    async with operating(cluster, from_object(), store) as operator:
        await operator.until_finished()
        operator.delete()
        await operator.until(lambda: cluster.finalizers == set(), 90)
    assert [*store.objects] == [KEY]


async def test_a_compressed_config_map_is_read() -> None:
    cluster = SimulatedCluster(steady())
    packed = b64encode(gzip.compress(b"file,size\nGPL-3,7\nBSD,3\n")).decode()
    cluster.config_maps["default", "files"] = {"binaryData": {"files.csv.gz": packed}}
    body = job_over({"configMapRef": {"name": "files", "key": "files.csv.gz", "format": "CSV"}})
    body["spec"]["input"]["idExpression"] = "item.file + ' ' + item.size"
    async with operating(cluster, body) as operator:
        await operator.until_finished()
    assert cluster.runs_of == {"GPL-3 7": 1, "BSD 3": 1}


async def test_items_are_filtered_put_in_order_and_cut_and_all_of_it_is_counted() -> None:
    cluster = SimulatedCluster(steady())
    sizes = {"a": 5, "b": 9, "c": 1, "d": 7, "e": 2}
    body = job_over(
        {
            "items": [{"id": name, "size": size} for name, size in sizes.items()]
            + [{"id": "f"}, {"id": "b", "size": 0}],
            "filter": "has(item.size)",
            "orderBy": [{"expression": "item.size", "order": "Descending"}],
            "idExpression": "item.id",
            "onDuplicate": "KeepFirst",
            "offset": 1,
            "limit": 3,
        }
    )
    body["spec"]["map"]["maxParallel"] = 1
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
    assert [*cluster.runs_of] == ["d", "a", "e"]
    told = {name: status["plan"][name] for name in ("items", "read", "filteredOut", "duplicates", "outOfRange")}
    assert told == {"items": 3, "read": 7, "filteredOut": 1, "duplicates": 1, "outOfRange": 2}


@pytest.mark.parametrize(
    ("wrong", "right", "reason", "told"),
    [
        ({"filter": "itme > 1"}, {"filter": "item > 1"}, "InvalidFilter", "spec.input.filter: "),
        ({"filter": "item.n > 1"}, {"filter": "item > 1"}, "InvalidItems", "item 0: filter 'item.n > 1': "),
        (
            {"orderBy": [{"expression": "item +"}]},
            {"orderBy": []},
            "InvalidOrderBy",
            "spec.input.orderBy[0].expression: ",
        ),
    ],
)
async def test_an_expression_that_is_wrong_is_told_and_corrected(
    wrong: dict[str, Any], right: dict[str, Any], reason: str, told: str
) -> None:
    cluster = SimulatedCluster(steady())
    async with operating(cluster, job_over({"items": [1, 2, 3], **wrong})) as operator:
        assert told in await accepted(operator, reason)
        assert cluster.names_used == []
        operator.edit(lambda spec: spec["input"].update(right))
        await operator.until_finished()


async def test_a_changed_object_is_told_and_taken_up_by_a_new_plan() -> None:
    cluster, store = SimulatedCluster(steady(6000.0)), MemoryStore()
    body = from_object(filter="item != 'b'", limit=2)
    body["spec"]["map"]["timeoutSeconds"] = 86_400

    def current() -> str:
        return str(operator.condition("PlanCurrent")["reason"])

    await store.put(KEY, b'"a"\n"b"\n')
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: current() == "InputUnchanged", 300)
        await store.put(KEY, b'"a"\n"b"\n"c"\n"d"\n')
        await operator.until(lambda: current() == "InputChanged", 1200)
        assert KEY in operator.condition("PlanCurrent")["message"]
        await store.delete([KEY])
        await operator.until(lambda: current() == "InputGone", 1200)
        await store.put(KEY, b'"a"\n"b"\n"c"\n"d"\n')
        operator.edit(lambda spec: spec.update(suspend=True, suspendPolicy="Interrupt"))
        operator.edit(lambda spec: spec.update(restart={"phase": "Plan", "token": "1"}))
        await operator.until(lambda: operator.condition("Restarted")["status"] == "True", 1200)
        await operator.until(lambda: current() == "InputUnchanged", 1200)
        plan = operator.status_of(operator.uid)["plan"]
    assert (plan["items"], plan["read"], plan["filteredOut"], plan["outOfRange"]) == (2, 4, 1, 1)
