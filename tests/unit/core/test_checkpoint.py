"""Checkpoints: read as they were written, or not at all."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import BreakerState, ItemState, Phase, RestartPhase
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    Answers,
    Checkpoint,
    CommitReason,
    DamagedError,
    JournalError,
    JournalTooNewError,
    Lineage,
    PlanInfo,
    Recovered,
    Restarted,
    Restored,
    SnapshotInfo,
    decode_checkpoint,
    digest,
    encode_checkpoint,
    verified,
)
from mapreduce_operator.core.plan import ShardInfo
from tests.unit.core import strategies

CHECKPOINT = Checkpoint(
    schema_version=SCHEMA_VERSION,
    run_uid="run-1",
    phase=Phase.MAP,
    phase_reason="Planned",
    phase_message="3 items are planned",
    plan=PlanInfo(items=3, duplicates=1, sha256="ab" * 32, input_sha256="cd" * 32),
    sequence=7,
    tail_sha256="ef" * 32,
    previous=(3, "45" * 32),
    journal_size=300_000,
    snapshot=SnapshotInfo(5, "01" * 32, 40_000, 270_000),
    epoch=2,
    started_at=1_800_000_000.25,
    opened_at=1_800_000_050.0,
    turned_at=1_800_000_060.0,
    committed_at=1_800_000_100.5,
    reason=CommitReason.ITEMS,
    breaker=Breaker(BreakerState.OPEN, 5, 1_800_000_160.5),
    counts={ItemState.PENDING: 1, ItemState.SUCCEEDED: 2},
    size=1234,
    seconds=0.025,
    spec_sha256="23" * 32,
    answers=Answers(
        "now",
        Restored(3, "back", 1_800_000_040.5, 6),
        Restarted(RestartPhase.MAP, "again", 1_800_000_050.0),
    ),
    lineage=Lineage("parent", "run-0", 12, 1),
    recovered=Recovered(1_800_000_045.0, "went on from checkpoint 3"),
)
FIRST = Checkpoint(SCHEMA_VERSION, "run-1", Phase.MAP, "Planned", "", PlanInfo(0, 0, "ab" * 32))


def signed(line: bytes) -> bytes:
    """A line with its hash below it."""
    return b"%b\n%b\n" % (line, digest(line).encode())


# --------------------------------------------------------------------------------------------------- written and read


@pytest.mark.parametrize("checkpoint", [CHECKPOINT, FIRST], ids=["full", "first"])
def test_what_is_read_from_a_checkpoint_is_what_was_written(checkpoint: Checkpoint) -> None:
    assert decode_checkpoint(encode_checkpoint(checkpoint), "head.json") == checkpoint


def test_a_checkpoint_is_two_lines_of_which_the_second_is_the_hash_of_the_first() -> None:
    first, second, rest = encode_checkpoint(CHECKPOINT).split(b"\n")

    assert msgspec.json.decode(first)["sequence"] == 7
    assert second.decode() == digest(first)
    assert rest == b""


def test_a_first_checkpoint_is_small() -> None:
    assert len(encode_checkpoint(FIRST)) < 300


@pytest.mark.parametrize("text", strategies.HOSTILE_TEXTS)
def test_hostile_texts_are_kept_on_one_line(text: str) -> None:
    hostile = msgspec.structs.replace(CHECKPOINT, phase_message=text, answers=Answers(text))
    data = encode_checkpoint(hostile)

    assert data.count(b"\n") == 2
    assert decode_checkpoint(data, "head.json") == hostile


def test_what_a_newer_operator_of_the_same_schema_added_to_a_checkpoint_is_ignored() -> None:
    line = encode_checkpoint(CHECKPOINT).partition(b"\n")[0]
    more = msgspec.json.encode(msgspec.json.decode(line) | {"novelty": {"a": 1}})

    assert decode_checkpoint(signed(more), "head.json") == CHECKPOINT


# ------------------------------------------------------------------------------------------------------ what is no good


def test_any_flipped_bit_of_a_checkpoint_is_found_and_the_object_named() -> None:
    # Of the version as well: that is no newer operator's.
    data = encode_checkpoint(CHECKPOINT)

    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(DamagedError, match=r"^head\.json is damaged: "):
                decode_checkpoint(bytes(damaged), "head.json")


def test_a_checkpoint_that_was_cut_is_refused_wherever_it_was_cut() -> None:
    data = encode_checkpoint(CHECKPOINT)

    for length in range(len(data)):
        with pytest.raises(DamagedError, match=r"^head\.json is damaged: "):
            decode_checkpoint(data[:length], "head.json")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"null",
        b"[]",
        b"{}",
        b'{"schemaVersion": 0}',
        b'{"schemaVersion": -1}',
        b'{"schemaVersion": 1}',
        b'{"schemaVersion": "1"}',
        b'{"schemaVersion": 1.5}',
        b'{"schemaVersion": {}}',
        b'{"schemaVersion": null}',
        signed(b'{"schemaVersion": 2}'),
        b'{"schemaVersion": 3}',
        encode_checkpoint(CHECKPOINT).partition(b"\n")[0],
        encode_checkpoint(CHECKPOINT).replace(b'"Map"', b'"Mop"'),
        encode_checkpoint(CHECKPOINT) + b"\n",
        encode_checkpoint(CHECKPOINT) * 2,
    ],
)
def test_a_damaged_checkpoint_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(DamagedError, match=r"^head\.json is damaged: "):
        decode_checkpoint(data, "head.json")


@given(st.binary(max_size=40) | strategies.json_values.map(msgspec.json.encode))
def test_whatever_stands_in_the_place_of_a_checkpoint_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(JournalError, match=r"^head\.json "):
        decode_checkpoint(data, "head.json")


@given(st.dictionaries(st.just("schemaVersion") | st.text(max_size=8), strategies.json_values), st.booleans())
def test_whatever_object_stands_in_the_place_of_a_checkpoint_is_refused_in_words(
    value: dict[str, object], with_hash: bool
) -> None:
    line = msgspec.json.encode(value)

    with pytest.raises(JournalError, match=r"^head\.json "):
        decode_checkpoint(signed(line) if with_hash else line, "head.json")


def test_what_another_object_knows_the_hash_of_is_taken_only_with_that_hash() -> None:
    assert verified(b"content", digest(b"content"), "plan.json") == b"content"

    with pytest.raises(DamagedError, match=rf"^plan\.json is damaged: its SHA-256 is not {digest(b'content')}$"):
        verified(b"contents", digest(b"content"), "plan.json")


# ------------------------------------------------------------------------------------------------------- other versions


@given(st.integers(SCHEMA_VERSION + 1, 10**6))
def test_a_checkpoint_of_a_newer_operator_is_refused_whatever_else_stands_in_it(version: int) -> None:
    newer = signed(msgspec.json.encode({"schemaVersion": version, "allElse": "is different"}))

    with pytest.raises(JournalTooNewError) as refused:
        decode_checkpoint(newer, "default/demo/run-1/head.json")

    assert str(refused.value) == (
        f"default/demo/run-1/head.json has schema version {version}, this operator knows {SCHEMA_VERSION}: "
        "run the newer operator again"
    )


def test_a_head_of_version_1_has_no_second_line_and_names_its_shards_itself() -> None:
    old = {
        "schemaVersion": 1,
        "runUid": "run-1",
        "phase": "Map",
        "phaseReason": "Planned",
        "phaseMessage": "3 items are planned",
        "plan": {"items": 3, "duplicates": 1, "sha256": "ab" * 32, "shards": [{"items": 3, "sha256": "cd" * 32}]},
        "sequence": 7,
        "tailSha256": "ef" * 32,
        "startedAt": 1_800_000_000.25,
    }
    expected = Checkpoint(
        SCHEMA_VERSION,
        "run-1",
        Phase.MAP,
        "Planned",
        "3 items are planned",
        PlanInfo(3, 1, "ab" * 32, (ShardInfo(3, "cd" * 32),)),
        sequence=7,
        tail_sha256="ef" * 32,
        started_at=1_800_000_000.25,
        opened_at=1_800_000_000.25,
    )

    assert decode_checkpoint(msgspec.json.encode(old), "head.json") == expected
