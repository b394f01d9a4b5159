"""Everybody who has a hand in the cluster beside the operators: evictions, people with kubectl, nodes that vanish."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.simulation.api_server import Job, Pod
from tests.simulation.scenario import Scenario
from tests.simulation.simulated_cluster import SimulatedCluster


class People:
    """Does what the scenario says, from when it is made."""

    def __init__(self, cluster: SimulatedCluster, scenario: Scenario, chance: Random) -> None:
        self._cluster: Final = cluster
        self._scenario: Final = scenario
        self._chance: Final = chance
        self._started = 0
        cluster.on_create.append(self._meddle_with_job)
        cluster.on_start.extend([self._meddle_with_pod, self._lose_node])

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
