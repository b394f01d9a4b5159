"""Templates on trial: what the API server has not taken is not run, and is tried again when it may have been mended."""

from typing import Any, Final

import pytest
from msgspec import Raw

from mapreduce_operator.api import MapReduceJobSpec
from mapreduce_operator.core.contract import PARAMS_BYTES
from mapreduce_operator.core.effects import Announce, VerifyTemplate
from mapreduce_operator.core.expressions import Expression
from mapreduce_operator.core.journal import Accepted
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.templates import REVERIFY_SECONDS, Templates

NOW: Final = 1_800_000_000.0
RUN: Final = RunRef("default", "demo", "run-1")
TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
OTHER_TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:2"}]}}


def spec(template: dict[str, Any] = TEMPLATE, reduce: dict[str, Any] | None = None, **map_: Any) -> MapReduceJobSpec:
    return MapReduceJobSpec.model_validate(
        {"input": {"items": []}, "map": {"template": template} | map_, "reduce": reduce}
    )


def answer(templates: Templates, stage: Stage, rejection: str | None = None, seconds: float = 0.0) -> list[str]:
    """The API server's answer about the present template of a stage; returns the reasons of what is announced."""
    revision = templates.revision(stage)
    assert revision is not None
    effects = templates.tried(stage, revision.hash, rejection, NOW + seconds)
    return [effect.reason for effect in effects if isinstance(effect, Announce)]


# --------------------------------------------------------------------------------------------------------------- trials


def test_a_template_is_no_good_before_it_was_tried() -> None:
    templates = Templates(RUN, spec())

    assert not templates.good
    assert templates.obstacle is None


def test_every_template_is_tried_out_once() -> None:
    templates = Templates(RUN, spec(reduce={"template": TEMPLATE}))

    assert templates.try_out(NOW) == [VerifyTemplate(Stage.MAP), VerifyTemplate(Stage.REDUCE)]
    assert templates.try_out(NOW) == []

    answer(templates, Stage.MAP)
    answer(templates, Stage.REDUCE)

    assert templates.try_out(NOW) == []


@pytest.mark.parametrize(("first", "second"), [(Stage.MAP, Stage.REDUCE), (Stage.REDUCE, Stage.MAP)])
def test_all_templates_must_be_good(first: Stage, second: Stage) -> None:
    templates = Templates(RUN, spec(reduce={"template": OTHER_TEMPLATE}))
    templates.try_out(NOW)

    answer(templates, first)
    assert not templates.good

    answer(templates, second)
    assert templates.good


def test_each_stage_has_the_revision_of_its_own_template() -> None:
    templates = Templates(RUN, spec(reduce={"template": OTHER_TEMPLATE}))
    map_revision, reduce_revision = templates.revision(Stage.MAP), templates.revision(Stage.REDUCE)

    assert map_revision is not None
    assert reduce_revision is not None
    assert (map_revision.stage, reduce_revision.stage) == (Stage.MAP, Stage.REDUCE)
    assert map_revision.hash != reduce_revision.hash
    assert Templates(RUN, spec()).revision(Stage.REDUCE) is None


# ----------------------------------------------------------------------------------------------------------- rejections


def test_a_rejected_template_is_an_obstacle_in_the_words_of_the_api_server() -> None:
    templates = Templates(RUN, spec())
    templates.try_out(NOW)

    announced = answer(templates, Stage.MAP, "no such field: comand")

    assert announced == ["TemplateRejected"]
    assert not templates.good
    assert templates.obstacle is not None
    reason, message = templates.obstacle
    assert reason == "TemplateRejected"
    assert message.startswith("the API server refuses spec.map.template: no such field: comand. ")


def test_all_rejections_are_told_together() -> None:
    templates = Templates(RUN, spec(reduce={"template": TEMPLATE}))
    answer(templates, Stage.MAP, "no memory")
    answer(templates, Stage.REDUCE, "no image")

    assert templates.obstacle is not None
    assert "spec.map.template: no memory" in templates.obstacle[1]
    assert "spec.reduce.template: no image" in templates.obstacle[1]


def test_a_rejected_template_is_tried_again_after_a_while() -> None:
    templates = Templates(RUN, spec())
    templates.try_out(NOW)
    answer(templates, Stage.MAP, "no such service account")

    assert templates.next_trial() == NOW + REVERIFY_SECONDS
    assert templates.try_out(NOW + REVERIFY_SECONDS - 0.1) == []
    assert templates.try_out(NOW + REVERIFY_SECONDS) == [VerifyTemplate(Stage.MAP)]
    assert templates.next_trial() is None, "it is being tried"
    assert templates.try_out(NOW + 2 * REVERIFY_SECONDS) == []


