"""Snapshots: read as they were written, or known to be damaged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import JournalError, digest
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.snapshot import Snapshot, decode_snapshot, encode_snapshot
from mapreduce_operator.core.tally import FailureCount, Tally
from tests.unit.core import strategies

SMALL = Snapshot(
    {
        Stage.MAP: [
            (0, Item(ItemState.SUCCEEDED, attempts=1)),
            (7, Item(ItemState.RUNNING, attempts=1, interruptions=2, job_uid="uid-7", reason=Reason.EVICTED)),
        ],
        Stage.REDUCE: [],
    },
    Tally({Reason.ERROR: FailureCount(3, 7, "boom")}, b'{"total":3}', "one try failed"),
    frozenset({Reason.ERROR, Reason.EVICTED}),
)

items = strategies.settled_items | st.builds(
    Item,
    state=st.just(ItemState.RUNNING),
    attempts=st.integers(0, 100),
    interruptions=st.integers(0, 1000),
    job_uid=st.uuids().map(str),
    reason=st.none() | st.sampled_from(Reason),
)
tallies = st.builds(
    Tally,
    failures=st.dictionaries(
        st.sampled_from(Reason),
        st.builds(
            FailureCount,
            count=st.integers(1, 10**6),
            position=st.integers(0, 10**5),
            message=st.text() | st.sampled_from(strategies.HOSTILE_TEXTS),
        ),
    ),
    reduce_result=st.none() | st.sampled_from([b"null", b"0", b'""', b"1.50e+3", b'{"a":[1,2.0,"\xc3\xbc"]}']),
    reduce_message=st.text() | st.sampled_from(strategies.HOSTILE_TEXTS),
)
snapshots = st.builds(
    Snapshot,
    items=st.fixed_dictionaries(
        {stage: st.lists(st.tuples(st.integers(0, 10**5), items), max_size=5) for stage in Stage}
    ),
    tally=tallies,
    announced=st.frozensets(st.sampled_from(Reason)),
)


def read_back(snapshot: Snapshot) -> Snapshot:
    data = encode_snapshot(snapshot)
    return decode_snapshot(data, digest(data), "snapshot 7")


@given(snapshots)
def test_what_is_read_from_a_snapshot_is_what_was_written(snapshot: Snapshot) -> None:
    assert read_back(snapshot) == snapshot


def test_a_snapshot_of_nothing_is_one_too() -> None:
    nothing = Snapshot({Stage.MAP: [], Stage.REDUCE: []}, Tally())

    assert read_back(nothing) == nothing


def test_the_result_of_reduce_is_kept_byte_for_byte_and_null_is_one() -> None:
    for result in (b'{"ratio":1.50}', b"null", None):
        assert read_back(Snapshot({}, Tally(reduce_result=result))).tally.reduce_result == result


def test_the_same_state_is_the_same_bytes() -> None:
    assert encode_snapshot(SMALL) == encode_snapshot(read_back(SMALL))


def test_any_changed_byte_of_a_snapshot_is_found_and_the_snapshot_named() -> None:
    data = encode_snapshot(SMALL)

    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(JournalError, match="snapshot 7 is damaged"):
            decode_snapshot(bytes(damaged), digest(data), "snapshot 7")


def test_a_snapshot_that_was_cut_is_found_wherever_it_was_cut() -> None:
    data = encode_snapshot(SMALL)

    for length in range(len(data)):
        with pytest.raises(JournalError, match="snapshot 7 is damaged"):
            decode_snapshot(data[:length], digest(data), "snapshot 7")
