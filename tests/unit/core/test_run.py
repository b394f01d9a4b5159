"""What a run decides: scenes that a simulation of whole runs passes over too fast to see.

Each scene tells a run what happened, and looks at the effects that it asks for.
"""

from dataclasses import replace
from itertools import permutations
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Cause, ItemState, Phase, Reason, ResultsAs
from mapreduce_operator.core.agents import VANISHED_SECONDS
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.dispatching import MAX_UNCOMMITTED
from mapreduce_operator.core.effects import (
    Announce,
    Commit,
    DeleteJob,
    FindPod,
    FindVanished,
    Launch,
    PrepareReduce,
    RemovePod,
    VerifyTemplate,
)
from mapreduce_operator.core.failures import NODE_LOST
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record, Start
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.sightings import LOST_SECONDS, OUTLIVED_SECONDS, POD_GRACE_SECONDS
from mapreduce_operator.core.story import with_id
from mapreduce_operator.core.templates import REVERIFY_SECONDS
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen
from tests.unit.core.scenes import (
    CHECKPOINT,
    CRASHED,
    DONE,
    NOW,
    OTHER_TEMPLATE,
    PLANNED,
    REDUCE_KEY,
    RUN,
    TEMPLATE,
    all_run,
    commit,
    find_no_pod,
    job,
    launch,
    new_run,
    observe,
    pod,
    segment,
    spec,
    take_templates,
    verified_run,
)

SUCCEEDED: Final = Item(ItemState.SUCCEEDED, attempts=1)


# ------------------------------------------------------------------------------------------------------------ templates


def test_nothing_is_dispatched_before_the_api_server_took_the_template() -> None:
    run = new_run("abc")
    run.decide(NOW)

    assert run.dispatching.wanted(NOW) == 0
    assert run.dispatching.launch(10, NOW) == []


def test_a_run_has_its_templates_tried_and_starts_when_all_are_good() -> None:
    run = new_run("abc", spec(reduce={"template": OTHER_TEMPLATE}))

    assert run.decide(NOW) == [VerifyTemplate(Stage.MAP), VerifyTemplate(Stage.REDUCE)]

    take_templates(run)

    assert run.decide(NOW) == []
    assert run.dispatching.wanted(NOW) == 3


def test_a_rejected_template_stops_everything_and_burns_no_attempt() -> None:
    run = verified_run("abc", spec({"maxParallel": 1}))
    run.dispatching.launch(1, NOW)
    revision = run.templates.revision(Stage.MAP)
    assert revision is not None

    run.agents.refused(Stage.MAP, 0, 1)
    run.templates.tried(Stage.MAP, revision.hash, "forbidden by a policy", NOW)

    assert launch(run) == []
    assert run.ledgers[Stage.MAP].attempts == 0
    assert run.next_wake(NOW) == NOW + REVERIFY_SECONDS
    assert run.decide(NOW + REVERIFY_SECONDS) == [VerifyTemplate(Stage.MAP)]


def test_a_run_goes_on_with_the_template_as_it_was_corrected() -> None:
    run = new_run("abc")
    revision = run.templates.revision(Stage.MAP)
    assert revision is not None
    run.templates.tried(Stage.MAP, revision.hash, "no such field: comand", NOW)

    run.respec(spec({"template": OTHER_TEMPLATE}), NOW)
    assert run.decide(NOW) == [VerifyTemplate(Stage.MAP)]
    take_templates(run)

    assert launch(run) == ["demo-a-d1", "demo-b-d1", "demo-c-d1"]


def test_a_run_that_is_at_its_end_has_nothing_tried() -> None:
    run = new_run("", turn=Turn(Phase.SUCCEEDED, "NoItems", ""))

    assert run.decide(NOW) == []
    assert run.finished


# ---------------------------------------------------------------------------------------------------------- dispatching


def test_items_are_launched_in_plan_order_up_to_max_parallel() -> None:
    run = verified_run("abc", spec({"maxParallel": 2}))

    assert run.dispatching.launch(10, NOW) == [
        Launch(Stage.MAP, 0, Dispatch("a", 1), attempt=1, max_attempts=3),
        Launch(Stage.MAP, 1, Dispatch("b", 1), attempt=1, max_attempts=3),
    ]
    assert run.dispatching.wanted(NOW) == 0
    assert run.active == 2


def test_no_more_is_launched_than_the_operator_grants() -> None:
    run = verified_run("abc")

    assert len(run.dispatching.launch(1, NOW)) == 1
    assert run.dispatching.wanted(NOW) == 2


def test_max_parallel_counts_from_the_moment_it_is_changed() -> None:
    run = verified_run("abcdef", spec({"maxParallel": 2}))
    launch(run)

    run.respec(spec({"maxParallel": 1}), NOW)
    assert run.dispatching.wanted(NOW) == 0, "what runs is left alone"

    run.respec(spec({"maxParallel": 5}), NOW)
    assert run.dispatching.wanted(NOW) == 3

    run.respec(spec({"maxParallel": 0}), NOW)
    assert run.dispatching.wanted(NOW) == 0


def test_a_refused_launch_is_no_dispatch_and_is_tried_again_with_the_same_number() -> None:
    run = verified_run("a")
    (first,) = run.dispatching.launch(1, NOW)

    run.agents.refused(Stage.MAP, 0, 1)

    assert run.active == 0
    assert run.dispatching.launch(1, NOW) == [first]


def test_a_retry_is_the_next_dispatch_and_the_next_attempt() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    commit(run)

    run.decide(NOW + 10)

    assert run.dispatching.launch(1, NOW + 10) == [Launch(Stage.MAP, 0, Dispatch("a", 2), attempt=2, max_attempts=3)]


def test_an_interrupted_item_is_the_next_dispatch_of_the_same_attempt() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", gone=True))
    commit(run)

    assert run.dispatching.launch(1, NOW) == [Launch(Stage.MAP, 0, Dispatch("a", 2), attempt=1, max_attempts=3)]


