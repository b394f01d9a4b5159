"""What is durable of a run, read from outside of the engine: the journal as plain JSON, and the letters beside it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import msgspec

from mapreduce_operator.core.names import RunRef, StorageKeys
from mapreduce_operator.core.workloads import Dispatch

FINAL: Final = ("Succeeded", "DeadLettered", "Skipped")
Line = dict[str, Any]


class WatchedObjects(dict[str, bytes]):
    """The objects in storage, with somebody who is told of each write at once."""

    def __init__(self, objects: Mapping[str, bytes], tell: Callable[[str], None]) -> None:
        super().__init__(objects)
        self._tell: Final = tell

    def __setitem__(self, key: str, data: bytes) -> None:
        super().__setitem__(key, data)
        self._tell(key)


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
    """Follows the head of one run; `wrong` is told what cannot be."""

    def __init__(self, objects: Mapping[str, bytes], run: RunRef, wrong: Callable[[str], None]) -> None:
        self.objects: Final = WatchedObjects(objects, self._tell)
        self._keys: Final = StorageKeys(run)
        self._wrong: Final = wrong
        self.outcomes: Final[dict[Dispatch, Line]] = {}
        """The line of each dispatch that ended."""
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
        """Called with each outcome before it is taken in."""
        self.on_commit: Final[list[Callable[[dict[str, Any], list[Line]], None]]] = []
        """Called with header and lines of each segment that counts from now on, when they are taken in."""
        self._tail = ""
        self._data = b""
        self._map_keys: Final[set[str]] = set()
        self._numbers: Final[dict[int, Accepted]] = {}
        self._purged: Final[set[str]] = set()

    def _tell(self, key: str) -> None:
        """An object was written."""
        if key == self._keys.head:
            self.refresh()

    def refresh(self) -> None:
        """Takes in what was committed since the last time."""
        data = self.objects.get(self._keys.head, b"")
        if data is self._data or not data:
            return
        self._data = data
        head = self.head = msgspec.json.decode(data.partition(b"\n")[0])
        sequence, tail, epoch = head.get("sequence", 0), head.get("tailSha256", ""), head.get("epoch", 0)
        if epoch < self.epoch:
            self._wrong(f"the head went back from epoch {self.epoch} to {epoch}")
        chain = []
        number, sha256 = sequence, tail
        while number > self.sequence:
            segment = self.objects.get(self._keys.segment(number, sha256))
            if segment is None:
                self._wrong(f"the head counts segment {number}, which is not there")
                return
            if hashlib.sha256(segment).hexdigest() != sha256:
                self._wrong(f"segment {number} is not what the head says")
            header, *lines = [msgspec.json.decode(line[9:]) for line in segment.splitlines()]
            chain.append((number, header, lines))
            number, sha256 = number - 1, header["previousSha256"]
        if (number, sha256) != (self.sequence, self._tail):
            self._wrong(f"segment {self.sequence} was committed and does not count any more: history was rewritten")
        self.sequence, self._tail, self.epoch = sequence, tail, epoch
        for number, header, lines in reversed(chain):
            self._take(number, header, lines)
            for hook in self.on_commit:
                hook(header, lines)

    # ------------------------------------------------------------------------------------------------ one segment

    def _take(self, number: int, header: dict[str, Any], lines: list[Line]) -> None:
        for _, key, dispatch, job_uid in header.get("starts", ()):
            self.starts.setdefault(Dispatch(key, dispatch), job_uid)
        for accepted in header.get("redrives", ()):
            self._accept(accepted)
        # A letter that was set aside can be claimed in the same commit, and never the other way round.
        for key, kind in header.get("marks", ()):
            self._mark(key, kind)
        for stage, key, redrive, *_ in header.get("claims", ()):
            self._claim(stage, key, redrive)
        for accepted in header.get("redrives", ()):
            known = self.redrives[accepted["uid"]]
            if known.taken != known.selected:
                self._wrong(f"the Redrive {known.name} says it took {known.selected} letters, and took {known.taken}")
        counts = self.counts.get(number - 1, Counts())
        for line in lines:
            counts = self._outcome(counts, line)
        for redrive, *_ in header.get("calledOff", ()):
            self._numbers[redrive].called_off = True
        for key in header.get("givenBack", ()):
            self._give_back(key)
        states = Counter(state for key, state in self.settled.items() if key in self._map_keys)
        letters = Counter(self.letters.values())
        self.counts[number] = replace(
            counts,
            succeeded=states["Succeeded"],
            dead_lettered=states["DeadLettered"],
            skipped=states["Skipped"],
            letters=LetterStates(*(letters[state] for state in ("Open", "Claimed", "Resolved", "Archived"))),
        )

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
            self._purged.add(key)
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
        if state != "DeadLettered" or self.letters.get(key) not in {"Open", "Archived"}:
            self._wrong(f"{key} is claimed; its item is {state} and its letter {self.letters.get(key)}")
        self.letters[key] = "Claimed"
        known = self.claims[key] = self._numbers[redrive]
        known.taken += 1

    def _give_back(self, key: str) -> None:
        known, state = self.claims.get(key), self.settled.get(key)
        if known is None or not known.called_off or state is not None or self.letters.get(key) != "Claimed":
            self._wrong(f"{key} is given back; its item is {state}, its letter {self.letters.get(key)}, of {known}")
            return
        self.settled[key], self.letters[key] = "DeadLettered", "Open"
        known.failed += 1

    def _outcome(self, counts: Counts, line: Line) -> Counts:
        dispatch = Dispatch(line["key"], line["dispatch"])
        for hook in self.on_check:
            hook(dispatch, line)
        self.outcomes.setdefault(dispatch, line)
        key, state = dispatch.item_key, line["state"]
        if state in FINAL:
            self.settled[key] = state
        if line["stage"] == "reduce":
            return counts
        self._map_keys.add(key)
        if state == "DeadLettered":
            self._check_body(key, line)
            self.letters[key] = "Open"
        elif state in FINAL and key in self.letters:
            self.letters[key] = "Resolved"
        redrive = self._numbers.get(line.get("redrive", 0))
        if redrive is not self.claims.get(key):
            self._wrong(f"{key} is run for another Redrive than the one that took it")
        if redrive is not None and state in FINAL:
            redrive.succeeded += state == "Succeeded"
            redrive.failed += state != "Succeeded"
        interrupted = line["verdict"] == "Interrupted"
        return replace(
            counts,
            attempts=counts.attempts + (not interrupted),
            interruptions=counts.interruptions + interrupted,
            retries=counts.retries + (line["verdict"] == "Failed" and state == "RetryWait" and redrive is None),
        )

    def letter(self, key: str) -> str:
        """Where the letter of an item lies."""
        return self._keys.letter(key)

    def left(self) -> Iterator[str]:
        """Keys of all objects of the run."""
        return (key for key in self.objects if key.startswith(self._keys.prefix))

    def _check_body(self, key: str, line: Line) -> None:
        """The letter is there before its item is marked, and tells of every dispatch as it is recorded."""
        data = self.objects.get(self._keys.letter(key))
        if data is None:
            self._wrong(f"{key} is a dead letter, and its body is not in storage")
            return
        told = {one["dispatch"]: (one["verdict"], one["job"]) for one in msgspec.json.decode(data)["history"]}
        happened = {
            number: (self.outcomes[Dispatch(key, number)]["verdict"], self.outcomes[Dispatch(key, number)]["job"])
            for number in range(1, line["dispatch"] + 1)
            if Dispatch(key, number) in self.outcomes
        }
        # Of what was before a purge nobody knows any more.
        if told != happened and not (key in self._purged and told.items() <= happened.items()):
            self._wrong(f"the letter of {key} tells of {told}; what happened is {happened}")
