"""The state of all items of a stage, in memory.

Everything that is asked per event (counts, the next item to run, the next moment at which a wait is over) costs the
same for ten items as for 100,000: counts are kept by the one method that changes an item, and queues hold positions.
"""

import heapq
import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from mapreduce_operator.api import Cause, ItemState, Reason, Retry
from mapreduce_operator.core.items import (
    FINAL_STATES,
    Dispatched,
    Ended,
    Item,
    ItemEvent,
    Redriven,
    Released,
    transition,
)

_CODES: Final = {state: number for number, state in enumerate(ItemState)}
_NEW: Final = Item()


class Ledger:
    """Items by their position in the plan. Positions are stable for the life of a run; keys name items to the world."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._items = [_NEW] * len(keys)
        self._keys = list(keys)
        self._positions = {key: position for position, key in enumerate(keys)}
        self._codes = bytearray(len(keys))
        self._counts = dict.fromkeys(ItemState, 0)
        self._counts[ItemState.PENDING] = len(keys)
        self._attempts = 0
        self._interruptions = 0
        # Positions in ascending order: a retried item goes before those that never ran, in the order of the plan.
        # The items of each Redrive have a lane of their own, beside that of all others, which is number 0.
        # All queues may hold entries that no longer apply; they are dropped when they come up. `_queued` tells them
        # from those that do: the state alone does not, since an item is pending again before its outcome is durable.
        self._lanes: dict[int, list[int]] = {0: list(range(len(keys)))}
        self._queued = bytearray(b"\x01" * len(keys))
        self._ready = {0: len(keys)}
        self._waiting: list[tuple[float, int]] = []
        self._running = {0: 0}
        self._carried = 0
        self._left_out = 0

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, position: int) -> Item:
        return self._items[position]

    def key(self, position: int) -> str:
        return self._keys[position]

    def position(self, key: str) -> int | None:
        """The position of an item, or None for a key that is not of this run."""
        return self._positions.get(key)

    @property
    def counts(self) -> Mapping[ItemState, int]:
        """Items by state; the sum is the number of items, always."""
        return self._counts

    @property
    def judged(self) -> Mapping[ItemState, int]:
        """The same without what the user does not want to be run: by these, a run is a success or not."""
        return {**self._counts, ItemState.SKIPPED: self._counts[ItemState.SKIPPED] - self._left_out}

    @property
    def running(self) -> int:
        return self._counts[ItemState.RUNNING]

    @property
    def durable_counts(self) -> Mapping[ItemState, int]:
        """Items by state as they will be read back: one whose Job is just being created was never started."""
        launching = self.running - self._carried
        changed = {
            ItemState.RUNNING: self._carried,
            ItemState.PENDING: self._counts[ItemState.PENDING] + launching,
        }
        return {**self._counts, **changed}

    def running_in(self, lane: int) -> int:
        return self._running.get(lane, 0)

    def ready(self, lane: int = 0) -> int:
        """Items that `dispatch_next` would give out."""
        return self._ready.get(lane, 0)

    @property
    def attempts(self) -> int:
        return self._attempts

    @property
    def interruptions(self) -> int:
        return self._interruptions

    @property
    def finished(self) -> bool:
        """Nothing left to run, to wait for or to retry."""
        return sum(self._counts[state] for state in FINAL_STATES) == len(self._items)

    def apply(self, position: int, event: ItemEvent, retry: Retry, now: float) -> Item | None:
        """The item after the event, or None when the event is a duplicate or stale and nothing changed."""
        changed = transition(self._items[position], event, retry, now)
        if changed is not None:
            self._put(position, changed)
            if not isinstance(event, Ended | Redriven):
                self.enqueue(position)
        return changed

    def restore(self, position: int, item: Item) -> None:
        """Puts an item into a state that was decided before: the journal's way to bring a run back."""
        self._put(position, item)
        self.enqueue(position)

    def is_settled(self, position: int) -> bool:
        """No outcome of the item waits to become durable."""
        return bool(self._queued[position])

    def changed(self) -> Iterator[tuple[int, Item]]:
        """Positions and items, but for those that are as they were planned."""
        return ((position, item) for position, item in enumerate(self._items) if item != _NEW)

    def enqueue(self, position: int) -> None:
        """Lets an item take its turn.

        For one whose dispatch ended, or that a Redrive took, this is due when that is durable, and not before: so no
        item ever has two dispatches that an operator started anew would not know of.
        """
        item = self._items[position]
        if item.state is ItemState.PENDING:
            self._ready[item.redrive] = self.ready(item.redrive) + (not self._queued[position])
            heapq.heappush(self._lanes.setdefault(item.redrive, []), position)
        elif item.state is ItemState.RETRY_WAIT:
            heapq.heappush(self._waiting, (item.not_before, position))
        self._queued[position] = True

    def _put(self, position: int, item: Item) -> None:
        before = self._items[position]
        self._items[position] = item
        if before.state is ItemState.PENDING and self._queued[position]:
            self._ready[before.redrive] -= 1
        self._queued[position] = False
        self._codes[position] = _CODES[item.state]
        self._counts[before.state] -= 1
        self._counts[item.state] += 1
        self._running[before.redrive] = self.running_in(before.redrive) - (before.state is ItemState.RUNNING)
        self._running[item.redrive] = self.running_in(item.redrive) + (item.state is ItemState.RUNNING)
        self._carried += bool(item.job_uid) - bool(before.job_uid)
        self._left_out += (item.cause is Cause.SKIPPED_BY_USER) - (before.cause is Cause.SKIPPED_BY_USER)
        self._attempts += item.attempts - before.attempts
        self._interruptions += item.interruptions - before.interruptions

    def release(self, retry: Retry, now: float) -> None:
        """Moves the items whose wait is over back to Pending."""
        while self._waiting and self._waiting[0][0] <= now:
            _, position = heapq.heappop(self._waiting)
            if self._queued[position]:
                self.apply(position, Released(), retry, now)

    def hasten(self, reasons: Container[Reason | None], now: float) -> None:
        """Ends the wait of the items whose last dispatch ended for one of these reasons."""
        for position in list(self.in_state(ItemState.RETRY_WAIT)):
            item = self._items[position]
            if item.reason in reasons and item.not_before > now:
                queued = self._queued[position]
                self._put(position, replace(item, not_before=now))
                if queued:
                    self.enqueue(position)

    def next_release(self) -> float | None:
        """When the next wait is over, in seconds since the epoch; it may be early, never late."""
        return self._waiting[0][0] if self._waiting else None

    def dispatch_next(self, retry: Retry, now: float, lane: int = 0) -> int | None:
        """Marks the first pending item of a lane as running and returns its position; None when none is pending."""
        pending = self._lanes.get(lane, [])
        while pending:
            position = heapq.heappop(pending)
            waits = self._queued[position] and self._items[position].redrive == lane
            if waits and self.apply(position, Dispatched(), retry, now) is not None:
                return position
        return None

    def in_state(self, state: ItemState) -> Iterator[int]:
        """Positions of the items in a state, ascending."""
        return (match.start() for match in re.finditer(re.escape(bytes([_CODES[state]])), bytes(self._codes)))

    def wanted(self) -> Iterator[int]:
        """Positions of all items but those that the user did not want to be run, ascending."""
        return (at for at, item in enumerate(self._items) if item.cause is not Cause.SKIPPED_BY_USER)

    def intervals(self, state: ItemState, instead: Mapping[int, ItemState], limit: int) -> str:
        """The positions of a state as Kubernetes' Jobs write their indexes ("0-5,7"), at most `limit` characters.

        `instead` overrides single positions; what does not fit is cut at a comma and ends in "…".
        """
        codes = bytearray(self._codes)
        for position, other in instead.items():
            codes[position] = _CODES[other]
        text: list[str] = []
        length = 0
        for match in re.finditer(re.escape(bytes([_CODES[state]])) + b"+", codes):
            first, last = match.start(), match.end() - 1
            interval = str(first) if first == last else f"{first}-{last}"
            length += len(interval) + 1
            if length > limit - 1:
                return ",".join([*text, "…"])
            text.append(interval)
        return ",".join(text)