@pytest.mark.parametrize("end", [pod("demo-a-d1", CRASHED), pod("demo-a-d1", gone=True)], ids=["failed", "interrupted"])
def test_an_item_does_not_run_again_before_its_outcome_is_durable(end: PodSeen) -> None:
    run = verified_run("a")
    launch(run)
    observe(run, end)
    batch = run.commits.begin(CommitReason.ITEMS, NOW)

    assert launch(run, seconds=60) == []

    run.commits.done(batch, NOW + 60)

    assert launch(run, seconds=120) == ["demo-a-d2"]


def test_an_item_does_not_run_again_before_its_outcome_is_durable_when_its_job_was_adopted() -> None:
    run = verified_run("a")
    run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW)
    observe(run, pod("demo-a-d1", gone=True))

    assert launch(run, seconds=60) == []


def test_what_cannot_start_before_a_commit_is_not_wanted_either() -> None:
    run = verified_run("a")
    launch(run)

    observe(run, pod("demo-a-d1", gone=True))

    assert run.dispatching.wanted(NOW) == 0


def test_dispatching_pauses_when_too_many_outcomes_wait_for_storage() -> None:
    keys = [f"{letter}x" for letter in map(str, range(MAX_UNCOMMITTED + 10))]
    run = RunState(RUN, spec({"maxParallel": 10_000}), keys, PLANNED)
    take_templates(run)
    for effect in run.dispatching.launch(MAX_UNCOMMITTED + 1, NOW):
        assert isinstance(effect, Launch)
        run.agents.started(Stage.MAP, effect.position, 1, f"uid-{effect.position}", NOW)
    ends = [
        replace(
            pod("demo-a-d1", DONE),
            job_uid=f"uid-{position}",
            carried=Carried("run-1", Stage.MAP, (Dispatch(keys[position], 1),), "5f1c"),
        )
        for position in range(MAX_UNCOMMITTED + 1)
    ]
    for end in ends[:-1]:
        observe(run, end)
    batch = run.commits.begin(CommitReason.ITEMS, NOW)
    assert run.dispatching.wanted(NOW) == 9

    observe(run, ends[-1])
    assert run.dispatching.wanted(NOW) == 0

    run.commits.done(batch, NOW)
    assert run.dispatching.wanted(NOW) == 9


# -------------------------------------------------------------------------------------------------------------- commits


def test_what_comes_while_a_commit_is_in_flight_is_in_the_next() -> None:
    run = verified_run("abc")
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    first = run.commits.begin(CommitReason.ITEMS, NOW)
    observe(run, pod("demo-b-d1", DONE))
    observe(run, pod("demo-c-d1", CRASHED))

    effects = run.commits.done(first, NOW)
    second = run.commits.begin(CommitReason.ITEMS, NOW)

    assert [record.outcome.job for record in first.records] == ["demo-a-d1"]
    assert effects == [DeleteJob("demo-a-d1", "uid-demo-a-d1")]
    assert [record.outcome.job for record in second.records] == ["demo-b-d1", "demo-c-d1"]


def test_a_job_is_deleted_when_its_outcome_is_durable_and_not_before() -> None:
    run = verified_run("abc")
    launch(run)

    effects = observe(run, pod("demo-a-d1", DONE)) + run.decide(NOW)
    assert not [effect for effect in effects if isinstance(effect, DeleteJob)]

    assert commit(run) == [DeleteJob("demo-a-d1", "uid-demo-a-d1")]


def test_a_commit_is_due_when_there_are_enough_outcomes() -> None:
    run = verified_run("abcdef")
    launch(run)
    for name in ("demo-a-d1", "demo-b-d1", "demo-c-d1", "demo-d-d1"):
        observe(run, pod(name, DONE))
    assert run.commits.due(NOW) == []

    observe(run, pod("demo-e-d1", DONE))

    assert run.commits.due(NOW) == [Commit(CommitReason.ITEMS)]


def test_a_commit_is_due_when_the_first_outcome_has_waited_long_enough() -> None:
    run = verified_run("abc")
    launch(run)
    commit(run)
    observe(run, pod("demo-a-d1", DONE), seconds=100)
    observe(run, pod("demo-b-d1", DONE), seconds=104)

    assert run.next_wake(NOW + 104) == NOW + 105
    assert run.commits.due(NOW + 104.9) == []
    assert run.commits.due(NOW + 105) == [Commit(CommitReason.TIME)]


def test_a_commit_is_due_when_nothing_else_is_left_to_wait_for() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))

    assert run.commits.due(NOW) == [Commit(CommitReason.IDLE)]


def test_nothing_new_needs_no_commit() -> None:
    run = verified_run("abc")
    all_run(run, launch(run))
    commit(run)

    assert run.commits.due(NOW + 1000) == []
    assert run.next_wake(NOW) is None


def test_one_commit_is_in_flight_at_a_time() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)
    assert run.commits.due(NOW) == [Commit(CommitReason.PHASE_CHANGE)]
    batch = run.commits.begin(CommitReason.PHASE_CHANGE, NOW)

    assert run.commits.due(NOW + 1000) == []

    run.commits.done(batch, NOW)

    assert run.commits.due(NOW + 1000) == []


# --------------------------------------------------------------------------------------------------------------- phases


def test_each_stage_has_the_work_of_its_own() -> None:
    both = spec(reduce={"template": OTHER_TEMPLATE})

    assert new_run("a", both).works.of(Stage.MAP) == both.map
    assert new_run("a", both).works.of(Stage.REDUCE) == both.reduce
    assert new_run("a").works.of(Stage.REDUCE) is None


def test_a_run_that_has_only_begun_is_not_finished() -> None:
    assert not new_run("a").finished


def test_a_phase_turns_for_the_world_only_when_it_is_durable() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)

    assert (run.phase, run.committed_turn.phase, run.finished) == (Phase.SUCCEEDED, Phase.MAP, False)

    effects = commit(run)

    assert (run.phase, run.committed_turn.phase, run.finished) == (Phase.SUCCEEDED, Phase.SUCCEEDED, True)
    assert effects == [
        DeleteJob("demo-a-d1", "uid-demo-a-d1"),
        Announce("Normal", "Succeeded", "1 of 1 items succeeded"),
    ]


