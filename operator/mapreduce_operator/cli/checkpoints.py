"""`mapreduce checkpoints`: looks at what is kept of the course of one job."""

import argparse
import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube import ApiSession, find_credentials
from mapreduce_operator.adapters.kube.objects import Objects
from mapreduce_operator.adapters.kube.resources import MAPREDUCE_JOBS
from mapreduce_operator.adapters.kube.wire import AnyObject
from mapreduce_operator.api import ItemState
from mapreduce_operator.cli.checkpoint_audit import Audit, items_of
from mapreduce_operator.cli.queue_reader import CommandError, ReadOnlyStore
from mapreduce_operator.cli.text import ITEM_CHARACTERS, as_json, named, one_line, pairs, table, told, write
from mapreduce_operator.core.checkpoint import Checkpoint, DamagedError, JournalError, decode_checkpoint
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.letters import moment
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.chain import sequence_of
from mapreduce_operator.engine.checkpointer import StoredCheckpoints
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.engine.reading import read_checked
from mapreduce_operator.ports import ObjectStore

SAMPLES: Final = 5
"""So many items of each state are named."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One job of which something is asked."""

    store: ObjectStore
    run: RunRef
    checkpoints: StoredCheckpoints
    arguments: argparse.Namespace
    out: BinaryIO

    @property
    def wants_json(self) -> bool:
        return bool(self.arguments.output == "json")


Command = Callable[[Asked], Coroutine[Any, Any, None]]


