"""The books of a run: what the journal tells of it. They are kept while it runs, written down, and read back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from mapreduce_operator.api import Cause, ItemState, Phase, Reason
from mapreduce_operator.core.account import Account
from mapreduce_operator.core.batches import Batch, Uncommitted
from mapreduce_operator.core.dead_letters import Entry
from mapreduce_operator.core.items import GivenBack, Item, as_given_back, as_left_out, continued
from mapreduce_operator.core.journal import Claim, Record, Segment, Undone
from mapreduce_operator.core.ledger import Ledger
from mapreduce_operator.core.letters import Attempt
from mapreduce_operator.core.names import RunRef, Stage, item_key
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.snapshot import Snapshot
from mapreduce_operator.core.startup import Startup

MAX_REDRIVE_SECONDS: Final = 86_400
"""The longest wait that a Redrive can ask for."""


class Books:
    """Ledgers speak of what has happened, the account of what is durable; the rest goes with the ledgers."""

    def __init__(self, ref: RunRef, keys: list[str]) -> None:
        self._ref: Final = ref
        self.ledgers: Final = {
            Stage.MAP: Ledger(keys),
            Stage.REDUCE: Ledger([item_key(ref.uid, Stage.REDUCE, "reduce")]),
        }
        self.account: Final = Account()
        self.startup: Final = Startup()
        self.announced: Final[set[Reason]] = set()
        """Reasons of which an Event has told."""
        self.reduce_again = False
        """A Redrive asked for the reduce to run again."""
        self._past: Final[dict[int, list[Attempt]]] = {}
        """Dispatches of the map items that have not succeeded so far, since the plan or the last Redrive."""

    @property
    def active(self) -> int:
        """Jobs whose agents run or are being started."""
        return sum(ledger.running for ledger in self.ledgers.values())

    def position(self, stage: Stage, key: str) -> int:
        """Position of an item that is known to be of this run."""
        position = self.ledgers[stage].position(key)
        if position is None:
            raise KeyError(f"no item of {self._ref.namespace}/{self._ref.name} has the key {key}")
        return position

    def position_of(self, outcome: Outcome) -> int:
        return self.position(outcome.stage, outcome.dispatch.item_key)

    def tell(self, outcome: Outcome, item: Item, position: int) -> tuple[Attempt, ...]:
        """An outcome goes into the history of its item; returns that history if the item may become a dead letter."""
        if outcome.stage is Stage.REDUCE:
            return ()
        redrives = self.account.redrives
        if item.final and item.redrive:
            redrives.settle(item.redrive)
        past = self._past.pop(position, [])
        if item.state is ItemState.SUCCEEDED:
            return ()
        name = redrives[item.redrive].accepted.name if item.redrive else ""
        past.append(Attempt.of(outcome, redrive=name, redrive_number=item.redrive))
        if not item.final:
            self._past[position] = past
        return tuple(past)

    def take_history(self, position: int) -> tuple[Attempt, ...]:
        """The dispatches of an item since its letter was written last; they are not kept any longer."""
        return tuple(self._past.pop(position, ()))

    # ----------------------------------------------------------------------------------------------- written down

    def settle(self, account: Account, durable: Uncommitted | Batch, at: float) -> None:
        """What one commit makes durable goes into an account."""
        # A letter that was set aside may be claimed in the same commit, and never the other way round.
        for mark in durable.marks:
            account.mark(self.position(Stage.MAP, mark.key), mark.kind)
        for claim in durable.claims:
            if claim.stage is Stage.MAP:
                account.claim(self.position(Stage.MAP, claim.key))
        for record in durable.records:
            account.take(record, self.position_of(record.outcome))
        for key in durable.given_back:
            position = self.position(Stage.MAP, key)
            account.give_back(position, self.ledgers[Stage.MAP][position].redrive, at)
        for key in durable.left_out:
            account.leave_out(self.ledgers[Stage.MAP][self.position(Stage.MAP, key)].redrive, at)

    def snapshot(self, unsaved: Uncommitted, at: float) -> Snapshot:
        """As the run will be read back once all of this is durable too."""
        account = self.account.copy()
        self.settle(account, unsaved, at)
        return self._picture(account)

    def as_read_back(self) -> Snapshot:
        """The same of books to which nothing has happened since. What it holds is not to be kept."""
        return self._picture(self.account)

    def _picture(self, account: Account) -> Snapshot:
        return Snapshot(
            items={stage: list(_durable(ledger)) for stage, ledger in self.ledgers.items()},
            tally=account.tally,
            announced=frozenset(self.announced),
            past={position: list(attempts) for position, attempts in self._past.items()},
            letters=list(account.dead_letters.all()),
            redrives=[one.as_kept() for one in account.redrives.all()],
            failed_starts=self.startup.failed,
            reduce_again=self.reduce_again,
        )

    # ------------------------------------------------------------------------------------------------- read back

    def read_back(self, snapshot: Snapshot | None, segments: Iterable[Segment]) -> None:
        """Brings a run back from what was committed: a snapshot, if there is one, and the segments after it."""
        if snapshot is not None:
            self.restore(snapshot)
        for segment in segments:
            self.replay(segment)

    def restore(self, snapshot: Snapshot) -> None:
        """Brings a run back as of a snapshot, before the segments that came after it are replayed."""
        self.account.restore(snapshot)
        self._past.update((position, list(attempts)) for position, attempts in snapshot.past.items())
        self.startup.restore(snapshot.failed_starts)
        self.reduce_again = snapshot.reduce_again
        self.announced.update(snapshot.announced)
        for stage, items in snapshot.items.items():
            for position, item in items:
                self.ledgers[stage].restore(position, item)

    def replay(self, segment: Segment) -> None:
        """Brings back what one commit made durable; segments come in their order."""
        header = segment.header
        for undone in header.undone:
            self.undo(undone)
        for start in header.starts:
            ledger, position = self.ledgers[start.stage], self.position(start.stage, start.key)
            runs = replace(ledger[position], state=ItemState.RUNNING, job_uid=start.job_uid, not_before=0.0)
            ledger.restore(position, runs)
        for accepted in header.redrives:
            self.account.redrives.accept(accepted, durable=True)
            self.reduce_again |= accepted.rerun_reduce
        self.reduce_again |= header.reduce_again
        if header.phase is Phase.REDUCE:
            self.reduce_again = False
        for claim in header.claims:
            self._claim(claim)
        for record in segment.records:
            self._record(record)
        for called_off in header.called_off:
            self.account.redrives[called_off.number].called_off = called_off
        for key in header.given_back:
            self._give_back(key)
        for key in header.left_out:
            self._leave_out(key)
        self.settle(self.account, _read_back(segment), header.at)

    def undo(self, undone: Undone) -> None:
        """What was dispatched of an item after the checkpoint that the run went back to counts no longer."""
        ledger, position = self.ledgers[undone.stage], self.position(undone.stage, undone.key)
        ledger.restore(position, continued(ledger[position], undone.dispatches))

    def _claim(self, claim: Claim) -> None:
        ledger, position = self.ledgers[claim.stage], self.position(claim.stage, claim.key)
        item = replace(
            ledger[position],
            state=ItemState.RETRY_WAIT if claim.not_before else ItemState.PENDING,
            not_before=claim.not_before,
            cause=None,
            excused=claim.excused,
            allowed=claim.allowed,
            redrive=claim.redrive,
            before=claim.before,
        )
        ledger.restore(position, item)

    def _give_back(self, key: str) -> None:
        ledger, position = self.ledgers[Stage.MAP], self.position(Stage.MAP, key)
        back = given_back(self.account.dead_letters.get(position), ledger[position])
        ledger.restore(position, as_given_back(ledger[position], back))
        self.account.redrives.settle(ledger[position].redrive)
        self.take_history(position)

    def _leave_out(self, key: str) -> None:
        ledger, position = self.ledgers[Stage.MAP], self.position(Stage.MAP, key)
        ledger.restore(position, as_left_out(ledger[position]))
        if ledger[position].redrive:
            self.account.redrives.settle(ledger[position].redrive)
        self.take_history(position)

    def _record(self, record: Record) -> None:
        outcome, position = record.outcome, self.position_of(record.outcome)
        self.ledgers[outcome.stage].restore(position, record.item)
        self.tell(outcome, record.item, position)
        # As if the Job had been expected and had ended: so a success speaks for its template.
        self.startup.expects(outcome.job_uid, outcome.job, outcome.ended_at)
        self.startup.ended(outcome, outcome.ended_at)
        if outcome.reason is not None:
            self.announced.add(outcome.reason)

    def resume(self, longest: Mapping[Stage, float], now: float) -> None:
        """Cuts the waits to what the policy of each stage allows: a clock that was ahead may have written them."""
        for stage, ledger in self.ledgers.items():
            for position in ledger.in_state(ItemState.RETRY_WAIT):
                item = ledger[position]
                latest = now + (max(longest[stage], MAX_REDRIVE_SECONDS) if item.redrive else longest[stage])
                if item.not_before > latest:
                    ledger.restore(position, replace(item, not_before=latest))


def given_back(entry: Entry | None, item: Item) -> GivenBack:
    """What an item is again when its Redrive is called off: a dead letter, or left out where there was no letter."""
    if entry is None:
        return GivenBack(item.before or Cause.ATTEMPTS_EXHAUSTED, left_out=True)
    return GivenBack(entry.cause)


def _read_back(segment: Segment) -> Uncommitted:
    header = segment.header
    return Uncommitted(
        records=segment.records,
        claims=list(header.claims),
        marks=list(header.marks),
        given_back=list(header.given_back),
        left_out=list(header.left_out),
    )


def _durable(ledger: Ledger) -> Iterator[tuple[int, Item]]:
    """What is to be read back of the items; one whose Job is just being created was never started."""
    for position, item in ledger.changed():
        if item.state is not ItemState.RUNNING or item.job_uid:
            yield position, item
        elif item.dispatch > 1:
            yield position, replace(item, state=ItemState.PENDING)