def test_a_commit_in_flight_does_not_carry_a_turn_that_came_after_it() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    first = run.commits.begin(CommitReason.TIME, NOW)
    observe(run, pod("demo-b-d1", DONE))
    run.decide(NOW)

    run.commits.done(first, NOW)

    assert run.committed_turn.phase is Phase.MAP
    assert not run.finished
    assert run.commits.due(NOW) == [Commit(CommitReason.PHASE_CHANGE)]


def test_the_end_of_the_map_is_committed_together_with_its_last_outcomes() -> None:
    run = verified_run("a", spec(reduce={"template": TEMPLATE}))
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)

    batch = run.commits.begin(CommitReason.PHASE_CHANGE, NOW)

    assert batch.turn.phase is Phase.REDUCE
    assert [record.outcome.job for record in batch.records] == ["demo-a-d1"]


def test_a_run_without_items_ends_without_an_agent() -> None:
    run = new_run("")
    run.decide(NOW)

    assert run.commits.due(NOW) == [Commit(CommitReason.PHASE_CHANGE)]
    assert commit(run) == [
        Announce("Normal", "Succeeded", "the input has no items; there was nothing to do"),
    ]


def test_a_failed_run_is_announced_as_a_warning() -> None:
    run = verified_run("a", spec({"retry": {"maxAttempts": 1}}))
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    run.decide(NOW)

    assert Announce("Warning", "Failed", "all 1 items failed") in commit(run)


# --------------------------------------------------------------------------------------------------------------- reduce


def reducing_run(**reduce: Any) -> RunState:
    """A run whose only item succeeded, with the turn to reduce durable and the results where reduce finds them."""
    run = verified_run("a", spec(reduce={"template": TEMPLATE} | reduce))
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)
    commit(run)
    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)]
    run.reduce_prepared(ResultsAs.FILE)
    return run


def test_reduce_is_prepared_once_and_only_when_all_outcomes_of_the_map_are_durable() -> None:
    run = verified_run("a", spec(reduce={"template": TEMPLATE}))
    launch(run)
    observe(run, pod("demo-a-d1", DONE))

    assert run.decide(NOW) == []
    commit(run)

    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)]
    assert run.decide(NOW) == []
    assert run.dispatching.wanted(NOW) == 0

    run.reduce_prepared(ResultsAs.FILE)

    assert run.decide(NOW) == []
    assert run.dispatching.wanted(NOW) == 1


def test_reduce_runs_once_and_its_result_counts_when_it_is_durable() -> None:
    run = reducing_run()
    assert launch(run) == [f"demo-{REDUCE_KEY}-d1"]
    assert run.dispatching.wanted(NOW) == 0

    observe(run, pod(f"demo-{REDUCE_KEY}-d1", ContainerEnd(0, message='{"total": 3}')))
    assert run.tally.reduce_result is None
    run.decide(NOW)
    commit(run)

    assert run.tally.reduce_result == b'{"total":3}'
    assert run.finished
    assert run.committed_turn.phase is Phase.SUCCEEDED


def test_reduce_is_retried_like_any_item_and_its_failure_for_good_fails_the_run() -> None:
    run = reducing_run()
    names = []
    for attempt in (1, 2, 3):
        names += launch(run, seconds=1000 * attempt)
        observe(run, pod(names[-1], CRASHED), seconds=1000 * attempt)
        run.decide(NOW + 1000 * attempt)
        commit(run, seconds=1000 * attempt)

    assert names == [f"demo-{REDUCE_KEY}-d1", f"demo-{REDUCE_KEY}-d2", f"demo-{REDUCE_KEY}-d3"]
    assert (run.committed_turn.phase, run.committed_turn.reason) == (Phase.FAILED, "ReduceFailed")
    assert run.tally.reduce_message == "boom"


def test_results_that_reduce_cannot_be_given_fail_the_run() -> None:
    run = verified_run("a", spec(reduce={"template": TEMPLATE}))
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)
    commit(run)
    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)]

    run.reduce_impossible("2 MB are too much")
    run.decide(NOW)
    commit(run)

    assert run.committed_turn == Turn(Phase.FAILED, "ResultsTooLarge", "2 MB are too much")
    assert run.finished


def test_a_reduce_that_is_added_while_the_map_runs_is_tried_out_before_more_is_launched() -> None:
    run = verified_run("abc", spec({"maxParallel": 1}))
    launch(run)

    run.respec(spec({"maxParallel": 2}, reduce={"template": OTHER_TEMPLATE}), NOW)

    assert run.dispatching.wanted(NOW) == 0
    assert run.decide(NOW) == [VerifyTemplate(Stage.REDUCE)]
    take_templates(run)
    assert run.dispatching.wanted(NOW) == 1


def test_a_reduce_that_is_taken_away_before_it_ran_lets_the_run_end_with_its_map() -> None:
    run = reducing_run()

    run.respec(spec(), NOW)
    run.decide(NOW)
    commit(run)

    assert run.finished
    assert run.committed_turn.phase is Phase.SUCCEEDED


def test_results_that_are_too_large_for_a_reduce_that_was_taken_away_meanwhile_do_not_matter() -> None:
    run = verified_run("a", spec(reduce={"template": TEMPLATE}))
    launch(run)
    observe(run, pod("demo-a-d1", DONE))
    run.decide(NOW)
    commit(run)
    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)]
    run.respec(spec(), NOW)
    run.decide(NOW)

    run.reduce_impossible("2 MB are too much")
    commit(run)

    assert run.committed_turn.phase is Phase.SUCCEEDED


def test_a_reduce_that_is_taken_away_while_it_waits_to_be_retried_lets_the_run_end_with_its_map() -> None:
    run = reducing_run()
    (name,) = launch(run)
    observe(run, pod(name, CRASHED))
    commit(run)

    run.respec(spec(), NOW)
    run.decide(NOW)
    commit(run)

    assert run.finished
    assert run.committed_turn.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("agent", [DONE, CRASHED, None], ids=["succeeded", "failed", "gone"])
def test_a_reduce_that_was_taken_away_while_it_ran_decides_nothing_any_more(agent: ContainerEnd | None) -> None:
    run = reducing_run(retry={"maxAttempts": 1})
    (name,) = launch(run)
    run.respec(spec(), NOW)

    observe(run, pod(name, agent, gone=agent is None))
    run.decide(NOW)
    commit(run)

    assert run.finished
    assert (run.committed_turn.phase, run.committed_turn.reason) == (Phase.SUCCEEDED, "AllItemsSucceeded")


