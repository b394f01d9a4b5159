"""The operator's own cap over all jobs, shared fairly.

Each run gets what it wants up to an equal share; what some do not want goes to the others (max-min fairness). Nothing
is taken back: a run above its share just starts no more until it is below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class _Demand:
    active: int
    wanted: int
    wake: Callable[[], None]

    @property
    def total(self) -> int:
        return self.active + self.wanted


class Capacity:
    """How many Jobs may be alive at the same time, over all runs."""

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self._demands: dict[str, _Demand] = {}

    def grant(self, run_uid: str, *, active: int, wanted: int, wake: Callable[[], None]) -> int:
        """How many Jobs the run may start now. `wake` is called when it may ask again with more success."""
        before = self._demands.get(run_uid)
        self._demands[run_uid] = _Demand(active, wanted, wake)
        granted = self._allowed(run_uid)
        self._demands[run_uid] = _Demand(active + granted, wanted - granted, wake)
        gave_up = before is not None and (active + granted < before.active or active + wanted < before.total)
        if gave_up:
            self._wake_others(run_uid)
        return granted

    def release(self, run_uid: str) -> None:
        """The run has ended, or starts nothing any more."""
        if self._demands.pop(run_uid, None) is not None:
            self._wake_others(run_uid)

    def _allowed(self, run_uid: str) -> int:
        demand = self._demands[run_uid]
        free = self.total - sum(other.active for other in self._demands.values())
        return max(0, min(demand.wanted, free, self._share(run_uid) - demand.active))

    def _share(self, run_uid: str) -> int:
        left, share = self.total, 0
        demands = sorted((demand.active + demand.wanted, uid) for uid, demand in self._demands.items())
        for number, (demand, uid) in enumerate(demands):
            # Rounded up: what is left over by the division is not lost, and `free` guards the total.
            share = min(demand, -(-left // (len(demands) - number)))
            if uid == run_uid:
                return share
            left -= share
        return share

    def _wake_others(self, run_uid: str) -> None:
        for uid, demand in list(self._demands.items()):
            if uid != run_uid and demand.wanted and self._allowed(uid):
                demand.wake()
