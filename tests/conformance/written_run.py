"""A run as its leader writes it, commit by commit, and what must be read back of each of its checkpoints."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ItemState, MapReduceJobSpec
from mapreduce_operator.core.batches import Batch, Uncommitted
from mapreduce_operator.core.books import Books
from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason, digest
from mapreduce_operator.core.items import FINAL_STATES
from mapreduce_operator.core.journal import Segment, Undone, decode_segment
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, job_name
from mapreduce_operator.core.phases import Turn
from mapreduce_operator.core.plan import Planned, PlannedItem, canonical, keys_of
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.snapshot import Snapshot, decode_snapshot, encode_snapshot
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, PodSeen
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.ports import ObjectStore
from tests.unit.core.scenes import PLANNED, spec, take_templates
from tests.unit.engine.parts import HandClock, Leader

CRASHED: Final = ContainerEnd(1, message="boom")
GIVEN_UP: Final = ContainerEnd(1, message='{"error": {"message": "no such page", "retryable": false}}')
RUN: Final = RunRef("default", "demo", "3f6c2a9e-0000-4000-8000-000000000001")


def done(result: object) -> ContainerEnd:
    return ContainerEnd(0, message=canonical(result).decode())


class WrittenRun:
    """`books` and `results` tell, by number of a checkpoint, what the leader knew when it made it."""

    def __init__(
        self, store: ObjectStore, ids: Sequence[str], run: RunRef = RUN, *, epoch: int = 1, **more: Any
    ) -> None:
        """`more` is what the spec has beside its usual."""
        self.run: Final = run
        self.keys: Final = StorageKeys(run)
        self.items: Final = [PlannedItem(one, canonical({"id": one, "size": len(one)})) for one in ids]
        self.clock: Final = HandClock()
        self.journal: Final = Journal(store, run, self.clock, Leader(epoch))
        self._spec: Final[MapReduceJobSpec] = spec(**more)
        self.state = self._new_state(PLANNED)
        self.books: Final[dict[int, Snapshot]] = {}
        self.results: Final[dict[int, dict[str, bytes]]] = {}

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items]

    def _new_state(self, turn: Turn) -> RunState:
        state = RunState(self.run, self._spec, keys_of(self.run.uid, self.ids), turn)
        take_templates(state)
        return state

    async def plan(self) -> None:
        kept = self._spec.checkpoint.enabled
        head = await self.journal.create(Planned(self.items, duplicates=0), self.state.works.text, kept=kept)
        self._remember(head, self.state.books.snapshot(Uncommitted(), 0.0), {})

    async def take_over(self, *, looks: bool = True) -> None:
        """Goes on from what another leader has written. Without a look it does not know what is kept."""
        head = await self.journal.load()
        assert head is not None
        if looks:
            await self.journal.kept.look()
        self._tell(await read_back(self.journal, self.run, self.ids), head)

    def _tell(self, books: Books, head: Checkpoint) -> None:
        self.state = self._new_state(Turn(head.phase, head.phase_reason, head.phase_message))
        self.state.books.restore(books.snapshot(Uncommitted(), 0.0))
        self.state.resume(self.clock.now(), head)

    # ------------------------------------------------------------------------------------------------ what happens

    def runnable(self) -> list[str]:
        """Ids of items that a Job may be made for now: none whose last outcome waits to become durable."""
        ledger = self.state.ledgers[Stage.MAP]
        return [
            item.id
            for position, item in enumerate(self.items)
            if ledger[position].state not in {*FINAL_STATES, ItemState.RUNNING} and ledger.is_settled(position)
        ]

    def starts(self, item_id: str) -> None:
        position = self.ids.index(item_id)
        dispatch = self.state.ledgers[Stage.MAP][position].dispatch
        assert self.state.agents.started(Stage.MAP, position, dispatch, f"job-{item_id}-{dispatch}", self.clock.now())

    def ends(self, item_id: str, end: ContainerEnd | None = None, *, interrupted: bool = False) -> None:
        """The agent of an item that was started ends, with its id for a result; or its pod is evicted."""
        ledger, position = self.state.ledgers[Stage.MAP], self.ids.index(item_id)
        dispatch = Dispatch(ledger.key(position), ledger[position].dispatch)
        name = job_name(self.run, dispatch.item_key, dispatch.number)
        end = None if interrupted else end or done({"of": item_id, "dispatch": dispatch.number})
        pod = PodSeen(
            self.run.namespace,
            f"{name}-x7k2p",
            f"pod-{name}",
            name,
            ledger[position].job_uid,
            Carried(self.run.uid, Stage.MAP, (dispatch,), "5f1c"),
            "Failed" if end is None or end.exit_code else "Succeeded",
            reason="Evicted" if interrupted else "",
            started=True,
            agent=end,
        )
        self.state.agents.observe_pod(pod, self.state.templates.rule(Stage.MAP), self.clock.now())

    def runs(self, item_id: str, end: ContainerEnd | None = None, *, interrupted: bool = False) -> None:
        self.starts(item_id)
        self.ends(item_id, end, interrupted=interrupted)

    # -------------------------------------------------------------------------------------------- what is committed

    async def commit(self, *, with_snapshot: bool = False) -> Checkpoint:
        self.clock.time += 1
        now, state = self.clock.now(), self.state
        books, results = state.books.snapshot(state.unsaved, now), dict(self.results[self.journal.head.sequence])
        for record in state.unsaved.records:
            if record.outcome.result is not None:
                results[self.ids[state.books.position_of(record.outcome)]] = record.outcome.result
        batch = state.commits.begin(CommitReason.ITEMS, now, with_snapshot=with_snapshot)
        head = await self.journal.append(batch)
        state.commits.done(batch, now)
        if batch.kept:
            await self.journal.keep()
        self._remember(head, books, results)
        return head

    async def restore(self, then: Checkpoint) -> Checkpoint:
        """Goes back to a checkpoint; the numbers of dispatches go on."""
        self.clock.time += 1
        now, ledger = self.clock.now(), self.state.ledgers[Stage.MAP]
        books = Books(self.run, keys_of(self.run.uid, self.ids))
        books.restore(self.books[then.sequence])
        undone = [
            Undone(Stage.MAP, ledger.key(position), item.attempts + item.interruptions)
            for position, item in ledger.changed()
        ]
        for one in undone:
            books.undo(one)
        snapshot, counts = books.snapshot(Uncommitted(), now), books.ledgers[Stage.MAP].durable_counts
        turn = Turn(then.phase, then.phase_reason, then.phase_message)
        batch = Batch(CommitReason.RESTORE, now, turn, None, snapshot, undone=tuple(undone), counts=counts)
        head = await self.journal.branch(then, [batch])
        self._remember(head, snapshot, self.results[then.sequence])
        self._tell(books, head)
        return head

    def _remember(self, head: Checkpoint, books: Snapshot, results: dict[str, bytes]) -> None:
        self.books[head.sequence] = as_kept(books)
        self.results[head.sequence] = results


def as_kept(books: Snapshot) -> Snapshot:
    """The same as it comes out of storage: nothing that happens later changes it."""
    data = encode_snapshot(books)
    return decode_snapshot(data, digest(data), "snapshot")


async def read_back(journal: Journal, run: RunRef, ids: Iterable[str]) -> Books:
    books = Books(run, keys_of(run.uid, list(ids)))
    books.read_back(*await journal.history())
    return books


async def replayed(store: ObjectStore, run: RunRef, ids: Iterable[str], checkpoint: Checkpoint) -> Snapshot:
    """The books as all segments tell them that lead to a checkpoint, without any snapshot."""
    by_hash: dict[str, Segment] = {}
    async for key in store.list(StorageKeys(run).segments):
        stored = await store.get(key)
        assert stored is not None
        by_hash[digest(stored.data)] = decode_segment(stored.data, digest(stored.data), key)
    chain: list[Segment] = []
    tail = checkpoint.tail_sha256
    while tail:
        chain.append(by_hash[tail])
        tail = chain[-1].header.previous_sha256
    books = Books(run, keys_of(run.uid, list(ids)))
    books.read_back(None, chain[::-1])
    return as_kept(books.snapshot(Uncommitted(), 0.0))


async def objects(store: ObjectStore, prefix: str) -> dict[str, tuple[bytes, str]]:
    """Content and etag of all objects below a prefix."""
    found: dict[str, tuple[bytes, str]] = {}
    async for key in store.list(prefix):
        stored = await store.get(key)
        assert stored is not None
        found[key] = stored.data, stored.etag
    return found


def unclaimed(checkpoint: Checkpoint) -> Checkpoint:
    """Without the epoch, which is that of whoever leads as long as the checkpoint is the newest."""
    return msgspec.structs.replace(checkpoint, epoch=0)