def test_a_reduce_that_is_taken_away_while_it_runs_does_not_keep_the_run_from_its_end() -> None:
    run = reducing_run()
    (name,) = launch(run)

    run.respec(spec(), NOW)
    run.decide(NOW)
    observe(run, pod(name, gone=True))
    run.agents.observe_job(job(name), deleted=True, now=NOW)
    run.decide(NOW + 2 * POD_GRACE_SECONDS)
    commit(run)

    assert run.finished
    assert run.active == 0


# ----------------------------------------------------------------------------------------------- Jobs without their pod


@pytest.mark.parametrize(
    ("seen", "deleted"),
    [
        (job("demo-a-d1", complete=True), False),
        (job("demo-a-d1", failed_reason="BackoffLimitExceeded"), False),
        (job("demo-a-d1"), True),
    ],
    ids=["complete", "failed", "deleted"],
)
def test_a_job_that_ended_waits_for_the_account_of_its_pod(seen: JobSeen, deleted: bool) -> None:
    run = verified_run("a")
    launch(run)

    run.agents.observe_job(seen, deleted, NOW)

    assert run.next_wake(NOW) == NOW + POD_GRACE_SECONDS
    run.decide(NOW + POD_GRACE_SECONDS - 0.1)
    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING


def test_the_account_of_a_pod_that_comes_in_time_counts() -> None:
    run = verified_run("a")
    launch(run)
    run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW)

    observe(run, pod("demo-a-d1", DONE), seconds=4)
    run.decide(NOW + 1000)

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)
    commit(run, seconds=1000)
    assert run.next_wake(NOW + 1000) is None, "nothing is waited for any more"


@pytest.mark.parametrize(
    ("seen", "deleted", "item"),
    [
        (job("demo-a-d1"), True, Item(ItemState.PENDING, interruptions=1, reason=Reason.DELETED)),
        (job("demo-a-d1", complete=True), False, Item(ItemState.PENDING, interruptions=1, reason=Reason.DELETED)),
        (
            job("demo-a-d1", failed_reason="DeadlineExceeded"),
            False,
            Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + 15, reason=Reason.DEADLINE_EXCEEDED),
        ),
    ],
    ids=["deleted", "complete", "deadline"],
)
def test_a_job_whose_pod_stays_silent_is_judged_by_itself(seen: JobSeen, deleted: bool, item: Item) -> None:
    run = verified_run("a")
    launch(run)

    run.agents.observe_job(seen, deleted, NOW)

    assert find_no_pod(run, POD_GRACE_SECONDS - 0.1) == []
    assert find_no_pod(run, POD_GRACE_SECONDS) == ["demo-a-d1"]
    assert run.ledgers[Stage.MAP][0] == item


def test_a_pod_whose_news_is_late_is_asked_for_once_and_tells_how_it_ended() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)
    ended = job("demo-a-d1", complete=True)
    run.agents.observe_job(ended, deleted=False, now=NOW)

    assert run.decide(NOW + 60) == [FindPod(ended)]
    assert run.decide(NOW + 120) == []

    observe(run, pod("demo-a-d1", DONE), seconds=130)
    assert run.agents.no_pod(ended, NOW + 131) == [], "an answer that comes later changes nothing"
    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)


def test_an_agent_that_outlives_its_job_is_waited_for() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)
    observe(run, pod("demo-a-d1"))
    run.agents.observe_job(job("demo-a-d1"), deleted=True, now=NOW)

    assert find_no_pod(run, POD_GRACE_SECONDS) == []
    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING
    assert run.next_wake(NOW + POD_GRACE_SECONDS) is None

    observe(run, pod("demo-a-d1", gone=True), seconds=30)
    run.decide(NOW + 60)

    assert run.ledgers[Stage.MAP][0].interruptions == 1


def test_more_news_of_a_job_that_ended_do_not_prolong_the_wait() -> None:
    run = verified_run("a")
    launch(run)
    run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW)

    run.agents.observe_job(job("demo-a-d1", complete=True), deleted=True, now=NOW + 4)

    assert run.next_wake(NOW) == NOW + POD_GRACE_SECONDS


# ------------------------------------------------------------------------------------ pods with more than one container


def outlived(agent: ContainerEnd) -> PodSeen:
    """A pod whose agent ended in time while another container goes on."""
    end = replace(agent, finished_at=NOW - 1)
    return pod("demo-a-d1", end, phase="Running", outlived=True, deadline=NOW + 3600, stop_seconds=20.0)


def test_an_agent_with_a_result_is_done_while_other_containers_go_on() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, outlived(DONE))

    assert DeleteJob("demo-a-d1", "uid-demo-a-d1") in commit(run)
    assert run.ledgers[Stage.MAP][0].state is ItemState.SUCCEEDED
    assert observe(run, replace(outlived(DONE), phase="Failed", gone=True), seconds=30) == []
    assert run.agents.take_stale() == 0


def test_an_agent_that_failed_is_judged_when_its_node_is_not_about_to_end_the_pod() -> None:
    run = verified_run("a")
    launch(run)
    said = replace(CRASHED, message='{"error": {"message": "no such file", "retryable": false}}')
    seen, due = outlived(said), 20.0 + OUTLIVED_SECONDS

    observe(run, seen)
    assert run.next_wake(NOW) == NOW + 5, "the commit of the start"
    commit(run)
    assert run.next_wake(NOW) == NOW + due
    observe(run, seen, seconds=due - 1)
    assert run.uncommitted == []
    run.decide(NOW + due)

    (record,) = run.uncommitted
    assert (record.outcome.reason, record.outcome.exit_code, record.outcome.retryable) == (Reason.ERROR, 1, False)
    assert record.item.state is ItemState.DEAD_LETTERED


