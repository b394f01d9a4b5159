"""The state of all items: against a model that counts by hand, and what each question costs and gives."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapreduce_operator.api import Backoff, BackoffType, Cause, ItemState, Reason, Retry
from mapreduce_operator.core.items import Ended, Item, ItemEvent, Redriven, Refused, Started, transition
from mapreduce_operator.core.ledger import Ledger
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch

NOW = 1_800_000_000.0
RETRY = Retry(
    max_attempts=3, max_interruptions=2, backoff=Backoff(type=BackoffType.FIXED, initial_seconds=10, jitter=0)
)
KEYS = ["key-a", "key-b", "key-c", "key-d", "key-e", "key-f"]
UNLIMITED = 10**9


def ended(verdict: Verdict, dispatch: int = 1) -> Ended:
    return Ended(Outcome(Stage.MAP, Dispatch("key", dispatch), "", verdict, Reason.ERROR))


def positions(intervals: str) -> set[int]:
    """Reads what `intervals` wrote."""
    found: set[int] = set()
    for interval in filter(None, intervals.split(",")):
        first, _, last = interval.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


# ----------------------------------------------------------------------------------------------------------- one by one


def test_all_items_of_a_new_ledger_are_pending() -> None:
    ledger = Ledger(KEYS)

    assert len(ledger) == 6
    assert dict(ledger.counts) == dict.fromkeys(ItemState, 0) | {ItemState.PENDING: 6}
    assert not ledger.finished


def test_a_ledger_without_items_is_finished() -> None:
    assert Ledger([]).finished
    assert Ledger([]).dispatch_next(RETRY, NOW) is None


def test_items_are_known_by_key_and_by_position() -> None:
    ledger = Ledger(KEYS)

    assert [ledger.key(position) for position in range(6)] == KEYS
    assert [ledger.position(key) for key in KEYS] == [0, 1, 2, 3, 4, 5]
    assert ledger.position("key-of-another-run") is None


def test_items_are_dispatched_in_the_order_of_the_plan() -> None:
    ledger = Ledger(KEYS)

    assert [ledger.dispatch_next(RETRY, NOW) for _ in range(7)] == [0, 1, 2, 3, 4, 5, None]
    assert ledger.running == 6


def test_a_retried_item_goes_before_those_that_never_ran() -> None:
    ledger = Ledger(KEYS)
    assert [ledger.dispatch_next(RETRY, NOW) for _ in range(3)] == [0, 1, 2]
    ledger.apply(1, ended(Verdict.FAILED), RETRY, NOW)
    ledger.enqueue(1)

    ledger.release(RETRY, NOW + 10)

    assert [ledger.dispatch_next(RETRY, NOW + 10) for _ in range(2)] == [1, 3]


def test_a_refused_item_takes_its_turn_again() -> None:
    ledger = Ledger(KEYS)
    assert ledger.dispatch_next(RETRY, NOW) == 0

    ledger.apply(0, Refused(1), RETRY, NOW)

    assert ledger.dispatch_next(RETRY, NOW) == 0


@pytest.mark.parametrize("verdict", [Verdict.INTERRUPTED, Verdict.FAILED])
def test_an_item_whose_outcome_is_not_durable_yet_does_not_run_again(verdict: Verdict) -> None:
    ledger = Ledger(["only"])
    ledger.dispatch_next(RETRY, NOW)
    ledger.apply(0, ended(verdict), RETRY, NOW)

    ledger.release(RETRY, NOW + 1000)

    assert ledger.dispatch_next(RETRY, NOW + 1000) is None


def test_a_wait_that_has_lost_its_reason_ends_at_once() -> None:
    ledger = Ledger(KEYS[:2])
    for position in (0, 1):
        ledger.dispatch_next(RETRY, NOW)
        ledger.apply(position, ended(Verdict.FAILED), RETRY, NOW)
    ledger.enqueue(0)

    ledger.hasten({Reason.OOM_KILLED}, NOW)
    assert ledger.next_release() == NOW + 10
    ledger.hasten({Reason.ERROR}, NOW)
    ledger.release(RETRY, NOW)

    # The outcome of the other is not durable, so that it waits for that.
    assert [ledger.dispatch_next(RETRY, NOW) for _ in range(2)] == [0, None]
    ledger.enqueue(1)
    ledger.release(RETRY, NOW)
    assert ledger.dispatch_next(RETRY, NOW) == 1


@pytest.mark.parametrize("verdict", [Verdict.INTERRUPTED, Verdict.FAILED])
def test_an_item_whose_outcome_is_durable_runs_again(verdict: Verdict) -> None:
    ledger = Ledger(["only"])
    ledger.dispatch_next(RETRY, NOW)
    ledger.apply(0, ended(verdict), RETRY, NOW)

    ledger.enqueue(0)
    ledger.release(RETRY, NOW + 1000)

    assert ledger.dispatch_next(RETRY, NOW + 1000) == 0


def test_an_item_whose_job_was_adopted_does_not_run_again_before_its_outcome_is_durable() -> None:
    ledger = Ledger(["only"])
    ledger.apply(0, Started(1, "job-1"), RETRY, NOW)
    ledger.apply(0, Ended(Outcome(Stage.MAP, Dispatch("only", 1), "job-1", Verdict.INTERRUPTED)), RETRY, NOW)

    assert ledger.dispatch_next(RETRY, NOW) is None


def test_an_item_that_the_journal_restored_twice_does_not_run_again_before_its_outcome_is_durable() -> None:
    ledger = Ledger(["only"])
    ledger.restore(0, Item(ItemState.PENDING, interruptions=1))
    ledger.restore(0, Item(ItemState.PENDING, interruptions=2))
    assert ledger.dispatch_next(RETRY, NOW) == 0
    ledger.apply(0, ended(Verdict.FAILED, dispatch=3), RETRY, NOW)

    ledger.release(RETRY, NOW + 1000)

    assert ledger.dispatch_next(RETRY, NOW + 1000) is None


def test_an_item_that_waited_and_was_adopted_is_not_released_by_its_former_wait() -> None:
    ledger = Ledger(["only"])
    ledger.restore(0, Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + 10))
    ledger.apply(0, Started(2, "job-2"), RETRY, NOW)
    ledger.apply(0, Ended(Outcome(Stage.MAP, Dispatch("only", 2), "job-2", Verdict.FAILED)), RETRY, NOW)

    ledger.release(RETRY, NOW + 1000)

    assert ledger[0].state is ItemState.RETRY_WAIT


def test_an_item_takes_one_turn_however_often_it_is_told_to() -> None:
    ledger = Ledger(["only"])
    for _ in range(3):
        ledger.enqueue(0)

    assert ledger.ready() == 1
    assert [ledger.dispatch_next(RETRY, NOW) for _ in range(3)] == [0, None, None]
    assert ledger.ready() == 0


def test_what_does_not_apply_changes_nothing() -> None:
    ledger = Ledger(KEYS)

    assert ledger.apply(0, ended(Verdict.SUCCEEDED), RETRY, NOW) is None
    assert ledger[0] == Item()
    assert ledger.counts[ItemState.PENDING] == 6


def test_the_next_release_is_that_of_the_shortest_wait() -> None:
    ledger = Ledger(KEYS)
    for position, seconds in enumerate((30, 10, 20)):
        ledger.restore(position, Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + seconds))

    assert ledger.next_release() == NOW + 10

    ledger.release(RETRY, NOW + 19)

    assert ledger.next_release() == NOW + 20
    assert [ledger[position].state for position in range(3)] == [
        ItemState.RETRY_WAIT,
        ItemState.PENDING,
        ItemState.RETRY_WAIT,
    ]


def test_nothing_is_to_be_released_where_nothing_waits() -> None:
    assert Ledger(KEYS).next_release() is None


@pytest.mark.parametrize("last", [ItemState.SUCCEEDED, ItemState.DEAD_LETTERED, ItemState.SKIPPED])
def test_a_ledger_is_finished_when_the_last_item_has_ended(last: ItemState) -> None:
    ledger = Ledger(["a", "b"])
    ledger.restore(0, Item(ItemState.SUCCEEDED, attempts=1))
    assert not ledger.finished

    ledger.restore(1, Item(last, attempts=1))

    assert ledger.finished


# ---------------------------------------------------------------------------------------------------------------- lanes


def dead_lettered(size: int) -> Ledger:
    ledger = Ledger(KEYS[:size])
    for position in range(size):
        ledger.restore(position, Item(ItemState.DEAD_LETTERED, attempts=3, cause=Cause.ATTEMPTS_EXHAUSTED))
    return ledger


def take(ledger: Ledger, redrive: int, *positions: int) -> None:
    """A Redrive takes these, and that is durable."""
    for position in positions:
        assert ledger.apply(position, Redriven(redrive, attempts=2), RETRY, NOW) is not None
        ledger.enqueue(position)


def test_what_a_redrive_took_does_not_run_before_that_is_durable() -> None:
    ledger = dead_lettered(1)

    ledger.apply(0, Redriven(1, attempts=1), RETRY, NOW)
    assert (ledger.ready(1), ledger.is_settled(0)) == (0, False)
    assert ledger.dispatch_next(RETRY, NOW, lane=1) is None

    ledger.enqueue(0)
    assert (ledger.ready(1), ledger.is_settled(0)) == (1, True)
    assert ledger.dispatch_next(RETRY, NOW, lane=1) == 0


def test_what_a_redrive_took_and_is_to_wait_does_not_begin_to_before_that_is_durable() -> None:
    ledger = dead_lettered(1)
    ledger.apply(0, Redriven(1, attempts=1, not_before=NOW + 10), RETRY, NOW)

    ledger.release(RETRY, NOW + 100)
    assert ledger[0].state is ItemState.RETRY_WAIT

    ledger.enqueue(0)
    ledger.release(RETRY, NOW + 100)
    assert ledger.dispatch_next(RETRY, NOW + 100, lane=1) == 0


def test_each_redrive_has_a_lane_of_its_own_beside_that_of_all_others() -> None:
    ledger = dead_lettered(6)
    take(ledger, 1, 4, 1)
    take(ledger, 2, 3)
    ledger.restore(5, Item())

    assert [ledger.ready(lane) for lane in range(4)] == [1, 2, 1, 0]
    assert [ledger.dispatch_next(RETRY, NOW, lane) for lane in (1, 2, 1, 1, 0, 3)] == [1, 3, 4, None, 5, None]
    assert [ledger.running_in(lane) for lane in range(4)] == [1, 2, 1, 0]
    assert ledger.running == 4


@pytest.mark.parametrize("verdict", [Verdict.INTERRUPTED, Verdict.FAILED])
def test_an_item_stays_in_the_lane_of_its_redrive_until_its_end(verdict: Verdict) -> None:
    ledger = dead_lettered(2)
    take(ledger, 1, 0)
    assert ledger.dispatch_next(RETRY, NOW, lane=1) == 0

    ledger.apply(0, ended(verdict, dispatch=4), RETRY, NOW)
    ledger.enqueue(0)
    ledger.release(RETRY, NOW + 10)

    assert (ledger.ready(), ledger.ready(1), ledger.running_in(1)) == (0, 1, 0)


@pytest.mark.parametrize("before", [Item(), Item(interruptions=1), Item(attempts=3, allowed=4, redrive=1)])
def test_an_item_that_is_read_back_is_in_the_lane_of_its_redrive_and_in_no_other(before: Item) -> None:
    ledger = Ledger(["only"])
    ledger.restore(0, before)

    ledger.restore(0, Item(attempts=4, allowed=5, redrive=2))

    assert [ledger.ready(lane) for lane in range(3)] == [0, 0, 1]
    assert [ledger.dispatch_next(RETRY, NOW, lane) for lane in range(3)] == [None, None, 0]
    assert [ledger.running_in(lane) for lane in range(3)] == [0, 0, 1]


def test_a_running_item_that_is_read_back_in_another_lane_runs_in_that_one() -> None:
    ledger = Ledger(["only"])
    ledger.restore(0, Item(ItemState.RUNNING, job_uid="job-1"))

    ledger.restore(0, Item(ItemState.RUNNING, attempts=3, allowed=4, redrive=1, job_uid="job-4"))

    assert (ledger.running_in(0), ledger.running_in(1), ledger.running) == (0, 1, 1)


def test_an_item_moves_to_the_lane_of_the_redrive_that_took_it_last() -> None:
    ledger = dead_lettered(1)
    take(ledger, 1, 0)
    ledger.dispatch_next(RETRY, NOW, lane=1)
    ledger.apply(0, Ended(replace(ended(Verdict.FAILED, 4).outcome, retryable=False)), RETRY, NOW)
    ledger.enqueue(0)
    assert ledger[0].state is ItemState.DEAD_LETTERED

    take(ledger, 2, 0)

    assert (ledger.ready(1), ledger.ready(2)) == (0, 1)
    assert ledger.dispatch_next(RETRY, NOW, lane=1) is None
    assert ledger.dispatch_next(RETRY, NOW, lane=2) == 0


# ------------------------------------------------------------------------------------------------------------ intervals


def test_positions_are_written_as_kubernetes_writes_indexes() -> None:
    ledger = Ledger([f"key-{position}" for position in range(12)])
    for position in (0, 1, 2, 5, 7, 8, 11):
        ledger.restore(position, Item(ItemState.SUCCEEDED, attempts=1))

    assert ledger.intervals(ItemState.SUCCEEDED, {}, UNLIMITED) == "0-2,5,7-8,11"
    assert ledger.intervals(ItemState.PENDING, {}, UNLIMITED) == "3-4,6,9-10"
    assert ledger.intervals(ItemState.RUNNING, {}, UNLIMITED) == ""


def test_positions_may_be_shown_in_another_state_than_they_are_in() -> None:
    ledger = Ledger(KEYS)
    ledger.restore(2, Item(ItemState.SUCCEEDED, attempts=1))

    assert ledger.intervals(ItemState.SUCCEEDED, {2: ItemState.RUNNING}, UNLIMITED) == ""
    assert ledger.intervals(ItemState.RUNNING, {2: ItemState.RUNNING}, UNLIMITED) == "2"
    assert list(ledger.in_state(ItemState.SUCCEEDED)) == [2], "what is shown is not what is"


@given(st.lists(st.sampled_from(ItemState), max_size=60))
def test_intervals_name_exactly_the_positions_of_a_state(states: list[ItemState]) -> None:
    ledger = Ledger([f"key-{position}" for position in range(len(states))])
    for position, state in enumerate(states):
        ledger.restore(position, Item(state))

    for state in ItemState:
        expected = {position for position, other in enumerate(states) if other is state}
        assert positions(ledger.intervals(state, {}, UNLIMITED)) == expected
        assert list(ledger.in_state(state)) == sorted(expected)


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (100, "0,2,4,6,8,10"),
        (14, "0,2,4,6,8,10"),
        (11, "0,2,4,6,8,…"),
        (10, "0,2,4,6,…"),
        (9, "0,2,4,6,…"),
        (8, "0,2,4,…"),
        (1, "…"),
    ],
)
def test_positions_that_do_not_fit_are_left_out_from_the_end(limit: int, text: str) -> None:
    ledger = Ledger([f"key-{position}" for position in range(11)])
    for position in range(0, 11, 2):
        ledger.restore(position, Item(ItemState.SUCCEEDED, attempts=1))

    assert ledger.intervals(ItemState.SUCCEEDED, {}, limit) == text


@given(st.lists(st.booleans(), max_size=300), st.integers(1, 120))
def test_what_does_not_fit_is_cut_at_a_comma_and_says_so(succeeded: list[bool], limit: int) -> None:
    ledger = Ledger([f"key-{position}" for position in range(len(succeeded))])
    for position, one in enumerate(succeeded):
        if one:
            ledger.restore(position, Item(ItemState.SUCCEEDED, attempts=1))
    whole = ledger.intervals(ItemState.SUCCEEDED, {}, UNLIMITED)

    text = ledger.intervals(ItemState.SUCCEEDED, {}, limit)

    assert len(text) <= limit
    if text != whole:
        assert len(whole) > limit - 2
        *kept, last = text.split(",")
        assert last == "…"
        assert kept == whole.split(",")[: len(kept)]
        assert len(",".join([*kept, whole.split(",")[len(kept)], "…"])) > limit, "cut as late as possible"


# ------------------------------------------------------------------------------------------------------ against a model


class LedgerAgainstModel(RuleBasedStateMachine):
    """A plain list of items, the set of those whose turn may come, and what the journal has of them.

    Operators die (`crash`), and what they launched lives on and is adopted; outcomes become durable late, or never.
    Redrives take what has failed for good, also some that an earlier one took.
    """

    @initialize(size=st.integers(1, 6))
    def begin(self, size: int) -> None:
        self.keys = KEYS[:size]
        self.ledger = Ledger(self.keys)
        self.items = [Item()] * size
        self.durable = [Item()] * size
        self.may_run = set(range(size))
        self.now = NOW

    def tell(self, position: int, event: ItemEvent) -> Item | None:
        expected = transition(self.items[position], event, RETRY, self.now)
        assert self.ledger.apply(position, event, RETRY, self.now) == expected
        if expected is not None:
            self.items[position] = expected
        return expected

    def any_in(self, state: ItemState, data: st.DataObject) -> int | None:
        found = [position for position, item in enumerate(self.items) if item.state is state]
        return data.draw(st.sampled_from(found)) if found else None

    def pending_in(self, lane: int) -> set[int]:
        pending = ((position, item) for position, item in enumerate(self.items) if item.state is ItemState.PENDING)
        return {position for position, item in pending if item.redrive == lane} & self.may_run

    @rule(lane=st.integers(0, 3))
    def dispatch_next(self, lane: int) -> None:
        expected = min(self.pending_in(lane), default=None)
        assert self.ledger.dispatch_next(RETRY, self.now, lane) == expected
        if expected is not None:
            self.items[expected] = replace(self.items[expected], state=ItemState.RUNNING)
            self.may_run.discard(expected)

    @rule(data=st.data(), uid=st.sampled_from(["job-1", "job-2"]))
    def a_job_is_created(self, data: st.DataObject, uid: str) -> None:
        if (position := self.any_in(ItemState.RUNNING, data)) is not None:
            self.tell(position, Started(self.items[position].dispatch, uid))

    @rule(data=st.data())
    def a_job_is_refused(self, data: st.DataObject) -> None:
        position = self.any_in(ItemState.RUNNING, data)
        if position is not None and self.tell(position, Refused(self.items[position].dispatch)):
            self.may_run.add(position)

    @rule(data=st.data(), verdict=st.sampled_from(Verdict), retryable=st.booleans())
    def a_dispatch_ends(self, data: st.DataObject, verdict: Verdict, retryable: bool) -> None:
        if (position := self.any_in(ItemState.RUNNING, data)) is not None:
            item = self.items[position]
            dispatch = Dispatch(self.keys[position], item.dispatch)
            outcome = Outcome(
                Stage.MAP, dispatch, item.job_uid, verdict, Reason.ERROR, exit_code=1, retryable=retryable
            )
            self.tell(position, Ended(outcome))

    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def old_news_arrive(self, data: st.DataObject, verdict: Verdict) -> None:
        position = data.draw(st.integers(0, len(self.keys) - 1))
        dispatch = Dispatch(self.keys[position], self.items[position].dispatch - 1)
        assert self.tell(position, Ended(Outcome(Stage.MAP, dispatch, "job-1", verdict, Reason.ERROR))) is None

    @rule(data=st.data(), lane=st.integers(1, 3), seconds=st.sampled_from([0, 50]))
    def a_redrive_takes(self, data: st.DataObject, lane: int, seconds: int) -> None:
        letters = [
            position
            for position, item in enumerate(self.items)
            if item.state is ItemState.DEAD_LETTERED and item == self.durable[position]
        ]
        if letters:
            position = data.draw(st.sampled_from(letters))
            self.tell(position, Redriven(lane, attempts=1, not_before=self.now + seconds))
            self.may_run.discard(position)

    @rule(data=st.data())
    def an_outcome_or_a_claim_becomes_durable(self, data: st.DataObject) -> None:
        late = [
            position
            for position, item in enumerate(self.items)
            if position not in self.may_run and item != self.durable[position] and item.state is not ItemState.RUNNING
        ]
        if late:
            position = data.draw(st.sampled_from(late))
            self.durable[position] = self.items[position]
            self.may_run.add(position)
            self.ledger.enqueue(position)

    @rule(seconds=st.sampled_from([0, 5, 10, 100]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.ledger.release(RETRY, self.now)
        for position, item in enumerate(self.items):
            if item.state is ItemState.RETRY_WAIT and item.not_before <= self.now and position in self.may_run:
                self.items[position] = replace(item, state=ItemState.PENDING, not_before=0.0)

    @rule()
    def crash(self) -> None:
        self.ledger = Ledger(self.keys)
        for position, item in enumerate(self.durable):
            if item != Item():
                self.ledger.restore(position, item)
        self.items = list(self.durable)
        self.may_run = set(range(len(self.keys)))

    @precondition(lambda self: any(not item.final and item.state is not ItemState.RUNNING for item in self.items))
    @rule(data=st.data())
    def a_job_is_found_alive(self, data: st.DataObject) -> None:
        idle = [
            position
            for position, item in enumerate(self.items)
            if not item.final and item.state is not ItemState.RUNNING and position in self.may_run
        ]
        if idle:
            position = data.draw(st.sampled_from(idle))
            self.tell(position, Started(self.items[position].dispatch, "job-1"))
            self.may_run.discard(position)

    @invariant()
    def items_are_those_of_the_model(self) -> None:
        assert [self.ledger[position] for position in range(len(self.ledger))] == self.items

    @invariant()
    def counts_are_what_a_recount_gives(self) -> None:
        recount = {state: sum(item.state is state for item in self.items) for state in ItemState}
        assert dict(self.ledger.counts) == recount
        assert sum(self.ledger.counts.values()) == len(self.ledger)
        assert self.ledger.running == recount[ItemState.RUNNING]
        assert self.ledger.finished == all(item.final for item in self.items)

    @invariant()
    def ready_are_those_that_would_be_dispatched(self) -> None:
        for lane in range(4):
            assert self.ledger.ready(lane) == len(self.pending_in(lane))
            in_lane = [item for item in self.items if item.redrive == lane and item.state is ItemState.RUNNING]
            assert self.ledger.running_in(lane) == len(in_lane)

    @invariant()
    def attempts_and_interruptions_are_the_sums_over_the_items(self) -> None:
        assert self.ledger.attempts == sum(item.attempts for item in self.items)
        assert self.ledger.interruptions == sum(item.interruptions for item in self.items)

    @invariant()
    def intervals_and_iteration_agree_with_the_items(self) -> None:
        for state in ItemState:
            expected = [position for position, item in enumerate(self.items) if item.state is state]
            assert list(self.ledger.in_state(state)) == expected
            assert positions(self.ledger.intervals(state, {}, UNLIMITED)) == set(expected)

    @invariant()
    def nobody_is_released_later_than_due(self) -> None:
        due = [
            item.not_before
            for position, item in enumerate(self.items)
            if item.state is ItemState.RETRY_WAIT and position in self.may_run
        ]
        if due:
            release = self.ledger.next_release()
            assert release is not None
            assert release <= min(due)


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = settings(max_examples=200, stateful_step_count=60)
