"""What a seed stands for: a job, what its agents do, what becomes of the operators, and the weather around them."""

from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final

from tests.simulation.agents import Agent, Ends, Seen
from tests.simulation.asked import FIXED, Asked, Wish, failure_policy, letter_policy, redrives, wishes
from tests.simulation.jobs import map_reduce_job, reduce_work
from tests.simulation.weather import Climate, Outages

ITEMS: Final = 200
GOOD_IMAGE: Final = "agent:1"
BAD_IMAGE: Final = "agent:none"
"""Cannot be pulled."""
POISON: Final = 25
"""Of so many items the agents of one always fail, unless it is patched."""


@dataclass(frozen=True, slots=True)
class Life:
    """One operator process, and what comes after it."""

    dies_at: int | None = None
    """SIGKILL at this point of its calls."""
    stops_at: int | None = None
    """SIGSTOP at this one."""
    drains_after: float | None = None
    """SIGTERM after so many seconds."""
    pause: float = 0.0
    """Seconds until the next one leads."""
    stopped_for: float = 0.0
    """Seconds from there until it is resumed, if it was stopped."""
    unaware_for: float = 0.0
    """Seconds from there during which it believes that it still leads."""
    ahead: float = 0.0
    """Seconds by which the clock of its node is ahead."""
    loses_lease: bool = False
    """The Lease is deleted before this process gets it."""
    deleted_by_hand: int = 0
    """Jobs that a person deletes while no operator is at work."""


@dataclass(frozen=True, slots=True)
class Mishaps:
    """Shares of the dispatches to which somebody else does something."""

    evicted: float = 0.0
    pod_deleted: float = 0.0
    job_deleted: float = 0.0


@dataclass(frozen=True, slots=True)
class Edit:
    """The user changes the spec."""

    at: float
    max_parallel: int | None = None
    suspend: bool | None = None
    image: str | None = None


@dataclass(frozen=True, slots=True)
class LostNode:
    """A node that stops to answer when an agent starts on it."""

    after: int
    """How many agents have started by then, with that one."""
    seconds: float
    """Until it answers again."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that a run needs. Chance during the run comes from the same seed."""

    seed: int
    body: dict[str, Any]
    items: int
    lives: tuple[Life, ...]
    mishaps: Mishaps
    api: Climate
    storage: Climate
    edits: tuple[Edit, ...]
    redrives: tuple[Asked, ...]
    wishes: tuple[Wish, ...]
    queue_deleted_at: float | None
    """When somebody deletes the dead letter queue."""
    lost_nodes: tuple[LostNode, ...]
    nodes: int
    capacity: int
    """The operator's own cap."""
    padding: int
    """Characters by which results are longer: with some, the journal gets snapshots."""
    deleted_at: float | None
    """When the user deletes the object while it runs."""
    deleted_at_the_end: bool


def scenario(seed: int, items: int = ITEMS) -> Scenario:
    """The scenario of a seed. Each kind of trouble is absent in some, so that none hides another."""
    chance = Random(f"{seed}/scenario")
    nodes = chance.choice([1, 2, 3, 5])
    return Scenario(
        seed=seed,
        body=_job(chance, items),
        items=items,
        lives=tuple(_life(chance, items) for _ in range(chance.choice([0, 1, 2, 3, 5, 8]))),
        mishaps=Mishaps(0.05, chance.choice([0.0, 0.01, 0.03]), chance.choice([0.0, 0.01, 0.03])),
        api=Climate(chance.choice([0.0, 0.01, 0.05, 0.15]), chance.choice([0.0, 0.01, 0.1]), _outages(chance)),
        storage=Climate(chance.choice([0.0, 0.02, 0.05, 0.15]), chance.choice([0.0, 0.05, 0.3]), _outages(chance)),
        edits=_edits(chance),
        redrives=redrives(chance, items),
        # With chance of their own: what else a seed stands for does not depend on them.
        wishes=wishes(Random(f"{seed}/wishes")),
        queue_deleted_at=chance.uniform(20, 150) if chance.random() < 0.15 else None,
        lost_nodes=tuple(
            LostNode(chance.randint(1, items), chance.choice([2.0, 15.0, 90.0, 300.0]))
            for _ in range(chance.choice([0, 0, 1, 2, 3]) if nodes > 1 else 0)
        ),
        nodes=nodes,
        capacity=chance.choice([500, 500, 6]),
        padding=chance.choice([0, 0, 2000]),
        deleted_at=chance.uniform(0, 60) if chance.random() < 0.05 else None,
        deleted_at_the_end=chance.random() < 0.2,
    )


def quiet(*lives: Life, items: int = 6) -> Scenario:
    """Good weather and nobody else about: only what becomes of the operators differs."""
    body = map_reduce_job(
        [{"n": n} for n in range(items)],
        map_={"maxParallel": 4, "retry": {"backoff": {"initialSeconds": 1, "jitter": 0}}, "timeoutSeconds": 20},
        checkpoint={"everyItems": 2, "everySeconds": 1},
        reduce=reduce_work(runWhen="Always"),
    )
    return Scenario(
        seed=0,
        body=body,
        items=items,
        lives=lives,
        mishaps=Mishaps(),
        api=Climate(),
        storage=Climate(),
        edits=(),
        redrives=(),
        wishes=(),
        queue_deleted_at=None,
        lost_nodes=(),
        nodes=1,
        capacity=500,
        padding=0,
        deleted_at=None,
        deleted_at_the_end=True,
    )


