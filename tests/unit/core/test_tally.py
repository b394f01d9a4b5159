"""What the status tells beside counts: failures by reason with a sample, and what reduce came to."""

import pytest

from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.tally import SAMPLE_CHARACTERS, FailureCount, Tally
from mapreduce_operator.core.workloads import Dispatch


def record(verdict: Verdict, reason: Reason | None, item: Item, message: str = "", stage: Stage = Stage.MAP) -> Record:
    result = b'{"total":3}' if verdict is Verdict.SUCCEEDED else None
    return Record(Outcome(stage, Dispatch("key", 1), "uid", verdict, reason, message, result=result), item)


FAILED = record(Verdict.FAILED, Reason.ERROR, Item(ItemState.RETRY_WAIT, attempts=1, reason=Reason.ERROR), "boom")
GIVEN_UP = Item(ItemState.DEAD_LETTERED, interruptions=1, reason=Reason.TOO_MANY_INTERRUPTIONS)


def test_failures_are_counted_by_reason_with_the_first_item_as_a_sample() -> None:
    oom = record(Verdict.FAILED, Reason.OOM_KILLED, Item(ItemState.DEAD_LETTERED, attempts=3), "big")

    tally = Tally().with_record(FAILED, 5).with_record(oom, 1).with_record(FAILED, 2)

    assert tally.failures == {
        Reason.ERROR: FailureCount(2, 5, "boom"),
        Reason.OOM_KILLED: FailureCount(1, 1, "big"),
    }


@pytest.mark.parametrize(
    "harmless",
    [
        record(Verdict.SUCCEEDED, None, Item(ItemState.SUCCEEDED, attempts=1)),
        record(Verdict.INTERRUPTED, Reason.EVICTED, Item(interruptions=1, reason=Reason.EVICTED)),
    ],
    ids=["success", "interruption"],
)
def test_what_is_no_failure_is_not_counted(harmless: Record) -> None:
    assert Tally().with_record(harmless, 0) == Tally()


def test_an_item_that_is_given_up_for_its_interruptions_is_a_failure_of_that_reason() -> None:
    tally = Tally().with_record(record(Verdict.INTERRUPTED, Reason.EVICTED, GIVEN_UP, "node drained"), 4)

    assert tally.failures == {Reason.TOO_MANY_INTERRUPTIONS: FailureCount(1, 4, "node drained")}


def test_of_a_long_message_the_end_is_kept() -> None:
    long = record(Verdict.FAILED, Reason.ERROR, Item(), "Traceback" + "x" * 1000 + " KeyError")

    message = Tally().with_record(long, 0).failures[Reason.ERROR].message

    assert len(message) == SAMPLE_CHARACTERS
    assert message.startswith("…")
    assert message.endswith(" KeyError")


def test_a_tally_is_a_value() -> None:
    before = Tally().with_record(FAILED, 0)

    before.with_record(FAILED, 1)

    assert before == Tally({Reason.ERROR: FailureCount(1, 0, "boom")})


def test_of_reduce_the_last_word_counts_and_its_failures_are_no_items() -> None:
    crashed = record(Verdict.FAILED, Reason.ERROR, Item(attempts=1), "boom", Stage.REDUCE)
    done = record(Verdict.SUCCEEDED, None, Item(ItemState.SUCCEEDED, attempts=2), stage=Stage.REDUCE)

    once = Tally().with_record(crashed, 0)

    assert once == Tally(reduce_message="boom")
    assert once.with_record(done, 0) == Tally(reduce_result=b'{"total":3}')
