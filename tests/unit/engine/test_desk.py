"""The desk: what people ask of dead letters, and which run is told of it."""

from typing import Any, Final

import pytest

from mapreduce_operator.api import DeadLetterQueue, DeadLetterQueueStatus, Redrive, RedriveStatus
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.redrive_report import refused, waiting
from mapreduce_operator.engine.desk import Desk
from tests.unit.engine.parts import NOW

RUN: Final = RunRef("team-a", "words", "run-1")


def queue(name: str = "words", uid: str = "q-1", run: RunRef = RUN, **metadata: Any) -> DeadLetterQueue:
    return DeadLetterQueue.model_validate(
        {
            "metadata": {"name": name, "namespace": run.namespace, "uid": uid, "generation": 1} | metadata,
            "spec": {"jobRef": {"name": run.name, "uid": run.uid}},
        }
    )


def redrive(name: str = "again", queue_name: str = "words", **metadata: Any) -> Redrive:
    return Redrive.model_validate(
        {
            "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "generation": 1} | metadata,
            "spec": {"queue": queue_name, "selection": {"all": True}},
        }
    )


def over(one: Redrive) -> RedriveStatus:
    return refused(one, "JobGone", "it is gone", NOW)


def names(redrives: list[Redrive]) -> list[str]:
    return [one.metadata.name for one in redrives]


class Listener:
    """Counts how often it was told."""

    def __init__(self, desk: Desk, run: RunRef = RUN) -> None:
        self.told = 0
        desk.subscribe(run, self)

    def __call__(self) -> None:
        self.told += 1

    def take(self) -> int:
        told, self.told = self.told, 0
        return told


def test_a_run_is_told_of_its_queue_when_it_comes_changes_and_goes() -> None:
    desk = Desk()
    listener, other = Listener(desk), Listener(desk, RunRef("team-a", "other", "run-2"))

    changes = []
    for version in (
        queue(),
        queue(),
        queue(generation=2),
        queue(generation=2, deletionTimestamp="2027-01-15T08:00:00Z"),
    ):
        desk.observe_queue(version)
        changes.append(listener.take())
    desk.forget_queue("q-1")

    assert changes == [1, 0, 1, 1], "our own status updates are no news"
    assert listener.take() == 1
    assert other.told == 0
    desk.forget_queue("q-1")
    assert listener.take() == 0


def test_a_run_is_told_of_a_redrive_once_whichever_of_it_and_the_queue_comes_first() -> None:
    for first, second in ((queue(), redrive()), (redrive(), queue())):
        desk = Desk()
        listener = Listener(desk)
        for one in (first, second):
            if isinstance(one, Redrive):
                desk.observe_redrive(one)
            else:
                desk.observe_queue(one)
        assert listener.take() >= 1
        assert names(desk.waiting_for(RUN)) == ["again"]

        desk.observe_redrive(redrive())
        assert listener.take() == 0


def test_who_has_unsubscribed_is_told_nothing() -> None:
    desk = Desk()
    listener = Listener(desk)
    desk.unsubscribe(RUN)

    desk.observe_queue(queue())

    assert listener.told == 0


def test_redrives_come_in_the_order_of_their_creation() -> None:
    desk = Desk()
    desk.observe_queue(queue())
    for name, second in (("c", 1), ("b", 2), ("a", 2), ("d", 0)):
        desk.observe_redrive(redrive(name, creationTimestamp=f"2027-01-15T08:00:0{second}Z"))

    assert names(desk.waiting_for(RUN)) == names(desk.waiting()) == ["d", "c", "a", "b"]


@pytest.mark.parametrize(
    "unasked",
    [
        redrive("other", queue_name="of-another-job"),
        redrive("elsewhere", namespace="team-b"),
        redrive("deleted", deletionTimestamp="2027-01-15T08:00:00Z"),
    ],
    ids=["another queue", "another namespace", "being deleted"],
)
def test_a_run_is_asked_only_what_is_meant_for_it(unasked: Redrive) -> None:
    desk = Desk()
    desk.observe_queue(queue())
    desk.observe_redrive(unasked)

    assert desk.waiting_for(RUN) == []