def test_an_agent_that_failed_since_its_node_ended_the_pod_was_interrupted() -> None:
    run = verified_run("a")
    launch(run)

    observe(run, outlived(ContainerEnd(143, signal=15)))
    assert run.uncommitted == []
    evicted = replace(outlived(ContainerEnd(143, signal=15)), phase="Failed", reason="Evicted", outlived=False)
    observe(run, evicted, seconds=15)

    (record,) = run.uncommitted
    assert (record.outcome.verdict, record.outcome.reason) == (Verdict.INTERRUPTED, Reason.EVICTED)


# ---------------------------------------------------------------------------------------- what an earlier operator left


def test_a_job_that_is_alive_is_adopted_and_not_launched_again() -> None:
    run = verified_run("ab")

    effects = run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW)

    assert effects == []
    assert launch(run) == ["demo-b-d1"]
    assert run.active == 2


def test_a_job_that_is_found_ended_is_judged_like_any_other() -> None:
    run = verified_run("a")

    run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW)
    find_no_pod(run, POD_GRACE_SECONDS)

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.PENDING, interruptions=1, reason=Reason.DELETED)


def test_a_pod_that_is_seen_to_end_before_its_job_is_seen_counts() -> None:
    run = verified_run("a")

    observe(run, pod("demo-a-d1", DONE))
    effects = run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW)

    assert effects == []
    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)
    assert commit(run) == [DeleteJob("demo-a-d1", "uid-demo-a-d1")]


def test_a_job_whose_outcome_is_durable_is_deleted() -> None:
    run = verified_run("a")
    run.books.replay(
        segment(Record(Outcome(Stage.MAP, Dispatch("a", 1), "uid-demo-a-d1", Verdict.FAILED), Item(attempts=1)))
    )

    assert run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW) == [
        DeleteJob("demo-a-d1", "uid-demo-a-d1")
    ]


@pytest.mark.parametrize(
    ("seen", "deleted"),
    [(job("demo-a-d1", deleting=True), False), (job("demo-a-d1"), True)],
    ids=["deleting", "deleted"],
)
def test_a_job_that_is_being_deleted_is_not_deleted_again(seen: JobSeen, deleted: bool) -> None:
    run = verified_run("a")
    run.books.replay(
        segment(Record(Outcome(Stage.MAP, Dispatch("a", 1), "uid-demo-a-d1", Verdict.FAILED), Item(attempts=1)))
    )

    assert run.agents.observe_job(seen, deleted, NOW) == []


def test_a_job_of_no_item_of_this_run_is_left_alone() -> None:
    run = verified_run("a")

    assert run.agents.observe_job(job("demo-z-d1"), deleted=False, now=NOW) == []


@pytest.mark.parametrize("known", [Item(), Item(ItemState.SUCCEEDED, attempts=1)], ids=["pending", "succeeded"])
def test_a_job_ahead_of_what_is_known_is_left_alone(known: Item) -> None:
    run = verified_run("a")
    run.ledgers[Stage.MAP].restore(0, known)

    assert run.agents.observe_job(job("demo-a-d2"), deleted=False, now=NOW) == []
    assert run.ledgers[Stage.MAP][0] == known


def test_a_job_that_is_kept_until_its_outcome_is_durable_is_not_taken_for_a_leftover() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))

    assert run.agents.observe_job(job("demo-a-d1", failed_reason="BackoffLimitExceeded"), deleted=False, now=NOW) == []


def test_what_was_committed_comes_back_as_it_was() -> None:
    waiting = Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + 10, reason=Reason.ERROR)
    dead = Item(
        ItemState.DEAD_LETTERED, attempts=3, reason=Reason.OOM_KILLED, cause=Cause.ATTEMPTS_EXHAUSTED, oom_kills=3
    )
    run = verified_run("abc")

    run.books.replay(
        segment(
            Record(Outcome(Stage.MAP, Dispatch("a", 1), "u", Verdict.FAILED, Reason.ERROR, "boom"), waiting),
            Record(Outcome(Stage.MAP, Dispatch("b", 3), "v", Verdict.FAILED, Reason.OOM_KILLED, "big"), dead),
        )
    )

    assert [run.ledgers[Stage.MAP][position] for position in range(3)] == [waiting, dead, Item()]
    assert failures(run) == [(Reason.ERROR, 1, 0, "boom"), (Reason.OOM_KILLED, 1, 1, "big")]
    assert list(run.dead_letters.open()) == [1]
    assert run.uncommitted == []
    assert run.next_wake(NOW) == NOW + 10


# ------------------------------------------------------------------------------------------------ repeated and old news


def test_the_end_of_a_pod_that_is_told_again_counts_once() -> None:
    run = verified_run("a")
    launch(run)

    for _ in range(3):
        observe(run, pod("demo-a-d1", CRASHED))

    assert len(run.uncommitted) == 1
    assert run.ledgers[Stage.MAP].attempts == 1


def test_news_of_an_old_dispatch_are_counted_and_ignored() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", gone=True))
    commit(run)
    assert launch(run) == ["demo-a-d2"]
    run.agents.observe_job(job("demo-a-d1"), deleted=True, now=NOW)

    assert observe(run, pod("demo-a-d1", DONE)) == []

    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING
    assert run.uncommitted == []
    assert (run.agents.take_stale(), run.agents.take_stale()) == (1, 0)


@pytest.mark.parametrize("order", sorted(set(permutations("jjpp"))))
def test_what_is_told_of_a_job_and_its_pod_until_they_are_gone_is_no_news(order: tuple[str, ...]) -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    commit(run)

    deleted, gone = iter([False, True]), iter([False, True])
    for stream in order:
        if stream == "j":
            assert run.agents.observe_job(job("demo-a-d1", deleting=True), deleted=next(deleted), now=NOW) == []
        else:
            assert observe(run, pod("demo-a-d1", CRASHED, deleting=True, gone=next(gone))) == []

    assert run.ledgers[Stage.MAP].attempts == 1
    assert run.agents.take_stale() == 0

    observe(run, pod("demo-a-d1", CRASHED, gone=True))
    assert run.agents.take_stale() == 1, "both are gone, so nothing was remembered"


