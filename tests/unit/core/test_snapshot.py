"""Snapshots: read as they were written, or known to be damaged."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, LetterState, Reason
from mapreduce_operator.core.checkpoint import SCHEMA_VERSION, DamagedError, JournalError, JournalTooNewError, digest
from mapreduce_operator.core.dead_letters import Entry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import NO_RESULT, Accepted, CalledOff
from mapreduce_operator.core.letters import Attempt, moment
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.packing import pack
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
    Tally(
        {"1f2e": FailureCount(Reason.ERROR, "boom <n>", 3, 7, "boom 5")},
        {Reason.ERROR: 3, Reason.EVICTED: 2},
        2,
        b'{"total":3}',
        "one try failed",
        4711,
    ),
    frozenset({Reason.ERROR, Reason.EVICTED}),
    {7: [Attempt(dispatch=1, verdict=Verdict.FAILED, reason=Reason.ERROR, ended_at=moment(1_800_000_000.25))]},
    [
        (
            Entry(3, Cause.NOT_RETRYABLE, Reason.ERROR, "1f2e", "node-1", 2, 1_800_000_000.25, "boom 5"),
            LetterState.CLAIMED,
            "boom <n>",
        )
    ],
    [
        (
            Accepted(1, "uid-r", "again", 1_800_000_100.5, 4, 2, msgspec.Raw(b'{"a":1.50}'), rerun_reduce=True),
            1,
            2,
            0.0,
            CalledOff(1, "Deleted", "the Redrive was deleted"),
        )
    ],
    {"map/5f1c": ["key-1", "key-2"]},
    reduce_again=True,
)

items = strategies.settled_items | st.builds(
    Item,
    state=st.just(ItemState.RUNNING),
    attempts=st.integers(0, 100),
    interruptions=st.integers(0, 1000),
    job_uid=st.uuids().map(str),
    reason=st.none() | st.sampled_from(Reason),
)
hostile = st.text() | st.sampled_from(strategies.HOSTILE_TEXTS)
tallies = st.builds(
    Tally,
    failures=st.dictionaries(
        hostile,
        st.builds(
            FailureCount,
            reason=st.sampled_from(Reason),
            signature=hostile,
            count=st.integers(1, 10**6),
            position=st.integers(0, 10**5),
            message=hostile,
        ),
    ),
    reasons=st.dictionaries(st.sampled_from(Reason), st.integers(1, 10**6)),
    retries=st.integers(0, 10**6),
    reduce_result=st.none() | st.sampled_from([b"null", b"0", b'""', b"1.50e+3", b'{"a":[1,2.0,"\xc3\xbc"]}']),
    reduce_message=hostile,
)
attempts = st.builds(Attempt.of, strategies.outcomes, redrive=hostile)
letters = st.tuples(
    st.builds(
        Entry,
        position=st.integers(0, 10**5),
        cause=st.sampled_from(Cause),
        reason=st.sampled_from(Reason),
        signature=hostile,
        node=hostile,
        attempts=st.integers(0, 1000),
        at=strategies.moments,
        message=hostile,
    ),
    st.sampled_from(LetterState),
    hostile,
)
redrives = st.tuples(
    st.builds(
        Accepted,
        number=st.integers(1, 1000),
        uid=hostile,
        name=hostile,
        at=strategies.moments,
        selected=st.integers(0, 10**5),
        parallelism=st.integers(0, 100),
        payload_patch=st.sampled_from([NO_RESULT, msgspec.Raw(b'{"a":null,"b":1.50}')]),
        template_patch=st.sampled_from([NO_RESULT, msgspec.Raw(b"{}")]),
        rerun_reduce=st.booleans(),
    ),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
    strategies.moments,
    st.none() | st.builds(CalledOff, number=st.integers(1, 1000), reason=hostile, message=hostile),
)
snapshots = st.builds(
    Snapshot,
    items=st.fixed_dictionaries(
        {stage: st.lists(st.tuples(st.integers(0, 10**5), items), max_size=5) for stage in Stage}
    ),
    tally=tallies,
    announced=st.frozensets(st.sampled_from(Reason)),
    past=st.dictionaries(st.integers(0, 10**5), st.lists(attempts, min_size=1, max_size=3), max_size=3),
    letters=st.lists(letters, max_size=3),
    redrives=st.lists(redrives, max_size=3),
    failed_starts=st.dictionaries(hostile, st.lists(strategies.item_keys, max_size=3), max_size=3),
    reduce_again=st.booleans(),
)


def read_back(snapshot: Snapshot) -> Snapshot:
    data = encode_snapshot(snapshot)
    return decode_snapshot(data, digest(data), "snapshot 7")


@given(snapshots)
def test_what_is_read_from_a_snapshot_is_what_was_written(snapshot: Snapshot) -> None:
    assert read_back(snapshot) == snapshot


def test_a_small_snapshot_is_read_as_it_was_written() -> None:
    assert read_back(SMALL) == SMALL


def test_a_snapshot_of_an_operator_that_knew_nothing_of_letters_is_read() -> None:
    # As the first version wrote it: rows of seven, and none of the fields that came later.
    data = (
        b'{"schemaVersion":1,"items":{"map":[[7,"Running",1,2,0.0,"Evicted","uid-7"]],"reduce":[]},"failures":[],'
        b'"announced":["Evicted"]}'
    )

    assert decode_snapshot(data, digest(data), "snapshot 7") == Snapshot(
        {
            Stage.MAP: [
                (7, Item(ItemState.RUNNING, attempts=1, interruptions=2, job_uid="uid-7", reason=Reason.EVICTED))
            ],
            Stage.REDUCE: [],
        },
        Tally(),
        frozenset({Reason.EVICTED}),
    )


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


def test_a_large_snapshot_is_read_as_it_lies_there_and_packed() -> None:
    large = Snapshot({Stage.MAP: [(number, Item(ItemState.SUCCEEDED, attempts=1)) for number in range(1000)]}, Tally())
    plain = encode_snapshot(large)
    packed = pack(plain)
    assert len(packed) < len(plain)

    for data in (plain, packed):
        assert decode_snapshot(data, digest(data), "snapshot 7") == large


def test_a_snapshot_that_cannot_be_unpacked_is_damaged() -> None:
    packed = pack(encode_snapshot(Snapshot({Stage.MAP: [(number, Item()) for number in range(1000)]}, Tally())))
    cut = packed[:-1]

    with pytest.raises(DamagedError, match="snapshot 7 cannot be unpacked"):
        decode_snapshot(cut, digest(cut), "snapshot 7")


def test_a_snapshot_of_a_newer_operator_is_refused() -> None:
    newer = msgspec.json.encode(msgspec.json.decode(encode_snapshot(SMALL)) | {"schemaVersion": SCHEMA_VERSION + 1})

    with pytest.raises(JournalTooNewError, match=f"snapshot 7 has schema version {SCHEMA_VERSION + 1}"):
        decode_snapshot(newer, digest(newer), "snapshot 7")
