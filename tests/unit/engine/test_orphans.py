"""Queues whose jobs are gone and Redrives that no run can answer: nothing is deleted that somebody may still want."""

import asyncio
import logging
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import DeadLetterPolicy, DeadLetterQueue, OnFull
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.engine.orphans import Orphans
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.unit.engine.dead import KEYS, RUN, Office, key_of, message_of, reason_of

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


async def orphaned(*letters: str, without_journal: bool = True, **spec: Any) -> tuple[Office, Orphans]:
    """Letters whose job is gone, and with it the journal, unless it was kept."""
    office = Office()
    await office.with_letters(*letters, done=("done",))
    if without_journal:
        await office.journal.delete_all(lambda key: key.startswith(KEYS.letters))
    office.queue(**spec)
    return office, Orphans(office.world)


def queue_of(office: Office) -> DeadLetterQueue:
    """As the cluster has it."""
    queue = DeadLetterQueue.model_validate(office.cluster.queues["team-a", "words"])
    office.world.desk.observe_queue(queue)
    return queue


def last_status(office: Office) -> dict[str, Any]:
    return dict(office.cluster.queue_statuses[-1][1])


# --------------------------------------------------------------------------------------------------------------- queues


async def test_a_queue_whose_job_is_there_is_left_alone() -> None:
    office, orphans = await orphaned("MIT")
    office.cluster.mapreduce_jobs.add(RUN)

    await orphans.keep(queue_of(office))

    assert office.cluster.queue_statuses == []


@pytest.mark.parametrize("reason", sorted(set(ClusterErrorReason) - {ClusterErrorReason.NOT_FOUND}))
async def test_that_a_job_is_gone_is_the_api_servers_word_and_no_silence(reason: ClusterErrorReason) -> None:
    office, orphans = await orphaned("MIT")
    deleted = office.cluster.queues["team-a", "words"]
    deleted["metadata"]["deletionTimestamp"] = "2027-01-15T09:00:00Z"
    office.cluster.faults["status_epoch"] = ClusterError(reason, "no")

    with pytest.raises(ClusterError):
        await orphans.keep(queue_of(office))

    assert office.has_body("MIT")
    assert ("team-a", "words") in office.cluster.queues


async def test_the_letters_themselves_tell_what_is_in_a_queue_whose_job_is_gone() -> None:
    names = [f"item-{number}" for number in range(9)]
    office, orphans = await orphaned(*names)

    await orphans.keep(queue_of(office))

    status = last_status(office)
    assert {state: count for state, count in status["letters"].items() if count} == {"total": 9, "open": 9}
    assert [one["itemId"] for one in status["newest"]] == names[::-1]
    assert (status["oldestTime"], status["newestTime"]) == ("2027-01-15T08:00:01Z", "2027-01-15T08:00:09Z")
    assert reason_of(status, "Empty") == ("False", "OpenLetters")


async def test_a_journal_that_was_kept_tells_which_letters_are_resolved() -> None:
    office, orphans = await orphaned("MIT", "GPL-3", "BSD", without_journal=False)
    office.state.redrive(Accepted(1, "u", "again", 0.0, 2), 1, {0: 0.0, 1: 0.0}, office.clock.now())
    await office.commit()
    office.end("MIT", succeeds=True)
    await office.commit()

    await orphans.keep(queue_of(office))

    letters = {state: count for state, count in last_status(office)["letters"].items() if count}
    assert letters == {"total": 3, "open": 2, "resolved": 1}, "what a Redrive had taken is open again"


async def test_a_body_that_is_no_letter_by_the_journal_does_not_become_one() -> None:
    office = Office()
    await office.open("purged", "open", "never durable")
    for name in ("purged", "open"):
        office.clock.time += 1
        office.end(name)
    await office.commit()
    office.clock.time += 0.5
    assert office.state.letterbox.purge(DeadLetterPolicy(retention_seconds=1, purge_open=True), office.clock.now())
    await office.commit()
    office.end("never durable")
    await office.letters.write(office.state.commits.begin(CommitReason.ITEMS, office.clock.now()).letters)
    assert all(office.has_body(name) for name in ("purged", "open", "never durable"))
    office.queue()

    await Orphans(office.world).keep(queue_of(office))

    status = last_status(office)
    assert {state: count for state, count in status["letters"].items() if count} == {"total": 1, "open": 1}
    assert [one["itemId"] for one in status["newest"]] == ["open"]


