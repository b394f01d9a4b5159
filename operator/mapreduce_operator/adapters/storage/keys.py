"""Which keys object stores take, and how a version of an object is named.

The rules are the same for every store, so that what works on one volume works in a bucket, and the other way round.
"""

import hashlib
from typing import Final

from mapreduce_operator.ports import ObjectTooLargeError

KEY_LIMIT: Final = 1024
"""Bytes of a key: S3's limit."""
PART_LIMIT: Final = 255
"""Bytes between two slashes: the limit of file systems."""
RESERVED: Final = ".store"
"""First part of no key: file stores keep their lock and their unfinished writes there."""


def checked_key(key: str) -> str:
    """The key itself, or ValueError for one that could name anything but an object below the store's root.

    Printable ASCII without backslashes, in non-empty parts between single slashes, none of them `.` or `..`.
    """
    if not key or len(key) > KEY_LIMIT:
        raise ValueError(f"A storage key has 1 to {KEY_LIMIT} characters, this one has {len(key)}: {key[:80]!r}")
    if not (key.isascii() and key.isprintable()) or "\\" in key:
        raise ValueError(f"A storage key is printable ASCII without backslashes: {key!r}")
    parts = key.split("/")
    if any(part in {"", ".", ".."} or len(part) > PART_LIMIT for part in parts):
        raise ValueError(
            f"The parts of a storage key are neither empty nor '.' nor '..', and at most {PART_LIMIT} long: {key!r}"
        )
    if parts[0] == RESERVED:
        raise ValueError(f"A storage key below '{RESERVED}/' belongs to the store itself: {key!r}")
    return key


def is_key(text: str) -> bool:
    try:
        checked_key(text)
    except ValueError:
        return False
    return True


def begins_keys(prefix: str) -> bool:
    """Whether there can be keys below a prefix; only such a one is looked for on a disk or sent to a service."""
    return is_key(prefix) or is_key(f"{prefix}x")


def check_size(key: str, size: int, limit: int) -> None:
    """Raises ObjectTooLargeError for an object of more bytes than the limit."""
    if size > limit:
        raise ObjectTooLargeError(f"{key} has {size:,} bytes; the limit is {limit:,}")


def etag_of(data: bytes) -> str:
    """Version of an object, from nothing but its content.

    An object that is changed and changed back has its old version again, and a conditional write that was prepared
    before goes through (ABA). That is no worse than with S3, whose etags are digests as well, so that users of the
    port cannot rely on more; whoever must tell two equal contents apart puts a number into them, as `head.json` does.
    """
    return hashlib.sha256(data).hexdigest()
