"""What Kubernetes shows of a dispatch that ended, and what that means: the one table of failures.

Success is never concluded from exit code 0 alone: an agent that traps SIGTERM during a node's shutdown also exits 0.
It takes a result that keeps the contract (core.contract).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from mapreduce_operator.api import Reason
from mapreduce_operator.core.contract import ResultRule, read_error, read_result
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import ContainerEnd, Dispatch, JobSeen, PodSeen

MESSAGE_CHARACTERS: Final = 1024
"""What is kept of a failure's message: enough for the end of a stack trace, small enough for 100,000 of them."""


class Action(StrEnum):
    """What follows, in the words of the documents, where no rule of the spec says otherwise."""

    RETRY = "another attempt, up to `retry.maxAttempts`"
    RUN_AGAIN = "runs again, up to `retry.maxInterruptions`"
    PROBE = "runs again; one item at a time once several have it"
    RESUME = "runs again when the job is resumed"


class Wait(StrEnum):
    """What the item waits for before that, in the words of the documents."""

    BACKOFF = "`retry.backoff`"
    NONE = "none"
    REST = "30 s"


REST_SECONDS: Final = 30.0
"""The wait REST. The agent's own backoff is for the agent's own failures."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means for the item, and for the person who reads it."""

    verdict: Verdict
    """Failed counts as an attempt, Interrupted does not."""
    action: Action
    wait: Wait
    hint: str

    @property
    def excused(self) -> bool:
        """An interruption that is not held against the item: it does not count against maxInterruptions either."""
        return self.action in {Action.PROBE, Action.RESUME}


def _attempt(hint: str) -> Meaning:
    return Meaning(Verdict.FAILED, Action.RETRY, Wait.BACKOFF, hint)


def _interruption(hint: str) -> Meaning:
    return Meaning(Verdict.INTERRUPTED, Action.RUN_AGAIN, Wait.NONE, hint)


def _template_fault(hint: str) -> Meaning:
    return Meaning(Verdict.INTERRUPTED, Action.PROBE, Wait.REST, hint)


MEANINGS: Final[dict[Reason, Meaning]] = {
    Reason.ERROR: _attempt("The agent exited with an error; its message or the end of its log says why."),
    Reason.KILLED: _attempt(
        "The agent was killed and nothing says by whom: a process in its container, a liveness probe, a hook that "
        "failed, or its node running out of memory. See the events of the pod and of the node."
    ),
    Reason.OOM_KILLED: _attempt(
        "The agent used more memory than its limit; raise resources.limits.memory, or set retry.onOOM."
    ),
    Reason.DEADLINE_EXCEEDED: _attempt(
        "The agent ran longer than timeoutSeconds; raise it or give the agent less to do."
    ),
    Reason.STORAGE_EXCEEDED: _attempt(
        "The agent wrote more to its disk than its limit; raise resources.limits.ephemeral-storage or the volume's "
        "sizeLimit, or write less."
    ),
    Reason.INIT_FAILED: _attempt(
        "An init container of the template failed, so that the agent did not run; its exit code and message say why."
    ),
    Reason.RESULT_MISSING: _attempt(
        "The agent exited with 0 but wrote no /mapreduce/result.json; write one, or set result.required: false."
    ),
    Reason.RESULT_INVALID: _attempt(
        "The result is not JSON, longer than 4,096 bytes, nested deeper than 100 levels, or fails result.rule; the "
        "message says which."
    ),
    Reason.EVICTED: _interruption(
        "The pod was evicted: its node was drained, tainted or short of memory or disk. If it happens often, see the "
        "requests of the template."
    ),
    Reason.PREEMPTED: _interruption(
        "The pod made room for a more important one. If it happens often, set a priorityClassName."
    ),
    Reason.NODE_LOST: _interruption(
        "The node shut down, refused the pod, went silent or is gone. If it happens often, see the node."
    ),
    Reason.DELETED: _interruption("Somebody else deleted the Job or its pod. Find out who, if it was not you."),
    Reason.NOT_STARTED: _template_fault(
        "The agent did not start in time, and its node does not say why; see the events of the pod: volumes, network, "
        "a slow pull of the image."
    ),
    Reason.SUSPENDED: Meaning(
        Verdict.INTERRUPTED,
        Action.RESUME,
        Wait.NONE,
        "The job was suspended with suspendPolicy Interrupt, or the item is in map.skip by now.",
    ),
    Reason.IMAGE_UNAVAILABLE: _template_fault(
        "An image of the template could not be pulled; correct its name, the pull secret or the registry."
    ),
    Reason.CONFIGURATION_ERROR: _template_fault(
        "A container of the template could not be started: a Secret or ConfigMap that does not exist, a command that "
        "is not in the image, a setting that the node refuses. Correct the template, or what it refers to."
    ),
}

TEMPLATE_FAULTS: Final = frozenset(reason for reason, meaning in MEANINGS.items() if meaning.action is Action.PROBE)

