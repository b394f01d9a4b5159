"""Which checkpoints of a run are kept, and the end of those that are not needed any more."""

from collections.abc import Collection
from typing import Final

from mapreduce_operator.api import CheckpointPolicy
from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason
from mapreduce_operator.core.names import StorageKeys
from mapreduce_operator.core.retention import SavedCheckpoint, SavedSnapshot, dispensable
from mapreduce_operator.engine.chain import sequence_of
from mapreduce_operator.ports import ObjectStore

_AT_ONCE: Final = 20
"""So many objects are deleted together, rather than one with each commit."""


class Kept:
    """The objects of checkpoints and snapshots of one run."""

    def __init__(self, store: ObjectStore, keys: StorageKeys) -> None:
        self._store: Final = store
        self._keys: Final = keys
        self._checkpoints: dict[str, SavedCheckpoint] = {}
        self._snapshots: dict[str, SavedSnapshot] = {}
        self._going: Final[set[str]] = set()
        """What is being deleted, or may be gone: the answer was lost."""

    async def look(self) -> None:
        """Takes in what storage lists. Raises StorageError."""
        async for key in self._store.list(self._keys.checkpoints):
            self.add_checkpoint(key)
        async for key in self._store.list(self._keys.snapshots):
            self.add_snapshot(key)

    def add_checkpoint(self, key: str) -> None:
        match key.removeprefix(self._keys.checkpoints).split("-"):
            case [sequence, snapshot, reason, _] if reason in set(CommitReason):
                self._checkpoints[key] = SavedCheckpoint(int(sequence), CommitReason(reason), int(snapshot), key)

    def add_snapshot(self, key: str) -> None:
        self._snapshots[key] = SavedSnapshot(sequence_of(self._keys.snapshots, key), key)

    def knows(self, sequence: int) -> bool:
        return any(one.sequence == sequence for one in self._checkpoints.values())

    def sequences(
        self, newest: Checkpoint, policy: CheckpointPolicy, referenced: Collection[int], *, active: bool
    ) -> list[int]:
        """Numbers of the checkpoints that one can come back to, and that nobody is about to delete."""
        # A greater number was written by somebody who could not move the head to it.
        going = {*self._dispensable(policy, referenced, active=active), *self._going}
        found = {
            one.sequence
            for key, one in self._checkpoints.items()
            if one.sequence <= newest.sequence and key not in going
        }
        return sorted(found)

    def _dispensable(self, policy: CheckpointPolicy, referenced: Collection[int], *, active: bool) -> list[str]:
        return dispensable(
            self._checkpoints.values(),
            self._snapshots.values(),
            keep=policy.keep,
            pinned=policy.pinned,
            referenced=referenced,
            active=active,
        )

    async def prune(self, policy: CheckpointPolicy, referenced: Collection[int], *, active: bool) -> None:
        """Deletes what is not needed any more, if it is enough to be worth a request. Raises StorageError."""
        keys = self._dispensable(policy, referenced, active=active)
        if len(keys) < (_AT_ONCE if active else 1):
            return
        self._going.update(keys)
        await self._store.delete(keys)
        self._going.difference_update(keys)
        for key in keys:
            self._checkpoints.pop(key, None)
            self._snapshots.pop(key, None)
