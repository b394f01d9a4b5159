"""Where a command works, and objects of the API server as plain JSON."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from mapreduce_operator.adapters.kube import ApiSession, InClusterCredentials, KubeconfigCredentials, find_credentials
from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.resources import Resource
from mapreduce_operator.adapters.kube.session import MERGE_PATCH
from mapreduce_operator.adapters.kube.watching import objects_in
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.cli.text import length
from mapreduce_operator.ports import JSON, ClusterError, ClusterErrorReason

Body = dict[str, Any]

FIELD_MANAGER: Final = {"fieldManager": "kubectl-mapreduce"}
REQUEST_SECONDS: Final = 30.0


@dataclass(slots=True)
class Place:
    """What the command line says of the cluster, before or after the command. Empty: as the kubeconfig says."""

    kubeconfig: str = ""
    context: str = ""
    namespace: str = ""
    all_namespaces: bool = False
    operator_namespace: str = ""
    as_user: str = ""
    """In whose name requests are sent."""
    as_groups: tuple[str, ...] = ()
    request_seconds: float = REQUEST_SECONDS
    """How long one request may take; 0 is any time."""

    @property
    def for_kubectl(self) -> list[str]:
        """The same cluster, in the same name, on a command line of kubectl."""
        given = {"--kubeconfig": self.kubeconfig, "--context": self.context, "--as": self.as_user}
        options = [f"{name}={value}" for name, value in given.items() if value]
        return [*options, *(f"--as-group={group}" for group in self.as_groups)]

    @property
    def impersonation(self) -> list[tuple[str, str]]:
        """The headers that say in whose name a request is."""
        user = [("Impersonate-User", self.as_user)] if self.as_user else []
        return [*user, *(("Impersonate-Group", group) for group in self.as_groups)]


class ApiServer:
    """To be entered before it is used. All methods raise ClusterError, CredentialsError or CommandError."""

    def __init__(self, place: Place) -> None:
        self.place: Final = place
        self.closing: Final = AsyncExitStack()
        """What is to be closed at the end."""
        self.namespace = place.namespace
        """Where the command works; "" is everywhere."""
        self.api: ApiSession
        self.credentials: InClusterCredentials | KubeconfigCredentials

    async def __aenter__(self) -> Self:
        place = self.place
        file = Path(place.kubeconfig) if place.kubeconfig else None
        self.credentials = await find_credentials(file, context=place.context or None)
        if not place.all_namespaces:
            self.namespace = place.namespace or self.credentials.namespace
        session = ApiSession(self.credentials, request_seconds=place.request_seconds, headers=place.impersonation)
        self.api = await self.closing.enter_async_context(session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.closing.aclose()

    def advised(self, words: str) -> str:
        """A command line of ours, for people to copy: it leads to the same place by the same options."""
        place = self.place
        where = {"-n": place.namespace, "--context": place.context, "--kubeconfig": place.kubeconfig}
        options = "".join(f" {name} {quote(value)}" for name, value in where.items() if value)
        return f"`kubectl mapreduce {words}{options}`"

    # ------------------------------------------------------------------------------------------- the API server

    async def find(self, resource: Resource, name: str) -> Body | None:
        """The object of this name in the namespace, or None where there is none."""
        try:
            return await self.get(resource, name)
        except ClusterError as error:
            if error.reason is ClusterErrorReason.NOT_FOUND:
                return None
            raise

    async def get(self, resource: Resource, name: str) -> Body:
        about = resource.about(self.namespace, name)
        return _body(await self.api.request("GET", resource.path(self.namespace, name), about=about), about)

    async def all_of(self, resource: Resource, **selectors: str) -> list[Body]:
        """All objects of a kind in the namespace, or everywhere; selectors such as labelSelector."""
        return await self.all_in(self.namespace, resource, **selectors)

    async def all_in(self, namespace: str, resource: Resource, **selectors: str) -> list[Body]:
        about = resource.about(namespace)
        answer = await self.api.request("GET", resource.path(namespace), about=about, query=selectors)
        items: list[Body] = _body(answer, about)["items"]
        return items

    async def create(self, resource: Resource, manifest: Body, *, dry_run: bool = False) -> Body:
        """Creates an object in the namespace; returns it as the API server has it."""
        about = resource.about(self.namespace, manifest["metadata"].get("name", ""))
        answer = await self.api.request(
            "POST", resource.path(self.namespace), about=about, query=_query(dry_run=dry_run), body=manifest
        )
        return _body(answer, about)

    async def patch(self, resource: Resource, name: str, patch: JSON, *, content_type: str = MERGE_PATCH) -> Body:
        """Changes an object; returns it as it is then."""
        about = resource.about(self.namespace, name)
        answer = await self.api.request(
            "PATCH",
            resource.path(self.namespace, name),
            about=about,
            query=_query(dry_run=False),
            body=patch,
            content_type=content_type,
        )
        return _body(answer, about)

    async def delete(self, resource: Resource, name: str, *, uid: str) -> None:
        """Deletes the very object."""
        await self.api.request(
            "DELETE",
            resource.path(self.namespace, name),
            about=resource.about(self.namespace, name),
            body={"preconditions": {"uid": uid}},
        )

    async def changes(self, resource: Resource, name: str) -> AsyncIterator[Body | None]:
        """The object as it is, and each time that it has changed; None at last, when it is not there.

        Ends after that, and never otherwise: a watch that breaks is begun again from what is there by then.
        """
        query = {"fieldSelector": f"metadata.name={name}", "watch": "true"}
        path, about = resource.path(self.namespace), resource.about(self.namespace, name)
        version = ""
        while True:
            now = await self.find(resource, name)
            if now is None:
                yield None
                return
            if now["metadata"]["resourceVersion"] != version:
                version = now["metadata"]["resourceVersion"]
                yield now
            try:
                stream = self.api.stream(path, about=about, query=query | {"resourceVersion": version})
                async with aclosing(stream) as chunks:
                    async for body in objects_in(chunks, request=about):
                        version = body["metadata"]["resourceVersion"]
                        yield body
            except ClusterError as error:
                if error.reason not in {ClusterErrorReason.UNAVAILABLE, ClusterErrorReason.EXPIRED}:
                    raise
            # It is found again above whether the server can be reached at all, which is no matter of many trials.
            await asyncio.sleep(1)

    async def until(
        self, resource: Resource, name: str, holds: Callable[[Body], bool], *, what: str, seconds: float | None
    ) -> Body:
        """Waits until an object is so; returns it. `what`, such as "to end", is for the error.

        Raises CommandError with TIMEOUT after `seconds`, with NOT_FOUND when the object is gone.
        """
        about = resource.about(self.namespace, name)
        try:
            async with asyncio.timeout(seconds):
                async for body in self.changes(resource, name):
                    if body is None:
                        raise CommandError(
                            f"{about} was deleted while it was waited for",
                            ExitCode.NOT_FOUND,
                        )
                    if holds(body):
                        return body
        except TimeoutError as error:
            raise CommandError(
                f"{about} takes longer than {length(seconds or 0)} {what}; nothing was undone. Look at it with "
                f"`kubectl describe {resource.plural} {name} -n {self.namespace}`, or wait with a longer --timeout",
                ExitCode.TIMEOUT,
            ) from error
        raise AssertionError("changes end with None only")


def _query(*, dry_run: bool) -> Mapping[str, str]:
    # Strict: a field that is misspelt is an error, and not dropped.
    return FIELD_MANAGER | {"fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})


def _body(answer: bytes, about: str) -> Body:
    with translated(about):
        return msgspec.json.decode(answer, type=dict[str, Any])
