"""The operator's own cap, shared fairly by namespaces, and by the runs of each."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.engine.capacity import Capacity


def nobody() -> None:
    """A run that does not want to be told."""


def ref(run: str) -> RunRef:
    """Of a run that is called `namespace/name`, or `name` alone."""
    namespace, _, name = run.rpartition("/")
    return RunRef(namespace or "default", name, uid=run)


def ask(capacity: Capacity, run: str, *, active: int = 0, wanted: int = 0, wake: Callable[[], None] = nobody) -> int:
    return capacity.grant(ref(run), active=active, wanted=wanted, wake=wake)


def test_a_single_run_may_have_everything() -> None:
    assert ask(Capacity(10), "a", wanted=100) == 10


def test_a_run_gets_no_more_than_it_wants() -> None:
    assert ask(Capacity(10), "a", wanted=3) == 3


def test_what_runs_already_counts() -> None:
    assert ask(Capacity(10), "a", active=7, wanted=100) == 3


def test_a_run_that_came_late_waits_until_something_is_free() -> None:
    capacity = Capacity(10)
    ask(capacity, "a", wanted=100)

    assert ask(capacity, "b", wanted=100) == 0


def test_a_run_above_its_share_starts_no_more_until_it_is_below() -> None:
    capacity = Capacity(10)
    ask(capacity, "a", wanted=100)
    ask(capacity, "b", wanted=100)

    assert ask(capacity, "a", active=9, wanted=91) == 0
    assert ask(capacity, "b", active=0, wanted=100) == 1


def test_in_the_end_two_greedy_runs_have_half_each() -> None:
    capacity = Capacity(10)
    active = {"a": ask(capacity, "a", wanted=100), "b": ask(capacity, "b", wanted=100)}

    for _ in range(20):
        for run in "ab":
            active[run] = max(0, active[run] - 1)
            active[run] += ask(capacity, run, active=active[run], wanted=100)

    assert active == {"a": 5, "b": 5}


def test_what_a_modest_run_does_not_want_goes_to_the_others() -> None:
    capacity = Capacity(10)

    assert ask(capacity, "modest", wanted=2) == 2
    assert ask(capacity, "greedy", wanted=100) == 8


def test_what_is_left_over_by_the_division_is_not_lost() -> None:
    capacity = Capacity(10)

    assert sum(ask(capacity, run, wanted=4) for run in "abc") == 10


def test_a_run_that_may_start_more_is_woken_when_another_needs_less() -> None:
    capacity, woken = Capacity(10), list[str]()
    ask(capacity, "a", wanted=100, wake=lambda: woken.append("a"))
    ask(capacity, "b", wanted=100, wake=lambda: woken.append("b"))

    ask(capacity, "a", active=9, wanted=0)

    assert woken == ["b"]


def test_a_run_that_may_start_more_is_woken_when_another_ends() -> None:
    capacity, woken = Capacity(10), list[str]()
    ask(capacity, "a", wanted=100)
    ask(capacity, "b", wanted=100, wake=lambda: woken.append("b"))

    capacity.release(ref("a"))

    assert woken == ["b"]
    assert ask(capacity, "b", wanted=100) == 10


def test_a_run_that_wants_nothing_is_left_asleep() -> None:
    capacity, woken = Capacity(10), list[str]()
    ask(capacity, "a", wanted=10)
    ask(capacity, "b", wanted=0, wake=lambda: woken.append("b"))

    capacity.release(ref("a"))

    assert woken == []


def test_ending_twice_is_as_good_as_once() -> None:
    capacity = Capacity(10)

    capacity.release(ref("a"))
    ask(capacity, "a", wanted=1)
    capacity.release(ref("a"))
    capacity.release(ref("a"))

    assert ask(capacity, "b", wanted=10) == 10


def test_jobs_that_an_earlier_operator_left_may_exceed_the_cap_and_nothing_is_taken_back() -> None:
    capacity = Capacity(10)

    assert ask(capacity, "a", active=15, wanted=5) == 0
    assert ask(capacity, "b", wanted=5) == 0


def test_a_run_is_woken_when_what_was_kept_for_another_is_not_wanted_any_more() -> None:
    capacity, woken = Capacity(1), list[str]()
    ask(capacity, "b", active=1)
    ask(capacity, "a", wanted=1)
    assert ask(capacity, "b", active=0, wanted=1, wake=lambda: woken.append("b")) == 0, "it is a's turn"

    ask(capacity, "a", wanted=0)

    assert woken == ["b"]


def test_fifty_jobs_of_one_namespace_get_no_more_than_the_single_one_of_another() -> None:
    capacity = Capacity(100)
    active = settle(capacity, {**{f"many/{number}": 100 for number in range(50)}, "single/a": 100})

    assert active.pop("single/a") == 50
    assert set(active.values()) == {1}


def test_what_a_namespace_does_not_want_goes_to_the_others() -> None:
    assert settle(Capacity(90), {"modest/a": 4, "modest/b": 6, "greedy/a": 100, "hungry/a": 100}) == {
        "modest/a": 4,
        "modest/b": 6,
        "greedy/a": 40,
        "hungry/a": 40,
    }


def test_a_run_above_its_share_leaves_less_to_its_own_namespace_alone() -> None:
    capacity = Capacity(20)
    ask(capacity, "a/first", active=15, wanted=100)
    ask(capacity, "b/other", wanted=100)

    assert ask(capacity, "a/second", wanted=100) == 0
    assert ask(capacity, "b/other", active=5, wanted=95) == 0, "all 20 are in use"
    assert ask(capacity, "a/first", active=14, wanted=100) == 0
    assert ask(capacity, "b/other", active=5, wanted=95) == 1


def test_a_run_of_another_namespace_is_woken_when_one_has_less_than_its_share() -> None:
    capacity, woken = Capacity(4), list[str]()
    ask(capacity, "a/first", wanted=4)
    ask(capacity, "a/second", wanted=1, wake=lambda: woken.append("a/second"))
    ask(capacity, "b/other", wanted=4, wake=lambda: woken.append("b/other"))

    ask(capacity, "a/first", active=3, wanted=1)

    assert woken == ["b/other"]


WISHES = st.dictionaries(
    st.sampled_from([f"{namespace}/{name}" for namespace in "abc" for name in "xyz"]), st.integers(0, 60), min_size=1
)


def settle(capacity: Capacity, wishes: dict[str, int]) -> dict[str, int]:
    """How many Jobs each run has alive after all have asked again and again, while one of each ends in every round."""
    active = dict.fromkeys(wishes, 0)
    for _ in range(capacity.total + 1):
        for run, wish in wishes.items():
            active[run] -= min(1, active[run])
            active[run] += ask(capacity, run, active=active[run], wanted=wish - active[run])
    # Who asked before somebody else's Job ended asks once more.
    for run, wish in wishes.items():
        active[run] += ask(capacity, run, active=active[run], wanted=wish - active[run])
    return active


@given(st.integers(1, 50), WISHES)
def test_shares_are_fair_whoever_asks_first(total: int, wishes: dict[str, int]) -> None:
    active = settle(Capacity(total), wishes)

    assert sum(active.values()) == min(total, sum(wishes.values())), "nothing lies idle while somebody wants it"
    of_namespaces = by_namespace(active)
    for namespace, runs in by_namespace(wishes).items():
        level = fair(total, [sum(runs.values()) for runs in by_namespace(wishes).values()])
        has, wish = sum(of_namespaces[namespace].values()), sum(runs.values())
        assert min(wish, level) <= has <= min(wish, level + 1), "namespaces have what they want, or are equal"
        for run, wish in runs.items():
            level = fair(has, list(runs.values()))
            assert min(wish, level) <= active[run] <= min(wish, level + 1), "and so are the runs of each"


@given(st.integers(1, 50), st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_namespaces_of_one_run_each_share_like_the_runs_of_one_namespace(total: int, wishes: list[int]) -> None:
    apart = settle(Capacity(total), {f"{number}/run": wish for number, wish in enumerate(wishes)})
    together = settle(Capacity(total), {f"all/{number}": wish for number, wish in enumerate(wishes)})

    assert list(apart.values()) == list(together.values())


def by_namespace(runs: dict[str, int]) -> dict[str, dict[str, int]]:
    namespaces: dict[str, dict[str, int]] = {}
    for run, number in runs.items():
        namespaces.setdefault(run.partition("/")[0], {})[run] = number
    return namespaces


def fair(total: int, wishes: list[int]) -> int:
    """The level up to which everybody can have what they want."""
    return max(level for level in range(total + 1) if sum(min(wish, level) for wish in wishes) <= total)


RUNS = ("a/x", "a/y", "b/z")


class SharedByRuns(RuleBasedStateMachine):
    """Runs of two namespaces start what they are granted, ask again when woken, end Jobs, and change their minds."""

    @initialize(total=st.integers(3, 12))
    def begin(self, total: int) -> None:
        self.capacity = Capacity(total)
        self.active = dict.fromkeys(RUNS, 0)
        self.wanted = dict.fromkeys(RUNS, 0)
        self.awake: set[str] = set()

    def turn(self, run: str) -> None:
        self.awake.discard(run)
        granted = self.capacity.grant(
            ref(run), active=self.active[run], wanted=self.wanted[run], wake=lambda: self.awake.add(run)
        )
        assert 0 <= granted <= self.wanted[run]
        self.active[run] += granted
        self.wanted[run] -= granted

    @rule(run=st.sampled_from(RUNS), more=st.integers(1, 15))
    def wants_more(self, run: str, more: int) -> None:
        self.wanted[run] += more
        self.turn(run)

    @rule(run=st.sampled_from(RUNS))
    def wants_nothing_more(self, run: str) -> None:
        self.wanted[run] = 0
        self.turn(run)

    @rule(run=st.sampled_from(RUNS), ended=st.integers(1, 4))
    def jobs_end(self, run: str, ended: int) -> None:
        self.active[run] -= min(ended, self.active[run])
        self.turn(run)

    @rule(run=st.sampled_from(RUNS))
    def ends(self, run: str) -> None:
        self.active[run] = self.wanted[run] = 0
        self.capacity.release(ref(run))
        self.awake.discard(run)

    @rule()
    def all_that_were_woken_ask_again(self) -> None:
        while self.awake:
            self.turn(min(self.awake))

    @invariant()
    def there_are_never_more_jobs_than_allowed(self) -> None:
        assert sum(self.active.values()) <= self.capacity.total

    @invariant()
    def nothing_lies_idle_while_a_run_wants_it_and_sleeps(self) -> None:
        idle = self.capacity.total - sum(self.active.values())
        assert not idle or self.awake or not any(self.wanted.values())


TestSharedByRuns = SharedByRuns.TestCase
