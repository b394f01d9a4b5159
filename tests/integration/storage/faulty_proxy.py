"""A proxy between a client and an S3 service, on a real socket, which spoils what it is told to spoil.

Every connection carries one exchange. A fault is a coroutine function that gets the exchange and ends it in its own
way; without one, requests are handed on as they are.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from tests.ports import free_ports

END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(slots=True)
class Exchange:
    """One request, read to its end, and the connection on which its answer is awaited."""

    head: list[bytes]
    """The request's first line and its headers."""
    body: bytes
    client: asyncio.StreamWriter
    client_end: Callable[[], Awaitable[bytes]]
    service: tuple[str, int]

    async def answer_of_service(self) -> bytes:
        """What the service answers, head and body as they came."""
        reader, writer = await asyncio.open_connection(*self.service)
        kept = [line for line in self.head if not line.lower().startswith((b"connection:", b"expect:"))]
        writer.write(b"\r\n".join([*kept, b"Connection: close"]) + END_OF_HEAD + self.body)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def send(self, data: bytes) -> None:
        self.client.write(data)
        await self.client.drain()


Fault = Callable[[Exchange], Awaitable[None]]


class FaultyProxy:
    """`fault` is what happens to requests; `requests` counts those that came."""

    def __init__(self, service_url: str) -> None:
        self.fault: Fault | None = None
        self.requests = 0
        parts = urlsplit(service_url)
        self._service: Final = (str(parts.hostname), int(parts.port or 80))
        (self._port,) = free_ports(1)
        self._server: asyncio.Server | None = None
        self._connections: Final[set[asyncio.Task[None]]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def refuse(self) -> None:
        """Connections are refused from now on, and those that are open end, until it listens again."""
        if self._server is not None:
            self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(END_OF_HEAD)).removesuffix(END_OF_HEAD).split(b"\r\n")
                self.requests += 1
                if any(line.lower() == b"expect: 100-continue" for line in head):
                    # Without it boto3 sends the body only after a second.
                    writer.write(b"HTTP/1.1 100 Continue" + END_OF_HEAD)
                lengths = [line.partition(b":")[2] for line in head if line.lower().startswith(b"content-length:")]
                body = await reader.readexactly(int(lengths[0])) if lengths else b""
                exchange = Exchange(head, body, writer, reader.read, self._service)
                await (self.fault or hand_on)(exchange)
        finally:
            self._connections.discard(task)
            writer.close()


async def hand_on(exchange: Exchange) -> None:
    await exchange.send(await exchange.answer_of_service())


async def hang(exchange: Exchange) -> None:
    """Says nothing until the client gives up."""
    await exchange.client_end()


async def drip(exchange: Exchange) -> None:
    """An answer that never ends, in pieces that come often enough for no pause to be suspicious."""
    await exchange.send(b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 1000000\r\n\r\n')
    while True:
        await exchange.send(b"x")
        await asyncio.sleep(0.05)


async def lose_the_answer(exchange: Exchange) -> None:
    """The request is done, and the connection ends instead of saying so."""
    await exchange.answer_of_service()


async def cut_the_body(exchange: Exchange) -> None:
    head, _, body = (await exchange.answer_of_service()).partition(END_OF_HEAD)
    await exchange.send(head + END_OF_HEAD + body[: len(body) // 2])


async def break_off(exchange: Exchange) -> None:
    """Half of the answer, and then a reset instead of the rest."""
    data = await exchange.answer_of_service()
    await exchange.send(data[: len(data) - len(data.partition(END_OF_HEAD)[2]) // 2])
    # Without lingering, a socket is closed by a reset; after a moment, since a reset overtakes what was sent before.
    await asyncio.sleep(0.05)
    exchange.client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    exchange.client.transport.abort()


async def flip_the_answer(exchange: Exchange) -> None:
    """A bit of the body is another one when it arrives; its length is right."""
    data = bytearray(await exchange.answer_of_service())
    data[-2] ^= 1
    await exchange.send(bytes(data))


async def flip_the_request(exchange: Exchange) -> None:
    body = bytearray(exchange.body)
    body[-2] ^= 1
    exchange.body = bytes(body)
    await hand_on(exchange)


async def ignore_conditions(exchange: Exchange) -> None:
    """As a service does that does not know conditional writes. Without its conditions the signature would be wrong."""
    dropped = (b"if-match:", b"if-none-match:", b"authorization:")
    exchange.head = [line for line in exchange.head if not line.lower().startswith(dropped)]
    await hand_on(exchange)


def after(seconds: float) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await hand_on(exchange)

    return fault


def once(first: Fault) -> Fault:
    """The first request goes wrong, later ones do not."""
    pending = [first]

    async def fault(exchange: Exchange) -> None:
        await (pending.pop() if pending else hand_on)(exchange)

    return fault


def answer(status: int, code: str = "", *, region: str = "") -> Fault:
    """An error as S3 services put it, or with no code a page as proxies make it."""
    body = "<html><body>an explanation</body></html>"
    if code:
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>an explanation</Message></Error>'
    return answer_with(status, body, f"x-amz-bucket-region: {region}\r\n" if region else "")


def answer_with(status: int, body: str, header: str = "") -> Fault:
    head = f"HTTP/1.1 {status} Reason\r\n{header}Connection: close\r\nContent-Length: {len(body)}"

    async def fault(exchange: Exchange) -> None:
        await exchange.send(head.encode() + END_OF_HEAD + body.encode())

    return fault


@asynccontextmanager
async def faulty_proxy(service_url: str) -> AsyncIterator[FaultyProxy]:
    proxy = FaultyProxy(service_url)
    await proxy.listen()
    try:
        yield proxy
    finally:
        await proxy.refuse()
