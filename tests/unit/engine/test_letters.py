"""Bodies of dead letters: whole, written again without loss, and never at the price of an outcome that waits."""

import asyncio
import logging

import pytest

from mapreduce_operator.api import Cause, Reason
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.letters import LetterError
from mapreduce_operator.engine.letters import LOG_BYTES, LOG_SECONDS
from mapreduce_operator.ports import StorageConflictError, StorageError
from tests.unit.engine.dead import KEYS, Office, key_of
from tests.unit.engine.parts import NOW, LossyStore

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


def pod_of(name: str, dispatch: int = 1) -> str:
    return f"words-{key_of(name)}-d{dispatch}-x7k2p"


async def test_a_body_tells_the_whole_story_of_the_item() -> None:
    office = Office()
    await office.open("MIT", map=map_with(attempts=2))
    office.cluster.logs[pod_of("MIT", 2)] = "line 1\nline 2\n"
    office.end("MIT", "boom 1")
    await office.commit()
    office.clock.time += 1000
    office.end("MIT", "boom 2")
    await office.commit()

    letter = office.body("MIT")

    assert (letter.id, letter.key, letter.position) == ("MIT", key_of("MIT"), 0)
    assert bytes(letter.payload) == b'{"n":0,"name":"MIT"}'
    assert (letter.cause, letter.reason, letter.exit_code) == (Cause.ATTEMPTS_EXHAUSTED, Reason.ERROR, 1)
    assert (letter.message, letter.attempts, letter.node) == ("boom 2", 2, "node-1")
    assert letter.first_attempt_at.timestamp() == NOW - 5
    assert letter.last_attempt_at.timestamp() == NOW + 1000
    assert [(one.dispatch, one.message, one.log_tail) for one in letter.history] == [
        (1, "boom 1", ""),
        (2, "boom 2", "line 1\nline 2\n"),
    ]
    assert letter.signature_id
    assert letter.redrives == {}


def map_with(attempts: int) -> dict[str, object]:
    template = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
    return {"template": template, "retry": {"maxAttempts": attempts, "backoff": {"jitter": 0}}}


async def test_a_body_is_there_before_its_item_is_a_letter() -> None:
    office = Office()
    await office.open("MIT")
    office.end("MIT")

    batch = office.state.commits.begin(CommitReason.ITEMS, NOW)
    await office.letters.write(batch.letters)

    assert office.has_body("MIT")
    assert len(office.state.dead_letters) == 0


async def test_what_is_written_twice_is_there_once() -> None:
    office = Office()
    await office.open("MIT")
    office.cluster.logs[pod_of("MIT")] = "why"
    office.end("MIT")
    batch = office.state.commits.begin(CommitReason.ITEMS, NOW)
    await office.letters.write(batch.letters)
    before = office.body("MIT")

    office.cluster.logs.clear()
    await office.letters.write(batch.letters)

    assert office.body("MIT") == before, "the log that was read before is not lost"


async def test_a_body_that_is_damaged_is_written_anew_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    await office.open("MIT")
    office.store.objects[KEYS.letter(key_of("MIT"))] = b"\x00 half a letter"
    office.end("MIT")

    await office.commit()

    assert len(office.body("MIT").history) == 1
    assert "is damaged" in caplog.text
    assert "written anew" in caplog.text


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_letters_whose_writing_failed_are_given_again_and_all_are_there(lost: int, performs: bool) -> None:
    office = Office(store := LossyStore())
    names = ["MIT", "GPL-3", "BSD"]
    await office.open(*names)
    for name in names:
        office.end(name, f"boom of {name}")
    batch = office.state.commits.begin(CommitReason.ITEMS, NOW)
    store.puts.clear()
    store.lose, store.performs = lost, performs

    with pytest.raises(StorageError):
        await office.letters.write(batch.letters)
    await office.letters.write(batch.letters)

    assert [office.body(name).message for name in names] == [f"boom of {name}" for name in names]
    assert [len(office.body(name).history) for name in names] == [1, 1, 1]
    assert len(store.puts) == (3 if performs else 4), "what is there is not written again"


class Racing(LossyStore):
    """A former leader writes its own just before a body is put, once."""

    rival: bytes | None = None

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        if self.rival is not None and key == KEYS.letter(key_of("MIT")):
            rival, self.rival = self.rival, None
            await super().put(key, rival)
        return await super().put(key, data, if_absent=if_absent, if_match=if_match)


