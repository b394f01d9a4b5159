"""How large a snapshot may get, and what makes it so large.

What counts is the size of its JSON text before that is packed, since memory and time follow it. Measured with 100,000
items, of texts that differ: 5 MiB when all have succeeded, 6 MiB when 1 % of them are dead letters and 1 % have failed
once; 43 MiB when all are dead letters; 128 MiB when all have failed once, with a message of 1 KiB each. To save one
takes 1.5 times its size in memory beside the run itself, to load one 4 times; packed, it is a third or less.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from mapreduce_operator.api import ItemState, Phase
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.requests import Told
from mapreduce_operator.core.snapshot import Snapshot, encode_snapshot
from mapreduce_operator.core.texts import counted
from mapreduce_operator.core.validation import snapshot_violations

WARN_BYTES: Final = 10 * 1024**2
"""More than 100,000 items need that do well: many of them have failed, and somebody should look why."""
LIMIT_BYTES: Final = 64 * 1024**2
"""To load more than this takes half of the 512 MiB of an operator, which has other runs beside."""
CONTRIBUTORS: Final = 5


def as_text(snapshot: Snapshot, phase: Phase, counts: Mapping[ItemState, int]) -> tuple[bytes | None, Told | None]:
    """A snapshot as a JSON text, and what a condition is to say of it.

    None for one that must not be written, as it contradicts the checkpoint that it is made for or is too large. Nothing
    is lost by that, since segments hold all of it.
    """
    if wrong := snapshot_violations(snapshot, sum(counts.values()), phase, counts):
        message = f"the snapshot contradicts itself and is not written; please report it: {'; '.join(wrong)}"
        return None, (False, "SnapshotInvalid", message)
    text = encode_snapshot(snapshot)
    if len(text) <= WARN_BYTES:
        return text, None
    parts = ", ".join(f"{name} {size:,} bytes" for name, size in contributors(snapshot, text))
    too_large = len(text) > LIMIT_BYTES
    what = "is too large and not written: a restart reads the whole journal" if too_large else "is large"
    message = f"the snapshot of {len(text):,} bytes {what}; limit {LIMIT_BYTES:,}; the largest parts: {parts}"
    if too_large:
        return None, (False, "CheckpointTooLarge", message)
    return text, (True, "CheckpointLarge", message)


def contributors(snapshot: Snapshot, text: bytes) -> list[tuple[str, int]]:
    """The parts of a snapshot, whose JSON text this is, that are the largest: in words for people, with their bytes."""
    texts = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    names = {
        "items": f"states of {counted(len(snapshot.items.get(Stage.MAP, [])), 'item')}",
        "past": f"history of {counted(len(snapshot.past), 'failing item')}",
        "letters": counted(len(snapshot.letters), "dead letter"),
        "redrives": counted(len(snapshot.redrives), "Redrive"),
        "failures": counted(len(snapshot.tally.failures), "kind") + " of failure",
        "failedStarts": counted(len(snapshot.failed_starts), "template") + " that could not start",
        "reduceResult": "result of the reduce",
    }
    sizes = [(name, len(bytes(texts[part]))) for part, name in names.items() if part in texts]
    return sorted(sizes, key=lambda one: -one[1])[:CONTRIBUTORS]
