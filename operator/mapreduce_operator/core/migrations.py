"""What older operators wrote, in the form of today: pure functions, one from each schema version to the next.

What is read is migrated; what is written is always of the present version. Golden files of each version are among the
tests. Segments need no migration: what a later version knows more has a default, and the codec tells lines with a
checksum from those without.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec


def to_present_version(line: bytes, version: int) -> bytes:
    """A checkpoint of an older version. Raises ValueError for one that is none."""
    checkpoint = msgspec.json.decode(line, type=dict[str, Any])
    for one in range(version, max(_NEXT) + 1):
        checkpoint = _NEXT[one](checkpoint)
    return msgspec.json.encode(checkpoint)


def _from_1(head: dict[str, Any]) -> dict[str, Any]:
    """Its plan goes on to name the shards itself; those of later plans have an object of their own."""
    return {**head, "schemaVersion": 2, "openedAt": head.get("startedAt", 0.0)}


_NEXT: Final[Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {1: _from_1}
