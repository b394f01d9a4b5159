"""Everybody who has a hand in the cluster beside the operators: evictions, people with kubectl, nodes that vanish."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from mapreduce_operator.core.names import ANNOTATION_CHECKPOINT
from tests.simulation.api_server import Job, Pod
from tests.simulation.asked import FIXED, Asked, Wish
from tests.simulation.audit_history import numbers
from tests.simulation.audit_letters import is_over
from tests.simulation.jobs import redrive, reduce_work
from tests.simulation.objects import Body
from tests.simulation.scenario import GOOD_IMAGE, Scenario
from tests.simulation.simulated_cluster import SimulatedCluster


class Wishes:
    """What users want of the job itself."""

    def __init__(self, cluster: SimulatedCluster, scenario: Scenario, edited: Callable[[str], None]) -> None:
        """`edited` tells the operators of an object whose spec or annotations are changed."""
        self._cluster: Final = cluster
        self._uid: Final[str] = scenario.body["metadata"]["uid"]
        self._body: Final = scenario.body
        self._wishes: Final = () if scenario.deleted_at is not None else scenario.wishes
        self._edited: Final = edited
        self._to_come = len(self._wishes)
        self.forks: Final[list[str]] = []
        """Uids of the forks that were applied."""
        self.on_fork: Final[list[Callable[[Body], None]]] = []
        """Called with a fork that is about to be applied."""
        self.on_rest: Final[list[Callable[[], None]]] = []
        """Called when a wish was told, or taken back."""

    @property
    def waits(self) -> bool:
        """Something is still to be asked for, or was and is to come."""
        spec, status = self._body["spec"], self._cluster.status_of.get(self._uid, {})
        told, asked = status.get("restart", {}), spec.get("restart")
        restarting = asked is not None and (told.get("phase"), told.get("token")) != (asked["phase"], asked["token"])
        forking = any("completionTime" not in self._cluster.status_of.get(uid, {}) for uid in self.forks)
        return self._to_come > 0 or restarting or forking

    def tell(self) -> None:
        for number, wish in enumerate(self._wishes):
            self._at(wish.at, self._tell, wish, str(number))

    def _tell(self, wish: Wish, token: str) -> None:
        self._say(f"WISH: {wish}")
        spec = self._body["spec"]
        match wish.kind:
            case "Restore":
                spec["suspend"] = True
                spec["restore"] = {"checkpoint": self._checkpoint(wish.draw), "token": token}
                self._at(wish.seconds, self._go_on)
            case "Checkpoint":
                self._body["metadata"]["annotations"] = {ANNOTATION_CHECKPOINT: token}
            case "Fork":
                self._fork(wish, token)
            case "Cancel":
                spec["cancel"] = True
                self._at(wish.seconds, self._take_up, token)
            case "Skip":
                spec["map"]["skip"] = [str(number) for number in range(4, 4 + 2 * int(wish.seconds / 5))]
                self._at(wish.seconds, self._want_all)
            case phase:
                spec["restart"] = {"phase": phase, "token": token}
                if phase == "Reduce":
                    self._at(wish.seconds, self._give_reduce)
                self._at(1000.0, self._give_up, spec["restart"])
        self._edited(self._uid)
        if wish.kind not in {"Restore", "Cancel", "Skip"}:
            self._told()

    def _go_on(self) -> None:
        self._say("the job is to go on")
        self._body["spec"]["suspend"] = False
        self._edited(self._uid)
        self._told()

    def _take_up(self, token: str) -> None:
        self._say("the job is taken up again")
        self._body["spec"] |= {"cancel": False, "restart": {"phase": "Map", "token": token}}
        self._edited(self._uid)
        self._told()

    def _want_all(self) -> None:
        self._say("all items are wanted again")
        self._body["spec"]["map"]["skip"] = []
        self._edited(self._uid)
        self._told()

    def _give_reduce(self) -> None:
        """A reduce was asked for, whether the job has one or not."""
        if "reduce" not in self._body["spec"]:
            self._say("the job is given a reduce")
            self._body["spec"]["reduce"] = reduce_work(runWhen="Always")
            self._edited(self._uid)

    def _give_up(self, restart: dict[str, Any]) -> None:
        """Nobody waits for ever for what a limit of the job keeps from being done."""
        if self._body["spec"].get("restart") == restart:
            self._say("a restart is taken back, if it was not done")
            del self._body["spec"]["restart"]
            self._edited(self._uid)
            self._rested()

    def _told(self) -> None:
        self._to_come -= 1
        self._rested()

    def _rested(self) -> None:
        for hook in self.on_rest:
            hook()

    def _fork(self, wish: Wish, token: str) -> None:
        name = f"fork-{token}"
        source: dict[str, Any] = {"job": {"name": self._body["metadata"]["name"]}}
        if wish.draw > 0.5:
            source["checkpoint"] = self._checkpoint(wish.draw)
        edits = [{"id": "1", "reset": True}, {"id": "2", "remove": True}, {"id": "3", "patch": FIXED}]
        source["edits"] = {"items": edits}
        metadata = {"namespace": "default", "name": name, "uid": name, "generation": 1}
        body = {
            "apiVersion": "mapreduce.dev/v1alpha1",
            "kind": "MapReduceJob",
            "metadata": metadata,
            "spec": {"forkFrom": source, "resumePolicy": {"includeDeadLetters": wish.seconds > 50}},
        }
        self.forks.append(name)
        for hook in self.on_fork:
            hook(body)
        self._cluster.apply(body)
        self._edited(name)
        self._at(100.0, self._correct, body)

    def _correct(self, body: Body) -> None:
        """Nobody waits for ever for a checkpoint that is not there, or for an image that cannot be pulled."""
        name, spec = body["metadata"]["name"], body["spec"]
        self._say(f"{name} is looked after")
        if "plan" not in self._cluster.status_of.get(name, {}):
            spec["forkFrom"].pop("checkpoint", None)
        if "map" in spec:
            spec["map"]["template"]["spec"]["containers"][0]["image"] = GOOD_IMAGE
        self._edited(name)

    def _checkpoint(self, draw: float) -> int:
        kept = numbers(self._cluster.status_of.get(self._uid, {}).get("checkpoint", {}).get("kept", ""))
        return kept[int(draw * len(kept))] if kept and draw < 1.0 else 99_999

    def _at(self, seconds: float, act: Callable[..., None], *about: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *about)

    def _say(self, text: str) -> None:
        if self._cluster.trace is not None:
            self._cluster.trace(text)


class People:
    """Does what the scenario says, from when it is made."""

    def __init__(self, cluster: SimulatedCluster, scenario: Scenario, chance: Random) -> None:
        self._cluster: Final = cluster
        self._scenario: Final = scenario
        self._chance: Final = chance
        self._started = 0
        self._to_ask = len(scenario.redrives)
        self._at_rest = False
        cluster.on_create.append(self._meddle_with_job)
        cluster.on_start.extend([self._meddle_with_pod, self._lose_node])

    @property
    def waits_for_answers(self) -> bool:
        """A Redrive is still to be applied, or has no answer although its queue is there."""
        redrives = self._cluster.redrives.by_name.values()
        queues = self._cluster.queues.by_name
        return self._to_ask > 0 or any(one["spec"]["queue"] in queues and not is_over(one) for one in redrives)

    def ask(self) -> None:
        """Applies the Redrives that do not wait for the end of the run, and cares for the queue."""
        for asked in self._scenario.redrives:
            if not asked.at_the_end:
                self._at(asked.at, self._apply, asked)
        if self._scenario.queue_deleted_at is not None:
            self._at(self._scenario.queue_deleted_at, self._cluster.queues.delete, "demo")
        self._at(200.0, self._make_room)

    def rest(self) -> None:
        """Nobody asks for anything any more."""
        self._at_rest = True

    def ask_at_the_end(self) -> None:
        """The run has ended for the first time."""
        for asked in self._scenario.redrives:
            if asked.at_the_end:
                self._at(asked.at, self._apply, asked)

    def _apply(self, asked: Asked) -> None:
        self._say(f"REDRIVE: {asked}")
        self._to_ask -= 1
        self._cluster.redrives.create(redrive(asked.name, **asked.spec))
        if asked.deleted_after is not None:
            self._at(asked.deleted_after, self._cluster.redrives.delete, asked.name)

    def _make_room(self) -> None:
        """Nobody lets a job wait for ever for room in its queue."""
        queue = self._cluster.queues.by_name.get("demo")
        if self._at_rest:
            return
        if queue is not None and queue["spec"].get("capacity") is not None:
            self._say("the queue may hold any number")
            self._cluster.queues.edit("demo", capacity=None)
        self._at(100.0, self._make_room)

    def delete_some(self, number: int, seconds: float) -> None:
        """Deletes Jobs and pods within a time."""
        for _ in range(number):
            self._at(seconds * self._chance.random(), self._delete_any_job)
            self._at(seconds * self._chance.random(), self._delete_any_pod)

    def _meddle_with_pod(self, pod: Pod) -> None:
        """Decided when its agent starts, and done while it runs or shortly after."""
        assert pod.ends is not None
        draw, at = self._chance.random(), self._chance.random() * 1.2 * min(pod.ends.seconds, 10.0)
        mishaps, cluster = self._scenario.mishaps, self._cluster
        ways: list[Callable[[Pod], None]] = []
        if draw < mishaps.evicted:
            ways = [cluster.evict, cluster.preempt, cluster.evict_for_memory, cluster.shut_down_under]
        elif draw < mishaps.evicted + mishaps.pod_deleted:
            ways = [cluster.delete_pod_gently, cluster.delete_pod_by_force]
        if ways:
            self._at(at, self._chance.choice(ways), pod)

    def _meddle_with_job(self, job: Job) -> None:
        if self._chance.random() < self._scenario.mishaps.job_deleted:
            self._at(self._chance.random() * 10.0, self._delete_job, job)

    def _delete_any_job(self) -> None:
        if self._cluster.jobs:
            self._delete_job(self._chance.choice(list(self._cluster.jobs.values())))

    def _delete_any_pod(self) -> None:
        if self._cluster.pods:
            pod = self._chance.choice(list(self._cluster.pods.values()))
            self._say(f"BY HAND: {pod.seen.name} is deleted")
            self._cluster.delete_pod_gently(pod)

    def _delete_job(self, job: Job) -> None:
        cluster = self._cluster
        if job.present:
            self._say(f"BY HAND: {job.name} is deleted")
            in_background = self._chance.random() < 0.7
            (cluster.delete_job_by_hand if in_background else cluster.delete_job_in_foreground)(job)

    def _lose_node(self, pod: Pod) -> None:
        self._started += 1
        for lost in self._scenario.lost_nodes:
            if lost.after == self._started:
                self._say(f"LOST: {pod.seen.node}")
                self._cluster.lose(pod.seen.node)
                self._at(lost.seconds, self._cluster.bring_back, pod.seen.node)

    def _at(self, seconds: float, act: Callable[..., None], *about: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, act, *about)

    def _say(self, text: str) -> None:
        if self._cluster.trace is not None:
            self._cluster.trace(text)
