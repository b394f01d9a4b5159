"""HTTP to one API server: connections, credentials, time limits. Knows of bytes and streams, not of objects.

Requests and watches have sessions of their own, so that a watch never waits for a connection that requests hold, nor
the other way round. There is no retrying here but after a 401, which new credentials may cure: when to try again is
the engine's decision.

A session may be fenced: what would change something is sent only as long as this process leads. The question is asked
when the request has its connection, as the last thing before its first byte. What cannot be fenced is a request that
is already on its way, in a socket's buffer or in the network: it may arrive after another process took over. Its own
precondition decides then, which all writes of the engine have: a name that is taken, a version, a uid, an epoch.
"""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Final, Protocol, Self

import aiohttp
import msgspec

from mapreduce_operator import __version__
from mapreduce_operator.adapters.kube.credentials import Credentials
from mapreduce_operator.adapters.kube.errors import BODY_LIMIT, error_of, translated
from mapreduce_operator.adapters.kube.resources import resource_in
from mapreduce_operator.ports import JSON, ClusterError, ClusterErrorReason, DeposedError

_CONNECTIONS: Final = 64
_REQUEST_SECONDS: Final = 30.0
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 90.0
"""Bookmarks come about every minute, so a stream that is silent for longer is dead."""
_READ_BUFFER: Final = 1 << 20
_ONE_PIECE: Final = 1 << 18

JSON_BODY: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
JSON_PATCH: Final = "application/json-patch+json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""As an `accept`: of the object in the answer only its metadata, which saves both sides the rest."""


class Observer(Protocol):
    """Is told of each request."""

    def __call__(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """`code` is the HTTP status, or "error" where there was no answer; `seconds` passed until the answer began."""


@dataclass(frozen=True, slots=True)
class _Call:
    verb: str
    path: str
    name: str
    """Verb and object, for errors."""
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    content_type: str = JSON_BODY
    accept: str = JSON_BODY


class ApiSession:
    """To be made inside a running event loop, and closed when done."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        may_write: Callable[[], bool] | None = None,
        observe: Observer | None = None,
        connections: int = _CONNECTIONS,
        request_seconds: float = _REQUEST_SECONDS,
        silence_seconds: float = _SILENCE_SECONDS,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        """With `may_write`, all but GET raise DeposedError while it says no. `headers` are sent with every request."""
        self._credentials: Final = credentials
        self._observe: Final = observe
        self._headers: Final = headers
        self._fence: Final = [] if may_write is None else [_fence(may_write)]
        self._requests: Final = self._open(
            connections, aiohttp.ClientTimeout(total=request_seconds, sock_connect=_CONNECT_SECONDS)
        )
        self._watches: Final = self._open(
            0, aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=silence_seconds)
        )

    async def close(self) -> None:
        await self._requests.close()
        await self._watches.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def request(
        self,
        verb: str,
        path: str,
        *,
        about: str,
        query: Mapping[str, str] | None = None,
        body: JSON = None,
        content_type: str = JSON_BODY,
        accept: str = JSON_BODY,
    ) -> bytes:
        """The answer's body. `about` names the object in errors. All of it is done within the session's limit."""
        name = f"{verb} {about}"
        call = _Call(verb, path, name, query, None if body is None else _encoded(body, name), content_type, accept)
        with translated(name):
            async with self._answer(self._requests, call) as response:
                return await response.read()

    async def stream(self, path: str, *, about: str, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """A watch's bytes as they come in, until the server ends it; UNAVAILABLE when it falls silent or breaks."""
        call = _Call("GET", path, f"WATCH {about}", query)
        with translated(call.name):
            async with self._answer(self._watches, call) as response:
                async for chunk in response.content.iter_any():
                    yield chunk

    def _open(self, connections: int, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        context = self._credentials.endpoint.tls
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=True if context is None else context),
            timeout=timeout,
            read_bufsize=_READ_BUFFER,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=self._fence,
            headers=[
                # Within a cluster bandwidth is cheaper than unpacking.
                ("Accept-Encoding", "identity"),
                ("User-Agent", f"mapreduce-operator/{__version__}"),
                *self._headers,
            ],
        )

    @asynccontextmanager
    async def _answer(self, session: aiohttp.ClientSession, call: _Call) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer; everything else is an error, a first 401 a reason to look for new credentials."""
        refused: str | None = None
        while True:
            authorization = await self._credentials.authorization(refused=refused)
            headers = {"Accept": call.accept}
            if authorization:
                headers["Authorization"] = authorization
            if call.body is not None:
                headers["Content-Type"] = call.content_type
            async with await self._send(session, call, headers) as response:
                if response.status == 401 and refused is None:
                    refused = authorization
                    continue
                if not 200 <= response.status < 300:
                    body = await _beginning(response.content)
                    wait = response.headers.get("Retry-After")
                    raise error_of(response.status, body, request=call.name, retry_after=wait)
                yield response
                return

    async def _send(
        self, session: aiohttp.ClientSession, call: _Call, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        endpoint, loop = self._credentials.endpoint, asyncio.get_running_loop()
        began, code = loop.time(), "error"
        try:
            response = await session.request(
                call.verb,
                f"{endpoint.server}{call.path}",
                params=call.query,
                data=_in_pieces(call.body),
                headers=headers,
                proxy=endpoint.proxy,
                server_hostname=endpoint.server_name,
                allow_redirects=False,
            )
            code = str(response.status)
        finally:
            if self._observe is not None:
                verb, _, _ = call.name.partition(" ")
                self._observe(verb, resource_in(call.path), code, loop.time() - began)
        return response


def _fence(may_write: Callable[[], bool]) -> aiohttp.TraceConfig:
    async def check(
        _: aiohttp.ClientSession, __: SimpleNamespace, request: aiohttp.TraceRequestHeadersSentParams
    ) -> None:
        if request.method != "GET" and not may_write():
            raise DeposedError(f"{request.method} {request.url.path} was not sent: this process does not lead any more")

    trace = aiohttp.TraceConfig()
    # Asked, whatever its name says, before the headers are written: later than a wait for a connection, which may be
    # long, and again where the client itself repeats a request whose connection had broken.
    trace.on_request_headers_sent.append(check)
    return trace


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    """At most BODY_LIMIT bytes: an error's body is read into a message, whoever wrote it."""
    body = bytearray()
    while len(body) < BODY_LIMIT:
        chunk = await content.read(BODY_LIMIT - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _in_pieces(body: bytes | None) -> bytes | io.BytesIO | None:
    """A large body in a form that is sent piece by piece; as one piece it would hold the event loop up."""
    return io.BytesIO(body) if body is not None and len(body) > _ONE_PIECE else body


def _encoded(body: JSON, request: str) -> bytes:
    try:
        return msgspec.json.encode(body, enc_hook=_as_dict)
    except (TypeError, UnicodeEncodeError) as error:
        raise ClusterError(ClusterErrorReason.INVALID, f"{request}: cannot be sent as JSON: {error}") from error


def _as_dict(value: object) -> JSON:
    """A body that is a Mapping of another kind: the encoder writes dicts only, the port takes all."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")
