"""The Redrives of one run: what each has taken, and what became of it.

A Redrive takes letters by a change of their items, which is durable before any of them is run (core.journal, Claim).
So nothing can be taken twice, and nothing taken can be forgotten: what is left of a Redrive is what its items say.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from mapreduce_operator.api import PodTemplate, Work
from mapreduce_operator.core.journal import Accepted, CalledOff
from mapreduce_operator.core.merge_patch import merge_patch
from mapreduce_operator.core.plan import PlannedItem, canonical
from mapreduce_operator.core.template_patches import patched, template_problem


@dataclass(slots=True)
class Progress:
    """One Redrive."""

    accepted: Accepted
    durable: bool = False
    """Its claims are committed."""
    unsettled: int = 0
    """Items that have not come to their end, whether that is durable or not."""
    succeeded: int = 0
    failed: int = 0
    ended_at: float = 0.0
    """When the last of its items came to its end, in seconds since the epoch; 0 before."""
    called_off: CalledOff | None = None

    def as_kept(self) -> tuple[Accepted, int, int, float, CalledOff | None]:
        """What a snapshot holds of it."""
        return self.accepted, self.succeeded, self.failed, self.ended_at, self.called_off

    @property
    def remaining(self) -> int:
        """Items whose end is not durable yet."""
        return self.accepted.selected - self.succeeded - self.failed


class Redrives:
    """All Redrives of a run, by number."""

    def __init__(self) -> None:
        self._known: dict[int, Progress] = {}
        self._uids: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._known)

    def __getitem__(self, number: int) -> Progress:
        return self._known[number]

    def find(self, uid: str) -> Progress | None:
        """The Redrive with the uid of its object; None for one that has taken nothing."""
        number = self._uids.get(uid)
        return self._known[number] if number else None

    def accept(self, accepted: Accepted, *, durable: bool) -> None:
        """The Redrive takes its letters."""
        self._put(Progress(accepted, durable, unsettled=accepted.selected))

    def restore(
        self, accepted: Accepted, succeeded: int, failed: int, ended_at: float, called_off: CalledOff | None
    ) -> None:
        """Brings a Redrive back as of a snapshot."""
        left = accepted.selected - succeeded - failed
        self._put(Progress(accepted, True, left, succeeded, failed, ended_at, called_off))

    def _put(self, progress: Progress) -> None:
        if progress.accepted.number in self._known:
            raise ValueError(f"there is a Redrive with the number {progress.accepted.number} already")
        self._known[progress.accepted.number] = progress
        self._uids[progress.accepted.uid] = progress.accepted.number

    def settle(self, number: int) -> None:
        """An item of the Redrive came to its end."""
        self._known[number].unsettled -= 1

    def count(self, number: int, succeeded: bool, at: float) -> None:
        """The end of an item is durable."""
        progress = self._known[number]
        progress.succeeded += succeeded
        progress.failed += not succeeded
        if not progress.remaining:
            progress.ended_at = at

    def running(self) -> Iterator[int]:
        """Numbers of those that have items which have not come to their end, in their order."""
        return (number for number, progress in self._known.items() if progress.unsettled)

    def all(self) -> Iterator[Progress]:
        return iter(self._known.values())


def patched_item(accepted: Accepted, item: PlannedItem) -> PlannedItem:
    """The item as the Redrive runs it."""
    if not accepted.patches_items:
        return item
    patch = msgspec.json.decode(accepted.payload_patch)
    return replace(item, payload=canonical(merge_patch(msgspec.json.decode(item.payload), patch)))


def patched_template(accepted: Accepted, work: Work) -> PodTemplate:
    """The template as the Redrive runs it; raises ValidationError when the patch makes no template of it."""
    return patched(work, msgspec.json.decode(accepted.template_patch)) if accepted.patches_template else work.template


def patch_problem(accepted: Accepted, work: Work) -> str | None:
    """Why the Redrive's templatePatch cannot be what its author means; None where nothing is wrong with it."""
    if not accepted.patches_template:
        return None
    return template_problem(work, msgspec.json.decode(accepted.template_patch), "spec.templatePatch")