def quiet_redrive(*lives: Life) -> Scenario:
    """The same with two items that fail at first, a breaker, and two Redrives that ask for them at the same time."""
    given = quiet(*lives)
    spec = given.body["spec"]
    spec["input"]["items"][1]["n"] = spec["input"]["items"][4]["n"] = 0
    spec["input"]["items"] = [item | {"id": str(number)} for number, item in enumerate(spec["input"]["items"])]
    spec["input"]["idExpression"] = "item.id"
    spec["map"]["retry"]["maxAttempts"] = 1
    spec["failurePolicy"] = {"circuitBreaker": {"failuresInARow": 2, "openSeconds": 15, "probes": 2}}
    everything: dict[str, Any] = {
        "queue": "demo",
        "selection": {"all": True},
        "payloadPatch": FIXED,
        "rerunReduce": True,
    }
    some: dict[str, Any] = {"queue": "demo", "selection": {"ids": ["4", "../x"]}}
    asked = [Asked(f"redrive-{number}", what, 1.0, True, None) for number, what in enumerate((some, everything))]
    return replace(given, redrives=tuple(asked))


def agents(chance: Random, padding: int = 0) -> Agent:
    """Agents of which 20 % fail, each in its own way."""
    more = "x" * padding

    def agent(seen: Seen) -> Ends:
        seconds = chance.uniform(0.5, 8.0)
        traps = chance.uniform(0.2, 5.0) if chance.random() < 0.3 else None
        result = f'{{"item": "{seen.context["itemId"]}", "dispatch": {seen.dispatch}, "more": "{more}"}}'
        trap_message = result.replace("{", '{"partial": true, ') if chance.random() < 0.5 else ""
        healed = isinstance(seen.item, dict) and seen.item.items() >= FIXED.items()
        poison = isinstance(seen.item, dict) and seen.item["n"] % POISON == 0
        if healed or (chance.random() >= 0.2 and not poison):
            return Ends(seconds, 0, result, traps=traps, trap_message=trap_message)
        match chance.randrange(10):
            case 0:
                return Ends(seconds, oom=True)
            case 1:
                return Ends(seconds, message="", valid=False)
            case 2:
                return Ends(seconds=10_000.0)
            case 3:
                return Ends(seconds, 1, '{"error": {"message": "never", "retryable": false}}')
            case _:
                return Ends(seconds, 1, "boom", traps=traps)

    return agent


def _job(chance: Random, items: int) -> dict[str, Any]:
    initial = chance.choice([0, 0, 1, 5])
    retry = {
        "maxAttempts": chance.choice([1, 2, 3, 5]),
        "maxInterruptions": chance.choice([10, 10, 1]),
        "backoff": {
            "type": chance.choice(["Fixed", "Linear", "Exponential", "Fibonacci"]),
            "initialSeconds": initial,
            "maxSeconds": max(initial, 10),
        },
    }
    more: dict[str, Any] = {"reduce": reduce_work(runWhen="Always")} if chance.random() < 0.5 else {}
    result = {"rule": "result.dispatch > 0 && item.n >= 0"} if chance.random() < 0.3 else {}
    body = map_reduce_job(
        [{"n": n} for n in range(items)],
        map_={
            "maxParallel": chance.choice([5, 10, 20, 50]),
            "retry": retry,
            "timeoutSeconds": 60,
            "pendingTimeoutSeconds": 15,
            "result": result,
        },
        checkpoint={"everyItems": chance.choice([1, 5, 100, 1000]), "everySeconds": chance.choice([1, 1, 4])},
        suspendPolicy=chance.choice(["Drain", "Interrupt"]),
        failurePolicy=failure_policy(chance),
        deadLetter=letter_policy(chance),
        **more,
    )
    body["spec"]["input"]["idExpression"] = "string(item.n)"
    return body


def _life(chance: Random, items: int) -> Life:
    pause = chance.choice([0.0, 0.3, 3.0, 20.0])
    by_hand = chance.choice([0, 0, 1, 3])
    # About 20 points to an item: early deaths are as likely as late ones.
    point = int(3 * (5 * items) ** chance.random())
    ahead, loses_lease = chance.choice([0.0, 0.0, -600.0, 3600.0]), chance.random() < 0.1
    match chance.choice(["killed", "killed", "killed", "stopped", "stopped", "drained"]):
        case "killed":
            return Life(dies_at=point, pause=pause, deleted_by_hand=by_hand, ahead=ahead, loses_lease=loses_lease)
        case "stopped":
            unaware = chance.choice([0.0, 0.0, 0.5, 5.0])
            stopped_for = chance.choice([0.1, 2.0, 20.0])
            return Life(stops_at=point, pause=pause, stopped_for=stopped_for, unaware_for=unaware, ahead=ahead)
        case _:
            return Life(drains_after=10 ** chance.uniform(-1, 1.7), pause=pause, deleted_by_hand=by_hand, ahead=ahead)


def _outages(chance: Random) -> Outages:
    starts = [chance.uniform(0.0, 100.0) for _ in range(chance.choice([0, 0, 0, 1, 2]))]
    return tuple((start, start + chance.uniform(1.0, 40.0)) for start in starts)


def _edits(chance: Random) -> tuple[Edit, ...]:
    edits = [
        Edit(chance.uniform(0, 80), max_parallel=chance.choice([1, 4, 30])) for _ in range(chance.choice([0, 0, 1, 2]))
    ]
    if chance.random() < 0.2:
        edits.append(Edit(chance.uniform(0, 60), image="agent:2"))
    if chance.random() < 0.1:
        start = chance.uniform(0, 60)
        edits += [Edit(start, image=BAD_IMAGE), Edit(start + chance.uniform(1, 100), image="agent:1")]
    if chance.random() < 0.25:
        start = chance.uniform(0, 60)
        edits += [Edit(start, suspend=True), Edit(start + chance.uniform(1, 40), suspend=False)]
    return tuple(sorted(edits, key=lambda edit: edit.at))
