"""What must hold of a run as it is durable: each rule is broken once, and many at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, LetterState, Phase, Reason
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.dead_letters import Entry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, CalledOff
from mapreduce_operator.core.letters import Attempt, moment
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.tally import FailureCount, Tally
from mapreduce_operator.core.validation import MAX_SENTENCES, SAMPLES, snapshot_violations, violations
from tests.unit.core import strategies

NOW: Final = 1_800_000_000.0
ITEMS: Final = 12
FAILED: Final = Item(ItemState.DEAD_LETTERED, 3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED)
TAKEN: Final = replace(FAILED, state=ItemState.PENDING, cause=None, allowed=6, redrive=1)


def attempt(dispatch: int) -> Attempt:
    return Attempt(dispatch=dispatch, verdict=Verdict.FAILED, reason=Reason.ERROR, ended_at=moment(NOW))


def letter(position: int, state: LetterState, **changes: Any) -> tuple[Entry, LetterState, str]:
    entry = Entry(position, Cause.ATTEMPTS_EXHAUSTED, Reason.ERROR, "5f1c", "node-1", 3, NOW, "boom")
    return msgspec.structs.replace(entry, **changes), state, "boom"


def taking(number: int, selected: int, succeeded: int, failed: int, **more: Any) -> tuple[Any, ...]:
    accepted = Accepted(number, more.get("uid", f"uid-{number}"), "again", NOW, selected)
    return accepted, succeeded, failed, 0.0, more.get("called_off")


SOUND: Final = Snapshot(
    items={
        Stage.MAP: [
            (0, Item(ItemState.SUCCEEDED, 1)),
            (1, Item(ItemState.RUNNING, 1, 2, job_uid="uid-1", reason=Reason.EVICTED)),
            (2, Item(ItemState.RETRY_WAIT, 1, not_before=NOW, reason=Reason.OOM_KILLED, oom_kills=1)),
            (3, FAILED),
            (4, replace(FAILED, interruptions=1)),
            (5, replace(FAILED, state=ItemState.SKIPPED)),
            (6, replace(TAKEN, attempts=4)),
            (7, replace(TAKEN, state=ItemState.SUCCEEDED, attempts=6, reason=None)),
            (8, replace(FAILED, attempts=5, allowed=6, redrive=1, cause=Cause.NOT_RETRYABLE)),
            # Its letter was purged.
            (9, replace(FAILED, interruptions=4, excused=4, attempts=0, cause=Cause.TOO_MANY_INTERRUPTIONS)),
        ],
        Stage.REDUCE: [(0, Item(ItemState.SUCCEEDED, 4, allowed=6))],
    },
    tally=Tally(
        {"5f1c": FailureCount(Reason.ERROR, "boom", 24, 3, "boom 1")},
        {Reason.ERROR: 24, Reason.OOM_KILLED: 1, Reason.EVICTED: 7},
    ),
    past={1: [attempt(1), attempt(3)], 2: [attempt(1)], 6: [attempt(4)]},
    letters=[
        letter(3, LetterState.OPEN),
        letter(4, LetterState.ARCHIVED),
        letter(6, LetterState.CLAIMED),
        letter(7, LetterState.RESOLVED),
        letter(8, LetterState.OPEN, attempts=5, cause=Cause.NOT_RETRYABLE),
    ],
    redrives=[
        taking(1, selected=3, succeeded=1, failed=1, called_off=CalledOff(1, "Deleted", "the Redrive was deleted")),
        taking(2, selected=0, succeeded=0, failed=0),
    ],
)
COUNTS: Final = {
    ItemState.PENDING: 3,
    ItemState.RUNNING: 1,
    ItemState.RETRY_WAIT: 1,
    ItemState.SUCCEEDED: 2,
    ItemState.DEAD_LETTERED: 4,
    ItemState.SKIPPED: 1,
}
OVER: Final = replace(
    SOUND,
    items={Stage.MAP: [(number, Item(ItemState.SUCCEEDED, 1)) for number in range(ITEMS)]},
    tally=Tally(),
    past={},
    letters=[],
    redrives=[],
)
"""All items have succeeded."""

Break = Callable[[Snapshot], Snapshot]
"""Does one damage."""


def item(position: int, stage: Stage = Stage.MAP, **changes: Any) -> Break:
    """Another item at a position."""

    def broken(snapshot: Snapshot) -> Snapshot:
        others = [(at, one) for at, one in snapshot.items[stage] if at != position]
        there = [(at, one) for at, one in snapshot.items[stage] if at == position] or [(position, Item())]
        changed = [(at, replace(one, **changes)) for at, one in there]
        return replace(snapshot, items=snapshot.items | {stage: others + changed})

    return broken


def item_too(position: int) -> Break:
    return lambda snapshot: replace(
        snapshot, items=snapshot.items | {Stage.MAP: [*snapshot.items[Stage.MAP], (position, FAILED)]}
    )


def letter_too(position: int, state: LetterState, attempts: int = 3) -> Break:
    return lambda snapshot: replace(snapshot, letters=[*snapshot.letters, letter(position, state, attempts=attempts)])


def redrive_too(number: int, uid: str, selected: int = 0) -> Break:
    return lambda snapshot: replace(snapshot, redrives=[*snapshot.redrives, taking(number, selected, 0, 0, uid=uid)])


def past(**histories: list[Attempt]) -> Break:
    told = {int(name.removeprefix("of_")): attempts for name, attempts in histories.items()}
    return lambda snapshot: replace(snapshot, past={**snapshot.past, **told})


def redrive(**changes: Any) -> Break:
    first: dict[str, Any] = {"number": 1, "selected": 3, "succeeded": 1, "failed": 1} | changes
    return lambda snapshot: replace(snapshot, redrives=[taking(**first), snapshot.redrives[1]])


BROKEN: Final[dict[str, tuple[Break, str]]] = {
    "beyond the plan": (item_too(99), "1 item (99): beyond the plan, which has 12 items"),
    "before the plan": (item_too(-1), "1 item (-1): beyond the plan, which has 12 items"),
    "item twice": (item_too(3), "1 item (3): there twice"),
    "below 0": (item(0, interruptions=-1), "1 item (0): a number below 0"),
    "excused": (item(9, excused=5), "1 item (9): more interruptions excused than it had"),
    "oom": (item(2, oom_kills=2), "1 item (2): more attempts out of memory than it had"),
    "nothing granted": (item(8, allowed=0), "1 item (8): taken by a Redrive and granted no attempt"),
    "all attempts made": (item(6, attempts=6), "1 item (6): more attempts than it was granted"),
    "more attempts": (item(7, attempts=7), "1 item (7): more attempts than it was granted"),
    "waits": (item(10, not_before=NOW), "1 item (10): Pending with a time to wait for"),
    "does not wait": (item(2, not_before=0.0), "1 item (2): RetryWait without a time to wait for"),
    "job": (item(2, job_uid="uid-2"), "1 item (2): RetryWait with a Job"),
    "no job": (item(1, job_uid=""), "1 item (1): Running without a Job"),
    "cause": (item(1, cause=Cause.NOT_RETRYABLE), "1 item (1): Running with a cause for giving it up"),
    "no cause": (item(5, cause=None), "1 item (5): Skipped without a cause for giving it up"),
    "reason": (item(0, reason=Reason.ERROR), "1 item (0): Succeeded with a reason why its last dispatch failed"),
    "no reason": (item(9, reason=None), "1 item (9): DeadLettered without a reason why its last dispatch failed"),
    "nothing tried": (item(5, attempts=0), "1 item (5): Skipped without a dispatch that ended so"),
    "no success": (item(0, attempts=0), "1 item (0): Succeeded without a dispatch that ended so"),
    "unknown Redrive": (
        item(0, redrive=7, allowed=2),
        "1 item (0): taken by a Redrive of which nothing is known",
    ),
    "reduce": (item(0, Stage.REDUCE, attempts=0), "the reduce: Succeeded without a dispatch that ended so"),
    "reduces": (item(1, Stage.REDUCE, attempts=0), "the reduce: at position 1, and there is one"),
    "reduce redriven": (item(0, Stage.REDUCE, redrive=1), "the reduce: taken by a Redrive"),
    "reduce skipped": (
        item(0, Stage.REDUCE, state=ItemState.SKIPPED, cause=Cause.NOT_RETRYABLE, reason=Reason.ERROR),
        "the reduce: Skipped",
    ),
    "letter beyond": (
        letter_too(12, LetterState.OPEN),
        "1 letter (12): beyond the plan, which has 12 items",
    ),
    "letter twice": (letter_too(3, LetterState.OPEN), "1 letter (3): there twice"),
    "open letter": (
        letter_too(0, LetterState.OPEN, 1),
        "1 letter (0): Open, and its item is Succeeded",
    ),
    "letter of none": (
        letter_too(10, LetterState.ARCHIVED, 0),
        "1 letter (10): Archived, and its item is Pending",
    ),
    "letter skipped": (letter_too(5, LetterState.OPEN), "1 letter (5): Open, and its item is Skipped"),
    "resolved": (
        letter_too(9, LetterState.RESOLVED, 0),
        "1 letter (9): Resolved, and its item is DeadLettered",
    ),
    "claimed": (
        letter_too(1, LetterState.CLAIMED, 1),
        "1 letter (1): Claimed, and its item was not taken by a Redrive",
    ),
    "letter's cause": (item(3, cause=Cause.NOT_RETRYABLE), "1 letter (3): tells of another cause than its item"),
    "letter's attempts": (
        item(3, attempts=2, interruptions=1),
        "1 letter (3): tells of more attempts than its item had",
    ),
    "Redrive twice": (
        redrive_too(1, "uid-9", selected=1),
        "2 Redrives (1, 1): shares its number or its uid",
    ),
    "Redrive's uid": (
        redrive_too(3, "uid-2"),
        "2 Redrives (2, 3): shares its number or its uid",
    ),
    "Redrive's number": (redrive_too(4, "uid-4"), "1 Redrive (4): not numbered as one of 3"),
    "Redrive below 0": (redrive(succeeded=-1, failed=3), "1 Redrive (1): a number below 0"),
    "Redrive waits": (redrive(failed=0), "1 Redrive (1): waits for more or fewer items than are not at their end"),
    "Redrive took less": (
        redrive(selected=2),
        "1 Redrive (1): waits for more or fewer items than are not at their end",
    ),
    "history beyond": (past(of_12=[attempt(1)]), "1 item (12): beyond the plan, which has 12 items"),
    "history closed": (past(of_3=[attempt(3)]), "1 item (3): DeadLettered, and its history goes on"),
    "history empty": (past(of_2=[]), "1 item (2): a history that is not of its dispatches, in their order"),
    "history of none": (past(of_2=[attempt(2)]), "1 item (2): a history that is not of its dispatches, in their order"),
    "history from 0": (past(of_2=[attempt(0)]), "1 item (2): a history that is not of its dispatches, in their order"),
    "history turned": (
        past(of_1=[attempt(3), attempt(1)]),
        "1 item (1): a history that is not of its dispatches, in their order",
    ),
    "history doubled": (
        past(of_1=[attempt(1), attempt(1)]),
        "1 item (1): a history that is not of its dispatches, in their order",
    ),
    "tally": (
        lambda snapshot: replace(snapshot, tally=Tally(reasons={Reason.ERROR: 33})),
        "33 dispatches are told to have failed or been interrupted, and there were 32",
    ),
    "sample": (
        lambda snapshot: replace(snapshot, tally=Tally({"5f1c": FailureCount(Reason.ERROR, "boom", 1, 12, "boom")})),
        "1 item (12): beyond the plan, which has 12 items",
    ),
}


def books_of(snapshot: Snapshot) -> Books:
    books = Books(RunRef("default", "demo", "run-1"), [f"key-{position}" for position in range(ITEMS)])
    books.restore(snapshot)
    return books


def test_nothing_is_wrong_with_a_sound_run() -> None:
    assert snapshot_violations(SOUND, ITEMS) == []
    assert snapshot_violations(SOUND, ITEMS, Phase.MAP, COUNTS) == []
    assert violations(books_of(SOUND), Phase.MAP, COUNTS) == []
    assert violations(books_of(SOUND), Phase.FAILED, {}) == []


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_is_checked(name: str) -> None:
    breaks, sentence = BROKEN[name]

    assert sentence in snapshot_violations(breaks(SOUND), ITEMS)


class TestCounts:
    def test_those_of_the_checkpoint_are_those_of_the_items(self) -> None:
        wrong = COUNTS | {ItemState.PENDING: 2, ItemState.SUCCEEDED: 3}
        sentence = (
            "the checkpoint counts 2 Pending, 1 Running, 1 RetryWait, 3 Succeeded, 4 DeadLettered, 1 Skipped, and the "
            "items are 3 Pending, 1 Running, 1 RetryWait, 2 Succeeded, 4 DeadLettered, 1 Skipped"
        )

        assert snapshot_violations(SOUND, ITEMS, Phase.MAP, wrong) == [sentence]
        assert violations(books_of(SOUND), Phase.MAP, wrong) == [sentence]

    def test_a_wait_that_was_over_may_be_read_back_as_one_that_is_not(self) -> None:
        over = COUNTS | {ItemState.PENDING: 4, ItemState.RETRY_WAIT: 0}

        assert violations(books_of(SOUND), Phase.MAP, over) == []

    def test_a_state_that_is_left_out_counts_0(self) -> None:
        assert snapshot_violations(OVER, ITEMS, counts={ItemState.SUCCEEDED: ITEMS}) == []

    def test_those_of_the_ledger_are_those_of_its_items(self) -> None:
        books = books_of(SOUND)
        books.ledgers[Stage.MAP]._counts[ItemState.SKIPPED] += 1

        assert [one for one in violations(books, Phase.MAP, COUNTS) if one.startswith("the ledger counts")]

    def test_a_job_that_is_just_being_created_is_not_durable(self) -> None:
        books = books_of(SOUND)
        books.ledgers[Stage.MAP].restore(11, Item(ItemState.RUNNING))

        assert len(violations(books, Phase.MAP, COUNTS)) == 1

    def test_both_counts_of_a_redrive_agree(self) -> None:
        books = books_of(SOUND)
        books.account.redrives.settle(1)

        assert violations(books, Phase.MAP, COUNTS) == ["1 Redrive (1): counts its items in two ways that do not agree"]


class TestPhases:
    @pytest.mark.parametrize("phase", [Phase.REDUCE, Phase.PARTIALLY_SUCCEEDED])
    def test_items_are_at_their_end(self, phase: Phase) -> None:
        assert snapshot_violations(SOUND, ITEMS, phase) == [
            f"1 item (1): Running, which none is in the phase {phase}",
            f"1 item (2): RetryWait, which none is in the phase {phase}",
            f"3 items (6, 10, 11): Pending, which none is in the phase {phase}",
        ]

    def test_all_items_of_a_run_that_succeeded_have_done_so(self) -> None:
        assert snapshot_violations(OVER, ITEMS, Phase.SUCCEEDED) == []
        assert snapshot_violations(
            item(3, state=ItemState.SKIPPED, cause=Cause.NOT_RETRYABLE, reason=Reason.ERROR)(OVER),
            ITEMS,
            Phase.SUCCEEDED,
        ) == ["1 item (3): Skipped, which none is in the phase Succeeded"]

    def test_some_items_of_a_run_that_succeeded_in_part_have_done_so(self) -> None:
        assert snapshot_violations(OVER, ITEMS, Phase.PARTIALLY_SUCCEEDED) == [
            "the phase is PartiallySucceeded, and the items are 12 Succeeded"
        ]

    def test_a_run_without_items_has_nothing_wrong_with_it(self) -> None:
        nothing = Snapshot(items={}, tally=Tally())

        assert snapshot_violations(nothing, 0, Phase.SUCCEEDED, dict.fromkeys(ItemState, 0)) == []


class TestSentences:
    def test_everything_that_is_wrong_is_found_at_once(self) -> None:
        names = ["item twice", "no job", "no cause", "letter beyond", "Redrive waits", "history closed", "tally"]
        snapshot = SOUND
        for name in names:
            snapshot = BROKEN[name][0](snapshot)

        found = snapshot_violations(snapshot, ITEMS, Phase.SUCCEEDED, COUNTS | {ItemState.PENDING: 4})

        assert {BROKEN[name][1] for name in names} <= set(found)
        assert any(one.startswith("the checkpoint counts") for one in found)
        assert any(one.endswith("which none is in the phase Succeeded") for one in found)

    def test_each_rule_makes_one_however_often_it_is_broken(self) -> None:
        many = replace(OVER, items={Stage.MAP: [(number, Item(ItemState.SUCCEEDED)) for number in range(2000)]})
        named = ", ".join(map(str, range(SAMPLES)))

        assert snapshot_violations(many, 2000) == [
            f"2,000 items ({named}, …): Succeeded without a dispatch that ended so"
        ]

    @given(
        st.lists(st.tuples(st.integers(-2, 60), strategies.settled_items), max_size=80),
        st.lists(
            st.tuples(st.integers(-2, 60), st.sampled_from(LetterState), st.integers(0, 9)).map(
                lambda drawn: letter(drawn[0], drawn[1], attempts=drawn[2])
            ),
            max_size=20,
        ),
        st.lists(st.tuples(*[st.integers(-2, 9)] * 4).map(lambda drawn: taking(*drawn)), max_size=9),
        st.sampled_from(Phase),
    )
    def test_there_are_never_too_many(
        self,
        entries: list[tuple[int, Item]],
        letters: list[tuple[Entry, LetterState, str]],
        redrives: list[Any],
        phase: Phase,
    ) -> None:
        worst = replace(SOUND, items={Stage.MAP: entries}, letters=letters, redrives=redrives)

        found = snapshot_violations(worst, 50, phase, COUNTS)

        assert 0 < len(found) <= MAX_SENTENCES
        assert all(len(sentence) < 300 for sentence in found)
