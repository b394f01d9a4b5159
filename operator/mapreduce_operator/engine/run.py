"""One run at work: from the object that the user applied to its end, by way of the world's answers.

What to do is decided in core.run; here it is done, and what came of it is told back. A run that fails by an unexpected
exception is started anew by the supervisor: everything that it needs is durable, or alive in the cluster.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Final, assert_never

from mapreduce_operator.api import MapReduceJob, MapReduceJobStatus, Phase
from mapreduce_operator.core.conditions import Situation
from mapreduce_operator.core.contract import ResultRule
from mapreduce_operator.core.effects import (
    Announce,
    Commit,
    DeleteJob,
    Effect,
    FindPod,
    Launch,
    PrepareReduce,
    RemovePod,
    VerifyTemplate,
)
from mapreduce_operator.core.jobs import Revision, manifest
from mapreduce_operator.core.journal import CommitReason, JournalError, JournalTooNewError
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import InputError, PlannedItem
from mapreduce_operator.core.results import ReduceInput, ResultsTooLargeError, reduce_input
from mapreduce_operator.core.run import Batch, RunState
from mapreduce_operator.core.status import Report, seen_at, status_before_loading, status_of, status_without_plan
from mapreduce_operator.core.workloads import Dispatch, JobSeen, PodSeen, Workload
from mapreduce_operator.engine.dispatcher import Dispatcher, Launched, LaunchRefused, TemplateRejected
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.loading import Loaded, StateLostError, load
from mapreduce_operator.engine.reporter import Reporter
from mapreduce_operator.engine.teardown import tear_down
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 8.0
"""For the last commit when the operator shuts down; Kubernetes gives it 30 s in all."""
_REPLAN_SECONDS: Final = 5.0
"""How often an input that could not be planned is looked at again: a ConfigMap may come later."""
_STORAGE_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_REFUSAL_PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0)


class Run:
    """The life of one MapReduceJob in this process."""

    def __init__(self, job: MapReduceJob, world: World) -> None:
        self.ref: Final = ref_of(job)
        self._job = job
        self._world: Final = world
        self._journal: Final = Journal(world.store, self.ref, world.clock, world.leadership)
        self._dispatcher: Final = Dispatcher(world.cluster, self.ref, world.pace)
        self._reporter: Final = Reporter(world.cluster, world.leadership, self.ref, self._status, job.status)
        self._state: RunState | None = None
        self._ids: list[str] = []
        self._reduce_input = ReduceInput.empty()
        self._awake: Final = asyncio.Event()
        self._inbox: Final[dict[str, tuple[Workload, bool]]] = {}
        self._stopping = False
        self._obstacle: tuple[str, str] | None = None
        self._storage_problem: tuple[str, str] | None = None
        self._refusal: LaunchRefused | None = None
        self._refusals = 0
        self._no_launch_before = 0.0
        self._capped = False
        self._generation = job.metadata.generation
        self._tasks: asyncio.TaskGroup | None = None
        self._doing: Final[set[asyncio.Task[None]]] = set()
        self._commit_task: asyncio.Task[None] | None = None
        ended = job.status is not None and job.status.completion_time is not None
        self._ended = job.status if ended else None
        started = job.status.start_time if job.status is not None else None
        self._start_time = started.timestamp() if started is not None else world.clock.now()
        self._name: Final = f"{self.ref.namespace}/{self.ref.name}"

    # ----------------------------------------------------------------------------------------------- from outside

    @property
    def reported(self) -> MapReduceJobStatus | None:
        """The status as it was written last."""
        return self._reporter.written

    def observe(self, job: MapReduceJob) -> None:
        """The object changed."""
        self._job = job
        self._awake.set()

    def notify(self, workload: Workload, deleted: bool) -> None:
        """A Job or pod of this run changed. Only its last state is kept until the run looks."""
        self._inbox[workload.uid] = (workload, deleted)
        self._awake.set()

    def stop(self) -> None:
        """The operator shuts down: save everything and return; agents go on without us."""
        self._stopping = True
        self._awake.set()

    # ------------------------------------------------------------------------------------------------------ life

    async def serve(self) -> None:
        """Carries the run to its end; returns when the object is gone or the operator stops."""
        async with asyncio.TaskGroup() as tasks:
            reporter = tasks.create_task(self._reporter.serve())
            try:
                await self._live()
            finally:
                self._world.capacity.release(self.ref.uid)
                reporter.cancel()

    async def _live(self) -> None:
        if not self._deleting and not self._over:
            await self._establish()
            if self._state is not None:
                await self._work(self._state)
        while True:
            self._awake.clear()
            if self._deleting or self._stopping:
                break
            self._reporter.request()
            await self._sleep(None)
        if self._deleting:
            await tear_down(self._world, self.ref, self._journal, self._job.spec.retention, self._awake)

    @property
    def _deleting(self) -> bool:
        return self._job.metadata.deletion_timestamp is not None

    @property
    def _over(self) -> bool:
        """The end of the run was written into the status before: nothing of it needs to be loaded again."""
        return self._ended is not None and not self._world.known_workloads(self.ref.uid)

    async def _sleep(self, until: float | None) -> None:
        """Waits for news, at most until a moment in seconds since the epoch."""
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - self._world.clock.now())):
                await self._awake.wait()
        except TimeoutError:
            return

    # ----------------------------------------------------------------------------------------------- to the plan

    async def _establish(self) -> None:
        """Loads the run, or plans it; returns without a state when it was deleted or stopped before that."""
        failures = 0
        while not self._deleting and not self._stopping:
            self._awake.clear()
            written = self._reporter.written
            job = self._job
            try:
                loaded = await load(
                    self._world,
                    self.ref,
                    self._journal,
                    job,
                    planned_before=written is not None and written.plan is not None,
                )
            except (InputError, StorageError, JournalError, ClusterError) as error:
                pause = _REPLAN_SECONDS
                if not isinstance(error, InputError):
                    log.warning("%s: %s", self._name, error)
                    pause = _STORAGE_PAUSES[min(failures, len(_STORAGE_PAUSES) - 1)]
                    failures += 1
                await self._explain(error)
            else:
                await self._take_up(loaded, job)
                return
            self._reporter.request()
            await self._sleep(self._world.clock.now() + pause)

    async def _explain(self, error: InputError | StorageError | JournalError | ClusterError) -> None:
        """Puts what keeps the run from being loaded into the conditions; only some of it passes by itself."""
        before = self._obstacle
        match error:
            case InputError():
                self._obstacle = (error.reason, str(error))
            case StateLostError():
                self._obstacle = ("StateLost", str(error))
            case JournalTooNewError():
                self._obstacle = ("StateTooNew", str(error))
            case JournalError():
                self._obstacle = ("StateDamaged", str(error))
            case StorageError():
                self._storage_problem = error.reason, str(error)
            case ClusterError():
                self._refusal = LaunchRefused("ClusterUnavailable", str(error))
        if self._obstacle is not None and self._obstacle != before:
            await self._announce(Announce("Warning", *self._obstacle))

    async def _take_up(self, loaded: Loaded, job: MapReduceJob) -> None:
        self._state, self._ids = loaded.state, loaded.ids
        self._start_time = self._journal.head.started_at
        self._generation = job.metadata.generation
        self._obstacle = self._storage_problem = self._refusal = None
        # Loading took a while: what was told meanwhile is as new as what the informer knows.
        for gone in loaded.vanished:
            self._inbox.setdefault(gone.uid, (gone, True))
        for workload in self._world.known_workloads(self.ref.uid):
            self._inbox.setdefault(workload.uid, (workload, False))
        for event in loaded.events:
            await self._announce(event)

    # ----------------------------------------------------------------------------------------------------- work

    async def _work(self, state: RunState) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            # What an earlier operator left behind is in the inbox, also where the run itself has come to its end.
            while not state.finished or state.active or self._inbox:
                self._awake.clear()
                if self._deleting or self._stopping:
                    await self._save(state)
                    for task in self._doing:
                        task.cancel()
                    return
                await self._step(state)
        await self._write_status()
        # What is left to do is to be deleted one day; 100,000 items need not be remembered for that.
        self._ended, self._state, self._ids = self._status(), None, []

    async def _step(self, state: RunState) -> None:
        """Takes in what happened, does what follows, and waits for more."""
        if self._job.metadata.generation != self._generation:
            self._generation = self._job.metadata.generation
            state.respec(self._job.spec)
        await self._absorb(state)
        now = self._world.clock.now()
        for effect in state.decide(now):
            self._start(effect, state)
        for effect in (*state.launch(self._grant(state, now), now), *state.commit_if_due(now)):
            self._start(effect, state)
        if stale := state.take_stale():
            self._world.metrics.stale_events(stale)
        self._reporter.request()
        if not state.finished:
            await self._sleep(self._next_wake(state, now))

    def _grant(self, state: RunState, now: float) -> int:
        wanted = state.wanted() if now >= self._no_launch_before else 0
        granted = self._world.capacity.grant(self.ref.uid, active=state.active, wanted=wanted, wake=self._awake.set)
        self._capped = granted < wanted
        return granted

    def _next_wake(self, state: RunState, now: float) -> float | None:
        moments = [wake] if (wake := state.next_wake(now)) is not None else []
        if now < self._no_launch_before:
            moments.append(self._no_launch_before)
        if self._inbox:
            moments.append(now + _STORAGE_PAUSES[1])
        return min(moments, default=None)

    async def _absorb(self, state: RunState) -> None:
        """Takes in what the informer told since the last time: Jobs first, so that pods find theirs adopted."""
        while self._inbox:
            news = list(self._inbox.values())
            self._inbox.clear()
            for workload, deleted in news:
                if isinstance(workload, JobSeen) and workload.owner_uid == self.ref.uid:
                    for effect in state.observe_job(workload, deleted, self._world.clock.now()):
                        self._start(effect, state)
            pods = [(pod, deleted) for pod, deleted in news if isinstance(pod, PodSeen)]
            for number, (pod, _) in enumerate(pods):
                try:
                    rule = await self._rule_for(state, pod)
                except StorageError as error:
                    self._wait_for_storage(f"pods that ended are not looked at yet: {error}", error)
                    for later in pods[number:]:
                        self._inbox.setdefault(later[0].uid, later)
                    return
                for effect in state.observe_pod(pod, rule, self._world.clock.now()):
                    self._start(effect, state)

    async def _rule_for(self, state: RunState, pod: PodSeen) -> ResultRule:
        rule = state.templates.rule(pod.carried.stage)
        if rule.expression is None or not pod.ended or pod.carried.stage is Stage.REDUCE:
            return rule
        position = state.ledgers[Stage.MAP].position(pod.carried.dispatches[0].item_key)
        if position is None:
            return rule
        item = await self._journal.planned_item(position)
        return ResultRule(rule.required, rule.expression, item.payload)

    # --------------------------------------------------------------------------------------------------- effects

    def _start(self, effect: Effect, state: RunState) -> None:
        match effect:
            case Launch():
                self._do(self._launch(effect, state))
            case DeleteJob():
                self._do(self._dispatcher.delete(effect))
            case FindPod(job):
                self._do(self._find_pod(job, state))
            case RemovePod(name, uid):
                self._do(self._dispatcher.remove_pod(name, uid))
            case Commit():
                self._commit_task = self._do(self._commit(self._batch(effect.reason, state), state))
            case VerifyTemplate():
                self._do(self._verify(effect, state))
            case PrepareReduce():
                self._do(self._prepare_reduce(state))
            case Announce():
                self._do(self._announce(effect))
            case _:
                assert_never(effect)

    def _do(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Does something beside the loop, supervised: an exception in it ends the run, which is then started anew."""
        if self._tasks is None:
            raise RuntimeError("a run does nothing before its plan is established")
        task = self._tasks.create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._doing.discard)
        return task

    async def _launch(self, effect: Launch, state: RunState) -> None:
        revision, work = state.templates.revision(effect.stage), state.work(effect.stage)
        if revision is None or work is None:
            state.refused(effect.stage, effect.position, effect.dispatch.number)
            return
        try:
            item = await self._item(effect)
        except StorageError as error:
            state.refused(effect.stage, effect.position, effect.dispatch.number)
            self._refuse(LaunchRefused("StorageUnavailable", str(error)))
            return
        body = manifest(revision, self.ref, effect.dispatch, attempt=effect.attempt, item=item, work=work)
        stage, position, number = effect.stage, effect.position, effect.dispatch.number
        match await self._dispatcher.create(body, lambda: state.awaits_job(stage, position, number)):
            case Launched(uid=uid):
                state.started(stage, position, number, uid, self._world.clock.now())
                self._refusal, self._refusals = None, 0
            case TemplateRejected(message):
                state.refused(stage, position, number)
                self._verified(stage, revision, message, state)
            case LaunchRefused() as refusal:
                state.refused(stage, position, number)
                self._refuse(refusal)
        self._awake.set()

    async def _find_pod(self, job: JobSeen, state: RunState) -> None:
        pod = await self._dispatcher.find_pod(job)
        if pod is not None:
            # The informer may tell more, but never less: it is late.
            self._inbox.setdefault(pod.uid, (pod, False))
        else:
            for effect in state.no_pod(job, self._world.clock.now()):
                self._start(effect, state)
        self._awake.set()

    async def _item(self, effect: Launch) -> PlannedItem:
        if effect.stage is Stage.REDUCE:
            return self._reduce_input.as_item()
        return await self._journal.planned_item(effect.position)

    def _refuse(self, refusal: LaunchRefused) -> None:
        """Nothing is launched for a while, longer each time in a row."""
        self._refusal = refusal
        pause = _REFUSAL_PAUSES[min(self._refusals, len(_REFUSAL_PAUSES) - 1)]
        self._refusals += 1
        self._no_launch_before = self._world.clock.now() + pause
        self._awake.set()

    async def _verify(self, effect: VerifyTemplate, state: RunState) -> None:
        revision, work = state.templates.revision(effect.stage), state.work(effect.stage)
        if revision is None or work is None:
            return
        sample = effect.stage is Stage.MAP and self._ids
        item = await self._first_item() if sample else ReduceInput.empty().as_item()
        body = manifest(revision, self.ref, Dispatch("dry-run", 0), attempt=1, item=item, work=work)
        self._verified(effect.stage, revision, await self._dispatcher.try_out(body), state)

    async def _first_item(self) -> PlannedItem:
        """Waits for storage as long as it takes."""
        pause = 0
        while True:
            try:
                item = await self._journal.planned_item(0)
            except StorageError as error:
                self._wait_for_storage(f"the template is not tried yet: {error}", error)
                await asyncio.sleep(_STORAGE_PAUSES[pause])
                pause = min(pause + 1, len(_STORAGE_PAUSES) - 1)
            else:
                self._storage_problem = None
                return item

    def _wait_for_storage(self, what: str, error: StorageError) -> None:
        log.warning("%s: %s", self._name, what)
        self._storage_problem = error.reason, what
        self._reporter.request()

    def _verified(self, stage: Stage, revision: Revision, rejection: str | None, state: RunState) -> None:
        for effect in state.templates.tried(stage, revision.hash, rejection, self._world.clock.now()):
            self._start(effect, state)
        self._awake.set()

    async def _prepare_reduce(self, state: RunState) -> None:
        ledger = state.ledgers[Stage.MAP]
        pause = 0
        while True:
            try:
                records = await self._journal.last_records([ledger.key(position) for position in range(len(ledger))])
                self._reduce_input = reduce_input(zip(self._ids, records, strict=True))
                await self._world.cluster.write_config_map(self.ref.namespace, self._reduce_input.config_map(self.ref))
            except ResultsTooLargeError as error:
                state.reduce_impossible(str(error))
                break
            except (StorageError, ClusterError) as error:
                log.warning("%s: the results are not ready for reduce yet: %s", self._name, error)
                await asyncio.sleep(_STORAGE_PAUSES[pause])
                pause = min(pause + 1, len(_STORAGE_PAUSES) - 1)
            else:
                state.reduce_prepared()
                break
        self._awake.set()

    def _batch(self, reason: CommitReason, state: RunState) -> Batch:
        return state.begin_commit(reason, self._world.clock.now(), with_snapshot=self._journal.snapshot_due)

    async def _commit(self, batch: Batch, state: RunState) -> None:
        """Makes a batch durable, however long storage takes; no outcome changes because of it."""
        started, pause = self._world.clock.now(), 0
        while True:
            try:
                await self._journal.append(batch)
                break
            except StorageError as error:
                self._wait_for_storage(f"{len(batch.records):,} outcomes wait for storage: {error}", error)
                await asyncio.sleep(_STORAGE_PAUSES[pause])
                pause = min(pause + 1, len(_STORAGE_PAUSES) - 1)
        self._storage_problem = None
        now = self._world.clock.now()
        self._world.metrics.commit(batch.reason, now - started)
        for record in batch.records:
            self._world.metrics.outcome(record.outcome.verdict, record.outcome.reason or "")
        for effect in state.committed(batch, now):
            self._start(effect, state)
        self._awake.set()

    async def _save(self, state: RunState) -> None:
        """The last commit of this process: after the one in flight, everything that is not durable yet."""
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                if self._commit_task is not None:
                    await self._commit_task
                if state.uncommitted or state.starts:
                    batch = self._batch(CommitReason.SHUTDOWN, state)
                    await self._journal.append(batch)
                    state.committed(batch, self._world.clock.now())
                await self._write_status()
        except (TimeoutError, StorageError) as error:
            log.warning(
                "%s: %d outcomes were not saved (%s); their Jobs stay and are read again",
                self._name,
                len(state.uncommitted),
                str(error) or "time ran out",
            )

    async def _write_status(self) -> None:
        try:
            await self._reporter.write()
        except ClusterError as error:
            log.warning("%s: the status was not written: %s", self._name, error)

    async def _announce(self, event: Announce) -> None:
        """Posts an Event. One that is lost changes nothing."""
        try:
            await self._world.cluster.post_event(self.ref, kind=event.kind, reason=event.reason, message=event.message)
        except ClusterError as error:
            log.warning("%s: the event %s was not posted: %s", self._name, event.reason, error)

    # ---------------------------------------------------------------------------------------------------- status

    def _status(self) -> MapReduceJobStatus | None:
        now = self._world.clock.now()
        generation = self._job.metadata.generation
        if self._state is None:
            if self._ended is not None:
                return seen_at(self._ended, generation)
            turn = Turn(Phase.PLANNING, "Planning", "the input is being planned")
            planned = self._reporter.written
            if planned is not None and planned.plan is not None:
                turn = Turn(Phase.MAP, planned.reason or "Planned", "the state of the run is being loaded")
                trouble = self._obstacle or self._storage_problem or self._refusal
                return status_before_loading(planned, self._situation(turn), now) if trouble else planned
        else:
            turn = self._state.committed_turn
        report = Report(
            ref=self.ref,
            generation=generation,
            situation=self._situation(turn),
            storage_url=self._world.storage_url,
            start_time=self._start_time,
            before=self._reporter.conditions,
        )
        if self._state is None:
            return status_without_plan(report, now)
        return status_of(self._state, self._journal.head, lambda position: self._ids[position], report, now)

    def _situation(self, turn: Turn) -> Situation:
        return Situation(
            phase=turn.phase,
            reason=turn.reason,
            message=turn.message,
            suspended=self._job.spec.suspend,
            still_running=self._state.active if self._state else 0,
            obstacle=self._obstacle or (self._state.templates.obstacle if self._state else None),
            storage_problem=self._storage_problem,
            capped=self._capped,
            refusal=(self._refusal.reason, self._refusal.message) if self._refusal else None,
        )


def ref_of(job: MapReduceJob) -> RunRef:
    return RunRef(job.metadata.namespace, job.metadata.name, job.metadata.uid)
