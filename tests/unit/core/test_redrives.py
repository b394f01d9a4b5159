"""Redrives of a run: what each took, what became of it, and what it makes of items and templates."""

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.plan import PlannedItem, canonical
from mapreduce_operator.core.redrives import Progress, Redrives, patch_problem, patched_item, patched_template
from tests.unit.core.scenes import NOW, spec

WORK: Final = spec(
    {
        "template": {
            "metadata": {"labels": {"team": "a"}},
            "spec": {
                "containers": [
                    {"name": "agent", "image": "agent:1", "env": [{"name": "A", "value": "1"}]},
                    {"name": "sidecar", "image": "sidecar:1"},
                ]
            },
        }
    }
).map


def accepted(number: int, selected: int = 1, **more: Any) -> Accepted:
    return Accepted(number, f"uid-{number}", f"again-{number}", NOW, selected, **more)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


# ------------------------------------------------------------------------------------------------------------- progress


def test_a_redrive_is_known_by_the_uid_of_its_object_and_by_its_number() -> None:
    redrives = Redrives()
    redrives.accept(accepted(1), durable=False)
    redrives.accept(accepted(2), durable=False)

    assert redrives.find("uid-2") is redrives[2]
    assert redrives.find("uid-3") is None
    assert [one.accepted.number for one in redrives.all()] == [1, 2]
    assert len(redrives) == 2


def test_a_redrive_runs_until_the_last_of_its_items_has_ended() -> None:
    redrives = Redrives()
    redrives.accept(accepted(1, selected=2), durable=False)
    redrives.accept(accepted(2, selected=1), durable=False)

    running = []
    for number in (1, 2, 1):
        running.append(list(redrives.running()))
        redrives.settle(number)

    assert running == [[1, 2], [1, 2], [1]]
    assert list(redrives.running()) == []


def test_what_became_of_items_is_counted_when_it_is_durable() -> None:
    redrives = Redrives()
    redrives.accept(accepted(1, selected=3), durable=True)
    remaining = []
    for at, succeeded in ((NOW + 3, True), (NOW + 1, False), (NOW + 2, True)):
        redrives.settle(1)
        remaining.append((redrives[1].remaining, redrives[1].ended_at))
        redrives.count(1, succeeded, at)

    assert remaining == [(3, 0.0), (2, 0.0), (1, 0.0)]
    assert redrives[1] == Progress(accepted(1, 3), True, 0, succeeded=2, failed=1, ended_at=NOW + 2)


@given(st.integers(1, 6), st.data())
def test_a_redrive_that_is_read_back_goes_on_where_it_was(selected: int, data: st.DataObject) -> None:
    ends = data.draw(st.lists(st.booleans(), max_size=selected))
    redrives, again = Redrives(), Redrives()
    redrives.accept(accepted(1, selected), durable=True)
    for number, succeeded in enumerate(ends):
        redrives.settle(1)
        redrives.count(1, succeeded, NOW + number)
    known = redrives[1]

    again.restore(*known.as_kept())

    assert again[1] == known
    assert list(again.running()) == list(redrives.running()) == ([1] if len(ends) < selected else [])
    assert again.find("uid-1") is again[1]


# -------------------------------------------------------------------------------------------------------------- patches


def test_without_a_patch_items_and_template_are_what_they_were() -> None:
    item = PlannedItem("a", b'{"n":1}')

    assert patched_item(accepted(1), item) is item
    assert patched_template(accepted(1), WORK) is WORK.template


@pytest.mark.parametrize(
    ("payload", "patch", "expected"),
    [
        ({"n": 1, "m": 2}, {"n": 5}, {"n": 5, "m": 2}),
        ({"n": 1, "m": 2}, {"m": None}, {"n": 1}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"list": [1, 2]}, {"list": [3]}, {"list": [3]}),
        ({"n": 1}, {}, {"n": 1}),
    ],
)
def test_a_payload_patch_is_merged_into_the_item_whose_id_stays(payload: Any, patch: Any, expected: Any) -> None:
    patched = patched_item(accepted(1, payload_patch=raw(patch)), PlannedItem("a", canonical(payload)))

    assert patched == PlannedItem("a", canonical(expected))


