"""What the `Checkpointer` does over every object store.

A store joins by a subclass with the fixture `store`, which is empty at first:

    class TestCheckpointsInFiles(CheckpointerConformance):
        @pytest.fixture
        async def store(self, tmp_path): ...
"""

import asyncio
from dataclasses import replace
from typing import Any, Final

import pytest

from mapreduce_operator.api import CheckpointPolicy, ItemState, MapReduceJobSpec
from mapreduce_operator.core.batches import Batch, Uncommitted
from mapreduce_operator.core.carrying import Saved
from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason, JournalError
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import InputError, Limits
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.ports import Checkpointer, CheckpointNotFoundError, DeposedError, ObjectStore
from mapreduce_operator.serving.read_only import ReadOnlyStore
from tests.conformance.written_run import (
    CRASHED,
    GIVEN_UP,
    RUN,
    WrittenRun,
    as_kept,
    done,
    objects,
    replayed,
    unclaimed,
)
from tests.unit.core.scenes import TEMPLATE
from tests.unit.engine.parts import HandClock, Leader

CHILD: Final = RunRef("default", "child", "3f6c2a9e-0000-4000-8000-000000000002")
GRANDCHILD: Final = RunRef("default", "grandchild", "3f6c2a9e-0000-4000-8000-000000000003")
NEIGHBOURS: Final = (
    replace(RUN, uid="3f6c2a9e-0000-4000-8000-000000000009"),
    replace(RUN, uid=f"{RUN.uid}0"),
    replace(RUN, uid=RUN.uid[:-1]),
    replace(RUN, name="demo-2"),
    replace(RUN, namespace="default-2"),
)
"""Runs whose keys begin like those of RUN."""


def stored(store: ObjectStore, *, epoch: int = 1, seconds: float = 0.0, limits: Limits | None = None) -> Checkpointer:
    clock = HandClock()
    clock.time += seconds
    return StoredCheckpoints(store, clock, Leader(epoch), limits or Limits())


def fork_of(parent: RunRef, *edits: dict[str, Any], **more: Any) -> MapReduceJobSpec:
    return MapReduceJobSpec.model_validate(
        {
            "input": {"idExpression": "item.id"},
            "forkFrom": {"job": {"name": parent.name}, "edits": {"items": edits}},
            "map": {"template": TEMPLATE},
        }
        | more
    )


def states(saved: Saved) -> dict[str, ItemState]:
    ledger = saved.books.ledgers[Stage.MAP]
    return {item.id: ledger[position].state for position, item in enumerate(saved.items)}


def results(saved: Saved) -> dict[str, bytes]:
    """Those of the items that have succeeded."""
    ledger = saved.books.ledgers[Stage.MAP]
    found = ((item.id, saved.records.get(ledger.key(position))) for position, item in enumerate(saved.items))
    return {name: record.outcome.result for name, record in found if record is not None and record.outcome.result}


async def assert_lawful(store: ObjectStore, written: WrittenRun) -> None:
    """Each checkpoint that a run keeps is what its leader knew when it was made."""
    checkpoints = stored(ReadOnlyStore(store))
    listed = await checkpoints.list(written.run)
    numbers = [one.sequence for one in listed]
    assert numbers == sorted(set(numbers))
    assert listed[-1] == await checkpoints.latest(written.run) == written.journal.head
    for checkpoint in listed:
        saved = await checkpoints.load(written.run, checkpoint.sequence)
        books = as_kept(saved.books.snapshot(Uncommitted(), 0.0))
        assert saved.checkpoint == checkpoint
        assert list(saved.items) == written.items
        assert books == written.books[checkpoint.sequence]
        assert books == await replayed(store, written.run, written.ids, checkpoint)
        assert results(saved) == written.results[checkpoint.sequence]
    newest = await checkpoints.load(written.run, None)
    assert newest.checkpoint == listed[-1]
    assert as_kept(newest.books.snapshot(Uncommitted(), 0.0)) == written.books[numbers[-1]]


