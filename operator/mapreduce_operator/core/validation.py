"""What must hold of a run as it is durable, checked when a snapshot of it is made and when it is read back.

A hash tells that an object is what was written, not that what was written makes sense. All rules are checked whatever
is found, so that the whole damage is seen at once, and each that is broken makes one sentence, however often it is.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Final

from mapreduce_operator.api import Cause, ItemState, LetterState, Phase
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.items import FINAL_STATES, GIVEN_UP, Item
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.tally import Tally
from mapreduce_operator.core.texts import counted

SAMPLES: Final = 5
"""So many of those that break a rule are named."""
MAX_SENTENCES: Final = 20

_NEW: Final = Item()
_UNTRIED: Final = frozenset({ItemState.PENDING, ItemState.RUNNING})
_STATES_BY_LETTER: Final[Mapping[LetterState, frozenset[ItemState]]] = {
    LetterState.OPEN: frozenset({ItemState.DEAD_LETTERED}),
    LetterState.ARCHIVED: frozenset({ItemState.DEAD_LETTERED}),
    LetterState.CLAIMED: frozenset(ItemState) - FINAL_STATES,
    LetterState.RESOLVED: frozenset({ItemState.SUCCEEDED}),
}
"""Where the item of a letter can be. The other way round nothing follows: the letter of an item may be purged."""
_STATES_BY_PHASE: Final[Mapping[Phase, frozenset[ItemState]]] = {
    Phase.REDUCE: FINAL_STATES,
    Phase.SUCCEEDED: frozenset({ItemState.SUCCEEDED}),
    Phase.PARTIALLY_SUCCEEDED: FINAL_STATES,
}
"""Where the items of the map can be in a phase: anywhere in all others, since a run that failed may have stopped."""


def violations(books: Books, phase: Phase, counts: Mapping[ItemState, int]) -> list[str]:
    """What is wrong with a run that has been read back, at most MAX_SENTENCES.

    `phase` and `counts`, of the items of the map, are those of its checkpoint; the latter are empty where it does not
    tell. The books hold nothing that is not durable.
    """
    findings = _Findings()
    ledger = books.ledgers[Stage.MAP]
    mapped = _examine(findings, books.as_read_back(), len(ledger))
    states = Counter(item.state for item in mapped)
    if states != Counter(ledger.counts):
        findings.say(f"the ledger counts {_told(ledger.counts)}, and the items are {_told(states)}")
    _compare(findings, mapped, counts)
    _examine_phase(findings, mapped, phase)
    for progress in books.account.redrives.all():
        if progress.unsettled != progress.remaining:
            findings.add("Redrive", progress.accepted.number, "counts its items in two ways that do not agree")
    return findings.sentences()


def snapshot_violations(
    snapshot: Snapshot, items: int, phase: Phase | None = None, counts: Mapping[ItemState, int] | None = None
) -> list[str]:
    """What is wrong with a snapshot of a run with so many items, at most MAX_SENTENCES.

    `phase` and `counts` are those of the checkpoint that the snapshot is made for, where it is not one before.
    """
    findings = _Findings()
    mapped = _examine(findings, snapshot, items)
    if counts is not None:
        _compare(findings, mapped, counts)
    if phase is not None:
        _examine_phase(findings, mapped, phase)
    return findings.sentences()


class _Findings:
    """What was found, by rule, in the order in which it was found first."""

    def __init__(self) -> None:
        self._named: Final[dict[tuple[str, str], list[int]]] = {}
        self._counts: Final[Counter[tuple[str, str]]] = Counter()
        self._sentences: Final[list[str]] = []

    def add(self, noun: str, number: int, what: str) -> None:
        """One of many breaks a rule: an item by its position, a Redrive by its number."""
        rule = noun, what
        self._counts[rule] += 1
        if self._counts[rule] <= SAMPLES:
            self._named.setdefault(rule, []).append(number)

    def say(self, sentence: str) -> None:
        self._sentences.append(sentence)

    def sentences(self) -> list[str]:
        found = [*self._sentences]
        for (noun, what), named in self._named.items():
            count = self._counts[noun, what]
            which = ", ".join([*map(str, named), *(["…"] if count > len(named) else [])])
            found.append(f"{counted(count, noun)} ({which}): {what}")
        if len(found) > MAX_SENTENCES:
            return [*found[: MAX_SENTENCES - 1], f"and {len(found) - MAX_SENTENCES + 1} more rules are broken"]
        return found


def _examine(findings: _Findings, snapshot: Snapshot, items: int) -> list[Item]:
    """Checks what holds in any phase; returns all items of the map, as far as they are of the plan."""
    mapped = _by_position(findings, snapshot, items)
    for position, item in enumerate(mapped):
        if item is not _NEW:
            for fault in chain(_faulty_numbers(item), _faulty_state(item)):
                findings.add("item", position, fault)
    for position, item in snapshot.items.get(Stage.REDUCE, []):
        for fault in chain(_faulty_numbers(item), _faulty_state(item), _faulty_reduce(position, item)):
            findings.say(f"the reduce: {fault}")
    _examine_letters(findings, snapshot, mapped)
    _examine_redrives(findings, snapshot, mapped)
    _examine_histories(findings, snapshot, mapped)
    _examine_tally(findings, snapshot.tally, mapped)
    return mapped


def _compare(findings: _Findings, mapped: list[Item], counts: Mapping[ItemState, int]) -> None:
    states = Counter(item.state for item in mapped)
    if counts and _durable(states) != _durable(counts):
        findings.say(f"the checkpoint counts {_told(counts)}, and the items are {_told(states)}")


def _durable(counts: Mapping[ItemState, int]) -> Counter[ItemState]:
    """Counts without the end of waits: that one is over is known from the clock and written nowhere."""
    durable = Counter(counts)
    durable[ItemState.PENDING] += durable.pop(ItemState.RETRY_WAIT, 0)
    return durable


def _examine_phase(findings: _Findings, mapped: list[Item], phase: Phase) -> None:
    # What the user did not want to be run is over in any phase.
    states = Counter(item.state for item in mapped if item.cause is not Cause.SKIPPED_BY_USER)
    possible = _STATES_BY_PHASE.get(phase, frozenset(ItemState))
    if states.keys() - possible:
        for position, item in enumerate(mapped):
            if item.state not in possible and item.cause is not Cause.SKIPPED_BY_USER:
                findings.add("item", position, f"{item.state}, which none is in the phase {phase}")
    if phase is Phase.PARTIALLY_SUCCEEDED and states[ItemState.SUCCEEDED] in {0, states.total()}:
        findings.say(f"the phase is {phase}, and the items are {_told(states)}")


def _by_position(findings: _Findings, snapshot: Snapshot, items: int) -> list[Item]:
    mapped = [_NEW] * items
    for position, item in snapshot.items.get(Stage.MAP, []):
        if _is_planned(findings, "item", position, mapped):
            if mapped[position] is not _NEW:
                findings.add("item", position, "there twice")
            mapped[position] = item
    return mapped


def _is_planned(findings: _Findings, noun: str, position: int, mapped: list[Item]) -> bool:
    planned = 0 <= position < len(mapped)
    if not planned:
        findings.add(noun, position, f"beyond the plan, which has {counted(len(mapped), 'item')}")
    return planned


def _faulty_numbers(item: Item) -> Iterator[str]:
    """What no item counts, however its transitions followed one another."""
    if (
        min(
            item.attempts, item.interruptions, item.excused, item.oom_kills, item.allowed, item.redrive, item.not_before
        )
        < 0
    ):
        yield "a number below 0"
    if item.excused > item.interruptions:
        yield "more interruptions excused than it had"
    if item.oom_kills > item.attempts:
        yield "more attempts out of memory than it had"
    if item.redrive and not item.allowed:
        yield "taken by a Redrive and granted no attempt"
    if item.allowed and item.attempts + (not item.final) > item.allowed:
        yield "more attempts than it was granted"


def _faulty_state(item: Item) -> Iterator[str]:
    """What no item of its state holds."""
    state = item.state
    if bool(item.not_before) != (state is ItemState.RETRY_WAIT):
        yield f"{state} {'with a' if item.not_before else 'without a'} time to wait for"
    if bool(item.job_uid) != (state is ItemState.RUNNING):
        yield f"{state} {'with a' if item.job_uid else 'without a'} Job"
    if item.cause is Cause.SKIPPED_BY_USER:
        if state is not ItemState.SKIPPED:
            yield f"{state}, and the user did not want it to be run"
        return
    if (item.cause is not None) != (state in GIVEN_UP):
        yield f"{state} {'without a' if item.cause is None else 'with a'} cause for giving it up"
    if (state is ItemState.SUCCEEDED and item.reason is not None) or (state in GIVEN_UP and item.reason is None):
        yield f"{state} {'without a' if item.reason is None else 'with a'} reason why its last dispatch failed"
    if state not in _UNTRIED and not (item.attempts if state is ItemState.SUCCEEDED else item.dispatch - 1):
        yield f"{state} without a dispatch that ended so"


def _faulty_reduce(position: int, item: Item) -> Iterator[str]:
    if position:
        yield f"at position {position}, and there is one"
    if item.redrive:
        yield "taken by a Redrive"
    if item.state is ItemState.SKIPPED:
        yield "Skipped"


def _examine_letters(findings: _Findings, snapshot: Snapshot, mapped: list[Item]) -> None:
    seen: set[int] = set()
    for entry, state, _ in snapshot.letters:
        position = entry.position
        if position in seen:
            findings.add("letter", position, "there twice")
        seen.add(position)
        if not _is_planned(findings, "letter", position, mapped):
            continue
        item = mapped[position]
        if item.state not in _STATES_BY_LETTER.get(state, frozenset()):
            findings.add("letter", position, f"{state}, and its item is {item.state}")
        elif state is LetterState.CLAIMED and not item.redrive:
            findings.add("letter", position, "Claimed, and its item was not taken by a Redrive")
        elif item.state is ItemState.DEAD_LETTERED and entry.cause is not item.cause:
            findings.add("letter", position, "tells of another cause than its item")
        if entry.attempts > item.attempts:
            findings.add("letter", position, "tells of more attempts than its item had")


def _examine_redrives(findings: _Findings, snapshot: Snapshot, mapped: list[Item]) -> None:
    known = Counter(accepted.number for accepted, *_ in snapshot.redrives)
    uids = Counter(accepted.uid for accepted, *_ in snapshot.redrives)
    left: Counter[int] = Counter()
    """Items that are not at their end, by Redrive."""
    for position, item in enumerate(mapped):
        if item.redrive:
            left[item.redrive] += not item.final
            if item.redrive not in known:
                findings.add("item", position, "taken by a Redrive of which nothing is known")
    for accepted, succeeded, failed, _, _ in snapshot.redrives:
        number = accepted.number
        if known[number] > 1 or uids[accepted.uid] > 1:
            findings.add("Redrive", number, "shares its number or its uid")
        if not 1 <= number <= len(snapshot.redrives):
            findings.add("Redrive", number, f"not numbered as one of {len(snapshot.redrives):,}")
        if min(succeeded, failed) < 0:
            findings.add("Redrive", number, "a number below 0")
        if accepted.selected - succeeded - failed != left[number]:
            findings.add("Redrive", number, "waits for more or fewer items than are not at their end")


def _examine_histories(findings: _Findings, snapshot: Snapshot, mapped: list[Item]) -> None:
    for position, attempts in snapshot.past.items():
        if not _is_planned(findings, "item", position, mapped):
            continue
        item = mapped[position]
        if item.final:
            findings.add("item", position, f"{item.state}, and its history goes on")
        numbers = [one.dispatch for one in attempts]
        if not numbers or numbers != sorted(set(numbers)) or not 1 <= numbers[0] <= numbers[-1] < item.dispatch:
            findings.add("item", position, "a history that is not of its dispatches, in their order")


def _examine_tally(findings: _Findings, tally: Tally, mapped: list[Item]) -> None:
    told = sum(tally.reasons.values())
    ended = sum(max(0, item.dispatch - 1 - (item.state is ItemState.SUCCEEDED)) for item in mapped)
    if told > ended:
        findings.say(f"{told:,} dispatches are told to have failed or been interrupted, and there were {ended:,}")
    for kind in tally.failures.values():
        _is_planned(findings, "item", kind.position, mapped)


def _told(counts: Mapping[ItemState, int]) -> str:
    return ", ".join(f"{counts[state]:,} {state}" for state in ItemState if counts.get(state)) or "none"
