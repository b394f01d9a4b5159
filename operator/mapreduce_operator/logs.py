"""Log lines: JSON for programs, text for people. Who knows what lines are about says so once, for all below."""

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from mapreduce_operator.core.names import RunRef

_subject: Final[ContextVar[Mapping[str, str | int]]] = ContextVar("subject", default=MappingProxyType({}))


@contextmanager
def about(**subject: str | int) -> Iterator[None]:
    """Adds fields to each line that is logged within, also by tasks that are created there."""
    token = _subject.set({**_subject.get(), **subject})
    try:
        yield
    finally:
        _subject.reset(token)


@contextmanager
def about_run(run: RunRef) -> Iterator[None]:
    """The same for the lines of a run."""
    with about(namespace=run.namespace, job=run.name, uid=run.uid):
        yield


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_subject.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up_logging(level: str, form: str) -> None:
    """Sends all log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Kopf tells of each event that it hands on.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # Its DEBUG lines hold requests with their session tokens.
    logging.getLogger("botocore").setLevel(logging.INFO)
