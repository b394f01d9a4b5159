"""The codec of what makes a run durable: segments of records, and the head that says which of them count.

    head.json  --sha256-->  segment n  --sha256-->  segment n-1  --sha256-->  …  segment 1

    head.json  --sha256-->  snapshot m, m <= n: all items as of segment m, so that what comes before need not be read

Every object's hash stands in the object that follows it, so that one changed bit is found and named, while the head
stays small however long a run gets: bytes written over a run grow with its items, not with items times commits.
A record holds the outcome and the state that the item got by it. Reading it back decides nothing anew, since the
policy may have been edited meanwhile. A segment also says which dispatches were started, so that one whose Job vanished
while no operator looked is known to have run; which items Redrives took, before they are run; and which letters were
set aside.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from mapreduce_operator.api import Cause, ItemState, Phase, Reason
from mapreduce_operator.core.breaker import Breaker
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.plan import ShardInfo
from mapreduce_operator.core.workloads import Dispatch

SCHEMA_VERSION: Final = 1


class JournalError(Exception):
    """What was read back is not what was written, or cannot be read by this operator."""


class JournalTooNewError(JournalError):
    """A newer operator wrote it."""


class CommitReason(StrEnum):
    """Why a commit was made."""

    ITEMS = "Items"
    TIME = "Time"
    PHASE_CHANGE = "PhaseChange"
    IDLE = "Idle"
    REDRIVE = "Redrive"
    SHUTDOWN = "Shutdown"


class PlanInfo(msgspec.Struct, frozen=True, rename="camel"):
    items: int
    duplicates: int
    sha256: str
    shards: list[ShardInfo]


class SnapshotInfo(msgspec.Struct, frozen=True, rename="camel"):
    """The snapshot that a load begins with. It saves reading and holds nothing that segments do not."""

    sequence: int
    """Number of the last segment that it covers."""
    sha256: str
    size: int
    journal_size: int
    """Bytes of all segments that it covers."""


class Head(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The committed point of a run. It moves by compare-and-swap."""

    schema_version: int
    run_uid: str
    phase: Phase
    phase_reason: str
    phase_message: str
    plan: PlanInfo
    sequence: int = 0
    """Number of the last segment that counts; those with higher numbers were never committed."""
    tail_sha256: str = ""
    """Hash of that segment."""
    journal_size: int = 0
    """Bytes of all segments that count."""
    snapshot: SnapshotInfo | None = None
    epoch: int = 0
    """Of the leader that wrote the head."""
    started_at: float = 0.0
    turned_at: float = 0.0
    """When it entered its phase. A run that has ended is committed once more when letters are purged or set aside."""
    committed_at: float = 0.0
    reason: CommitReason | None = None
    breaker: Breaker | None = None


NO_RESULT: Final = msgspec.Raw(b"")
"""No JSON text is empty, and null is a result."""


class Start(msgspec.Struct, frozen=True, array_like=True):
    """A dispatch whose Job exists."""

    stage: Stage
    key: str
    dispatch: int
    job_uid: str


