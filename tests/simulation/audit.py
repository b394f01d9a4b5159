"""What must hold at every moment of every simulated run, checked from outside of the engine.

The audit knows what was really written to storage, what really ran in the cluster, and what the status said when. It
shares no code with what it judges but the names of keys: the journal is read as plain JSON.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef, Stage, item_key
from mapreduce_operator.core.workloads import Dispatch
from tests.simulation.api_server import Job
from tests.simulation.audit_history import HistoryAudit
from tests.simulation.audit_letters import LettersAudit
from tests.simulation.audit_limits import LimitsAudit
from tests.simulation.connection import LONGEST_TRIP_SECONDS
from tests.simulation.durable import Counts, Durable
from tests.simulation.simulated_cluster import SimulatedCluster

EDIT_SECONDS: Final = 60.0
"""So long after an edit, Jobs may still appear that were decided on before: their creation was being retried."""

_STOPPED: Final = {
    "ItemFailed",
    "MaxFailuresReached",
    "FailureThresholdExceeded",
    "DeadLetterQueueFull",
    "NotAllItemsRun",
    "DeadlineExceeded",
    "Cancelled",
}
"""Reasons for which a job ends before all of its items have run."""


class Audit:
    """Watches one run. Findings go to `cluster.violations`."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        store: MemoryStore,
        run: RunRef,
        spec: dict[str, Any],
        *,
        capacity: int = 500,
        leads: Callable[[int], bool] = lambda _: True,
        known: Callable[[Job, int], bool] = lambda _job, _process: True,
        skewed: bool = False,
    ) -> None:
        """Begins before the run does.

        `leads` tells of a process whether it leads at the moment: what one that does not lead any more creates all the
        same, by a request that was under way or because it does not know yet, must not count, and is left out of
        limits. `known` tells of a Job whose start is not durable whether a process must know of it all the same.
        `skewed` tells that the clocks of processes differ.
        """
        self._cluster: Final = cluster
        self._run: Final = run
        self._max_parallel: Final = [(0.0, max_parallel(spec))]
        self._suspended: Final = [(0.0, bool(spec.get("suspend", False)))]
        self._interrupts: Final = [(0.0, interrupts(spec))]
        self._deadlines: Final = [(0.0, spec.get("activeDeadlineSeconds"))]
        self._checkpoints: Final[list[tuple[float, dict[str, Any]]]] = [(0.0, spec.get("checkpoint", {}))]
        self.durable: Final = Durable(store.objects, run, self._wrong)
        # Looked at with each write: later, what was written in the wrong order is all there.
        vars(store)["objects"] = self.durable.objects
        self._unwanted(spec)
        self.durable.on_check.append(self._check_outcome)
        self._history: Final = HistoryAudit(cluster, self.durable, run, self._checkpoints, self._wrong)
        self._letters: Final = LettersAudit(cluster, self.durable, run, self._wrong, leads)
        items = len(spec.get("input", {}).get("items", ()))
        self._limits: Final = LimitsAudit(self.durable, cluster.clock, spec, items, self._wrong, skewed=skewed)
        self._reported: Final[dict[int, int]] = {}
        """Last checkpoint that each process spoke of. A new one may start from a status that is not the last."""
        self._reported_epoch = 0
        self._dispatches: Final[dict[str, list[Job]]] = {}
        self._capacity: Final = capacity
        self._leads: Final = leads
        self._strays: Final[set[str]] = set()
        """Uids of Jobs that were created by processes that did not lead."""
        self._known: Final = known
        self._skewed: Final = skewed
        cluster.on_create.append(self._on_create)
        cluster.on_delete.append(self._on_delete)
        cluster.on_status.append(self._on_status)
        cluster.on_edit.append(self._on_edit)

    def _on_edit(self, uid: str, spec: dict[str, Any]) -> None:
        """The user changed a spec."""
        if uid != self._run.uid:
            return
        now = self._cluster.clock.now()
        self._max_parallel.append((now, max_parallel(spec)))
        self._suspended.append((now, bool(spec.get("suspend", False))))
        self._interrupts.append((now, interrupts(spec)))
        self._deadlines.append((now, spec.get("activeDeadlineSeconds")))
        self._checkpoints.append((now, spec.get("checkpoint", {})))
        self._unwanted(spec)

    def _unwanted(self, spec: dict[str, Any]) -> None:
        """Which items the user does not want to be run."""
        names = spec.get("map", {}).get("skip", ())
        self.durable.unwanted.update(item_key(self._run.uid, Stage.MAP, name) for name in names)

    # ------------------------------------------------------------------------------------------- what is durable

    def _check_outcome(self, dispatch: Dispatch, line: dict[str, Any]) -> None:
        """C17, M4: one outcome per dispatch, in order, and the one that the dispatch's own Job really had."""
        name = f"{dispatch.item_key}-d{dispatch.number}"
        if dispatch in self.durable.outcomes:
            self._wrong(f"{name} has two outcomes")
        if dispatch.item_key in self.durable.settled:
            self._wrong(f"{name} has an outcome after its item was {self.durable.settled[dispatch.item_key]}")
        if dispatch.number > 1 and not self.durable.is_over(Dispatch(dispatch.item_key, dispatch.number - 1)):
            self._wrong(f"{name} has an outcome before the dispatch before it")
        jobs = [job for job in self._dispatches.get(dispatch.item_key, ()) if job.dispatch == dispatch]
        mine = [job for job in jobs if job.uid == line["jobUid"]]
        if not mine:
            self._wrong(
                f"{name} has an outcome of the Job {line['jobUid']!r}; its Jobs are {[job.uid for job in jobs]}"
            )
        elif line["verdict"] not in (allowed := verdicts(mine[0])):
            self._wrong(f"{name} is recorded as {line['verdict']}, and was {' or '.join(allowed)}")
        elif line["verdict"] == "Succeeded" and line.get("result") != written(mine[0]):
            self._wrong(f"{name} has a result that its agent did not write")

    # ------------------------------------------------------------------------------------------- at every write

    def _on_create(self, job: Job) -> None:
        if job.seen.carried.run_uid != self._run.uid:
            return
        self.durable.refresh()
        dispatch, earlier = job.dispatch, self._dispatches.setdefault(job.dispatch.item_key, [])
        if dispatch.number > 1 and not self.durable.is_over(Dispatch(dispatch.item_key, dispatch.number - 1)):
            self._wrong(f"{job.name} was created before the outcome of the dispatch before it was durable")
        if self._leads(job.creator):
            self._check_repetition(job, earlier)
            self._check_limits(job)
            if job.seen.carried.stage == "map":
                self._limits.created(job)
        else:
            self._strays.add(job.uid)
        earlier.append(job)

    def _check_repetition(self, job: Job, earlier: list[Job]) -> None:
        """M7: a name is used again only where nobody could know that it was used, since a person deleted the Job."""
        if any(other.name == job.name and not self._is_known(other, job.creator) for other in earlier):
            return
        if job.dispatch in self.durable.outcomes or job.dispatch.item_key in self.durable.settled:
            self._wrong(f"{job.name} was created although its outcome is durable")
        if any(other.name == job.name and other.uid not in self._strays for other in earlier):
            self._wrong(f"the Job name {job.name} is used twice")
        alive = [other.name for other in earlier if other.alive and other.uid not in self._strays]
        if alive:
            self._wrong(f"live at the same time as {job.name}: {', '.join(alive)}")

    def _is_known(self, earlier: Job, process: int) -> bool:
        at = earlier.removed_by_hand_at
        if at is None:
            return True
        # A request that was under way then meets a free name, whatever is known.
        if self._cluster.clock.now() - at < LONGEST_TRIP_SECONDS:
            return False
        return earlier.dispatch in self.durable.starts or self._known(earlier, process)

    def _check_limits(self, job: Job) -> None:
        """M8. What was decided before an edit may still come, for a while."""
        now = self._cluster.clock.now()
        if job.seen.carried.stage == "reduce":
            return
        alive = [job, *(other for other in self._cluster.live if other.alive and other.uid not in self._strays)]
        mine = sum(other.seen.owner_uid == self._run.uid for other in alive)
        allowed = max(recent(self._max_parallel, now))
        if mine > allowed or len(alive) > self._capacity:
            self._wrong(
                f"{mine} Jobs of the run and {len(alive)} in all are alive with {job.name}; "
                f"maxParallel is {allowed}, the operator's cap {self._capacity}"
            )
        if (redrive := self.durable.claims.get(job.dispatch.item_key)) is not None and redrive.parallelism:
            same = sum(self.durable.claims.get(other.dispatch.item_key) is redrive for other in alive)
            if same > redrive.parallelism:
                self._wrong(f"{same} items of the Redrive {redrive.name} run; its parallelism is {redrive.parallelism}")
        if all(recent(self._suspended, now)):
            self._wrong(f"{job.name} was created while the job is suspended")

    def _on_delete(self, job: Job) -> None:
        if job.seen.carried.run_uid != self._run.uid:
            return
        self.durable.refresh()
        if self._run.uid in self._cluster.deleted:
            return
        if job.dispatch in self.durable.outcomes or job.dispatch.item_key in self.durable.unwanted:
            return
        if any(recent(self._interrupts, self._cluster.clock.now())):
            return
        if self._is_overdue:
            return
        # One whose agent cannot start is given up.
        waits = job.pod is not None and job.pod.seen.waiting and not job.pod.seen.started
        if not waits or job.dispatch not in self.durable.starts:
            self._wrong(f"the Job {job.name} was deleted before its outcome was durable")

    @property
    def _is_overdue(self) -> bool:
        """The time that the job may take is over, by some clock."""
        now = self._cluster.clock.now()
        opened = self.durable.head.get("openedAt", 0.0)
        return any(
            seconds is not None and (self._skewed or now >= opened + seconds)
            for seconds in recent(self._deadlines, now)
        )

    def _on_status(self, uid: str, status: dict[str, Any], process: int) -> None:
        """M5, C20, and: the status never claims what is not durable."""
        if uid != self._run.uid or uid in self._cluster.deleted:
            return
        epoch = status.get("leaderEpoch", 0)
        if epoch < self._reported_epoch:
            self._wrong(f"process {process} of epoch {epoch} wrote over a status of epoch {self._reported_epoch}")
        self._reported_epoch = max(epoch, self._reported_epoch)
        if "items" not in status:
            return
        self.durable.refresh()
        items, sequence = status["items"], status["checkpoint"]["sequence"]
        if sum(items.values()) != 2 * items["total"]:
            self._wrong(f"the items of the status do not sum up: {items}")
        counts = self.durable.counts.get(sequence)
        if counts is None:
            self._wrong(
                f"the status of process {process} speaks of checkpoint {sequence}; {self.durable.sequence} is durable"
            )
            return
        attempts = status["attempts"]
        said = Counts(
            items["succeeded"],
            items["deadLettered"],
            items["skipped"],
            attempts["total"],
            attempts["interruptions"],
            attempts["retries"],
            counts.letters,
        )
        if said != counts:
            self._wrong(f"the status says {said} of checkpoint {sequence}, which holds {counts}")
        self._letters.check_job_status(status, counts.letters)
        if sequence < self._reported.get(process, 0):
            self._wrong(f"process {process} takes the status back to checkpoint {sequence}")
        self._reported[process] = sequence

    # ------------------------------------------------------------------------------------------------ at the end

    def close(self, items: int) -> None:
        """The run is over, and everything had time to be put in order."""
        self.durable.refresh()
        status = self._cluster.status_of.get(self._run.uid, {})
        if "completionTime" not in status:
            self._wrong(f"the run did not end: {status.get('phase')}, {status.get('progress')}")
            return
        counts = self.durable.counts[self.durable.sequence]
        lost = items - counts.succeeded - counts.dead_lettered - counts.skipped
        if lost and not (status["phase"] == "Failed" and status["reason"] in _STOPPED):
            self._wrong(f"{lost} items have no final outcome")
        if status["checkpoint"]["sequence"] != self.durable.sequence:
            self._wrong(
                f"the last status is of checkpoint {status['checkpoint']['sequence']}, not {self.durable.sequence}"
            )
        for job in self._cluster.history:
            if job.seen.owner_uid != self._run.uid:
                continue
            recorded = self.durable.outcomes.get(job.dispatch)
            # Deleted under the eyes of nobody who knew of it; a job that was stopped does not run the item again.
            unknown = job.removed_by_hand_at is not None and job.dispatch not in self.durable.starts
            if recorded is None and not unknown:
                self._wrong(f"{job.name} ran and nothing is recorded of it")
        for name in self._cluster.jobs:
            self._wrong(f"the Job {name} is left")
        for pod in self._cluster.pods.values():
            self._wrong(f"the pod {pod.seen.name} is left")
        self._letters.close()
        if self._run.uid not in self._cluster.finalizers:
            self._wrong("the finalizer is gone")

    async def check_kept(self) -> None:
        """Whatever the status says can be come back to can be loaded."""
        await self._history.check_kept()

    def check_left_over(self) -> None:
        """The object was deleted: only letters that nobody has resolved are left in storage, with a queue."""
        self._letters.check_left_over()

    def _wrong(self, text: str) -> None:
        self._cluster.violations.append(text)
        if self._cluster.trace is not None:
            self._cluster.trace(f"VIOLATION: {text}")


