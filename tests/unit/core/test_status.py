"""What the world is told of a run: only what is durable, and never much."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import (
    BreakerState,
    Cause,
    CircuitBreaker,
    DeadLetterStatus,
    FailurePolicy,
    ItemCounts,
    ItemState,
    MapReduceJobSpec,
    MapReduceJobStatus,
    Phase,
    Reason,
    ReduceStatus,
    StatePositions,
)
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.checkpoint import SCHEMA_VERSION, Checkpoint, CommitReason, PlanInfo
from mapreduce_operator.core.conditions import Situation
from mapreduce_operator.core.items import Item, Started
from mapreduce_operator.core.journal import Accepted, Record, Segment, SegmentHeader
from mapreduce_operator.core.names import RunRef, Stage, item_key
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.signatures import signature_of
from mapreduce_operator.core.status import (
    TOP_FAILURES,
    Report,
    seen_at,
    status_before_loading,
    status_of,
    status_without_plan,
)
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen

NOW: Final = 1_800_000_000.0
RUN: Final = RunRef("default", "demo", "run-1")
REDUCE_KEY: Final = item_key("run-1", Stage.REDUCE, "reduce")
PLANNED: Final = Turn(Phase.MAP, "Planned", "the items are planned")
TEMPLATE: Final[dict[str, Any]] = {"spec": {"containers": [{"name": "agent", "image": "agent:1"}]}}
MAP_ONLY: Final = MapReduceJobSpec.model_validate({"input": {"items": []}, "map": {"template": TEMPLATE}})
WITH_REDUCE: Final = MapReduceJobSpec.model_validate(
    {"input": {"items": []}, "map": {"template": TEMPLATE}, "reduce": {"template": TEMPLATE}}
)
RUNNING: Final = Situation(Phase.MAP, "Planned", "the items are planned")
REPORT: Final = Report(
    ref=RUN, generation=4, situation=RUNNING, storage_url="file:///var/lib/x/", start_time=NOW - 100, before=()
)

DONE: Final = ContainerEnd(0, message='{"ok": true}')
CRASHED: Final = ContainerEnd(1, message="boom")


def head(items: int, phase: Phase = Phase.MAP) -> Checkpoint:
    return Checkpoint(
        schema_version=SCHEMA_VERSION,
        run_uid="run-1",
        phase=phase,
        phase_reason="Planned",
        phase_message="the items are planned",
        plan=PlanInfo(items=items, duplicates=2, sha256="ab" * 32),
        sequence=3,
        turned_at=NOW - 1,
        committed_at=NOW - 1,
        reason=CommitReason.ITEMS,
    )


def run_with(*items: Item, spec: MapReduceJobSpec = MAP_ONLY) -> RunState:
    """A run whose items are durable in these states; those that run have a Job."""
    run = RunState(RUN, spec, [f"key-{position}" for position in range(len(items))], PLANNED)
    for position, item in enumerate(items):
        run.ledgers[Stage.MAP].restore(position, item)
    return run


def end(run: RunState, position: int, agent: ContainerEnd | None, stage: Stage = Stage.MAP) -> None:
    """The pod of a running item is seen to end, or to be gone."""
    ledger = run.ledgers[stage]
    dispatch = Dispatch(ledger.key(position), ledger[position].dispatch)
    carried = Carried("run-1", stage, (dispatch,), "5f1c")
    uid = f"uid-{stage}-{position}"
    run.agents.observe_job(JobSeen("default", uid, uid, "run-1", carried), deleted=False, now=NOW)
    phase = "Running" if agent is None else "Failed"
    pod = PodSeen(
        "default", "pod", "pod", uid, uid, carried, phase=phase, gone=agent is None, agent=agent, started=True
    )
    run.agents.observe_pod(pod, run.templates.rule(stage), NOW)


def status(run: RunState, report: Report = REPORT, id_of: Callable[[int], str] = str) -> MapReduceJobStatus:
    return status_of(run, head(len(run.ledgers[Stage.MAP]), report.situation.phase), id_of, report, NOW)


def counts(run: RunState) -> ItemCounts:
    found = status(run).items
    assert found is not None
    return found


def positions(run: RunState) -> StatePositions:
    found = status(run).positions
    assert found is not None
    assert found.map is not None
    return found.map


# ---------------------------------------------------------------------------------------------------------------- whole


def test_the_status_of_a_running_job() -> None:
    run = run_with(
        Item(ItemState.SUCCEEDED, attempts=1),
        Item(ItemState.RUNNING, attempts=1, job_uid="uid-1"),
        Item(ItemState.RETRY_WAIT, attempts=2, interruptions=1, not_before=NOW + 10, reason=Reason.ERROR),
        Item(),
        Item(ItemState.DEAD_LETTERED, attempts=3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED),
        Item(ItemState.SKIPPED, attempts=1, reason=Reason.ERROR, cause=Cause.NOT_RETRYABLE),
    )

    written = status(run).to_kubernetes()

    conditions = {condition["type"]: condition["status"] for condition in written.pop("conditions")}
    assert conditions["Ready"] == "True"
    assert conditions["Finished"] == "False"
    assert written.pop("templateRevisions").keys() == {"map"}
    assert written == {
        "observedGeneration": 4,
        "phase": "Map",
        "reason": "Planned",
        "progress": "3/6",
        "active": 1,
        "selector": "mapreduce.dev/run-uid=run-1",
        "startTime": "2027-01-15T07:58:20Z",
        "plan": {
            "items": 6,
            "read": 8,
            "filteredOut": 0,
            "duplicates": 2,
            "outOfRange": 0,
            "sha256": "ab" * 32,
            "prefix": "default/demo/run-1/",
        },
        "items": {
            "total": 6,
            "pending": 1,
            "running": 1,
            "retryWait": 1,
            "succeeded": 1,
            "deadLettered": 1,
            "skipped": 1,
        },
        "attempts": {"total": 8, "interruptions": 1, "retries": 0},
        "positions": {
            "map": {
                "pending": "3",
                "running": "1",
                "retryWait": "2",
                "succeeded": "0",
                "deadLettered": "4",
                "skipped": "5",
            }
        },
        "failures": [],
        "failuresByReason": {},
        "checkpoint": {
            "sequence": 3,
            "time": "2027-01-15T07:59:59Z",
            "reason": "Items",
            "token": "",
            "bytes": 0,
            "durationSeconds": 0,
            "kept": "",
            "storedBytes": 0,
        },
        "storage": "file:///var/lib/x/default/demo/run-1/",
    }


def test_the_status_of_a_job_that_is_not_planned_yet() -> None:
    planning = replace(REPORT, situation=Situation(Phase.PLANNING, "Planning", "the input is being planned"))

    written = status_without_plan(planning, NOW).to_kubernetes()

    assert {condition["type"] for condition in written.pop("conditions")} >= {"Ready", "Reconciling", "Finished"}
    assert written == {
        "observedGeneration": 4,
        "phase": "Planning",
        "reason": "Planning",
        "selector": "mapreduce.dev/run-uid=run-1",
        "startTime": "2027-01-15T07:58:20Z",
        "failures": [],
        "failuresByReason": {},
        "storage": "file:///var/lib/x/default/demo/run-1/",
    }


@pytest.mark.parametrize(
    ("situation", "phase", "reason"),
    [
        (RUNNING, Phase.MAP, "Planned"),
        (replace(RUNNING, suspended=True), Phase.PAUSED, "Suspended"),
        (replace(RUNNING, obstacle=("TemplateRejected", "no")), Phase.MAP, "TemplateRejected"),
        (replace(RUNNING, suspended=True, obstacle=("TemplateRejected", "no")), Phase.PAUSED, "Suspended"),
        (Situation(Phase.SUCCEEDED, "AllItemsSucceeded", ""), Phase.SUCCEEDED, "AllItemsSucceeded"),
        (Situation(Phase.SUCCEEDED, "AllItemsSucceeded", "", suspended=True), Phase.SUCCEEDED, "AllItemsSucceeded"),
        (
            Situation(Phase.FAILED, "NoItemSucceeded", "", obstacle=("TemplateRejected", "no")),
            Phase.FAILED,
            "NoItemSucceeded",
        ),
    ],
)
def test_phase_and_reason_are_those_that_a_person_asks_for(situation: Situation, phase: Phase, reason: str) -> None:
    written = status(run_with(Item()), replace(REPORT, situation=situation))

    assert (written.phase, written.reason) == (phase, reason)


def test_a_finished_job_has_a_completion_time_and_others_have_none() -> None:
    run = run_with(Item(ItemState.SUCCEEDED, attempts=1))
    finished = replace(REPORT, situation=Situation(Phase.SUCCEEDED, "AllItemsSucceeded", ""))

    assert status(run).completion_time is None
    completion = status(run, finished).completion_time
    assert completion is not None
    assert completion.timestamp() == NOW - 1


def test_conditions_keep_the_time_of_their_last_transition() -> None:
    run = run_with(Item())
    before = status(run).conditions

    later = replace(REPORT, before=before, situation=replace(RUNNING, reason="MapFinished"))

    assert {one.type: one.last_transition_time for one in status_of(run, head(1), str, later, NOW + 99).conditions} == {
        one.type: one.last_transition_time for one in before
    }


def test_a_planned_job_that_cannot_be_loaded_yet_keeps_its_status_and_says_what_is_wrong() -> None:
    written = status(run_with(Item(ItemState.SUCCEEDED, attempts=1), Item()))
    away = replace(RUNNING, storage_problem=("StorageUnavailable", "connection refused"))

    told = status_before_loading(written, away, 9, NOW + 99)

    (healthy,) = (one for one in told.conditions if one.type == "CheckpointHealthy")
    assert (healthy.reason, healthy.message) == ("StorageUnavailable", "connection refused")
    assert told.model_copy(update={"conditions": written.conditions}) == written


def test_a_job_whose_state_a_person_has_to_mend_answers_to_the_object_as_it_is() -> None:
    written = status(run_with(Item(ItemState.SUCCEEDED, attempts=1), Item()))
    lost = replace(RUNNING, obstacle=("StateTooNew", "run the newer operator again"))

    told = status_before_loading(written, lost, 9, NOW + 99)

    (stalled,) = (one for one in told.conditions if one.type == "Stalled")
    assert (stalled.reason, stalled.observed_generation, told.observed_generation) == ("StateTooNew", 9, 9)


def test_a_status_that_still_holds_answers_to_a_later_version_of_the_object() -> None:
    written = status(run_with(Item()))

    later = seen_at(written, 9, "")

    assert later.observed_generation == 9
    assert {one.observed_generation for one in later.conditions} == {9}
    assert seen_at(later, 4, "") == written


def test_of_a_run_that_has_ended_the_last_checkpoint_is_the_one_that_is_asked_for() -> None:
    written = status(run_with(Item()))
    assert written.checkpoint is not None

    answered = seen_at(written, 4, "now")

    assert answered.checkpoint == written.checkpoint.model_copy(update={"token": "now"})
    assert seen_at(answered, 4, "") == answered


# -------------------------------------------------------------------------------------------------- what is not durable


@pytest.mark.parametrize("agent", [DONE, CRASHED, None], ids=["succeeded", "failed", "interrupted"])
def test_an_outcome_that_is_not_durable_is_not_claimed(agent: ContainerEnd | None) -> None:
    run = run_with(Item(ItemState.SUCCEEDED, attempts=1), Item())
    run.ledgers[Stage.MAP].apply(1, Started(1, "uid-map-1"), MAP_ONLY.map.retry, NOW)
    before = status(run)

    end(run, 1, agent)
    claimed = status(run)

    assert claimed.items == before.items
    assert claimed.positions == before.positions
    assert claimed.attempts == before.attempts
    assert claimed.progress == "1/2"
    assert claimed.failures == ()


@pytest.mark.parametrize(
    ("agent", "expected", "attempts"),
    [
        (DONE, ItemCounts(total=1, succeeded=1), (1, 0)),
        (CRASHED, ItemCounts(total=1, retry_wait=1), (1, 0)),
        (None, ItemCounts(total=1, pending=1), (0, 1)),
    ],
    ids=["succeeded", "failed", "interrupted"],
)
def test_an_outcome_that_is_durable_is_told(
    agent: ContainerEnd | None, expected: ItemCounts, attempts: tuple[int, int]
) -> None:
    run = run_with(Item())
    end(run, 0, agent)

    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)

    assert counts(run) == expected
    told = status(run).attempts
    assert told is not None
    assert (told.total, told.interruptions) == attempts


def test_what_a_commit_in_flight_holds_is_not_durable_either() -> None:
    run = run_with(Item())
    end(run, 0, DONE)

    run.commits.begin(CommitReason.ITEMS, NOW)

    assert counts(run) == ItemCounts(total=1, running=1)
    assert positions(run) == StatePositions(running="0")


@given(st.lists(st.sampled_from([DONE, CRASHED, None]), min_size=1, max_size=6), st.data())
def test_counts_always_sum_to_the_total_and_never_exceed_what_is_durable(
    ends: list[ContainerEnd | None], data: st.DataObject
) -> None:
    run = run_with(*[Item()] * len(ends))
    durable = data.draw(st.integers(0, len(ends)))
    for position, agent in enumerate(ends[:durable]):
        end(run, position, agent)
    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)
    for position, agent in enumerate(ends[durable:], start=durable):
        end(run, position, agent)

    found, told = counts(run), status(run).attempts

    assert found.pending + found.running + found.retry_wait + found.succeeded + found.dead_lettered == len(ends)
    assert found.running == len(ends) - durable
    assert found.succeeded == ends[:durable].count(DONE)
    assert told is not None
    assert told.total == durable - ends[:durable].count(None)
    assert told.interruptions == ends[:durable].count(None)


# ------------------------------------------------------------------------------------------------------------- failures


def failure(position: int, reason: Reason, message: str) -> Record:
    outcome = Outcome(Stage.MAP, Dispatch(f"key-{position}", 1), "u", Verdict.FAILED, reason, message)
    item = Item(ItemState.DEAD_LETTERED, attempts=1, reason=reason, cause=Cause.ATTEMPTS_EXHAUSTED)
    return Record(outcome, item)


def failed(run: RunState, *failures: Record) -> None:
    """These outcomes are durable."""
    run.books.replay(Segment(SegmentHeader(1, "", Phase.MAP, NOW, CommitReason.ITEMS), list(failures)))


def test_the_most_frequent_failures_come_first_each_with_an_item_as_a_sample() -> None:
    run = run_with(*[Item()] * 3)
    failed(
        run,
        failure(1, Reason.OOM_KILLED, "big"),
        failure(0, Reason.ERROR, "boom after 17 s"),
        failure(2, Reason.ERROR, "boom after 4 s"),
    )

    told = status(run, id_of=["GPL-3", "MIT", "Apache-2.0"].__getitem__).to_kubernetes()

    text = signature_of(Reason.ERROR, None, "boom after 4 s").text
    assert told["failures"] == [
        {"reason": "Error", "signature": text, "count": 2, "sampleItemId": "GPL-3", "message": "boom after 17 s"},
        {"reason": "OOMKilled", "signature": "OOMKilled: big", "count": 1, "sampleItemId": "MIT", "message": "big"},
    ]
    assert told["failuresByReason"] == {"Error": 2, "OOMKilled": 1}


def test_kinds_of_failure_that_are_equally_frequent_stand_in_an_order_that_stays() -> None:
    one, other = failure(0, Reason.ERROR, "boom"), failure(1, Reason.ERROR, "bang")
    orders = []
    for records in ((one, other), (other, one)):
        run = run_with(Item(), Item())
        failed(run, *records)
        orders.append([known.signature for known in status(run).failures])

    assert orders[0] == orders[1]


def test_there_is_room_for_every_reason_there_is() -> None:
    run = run_with(*[Item()] * len(Reason))
    failed(run, *(failure(position, reason, "x" * 1024) for position, reason in enumerate(Reason)))

    assert len(status(run).failures) == min(len(Reason), TOP_FAILURES)
    assert status(run).failures_by_reason == dict.fromkeys(Reason, 1)


# -------------------------------------------------------------------------------------------- dead letters, the breaker


def run_with_letters(number: int) -> RunState:
    run = run_with(*[Item()] * number)
    failed(run, *(failure(position, Reason.ERROR, "boom") for position in range(number)))
    return run


def redrive(run: RunState, *letters: int) -> None:
    accepted = Accepted(len(run.redrives) + 1, f"uid-{len(run.redrives)}", "again", NOW, len(letters))
    run.redrive(accepted, 1, dict.fromkeys(letters, 0.0), NOW)


def test_a_job_without_letters_and_without_a_queue_says_nothing_of_them() -> None:
    assert status(run_with(Item())).dead_letters is None


def test_letters_whose_queue_could_not_be_made_yet_are_told_without_its_name() -> None:
    assert status(run_with_letters(3)).dead_letters == DeadLetterStatus(queue="", open=3, unresolved=3)


def test_the_queue_is_told_with_what_is_left_to_do_in_it() -> None:
    run = run_with_letters(3)

    told = status(run, replace(REPORT, queue="demo")).dead_letters

    assert told == DeadLetterStatus(queue="demo", open=3, unresolved=3)


def test_what_a_redrive_took_stays_given_up_until_that_is_durable() -> None:
    run = run_with_letters(3)

    redrive(run, 0, 2)
    before = counts(run), positions(run)
    run.commits.done(run.commits.begin(CommitReason.REDRIVE, NOW), NOW)

    assert before == (ItemCounts(total=3, dead_lettered=3), StatePositions(dead_lettered="0-2"))
    assert (counts(run), positions(run)) == (
        ItemCounts(total=3, pending=2, dead_lettered=1),
        StatePositions(pending="0,2", dead_lettered="1"),
    )


def test_counts_follow_a_letter_that_is_resolved() -> None:
    run = run_with_letters(2)
    redrive(run, 1)
    run.commits.done(run.commits.begin(CommitReason.REDRIVE, NOW), NOW)
    end(run, 1, DONE)
    assert counts(run) == ItemCounts(total=2, running=1, dead_lettered=1)

    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)

    assert counts(run) == ItemCounts(total=2, succeeded=1, dead_lettered=1)
    assert status(run, replace(REPORT, queue="demo")).dead_letters == DeadLetterStatus(
        queue="demo", open=1, unresolved=1
    )


def test_a_job_without_a_circuit_breaker_says_nothing_of_one() -> None:
    assert status(run_with(Item())).breaker is None


@pytest.mark.parametrize(
    ("breaker", "told"),
    [
        (Breaker(), {"state": "Closed", "failuresInARow": 0}),
        (Breaker(failures=4), {"state": "Closed", "failuresInARow": 4}),
        (
            Breaker(BreakerState.OPEN, 5, NOW + 60),
            {"state": "Open", "failuresInARow": 5, "openUntil": "2027-01-15T08:01:00Z"},
        ),
        (Breaker(BreakerState.HALF_OPEN, 5), {"state": "HalfOpen", "failuresInARow": 5}),
    ],
    ids=["closed", "failing", "open", "half open"],
)
def test_the_circuit_breaker_is_told_as_it_is(breaker: Breaker, told: dict[str, Any]) -> None:
    policy = FailurePolicy(circuit_breaker=CircuitBreaker(failures_in_a_row=5))
    run = run_with(Item(), spec=MAP_ONLY.model_copy(update={"failure_policy": policy}))

    run.guard.breaker = breaker

    assert status(run).to_kubernetes()["breaker"] == told


def test_retries_that_the_job_has_spent_are_told_when_they_are_durable() -> None:
    run = run_with(Item(), Item())
    end(run, 0, CRASHED)
    end(run, 1, DONE)
    before = status(run).attempts

    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)

    after = status(run).attempts
    assert before is not None
    assert after is not None
    assert (before.retries, after.retries) == (0, 1)


# --------------------------------------------------------------------------------------------------------------- reduce


def test_a_job_without_reduce_says_nothing_of_it() -> None:
    assert status(run_with(Item())).reduce is None


def test_a_reduce_that_has_not_run_is_pending() -> None:
    assert status(run_with(Item(), spec=WITH_REDUCE)).reduce == ReduceStatus(state=ItemState.PENDING)


@pytest.mark.parametrize("agent", [DONE, CRASHED, None], ids=["succeeded", "failed", "interrupted"])
def test_an_outcome_of_reduce_that_is_not_durable_is_not_claimed(agent: ContainerEnd | None) -> None:
    run = run_with(Item(ItemState.SUCCEEDED, attempts=1), spec=WITH_REDUCE)

    end(run, 0, agent, Stage.REDUCE)

    assert status(run).reduce == ReduceStatus(state=ItemState.RUNNING, attempts=0)
    assert status(run).result is None


@pytest.mark.parametrize(
    ("agent", "expected", "result"),
    [
        (DONE, ReduceStatus(state=ItemState.SUCCEEDED, attempts=1), {"ok": True}),
        (CRASHED, ReduceStatus(state=ItemState.RETRY_WAIT, attempts=1, message="boom"), None),
        (
            None,
            ReduceStatus(
                state=ItemState.PENDING, attempts=0, message="the pod was deleted while the agent was running"
            ),
            None,
        ),
    ],
    ids=["succeeded", "failed", "interrupted"],
)
def test_an_outcome_of_reduce_that_is_durable_is_told(
    agent: ContainerEnd | None, expected: ReduceStatus, result: Any
) -> None:
    run = run_with(Item(ItemState.SUCCEEDED, attempts=1), spec=WITH_REDUCE)
    end(run, 0, agent, Stage.REDUCE)

    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)

    assert status(run).reduce == expected
    assert status(run).result == result


@pytest.mark.parametrize("text", ["null", "0", '""', "[1, 2.50]", '{"a": null}'])
def test_any_result_of_reduce_can_be_shown(text: str) -> None:
    run = run_with(Item(ItemState.SUCCEEDED, attempts=1), spec=WITH_REDUCE)

    end(run, 0, ContainerEnd(0, message=text), Stage.REDUCE)
    run.commits.done(run.commits.begin(CommitReason.ITEMS, NOW), NOW)

    assert status(run).result == json.loads(text)


# ----------------------------------------------------------------------------------------------------------------- size


def test_100_000_items_with_500_running_and_no_two_neighbours_alike_stay_below_64_kib() -> None:
    states = [state for state in ItemState if state is not ItemState.RUNNING]
    spec = WITH_REDUCE.model_copy(update={"failure_policy": FailurePolicy(circuit_breaker=CircuitBreaker())})
    run = RunState(RUN, spec, [f"key-{position}" for position in range(100_000)], PLANNED)
    ledger = run.ledgers[Stage.MAP]
    for position in range(100_000):
        state = ItemState.RUNNING if position % 200 == 7 else states[position % len(states)]
        ledger.restore(position, Item(state, attempts=3, interruptions=9, reason=Reason.ERROR))
    account = run.books.account
    for position, reason in enumerate(Reason):
        account.take(failure(position, reason, "Xx" * 512), position)
    reduced = Outcome(Stage.REDUCE, Dispatch(REDUCE_KEY, 1), "u", Verdict.SUCCEEDED, result=b'"' + b"x" * 4094 + b'"')
    account.take(Record(reduced, Item(ItemState.SUCCEEDED, attempts=1)), 0)
    wordy = replace(
        RUNNING,
        message="x" * 5000,
        suspended=True,
        still_running=500,
        storage_problem=("StorageUnavailable", "x" * 5000),
        obstacle=("TemplateRejected", "x" * 5000),
    )

    run.guard.breaker = Breaker(BreakerState.OPEN, 10_000, NOW + 60)

    told = status(run, replace(REPORT, situation=wordy, queue="x" * 253), id_of=lambda _: "x" * 4096)

    assert told.items == ItemCounts(
        total=100_000, running=500, **{state.name.lower(): ledger.counts[state] for state in states}
    )
    assert len(json.dumps(told.to_kubernetes(), ensure_ascii=False).encode()) < 64 * 1024
    assert MapReduceJobStatus.model_validate(told.to_kubernetes()) == told


def test_a_plan_of_one_state_is_one_interval() -> None:
    run = RunState(RUN, MAP_ONLY, [f"key-{position}" for position in range(100_000)], PLANNED)

    assert positions(run) == StatePositions(pending="0-99999")
