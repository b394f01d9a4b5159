"""The commands of docs/tutorial.md, and what they print there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
TUTORIAL: Final = PROJECT / "docs" / "tutorial.md"

_VARYING: Final = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00))"
    r"|(?P<clock>\b\d\d:\d\d:\d\dZ)"
    r"|(?P<span>\b\d+(?:\.\d+)?[smhd](?: ?\d+[smh])?\b)"
    r"|(?P<gap> +)"
    r"|(?P<anything>\.\.\.)"
)
_ANY: Final = {"time": r"\S+", "clock": r"\S+", "span": r"\d[0-9smhd. ]*", "gap": " +", "anything": ".*?"}
"""What is never the same twice: times, how long things take, and how far apart columns stand."""


@dataclass
class Step:
    """A command of the tutorial, and what it prints there. "..." is anything: within a line, or lines of it."""

    line: int
    command: str
    output: list[str] = field(default_factory=list)

    def pattern(self) -> str:
        """The regular expression that its output must match."""
        return "".join("(?:.*\n)*?" if text == "..." else f"{_expression(text)} *\n" for text in self.output)


def _expression(text: str) -> str:
    parts, end = [], 0
    for found in _VARYING.finditer(text):
        parts += [re.escape(text[end : found.start()]), _ANY[found.lastgroup or "anything"]]
        end = found.end()
    return "".join(parts) + re.escape(text[end:])


def steps() -> Iterator[Step]:
    """Those of all console blocks: "$ " begins a command, "> " goes on with it, all else is output."""
    step: Step | None = None
    inside = False
    for number, text in enumerate(TUTORIAL.read_text().splitlines(), 1):
        if text.startswith("```"):
            inside = text == "```console"
        elif inside and text.startswith("$ "):
            if step is not None:
                yield step
            step = Step(number, text[2:])
        elif inside and step is not None and text.startswith("> "):
            step.command += f"\n{text[2:]}"
        elif inside and step is not None:
            step.output.append(text)
    if step is not None:
        yield step
