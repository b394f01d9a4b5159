"""The state machine of one item: what may happen to it, in which order, and how often."""

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapreduce_operator.api import Backoff, BackoffType, Cause, ItemState, Reason, Retry, RetryAction, RetryRule
from mapreduce_operator.core.failures import MEANINGS, REST_SECONDS, TEMPLATE_FAULTS
from mapreduce_operator.core.items import (
    FINAL_STATES,
    Dispatched,
    Ended,
    Item,
    ItemEvent,
    Redriven,
    Refused,
    Released,
    Started,
    transition,
    why_give_up,
)
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core import strategies

NOW = 1_800_000_000.0
RETRY = Retry(
    max_attempts=3, max_interruptions=2, backoff=Backoff(type=BackoffType.FIXED, initial_seconds=10, jitter=0)
)

PENDING = Item()
RUNNING = Item(ItemState.RUNNING, job_uid="job-1")
WAITING = Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + 10, reason=Reason.ERROR)

SUCCEEDED = Outcome(Stage.MAP, Dispatch("abcdefghij", 1), "job-1", Verdict.SUCCEEDED, exit_code=0, result=b"{}")
FAILED = Outcome(Stage.MAP, Dispatch("abcdefghij", 1), "job-1", Verdict.FAILED, Reason.ERROR, exit_code=1)
EVICTED = Outcome(Stage.MAP, Dispatch("abcdefghij", 1), "job-1", Verdict.INTERRUPTED, Reason.EVICTED)


# ------------------------------------------------------------------------------------------------------- the way of one


def test_a_new_item_waits_for_its_first_dispatch() -> None:
    assert (PENDING.state, PENDING.attempts, PENDING.interruptions, PENDING.dispatch) == (ItemState.PENDING, 0, 0, 1)


def test_a_dispatched_item_runs_before_its_job_is_known() -> None:
    assert transition(PENDING, Dispatched(), RETRY, NOW) == Item(ItemState.RUNNING)


def test_a_job_that_was_created_carries_the_running_item() -> None:
    assert transition(Item(ItemState.RUNNING), Started(1, "job-1"), RETRY, NOW) == RUNNING


def test_a_job_that_was_not_created_leaves_the_item_as_it_was() -> None:
    assert transition(Item(ItemState.RUNNING), Refused(1), RETRY, NOW) == PENDING


def test_success_is_an_attempt_and_the_end() -> None:
    assert transition(RUNNING, Ended(SUCCEEDED), RETRY, NOW) == Item(ItemState.SUCCEEDED, attempts=1)


def test_a_failure_is_an_attempt_and_waits_for_the_next() -> None:
    assert transition(RUNNING, Ended(FAILED), RETRY, NOW) == WAITING


def test_the_last_failure_that_is_allowed_is_the_end() -> None:
    third = replace(FAILED, dispatch=Dispatch("abcdefghij", 3))

    after = transition(replace(RUNNING, attempts=2), Ended(third), RETRY, NOW)

    assert after == Item(ItemState.DEAD_LETTERED, attempts=3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED)


def test_an_interruption_is_no_attempt_and_needs_no_wait() -> None:
    after = transition(RUNNING, Ended(EVICTED), RETRY, NOW)

    assert after == Item(ItemState.PENDING, attempts=0, interruptions=1, reason=Reason.EVICTED)


def test_an_item_that_waits_is_not_released_early() -> None:
    assert transition(WAITING, Released(), RETRY, NOW + 9.999) is None


def test_an_item_whose_wait_is_over_is_pending_with_its_attempts() -> None:
    after = transition(WAITING, Released(), RETRY, NOW + 10)

    assert after == Item(ItemState.PENDING, attempts=1, reason=Reason.ERROR)


@pytest.mark.parametrize("item", [PENDING, WAITING], ids=["pending", "waiting"])
def test_a_job_that_an_earlier_operator_left_alive_carries_the_item(item: Item) -> None:
    after = transition(item, Started(item.dispatch, "job-7"), RETRY, NOW)

    assert after == replace(item, state=ItemState.RUNNING, job_uid="job-7", not_before=0.0)


