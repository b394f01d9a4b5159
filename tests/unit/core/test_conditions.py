"""What other tools conclude from the conditions: Flux and `helm --wait` by kstatus, people by `kubectl wait`."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Condition, Phase
from mapreduce_operator.core.conditions import Situation, conditions_of, merge
from mapreduce_operator.core.phases import FINAL_PHASES, NEXT
from tests.unit.core.kstatus import kstatus

ALWAYS_PRESENT: Final = {
    "Accepted",
    "CheckpointHealthy",
    "Complete",
    "Failed",
    "Finished",
    "Progressing",
    "Ready",
    "Suspended",
}
ONLY_WHILE_TRUE: Final = {"Reconciling", "Stalled"}
RUN_PHASES: Final = tuple(NEXT)
RUNNING: Final = Situation(Phase.MAP, "Planned", "3 items are planned")
FULL: Final = ("StorageFull", "disk full")


def concluded(conditions: Iterable[Condition], *, generation: int = 1, observed_generation: int = 1) -> str:
    """By kstatus."""
    written = [one.to_kubernetes() for one in conditions]
    return kstatus({"observedGeneration": observed_generation, "conditions": written}, generation)


def written(situation: Situation) -> tuple[Condition, ...]:
    return merge((), conditions_of(situation), generation=1, now=0.0)


def holds(situation: Situation) -> dict[str, bool]:
    return {kind: status for kind, (status, _, _) in conditions_of(situation).items()}


situations = st.builds(
    Situation,
    phase=st.sampled_from(RUN_PHASES),
    reason=st.sampled_from(["Planned", "MapFinished", "AllItemsSucceeded"]),
    message=st.text(max_size=20),
    suspended=st.booleans(),
    still_running=st.integers(0, 10_000),
    obstacle=st.none() | st.just(("TemplateRejected", "the API server refuses spec.map.template")),
    storage_problem=st.none() | st.just(("StorageFull", "3 outcomes wait for storage")),
    capped=st.booleans(),
    refusal=st.none() | st.just(("QuotaLimited", "exceeded quota")),
)


# -------------------------------------------------------------------------------------------------------------- kstatus


@pytest.mark.parametrize(
    ("situation", "conclusion"),
    [
        (Situation(Phase.PLANNING, "Planning", "the input is being planned"), "InProgress"),
        (Situation(Phase.PLANNING, "Planning", "", suspended=True), "InProgress"),
        (Situation(Phase.PLANNING, "Planning", "", obstacle=("DuplicateItems", "item 2 …")), "Failed"),
        (RUNNING, "Current"),
        (replace(RUNNING, obstacle=("TemplateRejected", "…")), "Failed"),
        (replace(RUNNING, suspended=True), "Current"),
        (replace(RUNNING, suspended=True, obstacle=("TemplateRejected", "…")), "Failed"),
        (replace(RUNNING, storage_problem=("StorageUnavailable", "away")), "Current"),
        (replace(RUNNING, capped=True), "Current"),
        (replace(RUNNING, refusal=("QuotaLimited", "exceeded")), "Current"),
        (Situation(Phase.REDUCE, "MapFinished", ""), "Current"),
        (Situation(Phase.REDUCE, "MapFinished", "", suspended=True), "Current"),
        (Situation(Phase.REDUCE, "MapFinished", "", obstacle=("TemplateRejected", "…")), "Failed"),
        (Situation(Phase.SUCCEEDED, "AllItemsSucceeded", ""), "Current"),
        (Situation(Phase.SUCCEEDED, "AllItemsSucceeded", "", suspended=True), "Current"),
        (Situation(Phase.SUCCEEDED, "AllItemsSucceeded", "", obstacle=("TemplateRejected", "…")), "Current"),
        (Situation(Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed", ""), "Current"),
        (Situation(Phase.FAILED, "NoItemSucceeded", ""), "Failed"),
        (Situation(Phase.FAILED, "NoItemSucceeded", "", suspended=True), "Failed"),
    ],
)
def test_flux_and_helm_conclude_what_is_so(situation: Situation, conclusion: str) -> None:
    assert concluded(written(situation)) == conclusion


def test_a_job_that_was_edited_is_in_progress_until_the_operator_has_seen_it() -> None:
    assert concluded(written(RUNNING), generation=2, observed_generation=1) == "InProgress"
    assert concluded(written(RUNNING), generation=2, observed_generation=2) == "Current"


@given(situations)
def test_the_order_of_the_conditions_does_not_matter_to_kstatus(situation: Situation) -> None:
    conditions = written(situation)

    assert concluded(conditions) == concluded(reversed(conditions))


@given(situations)
def test_only_what_failed_or_what_the_user_has_to_mend_is_failed(situation: Situation) -> None:
    finished = situation.phase in FINAL_PHASES
    hopeless = situation.phase is Phase.FAILED or (situation.obstacle is not None and not finished)

    assert (concluded(written(situation)) == "Failed") == hopeless


def test_what_ended_without_a_plan_is_not_accepted_and_says_why_there_is_none() -> None:
    why = "ConfigMapNotFound", "there is no ConfigMap 'input'"
    ended = conditions_of(Situation(Phase.FAILED, "Cancelled", "as you wish", planned=False, obstacle=why))

    assert ended["Accepted"] == (False, *why)
    assert ended["Finished"] == ended["Failed"] == ended["Stalled"] == (True, "Cancelled", "as you wish")
    assert ended["Ready"] == ended["Complete"] == (False, "Cancelled", "as you wish")


# --------------------------------------------------------------------------------------------------------- kubectl wait


@given(situations)
def test_all_conditions_are_there_from_the_first_visit_and_the_abnormal_ones_only_while_they_are_true(
    situation: Situation,
) -> None:
    found = holds(situation)

    assert ALWAYS_PRESENT <= set(found) <= ALWAYS_PRESENT | ONLY_WHILE_TRUE
    assert all(found[kind] for kind in ONLY_WHILE_TRUE & set(found))


@pytest.mark.parametrize(
    ("phase", "complete", "failed", "finished"),
    [
        (Phase.PLANNING, False, False, False),
        (Phase.MAP, False, False, False),
        (Phase.REDUCE, False, False, False),
        (Phase.SUCCEEDED, True, False, True),
        (Phase.PARTIALLY_SUCCEEDED, True, False, True),
        (Phase.FAILED, False, True, True),
    ],
)
def test_kubectl_can_wait_for_the_end_good_or_bad(phase: Phase, complete: bool, failed: bool, finished: bool) -> None:
    found = holds(Situation(phase, "Reason", "message"))

    assert (found["Complete"], found["Failed"], found["Finished"]) == (complete, failed, finished)


@given(situations)
def test_what_is_finished_makes_no_progress_and_is_not_suspended(situation: Situation) -> None:
    found = holds(situation)

    if found["Finished"]:
        assert found["Complete"] != found["Failed"]
        assert not found["Progressing"]
        assert not found["Suspended"]
        assert found["Ready"] == found["Complete"]


def test_a_job_that_is_not_planned_yet_is_reconciling_and_says_what_it_waits_for() -> None:
    found = conditions_of(Situation(Phase.PLANNING, "Planning", "the input is being planned"))

    for kind, status in (("Reconciling", True), ("Accepted", False), ("Ready", False)):
        assert found[kind] == (status, "Planning", "the input is being planned")


def test_a_planned_job_is_accepted_for_good() -> None:
    assert conditions_of(RUNNING)["Accepted"] == (True, "Planned", "input and templates are valid")


@pytest.mark.parametrize("phase", [Phase.MAP, Phase.REDUCE])
def test_a_running_job_is_ready_accepted_and_progressing(phase: Phase) -> None:
    found = holds(Situation(phase, "Planned", "3 items are planned"))

    assert (found["Ready"], found["Accepted"], found["Progressing"]) == (True, True, True)


@pytest.mark.parametrize(
    ("situation", "progressing", "reason", "message"),
    [
        (RUNNING, True, "Planned", "3 items are planned"),
        (replace(RUNNING, suspended=True), False, "Suspended", "spec.suspend is true"),
        (replace(RUNNING, storage_problem=FULL), False, *FULL),
        (
            replace(RUNNING, refusal=("QuotaLimited", "exceeded quota: jobs")),
            True,
            "QuotaLimited",
            "exceeded quota: jobs",
        ),
        (replace(RUNNING, suspended=True, storage_problem=FULL), False, "Suspended", "spec.suspend is true"),
    ],
)
def test_what_holds_a_job_up_is_said(situation: Situation, progressing: bool, reason: str, message: str) -> None:
    found = conditions_of(situation)

    assert found["Progressing"] == (progressing, reason, message)
    assert found["Ready"] == (True, reason, message)


def test_a_job_that_waits_for_other_jobs_says_so() -> None:
    status, reason, message = conditions_of(replace(RUNNING, capped=True))["Progressing"]

    assert (status, reason) == (True, "OperatorLimited")
    assert "limit" in message


def test_what_the_user_has_to_mend_stands_in_all_conditions_that_people_look_at() -> None:
    found = conditions_of(replace(RUNNING, obstacle=("TemplateRejected", "no such field")))

    for kind, status in (("Accepted", False), ("Ready", False), ("Progressing", False), ("Stalled", True)):
        assert found[kind] == (status, "TemplateRejected", "no such field")


def test_a_failed_job_says_why_in_all_conditions_that_people_look_at() -> None:
    found = conditions_of(Situation(Phase.FAILED, "NoItemSucceeded", "all 3 items failed"))

    for kind, status in (("Failed", True), ("Ready", False), ("Stalled", True), ("Finished", True)):
        assert found[kind] == (status, "NoItemSucceeded", "all 3 items failed")


@pytest.mark.parametrize(
    ("still_running", "message"),
    [(0, "spec.suspend is true"), (1234, "spec.suspend is true; 1,234 agents still run")],
)
def test_a_suspended_job_says_how_many_agents_still_run(still_running: int, message: str) -> None:
    found = conditions_of(replace(RUNNING, suspended=True, still_running=still_running))

    assert found["Suspended"] == (True, "Suspended", message)


def test_storage_that_is_away_is_a_condition_of_its_own() -> None:
    assert conditions_of(RUNNING)["CheckpointHealthy"] == (True, "Saved", "outcomes are durable")
    assert conditions_of(replace(RUNNING, storage_problem=FULL))["CheckpointHealthy"] == (
        False,
        "StorageFull",
        "disk full",
    )


# ---------------------------------------------------------------------------------------------------------------- merge


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_conditions_are_written_in_the_form_of_kubernetes() -> None:
    (condition,) = merge((), {"Ready": (True, "Planned", "3 items")}, generation=7, now=1000.9)

    assert condition.to_kubernetes() == {
        "type": "Ready",
        "status": "True",
        "observedGeneration": 7,
        "lastTransitionTime": "1970-01-01T00:16:40Z",
        "reason": "Planned",
        "message": "3 items",
    }


def test_another_reason_or_message_is_no_transition() -> None:
    before = merge((), {"Ready": (True, "Planned", "3 items")}, generation=1, now=1000)

    (after,) = merge(before, {"Ready": (True, "MapFinished", "2 of 3")}, generation=2, now=2000)

    assert (after.reason, after.message, after.observed_generation) == ("MapFinished", "2 of 3", 2)
    assert after.last_transition_time == at(1000)


def test_another_status_is_a_transition() -> None:
    before = merge((), {"Ready": (True, "Planned", "3 items")}, generation=1, now=1000)

    (after,) = merge(before, {"Ready": (False, "TemplateRejected", "no")}, generation=1, now=2000)

    assert after.last_transition_time == at(2000)


def test_a_condition_that_went_and_came_back_has_a_new_transition_time() -> None:
    stalled = {"Stalled": (True, "TemplateRejected", "no")}
    before = merge((), stalled, generation=1, now=1000)
    without = merge(before, {}, generation=1, now=2000)

    (after,) = merge(without, stalled, generation=1, now=3000)

    assert without == ()
    assert after.last_transition_time == at(3000)


@given(situations, situations, st.integers(0, 10**6))
def test_transition_times_change_with_the_status_and_with_nothing_else(
    earlier: Situation, later: Situation, seconds: int
) -> None:
    before = merge((), conditions_of(earlier), generation=1, now=1000)
    known = {condition.type: condition for condition in before}

    for condition in merge(before, conditions_of(later), generation=1, now=2000 + seconds):
        same = condition.type in known and known[condition.type].status is condition.status
        assert condition.last_transition_time == at(1000 if same else 2000 + seconds)


@given(situations)
def test_what_has_not_changed_is_written_again_as_it_was(situation: Situation) -> None:
    before = merge((), conditions_of(situation), generation=1, now=1000)

    assert merge(before, conditions_of(situation), generation=1, now=2000) == before


@given(situations)
def test_conditions_stand_in_a_fixed_order_each_once(situation: Situation) -> None:
    kinds = [condition.type for condition in written(situation)]

    assert kinds == sorted(set(kinds))


def test_results_that_outgrow_reduce_are_told_and_hold_nothing_up() -> None:
    outgrown = replace(RUNNING, outgrown="the results so far are more than reduce can get")

    found = conditions_of(outgrown)

    assert found.pop("ResultsFit") == (False, "ResultsTooLarge", outgrown.outgrown)
    assert found == conditions_of(RUNNING)
    assert "ResultsFit" not in conditions_of(replace(outgrown, phase=Phase.FAILED))


def test_a_job_that_has_ended_is_not_suspended_whatever_its_spec_says() -> None:
    ended = replace(RUNNING, phase=Phase.SUCCEEDED, reason="AllItemsSucceeded")
    assert conditions_of(replace(ended, suspended=True))["Suspended"] == (False, "NotSuspended", "the job has ended")
    assert conditions_of(ended)["Suspended"] == (False, "NotSuspended", "spec.suspend is false")
