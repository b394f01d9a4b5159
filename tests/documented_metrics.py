"""The tables of docs/metrics.md."""

import re
from pathlib import Path
from typing import Final

_DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "metrics.md"
_ROW: Final = re.compile(r"^\| `(mapreduce_\w+)` \|([^|]*)\|", re.MULTILINE)


def documented() -> dict[str, set[str]]:
    """The labels of each metric, by its name as it is exposed, of a histogram without _bucket, _sum and _count."""
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in _ROW.findall(_DOCUMENT.read_text())}
