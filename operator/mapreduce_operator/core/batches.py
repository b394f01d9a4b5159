"""What is not durable yet, and what one commit makes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mapreduce_operator.api import ItemState
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.checkpoint import Answers, CommitReason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, CalledOff, Claim, Mark, Record, SegmentHeader, Start, Undone
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
    left_out: tuple[str, ...] = ()
    letters: tuple[GivenUp, ...] = ()
    """Their bodies are written before all else."""
    undone: tuple[Undone, ...] = ()
    reduce_again: bool = False
    counts: Mapping[ItemState, int] = field(default_factory=dict)
    """Of the items of the map, as the run will be read back."""
    answers: Answers = field(default_factory=Answers)
    opened_at: float = 0.0
    spec: bytes = b""
    """What is run: map, reduce and params, as a JSON text."""
    kept: bool = True
    """The checkpoint gets an object of its own, so that one can come back to it."""

    def header(self, sequence: int, previous: int, previous_sha256: str, epoch: int) -> SegmentHeader:
        """What of it stands in the first line of its segment, which follows another one, 0 for none."""
        return SegmentHeader(
            sequence,
            previous_sha256,
            self.turn.phase,
            self.at,
            self.reason,
            previous=None if previous == sequence - 1 else previous,
            epoch=epoch,
            count=len(self.records),
            undone=self.undone,
            starts=self.starts,
            redrives=self.redrives,
            claims=self.claims,
            marks=self.marks,
            called_off=self.called_off,
            given_back=self.given_back,
            left_out=self.left_out,
            reduce_again=self.reduce_again,
        )


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
    left_out: list[str] = field(default_factory=list)
    letters: list[GivenUp] = field(default_factory=list)
    reduce_again: bool = False
    asked: CommitReason | None = None
    """Somebody asked for a checkpoint, whether there is anything to save or not."""

    def __bool__(self) -> bool:
        return bool(self.starts or self.records or self.urgent)

    @property
    def urgent(self) -> CommitReason | None:
        """What somebody waits for; None while nobody does."""
        taken = self.redrives or self.claims or self.marks or self.called_off or self.given_back
        if self.asked is None and (taken or self.reduce_again):
            return CommitReason.REDRIVE
        return self.asked or (CommitReason.SKIP if self.left_out else None)

    @property
    def unrecorded(self) -> set[str]:
        """Jobs that must not vanish yet: whoever comes next does not know that they were started."""
        return {start.job_uid for start in self.starts}

    def begin(self, now: float) -> None:
        """To be called before something is added."""
        if not self:
            self.since = now

    def take(self, standing: Batch) -> Batch:
        """All of it, in the batch that says where the run stands."""
        batch = replace(
            standing,
            starts=tuple(self.starts),
            records=tuple(self.records),
            redrives=tuple(self.redrives),
            claims=tuple(self.claims),
            marks=tuple(self.marks),
            called_off=tuple(self.called_off),
            given_back=tuple(self.given_back),
            left_out=tuple(self.left_out),
            letters=tuple(self.letters),
            reduce_again=self.reduce_again,
        )
        self.reduce_again, self.asked = False, None
        return batch

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
        del self.left_out[: len(batch.left_out)]
        del self.letters[: len(batch.letters)]
