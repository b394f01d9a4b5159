"""What keeps the pods of one run from starting, and what is to be done about it.

A pod that waits for an image, a Secret or a volume waits for ever: Kubernetes takes none of these for an error. It is
given up after pendingTimeoutSeconds, without an attempt. Where that happens to several items the template is at fault
and not they, so that only one item at a time is tried, until an agent starts.

Nothing here takes longer the more pods there are: each event costs the same, and messages are made when asked for.
"""

from collections import OrderedDict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from mapreduce_operator.api import Reason
from mapreduce_operator.core.failures import MEANINGS, MESSAGE_CHARACTERS, TEMPLATE_FAULTS, end_of, template_fault
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.texts import counted
from mapreduce_operator.core.workloads import PodSeen

SEVERAL: Final = 3
"""So many items that cannot start are no accident."""
FIRST_REST_SECONDS: Final = 30.0
"""The pause before one more item is tried with a template that several could not start with; doubled each time."""
MAX_REST_SECONDS: Final = 300.0
POD_SECONDS: Final = 30.0
"""A Job has its pod within a second. It may have to queue for it, but then other Jobs get theirs."""
SAMPLE_CHARACTERS: Final = 512


@dataclass(frozen=True, slots=True)
class _Trouble:
    """A pod that cannot start."""

    pod: PodSeen
    reason: Reason

    @property
    def text(self) -> str:
        if self.reason is Reason.NOT_STARTED:
            return f"its volumes or its network were not ready on node {self.pod.node}, see its events"
        return f"{self.pod.waiting}: {self.pod.waiting_message}".rstrip(": ")


@dataclass(slots=True)
class _Revision:
    """One template of a stage."""

    clocks: OrderedDict[str, tuple[float, _Trouble]] = field(default_factory=OrderedDict)
    """Pods that are to be given up when their time is over, and since when it runs; the oldest first."""
    suspects: set[str] = field(default_factory=set)
    """Keys of items that could not start, since the last that did; no more than SEVERAL."""
    sample: tuple[Reason, str] | None = None
    """The last that was given up, and why."""
    rest: float = FIRST_REST_SECONDS
    not_before: float = 0.0

    def suspect(self, item_key: str) -> None:
        if len(self.suspects) < SEVERAL:
            self.suspects.add(item_key)

    def failed(self, outcome: Outcome, launched_at: float | None, now: float) -> None:
        self.suspect(outcome.dispatch.item_key)
        if outcome.reason is not None:
            self.sample = outcome.reason, f"{outcome.pod}: {end_of(outcome.message, SAMPLE_CHARACTERS)}"
        # Those that were launched together end together; only one that came after a rest tells that it was too short.
        if launched_at is not None and 0 < self.not_before <= launched_at:
            self.rest = min(2 * self.rest, MAX_REST_SECONDS)
        self.not_before = now + self.rest

    def worked(self) -> None:
        self.suspects.clear()
        self.sample, self.rest, self.not_before = None, FIRST_REST_SECONDS, 0.0


