"""The dispatches of an item, for people."""

from collections.abc import Iterator
from typing import Final

from mapreduce_operator.cli.session import Body
from mapreduce_operator.cli.text import pairs, printable
from mapreduce_operator.cli.told import in_seconds

_ELSEWHERE: Final = {"dispatch", "verdict", "logTail", "redriveNumber"}


def story(attempt: Body) -> Iterator[str]:
    """All that is known of one dispatch."""
    yield f"\ndispatch {attempt['dispatch']}: {attempt['verdict']}\n"
    known = in_seconds(attempt, "startedAt", "endedAt")
    facts = {name: value for name, value in known.items() if name not in _ELSEWHERE}
    if "startedAt" in known:
        facts["duration"] = f"{(known['endedAt'] - known['startedAt']).total_seconds():,.0f} s"
    yield from pairs(facts, indent="  ")
    yield from block("log", attempt.get("logTail", ""), indent="  ")


def block(name: str, text: str, indent: str = "") -> Iterator[str]:
    """A text of several lines below its name; nothing where there is none."""
    if text:
        yield f"{indent}{name}:\n"
        yield from (f"{indent}  {line}\n" for line in printable(text).splitlines())
