"""Commands that make a job: `run`, from a file, and `fork`, from a checkpoint of another one."""

from collections.abc import Sequence
from typing import Any

import click

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import API_VERSION, KIND, Input
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.manifests import documents, kind_in_words, named
from mapreduce_operator.cli.objects import about, ended_as, has_finished, phase_of, shown
from mapreduce_operator.cli.parameters import (
    ItemPatch,
    JsonValue,
    Setting,
    dry_run_option,
    job_argument,
    result_option,
    wait_options,
)
from mapreduce_operator.cli.planned import plan_of, with_ids
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.stalls import given_up
from mapreduce_operator.cli.text import ITEM_CHARACTERS, one_line
from mapreduce_operator.cli.watch import follow
from mapreduce_operator.core.plan import InputError
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

_PARAMS = click.option(
    "--set",
    "settings",
    multiple=True,
    type=Setting(),
    help="A value of spec.params: JSON where it can be (n=5 is a number), text otherwise; may be given several times.",
)


@command("run")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", default="", help="Name of the job, in place of that in the file.")
@click.option("--generate-name", is_flag=True, help="Put an ending behind the name that no other job has.")
@_PARAMS
@dry_run_option
@result_option
@wait_options("Show the progress, and wait for the end; the exit code tells how the job ended.")
async def run(
    session: Session,
    *,
    file: str,
    name: str,
    generate_name: bool,
    settings: Sequence[tuple[str, Any]],
    dry_run: bool,
    output: str | None,
    wait: bool,
    seconds: float,
) -> None:
    """Creates the MapReduceJob in a file, or on standard input (-)."""
    manifest = _job_in(file)
    metadata = manifest["metadata"] = _mapping(manifest.get("metadata"), "metadata", file)
    written, beginning = metadata.pop("name", ""), metadata.pop("generateName", "")
    name = name or written
    if not name and not beginning:
        raise CommandError(f"{named(file)}: metadata.name is missing; give it there, or with --name")
    if generate_name or not name:
        metadata["generateName"] = f"{name}-" if name else beginning
    else:
        metadata["name"] = name
    if settings:
        spec = _mapping(manifest.get("spec"), "spec", file)
        manifest["spec"] = spec | {"params": _mapping(spec.get("params"), "spec.params", file) | dict(settings)}
    _settle_namespace(session, metadata, file)
    await _submit(session, manifest, output, dry_run=dry_run, seconds=seconds if wait else None)


