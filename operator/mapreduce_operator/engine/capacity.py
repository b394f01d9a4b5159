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


class Capacity:
    """How many Jobs may be alive at the same time, over all runs."""

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self._demands: dict[str, _Demand] = {}

    def grant(self, run_uid: str, *, active: int, wanted: int, wake: Callable[[], None]) -> int:
        """How many Jobs the run may start now. `wake` is called when it may ask again with more success."""
        demand = self._demands[run_uid] = _Demand(active, wanted, wake)
        granted = max(0, min(wanted, self._free(), self._shares()[run_uid] - active))
        demand.active += granted
        demand.wanted -= granted
        self._wake_others(run_uid)
        return granted

    def hold(self, run_uid: str, active: int) -> None:
        """Agents of a run are alive that has not asked yet, since its operator was started anew."""
        if active and run_uid not in self._demands:
            self._demands[run_uid] = _Demand(active, 0, lambda: None)

    def release(self, run_uid: str) -> None:
        """The run has ended, or starts nothing any more."""
        if self._demands.pop(run_uid, None) is not None:
            self._wake_others(run_uid)

    def _free(self) -> int:
        return self.total - sum(demand.active for demand in self._demands.values())

    def _shares(self) -> dict[str, int]:
        left = self.total
        shares: dict[str, int] = {}
        demands = sorted((demand.active + demand.wanted, uid) for uid, demand in self._demands.items())
        for number, (demand, uid) in enumerate(demands):
            # Rounded up: what is left over by the division is not lost, and `_free` guards the total.
            shares[uid] = min(demand, -(-left // (len(demands) - number)))
            left -= shares[uid]
        return shares

    def _wake_others(self, run_uid: str) -> None:
        """Whatever a run's demand does to the shares, nothing lies idle while another one could have it."""
        hungry = [(uid, demand) for uid, demand in self._demands.items() if demand.wanted and uid != run_uid]
        if not hungry or self._free() <= 0:
            return
        shares = self._shares()
        for uid, demand in hungry:
            if demand.active < shares[uid]:
                demand.wake()
