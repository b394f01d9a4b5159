"""What a contestant's run has cost, and how two of them compare."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

WRITES: Final = frozenset({"APPLY", "DELETE", "DELETECOLLECTION", "PATCH", "POST", "PUT"})
BACKGROUND: Final = frozenset({"leases"})
"""Written at a steady rate, whatever the cluster does."""
_REQUESTS: Final = re.compile(r"^apiserver_request_total\{([^}]*)\} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="([^"]*)"')
_TICKS: Final = 100
"""A second of CPU in /proc, on every platform that Linux has."""


def writes_in(metrics: str) -> Counter[str]:
    """Writes that an API server has counted, by verb and resource, such as `POST jobs`."""
    writes: Counter[str] = Counter()
    for labels, value in _REQUESTS.findall(metrics):
        request = dict(_LABEL.findall(labels))
        if request["verb"] not in WRITES or request["resource"] in BACKGROUND:
            continue
        subresource = f"/{request['subresource']}" if request["subresource"] else ""
        dry = " (dry run)" if request["dry_run"] else ""
        writes[f"{request['verb']} {request['resource']}{subresource}{dry}"] += round(float(value))
    return writes


def cpu_in(stats: str) -> Counter[str]:
    """Ticks of CPU that processes have used, by name, from the texts of their /proc/PID/stat."""
    ticks: Counter[str] = Counter()
    for line in stats.splitlines():
        # The name may hold spaces. Fields 14 and 15 of the line are the user's and the system's share.
        start, _, rest = line.rpartition(")")
        fields_after_name = rest.split()
        ticks[start.partition("(")[2]] += int(fields_after_name[11]) + int(fields_after_name[12])
    return ticks


def seconds(ticks: int) -> float:
    return ticks / _TICKS


@dataclass(frozen=True, slots=True)
class Figures:
    """One run, or several of the same contestant added up."""

    items: int
    seconds: float
    """From the first request until every item has ended and every Job is deleted."""
    own_cpu_seconds: float
    """Of the contestant's process."""
    peak_bytes: int
    """The most memory that the process ever held."""
    cpu_ticks: Counter[str]
    """Of all processes of the node, by name: on a busy machine this is what decides."""
    own_writes: Counter[str]
    """Requests of the contestant."""
    other_writes: Counter[str]
    """Requests of controllers, scheduler and kubelets on its behalf."""
    object_bytes: int = 0
    """The MapReduceJob as JSON at its largest."""
    status_bytes: int = 0
    """Its status alone."""
    written_bytes: int = 0
    """All that the process wrote to files, its log included."""
    stored_files: int = 0
    stored_bytes: int = 0
    """What was in storage at the end."""

    @property
    def items_per_second(self) -> float:
        return self.items / self.seconds

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


_LARGEST: Final = frozenset({"peak_bytes", "object_bytes", "status_bytes"})


def total(runs: Sequence[Figures]) -> Figures:
    """Everything added up, but for what is the largest of its kind."""
    values = {
        field.name: max(getattr(run, field.name) for run in runs)
        if field.name in _LARGEST
        else sum((getattr(run, field.name) for run in runs[1:]), getattr(runs[0], field.name))
        for field in fields(Figures)
    }
    return Figures(**values)


def table(operator: Figures, bare: Figures) -> Iterable[str]:
    """The comparison, for people."""

    def row(name: str, ours: str, theirs: str = "", remark: str = "") -> str:
        return f"{name:<38}{ours:>12}{theirs:>14}   {remark}".rstrip()

    def per_item(name: str, ours: float, theirs: float) -> str:
        return row(name, f"{ours / operator.items:.3f}", f"{theirs / bare.items:.3f}")

    def milliseconds(name: str, ours: float, theirs: float, remark: str = "") -> str:
        return row(name, f"{1000 * ours / operator.items:.1f} ms", f"{1000 * theirs / bare.items:.1f} ms", remark)

    ratio = operator.items_per_second / bare.items_per_second
    ours, theirs = seconds(operator.cpu_ticks.total()), seconds(bare.cpu_ticks.total())
    cpu_ratio = (theirs / bare.items) / (ours / operator.items)
    yield row("", "operator", "bare client")
    yield row(
        "items per second", f"{operator.items_per_second:.1f}", f"{bare.items_per_second:.1f}", f"ratio {ratio:.2f}"
    )
    yield row("peak memory", megabytes(operator.peak_bytes), megabytes(bare.peak_bytes))
    yield milliseconds("own CPU per item", operator.own_cpu_seconds, bare.own_cpu_seconds)
    yield milliseconds("the node's CPU per item", ours, theirs, f"ratio {cpu_ratio:.2f}")
    for name, ticks in (operator.cpu_ticks | bare.cpu_ticks).most_common(6):
        if ticks > 0.01 * (operator.cpu_ticks | bare.cpu_ticks).total():
            yield milliseconds(f"  {name}", seconds(operator.cpu_ticks[name]), seconds(bare.cpu_ticks[name]))
    for name, our_writes, their_writes in (
        ("own API writes per item", operator.own_writes, bare.own_writes),
        ("others' API writes per item", operator.other_writes, bare.other_writes),
    ):
        yield per_item(name, our_writes.total(), their_writes.total())
        for request, count in (our_writes + their_writes).most_common():
            # What happens once in a run is no cost of an item.
            if count > 0.001 * (operator.items + bare.items):
                yield per_item(f"  {request}", our_writes[request], their_writes[request])
    yield row("custom resource at its largest", kilobytes(operator.object_bytes))
    yield row("  its status", kilobytes(operator.status_bytes))
    yield row("written to storage per item", f"{operator.written_bytes / operator.items:,.0f} B")
    yield row("  kept there", f"{operator.stored_bytes / operator.items:,.0f} B", "", f"{operator.stored_files} files")


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


def kilobytes(count: int) -> str:
    return f"{count / 1e3:,.1f} kB"