@pytest.mark.parametrize("redriven", [False, True], ids=["there was none", "there was one"])
async def test_a_body_is_not_written_over_one_that_came_meanwhile(redriven: bool) -> None:
    former = Office()
    await former.open("MIT", "done")
    former.cluster.logs[pod_of("MIT")] = "the former leader has read this"
    former.end("MIT")
    await former.commit()
    office = Office(store := Racing())
    await office.open("MIT", "done")
    office.end("MIT")
    if redriven:
        office.end("done", succeeds=True)
        await office.commit()
        office.state.redrive(Accepted(1, "u", "again", NOW, 1), 1, {0: 0.0}, NOW)
        await office.commit()
        office.end("MIT")
    store.rival = former.store.objects[KEYS.letter(key_of("MIT"))]

    await office.commit()

    tails = [one.log_tail for one in office.body("MIT").history]
    assert tails == ["the former leader has read this", ""][: 1 + redriven]


async def test_a_body_that_is_changed_again_and_again_is_left_to_the_next_try() -> None:
    class Contested(LossyStore):
        async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
            if "dead-letters" in key and (if_absent or if_match):
                raise StorageConflictError("somebody else was faster")
            return await super().put(key, data, if_absent=if_absent, if_match=if_match)

    office = Office(Contested())
    await office.open("MIT")
    office.end("MIT")

    with pytest.raises(StorageConflictError):
        await office.commit()


# ----------------------------------------------------------------------------------------------------------------- logs


async def test_logs_that_cannot_be_read_cost_nothing_but_themselves() -> None:
    office = Office()

    await office.with_letters("MIT", "GPL-3")

    assert [office.body(name).history[-1].log_tail for name in ("MIT", "GPL-3")] == ["", ""]


async def test_of_a_log_only_the_end_is_kept() -> None:
    office = Office()
    await office.open("MIT")
    office.cluster.logs[pod_of("MIT")] = "x" * 10_000 + "the end"
    office.end("MIT")

    await office.commit()

    tail = office.body("MIT").history[-1].log_tail
    assert len(tail) == LOG_BYTES
    assert tail.endswith("the end")


async def test_outcomes_do_not_wait_for_kubelets_that_do_not_answer(caplog: pytest.LogCaptureFixture) -> None:
    office = Office()
    names = [f"item-{number}" for number in range(40)]
    await office.open(*names, map=map_with(attempts=1) | {"maxParallel": 40})
    for name in names:
        office.cluster.logs[pod_of(name)] = "too late"
        office.end(name)
    office.cluster.log_seconds = 1.0
    caplog.set_level(logging.WARNING)
    before = asyncio.get_running_loop().time()

    await office.commit()

    assert asyncio.get_running_loop().time() - before < LOG_SECONDS + 1
    tails = [office.body(name).history[-1].log_tail for name in names]
    assert 0 < tails.count("too late") < len(names), "what was read in time is kept"
    assert "not read within" in caplog.text


# -------------------------------------------------------------------------------------------------------------- reading


async def test_letters_are_read_in_the_order_that_is_asked_for_with_what_is_wrong_with_them() -> None:
    office = Office()
    names = [f"item-{number}" for number in range(20)]
    await office.with_letters(*names, map=map_with(attempts=1) | {"maxParallel": 20})
    del office.store.objects[KEYS.letter(key_of("item-3"))]
    office.store.objects[KEYS.letter(key_of("item-5"))] = b"{}"

    found = [one async for one in office.letters.read_all(key_of(name) for name in reversed(names))]

    assert [key for key, _ in found] == [key_of(name) for name in reversed(names)]
    letters = dict(found)
    assert letters[key_of("item-3")] is None
    assert isinstance(letters[key_of("item-5")], LetterError)
    assert sum(not isinstance(letter, LetterError) and letter is not None for letter in letters.values()) == 18


async def test_what_is_deleted_is_gone_and_what_is_not_there_is_as_good() -> None:
    office = Office()
    await office.with_letters("MIT", "GPL-3")

    await office.letters.delete([key_of("MIT"), key_of("unknown")])

    assert (office.has_body("MIT"), office.has_body("GPL-3")) == (False, True)
    assert [letter async for _, letter in office.letters.read_all([key_of("MIT")])] == [None]
