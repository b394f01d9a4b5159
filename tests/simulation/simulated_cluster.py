"""A cluster in memory: Jobs whose pods run agents that a test describes, on a fake clock.

Job controller, garbage collector, kubelets and the controller that clears lost nodes do here what they do in a real
cluster, in the same order of events, each a little later than what it reacts to.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec

from mapreduce_operator.core.names import ANNOTATION_ITEM
from mapreduce_operator.core.workloads import ContainerEnd, PodSeen
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.simulation.agents import Agent, Ends, Seen
from tests.simulation.api_server import ApiServer, Job, Pod

GRACE_SECONDS: Final = 30.0
"""Between SIGTERM and SIGKILL."""
_KILLED: Final = 143


class SimulatedCluster(ApiServer):
    """An API server with the controllers and kubelets behind it."""

    def __init__(
        self,
        agent: Agent,
        *,
        pod_start: float = 0.5,
        lag: float = 0.005,
        tolerates: float = 5.0,
        nodes: int = 1,
        chance: random.Random | None = None,
        config_maps: dict[tuple[str, str], dict[str, Any]] | None = None,
    ) -> None:
        """Times are in seconds; with `chance` they vary, from half to twice as long.

        `pod_start` from a Job to its running agent, `lag` until a controller reacts, `tolerates` from a node's loss to
        the deletion of its pods.
        """
        super().__init__(config_maps=config_maps or {})
        self.agent: Final = agent
        self.pod_start: Final = pod_start
        self.lag: Final = lag
        self.tolerates: Final = tolerates
        self.nodes: Final = [f"node-{number}" for number in range(1, nodes + 1)]
        self.lost_nodes: Final[list[str]] = []
        self.runs_of: Final[dict[str, int]] = {}
        """Agents that were started, by item id."""
        self.peak = 0
        """The most agents that were alive at the same time."""
        self.live: list[Job] = []
        """Jobs that were alive when the last one was created, with that one."""
        self.violations: Final[list[str]] = []
        """What an audit found."""
        self.audits: Final[dict[str, Any]] = {}
        """The audits of its runs, by uid."""
        self.keeps_waiting: Callable[[Pod], str] = lambda _: ""
        """Why the agent of a pod does not start, such as ImagePullBackOff; "" where it does."""
        self.on_start: Final[list[Callable[[Pod], None]]] = []
        """Called when an agent starts."""
        self._chance: Final = chance

    # ------------------------------------------------------------------------------------------ what controllers do

    def job_created(self, job: Job) -> None:
        self.live = [other for other in (*self.live, job) if other.alive]
        self.peak = max(self.peak, len(self.live))
        self._later(self.pod_start / 2, self._create_pod, job)

    def job_deleted(self, job: Job) -> None:
        # The garbage collector is quick as a rule, and may be far behind.
        slow = 1.0 if self._chance is None else float(200 ** self._chance.random())
        self._later(self.lag * slow, self._collect, job)

    def _collect(self, job: Job) -> None:
        """The garbage collector deletes what a deleted Job owned."""
        if job.pod is not None and job.pod.present:
            self.delete_pod_gently(job.pod)

    def delete_job_in_foreground(self, job: Job) -> None:
        """A person deletes a Job and waits for its pod: the Job stays until that is gone."""
        if not job.present or job.seen.deleting:
            return
        job.removed_by_hand_at, job.touched = self.clock.now(), True
        job.seen = replace(job.seen, deleting=True)
        self.tell(job.seen)
        if job.pod is not None and job.pod.present:
            self.delete_pod_gently(job.pod)
        else:
            self._remove(job)

    def _create_pod(self, job: Job) -> None:
        if not job.present:
            # Seldom the Job controller has not heard of it yet, and the garbage collector cleans up behind it.
            if self._chance is None or self._chance.random() < 0.8:
                return
            self._later(self.lag, self._collect, job)
        node = self._pick([node for node in self.nodes if node not in self.lost_nodes] or self.nodes)
        pod = job.pod = Pod(
            job,
            PodSeen(
                namespace=job.seen.namespace,
                name=f"{job.name}-pod",
                uid=f"pod-of-{job.uid}",
                job=job.name,
                job_uid=job.uid,
                carried=job.seen.carried,
                phase="Pending",
                node=node,
            ),
        )
        self.pods[pod.seen.uid] = pod
        self.tell(pod.seen)
        pod.timer = self._later(self.pod_start / 2, self._run_agent, pod)

    def _run_agent(self, pod: Pod) -> None:
        if waiting := self.keeps_waiting(pod):
            self._kubelet_says(pod, waiting=waiting, waiting_message="Back-off pulling the image")
            return
        template = pod.job.manifest["spec"]["template"]
        context = pod.job.context
        item_id = context["itemId"]
        self.runs_of[item_id] = self.runs_of.get(item_id, 0) + 1
        item = msgspec.json.decode(template["metadata"]["annotations"].get(ANNOTATION_ITEM, "null"))
        ends = pod.ends = self.agent(Seen(item, context))
        limit = template["spec"]["activeDeadlineSeconds"]
        pod.deadline = self.clock.now() + limit
        self._kubelet_says(pod, phase="Running", started=True, deadline=pod.deadline, stop_seconds=GRACE_SECONDS)
        pod.timer = self._at(min(ends.seconds, limit), self._agent_ends, pod, self.clock.now(), ends.seconds > limit)
        for hook in self.on_start:
            hook(pod)

    def _agent_ends(self, pod: Pod, started: float, late: bool) -> None:
        """The agent ends by itself, or runs into its deadline: both is its own doing."""
        ends = pod.ends
        assert ends is not None
        end = ContainerEnd(
            exit_code=137 if late or ends.oom else ends.exit_code,
            reason="OOMKilled" if ends.oom else "Completed" if ends.exit_code == 0 else "Error",
            message="" if late or ends.oom else ends.message,
            started_at=started,
            finished_at=self.clock.now(),
        )
        pod.ends = replace(ends, exit_code=end.exit_code, message=end.message)
        good = end.exit_code == 0
        reason = "DeadlineExceeded" if late else ""
        phase = "Succeeded" if good else "Failed"
        if ends.beside and not late:
            self._kubelet_says(pod, agent=end, outlived=True)
            pod.timer = self._at(min(ends.beside, pod.deadline - self.clock.now()), self._others_end, pod, phase)
        else:
            self._kubelet_says(pod, phase=phase, reason=reason, agent=end)

    def _others_end(self, pod: Pod, phase: str) -> None:
        """The last container of the pod ends, by itself or by the deadline of the pod."""
        late = self.clock.now() >= pod.deadline
        reason, phase = ("DeadlineExceeded", "Failed") if late else ("", phase)
        self._kubelet_says(pod, phase=phase, reason=reason, outlived=False)

    def _kubelet_says(self, pod: Pod, **changes: Any) -> None:
        """A kubelet's view of a pod. That of a lost node keeps it until it can say it."""
        view = replace(pod.unsaid or pod.seen, **changes)
        if view.node in self.lost_nodes:
            pod.unsaid = view
            return
        pod.unsaid = None
        pod.seen = replace(view, deleting=pod.seen.deleting, disruption=view.disruption or pod.seen.disruption)
        if pod.seen.ended or pod.seen.outlived:
            pod.job.shown = pod.ends
        self.tell(pod.seen)
        if pod.seen.ended:
            self._later(self.lag, self._finish_job, pod.job)

    def _finish_job(self, job: Job) -> None:
        """The Job controller saw the pod end, or vanish."""
        if not job.present or job.seen.finished or job.pod is None:
            return
        pod = job.pod.seen
        if pod.phase == "Succeeded":
            job.seen = replace(job.seen, complete=True)
        else:
            job.seen = replace(job.seen, failed_reason="PodFailurePolicy" if pod.disruption else "BackoffLimitExceeded")
        self.tell(job.seen)

    def _vanish(self, pod: Pod) -> None:
        """The API server forgets a pod."""
        if not pod.present:
            return
        pod.present = False
        if pod.timer is not None:
            pod.timer.cancel()
        del self.pods[pod.seen.uid]
        self.tell(replace(pod.seen, deleting=True, gone=True), deleted=True)
        if pod.job.present and pod.job.seen.deleting:
            self._remove(pod.job)
        else:
            self._later(self.lag, self._finish_job, pod.job)

    # ------------------------------------------------------------------------------------------ what others do

    def delete_pod_gently(self, pod: Pod, disruption: str = "") -> None:
        """Somebody deletes a pod: its kubelet tells the agent to end, and says when it did."""
        pod.job.touched = True
        if pod.seen.deleting or not pod.present:
            return
        pod.seen = replace(pod.seen, deleting=True, grace_seconds=GRACE_SECONDS, disruption=disruption)
        self.tell(pod.seen)
        if pod.seen.ended:
            # The API server waits for no kubelet once the agent has ended.
            self._vanish(pod)
        elif pod.seen.node not in self.lost_nodes:
            self._terminate(pod)

    def _terminate(self, pod: Pod) -> None:
        if pod.timer is not None:
            pod.timer.cancel()
        if not pod.seen.started:
            pod.timer = self._later(self.lag, self._vanish, pod)
            return
        trap = pod.ends.traps if pod.ends is not None else None
        pod.timer = self._at(min(trap or 0.1, GRACE_SECONDS), self._killed, pod)

    def _killed(self, pod: Pod, **more: Any) -> None:
        """The agent ended because it was told to; or the others of its pod did, after it."""
        if pod.seen.outlived:
            self._kubelet_says(pod, **{"phase": "Failed", "outlived": False, **more})
            if pod.seen.deleting:
                pod.timer = self._later(self.lag, self._vanish, pod)
            return
        ends = pod.ends
        assert ends is not None
        trapped = ends.traps is not None and ends.traps < GRACE_SECONDS
        end = ContainerEnd(
            exit_code=0 if trapped else _KILLED,
            reason="Completed" if trapped else "Error",
            message=ends.trap_message if trapped else "",
            finished_at=self.clock.now(),
        )
        # Only a result makes such an end the agent's own.
        pod.ends = Ends(message=end.message) if end.message else None
        self._kubelet_says(pod, **{"phase": "Succeeded" if trapped else "Failed", "agent": end, **more})
        if pod.seen.deleting:
            pod.timer = self._later(self.lag, self._vanish, pod)

    def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """The operator removes a pod by force; as in the adapter, it is marked as failed before."""
        del namespace
        pod = self.pods.get(uid)
        if pod is None or pod.seen.name != name:
            return
        pod.seen = replace(pod.seen, phase="Failed", reason="NodeLost", message="removed without its kubelet's word")
        self.tell(pod.seen)
        self._vanish(pod)

    def read_log(self, pod: str) -> str:
        """What the agent of a pod has printed."""
        found = next((one for one in self.pods.values() if one.seen.name == pod), None)
        if found is None or found.seen.node in self.lost_nodes:
            raise ClusterError(ClusterErrorReason.NOT_FOUND, f"pods {pod!r} not found")
        if found.ends is None and not found.seen.started:
            raise ClusterError(ClusterErrorReason.INVALID, f"the container of {pod!r} is waiting to start")
        return f"log of {pod}"

    def delete_pod_by_force(self, pod: Pod) -> None:
        """A person removes a pod with grace period 0."""
        pod.job.touched = True
        self._vanish(pod)

    def evict(self, pod: Pod) -> None:
        """The Eviction API takes a pod away."""
        self.delete_pod_gently(pod, "EvictionByEvictionAPI")

    def preempt(self, pod: Pod) -> None:
        """The scheduler makes room for a more important pod."""
        self.delete_pod_gently(pod, "PreemptionByScheduler")

    def evict_for_memory(self, pod: Pod) -> None:
        """The kubelet ends a pod because its node runs short; nobody deletes it."""
        self._end_by_node(pod, reason="Evicted", message="The node was low on resource: memory.")

    def shut_down_under(self, pod: Pod) -> None:
        """The node shuts down in order."""
        self._end_by_node(pod, reason="Terminated", message="Pod was terminated in response to imminent node shutdown.")

    def _end_by_node(self, pod: Pod, **why: str) -> None:
        if pod.seen.ended or pod.seen.node in self.lost_nodes or not pod.present:
            return
        pod.job.touched = True
        if pod.timer is not None:
            pod.timer.cancel()
        self._killed(pod, phase="Failed", disruption="TerminationByKubelet", **why)

    def lose(self, node: str) -> None:
        """A node stops to answer; after a while its pods are deleted, which nobody is there to confirm."""
        if node not in self.lost_nodes:
            self.lost_nodes.append(node)
            self._later(self.tolerates, self._taint, node)

    def _taint(self, node: str) -> None:
        if node in self.lost_nodes:
            for pod in self._pods_on(node):
                self.delete_pod_gently(pod, "DeletionByTaintManager")

    def bring_back(self, node: str) -> None:
        """A lost node answers again: its kubelet says what happened meanwhile, and does what it was told."""
        if node not in self.lost_nodes:
            return
        self.lost_nodes.remove(node)
        for pod in self._pods_on(node):
            if pod.unsaid is not None:
                self._kubelet_says(pod)
            if pod.seen.ended and pod.seen.deleting:
                self._later(self.lag, self._vanish, pod)
            elif pod.seen.deleting:
                self._terminate(pod)

    def _pods_on(self, node: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.seen.node == node]

    # ---------------------------------------------------------------------------------------------------- inside

    def _pick(self, nodes: list[str]) -> str:
        return nodes[0] if self._chance is None else nodes[int(self._chance.random() * len(nodes))]

    def _later(self, seconds: float, act: Callable[..., None], *about: Any) -> asyncio.TimerHandle:
        """After a reaction's time, which chance stretches."""
        stretch = 1.0 if self._chance is None else 0.5 + 1.5 * self._chance.random()
        return self._at(seconds * stretch, act, *about)

    def _at(self, seconds: float, act: Callable[..., None], *about: Any) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, act, *about)
