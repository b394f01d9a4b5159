"""Limits on failure, the queue and Redrives in the course of a run: what is started, what is not, and how it ends."""

from typing import Any, Final

import msgspec
import pytest

from mapreduce_operator.api import (
    BreakerState,
    Cause,
    DeadLetterPolicy,
    ItemState,
    LetterState,
    OnFull,
    Phase,
    Reason,
    ResultsAs,
)
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.effects import Announce, Commit, Launch, PrepareReduce
from mapreduce_operator.core.journal import Accepted, Claim, Mark, MarkKind
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.phases import REDRIVING
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import ContainerEnd
from tests.unit.core.scenes import (
    CHECKPOINT,
    CRASHED,
    DONE,
    NOW,
    REDUCE_KEY,
    TEMPLATE,
    commit,
    landed,
    launch,
    observe,
    pod,
    spec,
    verified_run,
)

ONCE: Final[dict[str, Any]] = {"retry": {"maxAttempts": 1}}


def once(**more: Any) -> dict[str, Any]:
    """The map of a job whose items have one attempt."""
    return ONCE | more


def end(run: RunState, agent: ContainerEnd | None, *keys: str, seconds: float = 0.0) -> None:
    """The agents of these items end, whatever dispatch they are at."""
    ledger = run.ledgers[Stage.MAP]
    for key in keys:
        position = ledger.position(key)
        assert position is not None
        observe(run, pod(f"demo-{key}-d{ledger[position].dispatch}", agent, gone=agent is None), seconds)


def turned(run: RunState, seconds: float = 0.0) -> tuple[Phase, str]:
    """Where the run is after everything was decided and became durable."""
    run.decide(NOW + seconds)
    commit(run, seconds)
    return run.committed_turn.phase, run.committed_turn.reason


def redrive(run: RunState, *letters: int, attempts: int = 1, seconds: float = 0.0, **more: Any) -> None:
    """A Redrive takes these letters; `seconds` is how long they wait."""
    number = len(run.redrives) + 1
    accepted = Accepted(number, f"uid-{number}", f"again-{number}", NOW, len(letters), **more)
    run.redrive(accepted, attempts, dict.fromkeys(letters, NOW + seconds if seconds else 0.0), NOW)


def ended_run(keys: str, failed: str, **more: Any) -> RunState:
    """A run of which these items failed, with all that durable, at its end or where reduce begins."""
    run = verified_run(keys, spec(once(), **more))
    launch(run)
    end(run, CRASHED, *failed)
    end(run, DONE, *(key for key in keys if key not in failed))
    turned(run)
    return run


def states(run: RunState) -> str:
    ledger = run.ledgers[Stage.MAP]
    return " ".join(ledger[position].state for position in range(len(ledger)))


def restarted(run: RunState, batches: list[Batch], keys: str) -> RunState:
    """The same run in another process."""
    again = verified_run(keys, run.spec, run.committed_turn)
    for batch in batches:
        again.books.replay(landed(batch))
    again.resume(NOW, msgspec.structs.replace(CHECKPOINT, breaker=batches[-1].breaker))
    return again


# --------------------------------------------------------------------------------------------------------------- limits

STOPS: Final = [
    ({"failurePolicy": {"onExhausted": "Stop"}}, 1, "ItemFailed"),
    ({"failurePolicy": {"maxFailures": 2}}, 2, "MaxFailuresReached"),
    ({"failurePolicy": {"failureThreshold": {"ratio": 0.5, "minSamples": 2}}}, 2, "FailureThresholdExceeded"),
    ({"deadLetter": {"capacity": 2, "onFull": "Fail"}}, 2, "DeadLetterQueueFull"),
]


