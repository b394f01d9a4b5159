"""From input to plan: the ordered items of a run, each with an id that does not depend on its position.

Bad input is refused as a whole and early, and every complaint names the position of the item; nothing is dropped
silently. A plan is durable before the first Job exists, in shards that are read back one at a time.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mapreduce_operator.api import InputFormat, OnDuplicate
from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.names import Stage, item_key
from mapreduce_operator.core.packing import pack, unpack

ID_BYTES: Final = 4096
"""Ids go into annotations and into each line of the journal."""
ID_SECONDS: Final = 5.0
"""For the ids of all items together, in seconds of the processor. 100,000 ids that are fields of items take 0.3 s."""
SHARD_ITEMS: Final = 1000
SHARD_BYTES: Final = 1 << 20
"""A shard ends at whichever comes first; a run keeps a few shards in memory, not the whole plan."""
COMPLAINTS: Final = 5
"""How many problems a refusal spells out; the rest is counted."""

_encoder: Final = msgspec.json.Encoder(order="deterministic")


class InputError(Exception):
    """Input that cannot be planned. `reason` is CamelCase for a condition; the text says what, where and what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason: Final = reason


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """An item of the plan; the payload is canonical JSON."""

    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's own caps, over those of a job."""

    items: int = 100_000
    item_bytes: int = 32_768
    """A payload travels in an annotation; all annotations of an object share 256 KiB."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The outcome of planning."""

    items: list[PlannedItem]
    duplicates: int
    """Items left out because their id came before (onDuplicate: KeepFirst)."""
    input_sha256: str = ""
    """Of the text that the items were read from; "" where they stand in the spec."""


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return _encoder.encode(value)


def content_id(payload: bytes) -> str:
    """The id of an item without idExpression: a hash of what is in it, so that order and position do not matter."""
    return hashlib.sha256(payload).hexdigest()[:16]


