"""The operator dies at every point at which it answers a request: it is answered once all the same, and wholly."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Ends, Seen
from tests.simulation.chaos_run import listening
from tests.simulation.going_back import RUN, Agents, Runs, ask, checkpoint_with, items, job, suspend
from tests.simulation.jobs import reduce_work
from tests.simulation.operator_in_memory import OperatorInMemory, audited, operating
from tests.simulation.process import Leads, Lease, Process
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.storage import RemoteStore
from tests.simulation.test_forks import CHILD, fork
from tests.simulation.test_restarts_asked import entries, from_config_map, given
from tests.simulation.timeline import JumpingLoop
from tests.simulation.weather import Climate, StorageWeather


@dataclass
class Request:
    """What is asked, of which job, and what must come of it."""

    body: dict[str, Any]
    asks: Callable[[OperatorInMemory, MemoryStore], None]
    answered: Callable[[OperatorInMemory], bool]
    runs: dict[str, int]
    """Which items are run from the request to the end."""
    commits: Counter[str]
    """The commits that answer it, by reason."""
    stands: bool = True
    """The job is suspended for it, with three items at their end; otherwise it has ended."""
    agent: Callable[[Seen], Ends] = field(default_factory=Agents)
    config_map: list[dict[str, Any]] | None = None
    uid: str = RUN
    """Of the job whose end is waited for."""


def restoring() -> Request:
    def asks(operator: OperatorInMemory, _: MemoryStore) -> None:
        ask(operator, restore={"checkpoint": checkpoint_with(operator.cluster, 1)})

    return Request(
        job("abcde", reduce=reduce_work()),
        asks,
        lambda operator: operator.condition("Restored")["status"] == "True",
        dict.fromkeys("bcde", 1) | {"reduce": 1},
        Counter(Restore=1),
        agent=Agents("c"),
    )


def planning_anew() -> Request:
    def asks(operator: OperatorInMemory, _: MemoryStore) -> None:
        given(operator.cluster, *entries("a"), *entries("b", more=1), *entries("cex"))
        ask(operator, restart={"phase": "Plan", "token": "1"}, resumePolicy={"includeDeadLetters": False})

    return Request(
        from_config_map(reduce=reduce_work()),
        asks,
        lambda operator: operator.condition("Restarted")["status"] == "True",
        {"b": 1, "e": 1, "x": 1, "reduce": 1},
        Counter(Restart=1),
        agent=Agents("c"),
        config_map=entries("abcd"),
    )


def restarting_the_map() -> Request:
    return Request(
        job("abc", reduce=reduce_work()),
        lambda operator, _: ask(operator, restart={"phase": "Map", "token": "1"}),
        lambda operator: operator.condition("Restarted")["status"] == "True",
        {"b": 1, "c": 1, "reduce": 1},
        Counter(Restart=1),
        stands=False,
        agent=Agents("b", "c"),
    )


def restarting_the_reduce() -> Request:
    return Request(
        job("abc", reduce=reduce_work()),
        lambda operator, _: ask(operator, restart={"phase": "Reduce", "token": "1"}),
        lambda operator: operator.condition("Restarted")["status"] == "True",
        {"reduce": 1},
        Counter(Restart=1),
        stands=False,
    )


def forking() -> Request:
    def asks(operator: OperatorInMemory, store: MemoryStore) -> None:
        edits = {"items": [{"id": "a", "patch": {"more": 1}}, {"id": "d", "remove": True}, {"add": {"id": "x"}}]}
        policy = {"includeDeadLetters": False}
        body = fork(edits=edits, resumePolicy=policy, input={"idExpression": "item.id"})
        audited(operator.cluster, body, store)
        operator.apply(body)

    return Request(
        job("abcde", reduce=reduce_work()),
        asks,
        lambda operator: "lineage" in operator.status_of(CHILD),
        {"a": 1, "e": 1, "x": 1, "reduce": 1},
        Counter(Fork=1),
        agent=Agents("c"),
        uid=CHILD,
    )


async def story(request: Request, dies_at: int) -> tuple[bool, list[str]]:
    """Whether the operator came to its end, and what was wrong."""
    cluster, store, lease, body = SimulatedCluster(request.agent), MemoryStore(), Lease(), request.body
    if request.config_map is not None:
        given(cluster, *request.config_map)
    with listening(cluster.violations, None):
        async with operating(cluster, body, store, leadership=Leads(lease, 1)) as operator:
            if request.stands:
                await operator.until(lambda: sum(items(operator).get(one, 0) for one in ENDED) == 3)
                await suspend(operator)
            else:
                await operator.until_finished()
        parent = {key: data for key, data in store.objects.items() if RUN in key}
        runs, process = Runs(cluster), Process(2, dies_at=dies_at)
        there = RemoteStore(store, process, StorageWeather(Climate(), Random(0)))
        first = OperatorInMemory(cluster, body, there, process=process, leadership=Leads(lease, 2))
        request.asks(first, store)
        commits: Counter[str] = Counter()
        durable = cluster.audits[request.uid].durable
        durable.on_commit.append(lambda header, _: commits.update([header["reason"]]))
        waits = asyncio.ensure_future(first.until(lambda: request.answered(first), 300))
        dies = asyncio.ensure_future(process.changed.wait())
        await asyncio.wait([waits, dies], return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        dies.cancel()
        await first.kill()
        last = OperatorInMemory(cluster, body, store, process=Process(3), leadership=Leads(lease, 3))
        await last.until(lambda: request.answered(last), 300)
        if request.uid != RUN:
            now = {key: data for key, data in store.objects.items() if RUN in key and not key.endswith("head.json")}
            assert now.items() <= parent.items()
        elif request.stands:
            ask(last, suspend=False)
        await last.until(lambda: "completionTime" not in last.status_of(request.uid), 300)
        await last.until_finished(uid=request.uid)
        assert runs.since == request.runs
        assert {reason: commits[reason] for reason in request.commits} == request.commits
        await asyncio.sleep(60)
        await last.drain()
        for audit in cluster.audits.values():
            await audit.check_kept()
    return process.points >= dies_at, cluster.violations


ENDED = ("succeeded", "deadLettered")


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize(
    "request_of",
    [restoring, planning_anew, restarting_the_map, restarting_the_reduce, forking],
    ids=lambda one: one.__name__,
)
def test_killed_at_any_point_of_the_answer(request_of: Callable[[], Request], part: int) -> None:
    for point in count(1 + part, 3):
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            struck, violations = runner.run(story(request_of(), point))
        assert violations == [], f"killed at {point}"
        if not struck:
            assert point > 30
            return
