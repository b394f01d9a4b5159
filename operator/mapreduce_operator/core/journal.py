"""The codec of the journal: segments, each with the facts that one commit made durable.

    checkpoint n  --sha256-->  segment n  --sha256-->  segment n-1  --sha256-->  …  segment 1

    checkpoint n  --sha256-->  snapshot m, m <= n: all items as of segment m, so that what comes before is not read

Every object's hash stands in the object that follows it, so that one changed bit is found and named, while a checkpoint
stays small however long a run gets: bytes written over a run grow with its items, not with items times commits.
The segment before is not always the one with the number before: a run that was restored to an earlier checkpoint goes
on from there, and what came after stays beside it, as in a tree.

Each line of a segment begins with its own checksum, so that of a damaged one all other lines are still good; which one
comes before it stands in the first and in the last line. A record
holds the outcome and the state that the item got by it. Reading it back decides nothing anew, since the
policy may have been edited meanwhile. A segment also says which dispatches were started, so that one whose Job vanished
while no operator looked is known to have run; which items Redrives took, before they are run; and which letters were
set aside.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from mapreduce_operator.api import Cause, ItemState, Phase, Reason
from mapreduce_operator.core.checkpoint import CommitReason, JournalError, verified
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch

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
    restart: bool = False
    """It is no Redrive but a restart of the map, of which there is no object."""
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
    before: Cause | None = None

    @classmethod
    def of(cls, stage: Stage, key: str, item: Item) -> "Claim":
        return cls(stage, key, item.redrive, item.allowed, item.excused, item.not_before, item.before)


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


class Undone(msgspec.Struct, frozen=True, array_like=True):
    """An item of a run that went back to an earlier checkpoint: what was dispatched since counts no longer.

    Dispatches are numbered on, since a number that came again could meet the Job that had it before.
    """

    stage: Stage
    key: str
    dispatches: int
    """How many there have been in all."""


class SegmentHeader(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    sequence: int
    previous_sha256: str
    phase: Phase
    at: float
    reason: CommitReason
    previous: int | None = None
    """Number of the segment before, 0 for none; None for the number before its own."""
    epoch: int = 0
    """Of the leader that wrote it."""
    count: int = 0
    """How many records follow."""
    undone: tuple[Undone, ...] = ()
    starts: tuple[Start, ...] = ()
    redrives: tuple[Accepted, ...] = ()
    claims: tuple[Claim, ...] = ()
    marks: tuple[Mark, ...] = ()
    called_off: tuple[CalledOff, ...] = ()
    given_back: tuple[str, ...] = ()
    """Keys of the items that are dead letters again without having been run."""
    left_out: tuple[str, ...] = ()
    """Keys of the items that the user does not want to be run."""
    reduce_again: bool = False
    """Somebody asked for the reduce to run again."""

    @property
    def before(self) -> int:
        """Number of the segment before; 0 for none."""
        return self.sequence - 1 if self.previous is None else self.previous


@dataclass(frozen=True, slots=True)
class Record:
    """One outcome and what became of the item by it."""

    outcome: Outcome
    item: Item
    left_out: int = 0
    """Bytes of its result, where it was read without that."""


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
    before: Cause | None = None
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


class _Link(msgspec.Struct, frozen=True, array_like=True):
    """The last line: what of the header must not be lost."""

    sequence: int
    previous: int
    previous_sha256: str


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What is still good of a damaged segment."""

    header: SegmentHeader | None
    before: tuple[int, str] | None
    """Number and hash of the segment before."""
    records: list[Record]
    """In their order."""


_encoder: Final = msgspec.json.Encoder()
_link_decoder: Final = msgspec.json.Decoder(_Link)
_header_decoder: Final = msgspec.json.Decoder(SegmentHeader)
_line_decoder: Final = msgspec.json.Decoder(_Line)
_lines_decoder: Final = msgspec.json.Decoder(list[_Line])
_CHECKSUM: Final = 9
"""Characters before the content of a line: CRC-32 in hexadecimal digits, and a space."""


def encode_segment(header: SegmentHeader, records: Iterable[Record]) -> bytes:
    link = _Link(header.sequence, header.before, header.previous_sha256)
    lines = [_encoder.encode(header), *(_encoder.encode(_line(record)) for record in records), _encoder.encode(link)]
    return b"".join(b"%08x %b\n" % (zlib.crc32(line), line) for line in lines)


def decode_segment(data: bytes, expected_sha256: str, where: str, *, results: bool = True) -> Segment:
    """Raises DamagedError when the bytes are not those that the next object knows.

    Raises JournalError when they are, and are no segment of this version. Without `results`, which are most of the
    memory, only that of the reduce is there: it is part of the status.
    """
    header, *lines = verified(data, expected_sha256, where).split(b"\n")[:-1]
    # Version 1 had neither checksums nor the line at the end.
    start, end = (0, None) if data.startswith(b"{") else (_CHECKSUM, -1)
    try:
        found = _lines_decoder.decode(b"[%b]" % b",".join(line[start:] for line in lines[:end]))
        return Segment(_header_decoder.decode(header[start:]), [_record(line, results=results) for line in found])
    except msgspec.DecodeError as error:
        raise JournalError(f"{where} was written by another version of the operator: {error}") from error


def salvage(data: bytes, *, records_too: bool = True) -> Salvaged:
    """Takes from a damaged segment the lines that are good."""
    header: SegmentHeader | None = None
    link: _Link | None = None
    records: list[Record] = []
    for number, line in enumerate(data.split(b"\n")):
        content = line[_CHECKSUM:]
        if line[:_CHECKSUM] != b"%08x " % zlib.crc32(content):
            continue
        try:
            if number == 0:
                header = _header_decoder.decode(content)
            elif content.startswith(b"["):
                link = _link_decoder.decode(content)
            elif records_too:
                records.append(_record(_line_decoder.decode(content)))
        except msgspec.DecodeError:
            # Of a version that is not ours.
            continue
    if header is not None:
        return Salvaged(header, (header.before, header.previous_sha256), records)
    return Salvaged(None, (link.previous, link.previous_sha256) if link is not None else None, records)


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
        before=item.before,
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


def _record(line: _Line, *, results: bool = True) -> Record:
    given = bytes(line.result)
    result = given if results or line.stage is Stage.REDUCE else b""
    outcome = Outcome(
        stage=line.stage,
        dispatch=Dispatch(line.key, line.dispatch),
        job_uid=line.job_uid,
        verdict=line.verdict,
        reason=line.reason,
        message=line.message,
        exit_code=line.exit_code,
        retryable=line.retryable,
        result=result or None,
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
        before=line.before,
    )
    return Record(outcome, item, left_out=len(given) - len(result))
