"""Brings one run to where it can go on: planned for the first time, or read back and compared with the cluster."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from mapreduce_operator.api import ItemState, MapReduceJob, Phase, RestartPhase
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import (
    Checkpoint,
    CommitReason,
    DamagedError,
    JournalError,
    Recovered,
    StateLostError,
)
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.journal import Segment, Undone
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.phases import RECOVERED, Turn
from mapreduce_operator.core.plan import canonical, keys_of
from mapreduce_operator.core.requests import answers_in, later, open_restart
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.survival import fitted
from mapreduce_operator.core.validation import violations
from mapreduce_operator.core.workloads import JobSeen
from mapreduce_operator.engine.forking import fork
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.planner import plan_input
from mapreduce_operator.engine.recovery import (
    Survivors,
    dispatches_known,
    extended,
    from_segments,
    newest_checkpoint,
    survivors,
    told_again,
    what_is_lost,
)
from mapreduce_operator.engine.world import World

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Loaded:
    """A run that can go on."""

    state: RunState
    ids: list[str]
    """Of all items, in the order of the plan."""
    events: list[Announce] = field(default_factory=list)


async def load(
    world: World,
    run: RunRef,
    journal: Journal,
    job: MapReduceJob,
    *,
    planned_before: bool,
    thorough: bool = False,
    started_at: float | None = None,
) -> Loaded:
    """Loads a run, or plans it. `thorough`: reads the whole journal, since some of it is known to be damaged.

    `started_at` is when a run that is not planned yet was taken up; now, if it is not given.

    Raises InputError for an input that cannot be planned, JournalError for a state that cannot be read or is lost,
    DeposedError when a later leader has it, and StorageError or ClusterError for what may pass.
    """
    loader = _Loader(world, run, journal, job, started_at)
    return await loader.load(planned_before=planned_before, thorough=thorough)


@dataclass(frozen=True, slots=True)
class _Loader:
    world: World
    run: RunRef
    journal: Journal
    job: MapReduceJob
    started_at: float | None

    async def load(self, *, planned_before: bool, thorough: bool) -> Loaded:
        await self.world.suitability.check()
        await self.world.cluster.add_finalizer(self.run)
        events: list[Announce] = []
        damage: list[str] = []
        if await self._head(damage, planned_before=planned_before) is None:
            events.append(await self._plan())
        try:
            ids = await self.journal.plan.ids()
        except DamagedError as error:
            raise StateLostError(self._lost(str(error))) from error
        loaded = await self._read_back(ids, damage, thorough=thorough)
        loaded.events[:0] = events
        return loaded

    async def _plan(self) -> Announce:
        if (source := self.job.spec.fork_from) is not None:
            await fork(self.world, self.job, source, self.started_at)
            await self.journal.load()
            return Announce("Normal", "Forked", self.journal.head.phase_message)
        spec = self.job.spec
        planned = await plan_input(self.world, self.run, spec.input)
        text, kept = canonical(spec.work_as_written()), spec.checkpoint.enabled
        writing = self.journal.create(planned, text, started_at=self.started_at, kept=kept)
        await self.world.counted(CommitReason.PHASE_CHANGE, writing)
        left_out = f" of {planned.read:,}" if planned.read > len(planned.items) else ""
        return Announce("Normal", "Planned", f"planned {len(planned.items):,} items{left_out}")

    async def _head(self, damage: list[str], *, planned_before: bool) -> Checkpoint | None:
        """The newest checkpoint that is whole; None for a run that was never planned. `damage` gets what is not."""
        keys, store = StorageKeys(self.run), self.world.store
        try:
            head = await self.journal.load()
            if head is not None or not planned_before:
                return head
            damage.append(f"{keys.head}, which is missing")
        except DamagedError as error:
            damage.append(str(error))
        known = await newest_checkpoint(store, self.run)
        found = await (
            extended(store, self.run, known)
            if known is not None
            else from_segments(store, self.run, self.world.clock.now())
        )
        if found is None:
            raise StateLostError(self._lost(damage[0]))
        if found is not known:
            # What was done once is not done again for that.
            found = msgspec.structs.replace(found, answers=later(found.answers, answers_in(self.job.status)))
        if not await self.journal.replace(found):
            raise JournalError(f"{keys.head} moved while it was being replaced: {damage[0]}")
        return self.journal.head

    def _lost(self, damage: str) -> str:
        return (
            f"the plan of the job cannot be read from {self.world.storage_url}: {damage}. Nothing is run, or deleted, "
            "until it is there again. If it is lost for good, delete the MapReduceJob and apply it again: all its "
            "items are run again then"
        )

    async def _read_back(self, ids: list[str], damage: list[str], *, thorough: bool) -> Loaded:
        """What was committed, told to a new state; with what is damaged done without, and the rest told again."""
        head, snapshot = self.journal.head, None
        left = Survivors(head, [], [])
        try:
            await self.journal.kept.look()
            if not thorough:
                snapshot, left.before = await self.journal.history()
        except DamagedError:
            snapshot, thorough = await self.journal.snapshot(), True
        if not thorough and await self._is_damaged():
            snapshot, thorough = None, True
        if thorough:
            left = await survivors(self.world.store, self.run, head, snapshot)
            damage = damage + left.damaged
        elif head.snapshot is not None and snapshot is None:
            left.base = msgspec.structs.replace(head, snapshot=None)
            damage = [*damage, f"snapshot {head.snapshot.sequence}"]
        turn = Turn(head.phase, head.phase_reason, head.phase_message)
        shortest_id = min((len(one.encode()) for one in ids), default=0)
        state = RunState(self.run, self.job.spec, keys_of(self.run.uid, ids), turn, shortest_id=shortest_id)
        state.books.read_back(snapshot, left.before)
        if damage:
            return await self._recover(state, ids, left, damage)
        if wrong := violations(state.books, head.phase, head.counts):
            raise JournalError(
                f"checkpoint {head.sequence} of {StorageKeys(self.run).prefix} contradicts itself: {'; '.join(wrong)}"
            )
        state.resume(self.world.clock.now(), head)
        if state.spec.checkpoint.enabled:
            # Whoever made it may have died, or been deposed, before that; all leaders must count the same ones.
            await self.journal.keep()
        if head.sequence:
            log.info(
                "%s/%s: resumed at checkpoint %d with %d Jobs and pods",
                self.run.namespace,
                self.run.name,
                head.sequence,
                len(self.world.known_workloads(self.run.uid)),
            )
        return Loaded(state, ids)

    async def _is_damaged(self) -> bool:
        """Whether a segment is damaged of which a snapshot knows what it told, but for the results.

        It takes long, and is looked at when somebody wants a phase to run again: then what is lost is run as well.
        """
        restart = open_restart(self.job.spec, self.journal.head.answers)
        # A new plan is made of what is left.
        if self.journal.head.snapshot is None or restart is None or restart.phase is RestartPhase.PLAN:
            return False
        try:
            await self.journal.check()
        except DamagedError as error:
            log.warning("%s", error)
            return True
        return False

    async def _recover(self, state: RunState, ids: list[str], left: Survivors, damage: list[str]) -> Loaded:
        """Makes durable what is left, so that whoever comes next finds it whole."""
        now, head, again = self.world.clock.now(), self.journal.head, list[Segment]()
        for segment in left.after:
            again.append(fitted(segment, state.books))
            state.books.replay(again[-1])
        undone = dispatches_known(await self.journal.snapshot(), state.books)
        for one in undone:
            state.books.undo(one)
        for one in self._unknown_dispatches(state):
            state.books.undo(one)
            undone.append(one)
        turn = _turn_of(state, head)
        message = f"went on from checkpoint {left.base.sequence}, since {what_is_lost(damage, left.lost)}"
        last = Batch(
            CommitReason.RECOVERY,
            now,
            turn,
            head.breaker,
            None,
            undone=tuple(undone),
            reduce_again=turn.phase is not head.phase,
            counts=state.ledgers[Stage.MAP].durable_counts,
            answers=head.answers,
            opened_at=head.opened_at,
            spec=state.works.text,
            kept=state.spec.checkpoint.enabled,
        )
        state.books.reduce_again |= last.reduce_again
        if wrong := violations(state.books, turn.phase, {}):
            raise JournalError(f"what is left of {StorageKeys(self.run).prefix} contradicts itself: {'; '.join(wrong)}")
        batches = [*told_again(again, turn, last.kept), last]
        base = msgspec.structs.replace(left.base, recovered=Recovered(now, message))
        head = await self.world.counted(last.reason, self.journal.branch(base, batches))
        if last.kept:
            await self.journal.keep()
        state.course.turn = state.course.committed = turn
        state.resume(now, head)
        self.world.metrics.fell_back()
        return Loaded(state, ids, [Announce("Warning", "CheckpointFallback", message)])

    def _unknown_dispatches(self, state: RunState) -> Iterator[Undone]:
        """Dispatches that only Jobs know of: their numbers must not come again."""
        found: dict[tuple[Stage, str], int] = {}
        for job in self.world.known_workloads(self.run.uid):
            if isinstance(job, JobSeen):
                stage, dispatch = job.carried.stage, job.carried.dispatches[0]
                position = state.ledgers[stage].position(dispatch.item_key)
                if position is not None and state.ledgers[stage][position].dispatch < dispatch.number:
                    known = found.get((stage, dispatch.item_key), 0)
                    found[stage, dispatch.item_key] = max(known, dispatch.number - 1)
        return (Undone(stage, key, dispatches) for (stage, key), dispatches in found.items())


def _turn_of(state: RunState, head: Checkpoint) -> Turn:
    """The phase of the run: back to its map when results that it had are lost."""
    ledger, reducing = state.ledgers[Stage.MAP], state.ledgers[Stage.REDUCE]
    succeeded = head.phase in {Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED}
    ended = head.phase is Phase.REDUCE or succeeded
    reduced = reducing.finished or not succeeded or state.spec.reduce is None
    if not ended or (reduced and not violations(state.books, head.phase, {})):
        return Turn(head.phase, head.phase_reason, head.phase_message)
    left = sum(count for one, count in ledger.counts.items() if one is not ItemState.SUCCEEDED)
    return Turn(Phase.MAP, RECOVERED, f"outcomes were lost to damage in storage; {left:,} items are not Succeeded")


async def read_books(journal: Journal) -> Books | None:
    """What a journal tells, claiming nothing; None where there is none.

    Raises JournalError where it is damaged, and StorageError.
    """
    if await journal.peek() is None:
        return None
    return await journal.books(await journal.plan.ids())
