"""The queue of a run: made with the first letter, kept as the letters go, and made again when somebody deletes it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import DeadLetterQueue, LetterState
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.queue import QueueKeeper
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, StorageError
from tests.unit.engine.dead import RUN, Office, message_of, reason_of

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNAVAILABLE = ClusterError(ClusterErrorReason.UNAVAILABLE, "connection refused")


def keeper(office: Office) -> QueueKeeper:
    return QueueKeeper(office.world, office.state, office.letters, office.ids.__getitem__, office.woken.set)


@contextlib.asynccontextmanager
async def serving(kept: QueueKeeper) -> AsyncIterator[None]:
    task = asyncio.create_task(kept.serve())
    kept.request()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def last_status(office: Office) -> dict[str, Any]:
    return dict(office.cluster.queue_statuses[-1][1])


# --------------------------------------------------------------------------------------------------------------- making


async def test_a_run_without_letters_has_no_queue() -> None:
    office = Office()
    await office.with_letters(done=("MIT",))
    kept = keeper(office)

    await kept.keep()

    assert office.cluster.queues == {}
    assert (kept.name, kept.owes) == ("", False)


async def test_the_first_letter_makes_the_queue_under_the_name_of_the_job_as_its_spec_says() -> None:
    office = Office()
    await office.with_letters("MIT", deadLetter={"capacity": 7, "retentionSeconds": 60})
    kept = keeper(office)
    assert kept.owes

    await kept.keep()

    body = office.cluster.queues["team-a", "words"]
    assert body["spec"] == {
        "jobRef": {"name": "words", "uid": RUN.uid},
        "capacity": 7,
        "onFull": "Pause",
        "retentionSeconds": 60,
        "purgeOpen": False,
    }
    assert body["status"]["letters"]["open"] == 1
    assert (kept.name, kept.owes) == ("words", False)
    known = office.world.desk.queue_of(RUN)
    assert known is not None
    assert known.metadata.uid == body["metadata"]["uid"]


async def test_a_name_that_the_queue_of_an_earlier_job_has_is_left_to_it() -> None:
    office = Office()
    earlier = office.queue(run=RunRef("team-a", "words", "run-0-of-words"))
    await office.with_letters("MIT")
    kept = keeper(office)

    await kept.keep()

    assert kept.name == "words-run-1-of"
    assert set(office.cluster.queues) == {("team-a", "words"), ("team-a", "words-run-1-of")}
    assert office.cluster.queues["team-a", "words"]["metadata"]["uid"] == earlier.metadata.uid
    assert [name for name, _ in office.cluster.queue_statuses] == ["words-run-1-of"]


async def test_two_names_that_are_taken_are_told_by_name() -> None:
    office = Office()
    for name in ("words", "words-run-1-of"):
        office.queue(name, run=RunRef("team-a", "words", "run-0"))
    await office.with_letters("MIT")
    kept = keeper(office)

    with pytest.raises(ClusterError, match="the names words and words-run-1-of are taken by queues of other jobs"):
        await kept.keep()
    assert (kept.name, kept.owes) == ("", False), "nothing is owed that cannot be given"


async def test_a_queue_that_is_there_and_not_told_of_yet_is_not_made_twice() -> None:
    office = Office()
    await office.with_letters("MIT")
    await keeper(office).keep()
    again = Office(office.store, office.cluster)
    await again.open()

    await keeper(again).keep()

    assert list(office.cluster.queues) == [("team-a", "words")]


async def test_a_queue_under_the_second_name_is_found_although_the_first_is_free_again() -> None:
    office = Office()
    earlier = office.queue(run=RunRef("team-a", "words", "run-0"))
    await office.with_letters("MIT")
    await keeper(office).keep()
    del office.cluster.queues["team-a", earlier.metadata.name]
    again = Office(office.store, office.cluster)
    await again.open()
    kept = keeper(again)

    await kept.keep()

    assert kept.name == "words-run-1-of"
    assert len(office.cluster.queues) == 1


async def test_a_queue_whose_creation_was_answered_by_nobody_is_the_same_queue() -> None:
    office = Office()
    await office.with_letters("MIT")
    office.cluster.faults["answer to create_queue"] = UNAVAILABLE
    kept = keeper(office)
    with pytest.raises(ClusterError):
        await kept.keep()

    await kept.keep()

    assert list(office.cluster.queues) == [("team-a", "words")]
    assert kept.name == "words"


# --------------------------------------------------------------------------------------------------------------- status


async def test_nothing_new_is_not_written_again() -> None:
    office = Office()
    await office.with_letters("MIT")
    kept = keeper(office)
    for _ in range(3):
        await kept.keep()

    assert len(office.cluster.queue_statuses) == 1


async def test_the_status_follows_the_letters() -> None:
    office = Office()
    await office.with_letters("MIT", "GPL-3", done=("BSD",))
    kept = keeper(office)
    await kept.keep()
    counts = []
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {0: 0.0}, office.clock.now())
    await kept.keep()
    counts.append(last_status(office)["letters"])
    await office.commit()
    await kept.keep()
    counts.append(last_status(office)["letters"])
    office.end("MIT", succeeds=True)
    await office.commit()
    await kept.keep()
    counts.append(last_status(office)["letters"])

    assert [{state: count for state, count in one.items() if count} for one in counts] == [
        {"total": 2, "open": 2},
        {"total": 2, "open": 1, "claimed": 1},
        {"total": 2, "open": 1, "resolved": 1},
    ], "never of what is not durable"


async def test_a_rule_that_is_wrong_is_told_until_it_is_corrected() -> None:
    office = Office()
    await office.with_letters("MIT")
    queue = office.queue(eligibility=[{"filter": "letter.no == 1", "eligible": True}])
    kept = keeper(office)

    await kept.keep()

    assert reason_of(last_status(office), "Ready") == ("False", "InvalidEligibility")
    assert "Nothing is redriven until it is corrected" in message_of(last_status(office), "Ready")
    metadata = queue.metadata.model_copy(update={"generation": 2})
    spec = queue.spec.model_copy(update={"eligibility": ()})
    office.world.desk.observe_queue(queue.model_copy(update={"metadata": metadata, "spec": spec}))
    await kept.keep()
    assert reason_of(last_status(office), "Ready") == ("True", "Kept")


async def test_a_full_queue_is_told_as_such() -> None:
    office = Office()
    await office.with_letters("MIT", deadLetter={"capacity": 1})

    await keeper(office).keep()

    assert reason_of(last_status(office), "Full") == ("True", "DeadLetterQueueFull")


# ------------------------------------------------------------------------------------------------------------- deletion


def deleted(office: Office) -> DeadLetterQueue:
    """Somebody deletes the queue, whose finalizer holds it."""
    body = office.cluster.queues["team-a", "words"]
    body["metadata"]["deletionTimestamp"] = "2027-01-15T09:00:00Z"
    queue = DeadLetterQueue.model_validate(body)
    office.world.desk.observe_queue(queue)
    return queue


async def test_a_queue_that_is_deleted_while_it_has_letters_comes_again_with_all_of_them() -> None:
    office = Office()
    await office.with_letters("MIT", "GPL-3")
    kept = keeper(office)
    await kept.keep()
    former = deleted(office)

    await kept.keep()
    assert office.cluster.queues == {}, "it is let go"
    assert not kept.owes, "what holds it may be somebody else's finalizer"
    office.world.desk.forget_queue(former.metadata.uid)
    await kept.keep()

    body = office.cluster.queues["team-a", "words"]
    assert body["metadata"]["uid"] != former.metadata.uid
    assert body["status"]["letters"]["open"] == 2
    assert office.has_body("MIT")


async def test_a_queue_that_is_gone_without_a_word_is_noticed_and_comes_again() -> None:
    office = Office()
    await office.with_letters("MIT", map=many())
    kept = keeper(office)
    await kept.keep()
    office.cluster.queues.clear()
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {0: 0.0}, office.clock.now())
    await office.commit()

    async with serving(kept):
        await asyncio.sleep(30)

    assert office.cluster.queues["team-a", "words"]["status"]["letters"]["claimed"] == 1


# ---------------------------------------------------------------------------------------------------------------- purge


async def test_letters_that_are_dealt_with_go_when_their_time_is_over_and_that_is_durable() -> None:
    office = Office()
    await office.with_letters("MIT", "GPL-3", done=("BSD",), deadLetter={"retentionSeconds": 60})
    office.state.redrive(Accepted(1, "u", "again", 0.0, 1), 1, {0: 0.0}, office.clock.now())
    await office.commit()
    office.end("MIT", succeeds=True)
    await office.commit()
    kept = keeper(office)
    office.clock.time += 59
    await kept.purge()
    assert not kept.pending
    # Looked for once a minute.
    office.clock.time += 60

    await kept.purge()
    assert (office.has_body("MIT"), kept.pending) == (True, True), "not before the journal says so"
    await kept.purge()
    assert office.has_body("MIT")
    await office.commit()
    assert office.state.dead_letters.state(0) is None
    await kept.purge()

    assert (office.has_body("MIT"), office.has_body("GPL-3")) == (False, True)
    assert not kept.pending
    assert office.state.dead_letters.state(1) is LetterState.OPEN


class Undeletable(MemoryStore):
    """Keeps what it has, as long as it is told to."""

    keeps = False

    async def delete(self, keys: Iterable[str]) -> None:
        if self.keeps:
            raise StorageError("no answer")
        await super().delete(keys)


async def test_bodies_that_could_not_be_deleted_are_deleted_later() -> None:
    office = Office(store := Undeletable())
    await office.with_letters("MIT", deadLetter={"retentionSeconds": 60, "purgeOpen": True})
    kept = keeper(office)
    office.clock.time += 100
    await kept.purge()
    await office.commit()
    store.keeps = True
    with pytest.raises(StorageError):
        await kept.purge()
    assert kept.pending

    store.keeps = False
    await kept.purge()

    assert (office.has_body("MIT"), kept.pending) == (False, False)


# ------------------------------------------------------------------------------------------------------ what may pass


async def test_an_api_server_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    await office.with_letters("MIT")
    caplog.set_level(logging.WARNING)
    office.cluster.faults["create_queue"] = UNAVAILABLE

    async with serving(keeper(office)):
        await asyncio.sleep(10)

    assert last_status(office)["letters"]["open"] == 1
    assert [record.getMessage() for record in caplog.records] == [
        "team-a/words: the dead letter queue waits: connection refused"
    ]


async def test_however_much_happens_the_status_is_written_once_a_second() -> None:
    office = Office()
    names = [f"item-{number}" for number in range(30)]
    await office.open(*names, map=many())
    kept = keeper(office)
    async with serving(kept):
        for name in names:
            office.end(name)
            await office.commit()
            kept.request()
            await asyncio.sleep(0.1)
        await asyncio.sleep(3)

    assert 3 <= len(office.cluster.queue_statuses) <= 6
    assert last_status(office)["letters"]["open"] == 30


def many() -> dict[str, Any]:
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    return {"template": template, "retry": {"maxAttempts": 1}, "maxParallel": 30}
