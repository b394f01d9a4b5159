"""What a run knows of its past after a crash: from segments, from a snapshot, and from what the cluster still shows."""

from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapreduce_operator.api import ItemState, LetterState, MapReduceJobSpec, Phase, Reason, ResultsAs
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import CommitReason, digest
from mapreduce_operator.core.effects import Announce, Commit, DeleteJob, FindVanished, Launch
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, Record, Segment, Start
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.sightings import POD_GRACE_SECONDS
from mapreduce_operator.core.snapshot import decode_snapshot, encode_snapshot
from mapreduce_operator.core.workloads import ContainerEnd, Dispatch, PodSeen
from tests.unit.core.scenes import (
    CHECKPOINT,
    CRASHED,
    DONE,
    NOW,
    REDUCE_KEY,
    TEMPLATE,
    all_run,
    carried,
    commit,
    find_no_pod,
    job,
    landed,
    launch,
    observe,
    pod,
    segment,
    spec,
    take_templates,
    verified_run,
)

EVICTED_POD: Final = pod("demo-a-d1", phase="Failed", disruption="EvictionByEvictionAPI")
HOPELESS: Final = ContainerEnd(1, message='{"error": {"message": "no such file", "retryable": false}}')
LETTER_STATES: Final = {
    ItemState.PENDING: {LetterState.CLAIMED},
    ItemState.RUNNING: {LetterState.CLAIMED},
    ItemState.RETRY_WAIT: {LetterState.CLAIMED},
    ItemState.SUCCEEDED: {LetterState.RESOLVED},
    ItemState.DEAD_LETTERED: {LetterState.OPEN, LetterState.ARCHIVED},
}
STARTED: Final = Start(Stage.MAP, "a", 1, "uid-demo-a-d1")


def resumed(*records: Record, starts: tuple[Start, ...] = (), seconds: float = 0.0) -> RunState:
    """The items a and b, read back from one segment."""
    run = verified_run("ab")
    run.books.replay(segment(*records, starts=starts))
    run.resume(NOW + seconds, CHECKPOINT)
    return run


# ------------------------------------------------------------------------------------------------------ starts are told


def test_a_start_is_durable_with_the_next_commit_even_if_nothing_ended() -> None:
    run = verified_run("ab")
    all_run(run, launch(run, seconds=100), seconds=100)

    assert run.commits.due(NOW + 104.9) == []
    assert run.next_wake(NOW + 100) == NOW + 105
    assert run.commits.due(NOW + 105) == [Commit(CommitReason.TIME)]

    batch = run.commits.begin(CommitReason.TIME, NOW + 105)
    assert batch.starts == (STARTED, Start(Stage.MAP, "b", 1, "uid-demo-b-d1"))
    assert batch.records == ()
    assert run.commits.done(batch, NOW + 106) == []

    assert run.commits.due(NOW + 9999) == []
    assert run.next_wake(NOW + 106) is None


def test_a_start_that_comes_while_a_commit_is_in_flight_is_in_the_next() -> None:
    run = verified_run("ab", spec({"maxParallel": 1}))
    launch(run)
    first = run.commits.begin(CommitReason.TIME, NOW)
    run.respec(spec({"maxParallel": 2}), NOW)
    launch(run)

    run.commits.done(first, NOW + 1)

    assert [start.key for start in first.starts] == ["a"]
    assert [start.key for start in run.commits.begin(CommitReason.TIME, NOW).starts] == ["b"]


def test_a_start_is_recorded_once_whoever_tells_of_it_first() -> None:
    run = verified_run("a")
    run.dispatching.launch(1, NOW)
    run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW)

    assert run.agents.started(Stage.MAP, 0, 1, "uid-demo-a-d1", NOW)
    run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW)

    assert run.commits.begin(CommitReason.TIME, NOW).starts == (STARTED,)


