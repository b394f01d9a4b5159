"""How long to wait before something is tried again."""

from collections.abc import Sequence


def pause_after(failures: int, pauses: Sequence[float]) -> float:
    """Seconds to wait after so many failures in a row before this one; the last pause serves for all that follow."""
    return pauses[min(failures, len(pauses) - 1)]
