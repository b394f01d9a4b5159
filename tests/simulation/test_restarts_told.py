"""When a job that has ended is said to begin again: not before that is durable. Its last end answers to nothing new.

Whoever waits for Restarted, or for a status of the new spec, and then for Finished, must not meet the last end.
"""

import asyncio
from functools import partial

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.going_back import RUN, Agents, ask, job
from tests.simulation.jobs import condition_of, reduce_work
from tests.simulation.operator_in_memory import operating
from tests.simulation.simulated_cluster import SimulatedCluster

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("phase", ["Map", "Reduce", "Plan"])
@pytest.mark.parametrize("rested", [0.0, 0.3, 1.0, 30.0])
async def test_the_last_end_is_no_answer_to_a_restart(phase: str, rested: float) -> None:
    cluster = SimulatedCluster(Agents("b"))
    async with operating(cluster, job("abc", reduce=reduce_work())) as operator:
        await operator.until_finished()
        for token in ("once", "again"):
            await asyncio.sleep(rested)
            before = len(cluster.statuses)
            ask(operator, restart={"phase": phase, "token": token})
            generation = cluster.mapreducejobs[RUN]["metadata"]["generation"]
            await operator.until(partial(was_restarted, cluster, token), 300)
            await operator.until_finished()
            answers = [one for one in cluster.statuses[before:] if one["observedGeneration"] == generation]
            done = [one.get("restart", {}).get("token") == token for one in answers]
            said = [condition_of({"status": one}, "Restarted")["status"] == "True" for one in answers]
            assert said == done
            assert not any("completionTime" in one for one, is_done in zip(answers, done, strict=True) if not is_done)
            assert "completionTime" not in answers[done.index(True)]


async def test_nor_where_nothing_is_left_to_be_run() -> None:
    class Slow(MemoryStore):
        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            await asyncio.sleep(3)
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    cluster = SimulatedCluster(Agents())
    async with operating(cluster, job("abc"), Slow()) as operator:
        await operator.until_finished()
        await asyncio.sleep(30)
        before = len(cluster.statuses)
        ask(operator, restart={"phase": "Map", "token": "once"})
        generation = cluster.mapreducejobs[RUN]["metadata"]["generation"]
        await operator.until(partial(was_restarted, cluster, "once"), 300)
        answers = [one for one in cluster.statuses[before:] if one["observedGeneration"] == generation]
        assert condition_of({"status": answers[0]}, "Restarted")["status"] == "True"


async def test_of_two_edits_the_one_that_was_looked_at_is_answered() -> None:
    for apart in (1.0, 1.005, 1.01, 1.015, 1.02, 1.025, 1.03):
        cluster = SimulatedCluster(Agents("b"))
        async with operating(cluster, job("abc")) as operator:
            await operator.until_finished()
            await asyncio.sleep(30)
            ask(operator, ttlSecondsAfterFinished=5000)
            await asyncio.sleep(0.5)
            ask(operator, ttlSecondsAfterFinished=6000)
            await asyncio.sleep(apart - 0.5)
            before = len(cluster.statuses)
            ask(operator, restart={"phase": "Map", "token": "once"})
            generation = cluster.mapreducejobs[RUN]["metadata"]["generation"]
            await operator.until(partial(was_restarted, cluster, "once"), 300)
            answers = [one for one in cluster.statuses[before:] if one["observedGeneration"] == generation]
            assert "completionTime" not in answers[0], apart


def was_restarted(cluster: SimulatedCluster, token: str) -> bool:
    return bool(cluster.status.get("restart", {}).get("token") == token)
