"""Answers what people ask of a run once: a checkpoint now, a restart, a restore.

A restart of map or reduce changes the state in memory, as a Redrive does. A restore and a new plan put another state in
its place: they are written while the run stands still, and the run is loaded anew.
"""

import logging
from typing import Final

import msgspec

from mapreduce_operator.api import MapReduceJob, Phase, Restart, RestartPhase, Restore
from mapreduce_operator.core.batches import Batch, Uncommitted
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.carrying import carried, undone_since
from mapreduce_operator.core.checkpoint import (
    Answers,
    Checkpoint,
    CommitReason,
    JournalError,
    Recovered,
    RefusedRestore,
    Restarted,
    Restored,
)
from mapreduce_operator.core.course import UNTIL_TAKEN_BACK
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.names import ANNOTATION_CHECKPOINT, RunRef, Stage
from mapreduce_operator.core.phases import FINAL_PHASES, RESTARTED, Turn
from mapreduce_operator.core.plan import InputError, Planned
from mapreduce_operator.core.requests import (
    Told,
    open_restart,
    open_restore,
    restarted_condition,
    restored_condition,
)
from mapreduce_operator.core.run import RunState
from mapreduce_operator.engine.checkpointer import batches_of
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.planner import plan_input
from mapreduce_operator.engine.troubles import reason_of
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import CheckpointNotFoundError, ClusterError, StorageError

log = logging.getLogger(__name__)

TOKEN_CHARACTERS: Final = 63
AGAIN_SECONDS: Final = 30.0
"""After a request could not be done, for a reason that may pass."""


def asked_token(job: MapReduceJob) -> str:
    """What the annotation says that asks for a checkpoint, as far as the status holds it; "" where there is none."""
    return job.metadata.annotations.get(ANNOTATION_CHECKPOINT, "")[:TOKEN_CHARACTERS]


