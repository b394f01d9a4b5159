"""What makes a run durable: it is read as it was written, or not at all."""

from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import BreakerState, Cause, ItemState, Phase, Reason
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason, JournalError, PlanInfo, SCHEMA_VERSION, SnapshotInfo, decode_checkpoint, digest, encode_checkpoint
from mapreduce_operator.core.journal import Accepted, Claim, Mark, MarkKind, Record, SegmentHeader, Start, decode_segment, encode_segment
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.plan import ShardInfo
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies

HEAD = Checkpoint(
    schema_version=SCHEMA_VERSION,
    run_uid="run-1",
    phase=Phase.MAP,
    phase_reason="Planned",
    phase_message="3 items are planned",
    plan=PlanInfo(items=3, duplicates=1, sha256="ab" * 32, shards=[ShardInfo(3, "cd" * 32)]),
    sequence=7,
    tail_sha256="ef" * 32,
    journal_size=300_000,
    snapshot=SnapshotInfo(5, "01" * 32, 40_000, 270_000),
    epoch=2,
    started_at=1_800_000_000.25,
    committed_at=1_800_000_100.5,
    reason=CommitReason.ITEMS,
    breaker=Breaker(BreakerState.OPEN, 5, 1_800_000_160.5),
)
STARTS = (Start(Stage.MAP, "abcdefghij", 3, "job-3"), Start(Stage.REDUCE, "klmnopqrst", 1, "job-4"))
REDRIVEN = Accepted(
    1, "uid-r", "again", 1_800_000_099.5, 30, 4, msgspec.Raw(b'{"n":1.50}'), msgspec.Raw(b'{"spec":null}'), True
)
CLAIMS = (
    Claim(Stage.MAP, "abcdefghij", 1, allowed=5, excused=2, not_before=1_800_000_160.0),
    Claim(Stage.REDUCE, "klmnopqrst", 0, allowed=4, excused=0, not_before=0.0),
)
MARKS = (Mark("abcdefghij", MarkKind.ARCHIVED), Mark("klmnopqrst", MarkKind.PURGED))
HEADER = SegmentHeader(7, "ab" * 32, Phase.MAP, 1_800_000_100.5, CommitReason.TIME, STARTS, (REDRIVEN,), CLAIMS, MARKS)
SUCCEEDED = Record(
    Outcome(
        Stage.MAP,
        Dispatch("abcdefghij", 2),
        "job-1",
        Verdict.SUCCEEDED,
        exit_code=0,
        result=b'{"words":5644,"ratio":1.50}',
        revision="5f1c",
        job="demo-abcdefghij-d2",
        pod="demo-abcdefghij-d2-x7k2p",
        node="node-3",
        started_at=1_800_000_000.0,
        ended_at=1_800_000_090.0,
    ),
    Item(ItemState.SUCCEEDED, attempts=1, interruptions=1),
)
FAILED = Record(
    Outcome(Stage.MAP, Dispatch("klmnopqrst", 1), "job-2", Verdict.FAILED, Reason.ERROR, "boom", 3, retryable=False),
    Item(ItemState.DEAD_LETTERED, attempts=1, reason=Reason.ERROR, cause=Cause.NOT_RETRYABLE),
)


# ------------------------------------------------------------------------------------------------------------- segments


@given(st.lists(strategies.records, max_size=5))
def test_what_is_read_from_a_segment_is_what_was_written(records: list[Record]) -> None:
    data = encode_segment(HEADER, records)

    segment = decode_segment(data, digest(data), "segment 7")

    assert segment.header == HEADER
    assert segment.records == records


def test_the_result_of_an_agent_is_kept_byte_for_byte() -> None:
    data = encode_segment(HEADER, [SUCCEEDED])

    (record,) = decode_segment(data, digest(data), "segment 7").records

    assert record.outcome.result == b'{"words":5644,"ratio":1.50}'


@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_hostile_messages_and_results_are_kept(text: str) -> None:
    hostile = Record(
        replace(SUCCEEDED.outcome, message=text, node=text, result=msgspec.json.encode(text)), SUCCEEDED.item
    )
    data = encode_segment(HEADER, [hostile, FAILED])

    assert decode_segment(data, digest(data), "segment 7").records == [hostile, FAILED]


def test_the_same_records_are_the_same_bytes() -> None:
    assert encode_segment(HEADER, [SUCCEEDED, FAILED]) == encode_segment(HEADER, [SUCCEEDED, FAILED])


def test_a_segment_is_a_line_of_header_and_a_line_per_record() -> None:
    data = encode_segment(HEADER, [SUCCEEDED, FAILED])

    assert data.count(b"\n") == 3
    assert data.endswith(b"\n")


def test_a_segment_may_tell_of_starts_alone_or_of_none() -> None:
    for starts in (STARTS, ()):
        data = encode_segment(msgspec.structs.replace(HEADER, starts=starts), [])

        segment = decode_segment(data, digest(data), "segment 7")

        assert (segment.header.starts, segment.records) == (starts, [])


