"""Runs as earlier versions left them in storage, and what those read back; see README.md."""

from pathlib import Path
from typing import Any, Final

import msgspec

from mapreduce_operator.adapters.storage.memory import MemoryStore
from mapreduce_operator.core.names import RunRef

RUN: Final = RunRef("default", "demo", "run-1")
VARIANTS: Final = ("planned", "running", "stopped", "ended")
_V1: Final = Path(__file__).parent / "v1"


def stored(variant: str) -> MemoryStore:
    """Storage as version 1 left it."""
    store, root = MemoryStore(), _V1 / variant / "storage"
    for path in root.rglob("*.json*"):
        store.objects[path.relative_to(root).as_posix()] = path.read_bytes()
    return store


def expected(variant: str) -> dict[str, Any]:
    """What version 1 read of it."""
    found: dict[str, Any] = msgspec.json.decode((_V1 / variant / "expected.json").read_bytes())
    return found
