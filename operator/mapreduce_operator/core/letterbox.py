"""What people do with the items of a run: letters that get another run, are set aside or let go; items left out."""

from collections.abc import Iterator, Mapping
from typing import Final

from mapreduce_operator.api import DeadLetterPolicy, ItemState, LetterState, MapReduceJobSpec, ResumePolicy, Retry
from mapreduce_operator.core.batches import GivenUp, Uncommitted
from mapreduce_operator.core.books import Books, given_back
from mapreduce_operator.core.guard import Guard
from mapreduce_operator.core.items import LeftOut, Redriven
from mapreduce_operator.core.journal import Accepted, CalledOff, Claim, Mark, MarkKind
from mapreduce_operator.core.names import RunRef, Stage, item_key


class Letterbox:
    """Everything here waits for the next commit; dead letters and Redrives tell of it when it is durable."""

    def __init__(self, run: RunRef, spec: MapReduceJobSpec, books: Books, guard: Guard, unsaved: Uncommitted) -> None:
        self._run: Final = run
        self._letters: Final = books.account.dead_letters
        self._redrives: Final = books.account.redrives
        self._books: Final = books
        self._ledger: Final = books.ledgers[Stage.MAP]
        self._guard: Final = guard
        self._unsaved: Final = unsaved
        self._unwanted: frozenset[int] = frozenset()
        """Positions of items that the user does not want to be run."""
        self.unknown: tuple[str, ...] = ()
        """Ids that the user does not want to be run, and that no item has."""
        self._purged: Final[set[int]] = set()
        """Positions of letters that are gone for good, or are about to be."""
        self.respec(spec)

    def is_takeable(self, position: int) -> bool:
        """A Redrive can take the item: it is a dead letter that nobody is about to run or to purge."""
        # One that was claimed before and failed again is there as soon as that is durable.
        there = self._letters.state(position) in {LetterState.OPEN, LetterState.ARCHIVED}
        return there and position not in self._purged and self._ledger[position].state is ItemState.DEAD_LETTERED

    def take(
        self, accepted: Accepted, attempts: int, not_before: Mapping[int, float], retry: Retry, now: float
    ) -> None:
        """A Redrive takes the letters at the positions in `not_before`, each with its time to wait.

        All of them must be takeable, or items that were left out.
        """
        self._unsaved.begin(now)
        self._unsaved.redrives.append(accepted)
        self._redrives.accept(accepted, durable=False)
        self._books.reduce_again |= accepted.rerun_reduce
        for position, at in not_before.items():
            item = self._ledger.apply(position, Redriven(accepted.number, attempts, at), retry, now)
            if item is None:
                raise ValueError(f"item {position} is no dead letter and cannot be redriven")
            self._unsaved.claims.append(Claim.of(Stage.MAP, self._ledger.key(position), item))

    def restart(self, token: str, policy: ResumePolicy, retry: Retry, now: float) -> int:
        """Takes all items that were given up, as far as the policy includes them, for a restart of the map.

        It is a Redrive without an object of its own. Returns how many were taken; with none, the results stay as they
        are, and so does the reduce.
        """
        positions: list[int] = []
        if policy.include_dead_letters:
            positions += (one for one in self._ledger.in_state(ItemState.DEAD_LETTERED) if self.is_takeable(one))
        if policy.include_failed:
            positions += (one for one in self._ledger.in_state(ItemState.SKIPPED) if self._ledger.is_settled(one))
        positions = [one for one in positions if self.is_wanted(one)]
        number, name = len(self._redrives) + 1, _restart_name(token)
        accepted = Accepted(
            number, f"{name}-{number}", name, now, selected=len(positions), rerun_reduce=bool(positions), restart=True
        )
        self.take(accepted, policy.additional_attempts or retry.max_attempts, dict.fromkeys(positions, 0.0), retry, now)
        return len(positions)

    def restarted(self, token: str) -> int | None:
        """How many items the restart of the map took; None where that is not known any more."""
        accepted = (one.accepted for one in self._redrives.all())
        taken = [one.selected for one in accepted if one.restart and one.name == _restart_name(token)]
        return taken[-1] if taken else None

    @property
    def waits_for_commit(self) -> bool:
        """Items have just come to an end without an agent: read back, that would undo what is done with them now."""
        return bool(self._unsaved.given_back or self._unsaved.left_out)

    def call_off(self, number: int, reason: str, message: str, now: float) -> None:
        """Items of the Redrive are not run any more; those that run come to their end."""
        progress = self._redrives[number]
        if progress.called_off is None and progress.unsettled:
            self._unsaved.begin(now)
            progress.called_off = CalledOff(number, reason, message)
            self._unsaved.called_off.append(progress.called_off)

    def give_back(self, now: float) -> None:
        """Items of Redrives that were called off are dead letters again, as far as they do not run."""
        for number in list(self._redrives.running()):
            if self._redrives[number].called_off is None:
                continue
            for state in (ItemState.PENDING, ItemState.RETRY_WAIT):
                for position in list(self._ledger.in_state(state)):
                    # What is not durable yet of an item is written before.
                    if self._ledger[position].redrive == number and self._ledger.is_settled(position):
                        self._give_back(position, now)

    def _give_back(self, position: int, now: float) -> None:
        entry, key = self._letters.get(position), self._ledger.key(position)
        item = self._ledger.apply(position, given_back(entry, self._ledger[position]), Retry(), now)
        if item is None:
            raise ValueError(f"item {position} was not taken, or is at its end")
        self._unsaved.begin(now)
        self._unsaved.given_back.append(key)
        self._redrives.settle(item.redrive)
        if entry is None:
            self._books.take_history(position)
        elif history := self._books.take_history(position):
            self._unsaved.letters.append(GivenUp(position, item, history[-1].as_outcome(key), history))

    def respec(self, spec: MapReduceJobSpec) -> None:
        positions = {one: self._ledger.position(item_key(self._run.uid, Stage.MAP, one)) for one in spec.map.skip}
        self._unwanted = frozenset(position for position in positions.values() if position is not None)
        self.unknown = tuple(sorted(one for one, position in positions.items() if position is None))

    def is_wanted(self, position: int) -> bool:
        """The user wants the item to be run."""
        return position not in self._unwanted

    def unwanted(self, *states: ItemState) -> Iterator[int]:
        """Positions of items in these states that the user does not want to be run."""
        return (position for position in self._unwanted if self._ledger[position].state in states)

    def leave_out(self, now: float) -> None:
        """Items that the user does not want to be run are over, as far as they do not run and have not ended."""
        for position in self.unwanted(ItemState.PENDING, ItemState.RETRY_WAIT):
            # What is not durable yet of an item is written before.
            if not self._ledger.is_settled(position):
                continue
            if self._letters.get(position) is not None:
                # What was a letter before never vanishes from the queue.
                self._give_back(position, now)
                continue
            item = self._ledger.apply(position, LeftOut(), Retry(), now)
            if item is not None and item.redrive:
                self._redrives.settle(item.redrive)
            self._books.take_history(position)
            self._unsaved.begin(now)
            self._unsaved.left_out.append(self._ledger.key(position))

    def set_aside(self, now: float) -> None:
        """Archives the oldest open letters of a queue that is over its capacity."""
        if self._unsaved.marks or not self._guard.excess(self._letters.open_count):
            return
        # What a Redrive has just taken leaves the open ones by itself.
        left = [position for position in self._letters.open() if self._ledger[position].final]
        for position in left[: self._guard.excess(len(left))]:
            self._mark(self._ledger.key(position), MarkKind.ARCHIVED, now)

    def purge(self, policy: DeadLetterPolicy, now: float) -> list[str]:
        """Lets go of the letters whose time is over; returns the keys of their items.

        Their bodies may be deleted as soon as that is durable. The items stay what they are.
        """
        if policy.retention_seconds is None or self._unsaved.marks:
            return []
        expired = self._letters.expired(now - policy.retention_seconds, with_open=policy.purge_open)
        # What a Redrive has just taken is not expired any more, whatever is durable of that.
        expired = [position for position in expired if self._ledger[position].final]
        self._purged.update(expired)
        keys = [self._ledger.key(position) for position in expired]
        for key in keys:
            self._mark(key, MarkKind.PURGED, now)
        return keys

    def _mark(self, key: str, kind: MarkKind, now: float) -> None:
        self._unsaved.begin(now)
        self._unsaved.marks.append(Mark(key, kind))


def _restart_name(token: str) -> str:
    return f"restart-{token}"