@given(st.permutations(["job ended", "job deleted", "pod leaves", "pod gone", "waits", "suspends"]))
def test_nothing_is_remembered_of_a_dispatch_when_its_job_and_pod_are_gone(story: list[str]) -> None:
    # Each stream is in its order, whatever it is in relation to the other.
    streams = {"job": iter(["job ended", "job deleted"]), "pod": iter(["pod leaves", "pod gone"])}
    run = verified_run("a")
    launch(run)
    now = NOW
    for word in story:
        now += 1
        match next(streams.get(word.partition(" ")[0], iter([word]))):
            case "job ended":
                run.agents.observe_job(job("demo-a-d1", failed_reason="BackoffLimitExceeded"), deleted=False, now=now)
            case "job deleted":
                run.agents.observe_job(job("demo-a-d1", deleting=True), deleted=True, now=now)
            case "pod leaves":
                observe(run, pod("demo-a-d1", deleting=True, grace_seconds=30.0), now - NOW)
            case "pod gone":
                observe(run, pod("demo-a-d1", deleting=True, gone=True), now - NOW)
            case "suspends":
                run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)
                run.decide(now)
            case _:
                now += 2 * POD_GRACE_SECONDS
                run.decide(now)
    commit(run, now - NOW)
    assert run.ledgers[Stage.MAP][0].interruptions == 1
    run.agents.take_stale()

    observe(run, pod("demo-a-d1", gone=True))

    assert run.agents.take_stale() == 1, "news of an old dispatch, not of one that is remembered"
    assert run.decide(now + 1000) == []
    assert run.next_wake(now) is None


def test_an_old_pod_is_nothing_to_wait_for_while_it_is_deleted_and_when_it_is_gone() -> None:
    run = verified_run("a")
    run.books.replay(
        segment(Record(Outcome(Stage.MAP, Dispatch("a", 1), "uid-demo-a-d1", Verdict.SUCCEEDED), SUCCEEDED))
    )

    observe(run, pod("demo-a-d1", deleting=True))
    observe(run, pod("demo-a-d1", deleting=True, gone=True))

    assert run.next_wake(NOW) is None
    assert [effect for effect in run.decide(NOW + 9999) if isinstance(effect, RemovePod)] == []


def test_the_end_of_a_pod_of_no_item_of_this_run_is_counted_and_ignored() -> None:
    run = verified_run("a")

    assert observe(run, pod("demo-z-d1", DONE)) == []

    assert run.agents.take_stale() == 1


def test_the_end_of_another_job_with_the_same_dispatch_is_ignored() -> None:
    run = verified_run("a")
    launch(run)

    observe(run, replace(pod("demo-a-d1", DONE), job_uid="uid-other"))

    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING
    assert run.agents.take_stale() == 1


def test_a_pod_that_no_job_owns_is_not_believed() -> None:
    run = verified_run("a")

    observe(run, replace(pod("demo-a-d1", DONE), job="", job_uid=""))

    assert run.ledgers[Stage.MAP][0] == Item()


def test_the_answer_to_a_creation_may_come_after_the_end_of_the_agent() -> None:
    run = verified_run("a")
    run.dispatching.launch(1, NOW)
    observe(run, pod("demo-a-d1", CRASHED))

    run.agents.started(Stage.MAP, 0, 1, "uid-demo-a-d1", NOW)

    assert run.ledgers[Stage.MAP][0].state is ItemState.RETRY_WAIT
    assert run.active == 0


# ----------------------------------------------------------------------------------------------------------- lost nodes


LEAVING: Final = pod("demo-a-d1", deleting=True, grace_seconds=60.0)
REMOVE: Final = RemovePod(LEAVING.name, LEAVING.uid)


def test_a_pod_whose_kubelet_says_nothing_is_removed_once() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)
    observe(run, LEAVING, seconds=10)

    assert run.next_wake(NOW) == NOW + 10 + 60 + LOST_SECONDS
    assert run.decide(NOW + 99.9) == []
    assert run.decide(NOW + 100) == [REMOVE]
    observe(run, replace(LEAVING, message="still there"), seconds=101)
    assert run.decide(NOW + 9999) == []
    assert run.next_wake(NOW + 101) is None


def test_the_clock_for_a_pod_that_leaves_is_that_of_first_sight() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)

    for seconds in (10, 40, 70, 99):
        observe(run, replace(LEAVING, message=f"seen at {seconds}"), seconds=seconds)

    assert run.next_wake(NOW) == NOW + 100
    assert run.decide(NOW + 100) == [REMOVE]


def test_a_pod_that_is_not_being_deleted_is_never_removed_however_long_it_runs() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)
    observe(run, pod("demo-a-d1"))

    assert run.next_wake(NOW) is None
    assert run.decide(NOW + 10**6) == []


def test_a_pod_whose_end_is_told_in_time_is_not_removed() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, LEAVING)
    observe(run, pod("demo-a-d1", DONE, gone=True), seconds=60)
    commit(run, seconds=60)

    assert run.decide(NOW + 9999) == []
    assert run.ledgers[Stage.MAP][0] == SUCCEEDED


def test_the_item_of_a_lost_pod_does_not_run_again_before_the_pod_is_gone() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, LEAVING)
    run.agents.observe_job(job("demo-a-d1", deleting=True), deleted=True, now=NOW)
    commit(run)

    assert run.decide(NOW + 90) == [REMOVE]
    commit(run, seconds=90)

    assert launch(run, seconds=9999) == []
    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING


@pytest.mark.parametrize("gone", [False, True], ids=["failed", "gone"])
@pytest.mark.parametrize("disruption", ["", "DeletionByTaintManager"], ids=["deleted", "evicted"])
def test_a_lost_pod_is_an_interruption_by_its_node_and_no_attempt(gone: bool, disruption: str) -> None:
    run = verified_run("a")
    launch(run)
    observe(run, replace(LEAVING, disruption=disruption))
    run.decide(NOW + 1000)
    removed = replace(LEAVING, phase="Failed", reason=NODE_LOST, disruption=disruption, gone=gone)

    observe(run, removed, seconds=1001)
    observe(run, replace(removed, gone=True), seconds=1002)

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.PENDING, interruptions=1, reason=Reason.NODE_LOST)
    assert len(run.uncommitted) == 1
    assert launch(run, seconds=1003) == []
    commit(run, seconds=1003)
    assert launch(run, seconds=1004) == ["demo-a-d2"]


