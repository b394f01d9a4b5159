"""The dead letters in memory: against a list that is counted by hand."""

from collections import Counter
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mapreduce_operator.api import Cause, ItemState, LetterState, Reason
from mapreduce_operator.core.dead_letters import ENTRY_CHARACTERS, SAMPLES, DeadLetters, Entry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import Letter, moment
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.signatures import signature_of
from mapreduce_operator.core.workloads import Dispatch

NOW: Final = 1_800_000_000.0
DEAD: Final = Item(ItemState.DEAD_LETTERED, attempts=3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED)


def outcome(message: str = "boom", reason: Reason = Reason.ERROR, node: str = "node-1", at: float = NOW) -> Outcome:
    return Outcome(
        Stage.MAP, Dispatch("key", 3), "uid", Verdict.FAILED, reason, message, exit_code=1, node=node, ended_at=at
    )


def letters(*messages: str) -> DeadLetters:
    """One letter for each message, added second by second."""
    found = DeadLetters()
    for position, message in enumerate(messages):
        found.add(position, DEAD, outcome(message, at=NOW + position))
    return found


def test_a_letter_remembers_what_a_person_asks_for_first() -> None:
    found = DeadLetters()

    found.add(7, DEAD, outcome("cannot read /data/17.json"))

    assert found.get(7) == Entry(
        7,
        Cause.ATTEMPTS_EXHAUSTED,
        Reason.ERROR,
        signature_of(Reason.ERROR, 1, "cannot read /data/17.json").id,
        "node-1",
        3,
        NOW,
        "cannot read /data/17.json",
    )
    assert found.state(7) is LetterState.OPEN


def test_of_a_long_message_the_end_is_remembered() -> None:
    found = letters("Traceback" + "x" * 1000 + " KeyError")

    entry = found.get(0)

    assert entry is not None
    assert len(entry.message) == ENTRY_CHARACTERS
    assert entry.message.endswith(" KeyError")


@pytest.mark.parametrize(
    ("item", "end"),
    [(replace(DEAD, cause=None), outcome()), (DEAD, replace(outcome(), reason=None))],
    ids=["no cause", "no reason"],
)
def test_an_item_that_was_not_given_up_is_no_letter(item: Item, end: Outcome) -> None:
    with pytest.raises(ValueError, match="item at 7 was not given up"):
        DeadLetters().add(7, item, end)


def test_a_letter_that_is_added_again_is_the_newest_and_counts_once() -> None:
    found = letters("boom", "bang", "boom")
    found.turn(0, LetterState.CLAIMED)

    found.add(0, replace(DEAD, attempts=5), outcome("bang", at=NOW + 9))

    assert [(entry.position, entry.attempts, state) for entry, state in found.newest(9)] == [
        (0, 5, LetterState.OPEN),
        (2, 3, LetterState.OPEN),
        (1, 3, LetterState.OPEN),
    ]
    assert list(found.open()) == [1, 2, 0]
    assert (len(found), found.open_count, found.span()) == (3, 3, (NOW + 1, NOW + 9))


def test_groups_show_items_that_are_still_open() -> None:
    found = letters(*["boom"] * (SAMPLES + 3))
    for position in range(SAMPLES):
        found.turn(position, LetterState.CLAIMED)

    (group,) = found.largest_groups(10)

    assert (group.count, group.samples) == (3, [3, 4, 5])
    assert found.span(group) == (NOW + 3, NOW + 5)


def test_the_largest_groups_come_first_and_equal_ones_in_an_order_that_stays() -> None:
    one, other = letters("boom", "bang", "bang", "crash", "smash"), letters("smash", "bang", "crash", "boom", "bang")

    largest = [group.signature for group in one.largest_groups(3)]

    assert largest == [group.signature for group in other.largest_groups(3)]
    assert len(largest) == 3
    assert largest[0] == signature_of(Reason.ERROR, 1, "bang").id


def test_letters_that_are_dealt_with_expire_and_open_ones_only_when_asked_to_claimed_ones_never() -> None:
    found = letters(*["boom"] * 5)
    for position, state in enumerate([LetterState.RESOLVED, LetterState.ARCHIVED, LetterState.CLAIMED]):
        found.turn(position, state)

    assert found.expired(NOW + 4, with_open=False) == [0, 1]
    assert found.expired(NOW + 4, with_open=True) == [0, 1, 3]
    assert found.expired(NOW, with_open=True) == [], "what was added at that moment was not added before"


def test_a_queue_without_letters_has_nothing_to_tell() -> None:
    found = DeadLetters()

    found.remove(3)

    assert (len(found), found.unresolved, found.open_count, found.span()) == (0, 0, 0, None)
    assert (found.newest(5), found.largest_groups(5), found.get(3), found.state(3)) == ([], [], None, None)


def test_what_was_read_from_storage_is_what_was_added() -> None:
    end = outcome("boom 17", at=NOW + 0.125)
    found = DeadLetters()
    found.add(7, DEAD, end)
    signature = signature_of(Reason.ERROR, 1, "boom 17")
    letter = Letter(
        id="MIT",
        key="key",
        position=7,
        payload=b"{}",  # type: ignore[arg-type]  # any JSON
        cause=Cause.ATTEMPTS_EXHAUSTED,
        reason=Reason.ERROR,
        exit_code=1,
        message="boom 17",
        signature_id=signature.id,
        signature=signature.text,
        first_attempt_at=moment(NOW),
        last_attempt_at=moment(NOW + 0.125),
        attempts=3,
        node="node-1",
    )

    assert Entry.of(letter) == found.get(7)


