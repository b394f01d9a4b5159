"""Bodies of dead letters: what is written is read back, and writing again loses nothing."""

import json
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, Reason
from mapreduce_operator.core.letters import (
    HISTORY,
    Attempt,
    Letter,
    LetterError,
    decode_letter,
    encode_letter,
    merged,
    moment,
)
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.plan import canonical
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies

WHERE = "s3://bucket/team/demo/run-1/dead-letters/abc.json"
T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""


def failed(number: int, reason: Reason = Reason.ERROR, message: str = "boom") -> Attempt:
    return Attempt(
        dispatch=number,
        verdict=Verdict.FAILED,
        reason=reason,
        exit_code=1,
        message=message,
        job=f"demo-abc-d{number}",
        node="node-1",
        started_at=moment(T0 + number * 10),
        ended_at=moment(T0 + number * 10 + 1.5),
    )


def letter_of(*history: Attempt, redrives: dict[int, str] | None = None) -> Letter:
    last = history[-1]
    assert last.reason is not None
    return Letter(
        id="../x",
        key="abc",
        position=7,
        payload=msgspec.Raw(b'{"n":5}'),
        cause=Cause.ATTEMPTS_EXHAUSTED,
        reason=last.reason,
        exit_code=last.exit_code,
        message=last.message,
        signature_id="5f1c",
        signature="boom",
        first_attempt_at=history[0].started_at or history[0].ended_at,
        last_attempt_at=last.ended_at,
        attempts=last.dispatch,
        node=last.node,
        history=history,
        redrives=redrives or {},
    )


def story(dispatches: int) -> list[Attempt]:
    return [failed(number) for number in range(1, dispatches + 1)]


times = strategies.moments.map(moment)
attempts = st.builds(
    Attempt,
    dispatch=st.integers(1, 1100),
    verdict=st.sampled_from(Verdict),
    reason=st.none() | st.sampled_from(Reason),
    exit_code=st.none() | st.integers(0, 255),
    message=st.text() | st.sampled_from(strategies.HOSTILE_TEXTS),
    log_tail=st.text(),
    redrive=st.text(max_size=5),
    redrive_number=st.integers(0, 5),
    started_at=st.none() | times,
    ended_at=times,
)
letters = st.builds(
    Letter,
    id=strategies.item_ids | st.sampled_from(strategies.HOSTILE_TEXTS),
    key=st.just("abc"),
    position=st.integers(0, 100_000),
    payload=strategies.json_values.map(lambda value: msgspec.Raw(canonical(value))),
    cause=st.sampled_from(Cause),
    reason=st.sampled_from(Reason),
    exit_code=st.none() | st.integers(0, 255),
    message=st.text() | st.sampled_from(strategies.HOSTILE_TEXTS),
    first_attempt_at=times,
    last_attempt_at=times,
    attempts=st.integers(0, 5),
    interruptions=st.integers(0, 5),
    history=st.lists(attempts, max_size=4, unique_by=lambda one: one.dispatch).map(
        lambda some: tuple(sorted(some, key=lambda one: one.dispatch))
    ),
    redrives=st.sets(st.integers(1, 5)).map(lambda numbers: {one: f"redrive-{one % 3}" for one in sorted(numbers)}),
)


# --------------------------------------------------------------------------------------------------------------- bodies


@given(letters)
def test_a_body_is_read_back_as_it_was_written(letter: Letter) -> None:
    assert decode_letter(encode_letter(letter), WHERE) == letter


def test_a_body_is_plain_json_that_a_person_can_read() -> None:
    assert json.loads(encode_letter(letter_of(failed(1), redrives={1: "mend"}))) == {
        "schemaVersion": 1,
        "id": "../x",
        "key": "abc",
        "position": 7,
        "payload": {"n": 5},
        "cause": "AttemptsExhausted",
        "reason": "Error",
        "exitCode": 1,
        "message": "boom",
        "signatureId": "5f1c",
        "signature": "boom",
        "firstAttemptAt": "2026-01-01T00:00:10Z",
        "lastAttemptAt": "2026-01-01T00:00:11.500000Z",
        "attempts": 1,
        "node": "node-1",
        "history": [
            {
                "dispatch": 1,
                "verdict": "Failed",
                "reason": "Error",
                "exitCode": 1,
                "message": "boom",
                "job": "demo-abc-d1",
                "node": "node-1",
                "startedAt": "2026-01-01T00:00:10Z",
                "endedAt": "2026-01-01T00:00:11.500000Z",
            }
        ],
        "redrives": {"1": "mend"},
    }


