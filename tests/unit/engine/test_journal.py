"""The durable side of a run: what is told to be durable is, whatever answer gets lost and whoever else writes."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

import msgspec
import pytest

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ItemState, Phase, Reason
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    CommitReason,
    JournalError,
    decode_checkpoint,
    digest,
    encode_checkpoint,
)
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record, Segment, Start
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import Planned, PlannedItem, keys_of
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.tally import Tally
from mapreduce_operator.core.workloads import Dispatch
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.ports import DeposedError, ObjectStore, StorageError, StoredObject
from tests.unit.core.scenes import CRASHED, launch, observe, pod, spec, take_templates
from tests.unit.engine.parts import NOW, HandClock, Leader, LossyStore

RUN: Final = RunRef("default", "demo", "run-1")
KEYS: Final = StorageKeys(RUN)
PLANNED: Final = Planned([PlannedItem("a", b'{"n":1}'), PlannedItem("b", b'{"n":2}')], duplicates=0)
SPEC: Final = b'{"map":{}}'
MAPPING: Final = Turn(Phase.MAP, "Planned", "2 items are planned")


def journal(store: ObjectStore, leader: Leader | None = None) -> Journal:
    return Journal(store, RUN, HandClock(), leader if leader is not None else Leader())


async def planned(store: ObjectStore, leader: Leader | None = None) -> Journal:
    made = journal(store, leader)
    await made.create(PLANNED, SPEC)
    return made


def failed(key: str, attempt: int, message: str = "boom") -> Record:
    return Record(
        Outcome(Stage.MAP, Dispatch(key, attempt), f"uid-{key}-{attempt}", Verdict.FAILED, Reason.ERROR, message),
        Item(ItemState.RETRY_WAIT, attempts=attempt, not_before=NOW + 10, reason=Reason.ERROR),
    )


def batch(*records: Record, starts: Iterable[Start] = (), snapshot: Snapshot | None = None) -> Batch:
    counts = Counter(item.state for _, item in snapshot.items[Stage.MAP]) if snapshot else {}
    return Batch(CommitReason.ITEMS, NOW, MAPPING, None, snapshot, tuple(starts), records, counts=counts, spec=SPEC)


def snapshot_of(*items: Item) -> Snapshot:
    return Snapshot({Stage.MAP: list(enumerate(items)), Stage.REDUCE: []}, Tally())


async def stored_head(store: ObjectStore) -> StoredObject:
    found = await store.get(KEYS.head)
    assert found is not None
    return found


def records_of(segments: list[Segment]) -> list[Record]:
    return [record for segment in segments for record in segment.records]


# --------------------------------------------------------------------------------------------------- written and read


async def test_a_run_that_was_never_planned_has_no_head() -> None:
    assert await journal(MemoryStore()).load() is None


async def test_what_was_committed_is_read_back_in_its_order() -> None:
    store = MemoryStore()
    writer = await planned(store)
    first, second = batch(failed("a", 1)), batch(failed("b", 1), starts=[Start(Stage.MAP, "a", 2, "uid-a-2")])
    await writer.append(first)
    head = await writer.append(second)

    reader = journal(store)
    assert await reader.load() == head
    snapshot, segments = await reader.history()

    assert snapshot is None
    assert [segment.header.starts for segment in segments] == [first.starts, second.starts]
    assert [tuple(segment.records) for segment in segments] == [first.records, second.records]
    assert head.sequence == 2
    assert head.journal_size == sum(len(data) for key, data in store.objects.items() if "segment" in key)


async def test_a_commit_of_starts_alone_is_one() -> None:
    store = MemoryStore()
    started = Start(Stage.MAP, "a", 1, "uid-a-1")

    await (await planned(store)).append(batch(starts=[started]))

    reader = journal(store)
    await reader.load()
    (segment,) = (await reader.history())[1]
    assert (segment.header.starts, segment.records) == ((started,), [])


async def test_the_head_is_written_after_all_that_it_names() -> None:
    store = LossyStore()
    writer = await planned(store)
    store.puts.clear()

    await writer.append(batch(failed("a", 1), snapshot=snapshot_of(Item())))

    assert [key.removeprefix(KEYS.prefix).partition("-")[0] for key in store.puts] == [
        "journal/segment",
        "journal/snapshot",
        "head.json",
    ]
    await writer.keep()
    assert store.puts[3:] == [KEYS.checkpoint(1, 1, "Items", digest(store.objects[KEYS.head]))]


async def test_history_leaves_results_out_and_the_last_records_have_them() -> None:
    store = MemoryStore()
    done = Record(
        Outcome(Stage.MAP, Dispatch("a", 2), "u", Verdict.SUCCEEDED, result=b'{"n":1.50}'),
        Item(ItemState.SUCCEEDED, attempts=2),
    )
    writer = await planned(store)
    await writer.append(batch(failed("a", 1), failed("b", 1)))
    await writer.append(batch(done, snapshot=snapshot_of(done.item)))

    reader = journal(store)
    await reader.load()

    assert all(record.outcome.result is None for record in records_of((await reader.history())[1]))
    last = await reader.last_records({"a", "b", "c"})
    assert last == {"a": done, "b": failed("b", 1)}, "whatever a snapshot covers"


# ------------------------------------------------------------------------------------------------------ lost answers


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
async def test_a_plan_whose_writing_failed_is_loaded_or_made_again(lost: int, performs: bool) -> None:
    store = LossyStore()
    writer = journal(store)
    store.lose, store.performs = lost, performs
    with pytest.raises(StorageError):
        await writer.create(PLANNED, SPEC)

    head = await writer.load()

    if lost == 4 and performs:
        assert head is not None
    else:
        assert head is None
        head = await writer.create(PLANNED, SPEC)
    assert await writer.plan.ids() == ["a", "b"]
    assert (await writer.append(batch(failed("a", 1)))).sequence == 1


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_a_batch_is_given_again_until_it_is_durable_and_counts_once(lost: int, performs: bool) -> None:
    store = LossyStore()
    writer = await planned(store)
    await writer.append(batch(failed("a", 1)))
    await writer.keep()
    again = batch(failed("b", 1), snapshot=snapshot_of(Item(), Item()))
    store.lose, store.performs = lost, performs
    with pytest.raises(StorageError) as error:
        await writer.append(again)
    assert not isinstance(error.value, DeposedError)

    head = await writer.append(again)

    assert head.sequence == 2
    assert encode_checkpoint(head) == (await stored_head(store)).data
    reader = journal(store)
    await reader.load()
    assert len(await reader.last_records({"a", "b"})) == 2
    assert len([key for key in store.objects if "segment" in key]) == 2, "the same bytes under the same key"
    await writer.append(batch(failed("a", 2)))


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
async def test_a_checkpoint_that_could_not_be_kept_is_kept_with_the_next_commit(
    performs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    store = LossyStore()
    writer = await planned(store)
    head = await writer.append(batch(failed("a", 1)))
    store.lose, store.performs = 1, performs

    with caplog.at_level(logging.WARNING):
        await writer.keep()

    assert "checkpoint 1 of default/demo/run-1/ is not kept yet: the " in caplog.text
    assert encode_checkpoint(head) == (await stored_head(store)).data
    await writer.append(batch(failed("b", 1)))
    await writer.keep()
    kept = [key for key in store.objects if key.startswith(KEYS.checkpoints)]
    assert [key.removeprefix(KEYS.checkpoints).partition("-")[0] for key in kept] == [
        "0000000000",
        "0000000001",
        "0000000002",
    ]
    assert store.objects[kept[1]] == encode_checkpoint(head)


@pytest.mark.parametrize("performs", [True, False], ids=["answer", "request"])
async def test_a_claim_whose_answer_was_lost_is_claimed_again(performs: bool) -> None:
    store = LossyStore()
    await planned(store, Leader(1))
    successor = journal(store, Leader(2))
    store.lose, store.performs = 1, performs
    with pytest.raises(StorageError):
        await successor.load()

    head = await successor.load()

    assert head is not None
    assert head.epoch == 2
    assert encode_checkpoint(head) == (await stored_head(store)).data
    assert (await successor.append(batch(failed("a", 1)))).sequence == 1


async def test_a_head_that_cannot_be_read_is_no_answer_to_a_lost_swap() -> None:
    class GoesAway(LossyStore):
        away = False

        async def get(self, key: str) -> StoredObject | None:
            if self.away:
                raise StorageError("away")
            return await super().get(key)

    store = GoesAway()
    writer = await planned(store)
    again = batch(failed("a", 1))
    store.lose = 2
    with pytest.raises(StorageError, match="answer"):
        await writer.append(again)
    store.away = True
    with pytest.raises(StorageError, match="away"):
        await writer.append(again)
    store.away = False

    assert (await writer.append(again)).sequence == 1


async def test_a_commit_that_was_cut_off_leaves_the_head_on_the_last_whole_state() -> None:
    store = LossyStore()
    writer = await planned(store)
    await writer.append(batch(failed("a", 1)))
    before = await stored_head(store)
    store.lose, store.performs = 2, False
    with pytest.raises(StorageError):
        await writer.append(batch(failed("b", 1)))

    reader = journal(store)
    await reader.load()

    assert await stored_head(store) == before
    assert records_of((await reader.history())[1]) == [failed("a", 1)]


# -------------------------------------------------------------------------------------------------------------- leaders


async def test_whoever_leads_puts_his_epoch_into_the_head_before_anything_else() -> None:
    store = MemoryStore()
    before = await planned(store, Leader(1))

    head = await journal(store, Leader(2)).load()

    assert head == msgspec.structs.replace(before.head, epoch=2)
    assert (await stored_head(store)).data == encode_checkpoint(msgspec.structs.replace(before.head, epoch=2))


async def test_a_head_of_the_same_leader_is_not_written_again() -> None:
    store = LossyStore()
    await planned(store)
    store.puts.clear()

    await journal(store).load()

    assert store.puts == []


async def test_a_former_leader_writes_nothing_that_counts_after_another_one_claimed_the_head() -> None:
    store = MemoryStore()
    former = await planned(store, Leader(1))
    successor = journal(store, Leader(2))
    await successor.load()
    claimed = await stored_head(store)

    with pytest.raises(DeposedError, match="moved by another operator"):
        await former.append(batch(failed("a", 1)))

    assert await stored_head(store) == claimed
    await successor.append(batch(failed("b", 1)))
    assert records_of((await successor.history())[1]) == [failed("b", 1)]


async def test_a_former_leader_is_deposed_as_well_when_the_other_one_committed_the_very_same() -> None:
    store = MemoryStore()
    former = await planned(store, Leader(1))
    successor = journal(store, Leader(2))
    await successor.load()
    same = batch(failed("a", 1))
    await successor.append(same)

    with pytest.raises(DeposedError):
        await former.append(same)


async def test_a_former_leader_that_tries_again_stays_deposed() -> None:
    store = MemoryStore()
    former = await planned(store, Leader(1))
    await journal(store, Leader(2)).load()

    for _ in range(3):
        with pytest.raises(DeposedError):
            await former.append(batch(failed("a", 1)))


async def test_of_two_plans_the_first_counts_and_the_later_leader_goes_on_with_it() -> None:
    store = MemoryStore()
    other = replace(PLANNED, items=[PlannedItem("c", b"3")])
    first = await journal(store, Leader(1)).create(other, SPEC)

    later = await journal(store, Leader(2)).create(PLANNED, SPEC)

    assert (later.plan, later.epoch) == (first.plan, 2)
    former = Leader(1)
    former.held = False
    with pytest.raises(DeposedError):
        await journal(store, former).create(PLANNED, SPEC)


async def test_of_two_that_claim_at_the_same_time_the_later_leader_can_write_and_the_other_cannot() -> None:
    store = MemoryStore()
    await planned(store, Leader(1))
    journals = [journal(store, Leader(2)), journal(store, Leader(3))]

    await asyncio.gather(*(one.load() for one in journals), return_exceptions=True)
    head = await journals[1].load()

    assert head is not None
    assert head.epoch == 3
    await journals[1].append(batch(failed("a", 1)))
    with pytest.raises((DeposedError, RuntimeError)):
        await journals[0].append(batch(failed("b", 1)))


async def test_a_write_of_the_former_leader_that_lands_while_the_head_is_claimed_counts_and_deposes_only_him() -> None:
    class LateWrite(MemoryStore):
        late: Callable[[], Awaitable[object]] | None = None

        async def get(self, key: str) -> StoredObject | None:
            found = await super().get(key)
            if key == KEYS.head and self.late is not None:
                late, self.late = self.late, None
                await late()
            return found

    store = LateWrite()
    former = await planned(store, Leader(1))
    successor = journal(store, Leader(2))
    store.late = lambda: former.append(batch(failed("a", 1)))

    head = await successor.load()

    assert head is not None
    assert (head.epoch, head.sequence) == (2, 1)
    assert records_of((await successor.history())[1]) == [failed("a", 1)]
    with pytest.raises(DeposedError):
        await former.append(batch(failed("b", 1)))


async def test_a_head_of_a_greater_epoch_deposes_who_does_not_lead_any_more() -> None:
    store = MemoryStore()
    await planned(store, Leader(5))
    before = await stored_head(store)
    former = Leader(4)
    former.held = False

    with pytest.raises(DeposedError, match="epoch 5 leads"):
        await journal(store, former).load()

    assert await stored_head(store) == before


async def test_a_head_of_a_greater_epoch_is_surpassed_by_who_leads() -> None:
    store = MemoryStore()
    forgotten = await planned(store, Leader(5))
    leader = Leader(1)

    head = await journal(store, leader).load()

    assert head is not None
    assert (head.epoch, leader.epoch) == (6, 6)
    with pytest.raises(DeposedError):
        await forgotten.append(batch(failed("a", 1)))


async def test_a_head_of_another_run_is_refused() -> None:
    store = MemoryStore()
    await planned(store)
    head = decode_checkpoint(store.objects[KEYS.head], KEYS.head)
    store.objects[KEYS.head] = encode_checkpoint(msgspec.structs.replace(head, run_uid="run-2"))

    with pytest.raises(JournalError, match="belongs to the run run-2, not to run-1"):
        await journal(store).load()


async def test_a_head_of_a_newer_operator_is_not_claimed() -> None:
    store = MemoryStore()
    await planned(store)
    line = msgspec.json.encode({"schemaVersion": SCHEMA_VERSION + 1, "allElse": "is different"})
    newer = b"%b\n%b\n" % (line, digest(line).encode())
    store.objects[KEYS.head] = newer

    with pytest.raises(JournalError, match="run the newer operator again"):
        await journal(store, Leader(2)).load()

    assert store.objects[KEYS.head] == newer


# ------------------------------------------------------------------------------------------------------------ snapshots


async def with_snapshot(store: ObjectStore) -> Snapshot:
    """Three commits; the snapshot covers two of them."""
    writer = await planned(store)
    await writer.append(batch(failed("a", 1)))
    snapshot = snapshot_of(failed("a", 1).item, failed("b", 1).item)
    await writer.append(batch(failed("b", 1), snapshot=snapshot))
    await writer.append(batch(failed("a", 2)))
    return snapshot


def snapshot_key(store: MemoryStore) -> str:
    (key,) = [key for key in store.objects if "snapshot" in key]
    return key


async def test_a_load_begins_with_the_snapshot_and_reads_what_came_after() -> None:
    store = MemoryStore()
    snapshot = await with_snapshot(store)
    for key in [key for key in store.objects if "segment-0000000001" in key or "segment-0000000002" in key]:
        del store.objects[key]

    reader = journal(store)
    await reader.load()

    found, segments = await reader.history()
    assert found == snapshot
    assert records_of(segments) == [failed("a", 2)]


@pytest.mark.parametrize("damage", ["missing", "bit", "cut", "empty", "foreign"])
async def test_a_snapshot_that_is_damaged_or_missing_is_done_without(
    damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    await with_snapshot(store)
    key = snapshot_key(store)
    data = store.objects[key]
    if damage == "missing":
        del store.objects[key]
    else:
        store.objects[key] = {
            "bit": data[:50] + bytes([data[50] ^ 1]) + data[51:],
            "cut": data[:-1],
            "empty": b"",
            "foreign": store.objects[KEYS.head],
        }[damage]

    reader = journal(store)
    await reader.load()
    with caplog.at_level(logging.WARNING):
        found, segments = await reader.history()

    assert found is None
    assert records_of(segments) == [failed("a", 1), failed("b", 1), failed("a", 2)]
    assert f"{key} is " in caplog.text
    assert "the whole journal is read instead" in caplog.text


async def test_storage_that_is_away_is_not_taken_for_a_missing_snapshot() -> None:
    class NoSnapshots(MemoryStore):
        async def get(self, key: str) -> StoredObject | None:
            if "snapshot" in key:
                raise StorageError("slow down")
            return await super().get(key)

    store = NoSnapshots()
    await with_snapshot(store)
    reader = journal(store)
    await reader.load()

    with pytest.raises(StorageError, match="slow down"):
        await reader.history()


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_a_segment_that_is_missing_is_no_empty_one(number: int) -> None:
    store = MemoryStore()
    await with_snapshot(store)
    del store.objects[snapshot_key(store)]
    (key,) = [key for key in store.objects if f"segment-{number:010d}" in key]
    del store.objects[key]
    reader = journal(store)
    await reader.load()

    with pytest.raises(JournalError, match=f"{key} is missing"):
        await reader.history()


async def test_the_snapshot_stays_the_starting_point_over_commits_without_one_and_over_leaders() -> None:
    store = MemoryStore()
    snapshot = await with_snapshot(store)
    successor = journal(store, Leader(2))
    await successor.load()
    await successor.append(batch(failed("b", 2)))

    reader = journal(store, Leader(3))
    await reader.load()

    found, segments = await reader.history()
    assert found == snapshot
    assert records_of(segments) == [failed("a", 2), failed("b", 2)]


async def test_no_snapshot_is_due_before_there_is_much_to_read() -> None:
    writer = await planned(MemoryStore())
    assert not writer.snapshot_due

    while not writer.snapshot_due:
        await writer.append(batch(failed("a", 1, "x" * 60_000)))

    assert 256 * 1024 <= writer.head.journal_size < 256 * 1024 + 61_000


async def test_after_a_snapshot_the_next_is_due_when_as_much_was_written_as_it_took() -> None:
    writer = await planned(MemoryStore())
    large = snapshot_of(*(Item(ItemState.RUNNING, attempts=1, job_uid="x" * 36) for _ in range(8000)))
    await writer.append(batch(failed("a", 1), snapshot=large))
    taken = writer.head.snapshot
    assert taken is not None
    assert taken.size > 256 * 1024
    assert not writer.snapshot_due

    while not writer.snapshot_due:
        await writer.append(batch(failed("a", 1, "x" * 60_000)))

    since = writer.head.journal_size - taken.journal_size
    assert taken.size <= since < taken.size + 61_000


async def test_all_snapshots_of_5_000_items_together_take_no_more_than_the_segments() -> None:
    store = LossyStore()
    writer = journal(store)
    ids = [f"item-{number}" for number in range(5000)]
    await writer.create(Planned([PlannedItem(name, b"{}") for name in ids], duplicates=0), SPEC)
    run = RunState(RUN, spec({"maxParallel": 100}), keys_of(RUN.uid, ids), MAPPING)
    take_templates(run)

    seconds = 0.0
    while not run.ledgers[Stage.MAP].finished:
        seconds += 10
        for number, name in enumerate(launch(run, seconds)):
            agent = CRASHED if number % 5 == 0 else replace(CRASHED, exit_code=0, message='{"words": 5644}')
            observe(run, pod(name, agent), seconds)
        made = run.commits.begin(CommitReason.ITEMS, NOW + seconds, with_snapshot=writer.snapshot_due)
        await writer.append(made)
        run.commits.done(made, NOW + seconds)

    bytes_of = {
        kind: sum(size for key, size in store.written.items() if f"journal/{kind}" in key)
        for kind in ("segment", "snapshot")
    }
    assert 0 < bytes_of["snapshot"] <= bytes_of["segment"]
    assert bytes_of["segment"] == writer.head.journal_size
    reader = journal(store)
    await reader.load()
    snapshot, segments = await reader.history()
    assert snapshot is not None
    assert len(records_of(segments)) < 5000
    again = RunState(RUN, spec(), keys_of(RUN.uid, ids), MAPPING)
    again.books.restore(snapshot)
    for segment in segments:
        again.books.replay(segment)
    assert again.tally == run.tally
    assert list(again.ledgers[Stage.MAP].changed()) == list(run.ledgers[Stage.MAP].changed())


# ------------------------------------------------------------------------------------------------------------- deletion


async def test_of_a_run_that_is_deleted_nothing_is_left_and_its_neighbours_stay() -> None:
    store = MemoryStore()
    await with_snapshot(store)
    await store.put("default/demo/run-10/head.json", b"{}")

    reader = journal(store)
    await reader.load()
    await reader.delete_all()

    assert list(store.objects) == ["default/demo/run-10/head.json"]
