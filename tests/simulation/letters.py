"""Jobs whose items fail, and their dead letters as people find them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from mapreduce_operator.adapters.storage.memory import MemoryStore
from tests.simulation.agents import Agent, Ends
from tests.simulation.jobs import map_reduce_job
from tests.simulation.simulated_cluster import SimulatedCluster


def fails(messages: Mapping[str, str]) -> Agent:
    """Items that are keys of `messages` fail with these, as long as they are."""
    return lambda seen: Ends(exit_code=1, message=messages[seen.item]) if seen.item in messages else Ends()


def job(items: list[Any], *, attempts: int = 1, map_: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A job of few attempts. The id of an item that is a string is the item itself."""
    retry = {"maxAttempts": attempts, "backoff": {"initialSeconds": 1}}
    body = map_reduce_job(items, map_={"retry": retry} | (map_ or {}), **spec)
    if items and all(isinstance(item, str) for item in items):
        body["spec"]["input"]["idExpression"] = "item"
    return body


def bodies(store: MemoryStore) -> dict[str, dict[str, Any]]:
    """The letters in storage, by the id of their item."""
    found = [msgspec.json.decode(data) for key, data in store.objects.items() if "/dead-letters/" in key]
    return {body["id"]: body for body in found}


def queue_of(cluster: SimulatedCluster, name: str = "demo") -> dict[str, Any]:
    return cluster.queues.by_name[name]


def letters(cluster: SimulatedCluster) -> Mapping[str, int]:
    """How many letters the status of the queue counts in which state."""
    counts: dict[str, int] = cluster.queues.by_name.get("demo", {}).get("status", {}).get("letters", {})
    return {state: count for state, count in counts.items() if count}
