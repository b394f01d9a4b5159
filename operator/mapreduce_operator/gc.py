"""`python -m mapreduce_operator.gc`: deletes what storage keeps of jobs that are gone. A pod of the operator runs it.

A MapReduceJob with retention.onDelete Keep leaves its storage behind, and so does one whose operator was away when it
was deleted. Deleted is what is of no job, of no dead letter queue and of no fork that is yet to be made, and in which
nothing has been written for as long as is asked for. That a job is gone is the API server's own word; where it does not
say, all stays.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube import ApiSession, CredentialsError, find_credentials
from mapreduce_operator.adapters.kube.paging import Collection
from mapreduce_operator.adapters.kube.resources import DEAD_LETTER_QUEUES, MAPREDUCE_JOBS
from mapreduce_operator.adapters.kube.wire import AnyObject, Narrow, Page
from mapreduce_operator.adapters.storage import S3Options, open_store
from mapreduce_operator.core.checkpoint import JournalError, decode_checkpoint
from mapreduce_operator.core.journal import salvage
from mapreduce_operator.core.letters import Letter, moment
from mapreduce_operator.core.names import INPUTS, RunRef, StorageKeys
from mapreduce_operator.core.texts import counted
from mapreduce_operator.engine.journal import Journal
from mapreduce_operator.engine.leadership import SoleLeader
from mapreduce_operator.engine.reading import letters_in, read, read_letters
from mapreduce_operator.ports import ClusterError, ObjectStore, StorageError
from mapreduce_operator.settings import Settings, SettingsError

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_NAMESPACE: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ERRORS: Final = (StorageError, ClusterError, CredentialsError, SettingsError, ValueError, OSError)


class _Parent(Narrow):
    name: str
    uid: str = ""


class _Fork(Narrow):
    job: _Parent


class _JobSpec(Narrow):
    fork_from: _Fork | None = None


class _Plan(Narrow):
    items: int


class _JobStatus(Narrow):
    plan: _Plan | None = None


class _Job(AnyObject):
    spec: _JobSpec
    status: _JobStatus | None = None


class _Reference(Narrow):
    uid: str


class _QueueSpec(Narrow):
    job_ref: _Reference


class _Queue(AnyObject):
    spec: _QueueSpec


_JOBS: Final = msgspec.json.Decoder(Page[_Job])
_QUEUES: Final = msgspec.json.Decoder(Page[_Queue])


@dataclass(slots=True)
class Leftover:
    """What storage keeps of a job that is gone."""

    run: RunRef
    keys: list[str]
    written_at: float | None = None
    """When something of it was written last; None where nothing tells."""
    kept_because: str = ""
    """"" for what is deleted."""
    failed_because: str = ""
    """Why not all of it could be deleted, or perhaps nothing."""

    def as_json(self, *, dry_run: bool) -> dict[str, object]:
        written = None if self.written_at is None else moment(self.written_at).isoformat()
        return {
            "namespace": self.run.namespace,
            "job": self.run.name,
            "uid": self.run.uid,
            "objects": len(self.keys),
            "lastWritten": written,
            "verdict": self.verdict(dry_run=dry_run),
            "because": self.because,
        }

    @property
    def because(self) -> str:
        return self.kept_because or self.failed_because

    def verdict(self, *, dry_run: bool) -> str:
        if self.because:
            return "Kept" if self.kept_because else "Failed"
        return "WouldBeDeleted" if dry_run else "Deleted"


async def leftovers(
    store: ObjectStore, api: ApiSession, namespace: str, older_than: float, now: float
) -> list[Leftover]:
    """What storage keeps of jobs that are gone, in a namespace or, with "", in all; and whether somebody needs it.

    What was written to in the last `older_than` seconds is left out.

    Raises ClusterError and StorageError, upon which nothing is known.
    """
    # In this order: whatever is in storage by now has had its object before, and a queue is there before its job goes.
    found: dict[RunRef, Leftover] = {}
    async for key in store.list(f"{namespace}/" if namespace else ""):
        match key.split("/", 3):
            case [where, name, uid, _] if where != INPUTS:
                run = RunRef(where, name, uid)
                found.setdefault(run, Leftover(run, [])).keys.append(key)
    jobs, queues = await _objects(api, namespace)
    alive = {job.metadata.uid for job in jobs}
    gone = [one for one in found.values() if one.run.uid not in alive]
    for one in gone:
        one.written_at = await _written_at(store, one.run, one.keys)
        one.kept_because = _needed(one.run, jobs, queues)
        if one.written_at is None and not one.kept_because:
            one.kept_because = "nothing in it says when it was written; delete it by hand if nobody needs it"
    return [one for one in gone if one.written_at is None or now - one.written_at >= older_than]


async def _objects(api: ApiSession, namespace: str) -> tuple[list[_Job], list[_Queue]]:
    jobs, _ = await Collection(api, MAPREDUCE_JOBS, namespace, "", _JOBS).read(lambda job: job)
    queues, _ = await Collection(api, DEAD_LETTER_QUEUES, namespace, "", _QUEUES).read(lambda queue: queue)
    return jobs, queues


def _needed(run: RunRef, jobs: Sequence[_Job], queues: Sequence[_Queue]) -> str:
    """Who needs it still."""
    for queue in queues:
        if (queue.metadata.namespace, queue.spec.job_ref.uid) == (run.namespace, run.uid):
            return f"the letters of the DeadLetterQueue {queue.metadata.name} lie in it"
    for job in jobs:
        if job.spec.fork_from is not None and (job.status is None or job.status.plan is None):
            parent = job.spec.fork_from.job
            same = (job.metadata.namespace, parent.name) == (run.namespace, run.name)
            if same and parent.uid in {"", run.uid}:
                return f"the MapReduceJob {job.metadata.name} is to be forked from it"
    return ""


async def _written_at(store: ObjectStore, run: RunRef, keys: Sequence[str]) -> float | None:
    """When the newest of these objects was written, by what is in them: storage itself is not asked."""
    there = StorageKeys(run)
    head = await read(store, there.head)
    if head is not None:
        try:
            return decode_checkpoint(head.data, there.head).committed_at
        except JournalError:
            # As without one.
            pass
    found: list[float] = []
    segments = [key for key in keys if key.startswith(there.segments)]
    if segments and (newest := await read(store, segments[-1])) is not None:
        header = salvage(newest.data, records_too=False).header
        found += [header.at] if header is not None else []
    async for _, letter in read_letters(store, there, await letters_in(store, there)):
        if isinstance(letter, Letter):
            found.append(letter.last_attempt_at.timestamp())
    return max(found, default=None)


async def collect(settings: Settings, namespace: str, older_than: float, *, dry_run: bool) -> list[Leftover]:
    """Deletes leftovers and returns all of them, also those that are kept, or could not be deleted.

    Those of a namespace or, with "", of all that the operator looks after. Raises SettingsError for one that it does
    not look after, ClusterError and StorageError, upon all of which nothing was deleted.
    """
    watched = settings.watch_namespace
    if watched and namespace not in {"", watched}:
        raise SettingsError(f"this operator looks after the namespace {watched} alone, and not after {namespace}")
    s3 = S3Options(settings.s3_endpoint, settings.s3_region, settings.s3_path_style)
    store = open_store(settings.storage_url, s3)
    try:
        async with ApiSession(await find_credentials(), may_write=lambda: False) as api:
            found = await leftovers(store, api, namespace or watched, older_than, time.time())
            for one in found:
                if not one.kept_because and not dry_run:
                    await _delete(store, api, one)
    finally:
        await store.close()
    return found


async def _delete(store: ObjectStore, api: ApiSession, one: Leftover) -> None:
    try:
        # Those before it may have taken hours, in which somebody came to need it.
        one.kept_because = _needed(one.run, *await _objects(api, one.run.namespace))
        if not one.kept_because:
            await Journal(store, one.run, SystemClock(), SoleLeader()).delete_all()
    except (ClusterError, StorageError) as error:
        one.failed_because = " ".join(str(error).split())


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no length of time, such as 30d, 12h or 0s")
    return int(found[1]) * _UNITS[found[2]]


def _namespace(text: str) -> str:
    # It becomes the beginning of keys: an empty one would be that of all.
    if not _NAMESPACE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a namespace")
    return text


def _lines(found: Sequence[Leftover], *, dry_run: bool) -> Iterator[str]:
    for one in found:
        written = "unknown" if one.written_at is None else f"{moment(one.written_at):%Y-%m-%dT%H:%M:%SZ}"
        because = f": {one.because}" if one.because else ""
        verdict = one.verdict(dry_run=dry_run)
        yield (
            f"{verdict:<14}   {one.run.namespace}/{one.run.name} ({one.run.uid}), {counted(len(one.keys), 'object')}, "
            f"last written {written}{because}"
        )
    if not found:
        yield "storage keeps nothing of jobs that are gone for so long"


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; returns 0, or 1 where something could not be done, which is told."""
    parser = argparse.ArgumentParser(prog="mapreduce_operator.gc", description="Deletes storage of jobs that are gone.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--namespace", type=_namespace, help="only of jobs of this namespace")
    where.add_argument("--all-namespaces", action="store_true", help="of all that the operator looks after")
    parser.add_argument("--older-than", type=_seconds, required=True, help="only what was not written to for so long")
    parser.add_argument("--dry-run", action="store_true", help="delete nothing, only tell")
    parser.add_argument("-o", "--output", choices=["table", "json"], default="table")
    told = parser.parse_args(arguments)
    try:
        settings = Settings.from_environment()
        found = asyncio.run(collect(settings, told.namespace or "", told.older_than, dry_run=told.dry_run))
    except _ERRORS as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201 - a command talks to people
        return 1
    if told.output == "json":
        print(json.dumps([one.as_json(dry_run=told.dry_run) for one in found], indent=2))  # noqa: T201
    else:
        print("\n".join(_lines(found, dry_run=told.dry_run)))  # noqa: T201
    return 1 if any(one.failed_because for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
