"""What checkpoints cost: time and bytes of a save and of a load, by the number of items of the run.

    python -m tests.bench.checkpoints --json checkpoints.json

A run is taken from its plan to its end by the core and the journal as they are, in commits of 100 outcomes, over a
store in memory and one in files. Items come to results of 200 bytes, and one in fifty fails once. It is then loaded as
an operator does that was started anew.
"""

import argparse
import asyncio
import gc
import json
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, cast

from prometheus_client import CollectorRegistry

from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.storage import FileStore, MemoryStore
from mapreduce_operator.api import ItemState, MapReduceJob
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.plan import Limits, Planned, PlannedItem, canonical, keys_of
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import ContainerEnd
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.loading import load
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.world import World
from mapreduce_operator.ports import ObjectStore, StoredObject
from tests.bench.figures import kilobytes
from tests.unit.core.scenes import CRASHED, NOW, PLANNED, RUN, TEMPLATE, launch, observe, pod, take_templates
from tests.unit.engine.parts import HandClock, Leader

if TYPE_CHECKING:
    from mapreduce_operator.ports import Cluster

SIZES: Final = (100, 10_000, 100_000)
STORES: Final = ("memory", "files")
COMMIT: Final = 100
"""Outcomes of one commit, and agents that are at work at once."""
FAILS_ONCE: Final = 50
"""One item in so many."""
SAMPLES: Final = 10
"""So many of the last saves give the figure of one; and so many runs are made of a size that has but one."""
LOADS: Final = 3

JOB: Final = MapReduceJob.model_validate(
    {
        "apiVersion": "mapreduce.dev/v1alpha1",
        "kind": "MapReduceJob",
        "metadata": {"name": RUN.name, "namespace": RUN.namespace, "uid": RUN.uid, "generation": 1},
        "spec": {"input": {"items": []}, "map": {"template": TEMPLATE, "maxParallel": COMMIT}},
    }
)
KEYS: Final = StorageKeys(RUN)
DONE: Final = ContainerEnd(0, message=json.dumps({"text": "x" * 188}), started_at=NOW, finished_at=NOW + 1)
"""With a result of 200 bytes."""