def verdicts(job: Job) -> tuple[str, ...]:
    """What may be recorded of a dispatch.

    An agent that ended by itself, and that nobody else had a hand in, counts as it ended. One whose end was never
    shown is an interruption. In between (the Job or pod was deleted or evicted around its end) it depends on what an
    operator got to see.
    """
    if job.shown is None:
        return ("Interrupted",)
    own = "Succeeded" if job.shown.exit_code == 0 and job.shown.valid else "Failed"
    return (own, "Interrupted") if job.touched else (own,)


def written(job: Job) -> Any:
    """The result that the agent wrote."""
    return msgspec.json.decode(job.shown.message) if job.shown is not None and job.shown.message else None


def max_parallel(spec: dict[str, Any]) -> int:
    """Of a fork that is not filled in yet, none runs."""
    return int(spec["map"].get("maxParallel", 10)) if "map" in spec else 0


def interrupts(spec: dict[str, Any]) -> bool:
    """Agents that run are to be stopped."""
    return bool(spec.get("cancel") or (spec.get("suspend") and spec.get("suspendPolicy") == "Interrupt"))


def recent(edits: list[tuple[float, Any]], now: float) -> list[Any]:
    """Values that were in force at some time of the last minute."""
    until = [at for at, _ in edits[1:]] + [float("inf")]
    return [value for (_, value), end in zip(edits, until, strict=True) if end > now - EDIT_SECONDS]
