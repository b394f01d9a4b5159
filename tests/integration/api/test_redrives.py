"""Which DeadLetterQueues and Redrives the API server takes, and what of them may change."""

from datetime import UTC, datetime
from typing import Any

import pytest
from kubernetes import client

from mapreduce_operator.api import (
    Cause,
    DeadLetterQueueSpec,
    DeadLetterQueueStatus,
    LetterCounts,
    LetterGroup,
    LetterState,
    LetterSummary,
    Reason,
    RedriveSpec,
    RedriveStatus,
    SkippedLetter,
)
from tests.integration.api.conftest import Objects, refusal

pytestmark = pytest.mark.cluster

QUEUE: dict[str, Any] = {"jobRef": {"name": "words", "uid": "5d1f"}}
REDRIVE: dict[str, Any] = {"queue": "words", "selection": {"all": True}}
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WORDY = "ö" * 9000
ONE_OF = "spec.selection: Required value: exactly one of ids, filter and all must be given"

INVALID_QUEUES: list[tuple[dict[str, Any], str]] = [
    ({"jobRef": None}, "spec.jobRef: Required value"),
    ({"jobRef": {"name": "words"}}, "spec.jobRef.uid: Required value"),
    ({"capacity": 0}, "spec.capacity"),
    ({"capacity": -5}, "spec.capacity"),
    ({"onFull": "Drop"}, 'spec.onFull: Unsupported value: "Drop"'),
    ({"onFull": "Archive"}, 'spec.onFull: Invalid value: "object": onFull needs a capacity'),
    ({"purgeOpen": True}, 'spec.purgeOpen: Invalid value: "object": purgeOpen needs retentionSeconds'),
    ({"retentionSeconds": 0}, "spec.retentionSeconds"),
    ({"eligibility": [{"eligible": True}]}, "spec.eligibility[0].filter: Required value"),
    ({"eligibility": [{"filter": "true"}]}, "spec.eligibility[0].eligible: Required value"),
    ({"eligibility": [{"filter": "true", "eligible": True}] * 21}, "spec.eligibility"),
    ({"maxLetters": 1}, 'unknown field "spec.maxLetters"'),
]

INVALID_REDRIVES: list[tuple[dict[str, Any], str]] = [
    ({"queue": None}, "spec.queue: Required value"),
    ({"queue": ""}, "spec.queue"),
    ({"selection": None}, "spec.selection: Required value"),
    ({"selection": {}}, ONE_OF),
    ({"selection": {"all": True, "ids": ["a"]}}, ONE_OF),
    ({"selection": {"all": True, "filter": "true"}}, ONE_OF),
    ({"selection": {"ids": ["a"], "filter": "true"}}, ONE_OF),
    ({"selection": {"ids": ["a"], "filter": "true", "all": True}}, ONE_OF),
    ({"selection": {"all": False}}, "spec.selection.all: Unsupported value: false"),
    ({"selection": {"ids": []}}, "spec.selection.ids"),
    ({"selection": {"ids": [""]}}, "spec.selection.ids[0]"),
    ({"selection": {"ids": ["x" * 4097]}}, "spec.selection.ids[0]: Too long"),
    ({"selection": {"ids": ["a"] * 10_001}}, "spec.selection.ids: Too many"),
    ({"selection": {"filter": ""}}, "spec.selection.filter"),
    ({"selection": {"id": "a"}}, 'unknown field "spec.selection.id"'),
    ({"attempts": 0}, "spec.attempts"),
    ({"attempts": 101}, "spec.attempts"),
    ({"parallelism": 0}, "spec.parallelism"),
    ({"delay": {"strategy": "Linear"}}, 'spec.delay.strategy: Unsupported value: "Linear"'),
    ({"delay": {"seconds": -1}}, "spec.delay.seconds"),
    ({"delay": {"strategy": "Exponential", "maxSeconds": 5}}, "maxSeconds must not be less than seconds"),
    ({"delay": {"strategy": "Exponential", "seconds": 3601}}, "spec.delay.maxSeconds"),
    ({"payloadPatch": "text"}, "spec.payloadPatch"),
    ({"payloadPatch": [{"op": "remove", "path": "/a"}]}, "spec.payloadPatch"),
    ({"templatePatch": []}, "spec.templatePatch"),
]


