"""Whatever storage has lost or damaged: the run goes on with what is left, and only what is lost is done again."""

import asyncio
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import CheckpointPolicy, ItemState, LetterState, Phase, Restart, RestartPhase
from mapreduce_operator.core.checkpoint import (
    CommitReason,
    StateLostError,
    decode_checkpoint,
    digest,
    encode_checkpoint,
)
from mapreduce_operator.core.journal import salvage
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.plan import ShardInfo, encode_shard_list
from mapreduce_operator.core.validation import violations
from mapreduce_operator.core.workloads import ContainerEnd
from mapreduce_operator.engine.recovery import from_segments, newest_checkpoint
from tests.unit.core.scenes import CRASHED, DONE, job
from tests.unit.engine.parts import NOW
from tests.unit.engine.story import FATAL, Story
from tests.unit.engine.test_loading import KEYS, RUN

DEAD: Final = ItemState.DEAD_LETTERED
GOOD: Final = ItemState.SUCCEEDED
RUNNING: Final = ItemState.RUNNING
WAITS: Final = ItemState.PENDING


async def some_outcomes() -> Story:
    """Four items, of which the first two succeeded in a commit, the third in the next, and the last is a dead letter.

    Segment 1 tells of the starts. The map is over with segment 4.
    """
    story = Story(MemoryStore())
    await story.load()
    story.starts()
    await story.commit()
    await story.round(DONE, 0, 1)
    await story.round(DONE, 2)
    await story.round(FATAL, 3)
    assert story.states == [GOOD, GOOD, GOOD, DEAD]
    return story


def succeeded(story: Story) -> set[str]:
    """Keys of the items that have succeeded, as far as the run knows."""
    return {ledger.key(position) for ledger in story.state.ledgers.values() for position in ledger.in_state(GOOD)}


def once_succeeded(story: Story) -> set[str]:
    """Keys of the items that have ever succeeded."""
    return {one.outcome.dispatch.item_key for one in story.records if one.outcome.verdict is Verdict.SUCCEEDED}


async def recovered(story: Story) -> str:
    """The run comes back from damage and is whole from then on; returns what is told of it."""
    jobs = story.jobs()
    (event,) = (await story.load(jobs)).events
    assert (event.kind, event.reason) == ("Warning", "CheckpointFallback")
    assert violations(story.state.books, story.state.phase, {}) == []
    assert succeeded(story) <= once_succeeded(story)
    found = story.books()

    assert (await story.load(jobs)).events == []
    assert story.books() == found
    head = story.process.journal.head
    assert (head.reason, head.recovered and head.recovered.message) == (CommitReason.RECOVERY, event.message)
    await story.commit()
    return event.message


# ------------------------------------------------------------------------------------------------ instead of the head


async def test_the_newest_checkpoint_that_is_whole_counts() -> None:
    story = await some_outcomes()
    head = decode_checkpoint(story.store.objects[KEYS.head], "head")
    assert await newest_checkpoint(story.store, RUN) == head

    story.damages(story.key(4, KEYS.checkpoints))
    found = await newest_checkpoint(story.store, RUN)
    assert found is not None
    assert (found.sequence, found.epoch) == (3, 1)

    story.loses(*story.keys(KEYS.checkpoints))
    assert await newest_checkpoint(story.store, RUN) is None


async def test_a_checkpoint_of_another_run_does_not_count() -> None:
    story = await some_outcomes()
    head = decode_checkpoint(story.store.objects[KEYS.head], "head")
    data = encode_checkpoint(msgspec.structs.replace(head, run_uid="run-2", sequence=9))
    await story.store.put(KEYS.checkpoint(9, 0, CommitReason.ITEMS, digest(data)), data)

    assert await newest_checkpoint(story.store, RUN) == head


async def test_without_any_checkpoint_the_plan_and_the_newest_whole_segment_make_one() -> None:
    story = await some_outcomes()
    head = decode_checkpoint(story.store.objects[KEYS.head], "head")

    found = await from_segments(story.store, RUN, NOW)

    assert found is not None
    assert (found.sequence, found.tail_sha256, found.phase) == (4, head.tail_sha256, Phase.REDUCE)
    assert (found.plan.items, found.plan.sha256) == (4, head.plan.sha256)


