"""What the status tells beside counts: failures by reason and by signature, with a sample, and what reduce came to."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.signatures import signature_of
from mapreduce_operator.core.tally import SAMPLE_CHARACTERS, SIGNATURES, FailureCount, Tally
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies


def record(verdict: Verdict, reason: Reason | None, item: Item, message: str = "", stage: Stage = Stage.MAP) -> Record:
    result = b'{"total":3}' if verdict is Verdict.SUCCEEDED else None
    return Record(Outcome(stage, Dispatch("key", 1), "uid", verdict, reason, message, result=result), item)


def signature_id(reason: Reason, message: str) -> str:
    return signature_of(reason, None, message).id


FAILED = record(Verdict.FAILED, Reason.ERROR, Item(ItemState.RETRY_WAIT, attempts=1, reason=Reason.ERROR), "boom")
GIVEN_UP = Item(ItemState.DEAD_LETTERED, interruptions=1, reason=Reason.EVICTED, cause=Cause.TOO_MANY_INTERRUPTIONS)
EVICTED = record(Verdict.INTERRUPTED, Reason.EVICTED, Item(interruptions=1, reason=Reason.EVICTED))


def test_failures_are_counted_by_signature_with_the_first_item_as_a_sample() -> None:
    oom = record(Verdict.FAILED, Reason.OOM_KILLED, Item(ItemState.DEAD_LETTERED, attempts=3), "big")

    tally = Tally().with_record(FAILED, 5).with_record(oom, 1).with_record(FAILED, 2)

    assert tally.failures == {
        signature_id(Reason.ERROR, "boom"): FailureCount(
            Reason.ERROR, signature_of(Reason.ERROR, None, "boom").text, 2, 5, "boom"
        ),
        signature_id(Reason.OOM_KILLED, "big"): FailureCount(
            Reason.OOM_KILLED, signature_of(Reason.OOM_KILLED, None, "big").text, 1, 1, "big"
        ),
    }
    assert tally.reasons == {Reason.ERROR: 2, Reason.OOM_KILLED: 1}


def test_the_same_failure_of_two_items_is_one_kind_and_two_failures_of_one_reason_are_two() -> None:
    def lost(item: str) -> Record:
        return replace(FAILED, outcome=replace(FAILED.outcome, message=f"cannot read /data/{item}/in.json"))

    other = replace(FAILED, outcome=replace(FAILED.outcome, message="connection refused"))

    tally = Tally().with_record(lost("17"), 0).with_record(lost("18"), 1).with_record(other, 2)

    assert sorted(known.count for known in tally.failures.values()) == [1, 2]
    assert tally.reasons == {Reason.ERROR: 3}


def test_a_success_counts_by_the_bytes_of_its_result_alone() -> None:
    done = record(Verdict.SUCCEEDED, None, Item(ItemState.SUCCEEDED, attempts=1))

    assert Tally().with_record(done, 0).with_record(done, 1) == Tally(result_bytes=2 * len(b'{"total":3}'))
    assert Tally().with_record(FAILED, 0).result_bytes == 0


def test_the_result_of_reduce_is_none_of_the_map() -> None:
    done = record(Verdict.SUCCEEDED, None, Item(ItemState.SUCCEEDED, attempts=1), stage=Stage.REDUCE)

    assert Tally().with_record(done, 0).result_bytes == 0


def test_an_interruption_has_a_reason_and_is_no_failure() -> None:
    assert Tally().with_record(EVICTED, 0) == Tally(reasons={Reason.EVICTED: 1})


def test_an_item_that_is_given_up_for_its_interruptions_is_a_failure_like_its_last_one() -> None:
    tally = Tally().with_record(record(Verdict.INTERRUPTED, Reason.EVICTED, GIVEN_UP, "node drained"), 4)

    (known,) = tally.failures.values()
    assert (known.reason, known.count, known.position, known.message) == (Reason.EVICTED, 1, 4, "node drained")


@pytest.mark.parametrize(
    ("ended", "retries"),
    [
        (FAILED, 1),
        (replace(FAILED, item=replace(FAILED.item, state=ItemState.DEAD_LETTERED)), 0),
        (replace(FAILED, item=replace(FAILED.item, redrive=1)), 0),
        (EVICTED, 0),
        (replace(EVICTED, item=replace(EVICTED.item, state=ItemState.RETRY_WAIT)), 0),
        (replace(FAILED, outcome=replace(FAILED.outcome, stage=Stage.REDUCE)), 0),
    ],
    ids=["retried", "given up", "granted by a Redrive", "interrupted", "interrupted, rests", "reduce"],
)
def test_a_retry_is_what_the_job_itself_spends_on_a_failed_attempt(ended: Record, retries: int) -> None:
    assert Tally().with_record(ended, 0).retries == retries


def test_of_a_long_message_the_end_is_kept() -> None:
    long = record(Verdict.FAILED, Reason.ERROR, Item(), "Traceback" + "x" * 1000 + " KeyError")

    (known,) = Tally().with_record(long, 0).failures.values()

    assert len(known.message) == SAMPLE_CHARACTERS
    assert known.message.startswith("…")
    assert known.message.endswith(" KeyError")


def test_kinds_of_failure_are_bounded_and_what_comes_later_is_still_counted_by_its_reason() -> None:
    words = [f"{first}{second}rror" for first in "abcdefghijk" for second in "abcdefghijk"]
    assert len(words) > SIGNATURES
    tally = Tally()
    for position, word in enumerate(words):
        tally = tally.with_record(record(Verdict.FAILED, Reason.ERROR, Item(attempts=1), word), position)
    tally = tally.with_record(record(Verdict.FAILED, Reason.ERROR, Item(attempts=1), words[0]), 0)

    assert len(tally.failures) == SIGNATURES
    assert tally.failures[signature_id(Reason.ERROR, words[0])].count == 2, "known kinds go on being counted"
    assert tally.reasons == {Reason.ERROR: len(words) + 1}


@given(st.lists(strategies.records, max_size=12))
def test_reasons_add_up_to_all_that_did_not_succeed_of_the_map(records: list[Record]) -> None:
    tally = Tally()
    for position, one in enumerate(records):
        tally = tally.with_record(one, position)

    of_map = [one for one in records if one.outcome.stage is Stage.MAP and one.outcome.reason is not None]
    assert sum(tally.reasons.values()) == len(of_map)
    counted = [one for one in of_map if one.outcome.verdict is Verdict.FAILED or one.item.final]
    assert sum(known.count for known in tally.failures.values()) == len(counted)


def test_a_tally_is_a_value() -> None:
    before = Tally().with_record(FAILED, 0)
    same = Tally().with_record(FAILED, 0)

    before.with_record(FAILED, 1)

    assert before == same


def test_of_reduce_the_last_word_counts_and_its_failures_are_no_items() -> None:
    crashed = record(Verdict.FAILED, Reason.ERROR, Item(attempts=1), "boom", Stage.REDUCE)
    done = record(Verdict.SUCCEEDED, None, Item(ItemState.SUCCEEDED, attempts=2), stage=Stage.REDUCE)

    once = Tally().with_record(crashed, 0)

    assert once == Tally(reduce_message="boom")
    assert once.with_record(done, 0) == Tally(reduce_result=b'{"total":3}')
