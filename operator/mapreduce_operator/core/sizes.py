"""How large a snapshot may get, and what makes it so large.

What counts is the size of its JSON text before that is packed, since memory and time follow it. Measured with 100,000
items, of texts that differ: 5 MiB when all have succeeded, 6 MiB when 1 % of them are dead letters and 1 % have failed
once; 43 MiB when all are dead letters; 128 MiB when all have failed once, with a message of 1 KiB each. To save one
takes 1.5 times its size in memory beside the run itself, to load one 4 times; packed, it is a third or less.
"""

from typing import Final

import msgspec

from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.texts import counted

WARN_BYTES: Final = 10 * 1024**2
"""More than 100,000 items need that do well: many of them have failed, and somebody should look why."""
LIMIT_BYTES: Final = 64 * 1024**2
"""To load more than this takes half of the 512 MiB of an operator, which has other runs beside."""
CONTRIBUTORS: Final = 5


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
