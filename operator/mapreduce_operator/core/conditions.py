"""The conditions of a MapReduceJob: what `kubectl wait`, Flux, Argo CD and `helm --wait` conclude from it.

All conditions that say how far a job is are present from the first visit; Reconciling and Stalled are abnormal-true
and present only while they are true, since kstatus takes their mere truth as "in progress" and "failed". A running job
is Ready: like a Job of Kubernetes, it is deployed well long before it is done.
Source of the rules: kstatus of sigs.k8s.io/cli-utils, and Kubernetes' API conventions.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mapreduce_operator.api import Condition, ConditionStatus, MapReduceJobStatus, Phase
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.requests import Told

STATE_LOST: Final = "StateLost"
"""Reason of a job whose plan is gone. It fails, and goes on by itself when the plan is there again."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the conditions are derived from."""

    phase: Phase
    reason: str
    message: str
    planned: bool = True
    """False for a run that has ended without a plan; `obstacle` says why there is none."""
    suspended: bool = False
    still_running: int = 0
    obstacle: tuple[str, str] | None = None
    """(reason, message) of what only the user can mend: input, template. Nothing is dispatched meanwhile."""
    storage_problem: tuple[str, str] | None = None
    """(reason, message) of why nothing can be loaded or saved at the moment. It is tried again."""
    capped: bool = False
    """Items wait although maxParallel would let them run: the operator's own cap is used up by all jobs together."""
    refusal: tuple[str, str] | None = None
    """(reason, message) of why the last Job could not be created, such as a resource quota. It is tried again."""
    hindrance: tuple[str, str] | None = None
    """(reason, message) of which limit of the job's own keeps items from being started."""
    not_starting: tuple[str, str] | None = None
    """(reason, message) of why pods do not start, as far as that may pass."""
    checkpoints: Told = (True, "Saved", "outcomes are durable")
    """What is to be said of checkpoints while storage works."""
    asked: Mapping[str, Told] = field(default_factory=dict)
    """Restored and Restarted, as far as somebody asked for them."""
    plan_current: Told | None = None
    """Whether the input is what was planned, where it may have changed."""
    outgrown: str | None = None
    """Why reduce cannot get the results that there are already."""

    @property
    def lost(self) -> bool:
        """The run cannot go on, unless what is gone comes back."""
        return self.obstacle is not None and self.obstacle[0] == STATE_LOST


def conditions_of(situation: Situation) -> dict[str, tuple[bool, str, str]]:
    """Condition type -> (status, reason, message)."""
    phase, reason, message = situation.phase, situation.reason, situation.message
    finished = phase in FINAL_PHASES
    failed = phase is Phase.FAILED
    complete = finished and not failed
    stopped_by_user = situation.suspended and not finished
    found: dict[str, tuple[bool, str, str]] = {
        "Complete": (complete, reason, message),
        "Failed": (failed, reason, message),
        "Finished": (finished, reason, message),
    }
    if situation.obstacle and not finished:
        why, what = situation.obstacle
        found["Accepted"] = (False, why, what)
        found["Ready"] = (False, why, what)
        found["Stalled"] = (True, why, what)
        found["Progressing"] = (False, why, what)
        if situation.lost:
            found["Failed"] = found["Finished"] = (True, why, what)
    else:
        accepted = phase is not Phase.PLANNING and situation.planned
        found["Accepted"] = (
            (True, "Planned", "input and templates are valid")
            if accepted
            else (False, *(situation.obstacle or (reason, message)))
        )
        found["Progressing"] = _progressing(situation, finished)
        found["Ready"] = (
            accepted and not failed,
            found["Progressing"][1] if not finished else reason,
            found["Progressing"][2] if not finished else message,
        )
        if failed:
            found["Stalled"] = (True, reason, message)
        elif not accepted:
            found["Reconciling"] = (True, reason, message)
    running = f"; {situation.still_running:,} agents still run" if situation.still_running else ""
    found["Suspended"] = (
        (True, "Suspended", f"spec.suspend is true{running}")
        if stopped_by_user
        else (False, "NotSuspended", "the job has ended" if situation.suspended else "spec.suspend is false")
    )
    problem = situation.obstacle if situation.lost else situation.storage_problem
    found["CheckpointHealthy"] = (False, *problem) if problem else situation.checkpoints
    found |= situation.asked
    if situation.plan_current is not None:
        found["PlanCurrent"] = situation.plan_current
    if situation.outgrown and not finished:
        found["ResultsFit"] = (False, "ResultsTooLarge", situation.outgrown)
    return found


def _progressing(situation: Situation, finished: bool) -> tuple[bool, str, str]:
    if finished:
        return False, situation.reason, situation.message
    if situation.suspended:
        return False, "Suspended", "spec.suspend is true"
    if situation.storage_problem:
        return False, *situation.storage_problem
    if situation.hindrance:
        return False, *situation.hindrance
    if situation.refusal:
        return True, *situation.refusal
    if situation.not_starting:
        return True, *situation.not_starting
    if situation.capped:
        return (
            True,
            "OperatorLimited",
            "items wait for other jobs: the operator's limit of Jobs alive at the same time is reached",
        )
    return True, situation.reason, situation.message


def hindrance_in(status: MapReduceJobStatus) -> str | None:
    """Reason of what keeps a job from going on, as its status tells it; None for one that goes on, or need not."""
    if status.reason == STATE_LOST:
        return STATE_LOST
    if status.phase is Phase.PAUSED or status.phase in FINAL_PHASES:
        return None
    progressing = next((one for one in status.conditions if one.type == "Progressing"), None)
    if progressing is None:
        return None
    goes_on = progressing.status is ConditionStatus.TRUE and progressing.reason == status.reason
    return None if goes_on else progressing.reason


LASTING: Final = frozenset({"Restored", "Restarted", "PlanCurrent", "ResultsFit"})
"""Types of which nothing can be said while a run is being loaded; what was said before holds meanwhile."""


def merge(
    before: Iterable[Condition],
    found: Mapping[str, tuple[bool, str, str]],
    *,
    generation: int,
    now: float,
    keeps: Collection[str] = (),
) -> tuple[Condition, ...]:
    """The conditions to write: a transition time changes only with the status, so that nothing flaps.

    Those of the types in `keeps` stay as they are where nothing was found about them.
    """
    known = {condition.type: condition for condition in before}
    merged = [one for kind, one in known.items() if kind in keeps and kind not in found]
    for kind, (holds, reason, message) in sorted(found.items()):
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        earlier = known.get(kind)
        since = earlier.last_transition_time if earlier is not None and earlier.status is status else now
        merged.append(
            Condition.model_validate(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "observedGeneration": generation,
                    "lastTransitionTime": since,
                }
            )
        )
    return tuple(sorted(merged, key=lambda one: one.type))