def parse_text(text: str, form: InputFormat, source: str) -> list[Any]:
    """The items in a text; raises InputError that names the line or position."""
    if form is InputFormat.JSON:
        try:
            value = msgspec.json.decode(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise InputError("InputMalformed", f"{source} is no valid JSON: {error}") from error
        if not isinstance(value, list):
            raise InputError(
                "InputMalformed",
                f"{source} holds {_kind(value)}, not a JSON array; for one value per line set format: JSONLines",
            )
        return value
    items, problems = [], []
    # Not splitlines: JSON strings may hold characters such as U+2028 that also end a line for Python.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            items.append(msgspec.json.decode(line.encode()))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise InputError("InputMalformed", f"{source} has lines that are no valid JSON: {some_of(problems)}")
    return items


def plan_items(
    values: Sequence[Any],
    *,
    id_expression: str | None,
    on_duplicate: OnDuplicate,
    max_items: int | None,
    limits: Limits,
) -> Planned:
    """Gives every value its id and canonical payload; raises InputError that lists what is wrong and where."""
    allowed = min(limits.items, max_items or limits.items)
    if len(values) > allowed:
        whose = (
            "spec.input.maxItems" if max_items is not None and max_items <= limits.items else "this operator's limit"
        )
        raise InputError(
            "InputTooLarge",
            f"the input has {len(values):,} items; {whose} is {allowed:,}. Split the input or raise the limit",
        )
    expression = id_expression_of(id_expression)
    items: list[PlannedItem] = []
    first_at: dict[str, int] = {}
    problems: list[str] = []
    repeated: list[str] = []
    for position, value in enumerate(values):
        try:
            item = plan_item(value, expression, limits)
        except InputError as error:
            problems.append(f"item {position}: {error}")
            continue
        if item.id in first_at:
            repeated.append(f"item {position} has the id of item {first_at[item.id]}, {_quote(item.id)}")
            continue
        first_at[item.id] = position
        items.append(item)
    if problems:
        raise InputError(
            "InvalidItems", f"{len(problems):,} of {len(values):,} items cannot be planned: {some_of(problems)}"
        )
    if repeated and on_duplicate is OnDuplicate.FAIL:
        raise InputError(
            "DuplicateItems",
            f"{some_of(repeated)}. Make the ids different with idExpression, or set onDuplicate: KeepFirst",
        )
    return Planned(items, duplicates=len(repeated))


def plan_item(value: Any, expression: Expression | None, limits: Limits) -> PlannedItem:
    """One item with its id and canonical payload; raises InputError."""
    try:
        payload = canonical(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError("InvalidItems", f"is no JSON value: {error}") from error
    if len(payload) > limits.item_bytes:
        raise InputError(
            "InvalidItems",
            f"has {len(payload):,} bytes; the limit is {limits.item_bytes:,}. Store it where agents can read it, "
            "and pass a reference",
        )
    if expression is None:
        return PlannedItem(content_id(payload), payload)
    try:
        name = expression.evaluate({"item": value})
    except ExpressionError as error:
        raise InputError("InvalidItems", f"has no id: {error}") from error
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise InputError("InvalidItems", f"idExpression gave {_kind(name)}; an id is a string or an integer")
    name = str(name)
    if not name or len(name.encode()) > ID_BYTES or any(ord(character) < 32 for character in name):
        raise InputError(
            "InvalidItems",
            f"idExpression gave {_quote(name)}; an id has 1 to {ID_BYTES:,} bytes and no control characters",
        )
    return PlannedItem(name, payload)


def id_expression_of(text: str | None) -> Expression | None:
    """The expression that gives items their ids, or None for ids by content; raises InputError."""
    try:
        return Expression(text, seconds=ID_SECONDS) if text else None
    except ExpressionError as error:
        raise InputError("InvalidIdExpression", f"spec.input.idExpression: {error}") from error


def keys_of(run_uid: str, ids: Sequence[str]) -> list[str]:
    """The keys of a plan's items; raises InputError for the improbable case that two ids share one."""
    keys = [item_key(run_uid, Stage.MAP, name) for name in ids]
    if len(set(keys)) < len(keys):
        raise InputError(
            "DuplicateItems", "two ids have the same key by chance; create the job anew, which changes all keys"
        )
    return keys


# ------------------------------------------------------------------------------------------------------------ shards


class ShardInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the list of shards says of one; the hash is of its bytes as they are stored."""

    items: int
    sha256: str


class _Line(msgspec.Struct, frozen=True):
    id: str
    item: msgspec.Raw


_line_decoder: Final = msgspec.json.Decoder(_Line)
_list_decoder: Final = msgspec.json.Decoder(tuple[ShardInfo, ...])


def encode_shards(items: Iterable[PlannedItem]) -> Iterator[tuple[ShardInfo, bytes]]:
    """The shards of a plan in order, as JSON lines."""
    lines: list[bytes] = []
    size = 0
    for item in items:
        line = msgspec.json.encode(_Line(item.id, msgspec.Raw(item.payload)))
        if lines and (len(lines) == SHARD_ITEMS or size + len(line) > SHARD_BYTES):
            yield _shard(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line) + 1
    if lines:
        yield _shard(lines)


def _shard(lines: list[bytes]) -> tuple[ShardInfo, bytes]:
    data = pack(b"\n".join(lines) + b"\n")
    return ShardInfo(len(lines), hashlib.sha256(data).hexdigest()), data


def decode_shard(data: bytes) -> list[PlannedItem]:
    """The items of a shard whose hash was checked; raises PackingError."""
    return [PlannedItem(line.id, bytes(line.item)) for line in _line_decoder.decode_lines(unpack(data))]


def encode_shard_list(shards: Sequence[ShardInfo]) -> bytes:
    """What a plan consists of. Its hash is the identity of the plan."""
    return msgspec.json.encode(shards) + b"\n"


def decode_shard_list(data: bytes) -> tuple[ShardInfo, ...]:
    """Raises msgspec.DecodeError for what is none."""
    return _list_decoder.decode(data)


# ------------------------------------------------------------------------------------------------------------- texts


def some_of(problems: list[str]) -> str:
    """The first few problems, and how many more there are."""
    more = len(problems) - COMPLAINTS
    return "; ".join(problems[:COMPLAINTS]) + (f"; and {more:,} more" if more > 0 else "")


def _quote(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")


def _kind(value: Any) -> str:
    return {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }.get(type(value), "null" if value is None else type(value).__name__)
