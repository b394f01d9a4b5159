"""A command line, an API server with the operator in it, and its read-only API at the end of a port-forward."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.cli.app import main
from tests.unit.adapters.kube.conftest import Anonymous
from tests.unit.adapters.kube.fake_api import FakeApi, answer, running_fake_api
from tests.unit.serving.scenes import TOKEN, knows_jane, served

Call = Callable[..., Coroutine[Any, Any, tuple[int, str, str]]]

POD = {
    "metadata": {"name": "the-api", "namespace": "mapreduce-system", "labels": {"app.kubernetes.io/instance": "it"}},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    store = FileStore(tmp_path / "store")
    yield store
    await store.close()


@pytest.fixture
async def api(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    """An API server that knows jane. Her kubeconfig leads there, and her kubectl to the read-only API."""
    async with (
        running_fake_api() as api,
        ApiSession(Anonymous(api.url)) as session,
        served(session, store) as service,
    ):
        knows_jane(api)
        api.on("GET", "/api/v1/namespaces/mapreduce-system/pods", answer({"items": [POD]}))
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            "{apiVersion: v1, kind: Config, current-context: fake, "
            f"users: [{{name: jane, user: {{token: '{TOKEN}'}}}}], "
            f"clusters: [{{name: fake, cluster: {{server: '{api.url}'}}}}], "
            "contexts: [{name: fake, context: {cluster: fake, user: jane}}]}"
        )
        kubectl = tmp_path / "bin" / "kubectl"
        kubectl.parent.mkdir()
        kubectl.write_text(f"#!/bin/sh\necho 'Forwarding from 127.0.0.1:{service.port} -> 8081'\nexec sleep 50\n")
        kubectl.chmod(0o755)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        monkeypatch.setenv("PATH", f"{kubectl.parent}:{os.environ['PATH']}")
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        yield api


@pytest.fixture
def call(api: FakeApi, capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs `kubectl mapreduce …` in a thread, as the servers need this one; gives exit code, stdout and stderr."""
    del api

    async def call(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call