async def test_without_any_segment_the_run_begins_with_its_plan() -> None:
    story = await some_outcomes()
    story.loses(*story.keys(KEYS.segments))

    found = await from_segments(story.store, RUN, NOW)

    assert found is not None
    assert (found.sequence, found.tail_sha256, found.phase, found.plan.items) == (0, "", Phase.MAP, 4)


@pytest.mark.parametrize("damage", ["lost", "damaged", "two"])
async def test_no_checkpoint_is_made_where_nothing_says_which_plan_counts(damage: str) -> None:
    story = await some_outcomes()
    (plan,) = story.keys(KEYS.plans)
    match damage:
        case "lost":
            story.loses(plan)
        case "damaged":
            story.damages(plan)
        case "two":
            other = encode_shard_list([ShardInfo(1, "ab" * 32)])
            await story.store.put(KEYS.plan(digest(other)), other)

    assert await from_segments(story.store, RUN, NOW) is None


@pytest.mark.parametrize("damage", ["lost", "damaged", "cut", "empty"])
async def test_without_its_head_the_run_goes_on_from_its_newest_checkpoint(damage: str) -> None:
    story = await some_outcomes()
    before = story.books()
    data = story.store.objects[KEYS.head]
    match damage:
        case "lost":
            story.loses(KEYS.head)
        case "damaged":
            story.damages(KEYS.head)
        case "cut":
            story.store.objects[KEYS.head] = data[:-1]
        case "empty":
            story.store.objects[KEYS.head] = b""

    message = await recovered(story)

    assert message.startswith(f"went on from checkpoint 4, since this is damaged: {KEYS.head}")
    assert story.books() == before


async def test_without_its_head_and_newest_checkpoints_the_segments_beyond_the_last_one_count() -> None:
    story = await some_outcomes()
    items = story.items()
    story.loses(KEYS.head, story.key(4, KEYS.checkpoints), story.key(3, KEYS.checkpoints))

    await recovered(story)

    assert story.items() == items
    assert story.state.phase is Phase.REDUCE


async def test_without_its_head_and_all_checkpoints_nothing_that_the_segments_tell_is_lost() -> None:
    story = await some_outcomes()
    items = story.items()
    story.loses(KEYS.head, *story.keys(KEYS.checkpoints))

    await recovered(story)

    assert story.items() == items
    assert story.state.phase is Phase.REDUCE


async def test_with_nothing_but_its_plan_a_run_begins_anew_and_no_dispatch_gets_a_number_that_a_job_has() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(CRASHED, 0, 1)
    story.passes(20)
    await story.round(DONE, 0)
    assert story.item(1).dispatch == 2
    alive = story.jobs()
    assert sorted(one.carried.dispatches[0].number for one in alive) == [1, 1, 2]
    story.loses(KEYS.head, *story.keys(KEYS.checkpoints), *story.keys(KEYS.segments))

    (event,) = (await story.load(alive)).events

    assert event.reason == "CheckpointFallback"
    assert set(story.states) == {WAITS}
    assert [item.dispatch for item in story.items()] == [1, 2, 1, 1]
    assert story.item(1).excused == 1
    for one in alive:
        story.state.agents.observe_job(one, deleted=False, now=story.now)
    assert story.states == [WAITS, RUNNING, RUNNING, RUNNING]


async def test_a_number_that_only_a_job_knows_of_stays_used_in_the_next_process() -> None:
    story = Story(MemoryStore(), items=1)
    await story.load()
    alive = [job(story.name(0).replace("-d1", "-d7"))]
    story.loses(KEYS.head, *story.keys(KEYS.checkpoints))
    await story.load(alive)

    assert (await story.load()).events == []

    assert story.starts() == [alive[0].name]


@pytest.mark.parametrize("what", ["list", "shard", "all"])
@pytest.mark.parametrize("damage", ["lost", "damaged"])
async def test_without_its_plan_nothing_is_run_written_or_deleted(what: str, damage: str) -> None:
    story = await some_outcomes()
    prefix = {"list": KEYS.plans, "shard": f"{KEYS.prefix}plan/shard-", "all": f"{KEYS.prefix}plan/"}[what]
    for key in story.keys(prefix):
        story.loses(key) if damage == "lost" else story.damages(key)
    before = dict(story.store.objects)
    before.pop(KEYS.head)

    for _ in range(2):
        with pytest.raises(StateLostError, match=r"^the plan of the job cannot be read from memory://: .*plan/.* is "):
            await story.load()

    # A leader puts its epoch into the head before it looks at anything else.
    after = dict(story.store.objects)
    assert decode_checkpoint(after.pop(KEYS.head), "head").sequence == 4
    assert after == before


