"""The operator's read-only API, by way of a port-forward.

It listens inside its pod only, so that nobody reaches it but through the API server, which knows who asks and encrypts
what is said. It asks for a bearer token besides. Who has a client certificate in its place reads by a token of the
chart's service account for readers, if it may make one.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import click
import msgspec

from mapreduce_operator.adapters.kube.resources import Resource
from mapreduce_operator.adapters.kube.watching import Lines
from mapreduce_operator.cli.apiserver import ApiServer, Body
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.installed import API, READER, RELEASE, USERS, asking_for, kubectl, pods_of, selector_of
from mapreduce_operator.cli.text import printable

PORT: Final = 8081
"""Of the API inside its pod, on loopback."""
_SERVICE_ACCOUNTS: Final = Resource("/api/v1", "serviceaccounts")
_TOKEN_SECONDS: Final = 600
"""The least that the API server makes a token for."""
_CERTIFICATE_NEEDS: Final = (
    "a kubeconfig with a token in the place of a certificate; or for the rights to list serviceaccounts and to create "
    "serviceaccounts/token"
)
_BUSY_ATTEMPTS: Final = 5
_FORWARD_SECONDS: Final = 20.0
_CODES: Final = {401: ExitCode.FORBIDDEN, 403: ExitCode.FORBIDDEN, 404: ExitCode.NOT_FOUND}


class Reading:
    """To be entered before it is used; the port-forward ends when it is left."""

    def __init__(self, server: ApiServer) -> None:
        self._server: Final = server
        self._name = ""
        """Of the pod that answers."""
        self._forward: asyncio.subprocess.Process | None = None
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self._server.place.as_user:
            raise CommandError(
                "--as is of no use here: the operator's API goes by your token, and would answer you and not "
                f"{self._server.place.as_user}. Use a kubeconfig with a token of theirs",
                ExitCode.USAGE,
            )
        pod = (await pods_of(self._server, API, USERS))[0]
        self._name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        token = await self._token(pod)
        try:
            port = await self._forwarded(pod)
        except BaseException:
            await self._close()
            raise
        self._http = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            headers={"Authorization": token},
            # How long an answer may take is the API's matter; one that falls silent is dead.
            timeout=aiohttp.ClientTimeout(total=None, sock_read=120),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        if self._http is not None:
            await self._http.close()
        if self._forward is not None:
            self._stop(self._forward)
            await self._forward.wait()

    @staticmethod
    def _stop(forward: asyncio.subprocess.Process) -> None:
        # One that has ended by itself cannot be terminated.
        if forward.returncode is None:
            forward.terminate()

    async def answer(self, path: str, query: Mapping[str, str]) -> Any:
        async with self._asked(path, query) as response:
            return _decoded(await response.read(), path)

    async def lines(self, path: str, query: Mapping[str, str]) -> AsyncIterator[Any]:
        together = Lines()
        async with self._asked(path, query) as response:
            async for chunk in response.content.iter_any():
                for line in together.take(chunk):
                    value = _decoded(line, path)
                    # The code of the answer was sent long before.
                    if isinstance(value, dict) and value.keys() == {"error"}:
                        raise CommandError(value["error"]["message"])
                    yield value

    @asynccontextmanager
    async def _asked(self, path: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._http is not None  # noqa: S101 - entered
        given = {name: value for name, value in query.items() if value}
        try:
            for left in reversed(range(_BUSY_ATTEMPTS)):
                async with self._http.get(path, params=given) as response:
                    if response.status == 503 and left:
                        await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
                        continue
                    if response.status != 200:
                        raise _refusal(response.status, await response.read(), path)
                    for warning in response.headers.getall("Warning", ()):
                        # 299 - "what is wrong"
                        text = _decoded(warning.partition(" - ")[2].encode(), path)
                        click.echo(f"warning: {printable(text)}", err=True)
                    yield response
                    return
        except (aiohttp.ClientError, TimeoutError) as error:
            raise CommandError(
                f"the operator's API broke off while it answered {path}: {type(error).__name__} {error}; try again, "
                f"and look at the log of its pod {self._name}"
            ) from error

    # ------------------------------------------------------------------------------------------------- the way there

    async def _token(self, pod: Body) -> str:
        authorization = await self._server.credentials.authorization()
        if authorization:
            return authorization
        namespace = pod["metadata"]["namespace"]
        with asking_for(_CERTIFICATE_NEEDS, namespace):
            accounts = await self._server.all_in(namespace, _SERVICE_ACCOUNTS, labelSelector=selector_of(READER))
        release = pod["metadata"]["labels"].get(RELEASE)
        names = [
            account["metadata"]["name"] for account in accounts if account["metadata"]["labels"].get(RELEASE) == release
        ]
        if not names:
            raise CommandError(
                "the kubeconfig's user has a certificate and no token, and the operator's API takes tokens only: the "
                f"namespace {namespace} has no service account for readers either (labels {selector_of(READER)}). "
                "Use a context whose user has a token, or have that account made: api.enabled and rbac.create in the "
                "chart's values",
                ExitCode.FORBIDDEN,
            )
        with asking_for(_CERTIFICATE_NEEDS, namespace):
            answer = await self._server.api.request(
                "POST",
                _SERVICE_ACCOUNTS.path(namespace, names[0], "token"),
                about=f"the token of the service account {namespace}/{names[0]}",
                body={"spec": {"expirationSeconds": _TOKEN_SECONDS}},
            )
        return f"Bearer {msgspec.json.decode(answer)['status']['token']}"

    async def _forwarded(self, pod: Body) -> int:
        """The local port that leads to the pod."""
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self._forward = await kubectl(
            self._server,
            f"--namespace={namespace}",
            "port-forward",
            "--address=127.0.0.1",
            f"pod/{name}",
            f":{PORT}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert self._forward.stdout is not None  # noqa: S101 - piped
        assert self._forward.stderr is not None  # noqa: S101 - piped
        try:
            async with asyncio.timeout(_FORWARD_SECONDS):
                line = (await self._forward.stdout.readline()).decode()
        except TimeoutError:
            line = ""
        # Forwarding from 127.0.0.1:40123 -> 8081
        _, found, rest = line.partition("127.0.0.1:")
        if not found:
            self._stop(self._forward)
            said = " ".join((await self._forward.stderr.read()).decode(errors="replace").split())
            raise CommandError(
                f"no port-forward to the pod {namespace}/{name} of the operator's API: {said or line or 'no answer'}; "
                f"ask for {USERS} in the namespace {namespace}, which has the right to create pods/portforward",
                ExitCode.FORBIDDEN if "forbidden" in said.lower() else ExitCode.ERROR,
            )
        return int(rest.split()[0])


def _decoded(data: bytes, path: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise CommandError(f"{path}: the answer is no JSON: {error}; is another program on the port?") from error


def _refusal(status: int, body: bytes, path: str) -> CommandError:
    try:
        message = str(msgspec.json.decode(body)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        message = f"{path}: HTTP {status}"
    return CommandError(message, _CODES.get(status, ExitCode.ERROR))