async def test_letters_are_not_read_one_after_another() -> None:
    class Slow(MemoryStore):
        async def get(self, key: str) -> Any:
            if key.startswith(KEYS.letters):
                await asyncio.sleep(1)
            return await super().get(key)

    office = Office(Slow())
    await office.with_letters(*(f"item-{number}" for number in range(16)))
    office.queue()
    began = asyncio.get_running_loop().time()

    await Orphans(office.world).keep(queue_of(office))

    assert last_status(office)["letters"]["open"] == 16
    assert asyncio.get_running_loop().time() - began < 4


async def test_nothing_new_is_neither_read_nor_written_again() -> None:
    class Counting(MemoryStore):
        reads = 0

        async def get(self, key: str) -> Any:
            self.reads += 1
            return await super().get(key)

    office = Office(store := Counting())
    await office.with_letters("MIT", "GPL-3")
    office.queue(retentionSeconds=60)
    orphans = Orphans(office.world)
    await orphans.keep(queue_of(office))
    reads, written = store.reads, len(office.cluster.queue_statuses)

    for _ in range(100):
        office.clock.time += 5
        await orphans.keep(queue_of(office))

    assert (store.reads, len(office.cluster.queue_statuses)) == (reads, written)


@pytest.mark.parametrize("names", ["abcdef", "fedcba"])
@pytest.mark.parametrize("purge_open", [False, True])
async def test_open_letters_go_when_their_time_is_over_and_only_when_that_is_asked_for(
    names: str, purge_open: bool
) -> None:
    office, orphans = await orphaned(*names, retentionSeconds=60, purgeOpen=purge_open)
    await orphans.keep(queue_of(office))
    left = []

    # The first letter came five seconds before the last.
    for _ in range(60):
        office.clock.time += 1
        await orphans.keep(queue_of(office))
        left.append("".join(name for name in names if office.has_body(name)))

    assert left[-6:] == ([names[gone:] for gone in range(6)] if purge_open else [names] * 6)
    assert last_status(office)["letters"]["open"] == (1 if purge_open else 6)


async def test_letters_that_were_set_aside_go_too_when_their_time_is_over() -> None:
    office, orphans = await orphaned("MIT", without_journal=False, retentionSeconds=60, purgeOpen=True)
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {0: 0.0}, office.clock.now())
    await office.commit()
    office.end("MIT", succeeds=True)
    await office.commit()
    await orphans.keep(queue_of(office))
    office.clock.time += 61

    await orphans.keep(queue_of(office))

    assert office.cluster.queues == {}


@pytest.mark.parametrize("without_journal", [False, True])
async def test_letters_that_are_dealt_with_go_when_their_time_is_over_and_open_ones_stay(without_journal: bool) -> None:
    office, orphans = await orphaned("archived", "resolved", "open", without_journal=False, retentionSeconds=60)
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {1: 0.0}, office.clock.now())
    office.state.requeue(DeadLetterPolicy(capacity=1, on_full=OnFull.ARCHIVE), office.clock.now())
    await office.commit()
    office.end("resolved", succeeds=True)
    await office.commit()
    if without_journal:
        await office.journal.delete_all(lambda key: key.startswith(KEYS.letters))
    names = ("archived", "resolved", "open")
    left = []

    for _ in range(2):
        await orphans.keep(queue_of(office))
        left.append([name for name in names if office.has_body(name)])
        office.clock.time += 100

    assert left == [list(names), list(names) if without_journal else ["open"]]
    assert ("team-a", "words") in office.cluster.queues


async def test_a_queue_goes_with_the_last_letter_that_was_set_aside() -> None:
    office, orphans = await orphaned("MIT", "GPL-3", without_journal=False, retentionSeconds=60)
    office.state.requeue(DeadLetterPolicy(capacity=1, on_full=OnFull.ARCHIVE), office.clock.now())
    await office.commit()
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {1: 0.0}, office.clock.now())
    await office.commit()
    office.end("GPL-3", succeeds=True)
    await office.commit()
    await orphans.keep(queue_of(office))
    assert last_status(office)["letters"]["archived"] == 1
    office.clock.time += 100
    # Whoever was at it before has been killed when the letters were deleted.
    await office.world.store.delete([KEYS.letter(key_of(name)) for name in ("MIT", "GPL-3")])

    await orphans.keep(queue_of(office))

    assert office.cluster.queues == {}


async def test_where_the_journal_is_damaged_all_letters_are_taken_for_open(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    office, orphans = await orphaned("MIT", "GPL-3", without_journal=False, retentionSeconds=60)
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {0: 0.0}, office.clock.now())
    await office.commit()
    office.end("MIT", succeeds=True)
    await office.commit()
    office.store.objects[KEYS.head] = office.store.objects[KEYS.head][:-5]
    office.clock.time += 100

    await orphans.keep(queue_of(office))

    assert last_status(office)["letters"]["open"] == 2
    assert f"{KEYS.head} is damaged" in caplog.text
    assert "all letters of the queue team-a/words are taken for open" in caplog.text
    assert office.has_body("MIT"), "what is not known to be dealt with stays"