async def test_without_its_plan_and_its_head_nothing_is_written_at_all() -> None:
    story = await some_outcomes()
    story.loses(KEYS.head, *story.keys(KEYS.checkpoints), *story.keys(KEYS.plans))
    before = dict(story.store.objects)

    with pytest.raises(StateLostError, match=r"head\.json, which is missing\. Nothing is run, or deleted, until"):
        await story.load()

    assert story.store.objects == before


# ------------------------------------------------------------------------------------------------------- the segments


@pytest.mark.parametrize(
    ("number", "line", "left"),
    [
        (2, 1, [RUNNING, GOOD, GOOD, DEAD]),
        (2, 2, [GOOD, RUNNING, GOOD, DEAD]),
        (3, 1, [GOOD, GOOD, RUNNING, DEAD]),
        (4, 1, [GOOD, GOOD, GOOD, RUNNING]),
        (2, 0, [GOOD, GOOD, GOOD, DEAD]),
        (1, 0, [GOOD, GOOD, GOOD, DEAD]),
    ],
)
@pytest.mark.parametrize("head", ["whole", "damaged"])
async def test_of_a_damaged_line_only_its_own_outcome_is_lost(
    number: int, line: int, left: list[ItemState], head: str
) -> None:
    story = await some_outcomes()
    key = story.key(number)
    story.damages(key, line)
    if head == "damaged":
        story.damages(KEYS.head)

    message = await recovered(story)

    assert story.states == left
    assert message.startswith(f"went on from checkpoint {number - 1}, since this is damaged: ")
    assert message.endswith(f"{key}; at least 1 outcome lost, and what that was is run again")
    assert story.state.phase is (Phase.REDUCE if RUNNING not in left else Phase.MAP)


async def test_what_is_lost_is_run_again_under_another_number_and_nothing_else_is() -> None:
    story = await some_outcomes()
    story.damages(story.key(3), 1)
    await recovered(story)
    story.passes(120)

    # Its Job was deleted when its outcome was durable.
    story.ends(None, 2)
    await story.commit()

    assert story.starts() == [story.name(2)]
    assert story.item(2).dispatch == 2
    story.ends(DONE, 2)
    await story.commit()
    assert (story.states, story.state.phase) == ([GOOD, GOOD, GOOD, DEAD], Phase.REDUCE)


@pytest.mark.parametrize("numbers", [[1], [2], [3], [4], [2, 3], [1, 4], [1, 2, 3, 4]])
async def test_of_segments_that_are_missing_only_the_outcomes_are_lost(numbers: list[int]) -> None:
    story = await some_outcomes()
    story.loses(*(story.key(number) for number in numbers))

    message = await recovered(story)

    kept = [2 not in numbers, 2 not in numbers, 3 not in numbers, 4 not in numbers]
    assert [state in {GOOD, DEAD} for state in story.states] == kept
    assert message.startswith(f"went on from checkpoint {min(numbers) - 1}, since ")


async def test_of_several_damaged_segments_each_good_line_survives() -> None:
    story = await some_outcomes()
    damaged = [story.key(2), story.key(3), story.key(4)]
    for key, line in zip(damaged, [1, 0, 0], strict=True):
        story.damages(key, line)

    message = await recovered(story)

    assert story.states == [RUNNING, GOOD, GOOD, DEAD]
    assert all(key in message for key in damaged)


async def test_what_a_snapshot_covers_may_be_damaged_and_nobody_looks() -> None:
    story = await some_outcomes()
    await story.commit(with_snapshot=True)
    before = story.books()
    story.loses(story.key(2), story.key(3))

    assert (await story.load()).events == []
    assert story.books() == before


async def test_with_its_snapshot_damaged_as_well_the_journal_is_read_from_its_begin() -> None:
    story = await some_outcomes()
    await story.commit(with_snapshot=True)
    (snapshot,) = story.keys(KEYS.snapshots)
    story.damages(snapshot)
    story.damages(story.key(3), 1)

    await recovered(story)

    assert story.states == [GOOD, GOOD, RUNNING, DEAD]


