"""What is durable of a run, read from outside of the engine: the journal as plain JSON, and the letters beside it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.workloads import Dispatch

FINAL: Final = ("Succeeded", "DeadLettered", "Skipped")
Line = dict[str, Any]


class WatchedObjects(dict[str, bytes]):
    """The objects in storage, with some who are told at once of each write, and of each end before it comes."""

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        super().__init__(objects)
        self.on_write: Final[list[Callable[[str], None]]] = []
        self.on_delete: Final[list[Callable[[str], None]]] = []

    def __setitem__(self, key: str, data: bytes) -> None:
        super().__setitem__(key, data)
        for hook in self.on_write:
            hook(key)

    def pop(self, key: str, default: Any = None) -> Any:
        if key in self:
            for hook in self.on_delete:
                hook(key)
        return super().pop(key, default)


class LetterStates(NamedTuple):
    """How many letters are in which state."""

    open: int = 0
    claimed: int = 0
    resolved: int = 0
    archived: int = 0


_NO_LETTERS: Final = LetterStates()


@dataclass(frozen=True, slots=True)
class Counts:
    """What is durable of the map, as of one checkpoint."""

    succeeded: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    attempts: int = 0
    interruptions: int = 0
    retries: int = 0
    letters: LetterStates = _NO_LETTERS


LEFT_OUT: Final = "LeftOut"
"""An item that is skipped as the user wants it, and no failure."""


@dataclass(frozen=True, slots=True)
class _Segment:
    number: int
    sha256: str
    header: dict[str, Any]
    lines: list[Line]

    @property
    def before(self) -> int:
        """Number of the one before; 0 for none."""
        number: int = self.header.get("previous", self.number - 1)
        return number

    @property
    def carries(self) -> bool:
        """What it tells was so before, in the parent of a fork or by the plan before."""
        reason = self.header["reason"]
        return bool(reason == "Fork" or (reason == "Restart" and self.header.get("previous") == 0))


@dataclass(slots=True)
class Accepted:
    """A Redrive that has taken letters."""

    name: str
    selected: int
    parallelism: int
    rerun_reduce: bool
    taken: int = 0
    succeeded: int = 0
    failed: int = 0
    called_off: bool = False


class Durable:
    """Follows the head of one run; `wrong` is told what cannot be.

    The segments that count are a path in a tree: a run that was restored goes on from an earlier one, and one that was
    planned anew from none at all. What is told here is so on the present path, but for dispatches: what ran, ran.
    """

    def __init__(self, objects: Mapping[str, bytes], run: RunRef, wrong: Callable[[str], None]) -> None:
        self.objects: Final = objects if isinstance(objects, WatchedObjects) else WatchedObjects(objects)
        self.objects.on_write.append(self._tell)
        self.keys: Final = StorageKeys(run)
        self._wrong: Final = wrong
        self.outcomes: Final[dict[Dispatch, Line]] = {}
        """The line of each dispatch that ended, also of those that were undone since."""
        self.starts: Final[dict[Dispatch, str]] = {}
        """Uid of the Job of each dispatch whose start is durable."""
        self.settled: Final[dict[str, str]] = {}
        """Final state by item key, also that of the reduce."""
        self.counts: Final[dict[int, Counts]] = {0: Counts()}
        """By checkpoint."""
        self.letters: Final[dict[str, str]] = {}
        """State of each letter by item key."""
        self.redrives: Final[dict[str, Accepted]] = {}
        """By uid."""
        self.claims: Final[dict[str, Accepted]] = {}
        """The Redrive that took an item last, by item key."""
        self.head: dict[str, Any] = {}
        self.sequence, self.epoch = 0, 0
        self.on_check: Final[list[Callable[[Dispatch, Line], None]]] = []
        """Called with each outcome before it is taken in, unless the run had it before."""
        self.on_commit: Final[list[Callable[[dict[str, Any], list[Line]], None]]] = []
        """Called with header and lines of each segment that counts from now on, when they are taken in."""
        self.on_head: Final[list[Callable[[bytes], None]]] = []
        """Called with each head that is written, before anything of it is taken in."""
        self._segments: Final[dict[int, _Segment]] = {}
        """All that ever counted, by number."""
        self._tail = 0
        """Number of the last one that counts."""
        self._data = b""
        self._spent: Final[dict[str, tuple[int, int]]] = {}
        """Attempts and interruptions of each item of the map, by key."""
        self._before: Final[dict[str, str]] = {}
        """What the items were that a Redrive or a restart took."""
        self.unwanted: Final[set[str]] = set()
        """Keys of the items that the user did not want to be run at some time."""
        self.excused: Final[dict[str, int]] = {}
        """Dispatches of each item up to this one count no longer, whatever came of them."""
        self._last: Final[dict[str, int]] = {}
        """The last dispatch of each item that ever ended, by key."""
        self._map_keys: Final[set[str]] = set()
        self._numbers: Final[dict[int, Accepted]] = {}
        self._purged: Final[set[str]] = set()
        """Keys of items whose letters were let go once, be it on another path, or in the parent."""
        self._inherited: Final[dict[str, dict[int, tuple[str, str]]]] = {}
        """What letters told of their items when these were carried over."""

    def _tell(self, key: str) -> None:
        """An object was written."""
        if key == self.keys.head:
            self.refresh()

    def refresh(self) -> None:
        """Takes in what was committed since the last time."""
        data = self.objects.get(self.keys.head, b"")
        if data is self._data or not data:
            return
        self._data = data
        sequence = self._take_head(data)
        chain = self._chain(sequence, self.head.get("tailSha256", ""))
        if chain is None:
            return
        before = chain[0].before if chain else sequence
        if before != self._tail:
            self._go_back_to(before, chain[0] if chain else None)
        self.sequence = self._tail = sequence
        # With one head all of it counts: what a fork begins with tells of a letter, and then that it was let go.
        marks = (mark for segment in chain for mark in segment.header.get("marks", ()))
        self._purged.update(key for key, kind in marks if kind == "Purged")
        for segment in chain:
            self._segments[segment.number] = segment
            self._take(segment)
            for commit in self.on_commit:
                commit(segment.header, segment.lines)

    def _take_head(self, data: bytes) -> int:
        """Returns the number of its checkpoint."""
        line, _, sha256 = data.partition(b"\n")
        if sha256.strip().decode() != hashlib.sha256(line).hexdigest():
            self._wrong("the second line of the head is not the hash of the first one")
        head = msgspec.json.decode(line)
        sequence: int = head.get("sequence", 0)
        epoch = head.get("epoch", 0)
        if epoch < self.epoch:
            self._wrong(f"the head went back from epoch {self.epoch} to {epoch}")
        if sequence < self.sequence:
            self._wrong(f"the head went back from checkpoint {self.sequence} to {sequence}")
        for hook in self.on_head:
            hook(data)
        self.head, self.epoch = head, epoch
        return sequence

    def _chain(self, sequence: int, tail: str) -> "list[_Segment] | None":
        """The segments that count and were not known, in their order; None where they cannot be followed."""
        chain: list[_Segment] = []
        number, sha256 = sequence, tail
        while number:
            if number in self._segments:
                if self._segments[number].sha256 != sha256:
                    self._wrong(f"segment {number} was committed and does not count any more: history was rewritten")
                break
            data = self.objects.get(self.keys.segment(number, sha256))
            if data is None:
                self._wrong(f"the head counts segment {number}, which is not there")
                return None
            if hashlib.sha256(data).hexdigest() != sha256:
                self._wrong(f"segment {number} is not what the head says")
            header, *lines, _ = [msgspec.json.decode(line[9:]) for line in data.splitlines()]
            if header["sequence"] != number or number <= self.sequence:
                self._wrong(f"the head counts segment {number} beside {self.sequence}, and it says {header}")
            chain.append(_Segment(number, sha256, header, lines))
            number, sha256 = chain[-1].before, header["previousSha256"]
        return chain[::-1]

    def _go_back_to(self, number: int, following: "_Segment | None") -> None:
        """The run goes on from another segment than the last one: all is as it was then."""
        reason = following.header["reason"] if following is not None else "nothing"
        if reason not in {"Restore", "Recovery", *(["Restart", "Fork"] if number == 0 else [])}:
            self._wrong(f"the run goes on from segment {number} instead of {self._tail}, by {reason}")
        for known in (self.settled, self.letters, self.redrives, self.claims, self._spent, self._numbers):
            known.clear()
        self._map_keys.clear()
        path: list[_Segment] = []
        while number:
            path.append(self._segments[number])
            number = path[-1].before
        for segment in reversed(path):
            self._take(segment, again=True)

    # ------------------------------------------------------------------------------------------------ one segment

    def _take(self, segment: _Segment, *, again: bool = False) -> None:
        """`again`: what it tells was taken in before."""
        header = segment.header
        self._go_on_with(header, again=again)
        for accepted in header.get("redrives", ()):
            self._accept(accepted)
        self._take_letters(header)
        for accepted in header.get("redrives", ()):
            known = self.redrives[accepted["uid"]]
            if known.taken != known.selected:
                self._wrong(f"the Redrive {known.name} says it took {known.selected} letters, and took {known.taken}")
        retries = self.counts[segment.before].retries
        for line in segment.lines:
            if not again:
                self._check_line(line, segment)
            retries += self._outcome(line, carried=segment.carries)
        self._stop(header)
        states = Counter(state for key, state in self.settled.items() if key in self._map_keys)
        letters = Counter(self.letters.values())
        self.counts[segment.number] = Counts(
            succeeded=states["Succeeded"],
            dead_lettered=states["DeadLettered"],
            skipped=states["Skipped"] + states[LEFT_OUT],
            attempts=sum(attempts for attempts, _ in self._spent.values()),
            interruptions=sum(interruptions for _, interruptions in self._spent.values()),
            retries=retries,
            letters=LetterStates(*(letters[state] for state in ("Open", "Claimed", "Resolved", "Archived"))),
        )

    def _take_letters(self, header: dict[str, Any]) -> None:
        # A letter that was set aside can be claimed in the same commit, and never the other way round.
        for key, kind in header.get("marks", ()):
            self._mark(key, kind)
        for stage, key, redrive, *_ in header.get("claims", ()):
            self._claim(stage, key, redrive)

    def _stop(self, header: dict[str, Any]) -> None:
        """What is not to be run any more."""
        for redrive, *_ in header.get("calledOff", ()):
            self._numbers[redrive].called_off = True
        for key in header.get("givenBack", ()):
            self._give_back(key)
        for key in header.get("leftOut", ()):
            self._leave_out(key)

    def _go_on_with(self, header: dict[str, Any], *, again: bool) -> None:
        """What was undone, and what runs."""
        for stage, key, dispatches in header.get("undone", ()):
            # More than are known of: a start was written that never counted, and its Job has vanished since.
            if not again and dispatches < self._last.get(key, 0):
                self._wrong(f"{key} goes on after dispatch {dispatches}; the last one was {self._last[key]}")
            self.excused[key] = max(dispatches, self.excused.get(key, 0))
            self._go_on(stage, key, dispatches)
        for stage, key, dispatch, job_uid in header.get("starts", ()):
            self.starts.setdefault(Dispatch(key, dispatch), job_uid)
            self._go_on(stage, key, dispatch - 1)

    def _go_on(self, stage: str, key: str, dispatches: int) -> None:
        """So many dispatches of an item are over; those of which nothing else is known count as interruptions."""
        attempts, interruptions = self._spent.get(key, (0, 0))
        if stage == "map" and attempts + interruptions < dispatches:
            self._spent[key] = attempts, dispatches - attempts

    def _accept(self, accepted: dict[str, Any]) -> None:
        name, number = accepted["name"], accepted["number"]
        if accepted["uid"] in self.redrives or number in self._numbers:
            self._wrong(f"the Redrive {name} takes letters twice")
        known = Accepted(name, accepted["selected"], accepted.get("parallelism", 0), accepted.get("rerunReduce", False))
        self.redrives[accepted["uid"]] = self._numbers[number] = known

    def _mark(self, key: str, kind: str) -> None:
        state = self.letters.get(key, "no letter")
        if kind == "Purged":
            if state not in {"Open", "Resolved", "Archived"}:
                self._wrong(f"the letter of {key} is purged, and is {state}")
            self.letters.pop(key, None)
        else:
            if state != "Open":
                self._wrong(f"the letter of {key} is set aside, and is {state}")
            self.letters[key] = kind

    def _claim(self, stage: str, key: str, redrive: int) -> None:
        state = self.settled.pop(key, "not at its end")
        if stage == "reduce":
            if state not in {"Succeeded", "DeadLettered"}:
                self._wrong(f"the reduce runs again, and is {state}")
            return
        if redrive == 0:
            # Only how many attempts it has: where a run begins, nothing is taken from anybody.
            if state != "not at its end":
                self._wrong(f"{key} is granted attempts, and is {state}")
            return
        letter = self.letters.get(key)
        left_out = state in {"Skipped", LEFT_OUT} and letter is None
        if not left_out and (state != "DeadLettered" or letter not in {"Open", "Archived"}):
            self._wrong(f"{key} is claimed; its item is {state} and its letter {letter}")
        if letter is not None:
            self.letters[key] = "Claimed"
        self._before[key] = state
        known = self.claims[key] = self._numbers[redrive]
        known.taken += 1

    def _give_back(self, key: str) -> None:
        known, state, letter = self.claims.get(key), self.settled.get(key), self.letters.get(key)
        called_off = known is not None and (known.called_off or key in self.unwanted)
        if known is None or not called_off or state is not None or letter not in {"Claimed", None}:
            self._wrong(f"{key} is given back; its item is {state}, its letter {letter}, of {known}")
            return
        if letter is not None:
            self.settled[key], self.letters[key] = "DeadLettered", "Open"
        else:
            self.settled[key] = self._before[key]
        known.failed += 1

    def _leave_out(self, key: str) -> None:
        state = self.settled.get(key)
        if key not in self.unwanted or state is not None:
            self._wrong(f"{key} is left out; its item is {state}, and the user skipped {self.unwanted}")
        self._map_keys.add(key)
        self.settled[key] = LEFT_OUT
        if (known := self.claims.get(key)) is not None:
            known.failed += 1

    def _check_line(self, line: Line, segment: _Segment) -> None:
        """Before a line is taken in for the first time."""
        dispatch = Dispatch(line["key"], line["dispatch"])
        known = self.outcomes.get(dispatch)
        if segment.carries:
            return
        if segment.header["reason"] != "Recovery" or known is None:
            for hook in self.on_check:
                hook(dispatch, line)
        elif known | {"redrive": 0} != line | {"redrive": 0}:
            self._wrong(f"{dispatch.item_key}-d{dispatch.number} is told anew as {line}; it was {known}")
        attempts, interruptions = self._spent.get(dispatch.item_key, (0, 0))
        interrupted = line["verdict"] == "Interrupted"
        spent = attempts + (not interrupted), interruptions + interrupted
        told = line["attempts"], line.get("interruptions", 0)
        if line["stage"] == "map" and spent != told:
            self._wrong(f"{dispatch.item_key} is said to have had {told} attempts and interruptions, and had {spent}")

    def _outcome(self, line: Line, *, carried: bool) -> bool:
        """Whether the job spends a retry on it."""
        dispatch = Dispatch(line["key"], line["dispatch"])
        key, state, known = dispatch.item_key, line["state"], dispatch in self.outcomes
        self.outcomes.setdefault(dispatch, line)
        self._last[key] = max(dispatch.number, self._last.get(key, 0))
        if state in FINAL:
            self.settled[key] = state
        if line["stage"] == "reduce":
            return False
        self._map_keys.add(key)
        self._spent[key] = line["attempts"], line.get("interruptions", 0)
        if state == "DeadLettered":
            if carried or not known:
                self._check_body(key, line, carried=carried)
            self.letters[key] = "Open"
        elif state in FINAL and key in self.letters:
            self.letters[key] = "Resolved"
        redrive = self._numbers.get(line.get("redrive", 0))
        if redrive is not self.claims.get(key):
            self._wrong(f"{key} is run for another Redrive than the one that took it")
        if redrive is not None and state in FINAL:
            redrive.succeeded += state == "Succeeded"
            redrive.failed += state != "Succeeded"
        return line["verdict"] == "Failed" and state == "RetryWait" and redrive is None

    def last_lines(self, sequence: int) -> dict[str, Line]:
        """The last line of each item of the map, by key, on the path to a checkpoint."""
        found: dict[str, Line] = {}
        while sequence:
            segment = self._segments[sequence]
            for line in reversed(segment.lines):
                if line["stage"] == "map":
                    found.setdefault(line["key"], line)
            sequence = segment.before
        return found

    def is_over(self, dispatch: Dispatch) -> bool:
        """Its outcome is durable, or counts no longer."""
        return dispatch in self.outcomes or dispatch.number <= self.excused.get(dispatch.item_key, 0)

    def letter(self, key: str) -> str:
        """Where the letter of an item lies."""
        return self.keys.letter(key)

    def left(self) -> Iterator[str]:
        """Keys of all objects of the run."""
        return (key for key in self.objects if key.startswith(self.keys.prefix))

    def _check_body(self, key: str, line: Line, *, carried: bool) -> None:
        """The letter is there before its item is marked, and tells of every dispatch as it is recorded."""
        data = self.objects.get(self.keys.letter(key))
        if data is None:
            if not (carried and key in self._purged):
                self._wrong(f"{key} is a dead letter, and its body is not in storage")
            return
        body = msgspec.json.decode(data)
        told = {one["dispatch"]: (one["verdict"], one["job"]) for one in body.get("history", ())}
        if carried:
            # What happened before this run is known from nothing else.
            self._inherited[key] = told
            if "omitted" in body:
                self._purged.add(key)
        happened = self._inherited.get(key, {}) | {
            number: (self.outcomes[Dispatch(key, number)]["verdict"], self.outcomes[Dispatch(key, number)]["job"])
            for number in range(1, line["dispatch"] + 1)
            if Dispatch(key, number) in self.outcomes
        }
        # Of what was before a purge nobody knows any more, nor of what led to a letter that is not on this path.
        incomplete = key in self._purged or line["attempts"] < len(happened)
        if told != happened and not (incomplete and told.items() <= happened.items()):
            self._wrong(f"the letter of {key} tells of {told}; what happened is {happened}")
