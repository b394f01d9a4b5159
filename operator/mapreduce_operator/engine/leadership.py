"""Which one of several processes leads: a Lease that is renewed, taken over when it is not, and given back at the end.

All times are spans of this process's event loop clock, which does not jump; no machine's time is compared with
another's. A holder leads until two thirds of the duration after it sent the last renewal that was answered. Another
process takes over when it has seen one and the same record for the whole duration, counted from the answer in which it
saw it first; a Lease that is missing counts as a record, since its holder may still lead. Each write names the version
it replaces. So there is never more than one leader, as long as the clocks run about equally fast and nobody deletes the
Lease by hand while requests to write it are under way.

What this cannot stop is what a leader sent before it was deposed. Storage and status carry the epoch for that.
"""

import asyncio
import logging
import math
from dataclasses import replace
from typing import Final, NoReturn

from mapreduce_operator.ports import Clock, ClusterError, ClusterErrorReason, DeposedError, Lease, LeaseRecord, Leases

log = logging.getLogger(__name__)

_RELEASE_SECONDS: Final = 2.0
_OVERTAKEN: Final = {ClusterErrorReason.CONFLICT, ClusterErrorReason.ALREADY_EXISTS, ClusterErrorReason.NOT_FOUND}
"""The Lease is not as we knew it: one of our own writes went unanswered, or somebody else was there."""


