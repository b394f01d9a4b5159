"""Which checkpoints and snapshots of a run are not needed any more."""

from collections.abc import Collection, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.checkpoint import BOUNDARIES, CommitReason
from mapreduce_operator.core.retention import MAX_BOUNDARIES, SavedCheckpoint, SavedSnapshot, dispensable, intervals

ITEMS = CommitReason.ITEMS


def checkpoint(sequence: int, reason: CommitReason = ITEMS, snapshot: int = 0, beside: str = "") -> SavedCheckpoint:
    return SavedCheckpoint(sequence, reason, snapshot, f"checkpoint {sequence}{beside}")


def snapshot(sequence: int, beside: str = "") -> SavedSnapshot:
    return SavedSnapshot(sequence, f"snapshot {sequence}{beside}")


def goes(
    checkpoints: Iterable[SavedCheckpoint],
    snapshots: Iterable[SavedSnapshot] = (),
    *,
    keep: int = 2,
    pinned: Collection[int] = (),
    referenced: Collection[int] = (),
    active: bool = True,
) -> list[str]:
    return dispensable(
        list(checkpoints), list(snapshots), keep=keep, pinned=pinned, referenced=referenced, active=active
    )


def numbers(keys: Iterable[str]) -> list[int]:
    return [int(key.split()[1]) for key in keys]


class TestCheckpoints:
    def test_the_newest_stay_and_the_plan(self) -> None:
        assert numbers(goes(map(checkpoint, range(15)), keep=10)) == [1, 2, 3, 4]

    def test_an_active_run_keeps_two_and_one_that_has_ended_one(self) -> None:
        assert numbers(goes(map(checkpoint, range(1, 5)), keep=1)) == [1, 2]
        assert numbers(goes(map(checkpoint, range(1, 5)), keep=0, active=False)) == [1, 2, 3]

    def test_what_is_pinned_and_what_forks_need_stays(self) -> None:
        assert numbers(goes(map(checkpoint, range(10)), pinned=[3, 77], referenced={5})) == [1, 2, 4, 6, 7]

    @pytest.mark.parametrize("reason", CommitReason)
    def test_boundaries_stay(self, reason: CommitReason) -> None:
        gone = goes([checkpoint(1, reason), *map(checkpoint, range(2, 9))])

        assert (1 in numbers(gone)) == (reason not in BOUNDARIES)

    def test_boundaries_do_not_grow_without_end(self) -> None:
        gone = goes(checkpoint(number, CommitReason.RESTART) for number in range(1, 101))

        assert numbers(gone) == list(range(1, 101 - MAX_BOUNDARIES))

    def test_what_has_the_same_number_stays_or_goes_together(self) -> None:
        twins = [checkpoint(number, beside=beside) for number in (1, 2, 3) for beside in ("", " of a deposed leader")]

        assert goes(twins) == ["checkpoint 1", "checkpoint 1 of a deposed leader"]

    def test_a_number_stays_for_the_reason_of_either(self) -> None:
        either = [checkpoint(1), checkpoint(1, CommitReason.PHASE_CHANGE, beside=" of a deposed leader")]

        assert goes([*either, *map(checkpoint, (2, 3))]) == []


