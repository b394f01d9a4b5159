"""Going through a collection page by page, to read it or to delete it.

The pages of one list show the collection as of one version. The server forgets that version after some minutes, or
after many changes, and answers 410 to the next page; then all is begun anew, a few times at most.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from mapreduce_operator.adapters.kube.errors import translated
from mapreduce_operator.adapters.kube.resources import Resource
from mapreduce_operator.adapters.kube.session import ApiSession
from mapreduce_operator.adapters.kube.wire import Page
from mapreduce_operator.ports import JSON, ClusterError, ClusterErrorReason

_PAGE_SIZE: Final = 500
_BEGINNINGS: Final = 3
_ALL_PAGES_SECONDS: Final = 300.0

ItemT = TypeVar("ItemT")
ViewT = TypeVar("ViewT")


@dataclass(frozen=True, slots=True)
class Collection(Generic[ItemT]):
    """The objects of a kind that a label selector finds; an empty namespace is all namespaces."""

    api: ApiSession
    resource: Resource
    namespace: str
    selector: str
    decoder: msgspec.json.Decoder[Page[ItemT]]

    async def read(self, view: Callable[[ItemT], ViewT | None]) -> tuple[list[ViewT], str]:
        """The views of all objects that have one, and the version as of which they are complete.

        Each page is made into views before the next one is asked for: neither the objects themselves nor the work
        pile up, however many there are.
        """
        return await self._through_all_pages("GET", None, view)

    async def delete(self) -> None:
        """Deletes them all, with what they own, in the background. What comes into being meanwhile may stay."""
        await self._through_all_pages("DELETE", {"propagationPolicy": "Background"}, lambda _: None)

    async def _through_all_pages(
        self, verb: str, body: Mapping[str, JSON] | None, view: Callable[[ItemT], ViewT | None]
    ) -> tuple[list[ViewT], str]:
        with translated(f"{verb} {self.resource.about(self.namespace)}"):
            async with asyncio.timeout(_ALL_PAGES_SECONDS):
                for _ in range(_BEGINNINGS - 1):
                    try:
                        return await self._through_pages_of_one_version(verb, body, view)
                    except ClusterError as error:
                        if error.reason is not ClusterErrorReason.EXPIRED:
                            raise
                return await self._through_pages_of_one_version(verb, body, view)

    async def _through_pages_of_one_version(
        self, verb: str, body: Mapping[str, JSON] | None, view: Callable[[ItemT], ViewT | None]
    ) -> tuple[list[ViewT], str]:
        views: list[ViewT] = []
        query = {"labelSelector": self.selector, "limit": str(_PAGE_SIZE)}
        while True:
            answer = await self.api.request(
                verb,
                self.resource.path(self.namespace),
                about=self.resource.about(self.namespace),
                query=query,
                body=body,
            )
            page = self.decoder.decode(answer)
            views += [seen for item in page.items or () if (seen := view(item)) is not None]
            if not page.metadata.continue_:
                return views, page.metadata.resource_version
            query["continue"] = page.metadata.continue_
