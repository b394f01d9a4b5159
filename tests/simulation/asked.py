"""What users ask of a job in a scenario: Redrives of every kind, also wrong ones, changes of the queue, and wishes."""

from dataclasses import dataclass
from random import Random
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Asked:
    """A user applies a Redrive."""

    name: str
    spec: dict[str, Any]
    at: float
    """Seconds from the start of the run."""
    at_the_end: bool
    """The seconds are counted from the first end of the run."""
    deleted_after: float | None
    """Seconds after which the user deletes it again."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A user wants the job to go back, to run a phase again, to end, to do without items, or another one like it."""

    kind: str
    """Restore, Map, Reduce, Checkpoint, Fork, Cancel or Skip."""
    at: float
    """Seconds from the start of the run."""
    draw: float
    """Which checkpoint, as a share of those that are kept; 1 for one that is not."""
    seconds: float
    """For which the job is suspended to be restored, or cancelled, or does without items."""


def wishes(chance: Random) -> tuple[Wish, ...]:
    kinds = ("Restore", "Restore", "Map", "Reduce", "Checkpoint", "Fork", "Cancel", "Skip", "Skip")
    return tuple(
        Wish(
            chance.choice(kinds),
            chance.uniform(0, 200),
            1.0 if chance.random() < 0.1 else chance.random(),
            chance.choice([5.0, 60.0, 100.0]),
        )
        for _ in range(chance.choice([0, 0, 1, 2, 4]))
    )


FIXED: Final = {"fixed": True}
"""Patch of an item that makes its agents succeed."""
_FILTERS: Final = (
    "letter.attempts > 1",
    "item.n % 2 == 0",
    'letter.reason == "Error" && letter.redrives == 0',
    "letter.history.exists(one, one.exitCode == 1)",
    "letter.",
    "item.nothing > 1",
)


def redrives(chance: Random, items: int) -> tuple[Asked, ...]:
    """Some pairs come at the same time, and ask for the same."""
    number = chance.choice([0, 1, 2, 4, 6])
    moments = [(chance.uniform(0, 100), chance.random() < 0.6) for _ in range((number + 1) // 2)]
    return tuple(
        _asked(
            f"redrive-{count}", *moments[count // 2 if chance.random() < 0.5 else count % len(moments)], chance, items
        )
        for count in range(number)
    )


def _asked(name: str, at: float, at_the_end: bool, chance: Random, items: int) -> Asked:
    spec: dict[str, Any] = {
        "queue": "nowhere" if chance.random() < 0.05 else "demo",
        "selection": _selection(chance, items),
        "force": chance.random() < 0.4,
        "rerunReduce": chance.random() < 0.5,
    }
    if chance.random() < 0.5:
        spec["attempts"] = chance.choice([1, 2])
    if chance.random() < 0.3:
        spec["parallelism"] = chance.choice([1, 3])
    if chance.random() < 0.3:
        spec["delay"] = {"strategy": chance.choice(["Fixed", "Exponential"]), "seconds": chance.choice([1, 20])}
    if chance.random() < 0.4:
        spec["payloadPatch"] = FIXED
    if chance.random() < 0.2:
        image: dict[str, Any] = chance.choice([{"image": "agent:3"}, {"image": None}])
        spec["templatePatch"] = {"spec": {"containers": [{"name": "agent"} | image]}}
    deleted_after = 10 ** chance.uniform(-1, 1.5) if chance.random() < 0.2 else None
    return Asked(name, spec, at * 0.3 if at_the_end else at, at_the_end, deleted_after)


def _selection(chance: Random, items: int) -> dict[str, Any]:
    draw = chance.random()
    if draw < 0.5:
        return {"all": True}
    if draw < 0.75:
        return {"filter": chance.choice(_FILTERS)}
    ids = [str(number) for number in chance.sample(range(items), min(items, 60))]
    return {"ids": [*ids, "../x", "-1", ids[0]]}


def letter_policy(chance: Random) -> dict[str, Any]:
    """How the queue of a job begins."""
    policy: dict[str, Any] = {}
    if chance.random() < 0.35:
        policy |= {
            "capacity": chance.choice([1, 3, 8]),
            "onFull": chance.choice(["Pause", "Archive", "Archive", "Fail"]),
        }
    if chance.random() < 0.2:
        policy |= {"retentionSeconds": chance.choice([5, 60]), "purgeOpen": chance.random() < 0.4}
    return policy


def failure_policy(chance: Random) -> dict[str, Any]:
    """How many failures a job bears."""
    policy: dict[str, Any] = {}
    if chance.random() < 0.4:
        policy["circuitBreaker"] = {
            "failuresInARow": chance.choice([2, 3]),
            "openSeconds": chance.choice([15, 30]),
            "probes": chance.choice([1, 2, 4]),
        }
    if chance.random() < 0.3:
        policy["retryBudget"] = chance.choice([{"maxRetries": 0}, {"maxRetries": 12}, {"maxRatio": 0.1}])
    draw = chance.random()
    if draw < 0.1:
        policy["maxFailures"] = chance.choice([1, 5, 20])
    elif draw < 0.15:
        policy["failureThreshold"] = {"ratio": 0.1, "minSamples": 20}
    elif draw < 0.25:
        policy["onExhausted"] = "Skip"
    elif draw < 0.28:
        policy["onExhausted"] = "Stop"
    return policy
