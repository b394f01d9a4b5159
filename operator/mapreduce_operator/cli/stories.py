"""The dispatches of an item, for people."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from mapreduce_operator.cli.session import Body
from mapreduce_operator.cli.text import pairs, printable

_ELSEWHERE: Final = {"dispatch", "verdict", "logTail", "redriveNumber"}


def story(attempt: Body) -> Iterator[str]:
    """All that is known of one dispatch."""
    yield f"\ndispatch {attempt['dispatch']}: {attempt['verdict']}\n"
    facts = {name: value for name, value in attempt.items() if name not in _ELSEWHERE}
    if "startedAt" in attempt:
        ran = datetime.fromisoformat(attempt["endedAt"]) - datetime.fromisoformat(attempt["startedAt"])
        facts["duration"] = f"{ran.total_seconds():,.0f} s"
    yield from pairs(facts, indent="  ")
    yield from block("log", attempt.get("logTail", ""), indent="  ")


def block(name: str, text: str, indent: str = "") -> Iterator[str]:
    """A text of several lines below its name; nothing where there is none."""
    if text:
        yield f"{indent}{name}:\n"
        yield from (f"{indent}  {line}\n" for line in printable(text).splitlines())
