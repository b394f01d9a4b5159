"""The command line as a process: on a terminal, before a reader that has enough, and when it is interrupted."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event
from tests.unit.cli.little_cluster import FINISHED, JOBS, QUEUES, job, little_cluster, there

AT_WORK: dict[str, Any] = {"phase": "Map", "items": {"total": 4, "running": 3, "succeeded": 1}}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    async with little_cluster(tmp_path) as api:
        yield api


async def started(*words: str, **pipes: Any) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "mapreduce_operator.cli.app", *words, **pipes)


async def test_on_a_terminal_a_job_is_a_picture(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    there(api, job(**AT_WORK))
    end = job(phase="Succeeded", items={"total": 4, "succeeded": 4}, conditions=FINISHED)
    api.on("GET", JOBS, chunks(event("MODIFIED", end), hangs=True))
    terminal, side = os.openpty()
    process = await started("watch", "words", stdout=side)
    os.close(side)
    shown = b""
    while chunk := await asyncio.to_thread(read, terminal):
        shown += chunk
    os.close(terminal)
    assert await process.wait() == 0
    assert b"\x1b[" in shown, "it moves"
    last = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode().rpartition("words   ")[2]
    assert last.startswith("Succeeded")
    assert "100% 4 of 4" in last


def read(terminal: int) -> bytes:
    """What a program writes to a terminal; b"" when it has ended, of which Linux tells by an error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""


async def test_a_reader_that_has_enough_is_no_error_worth_a_word(api: FakeApi) -> None:
    api.on("GET", JOBS, answer({"items": [job(f"words-{number}") for number in range(3000)]}))
    ours, theirs = os.pipe()
    os.close(ours)
    process = await started("status", stdout=theirs, stderr=PIPE)
    os.close(theirs)
    _, told = await process.communicate()
    assert (process.returncode, told) == (1, b"")


async def test_who_does_not_say_yes_changes_nothing(api: FakeApi) -> None:
    api.on("GET", f"{QUEUES}/words", answer({"kind": "DeadLetterQueue", "metadata": {"name": "words"}}))
    terminal, side = os.openpty()
    words = ("dlq", "purge", "words", "--older-than", "1h", "--open")
    process = await started(*words, stdin=side, stdout=PIPE, stderr=PIPE)
    os.close(side)
    os.write(terminal, b"n\n")
    _, told = await process.communicate()
    os.close(terminal)
    assert (process.returncode, {asked.verb for asked in api.asked}) == (1, {"GET"})
    assert b"error: nothing was changed, as you did not say yes\n" in told


async def test_an_interrupted_command_has_told_what_it_made(api: FakeApi, tmp_path: Path) -> None:
    api.on("POST", JOBS, answer(job()))
    there(api, job(**AT_WORK))
    watched = asyncio.Event()

    async def watch(request: web.Request) -> web.StreamResponse:
        watched.set()
        return await chunks(hangs=True)(request)

    api.on("GET", JOBS, watch)
    file = tmp_path / "words.yaml"
    file.write_text("kind: MapReduceJob\nmetadata: {name: words}")
    process = await started("run", str(file), "-o", "name", "--wait", stdout=PIPE, stderr=PIPE)
    await watched.wait()
    process.send_signal(signal.SIGINT)
    assert await process.communicate() == (b"mapreducejob/words\n", b"\n")
    assert process.returncode == 130


async def test_an_interrupted_command_ends_in_good_order(api: FakeApi) -> None:
    there(api, job(**AT_WORK))
    api.on("GET", JOBS, chunks(hangs=True))
    process = await started("watch", "words", stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    assert b"Map" in await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    # Behind the ^C that the terminal shows.
    assert await process.communicate() == (b"", b"\n")
    assert process.returncode == 130