class Accepted(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A Redrive that has taken its letters. What it asked for is kept: the object may be deleted while they run."""

    number: int
    """Counted from 1 in each run."""
    uid: str
    name: str
    at: float
    selected: int
    parallelism: int = 0
    """0 for no bound of its own."""
    payload_patch: msgspec.Raw = NO_RESULT
    template_patch: msgspec.Raw = NO_RESULT
    rerun_reduce: bool = False
    skipped: int = 0
    """Letters that were asked for and not taken."""
    skipped_letters: tuple[tuple[str, str], ...] = ()
    """Some of them: the id of the item, and why."""

    @property
    def patches_items(self) -> bool:
        return self.payload_patch != NO_RESULT

    @property
    def patches_template(self) -> bool:
        return self.template_patch != NO_RESULT


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """An item that is given another run: a dead letter that a Redrive took, or the reduce."""

    stage: Stage
    key: str
    redrive: int
    allowed: int
    excused: int
    not_before: float

    @classmethod
    def of(cls, stage: Stage, key: str, item: Item) -> "Claim":
        return cls(stage, key, item.redrive, item.allowed, item.excused, item.not_before)


class MarkKind(StrEnum):
    ARCHIVED = "Archived"
    PURGED = "Purged"


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """A letter that was set aside, or whose body was deleted."""

    key: str
    kind: MarkKind


class CalledOff(msgspec.Struct, frozen=True, array_like=True):
    """A Redrive whose items are not run any more: those that wait go back to the queue."""

    number: int
    reason: str
    message: str


class SegmentHeader(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    sequence: int
    previous_sha256: str
    phase: Phase
    at: float
    reason: CommitReason
    starts: tuple[Start, ...] = ()
    redrives: tuple[Accepted, ...] = ()
    claims: tuple[Claim, ...] = ()
    marks: tuple[Mark, ...] = ()
    called_off: tuple[CalledOff, ...] = ()
    given_back: tuple[str, ...] = ()
    """Keys of the items that are dead letters again without having been run."""


@dataclass(frozen=True, slots=True)
class Record:
    """One outcome and what became of the item by it."""

    outcome: Outcome
    item: Item

    def without_result(self) -> "Record":
        """The record of a map item without its result; that of reduce is small and part of the status."""
        if self.outcome.stage is Stage.REDUCE or self.outcome.result is None:
            return self
        return Record(replace(self.outcome, result=None), self.item)


@dataclass(frozen=True, slots=True)
class Segment:
    header: SegmentHeader
    records: list[Record]


class _Line(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    stage: Stage
    key: str
    dispatch: int
    job_uid: str
    verdict: Verdict
    state: ItemState
    attempts: int
    interruptions: int = 0
    not_before: float = 0.0
    reason: Reason | None = None
    item_reason: Reason | None = None
    cause: Cause | None = None
    excused: int = 0
    oom_kills: int = 0
    allowed: int = 0
    redrive: int = 0
    message: str = ""
    exit_code: int | None = None
    retryable: bool = True
    result: msgspec.Raw = NO_RESULT
    revision: str = ""
    job: str = ""
    pod: str = ""
    node: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0


_encoder: Final = msgspec.json.Encoder()
_head_decoder: Final = msgspec.json.Decoder(Head)
_header_decoder: Final = msgspec.json.Decoder(SegmentHeader)
_line_decoder: Final = msgspec.json.Decoder(_Line)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def verified(data: bytes, sha256: str, where: str) -> bytes:
    """The same bytes; raises JournalError when their hash is not the one that another object holds of them."""
    if digest(data) != sha256:
        raise JournalError(f"{where} is damaged: its SHA-256 is not {sha256}")
    return data


def encode_head(head: Head) -> bytes:
    return _encoder.encode(head) + b"\n"


def decode_head(data: bytes, where: str) -> Head:
    """Raises JournalError for a head that is damaged or too new."""
    try:
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schemaVersion")
        if version is not None and int(bytes(version)) > SCHEMA_VERSION:
            raise JournalTooNewError(
                f"{where} has schema version {int(bytes(version))}, this operator knows {SCHEMA_VERSION}: "
                "run the newer operator again"
            )
        return _head_decoder.decode(data)
    except (msgspec.DecodeError, ValueError) as error:
        raise JournalError(f"{where} is damaged: {error}") from error


def encode_segment(header: SegmentHeader, records: Iterable[Record]) -> bytes:
    return b"\n".join([_encoder.encode(header), *(_encoder.encode(_line(record)) for record in records)]) + b"\n"


def decode_segment(data: bytes, expected_sha256: str, where: str) -> Segment:
    """Raises JournalError when the bytes are not those that the next object knows, or no segment of this version."""
    header, _, lines = verified(data, expected_sha256, where).partition(b"\n")
    try:
        return Segment(_header_decoder.decode(header), [_record(line) for line in _line_decoder.decode_lines(lines)])
    except msgspec.DecodeError as error:
        raise JournalError(f"{where} was written by another version of the operator: {error}") from error


def _line(record: Record) -> _Line:
    outcome, item = record.outcome, record.item
    return _Line(
        stage=outcome.stage,
        key=outcome.dispatch.item_key,
        dispatch=outcome.dispatch.number,
        job_uid=outcome.job_uid,
        verdict=outcome.verdict,
        state=item.state,
        attempts=item.attempts,
        interruptions=item.interruptions,
        not_before=item.not_before,
        reason=outcome.reason,
        item_reason=item.reason,
        cause=item.cause,
        excused=item.excused,
        oom_kills=item.oom_kills,
        allowed=item.allowed,
        redrive=item.redrive,
        message=outcome.message,
        exit_code=outcome.exit_code,
        retryable=outcome.retryable,
        result=NO_RESULT if outcome.result is None else msgspec.Raw(outcome.result),
        revision=outcome.revision,
        job=outcome.job,
        pod=outcome.pod,
        node=outcome.node,
        started_at=outcome.started_at,
        ended_at=outcome.ended_at,
    )


def _record(line: _Line) -> Record:
    outcome = Outcome(
        stage=line.stage,
        dispatch=Dispatch(line.key, line.dispatch),
        job_uid=line.job_uid,
        verdict=line.verdict,
        reason=line.reason,
        message=line.message,
        exit_code=line.exit_code,
        retryable=line.retryable,
        result=bytes(line.result) or None,
        revision=line.revision,
        job=line.job,
        pod=line.pod,
        node=line.node,
        started_at=line.started_at,
        ended_at=line.ended_at,
    )
    item = Item(
        line.state,
        line.attempts,
        line.interruptions,
        line.not_before,
        reason=line.item_reason,
        cause=line.cause,
        excused=line.excused,
        oom_kills=line.oom_kills,
        allowed=line.allowed,
        redrive=line.redrive,
    )
    return Record(outcome, item)
