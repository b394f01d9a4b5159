"""Commands about items that were given up or are not wanted: `redrive`, `items retry`, `items skip`, `dlq purge`."""

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from mapreduce_operator.adapters.kube.resources import DEAD_LETTER_QUEUES, MAPREDUCE_JOBS, REDRIVES
from mapreduce_operator.adapters.kube.session import JSON_PATCH
from mapreduce_operator.api import API_VERSION, REDRIVE_KIND, DelayStrategy, ItemState
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.objects import about, condition, holds, job_named, queue_of, shown, status_of
from mapreduce_operator.cli.parameters import (
    Duration,
    JsonValue,
    dry_run_option,
    job_argument,
    queue_argument,
    result_option,
    wait_options,
)
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import ITEM_CHARACTERS, length, one_line
from mapreduce_operator.core.texts import counted
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

_MESSAGE_CHARACTERS = 200
_ASKED_TOGETHER: Final = 16
"""Ids in one question to the read-only API; it stands in a URL."""
_FILTER = click.option("--filter", "cel", default="", help="CEL: the letters for which this expression is true.")
_FORCE = click.option("--force", is_flag=True, help="Also letters that are archived or not eligible.")
_WAIT = wait_options("Wait for the end; with exit code 3 if none of the items succeeded, 4 if only some did.")


@command("redrive")
@queue_argument
@click.option("--id", "ids", multiple=True, metavar="ID", help="The letter of this item; may be given several times.")
@_FILTER
@click.option("--all", "everything", is_flag=True, help="All letters that are open and eligible.")
@_FORCE
@click.option("--attempts", type=click.IntRange(1, 100), help="How many more attempts each item is granted.")
@click.option("--parallelism", type=click.IntRange(1, 10_000), help="How many of the items may run at the same time.")
@click.option("--delay", type=Duration(), help="How long the items wait before they are run, such as 10m.")
@click.option("--patch", type=JsonValue(kind=dict), help="JSON or @FILE: a merge patch over each item.")
@click.option("--template-patch", type=JsonValue(kind=dict), help="JSON or @FILE: a merge patch over the pod template.")
@click.option("--rerun-reduce", is_flag=True, help="Reduce again at the end.")
@click.option("--name", default="", help="Name of the Redrive; made up without it.")
@dry_run_option
@result_option
@_WAIT
async def redrive(
    session: Session,
    *,
    queue: str,
    ids: Sequence[str],
    cel: str,
    everything: bool,
    force: bool,
    attempts: int | None,
    parallelism: int | None,
    delay: float | None,
    patch: Body | None,
    template_patch: Body | None,
    rerun_reduce: bool,
    name: str,
    dry_run: bool,
    output: str | None,
    wait: bool,
    seconds: float,
) -> None:
    """Gives dead letters of a queue another run, by a Redrive. Say which: --id, --filter or --all."""
    if await session.find(DEAD_LETTER_QUEUES, queue) is None:
        raise _no_queue(session, queue)
    given = {
        "force": force or None,
        "attempts": attempts,
        "parallelism": parallelism,
        "delay": None if delay is None else {"strategy": DelayStrategy.FIXED.value, "seconds": round(delay)},
        "payloadPatch": patch,
        "templatePatch": template_patch,
        "rerunReduce": rerun_reduce or None,
    }
    spec: Body = {"queue": queue, "selection": _selection(ids, cel, everything=everything)}
    spec |= {field: value for field, value in given.items() if value is not None}
    await _submit(session, spec, name, output, dry_run=dry_run, seconds=seconds if wait else None)


@command("retry")
@job_argument
@click.argument("ids", nargs=-1, metavar="[ID]...")
@_FILTER
@_FORCE
@dry_run_option
@result_option
@_WAIT
async def retry_items(
    session: Session,
    *,
    job: str,
    ids: Sequence[str],
    cel: str,
    force: bool,
    dry_run: bool,
    output: str | None,
    wait: bool,
    seconds: float,
) -> None:
    """Gives items that are dead letters another run, by a Redrive. `redrive` has more options."""
    queue = queue_of(session, await job_named(session, job))
    spec: Body = {"queue": queue, "selection": _selection(ids, cel)}
    if force:
        spec["force"] = True
    await _submit(session, spec, "", output, dry_run=dry_run, seconds=seconds if wait else None)


