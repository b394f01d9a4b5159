"""`items list`, `items show` and `results`: the items of a job, and what they came to."""

import json
from collections.abc import Iterator
from typing import Any, Final

import click

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import ItemState
from mapreduce_operator.cli.framework import command, output_option
from mapreduce_operator.cli.objects import check_reduces
from mapreduce_operator.cli.parameters import job_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.stories import block, story
from mapreduce_operator.cli.text import ITEM_CHARACTERS, one_line, pairs, told
from mapreduce_operator.cli.told import UID_OPTION, in_seconds, tell, tell_rows

_MESSAGE_CHARACTERS: Final = 80
_RESULT_CHARACTERS: Final = 120
_HEADS: Final = ("ID", "STATE", "REASON", "ATTEMPTS", "INTERRUPTIONS", "LAST ATTEMPT", "MESSAGE")
_WIDE: Final = (*_HEADS[:-1], "POSITION", "CAUSE", "EXIT CODE", "NODE", "SECONDS", "NEXT ATTEMPT", "MESSAGE")


@command("list")
@job_argument
@click.option("--state", type=click.Choice([state.value for state in ItemState]), help="Only in this state.")
@click.option("--filter", "cel", default="", help="CEL: the items for which this expression is true.")
@click.option("--limit", type=click.IntRange(min=1), help="At most this many, the first ones.")
@UID_OPTION
@output_option("table", "wide", "json", "yaml", "name", "jsonl")
async def list_items(
    session: Session, *, job: str, state: str | None, cel: str, limit: int | None, uid: str, output: str
) -> None:
    """Lists items in the order of the plan, with where each stands.

    The expression is over `status` (the fields that -o json shows), `item` (the item itself) and `now`:
    status.state == "RetryWait" && item.size > 5
    """
    path = f"/v1/namespaces/{session.namespace}/mapreducejobs/{job}/items"
    lines = session.lines(path, state=state or "", filter=cel, limit=f"{limit or ''}", uid=uid)
    if output == "wide":
        await tell_rows(lines, output, _WIDE, _wide)
    else:
        await tell_rows(lines, output, _HEADS, _row)


def _row(item: Body) -> list[str]:
    item = in_seconds(item, "lastAttempt")
    return [
        one_line(item["id"], ITEM_CHARACTERS),
        *(told(item[field]) for field in ("state", "reason", "attempts", "interruptions", "lastAttempt")),
        one_line(item["message"], _MESSAGE_CHARACTERS),
    ]


def _wide(item: Body) -> list[str]:
    more = ("position", "cause", "exitCode", "node", "seconds", "nextAttempt")
    row, item = _row(item), in_seconds(item, "nextAttempt")
    return [*row[:-1], *(told(item[field]) for field in more), row[-1]]


@command("show")
@job_argument
@click.argument("item_id", metavar="ID")
@UID_OPTION
@output_option("table", "json", "yaml")
async def show_item(session: Session, *, job: str, item_id: str, uid: str, output: str) -> None:
    """Shows all of one item: payload, state, result, and dispatches."""
    path = f"/v1/namespaces/{session.namespace}/mapreducejobs/{job}/item"
    item = await session.answer(path, id=item_id, uid=uid)
    tell(item, output, _in_full(item))


def _in_full(item: Body) -> Iterator[str]:
    elsewhere = {"key", "redrive", "dispatch", "payload", "result", "history", "letter"}
    facts = in_seconds(item, "lastAttempt", "nextAttempt")
    yield from pairs({name: value for name, value in facts.items() if name not in elsewhere})
    if letter := item["letter"]:
        yield from pairs({"letter": f"{letter['state']} ({letter['cause']})"})
    yield from block("item", _compact(item["payload"]))
    if item["result"] is not None:
        yield from block("result", _compact(item["result"]))
    for attempt in item["history"]:
        yield from story(attempt)


@command("results")
@job_argument
@click.option("--reduce", is_flag=True, help="The result of the reduce.")
@UID_OPTION
@output_option("table", "json", "yaml", "jsonl")
async def results(session: Session, *, job: str, reduce: bool, uid: str, output: str) -> None:
    """Prints the results of items, or that of the reduce.

    Those of the items that have succeeded come in the order of the plan.
    """
    path = f"/v1/namespaces/{session.namespace}/mapreducejobs/{job}/results"
    if not reduce:
        await tell_rows(session.lines(path, uid=uid), output, ("ID", "RESULT"), _result)
        return
    if not uid and (body := await session.find(MAPREDUCE_JOBS, job)) is not None:
        check_reduces(body)
    found = await session.answer(f"{path}/reduce", uid=uid)
    if output == "jsonl":
        click.echo(_compact(found["result"]))
    else:
        tell(found["result"], output, pairs(found | {"result": _compact(found["result"])}))


def _result(row: Body) -> list[str]:
    return [one_line(row["id"], ITEM_CHARACTERS), one_line(_compact(row["result"]), _RESULT_CHARACTERS)]


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
