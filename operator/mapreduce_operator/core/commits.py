"""When what has happened is made durable, and what follows when it is."""

from typing import Final

import msgspec

from mapreduce_operator.api import ItemState
from mapreduce_operator.core.batches import Batch, Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.checkpoint import Answers, CommitReason, RefusedRestore, Restarted
from mapreduce_operator.core.course import Course
from mapreduce_operator.core.effects import Commit, DeleteJob, Effect
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.letterbox import Letterbox
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.story import Story
from mapreduce_operator.core.throughput import Throughput
from mapreduce_operator.core.works import Works


class Commits:
    """One at a time: what happens meanwhile is in the next one."""

    def __init__(
        self,
        works: Works,
        books: Books,
        unsaved: Uncommitted,
        *,
        course: Course,
        guard: Guard,
        letterbox: Letterbox,
        story: Story,
    ) -> None:
        self._works: Final = works
        self._books: Final = books
        self._unsaved: Final = unsaved
        self._course: Final = course
        self._guard: Final = guard
        self._letterbox: Final = letterbox
        self._story: Final = story
        self.in_flight = False
        self.answers = Answers()
        """What people asked for and got, whether that is durable or not."""
        self.throughput: Final = Throughput()

    # ------------------------------------------------------------------------------------------------ what is asked

    def ask_checkpoint(self, token: str, now: float) -> None:
        """Somebody wants a checkpoint now, whether there is anything to save or not."""
        self.answers = msgspec.structs.replace(self.answers, checkpoint=token)
        self._ask(CommitReason.MANUAL, now)

    def restarted(self, restarted: Restarted) -> None:
        """Somebody wanted a phase to run again, and it will as soon as that is durable."""
        self.answers = msgspec.structs.replace(self.answers, restarted=restarted)
        self._ask(CommitReason.RESTART, restarted.at)

    def refuse(self, refused: RefusedRestore, now: float) -> None:
        """What somebody asked for is impossible, and is not done later either, when it has become possible."""
        self.answers = msgspec.structs.replace(self.answers, refused=refused)
        self._ask(CommitReason.MANUAL, now)

    def _ask(self, reason: CommitReason, now: float) -> None:
        self._unsaved.begin(now)
        if self._unsaved.asked is not CommitReason.RESTART:
            self._unsaved.asked = reason

    # --------------------------------------------------------------------------------------------------- what is due

    def due(self, now: float) -> list[Effect]:
        """A commit after what comes first: a change of phase, enough outcomes, enough time, or nothing else to do."""
        if self.in_flight:
            return []
        spec = self._works.spec
        if not self._course.settled:
            restarts = self._unsaved.asked is CommitReason.RESTART
            return [Commit(CommitReason.RESTART if restarts else CommitReason.PHASE_CHANGE)]
        if not self._unsaved:
            return []
        if (urgent := self._unsaved.urgent) is not None:
            return [Commit(urgent)]
        if len(self._unsaved.records) >= spec.checkpoint.every_items:
            return [Commit(CommitReason.ITEMS)]
        if now >= self._next_in_time:
            return [Commit(CommitReason.TIME)]
        idle = self._books.active == 0 or spec.suspend or self._course.ends_now
        return [Commit(CommitReason.IDLE)] if idle or self._skip_waits else []

    def next_due(self) -> float | None:
        """When there is something to save even if nothing happens, in seconds since the epoch."""
        return self._next_in_time if self._unsaved and not self.in_flight else None

    @property
    def _next_in_time(self) -> float:
        return self._unsaved.since + self._works.spec.checkpoint.every_seconds

    @property
    def _skip_waits(self) -> bool:
        """An item that the user does not want is over, or its agent stopped, when what is known of it is durable."""
        ledger, unrecorded = self._books.ledgers[Stage.MAP], self._unsaved.unrecorded
        waiting = self._letterbox.unwanted(ItemState.PENDING, ItemState.RETRY_WAIT)
        waits = (not ledger.is_settled(position) for position in waiting)
        runs = (ledger[one].job_uid in unrecorded for one in self._letterbox.unwanted(ItemState.RUNNING))
        return any(waits) or any(runs)

    # ------------------------------------------------------------------------------------------------- what is done

    def begin(self, reason: CommitReason, now: float, *, with_snapshot: bool = False) -> Batch:
        """Everything that is not durable yet; what comes after is in the next batch."""
        self.in_flight = True
        breaker = self._guard.breaker
        return self._unsaved.take(
            Batch(
                reason,
                now,
                self._course.turn,
                breaker if breaker != Breaker() else None,
                self._books.snapshot(self._unsaved, now) if with_snapshot else None,
                counts=self._books.ledgers[Stage.MAP].durable_counts,
                answers=self.answers,
                opened_at=self._course.opened_at,
                spec=self._works.text,
                kept=self._works.spec.checkpoint.enabled,
            )
        )

    def done(self, batch: Batch, now: float) -> list[Effect]:
        """A batch is durable: its Jobs may go, what it took may be run, and the status may say so."""
        self.in_flight = False
        self._unsaved.drop(batch, now)
        before, self._course.committed = self._course.committed, batch.turn
        effects: list[Effect] = []
        for accepted in batch.redrives:
            self._books.account.redrives[accepted.number].durable = True
        for claim in batch.claims:
            self._books.ledgers[claim.stage].enqueue(self._books.position(claim.stage, claim.key))
        self._books.settle(self._books.account, batch, batch.at)
        mapped = (record for record in batch.records if record.outcome.stage is Stage.MAP)
        self.throughput.ended(sum(record.item.final for record in mapped), now)
        for record in batch.records:
            self._books.ledgers[record.outcome.stage].enqueue(self._books.position_of(record.outcome))
            if record.outcome.job:
                effects.append(DeleteJob(record.outcome.job, record.outcome.job_uid))
        self._letterbox.set_aside(now)
        return [*effects, *self._story.turned(before, batch.turn)]