@pytest.mark.parametrize(("policy", "failures", "reason"), STOPS, ids=[reason for _, _, reason in STOPS])
def test_a_job_at_its_limit_starts_no_more_lets_agents_end_and_fails(
    policy: dict[str, Any], failures: int, reason: str
) -> None:
    run = verified_run("abcdef", spec(once(maxParallel=3), **policy))
    launch(run)
    for key in "abc"[: failures - 1]:
        end(run, CRASHED, key)
    assert run.course.stop() is None
    end(run, CRASHED, "abc"[failures - 1])

    assert launch(run) == []
    assert run.dispatching.wanted(NOW) == 0
    stop = run.course.stop()
    assert stop is not None
    assert (stop[0], run.course.hindrance()) == (reason, stop)
    commit(run)
    assert launch(run) == []
    assert run.phase is Phase.MAP, "an agent still runs"

    end(run, DONE, *"abc"[failures:])
    assert turned(run) == (Phase.FAILED, reason)
    assert run.ledgers[Stage.MAP].counts[ItemState.PENDING] == 3
    assert run.dead_letters.open_count == failures, "what trips a limit is in the queue"


def test_the_letter_that_trips_a_limit_is_in_the_batch_that_ends_the_run() -> None:
    run = verified_run("ab", spec(once(maxParallel=1), failurePolicy={"onExhausted": "Stop"}))
    launch(run)
    end(run, CRASHED, "a")
    run.decide(NOW)

    batch = run.commits.begin(CommitReason.PHASE_CHANGE, NOW)

    assert batch.turn.phase is Phase.FAILED
    assert [letter.position for letter in batch.letters] == [0]


def test_a_limit_that_is_raised_while_agents_still_run_lets_the_job_go_on() -> None:
    run = verified_run("abc", spec(once(maxParallel=2), failurePolicy={"maxFailures": 1}))
    launch(run)
    end(run, CRASHED, "a")
    commit(run)
    assert launch(run) == []

    run.respec(spec(once(maxParallel=2), failurePolicy={"maxFailures": 2}), NOW)

    assert launch(run) == ["demo-c-d1"]


def test_a_job_that_was_stopped_runs_no_reduce() -> None:
    run = verified_run("ab", spec(once(), failurePolicy={"maxFailures": 1}, reduce={"template": TEMPLATE}))
    launch(run)
    end(run, CRASHED, "a")
    end(run, DONE, "b")

    assert turned(run) == (Phase.FAILED, "MaxFailuresReached")