@command("skip")
@job_argument
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
async def skip_items(session: Session, *, job: str, ids: Sequence[str]) -> None:
    """Leaves items out that have not ended, and stops their agents.

    They are named in spec.map.skip of the job.
    """
    body = await job_named(session, job)
    if "map" not in body["spec"]:
        raise CommandError(f"{job} is a fork that has no map yet: try again when the operator has taken it up")
    after = list(dict.fromkeys([*(body["spec"]["map"].get("skip") or ()), *ids]))
    generation = body["metadata"]["generation"]
    patch = [
        # Two people who leave items out at the same time must not undo what the other one did.
        {"op": "test", "path": "/metadata/generation", "value": generation},
        {"op": "add", "path": "/spec/map/skip", "value": after},
    ]
    try:
        await session.patch(MAPREDUCE_JOBS, job, patch, content_type=JSON_PATCH)
    except ClusterError as error:
        # The API server does not say that it was the test.
        if error.reason is not ClusterErrorReason.INVALID or await _generation(session, job) == generation:
            raise
        raise CommandError(
            f"somebody else changed {about(body)} just now, and nothing was skipped: try again"
        ) from error
    click.echo(f"spec.map.skip of {about(body)} names {counted(len(after), 'item')}")
    await _warn_of_idle_skips(session, job, ids)


async def _generation(session: Session, job: str) -> int:
    generation: int = (await job_named(session, job))["metadata"]["generation"]
    return generation


async def _warn_of_idle_skips(session: Session, job: str, ids: Sequence[str]) -> None:
    """Tells of ids that leave nothing out, as far as somebody can say: the skip itself is done."""
    path, states = f"/v1/namespaces/{session.namespace}/mapreducejobs/{job}/items", dict[str, str]()
    try:
        for start in range(0, len(ids), _ASKED_TOGETHER):
            some = json.dumps(ids[start : start + _ASKED_TOGETHER], ensure_ascii=False)
            async for item in session.lines(path, filter=f"status.id in {some}"):
                states[item["id"]] = item["state"]
    except (CommandError, ClusterError):
        return
    for one in dict.fromkeys(ids):
        name, state = one_line(one, ITEM_CHARACTERS), states.get(one)
        if state is None:
            click.echo(f"warning: {job} has no item {name}: {session.advised(f'items list {job}')} shows all", err=True)
        elif state in {ItemState.SUCCEEDED, ItemState.DEAD_LETTERED}:
            click.echo(f"warning: the item {name} has ended ({state}) and stays as it is", err=True)


@command("purge")
@queue_argument
@click.option("--older-than", type=Duration(), help="How long after its last attempt a letter is kept, such as 7d.")
@click.option("--open", "open_too", is_flag=True, help="Also letters that nobody has dealt with.")
@click.option("--all", "everything", is_flag=True, help="Delete the queue of a job that is gone, with all its letters.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
async def purge(
    session: Session, *, queue: str, older_than: float | None, open_too: bool, everything: bool, yes: bool
) -> None:
    """Has letters deleted that are dealt with and old enough.

    These are the letters that are resolved or archived, by now or later. This sets spec.retentionSeconds of the queue,
    and spec.purgeOpen with --open. A purged letter is gone; its item stays what it was.
    """
    if everything == (older_than is not None):
        raise click.UsageError("say how old letters may become with --older-than; or --all, where the job is gone")
    body = await session.find(DEAD_LETTER_QUEUES, queue)
    if body is None:
        raise _no_queue(session, queue)
    letters = status_of(body).get("letters", {})
    which = (
        letters.get("total", 0) if everything or open_too else letters.get("resolved", 0) + letters.get("archived", 0)
    )
    if older_than is not None:
        if open_too and not yes:
            _confirm(f"Delete letters of {queue} that nobody has dealt with, now and later, once they are old enough?")
        policy = {"retentionSeconds": max(1, round(older_than)), "purgeOpen": open_too}
        await session.patch(DEAD_LETTER_QUEUES, queue, {"spec": policy})
        kinds = "open, resolved or archived" if open_too else "resolved or archived"
        click.echo(
            f"{about(body)} deletes letters that are {kinds} when their last attempt is older than "
            f"{length(policy['retentionSeconds'])}; it has {counted(which, 'letter')} of these"
        )
        if open_too:
            undone = session.advised(f"dlq purge {queue} --older-than {length(policy['retentionSeconds'])}")
            click.echo(f"this holds for letters to come as well, since spec.purgeOpen is true now; {undone} ends that")
        return
    await _delete(session, body, yes=yes)


async def _delete(session: Session, queue: Body, *, yes: bool) -> None:
    reference, name = queue["spec"]["jobRef"], queue["metadata"]["name"]
    job = await session.find(MAPREDUCE_JOBS, reference["name"])
    if job is not None and job["metadata"]["uid"] == reference["uid"]:
        raise CommandError(
            f"the job {reference['name']} of {name} is still there, and would make the queue again with the same "
            "letters: purge what is old with --older-than, or delete the job first"
        )
    count = status_of(queue).get("letters", {}).get("total", 0)
    if not yes:
        _confirm(f"Delete {name} with {counted(count, 'letter')}? They cannot be brought back.")
    await session.delete(DEAD_LETTER_QUEUES, name, uid=queue["metadata"]["uid"])
    click.echo(f"{about(queue)} deleted with {counted(count, 'letter')}")


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"nobody can be asked here: {question} Say so with --yes")
    if not click.confirm(question):
        raise CommandError("nothing was changed, as you did not say yes")


