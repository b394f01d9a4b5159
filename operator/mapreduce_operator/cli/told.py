"""What the read-only API tells, in the form that is asked for."""

import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import click

from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.session import Body
from mapreduce_operator.cli.text import as_json, as_yaml, escaped, printable, table

UID_OPTION: Final = click.option("--uid", default="", help="Uid of a job that was deleted and whose storage was kept.")


def in_seconds(facts: Mapping[str, Any], *times: str) -> Body:
    """The same facts, in which these points in time are told as people want them."""
    return dict(facts) | {name: datetime.fromisoformat(facts[name]) for name in times if facts.get(name)}


def tell(value: Any, output: str, for_people: Iterable[str], *, name: str = "id") -> None:
    """Prints a value as json or yaml, as names (that field of each row), or the lines for people."""
    match output:
        case "json":
            click.echo(as_json(value), nl=False)
        case "yaml":
            click.echo(as_yaml(value), nl=False)
        case "name":
            shown = printable if sys.stdout.isatty() else str
            click.echo("".join(f"{shown(row[name])}\n" for row in value), nl=False)
        case _:
            click.echo("".join(for_people), nl=False)


async def tell_lines(lines: AsyncIterator[Body]) -> None:
    """Prints rows as they come, as JSON lines."""
    async for row in lines:
        click.echo(escaped(json.dumps(row, ensure_ascii=False, separators=(",", ":"))))


async def tell_rows(
    lines: AsyncIterator[Body],
    output: str,
    heads: Sequence[str],
    cells: Callable[[Body], Sequence[str]],
    newest_by: str = "",
) -> None:
    """Prints rows in any form. With `newest_by`, a field with a time, those with the latest come first.

    Raises CommandError, after what could be told, when some could not.
    """
    if output == "jsonl":
        await tell_lines(lines)
        return
    rows: list[Body] = []
    trouble: CommandError | None = None
    try:
        async for row in lines:
            rows += [row]
    except CommandError as error:
        if not rows:
            raise
        trouble = error
    if newest_by:
        rows.sort(key=lambda row: str(row[newest_by]), reverse=True)
    tell(rows, output, table(heads, [cells(row) for row in rows]))
    if trouble is not None:
        raise trouble
