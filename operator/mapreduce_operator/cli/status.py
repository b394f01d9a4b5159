"""`status`: all jobs in a table, or one in full."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import click

from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.api import API_VERSION, KIND
from mapreduce_operator.cli.framework import command, output_option
from mapreduce_operator.cli.objects import about, condition, for_programs, job_named, status_of, troubles
from mapreduce_operator.cli.parameters import ObjectName
from mapreduce_operator.cli.planned import in_words
from mapreduce_operator.cli.session import Body, Session
from mapreduce_operator.cli.text import ITEM_CHARACTERS, as_json, as_yaml, one_line, pairs, span, table
from mapreduce_operator.cli.watch import STATES, speed

_HEADS: Final = ("NAME", "PHASE", "PROGRESS", "RUNNING", "FAILED", "REASON", "ITEMS/MIN", "LEFT", "AGE")
_MESSAGE_CHARACTERS: Final = 120
_WIDE: Final = ("SKIPPED", "CHECKPOINT", "QUEUE")


@command("status", everywhere=True)
@click.argument("job", type=ObjectName(MAPREDUCE_JOBS), required=False)
@output_option("table", "wide", "json", "yaml", "name")
async def status(session: Session, *, job: str | None, output: str) -> None:
    """Shows all jobs of the namespace in short, or one in full."""
    if job is not None and not session.namespace:
        raise click.UsageError("-A shows the jobs of all namespaces: leave the name out, or say with -n where it is")
    found = [await job_named(session, job)] if job else await session.all_of(MAPREDUCE_JOBS)
    bodies = [{"apiVersion": API_VERSION, "kind": KIND} | for_programs(body) for body in found]
    match output:
        case "json" | "yaml":
            told = bodies[0] if job else {"apiVersion": "v1", "kind": "List", "items": bodies}
            click.echo(as_json(told) if output == "json" else as_yaml(told), nl=False)
        case "name":
            click.echo("".join(f"{about(body)}\n" for body in bodies), nl=False)
        case "table" if job:
            click.echo("".join(_in_full(bodies[0])), nl=False)
        case _ if not bodies:
            where = f"the namespace {session.namespace}" if session.namespace else "any namespace"
            click.echo(f"no MapReduceJobs in {where}; {session.advised('run FILE')} makes one", err=True)
        case _:
            everywhere, wide = not session.namespace, output == "wide"
            heads = (*(["NAMESPACE"] if everywhere else []), *_HEADS, *(_WIDE if wide else []))
            rows = [_row(body, everywhere=everywhere, wide=wide) for body in bodies]
            click.echo("".join(table(heads, rows)), nl=False)


def _row(body: Body, *, everywhere: bool, wide: bool) -> list[str]:
    state, metadata = status_of(body), body["metadata"]
    items, throughput = state.get("items") or {}, state.get("throughput") or {}
    left = throughput.get("remainingSeconds")
    row = [
        *([metadata["namespace"]] if everywhere else []),
        metadata["name"],
        state.get("phase", "-"),
        state.get("progress", "-"),
        f"{items.get('running', 0):,}",
        f"{items.get('deadLettered', 0):,}",
        condition(body, "Ready")["reason"] or "-",
        f"{throughput['itemsPerMinute']:,.4g}" if throughput.get("itemsPerMinute") else "-",
        span(left) if left is not None else "-",
        _age(metadata["creationTimestamp"]),
    ]
    if wide:
        checkpoint, queue = state.get("checkpoint", {}), state.get("deadLetters", {}).get("queue")
        row += [f"{items.get('skipped', 0):,}", f"{checkpoint.get('sequence', '-')}", queue or "-"]
    return row


def _in_full(body: Body) -> Iterator[str]:
    state, metadata = status_of(body), body["metadata"]
    checkpoint, lineage = state.get("checkpoint"), state.get("lineage")
    ready = condition(body, "Ready")
    yield from pairs(
        {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "phase": state.get("phase"),
            "because": f"{ready['reason']}: {ready['message']}" if ready["reason"] else None,
            "progress": state.get("progress"),
            "plan": in_words(state["plan"]) if state.get("plan", {}).get("read") is not None else None,
            "speed": speed(state),
            "started": state.get("startTime"),
            "ended": state.get("completionTime"),
            "checkpoint": checkpoint and f"{checkpoint['sequence']} ({checkpoint['reason']}, {checkpoint['time']})",
            "kept": checkpoint and checkpoint.get("kept"),
            "dead letters": state.get("deadLetters", {}).get("queue"),
            "fork of": lineage and f"{lineage['job']} at checkpoint {lineage['checkpoint']}",
            "storage": state.get("storage"),
            "result": as_json(state["result"]).strip() if state.get("result") is not None else None,
        }
    )
    if items := state.get("items"):
        yield "\n"
        yield from table(("ITEMS", "COUNT"), [(name, f"{items[name]:,}") for name in STATES if items.get(name)])
    if failures := state.get("failures"):
        yield "\n"
        rows = [
            (
                f"{one['count']:,}",
                one["reason"],
                one_line(one["sampleItemId"], ITEM_CHARACTERS),
                one_line(one.get("message") or one.get("signature", ""), _MESSAGE_CHARACTERS),
            )
            for one in failures
        ]
        yield from table(("FAILURES", "REASON", "SUCH AS", "MESSAGE"), rows)
    for one in troubles(body, ready["message"]):
        yield f"\n{one['type']}: {one['reason']}: {one_line(one['message'], 1024)}\n"


def _age(time: str) -> str:
    return span((datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds())