def test_items_that_are_left_out_become_no_letters_and_the_job_ends_without_them() -> None:
    run = verified_run("abc", spec(once(), failurePolicy={"onExhausted": "Skip"}))
    launch(run)
    end(run, CRASHED, "a")
    end(run, DONE, "b", "c")

    batch = run.commits.begin(CommitReason.ITEMS, NOW)
    run.commits.done(batch, NOW)

    assert batch.letters == ()
    assert len(run.dead_letters) == 0
    assert run.ledgers[Stage.MAP][0].state is ItemState.SKIPPED
    assert turned(run) == (Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed")


def test_a_launch_that_a_limit_overtook_is_taken_back() -> None:
    run = verified_run("abc", spec(once(maxParallel=3), failurePolicy={"onExhausted": "Stop"}))
    launch(run)
    end(run, None, "b")
    commit(run)
    (again,) = run.dispatching.launch(1, NOW)
    assert isinstance(again, Launch)
    assert run.dispatching.awaits_job(Stage.MAP, 1, again.dispatch.number)

    end(run, CRASHED, "a")

    assert not run.dispatching.awaits_job(Stage.MAP, 1, again.dispatch.number)


# -------------------------------------------------------------------------------------------------- budget, the breaker


def test_a_budget_is_that_of_the_job_and_not_of_the_operators_process() -> None:
    limited = spec({"retry": {"maxAttempts": 9}}, failurePolicy={"retryBudget": {"maxRetries": 2}})
    run = verified_run("abc", limited)
    launch(run)
    end(run, CRASHED, "a", "b")
    batch = run.commits.begin(CommitReason.ITEMS, NOW)

    again = restarted(run, [batch], "abc")
    end(again, CRASHED, "c")

    third = again.ledgers[Stage.MAP][2]
    assert (third.state, third.cause) == (ItemState.DEAD_LETTERED, Cause.RETRY_BUDGET_EXHAUSTED)
    assert again.tally.retries == 2


def test_a_retry_counts_against_the_budget_before_it_is_durable() -> None:
    run = verified_run("ab", spec(failurePolicy={"retryBudget": {"maxRetries": 1}}))
    launch(run)

    end(run, CRASHED, "a", "b")

    assert states(run) == "RetryWait DeadLettered"


def with_breaker(keys: str = "abcdef", **map_: Any) -> RunState:
    breaker = {"failuresInARow": 2, "openSeconds": 60, "probes": 1}
    return verified_run(keys, spec(map_, failurePolicy={"circuitBreaker": breaker}))


def test_an_open_breaker_pauses_the_job_says_so_and_lets_one_probe_through() -> None:
    run = with_breaker(maxParallel=2)
    launch(run)
    end(run, CRASHED, "a", "b")
    commit(run)

    announced = [effect for effect in run.decide(NOW) if isinstance(effect, Announce)]
    assert [(one.kind, one.reason) for one in announced] == [("Warning", "CircuitOpen")]
    assert run.decide(NOW) == []
    hindrance = run.course.hindrance()
    assert hindrance is not None
    assert hindrance[0] == "CircuitOpen"
    assert launch(run, seconds=59) == []
    assert run.next_wake(NOW + 59) == NOW + 60

    assert len(launch(run, seconds=60)) == 1
    assert launch(run, seconds=1000) == []


def test_a_breaker_that_is_closed_again_says_so_and_all_goes_on() -> None:
    run = with_breaker(maxParallel=2)
    launch(run)
    end(run, CRASHED, "a", "b")
    commit(run)
    run.decide(NOW)
    launch(run, seconds=60)

    end(run, DONE, "a", seconds=61)

    assert [effect.reason for effect in run.decide(NOW + 61) if isinstance(effect, Announce)] == ["CircuitClosed"]
    commit(run, seconds=61)
    assert len(launch(run, seconds=61)) == 2


def test_an_open_breaker_is_announced_as_such_although_the_queue_is_full_too() -> None:
    breaker = {"failuresInARow": 2, "openSeconds": 60, "probes": 1}
    run = verified_run(
        "abc", spec(once(maxParallel=2), failurePolicy={"circuitBreaker": breaker}, deadLetter={"capacity": 1})
    )
    launch(run)
    end(run, CRASHED, "a", "b")
    commit(run)

    assert [effect.reason for effect in run.decide(NOW) if isinstance(effect, Announce)] == ["CircuitOpen"]


def test_a_breaker_is_saved_with_the_outcomes_that_opened_it() -> None:
    run = with_breaker(maxParallel=2)
    launch(run)
    assert run.commits.begin(CommitReason.TIME, NOW).breaker is None, "one that is as it always was is nothing to save"
    end(run, CRASHED, "a")
    assert run.commits.begin(CommitReason.TIME, NOW).breaker == Breaker(failures=1)
    end(run, CRASHED, "b")
    batch = run.commits.begin(CommitReason.ITEMS, NOW)
    assert batch.breaker == Breaker(BreakerState.OPEN, 2, NOW + 60)

    again = restarted(run, [batch], "abcdef")

    assert launch(again, seconds=59) == []
    assert len(launch(again, seconds=60)) == 1


def test_interruptions_open_no_breaker() -> None:
    run = with_breaker(maxParallel=6)
    launch(run)

    end(run, None, *"abcdef")
    commit(run)

    assert len(launch(run)) == 6


# ------------------------------------------------------------------------------------------------------- the full queue


def test_a_full_queue_pauses_new_items_and_not_those_that_a_redrive_took() -> None:
    run = verified_run("abcd", spec(once(maxParallel=2), deadLetter={"capacity": 1}))
    launch(run)
    end(run, CRASHED, "a", "b")
    assert launch(run) == [], "before the letters are durable"
    commit(run)
    assert launch(run) == []
    hindrance = run.course.hindrance()
    assert hindrance is not None
    assert hindrance[0] == "DeadLetterQueueFull"

    redrive(run, 0)
    commit(run)

    assert launch(run) == ["demo-a-d2"], "b is still open, and the queue full"
    end(run, DONE, "a")
    commit(run)
    assert launch(run) == []

    run.requeue(DeadLetterPolicy(capacity=2), NOW)
    assert launch(run) == ["demo-c-d1", "demo-d-d1"]


def test_room_that_a_redrive_makes_lets_new_items_run_when_that_is_durable() -> None:
    run = verified_run("abc", spec(once(maxParallel=1), deadLetter={"capacity": 1}))
    launch(run)
    end(run, CRASHED, "a")
    commit(run)

    redrive(run, 0, seconds=60)
    assert launch(run) == []
    commit(run)

    assert launch(run) == ["demo-b-d1"]


def test_a_queue_that_archives_sets_the_oldest_open_letters_aside_and_that_is_made_durable_at_once() -> None:
    run = verified_run("abc", spec(once(), deadLetter={"capacity": 1, "onFull": "Archive"}))
    launch(run)
    end(run, CRASHED, "b", "a", "c")
    commit(run)

    assert run.commits.due(NOW) == [Commit(CommitReason.REDRIVE)]
    batch = run.commits.begin(CommitReason.REDRIVE, NOW)
    assert batch.marks == (Mark("b", MarkKind.ARCHIVED), Mark("a", MarkKind.ARCHIVED))
    assert run.dead_letters.open_count == 3, "the queue speaks of what is durable"
    run.commits.done(batch, NOW)

    assert list(run.dead_letters.open()) == [2]
    assert run.dead_letters.counts[LetterState.ARCHIVED] == 2
    assert not run.unsaved


def test_what_a_redrive_is_taking_is_not_set_aside() -> None:
    archives = spec(once(), deadLetter={"capacity": 2, "onFull": "Archive"})
    run = verified_run("ab", archives)
    launch(run)
    end(run, CRASHED, "a", "b")
    commit(run)
    redrive(run, 0)
    batch = run.commits.begin(CommitReason.REDRIVE, NOW)

    run.requeue(archives.dead_letter.model_copy(update={"capacity": 1}), NOW)
    run.commits.done(batch, NOW)
    commit(run)

    assert [run.dead_letters.state(position) for position in (0, 1)] == [LetterState.CLAIMED, LetterState.OPEN]


# ------------------------------------------------------------------------------------------------------------- redrives


def test_what_a_redrive_took_is_durable_before_it_is_run() -> None:
    run = ended_run("abc", failed="ab")

    redrive(run, 0, 1, attempts=2)
    assert launch(run) == []
    assert run.commits.due(NOW) == [Commit(CommitReason.PHASE_CHANGE)]
    batch = run.commits.begin(CommitReason.PHASE_CHANGE, NOW)
    assert launch(run) == []
    assert batch.claims == tuple(
        Claim(Stage.MAP, key, 1, 3, 0, 0.0, before=Cause.ATTEMPTS_EXHAUSTED) for key in ("a", "b")
    )
    assert [accepted.name for accepted in batch.redrives] == ["again-1"]
    assert not run.redrives[1].durable

    announced = run.commits.done(batch, NOW)

    assert announced == [Announce("Normal", "Redriving", "the Redrive again-1 runs 2 dead letters again")]
    assert run.redrives[1].durable
    assert launch(run) == ["demo-a-d2", "demo-b-d2"]


def test_a_redriven_item_has_the_attempts_that_it_was_granted() -> None:
    run = ended_run("ab", failed="a")
    redrive(run, 0, attempts=2)
    commit(run)

    (first,) = run.dispatching.launch(9, NOW)

    assert isinstance(first, Launch)
    assert (first.attempt, first.max_attempts, first.redrive) == (2, 3, 1)


def test_a_partial_success_whose_letters_succeed_is_a_success() -> None:
    run = ended_run("abc", failed="ab")
    assert run.committed_turn.phase is Phase.PARTIALLY_SUCCEEDED
    redrive(run, 0, 1)
    assert turned(run) == (Phase.MAP, REDRIVING)
    launch(run)
    end(run, DONE, "a", "b")

    assert turned(run) == (Phase.SUCCEEDED, "AllItemsSucceeded")
    assert run.finished
    assert (run.redrives[1].succeeded, run.redrives[1].failed) == (2, 0)
    assert run.dead_letters.counts[LetterState.RESOLVED] == 2


def test_a_letter_that_fails_again_is_open_again_with_its_history_longer() -> None:
    run = ended_run("ab", failed="a")
    redrive(run, 0)
    commit(run)
    launch(run)
    observe(run, pod("demo-a-d2", ContainerEnd(1, message="bang")))

    batch = run.commits.begin(CommitReason.ITEMS, NOW)
    run.commits.done(batch, NOW)

    (letter,) = batch.letters
    assert [(one.dispatch, one.message, one.redrive) for one in letter.history] == [(2, "bang", "again-1")]
    assert turned(run) == (Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed")
    assert list(run.dead_letters.open()) == [0]


def test_while_letters_are_redriven_no_other_item_is_started_and_the_run_says_that_some_never_were() -> None:
    run = verified_run("abc", spec(once(maxParallel=1), failurePolicy={"onExhausted": "Stop"}))
    launch(run)
    end(run, CRASHED, "a")
    assert turned(run) == (Phase.FAILED, "ItemFailed")

    run.respec(spec(once(maxParallel=3), failurePolicy={"onExhausted": "Stop"}), NOW)
    redrive(run, 0)
    commit(run)
    assert launch(run) == ["demo-a-d2"]
    assert run.dispatching.wanted(NOW) == 0
    end(run, DONE, "a")

    assert turned(run) == (Phase.FAILED, "NotAllItemsRun")
    assert states(run) == "Succeeded Pending Pending"


def test_a_run_that_redrives_is_not_stopped_by_the_limit_that_stopped_it_before() -> None:
    run = ended_run("abc", failed="abc", failurePolicy={"maxFailures": 2})
    assert run.committed_turn.reason == "MaxFailuresReached"

    redrive(run, 0)
    commit(run)

    assert (run.course.hindrance(), run.course.redrive_waits()) == (None, None)
    assert launch(run) == ["demo-a-d2"], "two are still in the queue"
    end(run, DONE, "a")
    assert turned(run) == (Phase.FAILED, "MaxFailuresReached")
    redrive(run, 1, 2)
    commit(run)
    launch(run)
    end(run, DONE, "b", "c")
    assert turned(run) == (Phase.SUCCEEDED, "AllItemsSucceeded")


def test_a_job_that_is_being_stopped_gives_no_letters_and_runs_what_was_taken_before_to_its_end() -> None:
    run = verified_run("abcd", spec(once(maxParallel=3), failurePolicy={"maxFailures": 2}))
    launch(run)
    end(run, CRASHED, "a")
    commit(run)
    assert run.course.redrive_waits() is None
    redrive(run, 0)
    commit(run)
    end(run, CRASHED, "b", "c")
    commit(run)

    waits = run.course.redrive_waits()
    assert waits is not None
    assert waits[0] == "Stopping"
    assert launch(run) == ["demo-a-d2"], "what was taken is not left where it is"
    assert turned(run) == (Phase.MAP, "Planned")
    end(run, DONE, "a")

    assert turned(run) == (Phase.FAILED, "MaxFailuresReached")
    assert run.redrives[1].remaining == 0
    assert run.course.redrive_waits() is None


def test_letters_are_taken_while_the_map_still_runs() -> None:
    run = verified_run("abc", spec(once(maxParallel=2)))
    launch(run)
    end(run, CRASHED, "a")
    commit(run)

    redrive(run, 0)
    commit(run)

    assert launch(run) == ["demo-a-d2"], "before those that never ran"
    end(run, DONE, "a", "b")
    commit(run)
    assert launch(run) == ["demo-c-d1"]
    end(run, DONE, "c")
    assert turned(run) == (Phase.SUCCEEDED, "AllItemsSucceeded")


def test_a_redrive_runs_no_more_items_at_a_time_than_it_may_and_the_job_no_more_than_it_may() -> None:
    run = ended_run("abcdef", failed="abcdef")
    redrive(run, 0, 1, 2, parallelism=2)
    redrive(run, 3, 4, 5)
    commit(run)

    assert run.dispatching.wanted(NOW) == 5
    assert launch(run) == ["demo-a-d2", "demo-b-d2", "demo-d-d2", "demo-e-d2", "demo-f-d2"]
    end(run, DONE, "d", "e")
    commit(run)
    assert launch(run) == []
    end(run, DONE, "b")
    commit(run)
    assert launch(run) == ["demo-c-d2"]


def test_max_parallel_holds_for_redriven_items_too() -> None:
    run = ended_run("abc", failed="abc")
    run.respec(spec(once(maxParallel=2)), NOW)
    redrive(run, 0, 1, 2)
    commit(run)

    assert launch(run) == ["demo-a-d2", "demo-b-d2"]


def test_letters_wait_as_long_as_their_redrive_says() -> None:
    run = ended_run("ab", failed="a")
    redrive(run, 0, seconds=60)
    commit(run)

    assert launch(run, seconds=59.9) == []
    assert run.next_wake(NOW) == NOW + 60
    assert launch(run, seconds=60) == ["demo-a-d2"]


def test_the_wait_of_a_letter_is_over_at_the_same_time_in_another_process() -> None:
    run = ended_run("ab", failed="a")
    first = run.commits.begin(CommitReason.PHASE_CHANGE, NOW, with_snapshot=True)
    assert first.snapshot is not None
    run.commits.done(first, NOW)
    redrive(run, 0, seconds=7200)
    second = run.commits.begin(CommitReason.REDRIVE, NOW)
    run.commits.done(second, NOW)

    again = verified_run("ab", run.spec, run.committed_turn)
    again.books.restore(first.snapshot)
    again.books.replay(landed(second))
    again.resume(NOW, CHECKPOINT)

    assert launch(again, seconds=7199) == []
    assert launch(again, seconds=7200) == ["demo-a-d2"]


def test_a_dead_letter_is_never_left_out_later() -> None:
    run = ended_run("ab", failed="a")
    run.respec(spec(once(), failurePolicy={"onExhausted": "Skip"}), NOW)
    redrive(run, 0)
    commit(run)
    launch(run)

    end(run, CRASHED, "a")

    assert states(run) == "DeadLettered Succeeded"


def test_two_redrives_cannot_have_the_same_letter() -> None:
    run = ended_run("ab", failed="a")
    assert run.letterbox.is_takeable(0)

    redrive(run, 0)

    assert not run.letterbox.is_takeable(0)
    with pytest.raises(ValueError, match="item 0 is no dead letter"):
        redrive(run, 0)


@pytest.mark.parametrize("position", [1, 2], ids=["succeeded", "never ran"])
def test_only_letters_are_takeable(position: int) -> None:
    run = verified_run("abc", spec(once(maxParallel=2)))
    launch(run)
    end(run, CRASHED, "a")
    end(run, DONE, "b")
    assert not run.letterbox.is_takeable(0), "before it is durable"
    commit(run)

    assert run.letterbox.is_takeable(0)
    assert not run.letterbox.is_takeable(position)


def test_a_letter_that_was_set_aside_is_takeable_and_one_that_is_purged_is_not() -> None:
    run = ended_run("abc", failed="ab", deadLetter={"capacity": 1, "onFull": "Archive"})
    commit(run)
    assert run.dead_letters.state(0) is LetterState.ARCHIVED
    assert run.letterbox.is_takeable(0)

    keys = run.letterbox.purge(DeadLetterPolicy(retention_seconds=10), NOW + 11)

    assert keys == ["a"]
    assert [run.letterbox.is_takeable(position) for position in (0, 1)] == [False, True]
    commit(run)
    assert run.dead_letters.state(0) is None
    assert not run.letterbox.is_takeable(0)
    assert run.ledgers[Stage.MAP][0].state is ItemState.DEAD_LETTERED, "the item stays what it is"


def test_what_a_redrive_has_just_taken_is_not_purged() -> None:
    run = ended_run("ab", failed="a")
    redrive(run, 0)

    assert run.letterbox.purge(DeadLetterPolicy(retention_seconds=10, purge_open=True), NOW + 11) == []


def test_without_a_retention_nothing_is_purged() -> None:
    run = ended_run("ab", failed="a")

    assert run.letterbox.purge(DeadLetterPolicy(purge_open=True, on_full=OnFull.ARCHIVE), NOW + 10**9) == []


def test_an_item_is_run_as_the_redrive_that_took_it_last_patches_it() -> None:
    run = ended_run("ab", failed="a")
    planned = PlannedItem("MIT", b'{"n":1}')
    assert run.as_run(0, planned) is planned

    redrive(run, 0, payload_patch=msgspec.Raw(b'{"n":2}'))
    assert run.as_run(0, planned).payload == b'{"n":2}'
    commit(run)
    launch(run)
    end(run, CRASHED, "a")
    commit(run)
    redrive(run, 0, payload_patch=msgspec.Raw(b'{"m":3}'))

    assert run.as_run(0, planned).payload == b'{"m":3,"n":1}'


def test_a_retried_item_of_a_redrive_is_not_taken_from_the_budget_of_the_job() -> None:
    run = verified_run("ab", spec(once(), failurePolicy={"retryBudget": {"maxRetries": 0}}))
    launch(run)
    end(run, CRASHED, "a")
    end(run, DONE, "b")
    turned(run)
    redrive(run, 0, attempts=2)
    commit(run)
    launch(run)

    end(run, CRASHED, "a")

    assert run.ledgers[Stage.MAP][0].state is ItemState.RETRY_WAIT
    commit(run)
    assert run.tally.retries == 0


# -------------------------------------------------------------------------------------------------------- reduce, again


def reduced_run() -> RunState:
    """Of a and b, a failed; reduce ran over the rest."""
    run = ended_run("ab", failed="a", reduce={"template": TEMPLATE})
    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)]
    run.reduce_prepared(ResultsAs.FILE)
    reduce(run, 1, '{"total": 1}')
    assert run.committed_turn.phase is Phase.PARTIALLY_SUCCEEDED
    return run


