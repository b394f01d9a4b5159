"""Objects in every state in which other tools meet them, with the very statuses that the operator writes.

`python -m tests.unit.gitops.scenes` writes them to gitops/argocd, where they are the cases of Argo CD's own kind of
tests, and the health checks and actions beside them into argocd-cm.yaml.
"""

import asyncio
import copy
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import API_VERSION
from mapreduce_operator.api.crd import RESOURCES
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError, StoredObject
from tests.simulation.agents import Ends
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.letters import fails, job, letters, queue_of
from tests.simulation.operator_in_memory import OperatorInMemory, operating
from tests.simulation.simulated_cluster import SimulatedCluster
from tests.simulation.timeline import JumpingLoop

Body = dict[str, Any]

GITOPS: Final = Path(__file__).resolve().parents[3] / "gitops"
CUSTOMIZATIONS: Final = GITOPS / "argocd" / "mapreduce.dev"
CONFIG_MAP: Final = GITOPS / "argocd" / "argocd-cm.yaml"


class Album:
    """What was seen, by kind and name."""

    def __init__(self) -> None:
        self.seen: Final[dict[tuple[str, str], Body]] = {}

    def add(self, name: str, body: Body) -> None:
        assert (body["kind"], name) not in self.seen
        self.seen[body["kind"], name] = shown = copy.deepcopy(body)
        # Its sizes are others with every new field of the journal, and no other tool looks at them.
        shown.get("status", {}).pop("checkpoint", None)

    def add_job(self, name: str, operator: OperatorInMemory) -> None:
        metadata = operator.body["metadata"] | {"resourceVersion": str(1000 + len(self.seen))}
        self.add(name, operator.body | {"metadata": metadata, "status": operator.cluster.status})

    def add_other(self, name: str, body: Body) -> None:
        """A queue or a Redrive."""
        metadata = body["metadata"] | {"resourceVersion": str(1000 + len(self.seen))}
        self.add(name, {"apiVersion": API_VERSION} | body | {"metadata": metadata})


@cache
def scenes() -> dict[tuple[str, str], Body]:
    """Bodies by kind and name, the same in every process."""
    album = Album()
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        stories = (_to_the_plan, _to_success, _to_dead_letters_and_back, _to_failure, _to_a_full_queue)
        for story in (*stories, _to_an_end_without_a_plan):
            runner.run(story(album))
    return album.seen


async def _to_the_plan(album: Album) -> None:
    class Away(MemoryStore):
        away = True

        async def get(self, key: str) -> StoredObject | None:
            if self.away:
                raise StorageError("bucket agents: connection refused")
            return await super().get(key)

    body, store = job(["a", "b", "a"]), Away()
    initial = next(resource.initial_status for resource in RESOURCES if resource.kind == body["kind"])
    album.add("new", body | {"status": initial})
    async with operating(SimulatedCluster(lambda _: Ends()), body, store) as operator:
        await operator.until(lambda: operator.condition("CheckpointHealthy")["status"] == "False")
        album.add_job("planning", operator)
        store.away = False
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "DuplicateItems")
        album.add_job("invalid-input", operator)


async def _to_success(album: Album) -> None:
    cluster = SimulatedCluster(lambda _: Ends(20.0))
    body = job(["a", "b", "c", "d"], map_={"maxParallel": 1}, reduce=reduce_work())
    async with operating(cluster, body) as operator:
        await operator.until(lambda: cluster.status.get("progress") == "1/4")
        album.add_job("running", operator)
        edited = copy.deepcopy(operator.body)
        edited["metadata"]["generation"] += 1
        album.add("edited", edited | {"status": cluster.status})
        operator.edit(lambda spec: spec.update(suspend=True))
        await operator.until(lambda: cluster.status["phase"] == "Paused" and not cluster.status["active"])
        album.add_job("suspended", operator)
        operator.edit(lambda spec: spec.update(suspend=False))
        cluster.refuse = _refuses_the_next_template
        operator.edit(lambda spec: spec["map"]["template"]["spec"]["containers"][0].update(image="agent:next"))
        await operator.until(lambda: operator.condition("Stalled")["reason"] == "TemplateRejected")
        album.add_job("template-rejected", operator)
        operator.edit(lambda spec: spec["map"]["template"]["spec"]["containers"][0].update(image="agent:1"))
        await operator.until(lambda: cluster.status["phase"] == "Reduce" and cluster.status["active"] == 1)
        album.add_job("reduce", operator)
        await operator.until_finished()
        album.add_job("succeeded", operator)


