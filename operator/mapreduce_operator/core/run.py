"""A run: everything that is decided about one MapReduceJob, as a state and the effects that follow from it.

The engine tells what happened (`agents.observe_pod`, `agents.started`, `commits.done`, …) and asks `decide` what to do
next. Nothing here waits, reads a clock or does anything, so that every race, retry and crash can be replayed.

Two kinds of truth live side by side: the ledgers know what has happened, the account of the books and the committed
turn what is durable. Jobs are deleted and the status speaks only by the second.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from mapreduce_operator.api import (
    BreakerState,
    DeadLetterPolicy,
    ItemState,
    MapReduceJobSpec,
    Phase,
    Restart,
    RestartPhase,
    ResultsAs,
    ResumePolicy,
    SuspendPolicy,
)
from mapreduce_operator.core.agents import Agents
from mapreduce_operator.core.batches import Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint, Restarted, digest
from mapreduce_operator.core.commits import Commits
from mapreduce_operator.core.course import Course
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.dispatching import Dispatching
from mapreduce_operator.core.effects import (
    Effect,
    PrepareReduce,
)
from mapreduce_operator.core.failures import TEMPLATE_FAULTS
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import FINAL_STATES
from mapreduce_operator.core.journal import Accepted, Record
from mapreduce_operator.core.letterbox import Letterbox
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.phases import FINAL_PHASES, REDRIVING, REDUCING_AGAIN, RESTARTED, Turn
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.redrives import Redrives, patched_item
from mapreduce_operator.core.results import outgrown
from mapreduce_operator.core.starting import Starting
from mapreduce_operator.core.story import Story
from mapreduce_operator.core.tally import Tally
from mapreduce_operator.core.templates import Templates
from mapreduce_operator.core.texts import counted
from mapreduce_operator.core.works import Works


class RunState:
    """The state of one run from its plan to its end."""

    def __init__(
        self, ref: RunRef, spec: MapReduceJobSpec, keys: list[str], turn: Turn, *, shortest_id: int = 0
    ) -> None:
        """`shortest_id` is how many bytes the shortest id has: what is known here of the ids that reduce gets."""
        self.ref: Final = ref
        self._shortest_id: Final = shortest_id
        self.works: Final = Works(spec)
        self.books: Final = Books(ref, keys)
        self.ledgers: Final = self.books.ledgers
        self.unsaved: Final = Uncommitted()
        self.guard: Final = Guard(spec, len(keys))
        self.course: Final = Course(self.books, self.guard, self.unsaved, self.works, turn)
        self.letterbox: Final = Letterbox(ref, spec, self.books, self.guard, self.unsaved)
        self.templates: Final = Templates(ref, spec)
        self._starting: Final = Starting(self.books, self.templates, spec)
        self._story: Final = Story(self.books.announced)
        self.dispatching: Final = Dispatching(
            self.works,
            self.books,
            self.unsaved,
            course=self.course,
            guard=self.guard,
            letterbox=self.letterbox,
            templates=self.templates,
            starting=self._starting,
        )
        self.agents: Final = Agents(
            ref,
            self.works,
            self.books,
            self.unsaved,
            course=self.course,
            guard=self.guard,
            letterbox=self.letterbox,
            dispatching=self.dispatching,
            starting=self._starting,
            story=self._story,
        )
        self.commits: Final = Commits(
            self.works,
            self.books,
            self.unsaved,
            course=self.course,
            guard=self.guard,
            letterbox=self.letterbox,
            story=self._story,
        )
        self._preparing_reduce = False
        self.checkpoint: Checkpoint | None = None
        """The last one that everything here knows of; None before the past is told."""

    # ------------------------------------------------------------------------------------------------ what is so

    @property
    def spec(self) -> MapReduceJobSpec:
        return self.works.spec

    @property
    def uncommitted(self) -> Sequence[Record]:
        """Outcomes that are not durable yet."""
        return self.unsaved.records

    @property
    def tally(self) -> Tally:
        return self.books.account.tally

    @property
    def dead_letters(self) -> DeadLetters:
        return self.books.account.dead_letters

    @property
    def redrives(self) -> Redrives:
        return self.books.account.redrives

    @property
    def turn(self) -> Turn:
        return self.course.turn

    @property
    def committed_turn(self) -> Turn:
        return self.course.committed

    @property
    def phase(self) -> Phase:
        return self.course.turn.phase

    @property
    def finished(self) -> bool:
        """The end of the run is durable and none of its Jobs is left."""
        ended = self.turn.phase in FINAL_PHASES and self.committed_turn.phase in FINAL_PHASES
        return ended and not self.unsaved and not self.active

    @property
    def active(self) -> int:
        """Jobs whose agents run or are being started."""
        return self.books.active

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """(reason, message) of what a person has to mend before items can run."""
        return self._starting.obstacle(self.course.stage)

    def not_starting(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of why pods that are there do not start; None where they do."""
        return self._starting.difficulty(self.course.stage, now)

    @property
    def outgrown(self) -> str | None:
        """Why reduce cannot get the results that are durable already; None where it can, or there is none."""
        if self.phase is not Phase.MAP:
            return None
        succeeded = self.ledgers[Stage.MAP].counts[ItemState.SUCCEEDED]
        return outgrown(self.spec.reduce, succeeded, self.tally.result_bytes, self._shortest_id)

    def next_wake(self, now: float) -> float | None:
        """When `decide` has something to do even if nothing happens, in seconds since the epoch."""
        moments = [] if (due := self.agents.next_look()) is None else [due]
        if self.phase not in FINAL_PHASES and (trial := self.templates.next_trial()) is not None:
            moments.append(trial)
        if not self.spec.suspend:
            moments += [at for ledger in self.ledgers.values() if (at := ledger.next_release()) is not None]
        if (due := self._starting.next_due(now)) is not None:
            moments.append(due)
        if self.guard.breaker.state is BreakerState.OPEN:
            moments.append(self.guard.breaker.open_until)
        if (deadline := self.course.deadline) is not None and not self.course.overdue:
            moments.append(deadline)
        if (due := self.commits.next_due()) is not None:
            moments.append(due)
        return max(min(moments), now) if moments else None

    # --------------------------------------------------------------------------------------------- what happened

    def respec(self, spec: MapReduceJobSpec, now: float) -> None:
        """The user changed the spec: it serves all decisions from now on."""
        self.works.respec(spec)
        self.guard.respec(spec, now)
        self.letterbox.respec(spec)
        before = {stage: self.templates.revision(stage) for stage in Stage}
        self.templates.respec(spec)
        self._starting.respec(spec)
        for stage, revision in before.items():
            current = self.templates.revision(stage)
            if revision is not None and current is not None and revision.hash != current.hash:
                # What was wrong with the template before says nothing any more.
                self.ledgers[stage].hasten(TEMPLATE_FAULTS, now)

    def reduce_prepared(self, results_as: ResultsAs) -> None:
        self._preparing_reduce = False
        self.course.reduce_ready = results_as

    def reduce_impossible(self, message: str) -> None:
        """The results cannot be handed to reduce; the run ends, and keeps them."""
        self._preparing_reduce = False
        if self.phase is Phase.REDUCE:
            self.course.turn_to(Turn(Phase.FAILED, "ResultsTooLarge", message))

    def as_run(self, position: int, item: PlannedItem) -> PlannedItem:
        """A map item as its agent gets it: as it was planned, or as the Redrive that took it last patches it."""
        number = self.ledgers[Stage.MAP][position].redrive
        return patched_item(self.redrives[number].accepted, item) if number else item

    def redrive(self, accepted: Accepted, attempts: int, not_before: Mapping[int, float], now: float) -> None:
        """A Redrive takes letters that are takeable: the positions in `not_before`, each with its time to wait.

        What it takes is run as soon as that is durable. A run that has ended goes back to its map for it.
        """
        self.letterbox.take(accepted, attempts, not_before, self.works.retry(Stage.MAP), now)
        message = f"the Redrive {accepted.name} runs {accepted.selected:,} dead letters again"
        self.course.reopen(REDRIVING, message, now)

    def restart(self, restart: Restart, policy: ResumePolicy, now: float) -> None:
        """Goes back to the map for the items that were given up, or to the reduce; successes stay what they are."""
        if restart.phase is RestartPhase.MAP:
            taken = self.letterbox.restart(restart.token, policy, self.works.retry(Stage.MAP), now)
            ledger = self.ledgers[Stage.MAP]
            left = len(ledger) - sum(ledger.counts[state] for state in FINAL_STATES)
            message = f"the map was begun again with {counted(left, 'item')}, of which {taken:,} had been given up"
            self.course.reopen(RESTARTED, message, now)
        else:
            self.books.reduce_again = self.unsaved.reduce_again = True
            self.course.reopen(REDUCING_AGAIN, "the reduce runs again over the results as they are", now)
        self.commits.restarted(Restarted(restart.phase, restart.token, now))

    def what_became_of(self, restart: Restart) -> str:
        """What came of a restart that was answered, for people."""
        if restart.phase is RestartPhase.REDUCE and self.books.reduce_again:
            if self.phase in FINAL_PHASES:
                return f"the reduce has not run again, since the job came to its end before it ({self.turn.reason})"
            return "the reduce runs when the map is over"
        if restart.phase is RestartPhase.MAP and self.letterbox.restarted(restart.token) == 0:
            return (
                "the phase Map was begun again: no item that had been given up was to be run, so a reduce that has "
                "ended is not run again"
            )
        return f"the phase {restart.phase} was begun again"

    def requeue(self, policy: DeadLetterPolicy | None, now: float) -> None:
        """The DeadLetterQueue changed, or there is none."""
        self.guard.requeue(policy)
        self.letterbox.set_aside(now)

    # --------------------------------------------------------------------------------------------------- coming back

    def resume(self, now: float, checkpoint: Checkpoint) -> None:
        """The past is told, up to a checkpoint. Jobs that carried running dispatches then may be gone by now."""
        self.checkpoint = checkpoint
        self.commits.throughput.begin(now)
        self.commits.answers, self.course.opened_at = checkpoint.answers, checkpoint.opened_at
        self.books.resume({stage: self.works.retry(stage).backoff.max_seconds for stage in Stage}, now)
        # The spec that is committed is one that an operator has seen.
        seen = checkpoint.sequence > 0 and checkpoint.spec_sha256 == digest(self.works.text)
        self._story.resume(self.outgrown, self.letterbox.unknown if seen else ())
        self.guard.resume(checkpoint.breaker, self.ledgers[Stage.MAP].in_state(ItemState.RUNNING), now)
        self.agents.resume(now)

    # ------------------------------------------------------------------------------------------------ what to do

    def decide(self, now: float) -> list[Effect]:
        """What follows from the state, but for new Jobs and commits: ask `dispatching` next, and `commits` last."""
        effects = self.agents.look(now)
        if self.phase not in FINAL_PHASES:
            effects += self.templates.try_out(now)
        self.guard.at(now)
        self.course.at(now)
        effects += self._story.outgrown(self.outgrown)
        effects += self._story.skipped(self.letterbox.unknown)
        effects += self._story.breaker(self.guard.breaker.state, self.guard.circuit())
        for hopeless in list(self._starting.hopeless()):
            self.letterbox.call_off(*hopeless, now)
        if self.course.ends_now and (stop := self.course.stop()) is not None:
            for number in list(self.redrives.running()):
                self.letterbox.call_off(number, *stop, now)
        self.letterbox.give_back(now)
        self.letterbox.leave_out(now)
        effects += self._starting.give_up(self.unsaved.unrecorded, now)
        interrupting = self.spec.suspend and self.spec.suspend_policy is SuspendPolicy.INTERRUPT
        if interrupting or self.course.ends_now:
            for stage, ledger in self.ledgers.items():
                effects += self.agents.interrupt(stage, ledger.in_state(ItemState.RUNNING))
        else:
            effects += self.agents.interrupt(Stage.MAP, self.letterbox.unwanted(ItemState.RUNNING))
        self.course.turn_if_done(self.works.retry(Stage.REDUCE), now)
        for stage, ledger in self.ledgers.items():
            ledger.release(self.works.retry(stage), now)
        if (prepare := self._prepare_reduce()) is not None:
            self._preparing_reduce = True
            effects.append(prepare)
        return effects

    def _prepare_reduce(self) -> PrepareReduce | None:
        """Not before the phase is durable, and again when its agent is to get the results in another form."""
        reduce = self.spec.reduce
        if reduce is None or self._preparing_reduce or self.course.reduce_ready is reduce.results_as:
            return None
        if self.phase is not Phase.REDUCE or not self.course.settled or self.ledgers[Stage.REDUCE].running:
            return None
        return PrepareReduce(reduce.results_as)