class TestSnapshots:
    def test_those_of_the_checkpoints_that_stay_do_too(self) -> None:
        checkpoints = [checkpoint(number, snapshot=number // 10 * 10) for number in range(1, 80)]

        gone = goes(checkpoints, map(snapshot, range(10, 80, 10)), pinned=[15, 42])

        assert [key for key in gone if key.startswith("snapshot")] == ["snapshot 20", "snapshot 30", "snapshot 50"]

    def test_checkpoints_go_first(self) -> None:
        gone = goes(map(checkpoint, (1, 2, 3)), map(snapshot, (1, 2, 3)))

        assert gone == ["checkpoint 1", "snapshot 1"]

    def test_that_of_a_checkpoint_stays_though_a_deposed_leader_left_a_later_one(self) -> None:
        checkpoints = [checkpoint(number, snapshot=10 if number < 40 else 40) for number in range(10, 50)]

        gone = goes(checkpoints, map(snapshot, (10, 21, 40)), pinned=[30])

        assert [key for key in gone if key.startswith("snapshot")] == []

    def test_those_of_the_same_number_stay_or_go_together(self) -> None:
        twins = [snapshot(number, beside) for number in (1, 2, 3) for beside in ("", " of a deposed leader")]

        assert goes([checkpoint(3, snapshot=3)], twins) == ["snapshot 1", "snapshot 1 of a deposed leader"]


sequences = st.integers(0, 120)
saved = st.lists(st.tuples(sequences, st.sampled_from(CommitReason), st.sampled_from(["", " beside"])), max_size=100)
some = st.frozensets(sequences, max_size=5)


@given(
    listed=saved,
    of_snapshots=st.lists(sequences, unique=True),
    keep=st.integers(0, 20),
    pinned=some,
    referenced=some,
    active=st.booleans(),
    data=st.data(),
)
def test_what_stays_is_whole_and_what_goes_is_not_needed(
    *,
    listed: list[tuple[int, CommitReason, str]],
    of_snapshots: list[int],
    keep: int,
    pinned: frozenset[int],
    referenced: frozenset[int],
    active: bool,
    data: st.DataObject,
) -> None:
    before = [
        checkpoint(number, reason, data.draw(st.sampled_from([0, *(n for n in of_snapshots if n <= number)])), beside)
        for number, reason, beside in listed
    ]
    snapshots = [snapshot(number) for number in of_snapshots]

    def left(
        of: list[SavedCheckpoint], beside: list[SavedSnapshot]
    ) -> tuple[list[SavedCheckpoint], list[SavedSnapshot]]:
        gone = set(goes(of, beside, keep=keep, pinned=pinned, referenced=referenced, active=active))
        return [one for one in of if one.key not in gone], [one for one in beside if one.key not in gone]

    after, snapshots_after = left(before, snapshots)

    there, stays = {one.sequence for one in before}, {one.sequence for one in after}
    assert set(sorted(there)[-2:]) <= stays or (not active and keep < 2)
    assert set(sorted(there)[-1:]) <= stays
    assert there & (pinned | referenced | {0}) <= stays
    assert set(sorted(of_snapshots)[-2:]) <= {one.sequence for one in snapshots_after}
    assert {one.snapshot for one in after} - {0} <= {one.sequence for one in snapshots_after}
    boundaries = {one.sequence for one in after if one.reason in BOUNDARIES}
    assert len(stays) <= max(keep, 2) + len(boundaries) + len(pinned | referenced | {0})
    assert left(after, snapshots_after) == (after, snapshots_after)


class TestIntervals:
    @pytest.mark.parametrize(
        ("numbers", "text"),
        [
            ([], ""),
            ([0], "0"),
            ([1, 40, *range(62, 72)], "1,40,62-71"),
            ([3, 1, 2, 2], "1-3"),
            ([8, 9], "8-9"),
        ],
    )
    def test_runs_of_numbers_are_one_interval(self, numbers: list[int], text: str) -> None:
        assert intervals(numbers, 100) == text

    @pytest.mark.parametrize(
        ("limit", "text"),
        [
            (10, "1,40,62-71"),
            (9, "…,62-71"),
            (7, "…,62-71"),
            (6, "…"),
            (1, "…"),
        ],
    )
    def test_the_newest_stay_when_it_is_cut(self, limit: int, text: str) -> None:
        assert intervals([1, 40, *range(62, 72)], limit) == text

    @given(st.sets(st.integers(0, 10**6)), st.integers(1, 80))
    def test_it_never_is_longer_and_never_cuts_a_number(self, numbers: set[int], limit: int) -> None:
        whole, text = intervals(numbers, 10**6), intervals(numbers, limit)

        assert len(text) <= limit
        if text != whole:
            assert text[0] == "…"
            assert whole.endswith(text[1:])
            assert len(whole) > limit