NODE_LOST: Final = "NodeLost"
"""Reason in the status of a pod that was removed without the word of its kubelet."""

# Names of Kubernetes 1.34. Sources: pkg/kubelet (images, kuberuntime, container, lifecycle, eviction, preemption,
# nodeshutdown, sysctl), pkg/controller/podgc, pkg/scheduler, and the CRI's errors; what was seen of real pods stands
# in tests/unit/adapters/kube/pods_seen.json.

_IMAGE_WAITS: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"),
        *("RegistryUnavailable", "SignatureValidationFailed"),
    }
)
_CONFIGURATION_WAITS: Final = frozenset(
    {
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PreCreateHookError"),
        *("PreStartHookError", "PostStartHookError", "CrashLoopBackOff", "RROUnsupported"),
    }
)
_START_ERRORS: Final = frozenset({"StartError", "ContainerCannotRun", "CreateContainerError", "RunContainerError"})
"""Reasons of the end of a container that never ran: its runtime could not start it. Its exit code is made up."""
_REFUSED_TEMPLATES: Final = frozenset(
    {
        *("SysctlForbidden", "AppArmor", "PodOSNotSupported", "PodOSSelectorNodeLabelDoesNotMatch"),
        *("SupplementalGroupsPolicyNotSupported", "PodLevelResourcesNotSupported"),
    }
)
"""Reasons in a pod's status by which a kubelet refuses what the template asks for."""
_NODE_REASONS: Final = frozenset(
    {"NodeShutdown", NODE_LOST, "Shutdown", "Terminated", "NodeAffinity", "UnexpectedAdmissionError"}
)
"""Reasons in a pod's status by which a kubelet says that the node, not the agent, ended or refused it."""
_UNKNOWN_END: Final = "ContainerStatusUnknown"
"""Reason of the end of a container that the node does not know any more, if it ever ran."""
_OVER_ITS_LIMIT: Final = (
    "exceeds the total limit of containers",
    "exceeded its local ephemeral storage limit",
    "Usage of EmptyDir volume",
)
"""Parts of a kubelet's message about a pod that it evicts for what the pod itself has written."""
_KILLED_CODES: Final = frozenset({137, 143})
_KILLED_SIGNALS: Final = frozenset({9, 15})


def template_fault(waiting: str) -> Reason | None:
    """What is wrong with a template whose container waits for that reason; None where nothing is known to be."""
    if waiting in _IMAGE_WAITS:
        return Reason.IMAGE_UNAVAILABLE
    return Reason.CONFIGURATION_ERROR if waiting in _CONFIGURATION_WAITS else None


def success_of_pod(pod: PodSeen, rule: ResultRule, now: float) -> Outcome | None:
    """The success of a dispatch whose agent ended while its pod goes on; None where the end of the pod has to tell.

    A result is one whatever becomes of the pod. A failure may be the work of the node that is about to end the pod.
    """
    end = pod.agent
    if end is None or end.exit_code != 0 or not pod.agent_in_time:
        return None
    result, problem = read_result(end.message, rule)
    return _Ending(pod, now).succeeded(result) if result is not None and problem is None else None


def outcome_of_pod(pod: PodSeen, rule: ResultRule, now: float) -> Outcome:
    """The outcome of a dispatch whose pod ended, or has outlived its agent; each pod carries one dispatch."""
    end, ending = pod.agent, _Ending(pod, now)
    over = pod.reason == "DeadlineExceeded"
    late = over and not pod.agent_in_time
    # Whatever befell a pod after its deadline befell no agent.
    disturbance = None if over else _disturbance(pod)
    if end is not None and end.exit_code == 0 and not late:
        result, problem = read_result(end.message, rule)
        if problem is None and (result is not None or disturbance is None):
            return ending.succeeded(result or b"null")
        if problem is not None and disturbance is None:
            return ending.because(problem.reason, problem.message)
    if disturbance not in {None, Reason.DELETED} and not late:
        return ending.because(disturbance, f"{pod.reason or pod.disruption}: {pod.message}")
    ran = pod.started if end is None or end.reason == _UNKNOWN_END else end.reason not in _START_ERRORS
    if not ran:
        return _never_started(ending, late=late)
    if late:
        return ending.because(Reason.DEADLINE_EXCEEDED, pod.message)
    if disturbance is not None:
        return ending.because(disturbance, "the pod was deleted while the agent was running")
    if end is None or end.reason == _UNKNOWN_END:
        return ending.because(Reason.NODE_LOST, f"the node does not know how the agent ended. {pod.message}".strip())
    return _failed_by_itself(ending, end)


