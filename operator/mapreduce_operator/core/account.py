"""What the durable outcomes of a run add up to, beside the states of its items."""

from dataclasses import dataclass, field

from mapreduce_operator.api import ItemState, LetterState
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.journal import MarkKind, Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.redrives import Redrives
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.tally import Tally


@dataclass(slots=True)
class Account:
    """Each outcome is taken once, in the order of the journal, whether it has just become durable or is read back."""

    tally: Tally = field(default_factory=Tally)
    dead_letters: DeadLetters = field(default_factory=DeadLetters)
    redrives: Redrives = field(default_factory=Redrives)

    def take(self, record: Record, position: int) -> None:
        """An outcome of the item at that position."""
        item, outcome = record.item, record.outcome
        self.tally = self.tally.with_record(record, position)
        if outcome.stage is Stage.REDUCE or not item.final:
            return
        if item.state is ItemState.DEAD_LETTERED:
            self.dead_letters.add(position, item, outcome)
        elif self.dead_letters.get(position) is not None:
            self.dead_letters.turn(position, LetterState.RESOLVED)
        if item.redrive:
            self.redrives.count(item.redrive, item.state is ItemState.SUCCEEDED, outcome.ended_at)

    def claim(self, position: int) -> None:
        """A Redrive has taken the letter, or a restart an item that was left out."""
        if self.dead_letters.get(position) is not None:
            self.dead_letters.turn(position, LetterState.CLAIMED)

    def give_back(self, position: int, redrive: int, at: float) -> None:
        """The item of a Redrive that was called off is what it was before."""
        if self.dead_letters.get(position) is not None:
            self.dead_letters.turn(position, LetterState.OPEN)
        self.redrives.count(redrive, False, at)

    def leave_out(self, redrive: int, at: float) -> None:
        """The user does not want an item to be run, which a restart may have taken."""
        if redrive:
            self.redrives.count(redrive, False, at)

    def mark(self, position: int, kind: MarkKind) -> None:
        """The letter was set aside, or purged."""
        if kind is MarkKind.PURGED:
            self.dead_letters.remove(position)
        else:
            self.dead_letters.turn(position, LetterState.ARCHIVED)

    def restore(self, snapshot: Snapshot) -> None:
        """Brings back what a snapshot holds of it."""
        self.tally = snapshot.tally
        for letter in snapshot.letters:
            self.dead_letters.restore(*letter)
        for redrive in snapshot.redrives:
            self.redrives.restore(*redrive)

    def copy(self) -> "Account":
        """Another one that goes its own way."""
        other = Account(self.tally)
        for letter in self.dead_letters.all():
            other.dead_letters.restore(*letter)
        for progress in self.redrives.all():
            other.redrives.restore(*progress.as_kept())
        return other
