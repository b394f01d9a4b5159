"""fields.yaml: which test each field of the API has."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

TABLE: Final = Path(__file__).with_name("fields.yaml")


@dataclass(frozen=True, slots=True)
class Entry:
    """A field and its test."""

    kind: str
    path: str
    test: str
    """Its node id."""
    instead: Any = None
    """Another value for a field that must be there: its test fails with that."""
    admission: bool = False
    """The API server alone looks at the field, to refuse an object."""

    @property
    def instead_option(self) -> list[str]:
        return [] if self.instead is None else ["--instead", json.dumps(self.instead)]


def entries(table: Path = TABLE) -> list[Entry]:
    """All fields, in their order."""
    return [
        Entry(kind, path, **({"test": test} if isinstance(test, str) else test))
        for kind, tests in yaml.safe_load(table.read_text()).items()
        for path, test in tests.items()
    ]