def test_an_outcome_may_come_before_the_answer_to_the_creation_of_its_job() -> None:
    assert transition(Item(ItemState.RUNNING), Ended(SUCCEEDED), RETRY, NOW) == Item(ItemState.SUCCEEDED, attempts=1)


# ------------------------------------------------------------------------------------------------------ the whole table

EVENTS: dict[str, ItemEvent] = {
    "dispatched": Dispatched(),
    "started": Started(1, "job-1"),
    "refused": Refused(1),
    "released": Released(),
    "succeeded": Ended(SUCCEEDED),
    "failed": Ended(FAILED),
    "interrupted": Ended(EVICTED),
    "redriven": Redriven(1, attempts=3),
}
TABLE = [
    (ItemState.PENDING, {"dispatched": ItemState.RUNNING, "started": ItemState.RUNNING}),
    (
        ItemState.RUNNING,
        {
            "started": ItemState.RUNNING,
            "refused": ItemState.PENDING,
            "succeeded": ItemState.SUCCEEDED,
            "failed": ItemState.RETRY_WAIT,
            "interrupted": ItemState.PENDING,
        },
    ),
    (ItemState.RETRY_WAIT, {"started": ItemState.RUNNING, "released": ItemState.PENDING}),
    # A success of the map is never asked to; one of reduce is, when a Redrive changed what it works on.
    (ItemState.SUCCEEDED, {"redriven": ItemState.PENDING}),
    (ItemState.DEAD_LETTERED, {"redriven": ItemState.PENDING}),
    (ItemState.SKIPPED, {"redriven": ItemState.PENDING}),
]


@pytest.mark.parametrize(("state", "allowed"), TABLE, ids=[state for state, _ in TABLE])
@pytest.mark.parametrize("event", EVENTS)
def test_each_event_applies_in_the_states_of_the_table_and_in_no_other(
    state: ItemState, allowed: dict[str, ItemState], event: str
) -> None:
    after = transition(Item(state), EVENTS[event], RETRY, NOW)

    assert (after.state if after else None) == allowed.get(event)


def test_the_table_names_every_state() -> None:
    assert [state for state, _ in TABLE] == list(ItemState)


# ------------------------------------------------------------------------------------------------ old and repeated news

AFTER_ONE_FAILURE = Item(ItemState.RUNNING, attempts=1, job_uid="job-2")
AFTER_ONE_EVICTION = Item(ItemState.RUNNING, interruptions=1, job_uid="job-2")


@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, EVICTED], ids=["succeeded", "failed", "interrupted"])
def test_an_outcome_that_comes_twice_counts_once(outcome: Outcome) -> None:
    after = transition(RUNNING, Ended(outcome), RETRY, NOW)
    assert after is not None

    assert transition(after, Ended(outcome), RETRY, NOW) is None


def test_a_start_that_comes_twice_changes_nothing() -> None:
    assert transition(RUNNING, Started(1, "job-1"), RETRY, NOW) in {None, RUNNING}


@pytest.mark.parametrize("running", [AFTER_ONE_FAILURE, AFTER_ONE_EVICTION], ids=["failure", "eviction"])
@pytest.mark.parametrize("outcome", [SUCCEEDED, FAILED, EVICTED], ids=["succeeded", "failed", "interrupted"])
def test_the_outcome_of_an_older_dispatch_is_ignored(running: Item, outcome: Outcome) -> None:
    assert transition(running, Ended(outcome), RETRY, NOW) is None


def test_the_outcome_of_an_older_dispatch_is_ignored_before_the_new_job_is_known() -> None:
    assert transition(replace(AFTER_ONE_FAILURE, job_uid=""), Ended(FAILED), RETRY, NOW) is None


def test_the_outcome_of_another_job_for_the_same_dispatch_is_ignored() -> None:
    assert transition(RUNNING, Ended(replace(SUCCEEDED, job_uid="job-other")), RETRY, NOW) is None


def test_the_start_of_another_job_for_the_same_dispatch_is_ignored() -> None:
    assert transition(RUNNING, Started(1, "job-other"), RETRY, NOW) is None


