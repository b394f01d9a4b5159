"""What the world is told of a Redrive, from its first sight to its end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.api import Condition, Redrive, RedriveStatus, SkippedLetter
from mapreduce_operator.core.conditions import merge
from mapreduce_operator.core.redrives import Progress
from mapreduce_operator.core.requests import Told
from mapreduce_operator.core.texts import counted

SKIPPED: Final = 50
"""How many of the letters that were not taken are named."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A letter that was asked for and not taken."""

    item_id: str
    why: str


def is_over(redrive: Redrive) -> bool:
    """It has been answered for good."""
    conditions = redrive.status.conditions if redrive.status else ()
    return any(one.type in {"Complete", "Failed"} and one.status == "True" for one in conditions)


def waiting(redrive: Redrive, reason: str, message: str, now: float) -> RedriveStatus:
    """It has not taken anything yet, and will."""
    told = (False, reason, message)
    return _status(redrive, now, phase="Waiting", accepted=told, progressing=told)


def refused(redrive: Redrive, reason: str, message: str, now: float) -> RedriveStatus:
    """It is wrong, or too late, and takes nothing."""
    return _status(
        redrive,
        now,
        phase="Failed",
        accepted=(False, reason, message),
        failed=(True, reason, message),
        counts={"selected": (redrive.status and redrive.status.selected) or 0, "completion_time": now},
    )


def nothing_selected(redrive: Redrive, skipped: Sequence[Skipped], now: float) -> RedriveStatus:
    """No letter is as it asks for."""
    message = (
        f"{counted(len(skipped), 'letter')} could not be taken, see status.skippedLetters"
        if skipped
        else "the selection matches no letter"
    )
    return _status(
        redrive,
        now,
        phase="Complete",
        accepted=(True, "Accepted", "the selection is valid"),
        complete=(True, "NothingSelected", message),
        counts={
            "selected": 0,
            "succeeded": 0,
            "failed": 0,
            "remaining": 0,
            "skipped": len(skipped),
            "skipped_letters": _named((one.item_id, one.why) for one in skipped[:SKIPPED]),
            "completion_time": now,
        },
    )


def under_way(
    redrive: Redrive, progress: Progress, *, over: bool, hindrance: tuple[str, str] | None, now: float
) -> RedriveStatus:
    """It has taken its letters. `hindrance` is (reason, message) of what keeps their items from being run."""
    selected, left = progress.accepted.selected, progress.remaining
    counts = {
        "selected": selected,
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "remaining": left,
        "start_time": progress.accepted.at,
        "completion_time": progress.ended_at if over else None,
        "skipped": progress.accepted.skipped,
        "skipped_letters": _named(progress.accepted.skipped_letters),
    }
    accepted = (True, "Accepted", f"took {counted(selected, 'letter')}")
    so_far = f"{progress.succeeded:,} of {counted(selected, 'item')} succeeded, {progress.failed:,} back in the queue"
    if not over:
        what = f"{so_far}, {left:,} to go" if left else f"{so_far}; the reduce runs again"
        progressing = (True, "Redriving", what)
        if hindrance is not None:
            progressing = (False, hindrance[0], f"{what}. {hindrance[1]}")
        return _status(redrive, now, phase="Running", accepted=accepted, progressing=progressing, counts=counts)
    if (why := progress.called_off) is not None:
        failed = (True, why.reason, f"called off: {why.message}. {so_far}")
        return _status(redrive, now, phase="Failed", accepted=accepted, failed=failed, counts=counts)
    some = "SomeItemsFailed" if progress.succeeded else "AllItemsFailed"
    reason = some if progress.failed else "AllItemsSucceeded"
    return _status(redrive, now, phase="Complete", accepted=accepted, complete=(True, reason, so_far), counts=counts)


def _named(skipped: Iterable[tuple[str, str]]) -> list[SkippedLetter]:
    return [SkippedLetter(item_id=name, reason=why) for name, why in skipped]


def _status(
    redrive: Redrive,
    now: float,
    *,
    phase: str,
    accepted: Told,
    progressing: Told | None = None,
    complete: Told | None = None,
    failed: Told | None = None,
    counts: Mapping[str, object] | None = None,
) -> RedriveStatus:
    before = redrive.status or RedriveStatus()
    _, reason, message = progressing or complete or failed or accepted
    found = {
        "Accepted": accepted,
        "Progressing": progressing or (False, reason, message),
        "Complete": complete or (False, reason, message),
        "Failed": failed or (False, reason, message),
        "Ready": (complete is not None, reason, message),
    }
    if failed:
        # kstatus takes this one's mere truth as "failed".
        found["Stalled"] = failed
    elif not complete:
        found["Reconciling"] = (True, reason, message)
    conditions: tuple[Condition, ...] = merge(before.conditions, found, generation=redrive.metadata.generation, now=now)
    update = {"observed_generation": redrive.metadata.generation, "phase": phase, "conditions": conditions}
    return RedriveStatus.model_validate({**before.model_dump(), **(counts or {}), **update})