async def test_damage_after_a_snapshot_leaves_what_the_snapshot_holds() -> None:
    story = await some_outcomes()
    await story.commit(with_snapshot=True)
    story.redrive(3)
    await story.commit()
    await story.round(DONE, 3)
    story.loses(story.key(7), story.key(4), story.key(3))

    message = await recovered(story)

    assert message.startswith("went on from checkpoint 6")
    assert story.states == [GOOD, GOOD, GOOD, WAITS]
    assert story.item(3).redrive == 1


async def test_a_snapshot_is_the_end_of_the_way_back_where_all_after_it_and_it_itself_are_lost() -> None:
    story = await some_outcomes()
    await story.commit(with_snapshot=True)
    before = story.items()
    await story.commit()
    story.loses(*story.keys(KEYS.segments))

    await recovered(story)

    assert story.items() == before


async def test_a_run_that_had_ended_is_at_its_map_again_where_results_are_lost() -> None:
    story = await some_outcomes()
    story.starts()
    story.ends(DONE, 0, stage=Stage.REDUCE)
    await story.commit()
    assert story.state.finished
    story.damages(story.key(3), 1)

    await recovered(story)

    assert story.state.turn.phase is Phase.MAP
    story.ends(DONE, 2)
    await story.commit()
    await story.commit()
    assert len(story.starts()) == 1, "over results that it did not have before"


# ----------------------------------------------------------------------------------------------- letters and Redrives


async def redriven() -> Story:
    """Item 0 is a dead letter (segment 2) that a Redrive took (3), was started (4) and succeeded (5)."""
    story = Story(MemoryStore())
    await story.load()
    story.starts()
    await story.commit()
    await story.round(FATAL, 0)
    story.redrive(0)
    await story.commit()
    story.starts()
    await story.commit()
    await story.round(DONE, 0)
    assert story.item(0).redrive == 1
    return story


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize("damage", ["header", "missing"])
async def test_a_success_stays_whatever_is_lost_of_how_it_came_about(number: int, damage: str) -> None:
    story = await redriven()
    if damage == "missing":
        story.loses(story.key(number))
    else:
        story.damages(story.key(number), 0)

    await recovered(story)

    assert story.item(0).state is GOOD
    assert all(state is not LetterState.OPEN for _, state, _ in story.state.dead_letters.all())


async def test_a_letter_whose_redrive_is_lost_is_open_again_and_the_number_of_its_dispatch_stays_used() -> None:
    story = await redriven()
    story.loses(story.key(3), story.key(5))

    await recovered(story)

    assert story.item(0).state is DEAD
    assert list(story.state.dead_letters.open()) == [0]
    story.redrive(0)
    await story.commit()
    assert story.starts() == [f"demo-{story.state.ledgers[Stage.MAP].key(0)}-d3"]


async def test_an_item_whose_letter_is_lost_and_that_a_redrive_took_is_run_again() -> None:
    story = Story(MemoryStore())
    await story.load()
    story.starts()
    await story.commit()
    await story.round(FATAL, 0)
    story.redrive(0)
    await story.commit()
    story.damages(story.key(2), 1)

    await recovered(story)

    assert story.item(0).state is RUNNING
    story.ends(None, 0)
    await story.commit()
    assert story.starts() == [f"demo-{story.state.ledgers[Stage.MAP].key(0)}-d2"]


async def test_an_outcome_of_a_redrive_stays_where_the_letter_that_it_took_is_lost() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(FATAL, 0)
    await story.round(FATAL, 1)
    story.redrive(1)
    await story.commit()
    await story.round(FATAL, 1)
    story.loses(story.key(2))

    await recovered(story)

    assert story.states[:2] == [DEAD, DEAD]
    assert story.item(1).attempts == 2


async def test_a_redrive_that_was_called_off_after_it_was_lost_is_nothing() -> None:
    story = Story(MemoryStore())
    await story.load()
    await story.round(FATAL, 0, 1)
    story.redrive(0, 1)
    await story.commit()
    story.state.letterbox.call_off(1, "Deleted", "the Redrive was deleted", story.now)
    await story.commit()
    story.loses(story.key(2))

    await recovered(story)

    assert story.states[:2] == [DEAD, DEAD]
    assert list(story.state.dead_letters.open()) == [0, 1]
    assert len(story.state.redrives) == 0


