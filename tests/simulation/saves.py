"""The checkpoints of a run as they come in storage, and jobs of which a test knows when they are to come."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.jobs import map_reduce_job
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.timeline import EPOCH

NEVER: Final = 3600
"""everySeconds of a job whose checkpoints nobody is to make by the clock: the longest that there is."""


@dataclass(frozen=True)
class Save:
    """One checkpoint that counts."""

    sequence: int
    reason: str
    at: float
    """Seconds since the start of the simulation."""
    outcomes: int
    """That it made durable."""


class NotedStore(MemoryStore):
    """Notes the checkpoints of a run. Writes take a while, if the test says so."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self._seconds: Final = seconds
        self._outcomes = 0
        self.saves: Final[list[Save]] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        segment, head = "/segment-" in key, key.endswith("/head.json")
        self.in_flight += segment
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(self._seconds)
        etag = await super().put(key, data, if_absent=if_absent, if_match=if_match)
        if segment:
            # But for the first and the last line.
            self._outcomes = data.count(b"\n") - 2
        if head:
            self._note(msgspec.json.decode(data.splitlines()[0]))
        return etag

    def _note(self, head: dict[str, Any]) -> None:
        sequence = head.get("sequence", 0)
        if sequence > (self.saves[-1].sequence if self.saves else 0):
            self.in_flight -= 1
            self.saves.append(Save(sequence, head["reason"], head["committedAt"] - EPOCH, self._outcomes))

    def of(self, reason: str) -> list[Save]:
        return [save for save in self.saves if save.reason == reason]


def job(items: list[Any], *, every_items: int = 1000, every_seconds: int = NEVER, **more: Any) -> dict[str, Any]:
    """A job whose items run one after another, unless it says otherwise."""
    body = map_reduce_job(
        items,
        map_={"maxParallel": 1, "retry": {"maxAttempts": 1}} | more.pop("map_", {}),
        checkpoint={"everyItems": every_items, "everySeconds": every_seconds},
        **more,
    )
    body["spec"]["input"]["idExpression"] = "string(item)"
    return body


def ended(cluster: SimulatedCluster, number: int) -> bool:
    """So many agents have ended, as far as their kubelets told."""
    return sum(job.shown is not None for job in cluster.history) >= number
