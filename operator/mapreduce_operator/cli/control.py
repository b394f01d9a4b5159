"""Commands that change how a job goes on: thin patches of its spec, which may be given twice."""

import secrets
import time
from collections.abc import Callable
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import RestartPhase
from mapreduce_operator.cli.errors import CommandError
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.objects import (
    check_reduces,
    condition,
    has_finished,
    holds,
    is_current,
    is_suspended,
    job_named,
    status_of,
)
from mapreduce_operator.cli.parameters import job_argument, wait_options
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.core.names import ANNOTATION_CHECKPOINT
from mapreduce_operator.ports import StorageErrorReason

_PASSING: Final = frozenset(
    {"Waiting", "AgentsRunning", "Reducing", "Stopping", "Turning", "ClusterUnavailable", *StorageErrorReason}
)
"""Reasons why a restore or a restart is not done yet, and may be without anybody's doing."""


async def _change(session: Session, job: str, spec: Body) -> Body:
    """Patches the spec of a job."""
    return await session.patch(MAPREDUCE_JOBS, job, {"spec": spec})


async def _until(session: Session, job: str, reached: Callable[[Body], bool], what: str, seconds: float) -> Body:
    return await session.until(MAPREDUCE_JOBS, job, reached, what=what, seconds=seconds)


def _say(job: str, what: str) -> None:
    click.echo(f"mapreducejob/{job} {what}")


class _PhaseName(click.Choice[str]):
    """Map as well as map."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert(str(value).capitalize(), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, param, incomplete.capitalize())


def token() -> str:
    """A text that was never used before; in the order of time, for people."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


@command("suspend")
@job_argument
@click.option(
    "--interrupt", is_flag=True, help="Stop agents that run; they run again later. Else they come to their end."
)
@wait_options("Wait until no agent runs any more.")
async def suspend(session: Session, *, job: str, interrupt: bool, wait: bool, seconds: float) -> None:
    """Starts no more agents, until the job is resumed. Nothing is lost."""
    if has_finished(before := await job_named(session, job)):
        _say(job, f"has ended: {status_of(before)['phase']}")
        return
    await _change(session, job, {"suspend": True} | ({"suspendPolicy": "Interrupt"} if interrupt else {}))
    if not wait:
        _say(job, "will be suspended")
        return
    body = await _until(session, job, lambda now: is_suspended(now) or has_finished(now), "to stand still", seconds)
    _say(job, f"has ended: {status_of(body)['phase']}" if has_finished(body) else "is suspended")


@command("resume")
@job_argument
@wait_options("Wait until the operator has taken it up.")
async def resume(session: Session, *, job: str, wait: bool, seconds: float) -> None:
    """Lets a suspended job go on. One that has ended is taken up by `restart --phase Map`."""
    body = await job_named(session, job)
    if not has_finished(body):
        body = await _change(session, job, {"suspend": False})
        if wait:
            body = await _until(
                session, job, lambda now: is_current(now) and not holds(now, "Suspended"), "to go on", seconds
            )
    if not has_finished(body):
        _say(job, "goes on")
        return
    advice = session.advised(f"restart {job} --phase Map")
    _say(job, f"has ended: {status_of(body)['phase']}; {advice} runs what was given up again")


@command("cancel")
@job_argument
@wait_options("Wait until the job has ended and no agent runs any more.")
async def cancel(session: Session, *, job: str, wait: bool, seconds: float) -> None:
    """Ends a job at once, as Failed with the reason Cancelled.

    Agents are stopped; results and dead letters stay. `restart --phase Map` takes it up where it was.
    """
    if has_finished(before := await job_named(session, job)):
        _say(job, f"has ended: {status_of(before)['phase']}")
        return
    await _change(session, job, {"cancel": True})
    if not wait:
        _say(job, "will be cancelled")
        return
    body = await _until(
        session, job, lambda now: has_finished(now) and not status_of(now).get("active"), "to end", seconds
    )
    cancelled = condition(body, "Finished")["reason"] == "Cancelled"
    _say(job, "is cancelled" if cancelled else f"had ended before: {status_of(body)['phase']}")


@command("restart")
@job_argument
@click.option(
    "--phase",
    type=_PhaseName([phase.value for phase in RestartPhase]),
    default=RestartPhase.MAP.value,
    show_default=True,
    help="Plan: read the input again. Map: run what was given up. Reduce: reduce the results again.",
)
@click.option("--token", "asked", default="", help="A text; the same one twice restarts once. A new one without it.")
@wait_options("Wait until the phase has begun.")
async def restart(session: Session, *, job: str, phase: str, asked: str, wait: bool, seconds: float) -> None:
    """Runs a phase of a job again, and those after it. No success is dropped."""
    if phase == RestartPhase.REDUCE:
        check_reduces(await job_named(session, job))
    wanted = asked or token()
    body = await _change(session, job, {"cancel": False, "restart": {"phase": phase, "token": wanted}})
    hint = f"; it is suspended until {session.advised(f'resume {job}')}" if body["spec"].get("suspend") else ""
    if not wait:
        _say(job, f"will begin its phase {phase} again{hint}")
        return

    def answered(now: Body) -> bool:
        return bool(status_of(now).get("restart", {}).get("token") == wanted) or _is_hopeless(now, "Restarted")

    body = await _until(session, job, answered, f"to begin its phase {phase} again", seconds)
    _check(session, body, "Restarted")
    _say(job, f"began its phase {phase} again{hint}")


