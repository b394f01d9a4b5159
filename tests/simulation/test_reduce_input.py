"""What reduce gets when it is much: files up to a limit, parts up to a larger one, and a word before it is over."""

import asyncio
import json
from hashlib import sha256
from typing import Any, Final

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ResultsAs
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.results import MAX_PARTS, PART_BYTES, ReduceInput
from mapreduce_operator.engine.handover import remove_parts, write_parts
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.simulation.agents import Ends, Seen
from tests.simulation.connection import Connection, NoFaults
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


def mounted(cluster: SimulatedCluster) -> dict[str, str]:
    """The files of the newest Job, as its kubelet mounts them: each ConfigMap that it names has to be there."""
    spec = cluster.history[-1].manifest["spec"]["template"]["spec"]
    (volume,) = (one for one in spec["volumes"] if one["name"] == "mapreduce-results")
    found: dict[str, str] = {}
    for source in volume["projected"]["sources"]:
        data = cluster.config_maps["default", source["configMap"]["name"]]["data"]
        for item in source["configMap"]["items"]:
            found[item["path"]] = data[item["key"]]
    return found


class Results:
    """A cluster whose agents have results of so many bytes, and a reduce that returns their number and checksum."""

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self.cluster: Final = SimulatedCluster(self._agent)
        self.reduced: Final[list[dict[str, str]]] = []
        """The files that each agent of reduce got."""

    def _agent(self, seen: Seen) -> Ends:
        if seen.context["itemId"] != "reduce":
            return Ends(message=json.dumps(padded(seen.item, self._size)))
        files = mounted(self.cluster)
        self.reduced.append(files)
        text = "".join(files[name] for name in sorted(files) if name.startswith("results/"))
        return Ends(message=json.dumps({"lines": text.count("\n"), "sha256": sha256(text.encode()).hexdigest()}))

    def expected(self, items: int) -> dict[str, Any]:
        """What the reduce of so many items comes to."""
        results = (padded(item, self._size) for item in range(items))
        text = "".join(f'{{"id":"{item}","result":"{result}"}}\n' for item, result in enumerate(results))
        return {"lines": items, "sha256": sha256(text.encode()).hexdigest()}


def padded(item: int, size: int) -> str:
    """A text that has so many bytes as JSON."""
    return f"{item:04}".ljust(size - 2, "x")


def large_job(items: int, **reduce: Any) -> dict[str, Any]:
    body = map_reduce_job(
        list(range(items)), map_={"maxParallel": 200}, checkpoint={"everyItems": 100}, reduce=reduce_work(**reduce)
    )
    body["spec"]["input"]["idExpression"] = "string(item)"
    return body


async def test_3000_results_of_1000_bytes_are_reduced_as_one() -> None:
    results = Results(1000)
    cluster = results.cluster
    body = large_job(3000, resultsAs="Directory")
    async with operating(cluster, body) as operator:
        status = await operator.until_finished()
        assert status["phase"] == "Succeeded"
        assert status["result"] == results.expected(3000)
        names = {name for _, name in cluster.config_maps}
        assert len(names) == 4
        for one in cluster.config_maps.values():
            assert sum(len(text.encode()) for text in one["data"].values()) <= PART_BYTES
            assert one["metadata"]["ownerReferences"][0]["uid"] == operator.uid
        assert operator.condition("ResultsFit")["status"] == "Absent"
        operator.delete()
        await operator.until(lambda: not cluster.finalizers)
    assert cluster.config_maps == {}
    assert sorted(results.reduced[0]) == ["failures/0001.jsonl", *(f"results/{part:04}.jsonl" for part in (1, 2, 3, 4))]


class CountsWrites(NoFaults):
    """Tells when so many ConfigMaps are written, before the operator knows of the last of them."""

    def __init__(self, awaited: int) -> None:
        self._left = awaited
        self.written: Final = asyncio.Event()

    def lost(self, call: str) -> ClusterError | None:
        if call == "write config map":
            self._left -= 1
            if not self._left:
                self.written.set()
        return None


@pytest.mark.parametrize("after", [1, 3, 4])
async def test_an_operator_that_dies_between_the_parts_leaves_nothing_half(after: int) -> None:
    results, store = Results(3000), MemoryStore()
    body, faults = large_job(1000, resultsAs="Directory"), CountsWrites(after)
    async with operating(results.cluster, body, store, faults=faults, graceful=False):
        await faults.written.wait()
    assert (len(results.cluster.config_maps), results.reduced) == (after, [])
    async with operating(results.cluster, body, store) as operator:
        status = await operator.until_finished()
    assert status["result"] == results.expected(1000)
    assert len(results.reduced) == 1
    assert len(results.cluster.config_maps) == 4


