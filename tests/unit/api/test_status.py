"""What the operator writes into the status."""

import json
from datetime import UTC, datetime

import pytest
from pydantic import JsonValue, ValidationError

from mapreduce_operator.api import (
    POSITIONS_MAX_LENGTH,
    BreakerState,
    BreakerStatus,
    Cause,
    CheckpointStatus,
    Condition,
    ConditionStatus,
    DeadLetterQueueStatus,
    DeadLetterStatus,
    FailureSummary,
    ItemCounts,
    ItemState,
    LetterCounts,
    LetterGroup,
    LetterState,
    LetterSummary,
    LineageStatus,
    MapReduceJobStatus,
    Phase,
    PlanStatus,
    Reason,
    RedriveStatus,
    ReduceStatus,
    RestartPhase,
    RestartStatus,
    RestoreStatus,
    SkippedLetter,
    StagePositions,
    StatePositions,
)
from mapreduce_operator.api.model import Model

NOON = datetime(2026, 11, 21, 12, 0, 0, 123_456, tzinfo=UTC)


def test_a_status_is_written_in_the_names_of_kubernetes_and_without_what_is_absent() -> None:
    status = MapReduceJobStatus(
        observed_generation=3,
        phase=Phase.MAP,
        start_time=NOON,
        items=ItemCounts(total=3, running=1, retry_wait=2),
        positions=StagePositions(map=StatePositions(running="0", retry_wait="1-2")),
        reduce=ReduceStatus(state=ItemState.PENDING),
    )

    assert status.to_kubernetes() == {
        "observedGeneration": 3,
        "phase": "Map",
        "startTime": "2026-11-21T12:00:00Z",
        "items": {
            "total": 3,
            "pending": 0,
            "running": 1,
            "retryWait": 2,
            "succeeded": 0,
            "deadLettered": 0,
            "skipped": 0,
        },
        "positions": {
            "map": {
                "pending": "",
                "running": "0",
                "retryWait": "1-2",
                "succeeded": "",
                "deadLettered": "",
                "skipped": "",
            }
        },
        "failures": [],
        "failuresByReason": {},
        "reduce": {"state": "Pending", "attempts": 0, "message": ""},
        "conditions": [],
    }


def test_a_status_read_from_the_api_server_is_the_one_that_was_written() -> None:
    status = MapReduceJobStatus(
        phase=Phase.SUCCEEDED,
        completion_time=NOON,
        plan=PlanStatus(items=1, sha256="0" * 64, prefix="default/words/5d1f/"),
        checkpoint=CheckpointStatus(sequence=4, time=NOON, reason="PhaseChanged"),
        conditions=(
            Condition(
                type="Ready",
                status=ConditionStatus.TRUE,
                observed_generation=1,
                last_transition_time=NOON,
                reason="Completed",
                message="all 1 items succeeded",
            ),
        ),
    )

    assert MapReduceJobStatus.model_validate_json(json.dumps(status.to_kubernetes())) == status


def test_nulls_inside_a_result_are_kept() -> None:
    result: JsonValue = {"words": None, "list": [None, {"a": None}]}

    assert MapReduceJobStatus(result=result).to_kubernetes()["result"] == result


def test_times_may_be_given_as_seconds_since_1970() -> None:
    status = MapReduceJobStatus.model_validate({"startTime": 1_795_262_400.9})

    assert status.start_time == datetime.fromtimestamp(1_795_262_400, tz=UTC)


def test_times_without_a_time_zone_are_refused() -> None:
    with pytest.raises(ValidationError, match="timezone"):
        MapReduceJobStatus(start_time=datetime(2026, 11, 21))  # noqa: DTZ001


def test_wordy_texts_are_cut_and_say_so() -> None:
    failure = FailureSummary(reason="r" * 129, count=1, sample_item_id="ü" * 300, message="m" * 5000)
    condition = Condition(
        type="Ready", status=ConditionStatus.FALSE, last_transition_time=NOON, reason="Wordy", message="w" * 5000
    )

    assert failure.reason == "r" * 127 + "…"
    assert failure.sample_item_id == "ü" * 252 + "…"
    assert failure.message == "m" * 255 + "…"
    assert condition.message == "w" * 1023 + "…"


def test_texts_that_just_fit_are_left_alone() -> None:
    assert FailureSummary(reason="Error", count=1, sample_item_id="a", message="m" * 256).message == "m" * 256


