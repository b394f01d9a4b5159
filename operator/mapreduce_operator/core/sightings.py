"""What has been seen of the Jobs and pods of one run, as far as it is not decided yet what became of them.

Jobs and pods come by two streams, each in order, neither in step with the other; both repeat themselves, and both go on
telling of a dispatch whose outcome is long known. A pod's own account is worth more than its Job's, so that a Job that
ended waits a while for it.
"""

from typing import Final

from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.workloads import JobSeen, PodSeen

POD_GRACE_SECONDS: Final = 5.0
"""So long a Job that ended waits for its pod's own account, before the pod is asked for."""
LOST_SECONDS: Final = 30.0
"""A kubelet that is alive kills an agent when its grace period is over, and says so at once. One that has said nothing
for so much longer is taken for lost."""
OUTLIVED_SECONDS: Final = 10.0
"""A node that ends a pod ends all of its containers, and says so in this time after their grace period."""


class Sightings:
    """Keys are uids of Jobs; a Job has one pod."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._live_pods: set[str] = set()
        self._orphans: dict[str, tuple[float, JobSeen] | None] = {}
        """Jobs that ended without their pods, and until when these are waited for; None when that is over."""
        self._leaving: dict[str, tuple[float, PodSeen] | None] = {}
        """Pods that are being deleted, and until when their end is waited for; None when that is over."""
        self._outlived: dict[str, tuple[float, Outcome]] = {}
        """What the agents of pods that go on without them came to, and from when on that holds."""
        self._interrupting: set[str] = set()
        self._deleted: set[str] = set()
        # Job and pod of a dispatch whose outcome is known are told of until they are gone; that is no news.
        self._settled: dict[str, set[str]] = {}

    # ------------------------------------------------------------------------------------------------ what happened

    def carries(self, job_uid: str, job_name: str) -> None:
        """A Job carries the running dispatch of an item."""
        self._names[job_uid] = job_name

    def ended(self, job: JobSeen, now: float, *, deleted: bool) -> None:
        """A Job ended, or is gone."""
        if deleted:
            self._deleted.add(job.uid)
        self._orphans.setdefault(job.uid, (now + POD_GRACE_SECONDS, job))

    def lives(self, pod: PodSeen, now: float) -> None:
        """A pod has not ended.

        The wait for one that is being deleted begins when that is first seen: the API server's clock may not be ours.
        """
        self._live_pods.add(pod.job_uid)
        if pod.deleting:
            self._leaving.setdefault(pod.job_uid, (now + pod.grace_seconds + LOST_SECONDS, pod))

    def outlives(self, pod: PodSeen, outcome: Outcome, now: float) -> None:
        """A pod goes on though its agent has ended so: by itself, unless the node turns out to be ending the pod."""
        holds_at, _ = self._outlived.get(pod.job_uid, (now + pod.stop_seconds + OUTLIVED_SECONDS, outcome))
        self._outlived[pod.job_uid] = holds_at, outcome

    def interrupt(self, job_uid: str) -> str | None:
        """Name of the Job to delete so that its agent is interrupted; None when that is under way."""
        if job_uid in self._interrupting:
            return None
        self._interrupting.add(job_uid)
        return self._names[job_uid]

    def settle(self, job_uid: str, still_to_go: frozenset[str]) -> None:
        """The outcome of a Job's dispatch is known; `still_to_go` ("job", "pod") will be told of until it is gone."""
        self._orphans.pop(job_uid, None)
        self._leaving.pop(job_uid, None)
        self._outlived.pop(job_uid, None)
        self._names.pop(job_uid, None)
        self._live_pods.discard(job_uid)
        self._interrupting.discard(job_uid)
        if job_uid in self._deleted:
            self._deleted.discard(job_uid)
            still_to_go = still_to_go - {"job"}
        if still_to_go:
            self._settled[job_uid] = set(still_to_go)

    def gone(self, job_uid: str, which: str) -> None:
        """A settled Job, or the pod of it, is gone; when both are, nothing more is told of them."""
        still_to_go = self._settled[job_uid]
        still_to_go.discard(which)
        if not still_to_go:
            del self._settled[job_uid]

    # --------------------------------------------------------------------------------------------------- what is so

    def is_carrying(self, job_uid: str) -> bool:
        return job_uid in self._names

    def is_settled(self, job_uid: str) -> bool:
        return job_uid in self._settled

    def is_interrupting(self, job_uid: str) -> bool:
        return job_uid in self._interrupting

    def next_due(self) -> float | None:
        """When there is something to take, in seconds since the epoch."""
        waits = (*self._orphans.values(), *self._leaving.values(), *self._outlived.values())
        return min((wait[0] for wait in waits if wait is not None), default=None)

    def take_orphans(self, now: float) -> list[JobSeen]:
        """Jobs that ended and whose pods have not been seen for long enough, each once; those of a live pod never."""
        due = [wait[1] for wait in self._orphans.values() if wait is not None and wait[0] <= now]
        for job in due:
            self._orphans[job.uid] = None
        return [job for job in due if job.uid not in self._live_pods]

    def take_outlived(self, now: float) -> list[Outcome]:
        """What agents came to whose pods have gone on for so long that no node is about to end them."""
        due = [outcome for holds_at, outcome in self._outlived.values() if holds_at <= now]
        for outcome in due:
            del self._outlived[outcome.job_uid]
        return due

    def take_lost(self, now: float) -> list[PodSeen]:
        """Pods whose kubelet should long have said that they ended; each is told once."""
        due = [wait[1] for wait in self._leaving.values() if wait is not None and wait[0] <= now]
        for pod in due:
            self._leaving[pod.job_uid] = None
        return due
