"""What is remembered of Jobs and pods: as long as it matters, and no longer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Reason
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.sightings import LOST_SECONDS, OUTLIVED_SECONDS, POD_GRACE_SECONDS, Sightings
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core.scenes import CRASHED, NOW, job, pod

JOB: Final = job("demo-a-d1")
LIVES: Final = pod("demo-a-d1")
LEAVING: Final = replace(LIVES, deleting=True, grace_seconds=60.0)

OUTLIVED: Final = replace(LIVES, agent=CRASHED, outlived=True, stop_seconds=20.0)
CAME_TO: Final = Outcome(Stage.MAP, Dispatch("a", 1), JOB.uid, Verdict.FAILED, Reason.ERROR)


def carrying() -> Sightings:
    sightings = Sightings()
    sightings.carries(JOB.uid, JOB.name)
    return sightings


def remembered(sightings: Sightings) -> dict[str, object]:
    """Whatever it still holds, by the name of its attribute."""
    return {name: held for name, held in vars(sightings).items() if held}


# ------------------------------------------------------------------------------------------------------ what is waited


def test_where_nothing_was_seen_nothing_is_due() -> None:
    sightings = Sightings()

    assert sightings.next_due() is None
    assert sightings.take_orphans(NOW) == []
    assert sightings.take_lost(NOW) == []


def test_a_job_that_ended_is_an_orphan_when_its_pod_has_been_silent_for_long_enough() -> None:
    sightings = carrying()

    sightings.ended(JOB, NOW, deleted=False)

    assert sightings.next_due() == NOW + POD_GRACE_SECONDS
    assert sightings.take_orphans(NOW + POD_GRACE_SECONDS - 0.001) == []
    assert sightings.take_orphans(NOW + POD_GRACE_SECONDS) == [JOB]


def test_a_job_with_a_pod_that_lives_is_no_orphan() -> None:
    sightings = carrying()
    sightings.lives(LIVES, NOW)
    sightings.ended(JOB, NOW, deleted=False)

    assert sightings.take_orphans(NOW + 7) == []
    assert sightings.next_due() is None


def test_the_wait_for_a_pod_that_is_being_deleted_begins_when_that_is_first_seen() -> None:
    sightings = carrying()
    sightings.lives(LIVES, NOW)
    assert sightings.next_due() is None, "an agent may run for as long as it likes"

    sightings.lives(LEAVING, NOW + 10)
    sightings.lives(replace(LEAVING, message="the node says nothing"), NOW + 50)

    assert sightings.next_due() == NOW + 10 + 60 + LOST_SECONDS
    assert sightings.take_lost(NOW + 99.9) == []
    assert sightings.take_lost(NOW + 100) == [LEAVING]


def test_a_pod_that_is_lost_is_told_once_however_often_it_is_seen_again() -> None:
    sightings = carrying()
    sightings.lives(LEAVING, NOW)
    sightings.take_lost(NOW + 1000)

    sightings.lives(LEAVING, NOW + 1001)

    assert sightings.take_lost(NOW + 9999) == []
    assert sightings.next_due() is None


def test_a_pod_that_outlives_its_agent_is_waited_for_as_long_as_its_node_might_be_ending_it() -> None:
    sightings = carrying()
    due = NOW + 20.0 + OUTLIVED_SECONDS

    sightings.outlives(OUTLIVED, CAME_TO, NOW)
    later = replace(CAME_TO, message="and more")
    sightings.outlives(OUTLIVED, later, NOW + 5)

    assert sightings.next_due() == due
    assert sightings.take_outlived(due - 0.001) == []
    assert sightings.take_outlived(due) == [later]
    assert (sightings.take_outlived(due + 999), sightings.next_due()) == ([], None), "it is told once"


def test_what_is_due_first_is_due_next() -> None:
    sightings = carrying()
    other = job("demo-b-d1")
    sightings.carries(other.uid, other.name)
    sightings.lives(LEAVING, NOW)
    sightings.ended(other, NOW + 1, deleted=False)

    assert sightings.next_due() == NOW + 1 + POD_GRACE_SECONDS
    assert sightings.take_orphans(NOW + 10) == [other]
    sightings.settle(other.uid, frozenset({"pod"}))

    assert sightings.next_due() == NOW + 60 + LOST_SECONDS


# ------------------------------------------------------------------------------------------------------ what is decided


def test_an_agent_is_interrupted_once() -> None:
    sightings = carrying()

    assert sightings.interrupt(JOB.uid) == JOB.name
    assert sightings.interrupt(JOB.uid) is None
    assert sightings.is_interrupting(JOB.uid)


def test_what_is_settled_is_waited_for_no_more() -> None:
    sightings = carrying()
    sightings.lives(LEAVING, NOW)
    sightings.outlives(OUTLIVED, CAME_TO, NOW)
    sightings.ended(JOB, NOW, deleted=False)
    sightings.interrupt(JOB.uid)

    sightings.settle(JOB.uid, frozenset({"job", "pod"}))

    assert sightings.is_settled(JOB.uid)
    assert not sightings.is_carrying(JOB.uid)
    assert not sightings.is_interrupting(JOB.uid)
    assert sightings.next_due() is None
    assert sightings.take_orphans(NOW + 9999) == []
    assert sightings.take_lost(NOW + 9999) == []
    assert sightings.take_outlived(NOW + 9999) == []


@pytest.mark.parametrize("order", [("job", "pod"), ("pod", "job"), ("pod", "pod", "job")])
def test_nothing_is_remembered_when_job_and_pod_are_gone(order: tuple[str, ...]) -> None:
    sightings = carrying()
    sightings.settle(JOB.uid, frozenset({"job", "pod"}))

    for which in order:
        assert sightings.is_settled(JOB.uid)
        sightings.gone(JOB.uid, which)

    assert remembered(sightings) == {}


def test_a_job_that_was_gone_before_its_outcome_was_known_is_not_remembered() -> None:
    sightings = carrying()
    sightings.ended(JOB, NOW, deleted=False)
    sightings.ended(JOB, NOW, deleted=True)

    sightings.settle(JOB.uid, frozenset({"job"}))

    assert remembered(sightings) == {}


def moments() -> Iterator[float]:
    now = NOW
    while True:
        yield now
        now += 3.0


SEEN: Final[dict[str, Callable[[Sightings, float], object]]] = {
    "lives": lambda sightings, now: sightings.lives(LIVES, now),
    "leaving": lambda sightings, now: sightings.lives(LEAVING, now),
    "outlived": lambda sightings, now: sightings.outlives(OUTLIVED, CAME_TO, now),
    "ended": lambda sightings, now: sightings.ended(JOB, now, deleted=False),
    "deleted": lambda sightings, now: sightings.ended(JOB, now, deleted=True),
    "interrupt": lambda sightings, _: sightings.interrupt(JOB.uid),
    "orphans": lambda sightings, now: sightings.take_orphans(now),
    "judged": lambda sightings, now: sightings.take_outlived(now),
    "lost": lambda sightings, now: sightings.take_lost(now),
}


@given(st.lists(st.sampled_from(sorted(SEEN)), max_size=12))
def test_nothing_leaks_whatever_was_seen_before_a_dispatch_was_settled(story: list[str]) -> None:
    sightings = carrying()
    for what, now in zip(story, moments(), strict=False):
        SEEN[what](sightings, now)

    sightings.settle(JOB.uid, frozenset({"job", "pod"}))
    if "deleted" not in story:
        sightings.gone(JOB.uid, "job")
    sightings.gone(JOB.uid, "pod")

    assert remembered(sightings) == {}
