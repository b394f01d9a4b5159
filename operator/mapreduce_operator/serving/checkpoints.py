"""What is kept of the course of one run, as it is told."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Any, Final

from mapreduce_operator.api import ItemState
from mapreduce_operator.core.checkpoint import Checkpoint, JournalError, decode_checkpoint
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import moment
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.engine.chain import sequence_of
from mapreduce_operator.engine.reading import read_checked
from mapreduce_operator.serving.checkpoint_audit import Audit
from mapreduce_operator.serving.errors import RefusedError
from mapreduce_operator.serving.pictures import Pictures, Remaining, Warn

SAMPLES: Final = 5
"""So many items of each state are named."""


class Checkpoints:
    """Of one run. All methods raise RefusedError, CheckpointNotFoundError, JournalError and StorageError."""

    def __init__(self, pictures: Pictures, run: RunRef, warn: Warn) -> None:
        self._pictures: Final = pictures
        self._remaining: Final = Remaining(pictures.store, warn)
        self._run: Final = run
        self._keys: Final = StorageKeys(run)

    async def listed(self) -> list[dict[str, Any]]:
        """Those that are kept, the oldest first."""
        found = await self._remaining.list(self._run)
        if not found:
            raise not_planned(self._run)
        return [_in_short(one) for one in found]

    async def one(self, sequence: int) -> dict[str, Any]:
        """All of the checkpoint with that number."""
        checkpoint = await self._remaining.find(self._run, sequence)
        found: defaultdict[ItemState, list[str]] = defaultdict(list)
        for name, item in (await self._items(checkpoint)).items():
            found[item.state].append(name)
        some = {state: {"count": len(ids), "samples": ids[:SAMPLES]} for state, ids in found.items()}
        return _in_short(checkpoint) | _in_full(checkpoint) | {"items": some}

    async def changed(self, first: int, second: int) -> list[dict[str, Any]]:
        """The items that are in another state at the second than at the first."""
        before, after = [await self._items(await self._remaining.find(self._run, number)) for number in (first, second)]
        # One that was planned anew may have others.
        return [
            {"id": name, "before": _as_told(before.get(name)), "after": _as_told(after.get(name))}
            for name in before | after
            if name not in before or name not in after or before[name].state is not after[name].state
        ]

    async def validated(self, sequence: int | None) -> list[dict[str, Any]]:
        """What is wrong with each, or with the one of that number: whether all that it needs is there and whole."""
        audit = Audit(self._pictures, self._run)
        found = [
            {"checkpoint": name, "problems": [one] if isinstance(one, str) else await audit.problems(one)}
            async for name, one in self._all(sequence)
        ]
        if not found and sequence is not None:
            await self._remaining.find(self._run, sequence)
        if not found:
            raise not_planned(self._run)
        return found

    async def _all(self, number: int | None) -> AsyncIterator[tuple[str, Checkpoint | str]]:
        """The checkpoints that are kept and the head, or those of one number; or what is wrong with their objects."""
        latest, damage, there_are = None, f"{self._keys.head} is missing", False
        try:
            latest = await self._pictures.checkpoints.latest(self._run)
        except JournalError as error:
            damage, there_are = str(error), True
        async for key in self._pictures.store.list(self._keys.checkpoints):
            there_are, sequence = True, sequence_of(self._keys.checkpoints, key)
            if number not in {None, sequence}:
                continue
            try:
                one = await read_checked(self._pictures.store, key, partial(decode_checkpoint, where=key))
            except JournalError as error:
                yield f"{sequence}", str(error)
            else:
                yield f"{sequence}", one
        if latest is None and there_are:
            yield "head", damage
        elif latest is not None and number in {None, latest.sequence}:
            yield f"{latest.sequence} (head)", latest

    async def _items(self, checkpoint: Checkpoint) -> dict[str, Item]:
        picture = await self._pictures.of(self._run, checkpoint)
        ledger = picture.books.ledgers[Stage.MAP]
        return {name: ledger[position] for position, name in enumerate(picture.ids)}


def not_planned(run: RunRef) -> RefusedError:
    """Storage knows nothing of a run."""
    return RefusedError(
        404,
        "NotPlanned",
        f"storage has no {StorageKeys(run).head}: the job has not been planned yet, or this is not the storage that "
        "the operator uses. The status of the MapReduceJob names it",
    )


def _in_short(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "sequence": checkpoint.sequence,
        "time": moment(checkpoint.committed_at),
        "reason": checkpoint.reason,
        "phase": checkpoint.phase,
        "items": _counts(checkpoint),
        "bytes": checkpoint.size,
        "seconds": checkpoint.seconds,
    }


def _counts(checkpoint: Checkpoint) -> Mapping[ItemState, int]:
    """Items by state. That of a plan does not count them."""
    return +Counter(checkpoint.counts) or {ItemState.PENDING: checkpoint.plan.items}


def _in_full(checkpoint: Checkpoint) -> dict[str, Any]:
    snapshot, lineage, recovered = checkpoint.snapshot, checkpoint.lineage, checkpoint.recovered
    return {
        "because": f"{checkpoint.phase_reason}: {checkpoint.phase_message}",
        "epoch": checkpoint.epoch,
        "planned": checkpoint.plan.items,
        "duplicates": checkpoint.plan.duplicates,
        "started": moment(checkpoint.started_at),
        "opened": moment(checkpoint.opened_at),
        "storedBytes": checkpoint.journal_size,
        "spec": checkpoint.spec_sha256,
        "snapshot": snapshot and {"sequence": snapshot.sequence, "bytes": snapshot.size},
        "lineage": lineage
        and {"job": lineage.name, "uid": lineage.uid, "checkpoint": lineage.sequence, "depth": lineage.depth},
        "recovered": recovered and {"time": moment(recovered.at), "message": recovered.message},
    }


def _as_told(item: Item | None) -> dict[str, Any] | None:
    if item is None:
        return None
    return {"state": item.state, "attempts": item.attempts, "interruptions": item.interruptions}
