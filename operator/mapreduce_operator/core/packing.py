"""Compression of the large objects in storage: snapshots and shards of plans.

Whether an object is packed is told by its first bytes and stands nowhere else, so that each is read whatever was chosen
when it was written. Everything that is stored here is a JSON text, and none begins with the magic number of zstd.
A bit that is flipped in that number makes raw data of a frame; it is the hash kept outside of each object that finds
it, as any other.
"""

from typing import Final

import zstandard

THRESHOLD: Final = 16 * 1024
"""Bytes. A smaller object costs one request in any case, and people can read it as it lies there."""
LEVEL: Final = 3
WORTH: Final = 0.9
"""What is packed must be smaller than this part of the data, or reading it back pays for nothing."""
MAX_BYTES: Final = 1024**3
"""So much may come out of one object: a damaged frame must not take the memory of the whole operator."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class PackingError(Exception):
    """What was read back cannot be unpacked."""


def pack(data: bytes) -> bytes:
    """The JSON text as it is to be stored: as it is, or compressed where that pays."""
    if len(data) < THRESHOLD:
        return data
    # One for each call, here and below: they must not be shared between threads.
    packed = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(data)
    return packed if len(packed) < WORTH * len(data) else data


def unpack(data: bytes) -> bytes:
    """What was given to `pack`; raises PackingError for a frame that is damaged or would take too much memory."""
    if not data.startswith(_MAGIC):
        return data
    try:
        size = zstandard.frame_content_size(data)
        # The header alone says how much memory is taken, before anything else of the frame is looked at.
        if size > MAX_BYTES:
            raise PackingError(f"it claims to hold {size} bytes, and no object holds more than {MAX_BYTES}")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=MAX_BYTES, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PackingError(f"it is damaged: {error}") from error