def reduce(run: RunState, dispatch: int, result: str) -> None:
    name = f"demo-{REDUCE_KEY}-d{dispatch}"
    assert launch(run) == [name]
    observe(run, pod(name, ContainerEnd(0, message=result)))
    turned(run)


def test_letters_are_not_taken_while_the_reduce_runs() -> None:
    run = ended_run("ab", failed="a", reduce={"template": TEMPLATE})

    waits = run.course.redrive_waits()

    assert waits is not None
    assert waits[0] == "Reducing"


def test_letters_are_not_taken_while_the_end_of_the_run_is_not_durable() -> None:
    run = verified_run("ab", spec(once()))
    launch(run)
    end(run, CRASHED, "a")
    commit(run)
    end(run, DONE, "b")
    run.decide(NOW)

    waits = run.course.redrive_waits()
    assert waits is not None
    assert waits[0] == "Turning"
    commit(run)
    assert run.course.redrive_waits() is None


def test_reduce_does_not_run_again_if_nobody_asked_for_it() -> None:
    run = reduced_run()
    redrive(run, 0)
    commit(run)
    launch(run)
    end(run, DONE, "a")

    assert turned(run) == (Phase.SUCCEEDED, "AllItemsSucceeded")
    assert run.tally.reduce_result == b'{"total":1}'


