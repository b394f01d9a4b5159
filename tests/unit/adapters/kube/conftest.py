from collections.abc import AsyncIterator

import pytest

from mapreduce_operator.adapters.kube import ApiSession, Endpoint, KubeCluster
from tests.unit.adapters.kube.fake_api import FakeApi, running_fake_api


class Anonymous:
    """Credentials for a server that asks for none."""

    def __init__(self, server: str) -> None:
        self.endpoint = Endpoint(server)

    async def authorization(self, *, refused: str | None = None) -> str:
        del refused
        return ""


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with running_fake_api() as api:
        yield api


@pytest.fixture
async def session(api: FakeApi) -> AsyncIterator[ApiSession]:
    async with ApiSession(Anonymous(api.url)) as session:
        yield session


@pytest.fixture
async def impatient(api: FakeApi) -> AsyncIterator[ApiSession]:
    """So that what takes a minute and a half in the world takes two seconds here."""
    async with ApiSession(Anonymous(api.url), request_seconds=2.0, silence_seconds=2.0) as session:
        yield session


@pytest.fixture
def cluster(session: ApiSession) -> KubeCluster:
    return KubeCluster(session)