class Startup:
    """Keys are uids of Jobs; a Job has one pod."""

    def __init__(self) -> None:
        self._revisions: dict[tuple[Stage, str], _Revision] = {}
        self._launched: dict[str, float] = {}
        """Jobs whose agents are not known to have started, and when they were launched."""
        self._started: set[str] = set()
        self._stuck: OrderedDict[str, _Trouble] = OrderedDict()
        """All pods that are known not to start, given up or not."""
        self._unschedulable: OrderedDict[str, PodSeen] = OrderedDict()
        self._awaited: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Jobs without a pod: their names, and since when; the oldest first."""
        self._podless: OrderedDict[str, str] = OrderedDict()
        """Those of them that have been so for too long."""
        self._last_pod_at = 0.0
        self.moved_at = 0.0
        """When a Job was last launched or came to its end, in seconds since the epoch; 0 while that is not known."""

    # ------------------------------------------------------------------------------------------------ what happened

    def expects(self, job_uid: str, job_name: str, now: float, *, resumed: bool = False) -> None:
        """A Job exists, so that a pod of it should soon. `resumed`: an earlier operator launched it."""
        self._awaited[job_uid] = job_name, now
        if not resumed:
            self._launched[job_uid] = self.moved_at = now

    def observe(self, pod: PodSeen, now: float) -> None:
        """A pod that has not ended is there, or changed."""
        uid = pod.job_uid
        if self._awaited.pop(uid, None) or self._podless.pop(uid, None):
            self._last_pod_at = now
        if pod.started:
            if self._launched.pop(uid, None) is not None:
                self._revision(pod).worked()
            self._forget(uid)
            self._started.add(uid)
        elif not pod.deleting:
            # Of one that is being deleted the kubelet does not tell any more what was wrong with it.
            self._launched.setdefault(uid, now)
            if pod.unschedulable:
                self._unschedulable[uid] = pod
            else:
                self._unschedulable.pop(uid, None)
            self._look_into(pod, now)

    def ended(self, outcome: Outcome, now: float) -> None:
        """The outcome of a Job's dispatch is known, and recorded as it is given here."""
        uid, self.moved_at = outcome.job_uid, now
        revision = self._revisions.setdefault((outcome.stage, outcome.revision), _Revision())
        launched_at = self._launched.pop(uid, None)
        if outcome.reason in TEMPLATE_FAULTS:
            revision.failed(outcome, launched_at, now)
        elif launched_at is not None and _shows_that_the_agent_ran(outcome):
            # It was over before it was seen to run.
            revision.worked()
        self._started.discard(uid)
        self._forget(uid)
        self._awaited.pop(uid, None)
        self._podless.pop(uid, None)

    def restore(self, failed: Mapping[str, list[str]]) -> None:
        """Brings back what `failed` was. Pods that cannot start are told of anew by the cluster."""
        for name, keys in failed.items():
            stage, _, revision = name.partition("/")
            self._revisions.setdefault((Stage(stage), revision), _Revision()).suspects.update(keys)

    # ------------------------------------------------------------------------------------------------ what to do

    def overdue(self, now: float, pending_seconds: Mapping[Stage, float]) -> list[PodSeen]:
        """Pods that have had their time to start, each told once: their Jobs are to be deleted."""
        due: list[PodSeen] = []
        for (stage, _), revision in self._revisions.items():
            while revision.clocks:
                uid, (since, _) = next(iter(revision.clocks.items()))
                if since + pending_seconds[stage] > now:
                    break
                due.append(self._give_up(revision, uid))
        return due

    def stale(self, revisions: Mapping[Stage, Container[str]]) -> list[PodSeen]:
        """Pods that cannot start with a template that was corrected since, each told once. `revisions`: the present."""
        found: list[PodSeen] = []
        for (stage, name), revision in list(self._revisions.items()):
            if name in revisions[stage]:
                continue
            found += [self._give_up(revision, uid) for uid in list(revision.clocks) if uid in self._stuck]
            if not revision.clocks:
                del self._revisions[stage, name]
        return found

    def explained(self, outcome: Outcome) -> Outcome:
        """The outcome as it is to be recorded: that of a pod which could not start tells why.

        Once such a pod is deleted, or its deadline is over, its status says it no more.
        """
        trouble = self._stuck.get(outcome.job_uid)
        if trouble is None or outcome.reason not in {Reason.DELETED, Reason.NOT_STARTED}:
            return outcome
        return replace(outcome, reason=trouble.reason, message=end_of(trouble.text, MESSAGE_CHARACTERS))

    def suspect(self, stage: Stage, revision: str, items: int) -> bool:
        """The template is at fault: several items could not start with it, and since then none could.

        `items`: how many of the stage are not at their end; where these are fewer than several, all of them.
        """
        known = self._revisions.get((stage, revision))
        return known is not None and items > 0 and len(known.suspects) >= min(SEVERAL, items)

    def may_probe(self, stage: Stage, revision: str, running: int, now: float) -> bool:
        """One more item may be tried with a suspect template. `running`: Jobs alive or being created, of all stages."""
        known = self._revisions.get((stage, revision))
        return running <= len(self._started) and (known is None or now >= known.not_before)

    def next_due(self, now: float, pending_seconds: Mapping[Stage, float]) -> float | None:
        """When one of these answers changes even if nothing happens, in seconds since the epoch."""
        moments = []
        for (stage, _), revision in self._revisions.items():
            if revision.clocks:
                moments.append(next(iter(revision.clocks.values()))[0] + pending_seconds[stage])
            if revision.suspects and revision.not_before > now:
                moments.append(revision.not_before)
        if (self._awaited or self._podless) and (late := self._late_at()) > now:
            moments.append(late)
        return min(moments, default=None)

    # ------------------------------------------------------------------------------------------------ what is so

    @property
    def agents_run(self) -> bool:
        """At least one agent is known to have started, and not to have ended."""
        return bool(self._started)

    def launched_at(self, job_uid: str) -> float | None:
        """When a Job was launched, in seconds since the epoch; None when its agent is known to have started."""
        return self._launched.get(job_uid)

    @property
    def failed(self) -> dict[str, list[str]]:
        """What an operator that is started anew must know: per template, items that could not start."""
        return {
            f"{stage}/{name}": sorted(revision.suspects)
            for (stage, name), revision in self._revisions.items()
            if revision.suspects
        }

    def problem(self, stage: Stage, revision: str, items: int) -> tuple[str, str, bool] | None:
        """(reason, message, whether items have to wait for it) of pods that cannot start; None where all can."""
        suspect = self.suspect(stage, revision, items)
        known = self._revisions.get((stage, revision))
        if self._stuck:
            trouble = next(reversed(self._stuck.values()))
            reason, pods = trouble.reason, counted(len(self._stuck), "pod")
            what = f"{pods} cannot start, such as {trouble.pod.name}: {end_of(trouble.text, SAMPLE_CHARACTERS)}"
        elif suspect and known is not None:
            reason, why = known.sample or (Reason.NOT_STARTED, "one of before the operator was started anew")
            what = f"no pod could start, the last was {why}"
        else:
            return None
        waits = " Until an agent starts, one item at a time is tried." if suspect else ""
        return reason, f"{what} - {MEANINGS[reason].hint}{waits}", suspect

    def hopeless(self, stage: Stage, revision: str, items: int) -> tuple[str, str] | None:
        """(reason, message) of a template that several items have had their time to start with, and could not."""
        known = self._revisions.get((stage, revision))
        if known is None or known.sample is None or not self.suspect(stage, revision, items):
            return None
        reason, why = known.sample
        return reason, f"no pod could start, the last was {why} - {MEANINGS[reason].hint}"

    def unschedulable(self) -> tuple[str, str] | None:
        """(reason, message) of pods for which there is no node; None where there are none."""
        if not self._unschedulable:
            return None
        pod = next(reversed(self._unschedulable.values()))
        pods = counted(len(self._unschedulable), "pod")
        message = f"no node for {pods}, such as {pod.name}: {end_of(pod.unschedulable, SAMPLE_CHARACTERS)}"
        return "Unschedulable", message

    def podless(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of Jobs that get no pod; None where they do."""
        while self._awaited and next(iter(self._awaited.values()))[1] + POD_SECONDS <= now:
            uid, (name, _) = self._awaited.popitem(last=False)
            self._podless[uid] = name
        if not self._podless or now < self._last_pod_at + POD_SECONDS:
            return None
        name = next(iter(self._podless.values()))
        return "PodNotCreated", (
            f"no pod for {counted(len(self._podless), 'Job')}, such as {name}; kubectl describe job {name} says why, "
            "such as a quota of pods, Pod Security or a missing service account. Kubernetes tries again by itself."
        )

    # ------------------------------------------------------------------------------------------------ how it is kept

    def _look_into(self, pod: PodSeen, now: float) -> None:
        uid, revision = pod.job_uid, self._revision(pod)
        fault, stuck = template_fault(pod.waiting), self._stuck.get(uid)
        if fault is not None:
            # Between two tries the kubelet shows other reasons, or none; that is the same trouble.
            self._stuck[uid] = _Trouble(pod, fault)
            if stuck is None:
                revision.clocks.pop(uid, None)
                revision.clocks[uid] = now, self._stuck[uid]
                revision.suspect(pod.carried.dispatches[0].item_key)
        elif stuck is None and pod.preparing:
            # As every pod does at first.
            revision.clocks.setdefault(uid, (now, _Trouble(pod, Reason.NOT_STARTED)))
        elif stuck is None:
            revision.clocks.pop(uid, None)

    def _give_up(self, revision: _Revision, uid: str) -> PodSeen:
        _, trouble = revision.clocks.pop(uid)
        return self._stuck.setdefault(uid, trouble).pod

    def _forget(self, uid: str) -> None:
        """The pod does not wait any more."""
        self._stuck.pop(uid, None)
        self._unschedulable.pop(uid, None)
        # There are as many as there are templates with live pods. An outcome may not know its own.
        for revision in self._revisions.values():
            revision.clocks.pop(uid, None)

    def _revision(self, pod: PodSeen) -> _Revision:
        return self._revisions.setdefault((pod.carried.stage, pod.carried.revision), _Revision())

    def _late_at(self) -> float:
        oldest = 0.0 if self._podless else next(iter(self._awaited.values()))[1]
        return max(oldest, self._last_pod_at) + POD_SECONDS


def _shows_that_the_agent_ran(outcome: Outcome) -> bool:
    return outcome.verdict is not Verdict.INTERRUPTED and outcome.reason is not Reason.INIT_FAILED