def test_the_same_rejection_is_announced_once_and_another_one_again() -> None:
    templates = Templates(RUN, spec())

    assert answer(templates, Stage.MAP, "no such service account") == ["TemplateRejected"]
    assert answer(templates, Stage.MAP, "no such service account", seconds=30) == []
    assert answer(templates, Stage.MAP, "forbidden", seconds=60) == ["TemplateRejected"]
    assert templates.next_trial() == NOW + 60 + REVERIFY_SECONDS


def test_what_was_mended_elsewhere_makes_a_rejected_template_good() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP, "no such service account")
    templates.try_out(NOW + REVERIFY_SECONDS)

    answer(templates, Stage.MAP, seconds=31)

    assert templates.good
    assert templates.obstacle is None
    assert templates.next_trial() is None


def test_a_good_template_that_is_rejected_later_is_tried_again() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)
    assert templates.good

    answer(templates, Stage.MAP, "forbidden by a policy")

    assert not templates.good
    assert templates.try_out(NOW + REVERIFY_SECONDS) == [VerifyTemplate(Stage.MAP)]


# ---------------------------------------------------------------------------------------------------------- corrections


def test_a_corrected_template_is_tried_at_once() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP, "no such field: comand")

    templates.respec(spec(OTHER_TEMPLATE))

    assert templates.obstacle is None
    assert not templates.good
    assert templates.try_out(NOW) == [VerifyTemplate(Stage.MAP)]


def test_another_template_is_no_good_because_the_one_before_was() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)

    templates.respec(spec(OTHER_TEMPLATE))

    assert not templates.good


def test_a_change_beside_the_template_needs_no_trial() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)

    templates.respec(spec(maxParallel=2, timeoutSeconds=60))

    assert templates.good
    assert templates.try_out(NOW) == []
    revision = templates.revision(Stage.MAP)
    assert revision is not None
    assert revision.pod_spec["activeDeadlineSeconds"] == 60


@pytest.mark.parametrize("rejection", [None, "no such field"])
def test_an_answer_about_a_template_that_was_replaced_meanwhile_says_nothing(rejection: str | None) -> None:
    templates = Templates(RUN, spec())
    templates.try_out(NOW)
    before = templates.revision(Stage.MAP)
    assert before is not None
    templates.respec(spec(OTHER_TEMPLATE))
    assert templates.try_out(NOW) == [VerifyTemplate(Stage.MAP)]

    assert templates.tried(Stage.MAP, before.hash, rejection, NOW) == []

    assert not templates.good
    assert templates.obstacle is None
    assert templates.try_out(NOW) == [], "the new one is being tried already"


def test_a_template_that_came_back_after_a_while_is_still_good() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)
    templates.respec(spec(OTHER_TEMPLATE))

    templates.respec(spec())

    assert templates.good


def test_a_reduce_that_is_added_is_tried_and_one_that_is_taken_away_is_not() -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)

    templates.respec(spec(reduce={"template": TEMPLATE}))
    assert not templates.good
    assert templates.try_out(NOW) == [VerifyTemplate(Stage.REDUCE)]
    answer(templates, Stage.REDUCE, "no such field")
    assert templates.obstacle is not None

    templates.respec(spec())
    assert templates.good
    assert templates.try_out(NOW + REVERIFY_SECONDS) == []
    assert templates.next_trial() is None


# --------------------------------------------------------------------------------------------------------- result rules


def test_each_stage_has_the_rule_of_its_own_result() -> None:
    templates = Templates(
        RUN, spec(reduce={"template": TEMPLATE, "result": {"required": False}}, result={"rule": "result.ok"})
    )
    map_rule, reduce_rule = templates.rule(Stage.MAP), templates.rule(Stage.REDUCE)

    assert map_rule.required
    assert isinstance(map_rule.expression, Expression)
    assert map_rule.expression.text == "result.ok"
    assert (reduce_rule.required, reduce_rule.expression) == (False, None)


def test_a_reduce_that_is_not_there_owes_a_result_without_a_rule() -> None:
    rule = Templates(RUN, spec()).rule(Stage.REDUCE)

    assert (rule.required, rule.expression) == (True, None)


@pytest.mark.parametrize(
    ("invalid", "stage"),
    [
        (spec(result={"rule": "result.ok ="}), "map"),
        (spec(reduce={"template": TEMPLATE, "result": {"rule": "result.ok ="}}), "reduce"),
    ],
    ids=["map", "reduce"],
)
def test_a_rule_that_is_no_expression_is_an_obstacle_until_it_is_corrected(
    invalid: MapReduceJobSpec, stage: str
) -> None:
    templates = Templates(RUN, spec())
    answer(templates, Stage.MAP)

    templates.respec(invalid)

    assert not templates.good
    assert templates.obstacle is not None
    reason, message = templates.obstacle
    assert reason == "InvalidResultRule"
    assert message.startswith(f"spec.{stage}.result.rule: 'result.ok =' is no valid CEL expression")

    templates.respec(spec(result={"rule": "result.ok"}))

    assert templates.good
    assert templates.obstacle is None