@pytest.mark.parametrize(("dispatch", "uid"), [(1, "uid-other"), (2, "uid-demo-a-d2")], ids=["other", "ahead"])
def test_a_job_that_does_not_carry_the_dispatch_in_hand_starts_nothing(dispatch: int, uid: str) -> None:
    run = verified_run("ab")
    launch(run)
    before = run.ledgers[Stage.MAP][0]

    assert not run.agents.started(Stage.MAP, 0, dispatch, uid, NOW)

    assert run.ledgers[Stage.MAP][0] == before
    assert len(run.commits.begin(CommitReason.TIME, NOW).starts) == 2


def test_an_answer_that_comes_after_the_end_of_its_agent_starts_nothing() -> None:
    run = verified_run("ab")
    run.dispatching.launch(1, NOW)
    observe(run, pod("demo-a-d1", CRASHED))

    assert not run.agents.started(Stage.MAP, 0, 1, "uid-demo-a-d1", NOW)

    batch = run.commits.begin(CommitReason.TIME, NOW)
    assert batch.starts == ()
    assert len(batch.records) == 1


def test_a_batch_does_not_change_after_it_was_made() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    batch = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True)
    before = Landed.of(batch)

    observe(run, pod("demo-b-d1", DONE))
    run.decide(NOW + 100)

    assert Landed.of(batch) == before


# ------------------------------------------------------------------------------------------------- a Job that vanished


def test_a_recorded_start_is_of_a_job_that_is_asked_for() -> None:
    run = verified_run("ab")
    run.books.replay(segment(starts=(STARTED,)))

    run.resume(NOW, CHECKPOINT)
    (asked,) = run.agents.carrying()

    assert (asked.name, asked.uid, asked.namespace, asked.owner_uid) == (
        "demo-a-d1",
        "uid-demo-a-d1",
        "default",
        "run-1",
    )
    assert asked.carried.dispatches == (Dispatch("a", 1),)
    assert launch(run) == ["demo-b-d1"]


def test_a_recorded_start_whose_job_vanished_is_an_interruption_and_its_number_is_used_up() -> None:
    run = verified_run("a")
    run.books.replay(segment(starts=(STARTED,)))
    run.resume(NOW, CHECKPOINT)
    (vanished,) = run.agents.carrying()

    assert FindVanished() in run.decide(NOW)

    run.agents.observe_job(vanished, deleted=True, now=NOW)
    assert run.next_wake(NOW) == NOW + POD_GRACE_SECONDS
    run.agents.observe_job(vanished, deleted=True, now=NOW + 1)
    assert find_no_pod(run, POD_GRACE_SECONDS) == ["demo-a-d1"]
    run.agents.observe_job(vanished, deleted=True, now=NOW + 6)
    assert find_no_pod(run, 1000) == []

    assert run.ledgers[Stage.MAP][0] == Item(ItemState.PENDING, interruptions=1, reason=Reason.DELETED)
    batch = run.commits.begin(CommitReason.ITEMS, NOW)
    (outcome,) = [record.outcome for record in batch.records]
    assert (outcome.verdict, outcome.reason) == (Verdict.INTERRUPTED, Reason.DELETED)
    assert (outcome.job, outcome.job_uid) == ("demo-a-d1", "uid-demo-a-d1")
    run.commits.done(batch, NOW)
    assert launch(run, seconds=1000) == ["demo-a-d2"]


def test_a_vanished_job_whose_pod_is_still_there_waits_for_it() -> None:
    run = verified_run("a")
    run.books.replay(segment(starts=(STARTED,)))
    run.resume(NOW, CHECKPOINT)
    (vanished,) = run.agents.carrying()
    run.agents.observe_job(vanished, deleted=True, now=NOW)
    observe(run, pod("demo-a-d1", deleting=True, grace_seconds=30.0))

    run.decide(NOW + 3 * POD_GRACE_SECONDS)
    assert run.ledgers[Stage.MAP][0].state is ItemState.RUNNING

    observe(run, pod("demo-a-d1", DONE, gone=True), seconds=20)
    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)