class CheckpointerConformance:
    @pytest.fixture
    async def written(self, store: ObjectStore) -> WrittenRun:
        """A run at checkpoint 5: a and b have succeeded, c was given up, d waits for a retry, e runs, f is new."""
        written = WrittenRun(store, ["a", "b", "c", "d", "e", "f"])
        await written.plan()
        written.runs("a")
        written.runs("b", CRASHED)
        await written.commit()
        written.runs("b")
        written.runs("c", interrupted=True)
        await written.commit()
        written.runs("c", GIVEN_UP)
        await written.commit(with_snapshot=True)
        written.starts("d")
        written.starts("e")
        await written.commit()
        written.ends("d", CRASHED)
        await written.commit()
        return written

    # ------------------------------------------------------------------------------------------- listed and loaded

    async def test_a_run_that_was_never_planned_has_none(self, store: ObjectStore) -> None:
        checkpoints = stored(store)

        assert await checkpoints.list(RUN) == []
        assert await checkpoints.latest(RUN) is None
        for number in (None, 0, 1):
            with pytest.raises(CheckpointNotFoundError, match="demo has no checkpoint yet"):
                await checkpoints.load(RUN, number)

    async def test_each_is_what_the_leader_knew_when_it_made_it(self, store: ObjectStore, written: WrittenRun) -> None:
        await assert_lawful(store, written)

        assert [one.sequence for one in await stored(store).list(RUN)] == [0, 1, 2, 3, 4, 5]
        assert states(await stored(store).load(RUN, None)) == {
            "a": ItemState.SUCCEEDED,
            "b": ItemState.SUCCEEDED,
            "c": ItemState.DEAD_LETTERED,
            "d": ItemState.RETRY_WAIT,
            "e": ItemState.RUNNING,
            "f": ItemState.PENDING,
        }
        assert results(await stored(store).load(RUN, 1)) == {"a": b'{"dispatch":1,"of":"a"}'}

    async def test_one_that_was_made_never_changes(self, store: ObjectStore) -> None:
        written, checkpoints = WrittenRun(store, ["a", "b", "c"]), stored(store)
        await written.plan()
        keys = StorageKeys(RUN)
        made, there = [written.journal.head], await objects(store, keys.prefix)
        for item_id in ("a", "b", "c"):
            written.runs(item_id)
            made.append(await written.commit(with_snapshot=item_id == "b"))
            now = await objects(store, keys.prefix)
            there.pop(keys.head)
            assert there.items() <= now.items()
            assert await checkpoints.list(RUN) == made
            there = now

    async def test_a_new_leader_changes_none(self, store: ObjectStore, written: WrittenRun) -> None:
        before = await stored(store).list(RUN)
        successor = WrittenRun(store, written.ids, epoch=2)

        await successor.take_over()

        assert list(map(unclaimed, await stored(store).list(RUN))) == list(map(unclaimed, before))

    async def test_going_back_leaves_what_came_after_where_it_was(
        self, store: ObjectStore, written: WrittenRun
    ) -> None:
        written.ends("e", interrupted=True)
        await written.commit()
        third = (await stored(store).list(RUN))[3]
        await written.restore(third)
        written.runs("f")
        await written.commit()

        await assert_lawful(store, written)
        assert [one.sequence for one in await stored(store).list(RUN)] == [*range(9)]
        assert states(await stored(store).load(RUN, 7))["d"] is ItemState.PENDING
        assert states(await stored(store).load(RUN, 6))["d"] is ItemState.RETRY_WAIT

    @pytest.mark.parametrize("number", [6, 2, 9_999_999_999], ids=["of the future", "pruned", "unknown"])
    async def test_what_is_not_kept_is_not_found(self, store: ObjectStore, written: WrittenRun, number: int) -> None:
        await written.journal.kept.prune(CheckpointPolicy(keep=2, pinned=frozenset({1})), {3}, active=False)

        with pytest.raises(CheckpointNotFoundError, match=f"demo keeps no checkpoint {number}"):
            await stored(store).load(RUN, number)
        with pytest.raises(CheckpointNotFoundError, match=f"demo keeps no checkpoint {number}"):
            await stored(store).fork(RUN, number, CHILD, fork_of(RUN))
        assert await stored(store).latest(CHILD) is None
        assert [one.sequence for one in await stored(store).list(RUN)] == [0, 1, 3, 4, 5]
        await assert_lawful(store, written)

    async def test_runs_whose_keys_begin_alike_do_not_mix(self, store: ObjectStore, written: WrittenRun) -> None:
        neighbours = [WrittenRun(store, ["a", "z"], run) for run in NEIGHBOURS]
        for number, neighbour in enumerate(neighbours):
            await neighbour.plan()
            neighbour.runs("z", done(number))
            await neighbour.commit()

        for one in (written, *neighbours):
            await assert_lawful(store, one)
        await stored(store).fork(NEIGHBOURS[0], None, CHILD, fork_of(NEIGHBOURS[0]))
        assert results(await stored(store).load(CHILD, None)) == {"z": b"0"}

    async def test_whoever_leads_goes_on_while_others_read(self, store: ObjectStore, written: WrittenRun) -> None:
        before, reader = await objects(store, ""), stored(ReadOnlyStore(store), epoch=7)
        for one in await reader.list(RUN):
            await reader.load(RUN, one.sequence)

        assert await objects(store, "") == before
        written.runs("f")
        await written.commit()
        await assert_lawful(store, written)

    async def test_a_run_that_keeps_none_has_its_newest(self, store: ObjectStore) -> None:
        written = WrittenRun(store, ["a", "b"], checkpoint={"enabled": False})
        await written.plan()
        written.runs("a")
        await written.commit()

        assert [key async for key in store.list(written.keys.checkpoints)] == []
        assert [one.sequence for one in await stored(store).list(RUN)] == [1]
        await assert_lawful(store, written)
        with pytest.raises(CheckpointNotFoundError):
            await stored(store).load(RUN, 0)
        await stored(store).fork(RUN, None, CHILD, fork_of(RUN))
        assert results(await stored(store).load(CHILD, None)) == {"a": b'{"dispatch":1,"of":"a"}'}

    # ------------------------------------------------------------------------------- damaged, and what does not count

    async def test_one_that_is_damaged_is_left_out(self, store: ObjectStore, written: WrittenRun) -> None:
        (key,) = [key async for key in store.list(f"{written.keys.checkpoints}{2:010d}-")]
        await flip(store, key)

        assert [one.sequence for one in await stored(store).list(RUN)] == [0, 1, 3, 4, 5]
        with pytest.raises(CheckpointNotFoundError):
            await stored(store).load(RUN, 2)
        await assert_lawful(store, written)

    @pytest.mark.parametrize("folder", ["plan/shard-", "plan/plan-"])
    async def test_one_that_leads_to_something_damaged_is_told_so(
        self, store: ObjectStore, written: WrittenRun, folder: str
    ) -> None:
        (key,) = [key async for key in store.list(f"{written.keys.prefix}{folder}")]
        await flip(store, key)

        for number in (2, None):
            with pytest.raises(JournalError, match=key):
                await stored(store).load(RUN, number)
            with pytest.raises(JournalError, match=key):
                await stored(store).fork(RUN, number, CHILD, fork_of(RUN))
        assert await objects(store, StorageKeys(CHILD).prefix) == {}

    @pytest.mark.parametrize("number", [2, None])
    async def test_of_a_damaged_segment_a_fork_takes_what_is_left(
        self, store: ObjectStore, written: WrittenRun, number: int | None
    ) -> None:
        whole = results(await stored(store).load(RUN, number))
        (key,) = [key async for key in store.list(f"{written.keys.prefix}journal/segment-0000000001-")]
        there = await store.get(key)
        assert there is not None
        await store.put(key, there.data.replace(b'"of":"a"', b'"of":"A"'))
        with pytest.raises(JournalError, match=key):
            await stored(store).load(RUN, number)

        head = await stored(store).fork(RUN, number, CHILD, fork_of(RUN))

        assert f"this is damaged: {key}; at least 1 outcome lost" in head.phase_message
        taken = await stored(store).load(CHILD, None)
        assert whole.keys() - results(taken).keys() == {"a"}
        assert taken.books.ledgers[Stage.MAP][0].state is ItemState.PENDING

    async def test_a_snapshot_is_done_without(self, store: ObjectStore, written: WrittenRun) -> None:
        (key,) = [key async for key in store.list(written.keys.snapshots)]
        await flip(store, key)

        await assert_lawful(store, written)

    async def test_a_head_that_is_damaged_is_told_so(self, store: ObjectStore, written: WrittenRun) -> None:
        await flip(store, written.keys.head)

        for asked in (stored(store).latest(RUN), stored(store).list(RUN), stored(store).load(RUN, 1)):
            with pytest.raises(JournalError, match="head"):
                await asked

    async def test_what_a_deposed_leader_writes_beside_does_not_exist(
        self, store: ObjectStore, written: WrittenRun
    ) -> None:
        successor = WrittenRun(store, written.ids, epoch=2)
        await successor.take_over()
        written.runs("f", done("never"))
        with pytest.raises(DeposedError):
            await written.commit()

        assert [one.sequence for one in await stored(store).list(RUN)][-1] == 5
        with pytest.raises(CheckpointNotFoundError):
            await stored(store).load(RUN, 6)

        successor.books.update(written.books)
        successor.results.update(written.results)
        successor.runs("f")
        await successor.commit()
        successor.ends("e")
        await successor.commit()
        assert await stored(store).latest(RUN) == successor.journal.head
        assert results(await stored(store).load(RUN, 6))["f"] == b'{"dispatch":1,"of":"f"}'

    async def test_nor_does_it_where_its_successor_made_none(self, store: ObjectStore, written: WrittenRun) -> None:
        """A recovery tells several segments again, and makes one checkpoint of them all."""
        successor = WrittenRun(store, written.ids, epoch=2)
        await successor.take_over()
        written.runs("f", done("never"))
        with pytest.raises(DeposedError):
            await written.commit()

        head = successor.journal.head
        turn = Turn(head.phase, head.phase_reason, head.phase_message)
        told_again = [Batch(CommitReason.RECOVERY, written.clock.now(), turn, None, None) for _ in range(2)]
        await successor.journal.branch(head, told_again)

        assert [one.sequence for one in await stored(store).list(RUN)] == [0, 1, 2, 3, 4, 5, 7]
        with pytest.raises(CheckpointNotFoundError):
            await stored(store).load(RUN, 6)

    async def test_two_leaders_that_keep_the_same_one_keep_one(self, store: ObjectStore, written: WrittenRun) -> None:
        """The former one gives it an object, late, of which its successor did not find any."""
        successor = WrittenRun(store, written.ids, epoch=2)
        await successor.take_over(looks=False)
        successor.books.update(written.books)
        successor.results.update(written.results)
        successor.runs("f")
        await successor.commit()

        assert len([key async for key in store.list(f"{written.keys.checkpoints}{5:010d}-")]) == 2
        await assert_lawful(store, successor)

    # -------------------------------------------------------------------------------------------------------- forks

    @pytest.mark.parametrize(
        ("number", "carried"),
        [(0, []), (1, ["a"]), (2, ["a", "b"]), (3, ["a", "b"]), (None, ["a", "b"])],
        ids=["plan", "1", "2", "snapshot", "newest"],
    )
    async def test_a_fork_begins_with_the_successes(
        self, store: ObjectStore, written: WrittenRun, number: int | None, carried: list[str]
    ) -> None:
        parent = await stored(store).load(RUN, number)

        made = await stored(store).fork(RUN, number, CHILD, fork_of(RUN))

        child = await stored(store).load(CHILD, None)
        assert child.checkpoint == made == await stored(store).latest(CHILD)
        assert (made.reason, made.sequence) == (CommitReason.FORK, 1)
        assert made.lineage is not None
        assert (made.lineage.name, made.lineage.uid) == (RUN.name, RUN.uid)
        assert (made.lineage.sequence, made.lineage.depth) == (parent.checkpoint.sequence, 1)
        assert child.items == parent.items
        assert states(child) == {
            name: ItemState.SUCCEEDED if name in carried else ItemState.PENDING for name in written.ids
        }
        assert results(child) == {name: results(parent)[name] for name in carried}
        assert made.counts[ItemState.PENDING] == 6 - len(carried)

    @pytest.mark.usefixtures("written")
    async def test_edits_say_what_is_different(self, store: ObjectStore) -> None:
        edits = (
            {"id": "a", "patch": {"size": 1}},
            {"id": "b", "reset": True},
            {"id": "c", "patch": {"size": None, "deep": {"x": 1}}},
            {"id": "d", "remove": True},
            {"add": {"id": "g"}},
            {"add": {"id": "h"}},
        )

        await stored(store).fork(RUN, None, CHILD, fork_of(RUN, *edits))

        child = await stored(store).load(CHILD, None)
        assert {item.id: item.payload for item in child.items} == {
            "a": b'{"id":"a","size":1}',
            "b": b'{"id":"b","size":1}',
            "c": b'{"deep":{"x":1},"id":"c"}',
            "e": b'{"id":"e","size":1}',
            "f": b'{"id":"f","size":1}',
            "g": b'{"id":"g"}',
            "h": b'{"id":"h"}',
        }
        assert [item.id for item in child.items] == ["a", "b", "c", "e", "f", "g", "h"]
        assert [name for name, state in states(child).items() if state is ItemState.SUCCEEDED] == ["a"], (
            "whose patch changes nothing"
        )

    @pytest.mark.usefixtures("written")
    async def test_all_edits_that_do_not_fit_are_told_together(self, store: ObjectStore) -> None:
        edits = (
            {"id": "a", "reset": True},
            {"id": "nobody", "remove": True},
            {"id": "a", "patch": {"size": 2}},
            {"id": "b", "patch": {"text": "x" * 100}},
            {"add": {"id": "c"}},
        )

        with pytest.raises(InputError) as refused:
            await stored(store, limits=Limits(item_bytes=64)).fork(RUN, None, CHILD, fork_of(RUN, *edits))

        for told in (
            "edits.items[1]: the parent has no item with the id 'nobody'",
            "edits.items[2]: the item 'a' is edited twice",
            "edits.items[3]: the item 'b' has",
            "edits.items[4]: adds the item 'c', which is there already",
        ):
            assert told in str(refused.value)
        assert refused.value.reason == "InvalidEdits"
        assert await objects(store, StorageKeys(CHILD).prefix) == {}

    async def test_the_parent_is_untouched_and_not_needed_any_more(
        self, store: ObjectStore, written: WrittenRun
    ) -> None:
        before = await objects(store, written.keys.prefix)

        await stored(store, epoch=7).fork(RUN, None, CHILD, fork_of(RUN))

        assert await objects(store, written.keys.prefix) == before
        expected = results(await stored(store).load(CHILD, None))
        await store.delete(before)
        assert results(await stored(store).load(CHILD, None)) == expected != {}

    async def test_a_fork_of_a_fork_knows_how_deep_it_is(self, store: ObjectStore, written: WrittenRun) -> None:
        await stored(store).fork(RUN, None, CHILD, fork_of(RUN, {"id": "a", "reset": True}))
        child = WrittenRun(store, written.ids, CHILD)
        await child.take_over()
        child.results[1] = {}
        child.runs("a", done("anew"))
        await child.commit()

        made = await stored(store).fork(CHILD, 2, GRANDCHILD, fork_of(CHILD))

        assert made.lineage is not None
        assert (made.lineage.name, made.lineage.sequence, made.lineage.depth) == ("child", 2, 2)
        assert results(await stored(store).load(GRANDCHILD, None)) == {
            "a": b'"anew"',
            "b": b'{"dispatch":2,"of":"b"}',
        }

    async def test_a_fork_that_is_asked_for_twice_is_made_once(self, store: ObjectStore, written: WrittenRun) -> None:
        first = await stored(store).fork(RUN, 1, CHILD, fork_of(RUN))

        # Of another checkpoint, so that the one cannot be taken for the other.
        again = await stored(store, seconds=5).fork(RUN, None, CHILD, fork_of(RUN))

        assert again == first
        await self.assert_child_is(first, store, written)

    async def test_of_two_forks_at_once_one_is_made(self, store: ObjectStore, written: WrittenRun) -> None:
        ends = await asyncio.gather(
            *(stored(store, epoch=epoch).fork(RUN, epoch, CHILD, fork_of(RUN)) for epoch in (1, 2)),
            return_exceptions=True,
        )

        assert all(isinstance(end, Checkpoint | DeposedError) for end in ends), ends
        made = await stored(store).latest(CHILD)
        assert made is not None
        await self.assert_child_is(made, store, written)

    async def assert_child_is(self, made: Checkpoint, store: ObjectStore, written: WrittenRun) -> None:
        """It begins with what its parent had at the checkpoint that it names, and does so when it has gone on."""
        assert made.lineage is not None
        carried = results(await stored(store).load(RUN, made.lineage.sequence))
        assert results(await stored(store).load(CHILD, None)) == carried
        child = WrittenRun(store, written.ids, CHILD, epoch=3)
        await child.take_over()
        child.results[1] = carried
        child.runs("f")
        await child.commit()
        assert [one.sequence for one in await stored(store).list(CHILD)] == [1, 2]
        assert results(await stored(store).load(CHILD, 1)) == carried


async def flip(store: ObjectStore, key: str) -> None:
    """A bit in the middle of an object is another one."""
    there = await store.get(key)
    assert there is not None
    data = bytearray(there.data)
    data[len(data) // 2] ^= 1
    await store.put(key, bytes(data))