async def test_a_mark_of_a_letter_that_is_lost_is_nothing() -> None:
    story = Story(MemoryStore(), deadLetter={"capacity": 1, "onFull": "Archive"})
    await story.load()
    story.starts()
    await story.commit()
    story.state.requeue(story.job.spec.dead_letter, story.now)
    await story.round(FATAL, 0)
    await story.round(FATAL, 1)
    await story.commit()
    assert [state for _, state, _ in story.state.dead_letters.all()] == [LetterState.ARCHIVED, LetterState.OPEN]
    story.damages(story.key(2), 1)

    await recovered(story)

    assert story.states[:2] == [RUNNING, DEAD]


async def went_back() -> Story:
    """Checkpoint 6 did away with what came after 2; the two items that this concerns were run again in 7 and 8."""
    story = await some_outcomes()
    await story.commit(with_snapshot=True)
    await story.goes_back(2)
    assert story.states == [GOOD, GOOD, WAITS, WAITS]
    assert [item.dispatch for item in story.items()][2:] == [2, 2]
    await story.round(DONE, 2)
    await story.round(DONE, 3)
    assert story.states == [GOOD, GOOD, GOOD, GOOD]
    return story


@pytest.mark.parametrize("damage", ["head", "head and checkpoint", "snapshot", "head and snapshot"])
async def test_what_a_run_went_back_from_stays_undone(damage: str) -> None:
    story = await went_back()
    items = story.items()
    if "head" in damage:
        story.loses(KEYS.head)
    if "checkpoint" in damage:
        story.loses(story.key(8, KEYS.checkpoints))
    if "snapshot" in damage:
        story.loses(story.key(6, KEYS.snapshots))

    await recovered(story)

    assert story.items() == items


@pytest.mark.parametrize(("number", "damage"), [(6, "header"), (6, "missing"), (7, "header"), (8, "header")])
async def test_of_a_run_that_went_back_no_dispatch_gets_a_number_that_it_had_before(number: int, damage: str) -> None:
    story = await went_back()
    story.loses(story.key(6, KEYS.snapshots))
    if damage == "missing":
        story.loses(story.key(number))
    else:
        story.damages(story.key(number), 0)

    await recovered(story)

    names = {one.outcome.job for one in story.records}
    story.passes(120)
    for position, item in enumerate(story.items()):
        if item.state is RUNNING:
            story.ends(None, position)
    await story.commit()
    assert not names & set(story.starts())


# ----------------------------------------------------------------------------------------------------------- anything

AGENTS: Final = st.sampled_from([DONE, CRASHED, FATAL])
POSITIONS: Final = st.integers(0, 3)
PLACES: Final = st.floats(0, 1, exclude_max=True)
DAMAGE: Final = st.one_of(
    st.tuples(st.just("flip"), PLACES, PLACES, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACES, PLACES),
    st.tuples(st.just("lose"), PLACES),
    st.tuples(st.just("lose the head")),
    st.tuples(st.just("lose the newest checkpoint")),
)


# Each step is one of these, with its arguments.


async def a_round(story: Story, agent: ContainerEnd, position: int) -> None:
    story.starts()
    await ends(story, agent, position)
    await story.commit()


async def starts(story: Story) -> None:
    story.starts()


async def ends(story: Story, agent: ContainerEnd | None, position: int) -> None:
    if story.item(position).state is RUNNING:
        story.ends(agent, position)
    elif story.item(0, Stage.REDUCE).state is RUNNING:
        story.ends(agent, 0, stage=Stage.REDUCE)


async def commit(story: Story, with_snapshot: bool) -> None:
    await story.commit(with_snapshot=with_snapshot)


async def redrive(story: Story, position: int, attempts: int) -> None:
    takeable = [one for one in range(4) if story.state.letterbox.is_takeable(one)]
    if takeable and story.state.course.redrive_waits() is None:
        story.redrive(takeable[position % len(takeable)], attempts=attempts)


async def call_off(story: Story) -> None:
    for number in list(story.state.redrives.running()):
        story.state.letterbox.call_off(number, "Deleted", "the Redrive was deleted", story.now)


async def restart(story: Story, phase: RestartPhase) -> None:
    """As engine.requests does it: not beside items that have just come to an end without an agent."""
    if story.state.course.redrive_waits() is None and not story.state.letterbox.waits_for_commit:
        story.state.restart(Restart(phase=phase, token=f"at {story.seconds}"), story.job.spec.resume_policy, story.now)


async def purge(story: Story, with_open: bool) -> None:
    policy = story.job.spec.dead_letter.model_copy(update={"retention_seconds": 10, "purge_open": with_open})
    story.state.letterbox.purge(policy, story.now)


