"""What a run takes along when it begins anew: as a fork of another one, or with another plan of its own.

Outcomes that stay are carried over as records, so that the new run needs nothing of the old one. All other items are
run; none of their dispatches gets a number that the same run has used before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from mapreduce_operator.api import ItemEdit, ItemState, LetterState, ResumePolicy
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint
from mapreduce_operator.core.items import GIVEN_UP, Item
from mapreduce_operator.core.journal import Claim, Mark, MarkKind, Record, Undone
from mapreduce_operator.core.merge_patch import merge_patch
from mapreduce_operator.core.names import Stage, item_key
from mapreduce_operator.core.plan import (
    InputError,
    Limits,
    Planned,
    PlannedItem,
    Problems,
    canonical,
    id_expression_of,
    plan_item,
)
from mapreduce_operator.core.workloads import Dispatch

DispatchedKey = tuple[Stage, str]
"""Stage and key of an item."""

_NEW: Final = Item()


@dataclass(frozen=True, slots=True)
class Saved:
    """A run as of one of its checkpoints."""

    checkpoint: Checkpoint
    items: Sequence[PlannedItem]
    books: Books
    records: Mapping[str, Record]
    """The last record of each item of the map that has one, by key, with its result."""


class CarriedLetter(NamedTuple):
    """A dead letter that stays one, and where."""

    key_before: str
    key: str
    position: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What the new course of a run begins with."""

    records: tuple[Record, ...]
    claims: tuple[Claim, ...]
    undone: tuple[Undone, ...]
    letters: tuple[CarriedLetter, ...]
    marks: tuple[Mark, ...]
    """Of letters that had been set aside or purged; they follow the records."""


def edited_items(
    items: Sequence[PlannedItem], edits: Sequence[ItemEdit], id_expression: str | None, limits: Limits
) -> tuple[Planned, frozenset[str]]:
    """The items of a fork, and the ids of those that are run whatever they came to.

    Raises InputError for edits that do not fit the items; it names all of them by their position.
    """
    expression = id_expression_of(id_expression)
    by_id = {item.id: item for item in items}
    changed: dict[str, PlannedItem | None] = {}
    rerun: set[str] = set()
    added: dict[str, tuple[str, PlannedItem]] = {}
    problems: list[str] = []
    for position, edit in enumerate(edits):
        where = f"spec.forkFrom.edits.items[{position}]"
        try:
            if edit.id is None:
                new = plan_item(edit.add, expression, limits)
                if new.id in added:
                    problems.append(f"{where}: adds the item {new.id!r}, as {added[new.id][0]} does")
                added.setdefault(new.id, (where, new))
            elif edit.id not in by_id:
                problems.append(f"{where}: the parent has no item with the id {edit.id!r}")
            elif edit.id in changed:
                problems.append(f"{where}: the item {edit.id!r} is edited twice")
            else:
                changed[edit.id] = _edited(by_id[edit.id], edit, limits)
                if changed[edit.id] != by_id[edit.id] or edit.reset:
                    rerun.add(edit.id)
        except InputError as error:
            problems.append(f"{where}: {error}")
    kept = [item for one in items if (item := changed.get(one.id, one)) is not None]
    there = {item.id for item in kept}
    twice = ((where, name) for name, (where, _) in added.items() if name in there)
    problems += (f"{where}: adds the item {name!r}, which is there already" for where, name in twice)
    if (number := len(kept) + len(added)) > limits.items:
        problems.append(f"there would be {number:,} items; this operator's limit is {limits.items:,}")
    if problems:
        raise InputError("InvalidEdits", str(Problems(problems)))
    return Planned([*kept, *(new for _, new in added.values())], duplicates=0), frozenset(rerun)


def _edited(item: PlannedItem, edit: ItemEdit, limits: Limits) -> PlannedItem | None:
    if edit.remove:
        return None
    if edit.patch is None:
        return item
    value = msgspec.json.decode(item.payload)
    if not isinstance(value, dict):
        raise InputError("InvalidEdits", f"the item {item.id!r} is no object, so that there is nothing to patch")
    payload = canonical(merge_patch(value, edit.patch))
    if len(payload) > limits.item_bytes:
        raise InputError(
            "InvalidEdits", f"the item {item.id!r} has {len(payload):,} bytes then; the limit is {limits.item_bytes:,}"
        )
    return replace(item, payload=payload)


def carried(
    saved: Saved,
    run_uid: str,
    items: Sequence[PlannedItem],
    policy: ResumePolicy,
    *,
    rerun: Collection[str] = frozenset(),
    dispatched: Mapping[DispatchedKey, int] = MappingProxyType({}),
) -> Carried:
    """What is taken along from a checkpoint to a plan of the run with that uid, which may be the same run.

    An item is the same if it has the same id and payload; one in `rerun` never is. `dispatched` says how many
    dispatches items of that run have had, also some that no checkpoint tells of.
    """
    before = {item.id: (position, item) for position, item in enumerate(saved.items)}
    ledger = saved.books.ledgers[Stage.MAP]
    records: list[Record] = []
    claims: list[Claim] = []
    undone: list[Undone] = []
    letters: list[CarriedLetter] = []
    marks: list[Mark] = []
    for now, item in enumerate(items):
        key = item_key(run_uid, Stage.MAP, item.id)
        dispatches = dispatched.get((Stage.MAP, key), 0)
        position, planned = before.get(item.id, (None, None))
        state = _NEW if position is None else ledger[position]
        if position is not None and ledger.key(position) == key:
            dispatches = max(dispatches, state.attempts + state.interruptions)
        record = None if position is None else saved.records.get(ledger.key(position))
        same = planned == item and item.id not in rerun
        if same and record is not None and position is not None and _stays(state, policy):
            dispatch = Dispatch(key, record.outcome.dispatch.number)
            records.append(Record(replace(record.outcome, dispatch=dispatch), replace(state, redrive=0)))
            if state.state is ItemState.DEAD_LETTERED:
                letters.append(CarriedLetter(ledger.key(position), key, now))
                match saved.books.account.dead_letters.state(position):
                    case None:
                        marks.append(Mark(key, MarkKind.PURGED))
                    case LetterState.ARCHIVED:
                        marks.append(Mark(key, MarkKind.ARCHIVED))
            continue
        if dispatches:
            undone.append(Undone(Stage.MAP, key, dispatches))
        if state.state in GIVEN_UP and same and policy.additional_attempts is not None:
            claims.append(Claim(Stage.MAP, key, 0, policy.additional_attempts, dispatches, 0.0))
    undone += (Undone(stage, key, number) for (stage, key), number in dispatched.items() if stage is Stage.REDUCE)
    return Carried(tuple(records), tuple(claims), tuple(undone), tuple(letters), tuple(marks))


def _stays(item: Item, policy: ResumePolicy) -> bool:
    match item.state:
        case ItemState.SUCCEEDED:
            return True
        case ItemState.DEAD_LETTERED:
            return not policy.include_dead_letters
        case ItemState.SKIPPED:
            return not policy.include_failed
        case _:
            return False


def undone_since(then: Books, dispatched: Mapping[DispatchedKey, int]) -> list[Undone]:
    """What was dispatched after a point of a run, of the items that it had then."""
    found: list[Undone] = []
    for stage, ledger in then.ledgers.items():
        for position in range(len(ledger)):
            item, key = ledger[position], ledger.key(position)
            dispatches = dispatched.get((stage, key), 0)
            if dispatches > item.attempts + item.interruptions:
                found.append(Undone(stage, key, dispatches))
    return found
