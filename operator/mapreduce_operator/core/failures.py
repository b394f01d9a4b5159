"""What Kubernetes shows of a dispatch that ended, and what that means: the one table of failures.

Success is never concluded from exit code 0 alone: an agent that traps SIGTERM during a node's shutdown also exits 0.
It takes a result that keeps the contract (core.contract).
"""

from dataclasses import dataclass
from typing import Final

from mapreduce_operator.api import Reason
from mapreduce_operator.core.contract import ResultRule, read_error, read_result
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import ContainerEnd, Dispatch, JobSeen, PodSeen

MESSAGE_CHARACTERS: Final = 1024
"""What is kept of a failure's message: enough for the end of a stack trace, small enough for 100,000 of them."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason means for the item, and for the person who reads it."""

    verdict: Verdict
    hint: str


MEANINGS: Final[dict[Reason, Meaning]] = {
    Reason.ERROR: Meaning(
        Verdict.FAILED, "The agent exited with an error; its message or the end of its log says why."
    ),
    Reason.OOM_KILLED: Meaning(
        Verdict.FAILED, "The agent used more memory than its limit; raise resources.limits.memory."
    ),
    Reason.DEADLINE_EXCEEDED: Meaning(
        Verdict.FAILED, "The agent ran longer than timeoutSeconds; raise it or give the agent less to do."
    ),
    Reason.RESULT_MISSING: Meaning(
        Verdict.FAILED,
        "The agent exited with 0 but wrote no /mapreduce/result.json; write one, or set result.required: false.",
    ),
    Reason.RESULT_INVALID: Meaning(
        Verdict.FAILED,
        "The result is no JSON text, longer than 4,096 bytes, or fails result.rule; the message says which.",
    ),
    Reason.EVICTED: Meaning(
        Verdict.INTERRUPTED, "The pod was evicted or preempted; the item runs again and no attempt is counted."
    ),
    Reason.NODE_LOST: Meaning(
        Verdict.INTERRUPTED, "The node shut down or refused the pod; the item runs again and no attempt is counted."
    ),
    Reason.DELETED: Meaning(
        Verdict.INTERRUPTED, "The Job or its pod was deleted; the item runs again and no attempt is counted."
    ),
    Reason.NOT_STARTED: Meaning(
        Verdict.INTERRUPTED,
        "The agent's container did not start within timeoutSeconds; see whether its image, secrets and volumes exist. "
        "The item runs again and no attempt is counted.",
    ),
    Reason.SUSPENDED: Meaning(
        Verdict.INTERRUPTED,
        "The job was suspended with suspendPolicy Interrupt; the item runs again after it is resumed.",
    ),
    Reason.TOO_MANY_INTERRUPTIONS: Meaning(
        Verdict.FAILED, "The item was interrupted more often than maxInterruptions; see whether it harms its node."
    ),
}

NODE_LOST: Final = "NodeLost"
"""Reason in the status of a pod that was removed without the word of its kubelet."""
_NODE_REASONS: Final = frozenset(
    {"NodeShutdown", NODE_LOST, "Shutdown", "Terminated", "NodeAffinity", "UnexpectedAdmissionError"}
)
"""Reasons in a pod's status by which a kubelet says that the node, not the agent, ended or refused it."""


def outcome_of_pod(pod: PodSeen, rule: ResultRule, now: float) -> Outcome:
    """The outcome of a dispatch whose pod ended; each pod carries one dispatch."""
    end = pod.agent
    base = _Base(pod.carried.dispatches[0], pod, now)
    # A pod on a node that is lost is evicted first, and at last removed without the node's word.
    evicted = pod.reason != NODE_LOST and (bool(pod.disruption) or pod.reason in {"Evicted", "Preempting"})
    refused_by_node = pod.reason in _NODE_REASONS or pod.reason.startswith("OutOf")
    if end is not None and end.exit_code == 0 and pod.reason != "DeadlineExceeded":
        result, problem = read_result(end.message, rule)
        disturbed = evicted or refused_by_node or pod.deleting
        if problem is None and (result is not None or not disturbed):
            return base.outcome(Verdict.SUCCEEDED, exit_code=0, result=result or b"null")
        if problem is not None and not disturbed:
            return base.outcome(Verdict.FAILED, problem.reason, problem.message, exit_code=0)
    if pod.reason == "DeadlineExceeded":
        if not pod.started:
            return base.interrupted(
                Reason.NOT_STARTED, f"the agent's container never ran: {pod.waiting or pod.message}"
            )
        return base.failed(Reason.DEADLINE_EXCEEDED, pod.message)
    if evicted:
        return base.interrupted(Reason.EVICTED, f"{pod.disruption or pod.reason}: {pod.message}")
    if refused_by_node:
        return base.interrupted(Reason.NODE_LOST, f"{pod.reason}: {pod.message}")
    if pod.deleting or pod.gone:
        return base.interrupted(Reason.DELETED, "the pod was deleted while the agent was running")
    if end is None and pod.reason:
        return base.interrupted(
            Reason.NODE_LOST, f"the agent's container never ran: {pod.reason} {pod.message}".strip()
        )
    return _failed_by_itself(base, end)


def _failed_by_itself(base: "_Base", end: ContainerEnd | None) -> Outcome:
    if end is None:
        return base.failed(Reason.ERROR, f"an init container failed, the agent did not run. {base.pod.message}".strip())
    error = read_error(end.message)
    reason = Reason.OOM_KILLED if end.reason == "OOMKilled" else Reason.ERROR
    message = error.message if error else end.message or f"the agent exited with code {end.exit_code}"
    return base.outcome(
        Verdict.FAILED, reason, message, exit_code=end.exit_code, retryable=error.retryable if error else True
    )


def outcome_of_job(job: JobSeen, dispatch: Dispatch, now: float) -> Outcome:
    """The outcome of a dispatch whose Job ended, or is gone, without its pod having been seen to end."""
    deadline = job.failed_reason == "DeadlineExceeded"
    return Outcome(
        stage=job.carried.stage,
        dispatch=dispatch,
        job_uid=job.uid,
        verdict=Verdict.FAILED if deadline else Verdict.INTERRUPTED,
        reason=Reason.DEADLINE_EXCEEDED if deadline else Reason.DELETED,
        message=end_of(job.failed_message or "the Job was deleted before its pod ended", MESSAGE_CHARACTERS),
        revision=job.carried.revision,
        job=job.name,
        ended_at=now,
    )


@dataclass(frozen=True, slots=True)
class _Base:
    dispatch: Dispatch
    pod: PodSeen
    now: float

    def failed(self, reason: Reason, message: str) -> Outcome:
        end = self.pod.agent
        return self.outcome(Verdict.FAILED, reason, message, exit_code=end.exit_code if end else None)

    def interrupted(self, reason: Reason, message: str) -> Outcome:
        return self.outcome(Verdict.INTERRUPTED, reason, message)

    def outcome(
        self,
        verdict: Verdict,
        reason: Reason | None = None,
        message: str = "",
        *,
        exit_code: int | None = None,
        retryable: bool = True,
        result: bytes | None = None,
    ) -> Outcome:
        end = self.pod.agent
        return Outcome(
            stage=self.pod.carried.stage,
            dispatch=self.dispatch,
            job_uid=self.pod.job_uid,
            verdict=verdict,
            reason=reason,
            message=end_of(message, MESSAGE_CHARACTERS),
            exit_code=exit_code,
            retryable=retryable,
            result=result,
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