def test_a_lost_pod_is_removed_by_an_operator_that_was_started_meanwhile_after_the_whole_wait() -> None:
    run = verified_run("a")
    run.books.replay(segment(starts=(Start(Stage.MAP, "a", 1, "uid-demo-a-d1"),)))
    run.resume(NOW, CHECKPOINT)
    (vanished,) = run.agents.carrying()
    run.agents.observe_job(vanished, deleted=True, now=NOW)

    observe(run, LEAVING)

    assert [effect for effect in run.decide(NOW + 89.9) if isinstance(effect, RemovePod)] == []
    assert [effect for effect in run.decide(NOW + 90) if isinstance(effect, RemovePod)] == [REMOVE]


def test_a_pod_that_is_seen_before_anything_of_its_job_is_adopted_with_it() -> None:
    run = verified_run("ab")

    observe(run, LEAVING)

    assert launch(run) == ["demo-b-d1"]
    batch = run.commits.begin(CommitReason.TIME, NOW)
    assert batch.starts[0] == Start(Stage.MAP, "a", 1, "uid-demo-a-d1")
    assert [effect for effect in run.decide(NOW + 90) if isinstance(effect, RemovePod)] == [REMOVE]


@pytest.mark.parametrize(
    ("seen", "awaits"),
    [(None, True), (job("demo-a-d1"), False), (pod("demo-a-d1"), False), (pod("demo-a-d1", CRASHED), False)],
    ids=["nothing", "its Job", "its pod", "its end"],
)
def test_a_job_is_awaited_until_something_is_seen_of_it(seen: JobSeen | PodSeen | None, awaits: bool) -> None:
    run = verified_run("a")
    assert not run.dispatching.awaits_job(Stage.MAP, 0, 1)
    run.dispatching.launch(1, NOW)

    if isinstance(seen, JobSeen):
        run.agents.observe_job(seen, deleted=False, now=NOW)
    elif isinstance(seen, PodSeen):
        observe(run, seen)

    assert run.dispatching.awaits_job(Stage.MAP, 0, 1) is awaits
    assert not run.dispatching.awaits_job(Stage.MAP, 0, 2)


# ------------------------------------------------------------------------------------------------------------ announced


def test_the_first_failure_of_each_reason_is_announced_and_no_other() -> None:
    run = verified_run("abcd")
    launch(run)
    oom = ContainerEnd(137, reason="OOMKilled")

    first = observe(run, pod("demo-b-d1", CRASHED))
    again = observe(run, pod("demo-a-d1", CRASHED))
    other = observe(run, pod("demo-c-d1", oom))
    evicted = observe(run, pod("demo-d-d1", phase="Failed", disruption="EvictionByEvictionAPI"))

    (announced,) = first
    assert isinstance(announced, Announce)
    assert (announced.kind, announced.reason) == ("Warning", "FirstError")
    assert with_id(announced, ["a", "the second", "c", "d"]).message.startswith(
        "item 'the second' (Job demo-b-d1): boom - The agent exited with an error;"
    )
    assert again == []
    assert [effect.reason for effect in other if isinstance(effect, Announce)] == ["FirstOOMKilled"]
    assert [(effect.kind, effect.reason) for effect in evicted if isinstance(effect, Announce)] == [
        ("Normal", "FirstEvicted")
    ]


def test_a_success_is_no_news_for_people() -> None:
    run = verified_run("ab")
    launch(run)

    assert observe(run, pod("demo-a-d1", DONE)) == []


# ------------------------------------------------------------------------------------------------------------- failures


def failures(run: RunState) -> list[tuple[Reason, int, int, str]]:
    """Reason, count, position and message of each kind of failure."""
    return [(known.reason, known.count, known.position, known.message) for known in run.tally.failures.values()]


def test_failures_are_counted_by_signature_when_they_are_durable() -> None:
    run = verified_run("abc")
    launch(run)
    observe(run, pod("demo-c-d1", ContainerEnd(1, message="boom 17")))
    observe(run, pod("demo-b-d1", ContainerEnd(1, message="bang")))
    observe(run, pod("demo-a-d1", ContainerEnd(1, message="boom 4")))
    assert run.tally.failures == {}

    commit(run)

    assert failures(run) == [(Reason.ERROR, 2, 2, "boom 17"), (Reason.ERROR, 1, 1, "bang")]
    assert run.tally.reasons == {Reason.ERROR: 3}


def test_of_a_long_message_the_status_shows_the_end() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", ContainerEnd(1, message="Traceback" + "x" * 1000 + " KeyError")))

    commit(run)

    ((_, _, _, message),) = failures(run)
    assert len(message) == 256
    assert message.startswith("…")
    assert message.endswith(" KeyError")


def test_an_item_that_is_given_up_for_its_interruptions_is_counted_among_the_failures() -> None:
    run = verified_run("ab", spec({"retry": {"maxInterruptions": 0}}))
    launch(run)

    observe(run, pod("demo-a-d1", gone=True))
    commit(run)

    given_up = run.ledgers[Stage.MAP][0]
    assert (given_up.state, given_up.cause) == (ItemState.DEAD_LETTERED, Cause.TOO_MANY_INTERRUPTIONS)
    assert failures(run) == [(Reason.DELETED, 1, 0, "the pod was deleted while the agent was running")]


# -------------------------------------------------------------------------------------------------------------- suspend


def test_a_suspended_run_starts_nothing_and_lets_agents_end() -> None:
    run = verified_run("abc", spec({"maxParallel": 2}))
    launch(run)

    run.respec(spec({"maxParallel": 2}, suspend=True), NOW)

    assert run.decide(NOW) == []
    assert run.dispatching.wanted(NOW) == 0
    observe(run, pod("demo-a-d1", DONE))
    assert run.ledgers[Stage.MAP][0].state is ItemState.SUCCEEDED
    assert launch(run) == []


def test_a_run_that_is_resumed_goes_on() -> None:
    run = verified_run("abc")
    run.respec(spec(suspend=True), NOW)
    assert launch(run) == []

    run.respec(spec(), NOW)

    assert launch(run) == ["demo-a-d1", "demo-b-d1", "demo-c-d1"]