def _refuses_the_next_template(manifest: Mapping[str, Any], dry_run: bool) -> ClusterError | None:
    if not dry_run or "agent:next" not in str(manifest):
        return None
    return ClusterError(ClusterErrorReason.INVALID, "spec.template.spec.volumes[0].name: Required value")


async def _to_dead_letters_and_back(album: Album) -> None:
    broken = {"b": "boom", "c": "boom"}
    cluster = SimulatedCluster(fails(broken))
    async with operating(cluster, job(["a", "b", "c", "d"])) as operator:
        await operator.until_finished()
        album.add_job("partially-succeeded", operator)
        await operator.until(lambda: letters(cluster) == {"total": 2, "open": 2})
        album.add_other("open", queue_of(cluster))
        del broken["b"]
        cluster.redrives.create(redrive("some-failed"))
        running = cluster.redrives.by_name["some-failed"]
        await operator.until(lambda: cluster.status["phase"] == "Map" and running.get("status", {}) != {})
        album.add_job("redriving", operator)
        album.add_other("running", running)
        await operator.until_redriven("some-failed")
        await operator.until_finished()
        album.add_other("some-failed", cluster.redrives.by_name["some-failed"])
        broken.clear()
        await operator.redrive("all-succeeded")
        album.add_other("all-succeeded", cluster.redrives.by_name["all-succeeded"])
        await operator.until(lambda: letters(cluster) == {"total": 2, "resolved": 2})
        album.add_other("resolved", queue_of(cluster))
        await operator.redrive("refused", selection={"filter": "letter."})
        album.add_other("refused", cluster.redrives.by_name["refused"])


async def _to_failure(album: Album) -> None:
    cluster = SimulatedCluster(lambda _: Ends(2.0, 1, "boom"))
    policy = {"circuitBreaker": {"failuresInARow": 2, "openSeconds": 60, "probes": 1}}
    async with operating(cluster, job(["a", "b"], attempts=2, failurePolicy=policy)) as operator:
        await operator.until(lambda: cluster.status.get("breaker", {}).get("state") == "Open")
        album.add_job("circuit-open", operator)
        await operator.until_finished()
        album.add_job("failed", operator)
    cluster = SimulatedCluster(lambda _: Ends(200.0))
    async with operating(cluster, job(["a", "b"])) as operator:
        await operator.until(lambda: cluster.status.get("active") == 2)
        operator.edit(lambda spec: spec.update(cancel=True))
        await operator.until_finished()
        album.add_job("cancelled", operator)


async def _to_a_full_queue(album: Album) -> None:
    cluster = SimulatedCluster(fails({"a": "boom"}))
    body = job(["a", "b", "c"], map_={"maxParallel": 1}, deadLetter={"capacity": 1})
    async with operating(cluster, body) as operator:
        await operator.until(lambda: operator.condition("Progressing")["reason"] == "DeadLetterQueueFull")
        await operator.until(lambda: letters(cluster) == {"total": 1, "open": 1})
        album.add_other("full", queue_of(cluster))
        cluster.redrives.create(redrive("early", queue="another"))
        await operator.until(lambda: "status" in cluster.redrives.by_name["early"])
        album.add_other("waiting", cluster.redrives.by_name["early"])
        operator.edit(lambda spec: spec.update(suspend=True))
        cluster.queues.edit("demo", eligibility=[{"filter": "letter.", "eligible": False}])
        await operator.until(lambda: "Stalled" in str(queue_of(cluster)["status"]["conditions"]))
        album.add_other("invalid-eligibility", queue_of(cluster))


