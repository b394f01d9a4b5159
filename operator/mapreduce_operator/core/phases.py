"""The phases of a run, and what a run comes to when its items have ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.api import EmptyPolicy, ItemState, MapReduceJobSpec, Phase, RunWhen

NEXT: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.PLANNING: frozenset({Phase.MAP}),
    Phase.MAP: frozenset({Phase.REDUCE, Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED, Phase.FAILED}),
    Phase.REDUCE: frozenset({Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED, Phase.FAILED}),
    Phase.SUCCEEDED: frozenset({Phase.MAP}),
    Phase.PARTIALLY_SUCCEEDED: frozenset({Phase.MAP}),
    Phase.FAILED: frozenset({Phase.MAP}),
}
"""Which phase may follow which. Paused is none of them: it is what the status shows of a suspended run. A run that has
ended goes back to its map when a Redrive takes some of its letters, or when it is restarted."""

FINAL_PHASES: Final = frozenset({Phase.SUCCEEDED, Phase.PARTIALLY_SUCCEEDED, Phase.FAILED})
REDRIVING: Final = "Redriving"
"""Reason of the phase Map of a run that had ended before: only what a Redrive took is run."""
REDUCING_AGAIN: Final = "ReducingAgain"
"""The same of one that goes through its map only to reduce once more."""
RESTARTED: Final = "Restarted"
"""The same of one that runs whatever is left to run."""
RECOVERED: Final = "Recovered"
"""The same of one that lost outcomes to damage in storage, and runs these items again."""
CLOSED: Final = frozenset({REDRIVING, REDUCING_AGAIN})
"""Reasons with which no new items are started."""


_NOT_RUN: Final = (ItemState.PENDING, ItemState.RETRY_WAIT)


@dataclass(frozen=True, slots=True)
class Turn:
    """A change of phase, and why."""

    phase: Phase
    reason: str
    message: str


def after_map(counts: Mapping[ItemState, int], spec: MapReduceJobSpec) -> Turn:
    """Where a run goes when all items have ended: on to reduce, or to its end."""
    total, succeeded = sum(counts.values()), counts[ItemState.SUCCEEDED]
    if total == 0:
        return _after_nothing(spec)
    if (left := sum(counts[state] for state in _NOT_RUN)) > 0:
        return Turn(
            Phase.FAILED,
            "NotAllItemsRun",
            f"{left:,} of {total:,} items were not run, since the job was stopped before",
        )
    ending = _ending(counts, spec)
    if spec.reduce is None:
        return ending
    if spec.reduce.run_when is RunWhen.ALL_SUCCEEDED and succeeded < total:
        return Turn(
            Phase.FAILED,
            "ReduceNotRun",
            f"{total - succeeded:,} of {total:,} items failed and reduce.runWhen is AllSucceeded; all results are kept",
        )
    if ending.phase is Phase.FAILED and spec.reduce.run_when is not RunWhen.ALWAYS:
        return ending
    return Turn(Phase.REDUCE, "MapFinished", f"{succeeded:,} of {total:,} items succeeded")


def after_reduce(reduce_succeeded: bool, counts: Mapping[ItemState, int], spec: MapReduceJobSpec) -> Turn:
    """The end of a run that reduced."""
    if not reduce_succeeded:
        return Turn(
            Phase.FAILED, "ReduceFailed", "reduce failed for good; the results of all items are kept in storage"
        )
    if sum(counts.values()) == 0:
        return Turn(Phase.SUCCEEDED, "NoItems", f"{_nothing(spec)}; reduce ran without any")
    return _ending(counts, spec)


def _nothing(spec: MapReduceJobSpec) -> str:
    return "map.skip names all items" if spec.map.skip else "the input has no items"


def _after_nothing(spec: MapReduceJobSpec) -> Turn:
    nothing = _nothing(spec)
    match spec.input.empty_policy:
        case EmptyPolicy.RUN_REDUCE if spec.reduce is not None:
            return Turn(Phase.REDUCE, "NoItems", f"{nothing}; reduce runs without any")
        case EmptyPolicy.FAIL:
            return Turn(Phase.FAILED, "NoItems", f"{nothing} and input.emptyPolicy is Fail")
        case _:
            return Turn(Phase.SUCCEEDED, "NoItems", f"{nothing}; there was nothing to do")


def _ending(counts: Mapping[ItemState, int], spec: MapReduceJobSpec) -> Turn:
    total, succeeded = sum(counts.values()), counts[ItemState.SUCCEEDED]
    of = f"{succeeded:,} of {total:,} items succeeded"
    if succeeded == total:
        return Turn(Phase.SUCCEEDED, "AllItemsSucceeded", of)
    if succeeded == 0:
        return Turn(Phase.FAILED, "NoItemSucceeded", f"all {total:,} items failed")
    minimum = spec.success_policy.min_success_ratio
    # Not minimum * total: 0.07 * 100 is more than 7, while 7 / 100 is the very number that stands in the manifest.
    if succeeded / total < minimum:
        return Turn(Phase.FAILED, "TooFewItemsSucceeded", f"{of}; successPolicy.minSuccessRatio asks for {minimum:g}")
    return Turn(Phase.PARTIALLY_SUCCEEDED, "SomeItemsFailed", of)