def test_reduce_runs_again_over_the_complete_results_when_a_redrive_asks_for_it() -> None:
    run = reduced_run()
    redrive(run, 0, rerun_reduce=True)
    commit(run)
    launch(run)
    end(run, DONE, "a")

    run.decide(NOW)
    batch = run.commits.begin(CommitReason.PHASE_CHANGE, NOW)
    assert batch.turn.phase is Phase.REDUCE
    assert [(claim.stage, claim.redrive) for claim in batch.claims] == [(Stage.REDUCE, 0)]
    run.commits.done(batch, NOW)
    assert run.decide(NOW) == [PrepareReduce(ResultsAs.FILE)], "the results are others than before"
    assert run.dispatching.wanted(NOW) == 0
    run.reduce_prepared(ResultsAs.FILE)
    reduce(run, 2, '{"total": 2}')

    assert (run.committed_turn.phase, run.committed_turn.reason) == (Phase.SUCCEEDED, "AllItemsSucceeded")
    assert run.tally.reduce_result == b'{"total":2}'
    assert run.finished


def test_reduce_runs_again_once_for_all_redrives_that_asked_for_it() -> None:
    run = reduced_run()
    redrive(run, 0, rerun_reduce=True)
    commit(run)
    launch(run)
    end(run, CRASHED, "a")
    turned(run)
    run.decide(NOW)
    run.reduce_prepared(ResultsAs.FILE)
    reduce(run, 2, '{"total": 1}')
    redrive(run, 0)
    commit(run)
    launch(run)
    end(run, DONE, "a")

    assert turned(run) == (Phase.SUCCEEDED, "AllItemsSucceeded")


