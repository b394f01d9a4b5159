"""How long to wait before the next attempt: the project's only backoff.

Pure and reproducible: the chance that jitter needs is passed in, and `chance_of` derives one from names, so that a
replayed run waits exactly as long as the first time.
"""

import hashlib

from mapreduce_operator.api import Backoff, BackoffType


def delay_seconds(backoff: Backoff, failures: int, chance: float) -> float:
    """Seconds to wait after the given number of failures in a row (1 for the first).

    Jitter takes away up to `jitter` of the delay and never adds, so that `maxSeconds` is a promise and items that
    failed together come back apart. `chance` lies in [0, 1).
    """
    base = min(_base_seconds(backoff, failures), backoff.max_seconds)
    return base * (1.0 - backoff.jitter * chance)


def chance_of(*names: str | int) -> float:
    """A number in [0, 1) that is fixed for the names and as good as random over many of them."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56


def _base_seconds(backoff: Backoff, failures: int) -> int:
    """Whole seconds: unlike a float, an int is never too small for the product of any two numbers."""
    initial = backoff.initial_seconds
    match backoff.type:
        case BackoffType.FIXED:
            return initial
        case BackoffType.LINEAR:
            return initial * failures
        case BackoffType.EXPONENTIAL:
            return initial << min(failures - 1, 60)
        case BackoffType.FIBONACCI:
            return initial * _fibonacci(min(failures, 80))
        case BackoffType.CUSTOM:
            # The API server sees to it that there are delays.
            return backoff.delays[min(failures, len(backoff.delays)) - 1] if backoff.delays else initial


def _fibonacci(n: int) -> int:
    """1, 2, 3, 5, 8, …"""
    current, following = 1, 2
    for _ in range(n - 1):
        current, following = following, current + following
    return current