def test_a_suspended_run_still_saves_what_ended() -> None:
    run = verified_run("ab")
    launch(run)
    run.respec(spec(suspend=True), NOW)
    observe(run, pod("demo-a-d1", DONE))

    assert run.next_wake(NOW) == NOW + 5
    assert run.commits.due(NOW + 5) == [Commit(CommitReason.TIME)]


def test_suspending_may_interrupt_agents_once_each() -> None:
    run = verified_run("ab")
    launch(run)
    commit(run)

    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)

    assert run.decide(NOW) == [DeleteJob("demo-a-d1", "uid-demo-a-d1"), DeleteJob("demo-b-d1", "uid-demo-b-d1")]
    assert run.decide(NOW) == []


def test_an_agent_is_not_interrupted_before_its_start_is_durable_and_that_is_made_at_once() -> None:
    run = verified_run("a")
    launch(run)
    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)

    assert run.decide(NOW) == []
    assert run.commits.due(NOW) == [Commit(CommitReason.IDLE)]
    commit(run)

    assert run.decide(NOW) == [DeleteJob("demo-a-d1", "uid-demo-a-d1")]


def test_what_is_being_launched_waits_when_the_spec_does_not_let_it_start_any_more() -> None:
    run = verified_run("abc", spec({"maxParallel": 3}))
    run.dispatching.launch(3, NOW)
    assert all(run.dispatching.awaits_job(Stage.MAP, position, 1) for position in range(3))

    run.respec(spec({"maxParallel": 1}), NOW)
    assert not run.dispatching.awaits_job(Stage.MAP, 0, 1)
    run.agents.refused(Stage.MAP, 0, 1)
    run.agents.refused(Stage.MAP, 1, 1)
    assert run.dispatching.awaits_job(Stage.MAP, 2, 1), "this one is the one that may"

    run.respec(spec({"maxParallel": 1}, suspend=True), NOW)
    assert not run.dispatching.awaits_job(Stage.MAP, 2, 1)


def test_jobs_that_came_and_went_untold_are_asked_for_once_a_minute_while_agents_run() -> None:
    run = verified_run("a")
    run.resume(NOW, CHECKPOINT)
    assert run.decide(NOW + VANISHED_SECONDS) == [], "nothing runs"
    all_run(run, launch(run, seconds=61), seconds=61)
    commit(run, seconds=62)

    assert run.next_wake(NOW + 62) == NOW + 2 * VANISHED_SECONDS
    assert run.decide(NOW + 2 * VANISHED_SECONDS) == [FindVanished()]
    assert run.decide(NOW + 2 * VANISHED_SECONDS) == []
    assert [job.name for job in run.agents.carrying()] == ["demo-a-d1"]


def test_a_job_of_an_earlier_dispatch_is_over_whatever_waits_of_the_last() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", gone=True))
    commit(run)
    launch(run)
    observe(run, pod("demo-a-d2", gone=True))
    stale = replace(job("demo-a-d1"), uid="uid-of-a-former-leader")

    assert run.agents.observe_job(stale, deleted=False, now=NOW) == [DeleteJob("demo-a-d1", "uid-of-a-former-leader")]


def test_a_job_whose_outcome_is_settled_and_not_durable_is_nobodys_to_delete() -> None:
    run = verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", gone=True))
    of_another_leader = replace(job("demo-a-d1"), uid="uid-of-another-leader")

    assert run.agents.observe_job(of_another_leader, deleted=False, now=NOW) == []
    commit(run)
    assert run.agents.observe_job(of_another_leader, deleted=False, now=NOW) == [
        DeleteJob("demo-a-d1", "uid-of-another-leader")
    ]


def test_an_agent_whose_job_is_still_being_created_is_interrupted_when_the_job_is_known() -> None:
    run = verified_run("a")
    run.dispatching.launch(1, NOW)
    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)
    assert run.decide(NOW) == []

    run.agents.started(Stage.MAP, 0, 1, "uid-demo-a-d1", NOW)
    commit(run)

    assert run.decide(NOW) == [DeleteJob("demo-a-d1", "uid-demo-a-d1")]


def test_an_agent_that_was_interrupted_by_suspending_burnt_no_attempt_and_says_why() -> None:
    run = verified_run("a")
    launch(run)
    commit(run)
    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)
    run.decide(NOW)

    observe(run, pod("demo-a-d1", gone=True))

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.PENDING, interruptions=1, reason=Reason.SUSPENDED, excused=1)


def test_an_agent_that_was_done_before_it_could_be_interrupted_is_done() -> None:
    run = verified_run("a")
    launch(run)
    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)
    run.decide(NOW)

    observe(run, pod("demo-a-d1", DONE))

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)


def test_a_run_that_is_resumed_after_an_interruption_runs_its_items_again() -> None:
    run = verified_run("a")
    launch(run)
    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)
    run.decide(NOW)
    observe(run, pod("demo-a-d1", gone=True))
    commit(run)
    assert launch(run) == []

    run.respec(spec(), NOW)

    assert launch(run) == ["demo-a-d2"]


# ----------------------------------------------------------------------------------------------------------------- time


def test_a_run_wakes_for_the_earliest_of_what_it_waits_for() -> None:
    run = verified_run("abc")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    commit(run)
    assert run.next_wake(NOW) == NOW + 10, "the retry of a"

    run.agents.observe_job(job("demo-b-d1"), deleted=True, now=NOW + 2)
    assert run.next_wake(NOW) == NOW + 7, "the silence of b's pod"

    observe(run, pod("demo-c-d1", DONE), seconds=1)
    assert run.next_wake(NOW) == NOW + 6, "the next commit"


def test_a_moment_that_has_passed_is_now() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    commit(run)

    assert run.next_wake(NOW + 99) == NOW + 99


def test_a_suspended_run_does_not_wake_for_retries() -> None:
    run = verified_run("ab")
    all_run(run, launch(run))
    observe(run, pod("demo-a-d1", CRASHED))
    commit(run)

    run.respec(spec(suspend=True), NOW)

    assert run.next_wake(NOW) is None