def test_a_payload_stays_as_it_was_planned_to_the_last_digit() -> None:
    payload = b'{"big":12345678901234567890123,"ratio":1.50}'
    letter = msgspec.structs.replace(letter_of(failed(1)), payload=msgspec.Raw(payload))

    assert bytes(decode_letter(encode_letter(letter), WHERE).payload) == payload


@given(strategies.moments)
def test_times_are_kept_to_the_millisecond(seconds: float) -> None:
    time = moment(seconds)

    assert time.tzinfo is UTC
    assert time.microsecond % 1000 == 0
    assert abs(time.timestamp() - seconds) <= 0.000501


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"schemaVersion":1,', b""),
        (b'"schemaVersion":1', b'"schemaVersion":"1"'),
        (b'"schemaVersion":1', b'"schemaVersion":0'),
        (b'"position":7', b'"position":"7"'),
        (b'"attempts":1,', b""),
        (b'"cause":"AttemptsExhausted"', b'"cause":"Exhausted"'),
        (b'"position":7', b'"position":7,"state":"Open"'),
        (b"11.500000Z", b"11.500000"),
        (b'{"n":5}', b'{"n":5'),
        (b'"id":"../x"', b'"id":"\xff"'),
    ],
)
def test_a_body_in_which_something_is_wrong_is_refused_by_name(before: bytes, after: bytes) -> None:
    data = encode_letter(letter_of(failed(1)))
    assert before in data

    with pytest.raises(LetterError) as refused:
        decode_letter(data.replace(before, after, 1), WHERE)

    assert str(refused.value).startswith(f"{WHERE} is damaged: ")
    assert "Restore the object, or delete it" in str(refused.value)


def test_a_body_that_was_cut_anywhere_is_refused() -> None:
    data = encode_letter(letter_of(failed(1))).rstrip()

    for length in range(len(data)):
        with pytest.raises(LetterError, match="is damaged"):
            decode_letter(data[:length], WHERE)


@given(st.binary() | strategies.json_values.map(canonical))
def test_whatever_is_no_body_is_refused(data: bytes) -> None:
    with pytest.raises(LetterError, match="is damaged"):
        decode_letter(data, WHERE)


def test_a_body_of_a_newer_operator_is_called_that_whatever_else_is_in_it() -> None:
    with pytest.raises(LetterError, match=r"abc.json has schema version 2, this operator knows 1: run the newer"):
        decode_letter(b'{"schemaVersion":2,"novel":true}', WHERE)


# ------------------------------------------------------------------------------------------------------------- attempts


@given(strategies.outcomes)
def test_an_attempt_tells_what_the_outcome_does(outcome: Outcome) -> None:
    attempt = Attempt.of(outcome, redrive="mend", redrive_number=3)

    for name in ("verdict", "reason", "exit_code", "message", "job", "pod", "node", "revision"):
        assert getattr(attempt, name) == getattr(outcome, name)
    assert (attempt.dispatch, attempt.ended_at) == (outcome.dispatch.number, moment(outcome.ended_at))
    assert (attempt.redrive, attempt.redrive_number) == ("mend", 3)


def test_an_agent_that_never_started_has_no_start() -> None:
    outcome = Outcome(Stage.MAP, Dispatch("abc", 1), "u", Verdict.FAILED, started_at=T0, ended_at=T0 + 2.25)
    never = Outcome(Stage.MAP, Dispatch("abc", 1), "u", Verdict.INTERRUPTED, ended_at=T0)

    assert Attempt.of(outcome).started_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert Attempt.of(never).started_at is None


# -------------------------------------------------------------------------------------------------------------- merging


def test_the_first_letter_is_written_as_it_is() -> None:
    letter = letter_of(*story(3))

    assert merged(None, letter) == letter


def test_a_second_failure_makes_the_history_longer_and_keeps_the_first_attempt() -> None:
    first = letter_of(failed(1, message="first"), failed(2))
    again = letter_of(failed(3), failed(4, Reason.OOM_KILLED, "the last"), redrives={1: "mend"})

    both = merged(first, again)

    assert [one.dispatch for one in both.history] == [1, 2, 3, 4]
    assert both.history[0].message == "first"
    assert both.first_attempt_at == first.first_attempt_at
    assert (both.last_attempt_at, both.attempts) == (again.last_attempt_at, 4)
    assert (both.reason, both.message) == (Reason.OOM_KILLED, "the last")
    assert both.redrives == {1: "mend"}
    assert both.omitted == 0


