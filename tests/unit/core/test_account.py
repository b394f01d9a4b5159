"""What durable outcomes add up to: the same, whether they are taken as they come or read back."""

from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, LetterState, Reason
from mapreduce_operator.core.account import Account
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, MarkKind, Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.workloads import Dispatch

NOW: Final = 1_800_000_000.0
FAILED: Final = Outcome(Stage.MAP, Dispatch("key", 3), "uid", Verdict.FAILED, Reason.ERROR, "boom", 1, ended_at=NOW)
DONE: Final = Outcome(Stage.MAP, Dispatch("key", 4), "uid", Verdict.SUCCEEDED, ended_at=NOW + 9)
DEAD: Final = Item(ItemState.DEAD_LETTERED, attempts=3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED)
REDRIVEN: Final = Item(ItemState.SUCCEEDED, attempts=4, reason=Reason.ERROR, allowed=5, redrive=1)


def with_letter(*, claimed: bool = True) -> Account:
    """The letter of the item at 7, which a Redrive has taken."""
    account = Account()
    account.take(Record(FAILED, DEAD), 7)
    account.redrives.accept(Accepted(1, "uid-r", "again", NOW, 1), durable=True)
    if claimed:
        account.claim(7)
    return account


def books(account: Account) -> tuple[object, ...]:
    letters = account.dead_letters
    return account.tally, list(letters.all()), list(letters.open()), list(account.redrives.all())


def test_an_item_that_was_given_up_is_an_open_letter() -> None:
    account = Account()

    account.take(Record(FAILED, DEAD), 7)

    assert account.dead_letters.state(7) is LetterState.OPEN
    assert account.tally.reasons == {Reason.ERROR: 1}


@pytest.mark.parametrize(
    "record",
    [
        Record(FAILED, replace(DEAD, state=ItemState.RETRY_WAIT, cause=None)),
        Record(FAILED, replace(DEAD, state=ItemState.SKIPPED)),
        Record(replace(FAILED, stage=Stage.REDUCE), DEAD),
        Record(DONE, replace(REDRIVEN, redrive=0)),
    ],
    ids=["retried", "left out", "reduce", "succeeded"],
)
def test_nothing_else_is_a_letter(record: Record) -> None:
    account = Account()

    account.take(record, 7)

    assert len(account.dead_letters) == 0


def test_a_letter_whose_item_succeeds_is_resolved_and_the_redrive_counts_it() -> None:
    account = with_letter()

    account.take(Record(DONE, REDRIVEN), 7)

    assert account.dead_letters.state(7) is LetterState.RESOLVED
    progress = account.redrives[1]
    assert (progress.succeeded, progress.failed, progress.ended_at) == (1, 0, NOW + 9)


def test_a_letter_whose_item_fails_again_is_open_again_and_the_redrive_counts_it() -> None:
    account = with_letter()

    account.take(Record(replace(FAILED, message="bang"), replace(DEAD, attempts=4, redrive=1)), 7)

    entry = account.dead_letters.get(7)
    assert entry is not None
    assert (account.dead_letters.state(7), entry.attempts, entry.message) == (LetterState.OPEN, 4, "bang")
    assert (account.redrives[1].succeeded, account.redrives[1].failed) == (0, 1)


def test_an_item_that_a_redrive_tries_again_is_not_counted_before_its_end() -> None:
    account = with_letter()

    account.take(Record(FAILED, replace(REDRIVEN, state=ItemState.RETRY_WAIT)), 7)

    assert account.dead_letters.state(7) is LetterState.CLAIMED
    assert account.redrives[1].remaining == 1


def test_the_redrive_of_a_letter_that_was_purged_since_is_counted_all_the_same() -> None:
    account = with_letter()
    account.mark(7, MarkKind.PURGED)

    account.take(Record(DONE, REDRIVEN), 7)

    assert (len(account.dead_letters), account.redrives[1].succeeded) == (0, 1)


def test_marks_set_letters_aside_or_let_go_of_them() -> None:
    account = with_letter(claimed=False)

    account.mark(7, MarkKind.ARCHIVED)
    assert account.dead_letters.state(7) is LetterState.ARCHIVED

    account.claim(7)
    assert account.dead_letters.state(7) is LetterState.CLAIMED


events = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["dies", "dies of memory", "dies again", "succeeds", "is archived", "is purged"]),
    ),
    max_size=20,
)


def happen(account: Account, story: list[tuple[int, str]]) -> None:
    """A letter that is redriven is taken just before, by a Redrive of its own."""
    for position, what in story:
        key = Dispatch(f"key-{position}", 1)
        failed, known = replace(FAILED, dispatch=key), account.dead_letters.state(position)
        match what:
            case "dies" if known is None:
                account.take(Record(failed, DEAD), position)
            case "dies of memory" if known is None:
                account.take(Record(replace(failed, reason=Reason.OOM_KILLED, message="x"), DEAD), position)
            case "is archived" if known is LetterState.OPEN:
                account.mark(position, MarkKind.ARCHIVED)
            case "is purged" if known is not None:
                account.mark(position, MarkKind.PURGED)
            case "dies again" | "succeeds" if known in {LetterState.OPEN, LetterState.ARCHIVED}:
                number = len(account.redrives) + 1
                account.redrives.accept(Accepted(number, f"uid-{number}", "again", NOW, 1), durable=True)
                account.claim(position)
                account.redrives.settle(number)
                end = replace(DONE, dispatch=key) if what == "succeeds" else failed
                item = REDRIVEN if what == "succeeds" else DEAD
                account.take(Record(end, replace(item, redrive=number)), position)


@given(events, events)
def test_a_copy_goes_its_own_way(first: list[tuple[int, str]], second: list[tuple[int, str]]) -> None:
    account, alone = Account(), Account()
    happen(account, first)
    happen(alone, first)

    copy = account.copy()
    assert books(copy) == books(account)
    happen(copy, second)

    assert books(account) == books(alone)
    happen(account, second)
    assert books(account) == books(copy)


@given(events, events)
def test_what_is_read_back_goes_on_as_it_was(first: list[tuple[int, str]], second: list[tuple[int, str]]) -> None:
    account, again = Account(), Account()
    happen(account, first)
    redrives = [one.as_kept() for one in account.redrives.all()]

    again.restore(Snapshot({}, account.tally, letters=list(account.dead_letters.all()), redrives=redrives))

    assert books(again) == books(account)
    happen(account, second)
    happen(again, second)
    assert books(again) == books(account)
