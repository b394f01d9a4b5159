"""A run whose history is made step by step, as the engine commits it; and the damage that is done to it in storage."""

from collections.abc import Iterable
from typing import Any, Final

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.api import ItemState, MapReduceJob, Restore, ResultsAs
from mapreduce_operator.core.batches import Batch
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.effects import PrepareReduce
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Accepted, Record
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.workloads import ContainerEnd, JobSeen
from mapreduce_operator.engine.loading import Loaded
from mapreduce_operator.engine.requests import Requests
from tests.unit.core.scenes import TEMPLATE, job, launch, observe, pod, take_templates
from tests.unit.engine.parts import NOW, Leader
from tests.unit.engine.test_loading import KEYS, RUN, Process, map_reduce_job

FATAL: Final = ContainerEnd(1, message='{"error": {"message": "boom", "retryable": false}}')
"""Its item becomes a dead letter at once."""


def job_of(items: int, **spec: Any) -> MapReduceJob:
    """A job of items with the ids "0", "1", …, which have two attempts each, and with a reduce."""
    written = map_reduce_job(items=[str(number) for number in range(items)]).to_kubernetes()
    retry = {"maxAttempts": 2, "backoff": {"type": "Fixed", "initialSeconds": 10, "jitter": 0}}
    written["spec"]["map"]["retry"] = retry
    written["spec"]["reduce"] = {"template": TEMPLATE, "runWhen": "Always"}
    written["spec"] |= spec
    return MapReduceJob.model_validate(written)


class Story:
    """One run. What happens to it is durable when `commit` returns, and not before."""

    def __init__(self, store: MemoryStore, items: int = 4, **spec: Any) -> None:
        self.store: Final = store
        self.job: Final = job_of(items, **spec)
        self.seconds = 0.0
        self.epoch = 0
        self.records: Final[list[Record]] = []
        """All that became durable, in its order."""
        self.process: Process

    @property
    def state(self) -> RunState:
        return self.process.state

    @property
    def now(self) -> float:
        return NOW + self.seconds

    async def load(self, jobs: Iterable[JobSeen] = ()) -> Loaded:
        """Another process takes the run over; these Jobs are there."""
        self.epoch += 1
        process = Process(self.store, leader=Leader(self.epoch))
        process.known += jobs
        process.clock.time = self.now
        loaded = await process.load(self.job, planned_before=self.epoch > 1)
        process.state = loaded.state
        take_templates(process.state)
        self.process = process
        return loaded

    # ------------------------------------------------------------------------------------------------ what happens

    def passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.process.clock.time = self.now

    def starts(self) -> list[str]:
        """Starts what the run wants; returns the names of the Jobs."""
        self._decide()
        return launch(self.state, self.seconds)

    def _decide(self) -> None:
        if any(isinstance(effect, PrepareReduce) for effect in self.state.decide(self.now)):
            self.state.reduce_prepared(ResultsAs.FILE)

    def ends(self, agent: ContainerEnd | None, *positions: int, stage: Stage = Stage.MAP) -> None:
        """The agents of these items end, or their pods vanish."""
        for position in positions:
            observe(self.state, pod(self.name(position, stage), agent, gone=agent is None), self.seconds)

    def redrive(self, *positions: int, attempts: int = 1) -> None:
        number = len(self.state.redrives) + 1
        accepted = Accepted(number, f"uid-{number}", f"again-{number}", self.now, len(positions))
        self.state.redrive(accepted, attempts, dict.fromkeys(positions, 0.0), self.now)

    async def commit(self, *, with_snapshot: bool = False) -> Batch:
        self._decide()
        batch = self.state.commits.begin(CommitReason.ITEMS, self.now, with_snapshot=with_snapshot)
        await self.process.journal.append(batch)
        self.records.extend(batch.records)
        self.state.commits.done(batch, self.now)
        await self.process.journal.keep()
        return batch

    async def round(self, agent: ContainerEnd | None, *positions: int) -> None:
        """All that can be started is, these end, and that becomes durable."""
        self.starts()
        self.ends(agent, *positions)
        await self.commit()

    async def goes_back(self, checkpoint: int) -> None:
        """The run stands still, and is restored to one of its checkpoints."""
        restore = Restore(checkpoint=checkpoint, token=f"at {self.process.journal.head.sequence}")
        asked = self.job.model_copy(
            update={"spec": self.job.spec.model_copy(update={"suspend": True, "restore": restore})}
        )
        requests = Requests(self.process.world, RUN, self.process.journal)
        assert await requests.do(asked, self.state) is not None
        await self.load()

    # ------------------------------------------------------------------------------------------------- what is so

    def item(self, position: int, stage: Stage = Stage.MAP) -> Item:
        return self.state.ledgers[stage][position]

    def item_of(self, key: str) -> Item:
        """Of the map or of the reduce."""
        found = ((ledger, ledger.position(key)) for ledger in self.state.ledgers.values())
        return next(ledger[position] for ledger, position in found if position is not None)

    def items(self, stage: Stage = Stage.MAP) -> list[Item]:
        return [self.item(position, stage) for position in range(len(self.state.ledgers[stage]))]

    @property
    def states(self) -> list[ItemState]:
        return [item.state for item in self.items()]

    def name(self, position: int, stage: Stage = Stage.MAP) -> str:
        """Name of the Job that carries the item, or carries it next."""
        ledger = self.state.ledgers[stage]
        return f"demo-{ledger.key(position)}-d{ledger[position].dispatch}"

    def jobs(self) -> list[JobSeen]:
        """Those that carry running items."""
        return [
            job(self.name(position, stage))
            for stage, ledger in self.state.ledgers.items()
            for position in ledger.in_state(ItemState.RUNNING)
        ]

    def books(self) -> dict[str, Any]:
        """All that is known of the run."""
        state = self.state
        return {
            "items": {stage: self.items(stage) for stage in Stage},
            "turn": state.turn,
            "tally": state.tally,
            "letters": list(state.dead_letters.all()),
            "redrives": [(progress.as_kept(), progress.unsettled) for progress in state.redrives.all()],
            "past": state.books._past,
            "reduce again": state.books.reduce_again,
            "announced": state.books.announced,
            "answers": state.commits.answers,
        }

    # ------------------------------------------------------------------------------------------------------- damage

    def key(self, number: int, prefix: str = KEYS.segments) -> str:
        (key,) = self.keys(f"{prefix}{number:010d}-")
        return key

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.store.objects if key.startswith(prefix)]

    def damages(self, key: str, line: int = 0) -> None:
        """One bit in the middle of a line is not what was written."""
        lines = self.store.objects[key].split(b"\n")
        middle = len(lines[line]) // 2
        lines[line] = lines[line][:middle] + bytes([lines[line][middle] ^ 1]) + lines[line][middle + 1 :]
        self.store.objects[key] = b"\n".join(lines)

    def loses(self, *keys: str) -> None:
        for key in keys:
            del self.store.objects[key]