def test_a_redrive_that_was_answered_for_good_is_not_asked_again() -> None:
    desk, one = Desk(), redrive()
    desk.observe_queue(queue())
    desk.observe_redrive(one)

    desk.answered(one, waiting(one, "Reducing", "the reduce runs", NOW))
    assert names(desk.waiting_for(RUN)) == ["again"]
    desk.answered(one, over(one))

    assert desk.waiting_for(RUN) == []


def test_what_this_process_wrote_is_newer_than_what_comes_back() -> None:
    desk, one = Desk(), redrive()
    desk.observe_queue(queue())
    desk.observe_redrive(one)
    desk.answered(one, over(one))

    desk.observe_redrive(one.model_copy(update={"status": waiting(one, "Reducing", "", NOW)}))

    assert desk.waiting_for(RUN) == []


def test_what_an_earlier_process_wrote_counts() -> None:
    desk, one = Desk(), redrive()
    desk.observe_queue(queue())

    desk.observe_redrive(one.model_copy(update={"status": over(one)}))

    assert desk.waiting_for(RUN) == []


def test_one_at_a_time_answers_a_redrive_and_only_as_it_is() -> None:
    desk, one = Desk(), redrive()
    with desk.answering(one) as unknown:
        pass
    desk.observe_redrive(one)

    with desk.answering(one) as first, desk.answering(one) as second:
        desk.answered(one, waiting(one, "QueueNotFound", "there is none", NOW))
    with desk.answering(one) as outdated:
        pass
    (now,) = desk.waiting()
    with desk.answering(now) as third:
        pass

    assert (unknown, first, second, outdated, third) == (False, True, False, False, True)


def test_an_answer_that_was_overwritten_is_to_be_written_again_until_it_is_seen() -> None:
    desk, one = Desk(), redrive()
    desk.observe_redrive(one)
    desk.answered(one, over(one))

    desk.observe_redrive(one.model_copy(update={"status": waiting(one, "Reducing", "", NOW)}))
    assert [known.status for known in desk.overwritten()] == [over(one)]

    desk.observe_redrive(one.model_copy(update={"status": over(one)}))
    assert desk.overwritten() == []


def test_an_answer_does_not_bring_a_redrive_back_that_is_gone_or_being_deleted() -> None:
    desk, one = Desk(), redrive()
    desk.observe_queue(queue())
    desk.observe_redrive(one)
    desk.observe_redrive(redrive(deletionTimestamp="2027-01-15T08:00:00Z"))
    desk.answered(one, waiting(one, "Reducing", "", NOW))
    assert desk.waiting_for(RUN) == []

    desk.forget_redrive("uid-again")
    desk.answered(one, waiting(one, "Reducing", "", NOW))

    assert desk.waiting() == []


def test_of_two_queues_of_one_run_the_older_counts_and_redrives_of_both_are_asked() -> None:
    desk = Desk()
    desk.observe_queue(queue("words-run-1", "q-2", creationTimestamp="2027-01-15T08:00:09Z"))
    desk.observe_queue(queue("words", "q-1", creationTimestamp="2027-01-15T08:00:00Z"))
    desk.observe_redrive(redrive("a", "words"))
    desk.observe_redrive(redrive("b", "words-run-1"))

    known = desk.queue_of(RUN)

    assert known is not None
    assert known.metadata.uid == "q-1"
    assert names(desk.waiting_for(RUN)) == ["a", "b"]


def test_a_queue_of_a_former_job_of_the_same_name_is_not_that_of_the_present_one() -> None:
    desk = Desk()
    desk.observe_queue(queue(run=RunRef("team-a", "words", "run-0")))

    assert desk.queue_of(RUN) is None
    assert desk.queue_named("team-a", "words") is not None
    assert desk.queue_named("team-b", "words") is None


def test_a_status_that_was_written_is_known() -> None:
    desk, status = Desk(), DeadLetterQueueStatus(observed_generation=1)
    desk.observe_queue(queue())

    desk.reported("q-1", status)
    desk.reported("unknown", status)

    assert [one.status for one in desk.queues()] == [status]
