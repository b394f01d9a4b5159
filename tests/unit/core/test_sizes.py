"""What makes a snapshot large."""

import msgspec

from mapreduce_operator.api import Cause, ItemState, LetterState, Reason
from mapreduce_operator.core.dead_letters import Entry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.letters import Attempt, moment
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.sizes import CONTRIBUTORS, LIMIT_BYTES, WARN_BYTES, contributors
from mapreduce_operator.core.snapshot import Snapshot, encode_snapshot
from mapreduce_operator.core.tally import FailureCount, Tally

NOW = 1_800_000_000.0


def of(snapshot: Snapshot) -> list[tuple[str, int]]:
    return contributors(snapshot, encode_snapshot(snapshot))


def attempt(message: str) -> Attempt:
    return Attempt(dispatch=1, verdict=Verdict.FAILED, reason=Reason.ERROR, message=message, ended_at=moment(NOW))


def dead_letter(position: int, message: str) -> tuple[Entry, LetterState, str]:
    entry = Entry(position, Cause.NOT_RETRYABLE, Reason.ERROR, "5f1c", "node-1", 1, NOW, message)
    return entry, LetterState.OPEN, "boom"


def snapshot(*, done: int = 0, failing: int = 0, dead: int = 0, message: str = "") -> Snapshot:
    return Snapshot(
        items={Stage.MAP: [(position, Item(ItemState.SUCCEEDED, 1)) for position in range(done)], Stage.REDUCE: []},
        tally=Tally(
            {"5f1c": FailureCount(Reason.ERROR, "boom", 20, 3, "boom 1")},
            {Reason.ERROR: 20},
            3,
            b'"' + b"a" * 200 + b'"',
        ),
        past={position: [attempt(message)] for position in range(failing)},
        letters=[dead_letter(position, message) for position in range(dead)],
        redrives=[(Accepted(1, "uid-r", "again", NOW, 4), 1, 2, 0.0, None)],
        failed_starts={"map/5f1c": ["key-1"]},
    )


def test_the_five_largest_parts_are_named_the_largest_first() -> None:
    found = of(snapshot(done=1000, failing=812, dead=2000, message="m" * 100))

    assert [name for name, _ in found] == [
        "2,000 dead letters",
        "history of 812 failing items",
        "states of 1,000 items",
        "result of the reduce",
        "1 kind of failure",
    ]
    assert [size for _, size in found] == sorted((size for _, size in found), reverse=True)
    assert len(found) == CONTRIBUTORS


def test_they_make_up_the_snapshot() -> None:
    large = snapshot(done=1000, failing=50, dead=50, message="m" * 100)
    whole = len(encode_snapshot(large))

    assert 0.99 * whole < sum(size for _, size in of(large)) < whole


def test_the_size_of_a_part_is_that_of_its_json_text() -> None:
    sizes = dict(of(snapshot(dead=2)))

    assert sizes["2 dead letters"] == len(msgspec.json.encode([dead_letter(0, ""), dead_letter(1, "")]))


def test_what_there_is_one_of() -> None:
    names = {name for name, _ in of(snapshot(failing=1, dead=1, message="m" * 300))}

    assert {"history of 1 failing item", "1 dead letter", "1 Redrive", "1 kind of failure"} <= names


def test_a_job_of_100_000_items_that_does_well_is_below_the_warning() -> None:
    well = len(encode_snapshot(snapshot(done=10_000, failing=100, dead=100, message="m" * 256)))
    # So many items of the same kind, and no more.
    assert 10 * well < WARN_BYTES
    failed = len(encode_snapshot(snapshot(done=10_000, dead=10_000, message="m" * 256)))
    assert WARN_BYTES < 10 * failed < LIMIT_BYTES
