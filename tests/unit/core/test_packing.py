"""Compression of what is stored."""

import random

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_operator.core.packing import MAX_BYTES, THRESHOLD, WORTH, PackingError, pack, unpack

MAGIC = b"\x28\xb5\x2f\xfd"


def rows(number: int) -> bytes:
    return msgspec.json.encode([[position, "Succeeded", 1 + position % 3] for position in range(number)])


def noise(size: int) -> bytes:
    return msgspec.json.encode(random.Random(6).randbytes(size))


LARGE = rows(2000)


def claiming(size: int) -> bytes:
    """The large frame, with a header that has another size in it."""
    frame = pack(LARGE)
    eight_bytes_and_a_checksum = b"\xe4"
    return MAGIC + eight_bytes_and_a_checksum + size.to_bytes(8, "little") + frame[zstandard.frame_header_size(frame) :]


def test_a_large_text_is_compressed() -> None:
    packed = pack(LARGE)

    assert packed.startswith(MAGIC)
    assert len(packed) < len(LARGE) / 4
    assert unpack(packed) == LARGE


def test_a_small_text_stays_as_it_is() -> None:
    text = msgspec.json.encode("a" * (THRESHOLD - 3))

    assert len(text) == THRESHOLD - 1
    assert pack(text) == text
    assert pack(text + b"\n") != text + b"\n"


def test_what_gets_hardly_smaller_stays_as_it_is() -> None:
    text = noise(3 * THRESHOLD)
    mixed = text + rows(1000)

    assert len(zstandard.compress(text, 22)) < len(text)
    assert unpack(pack(text)) == text
    assert unpack(pack(mixed)) == mixed
    assert len(pack(mixed)) < WORTH * len(mixed)


@given(st.binary(max_size=64).map(lambda data: data.hex()), st.integers(0, 4000))
def test_what_is_packed_is_what_is_unpacked(value: str, times: int) -> None:
    text = msgspec.json.encode([value] * times)

    packed = pack(text)

    assert unpack(packed) == text
    assert packed == text or len(packed) < WORTH * len(text)


@pytest.mark.parametrize("level", [-5, 1, 19])
def test_frames_of_another_level_are_read(level: int) -> None:
    assert unpack(zstandard.ZstdCompressor(level=level).compress(LARGE)) == LARGE


def test_a_frame_that_does_not_tell_its_size_is_read() -> None:
    stream = zstandard.ZstdCompressor().compressobj()
    frame = stream.compress(LARGE) + stream.flush()

    assert zstandard.frame_content_size(frame) == -1
    assert unpack(frame) == LARGE


@settings(max_examples=500)
@given(st.data())
def test_a_flipped_bit_never_makes_another_text_of_a_frame(data: st.DataObject) -> None:
    packed = bytearray(pack(LARGE))
    bit = data.draw(st.integers(8 * len(MAGIC), 8 * len(packed) - 1))
    packed[bit // 8] ^= 1 << bit % 8

    try:
        assert unpack(bytes(packed)) == LARGE  # a few bits of the header mean nothing
    except PackingError as error:
        assert str(error)  # noqa: PT017  # both are right


@pytest.mark.parametrize("kept", [4, 5, 9, 100, -1])
def test_a_frame_that_was_cut_off_is_refused(kept: int) -> None:
    with pytest.raises(PackingError, match="it is damaged"):
        unpack(pack(LARGE)[:kept])


def test_more_after_the_frame_is_refused() -> None:
    with pytest.raises(PackingError, match="it is damaged"):
        unpack(pack(LARGE) + b"\n")


def test_a_header_that_claims_too_much_takes_no_memory() -> None:
    with pytest.raises(PackingError, match=f"it claims to hold {MAX_BYTES + 1} bytes"):
        unpack(claiming(MAX_BYTES + 1))
    with pytest.raises(PackingError, match="it claims to hold"):
        unpack(claiming(2**63))


def test_a_header_that_claims_what_is_not_there_is_damaged() -> None:
    assert unpack(claiming(len(LARGE))) == LARGE
    with pytest.raises(PackingError, match="it is damaged"):
        unpack(claiming(MAX_BYTES))
