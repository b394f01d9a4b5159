"""What the world is told of a Redrive, from its first sight to its end."""

from typing import Any, Final

import pytest

from mapreduce_operator.api import Redrive, RedriveStatus
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.redrive_report import (
    SKIPPED,
    Skipped,
    is_over,
    nothing_selected,
    refused,
    under_way,
    waiting,
)
from mapreduce_operator.core.redrives import Progress
from tests.unit.core.kstatus import kstatus

NOW: Final = 1_800_000_000.0


def redrive(status: RedriveStatus | None = None) -> Redrive:
    body = {
        "metadata": {"name": "again", "namespace": "team-a", "uid": "u", "generation": 1},
        "spec": {"queue": "words", "selection": {"all": True}},
    }
    return Redrive.model_validate(body).model_copy(update={"status": status})


def progress(succeeded: int = 0, failed: int = 0, **more: Any) -> Progress:
    """Of a Redrive that took four letters."""
    accepted = Accepted(1, "u", "again", NOW, 4, **more)
    ended_at = NOW + 60 if succeeded + failed == 4 else 0.0
    return Progress(accepted, True, 4 - succeeded - failed, succeeded, failed, ended_at)


def conditions(status: RedriveStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


def truths(status: RedriveStatus) -> set[str]:
    return {one.type for one in status.conditions if one.status == "True"}


def running(known: Progress, before: RedriveStatus | None = None, hindrance: Any = None) -> RedriveStatus:
    return under_way(redrive(before), known, over=False, hindrance=hindrance, now=NOW + 5)


def ended(known: Progress) -> RedriveStatus:
    return under_way(redrive(), known, over=True, hindrance=None, now=NOW + 61)


def test_a_redrive_that_waits_says_for_what() -> None:
    status = waiting(redrive(), "Reducing", "the reduce runs", NOW)

    assert (status.phase, status.selected) == ("Waiting", None)
    assert truths(status) == {"Reconciling"}
    assert conditions(status)["Accepted"] == ("False", "Reducing", "the reduce runs")
    assert kstatus(status.to_kubernetes(), 1) == "InProgress"
    assert not is_over(redrive(status))


def test_a_redrive_that_is_refused_is_over_and_took_nothing() -> None:
    status = refused(redrive(waiting(redrive(), "Reducing", "", NOW)), "InvalidFilter", "no such field", NOW + 5)

    assert (status.phase, status.selected) == ("Failed", 0)
    assert truths(status) == {"Failed", "Stalled"}
    assert conditions(status)["Failed"] == ("True", "InvalidFilter", "no such field")
    assert conditions(status)["Accepted"][0] == "False"
    assert status.completion_time is not None
    assert status.completion_time.timestamp() == NOW + 5
    assert kstatus(status.to_kubernetes(), 1) == "Failed"
    assert is_over(redrive(status))


def test_a_redrive_whose_job_went_away_keeps_what_it_has_come_to() -> None:
    status = refused(redrive(running(progress(succeeded=1, failed=2))), "JobGone", "it is gone", NOW + 9)

    assert (status.selected, status.succeeded, status.failed) == (4, 1, 2)
    assert kstatus(status.to_kubernetes(), 1) == "Failed"


def test_a_redrive_that_found_nothing_is_complete_and_says_why() -> None:
    skipped = [Skipped("MIT", "another Redrive has taken it")] * 2

    status = nothing_selected(redrive(), skipped, NOW)

    assert (status.phase, status.selected, status.skipped, len(status.skipped_letters)) == ("Complete", 0, 2, 2)
    assert conditions(status)["Complete"] == (
        "True",
        "NothingSelected",
        "2 letters could not be taken, see status.skippedLetters",
    )
    assert conditions(nothing_selected(redrive(), [], NOW))["Complete"][2] == "the selection matches no letter"
    assert kstatus(status.to_kubernetes(), 1) == "Current"
    assert is_over(redrive(status))


def test_a_redrive_under_way_says_how_far_it_is() -> None:
    status = running(progress(succeeded=1, failed=2))

    assert (status.phase, status.selected, status.succeeded, status.failed, status.remaining) == ("Running", 4, 1, 2, 1)
    assert status.start_time is not None
    assert status.start_time.timestamp() == NOW
    assert status.completion_time is None
    assert truths(status) == {"Accepted", "Progressing", "Reconciling"}
    assert conditions(status)["Progressing"][1:] == (
        "Redriving",
        "1 of 4 items succeeded, 2 back in the queue, 1 to go",
    )
    assert kstatus(status.to_kubernetes(), 1) == "InProgress"


def test_a_redrive_that_is_held_up_says_by_what() -> None:
    status = running(progress(), hindrance=("CircuitOpen", "attempts in a row failed"))

    assert conditions(status)["Progressing"] == (
        "False",
        "CircuitOpen",
        "0 of 4 items succeeded, 0 back in the queue, 4 to go. attempts in a row failed",
    )
    assert kstatus(status.to_kubernetes(), 1) == "InProgress"


def test_a_redrive_whose_items_have_ended_waits_for_the_reduce_that_it_asked_for() -> None:
    status = running(progress(succeeded=4))

    assert conditions(status)["Progressing"][2].endswith("; the reduce runs again")
    assert status.completion_time is None
    assert not is_over(redrive(status))


@pytest.mark.parametrize(
    ("succeeded", "failed", "reason"),
    [(4, 0, "AllItemsSucceeded"), (3, 1, "SomeItemsFailed"), (0, 4, "AllItemsFailed")],
)
def test_a_redrive_that_is_over_is_complete_whatever_its_items_came_to(
    succeeded: int, failed: int, reason: str
) -> None:
    status = ended(progress(succeeded, failed))

    assert (status.phase, status.succeeded, status.failed, status.remaining) == ("Complete", succeeded, failed, 0)
    assert conditions(status)["Complete"][:2] == ("True", reason)
    assert truths(status) == {"Accepted", "Complete", "Ready"}
    assert status.completion_time is not None
    assert status.completion_time.timestamp() == NOW + 60
    assert kstatus(status.to_kubernetes(), 1) == "Current"
    assert is_over(redrive(status))


def test_what_was_not_taken_is_named_as_far_as_there_is_room_also_after_a_restart() -> None:
    named = tuple((f"item-{number}", "x" * 1000) for number in range(SKIPPED))
    known = progress(skipped=1234, skipped_letters=named)

    status = running(known)

    assert (status.skipped, len(status.skipped_letters)) == (1234, SKIPPED)
    assert status.skipped_letters[0].item_id == "item-0"
    assert len(status.skipped_letters[0].reason) == 256


def test_only_what_changed_has_a_new_time() -> None:
    before = running(progress())

    status = under_way(redrive(before), progress(4), over=True, hindrance=None, now=NOW + 61)

    times = {one.type: one.last_transition_time.timestamp() for one in status.conditions}
    assert times == {
        "Accepted": NOW + 5,
        "Failed": NOW + 5,
        "Progressing": NOW + 61,
        "Complete": NOW + 61,
        "Ready": NOW + 61,
    }


def test_nothing_new_is_the_same_status() -> None:
    before = running(progress(succeeded=1))

    assert under_way(redrive(before), progress(succeeded=1), over=False, hindrance=None, now=NOW + 500) == before


@pytest.mark.parametrize("status", [None, RedriveStatus()])
def test_a_redrive_that_nobody_has_answered_is_not_over(status: RedriveStatus | None) -> None:
    assert not is_over(redrive(status))
