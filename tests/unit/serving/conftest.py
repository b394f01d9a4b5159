"""The read-only API over a run in a file store, and somebody who asks it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.storage import FileStore
from tests.unit.adapters.kube.conftest import Anonymous
from tests.unit.adapters.kube.fake_api import FakeApi, running_fake_api
from tests.unit.core.scenes import RUN
from tests.unit.serving.scenes import TOKEN, Served, knows_jane, served, write_run


@dataclass
class Asking:
    """Asks as jane, who may."""

    http: aiohttp.ClientSession

    async def get(self, path: str, *, token: str = f"Bearer {TOKEN}", **query: Any) -> tuple[int, bytes]:
        """Code and body of the answer; what is `from_` here is `from` there."""
        given = {name.rstrip("_"): f"{value}" for name, value in query.items()}
        async with self.http.get(path, params=given, headers={"Authorization": token} if token else {}) as response:
            return response.status, await response.read()

    async def warned(self, path: str, **query: Any) -> list[str]:
        """What is told of storage beside an answer."""
        async with self.http.get(path, params=query, headers={"Authorization": f"Bearer {TOKEN}"}) as response:
            assert response.status == 200, await response.read()
            headers = response.headers.getall("Warning", ())
        assert all(header.startswith("299 - ") for header in headers)
        return [json.loads(header.removeprefix("299 - ")) for header in headers]

    async def refused(self, path: str, **query: Any) -> tuple[int, str, str]:
        """Code, reason and message."""
        code, body = await self.get(path, **query)
        error = json.loads(body)["error"]
        return code, error["reason"], error["message"]

    async def of_job(self, what: str, **query: Any) -> Any:
        """What is told of the job, one JSON value."""
        return self._one(await self.get(job_path(what), **query))

    async def of_queue(self, what: str, **query: Any) -> Any:
        return self._one(await self.get(queue_path(what), **query))

    async def lines_of_job(self, what: str, **query: Any) -> list[Any]:
        return self._lines(await self.get(job_path(what), **query))

    async def lines_of_queue(self, what: str, **query: Any) -> list[Any]:
        return self._lines(await self.get(queue_path(what), **query))

    def _one(self, told: tuple[int, bytes]) -> Any:
        assert told[0] == 200, told
        return json.loads(told[1])

    def _lines(self, told: tuple[int, bytes]) -> list[Any]:
        assert told[0] == 200, told
        return [json.loads(line) for line in told[1].splitlines()]


def job_path(what: str) -> str:
    return f"/v1/namespaces/{RUN.namespace}/mapreducejobs/{RUN.name}/{what}"


def queue_path(what: str) -> str:
    return f"/v1/namespaces/{RUN.namespace}/deadletterqueues/demo/{what}"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    store = FileStore(tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def run(store: FileStore) -> None:
    await write_run(store)


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running_fake_api() as api:
        knows_jane(api)
        yield api


@pytest.fixture
async def service(api: FakeApi, store: FileStore) -> AsyncIterator[Served]:
    async with ApiSession(Anonymous(api.url)) as session, served(session, store) as service:
        yield service


@pytest.fixture
async def ask(service: Served) -> AsyncIterator[Asking]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{service.port}") as http:
        yield Asking(http)