class Counting:
    """An `ObjectStore` that knows what went through it."""

    def __init__(self, store: ObjectStore) -> None:
        self._store: Final = store
        self.bytes = 0
        self.requests = 0

    def start(self) -> None:
        self.bytes = self.requests = 0

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        return await self._store.get_within(key, limit)

    async def get(self, key: str) -> StoredObject | None:
        found = await self._store.get(key)
        self.requests += 1
        self.bytes += len(found.data) if found is not None else 0
        return found

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        self.requests += 1
        self.bytes += len(data)
        return await self._store.put(key, data, if_absent=if_absent, if_match=if_match)

    def list(self, prefix: str) -> AsyncIterator[str]:
        self.requests += 1
        return self._store.list(prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        self.requests += 1
        await self._store.delete(keys)


class NoCluster:
    """The part of the Cluster port that loading asks."""

    async def add_finalizer(self, run: RunRef) -> None:
        assert run == RUN


@dataclass(frozen=True, slots=True)
class Cost:
    """What one operation took; the median of several in each of its figures."""

    seconds: float
    cpu_seconds: float
    """Of the process, its threads included: hardly more on a machine that has other work to do."""
    bytes: int
    requests: int

    @classmethod
    def of(cls, costs: list["Cost"]) -> "Cost":
        return cls(
            median(cost.seconds for cost in costs),
            median(cost.cpu_seconds for cost in costs),
            round(median(cost.bytes for cost in costs)),
            round(median(cost.requests for cost in costs)),
        )


class Subject:
    """A run of so many items, and what is measured of it."""

    def __init__(self, store: ObjectStore, items: int) -> None:
        self._store: Final = Counting(store)
        self._items: Final = items
        self._clock: Final = HandClock()
        self._leader: Final = Leader()
        self._journal = self._new_journal()
        self._state: RunState
        self.saves: list[Cost] = []
        """Of 100 outcomes each, without a snapshot."""

    def _new_journal(self) -> Journal:
        return Journal(self._store, RUN, self._clock, self._leader)

    async def _cost(self, work: Awaitable[object]) -> Cost:
        self._store.start()
        began, cpu_began = time.perf_counter(), time.process_time()
        await work
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        return Cost(seconds, cpu_seconds, self._store.bytes, self._store.requests)

    async def run(self) -> None:
        """From the plan to the end."""
        items = [
            PlannedItem(f"item-{number:06d}", canonical({"id": number, "url": f"https://example.com/pages/{number}"}))
            for number in range(self._items)
        ]
        state = self._state = RunState(RUN, JOB.spec, keys_of(RUN.uid, [item.id for item in items]), PLANNED)
        take_templates(state)
        await self._journal.create(Planned(items, duplicates=0), state.works.text)
        seconds = 0
        while not state.finished:
            seconds += 1
            self._clock.time = NOW + seconds
            for name in launch(state, seconds):
                observe(state, pod(name, self._end(name)), seconds)
            if state.commits.due(NOW + seconds):
                await self._save()

    def _end(self, name: str) -> ContainerEnd:
        key, _, dispatch = name.removeprefix("demo-").rpartition("-d")
        position = self._state.books.position(Stage.MAP, key)
        return CRASHED if position % FAILS_ONCE == 0 and dispatch == "1" else DONE

    async def _save(self) -> None:
        with_snapshot = self._journal.snapshot_due
        full = len(self._state.uncommitted) >= COMMIT
        cost = await self._cost(self._commit(with_snapshot=with_snapshot))
        if full and not with_snapshot:
            self.saves.append(cost)

    async def _commit(self, *, with_snapshot: bool) -> None:
        now = self._clock.now()
        batch = self._state.commits.begin(CommitReason.ITEMS, now, with_snapshot=with_snapshot)
        await self._journal.append(batch)
        self._state.commits.done(batch, now)
        await self._journal.keep()

    async def snapshot(self) -> Cost:
        """What a snapshot of all items adds to a save."""
        self._state.commits.ask_checkpoint("bench", self._clock.now())
        return await self._cost(self._commit(with_snapshot=True))

    async def load(self) -> Cost:
        return Cost.of([await self._cost(self._load()) for _ in range(LOADS)])

    async def _load(self) -> None:
        world = World(
            cluster=cast("Cluster", NoCluster()),
            store=self._store,
            suitability=Suitability(self._store, "bench"),
            storage_url="bench",
            clock=self._clock,
            metrics=PrometheusMetrics(CollectorRegistry()),
            capacity=Capacity(COMMIT),
            pace=Pace(),
            limits=Limits(),
            leadership=self._leader,
            known_workloads=lambda _: [],
        )
        loaded = await load(world, RUN, self._new_journal(), JOB, planned_before=True)
        assert loaded.state.ledgers[Stage.MAP].counts[ItemState.SUCCEEDED] == self._items

    async def load_without_snapshot(self) -> Cost:
        await self._store.delete([key async for key in self._store.list(KEYS.snapshots)])
        return await self.load()

    async def results(self) -> Cost:
        """All results, as the reduce gets them."""
        ledger = self._state.ledgers[Stage.MAP]
        keys = frozenset(ledger.key(position) for position in range(len(ledger)))

        async def read() -> None:
            assert len(await self._journal.last_records(keys)) == self._items

        return Cost.of([await self._cost(read()) for _ in range(LOADS)])

    @property
    def after_snapshot(self) -> int:
        """Segments that a load reads after the snapshot."""
        head = self._journal.head
        return head.sequence - (head.snapshot.sequence if head.snapshot is not None else 0)


async def measure(store: ObjectStore, items: int) -> dict[str, Cost]:
    """What was measured of one size."""
    subject = await _finished(store, items)
    saves = subject.saves
    for _ in range(SAMPLES - items // COMMIT):
        subject = await _finished(store, items)
        saves += subject.saves
    return {
        "save of 100 outcomes": Cost.of(saves[-SAMPLES:]),
        f"load, {subject.after_snapshot} segments after the snapshot": await subject.load(),
        "all results, for the reduce": await subject.results(),
        "save of a snapshot of all items": await subject.snapshot(),
        "load of all segments, no snapshot": await subject.load_without_snapshot(),
    }


async def _finished(store: ObjectStore, items: int) -> Subject:
    await store.delete([key async for key in store.list("")])
    subject = Subject(store, items)
    await subject.run()
    return subject


def table(figures: dict[str, dict[int, dict[str, Cost]]]) -> Iterator[str]:
    """The figures, for people."""
    for store, by_items in figures.items():
        for items, costs in by_items.items():
            yield f"{f'{items:,} items, {store}':<44}{'time':>12}{'CPU':>12}{'bytes':>14}{'requests':>10}"
            for name, cost in costs.items():
                times = f"{1000 * cost.seconds:>9,.1f} ms{1000 * cost.cpu_seconds:>9,.1f} ms"
                yield f"  {name:<42}{times}{kilobytes(cost.bytes):>14}{cost.requests:>10,}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.checkpoints", description=__doc__)
    parser.add_argument("--items", type=int, nargs="*", default=SIZES, help="sizes of runs (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    arguments = parser.parse_args()
    # As the operator does.
    gc.set_threshold(100_000, 50, 100)
    # That a snapshot is missing is what is measured.
    logging.disable(logging.WARNING)
    figures: dict[str, dict[int, dict[str, Cost]]] = {}
    for items in arguments.items:
        figures.setdefault("memory", {})[items] = asyncio.run(measure(MemoryStore(), items))
        with tempfile.TemporaryDirectory() as folder:
            figures.setdefault("files", {})[items] = asyncio.run(_measure_files(Path(folder), items))
    sys.stdout.writelines(f"{line}\n" for line in table(figures))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, default=asdict, indent=1) + "\n")


async def _measure_files(folder: Path, items: int) -> dict[str, Cost]:
    store = FileStore(folder)
    try:
        return await measure(store, items)
    finally:
        await store.close()


if __name__ == "__main__":
    main()