@pytest.mark.parametrize(
    "beyond",
    [
        {"failures": [{"reason": "Error", "count": 1, "sampleItemId": "a"}] * 11},
        {"positions": {"map": {"pending": "1" * 6145}}},
        {"items": {"total": -1}},
        {"phase": "Mapping"},
        {"reason": "two words"},
    ],
)
def test_what_the_api_server_would_refuse_is_refused(beyond: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MapReduceJobStatus.model_validate(beyond)


WORDY = "x" * 9000
CONDITIONS = tuple(
    Condition(
        type=f"Type{number}",
        status=ConditionStatus.UNKNOWN,
        observed_generation=10**9,
        last_transition_time=NOON,
        reason="R" * 64,
        message=WORDY[:512],
    )
    for number in range(16)
)


def size(status: Model) -> int:
    return len(json.dumps(status.to_kubernetes()))


def test_the_largest_status_stays_below_64_kib() -> None:
    positions = WORDY[:POSITIONS_MAX_LENGTH]
    status = MapReduceJobStatus(
        positions=StagePositions(map=StatePositions(**dict.fromkeys(StatePositions.model_fields, positions))),
        failures=(FailureSummary(reason=WORDY, signature=WORDY, count=10**9, sample_item_id=WORDY, message=WORDY),)
        * 10,
        failures_by_reason={f"R{number:02}".ljust(32, "x"): 10**9 for number in range(32)},
        breaker=BreakerStatus(state=BreakerState.HALF_OPEN, failures_in_a_row=10**9, open_until=NOON),
        dead_letters=DeadLetterStatus(queue=WORDY[:253], open=100_000),
        result=WORDY[:4094],
        checkpoint=CheckpointStatus(
            sequence=10**9,
            time=NOON,
            reason="PhaseChange",
            token="t" * 63,
            bytes=10**9,
            duration_seconds=12.345678,
            kept="1," * 1024,
            stored_bytes=10**12,
        ),
        restore=RestoreStatus(checkpoint=10**9, token="t" * 63, time=NOON, sequence=10**9),
        restart=RestartStatus(phase=RestartPhase.REDUCE, token="t" * 63, time=NOON),
        lineage=LineageStatus(job="j" * 63, uid="u" * 64, checkpoint=10**9, depth=1000),
        conditions=CONDITIONS,
    )

    assert size(status) < 64 * 1024


def test_a_status_of_an_older_operator_is_read() -> None:
    older = {
        "checkpoint": {"sequence": 7, "time": "2026-11-21T12:00:00Z", "reason": "Items"},
        "positions": {"map": {"pending": "1" * 6144}},
    }

    checkpoint = MapReduceJobStatus.model_validate(older).checkpoint

    assert checkpoint is not None
    assert (checkpoint.sequence, checkpoint.token, checkpoint.kept) == (7, "", "")
    assert (checkpoint.bytes, checkpoint.duration_seconds, checkpoint.stored_bytes) == (0, 0, 0)


def test_the_largest_status_of_a_queue_stays_below_64_kib() -> None:
    group = LetterGroup(
        signature=WORDY,
        signature_id="f" * 16,
        reason=Reason.CONFIGURATION_ERROR,
        count=100_000,
        first_time=NOON,
        last_time=NOON,
        samples=(WORDY,) * 3,
    )
    letter = LetterSummary(
        item_id=WORDY,
        state=LetterState.REPROCESSING,
        cause=Cause.TOO_MANY_INTERRUPTIONS,
        reason=Reason.CONFIGURATION_ERROR,
        signature="f" * 16,
        attempts=10**9,
        last_time=NOON,
        message=WORDY,
        body=WORDY[:1024],
    )
    status = DeadLetterQueueStatus(
        letters=LetterCounts(total=100_000, archived=100_000),
        reasons={f"R{number:02}".ljust(32, "x"): 100_000 for number in range(32)},
        causes={f"C{number:02}".ljust(32, "x"): 100_000 for number in range(8)},
        nodes={f"N{number:02}".ljust(253, "x"): 100_000 for number in range(20)},
        groups=(group,) * 10,
        oldest_time=NOON,
        newest_time=NOON,
        newest=(letter,) * 20,
        storage=WORDY[:1024],
        conditions=CONDITIONS[:12],
    )

    assert size(status) < 64 * 1024


def test_the_largest_status_of_a_redrive_stays_below_64_kib() -> None:
    status = RedriveStatus(
        phase="Running",
        selected=100_000,
        skipped=100_000,
        skipped_letters=(SkippedLetter(item_id=WORDY, reason=WORDY),) * 50,
        start_time=NOON,
        conditions=CONDITIONS[:12],
    )

    assert size(status) < 64 * 1024
