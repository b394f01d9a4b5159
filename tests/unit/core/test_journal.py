"""Segments: read as they were written, or known to be damaged; and what is still good of one that is."""

import zlib
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, Phase, Reason
from mapreduce_operator.core.checkpoint import CommitReason, JournalError, digest
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import (
    Accepted,
    CalledOff,
    Claim,
    Mark,
    MarkKind,
    Record,
    Salvaged,
    SegmentHeader,
    Start,
    Undone,
    decode_segment,
    encode_segment,
    salvage,
)
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies

NOW = 1_800_000_100.5
STARTS = (Start(Stage.MAP, "abcdefghij", 3, "job-3"), Start(Stage.REDUCE, "klmnopqrst", 1, "job-4"))
REDRIVEN = Accepted(
    1, "uid-r", "again", 1_800_000_099.5, 30, 4, msgspec.Raw(b'{"n":1.50}'), msgspec.Raw(b'{"spec":null}'), True
)
CLAIMS = (
    Claim(Stage.MAP, "abcdefghij", 1, allowed=5, excused=2, not_before=1_800_000_160.0),
    Claim(Stage.REDUCE, "klmnopqrst", 0, allowed=4, excused=0, not_before=0.0),
)
MARKS = (Mark("abcdefghij", MarkKind.ARCHIVED), Mark("klmnopqrst", MarkKind.PURGED))
HEADER = SegmentHeader(
    7,
    "ab" * 32,
    Phase.MAP,
    1_800_000_100.5,
    CommitReason.TIME,
    previous=3,
    epoch=2,
    count=2,
    undone=(Undone(Stage.MAP, "abcdefghij", 2), Undone(Stage.REDUCE, "klmnopqrst", 1)),
    starts=STARTS,
    redrives=(REDRIVEN,),
    claims=CLAIMS,
    marks=MARKS,
    called_off=(CalledOff(1, "Deleted", "the Redrive was deleted"),),
    given_back=("klmnopqrst",),
    reduce_again=True,
)
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


def test_a_segment_is_a_header_a_line_per_record_and_a_link_each_with_its_checksum() -> None:
    data = encode_segment(HEADER, [SUCCEEDED, FAILED])

    assert data.endswith(b"\n")
    lines = data.splitlines()
    assert len(lines) == 4
    for line in lines:
        checksum, _, content = line.partition(b" ")
        assert int(checksum, 16) == zlib.crc32(content)


def test_a_segment_follows_the_one_before_unless_it_says_otherwise() -> None:
    follows = SegmentHeader(7, "ab" * 32, Phase.MAP, NOW, CommitReason.TIME)

    assert follows.before == 6
    assert msgspec.structs.replace(follows, previous=3).before == 3
    assert msgspec.structs.replace(follows, previous=0).before == 0


def test_a_segment_may_tell_of_starts_alone_or_of_none() -> None:
    for starts in (STARTS, ()):
        data = encode_segment(msgspec.structs.replace(HEADER, starts=starts), [])

        segment = decode_segment(data, digest(data), "segment 7")

        assert (segment.header.starts, segment.records) == (starts, [])


@pytest.mark.parametrize(
    "field", ["previous", "undone", "redrives", "claims", "marks", "called_off", "given_back", "reduce_again"]
)
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

    assert segment.header == SegmentHeader(
        7, "", Phase.MAP, 1.5, CommitReason.TIME, starts=(Start(Stage.MAP, "a", 1, "u"),)
    )
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


def test_without_results_that_of_the_reduce_is_still_there() -> None:
    reduced = Record(replace(SUCCEEDED.outcome, stage=Stage.REDUCE), SUCCEEDED.item)
    data = encode_segment(HEADER, [SUCCEEDED, reduced, FAILED])

    records = decode_segment(data, digest(data), "segment 7", results=False).records

    size = len(SUCCEEDED.outcome.result or b"")
    left_out = Record(replace(SUCCEEDED.outcome, result=None), SUCCEEDED.item, left_out=size)
    assert size
    assert records == [left_out, reduced, FAILED]


# -------------------------------------------------------------------------------------------------------------- salvage