@pytest.mark.parametrize(("spec", "expected"), INVALID_QUEUES)
def test_an_invalid_queue_is_refused_with_the_name_of_the_field(
    queues: Objects, spec: dict[str, Any], expected: str
) -> None:
    with pytest.raises(client.ApiException) as refused:
        queues.create("invalid", QUEUE | spec, dry_run=True)

    assert expected in refusal(refused.value)


@pytest.mark.parametrize(("spec", "expected"), INVALID_REDRIVES)
def test_an_invalid_redrive_is_refused_with_the_name_of_the_field(
    redrives: Objects, spec: dict[str, Any], expected: str
) -> None:
    with pytest.raises(client.ApiException) as refused:
        redrives.create("invalid", REDRIVE | spec, dry_run=True)

    assert expected in refusal(refused.value)


@pytest.mark.parametrize(
    "selection",
    [
        {"all": True},
        {"filter": 'letter.reason == "OOMKilled" && item.size < 1000'},
        {"ids": ["../x", "..", "/etc/passwd", "a\nb", " ", "\0"]},
        {"ids": ["😀" * 1024]},
        {"ids": ["ä" * 4096]},
        {"ids": [f"{number}".rjust(100, "x") for number in range(10_000)]},
    ],
    ids=["all", "filter", "odd", "4 KiB of unicode", "8 KiB of unicode", "10,000"],
)
def test_a_selection_is_stored_as_it_was_written(redrives: Objects, selection: dict[str, Any]) -> None:
    stored = redrives.create("selection", REDRIVE | {"selection": selection}, dry_run=True)["spec"]

    assert stored["selection"] == selection
    assert RedriveSpec.model_validate(stored) == RedriveSpec.model_validate(REDRIVE | {"selection": selection})


def test_a_patch_is_stored_as_it_was_written_with_its_nulls(redrives: Objects) -> None:
    payload: dict[str, Any] = {"hint": None, "deep": {"er": None, "list": [None, 1.5, {"a": None}]}, "": []}
    template = {"spec": {"nodeSelector": None, "containers": [{"name": "agent", "image": "debian:13", "args": None}]}}

    stored = redrives.create("patched", REDRIVE | {"payloadPatch": payload, "templatePatch": template})["spec"]

    assert stored["payloadPatch"] == payload
    assert stored["templatePatch"] == template


def test_the_api_server_fills_in_the_defaults_of_the_models(queues: Objects, redrives: Objects) -> None:
    queue = queues.create("defaults", QUEUE, dry_run=True)["spec"]
    redrive = redrives.create("defaults", REDRIVE, dry_run=True)["spec"]

    assert queue == QUEUE | {"onFull": "Pause", "purgeOpen": False}
    assert redrive == REDRIVE | {
        "force": False,
        "delay": {"strategy": "Immediate", "seconds": 10, "maxSeconds": 3600},
        "rerunReduce": False,
    }
    assert DeadLetterQueueSpec.model_validate(queue) == DeadLetterQueueSpec.model_validate(QUEUE)
    assert RedriveSpec.model_validate(redrive) == RedriveSpec.model_validate(REDRIVE)


@pytest.mark.parametrize("job", [{"name": "other"}, {"uid": "7777"}, {"name": "other", "uid": "7777"}])
def test_a_queue_stays_that_of_its_job(queues: Objects, request: pytest.FixtureRequest, job: dict[str, str]) -> None:
    name = f"of-a-job-{request.node.callspec.indices['job']}"
    queues.create(name, QUEUE)

    with pytest.raises(client.ApiException) as refused:
        queues.patch(name, {"jobRef": job})

    assert "spec.jobRef: Forbidden: spec.jobRef cannot be changed" in refusal(refused.value)


