"""Agents that simulations share."""

import hashlib

from tests.simulation.simulated_cluster import Agent, Ends, Seen


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