def test_a_reduce_that_failed_is_never_left_out_and_can_run_again() -> None:
    patience = {"template": TEMPLATE, "retry": {"maxAttempts": 1}}
    run = ended_run("ab", failed="", reduce=patience, failurePolicy={"onExhausted": "Skip"})
    run.decide(NOW)
    run.reduce_prepared(ResultsAs.FILE)
    launch(run)
    observe(run, pod(f"demo-{REDUCE_KEY}-d1", CRASHED))

    assert turned(run) == (Phase.FAILED, "ReduceFailed")
    assert run.ledgers[Stage.REDUCE][0].state is ItemState.DEAD_LETTERED


def test_that_reduce_is_to_run_again_is_known_in_another_process_and_that_it_has_is_too() -> None:
    run = reduced_run()
    batches = []

    def durable() -> None:
        run.decide(NOW)
        batches.append(run.commits.begin(CommitReason.ITEMS, NOW))
        run.commits.done(batches[-1], NOW)

    history = [run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True)]
    run.commits.done(history[0], NOW)
    redrive(run, 0, rerun_reduce=True)
    durable()
    launch(run)
    end(run, DONE, "a")

    def again() -> RunState:
        other = verified_run("ab", run.spec, run.committed_turn)
        assert history[0].snapshot is not None
        other.books.restore(history[0].snapshot)
        for batch in batches:
            other.books.replay(landed(batch))
        other.resume(NOW, CHECKPOINT)
        return other

    assert again().books.reduce_again
    durable()
    assert run.phase is Phase.REDUCE
    assert not again().books.reduce_again
    assert again().ledgers[Stage.REDUCE][0] == run.ledgers[Stage.REDUCE][0]
    assert run.ledgers[Stage.REDUCE][0].state is ItemState.PENDING


