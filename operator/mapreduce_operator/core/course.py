"""The course of a run: which phase it is in, where it goes next, and what keeps new items from being started."""

from typing import Final

from mapreduce_operator.api import ItemState, Phase, RestartPhase, ResultsAs, Retry
from mapreduce_operator.core.batches import Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import Redriven
from mapreduce_operator.core.journal import Claim
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.phases import CLOSED, FINAL_PHASES, NEXT, Turn, after_map, after_reduce
from mapreduce_operator.core.works import Works

CANCELLED: Final = "Cancelled"
OVERDUE: Final = "DeadlineExceeded"
"""Reasons of a run that was ended at once, planned or not."""
UNTIL_TAKEN_BACK: Final = CANCELLED, "spec.cancel is true: set it to false, and this is done"
"""(reason, message) of why nothing that is asked of a cancelled job is done."""


def end_without_plan(
    *, cancel: bool, active_deadline_seconds: int | None, started_at: float, now: float
) -> Turn | None:
    """How a run ends whose input could not be planned so far; None while it may wait for that to be mended."""
    advice = "and the job goes on planning by itself: there is nothing to restart"
    if cancel:
        message = f"spec.cancel is true; the job was not planned yet, and nothing was run. Set it to false, {advice}"
        return Turn(Phase.FAILED, CANCELLED, message)
    if active_deadline_seconds is None or now < started_at + active_deadline_seconds:
        return None
    message = (
        f"the job could not be planned within the {active_deadline_seconds:,} s of activeDeadlineSeconds, which are "
        f"counted from status.startTime, and nothing was run. Raise them, {advice}"
    )
    return Turn(Phase.FAILED, OVERDUE, message)


