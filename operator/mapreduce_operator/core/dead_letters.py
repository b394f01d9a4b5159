"""The dead letters of a run as its memory holds them: what they are, what they have in common, which are dealt with.

Bodies lie in storage (core.letters); here is what the status of the queue, its capacity and the choice of a Redrive
need. It follows from what the journal tells and is never stored as a truth of its own. Each change costs the same for
ten letters as for 100,000.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import msgspec

from mapreduce_operator.api import Cause, LetterState, Reason
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import Letter, moment
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.signatures import signature_of

ENTRY_CHARACTERS: Final = 256
"""What is remembered of a message; the body holds more."""
SAMPLES: Final = 3


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A letter in short."""

    position: int
    cause: Cause
    reason: Reason
    signature: str
    """Id of the signature."""
    node: str
    attempts: int
    at: float
    """When its last dispatch ended, in seconds since the epoch."""
    message: str

    @classmethod
    def of(cls, letter: Letter) -> "Entry":
        """What is remembered of a letter that was read from storage."""
        return cls(
            letter.position,
            letter.cause,
            letter.reason,
            letter.signature_id,
            letter.node,
            letter.attempts,
            letter.last_attempt_at.timestamp(),
            end_of(letter.message, ENTRY_CHARACTERS),
        )


@dataclass(slots=True)
class Group:
    """Open letters that failed the same way."""

    signature: str
    text: str
    reason: Reason
    positions: dict[int, None] = field(default_factory=dict)
    """In the order in which they were added."""

    @property
    def count(self) -> int:
        return len(self.positions)

    @property
    def samples(self) -> list[int]:
        """Positions of the first of them."""
        return list(islice(self.positions, SAMPLES))


class DeadLetters:
    """Letters by the position of their item, in the order in which they were added last."""

    def __init__(self) -> None:
        self._entries: dict[int, Entry] = {}
        self._states: dict[int, LetterState] = {}
        self._counts: Counter[LetterState] = Counter()
        self._open: dict[int, None] = {}
        self._groups: dict[str, Group] = {}
        self._texts: dict[str, str] = {}
        self.reasons: Final[Counter[Reason]] = Counter()
        self.causes: Final[Counter[Cause]] = Counter()
        self.nodes: Final[Counter[str]] = Counter()

    # ------------------------------------------------------------------------------------------------ what happened

    def add(self, position: int, item: Item, outcome: Outcome) -> None:
        """The item was given up, for the first time or once more."""
        if item.cause is None or outcome.reason is None:
            raise ValueError(f"the item at {position} was not given up")
        signature = signature_of(outcome.reason, outcome.exit_code, outcome.message)
        entry = Entry(
            position,
            item.cause,
            outcome.reason,
            signature.id,
            outcome.node,
            item.attempts,
            outcome.ended_at,
            end_of(outcome.message, ENTRY_CHARACTERS),
        )
        self.restore(entry, LetterState.OPEN, signature.text)

    def restore(self, entry: Entry, state: LetterState, text: str) -> None:
        """Puts a letter where it was when a snapshot was made."""
        self.remove(entry.position)
        self._texts.setdefault(entry.signature, text)
        self._entries[entry.position] = entry
        self._enter(entry.position, state)

    def turn(self, position: int, state: LetterState) -> None:
        """The letter was taken, resolved or set aside."""
        self._leave(position)
        self._enter(position, state)

    def remove(self, position: int) -> None:
        """The letter was purged; nothing happens where there is none."""
        if position in self._entries:
            self._leave(position)
            del self._entries[position]

    def _enter(self, position: int, state: LetterState) -> None:
        self._states[position] = state
        self._counts[state] += 1
        if state is LetterState.OPEN:
            self._open[position] = None
            self._count(self._entries[position], 1)

    def _leave(self, position: int) -> None:
        state = self._states.pop(position)
        self._counts[state] -= 1
        if state is LetterState.OPEN:
            del self._open[position]
            self._count(self._entries[position], -1)

    def _count(self, entry: Entry, one: int) -> None:
        counters: tuple[tuple[Counter[str], str], ...] = (
            (self.reasons, entry.reason),  # type: ignore[assignment]  # its keys are strings
            (self.causes, entry.cause),
            (self.nodes, entry.node),
        )
        for counter, key in counters:
            counter[key] += one
            if not counter[key]:
                del counter[key]
        group = self._groups.get(entry.signature)
        if group is None:
            group = Group(entry.signature, self._texts[entry.signature], entry.reason)
            self._groups[entry.signature] = group
        if one > 0:
            group.positions[entry.position] = None
        else:
            del group.positions[entry.position]
        if not group.positions:
            del self._groups[entry.signature]

    # --------------------------------------------------------------------------------------------------- what is so

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def counts(self) -> Mapping[LetterState, int]:
        return self._counts

    @property
    def open_count(self) -> int:
        return len(self._open)

    @property
    def unresolved(self) -> int:
        """Letters whose items have not succeeded since."""
        return len(self._entries) - self._counts[LetterState.RESOLVED]

    def expired(self, before: float, *, with_open: bool) -> list[int]:
        """Positions of the letters that were added before a moment and are dealt with, or of all but claimed ones."""
        done = {LetterState.RESOLVED, LetterState.ARCHIVED} | ({LetterState.OPEN} if with_open else set())
        return [one.position for one, state, _ in self.all() if one.at < before and state in done]

    def get(self, position: int) -> Entry | None:
        return self._entries.get(position)

    def body(self, position: int, item: PlannedItem, key: str) -> Letter:
        """The body of a letter that was purged since: all that is remembered, which is not its history."""
        entry = self._entries[position]
        return Letter(
            id=item.id,
            key=key,
            position=position,
            payload=msgspec.Raw(item.payload),
            cause=entry.cause,
            reason=entry.reason,
            message=entry.message,
            signature_id=entry.signature,
            signature=self._texts[entry.signature],
            first_attempt_at=moment(entry.at),
            last_attempt_at=moment(entry.at),
            attempts=entry.attempts,
            node=entry.node,
            omitted=entry.attempts,
        )

    def state(self, position: int) -> LetterState | None:
        """Where a letter is; None where there is none. One that is run again just now is claimed."""
        return self._states.get(position)

    def open(self) -> Iterator[int]:
        """Positions of the open letters, the oldest first."""
        return iter(self._open)

    def newest(self, number: int) -> list[tuple[Entry, LetterState]]:
        """The letters that were added last, the newest first."""
        return [(entry, self._states[entry.position]) for entry in islice(reversed(self._entries.values()), number)]

    def span(self, group: Group | None = None) -> tuple[float, float] | None:
        """When the first and the last of the open letters, or of those of a group, were added; None without any."""
        positions = self._open if group is None else group.positions
        if not positions:
            return None
        return self._entries[next(iter(positions))].at, self._entries[next(reversed(positions))].at

    def largest_groups(self, number: int) -> list[Group]:
        return heapq.nsmallest(number, self._groups.values(), key=lambda group: (-group.count, group.signature))

    def all(self) -> Iterator[tuple[Entry, LetterState, str]]:
        """Every letter with its state and the text of its signature, in the order in which they were added."""
        for position, entry in self._entries.items():
            yield entry, self._states[position], self._texts[entry.signature]
