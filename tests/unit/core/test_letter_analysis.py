"""What dead letters have in common."""

import json
import weakref
from collections.abc import Iterable, Iterator
from datetime import timedelta, timezone
from itertools import permutations
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, Reason
from mapreduce_operator.core.letter_analysis import GROUPS, Analysis, Comparison
from mapreduce_operator.core.letters import Letter, moment

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def letter_of(number: int, signature: str = "boom", at: float = T0, **changes: Any) -> Letter:
    letter = Letter(
        id=f"item-{number}",
        key=f"key-{number}",
        position=number,
        payload=msgspec.Raw(b"{}"),
        cause=Cause.ATTEMPTS_EXHAUSTED,
        reason=Reason.ERROR,
        signature_id=f"id of {signature}",
        signature=signature,
        first_attempt_at=moment(T0 - 10_000),
        last_attempt_at=moment(at),
        attempts=3,
        node="node-1",
    )
    return msgspec.structs.replace(letter, **changes)


def analysis(letters: Iterable[Letter]) -> Analysis:
    comparison = Comparison()
    for letter in letters:
        comparison.add(letter)
    return comparison.analysis()


def test_the_same_failure_is_one_group_with_some_of_its_items() -> None:
    found = analysis(letter_of(number, at=T0 + number) for number in (5, 1, 9, 3))

    (group,) = found.groups
    assert (group.signature, group.signature_id, group.reason, group.count) == ("boom", "id of boom", Reason.ERROR, 4)
    assert (group.first_time, group.last_time) == (moment(T0 + 1), moment(T0 + 9))
    assert group.samples == ("item-5", "item-1", "item-9")


def test_groups_come_by_count_and_then_by_signature() -> None:
    signatures = ["b", "a", "c", "c", "d", "d", "d"]

    for some in list(permutations(signatures))[:200]:
        found = analysis(letter_of(number, signature) for number, signature in enumerate(some))

        assert [(group.signature, group.count) for group in found.groups] == [("d", 3), ("c", 2), ("a", 1), ("b", 1)]


def test_failures_with_the_same_text_and_different_reasons_are_told_apart_by_their_ids() -> None:
    oom = letter_of(1, signature_id="x", reason=Reason.OOM_KILLED)

    assert [group.reason for group in analysis([letter_of(0), oom]).groups] == [Reason.ERROR, Reason.OOM_KILLED]


def test_letters_are_counted_by_reason_cause_and_node_the_most_frequent_first() -> None:
    found = analysis(
        [
            letter_of(0, node="node-2"),
            letter_of(1, reason=Reason.OOM_KILLED, node="node-3"),
            letter_of(2, reason=Reason.OOM_KILLED, node="node-3"),
            letter_of(3, reason=Reason.EVICTED, cause=Cause.TOO_MANY_INTERRUPTIONS, node=""),
        ]
    )

    assert list(found.reasons.items()) == [("OOMKilled", 2), ("Error", 1), ("Evicted", 1)]
    assert list(found.causes.items()) == [("AttemptsExhausted", 3), ("TooManyInterruptions", 1)]
    assert list(found.nodes.items()) == [("node-3", 2), ("node-2", 1)]


def test_hours_begin_and_end_at_the_full_hour_and_come_in_order() -> None:
    times = [T0 + 3600, T0 - 0.001, T0 + 3599.999, T0, T0 + 86_400]

    found = analysis(letter_of(number, at=at) for number, at in enumerate(times))

    assert list(found.hours.items()) == [
        ("2025-12-31T23:00:00Z", 1),
        ("2026-01-01T00:00:00Z", 2),
        ("2026-01-01T01:00:00Z", 1),
        ("2026-01-02T00:00:00Z", 1),
    ]


def test_hours_are_those_of_utc_whatever_zone_a_time_is_written_in() -> None:
    elsewhere = moment(T0).astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert analysis([letter_of(0, last_attempt_at=elsewhere)]).hours == {"2026-01-01T00:00:00Z": 1}


def test_it_is_plain_json() -> None:
    found = json.loads(msgspec.json.encode(analysis([letter_of(0)])))

    assert found == {
        "letters": 1,
        "groups": [
            {
                "signatureId": "id of boom",
                "signature": "boom",
                "reason": "Error",
                "count": 1,
                "firstTime": "2026-01-01T00:00:00Z",
                "lastTime": "2026-01-01T00:00:00Z",
                "samples": ["item-0"],
            }
        ],
        "others": 0,
        "reasons": {"Error": 1},
        "causes": {"AttemptsExhausted": 1},
        "nodes": {"node-1": 1},
        "hours": {"2026-01-01T00:00:00Z": 1},
    }


def test_no_letters_have_nothing_in_common() -> None:
    assert analysis([]) == Analysis(letters=0, groups=(), others=0, reasons={}, causes={}, nodes={}, hours={})


def test_groups_are_bounded_and_what_is_beyond_is_counted() -> None:
    found = analysis(letter_of(number, f"failure {number % (GROUPS + 5)}") for number in range(2 * (GROUPS + 5)))

    assert len(found.groups) == GROUPS
    assert found.others == 10
    assert {group.count for group in found.groups} == {2}
    assert found.reasons == {"Error": 2 * (GROUPS + 5)}


def test_letters_are_read_one_by_one_and_not_kept() -> None:
    alive = 0
    most = 0

    class Counted(Letter, frozen=True, kw_only=True, weakref=True):
        pass

    def stream() -> Iterator[Letter]:
        nonlocal alive, most

        def gone() -> None:
            nonlocal alive
            alive -= 1

        for number in range(50):
            letter = Counted(**msgspec.structs.asdict(letter_of(number, f"failure {number}")))
            weakref.finalize(letter, gone)
            alive += 1
            most = max(most, alive)
            yield letter

    analysis(stream())

    assert most <= 2


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(Reason), st.sampled_from(Cause), st.integers(0, 10**6)))
)
def test_every_letter_is_counted_once_in_each_view(some: list[tuple[str, Reason, Cause, int]]) -> None:
    found = analysis(
        letter_of(number, signature, at=T0 + at, reason=reason, cause=cause)
        for number, (signature, reason, cause, at) in enumerate(some)
    )

    assert found.letters == len(some)
    assert found.others + sum(group.count for group in found.groups) == len(some)
    for counts in (found.reasons, found.causes, found.nodes, found.hours):
        assert sum(counts.values()) == len(some)
    assert all(len(group.samples) == min(3, group.count) for group in found.groups)
