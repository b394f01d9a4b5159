"""`logs`: what the agent of an item printed."""

import sys
from typing import Final

import click

from mapreduce_operator.adapters.kube.resources import PODS
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.objects import job_named
from mapreduce_operator.cli.parameters import job_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import printable
from mapreduce_operator.core.names import LABEL_DISPATCH, LABEL_ITEM, LABEL_RUN, LABEL_STAGE, Stage, item_key

_LOG: Final = "log"


@command("logs")
@job_argument
@click.argument("item", required=False)
@click.option("--reduce", is_flag=True, help="The log of the reduce.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the agent ends.")
@click.option("--dispatch", type=click.IntRange(min=1), help="Number of the dispatch; the last one without it.")
async def logs(
    session: Session, *, job: str, item: str | None, reduce: bool, follow: bool, dispatch: int | None
) -> None:
    """Prints the log of the agent of an item: of its pod while that is there, and its end afterwards.

    Pods go when their outcome is safe. What is kept is the end of the log of an item that was given up.
    """
    if (item is None) != reduce:
        raise click.UsageError("say whose log: the id of an item, or --reduce")
    body = await job_named(session, job)
    selector = {LABEL_RUN: body["metadata"]["uid"], LABEL_STAGE: (Stage.REDUCE if reduce else Stage.MAP).value}
    if item is not None:
        selector[LABEL_ITEM] = item_key(body["metadata"]["uid"], Stage.MAP, item)
    if dispatch is not None:
        selector[LABEL_DISPATCH] = f"{dispatch}"
    pods = await session.all_of(PODS, labelSelector=",".join(f"{name}={value}" for name, value in selector.items()))
    if pods:
        await _of_pod(session, max(pods, key=_dispatch), follow=follow)
    elif item is not None:
        await _kept(session, body, item, dispatch)
    else:
        raise CommandError(
            f"the reduce of {job} has no pod: it has not begun, or its pod went with its outcome; "
            f"`kubectl mapreduce status {job}` tells what became of it",
            ExitCode.NOT_FOUND,
        )


def _dispatch(pod: Body) -> int:
    return int(pod["metadata"]["labels"][LABEL_DISPATCH])


async def _of_pod(session: Session, pod: Body, *, follow: bool) -> None:
    name = pod["metadata"]["name"]
    agent = pod["spec"]["containers"][0]["name"]
    query = {"container": agent} | ({"follow": "true"} if follow else {})
    out = sys.stdout.buffer
    path, about = PODS.path(session.namespace, name, _LOG), f"the log of the pod {session.namespace}/{name}"
    async for chunk in session.api.stream(path, about=about, query=query):
        out.write(chunk)
        out.flush()


async def _kept(session: Session, job: Body, item: str, dispatch: int | None) -> None:
    """What is kept of the log in the history of an item."""
    name = job["metadata"]["name"]
    found = await session.answer(f"/v1/namespaces/{session.namespace}/mapreducejobs/{name}/item", id=item)
    told = [one for one in found["history"] if one.get("logTail") and dispatch in {None, one["dispatch"]}]
    if not told:
        raise CommandError(
            f"nothing is kept of the log of the item {item!r} of {name}, which is {found['state']}, and it has no pod; "
            f"`kubectl mapreduce items show {name} {item}` shows what is known of it",
            ExitCode.NOT_FOUND,
        )
    click.echo(printable(told[-1]["logTail"]))
