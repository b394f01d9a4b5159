"""What people can come back to: each checkpoint is what the head was, and what is needed is never pruned."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ItemState
from mapreduce_operator.core.checkpoint import JournalError, digest
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.ports import CheckpointNotFoundError
from tests.simulation.durable import Durable, Line
from tests.simulation.process import Leads
from tests.simulation.simulated_cluster import SimulatedCluster

NEWEST: Final = 2
"""So many checkpoints of a run that has not ended are never deleted."""
_ENDED: Final = {"Succeeded", "PartiallySucceeded", "Failed"}


class HistoryAudit:
    """Watches the checkpoints of one run; `policies` are those of its spec, each with the moment of the edit."""

    def __init__(
        self,
        cluster: SimulatedCluster,
        durable: Durable,
        run: RunRef,
        policies: list[tuple[float, dict[str, Any]]],
        wrong: Callable[[str], None],
    ) -> None:
        self._cluster: Final = cluster
        self._durable: Final = durable
        self._run: Final = run
        self._policies: Final = policies
        self._wrong: Final = wrong
        self.lineage: dict[str, Any] = {}
        """Of a fork: where it comes from."""
        self._heads: Final[dict[int, set[str]]] = {}
        """Hashes of all heads that ever were, by the number of their checkpoint."""
        durable.on_head.append(self._on_head)
        durable.on_commit.append(self._on_commit)
        durable.objects.on_write.append(self._on_write)
        durable.objects.on_delete.append(self._on_delete)

    def _recent(self, name: str, default: Any) -> list[Any]:
        """Values of a field of the policy that were in force within the last minute."""
        ends = [at for at, _ in self._policies[1:]] + [float("inf")]
        since = self._cluster.clock.now() - 60.0
        return [policy.get(name, default) for (_, policy), end in zip(self._policies, ends, strict=True) if end > since]

    def _on_head(self, data: bytes) -> None:
        """The head was written."""
        head = msgspec.json.decode(data.partition(b"\n")[0])
        number, objects, keys = head.get("sequence", 0), self._durable.objects, self._durable.keys
        if (snapshot := head.get("snapshot")) and keys.snapshot(
            snapshot["sequence"], snapshot["sha256"]
        ) not in objects:
            self._wrong(f"checkpoint {number} begins with snapshot {snapshot['sequence']}, which is not there")
        self._heads.setdefault(number, set()).add(digest(data))
        self.lineage = head.get("lineage", {})

    def _on_write(self, key: str) -> None:
        """The object of a checkpoint is written after the head, and is what that was."""
        if not key.startswith(self._durable.keys.checkpoints):
            return
        number = self._number(key)
        if digest(self._durable.objects[key]) not in self._heads.get(number, set()):
            self._wrong(f"{key} was written, and checkpoint {number} was never that")
        if not any(self._recent("enabled", True)):
            self._wrong(f"checkpoint {number} is kept, and spec.checkpoint.enabled is false")

    def _on_commit(self, header: dict[str, Any], lines: list[Line]) -> None:
        """What a fork carries over is what its parent had come to."""
        parent = self._cluster.audits.get(self.lineage.get("uid", ""))
        if header["reason"] != "Fork" or parent is None:
            return
        theirs = {line["jobUid"]: line for line in parent.durable.last_lines(self.lineage["sequence"]).values()}
        for line in lines:
            known = theirs.get(line["jobUid"], {})
            same = ("dispatch", "verdict", "state", "result", "job")
            if [line.get(name) for name in same] != [known.get(name) for name in same]:
                self._wrong(f"{line['key']} is carried over as {line}; in the parent it was {known}")

    # ----------------------------------------------------------------------------------------------- what goes

    def _on_delete(self, key: str) -> None:
        """Something is about to be deleted."""
        keys = self._durable.keys
        if not key.startswith(keys.prefix) or self._run.uid in self._cluster.deleted or key.startswith(keys.letters):
            return
        if key.startswith(keys.checkpoints):
            self._check_checkpoint(key)
        elif key.startswith(keys.snapshots):
            self._check_snapshot(key)
        else:
            self._wrong(f"{key} was deleted")

    def _check_checkpoint(self, key: str) -> None:
        number, all_of_them = self._number(key), sorted({self._number(one) for one in self._kept()}, reverse=True)
        pinned = set.intersection(*(set(one) for one in self._recent("pinned", ())))
        newest = all_of_them[: min(self._recent("keep", 10))]
        if self._durable.head["phase"] not in _ENDED:
            newest += all_of_them[:NEWEST]
        if number in pinned:
            self._wrong(f"checkpoint {number} was deleted, and is pinned")
        if number in newest:
            self._wrong(f"checkpoint {number} was deleted, and is one of the newest {newest}")
        if (fork := self._fork_of(number)) is not None:
            self._wrong(f"checkpoint {number} was deleted, and {fork} is forked from it")

    def _fork_of(self, number: int) -> str | None:
        for uid, body in self._cluster.mapreducejobs.items():
            source = body["spec"].get("forkFrom", {})
            mine = source.get("job", {}).get("name") == self._run.name
            if mine and source.get("checkpoint") == number and uid not in self._cluster.deleted:
                return uid
        return None

    def _check_snapshot(self, key: str) -> None:
        number = self._number(key)
        for checkpoint in self._kept():
            begins_with = int(checkpoint.removeprefix(self._durable.keys.checkpoints).split("-")[1])
            if begins_with == number:
                self._wrong(f"snapshot {number} was deleted, and {checkpoint} begins with it")
        if self._durable.head.get("snapshot", {}).get("sequence") == number:
            self._wrong(f"snapshot {number} was deleted, and the head begins with it")

    def _kept(self) -> list[str]:
        return [key for key in self._durable.objects if key.startswith(self._durable.keys.checkpoints)]

    @staticmethod
    def _number(key: str) -> int:
        return int(key.rpartition("/")[2].removeprefix("snapshot-").partition("-")[0])

    async def check_kept(self) -> None:
        """Every checkpoint that the status names can be loaded, and is what was counted then."""
        status = self._cluster.status_of.get(self._run.uid, {})
        told = status.get("checkpoint", {})
        if self._run.uid in self._cluster.deleted or told.get("sequence") != self._durable.sequence:
            return
        # Without what a test may have put between its operators and storage.
        store = MemoryStore()
        store.objects.update(self._durable.objects)
        checkpoints = StoredCheckpoints(store, self._cluster.clock, Leads(), Limits())
        for number in numbers(told.get("kept", "")):
            try:
                saved = await checkpoints.load(self._run, number)
            except (CheckpointNotFoundError, JournalError) as error:
                self._wrong(f"the status says that checkpoint {number} is kept: {error!r}")
                continue
            states = saved.books.ledgers[Stage.MAP].counts
            counts = self._durable.counts[number]
            found = states[ItemState.SUCCEEDED], states[ItemState.DEAD_LETTERED], states[ItemState.SKIPPED]
            if found != (counts.succeeded, counts.dead_lettered, counts.skipped):
                self._wrong(f"checkpoint {number} is loaded as {states}, and was {counts}")


def numbers(kept: str) -> list[int]:
    """The numbers in "1,40,62-71"."""
    found: list[int] = []
    for span in filter(None, kept.lstrip("…").split(",")):
        first, _, last = span.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