class Course:
    """`turn` is the last change of phase, `committed` the last one that is durable."""

    def __init__(self, books: Books, guard: Guard, unsaved: Uncommitted, works: Works, turn: Turn) -> None:
        self._books: Final = books
        self._guard: Final = guard
        self._unsaved: Final = unsaved
        self._works: Final = works
        self.turn = turn
        self.committed = turn
        self.reduce_ready: ResultsAs | None = None
        """How the input of the reduce is where its agent finds it; None while it is not there."""
        self.opened_at = 0.0
        """When the run began, or was reopened, in seconds since the epoch."""
        self.overdue = False
        """Its activeDeadlineSeconds are over."""

    @property
    def deadline(self) -> float | None:
        """When all agents are interrupted, in seconds since the epoch; None for a run that may take any time."""
        if self._works.spec.active_deadline_seconds is None or self.turn.phase in FINAL_PHASES:
            return None
        return self.opened_at + self._works.spec.active_deadline_seconds

    def at(self, now: float) -> None:
        """Time has passed."""
        self.overdue = self.deadline is not None and now >= self.deadline

    @property
    def ends_now(self) -> bool:
        """The run waits for none of its agents: they are interrupted, and it ends."""
        return self.overdue or (self._works.spec.cancel and self.turn.phase not in FINAL_PHASES)

    @property
    def settled(self) -> bool:
        """The phase is durable."""
        return self.turn.phase is self.committed.phase

    @property
    def stage(self) -> Stage:
        return Stage.REDUCE if self.turn.phase is Phase.REDUCE else Stage.MAP

    @property
    def _given_up(self) -> int:
        """Open letters, and those that are about to be: what starts agents must not wait until that is durable."""
        return self._books.account.dead_letters.open_count + len(self._unsaved.letters)

    def stop(self) -> tuple[str, str] | None:
        """(reason, message) of why no more items are started for good; those that run come to their end."""
        if self.ends_now and self._works.spec.cancel:
            message = (
                "spec.cancel is true; its agents were interrupted. Set it to false, and restart the map to go on: what "
                "has succeeded stays"
            )
            return CANCELLED, message
        if self.overdue:
            seconds = self._works.spec.active_deadline_seconds
            message = (
                f"the job was not done within the {seconds:,} s of activeDeadlineSeconds; its agents were interrupted. "
                "Raise them, and restart the map to go on"
            )
            return OVERDUE, message
        if self.turn.phase is not Phase.MAP or self.turn.reason in CLOSED:
            return None
        return self._guard.stop(self._books.ledgers[Stage.MAP].judged, self._given_up)

    def takes_new_items(self) -> bool:
        """Items other than those that a Redrive has taken may be started: what was taken is never left where it is."""
        return self.turn.reason not in CLOSED and self.stop() is None and not self._guard.is_full(self._given_up)

    def hindrance(self) -> tuple[str, str] | None:
        """(reason, message) of which limit keeps items from being started, for now or for good; None when none does."""
        if self.turn.phase is not Phase.MAP:
            return None
        if self.turn.reason in CLOSED and not self.ends_now:
            # A queue that is full keeps back only what no Redrive has taken.
            return self.closed() or self._guard.circuit()
        return self.stop() or self.closed() or self._guard.hindrance(self._books.account.dead_letters.open_count)

    def closed(self) -> tuple[str, str] | None:
        """(reason, message) while the user wants no items to be started; None while any may be."""
        if self.turn.phase is not Phase.MAP or self._works.spec.map.max_parallel:
            return None
        return "MaxParallelIsZero", "spec.map.maxParallel of the job is 0: items are started when it is raised"

    def redrive_waits(self) -> tuple[str, str] | None:
        """(reason, message) of why no letters can be taken just now; None when they can."""
        if self._works.spec.cancel:
            return UNTIL_TAKEN_BACK
        if self.turn.phase is Phase.REDUCE:
            return "Reducing", "the reduce of the job runs over the results as they are; letters are taken when it ends"
        if (stop := self.stop()) is not None:
            return "Stopping", f"the job is being stopped ({stop[0]}); letters are taken when its agents have ended"
        if not self.settled:
            return "Turning", "the job is about to enter another phase; letters are taken then"
        return None

    def restart_waits(self, phase: RestartPhase) -> tuple[str, str] | None:
        """(reason, message) of why the map or the reduce cannot be begun again just now; None when it can.

        A reduce that is asked for while the map runs follows the map.
        """
        if phase is RestartPhase.REDUCE:
            if self._works.spec.reduce is None:
                return "NoReduce", "the job has no reduce: give it spec.reduce, and this is done"
            if self.turn.phase in FINAL_PHASES and (turn := self._outlook()).phase is not Phase.REDUCE:
                return turn.reason, f"the reduce would not run: {turn.message}. Mend that, and this is done"
        return self.redrive_waits()

    # --------------------------------------------------------------------------------------------- where it goes next

    def turn_to(self, turn: Turn) -> None:
        if turn.phase not in NEXT[self.turn.phase]:
            raise RuntimeError(f"{self.turn.phase} is not followed by {turn.phase}")
        self.turn = turn

    def reopen(self, reason: str, message: str, now: float) -> None:
        """A run that has ended goes back to its map; one that did so for less goes on for more."""
        if self.turn.phase in FINAL_PHASES:
            self.turn_to(Turn(Phase.MAP, reason, message))
            self.opened_at = now
            self.at(now)
        elif self.turn.reason in CLOSED and reason not in CLOSED:
            self.turn = Turn(self.turn.phase, reason, message)

    def turn_if_done(self, reduce_retry: Retry, now: float) -> None:
        """Enters the next phase if nothing is left to do in this one."""
        ledger, reducing = self._books.ledgers[Stage.MAP], self._books.ledgers[Stage.REDUCE]
        if self.turn.phase is Phase.MAP:
            redriven = next(self._books.account.redrives.running(), None) is None
            if ledger.running == 0 and redriven and (stop := self.stop()) is not None:
                self.turn_to(Turn(Phase.FAILED, *stop))
            elif ledger.finished or (redriven and self.turn.reason in CLOSED):
                self.turn_to(self._after_map(reduce_retry, now))
        elif self.turn.phase is not Phase.REDUCE:
            return
        elif not reducing.running and not reducing.finished and (stop := self.stop()) is not None:
            self.turn_to(Turn(Phase.FAILED, *stop))
        elif self._works.spec.reduce is not None and reducing.finished:
            self.turn_to(after_reduce(reducing[0].state is ItemState.SUCCEEDED, ledger.judged, self._works.spec))
        elif self._works.spec.reduce is None and not reducing.running:
            # It was taken out of the spec: one that runs may end, and decides nothing.
            self.turn_to(after_map(ledger.judged, self._works.spec))

    def _outlook(self) -> Turn:
        """Where a map that is over leads, by what its items came to."""
        counts = self._books.ledgers[Stage.MAP].judged
        if (stop := self._guard.stop(counts, self._given_up)) is not None:
            return Turn(Phase.FAILED, *stop)
        return after_map(counts, self._works.spec)

    def _after_map(self, reduce_retry: Retry, now: float) -> Turn:
        """Where the run goes; a reduce that has run before runs again only when somebody asked for that."""
        turn, reducing = self._outlook(), self._books.ledgers[Stage.REDUCE]
        if turn.phase is not Phase.REDUCE:
            return turn
        if reducing[0].final:
            if not self._books.reduce_again:
                succeeded, counts = reducing[0].state is ItemState.SUCCEEDED, self._books.ledgers[Stage.MAP].judged
                return after_reduce(succeeded, counts, self._works.spec)
            item = reducing.apply(0, Redriven(0, reduce_retry.max_attempts), reduce_retry, now)
            if item is None:
                raise RuntimeError("the reduce cannot be run again")
            self._unsaved.claims.append(Claim.of(Stage.REDUCE, reducing.key(0), item))
        # Its input may be that of before: of a reduce that was taken out of the spec, and was given back.
        self.reduce_ready = None
        self._books.reduce_again = False
        return turn