async def passes(story: Story, seconds: int) -> None:
    story.passes(seconds)


async def another_takes_over(story: Story) -> None:
    await story.load()


async def goes_back(story: Story, place: float) -> None:
    await story.commit()
    journal = story.process.journal
    kept = journal.kept.sequences(journal.head, CheckpointPolicy(keep=100), (), active=True)
    if not story.state.active and story.state.course.settled:
        await story.goes_back(kept[int(place * len(kept))])


STEPS: Final = st.one_of(
    st.tuples(st.just(a_round), AGENTS, POSITIONS),
    st.tuples(st.just(a_round), AGENTS, POSITIONS),
    st.tuples(st.just(starts)),
    st.tuples(st.just(ends), AGENTS | st.none(), POSITIONS),
    st.tuples(st.just(commit), st.booleans()),
    st.tuples(st.just(redrive), POSITIONS, st.integers(1, 2)),
    st.tuples(st.just(redrive), POSITIONS, st.integers(1, 2)),
    st.tuples(st.just(call_off)),
    st.tuples(st.just(restart), st.sampled_from([RestartPhase.MAP, RestartPhase.REDUCE])),
    st.tuples(st.just(purge), st.booleans()),
    st.tuples(st.just(passes), st.sampled_from([1, 11, 100])),
    st.tuples(st.just(another_takes_over)),
    st.tuples(st.just(goes_back), PLACES),
)


def hurt(story: Story, damages: list[tuple[Any, ...]]) -> None:
    """Any objects but those of the plan are damaged."""
    objects = story.store.objects
    for damage in damages:
        keys = sorted(key for key in objects if key.startswith(KEYS.prefix) and "/plan/" not in key)
        if not keys:
            return
        match damage:
            case ["lose the head"]:
                objects.pop(KEYS.head, None)
            case ["lose the newest checkpoint"]:
                objects.pop(max(story.keys(KEYS.checkpoints), default=""), None)
            case ["lose", which]:
                del objects[keys[int(which * len(keys))]]
            case ["cut", which, place]:
                key = keys[int(which * len(keys))]
                objects[key] = objects[key][: int(place * len(objects[key]))]
            case ["flip", which, place, bit]:
                key = keys[int(which * len(keys))]
                data = bytearray(objects[key])
                if data:
                    data[int(place * len(data))] ^= 1 << bit
                    objects[key] = bytes(data)


def surviving(story: Story) -> dict[str, ItemState]:
    """How the items ended whose end is told by a good line of a segment, by key."""
    last = {one.outcome.dispatch.item_key: one for one in story.records}
    good = {
        one.outcome.dispatch for key in story.keys(KEYS.segments) for one in salvage(story.store.objects[key]).records
    }
    return {
        key: story.item_of(key).state
        for key, record in last.items()
        if record.outcome.dispatch in good and story.item_of(key) == record.item and record.item.final
    }


@settings(max_examples=300)
@given(
    letters=st.integers(0, 4),
    steps=st.lists(STEPS, max_size=25),
    damages=st.lists(DAMAGE, min_size=1, max_size=5),
    policy=st.sampled_from(["DeadLetter", "Skip"]),
)
def test_a_run_goes_on_from_any_history_after_any_damage_and_invents_nothing(
    letters: int, steps: list[tuple[Any, ...]], damages: list[tuple[Any, ...]], policy: str
) -> None:
    async def one() -> None:
        story = Story(
            MemoryStore(), deadLetter={"capacity": 2, "onFull": "Archive"}, failurePolicy={"onExhausted": policy}
        )
        await story.load()
        for position in range(letters):
            await a_round(story, FATAL, position)
        for step, *arguments in steps:
            await step(story, *arguments)
        await story.commit()
        await story.load()
        jobs, head = story.jobs(), story.store.objects[KEYS.head]
        hurt(story, damages)
        # Where a head, the checkpoints beside it and a segment are gone together, nothing leads to what came after.
        kept = surviving(story) if story.store.objects.get(KEYS.head) == head else {}

        await story.load(jobs)

        assert succeeded(story) <= once_succeeded(story)
        assert {key: story.item_of(key).state for key in kept} == kept
        assert violations(story.state.books, story.state.phase, {}) == []
        found = story.books()
        assert (await story.load(jobs)).events == []
        assert story.books() == found
        await story.commit()

    asyncio.run(one())
