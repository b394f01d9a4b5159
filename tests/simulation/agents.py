"""What agents see of their dispatch, how they end, and a few that simulations share."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """What an agent sees of its dispatch."""

    item: Any
    context: dict[str, Any]

    @property
    def attempt(self) -> int:
        number: int = self.context["attempt"]
        return number

    @property
    def dispatch(self) -> int:
        number: int = self.context["dispatch"]
        return number


@dataclass(frozen=True, slots=True)
class Ends:
    """How an agent ends: after so many seconds, with this code and this text in its result file."""

    seconds: float = 1.0
    exit_code: int = 0
    message: str = '{"ok": true}'
    valid: bool = True
    """Whether what it has written keeps the contract of its job."""
    oom: bool = False
    traps: float | None = None
    """On SIGTERM it goes on for so many seconds and ends with exit code 0; None if it just dies of it."""
    trap_message: str = ""
    """What it has written by then."""
    beside: float = 0.0
    """For how many seconds a second container of its pod goes on after it."""


Agent = Callable[[Seen], Ends]


def steady(seconds: float = 2.0) -> Agent:
    return lambda _: Ends(seconds)


def flaky(percent: float) -> Agent:
    """Attempts fail with this chance, the same ones in each simulation."""

    def agent(seen: Seen) -> Ends:
        draw = hashlib.sha256(f"{seen.context['itemId']}/{seen.attempt}".encode()).digest()[0] / 256
        return Ends(2.0, exit_code=1, message="boom") if draw < percent / 100 else Ends(2.0)

    return agent


def fails_until(attempt: int) -> Agent:
    """Succeeds from that attempt on."""
    return lambda seen: Ends(exit_code=0 if seen.attempt >= attempt else 1, message='{"ok": true}')
