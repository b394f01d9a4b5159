"""The one place that builds names: of Jobs and ConfigMaps, labels and annotations, and of objects in storage.

An item's id is the user's text and never becomes part of a name or a key: ids are hashed (`item_key`), so that `../x`,
4 KiB of unicode or two ids that differ only in case are all as good as any other.
"""

import base64
import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mapreduce_operator.api import DeadLetterQueue, MapReduceJob

GROUP: Final = "mapreduce.dev"
FINALIZER: Final = f"{GROUP}/finalizer"
MANAGED_BY: Final = "mapreduce-operator"

LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
LABEL_RUN: Final = f"{GROUP}/run-uid"
LABEL_JOB: Final = f"{GROUP}/job"
LABEL_STAGE: Final = f"{GROUP}/stage"
LABEL_ITEM: Final = f"{GROUP}/item-key"
LABEL_DISPATCH: Final = f"{GROUP}/dispatch"
LABEL_REVISION: Final = f"{GROUP}/template-revision"

ANNOTATION_ITEM: Final = f"{GROUP}/item"
ANNOTATION_ITEM_ID: Final = f"{GROUP}/item-id"
ANNOTATION_CHECKPOINT: Final = f"{GROUP}/checkpoint"
ANNOTATION_CONTEXT: Final = f"{GROUP}/context"
ANNOTATION_TRACE: Final = f"{GROUP}/traceparent"

INPUTS: Final = "_inputs"
"""First part of the keys of inputs, which people write. No run has keys there: theirs begin with a namespace, whose
name begins with a letter or a digit.
"""

_JOB_NAME_SHARE: Final = 40
"""Characters of a Job's name that come from the MapReduceJob's: with key and number it stays below 63."""
_KEY_LENGTH: Final = 10
"""Base32 characters of an item's key, 50 bits: at 100,000 items the chance of a collision is 1 in 200,000, and
planning refuses one rather than mixing two items up."""


class Stage(StrEnum):
    """The two kinds of work of a run; reduce is a single item that goes through the same machine as all others."""

    MAP = "map"
    REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class RunRef:
    """Identity of a run: one MapReduceJob object. A job that is deleted and created again is another run."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, job: MapReduceJob) -> "RunRef":
        return cls(job.metadata.namespace, job.metadata.name, job.metadata.uid)

    @classmethod
    def of_queue(cls, queue: DeadLetterQueue) -> "RunRef":
        """The run whose letters a queue holds: only of its own namespace, whatever uid somebody writes into it."""
        return cls(queue.metadata.namespace, queue.spec.job_ref.name, queue.spec.job_ref.uid)


def item_key(run_uid: str, stage: Stage, item_id: str) -> str:
    """Short key of an item, the same in every process and different in every run.

    The run's uid is part of it because two jobs may share the first 40 characters of their names, and a job created
    anew may meet Jobs of its namesake that are still being deleted.
    """
    digest = hashlib.sha256(f"{run_uid}\0{stage}\0{item_id}".encode()).digest()
    return base64.b32encode(digest[:_KEY_LENGTH]).decode().lower()[:_KEY_LENGTH]


def job_name(run: RunRef, key: str, dispatch: int) -> str:
    """Deterministic name of the Job that carries a dispatch, so that creating it twice is noticed by the API server."""
    return f"{_stem(run, key)}-d{dispatch}"


def traceparent(run: RunRef, key: str, dispatch: int) -> str:
    """Where the traces of an agent belong, as W3C Trace Context writes it: one trace an item, one parent a dispatch.

    It is derived and not drawn, so that whoever knows item and dispatch finds the trace.
    """
    trace, parent = (hashlib.sha256(f"{run.uid}\0{part}".encode()).hexdigest() for part in (key, f"{key}\0{dispatch}"))
    return f"00-{trace[:32]}-{parent[:16]}-01"


def results_config_map_name(run: RunRef, part: int) -> str:
    """Name of a ConfigMap through which reduce gets its results; parts are counted from 1."""
    first = _stem(run, item_key(run.uid, Stage.REDUCE, "results"))
    return first if part == 1 else f"{first}-{part}"


def _stem(run: RunRef, key: str) -> str:
    share = run.name[:_JOB_NAME_SHARE].replace(".", "-").rstrip("-")
    return f"{share}-{key}"


def run_labels(run: RunRef) -> dict[str, str]:
    """Labels of everything that a run creates; the informer selects by the first, clean-up by the second."""
    return {LABEL_MANAGED_BY: MANAGED_BY, LABEL_RUN: run.uid, LABEL_JOB: run.name}


def input_key(namespace: str, key: str) -> str:
    """Key of an object that holds the items of jobs, below the store's own prefix. A job reads those of its namespace.

    `key` is that of the spec, whose pattern keeps it from leading anywhere else.
    """
    return f"{INPUTS}/{namespace}/{key}"


@dataclass(frozen=True, slots=True)
class StorageKeys:
    """Keys of a run's objects, below the store's own prefix."""

    run: RunRef

    @property
    def prefix(self) -> str:
        return f"{self.run.namespace}/{self.run.name}/{self.run.uid}/"

    @property
    def head(self) -> str:
        return f"{self.prefix}head.json"

    # Shards and segments are named after their content: whoever writes late, a deposed leader or a retry, writes
    # beside what was committed and never over it.

    def plan_shard(self, number: int, sha256: str) -> str:
        return f"{self.prefix}plan/shard-{number:05d}-{sha256[:16]}.jsonl"

    @property
    def plans(self) -> str:
        """Beginning of the keys of all plans: a run that was planned anew has several."""
        return f"{self.prefix}plan/plan-"

    def plan(self, sha256: str) -> str:
        """The list of the shards of a plan."""
        return f"{self.plans}{sha256[:16]}.json"

    @property
    def segments(self) -> str:
        """Beginning of the keys of all segments."""
        return f"{self.prefix}journal/segment-"

    def segment(self, sequence: int, sha256: str) -> str:
        return f"{self.segments}{sequence:010d}-{sha256[:16]}.jsonl"

    @property
    def letters(self) -> str:
        """Beginning of the keys of all dead letters."""
        return f"{self.prefix}dead-letters/"

    def letter(self, key: str) -> str:
        """The body of one dead letter, by the key of its item."""
        return f"{self.letters}{key}.json"

    @property
    def snapshots(self) -> str:
        """Beginning of the keys of all snapshots."""
        return f"{self.prefix}journal/snapshot-"

    def snapshot(self, sequence: int, sha256: str) -> str:
        return f"{self.snapshots}{sequence:010d}-{sha256[:16]}.json"

    @property
    def checkpoints(self) -> str:
        """Beginning of the keys of all checkpoints that are kept."""
        return f"{self.prefix}checkpoints/"

    def checkpoint(self, sequence: int, snapshot: int, reason: str, sha256: str) -> str:
        """Number of the snapshot and reason are part of the key, so that a list of keys says which objects may go."""
        return f"{self.checkpoints}{sequence:010d}-{snapshot:010d}-{reason}-{sha256[:16]}.json"

    def spec(self, sha256: str) -> str:
        """What was run: map, reduce and params, as they stood in the spec."""
        return f"{self.prefix}specs/spec-{sha256[:16]}.json"