@command("fork")
@job_argument
@click.argument("new", metavar="NEW")
@click.option("--at", "checkpoint", type=click.IntRange(min=0), help="Number of the checkpoint; the newest without it.")
@click.option("--uid", default="", help="Uid of the job, where it was deleted and its storage kept.")
@_PARAMS
@click.option("--patch", "patches", multiple=True, type=ItemPatch(), help="A merge patch over that item.")
@click.option("--remove", multiple=True, metavar="ID", help="Leave that item out.")
@click.option("--reset", multiple=True, metavar="ID", help="Run that item again, as if it had never been run.")
@click.option("--add", multiple=True, type=JsonValue(), help="A new item.")
@click.option("--template-patch", type=JsonValue(kind=dict), help="JSON or @FILE: a merge patch over the pod template.")
@dry_run_option
@result_option
@wait_options("Show the progress, and wait for the end; the exit code tells how the job ended.")
async def fork(
    session: Session,
    *,
    job: str,
    new: str,
    checkpoint: int | None,
    uid: str,
    settings: Sequence[tuple[str, Any]],
    patches: Sequence[tuple[str, Any]],
    remove: Sequence[str],
    reset: Sequence[str],
    add: Sequence[Any],
    template_patch: Body | None,
    dry_run: bool,
    output: str | None,
    wait: bool,
    seconds: float,
) -> None:
    """Makes a job NEW that begins where JOB was at a checkpoint.

    JOB itself is not changed. What had succeeded is carried over with its results; all else is run, and so are the
    items that are edited.
    """
    parent = await session.find(MAPREDUCE_JOBS, job)
    if not uid and parent is None:
        raise CommandError(
            f"there is no MapReduceJob {job!r} in the namespace {session.namespace!r}. If it was deleted and kept its "
            "storage (retention.onDelete: Keep), say which one it was with --uid",
            ExitCode.NOT_FOUND,
        )
    items: list[Body] = [
        *({"id": name, "patch": patch} for name, patch in patches),
        *({"id": name, "remove": True} for name in remove),
        *({"id": name, "reset": True} for name in reset),
        *({"add": item} for item in add),
    ]
    edits = {"items": items, "params": dict(settings), "template": template_patch}
    source: Body = {"job": {"name": job} | ({"uid": uid} if uid else {})}
    if checkpoint is not None:
        source["checkpoint"] = checkpoint
    if given := {kind: edit for kind, edit in edits.items() if edit}:
        source["edits"] = given
    manifest = {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": new}, "spec": {"forkFrom": source}}
    skipped = () if parent is None or uid else (parent["spec"].get("map") or {}).get("skip") or ()
    if again := [edit["id"] for edit in items if edit.get("id") in skipped and "remove" not in edit]:
        names = ", ".join(one_line(name, ITEM_CHARACTERS) for name in again)
        click.echo(f"note: skipped in {job}, and not in {new}, as they are edited: {names}", err=True)
    await _submit(session, manifest, output, dry_run=dry_run, seconds=seconds if wait else None)


def _job_in(file: str) -> Body:
    found = [body for _, body in documents(file)]
    jobs = [body for body in found if body.get("kind") == KIND]
    if len(jobs) != 1:
        number = f"{len(jobs)} MapReduceJobs" if jobs else "no MapReduceJob"
        raise CommandError(f"{named(file)} holds {number}, and `run` takes one")
    if others := [kind_in_words(body) for body in found if body.get("kind") != KIND]:
        raise CommandError(
            f"{named(file)} holds {others[0]} as well, which `run` does not make: put it into a file of its own, and "
            "apply that with `kubectl apply` first"
        )
    return jobs[0]


def _mapping(value: Any, field: str, file: str) -> Body:
    """What a field holds that was left out, or left empty, is nothing. Raises CommandError for a value."""
    if value is not None and not isinstance(value, dict):
        raise CommandError(f"{named(file)}: {field} must be of type object: write names with values under it")
    return value or {}


def _settle_namespace(session: Session, metadata: Body, file: str) -> None:
    there = metadata.get("namespace", "")
    if there and session.place.namespace and there != session.place.namespace:
        raise CommandError(
            f"{named(file)} says namespace {there!r}, and -n says {session.place.namespace!r}: leave one of them out",
            ExitCode.USAGE,
        )
    if there:
        session.namespace = there


async def _submit(
    session: Session, manifest: Body, output: str | None, *, dry_run: bool, seconds: float | None
) -> None:
    try:
        body = await session.create(MAPREDUCE_JOBS, manifest, dry_run=dry_run)
    except ClusterError as error:
        if error.reason is ClusterErrorReason.ALREADY_EXISTS:
            raise await _taken(session, manifest["metadata"]["name"]) from error
        raise
    name, waits = body["metadata"]["name"], seconds is not None and not dry_run
    plan = _plan_of(body) if dry_run else None
    if output is None:
        click.echo(f"{about(body)} created{' (server dry run)' if dry_run else ''}")
        if plan is not None:
            click.echo(f"  {with_ids(plan)}")
        if waits:
            async with given_up(session) as look:
                await follow(session, name, seconds, look)
        return
    latest = body if plan is None else body | {"plan": plan}
    try:
        if waits:
            async with given_up(session) as look:

                def over(now: Body) -> bool:
                    nonlocal latest
                    latest = now
                    look(now)
                    return has_finished(now)

                await session.until(MAPREDUCE_JOBS, name, over, what="to end", seconds=seconds)
    finally:
        # Whoever does not wait any longer has to know what there is.
        click.echo(shown(latest, output), nl=False)
    if waits and (ending := ended_as(session, latest)) is not None:
        raise ending


def _plan_of(body: Body) -> Body | None:
    try:
        return plan_of(Input.model_validate(body["spec"].get("input", {})))
    except InputError as error:
        raise CommandError(f"{about(body)} would be taken, and not planned: {error.reason}: {error}") from error


async def _taken(session: Session, name: str) -> CommandError:
    there = await session.get(MAPREDUCE_JOBS, name)
    return CommandError(
        f"mapreducejob/{name} is there already, {phase_of(there)}: run it under another name with --name or "
        f"--generate-name; or look at it with {session.advised(f'watch {name}')}, change it with `kubectl apply`, "
        f"begin it again with {session.advised(f'restart {name}')}"
    )
