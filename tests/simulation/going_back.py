"""Jobs that are restored, restarted and forked, and what tests look at of them."""

from collections import Counter
from typing import Any

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.ports import StoredObject
from tests.simulation.agents import Ends, Seen
from tests.simulation.audit_history import numbers
from tests.simulation.durable import Durable
from tests.simulation.jobs import map_reduce_job
from tests.simulation.operator_in_memory import OperatorInMemory
from tests.simulation.simulated_cluster import SimulatedCluster

RUN = "run-1"


def job(ids: str, *, uid: str = RUN, name: str = "demo", **spec: Any) -> dict[str, Any]:
    """One item for each letter. They are run one after another, and each outcome is a checkpoint."""
    retry = {"maxAttempts": 1, "backoff": {"initialSeconds": 1, "jitter": 0}}
    body = map_reduce_job(
        [{"id": one} for one in ids],
        uid,
        map_={"maxParallel": 1, "retry": retry} | spec.pop("map_", {}),
        checkpoint={"everyItems": 1, "everySeconds": 3600, "keep": 100} | spec.pop("checkpoint", {}),
        **spec,
    )
    body["metadata"]["name"] = name
    body["spec"]["input"]["idExpression"] = "item.id"
    return body


def durable_of(cluster: SimulatedCluster, uid: str = RUN) -> Durable:
    found: Durable = cluster.audits[uid].durable
    return found


def checkpoint_with(cluster: SimulatedCluster, succeeded: int, **more: int) -> int:
    """Number of the newest checkpoint of the job at which so many items had succeeded."""
    wanted = {"succeeded": succeeded} | more
    counts = durable_of(cluster).counts
    return max(
        number for number, one in counts.items() if all(getattr(one, name) == count for name, count in wanted.items())
    )


def kept(operator: OperatorInMemory, uid: str = RUN) -> list[int]:
    return numbers(operator.status_of(uid)["checkpoint"]["kept"])


def items(operator: OperatorInMemory, uid: str = RUN) -> dict[str, int]:
    """How many items the status counts in which state."""
    counts: dict[str, int] = operator.status_of(uid).get("items", {})
    return {state: count for state, count in counts.items() if count and state != "total"}


async def until_items(operator: OperatorInMemory, uid: str = RUN, **counts: int) -> None:
    """Until the status counts so many in these states."""
    names = {name.replace("_", ""): name for name in counts}
    await operator.until(
        lambda: all(
            {state.lower(): count for state, count in items(operator, uid).items()}.get(name, 0) == counts[given]
            for name, given in names.items()
        )
    )


async def suspend(operator: OperatorInMemory, uid: str = RUN) -> None:
    """The user suspends the job and waits until no agent runs and all is saved."""
    operator.edit(lambda spec: spec.update(suspend=True), uid)
    generation = operator.cluster.mapreducejobs[uid]["metadata"]["generation"]
    await operator.until(
        lambda: (
            operator.status_of(uid).get("observedGeneration") == generation
            and operator.status_of(uid).get("active") == 0
            and not operator.cluster.jobs
        )
    )


def ask(operator: OperatorInMemory, uid: str = RUN, **spec: Any) -> None:
    """The user changes fields of the spec; None takes one away."""

    def change(there: dict[str, Any]) -> None:
        there.update(spec)
        for name in [name for name, value in spec.items() if value is None]:
            del there[name]

    operator.edit(change, uid)


async def restore(operator: OperatorInMemory, checkpoint: int, token: str = "") -> dict[str, Any]:
    """The user goes back to a checkpoint of the suspended job; returns the status once that is done."""
    ask(operator, restore={"checkpoint": checkpoint, "token": token})
    await operator.until(
        lambda: (
            operator.status_of(RUN).get("restore", {}).get("checkpoint") == checkpoint
            and operator.status_of(RUN)["restore"].get("token", "") == token
        ),
        300,
    )
    assert operator.condition("Restored")["status"] == "True"
    return operator.status_of(RUN)


async def finish(operator: OperatorInMemory) -> dict[str, Any]:
    """The user lets a suspended job go on; returns the status at its end."""
    operator.edit(lambda spec: spec.update(suspend=False))
    await operator.until(lambda: "completionTime" not in operator.status_of(RUN), 300)
    return await operator.until_finished(uid=RUN)


async def restart(operator: OperatorInMemory, phase: str, token: str) -> dict[str, Any]:
    """The user runs a phase of a job again that has ended; returns the status at its next end."""
    ask(operator, restart={"phase": phase, "token": token})
    await operator.until(lambda: operator.status_of(RUN).get("restart", {}).get("token") == token, 300)
    assert operator.condition("Restarted")["status"] == "True"
    return await operator.until_finished(uid=RUN)


class ReadStore(MemoryStore):
    """Counts what is read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    async def get(self, key: str) -> StoredObject | None:
        self.reads += 1
        return await super().get(key)


class Agents:
    """Agents of some items fail, as long as a test says so."""

    def __init__(self, *failing: str, seconds: float = 2.0) -> None:
        self.failing = set(failing)
        self._seconds = seconds

    def __call__(self, seen: Seen) -> Ends:
        failed = seen.context["itemId"] in self.failing
        return Ends(self._seconds, exit_code=1, message="boom") if failed else Ends(self._seconds)


class Runs:
    """Which items are run from now on."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        self._before = Counter(cluster.runs_of)

    @property
    def since(self) -> dict[str, int]:
        return dict(Counter(self._cluster.runs_of) - self._before)
