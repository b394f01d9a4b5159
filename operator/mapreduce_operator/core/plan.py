"""From input to plan: the ordered items of a run, each with an id that does not depend on its position.

Bad input is refused as a whole and early, and every complaint names the position of the item; nothing is dropped
silently. A plan is durable before the first Job exists, in shards that are read back one at a time.
"""

import hashlib
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from mapreduce_operator.api import Input, OnDuplicate
from mapreduce_operator.core.expressions import Expression, ExpressionError
from mapreduce_operator.core.item_expressions import EXPRESSION_SECONDS, ItemFilter, ItemOrder, Rank, item_expression
from mapreduce_operator.core.names import Stage, item_key
from mapreduce_operator.core.packing import pack, unpack
from mapreduce_operator.core.texts import kind_of

ID_BYTES: Final = 4096
"""Ids go into annotations and into each line of the journal."""
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""A terminal obeys the second half of them as it does the first."""
READ_ITEMS: Final = 1_000_000
"""So many may be read to choose from: what the filter leaves out takes time, and no memory."""
KEPT_ITEMS: Final = 200_000
"""So many may pass the filter. They are in memory at once, some 500 bytes each beside what they hold."""
TURN_ITEMS: Final = 100
TURN_SECONDS: Final = 0.05
"""Others have their turn after so many items, or when expressions took so long, whichever comes first."""
SHARD_ITEMS: Final = 1000
SHARD_BYTES: Final = 1 << 20
"""A shard ends at whichever comes first; a run keeps a few shards in memory, not the whole plan."""
COMPLAINTS: Final = 5
"""How many problems a refusal spells out; the rest is counted."""

_encoder: Final = msgspec.json.Encoder(order="deterministic")

P = TypeVar("P")
T = TypeVar("T")


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
    """The outcome of planning. What was read is what was left out by each of the steps, and what is left."""

    items: list[PlannedItem]
    duplicates: int
    """Items left out because their id came before (onDuplicate: KeepFirst)."""
    filtered_out: int = 0
    """Items left out by the filter."""
    out_of_range: int = 0
    """Items left out by offset and limit."""
    input_sha256: str = ""
    """Of the bytes that the items were read from; "" where they stand in the spec."""

    @property
    def read(self) -> int:
        """How many items the input had."""
        return len(self.items) + self.duplicates + self.filtered_out + self.out_of_range


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return _encoder.encode(value)


def content_id(payload: bytes) -> str:
    """The id of an item without idExpression: a hash of what is in it, so that order and position do not matter."""
    return hashlib.sha256(payload).hexdigest()[:16]


class InputExpressions:
    """All that an input asks of its items, compiled."""

    def __init__(self, source: Input) -> None:
        """Raises InputError for an expression that is wrong."""
        self.filter: Final = (
            None if source.filter is None else _compiled("InvalidFilter", "filter: ", ItemFilter, source.filter)
        )
        self.order: Final = _compiled("InvalidOrderBy", "orderBy", ItemOrder, source.order_by)
        self.id: Final = id_expression_of(source.id_expression)
        self._all: Final = [
            *([self.filter.expression] if self.filter is not None else ()),
            *self.order.expressions,
            *([self.id] if self.id is not None else ()),
        ]

    @property
    def spent(self) -> float:
        """What all evaluations took so far, in seconds of the processor."""
        return sum((expression.spent for expression in self._all), start=0.0)


def plan_items(values: Iterable[Any], source: Input, limits: Limits) -> Planned:
    """The items of an input: read, filtered, put in order, given their ids, without duplicates, offset, limited.

    Raises InputError that lists what is wrong and where.
    """
    steps = planning(values, source, limits)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            planned: Planned = end.value
            return planned


def planning(values: Iterable[Any], source: Input, limits: Limits) -> Generator[None, None, Planned]:
    """The same in steps, between which others may have their turn."""
    asked = InputExpressions(source)
    found: list[tuple[tuple[Rank, ...], tuple[int, PlannedItem]]] = []
    problems, read, filtered_out, paused_at = Problems(), 0, 0, 0.0
    for position, value in enumerate(values):
        read += 1
        spent = asked.spent
        _check_effort(read, len(found), spent)
        if position % TURN_ITEMS == TURN_ITEMS - 1 or spent > paused_at + TURN_SECONDS:
            yield
            paused_at = spent
        try:
            if asked.filter is not None and not asked.filter.keeps(value):
                filtered_out += 1
            else:
                item = plan_item(value, asked.id, limits)
                found.append((asked.order.ranks(value), (position, item)))
        except (InputError, ExpressionError) as error:
            problems.add(f"item {position}: {error}")
    if problems:
        raise InputError("InvalidItems", f"{problems.count:,} of {read:,} items cannot be planned: {problems}")
    yield
    asked.order.sort(found)
    items, duplicates = _without_duplicates([one for _, one in found], source.on_duplicate)
    yield
    selected = items[source.offset :] if source.limit is None else items[source.offset : source.offset + source.limit]
    _check_number(len(selected), read, source.max_items, limits)
    return Planned(selected, duplicates, filtered_out, out_of_range=len(items) - len(selected))


def _check_effort(read: int, kept: int, spent: float) -> None:
    if read > READ_ITEMS:
        raise InputError("InputTooLarge", f"the input has more than {READ_ITEMS:,} items. Split it")
    if kept > KEPT_ITEMS:
        raise InputError(
            "InputTooLarge",
            f"the input has more than {KEPT_ITEMS:,} items that its filter, if any, leaves to choose from by offset "
            "and limit. Filter more of them out, or split it",
        )
    if spent > EXPRESSION_SECONDS:
        raise InputError(
            "InputTooSlow",
            f"the expressions of spec.input took more than {EXPRESSION_SECONDS:g} s for the first {read:,} items. Ask "
            "for less, or of fewer items",
        )


def _without_duplicates(
    found: Sequence[tuple[int, PlannedItem]], on_duplicate: OnDuplicate
) -> tuple[list[PlannedItem], int]:
    """The items whose id did not come before, and how many others there are."""
    items: list[PlannedItem] = []
    first_at: dict[str, int] = {}
    repeated = Problems()
    for position, item in found:
        if item.id in first_at:
            repeated.add(f"item {position} has the id of item {first_at[item.id]}, {_quote(item.id)}")
            continue
        first_at[item.id] = position
        items.append(item)
    if repeated and on_duplicate is OnDuplicate.FAIL:
        raise InputError(
            "DuplicateItems",
            f"{repeated}. Make the ids different with idExpression, or set onDuplicate: KeepFirst",
        )
    return items, repeated.count


def _check_number(selected: int, read: int, max_items: int | None, limits: Limits) -> None:
    allowed = min(limits.items, max_items or limits.items)
    if selected > allowed:
        whose = (
            "spec.input.maxItems" if max_items is not None and max_items <= limits.items else "this operator's limit"
        )
        left = "" if selected == read else f", of {read:,} that were read"
        raise InputError(
            "InputTooLarge",
            f"the input has {selected:,} items{left}; {whose} is {allowed:,}. Split the input or raise the limit",
        )


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
        raise InputError("InvalidItems", f"idExpression gave {kind_of(name)}; an id is a string or an integer")
    name = str(name)
    if not name or len(name.encode()) > ID_BYTES or _CONTROLS.search(name):
        raise InputError(
            "InvalidItems",
            f"idExpression gave {_quote(name)}; an id has 1 to {ID_BYTES:,} bytes and no control characters",
        )
    return PlannedItem(name, payload)


def id_expression_of(text: str | None) -> Expression | None:
    """The expression that gives items their ids, or None for ids by content; raises InputError."""
    return None if text is None else _compiled("InvalidIdExpression", "idExpression: ", item_expression, text)


def _compiled(reason: str, field: str, make: Callable[[P], T], given: P) -> T:
    try:
        return make(given)
    except ExpressionError as error:
        raise InputError(reason, f"spec.input.{field}{error}") from error


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


class Problems:
    """The first few of many problems, and how many there are."""

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self._first: Final[list[str]] = []
        self.count = 0
        for problem in problems:
            self.add(problem)

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self._first) < COMPLAINTS:
            self._first.append(problem)

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = self.count - len(self._first)
        return "; ".join(self._first) + (f"; and {more:,} more" if more else "")


def _quote(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:79] + "…")