class Elector:
    """Fulfils `Leadership` by a Lease. To be made inside a running event loop: `acquire`, then `keep`, then `release`.

    The epoch is the Lease's number of transitions, and grows by each acquisition.
    """

    def __init__(self, leases: Leases, clock: Clock, *, identity: str, duration: int) -> None:
        """The identity must be of this process alone, also of all that were before; `duration` is in seconds."""
        self._leases: Final = leases
        self._clock: Final = clock
        self._identity: Final = identity
        self._duration: Final = duration
        self._pause: Final = duration / 7.5
        self._patience: Final = duration * 2 / 3
        self._loop: Final = asyncio.get_running_loop()
        self._turn: Final = asyncio.Lock()
        self._until = -math.inf
        self._record = LeaseRecord(identity, duration, 0.0, 0.0, 0)
        self._version: str | None = None
        self._seen: tuple[LeaseRecord | None, float] | None = None
        self._reached = False
        self._problem = ""

    @property
    def held(self) -> bool:
        return self._loop.time() < self._until

    @property
    def epoch(self) -> int:
        return self._record.transitions

    @property
    def problem(self) -> str:
        """Why the last try to read or write the Lease failed, and what to do; "" when it did not."""
        return self._problem

    async def acquire(self) -> None:
        """Waits until this process leads."""
        while True:
            try:
                taken = await self._take()
            except ClusterError as error:
                self._fails(error)
            else:
                self._works()
                if taken:
                    break
            await asyncio.sleep(self._pause)
        log.info("%s leads, with epoch %d", self._identity, self.epoch)

    async def keep(self) -> NoReturn:
        """Renews the Lease as long as this process leads; raises DeposedError, with the reason, when it does not."""
        while True:
            await asyncio.sleep(max(0.0, min(self._pause, self._until - self._loop.time())))
            try:
                await self._renew(self.epoch)
            except ClusterError as error:
                self._fails(error)
            else:
                self._works()

    async def surpass(self, epoch: int) -> None:
        while self.epoch <= epoch:
            try:
                await self._renew(epoch + 1)
            except ClusterError as error:
                self._fails(error)
                await asyncio.sleep(self._pause)

    async def release(self) -> None:
        """Gives the Lease back, so that another process leads at once; this one does not lead any more.

        To be called after the last write. Returns within two seconds; without an answer the Lease just runs out.
        """
        self._until = -math.inf
        if not self._reached:
            return
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await self._give_back()
        except (ClusterError, TimeoutError) as error:
            log.warning(
                "the Lease was not given back, another process leads %d s later: %s",
                self._duration,
                str(error) or f"no answer within {_RELEASE_SECONDS:.0f} s",
            )

    async def _take(self) -> bool:
        """One look at the Lease, and one try to get it when it is free."""
        found = await self._leases.read()
        record = found.record if found is not None else None
        since = self._seen_since(record)
        # That of a try of ours whose answer was lost is waited for like any other: it may have come through late, after
        # a Lease was deleted whose holder still leads.
        patience = self._duration if record is None else max(self._duration, record.duration)
        free = record is not None and not record.holder
        sent, now = self._loop.time(), self._clock.now()
        if not free and sent - since < patience:
            return False
        transitions = 1 if record is None else record.transitions + 1
        wanted = LeaseRecord(self._identity, self._duration, now, now, transitions)
        self._reached = True
        try:
            if found is None:
                lease = await self._leases.create(wanted)
            else:
                lease = await self._leases.replace(wanted, found.version)
        except ClusterError as error:
            if error.reason in {ClusterErrorReason.CONFLICT, ClusterErrorReason.ALREADY_EXISTS}:
                return False  # somebody was faster
            raise
        self._took(lease, sent)
        return self.held

    def _seen_since(self, record: LeaseRecord | None) -> float:
        """The moment since when the Lease has looked like this."""
        if self._seen is None or self._seen[0] != record:
            before = self._seen[0] if self._seen is not None else None
            self._seen = (record, self._loop.time())
            if record is None:
                log.info("there is no Lease; waiting %d s, since one may have led until now", self._duration)
            elif record.holder and (before is None or before.holder != record.holder):
                log.info("%s leads; %s follows", record.holder, self._identity)
        return self._seen[1]

    async def _renew(self, epoch: int) -> None:
        """One try, which also raises our epoch to the given one. Raises DeposedError when it is too late for more."""
        async with self._turn:
            sent = self._loop.time()
            if not self.held:
                raise self._too_late()
            wanted = replace(self._record, renewed_at=self._clock.now(), transitions=max(epoch, self.epoch))
            try:
                async with asyncio.timeout_at(self._until):
                    lease = await self._write(wanted)
            except TimeoutError:
                raise self._too_late() from None
            self._took(lease, sent)

    async def _write(self, wanted: LeaseRecord) -> Lease:
        """Writes the Lease anew; where it is not as we left it, once more if it is still ours."""
        try:
            return await self._put(wanted)
        except ClusterError as error:
            if error.reason not in _OVERTAKEN:
                raise
        found = await self._leases.read()
        if found is not None and found.record.holder != self._identity:
            raise self._deposed(f"{found.record.holder or 'nobody'} holds the Lease by now")
        self._version = found.version if found is not None else None
        return await self._put(wanted)

    async def _put(self, wanted: LeaseRecord) -> Lease:
        if self._version is None:
            return await self._leases.create(wanted)
        return await self._leases.replace(wanted, self._version)

    def _took(self, lease: Lease, sent: float) -> None:
        self._record, self._version = lease.record, lease.version
        self._until = sent + self._patience

    async def _give_back(self) -> None:
        while (lease := await self._leases.read()) is not None and lease.record.holder == self._identity:
            try:
                await self._leases.replace(replace(lease.record, holder=""), lease.version)
            except ClusterError as error:
                # An earlier write of ours, given up without an answer, came through in between.
                if error.reason is not ClusterErrorReason.CONFLICT:
                    raise
            else:
                log.info("%s gave the Lease back", self._identity)
                return

    def _too_late(self) -> DeposedError:
        cause = f": {self._problem}" if self._problem else ""
        return self._deposed(f"the Lease was not renewed within {self._patience:.0f} s{cause}")

    def _deposed(self, why: str) -> DeposedError:
        self._until = -math.inf
        return DeposedError(why)

    def _fails(self, error: ClusterError) -> None:
        problem = str(error)
        if error.reason is ClusterErrorReason.FORBIDDEN:
            problem += (
                "; allow the operator's service account the verbs get, create and update on leases of "
                "coordination.k8s.io in that namespace"
            )
        if problem != self._problem:
            log.warning("cannot use the Lease, trying again every %.0f s: %s", self._pause, problem)
        self._problem = problem

    def _works(self) -> None:
        if self._problem:
            log.info("the Lease can be used again")
        self._problem = ""


class SoleLeader:
    """Fulfils `Leadership` without a Lease, for a process that somebody starts by hand and knows to be the only one."""

    problem: Final = ""

    def __init__(self) -> None:
        self.held = True
        self.epoch = 1

    async def acquire(self) -> None:
        log.info("leads without a Lease; no other operator may use the same storage")

    async def keep(self) -> NoReturn:
        while True:
            await asyncio.Event().wait()

    async def surpass(self, epoch: int) -> None:
        self.epoch = max(self.epoch, epoch + 1)

    async def release(self) -> None:
        self.held = False


def deposition(error: BaseException | None) -> DeposedError | None:
    """The one in this error, through however many groups of tasks it came."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for one in error.exceptions if (found := deposition(one))), None)
    return error if isinstance(error, DeposedError) else None
