"""What all runs share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from mapreduce_operator.core.checkpoint import Checkpoint, CommitReason
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.core.workloads import Workload
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.engine.desk import Desk
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.ports import Clock, Cluster, Leadership, Metrics, ObjectStore, StorageError


@dataclass(frozen=True, slots=True)
class World:
    """The outside of a run: ports, and what the operator's settings say."""

    cluster: Cluster
    store: ObjectStore
    suitability: Suitability
    storage_url: str
    clock: Clock
    metrics: Metrics
    capacity: Capacity
    pace: Pace
    limits: Limits
    leadership: Leadership
    known_workloads: Callable[[str], list[Workload]]
    """Jobs and pods of a run, as the informer knows them."""
    desk: Desk = field(default_factory=Desk)
    copied_labels: tuple[str, ...] = ()
    """Keys of the labels of a MapReduceJob that its Jobs and pods get as well."""

    @property
    def checkpoints(self) -> StoredCheckpoints:
        """The checkpoints of all runs."""
        return StoredCheckpoints(self.store, self.clock, self.leadership, self.limits)

    async def counted(self, reason: CommitReason, writing: Awaitable[Checkpoint]) -> Checkpoint:
        """Waits for a checkpoint that is no commit of a run at work, and counts that it was made, or that it failed."""
        began = self.clock.now()
        try:
            made = await writing
        except StorageError:
            self.metrics.commit_failed(reason)
            raise
        self.metrics.checkpointed(reason, self.clock.now() - began, made.size)
        return made