def add_commands(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Teaches a parser `checkpoints` and what can be asked of them; `run` of the outcome is the Command."""
    checkpoints = kinds.add_parser("checkpoints", help="look at the checkpoints of a job", description=__doc__)
    checkpoints.set_defaults(kind=_look)
    commands = checkpoints.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Command, *, what: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("job", metavar="NAMESPACE/JOB", type=named("JOB"), help="the MapReduceJob")
        command.add_argument("--uid", default="", help="of the job, where one of that name was deleted before")
        command.add_argument("-o", "--output", choices=["table", "json"], default="table")
        command.set_defaults(run=run)
        return command

    add("list", list_checkpoints, what="those that are kept, the oldest first")
    show = add("show", show_checkpoint, what="all of one")
    show.add_argument("sequence", metavar="SEQUENCE", type=_number, help="its number")
    diff = add("diff", diff_checkpoints, what="items that are in another state at the second than at the first")
    diff.add_argument("first", metavar="FIRST", type=_number, help="number of a checkpoint")
    diff.add_argument("second", metavar="SECOND", type=_number, help="number of another one")
    validate = add("validate", validate_checkpoints, what="whether all that they need is there and whole")
    validate.add_argument("sequence", metavar="SEQUENCE", nargs="?", type=_number, help="only of this one")


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of a checkpoint")
    return int(text)


def _look(runner: asyncio.Runner, store: ObjectStore, arguments: argparse.Namespace, out: BinaryIO) -> None:
    store = ReadOnlyStore(store)
    namespace, name = arguments.job
    run = runner.run(_find(store, namespace, name, arguments.uid))
    # The right to lead is only asked for where something is claimed, which reading does not.
    checkpoints = StoredCheckpoints(store, SystemClock(), SoleLeader(), Limits())
    try:
        runner.run(arguments.run(Asked(store, run, checkpoints, arguments, out)))
    except DamagedError as error:
        raise CommandError(
            f"{error}; `mapreduce checkpoints validate {run.namespace}/{run.name}` says which ones are whole"
        ) from error


async def _find(store: ObjectStore, namespace: str, name: str, uid: str) -> RunRef:
    """The run of the job as it is now, or of one that was deleted and whose storage was kept."""
    if uid:
        return RunRef(namespace, name, uid)
    async with ApiSession(await find_credentials(), may_write=lambda: False) as api:
        found = await Objects(api).get(AnyObject, MAPREDUCE_JOBS, namespace, name)
    if found is not None:
        return RunRef(namespace, name, found.metadata.uid)
    kept = sorted({key.split("/")[2] async for key in store.list(f"{namespace}/{name}/")})
    missing = f"there is no MapReduceJob {name!r} in the namespace {namespace!r}"
    match kept:
        case [only]:
            return RunRef(namespace, name, only)
        case []:
            raise CommandError(f"{missing}, and storage keeps none of that name; `kubectl get mrj -A` lists all jobs")
        case _:
            raise CommandError(f"{missing}, and storage keeps {len(kept)} of that name: give --uid {', '.join(kept)}")


# ---------------------------------------------------------------------------------------------------------- commands


async def list_checkpoints(asked: Asked) -> None:
    found = await asked.checkpoints.list(asked.run)
    if not found:
        raise _nothing(asked)
    if asked.wants_json:
        asked.out.write(as_json([_in_short(one) for one in found]))
        return
    heads = ("SEQUENCE", "TIME", "REASON", "PHASE", "SUCCEEDED", "GIVEN UP", "LEFT", "BYTES", "SECONDS")
    write(asked.out, table(heads, [_row(one) for one in found]))


async def show_checkpoint(asked: Asked) -> None:
    checkpoint = await asked.checkpoints.find(asked.run, asked.arguments.sequence)
    found: defaultdict[ItemState, list[str]] = defaultdict(list)
    for name, item in (await _items(asked, checkpoint)).items():
        found[item.state].append(name)
    facts = _in_short(checkpoint) | _in_full(checkpoint)
    if asked.wants_json:
        some = {state: {"count": len(ids), "such as": ids[:SAMPLES]} for state, ids in found.items()}
        asked.out.write(as_json(facts | {"items": some}))
        return
    del facts["items"]
    write(asked.out, pairs({name: value for name, value in facts.items() if not isinstance(value, dict)}))
    for name in ("snapshot", "lineage", "recovered"):
        if facts[name] is not None:
            write(asked.out, [f"\n{name}:\n", *pairs(facts[name], indent="  ")])
    rows = [
        (state, f"{len(found[state]):,}", ", ".join(one_line(one, ITEM_CHARACTERS) for one in found[state][:SAMPLES]))
        for state in ItemState
        if found[state]
    ]
    write(asked.out, ["\n", *table(("ITEMS", "COUNT", "SUCH AS"), rows)])


async def diff_checkpoints(asked: Asked) -> None:
    before, after = [
        await _items(asked, await asked.checkpoints.find(asked.run, number))
        for number in (asked.arguments.first, asked.arguments.second)
    ]
    # One that was planned anew may have others.
    changed = [
        {"id": name, "before": _as_told(before.get(name)), "after": _as_told(after.get(name))}
        for name in before | after
        if name not in before or name not in after or before[name].state is not after[name].state
    ]
    if asked.wants_json:
        asked.out.write(as_json(changed))
        return
    heads = ("ID", f"AT {asked.arguments.first}", f"AT {asked.arguments.second}", "ATTEMPTS", "INTERRUPTIONS")
    write(asked.out, table(heads, [_changed(one) for one in changed]))


async def validate_checkpoints(asked: Asked) -> None:
    audit = Audit(asked.store, asked.run)
    found: list[tuple[str, list[str]]] = []
    """(which one, what is wrong with it)."""
    async for name, one in _all(asked):
        found.append((name, [one] if isinstance(one, str) else await audit.problems(one)))
    if not found and asked.arguments.sequence is not None:
        await asked.checkpoints.find(asked.run, asked.arguments.sequence)
    if not found:
        raise _nothing(asked)
    if asked.wants_json:
        asked.out.write(as_json([{"checkpoint": name, "problems": problems} for name, problems in found]))
    else:
        write(asked.out, table(("CHECKPOINT", "PROBLEMS"), [(name, f"{len(problems):,}") for name, problems in found]))
        for name, problems in found:
            if problems:
                write(asked.out, [f"\n{name}:\n", *(f"  {one_line(problem, 1000)}\n" for problem in problems)])
    if wrong := sum(bool(problems) for _, problems in found):
        raise CommandError(
            f"{wrong} of {len(found)} are not whole. When the operator loads the job, it goes on from what is left of "
            "the newest; restore and forkFrom need one that is whole"
        )


async def _all(asked: Asked) -> AsyncIterator[tuple[str, Checkpoint | str]]:
    """The checkpoints that are kept and the head, or those of one number; or what is wrong with their own objects."""
    keys, number = StorageKeys(asked.run), asked.arguments.sequence
    try:
        latest = await asked.checkpoints.latest(asked.run)
    except JournalError as error:
        latest, damage = None, str(error)
    else:
        damage = ""
    async for key in asked.store.list(keys.checkpoints):
        sequence = sequence_of(keys.checkpoints, key)
        if number not in {None, sequence}:
            continue
        try:
            yield (
                f"{sequence}",
                await read_checked(asked.store, key, partial(decode_checkpoint, where=key)),
            )
        except JournalError as error:
            yield f"{sequence}", str(error)
    if damage:
        yield "head", damage
    elif latest is not None and number in {None, latest.sequence}:
        yield f"{latest.sequence} (head)", latest


def _nothing(asked: Asked) -> CommandError:
    return CommandError(
        f"storage has no {StorageKeys(asked.run).head}: the job has not been planned yet, or this is not the storage "
        "that the operator uses. The status of the MapReduceJob names it"
    )


async def _items(asked: Asked, checkpoint: Checkpoint) -> dict[str, Item]:
    ids, books = await items_of(asked.store, asked.run, checkpoint)
    ledger = books.ledgers[Stage.MAP]
    return {name: ledger[position] for position, name in enumerate(ids)}


# --------------------------------------------------------------------------------------------------------- how it looks


def _in_short(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "sequence": checkpoint.sequence,
        "time": moment(checkpoint.committed_at),
        "reason": checkpoint.reason,
        "phase": checkpoint.phase,
        "items": _counts(checkpoint),
        "bytes": checkpoint.size,
        "seconds": checkpoint.seconds,
    }


def _counts(checkpoint: Checkpoint) -> Mapping[ItemState, int]:
    """Items by state. That of a plan does not count them."""
    return +Counter(checkpoint.counts) or {ItemState.PENDING: checkpoint.plan.items}


def _in_full(checkpoint: Checkpoint) -> dict[str, Any]:
    snapshot, lineage, recovered = checkpoint.snapshot, checkpoint.lineage, checkpoint.recovered
    return {
        "because": f"{checkpoint.phase_reason}: {checkpoint.phase_message}",
        "epoch": checkpoint.epoch,
        "planned": checkpoint.plan.items,
        "duplicates": checkpoint.plan.duplicates,
        "started": moment(checkpoint.started_at),
        "opened": moment(checkpoint.opened_at),
        "stored bytes": checkpoint.journal_size,
        "spec": checkpoint.spec_sha256,
        "snapshot": snapshot and {"sequence": snapshot.sequence, "bytes": snapshot.size},
        "lineage": lineage
        and {"job": lineage.name, "uid": lineage.uid, "checkpoint": lineage.sequence, "depth": lineage.depth},
        "recovered": recovered and {"time": moment(recovered.at), "message": recovered.message},
    }


def _row(checkpoint: Checkpoint) -> list[str]:
    counts = Counter(_counts(checkpoint))
    succeeded, given_up = counts[ItemState.SUCCEEDED], counts[ItemState.DEAD_LETTERED] + counts[ItemState.SKIPPED]
    numbers = (succeeded, given_up, counts.total() - succeeded - given_up, checkpoint.size)
    return [
        f"{checkpoint.sequence}",
        *(told(value) for value in (moment(checkpoint.committed_at), checkpoint.reason, checkpoint.phase)),
        *(f"{number:,}" for number in numbers),
        f"{checkpoint.seconds:.3f}",
    ]


def _as_told(item: Item | None) -> dict[str, Any] | None:
    if item is None:
        return None
    return {"state": item.state, "attempts": item.attempts, "interruptions": item.interruptions}


def _changed(one: Mapping[str, Any]) -> list[str]:
    before, after = one["before"] or {}, one["after"] or {}
    numbers = [
        f"{before.get(name, 0)} -> {after.get(name, 0)}" if before.get(name, 0) != after.get(name, 0) else ""
        for name in ("attempts", "interruptions")
    ]
    return [one_line(one["id"], ITEM_CHARACTERS), before.get("state", "-"), after.get("state", "-"), *numbers]
