"""A journal that is only peeked at shows what is committed, and disturbs nobody."""

import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.checkpoint import CommitReason, JournalError
from mapreduce_operator.core.names import Stage, item_key
from mapreduce_operator.core.run import RunState
from mapreduce_operator.engine.journal import Journal
from tests.unit.core.scenes import NOW, PLANNED, RUN, spec
from tests.unit.engine.parts import Leader
from tests.unit.engine.test_journal import KEYS, journal, planned, stored_head


async def started(writer: Journal, job_uid: str) -> None:
    state = RunState(RUN, spec(), [item_key(RUN.uid, Stage.MAP, name) for name in "ab"], PLANNED)
    state.agents.started(Stage.MAP, 0, 1, job_uid, NOW)
    await writer.append(state.commits.begin(CommitReason.TIME, NOW))


async def test_it_reads_what_was_committed_and_writes_nothing() -> None:
    store = MemoryStore()
    writer = await planned(store, Leader(epoch=3))
    await started(writer, "uid-1")
    before = dict(store.objects)

    peeking = journal(store, Leader(epoch=9))
    assert await peeking.peek() == writer.head
    _, (segment,) = await peeking.history()

    assert [start.job_uid for start in segment.header.starts] == ["uid-1"]
    assert await peeking.plan.ids() == ["a", "b"]
    assert store.objects == before


async def test_the_leader_goes_on_meanwhile() -> None:
    store = MemoryStore()
    writer = await planned(store)
    peeking = journal(store, Leader(epoch=9))
    await peeking.peek()

    await started(writer, "uid-1")

    assert (await peeking.peek()) == writer.head


async def test_what_was_peeked_at_cannot_be_moved() -> None:
    store = MemoryStore()
    await planned(store)
    peeking = journal(store)
    await peeking.peek()
    before = dict(store.objects)

    with pytest.raises(RuntimeError, match="only peeked at"):
        await started(peeking, "uid-1")
    assert store.objects == before


async def test_nothing_is_there_before_the_plan() -> None:
    assert await journal(MemoryStore()).peek() is None


async def test_a_head_that_is_damaged_is_told_so() -> None:
    store = MemoryStore()
    await planned(store)
    await store.put(KEYS.head, (await stored_head(store)).data[:-9])

    with pytest.raises(JournalError, match="damaged"):
        await journal(store).peek()