def test_the_history_of_an_item_goes_on_in_another_process() -> None:
    run = verified_run("a", spec({"retry": {"maxAttempts": 2}}))
    launch(run)
    end(run, None, "a")
    first = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True)
    run.commits.done(first, NOW)
    launch(run)
    end(run, CRASHED, "a")
    second = run.commits.begin(CommitReason.ITEMS, NOW)
    run.commits.done(second, NOW)

    for by_snapshot in (True, False):
        again = verified_run("a", run.spec)
        if by_snapshot:
            assert first.snapshot is not None
            again.books.restore(first.snapshot)
        else:
            again.books.replay(landed(first))
        again.books.replay(landed(second))
        again.resume(NOW, CHECKPOINT)
        launch(again, seconds=1000)
        end(again, CRASHED, "a", seconds=1000)
        (letter,) = again.commits.begin(CommitReason.ITEMS, NOW).letters

        assert [(one.dispatch, one.reason) for one in letter.history] == [
            (1, Reason.DELETED),
            (2, Reason.ERROR),
            (3, Reason.ERROR),
        ]


def test_interruptions_of_before_a_redrive_are_not_held_against_it_in_another_process_either() -> None:
    patient = {"retry": {"maxAttempts": 1, "maxInterruptions": 1}}
    run = verified_run("ab", spec(patient))
    launch(run)
    batches = []
    for agent in (None, None):
        end(run, agent, "a")
        batches.append(run.commits.begin(CommitReason.ITEMS, NOW))
        run.commits.done(batches[-1], NOW)
        launch(run)
    assert run.ledgers[Stage.MAP][0].cause is Cause.TOO_MANY_INTERRUPTIONS
    redrive(run, 0)
    batches.append(run.commits.begin(CommitReason.REDRIVE, NOW))

    again = restarted(run, batches, "ab")
    assert again.ledgers[Stage.MAP][0] == run.ledgers[Stage.MAP][0]
    launch(again)
    end(again, None, "a")

    assert again.ledgers[Stage.MAP][0].state is ItemState.PENDING