def test_an_empty_patch_is_a_patch_and_null_removes_what_is_not_there() -> None:
    assert patched_item(accepted(1, payload_patch=raw({"x": None})), PlannedItem("a", b'{"n":1}')).payload == b'{"n":1}'


def test_a_template_patch_changes_containers_by_their_names() -> None:
    patch = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}], "nodeSelector": {"disk": "ssd"}}}

    template = patched_template(accepted(1, template_patch=raw(patch)), WORK)

    assert template.as_written() == {
        "metadata": {"labels": {"team": "a"}},
        "spec": {
            "containers": [
                {"name": "agent", "image": "agent:2", "env": [{"name": "A", "value": "1"}]},
                {"name": "sidecar", "image": "sidecar:1"},
            ],
            "nodeSelector": {"disk": "ssd"},
        },
    }
    assert WORK.template.as_written()["spec"]["containers"][0]["image"] == "agent:1", "the job's own stays"


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": None},
        {"spec": {"containers": None}},
        {"spec": {"containers": []}},
        {"spec": {"containers": "agent"}},
        {"spec": {"restartPolicy": "Always"}},
        {"metadata": {"labels": {"team": 7}}},
    ],
)
def test_a_patch_that_makes_no_template_is_refused(patch: Any) -> None:
    with pytest.raises(ValidationError):
        patched_template(accepted(1, template_patch=raw(patch)), WORK)


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"image": "agent:2"}, "spec.templatePatch.image is no field of a pod template, which has metadata and spec"),
        (
            {"spec": {"containers": [{"name": "other"}]}},
            "spec.templatePatch makes no pod template of spec.map.template: spec.containers.2.image: Field required",
        ),
        (
            {"spec": {"restartPolicy": "OnFailure"}},
            (
                "spec.templatePatch makes no pod template of spec.map.template: "
                "spec.restartPolicy: Input should be 'Never'"
            ),
        ),
        (
            {"spec": {"activeDeadlineSeconds": 5}},
            "spec.templatePatch.spec.activeDeadlineSeconds must not be set: the job's timeoutSeconds holds",
        ),
        (
            {"spec": {"containers": [{"name": "agent", "terminationMessagePath": "/x"}]}},
            "spec.templatePatch sets terminationMessagePath of the first container: the result is read through it",
        ),
        (
            {"spec": {"containers": [{"name": "agent", "terminationMessagePolicy": "File"}]}},
            "spec.templatePatch sets terminationMessagePolicy of the first container: the result is read through it",
        ),
        (
            {"metadata": {"labels": {"mapreduce.dev/run": "other"}}},
            "spec.templatePatch.metadata.labels must not begin with mapreduce.dev/: these are the operator's",
        ),
        (
            {"metadata": {"annotations": {"mapreduce.dev/item": "other"}}},
            "spec.templatePatch.metadata.annotations must not begin with mapreduce.dev/: these are the operator's",
        ),
    ],
)
def test_a_patch_that_would_have_no_effect_is_named_with_its_field(patch: Any, problem: str) -> None:
    assert patch_problem(accepted(1, template_patch=raw(patch)), WORK) == problem


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"metadata": None, "spec": {"activeDeadlineSeconds": None, "restartPolicy": "Never"}},
        {"metadata": {"labels": {"team": "b"}, "annotations": {"example.com/mapreduce.dev/note": "x"}}},
        {"spec": {"containers": [{"name": "sidecar", "terminationMessagePath": "/x"}]}},
        {"spec": {"containers": [{"name": "agent", "terminationMessagePath": None, "image": "agent:2"}]}},
    ],
)
def test_there_is_nothing_wrong_with_a_patch_that_has_an_effect(patch: Any) -> None:
    assert patch_problem(accepted(1, template_patch=raw(patch)), WORK) is None
    assert patch_problem(accepted(1), WORK) is None