@command("restore")
@job_argument
@click.argument("checkpoint", type=click.IntRange(min=0))
@click.option("--again", is_flag=True, help="Also if the last thing restored was this checkpoint.")
@wait_options("Wait until the job is back there.")
async def restore(session: Session, *, job: str, checkpoint: int, again: bool, wait: bool, seconds: float) -> None:
    """Takes a job back to a checkpoint, and suspends it there.

    What ended after the checkpoint is run again once `resume` lets the job go on. Nothing is thrown away: a later
    checkpoint can be restored in the same way.
    """
    kept = status_of(await job_named(session, job)).get("checkpoint", {}).get("kept", "")
    if not _is_kept(checkpoint, kept):
        raise CommandError(f"{job} keeps no checkpoint {checkpoint}, and nothing was changed: it keeps {kept}")
    wanted = token() if again else ""
    await _change(session, job, {"suspend": True, "restore": {"checkpoint": checkpoint, "token": wanted or None}})
    if not wait:
        _say(job, f"will go back to checkpoint {checkpoint}, and is suspended")
        return

    def answered(now: Body) -> bool:
        done = status_of(now).get("restore", {})
        there = (done.get("checkpoint"), done.get("token", "")) == (checkpoint, wanted)
        return (is_current(now) and there) or _is_hopeless(now, "Restored")

    _check(session, await _until(session, job, answered, f"to go back to checkpoint {checkpoint}", seconds), "Restored")
    _say(job, f"is at checkpoint {checkpoint}, and suspended: {session.advised(f'resume {job}')} lets it go on")


def _is_kept(checkpoint: int, kept: str) -> bool:
    """Whether a checkpoint may be among those of status.checkpoint.kept, such as "1,40,62-71"."""
    # An operator before the field tells none, and where there are too many, the oldest are cut off.
    if not kept or kept.startswith("…"):
        return True
    spans = (interval.partition("-") for interval in kept.split(","))
    return any(int(first) <= checkpoint <= int(last or first) for first, _, last in spans)


def _is_hopeless(body: Body, kind: str) -> bool:
    """Whether what was asked for cannot be done as things are, however long one waits."""
    found = condition(body, kind)
    return is_current(body) and found["status"] == "False" and found["reason"] not in _PASSING


def _check(session: Session, body: Body, kind: str) -> None:
    if _is_hopeless(body, kind):
        found = condition(body, kind)
        name = body["metadata"]["name"]
        advice = f"; {session.advised(f'checkpoints list {name}')} shows what there is" if kind == "Restored" else ""
        raise CommandError(f"{name}: {found['reason']}: {found['message']}{advice}")


@command("checkpoint")
@job_argument
@click.option("--token", "asked", default="", help="A text that the status will show. A new one without it.")
@wait_options("Wait until it is in storage.")
async def checkpoint(session: Session, *, job: str, asked: str, wait: bool, seconds: float) -> None:
    """Asks for a checkpoint now."""
    body = await job_named(session, job)
    last = status_of(body).get("checkpoint", {}).get("sequence")
    if has_finished(body):
        raise CommandError(
            f"{job} has ended, and all of it is safe in checkpoint {last}: nothing happens to it any more"
        )
    if not body["spec"].get("checkpoint", {}).get("enabled", True):
        raise CommandError(
            f"{job} makes no checkpoints: spec.checkpoint.enabled is false. Set it to true, and ask again"
        )
    wanted = asked or token()
    await session.patch(MAPREDUCE_JOBS, job, {"metadata": {"annotations": {ANNOTATION_CHECKPOINT: wanted}}})
    if not wait:
        _say(job, f"will write a checkpoint with the token {wanted}")
        return

    def written(now: Body) -> bool:
        return bool(status_of(now).get("checkpoint", {}).get("token") == wanted)

    found = await _until(
        session, job, lambda now: written(now) or has_finished(now), "to write its checkpoint", seconds
    )
    if not written(found):
        raise CommandError(f"{job} ended before it wrote that checkpoint; its end is one")
    _say(job, f"wrote checkpoint {status_of(found)['checkpoint']['sequence']} with the token {wanted}")