RECORDS = [SUCCEEDED, FAILED, Record(replace(FAILED.outcome, job_uid="job-9"), FAILED.item)]


def broken_lines(data: bytes, damaged: bytes) -> set[int]:
    """Numbers of the lines that are not as they were, where as many bytes are left."""
    broken, number = set(), 0
    for before, after in zip(data, damaged, strict=True):
        if before != after:
            broken.add(number)
            if before == 10:
                broken.add(number + 1)
        number += before == 10
    return broken


BEFORE = (3, "ab" * 32)
"""The segment before, by number and hash, as the first and the last line tell."""


def test_all_of_a_whole_segment_is_good() -> None:
    assert salvage(encode_segment(HEADER, RECORDS)) == Salvaged(HEADER, BEFORE, RECORDS)


def test_what_leads_to_a_segment_can_be_read_without_its_records() -> None:
    assert salvage(encode_segment(HEADER, RECORDS), records_too=False) == Salvaged(HEADER, BEFORE, [])


def test_whatever_byte_is_damaged_all_other_lines_are_good_and_nothing_else_is_given_out() -> None:
    data = encode_segment(HEADER, RECORDS)
    last = len(RECORDS) + 1

    for position in range(len(data)):
        for bits in (0x01, 0x20, 0x80, 0xFF, data[position] ^ 0x0A):
            damaged = bytearray(data)
            damaged[position] ^= bits
            broken = broken_lines(data, bytes(damaged))

            assert salvage(bytes(damaged)) == Salvaged(
                None if 0 in broken else HEADER,
                None if broken >= {0, last} else BEFORE,
                [record for line, record in enumerate(RECORDS, start=1) if line not in broken],
            )


def test_a_segment_that_was_cut_is_good_up_to_the_line_where_it_was_cut() -> None:
    data = encode_segment(HEADER, RECORDS)
    ends = [len(b"\n".join(data.split(b"\n")[:number])) for number in range(1, len(RECORDS) + 2)]

    for length in range(len(data)):
        whole = sum(end <= length for end in ends)
        expected = Salvaged(HEADER, BEFORE, RECORDS[: whole - 1]) if whole else Salvaged(None, None, [])
        assert salvage(data[:length]) == expected


@pytest.mark.parametrize("data", [b"", b"\n", b"\x00" * 4096, b"{}\n{}\n", b"00000000 \n", b"<html>\n</html>\n"])
def test_of_what_is_no_segment_nothing_is_good(data: bytes) -> None:
    assert salvage(data) == Salvaged(None, None, [])


def test_a_line_that_lost_its_place_is_not_taken_for_another() -> None:
    header, *records, last = encode_segment(HEADER, RECORDS).splitlines(keepends=True)

    assert salvage(b"".join([*records, last, header])) == Salvaged(None, BEFORE, RECORDS[1:])
    assert salvage(b"".join([last, *records])) == Salvaged(None, None, RECORDS)


def test_what_begins_like_the_last_line_and_is_none_is_passed_over() -> None:
    strange = b"[1]"

    assert salvage(b"\n%08x %b\n" % (zlib.crc32(strange), strange)) == Salvaged(None, None, [])


@given(
    st.lists(strategies.records, max_size=6),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=8),
    st.none() | st.floats(0, 1),
)
def test_of_any_damage_only_what_was_written_is_given_out_and_in_its_order(
    written: list[Record], flips: list[tuple[float, int]], cut: float | None
) -> None:
    data = encode_segment(HEADER, written)
    damaged = bytearray(data)
    for place, bits in flips:
        damaged[int(place * len(data))] ^= bits
    broken = broken_lines(data, bytes(damaged))
    if cut is not None:
        damaged = damaged[: int(cut * len(damaged))]

    found = salvage(bytes(damaged))

    assert found.header in (None, HEADER)
    assert found.before in (None, BEFORE)
    good = [record for line, record in enumerate(written, start=1) if line not in broken]
    assert found.records == good[: len(found.records)], "what is cut off is at the end"
    if cut is None:
        assert (found.header is None) == (0 in broken)
        assert len(found.records) == len(good)
