"""What reduce gets: the results of the run in plan order, as JSON lines, and beside them the items that failed.

The bytes depend on the plan and the outcomes alone, never on the order in which agents finished.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mapreduce_operator.api import ItemState
from mapreduce_operator.core import names
from mapreduce_operator.core.contract import FAILURES_FILE, RESULTS_FILE
from mapreduce_operator.core.jobs import Manifest, owner_reference
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import RunRef
from mapreduce_operator.core.plan import PlannedItem, canonical

CONFIG_MAP_BYTES: Final = 1_000_000
"""A ConfigMap holds at most 1 MiB; what is left is for its metadata."""


class ResultsTooLargeError(Exception):
    """The results do not fit into what reduce can be given. They are not lost: the journal keeps them."""


@dataclass(frozen=True, slots=True)
class ReduceInput:
    """The two files of a reduce agent, and the counts that its context holds."""

    results: bytes
    failures: bytes
    counts: Mapping[str, int]

    @classmethod
    def empty(cls) -> "ReduceInput":
        """No results: what the template of reduce is tried out with."""
        return reduce_input(())

    def as_item(self) -> PlannedItem:
        """Reduce is one item; its payload is the counts, since what it works on comes in files."""
        return PlannedItem("reduce", canonical({"items": self.counts}))

    def config_map(self, run: RunRef) -> Manifest:
        """Raises ResultsTooLargeError."""
        size = len(self.results) + len(self.failures)
        if size > CONFIG_MAP_BYTES:
            raise ResultsTooLargeError(
                f"{RESULTS_FILE} and {FAILURES_FILE} have {size:,} bytes; a ConfigMap takes "
                f"{CONFIG_MAP_BYTES:,}. Let agents store what is large elsewhere and return a reference; all results "
                "are kept in storage"
            )
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": names.results_config_map_name(run),
                "namespace": run.namespace,
                "labels": names.run_labels(run),
                "ownerReferences": [owner_reference(run)],
            },
            "data": {_file(RESULTS_FILE): self.results.decode(), _file(FAILURES_FILE): self.failures.decode()},
        }


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


def _file(path: str) -> str:
    return path.rsplit("/", 1)[-1]
