"""How one run stands: what is known of it at the moment, and what its status and its metrics are told from that.

The run writes down here what it finds. Nothing here waits or does anything; the reporter asks for the status.
"""

from typing import Final

from mapreduce_operator.api import MapReduceJob, MapReduceJobStatus, Phase
from mapreduce_operator.core.conditions import Situation
from mapreduce_operator.core.course import end_without_plan
from mapreduce_operator.core.forks import as_before, with_edits
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.phases import FINAL_PHASES, Turn
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.requests import Told
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.status import Report, seen_at, status_before_loading, status_of, status_without_plan
from mapreduce_operator.engine.input_watch import InputWatch
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.queue import QueueKeeper
from mapreduce_operator.engine.requests import Requests, asked_token
from mapreduce_operator.engine.troubles import Troubles
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import Vitals


class Standing:
    """Of one run, in memory or not."""

    def __init__(
        self, job: MapReduceJob, world: World, journal: Journal, troubles: Troubles, requests: Requests
    ) -> None:
        self._world: Final = world
        self._journal: Final = journal
        self._troubles: Final = troubles
        self._requests: Final = requests
        self._ref: Final = RunRef.of(job)
        self.at_rest = False
        """Nothing is asked of the run, which has ended."""
        self._edits_problem: tuple[str, str] | None = None
        """Why the edits of a fork do not fit its template any more; the last one that they fitted is run."""
        self.job = job
        """The object with the spec that is run."""
        self.observe(job)
        self.state: RunState | None = None
        """None while the run is not in memory."""
        self.ids: list[str] = []
        """Of all items, in the order of the plan."""
        self.keeper: QueueKeeper | None = None
        """None while the run is not at work."""
        self.input_watch: InputWatch | None = None
        """None while the run is not at work, or its input cannot change."""
        self.capped = False
        """The operator's own cap grants less than the run wants."""
        self.ended = job.status if job.status is not None and job.status.completion_time is not None else None
        """The last status of a run that has ended, until it is at work again."""
        started = job.status.start_time if job.status is not None else None
        self.start_time = started.timestamp() if started is not None else world.clock.now()
        """In seconds since the epoch."""

    def observe(self, job: MapReduceJob) -> None:
        """The object changed."""
        try:
            spec, self._edits_problem = with_edits(job.spec), None
        except InputError as error:
            spec, self._edits_problem = as_before(job.spec, self.job.spec), (error.reason, str(error))
        self.job = job.model_copy(update={"spec": spec})
        # Until the run has looked at what it asks for.
        self.at_rest = False

    def enter_memory(self, state: RunState, ids: list[str]) -> None:
        """The run was loaded."""
        self.state, self.ids = state, ids
        self.start_time = self._journal.head.started_at

    def begin_work(self, keeper: QueueKeeper, input_watch: InputWatch | None) -> None:
        """The run goes on, or is looked at once more after its end."""
        self.ended = None
        self.keeper, self.input_watch = keeper, input_watch

    @property
    def end_without_plan(self) -> Turn | None:
        """How the run ends while it cannot be planned; None while it waits for its input."""
        spec = self.job.spec
        return end_without_plan(
            cancel=spec.cancel,
            active_deadline_seconds=spec.active_deadline_seconds,
            started_at=self.start_time,
            now=self._world.clock.now(),
        )

    def end(self, turn: Turn, written: MapReduceJobStatus | None) -> None:
        """The run has ended so before it could be planned."""
        self.ended = status_without_plan(self._report(turn, written, planned=False), self._world.clock.now())
        self._troubles.clear()

    def leave_memory(self) -> None:
        """The run rests, or is to be loaded anew."""
        self.state, self.ids = None, []
        self.keeper = self.input_watch = None

    # ------------------------------------------------------------------------------------------------ what is told

    def vitals(self, written: MapReduceJobStatus | None) -> Vitals:
        """What metrics tell of the run. `written` is the status as it was written last."""
        state = self.state
        if state is None or state.checkpoint is None:
            return Vitals(self._ref, written)
        startup, paused = state.books.startup, state.spec.suspend or state.course.closed() is not None
        moved_at = max(startup.moved_at or state.checkpoint.committed_at, state.course.opened_at)
        return Vitals(
            self._ref,
            written,
            unsaved_since=state.unsaved.since if state.unsaved else None,
            idle_since=None if paused or state.phase in FINAL_PHASES or startup.agents_run else moved_at,
        )

    def status(self, written: MapReduceJobStatus | None) -> MapReduceJobStatus | None:
        """The status to write now: `written`, which was written last, where there is nothing else to tell yet."""
        now = self._world.clock.now()
        if self.state is None:
            if self.ended is not None and not self._troubles.any:
                if not self.at_rest:
                    return written
                return seen_at(self.ended, self.job.metadata.generation, asked_token(self.job))
            turn = Turn(Phase.PLANNING, "Planning", "the input is being planned")
            if written is not None and written.plan is not None:
                turn = Turn(Phase.MAP, written.reason or "Planned", "the state of the run is being loaded")
                if not self._troubles.any:
                    return written
                if self.ended is not None and written.phase is not None:
                    turn = Turn(written.phase, written.reason or "", "the state of the run is being loaded")
                return status_before_loading(written, self._situation(turn), self.job.metadata.generation, now)
        else:
            turn = self.state.committed_turn
            if turn.phase in FINAL_PHASES and self.keeper is not None and self.keeper.owes:
                return written
        report = self._report(turn, written)
        if self.state is None or self.state.checkpoint is None:
            return status_without_plan(report, now)
        return status_of(self.state, self.state.checkpoint, self.ids.__getitem__, report, now)

    def _report(self, turn: Turn, written: MapReduceJobStatus | None, *, planned: bool = True) -> Report:
        return Report(
            ref=self._ref,
            generation=self._answered_generation(turn, written),
            situation=self._situation(turn, planned=planned),
            storage_url=self._world.storage_url,
            start_time=self.start_time,
            before=written.conditions if written is not None else (),
            queue=self.keeper.name if self.keeper is not None else "",
            keeps={"PlanCurrent"} if self.input_watch is not None else (),
            kept=self._kept(),
        )

    def _answered_generation(self, turn: Turn, written: MapReduceJobStatus | None) -> int:
        """Which version of the object the status answers to.

        A run that is about to leave its end does not answer yet to the one that asks for it: whoever waits for the next
        end would take the last one for it.
        """
        state, generation = self.state, self.job.metadata.generation
        if state is None or turn.phase not in FINAL_PHASES or written is None or written.observed_generation is None:
            return generation
        # What is not durable yet may be an answer, or keep a request waiting.
        leaves = not state.course.settled or bool(state.unsaved)
        leaves = leaves or self._requests.is_due(self.job, state, self._world.clock.now())
        return written.observed_generation if leaves else generation

    def _situation(self, turn: Turn, *, planned: bool = True) -> Situation:
        state = self.state
        return Situation(
            phase=turn.phase,
            reason=turn.reason,
            message=turn.message,
            planned=planned,
            suspended=self.job.spec.suspend,
            still_running=state.active if state else 0,
            obstacle=self._troubles.obstacle or self._edits_problem or (state.obstacle if state else None),
            storage_problem=self._troubles.storage,
            capped=self.capped,
            refusal=self._troubles.refusal,
            hindrance=state.course.hindrance() if state else None,
            not_starting=state.not_starting(self._world.clock.now()) if state else None,
            checkpoints=self._checkpoints(),
            asked=self._requests.conditions(self.job, state) if state else {},
            outgrown=state.outgrown if state else None,
            plan_current=self.input_watch.condition if self.input_watch else None,
        )

    def _checkpoints(self) -> Told:
        """What is to be said of checkpoints while storage works."""
        head = self._journal.head if self.state is not None else None
        if head is not None and self._journal.snapshot_problem is not None:
            return self._journal.snapshot_problem
        if head is not None and head.recovered is not None:
            return True, "Recovered", head.recovered.message
        if not self.job.spec.checkpoint.enabled:
            return (
                True,
                "CheckpointsDisabled",
                "spec.checkpoint.enabled is false: outcomes are durable, and there is no checkpoint to come back to",
            )
        return True, "Saved", "outcomes are durable"

    def _kept(self) -> list[int]:
        """Numbers of the checkpoints that the run can go back to."""
        state = self.state
        if state is None or state.checkpoint is None:
            return []
        forks = self._world.desk.forked_from(self._ref)
        active = state.committed_turn.phase not in FINAL_PHASES
        return self._journal.kept.sequences(state.checkpoint, state.spec.checkpoint, forks, active=active)
