"""One command's connection to the cluster: the API server, and the operator's read-only API behind it."""

from collections.abc import AsyncIterator
from typing import Any

from mapreduce_operator.cli.apiserver import ApiServer, Body, Place
from mapreduce_operator.cli.reading import Reading

__all__ = ["Body", "Place", "Session"]


class Session(ApiServer):
    """To be entered before it is used. All methods raise ClusterError, CredentialsError or CommandError."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._reading: Reading | None = None

    async def answer(self, path: str, **query: str) -> Any:
        """What the read-only API answers with: one JSON value. The path begins with /v1/."""
        return await (await self._reader()).answer(path, query)

    async def lines(self, path: str, **query: str) -> AsyncIterator[Any]:
        """What the read-only API answers with: JSON values, one by one as they come."""
        async for value in (await self._reader()).lines(path, query):
            yield value

    async def _reader(self) -> Reading:
        if self._reading is None:
            self._reading = await self.closing.enter_async_context(Reading(self))
        return self._reading
