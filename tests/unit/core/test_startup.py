"""What keeps pods from starting, and what is done about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mapreduce_operator.api import Reason
from mapreduce_operator.core.failures import MEANINGS
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.startup import FIRST_REST_SECONDS, MAX_REST_SECONDS, POD_SECONDS, SEVERAL, Startup
from mapreduce_operator.core.workloads import Carried, Dispatch, PodSeen

PENDING: Final = {Stage.MAP: 300.0, Stage.REDUCE: 60.0}
NOW: Final = 1_800_000_000.0
NO_IMAGE: Final[dict[str, Any]] = {"waiting": "ErrImagePull", "waiting_message": "no such host"}
BACK_OFF: Final[dict[str, Any]] = {"waiting": "ImagePullBackOff", "waiting_message": 'Back-off pulling image "x"'}
NO_SECRET: Final[dict[str, Any]] = {"waiting": "CreateContainerConfigError", "waiting_message": 'secret "x" not found'}
CREATING: Final[dict[str, Any]] = {"waiting": "ContainerCreating"}
PREPARING: Final[dict[str, Any]] = {"waiting": "ContainerCreating", "preparing": True}


def pod(item: str, *, stage: Stage = Stage.MAP, revision: str = "5f1c", number: int = 1, **seen: Any) -> PodSeen:
    carried = Carried("run-1", stage, (Dispatch(item, number),), revision)
    job = f"demo-{item}-d{number}"
    return PodSeen("default", f"{job}-x", f"pod-{job}", job, f"uid-{job}", carried, "Pending", node="node-1", **seen)


def ended(seen: PodSeen, reason: Reason | None = None, message: str = "") -> Outcome:
    return Outcome(
        seen.carried.stage,
        seen.carried.dispatches[0],
        seen.job_uid,
        Verdict.SUCCEEDED if reason is None else MEANINGS[reason].verdict,
        reason=reason,
        message=message,
        revision=seen.carried.revision,
        job=seen.job,
        pod=seen.name,
    )


def launch(startup: Startup, seen: PodSeen, now: float) -> PodSeen:
    startup.expects(seen.job_uid, seen.job, now)
    startup.observe(seen, now)
    return seen


def give_up(startup: Startup, seen: PodSeen, now: float) -> None:
    """As a run does: what is deleted is told of as deleted, and recorded as explained."""
    startup.ended(startup.explained(ended(seen, Reason.DELETED)), now)


def told(pods: list[PodSeen]) -> list[str]:
    return [one.carried.dispatches[0].item_key for one in pods]


# ---------------------------------------------------------------------------------------------------------- given up


@pytest.mark.parametrize("seen", [NO_IMAGE, NO_SECRET, PREPARING], ids=["image", "secret", "volume"])
def test_a_pod_that_cannot_start_is_given_up_once_its_time_is_over(seen: dict[str, Any]) -> None:
    startup = Startup()
    launch(startup, pod("a", **seen), NOW)

    assert startup.next_due(NOW, PENDING) == NOW + 300
    assert startup.overdue(NOW + 299.9, PENDING) == []
    assert told(startup.overdue(NOW + 300, PENDING)) == ["a"]
    assert startup.overdue(NOW + 1e6, PENDING) == []


def test_the_time_of_a_stage_is_its_own_and_may_change_meanwhile() -> None:
    startup = Startup()
    launch(startup, pod("a", **NO_IMAGE), NOW)
    launch(startup, pod("r", stage=Stage.REDUCE, **NO_IMAGE), NOW)

    assert told(startup.overdue(NOW + 60, PENDING)) == ["r"]
    assert startup.next_due(NOW + 60, {Stage.MAP: 70.0, Stage.REDUCE: 60.0}) == NOW + 70
    assert told(startup.overdue(NOW + 70, {Stage.MAP: 70.0, Stage.REDUCE: 60.0})) == ["a"]


def test_a_kubelet_that_tries_again_and_again_does_not_start_the_time_anew() -> None:
    startup = Startup()
    states = [NO_IMAGE, BACK_OFF, CREATING, NO_IMAGE, BACK_OFF, NO_SECRET]
    for second, seen in enumerate(states):
        startup.observe(pod("a", **seen), NOW + second)

    assert told(startup.overdue(NOW + 300, PENDING)) == ["a"]


@pytest.mark.parametrize("seen", [NO_IMAGE, PREPARING], ids=["image", "volume"])
def test_a_pod_that_was_given_up_and_is_still_there_is_not_given_up_again(seen: dict[str, Any]) -> None:
    startup = Startup()
    launch(startup, pod("a", **seen), NOW)
    startup.overdue(NOW + 300, PENDING)
    startup.observe(pod("a", **BACK_OFF), NOW + 301)

    assert startup.overdue(NOW + 1e6, PENDING) == []
    assert startup.next_due(NOW + 301, PENDING) is None


def test_what_its_node_prepared_in_time_is_no_trouble() -> None:
    startup = Startup()
    launch(startup, pod("a", **PREPARING), NOW)
    startup.observe(pod("a", **CREATING), NOW + 299)

    assert startup.next_due(NOW + 299, PENDING) is None
    assert startup.overdue(NOW + 1e6, PENDING) == []
    assert startup.problem(Stage.MAP, "5f1c", 1) is None


def test_the_time_for_an_image_begins_when_its_node_is_prepared() -> None:
    startup = Startup()
    launch(startup, pod("a", **PREPARING), NOW)
    startup.observe(pod("a", **NO_IMAGE), NOW + 100)

    assert startup.overdue(NOW + 399, PENDING) == []
    assert told(startup.overdue(NOW + 400, PENDING)) == ["a"]


@pytest.mark.parametrize("seen", [{}, CREATING, {"unschedulable": "0/3 nodes"}, {"waiting": "Novel"}])
def test_a_pod_that_merely_waits_is_never_given_up(seen: dict[str, Any]) -> None:
    startup = Startup()
    launch(startup, pod("a", **seen), NOW)

    assert startup.overdue(NOW + 1e6, PENDING) == []


def test_a_pod_that_starts_after_all_is_no_trouble_any_more() -> None:
    startup = Startup()
    launch(startup, pod("a", **NO_IMAGE), NOW)
    startup.observe(pod("a", started=True), NOW + 10)

    assert startup.problem(Stage.MAP, "5f1c", 1) is None
    assert startup.overdue(NOW + 1e6, PENDING) == []
    assert startup.next_due(NOW + 10, PENDING) is None


def test_a_pod_that_ended_is_not_given_up() -> None:
    startup = Startup()
    seen = launch(startup, pod("a", **NO_IMAGE), NOW)
    # Of the Job alone, it is not known by which template.
    startup.ended(replace(ended(seen, Reason.DELETED), revision=""), NOW + 10)

    assert startup.overdue(NOW + 1e6, PENDING) == []


def test_pods_of_a_template_that_was_corrected_are_given_up_at_once() -> None:
    startup = Startup()
    launch(startup, pod("a", **NO_IMAGE), NOW)
    launch(startup, pod("b", **PREPARING), NOW)
    launch(startup, pod("c", revision="new", **NO_IMAGE), NOW)

    assert startup.stale({Stage.MAP: "5f1c"}) != []
    assert told(startup.stale({Stage.MAP: "new"})) == ["a"]
    assert startup.stale({Stage.MAP: "new"}) == []
    assert told(startup.overdue(NOW + 300, PENDING)) == ["b"]


# ------------------------------------------------------------------------------------------------------- explanations


@pytest.mark.parametrize("reason", [Reason.DELETED, Reason.NOT_STARTED])
def test_what_its_status_does_not_say_any_more_is_known_from_before(reason: Reason) -> None:
    startup = Startup()
    seen = launch(startup, pod("a", **BACK_OFF), NOW)
    startup.observe(pod("a", deleting=True, **CREATING), NOW + 1)

    found = startup.explained(ended(seen, reason, "gone"))

    assert (found.reason, found.message) == (Reason.IMAGE_UNAVAILABLE, 'ImagePullBackOff: Back-off pulling image "x"')
    assert found.verdict is Verdict.INTERRUPTED


@pytest.mark.parametrize("reason", [None, Reason.SUSPENDED, Reason.EVICTED, Reason.ERROR, Reason.CONFIGURATION_ERROR])
def test_what_is_known_of_its_end_is_not_explained_away(reason: Reason | None) -> None:
    startup = Startup()
    outcome = ended(launch(startup, pod("a", **BACK_OFF), NOW), reason, "known")

    assert startup.explained(outcome) == outcome


def test_a_pod_that_its_node_could_not_prepare_in_time_was_not_started() -> None:
    startup = Startup()
    seen = launch(startup, pod("a", **PREPARING), NOW)
    outcome = ended(seen, Reason.DELETED)

    assert startup.explained(outcome) == outcome
    startup.overdue(NOW + 300, PENDING)
    found = startup.explained(outcome)
    assert found.reason is Reason.NOT_STARTED
    assert "volumes" in found.message
    assert "node-1" in found.message


# ------------------------------------------------------------------------------------------------- a template at fault


def test_several_items_that_cannot_start_make_the_template_suspect() -> None:
    startup = Startup()
    for number, item in enumerate("abc", start=1):
        assert not startup.suspect(Stage.MAP, "5f1c", items=10)
        launch(startup, pod(item, **NO_IMAGE), NOW)
        assert startup.suspect(Stage.MAP, "5f1c", items=10) is (number >= SEVERAL)

    assert not startup.suspect(Stage.MAP, "other", items=10)
    assert not startup.suspect(Stage.REDUCE, "5f1c", items=10)


@pytest.mark.parametrize("items", [1, 2])
def test_where_there_are_fewer_items_than_several_all_of_them_do(items: int) -> None:
    startup = Startup()
    launch(startup, pod("a", **NO_IMAGE), NOW)
    assert startup.suspect(Stage.MAP, "5f1c", items) is (items == 1)
    launch(startup, pod("b", **NO_IMAGE), NOW)

    assert startup.suspect(Stage.MAP, "5f1c", items)


def test_one_item_again_and_again_is_one_item() -> None:
    startup = Startup()
    for number in range(1, 10):
        give_up(startup, launch(startup, pod("a", number=number, **NO_IMAGE), NOW), NOW)

    assert not startup.suspect(Stage.MAP, "5f1c", items=10)


@pytest.mark.parametrize("reason", [Reason.CONFIGURATION_ERROR, Reason.IMAGE_UNAVAILABLE, Reason.NOT_STARTED])
def test_items_that_were_given_up_count_as_well(reason: Reason) -> None:
    startup = Startup()
    for item in "abc":
        startup.ended(ended(launch(startup, pod(item), NOW), reason), NOW)

    assert startup.suspect(Stage.MAP, "5f1c", items=10)


@pytest.mark.parametrize("reason", [Reason.DELETED, Reason.EVICTED, Reason.SUSPENDED, Reason.ERROR, None])
def test_no_other_end_is_held_against_the_template(reason: Reason | None) -> None:
    startup = Startup()
    for item in "abc":
        startup.ended(ended(launch(startup, pod(item), NOW), reason), NOW)

    assert not startup.suspect(Stage.MAP, "5f1c", items=10)


def started(startup: Startup, seen: PodSeen) -> None:
    startup.observe(replace(seen, started=True, phase="Running"), NOW + 1)


def succeeded(startup: Startup, seen: PodSeen) -> None:
    startup.ended(ended(seen), NOW + 1)


def failed(startup: Startup, seen: PodSeen) -> None:
    startup.ended(ended(seen, Reason.ERROR), NOW + 1)


def init_failed(startup: Startup, seen: PodSeen) -> None:
    startup.ended(ended(seen, Reason.INIT_FAILED), NOW + 1)


def interrupted(startup: Startup, seen: PodSeen) -> None:
    startup.ended(ended(seen, Reason.EVICTED), NOW + 1)


@pytest.mark.parametrize(
    ("happens", "proves"),
    [(started, True), (succeeded, True), (failed, True), (init_failed, False), (interrupted, False)],
)
def test_only_an_agent_that_starts_proves_the_template_good(
    happens: Callable[[Startup, PodSeen], None], proves: bool
) -> None:
    startup = Startup()
    for item in "abc":
        launch(startup, pod(item, **NO_IMAGE), NOW)
    happens(startup, launch(startup, pod("d"), NOW))

    assert startup.suspect(Stage.MAP, "5f1c", items=10) is not proves
    assert bool(startup.failed) is not proves


def test_an_agent_that_has_run_all_along_proves_nothing() -> None:
    startup = Startup()
    before = launch(startup, pod("z"), NOW)
    started(startup, before)
    startup.expects("uid-of-old", "old", NOW, resumed=True)
    for item in "abc":
        launch(startup, pod(item, **NO_IMAGE), NOW)

    started(startup, before)
    succeeded(startup, before)
    startup.observe(replace(pod("old", started=True), job_uid="uid-of-old"), NOW)

    assert startup.suspect(Stage.MAP, "5f1c", items=10)


def test_one_at_a_time_is_tried_after_a_rest_that_doubles() -> None:
    startup = Startup()
    now = NOW
    for item in "abc":
        give_up(startup, launch(startup, pod(item, **NO_IMAGE), now), now + 300)
    now += 300
    rests = []
    for number in range(2, 9):
        due = startup.next_due(now, PENDING)
        assert due is not None
        rests.append(due - now)
        assert not startup.may_probe(Stage.MAP, "5f1c", running=0, now=due - 0.1)
        assert startup.may_probe(Stage.MAP, "5f1c", running=0, now=due)
        probe = launch(startup, pod("a", number=number, **NO_IMAGE), due)
        assert not startup.may_probe(Stage.MAP, "5f1c", running=1, now=due)
        now = due + 300
        give_up(startup, probe, now)

    assert rests == [FIRST_REST_SECONDS, 60.0, 120.0, 240.0, MAX_REST_SECONDS, MAX_REST_SECONDS, MAX_REST_SECONDS]


def test_those_that_were_launched_together_do_not_double_the_rest_one_by_one() -> None:
    startup = Startup()
    pods = [launch(startup, pod(item, **NO_IMAGE), NOW + second) for second, item in enumerate("abcdefgh")]
    for second, seen in enumerate(pods):
        give_up(startup, seen, NOW + 300 + 10 * second)

    assert startup.next_due(NOW + 370, PENDING) == NOW + 370 + FIRST_REST_SECONDS


def test_agents_that_run_do_not_keep_one_from_being_tried() -> None:
    startup = Startup()
    for item in "xyz":
        started(startup, launch(startup, pod(item), NOW))

    assert startup.may_probe(Stage.MAP, "5f1c", running=3, now=NOW)
    assert not startup.may_probe(Stage.MAP, "5f1c", running=4, now=NOW)
    succeeded(startup, pod("x"))
    assert not startup.may_probe(Stage.MAP, "5f1c", running=3, now=NOW)
    assert startup.may_probe(Stage.MAP, "5f1c", running=2, now=NOW)


def test_after_a_start_the_rest_is_short_again() -> None:
    startup = Startup()
    for item in "abc":
        give_up(startup, launch(startup, pod(item, **NO_IMAGE), NOW), NOW + 300)
    give_up(startup, launch(startup, pod("a", number=2, **NO_IMAGE), NOW + 330), NOW + 630)
    started(startup, launch(startup, pod("a", number=3), NOW + 690))
    for item in "abc":
        give_up(startup, launch(startup, pod(item, number=4, **NO_IMAGE), NOW + 700), NOW + 1000)

    assert startup.next_due(NOW + 1000, PENDING) == NOW + 1000 + FIRST_REST_SECONDS


def test_what_is_known_of_templates_outlives_the_operator() -> None:
    before, after = Startup(), Startup()
    for item in "abcde":
        give_up(before, launch(before, pod(item, **NO_IMAGE), NOW), NOW)
    assert {key: len(items) for key, items in before.failed.items()} == {"map/5f1c": SEVERAL}

    after.restore(before.failed)

    assert after.failed == before.failed
    assert after.suspect(Stage.MAP, "5f1c", items=10)
    assert after.may_probe(Stage.MAP, "5f1c", running=0, now=NOW)
    assert after.problem(Stage.MAP, "5f1c", 10) is not None


def test_a_template_that_was_corrected_is_forgotten() -> None:
    startup = Startup()
    for item in "abc":
        give_up(startup, launch(startup, pod(item, **NO_IMAGE), NOW), NOW)
    startup.stale({Stage.MAP: "new"})

    assert startup.failed == {}
    assert not startup.suspect(Stage.MAP, "new", items=10)


# ----------------------------------------------------------------------------------------------------- what people read


def test_one_pod_that_cannot_start_is_told_and_is_no_obstacle() -> None:
    startup = Startup()
    assert startup.problem(Stage.MAP, "5f1c", 10) is None
    launch(startup, pod("a", **NO_SECRET), NOW)

    assert startup.problem(Stage.MAP, "5f1c", 10) == (
        "ConfigurationError",
        '1 pod cannot start, such as demo-a-d1-x: CreateContainerConfigError: secret "x" not found - '
        + MEANINGS[Reason.CONFIGURATION_ERROR].hint,
        False,
    )


def test_several_pods_are_told_as_one_obstacle() -> None:
    startup = Startup()
    for number in range(1200):
        launch(startup, pod(f"item{number}", **NO_IMAGE), NOW)

    assert startup.problem(Stage.MAP, "5f1c", 5000) == (
        "ImageUnavailable",
        "1,200 pods cannot start, such as demo-item1199-d1-x: ErrImagePull: no such host - "
        + MEANINGS[Reason.IMAGE_UNAVAILABLE].hint
        + " Until an agent starts, one item at a time is tried.",
        True,
    )


def test_between_two_tries_the_obstacle_stays() -> None:
    startup = Startup()
    for item in "abc":
        seen = launch(startup, pod(item), NOW)
        startup.ended(ended(seen, Reason.CONFIGURATION_ERROR, 'StartError: exec: "/nothing"'), NOW)

    problem = startup.problem(Stage.MAP, "5f1c", 10)

    assert problem is not None
    assert (problem[0], problem[2]) == ("ConfigurationError", True)
    assert 'demo-c-d1-x: StartError: exec: "/nothing"' in problem[1]


def test_pods_without_a_node_are_told_in_the_words_of_the_scheduler() -> None:
    startup = Startup()
    assert startup.unschedulable() is None
    for item in "abc":
        launch(startup, pod(item, unschedulable="0/3 nodes are available: 3 Insufficient cpu."), NOW)
    assert startup.unschedulable() == (
        "Unschedulable",
        "no node for 3 pods, such as demo-c-d1-x: 0/3 nodes are available: 3 Insufficient cpu.",
    )

    startup.observe(pod("a", **CREATING), NOW)
    started(startup, pod("b"))
    startup.ended(ended(pod("c"), Reason.DELETED), NOW)
    assert startup.unschedulable() is None


def test_jobs_that_get_no_pod_are_told() -> None:
    startup = Startup()
    startup.expects("uid-1", "demo-a-d1", NOW)
    startup.expects("uid-2", "demo-b-d1", NOW + 10)

    assert startup.next_due(NOW, PENDING) == NOW + POD_SECONDS
    assert startup.podless(NOW + POD_SECONDS - 0.1) is None
    for seconds, number in ((POD_SECONDS, "1 Job,"), (POD_SECONDS + 10, "2 Jobs,")):
        found = startup.podless(NOW + seconds)
        assert found is not None
        assert found[0] == "PodNotCreated"
        assert number in found[1]
        assert "kubectl describe job demo-a-d1" in found[1]


def test_jobs_that_queue_for_their_pods_are_no_trouble_while_others_get_theirs() -> None:
    """At its default settings the Job controller makes a few pods a second."""
    startup = Startup()
    for number in range(10):
        startup.expects(f"uid-demo-item{number}-d1", f"demo-item{number}-d1", NOW)
    for number in range(9):
        startup.observe(pod(f"item{number}"), NOW + 20 * (number + 1))
        assert startup.podless(NOW + 20 * (number + 1) + 19) is None

    due = startup.next_due(NOW + 180, PENDING)
    assert due == NOW + 180 + POD_SECONDS
    found = startup.podless(due)
    assert found is not None
    assert "1 Job, such as demo-item9-d1" in found[1]


def test_a_job_that_has_its_pod_or_its_outcome_is_not_waited_for() -> None:
    startup = Startup()
    for item in "ab":
        startup.expects(f"uid-demo-{item}-d1", f"demo-{item}-d1", NOW)
    startup.podless(NOW + 100)
    startup.observe(pod("a"), NOW + 100)
    startup.ended(ended(pod("b"), Reason.DELETED), NOW + 100)

    assert startup.podless(NOW + 1000) is None
    assert startup.next_due(NOW + 200, PENDING) is None


# -------------------------------------------------------------------------------------------------------- any history

STATES: Final[list[dict[str, Any]]] = [
    {},
    CREATING,
    PREPARING,
    NO_IMAGE,
    BACK_OFF,
    NO_SECRET,
    {"unschedulable": "no node"},
]


class Histories(RuleBasedStateMachine):
    """Pods of five items come, change and end in any order; what was told must agree with what was seen."""

    def __init__(self) -> None:
        super().__init__()
        self.startup = Startup()
        self.now = NOW
        self.live: dict[str, PodSeen] = {}
        self.numbers = dict.fromkeys("abcde", 0)
        self.told: set[str] = set()
        self.blocked_since: dict[str, float] = {}
        self.failed: set[str] = set()

    @rule(seconds=st.sampled_from([0.5, 10.0, 60.0, 299.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(item=st.sampled_from("abcde"))
    def launched(self, item: str) -> None:
        if item in self.live:
            return
        self.numbers[item] += 1
        seen = pod(item, number=self.numbers[item])
        self.startup.expects(seen.job_uid, seen.job, self.now)
        self.live[item] = seen

    @precondition(lambda self: self.live)
    @rule(data=st.data(), state=st.sampled_from(STATES), deleting=st.booleans())
    def changes(self, data: st.DataObject, state: dict[str, Any], deleting: bool) -> None:
        item = data.draw(st.sampled_from(sorted(self.live)))
        before = self.live[item]
        if before.started:
            return
        seen = pod(item, number=self.numbers[item], deleting=deleting or before.deleting, **state)
        self.live[item] = seen
        self.startup.observe(seen, self.now)
        if not seen.deleting and state in (NO_IMAGE, BACK_OFF, NO_SECRET):
            if seen.job_uid not in self.blocked_since and seen.job_uid not in self.told:
                self.failed.add(item)
            self.blocked_since.setdefault(seen.job_uid, self.now)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(sorted(self.live)))
        fresh = not self.live[item].started
        self.live[item] = replace(self.live[item], started=True, waiting="", preparing=False, unschedulable="")
        self.startup.observe(self.live[item], self.now)
        self.blocked_since.pop(self.live[item].job_uid, None)
        if fresh:
            self.failed.clear()

    @precondition(lambda self: self.live)
    @rule(data=st.data(), reason=st.sampled_from([Reason.DELETED, Reason.NOT_STARTED, Reason.EVICTED]))
    def ends(self, data: st.DataObject, reason: Reason) -> None:
        item = data.draw(st.sampled_from(sorted(self.live)))
        seen = self.live.pop(item)
        outcome = self.startup.explained(ended(seen, reason))
        assert outcome.verdict is Verdict.INTERRUPTED
        blocked = self.blocked_since.pop(seen.job_uid, None) is not None
        if blocked and reason is not Reason.EVICTED:
            assert outcome.reason in {Reason.IMAGE_UNAVAILABLE, Reason.CONFIGURATION_ERROR, Reason.NOT_STARTED}
        self.startup.ended(outcome, self.now)
        if outcome.reason in {Reason.IMAGE_UNAVAILABLE, Reason.CONFIGURATION_ERROR, Reason.NOT_STARTED}:
            self.failed.add(item)

    @rule()
    def some_are_overdue(self) -> None:
        for seen in self.startup.overdue(self.now, PENDING):
            assert seen.job_uid not in self.told, "told twice"
            assert not self.live[seen.carried.dispatches[0].item_key].started
            self.told.add(seen.job_uid)
        for uid, since in self.blocked_since.items():
            assert uid in self.told or since + PENDING[Stage.MAP] > self.now

    @rule()
    def it_comes_back(self) -> None:
        again = Startup()
        again.restore(self.startup.failed)
        assert again.failed == self.startup.failed

    @invariant()
    def a_template_is_suspect_exactly_when_several_items_could_not_start(self) -> None:
        for items in (2, 5):
            assert self.startup.suspect(Stage.MAP, "5f1c", items) is (len(self.failed) >= min(SEVERAL, items))

    @invariant()
    def what_is_told_is_so(self) -> None:
        problem = self.startup.problem(Stage.MAP, "5f1c", 5)
        assert (problem is not None) or not self.blocked_since
        assert (problem is not None and problem[2]) is self.startup.suspect(Stage.MAP, "5f1c", 5)
        due = self.startup.next_due(self.now, PENDING)
        assert due is not None or not (self.blocked_since.keys() - self.told)


TestHistories = Histories.TestCase
