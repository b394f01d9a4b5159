"""Checkpoints over a store in memory, one on a volume, and one in a bucket of a real S3 service."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.adapters.storage import FileStore, MemoryStore, OpenedStore, S3Options, open_store
from mapreduce_operator.api import CheckpointPolicy, ItemState
from mapreduce_operator.core.names import Stage
from mapreduce_operator.ports import ObjectStore
from tests.conformance.checkpointer import CHILD, CheckpointerConformance, assert_lawful, fork_of, results, stored
from tests.conformance.written_run import CRASHED, GIVEN_UP, RUN, WrittenRun
from tests.integration.storage.conftest import BUCKET
from tests.seaweedfs import SeaweedFS


class TestCheckpointsInMemory(CheckpointerConformance):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore()


class TestCheckpointsInFiles(CheckpointerConformance):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ObjectStore]:
        store = FileStore(tmp_path)
        yield store
        await store.close()


class TestCheckpointsInABucket(CheckpointerConformance):
    @pytest.fixture
    async def store(self, seaweedfs: SeaweedFS) -> AsyncIterator[OpenedStore]:
        store = open_store(f"s3://{BUCKET}/checkpoints/{secrets.token_hex(8)}", S3Options(endpoint=seaweedfs.url))
        yield store
        await store.close()


# ------------------------------------------------------------------------------------------------- any history at all

IDS = "abcde"
NUMBERS = st.integers(0, 99)
"""Chooses among what there is, whatever that is."""
STEPS = st.one_of(
    st.tuples(st.just("start"), NUMBERS),
    st.tuples(st.sampled_from(["succeed", "fail", "give up", "interrupt"]), NUMBERS),
    st.tuples(st.sampled_from(["commit", "commit with a snapshot"]), NUMBERS),
    st.tuples(st.sampled_from(["restore", "take over", "prune"]), NUMBERS),
)
ENDS = {"succeed": None, "fail": CRASHED, "give up": GIVEN_UP}


class History:
    """Does what a step says, where it can be done."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.epoch = 1
        self.written = WrittenRun(store, IDS)

    async def take(self, step: str, number: int) -> None:
        written = self.written
        runnable, running = written.runnable(), self._running()
        match step:
            case "start" if runnable:
                written.starts(runnable[number % len(runnable)])
            case "succeed" | "fail" | "give up" if running:
                written.ends(running[number % len(running)], ENDS[step])
            case "interrupt" if running:
                written.ends(running[number % len(running)], interrupted=True)
            case "commit" | "commit with a snapshot":
                await written.commit(with_snapshot=step != "commit")
            case "take over":
                await self._take_over()
            case "restore":
                await self._restore(number)
            case "prune":
                policy = CheckpointPolicy(keep=2 + number % 3, pinned=frozenset({number}))
                await written.journal.kept.prune(policy, {}, active=False)

    def _running(self) -> list[str]:
        return [IDS[position] for position in self.written.state.ledgers[Stage.MAP].in_state(ItemState.RUNNING)]

    async def _take_over(self) -> None:
        """What was not committed is lost with the leader before."""
        self.epoch += 1
        before, self.written = self.written, WrittenRun(self.store, IDS, epoch=self.epoch)
        self.written.clock.time = before.clock.time
        self.written.books.update(before.books)
        self.written.results.update(before.results)
        await self.written.take_over()

    async def _restore(self, number: int) -> None:
        for item_id in self._running():
            self.written.ends(item_id, interrupted=True)
        await self.written.commit()
        kept = await stored(self.store).list(RUN)
        await self.written.restore(kept[number % len(kept)])


@given(st.lists(STEPS, max_size=40), NUMBERS)
def test_any_history_is_read_back_as_it_was(steps: list[tuple[str, int]], number: int) -> None:
    async def scenario() -> None:
        history = History(MemoryStore())
        await history.written.plan()
        for step in steps:
            await history.take(*step)
        await assert_lawful(history.store, history.written)

        kept = await stored(history.store).list(RUN)
        parent = kept[number % len(kept)].sequence
        await stored(history.store).fork(RUN, parent, CHILD, fork_of(RUN))
        assert results(await stored(history.store).load(CHILD, None)) == history.written.results[parent]
        await assert_lawful(history.store, history.written)

    asyncio.run(scenario())