def test_everything_else_of_a_queue_can_be_changed(queues: Objects) -> None:
    queues.create("open", QUEUE)

    for change in (
        {"capacity": 3, "onFull": "Archive"},
        {"capacity": None, "onFull": "Pause"},
        {"retentionSeconds": 60, "purgeOpen": True},
        {"eligibility": [{"filter": 'letter.reason == "OOMKilled"', "eligible": False, "note": "needs a larger node"}]},
        {"jobRef": QUEUE["jobRef"]},
    ):
        queues.patch("open", change)

    assert queues.get("open")["metadata"]["generation"] == 5


@pytest.mark.parametrize(
    "change",
    [
        {"queue": "other"},
        {"selection": {"all": None, "ids": ["a"]}},
        {"force": True},
        {"attempts": 3},
        {"delay": {"seconds": 0}},
        {"payloadPatch": {"a": 2}},
        {"payloadPatch": {"deep": {"b": 2}}},
        {"payloadPatch": None},
        {"rerunReduce": True},
    ],
)
def test_a_redrive_cannot_be_changed(redrives: Objects, request: pytest.FixtureRequest, change: dict[str, Any]) -> None:
    name = f"fixed-{request.node.callspec.indices['change']}"
    redrives.create(name, REDRIVE | {"payloadPatch": {"a": 1, "deep": {"b": 1}}})

    with pytest.raises(client.ApiException) as refused:
        redrives.patch(name, change)

    assert "spec: Forbidden: spec cannot be changed: a Redrive runs once" in refusal(refused.value)


def test_a_redrive_applied_again_as_it_was_is_accepted(redrives: Objects) -> None:
    large = REDRIVE | {"selection": {"ids": ["x" * 100] * 10_000}, "payloadPatch": {"a": None}}
    redrives.create("again", large)
    redrives.patch_status("again", {"phase": "Running", "selected": 10})

    found = redrives.get("again")
    for defaulted in ("force", "delay", "rerunReduce"):
        del found["spec"][defaulted]

    assert redrives.replace("again", found)["metadata"]["generation"] == 1


def test_the_largest_statuses_are_accepted_and_come_back_as_they_were(queues: Objects, redrives: Objects) -> None:
    group = LetterGroup(
        signature=WORDY,
        signature_id="f" * 16,
        reason=Reason.RESULT_INVALID,
        count=100_000,
        first_time=NOON,
        last_time=NOON,
        samples=(WORDY,) * 3,
    )
    letter = LetterSummary(
        item_id=WORDY,
        state=LetterState.REPROCESSING,
        cause=Cause.NOT_RETRYABLE,
        reason=Reason.ERROR,
        signature="f" * 16,
        attempts=100,
        last_time=NOON,
        message=WORDY,
        body="k" * 1024,
    )
    of_queue = DeadLetterQueueStatus(
        observed_generation=1,
        letters=LetterCounts(total=100_000, open=100_000),
        reasons=dict.fromkeys(Reason, 1),
        causes=dict.fromkeys(Cause, 1),
        nodes={f"node-{number}": 1 for number in range(20)},
        groups=(group,) * 10,
        oldest_time=NOON,
        newest_time=NOON,
        newest=(letter,) * 20,
        storage="s" * 1024,
    )
    of_redrive = RedriveStatus(
        phase="Complete",
        selected=100_000,
        skipped_letters=(SkippedLetter(item_id=WORDY, reason=WORDY),) * 50,
        start_time=NOON,
        completion_time=NOON,
    )
    queues.create("largest", QUEUE)
    redrives.create("largest", REDRIVE)

    for objects, status in ((queues, of_queue), (redrives, of_redrive)):
        stored = objects.replace_status("largest", status.to_kubernetes())["status"]
        assert stored == status.to_kubernetes()
        assert type(status).model_validate(stored) == status