@pytest.mark.parametrize(
    ("rule", "reduce_rule", "told"),
    [
        ("resutl.ok == true", None, "spec.map.result.rule: 'resutl.ok == true': there is no variable 'resutl'"),
        ("true || now > 1", None, "spec.map.result.rule: 'true || now > 1': there is no variable 'now'"),
        ("sise(result) > 1", None, "spec.map.result.rule: 'sise(result) > 1': there is no function 'sise'"),
        ("result.ok", "item == 1", "spec.reduce.result.rule: 'item == 1': there is no variable 'item'"),
    ],
)
def test_a_rule_that_no_result_could_keep_is_an_obstacle_before_anything_starts(
    rule: str, reduce_rule: str | None, told: str
) -> None:
    templates = Templates(
        RUN,
        spec(result={"rule": rule}, reduce={"template": TEMPLATE, "result": {"rule": reduce_rule}}),
    )

    assert not templates.good
    assert templates.obstacle is not None
    assert templates.obstacle[0] == "InvalidResultRule"
    assert templates.obstacle[1].startswith(told)


@pytest.mark.parametrize(
    "rule",
    ["result.all(one, one.size() > int(item.min))", "type(result) == map && has(result.ok)", "string(item) in result"],
)
def test_a_rule_may_ask_for_the_result_and_the_item_by_all_functions_that_there_are(rule: str) -> None:
    assert Templates(RUN, spec(result={"rule": rule})).obstacle is None


def test_agents_that_run_are_judged_by_the_last_rule_that_was_one() -> None:
    templates = Templates(RUN, spec(result={"rule": "result.ok"}))

    templates.respec(spec(result={"rule": "resutl.ok"}))

    expression = templates.rule(Stage.MAP).expression
    assert templates.obstacle is not None
    assert expression is not None
    assert expression.text == "result.ok"


# -------------------------------------------------------------------------------------------------------------- params


def with_params(params: dict[str, Any], **more: Any) -> MapReduceJobSpec:
    return spec(**more).model_copy(update={"params": params})


def hashes(templates: Templates) -> list[str | None]:
    revisions = (templates.revision(stage) for stage in Stage)
    return [revision.hash if revision is not None else None for revision in revisions]


def test_other_params_are_tried_out_as_another_template_is() -> None:
    templates = Templates(RUN, with_params({"model": "small"}, reduce={"template": TEMPLATE}))
    for stage in Stage:
        answer(templates, stage)
    before = hashes(templates)
    assert templates.good

    templates.respec(with_params({"model": "large"}, reduce={"template": TEMPLATE}))

    assert not set(before) & set(hashes(templates))
    assert not templates.good
    assert templates.try_out(NOW) == [VerifyTemplate(Stage.MAP), VerifyTemplate(Stage.REDUCE)]


def test_a_redrive_with_a_template_of_its_own_has_the_params_of_the_job() -> None:
    patch = b'{"spec":{"containers":[{"name":"agent","image":"agent:2"}]}}'
    redrive = Accepted(number=1, uid="r1", name="again", at=NOW, selected=1, template_patch=Raw(patch))
    templates = Templates(RUN, with_params({"model": "small"}))

    first = templates.redriven(redrive)
    templates.respec(with_params({"model": "large"}))
    second = templates.redriven(redrive)

    assert first is not None
    assert second is not None
    assert first.context == {"params": {"model": "small"}}
    assert second.context == {"params": {"model": "large"}}
    assert second.pod_spec["containers"][0]["image"] == "agent:2"


def test_params_that_are_too_large_are_an_obstacle_until_they_are_corrected() -> None:
    # {"a":"…"} has 8 characters around the text.
    largest = {"a": "x" * (PARAMS_BYTES - 8)}
    templates = Templates(RUN, with_params(largest))
    answer(templates, Stage.MAP)
    assert templates.good

    templates.respec(with_params({"a": "x" * (PARAMS_BYTES - 7)}))

    assert not templates.good
    assert templates.obstacle is not None
    assert templates.obstacle[0] == "ParamsTooLarge"
    assert templates.obstacle[1].startswith("spec.params are 16,385 bytes as JSON, and at most 16,384 go to the agents")
    assert templates.try_out(NOW) == [], "the API server would blame the template"

    templates.respec(with_params(largest))

    assert templates.good
    assert templates.obstacle is None
