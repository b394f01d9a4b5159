"""A bad line to the API server: passes bytes on, late, not at all, or until it is cut. TLS goes through it as it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from mapreduce_operator.adapters.kube import Credentials, Endpoint


class BadLine:
    def __init__(self, host: str, port: int) -> None:
        self.delay = 0.0
        """Seconds by which each piece comes late."""
        self.connections = 0
        """As many were accepted."""
        self._target: Final = (host, port)
        self._flows: Final = asyncio.Event()
        self._flows.set()
        self._refuses = False
        self._open: Final[set[asyncio.StreamWriter]] = set()

    def cut(self) -> None:
        """Resets all connections."""
        for writer in list(self._open):
            writer.transport.abort()

    def stall(self) -> None:
        """Nothing gets through, and nobody is told; new connections stall too."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()
        self._refuses = False

    def refuse(self) -> None:
        """As if the server was gone: connections end, new ones at once."""
        self._refuses = True
        self.cut()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refuses:
            writer.transport.abort()
            return
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._target)
        self._open.update((writer, upstream_writer))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, upstream_writer))
                tasks.create_task(self._pass_on(upstream_reader, writer))
        finally:
            for one in (writer, upstream_writer):
                self._open.discard(one)
                one.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(65_536):
                await asyncio.sleep(self.delay)
                await self._flows.wait()
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()


class OverBadLine:
    """Credentials of others, for a server at the other end of a bad line."""

    def __init__(self, credentials: Credentials, server: str) -> None:
        self._credentials: Final = credentials
        self._server: Final = server

    @property
    def endpoint(self) -> Endpoint:
        endpoint = self._credentials.endpoint
        return replace(endpoint, server=self._server, server_name=urlsplit(endpoint.server).hostname)

    async def authorization(self, *, refused: str | None = None) -> str:
        return await self._credentials.authorization(refused=refused)


@asynccontextmanager
async def bad_line(credentials: Credentials) -> AsyncIterator[tuple[BadLine, Credentials]]:
    """A line that is good at first, and the credentials for who uses it."""
    address = urlsplit(credentials.endpoint.server)
    line = BadLine(str(address.hostname), address.port or 443)
    async with asyncio.TaskGroup() as tasks:
        accepted: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(
            lambda reader, writer: accepted.add(tasks.create_task(line.accept(reader, writer))), "127.0.0.1", 0
        )
        port = server.sockets[0].getsockname()[1]
        try:
            yield line, OverBadLine(credentials, f"https://127.0.0.1:{port}")
        finally:
            server.close()
            for connection in accepted:
                connection.cancel()
