"""What a run wants done in the world. The core says it, the engine does it and reports back."""

from dataclasses import dataclass
from typing import Literal

from mapreduce_operator.api import ResultsAs
from mapreduce_operator.core.checkpoint import CommitReason
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.workloads import Dispatch, JobSeen


@dataclass(frozen=True, slots=True)
class Launch:
    """Create the Job of a dispatch."""

    stage: Stage
    position: int
    dispatch: Dispatch
    attempt: int
    """Number of the attempt that this will be, if nobody interrupts it."""
    max_attempts: int
    redrive: int = 0
    """Number of the Redrive that runs it; 0 for none."""
    oom_kills: int = 0
    """How often an agent of the item was killed for needing too much memory."""


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a Job: its outcome is durable, or its agent is to be interrupted."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class FindPod:
    """Ask for the pod of a Job that ended or vanished: its news is late, or it is gone."""

    job: JobSeen


@dataclass(frozen=True, slots=True)
class FindVanished:
    """Ask for the Jobs of running dispatches of which nothing is known: they may have come and gone untold."""


@dataclass(frozen=True, slots=True)
class RemovePod:
    """Remove a pod whose kubelet does not answer any more: what it may still report then counts no longer."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Make all outcomes so far durable, and the phase."""

    reason: CommitReason


@dataclass(frozen=True, slots=True)
class VerifyTemplate:
    """Let the API server try the template of a stage, without creating anything."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class PrepareReduce:
    """Put the results in plan order where the reduce agent finds them."""

    results_as: ResultsAs


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the story: an Event of the MapReduceJob."""

    kind: Literal["Normal", "Warning"]
    reason: str
    message: str
    item: int | None = None
    """Position of the map item that it is about, whose id is not known here."""


Effect = Launch | DeleteJob | FindPod | FindVanished | RemovePod | Commit | VerifyTemplate | PrepareReduce | Announce
