"""An API server that does what a test tells it, over real sockets on loopback.

It knows nothing of Kubernetes: for each verb and path it gives the answers of a list in turn, and the last one from
then on. So a test shows on its face what the server says, faults included.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Asked:
    """One request, as it came in."""

    verb: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass
class FakeApi:
    url: str
    asked: list[Asked] = field(default_factory=list)
    answers: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """A client closed the connection while the server had nothing to say."""

    def on(self, verb: str, path: str, *answers: Answer) -> None:
        self.answers[verb, path] = list(answers)

    def asked_for(self, verb: str, path: str) -> list[Asked]:
        return [asked for asked in self.asked if (asked.verb, asked.path) == (verb, path)]

    async def hang(self) -> None:
        """Says nothing until the client leaves or the test is over."""
        try:
            async with asyncio.timeout(50):
                await self.closing.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        headers = {name.lower(): ", ".join(request.headers.getall(name)) for name in request.headers}
        body = json.loads(text) if text else None
        self.asked.append(Asked(request.method, request.path, dict(request.query), headers, body))
        answers = self.answers.get((request.method, request.path))
        if not answers:
            return await failure(404, "NotFound", "not told to the fake")(request)
        return await (answers.pop(0) if len(answers) > 1 else answers[0])(request)


FAKE = web.AppKey("fake", FakeApi)


@asynccontextmanager
async def running_fake_api() -> AsyncIterator[FakeApi]:
    app = web.Application(client_max_size=0)
    runner = web.AppRunner(app, handler_cancellation=True)
    api = app[FAKE] = FakeApi("")
    app.router.add_route("*", "/{path:.*}", api.handle)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    api.url = f"http://{host}:{port}"
    yield api
    api.closing.set()
    await runner.cleanup()


def answer(body: Any, code: int = 200) -> Answer:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=code)

    return give


def failure(
    code: int,
    reason: str,
    message: str,
    *,
    details: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    status = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    if details is not None:
        status["details"] = details

    async def give(_: web.Request) -> web.StreamResponse:
        return web.json_response(status, status=code, headers=headers)

    return give


def text(body: str, code: int = 200) -> Answer:
    async def give(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=code)

    return give


def chunks(*parts: bytes, pause: float = 0.0, breaks: bool = False, hangs: bool = False) -> Answer:
    """A stream. After the parts it ends, or its connection breaks, or nothing comes any more."""

    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(pause)
        if hangs:
            await request.app[FAKE].hang()
        if breaks and request.transport is not None:
            request.transport.abort()
        return response

    return give


def silence() -> Answer:
    async def give(request: web.Request) -> web.StreamResponse:
        await request.app[FAKE].hang()
        return web.Response()

    return give


def broken() -> Answer:
    """The connection breaks before a word is said."""

    async def give(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return give


def event(kind: str, body: Any) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"
