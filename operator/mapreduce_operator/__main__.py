"""The composition root: settings, adapters, engine, Kopf; and the order in which they end."""

import asyncio
import contextlib
import gc
import logging
import socket
import sys
from collections.abc import AsyncIterator

import kopf
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mapreduce_operator import __version__
from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube import ApiSession, CredentialsError, KubeCluster, find_credentials
from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.probes import serve_probes
from mapreduce_operator.adapters.storage import OpenedStore, open_store
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from mapreduce_operator.handlers import build_registry
from mapreduce_operator.logs import set_up_logging
from mapreduce_operator.ports import StorageError
from mapreduce_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)


def main() -> int:
    """Runs the operator until it is told to stop. 0: stopped in order. 1: an error. 2: it cannot start like this."""
    try:
        settings = Settings.from_environment()
        set_up_logging(settings.log_level, settings.log_format)
    except (SettingsError, ValueError) as error:
        print(f"mapreduce-operator cannot start: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    # Watch events make many short-lived objects and hardly any cycles; collecting less often saves a third of the CPU.
    gc.set_threshold(100_000, 50, 100)
    try:
        return asyncio.run(_serve(settings))
    except (CredentialsError, StorageError, ValueError) as error:
        log.critical("mapreduce-operator cannot start: %s", error)
        return 2


async def _serve(settings: Settings) -> int:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    clock = SystemClock()
    store = open_store(settings.storage_url)
    async with (
        _closing(store),
        KubeCluster(ApiSession(await find_credentials()), namespace=settings.watch_namespace) as cluster,
    ):
        informer = Informer(cluster)
        world = World(
            cluster=cluster,
            store=store,
            storage_url=settings.storage_url,
            clock=clock,
            metrics=PrometheusMetrics(registry),
            capacity=Capacity(settings.max_active_jobs),
            limits=Limits(settings.max_items, settings.max_item_bytes),
            known_workloads=informer.known,
        )
        supervisor = Supervisor(world, informer)
        # Started before Kopf: Kopf cancels the tasks that came after it as soon as it stops, before they have saved.
        engine = asyncio.create_task(supervisor.serve(), name="engine")
        stop = asyncio.Event()
        engine.add_done_callback(lambda _: stop.set())
        async with serve_probes(
            settings.probe_port, registry, alive=lambda: not engine.done(), ready=lambda: informer.synced
        ):
            log.info("mapreduce-operator %s, storage %s", __version__, settings.storage_url)
            await kopf.operator(
                registry=build_registry(supervisor),
                # Otherwise Kopf asks for the user's name, and the image's user has none.
                identity=socket.gethostname(),  # type: ignore[arg-type]
                standalone=True,
                clusterwide=not settings.watch_namespace,
                namespaces=[settings.watch_namespace] if settings.watch_namespace else [],
                stop_flag=stop,
            )
        if engine.done():
            log.critical("the engine ended unexpectedly", exc_info=engine.exception())
            return 1
        engine.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await engine
    return 0


@contextlib.asynccontextmanager
async def _closing(store: OpenedStore) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()


if __name__ == "__main__":
    sys.exit(main())
