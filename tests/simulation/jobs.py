"""MapReduceJobs as the API server would store them, with its defaults left to the models."""

from collections.abc import Mapping
from typing import Any


def map_reduce_job(items: list[Any] | None = None, uid: str = "run-1", **spec: Any) -> dict[str, Any]:
    """A job over the items; keyword arguments replace parts of the spec, `map_` those of its map."""
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    map_work = {"template": template, "maxParallel": 10, "retry": {"backoff": {"initialSeconds": 1}}} | spec.pop(
        "map_", {}
    )
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": "demo", "namespace": "default", "uid": uid, "generation": 1},
        "spec": {"input": {"items": items if items is not None else []}, "map": map_work} | spec,
    }


def redrive(name: str, queue: str = "demo", **spec: Any) -> dict[str, Any]:
    """A Redrive as a user applies it; without a selection it means all letters."""
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "Redrive",
        "metadata": {"name": name},
        "spec": {"queue": queue, "selection": {"all": True}} | spec,
    }


def condition_of(body: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """A condition in the status of an object."""
    found = [one for one in body.get("status", {}).get("conditions", []) if one["type"] == kind]
    return found[0] if found else {"status": "Absent", "reason": "", "message": ""}


def reduce_work(**more: Any) -> dict[str, Any]:
    return {"template": {"spec": {"containers": [{"name": "reduce", "image": "agent:1"}]}}} | more
