"""`logs`: what the agent of an item printed."""

import sys
from shlex import quote
from typing import Final

import click

from mapreduce_operator.adapters.kube.resources import PODS
from mapreduce_operator.api import ItemState
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.framework import command
from mapreduce_operator.cli.objects import check_reduces, job_named
from mapreduce_operator.cli.parameters import job_argument
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import printable
from mapreduce_operator.core.names import LABEL_DISPATCH, LABEL_ITEM, LABEL_RUN, LABEL_STAGE, Stage, item_key

_LOG: Final = "log"


@command("logs")
@job_argument
@click.argument("item", required=False)
@click.option("--reduce", is_flag=True, help="The log of the reduce.")
@click.option("-f", "--follow", is_flag=True, help="Go on until an agent that runs ends.")
@click.option("--dispatch", type=click.IntRange(min=1), help="Number of the dispatch; the last one without it.")
async def logs(
    session: Session, *, job: str, item: str | None, reduce: bool, follow: bool, dispatch: int | None
) -> None:
    """Prints the log of the agent of an item.

    It is that of its pod while that is there. Pods go when their outcome is safe; what is kept is the end of the log of
    an item that was given up.
    """
    if (item is None) != reduce:
        raise click.UsageError("say whose log: the id of an item, or --reduce")
    body = await job_named(session, job)
    if reduce:
        check_reduces(body)
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
            f"the reduce of {job} has no pod{f' of dispatch {dispatch}' if dispatch else ''}: it has not begun, or its "
            f"pod went with its outcome; {session.advised(f'status {job}')} tells what became of it",
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
        # That of the next one, while none runs.
        count = found["dispatch"] - (found["state"] != ItemState.RUNNING)
        which = f"the item {item!r} of {name}"
        advice = f"{session.advised(f'items show {name} {quote(item)}')} shows what is known of it"
        if not count:
            why = f"{which} has not started: it is {found['state']}"
        elif dispatch is not None and dispatch > count:
            why = f"{which} has no dispatch {dispatch}: it was dispatched {count:,} time{'s' if count > 1 else ''}"
        else:
            why = (
                f"nothing is kept of the log of dispatch {dispatch or count} of {count:,} of {which}, and it has no pod"
            )
        raise CommandError(f"{why}; {advice}", ExitCode.NOT_FOUND)
    click.echo(printable(told[-1]["logTail"]))
