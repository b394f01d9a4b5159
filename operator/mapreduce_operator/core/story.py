"""The story of a run, as its Events tell it: that of the job, not that of its items."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from mapreduce_operator.api import BreakerState, Phase, Reason
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.failures import MEANINGS, Action, end_of
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.texts import counted

_PHASES: Final = {
    Phase.REDUCE: "ReduceStarted",
    Phase.SUCCEEDED: "Succeeded",
    Phase.PARTIALLY_SUCCEEDED: "PartiallySucceeded",
    Phase.FAILED: "Failed",
}

_NAMED: Final = 5
_ID_CHARACTERS: Final = 60
"""Events are short."""


class Story:
    """Each method gives the Event that is due, if one is."""

    def __init__(self, announced: set[Reason]) -> None:
        """`announced` holds the reasons of which an Event has told, and is kept up to date."""
        self._announced: Final = announced
        self._breaker = BreakerState.CLOSED
        self._outgrown = False
        self._unknown: tuple[str, ...] = ()

    def failed(self, outcome: Outcome, position: int) -> Iterator[Announce]:
        """One for the first failure of each reason."""
        if outcome.reason is None or outcome.reason in self._announced:
            return
        self._announced.add(outcome.reason)
        meaning, what = MEANINGS[outcome.reason], "reduce " if outcome.stage is Stage.REDUCE else ""
        passes = outcome.verdict is Verdict.INTERRUPTED and meaning.action is not Action.PROBE
        # A line for people; agents print several.
        said = " ".join(end_of(outcome.message, 300).split())
        yield Announce(
            "Normal" if passes else "Warning",
            f"First{outcome.reason}",
            f"{what}(Job {outcome.job}): {said} - {meaning.hint} Further ones are counted, not announced.",
            item=position if outcome.stage is Stage.MAP else None,
        )

    def turned(self, before: Turn, turn: Turn) -> Iterator[Announce]:
        """One for each phase that has become durable."""
        if before.phase is not turn.phase:
            yield Announce(
                "Warning" if turn.phase is Phase.FAILED else "Normal",
                _PHASES.get(turn.phase, turn.reason),
                turn.message,
            )

    def breaker(self, state: BreakerState, told: tuple[str, str] | None) -> Iterator[Announce]:
        """One when the breaker opens, and one when it is closed again: what lies between is trying."""
        if state is self._breaker or state is BreakerState.HALF_OPEN:
            return
        self._breaker = state
        if state is BreakerState.CLOSED:
            yield Announce("Normal", "CircuitClosed", "agents are started as usual")
        elif told is not None:
            yield Announce("Warning", *told)

    def outgrown(self, problem: str | None) -> Iterator[Announce]:
        """One when the results have become more than reduce can get."""
        before, self._outgrown = self._outgrown, problem is not None
        if problem is not None and not before:
            yield Announce("Warning", "ResultsTooLarge", problem)

    def skipped(self, unknown: tuple[str, ...]) -> Iterator[Announce]:
        """One when other ids are to be skipped than before that no item has."""
        before, self._unknown = self._unknown, unknown
        if unknown and unknown != before:
            named = ", ".join(_named(one) for one in unknown[:_NAMED])
            yield Announce(
                "Warning",
                "UnknownItemsSkipped",
                f"spec.map.skip names {counted(len(unknown), 'id')} that no item has, such as {named}. Nothing is "
                "skipped for them: correct them, or take them out",
            )

    def resume(self, outgrown: str | None, unknown: tuple[str, ...]) -> None:
        """An earlier operator has told of these."""
        self._outgrown, self._unknown = outgrown is not None, unknown


def with_id(event: Announce, ids: Sequence[str]) -> Announce:
    """The Event with the name of the item that it is about, as people know it."""
    if event.item is None:
        return event
    return replace(event, message=f"item {_named(ids[event.item])} {event.message}", item=None)


def _named(item: str) -> str:
    return repr(end_of(item, _ID_CHARACTERS))
