"""What a fork means in Python, and which objects are forks that are not filled in yet."""

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from mapreduce_operator.api import ForkEdits, Input, MapReduceJob, MapReduceJobSpec, lacks_map

MAP: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "agent", "image": "debian"}]}}}
FORK: dict[str, Any] = {"job": {"name": "words"}}


def body(**spec: object) -> dict[str, Any]:
    return {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": "words-2", "namespace": "default", "uid": "7c2a", "generation": 1},
        "spec": spec,
    }


def edited(**edits: object) -> ForkEdits:
    fork = MapReduceJobSpec.model_validate({"forkFrom": FORK | {"edits": edits}, "map": MAP}).fork_from
    assert fork is not None
    return fork.edits


def test_a_fork_that_says_little_starts_from_the_newest_checkpoint_and_changes_nothing() -> None:
    spec = MapReduceJobSpec.model_validate({"forkFrom": FORK, "map": MAP})

    assert spec.fork_from is not None
    assert (spec.fork_from.job.name, spec.fork_from.job.uid, spec.fork_from.checkpoint) == ("words", None, None)
    assert (spec.fork_from.edits.items, spec.fork_from.edits.params, spec.fork_from.edits.template) == ((), None, None)
    assert spec.input == Input()
    assert (spec.input.items, spec.input.config_map_ref) == (None, None)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"forkFrom": FORK}, True),
        ({"forkFrom": FORK, "input": {"onDuplicate": "Fail"}, "reduce": MAP}, True),
        ({"forkFrom": FORK, "map": MAP}, False),
        ({"input": {"items": [1]}, "map": MAP}, False),
    ],
)
def test_only_a_fork_without_a_map_lacks_it(spec: dict[str, Any], expected: bool) -> None:
    assert lacks_map(body(**spec)) is expected


def test_an_object_whose_map_is_lacking_is_a_job_once_it_is_filled_in() -> None:
    fork = body(forkFrom=FORK)
    with pytest.raises(ValidationError, match=r"spec\.map"):
        MapReduceJob.model_validate(fork)

    filled_in = copy.deepcopy(fork)
    filled_in["spec"]["map"] = MAP

    assert MapReduceJob.model_validate(filled_in).spec.fork_from is not None


def test_edits_keep_their_order_and_their_nulls() -> None:
    edits = edited(
        items=[
            {"id": "a", "patch": {"hint": None, "deep": {"er": None}}},
            {"id": "b", "remove": True},
            {"id": "c", "reset": True},
            {"add": {"file": None}},
            {"add": 0},
        ],
        params={"model": None},
        template={"spec": {"nodeSelector": None}},
    )

    assert [edit.id for edit in edits.items] == ["a", "b", "c", None, None]
    patched, removed, reset, added, zero = edits.items
    assert patched.patch == {"hint": None, "deep": {"er": None}}
    assert (removed.remove, removed.reset) == (True, None)
    assert (reset.remove, reset.reset) == (None, True)
    assert (added.add, zero.add) == ({"file": None}, 0)
    assert edits.params == {"model": None}
    assert edits.template == {"spec": {"nodeSelector": None}}


@pytest.mark.parametrize(
    "fork",
    [
        {},
        {"job": {}},
        {"job": {"name": "Words"}},
        {"job": {"name": "w" * 64}},
        {"job": {"name": "words", "uid": "../x"}},
        FORK | {"checkpoint": -1},
        FORK | {"edits": {"items": [{"id": ""}]}},
        FORK | {"edits": {"items": [{"id": "a", "patch": [1]}]}},
        FORK | {"edits": {"items": [{"id": "a", "remove": False}]}},
        FORK | {"edits": {"items": [{"add": 1}] * 1001}},
        FORK | {"edits": {"params": ["a"]}},
        FORK | {"edits": {"template": "a"}},
    ],
)
def test_what_the_api_server_would_refuse_is_refused(fork: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"forkFrom"):
        MapReduceJobSpec.model_validate({"forkFrom": fork, "map": MAP})