def test_a_recorded_start_whose_job_lives_is_adopted_without_a_second_start() -> None:
    run = resumed(starts=(STARTED,))

    assert run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW) == []
    assert run.agents.started(Stage.MAP, 0, 1, "uid-demo-a-d1", NOW)

    assert launch(run) == ["demo-b-d1"]
    assert [start.key for start in run.commits.begin(CommitReason.TIME, NOW).starts] == ["b"]
    observe(run, pod("demo-a-d1", DONE))
    assert run.ledgers[Stage.MAP][0] == Item(ItemState.SUCCEEDED, attempts=1)


def test_a_job_that_is_alive_and_unknown_is_adopted_and_its_start_recorded() -> None:
    run = resumed()

    run.agents.observe_job(job("demo-a-d1"), deleted=False, now=NOW)

    assert run.commits.begin(CommitReason.TIME, NOW).starts == (STARTED,)


def test_the_end_of_a_start_that_was_recorded_is_no_running_item_any_more() -> None:
    ended = Record(
        Outcome(Stage.MAP, Dispatch("a", 1), STARTED.job_uid, Verdict.INTERRUPTED, Reason.EVICTED),
        Item(interruptions=1, reason=Reason.EVICTED),
    )
    run = verified_run("ab")

    run.books.replay(segment(ended, starts=(STARTED,)))

    run.resume(NOW, CHECKPOINT)
    assert run.agents.carrying() == []
    assert run.ledgers[Stage.MAP][0] == Item(interruptions=1, reason=Reason.EVICTED)
    assert run.agents.observe_job(job("demo-a-d1", complete=True), deleted=False, now=NOW) == [
        DeleteJob("demo-a-d1", "uid-demo-a-d1")
    ]


def test_a_running_reduce_is_asked_for_as_well() -> None:
    run = verified_run("", spec(reduce={"template": TEMPLATE}))
    run.books.replay(segment(starts=(Start(Stage.REDUCE, REDUCE_KEY, 1, "uid-r"),)))

    run.resume(NOW, CHECKPOINT)
    (asked,) = run.agents.carrying()

    assert (asked.name, asked.uid, asked.carried.stage) == (f"demo-{REDUCE_KEY}-d1", "uid-r", Stage.REDUCE)


def test_an_agent_that_was_resumed_can_be_interrupted_before_its_job_is_seen() -> None:
    run = resumed(starts=(STARTED,))

    run.respec(spec(suspend=True, suspendPolicy="Interrupt"), NOW)

    assert [effect for effect in run.decide(NOW) if isinstance(effect, DeleteJob)] == [
        DeleteJob("demo-a-d1", "uid-demo-a-d1")
    ]


def test_a_journal_of_another_run_is_not_taken_for_this_one() -> None:
    with pytest.raises(KeyError, match="no item of default/demo has the key z"):
        verified_run("ab").books.replay(segment(starts=(Start(Stage.MAP, "z", 1, "u"),)))


# ---------------------------------------------------------------------------------------------------------------- waits


def failed(not_before: float) -> Record:
    return Record(
        Outcome(Stage.MAP, Dispatch("a", 1), "u", Verdict.FAILED, Reason.ERROR),
        Item(ItemState.RETRY_WAIT, attempts=1, not_before=not_before, reason=Reason.ERROR),
    )


@pytest.mark.parametrize(
    ("written", "waits_until"), [(NOW + 10, NOW + 10), (NOW + 300, NOW + 300), (NOW + 301, NOW + 300), (9e9, NOW + 300)]
)
def test_a_wait_is_never_longer_than_the_longest_backoff_whatever_clock_wrote_it(
    written: float, waits_until: float
) -> None:
    run = resumed(failed(written))

    assert run.ledgers[Stage.MAP][0].not_before == waits_until
    assert run.next_wake(NOW) == waits_until
    assert launch(run, seconds=waits_until - NOW - 0.001) == ["demo-b-d1"]
    assert launch(run, seconds=waits_until - NOW) == ["demo-a-d2"]


