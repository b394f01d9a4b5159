"""A checkpoint: a committed point of a run, and the codec of the objects that hold one.

`head.json` is the newest checkpoint and moves by compare-and-swap. Each one also stands in an object of its own, which
is never changed: what is kept of these can be listed, restored and forked from, and takes the place of a head that is
damaged. A checkpoint does not hold the outcomes of items but says where they are: the last of the segments that count,
each of which knows the one before it, and a snapshot that saves reading most of them.
"""

import hashlib
from enum import StrEnum
from typing import Final

import msgspec

from mapreduce_operator.api import ItemState, Phase, RestartPhase
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.migrations import to_present_version
from mapreduce_operator.core.plan import ShardInfo

SCHEMA_VERSION: Final = 2


class JournalError(Exception):
    """What was read back is not what was written, or cannot be read by this operator."""


class JournalTooNewError(JournalError):
    """A newer operator wrote it."""


class DamagedError(JournalError):
    """An object is missing, or its content is not what was written."""


class StateLostError(JournalError):
    """The run was planned before, and its plan is gone or damaged."""


class CommitReason(StrEnum):
    """Why a checkpoint was made."""

    ITEMS = "Items"
    TIME = "Time"
    PHASE_CHANGE = "PhaseChange"
    IDLE = "Idle"
    REDRIVE = "Redrive"
    SKIP = "Skip"
    SHUTDOWN = "Shutdown"
    MANUAL = "Manual"
    RESTORE = "Restore"
    RESTART = "Restart"
    RECOVERY = "Recovery"
    FORK = "Fork"


BOUNDARIES: Final = frozenset(
    {
        CommitReason.PHASE_CHANGE,
        CommitReason.RESTORE,
        CommitReason.RESTART,
        CommitReason.RECOVERY,
        CommitReason.FORK,
    }
)
"""Reasons of the checkpoints between which a run takes its course."""


class PlanInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    items: int
    duplicates: int
    sha256: str
    """Of the object that lists the shards."""
    shards: tuple[ShardInfo, ...] = ()
    """Only of a plan that version 1 made: those of later ones have an object of their own."""
    input_sha256: str = ""
    """Of the bytes that were planned; "" where the input stands in the spec, which does not change."""
    filtered_out: int = 0
    out_of_range: int = 0
    """What offset and limit left out."""

    @property
    def read(self) -> int:
        """How many items the input had."""
        return self.items + self.filtered_out + self.duplicates + self.out_of_range


class SnapshotInfo(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The snapshot that a load begins with. It saves reading and holds nothing that segments do not."""

    sequence: int
    """Number of the last segment that it covers."""
    sha256: str
    size: int
    """Bytes before they are packed."""
    journal_size: int
    """Bytes of all segments that it covers."""


class Lineage(msgspec.Struct, frozen=True, rename="camel"):
    """Where a forked run comes from."""

    name: str
    uid: str
    sequence: int
    depth: int
    """1 for the fork of a run that is none."""


class Restored(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The request to restore that was answered last."""

    checkpoint: int
    token: str
    at: float
    sequence: int
    """Number of the checkpoint that did it."""


class RefusedRestore(msgspec.Struct, frozen=True, rename="camel"):
    """The request to restore that was found to be impossible last. It stays so: one with another token is another."""

    checkpoint: int
    token: str
    reason: str
    message: str


class Restarted(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The request to restart that was answered last."""

    phase: RestartPhase
    token: str
    at: float


class Answers(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What people asked for and got, so that it is not done twice."""

    checkpoint: str = ""
    """Token of the annotation that asked for a checkpoint."""
    restored: Restored | None = None
    restarted: Restarted | None = None
    refused: RefusedRestore | None = None


class Recovered(msgspec.Struct, frozen=True, rename="camel"):
    """The last time that something was damaged, and what was done about it."""

    at: float
    message: str


class Checkpoint(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A committed point of a run."""

    schema_version: int
    run_uid: str
    phase: Phase
    phase_reason: str
    phase_message: str
    plan: PlanInfo
    sequence: int = 0
    """Its number, which is that of the last segment that counts."""
    tail_sha256: str = ""
    """Hash of that segment."""
    previous: tuple[int, str] | None = None
    """Number and hash of the segment before that one."""
    journal_size: int = 0
    """Bytes of all segments that count."""
    snapshot: SnapshotInfo | None = None
    epoch: int = 0
    """Of the leader that wrote it."""
    started_at: float = 0.0
    opened_at: float = 0.0
    """When it began, or was reopened by a Redrive, a restart or a restore."""
    turned_at: float = 0.0
    """When it entered its phase. A run that has ended is committed once more when letters are purged or set aside."""
    committed_at: float = 0.0
    reason: CommitReason | None = None
    breaker: Breaker | None = None
    counts: dict[ItemState, int] = msgspec.field(default_factory=dict)
    """Of the items of the map."""
    size: int = 0
    """Bytes that it wrote: segment and snapshot."""
    seconds: float = 0.0
    """From its begin until these were written."""
    spec_sha256: str = ""
    """Of the object that holds what was run: map, reduce and params."""
    answers: Answers = Answers()
    lineage: Lineage | None = None
    recovered: Recovered | None = None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Checkpoint)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verified(data: bytes, sha256: str, where: str) -> bytes:
    """The same bytes; raises DamagedError when their hash is not the one that another object holds of them."""
    if digest(data) != sha256:
        raise DamagedError(f"{where} is damaged: its SHA-256 is not {sha256}")
    return data


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """Two lines: the checkpoint, and its hash, since nothing else holds that of the head."""
    line = _encoder.encode(checkpoint)
    return line + b"\n" + digest(line).encode() + b"\n"


def decode_checkpoint(data: bytes, where: str) -> Checkpoint:
    """Raises DamagedError for one that is damaged, JournalTooNewError for one that is too new.

    That the second line is the hash of the first holds for all versions but the first, which has none: so that damage
    to the version itself is found.
    """
    line, _, sha256 = data.partition(b"\n")
    try:
        if sha256 and sha256 != digest(line).encode() + b"\n":
            raise DamagedError(f"{where} is damaged: its content does not have the SHA-256 in its second line")
        version = _version(line)
        if version > 1 and not sha256:
            raise DamagedError(f"{where} is damaged: its second line is missing")
        if version > SCHEMA_VERSION:
            raise JournalTooNewError(
                f"{where} has schema version {version}, this operator knows {SCHEMA_VERSION}: "
                "run the newer operator again"
            )
        return _decoder.decode(line if version == SCHEMA_VERSION else to_present_version(line, version))
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError(f"{where} is damaged: {error}") from error


def _version(line: bytes) -> int:
    version = msgspec.json.decode(line, type=dict[str, msgspec.Raw]).get("schemaVersion")
    number = int(bytes(version)) if version is not None else 0
    if number < 1:
        raise ValueError("it has no schema version")
    return number