async def test_parts_of_a_larger_reduce_before_are_neither_mounted_nor_kept() -> None:
    reduced: list[dict[str, str]] = []
    broken = True

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            reduced.append(mounted(cluster))
            return Ends(message=str(len(reduced)))
        return Ends(exit_code=1, message="x" * 1000) if broken else Ends(message="1")

    cluster = SimulatedCluster(agent)
    body = large_job(2500, resultsAs="Directory", runWhen="Always")
    body["spec"]["map"]["retry"] = {"maxAttempts": 1}
    body["spec"]["failurePolicy"] = {"circuitBreaker": None}
    async with operating(cluster, body) as operator:
        await operator.until_finished()
        assert sorted(reduced[0]) == [*(f"failures/{part:04}.jsonl" for part in (1, 2, 3)), "results/0001.jsonl"]
        assert len(cluster.config_maps) == 3
        broken = False
        await operator.redrive("again", selection={"all": True}, rerunReduce=True)
        await operator.until(lambda: cluster.status["phase"] == "Succeeded")
    assert cluster.status["items"]["succeeded"] == 2500
    assert len(reduced) == 2
    assert sorted(reduced[1]) == ["failures/0001.jsonl", "results/0001.jsonl"]
    assert reduced[1]["failures/0001.jsonl"] == ""
    assert len(cluster.config_maps) == 1


async def test_results_that_outgrow_reduce_are_told_while_the_map_runs_and_can_be_helped() -> None:
    results, store, body = Results(4000), MemoryStore(), large_job(600)
    body["spec"]["map"]["maxParallel"] = 50
    cluster = results.cluster
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: operator.condition("ResultsFit")["status"] == "False")
        status = cluster.status
        assert (status["phase"], operator.condition("Progressing")["status"]) == ("Map", "True")
        assert 247 <= status["items"]["succeeded"] < 600
        assert operator.condition("ResultsFit")["reason"] == "ResultsTooLarge"
        assert "resultsAs to Directory" in operator.condition("ResultsFit")["message"]
        told = cluster.events.count(("ResultsTooLarge", operator.condition("ResultsFit")["message"]))
    async with operating(cluster, body, store) as operator:
        await operator.until(lambda: cluster.status["items"]["succeeded"] > 400)
        assert cluster.status["phase"] == "Map"
        assert operator.condition("ResultsFit")["status"] == "False"
        operator.edit(lambda spec: spec["reduce"].update(resultsAs="Directory"))
        await operator.until(lambda: operator.condition("ResultsFit")["status"] == "Absent")
        status = await operator.until_finished()
    assert (status["phase"], status["result"]) == ("Succeeded", results.expected(600))
    assert (told, sum(reason == "ResultsTooLarge" for reason, _ in cluster.events)) == (1, 1)


async def test_a_job_whose_results_did_not_fit_reduces_them_once_it_may() -> None:
    results = Results(4000)
    cluster = results.cluster
    async with operating(cluster, large_job(300)) as operator:
        status = await operator.until_finished()
        assert (status["phase"], status["reason"], results.reduced) == ("Failed", "ResultsTooLarge", [])
        assert status["items"]["succeeded"] == 300
        assert "and restart the reduce" in operator.condition("Failed")["message"]
        restart = {"phase": "Reduce", "token": "1"}
        operator.edit(lambda spec: spec.update(reduce=reduce_work(resultsAs="Directory"), restart=restart))
        await operator.until(lambda: cluster.status["phase"] == "Succeeded")
    assert cluster.status["result"] == results.expected(300)
    assert set(cluster.runs_of.values()) == {1}, "no agent of the map ran again"


async def test_a_reduce_that_waits_to_be_retried_gets_its_input_in_the_form_that_is_asked_for_by_then() -> None:
    volumes: list[str] = []

    def agent(seen: Seen) -> Ends:
        if seen.context["itemId"] == "reduce":
            volume = cluster.history[-1].manifest["spec"]["template"]["spec"]["volumes"][-1]
            volumes.extend(volume.keys() - {"name"})
            return Ends(exit_code=int(len(volumes) == 1), message="1")
        return Ends(message="1")

    cluster = SimulatedCluster(agent)
    body = large_job(3, retry={"backoff": {"initialSeconds": 60}})
    async with operating(cluster, body) as operator:
        await operator.until(lambda: cluster.status.get("reduce", {}).get("state") == "RetryWait")
        operator.edit(lambda spec: spec["reduce"].update(resultsAs="Directory"))
        await asyncio.sleep(1)
        status = await operator.until_finished()
    assert status["phase"] == "Succeeded"
    assert volumes == ["configMap", "projected"]


class FailsDeleting(NoFaults):
    """So many ConfigMaps are deleted, and no more for now."""

    def __init__(self, deletions: int) -> None:
        self.left = deletions

    def refused(self, call: str) -> ClusterError | None:
        if call != "delete config map":
            return None
        self.left -= 1
        return ClusterError(ClusterErrorReason.UNAVAILABLE, "not now") if self.left < 0 else None


@pytest.mark.parametrize("deletions", range(MAX_PARTS))
async def test_parts_whose_removal_was_interrupted_are_found_again(deletions: int) -> None:
    cluster, faults = SimulatedCluster(lambda _: Ends()), FailsDeleting(deletions)
    connection, run = Connection(cluster, faults=faults), RunRef("default", "demo", "run-1")
    line = b"x" * (PART_BYTES - 1) + b"\n"
    _, parts = ReduceInput(line * MAX_PARTS, b"", {}).hand_over(run, ResultsAs.DIRECTORY)
    await write_parts(connection, run, parts)
    assert len(cluster.config_maps) == MAX_PARTS

    with pytest.raises(ClusterError):
        await remove_parts(connection, run, kept=0)
    assert len(cluster.config_maps) == MAX_PARTS - deletions
    faults.left = MAX_PARTS
    await remove_parts(connection, run, kept=0)

    assert cluster.config_maps == {}
