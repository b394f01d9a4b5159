"""Each log line says which run, and which item, it is about."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from mapreduce_operator.core.names import RunRef
from mapreduce_operator.logs import JsonFormatter, about, about_run

RUN = RunRef("team-a", "words", "run-1")
log = logging.getLogger("test")


class Lines(logging.Handler):
    """Keeps lines as they would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.read: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.read.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler = Lines()
    log.addHandler(handler)
    yield handler.read
    log.removeHandler(handler)


def subject(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key not in {"time", "level", "logger", "message"}}


def test_a_line_says_what_it_is_about_as_long_as_that_lasts(lines: list[dict[str, Any]]) -> None:
    log.warning("before")
    with about_run(RUN):
        with about(item="GPL-3", dispatch=2):
            log.warning("of the item")
        log.warning("of the run")
    log.warning("after")

    run = {"namespace": "team-a", "job": "words", "uid": "run-1"}
    assert [subject(line) for line in lines] == [{}, run | {"item": "GPL-3", "dispatch": 2}, run, {}]
    assert [line["message"] for line in lines] == ["before", "of the item", "of the run", "after"]


async def test_tasks_go_on_to_be_about_what_they_were_made_for(lines: list[dict[str, Any]]) -> None:
    async def work(number: int) -> None:
        await asyncio.sleep(0)
        log.warning("%d", number)

    with about(item="a"):
        first = asyncio.create_task(work(1))
    with about(item="b"):
        second = asyncio.create_task(work(2))
    await asyncio.gather(first, second)

    assert {line["message"]: line["item"] for line in lines} == {"1": "a", "2": "b"}


def test_what_a_line_is_about_replaces_nothing_of_the_line(lines: list[dict[str, Any]]) -> None:
    with about_run(RunRef("n", "message", "level")):
        log.error("it failed", exc_info=ValueError("why"))

    (line,) = lines
    assert (line["message"], line["level"], line["logger"], line["job"]) == ("it failed", "ERROR", "test", "message")
    assert line["exception"] == "ValueError: why"
