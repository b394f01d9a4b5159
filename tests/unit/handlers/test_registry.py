"""What a real Kopf tells the supervisor, watching an API server that says what the test wants."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import kopf
import pytest
import yaml

from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.handlers import build_registry, configure
from tests.unit.adapters.kube.fake_api import FakeApi, answer, chunks, event, running_fake_api

GROUP = "/apis/mapreduce.dev/v1alpha1"
KINDS = {"mapreducejobs": "MapReduceJob", "deadletterqueues": "DeadLetterQueue", "redrives": "Redrive"}


class Witness(Supervisor):
    """Writes down what it is told, and starts nothing."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.news = asyncio.Event()

    def _tell(self, what: str, uid: str) -> None:
        self.told.append((what, uid))
        self.news.set()

    def observe(self, body: Mapping[str, Any]) -> None:
        self._tell("job", body["metadata"]["uid"])

    def forget(self, uid: str) -> None:
        self._tell("job gone", uid)

    def observe_queue(self, body: Mapping[str, Any]) -> None:
        self._tell("queue", body["metadata"]["uid"])

    def forget_queue(self, uid: str) -> None:
        self._tell("queue gone", uid)

    def observe_redrive(self, body: Mapping[str, Any]) -> None:
        self._tell("redrive", body["metadata"]["uid"])

    def forget_redrive(self, uid: str) -> None:
        self._tell("redrive gone", uid)

    async def until_told(self, number: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(120):
            while len(self.told) < number:
                self.news.clear()
                await self.news.wait()
        return sorted(self.told)


def an_object(plural: str, uid: str, version: int) -> dict[str, Any]:
    metadata = {"name": uid, "namespace": "team-a", "uid": uid, "resourceVersion": str(version)}
    return {"apiVersion": "mapreduce.dev/v1alpha1", "kind": KINDS[plural], "metadata": metadata, "spec": {}}


def a_resource(plural: str, kind: str) -> dict[str, Any]:
    return {"name": plural, "kind": kind, "singularName": "", "namespaced": True, "verbs": ["list", "watch", "patch"]}


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeApi]:
    async with running_fake_api() as api:
        config = {
            "clusters": [{"name": "fake", "cluster": {"server": api.url}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "nobody"}}],
            "users": [{"name": "nobody", "user": {"token": "t"}}],
            "current-context": "fake",
        }
        file = tmp_path / "config"
        file.write_text(yaml.safe_dump(config))
        monkeypatch.setenv("KUBECONFIG", str(file))
        versions = [{"groupVersion": "mapreduce.dev/v1alpha1", "version": "v1alpha1"}]
        api.on("GET", "/api", answer({"versions": ["v1"]}))
        api.on("GET", "/api/v1", answer({"resources": [a_resource("namespaces", "Namespace")]}))
        api.on(
            "GET",
            "/apis",
            answer({"groups": [{"name": "mapreduce.dev", "versions": versions, "preferredVersion": versions[0]}]}),
        )
        resources = [a_resource(plural, kind) for plural, kind in KINDS.items()]
        api.on("GET", GROUP, answer({"resources": resources}))
        yield api


@contextlib.asynccontextmanager
async def kopf_telling(supervisor: Supervisor) -> AsyncIterator[None]:
    settings = kopf.OperatorSettings()
    configure(settings)
    tasks = await kopf.spawn_tasks(
        registry=build_registry(supervisor),
        settings=settings,
        identity="test",  # type: ignore[arg-type]
        standalone=True,
        clusterwide=False,
        namespaces=["team-a"],
    )
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_every_kind_is_told_of_as_it_comes_and_goes(api: FakeApi) -> None:
    for plural in KINDS:
        there = {"metadata": {"resourceVersion": "10"}, "items": [an_object(plural, f"{plural}-old", 9)]}
        news = chunks(
            event("ADDED", an_object(plural, f"{plural}-new", 11)),
            event("DELETED", an_object(plural, f"{plural}-gone", 12)),
            hangs=True,
        )
        api.on("GET", f"{GROUP}/namespaces/team-a/{plural}", answer(there), news)
    witness = Witness()

    async with kopf_telling(witness):
        told = await witness.until_told(9)

    assert told == sorted(
        (what, f"{plural}-{which}")
        for plural, kind in (("mapreducejobs", "job"), ("deadletterqueues", "queue"), ("redrives", "redrive"))
        for what, which in ((kind, "old"), (kind, "new"), (f"{kind} gone", "gone"))
    )
    assert {asked.verb for asked in api.asked} == {"GET"}
