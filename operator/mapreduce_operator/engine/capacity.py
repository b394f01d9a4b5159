"""The operator's own cap over all jobs, shared fairly: first among namespaces, then among the runs of each.

A namespace gets what its runs want together, up to an equal share; what some do not want goes to the others (max-min
fairness). Within a namespace its runs share in the same way. So a tenant with fifty jobs gets no more than one with a
single one that wants as much. Nothing is taken back: who is above his share just starts no more until he is below.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.ports.refs import RunRef


@dataclass(slots=True)
class _Demand:
    active: int
    wanted: int
    wake: Callable[[], None]


class Capacity:
    """How many Jobs may be alive at the same time, over all runs."""

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self._demands: dict[RunRef, _Demand] = {}

    def grant(self, run: RunRef, *, active: int, wanted: int, wake: Callable[[], None]) -> int:
        """How many Jobs the run may start now. `wake` is called when it may ask again with more success."""
        demand = self._demands[run] = _Demand(active, wanted, wake)
        granted = self._rooms()[run]
        demand.active += granted
        demand.wanted -= granted
        self._wake_others(run)
        return granted

    def hold(self, run: RunRef, active: int) -> None:
        """Agents of a run are alive that has not asked yet, since its operator was started anew."""
        if active and run not in self._demands:
            self._demands[run] = _Demand(active, 0, lambda: None)

    def release(self, run: RunRef) -> None:
        """The run has ended, or starts nothing any more."""
        if self._demands.pop(run, None) is not None:
            self._wake_others(run)

    def _free(self) -> int:
        return self.total - sum(demand.active for demand in self._demands.values())

    def _rooms(self) -> dict[RunRef, int]:
        """How many Jobs each run might start if it were the next to ask: no more than it wants."""
        namespaces = defaultdict[str, dict[RunRef, _Demand]](dict)
        for run, demand in self._demands.items():
            namespaces[run.namespace][run] = demand
        wishes = {name: sum(one.active + one.wanted for one in runs.values()) for name, runs in namespaces.items()}
        free, rooms = self._free(), dict[RunRef, int]()
        for name, share in _shares(self.total, wishes).items():
            runs = namespaces[name]
            # A run above its share leaves less to the others of its namespace, not to other namespaces.
            left = min(free, share - sum(one.active for one in runs.values()))
            for run, own in _shares(share, {run: one.active + one.wanted for run, one in runs.items()}).items():
                rooms[run] = max(0, min(left, own - runs[run].active))
        return rooms

    def _wake_others(self, run: RunRef) -> None:
        """Whatever a run's demand does to the shares, nothing lies idle while another one could have it."""
        if self._free() <= 0 or not any(one.wanted for other, one in self._demands.items() if other != run):
            return
        for other, room in self._rooms().items():
            if room and other != run:
                self._demands[other].wake()


def _shares[T: (str, RunRef)](total: int, wishes: Mapping[T, int]) -> dict[T, int]:
    """What each gets of the total: its wish, or a share as large as that of all others who wish for more."""
    left, shares = total, dict[T, int]()
    for number, one in enumerate(sorted(wishes, key=wishes.__getitem__)):
        # Rounded up: what is left over by the division is not lost.
        shares[one] = min(wishes[one], -(-left // (len(wishes) - number)))
        left -= shares[one]
    return shares
