"""`checkpoints`: looks at what is kept of the course of one job."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from mapreduce_operator.api import ItemState
from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.framework import command, output_option
from mapreduce_operator.cli.parameters import job_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import ITEM_CHARACTERS, one_line, pairs, table, told
from mapreduce_operator.cli.told import UID_OPTION, in_seconds, tell

_PROBLEM_CHARACTERS: Final = 1000
_NUMBER: Final = click.IntRange(min=0)


def _path(session: Session, job: str, what: str = "") -> str:
    return f"/v1/namespaces/{session.namespace}/mapreducejobs/{job}/checkpoints{what}"


@command("list")
@job_argument
@UID_OPTION
@output_option("table", "json", "yaml", "name")
async def list_checkpoints(session: Session, *, job: str, uid: str, output: str) -> None:
    """Lists the checkpoints that are kept, the oldest first."""
    found = await session.answer(_path(session, job), uid=uid)
    heads = ("SEQUENCE", "TIME", "REASON", "PHASE", "SUCCEEDED", "GIVEN UP", "LEFT", "BYTES", "SECONDS")
    tell(found, output, table(heads, [_row(one) for one in found]), name="sequence")


def _row(checkpoint: Body) -> list[str]:
    checkpoint, items = in_seconds(checkpoint, "time"), checkpoint["items"]
    succeeded = items.get(ItemState.SUCCEEDED, 0)
    given_up = items.get(ItemState.DEAD_LETTERED, 0) + items.get(ItemState.SKIPPED, 0)
    numbers = (succeeded, given_up, sum(items.values()) - succeeded - given_up, checkpoint["bytes"])
    return [
        f"{checkpoint['sequence']}",
        *(told(checkpoint[name]) for name in ("time", "reason", "phase")),
        *(f"{number:,}" for number in numbers),
        f"{checkpoint['seconds']:.3f}",
    ]


@command("show")
@job_argument
@click.argument("sequence", type=_NUMBER)
@UID_OPTION
@output_option("table", "json", "yaml")
async def show_checkpoint(session: Session, *, job: str, sequence: int, uid: str, output: str) -> None:
    """Shows all of one checkpoint.

    It is what the checkpoint says of the job, and which items are in which state.
    """
    found = await session.answer(_path(session, job, f"/{sequence}"), uid=uid)
    tell(found, output, _in_full(found))


def _in_full(found: Body) -> Iterator[str]:
    items: Mapping[str, Any] = found["items"]
    facts = in_seconds(found, "time", "started", "opened")
    yield from pairs({name: value for name, value in facts.items() if not isinstance(value, dict)})
    for name in ("snapshot", "lineage", "recovered"):
        if found[name] is not None:
            yield f"\n{name}:\n"
            yield from pairs(in_seconds(found[name], "time"), indent="  ")
    rows = [
        (state.value, f"{some['count']:,}", ", ".join(one_line(one, ITEM_CHARACTERS) for one in some["samples"]))
        for state in ItemState
        if (some := items.get(state))
    ]
    yield "\n"
    yield from table(("ITEMS", "COUNT", "SUCH AS"), rows)


@command("diff")
@job_argument
@click.argument("first", type=_NUMBER)
@click.argument("second", type=_NUMBER)
@UID_OPTION
@output_option("table", "json", "yaml", "name")
async def diff_checkpoints(session: Session, *, job: str, first: int, second: int, uid: str, output: str) -> None:
    """Lists the items whose state differs between two checkpoints."""
    found = await session.answer(_path(session, job, "/diff"), uid=uid, **{"from": f"{first}", "to": f"{second}"})
    heads = ("ID", f"AT {first}", f"AT {second}", "ATTEMPTS", "INTERRUPTIONS")
    tell(found, output, table(heads, [_changed(one) for one in found]))


def _changed(one: Body) -> list[str]:
    before, after = one["before"] or {}, one["after"] or {}
    numbers = [
        f"{before.get(name, 0)} -> {after.get(name, 0)}" if before.get(name, 0) != after.get(name, 0) else ""
        for name in ("attempts", "interruptions")
    ]
    return [one_line(one["id"], ITEM_CHARACTERS), before.get("state", "-"), after.get("state", "-"), *numbers]


@command("validate")
@job_argument
@click.argument("sequence", type=_NUMBER, required=False)
@UID_OPTION
@output_option("table", "json", "yaml")
async def validate_checkpoints(session: Session, *, job: str, sequence: int | None, uid: str, output: str) -> None:
    """Looks whether all that checkpoints need is there and whole."""
    number = "" if sequence is None else f"{sequence}"
    found = await session.answer(_path(session, job, "/validation"), sequence=number, uid=uid)
    tell(found, output, _validated(found))
    if wrong := sum(bool(one["problems"]) for one in found):
        raise CommandError(
            f"{wrong} of {len(found)} are not whole. When the operator loads the job, it goes on from what is left of "
            "the newest; restore and forkFrom need one that is whole"
        )


def _validated(found: list[Body]) -> Iterator[str]:
    yield from table(("CHECKPOINT", "PROBLEMS"), [(one["checkpoint"], f"{len(one['problems']):,}") for one in found])
    for one in found:
        if one["problems"]:
            yield f"\n{one['checkpoint']}:\n"
            yield from (f"  {one_line(problem, _PROBLEM_CHARACTERS)}\n" for problem in one["problems"])