async def _to_an_end_without_a_plan(album: Album) -> None:
    async with operating(SimulatedCluster(lambda _: Ends()), job(["a", "a"], cancel=True)) as operator:
        await operator.until_finished()
        album.add_job("never-planned", operator)


# -------------------------------------------------------------------------------------------------------------- actions


def outcomes() -> dict[tuple[str, str], tuple[str, Body]]:
    """What each action is to leave, by kind and name: the scene that it is taken in, and the object afterwards."""
    seen = scenes()

    def edited(scene: str, change: Callable[[Body], object]) -> tuple[str, Body]:
        body = copy.deepcopy(seen["MapReduceJob", scene])
        change(body)
        return scene, body

    def redriven(kind: str, scene: str) -> tuple[str, Body]:
        source = seen[kind, scene]
        version, uid = source["metadata"]["resourceVersion"], source["metadata"]["uid"]
        owner = {"apiVersion": API_VERSION, "kind": kind, "name": "demo", "uid": uid}
        body = redrive(f"demo-argocd-{version}")
        body["metadata"] |= {"namespace": "default", "ownerReferences": [owner]}
        return scene, body

    def restarted(phase: str, generation: int, **more: object) -> Callable[[Body], object]:
        asked = {"phase": phase, "token": f"argocd-{generation}"}
        return lambda body: body["spec"].update(restart=asked, **more)

    def annotated(body: Body) -> None:
        version = body["metadata"]["resourceVersion"]
        body["metadata"]["annotations"] = {"mapreduce.dev/checkpoint": f"argocd-{version}"}

    return {
        ("MapReduceJob", "suspend"): edited("running", lambda body: body["spec"].update(suspend=True)),
        ("MapReduceJob", "resume"): edited("suspended", lambda body: body["spec"].update(suspend=False)),
        ("MapReduceJob", "cancel"): edited("running", lambda body: body["spec"].update(cancel=True)),
        ("MapReduceJob", "restart-map"): edited("cancelled", restarted("Map", 2, cancel=False)),
        ("MapReduceJob", "restart-reduce"): edited("succeeded", restarted("Reduce", 5)),
        ("MapReduceJob", "checkpoint"): edited("running", annotated),
        ("MapReduceJob", "redrive-all"): redriven("MapReduceJob", "partially-succeeded"),
        ("DeadLetterQueue", "redrive-all"): redriven("DeadLetterQueue", "open"),
    }


# ---------------------------------------------------------------------------------------------------- what is written


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stand as such."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def as_yaml(value: object) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def files() -> dict[Path, str]:
    """What stands in the repository, as it should be."""
    found = {CONFIG_MAP: as_yaml(config_map())}
    for (kind, name), body in scenes().items():
        found[CUSTOMIZATIONS / kind / "testdata" / f"{name}.yaml"] = as_yaml(body)
    for (kind, action), (_, body) in outcomes().items():
        found[CUSTOMIZATIONS / kind / "actions" / "testdata" / f"{action}.yaml"] = as_yaml(body)
    return found


def config_map() -> Body:
    """Health checks and actions as a part of Argo CD's ConfigMap."""
    data: dict[str, str] = {}
    for folder in sorted(CUSTOMIZATIONS.iterdir()):
        data[f"resource.customizations.health.mapreduce.dev_{folder.name}"] = (folder / "health.lua").read_text()
        if (folder / "actions").is_dir():
            actions = {
                "discovery.lua": (folder / "actions" / "discovery.lua").read_text(),
                "definitions": [
                    {"name": file.parent.name, "action.lua": file.read_text()}
                    for file in sorted((folder / "actions").glob("*/action.lua"))
                ],
            }
            data[f"resource.customizations.actions.mapreduce.dev_{folder.name}"] = as_yaml(actions)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": data,
    }


if __name__ == "__main__":
    for file, text in files().items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