def test_the_start_of_an_older_dispatch_is_ignored() -> None:
    assert transition(replace(AFTER_ONE_FAILURE, job_uid=""), Started(1, "job-1"), RETRY, NOW) is None


def test_a_refusal_is_ignored_once_the_job_is_known_to_exist() -> None:
    assert transition(RUNNING, Refused(1), RETRY, NOW) is None


def test_the_refusal_of_an_older_dispatch_is_ignored() -> None:
    assert transition(replace(AFTER_ONE_FAILURE, job_uid=""), Refused(1), RETRY, NOW) is None


# ----------------------------------------------------------------------------------------------------- retry or give up


@pytest.mark.parametrize("max_attempts", range(1, 11))
def test_an_item_that_always_fails_is_retried_until_its_last_attempt_and_not_once_more(max_attempts: int) -> None:
    retry = RETRY.model_copy(update={"max_attempts": max_attempts})
    item, states = PENDING, []

    while not item.final:
        running = replace(item, state=ItemState.RUNNING, job_uid="job-1")
        after = transition(running, Ended(replace(FAILED, dispatch=Dispatch("abcdefghij", item.dispatch))), retry, NOW)
        assert after is not None
        item = after
        states.append(item.state)

    assert states == [ItemState.RETRY_WAIT] * (max_attempts - 1) + [ItemState.DEAD_LETTERED]
    assert item.attempts == max_attempts


@pytest.mark.parametrize("max_interruptions", range(11))
def test_an_item_that_is_always_interrupted_is_given_up_after_the_last_interruption_allowed(
    max_interruptions: int,
) -> None:
    retry = RETRY.model_copy(update={"max_interruptions": max_interruptions})
    item, states = PENDING, []

    while not item.final:
        running = replace(item, state=ItemState.RUNNING, job_uid="job-1")
        after = transition(running, Ended(replace(EVICTED, dispatch=Dispatch("abcdefghij", item.dispatch))), retry, NOW)
        assert after is not None
        item = after
        states.append(item.state)

    assert states == [ItemState.PENDING] * max_interruptions + [ItemState.DEAD_LETTERED]
    assert item == Item(
        ItemState.DEAD_LETTERED,
        interruptions=max_interruptions + 1,
        reason=Reason.EVICTED,
        cause=Cause.TOO_MANY_INTERRUPTIONS,
    )


def why(
    outcome: Outcome, attempts: int, retry: Retry, *, budget_left: bool = True, allowed: int = 0, redrive: int = 0
) -> Cause | None:
    """Why an item is given up after so many attempts, of which the outcome is the last."""
    item = Item(ItemState.RUNNING, attempts, allowed=allowed, redrive=redrive)
    return why_give_up(item, outcome, retry, budget_left=budget_left)


@pytest.mark.parametrize("max_attempts", range(1, 11))
def test_without_rules_attempts_alone_decide(max_attempts: int) -> None:
    retry = Retry(max_attempts=max_attempts)

    assert [why(FAILED, attempts, retry) for attempts in range(1, 12)] == [
        None if attempts < max_attempts else Cause.ATTEMPTS_EXHAUSTED for attempts in range(1, 12)
    ]


def test_an_agent_that_calls_its_failure_hopeless_is_not_retried() -> None:
    assert why(replace(FAILED, retryable=False), 1, RETRY) is Cause.NOT_RETRYABLE


@pytest.mark.parametrize("attempts", [3, 5])
def test_what_a_redrive_granted_counts_and_not_max_attempts(attempts: int) -> None:
    granted = attempts + 2

    assert [why(FAILED, so_far, RETRY, allowed=granted, redrive=1) for so_far in range(attempts + 1, granted + 2)] == [
        None,
        Cause.ATTEMPTS_EXHAUSTED,
        Cause.ATTEMPTS_EXHAUSTED,
    ]


def test_without_a_budget_a_failure_is_the_last_one() -> None:
    assert why(FAILED, 1, RETRY, budget_left=False) is Cause.RETRY_BUDGET_EXHAUSTED


