"""Does what a run decided: creates and deletes Jobs, tries templates, writes commits, prepares the reduce.

Everything is done beside the run's loop and told back to its state. What may pass by itself is tried again here, for as
long as it takes; what needs a decision is told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Final, TypeVar, assert_never

from mapreduce_operator.api import ReduceWork, ResultsAs
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import CommitReason, DamagedError
from mapreduce_operator.core.effects import (
    Announce,
    Commit,
    DeleteJob,
    Effect,
    FindPod,
    FindVanished,
    Launch,
    PrepareReduce,
    RemovePod,
    VerifyTemplate,
)
from mapreduce_operator.core.jobs import Revision, manifest, trial
from mapreduce_operator.core.names import RunRef, Stage, job_name
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.results import Handover, ReduceInput, ResultsTooLargeError, reduce_input
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.story import with_id
from mapreduce_operator.core.workloads import Dispatch, JobSeen, Workload
from mapreduce_operator.engine.dispatcher import Dispatcher, Launched, LaunchRefused, TemplateRejected
from mapreduce_operator.engine.handover import write_parts
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.troubles import Troubles
from mapreduce_operator.engine.world import World
from mapreduce_operator.logs import about
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

T = TypeVar("T")

STORAGE_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_UNREAD: Final = "items that are to be started cannot be read"


class Effects:
    """The hands of one run while it is at work."""

    def __init__(
        self,
        world: World,
        journal: Journal,
        state: RunState,
        ids: list[str],
        *,
        letters: Letters,
        troubles: Troubles,
        tasks: asyncio.TaskGroup,
        wake: Callable[[], None],
        tell: Callable[[Workload, bool], None],
    ) -> None:
        """`wake` lets the run look at its state again; `tell` hands it a Job or pod that was asked for."""
        self._world: Final = world
        self._run: Final = state.ref
        self._journal: Final = journal
        self._state: Final = state
        self._ids: Final = ids
        self._troubles: Final = troubles
        self._tasks: Final = tasks
        self._wake: Final = wake
        self._tell: Final = tell
        self._dispatcher: Final = Dispatcher(world.cluster, state.ref, world.pace)
        self._letters: Final = letters
        self._handover: Handover | None = None
        """Of the reduce, as it was prepared last."""
        self._doing: Final[set[asyncio.Task[None]]] = set()
        self._launching: Final[dict[str, asyncio.Task[None]]] = {}
        """Launches under way, by the name of the Job."""
        self._commit_task: asyncio.Task[None] | None = None
        self.damage: str | None = None
        """What in storage is damaged, of what was read in the midst of the run."""
        self._name: Final = f"{state.ref.namespace}/{state.ref.name}"

    def start(self, effect: Effect) -> None:
        match effect:
            case Launch():
                name = job_name(self._run, effect.dispatch.item_key, effect.dispatch.number)
                with self._about(effect.stage, effect.dispatch):
                    launch = self._launching[name] = self._do(self._launch(effect))
                launch.add_done_callback(lambda _: self._launching.pop(name, None))
            case DeleteJob():
                self._do(self._delete(effect))
            case FindPod(job):
                with self._about(job.carried.stage, job.carried.dispatches[0]):
                    self._do(self._find_pod(job))
            case FindVanished():
                self._do(self._find_vanished())
            case RemovePod(name, uid):
                self._do(self._dispatcher.remove_pod(name, uid))
            case Commit():
                self._commit_task = self._do(self._commit(self._batch(effect.reason)))
            case VerifyTemplate():
                self._do(self._verify(effect))
            case PrepareReduce(results_as):
                self._do(self._prepare_reduce(results_as))
            case Announce():
                self._do(announce(self._world, self._run, with_id(effect, self._ids)))
            case _:
                assert_never(effect)

    def _do(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Does something beside the loop, supervised: an exception in it ends the run, which is then started anew."""
        task = self._tasks.create_task(work)
        self._doing.add(task)
        task.add_done_callback(self._did)
        return task

    def _did(self, task: asyncio.Task[None]) -> None:
        self._doing.discard(task)
        if not self._doing:
            self._wake()

    def _about(self, stage: Stage, dispatch: Dispatch) -> AbstractContextManager[None]:
        """Log lines from within tell of which item they are."""
        position = self._state.books.position(stage, dispatch.item_key)
        return about(item=self._ids[position] if stage is Stage.MAP else stage.value, dispatch=dispatch.number)

    @property
    def pending(self) -> bool:
        """Something is being done still; when nothing is any more, the run is woken."""
        return bool(self._doing)

    async def _launch(self, effect: Launch) -> None:
        stage, position, number = effect.stage, effect.position, effect.dispatch.number
        work = self._state.works.of(stage)
        revision = self._state.dispatching.revision(stage, effect.redrive)
        if revision is None or work is None:
            self._state.agents.refused(stage, position, number)
            return
        handover = self._handover if stage is Stage.REDUCE else None
        if handover is not None and isinstance(work, ReduceWork) and handover.results_as is not work.results_as:
            # Its form was changed just now: it is prepared anew.
            self._state.agents.refused(stage, position, number)
            return
        try:
            item = handover.item if handover is not None else await self._item(position)
        except StorageError as error:
            self._troubles.waits(_UNREAD, error)
            self._refused(effect, LaunchRefused(error.reason, str(error)))
            return
        self._troubles.goes_on(_UNREAD)
        body = manifest(
            revision,
            self._run,
            effect.dispatch,
            attempt=effect.attempt,
            item=item,
            work=work,
            labels=self._state.templates.labels,
            max_attempts=effect.max_attempts,
            oom_kills=effect.oom_kills,
            results=handover.volume if handover is not None else None,
        )
        match await self._dispatcher.create(body, lambda: self._state.dispatching.awaits_job(stage, position, number)):
            case Launched(name, uid):
                log.debug("%s: the Job %s is there", self._name, name)
                self._state.agents.started(stage, position, number, uid, self._world.clock.now())
                self._troubles.launched()
            case TemplateRejected(message) if (
                effect.redrive and self._state.redrives[effect.redrive].accepted.patches_template
            ):
                self._state.agents.refused(stage, position, number)
                # Nobody can correct it, since a Redrive cannot be changed.
                what = f"the API server refuses the template as spec.templatePatch changes it: {message}"
                self._state.letterbox.call_off(effect.redrive, "TemplateRejected", what, self._world.clock.now())
            case TemplateRejected(message):
                self._state.agents.refused(stage, position, number)
                self._verified(stage, revision, message)
            case None:
                self._state.agents.refused(stage, position, number)
            case LaunchRefused() as refusal:
                self._refused(effect, refusal)
        self._wake()

    def _refused(self, effect: Launch, refusal: LaunchRefused) -> None:
        self._state.agents.refused(effect.stage, effect.position, effect.dispatch.number)
        self._troubles.refused(refusal, self._world.clock.now())
        self._wake()

    async def _delete(self, effect: DeleteJob) -> None:
        # A request to create it that is still under way, since the answer to one before was lost, must meet the Job:
        # a name that is free again would let the agent run once more.
        if (launch := self._launching.get(effect.name)) is not None:
            await asyncio.wait({launch})
        await self._dispatcher.delete(effect)

    async def _find_pod(self, job: JobSeen) -> None:
        pod = await self._dispatcher.find_pod(job)
        if pod is not None:
            self._tell(pod, False)
        else:
            for effect in self._state.agents.no_pod(job, self._world.clock.now()):
                self.start(effect)
        self._wake()

    async def _find_vanished(self) -> None:
        known = {workload.uid for workload in self._world.known_workloads(self._run.uid)}
        for job in self._state.agents.carrying():
            # What the informer does not know may just not have been told yet.
            if job.uid not in known and await self._dispatcher.is_gone(job):
                self._tell(job, True)
        self._wake()

    async def _item(self, position: int) -> PlannedItem:
        return self._state.as_run(position, await self._journal.plan.item(position))

    async def _verify(self, effect: VerifyTemplate) -> None:
        revision, work = self._state.templates.revision(effect.stage), self._state.works.of(effect.stage)
        if revision is None or work is None:
            return
        results_as = work.results_as if isinstance(work, ReduceWork) else ResultsAs.FILE
        handover, _ = ReduceInput.empty().hand_over(self._run, results_as)
        item, labels = handover.item, self._state.templates.labels
        if effect.stage is Stage.MAP and self._ids:
            item = await self._patiently("the template is not tried yet", lambda: self._journal.plan.item(0))
        results = handover.volume if effect.stage is Stage.REDUCE else None
        body = trial(revision, self._run, item=item, work=work, labels=labels, results=results)
        rejection = await self._dispatcher.try_out(body)
        self._verified(effect.stage, revision, rejection)

    def _verified(self, stage: Stage, revision: Revision, rejection: str | None) -> None:
        for effect in self._state.templates.tried(stage, revision.hash, rejection, self._world.clock.now()):
            self.start(effect)
        self._wake()

    async def _prepare_reduce(self, results_as: ResultsAs) -> None:
        what = "the results are not ready for reduce yet"
        try:
            self._handover = await self._patiently(what, lambda: self._hand_over(results_as))
        except ResultsTooLargeError as error:
            self._state.reduce_impossible(str(error))
        except DamagedError as error:
            self.damage = str(error)
        else:
            self._state.reduce_prepared(results_as)
        self._wake()

    async def _hand_over(self, results_as: ResultsAs) -> Handover:
        ledger = self._state.ledgers[Stage.MAP]
        keys = {ledger.key(position): self._ids[position] for position in ledger.wanted()}
        records = await self._journal.last_records(frozenset(keys))
        if missing := len(keys) - len(records):
            raise DamagedError(f"the journal of {self._name} has no outcomes of {missing:,} items")
        found = reduce_input((name, records[key]) for key, name in keys.items())
        handover, config_maps = found.hand_over(self._run, results_as)
        await write_parts(self._world.cluster, self._run, config_maps)
        return handover

    def _batch(self, reason: CommitReason) -> Batch:
        due = self._journal.snapshot_due and self._state.spec.checkpoint.enabled
        return self._state.commits.begin(reason, self._world.clock.now(), with_snapshot=due)

    async def _commit(self, batch: Batch) -> None:
        """Makes a batch durable, however long storage takes; no outcome changes because of it."""
        started = self._world.clock.now()
        await self._patiently(f"{len(batch.records):,} outcomes wait for storage", lambda: self._save(batch))
        for effect in self._committed(batch, started):
            self.start(effect)
        self._wake()
        if batch.kept:
            await self._journal.keep()
        await self._prune()

    def _committed(self, batch: Batch, started: float) -> list[Effect]:
        now = self._world.clock.now()
        self._world.metrics.committed(self._state, batch, now - started, self._journal.head.size)
        self._say(batch)
        effects = self._state.commits.done(batch, now)
        # Not before: a status tells of this checkpoint what the state knows.
        self._state.checkpoint = self._journal.head
        return effects

    def _say(self, batch: Batch) -> None:
        if log.isEnabledFor(logging.DEBUG):
            for outcome in (record.outcome for record in batch.records):
                with self._about(outcome.stage, outcome.dispatch):
                    # Not what the agent says: it may hold what no log should.
                    why = f"({outcome.reason})" if outcome.reason else ""
                    log.debug("%s: the Job %s came to %s%s", self._name, outcome.job, outcome.verdict, why)

    async def _prune(self) -> None:
        state, kept = self._state, self._journal.kept
        forks = self._world.desk.forked_from(self._run)
        try:
            await kept.prune(state.spec.checkpoint, forks, active=state.committed_turn.phase not in FINAL_PHASES)
        except StorageError as error:
            log.warning("%s: checkpoints that are not needed any more stay for now: %s", self._name, error)

    async def _save(self, batch: Batch) -> None:
        try:
            if batch.letters:
                await self._letters.write(batch.letters)
            await self._journal.append(batch)
        except StorageError:
            self._world.metrics.commit_failed(batch.reason)
            raise

    async def save(self) -> None:
        """The last commit of this process: after the one in flight, everything that is not durable yet."""
        if self._commit_task is not None:
            await self._commit_task
        if self._state.unsaved:
            started, batch = self._world.clock.now(), self._batch(CommitReason.SHUTDOWN)
            await self._save(batch)
            self._committed(batch, started)
            if batch.kept:
                await self._journal.keep()

    def abandon(self) -> None:
        """Ends what is under way: somebody else, or a later process, will find it half done and go on."""
        for task in self._doing:
            task.cancel()

    async def _patiently(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """Does something again until it is done, and lets the conditions say meanwhile what waits."""
        failures = 0
        try:
            while True:
                try:
                    return await work()
                except (StorageError, ClusterError) as error:
                    log.warning("%s: %s: %s", self._name, what, error)
                    if isinstance(error, StorageError):
                        self._troubles.waits(what, error)
                self._wake()
                await asyncio.sleep(pause_after(failures, STORAGE_PAUSES))
                failures += 1
        finally:
            self._troubles.goes_on(what)


async def announce(world: World, run: RunRef, event: Announce) -> None:
    """Posts an Event. One that is lost changes nothing."""
    try:
        await world.cluster.post_event(run, kind=event.kind, reason=event.reason, message=event.message)
    except ClusterError as error:
        log.warning("%s/%s: the event %s was not posted: %s", run.namespace, run.name, event.reason, error)
