"""`mapreduce dlq`: looks into one dead letter queue."""

import argparse
import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, BinaryIO, Final

import msgspec

from mapreduce_operator.adapters.kube import ApiSession, KubeCluster, find_credentials
from mapreduce_operator.api import LetterState
from mapreduce_operator.cli.queue_reader import CommandError, QueueReader, run_of_queue
from mapreduce_operator.cli.text import ITEM_CHARACTERS, as_json, named, one_line, pairs, printable, table, told, write
from mapreduce_operator.core.dead_letters import MESSAGE_CHARACTERS
from mapreduce_operator.core.failures import end_of
from mapreduce_operator.core.letter_analysis import Analysis, analysis
from mapreduce_operator.core.letter_export import csv_rows, json_lines
from mapreduce_operator.core.letter_queries import FIELDS, LetterFilter
from mapreduce_operator.core.letters import Attempt, Letter
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.texts import counted
from mapreduce_operator.ports import ObjectStore

Command = Callable[[QueueReader, argparse.Namespace, BinaryIO], None]

_MESSAGE_CHARACTERS: Final = 80


def add_commands(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Teaches a parser `dlq` and what can be asked of it; `run` of the outcome is the Command."""
    dlq = kinds.add_parser("dlq", help="look into a dead letter queue", description=__doc__)
    dlq.set_defaults(kind=_look)
    commands = dlq.add_subparsers(metavar="COMMAND", required=True)

    queue = argparse.ArgumentParser(add_help=False)
    queue.add_argument("queue", metavar="NAMESPACE/QUEUE", type=named("QUEUE"), help="the DeadLetterQueue")
    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--filter", metavar="CEL", default="", help="only letters for which this expression is true")
    choice.add_argument("--state", choices=[state.value for state in LetterState], help="only letters in this state")
    output = argparse.ArgumentParser(add_help=False)
    output.add_argument("-o", "--output", choices=["table", "json"], default="table")

    def add(name: str, run: Command, *parents: argparse.ArgumentParser, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[queue, *parents], help=what, description=what)
        command.set_defaults(run=run)
        return command

    add("list", list_letters, choice, output, what="the letters in short, the newest first")
    show = add("show", show_letter, output, what="one letter with its whole history")
    show.add_argument("item_id", metavar="ITEM_ID", help="id of the item")
    add("analyze", analyze, choice, output, what="what the letters have in common")
    export = add("export", export_letters, choice, what="whole letters for other programs, one after another")
    export.add_argument("--format", choices=["jsonl", "csv"], required=True)


def _look(runner: asyncio.Runner, store: ObjectStore, arguments: argparse.Namespace, out: BinaryIO) -> None:
    run, job_exists = runner.run(_find(*arguments.queue))
    queue = QueueReader(store, run, runner, job_exists=job_exists)
    arguments.run(queue, arguments, out)
    if queue.unreadable:
        raise CommandError(
            f"{len(queue.unreadable):,} of {len(queue.states):,} letters could not be read and are left out, such as: "
            f"{queue.unreadable[0]}"
        )


async def _find(namespace: str, name: str) -> tuple[RunRef, bool]:
    async with KubeCluster(ApiSession(await find_credentials(), may_write=lambda: False)) as cluster:
        return await run_of_queue(cluster, namespace, name)


def _chosen(queue: QueueReader, arguments: argparse.Namespace) -> Iterator[tuple[Letter, LetterState]]:
    asked = LetterFilter(arguments.filter) if arguments.filter else None
    return queue.letters(LetterState(arguments.state) if arguments.state else None, asked, time.time())


# ---------------------------------------------------------------------------------------------------------- commands


def list_letters(queue: QueueReader, arguments: argparse.Namespace, out: BinaryIO) -> None:
    rows = [_in_short(letter, state) for letter, state in _chosen(queue, arguments)]
    rows.sort(key=itemgetter("lastAttempt"), reverse=True)
    if arguments.output == "json":
        out.write(as_json(rows))
        return
    columns = ("id", "state", "cause", "reason", "exitCode", "signature", "attempts", "node", "lastAttempt")
    heads = (*(re.sub("([A-Z])", r" \1", column).upper() for column in columns), "MESSAGE")
    cells = [
        [
            one_line(row["id"], ITEM_CHARACTERS),
            *(told(row[column]) for column in columns[1:]),
            one_line(row["message"], _MESSAGE_CHARACTERS),
        ]
        for row in rows
    ]
    write(out, table(heads, cells))


def show_letter(queue: QueueReader, arguments: argparse.Namespace, out: BinaryIO) -> None:
    letter, state = queue.letter(arguments.item_id)
    if arguments.output == "json":
        out.write(msgspec.json.format(next(json_lines([(letter, state)])), indent=2) + b"\n")
        return
    told_of = {name: get(letter, state) for name, get in FIELDS.items()}
    write(out, pairs(told_of | {"redrives": tuple(letter.redrives.values())}))
    write(out, _block("item", bytes(letter.payload).decode()))
    for attempt in letter.history:
        write(out, _story(attempt))
    if letter.omitted:
        write(out, [f"\nleft out between the first and the others: {letter.omitted:,}\n"])


def analyze(queue: QueueReader, arguments: argparse.Namespace, out: BinaryIO) -> None:
    states = Counter[str]()

    def counted() -> Iterator[Letter]:
        for letter, state in _chosen(queue, arguments):
            states[state.value] += 1
            yield letter

    found = analysis(counted())
    if arguments.output == "json":
        out.write(as_json(msgspec.to_builtins(found) | {"states": dict(states)}))
    else:
        write(out, _analysis(found, states))


def export_letters(queue: QueueReader, arguments: argparse.Namespace, out: BinaryIO) -> None:
    if arguments.filter:
        # One that has no answer for the last letter must not have given out the first.
        for _ in _chosen(queue, arguments):
            pass
        queue.unreadable.clear()
    if arguments.format == "jsonl":
        out.writelines(json_lines(_chosen(queue, arguments)))
    else:
        write(out, csv_rows(_chosen(queue, arguments)))


# --------------------------------------------------------------------------------------------------------- how it looks


def _in_short(letter: Letter, state: LetterState) -> dict[str, Any]:
    row = {name: get(letter, state) for name, get in FIELDS.items()}
    return row | {"message": end_of(letter.message, MESSAGE_CHARACTERS)}


def _story(attempt: Attempt) -> Iterator[str]:
    yield f"\ndispatch {attempt.dispatch}: {attempt.verdict}\n"
    elsewhere = {"dispatch", "verdict", "log_tail", "redrive_number"}
    facts = {name: value for name, value in msgspec.structs.asdict(attempt).items() if name not in elsewhere}
    seconds = attempt.duration_seconds
    yield from pairs(facts | {"duration": None if seconds is None else f"{seconds:,.0f} s"}, indent="  ")
    yield from _block("log", attempt.log_tail, indent="  ")


def _block(name: str, text: str, indent: str = "") -> Iterator[str]:
    if text:
        yield f"{indent}{name}:\n"
        yield from (f"{indent}  {line}\n" for line in printable(text).splitlines())


def _analysis(found: Analysis, states: Counter[str]) -> Iterator[str]:
    by_state = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    yield f"{counted(found.letters, 'letter')}{f': {by_state}' if by_state else ''}\n"
    if not found.letters:
        return
    heads = ("COUNT", "REASON", "SIGNATURE", "FIRST", "LAST", "SUCH AS", "TEXT")
    groups = [
        (
            f"{group.count:,}",
            group.reason,
            group.signature_id,
            told(group.first_time),
            told(group.last_time),
            one_line(group.samples[0], ITEM_CHARACTERS),
            one_line(group.signature, _MESSAGE_CHARACTERS),
        )
        for group in found.groups
    ]
    yield "\n"
    yield from table(heads, groups)
    if found.others:
        yield f"in further groups: {counted(found.others, 'letter')}\n"
    for head, counts in (
        ("REASON", found.reasons),
        ("CAUSE", found.causes),
        ("NODE", found.nodes),
        ("GIVEN UP IN THE HOUR", found.hours),
    ):
        if counts:
            yield "\n"
            yield from table((head, "COUNT"), [(name, f"{count:,}") for name, count in counts.items()])