def test_a_write_that_comes_late_takes_nothing_back() -> None:
    old, new = letter_of(*story(2)), letter_of(*story(4), redrives={1: "mend"})

    assert merged(new, old) == new


def test_redrives_are_told_once_and_in_their_order() -> None:
    before, now = letter_of(*story(2), redrives={1: "a", 2: "b"}), letter_of(*story(3), redrives={2: "b", 3: "c"})

    assert list(merged(before, now).redrives.items()) == [(1, "a"), (2, "b"), (3, "c")]
    assert list(merged(now, before).redrives.items()) == [(1, "a"), (2, "b"), (3, "c")]


def test_redrives_of_the_same_name_are_two() -> None:
    before, now = letter_of(*story(2), redrives={1: "nightly"}), letter_of(*story(3), redrives={2: "nightly"})

    assert merged(before, now).redrives == {1: "nightly", 2: "nightly"}


@given(letters, letters)
def test_merging_twice_is_merging_once(before: Letter, now: Letter) -> None:
    once = merged(before, now)

    assert merged(once, now) == once
    assert merged(None, once) == once


@given(letters, letters)
def test_no_dispatch_is_lost_and_counts_never_go_down(before: Letter, now: Letter) -> None:
    both = merged(before, now)

    known = {one.dispatch for one in (*before.history, *now.history)}
    assert [one.dispatch for one in both.history] == sorted(known)
    assert both.attempts + both.interruptions == max(
        before.attempts + before.interruptions, now.attempts + now.interruptions
    )
    assert both.first_attempt_at == min(before.first_attempt_at, now.first_attempt_at)
    assert both.redrives == before.redrives | now.redrives


numbers = st.sets(st.integers(1, 12), min_size=1).map(sorted)


@given(numbers, numbers, numbers)
def test_the_order_of_writes_does_not_matter(one: list[int], two: list[int], three: list[int]) -> None:
    a, b, c = (letter_of(*(failed(number) for number in some)) for some in (one, two, three))

    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))


def test_a_long_history_keeps_the_first_dispatch_and_the_newest_and_says_how_many_are_left_out() -> None:
    long = merged(letter_of(*story(HISTORY + 50)), letter_of(*story(HISTORY + 60)))

    assert len(long.history) == HISTORY
    assert [one.dispatch for one in long.history[:2]] == [1, 62]
    assert long.history[-1].dispatch == HISTORY + 60
    assert long.omitted == 60
    assert merged(long, letter_of(*story(HISTORY + 60))) == long


def test_a_history_that_just_fits_is_whole() -> None:
    assert merged(None, letter_of(*story(HISTORY))).omitted == 0
    assert len(merged(None, letter_of(*story(HISTORY))).history) == HISTORY


def test_what_the_second_account_of_a_dispatch_leaves_open_stays_as_it_was() -> None:
    fuller = msgspec.structs.replace(failed(1), log_tail="tail", pod="pod-1")
    meagre = msgspec.structs.replace(failed(1), message="", node="", exit_code=None, started_at=None, revision="5f1c")

    (attempt,) = merged(letter_of(fuller), letter_of(meagre)).history

    assert attempt == msgspec.structs.replace(fuller, revision="5f1c")


def test_two_judgements_of_one_dispatch_are_not_mixed() -> None:
    seen = msgspec.structs.replace(failed(1), log_tail="tail")
    gone = Attempt(dispatch=1, verdict=Verdict.INTERRUPTED, reason=Reason.DELETED, ended_at=moment(T0 + 60))

    (attempt,) = merged(letter_of(seen), letter_of(gone)).history

    assert (attempt.verdict, attempt.reason, attempt.exit_code, attempt.message) == (
        Verdict.INTERRUPTED,
        Reason.DELETED,
        None,
        "",
    )
    assert (attempt.log_tail, attempt.node, attempt.started_at) == ("tail", "node-1", seen.started_at)


def test_what_other_jobs_ran_is_not_of_this_course() -> None:
    left = letter_of(*(msgspec.structs.replace(one, job=f"theirs-d{one.dispatch}") for one in story(3)))
    now = letter_of(msgspec.structs.replace(failed(1), job="mine-d1"))

    assert merged(left, now) == now


def test_letters_of_two_items_are_never_merged() -> None:
    other = msgspec.structs.replace(letter_of(failed(1)), key="xyz")

    with pytest.raises(ValueError, match="two items, abc and xyz"):
        merged(letter_of(failed(1)), other)
