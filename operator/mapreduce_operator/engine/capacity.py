"""The operator's own cap over all jobs, shared fairly: first among namespaces, then among the runs of each.

A namespace gets what its runs want together, up to an equal share; what some do not want goes to the others (max-min
fairness). Its runs share in the same way what it got. So a tenant with fifty jobs gets no more than one with a single
job that wants as much. Nothing is taken back: whoever is above a share just starts no more until below it.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mapreduce_operator.core.names import RunRef


@dataclass(slots=True)
class _Demand:
    namespace: str
    active: int
    wanted: int
    wake: Callable[[], None]

    @property
    def wish(self) -> int:
        return self.active + self.wanted


class Capacity:
    """How many Jobs may be alive at the same time, over all runs."""

    def __init__(self, total: int) -> None:
        self.total: Final = total
        self._demands: dict[str, _Demand] = {}

    def grant(self, run: RunRef, *, active: int, wanted: int, wake: Callable[[], None]) -> int:
        """How many Jobs the run may start now. `wake` is called when it may ask again with more success."""
        demand = self._demands[run.uid] = _Demand(run.namespace, active, wanted, wake)
        granted = self._rooms()[run.uid]
        demand.active += granted
        demand.wanted -= granted
        self._wake_others(run.uid)
        return granted

    def hold(self, run: RunRef, active: int) -> None:
        """Agents of a run are alive that has not asked yet, since its operator was started anew."""
        if active and run.uid not in self._demands:
            self._demands[run.uid] = _Demand(run.namespace, active, 0, lambda: None)

    def release(self, run: RunRef) -> None:
        """The run has ended, or starts nothing any more."""
        if self._demands.pop(run.uid, None) is not None:
            self._wake_others(run.uid)

    def _free(self) -> int:
        return self.total - sum(demand.active for demand in self._demands.values())

    def _rooms(self) -> dict[str, int]:
        """How many Jobs each run might start if it were the next to ask: no more than it wants."""
        namespaces = defaultdict[str, dict[str, _Demand]](dict)
        for uid, demand in self._demands.items():
            namespaces[demand.namespace][uid] = demand
        wishes = {name: sum(run.wish for run in runs.values()) for name, runs in namespaces.items()}
        free, rooms = self._free(), dict[str, int]()
        for name, share in _shares(self.total, wishes).items():
            runs = namespaces[name]
            # What a run has above its share, the others of its namespace are short of, not other namespaces.
            left = min(free, share - sum(run.active for run in runs.values()))
            for uid, own in _shares(share, {uid: run.wish for uid, run in runs.items()}).items():
                rooms[uid] = max(0, min(left, own - runs[uid].active))
        return rooms

    def _wake_others(self, uid: str) -> None:
        """Whatever a run's demand does to the shares, nothing lies idle while another one could have it."""
        if self._free() <= 0 or not any(run.wanted for other, run in self._demands.items() if other != uid):
            return
        for other, room in self._rooms().items():
            if room and other != uid:
                self._demands[other].wake()


def _shares(total: int, wishes: Mapping[str, int]) -> dict[str, int]:
    """What each gets of the total: what it wishes, or as much as all others who wish for more."""
    left, shares = total, dict[str, int]()
    for number, (wish, name) in enumerate(sorted((wish, name) for name, wish in wishes.items())):
        # Rounded up: what is left over by the division is not lost.
        shares[name] = min(wish, -(-left // (len(wishes) - number)))
        left -= shares[name]
    return shares
