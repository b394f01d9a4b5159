"""All items of a run at one committed point, as one object: what a load reads instead of a long journal.

Its size is that of the items which are not as they were planned. How often one is due depends on what was written since
the last (engine.journal), so that all snapshots of a run together take no more bytes than its segments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from mapreduce_operator.api import Cause, ItemState, LetterState, Reason
from mapreduce_operator.core.checkpoint import (
    SCHEMA_VERSION,
    DamagedError,
    JournalError,
    JournalTooNewError,
    verified,
)
from mapreduce_operator.core.dead_letters import Entry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import NO_RESULT, Accepted, CalledOff
from mapreduce_operator.core.letters import Attempt
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.packing import PackingError, unpack
from mapreduce_operator.core.tally import FailureCount, Tally


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What segments up to some number have made of a run."""

    items: dict[Stage, list[tuple[int, Item]]]
    """Position and state of each item that is not as it was planned."""
    tally: Tally
    announced: frozenset[Reason] = frozenset()
    """Reasons of which an Event has told."""
    past: Mapping[int, list[Attempt]] = field(default_factory=dict)
    """Dispatches of the items that have failed and are not at their end, by position."""
    letters: list[tuple[Entry, LetterState, str]] = field(default_factory=list)
    """With the text of the signature."""
    redrives: list[tuple[Accepted, int, int, float, CalledOff | None]] = field(default_factory=list)
    """With how many of their items succeeded and failed, when the last of them ended, and why they were called off."""
    failed_starts: Mapping[str, list[str]] = field(default_factory=dict)
    """What core.startup remembers of revisions that could not start."""
    reduce_again: bool = False
    """A Redrive asked for the reduce to run again."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    position: int
    state: ItemState
    attempts: int
    interruptions: int
    not_before: float
    reason: Reason | None
    job_uid: str
    cause: Cause | None = None
    excused: int = 0
    oom_kills: int = 0
    allowed: int = 0
    redrive: int = 0
    before: Cause | None = None


class _Failure(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    reason: Reason
    signature: str
    count: int
    position: int
    message: str


class _Body(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    schema_version: int
    items: dict[Stage, list[_Row]]
    failures: list[_Failure]
    announced: list[Reason]
    reasons: dict[Reason, int] = msgspec.field(default_factory=dict)
    retries: int = 0
    past: dict[str, list[Attempt]] = msgspec.field(default_factory=dict)
    letters: list[tuple[Entry, LetterState, str]] = msgspec.field(default_factory=list)
    redrives: list[tuple[Accepted, int, int, float, CalledOff | None]] = msgspec.field(default_factory=list)
    failed_starts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    reduce_again: bool = False
    reduce_result: msgspec.Raw = NO_RESULT
    reduce_message: str = ""
    result_bytes: int = 0


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Body)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    tally = snapshot.tally
    return _encoder.encode(
        _Body(
            schema_version=SCHEMA_VERSION,
            items={stage: [_row(*entry) for entry in items] for stage, items in snapshot.items.items()},
            failures=[
                _Failure(name, known.reason, known.signature, known.count, known.position, known.message)
                for name, known in tally.failures.items()
            ],
            announced=sorted(snapshot.announced),
            reasons=dict(tally.reasons),
            retries=tally.retries,
            past={str(position): attempts for position, attempts in snapshot.past.items()},
            letters=snapshot.letters,
            redrives=snapshot.redrives,
            failed_starts=dict(snapshot.failed_starts),
            reduce_again=snapshot.reduce_again,
            reduce_result=NO_RESULT if tally.reduce_result is None else msgspec.Raw(tally.reduce_result),
            reduce_message=tally.reduce_message,
            result_bytes=tally.result_bytes,
        )
    )


def decode_snapshot(data: bytes, expected_sha256: str, where: str) -> Snapshot:
    """Raises DamagedError when the bytes are not those that the checkpoint knows.

    Raises JournalError when they are, and are no snapshot of this version.
    """
    try:
        body = _decoder.decode(unpack(verified(data, expected_sha256, where)))
    except PackingError as error:
        raise DamagedError(f"{where} cannot be unpacked: {error}") from error
    except msgspec.DecodeError as error:
        raise JournalError(f"{where} was written by another version of the operator: {error}") from error
    if body.schema_version > SCHEMA_VERSION:
        raise JournalTooNewError(
            f"{where} has schema version {body.schema_version}, this operator knows {SCHEMA_VERSION}"
        )
    return Snapshot(
        items={stage: [(row.position, _item(row)) for row in rows] for stage, rows in body.items.items()},
        tally=Tally(
            {
                one.id: FailureCount(one.reason, one.signature, one.count, one.position, one.message)
                for one in body.failures
            },
            body.reasons,
            body.retries,
            bytes(body.reduce_result) or None,
            body.reduce_message,
            body.result_bytes,
        ),
        announced=frozenset(body.announced),
        past={int(position): attempts for position, attempts in body.past.items()},
        letters=body.letters,
        redrives=body.redrives,
        failed_starts=body.failed_starts,
        reduce_again=body.reduce_again,
    )


def _row(position: int, item: Item) -> _Row:
    return _Row(
        position,
        item.state,
        item.attempts,
        item.interruptions,
        item.not_before,
        item.reason,
        item.job_uid,
        item.cause,
        item.excused,
        item.oom_kills,
        item.allowed,
        item.redrive,
        item.before,
    )


def _item(row: _Row) -> Item:
    return Item(
        row.state,
        row.attempts,
        row.interruptions,
        row.not_before,
        row.job_uid,
        row.reason,
        row.cause,
        row.excused,
        row.oom_kills,
        row.allowed,
        row.redrive,
        row.before,
    )
