"""Which checkpoints and snapshots of a run are not needed any more.

Segments hold the results and are never pruned before the run is. What is pruned here is what makes a checkpoint of its
past one that can be restored: the object that describes it, and the snapshots that spare reading its segments from the
first on.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from mapreduce_operator.core.checkpoint import BOUNDARIES, CommitReason

NEWEST: Final = 2
"""So many checkpoints of an active run, and snapshots of any run, stay in any case: the newest may be damaged."""
MAX_BOUNDARIES: Final = 50
"""So many checkpoints stay only for their reason: a run that is restarted for ever must not grow without end."""


@dataclass(frozen=True, slots=True)
class SavedCheckpoint:
    """The object of a checkpoint. There are several of one number where a deposed leader wrote beside its successor."""

    sequence: int
    reason: CommitReason
    snapshot: int
    """Number of the snapshot that a load of it begins with; 0 for none."""
    key: str


@dataclass(frozen=True, slots=True)
class SavedSnapshot:
    sequence: int
    key: str


def dispensable(
    checkpoints: Collection[SavedCheckpoint],
    snapshots: Collection[SavedSnapshot],
    *,
    keep: int,
    pinned: Collection[int],
    referenced: Collection[int],
    active: bool,
) -> list[str]:
    """Keys that may be deleted, in this order: no checkpoint is ever there without its snapshot.

    `keep`: how many of the newest stay. `pinned`, `referenced`: numbers of those that people and forks need. `active`:
    the run has not ended. What has the same number stays or goes together, since nothing here tells which one counts.
    """
    stay = {0, *pinned, *referenced}
    stay.update(_newest((one.sequence for one in checkpoints), max(keep, NEWEST if active else 1)))
    stay.update(_newest((one.sequence for one in checkpoints if one.reason in BOUNDARIES), MAX_BOUNDARIES))
    needed = {one.snapshot for one in checkpoints if one.sequence in stay}
    needed.update(_newest((one.sequence for one in snapshots), NEWEST))
    return [
        *(one.key for one in checkpoints if one.sequence not in stay),
        *(one.key for one in snapshots if one.sequence not in needed),
    ]


def _newest(sequences: Iterable[int], number: int) -> list[int]:
    return nlargest(number, set(sequences))


def intervals(sequences: Collection[int], limit: int) -> str:
    """Numbers as the status shows them ("1,40,62-71"), at most `limit` characters.

    What does not fit is cut at a comma, and the text begins with "…": the newest are those that people ask for.
    """
    spans: list[list[int]] = []
    for number in sorted(set(sequences)):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    text = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    if len(text) <= limit:
        return text
    _, comma, rest = text[len(text) - limit + 1 :].partition(",")
    return f"…{comma}{rest}"
