"""What a Redrive and a DeadLetterQueue mean in Python: defaults, limits, and what must come through unchanged."""

from typing import Any

import pytest
from pydantic import ValidationError

from mapreduce_operator.api import DeadLetterQueue, DelayStrategy, OnFull, Redrive

QUEUE: dict[str, Any] = {
    "apiVersion": "mapreduce.dev/v1alpha1",
    "kind": "DeadLetterQueue",
    "metadata": {"name": "words", "namespace": "default", "uid": "7c2a", "generation": 1},
    "spec": {"jobRef": {"name": "words", "uid": "5d1f"}},
}


def redrive_with(**spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "Redrive",
        "metadata": {"name": "again", "namespace": "default", "uid": "9e01", "generation": 1},
        "spec": {"queue": "words", "selection": {"all": True}} | spec,
    }


def test_a_redrive_that_says_little_grants_what_the_job_grants_at_once() -> None:
    spec = Redrive.model_validate(redrive_with()).spec

    assert (spec.attempts, spec.parallelism, spec.force, spec.rerun_reduce) == (None, None, False, False)
    assert spec.delay.strategy is DelayStrategy.IMMEDIATE
    assert (spec.payload_patch, spec.template_patch) == (None, None)


def test_a_queue_that_says_little_keeps_all_letters_and_pauses_nothing() -> None:
    spec = DeadLetterQueue.model_validate(QUEUE).spec

    assert (spec.capacity, spec.retention_seconds, spec.purge_open) == (None, None, False)
    assert spec.on_full is OnFull.PAUSE
    assert spec.eligibility == ()


def test_a_null_in_a_patch_is_kept_since_it_removes_a_field() -> None:
    patch = {"hint": None, "deep": {"er": None, "list": [None]}}

    redrive = Redrive.model_validate(redrive_with(payloadPatch=patch))

    assert redrive.spec.payload_patch == patch
    assert redrive.to_kubernetes()["spec"]["payloadPatch"] == patch


@pytest.mark.parametrize("item_id", ["../x", "😀" * 1024, "ä" * 4096, " ", "a\nb"])
def test_any_id_can_be_asked_for(item_id: str) -> None:
    selection = Redrive.model_validate(redrive_with(selection={"ids": [item_id]})).spec.selection

    assert selection.ids == (item_id,)


@pytest.mark.parametrize(
    "spec",
    [
        {"queue": ""},
        {"selection": {"ids": []}},
        {"selection": {"ids": [""]}},
        {"selection": {"all": False}},
        {"selection": {"filter": ""}},
        {"attempts": 0},
        {"parallelism": -1},
        {"delay": {"strategy": "Linear"}},
        {"payloadPatch": [1]},
    ],
)
def test_what_the_api_server_would_refuse_is_refused(spec: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Redrive.model_validate(redrive_with(**spec))


def test_fields_of_a_newer_operator_are_passed_over() -> None:
    queue = QUEUE | {"spec": QUEUE["spec"] | {"novelty": 1}, "status": {"letters": {"open": 2, "novelty": 3}}}

    read = DeadLetterQueue.model_validate(queue)

    assert read.status is not None
    assert read.status.letters is not None
    assert read.status.letters.open == 2
