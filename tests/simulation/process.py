"""An operator's process, as the world sees it: it makes calls, and may die or be stopped at any of them."""

import asyncio
from typing import Final

from mapreduce_operator.ports import DeposedError


class Lease:
    """The one Lease that processes compete for, as the API server keeps it."""

    def __init__(self) -> None:
        self.holder = 0
        """Number of the process that holds it."""
        self.transitions = 0

    def lose(self) -> None:
        """Somebody deletes the Lease: epochs begin anew."""
        self.transitions = 0

    def pass_to(self, process: int) -> int:
        """Makes a process the leader; returns its epoch."""
        self.holder = process
        self.transitions += 1
        return self.transitions


class Leads:
    """Fulfils the Leadership port: a process leads until the test says otherwise."""

    def __init__(self, lease: Lease | None = None, process: int = 1) -> None:
        self._lease: Final = lease if lease is not None else Lease()
        self._process: Final = process
        self.epoch = self._lease.pass_to(process)
        self.held = True
        """What the process believes. It may be wrong for a moment, after it was stopped."""

    async def surpass(self, epoch: int) -> None:
        await asyncio.sleep(0)
        if not self.held or self._lease.holder != self._process:
            raise DeposedError(f"process {self._lease.holder} leads, not {self._process}")
        self.epoch = self._lease.transitions = max(self._lease.transitions, epoch + 1)


class Process:
    """Counts the points at which a process may die: two for every call, before its effect and after it.

    A process that is dead makes no more calls and gets no more answers. One that is stopped, as by SIGSTOP, neither,
    until it is resumed. A call that was under way may have its effect all the same, a little later: packets travel on.
    """

    def __init__(self, number: int = 1, *, dies_at: int | None = None, stops_at: int | None = None) -> None:
        self.number: Final = number
        self.points = 0
        self.dead = False
        self.stopped = False
        self.changed: Final = asyncio.Event()
        """Set when the process died or was stopped by reaching its point."""
        self._dies_at: Final = dies_at
        self._stops_at: Final = stops_at
        self._resumed: Final = asyncio.Event()

    async def point(self) -> None:
        """One point; returns unless this is the end, or later if this is a stop."""
        self.points += 1
        if self.points == self._dies_at:
            self.die()
        elif self.points == self._stops_at:
            self.stopped = True
            self.changed.set()
        await self.runs()

    def die(self) -> None:
        self.dead = True
        self.changed.set()

    def resume(self) -> None:
        self.stopped = False
        self._resumed.set()

    async def runs(self) -> None:
        """Returns at once, or when the process is resumed, or never."""
        if self.stopped:
            await self._resumed.wait()
        if self.dead:
            await asyncio.get_running_loop().create_future()