# ------------------------------------------------------------------------------------------------------ against a model


class LettersAgainstModel(RuleBasedStateMachine):
    """Letters in a list, the one that was added last at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.letters = DeadLetters()
        self.model: list[tuple[Entry, LetterState, str]] = []
        self.now = NOW

    def known(self, position: int) -> tuple[Entry, LetterState, str] | None:
        return next((one for one in self.model if one[0].position == position), None)

    @rule(
        position=st.integers(0, 7),
        message=st.sampled_from(["boom 1", "boom 2", "bang"]),
        reason=st.sampled_from([Reason.ERROR, Reason.OOM_KILLED]),
        cause=st.sampled_from(Cause),
        node=st.sampled_from(["", "node-1", "node-2"]),
    )
    def an_item_is_given_up(self, position: int, message: str, reason: Reason, cause: Cause, node: str) -> None:
        self.now += 1
        end, item = outcome(message, reason, node, self.now), replace(DEAD, cause=cause)
        self.letters.add(position, item, end)
        signature = signature_of(reason, 1, message)
        entry = Entry(position, cause, reason, signature.id, node, 3, self.now, message)
        self.model = [one for one in self.model if one[0].position != position]
        self.model.append((entry, LetterState.OPEN, signature.text))

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), state=st.sampled_from(LetterState))
    def something_becomes_of_a_letter(self, data: st.DataObject, state: LetterState) -> None:
        if state is LetterState.OPEN:
            return
        number = data.draw(st.integers(0, len(self.model) - 1))
        entry, _, text = self.model[number]
        self.letters.turn(entry.position, state)
        self.model[number] = entry, state, text

    @rule(position=st.integers(0, 7))
    def a_letter_is_purged(self, position: int) -> None:
        self.letters.remove(position)
        self.model = [one for one in self.model if one[0].position != position]

    @rule()
    def all_are_read_back(self) -> None:
        again = DeadLetters()
        for letter in self.letters.all():
            again.restore(*letter)
        self.letters = again

    @invariant()
    def letters_are_those_of_the_model(self) -> None:
        assert list(self.letters.all()) == self.model
        assert len(self.letters) == len(self.model)
        for position in range(8):
            known = self.known(position)
            assert self.letters.get(position) == (known[0] if known else None)
            assert self.letters.state(position) == (known[1] if known else None)

    @invariant()
    def counts_are_what_a_recount_gives(self) -> None:
        states = Counter(state for _, state, _ in self.model)
        opened = [entry for entry, state, _ in self.model if state is LetterState.OPEN]
        assert {state: self.letters.counts[state] for state in LetterState} == {one: states[one] for one in LetterState}
        assert self.letters.open_count == len(opened)
        assert self.letters.unresolved == len(self.model) - states[LetterState.RESOLVED]
        assert list(self.letters.open()) == [entry.position for entry in opened]
        assert self.letters.span() == ((opened[0].at, opened[-1].at) if opened else None)
        assert dict(self.letters.reasons) == Counter(entry.reason for entry in opened)
        assert dict(self.letters.causes) == Counter(entry.cause for entry in opened)
        assert dict(self.letters.nodes) == Counter(entry.node for entry in opened)

    @invariant()
    def groups_are_what_sorting_gives(self) -> None:
        groups: dict[str, list[Entry]] = {}
        for entry, state, _ in self.model:
            if state is LetterState.OPEN:
                groups.setdefault(entry.signature, []).append(entry)
        largest = sorted(groups.items(), key=lambda one: (-len(one[1]), one[0]))
        texts = {entry.signature: text for entry, _, text in self.model}
        for number in (1, 10):
            assert [
                (group.signature, group.text, group.reason, group.count, group.samples, self.letters.span(group))
                for group in self.letters.largest_groups(number)
            ] == [
                (
                    signature,
                    texts[signature],
                    entries[0].reason,
                    len(entries),
                    [entry.position for entry in entries[:SAMPLES]],
                    (entries[0].at, entries[-1].at),
                )
                for signature, entries in largest[:number]
            ]

    @invariant()
    def the_newest_are_those_at_the_end(self) -> None:
        assert self.letters.newest(3) == [(entry, state) for entry, state, _ in self.model[::-1][:3]]

    @invariant()
    def what_expires_is_what_is_old_and_dealt_with(self) -> None:
        done = {LetterState.RESOLVED, LetterState.ARCHIVED}
        for before in (self.now - 2, self.now + 1):
            for states, with_open in ((done, False), ({*done, LetterState.OPEN}, True)):
                expected = [entry.position for entry, state, _ in self.model if entry.at < before and state in states]
                assert self.letters.expired(before, with_open=with_open) == expected


TestLettersAgainstModel = LettersAgainstModel.TestCase
TestLettersAgainstModel.settings = settings(stateful_step_count=30)
