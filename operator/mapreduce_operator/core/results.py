"""What reduce gets: the results of the run in plan order, as JSON lines, and beside them the items that failed.

The bytes depend on the plan and the outcomes alone, never on the order in which agents finished.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ItemState, ReduceWork, ResultsAs
from mapreduce_operator.core import names
from mapreduce_operator.core.contract import (
    DIRECTORY,
    FAILURES_DIRECTORY,
    FAILURES_FILE,
    RESULTS_DIRECTORY,
    RESULTS_FILE,
)
from mapreduce_operator.core.jobs import Manifest, owner_reference
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import PlannedItem, canonical

PART_BYTES: Final = 1_000_000
"""A ConfigMap holds at most 1 MiB; what is left is for its metadata."""

MAX_PARTS: Final = 16
"""ConfigMaps of one reduce: etcd keeps all of them, commonly in 2 GB for the whole cluster; the kubelet and the API
server hold them in memory, and a projected volume lies in the memory of the node."""

_LINE_BYTES: Final = len('{"id":"","result":}\n')
"""What a line has beside id and result."""

_RESULTS: Final = RESULTS_FILE.removeprefix(f"{DIRECTORY}/")
_FAILURES: Final = FAILURES_FILE.removeprefix(f"{DIRECTORY}/")

_PARTS: Final = {ResultsAs.FILE: 1, ResultsAs.DIRECTORY: MAX_PARTS}
_IN_PARTS: Final = (
    "Set spec.reduce.resultsAs to Directory, for a reduce that reads all files in "
    f"{RESULTS_DIRECTORY} and {FAILURES_DIRECTORY}"
)
_ANOTHER_JOB: Final = "begin another job, whose agents store what is large elsewhere and return a reference"
_WHILE_MAPPING: Final = {
    ResultsAs.FILE: f"{_IN_PARTS}, or take the reduce out",
    ResultsAs.DIRECTORY: f"Take the reduce out, or {_ANOTHER_JOB}",
}
_AFTERWARDS: Final = {
    ResultsAs.FILE: f"{_IN_PARTS}, and restart the reduce",
    ResultsAs.DIRECTORY: f"To reduce them, {_ANOTHER_JOB}",
}


class ResultsTooLargeError(Exception):
    """The results do not fit into what reduce can be given. They are not lost: the journal keeps them."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the Job of a reduce says of its input."""

    results_as: ResultsAs
    item: PlannedItem
    """Reduce is one item; its payload goes into the context, since what it works on comes in files."""
    volume: Manifest
    """Source of the volume in which these files lie."""


@dataclass(frozen=True, slots=True)
class ReduceInput:
    """What a reduce agent works on: results and failures, and the counts that its context holds."""

    results: bytes
    failures: bytes
    counts: Mapping[str, int]

    @classmethod
    def empty(cls) -> "ReduceInput":
        """No results: what the template of reduce is tried out with."""
        return reduce_input(())

    def hand_over(self, run: RunRef, results_as: ResultsAs) -> tuple[Handover, list[Manifest]]:
        """Also the ConfigMaps that have to be there before the Job is; they are the same in either form.

        Raises ResultsTooLargeError.
        """
        parts = self._parts(results_as)
        paths, volume = _as_files(run) if results_as is ResultsAs.FILE else _as_directories(run, parts)
        item = PlannedItem("reduce", canonical({"items": self.counts} | paths))
        return Handover(results_as, item, volume), [_config_map(run, *part) for part in enumerate(parts, 1)]

    def _parts(self, results_as: ResultsAs) -> list[dict[str, str]]:
        """The data of each ConfigMap: whole lines, and of each of the two at least an empty text."""
        parts, room = [dict[str, str]()], PART_BYTES
        for file, text in ((_RESULTS, self.results), (_FAILURES, self.failures)):
            start = 0
            while True:
                fits = len(text) - start <= room
                end = len(text) if fits else text.rfind(b"\n", start, start + room) + 1 or start
                parts[-1][file] = text[start:end].decode()
                room -= end - start
                if fits:
                    break
                if len(parts) == _PARTS[results_as]:
                    size = len(self.results) + len(self.failures)
                    raise ResultsTooLargeError(
                        f"results and failures have {size:,} bytes, and reduce gets {_most(results_as)}. "
                        f"{_AFTERWARDS[results_as]}. All results are kept in storage"
                    )
                parts.append({})
                start, room = end, PART_BYTES
        return parts


def outgrown(reduce: ReduceWork | None, succeeded: int, result_bytes: int, shortest_id: int) -> str | None:
    """Why a reduce cannot get even the results that there are already; None where it can, or there is none.

    `result_bytes` are those of so many results, `shortest_id` the bytes of the id that has the fewest.
    """
    if reduce is None:
        return None
    results_as = reduce.results_as
    if result_bytes + succeeded * (_LINE_BYTES + shortest_id) <= _PARTS[results_as] * PART_BYTES:
        return None
    return (
        f"the results so far are more than reduce can get, {_most(results_as)}: it would not be run. "
        f"{_WHILE_MAPPING[results_as]}. The map goes on, and all results are kept in storage"
    )


def _as_files(run: RunRef) -> tuple[Manifest, Manifest]:
    paths = {"resultsFiles": [RESULTS_FILE], "failuresFiles": [FAILURES_FILE]}
    return paths, {"configMap": {"name": names.results_config_map_name(run, 1)}}


def _as_directories(run: RunRef, parts: list[dict[str, str]]) -> tuple[Manifest, Manifest]:
    files: dict[str, list[str]] = {_RESULTS: [], _FAILURES: []}
    sources: list[Manifest] = []
    for number, part in enumerate(parts, 1):
        items = []
        for key in part:
            path = f"{key.removesuffix('.jsonl')}/{len(files[key]) + 1:04}.jsonl"
            files[key].append(f"{DIRECTORY}/{path}")
            items.append({"key": key, "path": path})
        sources.append({"configMap": {"name": names.results_config_map_name(run, number), "items": items}})
    return {"resultsFiles": files[_RESULTS], "failuresFiles": files[_FAILURES]}, {"projected": {"sources": sources}}


def _config_map(run: RunRef, number: int, data: dict[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.results_config_map_name(run, number),
            "namespace": run.namespace,
            "labels": names.run_labels(run),
            "ownerReferences": [owner_reference(run)],
        },
        "data": data,
    }


def _most(results_as: ResultsAs) -> str:
    if results_as is ResultsAs.FILE:
        return f"at most {PART_BYTES:,} bytes as files"
    return f"at most {MAX_PARTS} parts of {PART_BYTES:,} bytes"


def reduce_input(last: Iterable[tuple[str, Record]]) -> ReduceInput:
    """The input of reduce, from the id and the last record of each item, in plan order."""
    results, failures, skipped = [], [], 0
    for name, record in last:
        outcome = record.outcome
        if outcome.result is not None:
            results.append(msgspec.json.encode({"id": name, "result": msgspec.Raw(outcome.result)}))
        else:
            failure: dict[str, Any] = {
                "id": name,
                "cause": record.item.cause,
                "reason": record.item.reason,
                "message": outcome.message,
            }
            if outcome.exit_code is not None:
                failure["exitCode"] = outcome.exit_code
            failures.append(canonical(failure))
            skipped += record.item.state is ItemState.SKIPPED
    counts = {
        "total": len(results) + len(failures),
        "succeeded": len(results),
        "deadLettered": len(failures) - skipped,
        "skipped": skipped,
    }
    return ReduceInput(_lines(results), _lines(failures), counts)


def _lines(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