@pytest.mark.parametrize("field", ["redrives", "claims", "marks"])
def test_a_segment_may_tell_of_one_thing_alone(field: str) -> None:
    header = SegmentHeader(7, "", Phase.MAP, 1_800_000_100.5, CommitReason.REDRIVE, **{field: getattr(HEADER, field)})
    data = encode_segment(header, [])

    assert decode_segment(data, digest(data), "segment 7").header == header


def test_what_an_operator_wrote_that_knew_nothing_of_letters_is_read() -> None:
    data = (
        b'{"sequence":7,"previousSha256":"","phase":"Map","at":1.5,"reason":"Time","starts":[["map","a",1,"u"]]}\n'
        b'{"stage":"map","key":"a","dispatch":1,"jobUid":"u","verdict":"Failed","state":"DeadLettered","attempts":1,'
        b'"reason":"Error","itemReason":"Error"}\n'
    )

    segment = decode_segment(data, digest(data), "segment 7")

    assert segment.header == SegmentHeader(7, "", Phase.MAP, 1.5, CommitReason.TIME, (Start(Stage.MAP, "a", 1, "u"),))
    assert segment.records == [
        Record(
            Outcome(Stage.MAP, Dispatch("a", 1), "u", Verdict.FAILED, Reason.ERROR),
            Item(ItemState.DEAD_LETTERED, attempts=1, reason=Reason.ERROR),
        )
    ]


def test_any_changed_byte_of_a_segment_is_found_and_the_segment_named() -> None:
    data = encode_segment(HEADER, [SUCCEEDED, FAILED])
    expected = digest(data)

    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(JournalError, match="segment 7 is damaged"):
                decode_segment(bytes(damaged), expected, "segment 7")


def test_a_segment_that_was_cut_is_found_wherever_it_was_cut() -> None:
    data = encode_segment(HEADER, [SUCCEEDED, FAILED])

    for length in range(len(data)):
        with pytest.raises(JournalError, match="segment 7 is damaged"):
            decode_segment(data[:length], digest(data), "segment 7")


def test_another_whole_segment_is_not_taken_for_the_one_that_counts() -> None:
    one, other = encode_segment(HEADER, [SUCCEEDED]), encode_segment(HEADER, [FAILED])

    with pytest.raises(JournalError, match=f"its SHA-256 is not {digest(one)}"):
        decode_segment(other, digest(one), "segment 7")


# -------------------------------------------------------------------------------------------------------------- records


def test_a_record_of_the_map_can_do_without_its_result() -> None:
    slim = SUCCEEDED.without_result()

    assert slim == Record(replace(SUCCEEDED.outcome, result=None), SUCCEEDED.item)


def test_the_result_of_reduce_stays_with_its_record() -> None:
    reduced = Record(replace(SUCCEEDED.outcome, stage=Stage.REDUCE), SUCCEEDED.item)

    assert reduced.without_result() == reduced


# ----------------------------------------------------------------------------------------------------------------- head


def test_what_is_read_from_a_head_is_what_was_written() -> None:
    assert decode_checkpoint(encode_checkpoint(HEAD), "head.json") == HEAD


def test_a_first_head_is_small() -> None:
    first = Checkpoint(SCHEMA_VERSION, "run-1", Phase.MAP, "Planned", "", PlanInfo(0, 0, "ab" * 32, []))

    assert decode_checkpoint(encode_checkpoint(first), "head.json") == first
    assert len(encode_checkpoint(first)) < 250


@given(st.integers(SCHEMA_VERSION + 1, 10**6))
def test_a_head_of_a_newer_operator_is_refused_whatever_else_stands_in_it(version: int) -> None:
    newer = msgspec.json.encode({"schemaVersion": version, "allElse": "is different"})

    with pytest.raises(JournalError) as refused:
        decode_checkpoint(newer, "default/demo/run-1/head.json")

    assert str(refused.value) == (
        f"default/demo/run-1/head.json has schema version {version}, this operator knows {SCHEMA_VERSION}: "
        "run the newer operator again"
    )


def test_what_a_newer_operator_of_the_same_schema_added_to_a_head_is_ignored() -> None:
    more = msgspec.json.encode(msgspec.json.decode(encode_checkpoint(HEAD)) | {"novelty": {"a": 1}})

    assert decode_checkpoint(more, "head.json") == HEAD


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"schemaVersion": 1}',
        b'{"schemaVersion": "1"}',
        b'{"schemaVersion": 1.5}',
        b'{"schemaVersion": {}}',
        b'{"schemaVersion": null}',
        encode_checkpoint(HEAD)[:100],
        encode_checkpoint(HEAD).replace(b'"Map"', b'"Mop"'),
    ],
)
def test_a_damaged_head_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(JournalError, match=r"^head\.json is damaged: "):
        decode_checkpoint(data, "head.json")


@given(st.binary(max_size=40) | strategies.json_values.map(msgspec.json.encode))
def test_whatever_stands_in_the_place_of_a_head_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(JournalError, match=r"^head\.json "):
        decode_checkpoint(data, "head.json")


def test_a_head_that_was_cut_is_refused_wherever_it_was_cut() -> None:
    data = encode_checkpoint(HEAD).rstrip(b"\n")

    for length in range(len(data)):
        with pytest.raises(JournalError, match="is damaged"):
            decode_checkpoint(data[:length], "head.json")
