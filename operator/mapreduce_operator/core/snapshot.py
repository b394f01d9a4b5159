"""All items of a run at one committed point, as one object: what a load reads instead of a long journal.

Its size is that of the items which are not as they were planned. How often one is due depends on what was written since
the last (engine.journal), so that all snapshots of a run together take no more bytes than its segments.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from mapreduce_operator.api import ItemState, Reason
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import NO_RESULT, SCHEMA_VERSION, verified
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.tally import FailureCount, Tally


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What segments up to some number have made of a run."""

    items: dict[Stage, list[tuple[int, Item]]]
    """Position and state of each item that is not as it was planned."""
    tally: Tally
    announced: frozenset[Reason] = frozenset()
    """Reasons of which an Event has told."""


class _Row(msgspec.Struct, frozen=True, array_like=True):
    position: int
    state: ItemState
    attempts: int
    interruptions: int
    not_before: float
    reason: Reason | None
    job_uid: str


class _Failure(msgspec.Struct, frozen=True, rename="camel"):
    reason: Reason
    count: int
    position: int
    message: str


class _Body(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    schema_version: int
    items: dict[Stage, list[_Row]]
    failures: list[_Failure]
    announced: list[Reason]
    reduce_result: msgspec.Raw = NO_RESULT
    reduce_message: str = ""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Body)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    tally = snapshot.tally
    return _encoder.encode(
        _Body(
            schema_version=SCHEMA_VERSION,
            items={stage: [_row(*entry) for entry in items] for stage, items in snapshot.items.items()},
            failures=[
                _Failure(reason, known.count, known.position, known.message) for reason, known in tally.failures.items()
            ],
            announced=sorted(snapshot.announced),
            reduce_result=NO_RESULT if tally.reduce_result is None else msgspec.Raw(tally.reduce_result),
            reduce_message=tally.reduce_message,
        )
    )


def decode_snapshot(data: bytes, expected_sha256: str, where: str) -> Snapshot:
    """Raises JournalError when the bytes are not those that the head knows."""
    body = _decoder.decode(verified(data, expected_sha256, where))
    return Snapshot(
        items={stage: [(row.position, _item(row)) for row in rows] for stage, rows in body.items.items()},
        tally=Tally(
            {one.reason: FailureCount(one.count, one.position, one.message) for one in body.failures},
            bytes(body.reduce_result) or None,
            body.reduce_message,
        ),
        announced=frozenset(body.announced),
    )


def _row(position: int, item: Item) -> _Row:
    return _Row(position, item.state, item.attempts, item.interruptions, item.not_before, item.reason, item.job_uid)


def _item(row: _Row) -> Item:
    return Item(row.state, row.attempts, row.interruptions, row.not_before, row.job_uid, row.reason)
