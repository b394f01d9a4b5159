"""`watch`: the progress of a job as it goes on: a picture that moves on a terminal, lines elsewhere."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import Phase
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.objects import ended_as, has_finished, no_job, phase_of, status_of, troubles
from mapreduce_operator.cli.parameters import Duration, job_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import ITEM_CHARACTERS, length, one_line, span

STATES: Final = ("pending", "running", "retryWait", "succeeded", "deadLettered", "skipped")
_ENDED: Final = ("succeeded", "deadLettered", "skipped")
_STYLES: Final = {"running": "cyan", "retryWait": "yellow", "succeeded": "green", "deadLettered": "red"}
_PHASES: Final[Mapping[str, str]] = {Phase.SUCCEEDED: "green", Phase.FAILED: "red", Phase.PARTIALLY_SUCCEEDED: "yellow"}
_FAILURES: Final = 5
_REFRESHES: Final = 4.0
"""A second, since times pass although nothing changes."""
_MESSAGE_CHARACTERS: Final = 200

Show = Callable[[Body], None]


@command("watch")
@job_argument
@click.option(
    "--timeout", "seconds", type=Duration(), help="Stop watching after this time, such as 90s or 2h; the job goes on."
)
async def watch(session: Session, *, job: str, seconds: float | None) -> None:
    """Shows the progress of a job until it ends. The exit code tells how it ended."""
    await follow(session, job, seconds)


async def follow(session: Session, job: str, seconds: float | None, *looks: Show) -> None:
    """Shows a job until it ends, to `looks` as well. Raises CommandError unless it succeeded wholly."""
    try:
        async with asyncio.timeout(seconds):
            with _screen() as show:
                body = await _shown(session, job, (show, *looks))
    except TimeoutError as error:
        raise CommandError(
            f"{job} has not ended within {length(seconds or 0)}; it goes on, and so does "
            f"{session.advised(f'watch {job}')}",
            ExitCode.TIMEOUT,
        ) from error
    if (ending := ended_as(session, body)) is not None:
        raise ending


async def _shown(session: Session, job: str, shows: Sequence[Show]) -> Body:
    was_there = False
    async for body in session.changes(MAPREDUCE_JOBS, job):
        if body is None:
            break
        was_there = True
        for show in shows:
            show(body)
        if has_finished(body):
            return body
    if was_there:
        raise CommandError(f"mapreducejob/{job} was deleted while it was watched", ExitCode.NOT_FOUND)
    raise no_job(session, job)


@contextmanager
def _screen() -> Iterator[Show]:
    if not sys.stdout.isatty():
        yield _lines()
        return
    seen: list[Body] = []
    # The last picture stays, with all that does not fit on the screen.
    with Live(
        get_renderable=lambda: picture(seen[-1], time.time()) if seen else "",
        console=Console(),
        refresh_per_second=_REFRESHES,
        vertical_overflow="visible",
    ):
        yield seen.append


# ------------------------------------------------------------------------------------------------------------ lines


def _lines() -> Show:
    said = ""

    def show(body: Body) -> None:
        nonlocal said
        line = told(body)
        if line != said:
            click.echo(f"{time.strftime('%H:%M:%SZ', time.gmtime())}  {line}")
            sys.stdout.flush()
        said = line

    return show


def told(body: Body) -> str:
    """The state of a job on one line."""
    status = status_of(body)
    items: dict[str, int] = status.get("items") or {}
    parts = [phase_of(body), status.get("progress", "")]
    parts += [f"{items[state]:,} {state}" for state in STATES if items.get(state)]
    parts += [_reduce(status), speed(status)]
    parts += [f"{one['reason']}: {one_line(one['message'], _MESSAGE_CHARACTERS)}" for one in troubles(body)]
    return "  ".join(part for part in parts if part)


def _reduce(status: Body) -> str:
    return f"reduce {status['reduce']['state']}" if "reduce" in status else ""


def speed(status: Body) -> str:
    """How fast a job is at the moment, and how long it takes; "" where nobody knows."""
    throughput: dict[str, Any] = status.get("throughput") or {}
    rate, left = throughput.get("itemsPerMinute"), throughput.get("remainingSeconds")
    parts = [f"{rate:,.4g} items/min"] if rate else []
    return ", ".join([*parts, f"about {span(left)} left"] if left is not None else parts)


# ---------------------------------------------------------------------------------------------------------- picture


def picture(body: Body, now: float) -> RenderableType:
    """The state of a job for a terminal. `now` is seconds since the epoch."""
    status = status_of(body)
    items: dict[str, int] = status.get("items") or {}
    parts: list[RenderableType] = [_headline(body, now)]
    if items.get("total"):
        parts += [_bar(items), _states(items)]
    if beside := "   ".join(part for part in (speed(status), _reduce(status)) if part):
        parts.append(Text(beside))
    if failures := status.get("failures", [])[:_FAILURES]:
        parts += [Text(), _failures(failures)]
    parts += [
        Text(f"{one['type']}: {one['reason']}: {one_line(one['message'], 1000)}", style="yellow")
        for one in troubles(body)
    ]
    return Group(*parts)


def _headline(body: Body, now: float) -> Text:
    status = status_of(body)
    phase = phase_of(body)
    line = Text.assemble((body["metadata"]["name"], "bold"), "   ", (phase, _PHASES.get(phase, "cyan")))
    if "startTime" in status:
        end = _seconds(status["completionTime"]) if "completionTime" in status else now
        line.append(f"   {span(end - _seconds(status['startTime']))}")
    if queue := status.get("deadLetters", {}).get("queue"):
        line.append(f"   dead letters in {queue}", style="red")
    return line


def _bar(items: dict[str, int]) -> RenderableType:
    ended = sum(items.get(state, 0) for state in _ENDED)
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        ProgressBar(total=items["total"], completed=ended, width=50),
        f"{ended / items['total']:4.0%}",
        f"{ended:,} of {items['total']:,}",
    )
    return grid


def _states(items: dict[str, int]) -> Text:
    line = Text()
    for state in STATES:
        line.append(f"{items.get(state, 0):,} {state}   ", style=_STYLES.get(state, "") if items.get(state) else "dim")
    return line


def _failures(failures: list[Body]) -> Table:
    table = Table("COUNT", "REASON", "SUCH AS", "MESSAGE", box=None, pad_edge=False, header_style="dim")
    for one in failures:
        table.add_row(
            f"{one['count']:,}",
            one["reason"],
            Text(one_line(one["sampleItemId"], ITEM_CHARACTERS)),
            Text(one_line(one.get("message") or one.get("signature", ""), _MESSAGE_CHARACTERS), overflow="ellipsis"),
        )
    return table


def _seconds(time_: str) -> float:
    return datetime.fromisoformat(time_).timestamp()
