"""Gives dead letters another run: answers the Redrives of one run, each once, in the order of their creation.

What a Redrive takes is decided here and claimed in the state of the run; from then on its items go the way of all
others. A Redrive that was accepted before, by this process or an earlier one, is known by its uid in the journal.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from mapreduce_operator.api import Backoff, BackoffType, DelayStrategy, LetterState, Redrive, RedriveStatus
from mapreduce_operator.core.backoff import delay_seconds
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.jobs import trial
from mapreduce_operator.core.journal import NO_RESULT, Accepted
from mapreduce_operator.core.letter_queries import Eligibility, LetterFilter
from mapreduce_operator.core.letters import Letter
from mapreduce_operator.core.names import Stage, item_key
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.plan import PlannedItem
from mapreduce_operator.core.redrive_report import (
    SKIPPED,
    Skipped,
    nothing_selected,
    refused,
    under_way,
    waiting,
)
from mapreduce_operator.core.redrives import patch_problem, patched_item
from mapreduce_operator.core.run import RunState
from mapreduce_operator.engine.dispatcher import Dispatcher
from mapreduce_operator.engine.letters import Letters
from mapreduce_operator.engine.pauses import pause_after
from mapreduce_operator.engine.redrive_answers import write_answer
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ClusterError, StorageError

log = logging.getLogger(__name__)

_PAUSES: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_REPORT_SECONDS: Final = 1.0
DELETED_SECONDS: Final = 60.0
"""So long after it was taken up a run that does not know of a Redrive takes it for deleted."""
_TAKEABLE: Final = frozenset({LetterState.OPEN, LetterState.ARCHIVED})


class _RefusedError(Exception):
    """The Redrive is wrong as it is."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason


class Redriving:
    """The Redrives of one run, while it is at work."""

    def __init__(
        self,
        world: World,
        state: RunState,
        letters: Letters,
        ids: list[str],
        *,
        item: Callable[[int], Awaitable[PlannedItem]],
        wake: Callable[[], None],
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        """`item` gives the planned item at a position; `wake` lets the run look at its state again.

        `tell` writes what there is to say of the queue and of the job.
        """
        self._world: Final = world
        self._state: Final = state
        self._letters: Final = letters
        self._ids: Final = ids
        self._item: Final = item
        self._wake: Final = wake
        self._tell: Final = tell
        self._news: Final = asyncio.Event()
        self._settled_at: Final = world.clock.now() + DELETED_SECONDS

    def look(self) -> None:
        """Something may have changed for a Redrive."""
        self._news.set()

    @property
    def pending(self) -> bool:
        """A Redrive has not been answered for good."""
        return bool(self._world.desk.waiting_for(self._state.ref))

    async def serve(self) -> None:
        """Answers until cancelled."""
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DELETED_SECONDS):
                    await self._news.wait()
            self._news.clear()
            self._call_off_deleted()
            failed = False
            for redrive in self._world.desk.waiting_for(self._state.ref):
                try:
                    await self._answer(redrive)
                except (ClusterError, StorageError) as error:
                    failed = True
                    name = f"{redrive.metadata.namespace}/{redrive.metadata.name}"
                    log.warning("the Redrive %s waits: %s", name, error)
            await asyncio.sleep(pause_after(failures, _PAUSES) if failed else _REPORT_SECONDS)
            failures = failures + 1 if failed else 0
            if self.pending:
                self.look()
            self._wake()

    def _call_off_deleted(self) -> None:
        """Whoever deletes a Redrive does not want it any more."""
        now, restored = self._world.clock.now(), self._state.commits.answers.restored
        for number in list(self._state.redrives.running()):
            accepted = self._state.redrives[number].accepted
            # One that was over may have been tidied away before the run went back to where it was not.
            undone = restored is not None and accepted.at <= restored.at
            # Shortly after a start those that there are may not have been told.
            settled = now >= self._settled_at
            if settled and not undone and not accepted.restart and not self._world.desk.knows(accepted.uid):
                self._state.letterbox.call_off(number, "Deleted", "the Redrive was deleted", now)

    async def _answer(self, redrive: Redrive) -> None:
        uid = redrive.metadata.uid
        progress = self._state.redrives.find(uid)
        if progress is None:
            status = await self._take(redrive)
            if status is None:
                progress = self._state.redrives.find(uid)
            elif status != redrive.status:
                await write_answer(self._world, redrive, status)
        if progress is None or not progress.durable:
            return
        over = not progress.remaining and (
            not progress.accepted.rerun_reduce or self._state.committed_turn.phase in FINAL_PHASES
        )
        now = self._world.clock.now()
        status = under_way(redrive, progress, over=over, hindrance=self._hindrance(now), now=now)
        if status != redrive.status:
            if over:
                # Whoever waits for the end of the Redrive looks there next.
                await self._tell()
            await write_answer(self._world, redrive, status)

    def _hindrance(self, now: float) -> tuple[str, str] | None:
        """(reason, message) of what keeps the items of Redrives from being run."""
        state = self._state
        if state.spec.suspend:
            return "Suspended", "spec.suspend of the job is true"
        return state.course.closed() or state.obstacle or state.guard.circuit() or state.not_starting(now)

    # --------------------------------------------------------------------------------------------- what it takes

    async def _take(self, redrive: Redrive) -> RedriveStatus | None:
        """Takes the letters that are meant; the status where there are none, or none yet."""
        now = self._world.clock.now()
        if (wait := self._state.course.redrive_waits()) is not None:
            return waiting(redrive, *wait, now)
        try:
            accepted = self._accepted(redrive)
            await self._try_template(accepted)
            taken, skipped = await self._select(redrive, accepted)
        except _RefusedError as error:
            return refused(redrive, error.reason, str(error), now)
        # Reading took a while: what is taken is what is open now, and between here and the claim nothing waits.
        now = self._world.clock.now()
        if self._state.course.redrive_waits() is not None or not all(map(self._state.letterbox.is_takeable, taken)):
            self.look()
            message = "the queue changed while letters were chosen; they are chosen anew"
            return waiting(redrive, "Selecting", message, now)
        if not taken:
            return nothing_selected(redrive, skipped, now)
        accepted = msgspec.structs.replace(
            accepted,
            # As of now: another one, or a restart, may have been accepted meanwhile.
            number=len(self._state.redrives) + 1,
            selected=len(taken),
            at=now,
            skipped=len(skipped),
            skipped_letters=tuple((one.item_id, one.why) for one in skipped[:SKIPPED]),
        )
        attempts = redrive.spec.attempts or self._state.spec.map.retry.max_attempts
        self._state.redrive(
            accepted, attempts, {position: now + wait if wait else 0.0 for position, wait in taken.items()}, now
        )
        self._wake()
        return None

    def _accepted(self, redrive: Redrive) -> Accepted:
        spec = redrive.spec
        return Accepted(
            number=0,
            uid=redrive.metadata.uid,
            name=redrive.metadata.name,
            at=0.0,
            selected=0,
            parallelism=spec.parallelism or 0,
            payload_patch=_raw(spec.payload_patch),
            template_patch=_raw(spec.template_patch),
            rerun_reduce=spec.rerun_reduce,
        )

    async def _try_template(self, accepted: Accepted) -> None:
        if not accepted.patches_template:
            return
        problem = patch_problem(accepted, self._state.spec.map)
        revision = self._state.templates.redriven(accepted)
        if problem is not None or revision is None:
            raise _RefusedError("InvalidTemplatePatch", problem or "spec.templatePatch makes no pod template")
        labels = self._state.templates.labels
        body = trial(revision, self._state.ref, item=await self._item(0), work=self._state.spec.map, labels=labels)
        rejection = await Dispatcher(self._world.cluster, self._state.ref, self._world.pace).try_out(body)
        if rejection is not None:
            raise _RefusedError(
                "TemplateRejected",
                f"the API server refuses the template as spec.templatePatch changes it: {rejection}. "
                "Create another Redrive with a patch that is right",
            )

    async def _select(self, redrive: Redrive, accepted: Accepted) -> tuple[dict[int, float], list[Skipped]]:
        """What is meant and may be taken, as positions with seconds to wait: 100,000 bodies are more than memory."""
        asked, eligibility = self._rules(redrive)
        positions, skipped = self._candidates(redrive)
        ledger, now = self._state.ledgers[Stage.MAP], self._world.clock.now()
        taken: dict[int, float] = {}
        async for key, letter in self._letters.read_all([ledger.key(position) for position in positions]):
            position = ledger.position(key) or 0
            state = self._state.dead_letters.state(position)
            if not isinstance(letter, Letter) or state is None:
                skipped.append(Skipped(self._ids[position], str(letter or "its body is not in storage any more")))
                continue
            try:
                if asked is not None and not asked.matches(letter, state, now):
                    continue
            except ExpressionError as error:
                raise _RefusedError("InvalidFilter", f"spec.selection.filter: {error}. Nothing was taken") from error
            eligible, why = (True, "") if redrive.spec.force else _verdict(redrive, eligibility, letter, state, now)
            problem = self._unpatchable(accepted, letter) if eligible else why
            if problem is None:
                taken[position] = _wait_seconds(redrive, letter)
            else:
                skipped.append(Skipped(letter.id, problem))
        return taken, skipped

    def _rules(self, redrive: Redrive) -> tuple[LetterFilter | None, Eligibility]:
        """What the Redrive asks for, and what its queue allows."""
        text = redrive.spec.selection.filter
        try:
            asked = LetterFilter(text) if text else None
        except ExpressionError as error:
            raise _RefusedError("InvalidFilter", f"spec.selection.filter: {error}. Nothing was taken") from error
        queue = self._world.desk.queue_of(self._state.ref)
        try:
            return asked, Eligibility(queue.spec.eligibility if queue else ())
        except ExpressionError as error:
            raise _RefusedError("InvalidEligibility", f"the DeadLetterQueue: {error}. Nothing was taken") from error

    def _candidates(self, redrive: Redrive) -> tuple[list[int], list[Skipped]]:
        """Positions of the letters that may be meant, and what was asked for and cannot be."""
        known = self._state.dead_letters
        if redrive.spec.selection.ids is None:
            states = _TAKEABLE if redrive.spec.force or redrive.spec.selection.filter else {LetterState.OPEN}
            found = [entry.position for entry, state, _ in known.all() if state in states]
            return [position for position in found if self._state.letterbox.is_takeable(position)], []
        positions, skipped = [], []
        for name in dict.fromkeys(redrive.spec.selection.ids):
            ledger = self._state.ledgers[Stage.MAP]
            position = ledger.position(item_key(self._state.ref.uid, Stage.MAP, name))
            if position is None:
                skipped.append(Skipped(name, "the job has no item with this id"))
            elif self._state.letterbox.is_takeable(position):
                positions.append(position)
            elif ledger[position].redrive and not ledger[position].final:
                skipped.append(Skipped(name, "another Redrive has taken it"))
            else:
                skipped.append(Skipped(name, f"it is in no letter: the item is {ledger[position].state}"))
        return positions, skipped

    def _unpatchable(self, accepted: Accepted, letter: Letter) -> str | None:
        if not accepted.patches_items:
            return None
        if not isinstance(msgspec.json.decode(letter.payload), dict):
            return "the item is no JSON object, which a payloadPatch could change"
        size = len(patched_item(accepted, PlannedItem(letter.id, bytes(letter.payload))).payload)
        limit = self._world.limits.item_bytes
        if size <= limit:
            return None
        return f"the item would have {size:,} bytes with the payloadPatch; the limit is {limit:,}"


def _verdict(
    redrive: Redrive, eligibility: Eligibility, letter: Letter, state: LetterState, now: float
) -> tuple[bool, str]:
    """(may be taken without force, why not)."""
    if state is LetterState.ARCHIVED:
        return False, "it is archived: force: true takes it all the same"
    patched = redrive.spec.payload_patch is not None or redrive.spec.template_patch is not None
    return eligibility.verdict(letter, state, now, patched=patched)


def _raw(value: object) -> msgspec.Raw:
    return NO_RESULT if value is None else msgspec.Raw(msgspec.json.encode(value))


def _wait_seconds(redrive: Redrive, letter: Letter) -> float:
    """How long the item waits before it may run."""
    delay = redrive.spec.delay
    if delay.strategy is DelayStrategy.IMMEDIATE:
        return 0.0
    if delay.strategy is DelayStrategy.FIXED:
        return delay.seconds
    backoff = Backoff(
        type=BackoffType.EXPONENTIAL, initial_seconds=delay.seconds, max_seconds=delay.max_seconds, jitter=0
    )
    return delay_seconds(backoff, len(letter.redrives) + 1, 0.0)