def test_a_wait_that_was_over_while_nobody_looked_is_over() -> None:
    assert launch(resumed(failed(NOW + 10), seconds=50), seconds=50) == ["demo-a-d2", "demo-b-d1"]


def test_a_wait_that_was_cut_does_not_let_the_item_run_before_its_next_outcome_is_durable() -> None:
    run = resumed(failed(9e9))
    assert "demo-a-d2" in launch(run, seconds=300)
    observe(run, pod("demo-a-d2", CRASHED), seconds=300)

    assert launch(run, seconds=1000) == []
    commit(run, seconds=1000)
    assert launch(run, seconds=1000) == ["demo-a-d3"]


# ------------------------------------------------------------------------------------------------------------ snapshots


def test_a_snapshot_says_what_will_be_durable_with_its_batch() -> None:
    run = verified_run("abcd", spec({"maxParallel": 3}))
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    observe(run, pod("demo-b-d1", DONE))

    snapshot = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True).snapshot

    assert snapshot is not None
    waiting = Item(ItemState.RETRY_WAIT, attempts=1, not_before=NOW + 10, reason=Reason.ERROR)
    assert snapshot.items[Stage.MAP] == [
        (0, waiting),
        (1, Item(ItemState.SUCCEEDED, attempts=1)),
        (2, Item(ItemState.RUNNING, job_uid="uid-demo-c-d1")),
    ]
    assert snapshot.tally.reasons == {Reason.ERROR: 1}
    assert [known.count for known in snapshot.tally.failures.values()] == [1]
    assert run.tally.failures == {}, "the status speaks of what is durable"


def test_a_snapshot_does_not_know_of_dispatches_whose_job_is_being_created() -> None:
    run = verified_run("ab")
    launch(run)
    observe(run, pod("demo-a-d1", gone=True))
    observe(run, pod("demo-b-d1", CRASHED))
    commit(run)
    run.decide(NOW + 10)
    assert len(run.dispatching.launch(2, NOW + 10)) == 2

    snapshot = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True).snapshot

    assert snapshot is not None
    assert snapshot.items[Stage.MAP] == [
        (0, Item(interruptions=1, reason=Reason.DELETED)),
        (1, Item(attempts=1, reason=Reason.ERROR)),
    ]


def test_a_snapshot_of_a_run_that_has_only_begun_is_empty() -> None:
    run = verified_run("ab")
    run.dispatching.launch(2, NOW)

    snapshot = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=True).snapshot

    assert snapshot is not None
    assert list(snapshot.items.values()) == [[], []]


def test_without_being_asked_a_batch_has_no_snapshot() -> None:
    run = verified_run("a")
    launch(run)

    assert run.commits.begin(CommitReason.ITEMS, NOW).snapshot is None


def test_a_retry_that_runs_waits_for_nothing_when_it_is_read_back() -> None:
    run, again = verified_run("a"), verified_run("a")
    launch(run)
    observe(run, pod("demo-a-d1", CRASHED))
    first = run.commits.begin(CommitReason.ITEMS, NOW)
    run.commits.done(first, NOW)
    launch(run, seconds=10)
    second = run.commits.begin(CommitReason.TIME, NOW + 10)

    again.books.replay(segment(*first.records, starts=first.starts))
    again.books.replay(segment(*second.records, starts=second.starts))

    assert again.ledgers[Stage.MAP][0] == run.ledgers[Stage.MAP][0]


@pytest.mark.parametrize("end", [pod("demo-a-d1", CRASHED), EVICTED_POD], ids=["failure", "interruption"])
@pytest.mark.parametrize("with_snapshot", [True, False])
def test_what_was_announced_before_is_not_announced_again(end: PodSeen, with_snapshot: bool) -> None:
    run, again = verified_run("ab"), verified_run("ab")
    launch(run)
    assert [type(effect) for effect in observe(run, end)] == [Announce]
    batch = run.commits.begin(CommitReason.ITEMS, NOW, with_snapshot=with_snapshot)

    if batch.snapshot is not None:
        again.books.restore(batch.snapshot)
    else:
        again.books.replay(segment(*batch.records, starts=batch.starts))
    again.resume(NOW, CHECKPOINT)

    other = replace(end, job="demo-b-d1", job_uid="uid-demo-b-d1", carried=carried("demo-b-d1"))
    assert observe(again, other) == []
    assert len(again.uncommitted) == 1


