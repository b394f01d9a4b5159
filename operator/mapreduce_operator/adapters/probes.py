"""The operator's own small HTTP server: is it alive, is it ready, and what has it counted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Metric, disable_created_metrics, generate_latest
from prometheus_client.registry import Collector

from mapreduce_operator.ports import Leadership

_PARTING_SECONDS = 0.5
"""For requests that are being answered when the process ends."""

# A series that says when each other one began, which doubles them all; Prometheus knows a restart by the value.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass
class Health:
    """What the process tells of itself. It changes this as it goes from stage to stage."""

    alive: Callable[[], bool] = lambda: True
    ready: Callable[[], tuple[bool, str]] = lambda: (False, "starting")
    """Whether the process does its part, and which part that is."""
    leadership: Leadership | None = None
    """That for which it competes; None before it does."""


@asynccontextmanager
async def serve_probes(port: int, registry: CollectorRegistry, health: Health) -> AsyncIterator[None]:
    """Serves /livez, /readyz and /metrics on all addresses as long as the context lasts."""

    async def livez(_: web.Request) -> web.Response:
        alive = health.alive()
        return _answer(alive, "ok" if alive else "the engine has ended")

    async def readyz(_: web.Request) -> web.Response:
        return _answer(*health.ready())

    async def metrics(_: web.Request) -> web.Response:
        # Collected here, where nothing changes meanwhile; written elsewhere, since it may be many lines.
        body = await asyncio.to_thread(generate_latest, _Collected(list(registry.collect())))
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/livez", livez), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_PARTING_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, port=port).start()
        yield
    finally:
        await runner.cleanup()


@dataclass(frozen=True, slots=True)
class _Collected(Collector):
    """All series as they were at one moment."""

    metrics: list[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def _answer(good: bool, text: str) -> web.Response:
    return web.Response(status=200 if good else 503, text=f"{text}\n")
