"""One run at work: from the object that the user applied to its end, by way of the world's answers.

Here is its life and its loop. What to do is decided in core.run, and done in engine.effects. A run that fails by an
unexpected exception is started anew by the supervisor: what it needs is durable, or alive in the cluster.
"""

import asyncio
import logging
from typing import Final

from mapreduce_operator.api import MapReduceJob, MapReduceJobStatus
from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import Workload
from mapreduce_operator.engine.aftercare import Aftercare
from mapreduce_operator.engine.effects import STORAGE_PAUSES, Effects, announce
from mapreduce_operator.engine.inbox import Inbox
from mapreduce_operator.engine.input_watch import InputWatch
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.loading import Loaded, load
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.queue import QueueKeeper
from mapreduce_operator.engine.redriving import Redriving
from mapreduce_operator.engine.reporter import Reporter
from mapreduce_operator.engine.requests import Requests
from mapreduce_operator.engine.standing import Standing
from mapreduce_operator.engine.teardown import letters_left, tear_down
from mapreduce_operator.engine.troubles import Troubles
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError, Vitals

log = logging.getLogger(__name__)

SAVE_SECONDS: Final = 8.0
"""For the last commit when the operator shuts down; Kubernetes gives it 30 s in all."""
_GATHER_SECONDS: Final = 0.02
"""A step costs the same for one event as for many, and they come in swarms."""
_REPLAN_SECONDS: Final = 5.0
"""How often an input that could not be planned is looked at again: a ConfigMap may come later."""
_REPLAN_PAUSES: Final = 10.0
"""Or after so many times as long as it took to find that out: a large input takes seconds, of which others have less.
"""