def test_what_a_redrive_granted_is_not_taken_from_the_budget() -> None:
    assert why(FAILED, 4, RETRY, budget_left=False, allowed=6, redrive=2) is None


def test_a_letter_says_what_is_true_of_the_item_before_it_blames_the_budget_of_all() -> None:
    assert why(FAILED, 3, RETRY, budget_left=False) is Cause.ATTEMPTS_EXHAUSTED
    assert why(replace(FAILED, retryable=False), 3, RETRY, budget_left=False) is Cause.NOT_RETRYABLE


NEVER_ON_3 = RetryRule(action=RetryAction.DO_NOT_RETRY, on_exit_codes=frozenset({3, 4}))
ALWAYS_ON_3 = RetryRule(action=RetryAction.RETRY, on_exit_codes=frozenset({3}))
NEVER_ON_OOM = RetryRule(action=RetryAction.DO_NOT_RETRY, on_reasons=frozenset({Reason.OOM_KILLED}))
NEVER_ON_3_AND_OOM = RetryRule(
    action=RetryAction.DO_NOT_RETRY, on_exit_codes=frozenset({3}), on_reasons=frozenset({Reason.OOM_KILLED})
)


@pytest.mark.parametrize(
    ("rules", "exit_code", "reason", "retried"),
    [
        ((NEVER_ON_3,), 3, Reason.ERROR, False),
        ((NEVER_ON_3,), 4, Reason.ERROR, False),
        ((NEVER_ON_3,), 5, Reason.ERROR, True),
        ((NEVER_ON_3,), None, Reason.DEADLINE_EXCEEDED, True),
        ((NEVER_ON_OOM,), 137, Reason.OOM_KILLED, False),
        ((NEVER_ON_OOM,), 137, Reason.ERROR, True),
        ((NEVER_ON_3_AND_OOM,), 3, Reason.OOM_KILLED, False),
        ((NEVER_ON_3_AND_OOM,), 3, Reason.ERROR, True),
        ((NEVER_ON_3_AND_OOM,), 137, Reason.OOM_KILLED, True),
        ((ALWAYS_ON_3, NEVER_ON_3), 3, Reason.ERROR, True),
        ((NEVER_ON_3, ALWAYS_ON_3), 3, Reason.ERROR, False),
        ((ALWAYS_ON_3, NEVER_ON_3), 4, Reason.ERROR, False),
    ],
)
def test_the_first_rule_all_of_whose_criteria_match_decides(
    rules: tuple[RetryRule, ...], exit_code: int | None, reason: Reason, retried: bool
) -> None:
    retry = RETRY.model_copy(update={"rules": rules})

    assert why(replace(FAILED, exit_code=exit_code, reason=reason), 1, retry) is (
        None if retried else Cause.NOT_RETRYABLE
    )


def test_a_rule_outweighs_the_word_of_the_agent() -> None:
    retry = RETRY.model_copy(update={"rules": (ALWAYS_ON_3,)})

    assert why(replace(FAILED, exit_code=3, retryable=False), 1, retry) is None


def test_a_rule_does_not_outweigh_max_attempts() -> None:
    retry = RETRY.model_copy(update={"rules": (ALWAYS_ON_3,)})

    assert why(replace(FAILED, exit_code=3), 3, retry) is Cause.ATTEMPTS_EXHAUSTED


def test_a_failure_that_a_rule_forbids_to_retry_is_given_up_after_its_first_attempt() -> None:
    retry = RETRY.model_copy(update={"rules": (NEVER_ON_3,)})

    after = transition(RUNNING, Ended(replace(FAILED, exit_code=3)), retry, NOW)

    assert after == Item(ItemState.DEAD_LETTERED, attempts=1, reason=Reason.ERROR, cause=Cause.NOT_RETRYABLE)


def test_the_same_failure_waits_equally_long_when_it_is_told_again() -> None:
    retry = Retry(backoff=Backoff(initial_seconds=100, jitter=1))

    assert transition(RUNNING, Ended(FAILED), retry, NOW) == transition(RUNNING, Ended(FAILED), retry, NOW)


