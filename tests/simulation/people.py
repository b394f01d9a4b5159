"""Everybody who has a hand in the cluster beside the operators: evictions, people with kubectl, nodes that vanish."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.simulation.api_server import Job, Pod
from tests.simulation.asked import Asked
from tests.simulation.audit_letters import is_over
from tests.simulation.jobs import redrive
from tests.simulation.scenario import Scenario
from tests.simulation.simulated_cluster import SimulatedCluster


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