class Run:
    """The life of one MapReduceJob in this process."""

    def __init__(self, job: MapReduceJob, world: World) -> None:
        self.ref: Final = RunRef.of(job)
        self._world: Final = world
        self._journal: Final = Journal(world.store, self.ref, world.clock, world.leadership)
        self._troubles: Final = Troubles()
        self._requests: Final = Requests(world, self.ref, self._journal)
        self._standing: Final = Standing(job, world, self._journal, self._troubles, self._requests)
        self._reporter: Final = Reporter(world.cluster, world.leadership, self.ref, self._status, job.status)
        self._awake: Final = asyncio.Event()
        self._inbox: Final = Inbox(world, self.ref, self._journal, self._troubles)
        self._stopping = False
        self._redriving: Redriving | None = None
        self._aftercare: Final = Aftercare(world, self.ref)
        self._reload = False
        """Storage holds another state than memory, which is to be loaded."""
        self._thorough = False
        """Storage is known to be damaged."""
        self._thorough_loads = 0
        self._seen = job
        """As of the last step, or before the last load."""
        self._name: Final = f"{self.ref.namespace}/{self.ref.name}"

    # ----------------------------------------------------------------------------------------------- from outside

    @property
    def reported(self) -> MapReduceJobStatus | None:
        """The status as it was written last."""
        return self._reporter.written

    def vitals(self) -> Vitals:
        """What metrics tell of the run."""
        return self._standing.vitals(self.reported)

    def observe(self, job: MapReduceJob) -> None:
        """The object changed."""
        self._standing.observe(job)
        self._awake.set()

    def notify(self, workload: Workload, deleted: bool) -> None:
        """A Job or pod of this run changed. Only its last state is kept until the run looks."""
        self._inbox.put(workload, deleted)
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
            self._world.desk.subscribe(self.ref, self._asked)
            try:
                await self._live()
            finally:
                self._world.desk.unsubscribe(self.ref)
                self._world.capacity.release(self.ref)
                reporter.cancel()

    def _asked(self) -> None:
        """Somebody changed the dead letter queue, or asks for a Redrive."""
        if self._standing.keeper is not None and self._redriving is not None:
            self._standing.keeper.request()
            self._redriving.look()
        self._awake.set()

    async def _live(self) -> None:
        to_do = not self._over or self._is_due
        while not self._deleting and not self._stopping:
            self._awake.clear()
            self._standing.at_rest = not to_do
            if to_do:
                self._seen = self._standing.job
                await self._establish()
                if self._standing.state is not None:
                    await self._work(self._standing.state)
                    self._aftercare.looked(self._seen, may_pass=self._requests.may_pass(self._seen))
            else:
                self._reporter.request()
                await self._sleep(self._next_look)
            to_do = self._reload or self._is_due
        if self._deleting:
            letters = await letters_left(
                self._world,
                self._standing.job,
                self._journal,
                state=self._standing.state,
                ids=self._standing.ids,
                written=self._reporter.written,
            )
            await tear_down(self._world, self._standing.job, self._journal, letters, self._awake)

    @property
    def _next_look(self) -> float | None:
        """When a run that has ended is looked at once more, in seconds since the epoch; None for never, as it is."""
        ended = self._standing.ended
        if ended is not None and ended.plan is None:
            # Whatever else is asked of it, there is nothing to do it with.
            return None if self._standing.end_without_plan is not None else 0.0
        return self._aftercare.next_look(self._standing.job, ended)

    @property
    def _is_due(self) -> bool:
        at = self._next_look
        return at is not None and at <= self._world.clock.now()

    @property
    def _deleting(self) -> bool:
        return self._standing.job.metadata.deletion_timestamp is not None

    @property
    def _over(self) -> bool:
        """The end of the run was written into the status before: nothing of it needs to be loaded again."""
        return self._standing.ended is not None and not self._world.known_workloads(self.ref.uid)

    async def _sleep(self, until: float | None) -> None:
        """Waits for news, at most until a moment in seconds since the epoch. What comes shortly after comes along."""
        try:
            async with asyncio.timeout(None if until is None else max(0.0, until - self._world.clock.now())):
                await self._awake.wait()
                await asyncio.sleep(_GATHER_SECONDS)
        except TimeoutError:
            return

    # ----------------------------------------------------------------------------------------------- to the plan

    async def _establish(self) -> None:
        """Loads the run, or plans it; returns without a state when it was deleted, stopped or over before that."""
        failures = 0
        while not self._deleting and not self._stopping:
            self._awake.clear()
            written = self._reporter.written
            job = self._standing.job
            began = self._world.clock.now()
            try:
                loaded = await load(
                    self._world,
                    self.ref,
                    self._journal,
                    job,
                    planned_before=self._reload or (written is not None and written.plan is not None),
                    thorough=self._thorough,
                    started_at=self._standing.start_time,
                )
            except (InputError, StorageError, JournalError, ClusterError) as error:
                pause = max(_REPLAN_SECONDS, _REPLAN_PAUSES * (self._world.clock.now() - began))
                if not isinstance(error, InputError):
                    log.warning("%s: %s", self._name, error)
                    pause = pause_after(failures, STORAGE_PAUSES)
                    failures += 1
                before = self._troubles.obstacle
                self._troubles.not_loaded(error)
                if self._troubles.obstacle is not None and self._troubles.obstacle != before:
                    await announce(self._world, self.ref, Announce("Warning", *self._troubles.obstacle))
                if isinstance(error, InputError) and await self._ends_without_plan():
                    return
            else:
                await self._take_up(loaded)
                return
            self._reporter.request()
            await self._sleep(self._world.clock.now() + pause)

    async def _ends_without_plan(self) -> bool:
        """Whether the run is over, now that it is known that there is no plan of it."""
        self._standing.ended, turn = None, self._standing.end_without_plan
        if turn is None:
            return False
        self._standing.end(turn, self._reporter.written)
        await announce(self._world, self.ref, Announce("Warning", turn.phase.value, turn.message))
        return True

    async def _take_up(self, loaded: Loaded) -> None:
        self._standing.enter_memory(loaded.state, loaded.ids)
        if (lineage := self._journal.head.lineage) is not None:
            self._world.desk.descends(self.ref, lineage)
        self._reload = self._thorough = False
        self._troubles.clear()
        # Loading took a while: what was told meanwhile is as new as what the informer knows.
        for workload in self._world.known_workloads(self.ref.uid):
            self._inbox.put_late(workload, False)
        for event in loaded.events:
            await announce(self._world, self.ref, event)

    # ----------------------------------------------------------------------------------------------------- work

    async def _work(self, state: RunState) -> None:
        ids, letters = self._standing.ids, Letters(self._world, self.ref, self._journal)
        keeper = QueueKeeper(self._world, state, letters, ids.__getitem__, self._awake.set)
        self._redriving = redriving = Redriving(
            self._world,
            state,
            letters,
            ids,
            item=self._journal.plan.item,
            wake=self._awake.set,
            tell=lambda: self._tell(keeper),
        )
        input_watch = self._input_watch()
        self._standing.begin_work(keeper, input_watch)
        async with asyncio.TaskGroup() as tasks:
            effects = Effects(
                self._world,
                self._journal,
                state,
                ids,
                letters=letters,
                troubles=self._troubles,
                tasks=tasks,
                wake=self._awake.set,
                tell=self._inbox.put_late,
            )
            helpers = [tasks.create_task(keeper.serve()), tasks.create_task(redriving.serve())]
            if input_watch is not None:
                helpers.append(tasks.create_task(input_watch.serve()))
            self._asked()
            try:
                # The queue may have been edited since the run ended.
                self._requeue(state)
                await self._purge(keeper)
                # What an earlier operator left behind is in the inbox, also where the run itself has come to its end.
                # Jobs are deleted until they are gone, which may take as long as the API server is away.
                while self._is_at_work(state, effects):
                    self._awake.clear()
                    if self._deleting or self._stopping:
                        await self._save(state, effects)
                        effects.abandon()
                        return
                    if await self._is_replaced(state, effects):
                        effects.abandon()
                        self._leave_memory()
                        self._reload = True
                        return
                    await self._step(state, effects)
                await self._tell(keeper)
            finally:
                for helper in helpers:
                    helper.cancel()
        # What is left to do is to be deleted, or redriven, one day; 100,000 items need not be remembered for that.
        self._standing.ended = self._status()
        self._leave_memory()
        self._world.capacity.release(self.ref)

    def _input_watch(self) -> InputWatch | None:
        reference, planned = self._standing.job.spec.input.reference, self._journal.head.plan.input_sha256
        if reference is None or not planned:
            return None
        return InputWatch(self._world, self.ref, reference, planned, self._reporter.request)

    def _leave_memory(self) -> None:
        self._standing.leave_memory()
        self._redriving = None

    def _is_at_work(self, state: RunState, effects: Effects) -> bool:
        if not state.finished or self._inbox or self._busy(effects):
            return True
        return self._requests.is_due(self._standing.job, state, self._world.clock.now())

    async def _is_replaced(self, state: RunState, effects: Effects) -> bool:
        """Whether storage holds another state by now: as was asked for, or since something in it is damaged."""
        if effects.damage is not None:
            log.warning("%s: %s; all of the journal is read again", self._name, effects.damage)
            await self._save(state, effects)
            if self._thorough_loads:
                # Reading all of it found nothing wrong: it may be storage that answers so only now and then.
                await self._sleep(self._world.clock.now() + pause_after(self._thorough_loads, STORAGE_PAUSES))
            self._thorough = True
            self._thorough_loads += 1
            return True
        purging = self._standing.keeper is not None and self._standing.keeper.pending
        waits = effects.pending or purging
        if waits or not self._requests.is_replacing(self._standing.job, state, self._world.clock.now()):
            return False
        told = await self._requests.do(self._standing.job, state)
        if told is not None:
            await announce(self._world, self.ref, told)
        # Where it is not known whether it was written, storage tells.
        return told is not None or self._journal.is_uncertain

    def _busy(self, effects: Effects) -> bool:
        """Something is being done beside the loop; the run is woken when it is done."""
        helpers = (self._standing.keeper, self._redriving)
        return effects.pending or any(helper is not None and helper.pending for helper in helpers)

    def _requeue(self, state: RunState) -> None:
        queue = self._world.desk.queue_of(self.ref)
        state.requeue(queue.spec if queue else None, self._world.clock.now())

    async def _purge(self, keeper: QueueKeeper) -> None:
        try:
            await keeper.purge()
        except StorageError as error:
            log.warning("%s: letters whose time is over are not purged yet: %s", self._name, error)

    async def _tell(self, keeper: QueueKeeper) -> None:
        """The queue first: whoever waits for the end of the job looks there next."""
        try:
            await keeper.keep()
        except ClusterError as error:
            log.warning("%s: the status of the dead letter queue was not written: %s", self._name, error)
        await self._write_status()

    async def _save(self, state: RunState, effects: Effects) -> None:
        try:
            async with asyncio.timeout(SAVE_SECONDS):
                await effects.save()
                await self._write_status()
        except (TimeoutError, StorageError) as error:
            log.warning(
                "%s: %d outcomes were not saved (%s); their Jobs stay and are read again",
                self._name,
                len(state.uncommitted),
                str(error) or "time ran out",
            )

    async def _step(self, state: RunState, effects: Effects) -> None:
        """Takes in what happened, does what follows, and waits for more."""
        began = asyncio.get_running_loop().time()
        self._seen = self._standing.job
        # Also when it is the same but for the items, which need not stay in memory any more.
        if self._standing.job.spec is not state.spec:
            state.respec(self._standing.job.spec, self._world.clock.now())
        labels = self._standing.job.metadata.labels
        state.templates.labels = {key: labels[key] for key in self._world.copied_labels if key in labels}
        self._requeue(state)
        await self._inbox.absorb(state, effects)
        now = self._world.clock.now()
        if (told := self._requests.look(self._standing.job, state, now)) is not None:
            effects.start(told)
        for effect in state.decide(now):
            effects.start(effect)
        for effect in (*state.dispatching.launch(self._grant(state, now), now), *state.commits.due(now)):
            effects.start(effect)
        if stale := state.agents.take_stale():
            self._world.metrics.stale_events(stale)
        self._reporter.request()
        if self._standing.keeper is not None and len(state.dead_letters):
            self._standing.keeper.request()
        self._world.metrics.stepped(asyncio.get_running_loop().time() - began)
        if not state.finished or self._busy(effects):
            await self._sleep(self._next_wake(state, now))

    def _grant(self, state: RunState, now: float) -> int:
        wanted = state.dispatching.wanted(now) if now >= self._troubles.no_launch_before else 0
        granted = self._world.capacity.grant(self.ref, active=state.active, wanted=wanted, wake=self._awake.set)
        self._standing.capped = granted < wanted
        return granted

    def _next_wake(self, state: RunState, now: float) -> float | None:
        moments = [wake] if (wake := state.next_wake(now)) is not None else []
        if now < self._troubles.no_launch_before:
            moments.append(self._troubles.no_launch_before)
        if self._inbox:
            moments.append(now + STORAGE_PAUSES[1])
        if (again := self._requests.next_try(self._standing.job, state)) is not None:
            moments.append(again)
        return min(moments, default=None)

    async def _write_status(self) -> None:
        try:
            await self._reporter.write()
        except ClusterError as error:
            log.warning("%s: the status was not written: %s", self._name, error)

    def _status(self) -> MapReduceJobStatus | None:
        return self._standing.status(self._reporter.written)