def test_items_that_failed_together_do_not_come_back_together() -> None:
    retry = Retry(backoff=Backoff(initial_seconds=100, jitter=0.2))
    waits = {
        after.not_before
        for key in range(100)
        if (after := transition(RUNNING, Ended(replace(FAILED, dispatch=Dispatch(f"item-{key}", 1))), retry, NOW))
    }

    assert len(waits) == 100
    assert NOW + 80 <= min(waits) < max(waits) <= NOW + 100


# --------------------------------------------------------------------------------------- what is not held against it


@pytest.mark.parametrize("reason", [reason for reason in Reason if MEANINGS[reason].excused])
def test_an_interruption_that_is_not_the_items_fault_is_counted_and_excused(reason: Reason) -> None:
    after = transition(RUNNING, Ended(replace(EVICTED, reason=reason)), RETRY, NOW)

    assert after is not None
    assert (after.attempts, after.interruptions, after.excused) == (0, 1, 1)


def test_excused_interruptions_never_exhaust_the_others() -> None:
    worn = replace(RUNNING, interruptions=500, excused=500)

    assert run_through(worn, [EVICTED] * 2).state is ItemState.PENDING
    assert run_through(worn, [EVICTED] * 3).cause is Cause.TOO_MANY_INTERRUPTIONS


@pytest.mark.parametrize("reason", sorted(TEMPLATE_FAULTS))
def test_an_item_whose_template_cannot_start_rests_before_it_is_tried_again(reason: Reason) -> None:
    after = transition(RUNNING, Ended(replace(EVICTED, reason=reason)), RETRY, NOW)

    assert after == Item(ItemState.RETRY_WAIT, interruptions=1, excused=1, not_before=NOW + REST_SECONDS, reason=reason)


@pytest.mark.parametrize("reason", sorted(TEMPLATE_FAULTS))
def test_an_item_whose_template_was_corrected_since_does_not_rest(reason: Reason) -> None:
    after = transition(RUNNING, Ended(replace(EVICTED, reason=reason), template_changed=True), RETRY, NOW)

    assert after == Item(interruptions=1, excused=1, reason=reason)


def test_only_kills_for_memory_ask_for_more_of_it() -> None:
    oom = replace(FAILED, reason=Reason.OOM_KILLED)

    assert [run_through(RUNNING, kills).oom_kills for kills in ([FAILED], [oom], [oom, FAILED], [oom, oom])] == [
        0,
        1,
        1,
        2,
    ]


def run_through(item: Item, ends: list[Outcome]) -> Item:
    """The item after it was run once for each of these ends; waits are over at once."""
    for end in ends:
        running = replace(item, state=ItemState.RUNNING, job_uid="job-1", not_before=0.0)
        after = transition(running, Ended(replace(end, dispatch=Dispatch("abcdefghij", item.dispatch))), RETRY, NOW)
        assert after is not None
        item = after
    return item


# ---------------------------------------------------------------------------------------------------- skipped, redriven

DEAD = Item(
    ItemState.DEAD_LETTERED,
    attempts=3,
    interruptions=2,
    reason=Reason.OOM_KILLED,
    cause=Cause.ATTEMPTS_EXHAUSTED,
    excused=1,
    oom_kills=3,
)


def test_an_item_that_is_given_up_may_be_left_out_instead() -> None:
    hopeless = Ended(replace(FAILED, retryable=False), skip=True)

    assert transition(RUNNING, hopeless, RETRY, NOW) == Item(
        ItemState.SKIPPED, attempts=1, reason=Reason.ERROR, cause=Cause.NOT_RETRYABLE
    )
    assert transition(RUNNING, Ended(FAILED, skip=True), RETRY, NOW) == WAITING, "it was not given up"


def test_a_redriven_item_gets_attempts_on_top_of_those_it_had_and_a_clean_record_of_interruptions() -> None:
    assert transition(DEAD, Redriven(7, attempts=2), RETRY, NOW) == Item(
        ItemState.PENDING,
        attempts=3,
        interruptions=2,
        reason=Reason.OOM_KILLED,
        excused=2,
        oom_kills=3,
        allowed=5,
        redrive=7,
        before=DEAD.cause,
    )