async def test_a_queue_goes_with_the_last_of_its_letters() -> None:
    office, orphans = await orphaned("MIT", retentionSeconds=60, purgeOpen=True)
    await orphans.keep(queue_of(office))
    office.clock.time += 61

    await orphans.keep(queue_of(office))

    assert not office.has_body("MIT")
    assert office.cluster.queues == {}


async def test_a_queue_whose_letters_are_not_where_they_were_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    office, orphans = await orphaned("MIT")
    await orphans.keep(queue_of(office))
    caplog.set_level(logging.WARNING)
    elsewhere = Orphans(Office(MemoryStore(), office.cluster).world)

    await elsewhere.keep(queue_of(office))

    assert ("team-a", "words") in office.cluster.queues
    assert office.cluster.queues["team-a", "words"]["metadata"]["finalizers"]
    assert "storage has none of its letters; it is left alone" in caplog.text


async def test_whoever_deletes_the_queue_deletes_its_letters() -> None:
    office, orphans = await orphaned("MIT", "GPL-3")
    office.cluster.queues["team-a", "words"]["metadata"]["deletionTimestamp"] = "2027-01-15T09:00:00Z"

    await orphans.keep(queue_of(office))

    assert [key for key in office.store.objects if key.startswith(KEYS.letters)] == []
    assert office.cluster.queues == {}


async def test_a_letter_that_cannot_be_read_is_left_where_it_is_and_the_others_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    office, orphans = await orphaned("MIT", "GPL-3", retentionSeconds=60, purgeOpen=True)
    office.store.objects[KEYS.letter(key_of("MIT"))] = b"half"

    await orphans.keep(queue_of(office))

    assert last_status(office)["letters"]["open"] == 1
    assert office.has_body("MIT")
    assert "is damaged" in caplog.text


# ------------------------------------------------------------------------------------------------------------- redrives


async def test_a_redrive_of_a_queue_that_there_is_not_waits_for_it_and_says_so_once() -> None:
    office, orphans = await orphaned("MIT")
    office.redrive(queue="wrods")

    for _ in range(3):
        (redrive,) = office.world.desk.waiting()
        await orphans.answer(redrive, None)

    status = office.told()
    assert (status["phase"], reason_of(status, "Accepted")) == ("Waiting", ("False", "QueueNotFound"))
    assert "no DeadLetterQueue 'wrods' in the namespace 'team-a'" in message_of(status, "Accepted")
    assert len(office.cluster.redrive_statuses) == 1


async def test_of_two_who_answer_a_redrive_the_first_one_comes_to_its_end_and_the_other_looks_again() -> None:
    office, orphans = await orphaned("MIT")
    redrive = office.redrive()
    under_way = asyncio.create_task(orphans.answer(redrive, None))
    await asyncio.sleep(0)

    await orphans.answer(redrive, queue_of(office))
    await under_way
    await orphans.answer(redrive, queue_of(office))

    assert [status["phase"] for _, status in office.cluster.redrive_statuses] == ["Waiting"]
    (now,) = office.world.desk.waiting()
    await orphans.answer(now, queue_of(office))
    assert [status["phase"] for _, status in office.cluster.redrive_statuses] == ["Waiting", "Failed"]


async def test_a_redrive_of_letters_whose_job_is_gone_is_refused() -> None:
    office, orphans = await orphaned("MIT")

    await orphans.answer(office.redrive(), queue_of(office))

    status = office.told()
    assert (status["phase"], reason_of(status, "Failed")) == ("Failed", ("True", "JobGone"))
    assert "create a new job" in message_of(status, "Failed")
    assert office.world.desk.waiting() == []


async def test_a_redrive_whose_job_is_only_not_known_here_yet_is_not_answered() -> None:
    office, orphans = await orphaned("MIT")
    office.cluster.mapreduce_jobs.add(RUN)

    await orphans.answer(office.redrive(), queue_of(office))

    assert office.cluster.redrive_statuses == []


async def test_an_answer_that_a_former_leader_has_overwritten_is_written_again() -> None:
    office, orphans = await orphaned("MIT")
    redrive = office.redrive()
    await orphans.answer(redrive, queue_of(office))
    answer = office.told()
    office.world.desk.observe_redrive(redrive)
    (overwritten,) = office.world.desk.overwritten()

    await orphans.answer_again(overwritten)

    assert len(office.cluster.redrive_statuses) == 2
    assert office.told() == answer