# ------------------------------------------------------------------------------------------------------------ any story


KEYS: Final = "abcd"


@dataclass(frozen=True)
class Landed:
    """A commit that is durable."""

    segment: Segment
    snapshot: bytes | None

    @classmethod
    def of(cls, batch: Batch) -> "Landed":
        return cls(landed(batch), encode_snapshot(batch.snapshot) if batch.snapshot else None)


def read_back(commits: list[Landed], of: MapReduceJobSpec, now: float, *, with_snapshot: bool) -> RunState:
    run = verified_run(KEYS, of)
    covered = 0
    if with_snapshot:
        covered = max((number for number, one in enumerate(commits, start=1) if one.snapshot), default=0)
    if covered and (data := commits[covered - 1].snapshot):
        run.books.restore(decode_snapshot(data, digest(data), "snapshot"))
    for commit_ in commits[covered:]:
        run.books.replay(commit_.segment)
    run.resume(now, CHECKPOINT)
    return run


def settled(item: Item, now: float) -> Item:
    """An item as it is to be read back: the Job that is being created is not known, and waits may be over by now."""
    if item.state is ItemState.RUNNING:
        return item if item.job_uid else replace(item, state=ItemState.PENDING)
    if item.state is ItemState.RETRY_WAIT and item.not_before <= now:
        return replace(item, state=ItemState.PENDING, not_before=0.0)
    return item


def items_of(run: RunState, now: float) -> list[Item]:
    return [settled(ledger[position], now) for ledger in run.ledgers.values() for position in range(len(ledger))]


def books_of(run: RunState) -> dict[str, Any]:
    """What a run knows beside its items."""
    letters = run.dead_letters
    return {
        "tally": run.tally,
        "letters": list(letters.all()),
        "counts": {state: letters.counts[state] for state in LetterState},
        "open": list(letters.open()),
        "unresolved": letters.unresolved,
        "groups": letters.largest_groups(100),
        "redrives": list(run.redrives.all()),
        "past": run.books._past,
        "reduce again": run.books.reduce_again,
        "announced": run.books.announced,
    }