def test_a_redriven_item_may_have_to_wait() -> None:
    waiting = transition(DEAD, Redriven(7, attempts=2, not_before=NOW + 60), RETRY, NOW)

    assert waiting is not None
    assert (waiting.state, waiting.not_before) == (ItemState.RETRY_WAIT, NOW + 60)
    assert transition(waiting, Released(), RETRY, NOW + 59.9) is None
    released = transition(waiting, Released(), RETRY, NOW + 60)
    assert released == transition(DEAD, Redriven(7, attempts=2), RETRY, NOW)


def test_a_time_to_wait_that_is_over_is_none() -> None:
    assert transition(DEAD, Redriven(7, attempts=2, not_before=NOW), RETRY, NOW) == transition(
        DEAD, Redriven(7, attempts=2), RETRY, NOW
    )


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_a_redriven_item_that_always_fails_is_a_dead_letter_again_after_what_was_granted(attempts: int) -> None:
    item = transition(DEAD, Redriven(7, attempts), RETRY, NOW)
    assert item is not None

    ends = [run_through(item, [FAILED] * number) for number in range(1, attempts + 1)]

    assert [end.state for end in ends] == [ItemState.RETRY_WAIT] * (attempts - 1) + [ItemState.DEAD_LETTERED]
    assert (ends[-1].attempts, ends[-1].cause, ends[-1].redrive) == (3 + attempts, Cause.ATTEMPTS_EXHAUSTED, 7)


# ------------------------------------------------------------------------------------------------------ any life at all