def _disturbance(pod: PodSeen) -> Reason | None:
    """What became of the pod by somebody else's doing, or by what its node thinks of it."""
    # The reason comes first: a pod on a node that is lost is evicted, and at last removed without the node's word.
    if pod.reason in _NODE_REASONS or pod.reason.startswith("OutOf"):
        return Reason.NODE_LOST
    if pod.reason in _REFUSED_TEMPLATES:
        return Reason.CONFIGURATION_ERROR
    if pod.reason == "Evicted":
        own_doing = any(part in pod.message for part in _OVER_ITS_LIMIT)
        return Reason.STORAGE_EXCEEDED if own_doing else Reason.EVICTED
    if pod.reason == "Preempting" or pod.disruption == "PreemptionByScheduler":
        return Reason.PREEMPTED
    if pod.disruption == "DeletionByPodGC":
        return Reason.NODE_LOST
    if pod.disruption:
        return Reason.EVICTED
    return Reason.DELETED if pod.deleting or pod.gone else None


def _never_started(ending: "_Ending", *, late: bool) -> Outcome:
    """Of a pod whose agent never ran."""
    pod, deleted = ending.pod, ending.pod.deleting or ending.pod.gone
    init = None if pod.failed_init is None or pod.failed_init.reason == _UNKNOWN_END else pod.failed_init
    for end in (pod.agent, init):
        if end is not None and end.reason in _START_ERRORS:
            return ending.because(Reason.CONFIGURATION_ERROR, f"{end.reason}: {end.message}")
    fault = template_fault(pod.waiting)
    if fault is not None:
        return ending.because(fault, f"{pod.waiting}: {pod.waiting_message}".rstrip(": "))
    if init is not None and late:
        message = f"init container {pod.failed_init_name} ran until the pod's deadline"
        return ending.because(Reason.DEADLINE_EXCEEDED, message, init)
    if init is not None and not deleted:
        why = f" ({init.reason})" if init.reason not in {"", "Error"} else ""
        message = f"init container {pod.failed_init_name} exited with code {init.exit_code}{why}: {init.message}"
        return ending.because(Reason.INIT_FAILED, message.rstrip(": "), init)
    if late:
        return ending.because(Reason.NOT_STARTED, f"the agent's container never ran: {pod.waiting or pod.message}")
    if deleted:
        return ending.because(Reason.DELETED, "the pod was deleted before the agent began")
    return ending.because(Reason.NODE_LOST, f"the agent's container never ran: {pod.reason} {pod.message}".rstrip(": "))


def _failed_by_itself(ending: "_Ending", end: ContainerEnd) -> Outcome:
    error = read_error(end.message)
    message = error.message if error else end.message or f"the agent exited with code {end.exit_code}"
    if end.reason == "OOMKilled":
        reason = Reason.OOM_KILLED
    elif error is None and (end.exit_code in _KILLED_CODES or end.signal in _KILLED_SIGNALS):
        reason = Reason.KILLED
    else:
        reason = Reason.ERROR
    return replace(ending.because(reason, message), retryable=error.retryable if error else True)


def outcome_of_job(job: JobSeen, dispatch: Dispatch, now: float) -> Outcome:
    """The outcome of a dispatch whose Job ended, or is gone, without its pod having been seen to end."""
    # The only rule of the Jobs' failure policy is about disruptions (core.jobs).
    reasons = {"DeadlineExceeded": Reason.DEADLINE_EXCEEDED, "PodFailurePolicy": Reason.EVICTED}
    reason = reasons.get(job.failed_reason or "", Reason.DELETED)
    return Outcome(
        stage=job.carried.stage,
        dispatch=dispatch,
        job_uid=job.uid,
        verdict=MEANINGS[reason].verdict,
        reason=reason,
        message=end_of(job.failed_message or "the Job was deleted before its pod ended", MESSAGE_CHARACTERS),
        revision=job.carried.revision,
        job=job.name,
        ended_at=now,
    )


@dataclass(frozen=True, slots=True)
class _Ending:
    """The outcomes that a pod may have."""

    pod: PodSeen
    now: float

    def succeeded(self, result: bytes) -> Outcome:
        return replace(self._outcome(Verdict.SUCCEEDED, self.pod.agent), exit_code=0, result=result)

    def because(self, reason: Reason, message: str, end: ContainerEnd | None = None) -> Outcome:
        """`end` is that of the container whose end it is; of the agent's, if none is given."""
        end, verdict = end or self.pod.agent, MEANINGS[reason].verdict
        return replace(
            self._outcome(verdict, end),
            reason=reason,
            message=end_of(message, MESSAGE_CHARACTERS),
            exit_code=end.exit_code if end and verdict is Verdict.FAILED else None,
        )

    def _outcome(self, verdict: Verdict, end: ContainerEnd | None) -> Outcome:
        return Outcome(
            stage=self.pod.carried.stage,
            dispatch=self.pod.carried.dispatches[0],
            job_uid=self.pod.job_uid,
            verdict=verdict,
            revision=self.pod.carried.revision,
            job=self.pod.job,
            pod=self.pod.name,
            node=self.pod.node,
            started_at=end.started_at if end else 0.0,
            ended_at=(end.finished_at if end else 0.0) or self.now,
        )


def end_of(message: str, characters: int) -> str:
    """The end of a message: a stack trace says most in its last lines."""
    message = message.strip()
    return message if len(message) <= characters else "…" + message[1 - characters :]