class AnyStory(RuleBasedStateMachine):
    """A run from its plan to wherever; after each step it might die, and what comes back is compared.

    Its queue has room for two open letters and sets the older ones aside. Redrives take letters, also while the map
    runs and when all is over; letters are purged.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.spec = spec(
            {"maxParallel": 3, "retry": {"maxAttempts": 2, "maxInterruptions": 1, "backoff": {"jitter": 0}}},
            reduce={"template": TEMPLATE, "runWhen": "Always"},
            deadLetter={"capacity": 2, "onFull": "Archive"},
        )
        self.policy = self.spec.dead_letter
        self.run = verified_run(KEYS, self.spec)
        self.creating: list[Launch] = []
        self.commits: list[Landed] = []
        self.in_flight: tuple[Batch, list[Item]] | None = None
        self.durable: list[Item] = items_of(self.run, self.now)
        """Items as they were when the last commit that landed was begun."""

    @initialize(letters=st.integers(0, len(KEYS)))
    def begin(self, letters: int) -> None:
        """Letters are not what most stories come to by themselves."""
        while len(self.run.dead_letters) < letters:
            self.launch(granted=1)
            self.creating.clear()
            for position in self.run.ledgers[Stage.MAP].in_state(ItemState.RUNNING):
                observe(self.run, pod(f"demo-{KEYS[position]}-d1", HOPELESS))
            self.a_commit_begins(with_snapshot=False)
            self.a_commit_lands()

    # ------------------------------------------------------------------------------------------------ what happens

    @rule(granted=st.integers(1, 3))
    def launch(self, granted: int) -> None:
        self.run.requeue(self.policy, self.now)
        for effect in (*self.run.decide(self.now), *self.run.dispatching.launch(granted, self.now)):
            if isinstance(effect, Launch):
                self.creating.append(effect)
        if self.run.committed_turn.phase is Phase.REDUCE and not self.run.course.reduce_ready:
            self.run.reduce_prepared(ResultsAs.FILE)

    @precondition(lambda self: self.creating)
    @rule(data=st.data())
    def a_job_is_created(self, data: st.DataObject) -> None:
        effect = self.creating.pop(data.draw(st.integers(0, len(self.creating) - 1)))
        uid = f"uid-{effect.dispatch.item_key}-{effect.dispatch.number}"
        self.run.agents.started(effect.stage, effect.position, effect.dispatch.number, uid, self.now)

    @precondition(lambda self: self.creating)
    @rule()
    def a_job_is_refused(self) -> None:
        effect = self.creating.pop()
        self.run.agents.refused(effect.stage, effect.position, effect.dispatch.number)

    @rule(data=st.data(), agent=st.sampled_from([DONE, CRASHED, HOPELESS, None]))
    def an_agent_ends(self, data: st.DataObject, agent: ContainerEnd | None) -> None:
        running = [
            (stage, position)
            for stage, ledger in self.run.ledgers.items()
            for position in ledger.in_state(ItemState.RUNNING)
        ]
        if running:
            stage, position = data.draw(st.sampled_from(running))
            ledger = self.run.ledgers[stage]
            key, number = ledger.key(position), ledger[position].dispatch
            seen = pod(f"demo-{key}-d{number}", agent, gone=agent is None)
            observe(self.run, replace(seen, job_uid=f"uid-{key}-{number}"), seconds=self.now - NOW)

    @rule(seconds=st.sampled_from([1, 11, 100]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds
        self.run.decide(self.now)

    @precondition(lambda self: self.run.course.redrive_waits() is None and bool(len(self.run.dead_letters)))
    @rule(data=st.data(), attempts=st.integers(1, 2), seconds=st.sampled_from([0, 20]), rerun_reduce=st.booleans())
    def a_redrive_takes_letters(self, data: st.DataObject, attempts: int, seconds: int, rerun_reduce: bool) -> None:
        takeable = [position for position in range(len(KEYS)) if self.run.letterbox.is_takeable(position)]
        if takeable:
            taken = data.draw(st.lists(st.sampled_from(takeable), min_size=1, unique=True))
            number = len(self.run.redrives) + 1
            accepted = Accepted(
                number, f"uid-{number}-{self.now}", "again", self.now, len(taken), rerun_reduce=rerun_reduce
            )
            at = self.now + seconds if seconds else 0.0
            self.run.redrive(accepted, attempts, dict.fromkeys(taken, at), self.now)

    @rule(capacity=st.sampled_from([None, 1, 2]))
    def the_queue_is_changed(self, capacity: int | None) -> None:
        self.policy = self.spec.dead_letter.model_copy(update={"capacity": capacity})

    @rule(with_open=st.booleans())
    def letters_are_purged(self, with_open: bool) -> None:
        policy = self.spec.dead_letter.model_copy(update={"retention_seconds": 10, "purge_open": with_open})
        self.run.letterbox.purge(policy, self.now)

    @precondition(lambda self: self.in_flight is None)
    @rule(with_snapshot=st.booleans())
    def a_commit_begins(self, with_snapshot: bool) -> None:
        batch = self.run.commits.begin(CommitReason.ITEMS, self.now, with_snapshot=with_snapshot)
        self.in_flight = batch, items_of(self.run, self.now)

    @precondition(lambda self: self.in_flight is not None)
    @rule()
    def a_commit_lands(self) -> None:
        assert self.in_flight is not None
        batch, self.durable = self.in_flight
        self.commits.append(Landed.of(batch))
        self.run.commits.done(batch, self.now)
        self.in_flight = None

    @rule()
    def all_that_waits_becomes_durable(self) -> None:
        if self.in_flight is not None:
            self.a_commit_lands()
        while self.run.unsaved:
            self.a_commit_begins(with_snapshot=False)
            self.a_commit_lands()

    @rule(with_snapshot=st.booleans())
    def the_operator_dies(self, with_snapshot: bool) -> None:
        turn = self.run.committed_turn
        self.run = read_back(self.commits, self.spec, self.now, with_snapshot=with_snapshot)
        self.run.course.turn = self.run.course.committed = turn
        take_templates(self.run)
        self.creating.clear()
        self.in_flight = None

    # ------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def what_comes_back_is_what_was_durable(self) -> None:
        by_segments = read_back(self.commits, self.spec, self.now, with_snapshot=False)
        by_snapshot = read_back(self.commits, self.spec, self.now, with_snapshot=True)

        durable = [settled(item, self.now) for item in self.durable]
        assert items_of(by_segments, self.now) == durable
        assert items_of(by_snapshot, self.now) == durable
        assert by_snapshot.tally == by_segments.tally == self.run.tally
        assert books_of(by_snapshot) == books_of(by_segments)
        if not self.run.unsaved and self.in_flight is None and self.run.turn == self.run.committed_turn:
            assert books_of(by_segments) == books_of(self.run)
        for stage in Stage:
            assert by_snapshot.ledgers[stage].attempts == by_segments.ledgers[stage].attempts
            assert by_snapshot.ledgers[stage].interruptions == by_segments.ledgers[stage].interruptions
        assert not by_snapshot.unsaved
        assert not by_segments.unsaved

    @invariant()
    def both_go_on_alike(self) -> None:
        later = self.now + 1000 - NOW
        by_segments = read_back(self.commits, self.spec, self.now, with_snapshot=False)
        by_snapshot = read_back(self.commits, self.spec, self.now, with_snapshot=True)

        assert launch(by_snapshot, seconds=later) == launch(by_segments, seconds=later)
        assert by_snapshot.active == by_segments.active

    @invariant()
    def letters_say_what_is_durable_of_their_items(self) -> None:
        durable = read_back(self.commits, self.spec, self.now, with_snapshot=False)
        ledger = durable.ledgers[Stage.MAP]
        for run in (self.run, durable):
            for entry, state, _ in run.dead_letters.all():
                assert state in LETTER_STATES[ledger[entry.position].state]

    @invariant()
    def redrives_have_what_their_items_say(self) -> None:
        ledger = self.run.ledgers[Stage.MAP]
        for progress in self.run.redrives.all():
            number = progress.accepted.number
            mine = [ledger[position] for position in range(len(ledger)) if ledger[position].redrive == number]
            assert progress.unsettled == sum(not item.final for item in mine)
            assert 0 <= progress.unsettled <= progress.remaining <= progress.accepted.selected

    @invariant()
    def what_a_redrive_took_is_only_run_when_that_is_durable(self) -> None:
        durable = read_back(self.commits, self.spec, self.now, with_snapshot=False)
        for stage, ledger in self.run.ledgers.items():
            for position in ledger.in_state(ItemState.RUNNING):
                assert durable.ledgers[stage][position].redrive == ledger[position].redrive

    @invariant()
    def every_letter_has_the_whole_history_since_it_was_planned_or_taken(self) -> None:
        for given_up in self.run.unsaved.letters:
            numbers = [attempt.dispatch for attempt in given_up.history]
            last = given_up.item.attempts + given_up.item.interruptions
            assert numbers == list(range(numbers[0], last + 1))
            assert given_up.item.redrive or numbers[0] == 1


TestAnyStory = AnyStory.TestCase
TestAnyStory.settings = settings(max_examples=100, stateful_step_count=50)