class Requests:
    """Of one run."""

    def __init__(self, world: World, run: RunRef, journal: Journal) -> None:
        self._world: Final = world
        self._run: Final = run
        self._journal: Final = journal
        self._problem: tuple[Restore | Restart, str, str] | None = None
        """Why the last one could not be done."""
        self._again_at = 0.0

    # ----------------------------------------------------------------------------------------- in memory

    def look(self, job: MapReduceJob, state: RunState, now: float) -> Announce | None:
        """Does what can be done with the state as it is; returns what is to be told of it."""
        token = asked_token(job)
        if token and token != state.commits.answers.checkpoint:
            state.commits.ask_checkpoint(token, now)
            if not job.spec.checkpoint.enabled:
                return Announce(
                    "Warning",
                    "CheckpointsDisabled",
                    "a checkpoint was asked for, and spec.checkpoint.enabled is false: outcomes are saved, and "
                    "there is nothing to come back to",
                )
        if (restart := self._restartable(job, state)) is not None:
            state.restart(restart, job.spec.resume_policy, now)
        return None

    def _restartable(self, job: MapReduceJob, state: RunState) -> Restart | None:
        """The restart of map or reduce that was asked for and can be done now."""
        restart = open_restart(job.spec, state.commits.answers)
        if restart is None or restart.phase is RestartPhase.PLAN or state.letterbox.waits_for_commit:
            return None
        return restart if state.course.restart_waits(restart.phase) is None else None

    # ------------------------------------------------------------------------------------- beside the state

    def is_due(self, job: MapReduceJob, state: RunState, now: float) -> bool:
        """Something is asked for that can be done now, be it of a run that has ended."""
        return self._restartable(job, state) is not None or self.is_replacing(job, state, now)

    def is_replacing(self, job: MapReduceJob, state: RunState, now: float) -> bool:
        """Something is asked for that another state has to answer, and the run stands still for it."""
        asked = self._asked(job, state)
        waits = asked is None or self._waits(job, state, asked) is not None
        return not waits and (now >= self._again_at or self._problem is None or self._problem[0] != asked)

    def next_try(self, job: MapReduceJob, state: RunState) -> float | None:
        """When a request that could not be done is tried again, in seconds since the epoch."""
        asked = self._asked(job, state)
        if asked is None or self._problem is None or asked != self._problem[0]:
            return None
        return self._again_at if self._waits(job, state, asked) is None else None

    async def do(self, job: MapReduceJob, state: RunState) -> Announce | None:
        """Puts another state in the place of this one, in storage: then the run is to be loaded anew.

        None where that could not be done; the conditions say why.
        """
        asked = self._asked(job, state)
        if asked is None:
            return None
        try:
            told = await (
                self._restore(state, asked) if isinstance(asked, Restore) else self._plan_anew(job, state, asked)
            )
        except (InputError, CheckpointNotFoundError, JournalError, StorageError, ClusterError) as error:
            log.warning("%s/%s: %s", self._run.namespace, self._run.name, error)
            now = self._world.clock.now()
            if isinstance(asked, Restore) and isinstance(error, CheckpointNotFoundError | JournalError):
                # There may be such a checkpoint one day: nobody who asks now means that one.
                refused = RefusedRestore(asked.checkpoint, asked.token, reason_of(error), str(error))
                state.commits.refuse(refused, now)
            else:
                self._problem, self._again_at = (asked, reason_of(error), str(error)), now + AGAIN_SECONDS
            return None
        self._problem = None
        return told

    def _asked(self, job: MapReduceJob, state: RunState) -> Restore | Restart | None:
        """The restore, unless it cannot be done now and a new plan can."""
        restore, restart = open_restore(job.spec, state.commits.answers), open_restart(job.spec, state.commits.answers)
        if restart is None or restart.phase is not RestartPhase.PLAN:
            return restore
        return restart if restore is None or self._waits(job, state, restore) is not None else restore

    def _waits(self, job: MapReduceJob, state: RunState, asked: Restore | Restart) -> tuple[str, str] | None:
        """Why the run does not stand still for a request, as (reason, message)."""
        ended = state.phase in FINAL_PHASES
        if job.spec.cancel:
            return UNTIL_TAKEN_BACK
        if not job.spec.suspend and not (ended and isinstance(asked, Restart)):
            message = "the job must be suspended for this: set spec.suspend to true, and it is done; or take it back"
            return "NotSuspended", message
        if state.active or state.unsaved or state.commits.in_flight or not state.course.settled:
            return "AgentsRunning", f"{state.active:,} agents still run, or their outcomes are being saved"
        return None

    async def _restore(self, state: RunState, asked: Restore) -> Announce:
        world, head, now = self._world, self._journal.head, self._world.clock.now()
        checkpoints = world.checkpoints
        then = await checkpoints.find(self._run, asked.checkpoint)
        books = await checkpoints.books(self._run, then)
        undone = undone_since(books, await checkpoints.dispatched(self._run))
        for one in undone:
            books.undo(one)
        restored = Restored(asked.checkpoint, asked.token, now, head.sequence + 1)
        batch = Batch(
            CommitReason.RESTORE,
            now,
            Turn(then.phase, then.phase_reason, then.phase_message),
            then.breaker,
            books.snapshot(Uncommitted(), now),
            undone=tuple(undone),
            counts=books.ledgers[Stage.MAP].durable_counts,
            answers=msgspec.structs.replace(state.commits.answers, restored=restored),
            opened_at=now,
            spec=state.works.text,
        )
        await checkpoints.put_back_letters(self._run, then, books)
        base = msgspec.structs.replace(then, lineage=head.lineage, recovered=head.recovered)
        await world.counted(batch.reason, self._journal.branch(base, [batch]))
        await self._journal.keep()
        message = f"went back from checkpoint {head.sequence} to {then.sequence}, and goes on from {restored.sequence}"
        return Announce("Normal", "Restored", message)

    async def _plan_anew(self, job: MapReduceJob, state: RunState, asked: Restart) -> Announce:
        world, head, now = self._world, self._journal.head, self._world.clock.now()
        checkpoints = world.checkpoints
        saved, damage = await checkpoints.read_what_is_left(self._run, head)
        if job.spec.input.reference is None:
            # An input in the spec, or that of a fork, is what it was: nobody can change it.
            was = head.plan
            planned = Planned(list(saved.items), was.duplicates, was.filtered_out, was.out_of_range)
        else:
            planned = await plan_input(world, self._run, job.spec.input)
        dispatched = await checkpoints.dispatched(self._run)
        taken = carried(saved, self._run.uid, planned.items, job.spec.resume_policy, dispatched=dispatched)
        message = (
            f"planned anew: {len(planned.items):,} items, of which {len(taken.records):,} have their outcomes already"
        )
        standing = Batch(
            CommitReason.RESTART,
            now,
            Turn(Phase.MAP, RESTARTED, message),
            None if state.guard.breaker == Breaker() else state.guard.breaker,
            None,
            answers=msgspec.structs.replace(state.commits.answers, restarted=Restarted(asked.phase, asked.token, now)),
            opened_at=now,
            spec=state.works.text,
        )
        recovered = head.recovered
        if damage:
            recovered = Recovered(now, damage)
            message = f"{message}; {damage}"
        base: Checkpoint = msgspec.structs.replace(
            head,
            plan=await self._journal.plan.write(planned),
            recovered=recovered,
            phase=Phase.PLANNING,
            sequence=0,
            tail_sha256="",
            snapshot=None,
        )
        batches = batches_of(taken, standing, len(planned.items))
        await world.counted(standing.reason, self._journal.branch(base, batches))
        await self._journal.keep()
        if damage:
            world.metrics.fell_back()
            return Announce("Warning", "CheckpointFallback", message)
        return Announce("Normal", "Planned", message)

    def may_pass(self, job: MapReduceJob) -> bool:
        """What is asked for was tried, and may be possible without an edit: not when the spec itself is in the way."""
        answers = self._journal.head.answers
        asked = open_restore(job.spec, answers), open_restart(job.spec, answers)
        return self._problem is not None and self._problem[0] in asked

    # ------------------------------------------------------------------------------------------ what is said

    def conditions(self, job: MapReduceJob, state: RunState) -> dict[str, Told]:
        """Restored and Restarted, as far as somebody asked for them."""
        answers, found = state.commits.answers, dict[str, Told]()
        # What was answered is told when it is durable; until then it is about to be done.
        durable = state.checkpoint.answers if state.checkpoint is not None else Answers()
        why = self._why(job, state, open_restore(job.spec, answers))
        if (restored := restored_condition(job.spec, durable, why)) is not None:
            found["Restored"] = restored
        why = self._why(job, state, open_restart(job.spec, answers))
        outcome = state.what_became_of(job.spec.restart) if job.spec.restart is not None else ""
        if (restarted := restarted_condition(job.spec, durable, why, outcome)) is not None:
            found["Restarted"] = restarted
        return found

    def _why(self, job: MapReduceJob, state: RunState, asked: Restore | Restart | None) -> tuple[str, str] | None:
        if asked is None:
            return None
        if isinstance(asked, Restart) and asked.phase is not RestartPhase.PLAN:
            return state.course.restart_waits(asked.phase)
        if (waits := self._waits(job, state, asked)) is not None:
            return waits
        return self._problem[1:] if self._problem is not None and self._problem[0] == asked else None