# ------------------------------------------------------------------------------------------------------- the Redrive


def _selection(ids: Sequence[str], cel: str, *, everything: bool | None = None) -> Body:
    """`everything` is None for a command without --all."""
    selections: dict[str, Any] = {"ids": list(ids), "filter": cel, "all": everything}
    given = {kind: value for kind, value in selections.items() if value}
    if len(given) != 1:
        all_too = " or --all" if everything is not None else "; `redrive --all` takes all letters"
        raise click.UsageError(f"say which letters are meant, in one way: by the ids of items or --filter{all_too}")
    return given


async def _submit(
    session: Session, spec: Body, name: str, output: str | None, *, dry_run: bool, seconds: float | None
) -> None:
    named = {"name": name} if name else {"generateName": f"{spec['queue']}-"}
    manifest = {"apiVersion": API_VERSION, "kind": REDRIVE_KIND, "metadata": named, "spec": spec}
    body = await session.create(REDRIVES, manifest, dry_run=dry_run)
    waits = seconds is not None and not dry_run
    if output is None:
        click.echo(f"{about(body)} created{' (server dry run)' if dry_run else ''}")

    def over(now: Body) -> bool:
        nonlocal body
        body = now
        return holds(now, "Complete") or holds(now, "Failed")

    try:
        if waits:
            await session.until(REDRIVES, body["metadata"]["name"], over, what="to end", seconds=seconds)
    finally:
        # Whoever does not wait any longer has to know what there is.
        if output is not None:
            click.echo(shown(body, output), nl=False)
    if waits:
        _check(session, body, tells=output is None)


def _check(session: Session, body: Body, *, tells: bool) -> None:
    """Tells what became of a Redrive. Raises CommandError unless all that it took succeeded."""
    status, name = status_of(body), about(body)
    for letter in status.get("skippedLetters", []) if tells else []:
        why = one_line(letter["reason"].replace("force: true", "--force"), _MESSAGE_CHARACTERS)
        click.echo(f"not taken: {one_line(letter['itemId'], ITEM_CHARACTERS)}: {why}")
    failed = holds(body, "Failed")
    found = condition(body, "Failed" if failed else "Complete")
    if failed or not status.get("selected"):
        raise CommandError(f"{name}: {found['reason']}: {found['message']}")
    line = f"{name}: {status.get('succeeded', 0):,} of {counted(status['selected'], 'item')} succeeded"
    if not status.get("failed"):
        if tells:
            click.echo(line)
        return
    advice = session.advised("dlq analyze " + body["spec"]["queue"]) + " tells why the others failed again"
    some = status.get("succeeded", 0) > 0
    raise CommandError(f"{line}; {advice}", ExitCode.JOB_PARTIALLY_SUCCEEDED if some else ExitCode.JOB_FAILED)


def _no_queue(session: Session, queue: str) -> CommandError:
    return CommandError(
        f"there is no DeadLetterQueue {queue!r} in the namespace {session.namespace!r}: "
        "a job without dead letters has none, and `kubectl get dlq -A` lists all",
        ExitCode.NOT_FOUND,
    )
