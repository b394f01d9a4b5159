"""What is not durable yet, and what one commit makes of it."""

from dataclasses import dataclass, field

from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, CalledOff, Claim, CommitReason, Mark, Record, Start
from mapreduce_operator.core.letters import Attempt
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An item that becomes a dead letter, with the dispatches that led to it since it was planned or redriven."""

    position: int
    item: Item
    outcome: Outcome
    history: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit makes durable.

    Nothing in it changes when storage is asked again: a write whose answer was lost is known again by its bytes.
    """

    reason: CommitReason
    at: float
    turn: Turn
    breaker: Breaker | None
    snapshot: Snapshot | None
    starts: tuple[Start, ...] = ()
    records: tuple[Record, ...] = ()
    redrives: tuple[Accepted, ...] = ()
    claims: tuple[Claim, ...] = ()
    marks: tuple[Mark, ...] = ()
    called_off: tuple[CalledOff, ...] = ()
    given_back: tuple[str, ...] = ()
    letters: tuple[GivenUp, ...] = ()
    """Their bodies are written before all else."""


@dataclass(slots=True)
class Uncommitted:
    """Everything that has happened and is not durable, in its order."""

    since: float = 0.0
    """When the first of it happened, or the last batch became durable, in seconds since the epoch."""
    starts: list[Start] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    redrives: list[Accepted] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    called_off: list[CalledOff] = field(default_factory=list)
    given_back: list[str] = field(default_factory=list)
    letters: list[GivenUp] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.starts or self.records or self.urgent)

    @property
    def urgent(self) -> bool:
        """Somebody waits for it."""
        return bool(self.redrives or self.claims or self.marks or self.called_off or self.given_back)

    def begin(self, now: float) -> None:
        """To be called before something is added."""
        if not self:
            self.since = now

    def batch(
        self, reason: CommitReason, at: float, turn: Turn, breaker: Breaker | None, snapshot: Snapshot | None
    ) -> Batch:
        return Batch(
            reason,
            at,
            turn,
            breaker,
            snapshot,
            starts=tuple(self.starts),
            records=tuple(self.records),
            redrives=tuple(self.redrives),
            claims=tuple(self.claims),
            marks=tuple(self.marks),
            called_off=tuple(self.called_off),
            given_back=tuple(self.given_back),
            letters=tuple(self.letters),
        )

    def drop(self, batch: Batch, now: float) -> None:
        """The batch is durable; what came after it stays."""
        self.since = now
        del self.starts[: len(batch.starts)]
        del self.records[: len(batch.records)]
        del self.redrives[: len(batch.redrives)]
        del self.claims[: len(batch.claims)]
        del self.marks[: len(batch.marks)]
        del self.called_off[: len(batch.called_off)]
        del self.given_back[: len(batch.given_back)]
        del self.letters[: len(batch.letters)]