class ItemLife(RuleBasedStateMachine):
    """Whatever happens to an item, in whatever order."""

    @initialize(retry=strategies.retries)
    def begin(self, retry: Retry) -> None:
        self.retry = retry
        self.item = Item()
        self.now = NOW
        self.allowed = retry.max_attempts
        self.last_dispatch = 0

    def tell(self, event: ItemEvent) -> Item | None:
        before, after = self.item, transition(self.item, event, self.retry, self.now)
        if after is not None:
            assert not before.final or isinstance(event, Redriven)
            assert after.attempts >= before.attempts
            assert after.interruptions >= before.interruptions
            assert after.excused >= before.excused
            assert after.oom_kills >= before.oom_kills
            self.item = after
        return after

    @rule()
    def is_dispatched(self) -> None:
        self.tell(Dispatched())

    @rule(uid=st.sampled_from(["job-1", "job-2"]))
    def starts(self, uid: str) -> None:
        self.tell(Started(self.item.dispatch, uid))

    @rule()
    def is_refused(self) -> None:
        self.tell(Refused(self.item.dispatch))

    @rule(seconds=st.sampled_from([0, 1, 60, 86_400]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.tell(Released())

    @precondition(lambda self: self.item.state is ItemState.RUNNING)
    @rule()
    def succeeds(self) -> None:
        self.end(Verdict.SUCCEEDED)

    @precondition(lambda self: self.item.state is ItemState.RUNNING)
    @rule(
        reason=st.sampled_from([Reason.ERROR, Reason.OOM_KILLED]),
        retryable=st.booleans(),
        budget_left=st.booleans(),
        skip=st.booleans(),
    )
    def fails(self, reason: Reason, retryable: bool, budget_left: bool, skip: bool) -> None:
        before = self.item
        after = self.end(Verdict.FAILED, reason, retryable=retryable, budget_left=budget_left, skip=skip)
        assert after is not None
        assert after.attempts == before.attempts + 1
        has_budget = budget_left or before.redrive
        if retryable and has_budget and after.attempts < self.allowed:
            assert (after.state, after.cause) == (ItemState.RETRY_WAIT, None)
        else:
            self.is_given_up(after, skip)
            assert after.cause is not Cause.TOO_MANY_INTERRUPTIONS

    @precondition(lambda self: self.item.state is ItemState.RUNNING)
    @rule(
        reason=st.sampled_from(
            [reason for reason, meaning in MEANINGS.items() if meaning.verdict is Verdict.INTERRUPTED]
        ),
        skip=st.booleans(),
    )
    def is_interrupted(self, reason: Reason, skip: bool) -> None:
        held_against = self.item.interruptions - self.item.excused + (not MEANINGS[reason].excused)
        after = self.end(Verdict.INTERRUPTED, reason, skip=skip)
        assert after is not None
        if held_against > self.retry.max_interruptions:
            self.is_given_up(after, skip)
            assert after.cause is Cause.TOO_MANY_INTERRUPTIONS
        else:
            assert (after.final, after.cause) == (False, None)

    def is_given_up(self, item: Item, skip: bool) -> None:
        assert item.state is (ItemState.SKIPPED if skip else ItemState.DEAD_LETTERED)
        assert item.cause is not None

    def end(
        self,
        verdict: Verdict,
        reason: Reason | None = None,
        *,
        retryable: bool = True,
        budget_left: bool = True,
        skip: bool = False,
    ) -> Item | None:
        dispatch, uid = Dispatch("abcdefghij", self.item.dispatch), self.item.job_uid or "job-1"
        assert dispatch.number == self.last_dispatch + 1, "numbers are neither used twice nor left out"
        self.last_dispatch = dispatch.number
        outcome = Outcome(Stage.MAP, dispatch, uid, verdict, reason, retryable=retryable)
        after = self.tell(Ended(outcome, budget_left, skip))
        assert self.tell(Ended(outcome, budget_left, skip)) is None, "the same outcome again is no news"
        return after

    @rule(attempts=st.integers(1, 3), seconds=st.sampled_from([0, 60]))
    def is_redriven(self, attempts: int, seconds: int) -> None:
        before = self.item
        after = self.tell(Redriven(before.redrive + 1, attempts, self.now + seconds if seconds else 0.0))
        assert (after is not None) == before.final
        if after is not None:
            assert (after.state, after.cause) == (ItemState.RETRY_WAIT if seconds else ItemState.PENDING, None)
            assert after.interruptions == after.excused
            self.allowed = before.attempts + attempts

    @rule(behind=st.integers(1, 3), uid=st.sampled_from(["job-1", "job-2"]), verdict=st.sampled_from(Verdict))
    def old_news_arrive(self, behind: int, uid: str, verdict: Verdict) -> None:
        old = self.item.dispatch - behind
        assert self.tell(Started(old, uid)) is None
        assert self.tell(Refused(old)) is None
        assert self.tell(Ended(Outcome(Stage.MAP, Dispatch("abcdefghij", old), uid, verdict, Reason.ERROR))) is None

    @precondition(lambda self: bool(self.item.job_uid))
    @rule(verdict=st.sampled_from(Verdict))
    def news_of_another_job_arrive(self, verdict: Verdict) -> None:
        dispatch = Dispatch("abcdefghij", self.item.dispatch)
        assert self.tell(Started(dispatch.number, "job-other")) is None
        assert self.tell(Ended(Outcome(Stage.MAP, dispatch, "job-other", verdict, Reason.ERROR))) is None

    @invariant()
    def dispatches_are_numbered_by_what_ended(self) -> None:
        assert self.item.dispatch == self.item.attempts + self.item.interruptions + 1

    @invariant()
    def attempts_and_interruptions_are_bounded(self) -> None:
        assert self.item.attempts <= self.allowed
        assert 0 <= self.item.interruptions - self.item.excused <= self.retry.max_interruptions + 1
        assert self.item.oom_kills <= self.item.attempts

    @invariant()
    def an_item_that_may_not_be_tried_again_is_not_waiting_to_be(self) -> None:
        if self.item.attempts == self.allowed:
            assert self.item.state in FINAL_STATES
        assert (self.item.cause is not None) == (self.item.state in {ItemState.DEAD_LETTERED, ItemState.SKIPPED})

    @invariant()
    def only_a_running_item_has_a_job_and_only_a_waiting_one_a_time(self) -> None:
        assert self.item.state is ItemState.RUNNING or not self.item.job_uid
        assert self.item.state is ItemState.RETRY_WAIT or not self.item.not_before


TestItemLife = ItemLife.TestCase
