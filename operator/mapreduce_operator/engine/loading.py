"""Brings one run to where it can go on: planned for the first time, or read back and compared with the cluster."""

import logging
from dataclasses import dataclass

from mapreduce_operator.api import MapReduceJob
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.journal import JournalError
from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import keys_of
from mapreduce_operator.core.run import RunState
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.planner import plan_input
from mapreduce_operator.engine.world import World

log = logging.getLogger(__name__)


class StateLostError(JournalError):
    """The run was planned before, and storage knows nothing of it."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run that can go on."""

    state: RunState
    ids: list[str]
    """Of all items, in the order of the plan."""
    events: list[Announce]


async def load(world: World, run: RunRef, journal: Journal, job: MapReduceJob, *, planned_before: bool) -> Loaded:
    """Loads a run, or plans it.

    Raises InputError for an input that cannot be planned, JournalError for a state that is damaged or lost,
    DeposedError when a later leader has it, and StorageError or ClusterError for what may pass.
    """
    await world.suitability.check()
    await world.cluster.add_finalizer(run)
    events: list[Announce] = []
    head = await journal.load()
    if head is None:
        if planned_before:
            raise StateLostError(
                f"{world.storage_url} has no {StorageKeys(run).head}, and the status says that the run was planned. "
                "Nothing is run, or deleted, until it is there again. If it is lost for good, delete the MapReduceJob "
                "and apply it again: all its items are run again then"
            )
        planned = await plan_input(world.cluster, run, job.spec.input, world.limits)
        head = await journal.create(planned)
        left_out = f"; {planned.duplicates:,} duplicates were left out" if planned.duplicates else ""
        events.append(Announce("Normal", "Planned", f"planned {len(planned.items):,} items{left_out}"))
    ids = await journal.ids()
    turn = Turn(head.phase, head.phase_reason, head.phase_message)
    state = RunState(run, job.spec, keys_of(run.uid, ids), turn)
    await _tell(journal, state)
    state.resume(world.clock.now(), head.breaker)
    if head.sequence:
        log.info(
            "%s/%s: resumed at checkpoint %d with %d Jobs and pods",
            run.namespace,
            run.name,
            head.sequence,
            len(world.known_workloads(run.uid)),
        )
    return Loaded(state, ids, events)


async def read_books(journal: Journal, run: RunRef) -> Books | None:
    """What the journal of a run tells, claiming nothing; None where there is no journal.

    Raises JournalError where it is damaged, and StorageError.
    """
    if await journal.peek() is None:
        return None
    books = Books(run, keys_of(run.uid, await journal.ids()))
    await _tell(journal, books)
    return books


async def _tell(journal: Journal, listener: RunState | Books) -> None:
    """Tells what was committed, in its order."""
    snapshot, segments = await journal.history()
    if snapshot is not None:
        listener.restore(snapshot)
    for segment in segments:
        listener.replay(segment)
