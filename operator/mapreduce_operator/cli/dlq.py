"""`dlq`: looks into one dead letter queue."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import click
import msgspec

from mapreduce_operator.api import LetterState
from mapreduce_operator.cli.framework import command, output_option
from mapreduce_operator.cli.parameters import queue_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.stories import block, story
from mapreduce_operator.cli.text import ITEM_CHARACTERS, one_line, pairs, table, told
from mapreduce_operator.cli.told import in_seconds, tell, tell_lines, tell_rows
from mapreduce_operator.core.letter_export import csv_rows, letter_in
from mapreduce_operator.core.letter_queries import FIELDS
from mapreduce_operator.core.texts import counted

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_MESSAGE_CHARACTERS: Final = 80
_COLUMNS: Final = (
    "id",
    "state",
    "cause",
    "reason",
    "exitCode",
    "signature",
    "attempts",
    "node",
    "lastAttempt",
    "message",
)
_HEADS: Final = tuple(re.sub("([A-Z])", r" \1", column).upper() for column in _COLUMNS)


def _choice(function: FunctionT) -> FunctionT:
    """--state and --filter, as the arguments `state` and `cel`."""
    states = click.Choice([state.value for state in LetterState])
    state = click.option("--state", type=states, help="Only letters in this state.")
    return state(click.option("--filter", "cel", default="", help="CEL: letters for which this is true.")(function))


def _path(session: Session, queue: str, what: str) -> str:
    return f"/v1/namespaces/{session.namespace}/deadletterqueues/{queue}/{what}"


@command("list")
@queue_argument
@_choice
@output_option("table", "json", "yaml", "name", "jsonl")
async def list_letters(session: Session, *, queue: str, state: str | None, cel: str, output: str) -> None:
    """Lists letters in short, the newest first.

    The expression is over `letter` (the fields that -o json shows), `item` (the item itself) and `now`:
    letter.exitCode == 1 && item.size > 5
    """
    lines = session.lines(_path(session, queue, "letters"), state=state or "", filter=cel)
    await tell_rows(lines, output, _HEADS, _row, newest_by="lastAttempt")


def _row(letter: Body) -> list[str]:
    letter = in_seconds(letter, "lastAttempt")
    middle = (told(letter[column]) for column in _COLUMNS[1:-1])
    return [one_line(letter["id"], ITEM_CHARACTERS), *middle, one_line(letter["message"], _MESSAGE_CHARACTERS)]


@command("show")
@queue_argument
@click.argument("item_id", metavar="ID")
@output_option("table", "json", "yaml")
async def show_letter(session: Session, *, queue: str, item_id: str, output: str) -> None:
    """Shows the letter of one item, with its whole history."""
    found = await session.answer(_path(session, queue, "letter"), id=item_id)
    tell(found, output, _in_full(found))


def _in_full(found: Body) -> Iterator[str]:
    letter, state = letter_in(msgspec.json.encode(found))
    told_of = {name: get(letter, state) for name, get in FIELDS.items()}
    yield from pairs(told_of | {"redrives": tuple(letter.redrives.values())})
    yield from block("item", bytes(letter.payload).decode())
    for attempt in found.get("history", ()):
        yield from story(attempt)
    if letter.omitted:
        yield f"\nleft out between the first and the others: {letter.omitted:,}\n"


@command("analyze")
@queue_argument
@_choice
@output_option("table", "json", "yaml")
async def analyze(session: Session, *, queue: str, state: str | None, cel: str, output: str) -> None:
    """Tells what letters have in common.

    These are failures that are the same, reasons, causes, nodes and hours.
    """
    found = await session.answer(_path(session, queue, "analysis"), state=state or "", filter=cel)
    tell(found, output, _analysis(found))


def _analysis(found: Mapping[str, Any]) -> Iterator[str]:
    by_state = ", ".join(f"{count:,} {state}" for state, count in found["states"].items())
    yield f"{counted(found['letters'], 'letter')}{f': {by_state}' if by_state else ''}\n"
    if not found["letters"]:
        return
    heads = ("COUNT", "REASON", "SIGNATURE", "FIRST", "LAST", "SUCH AS", "TEXT")
    groups = [
        (
            f"{group['count']:,}",
            *(told(group[name]) for name in ("reason", "signatureId", "firstTime", "lastTime")),
            one_line(group["samples"][0], ITEM_CHARACTERS),
            one_line(group["signature"], _MESSAGE_CHARACTERS),
        )
        for group in (in_seconds(one, "firstTime", "lastTime") for one in found["groups"])
    ]
    yield "\n"
    yield from table(heads, groups)
    if found["others"]:
        yield f"in further groups: {counted(found['others'], 'letter')}\n"
    for head, name in (
        ("REASON", "reasons"),
        ("CAUSE", "causes"),
        ("NODE", "nodes"),
        ("GIVEN UP IN THE HOUR", "hours"),
    ):
        if found[name]:
            yield "\n"
            yield from table((head, "COUNT"), [(one, f"{count:,}") for one, count in found[name].items()])


@command("export")
@queue_argument
@_choice
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), required=True)
async def export_letters(session: Session, *, queue: str, state: str | None, cel: str, form: str) -> None:
    """Prints whole letters for other programs, one after another.

    jsonl has all of each letter on a line. csv has a row for each, and is safe against formulas.
    """
    lines = session.lines(_path(session, queue, "bodies"), state=state or "", filter=cel)
    if form == "jsonl":
        await tell_lines(lines)
        return
    click.echo(next(csv_rows(())), nl=False)
    async for letter in lines:
        _, row = csv_rows([letter_in(msgspec.json.encode(letter))])
        click.echo(row, nl=False)
