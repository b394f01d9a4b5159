"""The composition root: settings, adapters, engine, Kopf; and the order in which they begin and end.

A process first waits until it leads. Until then it touches neither storage nor any object of a user's. It ends

- in order, when it is told to: dispatching stops, all runs are saved, the Lease is given back (exit code 0);
- at once, when it is deposed: whatever it might still do would get in the way of the next leader (exit code 1);
- in order, but with exit code 1, when a part of it fails.

In a pod the kubelet starts the container again, and the new process follows.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mapreduce_operator import __version__
from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.gauges import FleetGauges, tell_process
from mapreduce_operator.adapters.kube import (
    ApiSession,
    Credentials,
    CredentialsError,
    KubeCluster,
    KubeLeases,
    find_credentials,
)
from mapreduce_operator.adapters.metrics import PrometheusMetrics
from mapreduce_operator.adapters.probes import Health, serve_probes
from mapreduce_operator.adapters.storage import MeasuredStore, S3Options, open_store
from mapreduce_operator.core.plan import Limits
from mapreduce_operator.engine.capacity import Capacity
from mapreduce_operator.engine.informer import Informer
from mapreduce_operator.engine.leadership import Elector, SoleLeader, deposition
from mapreduce_operator.engine.pacing import Pace
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.engine.world import World
from mapreduce_operator.handlers import serve_kopf
from mapreduce_operator.logs import set_up_logging
from mapreduce_operator.ports import DeposedError, StorageError
from mapreduce_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
"""For all runs together, of the 30 s that Kubernetes gives a pod to end."""
CLOSE_SECONDS: Final = 2.0
"""For what is under way after that, in the engine and in storage."""

T = TypeVar("T")


class _ToldToEndError(Exception):
    """Before there was anything to save."""


def main() -> NoReturn:
    """Runs the operator until it is told to end. 0: ended in order. 1: an error. 2: it cannot start like this."""
    try:
        settings = Settings.from_environment()
        set_up_logging(settings.log_level, settings.log_format)
    except (SettingsError, ValueError) as error:
        print(f"mapreduce-operator cannot start: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        sys.exit(2)
    # Watch events make many short-lived objects and hardly any cycles; collecting less often saves a third of the CPU.
    gc.set_threshold(100_000, 50, 100)
    code = 1
    try:
        code = asyncio.new_event_loop().run_until_complete(_serve(settings))
    except _ToldToEndError:
        code = 0
    except DeposedError as error:
        log.critical("deposed, so this process ends at once: %s. Started again, it follows.", error)
    except (CredentialsError, StorageError, OSError, ValueError) as error:
        log.critical("mapreduce-operator cannot start: %s", error)
        code = 2
    except Exception:
        log.critical("ended unexpectedly", exc_info=True)
    # The usual end would wait for threads and tasks, for ever if storage hangs. What had to be saved is saved.
    logging.shutdown()
    os._exit(code)


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def take_signals() -> None:
        # Saving goes on after a second one.
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGINT, stop.set)

    take_signals()
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    metrics, health = PrometheusMetrics(registry), Health()
    tell_process(registry, health)
    measuring = asyncio.create_task(metrics.watch_loop(), name="event loop lag")
    async with serve_probes(settings.probe_port, registry, health):
        log.info("mapreduce-operator %s, storage %s", __version__, settings.storage_url)
        credentials = await _unless(stop, find_credentials())
        async with _elector(settings, credentials, metrics) as elector:
            process = _Process(settings, credentials, elector, registry, metrics, health, stop, take_signals)
            code = await process.serve()
    measuring.cancel()
    return code


@contextlib.asynccontextmanager
async def _elector(
    settings: Settings, credentials: Credentials, metrics: PrometheusMetrics
) -> AsyncIterator[Elector | SoleLeader]:
    if not settings.lease_namespace:
        yield SoleLeader()
        return
    # The Lease has a session of its own: it waits for no connection that the engine holds, and is not fenced by itself.
    # Of a request that is not answered, there is time for another one before the Lease is lost.
    seconds = settings.lease_seconds / 3
    async with ApiSession(credentials, observe=metrics.kubernetes_request, request_seconds=seconds) as api:
        yield Elector(
            KubeLeases(api, settings.lease_namespace, settings.lease_name),
            SystemClock(),
            # Each process is someone else: a container that is started again must not take itself for the one before.
            identity=f"{settings.identity or socket.gethostname()}_{uuid.uuid4()}",
            duration=settings.lease_seconds,
        )


@dataclass(frozen=True, slots=True)
class _Process:
    settings: Settings
    credentials: Credentials
    elector: Elector | SoleLeader
    registry: CollectorRegistry
    metrics: PrometheusMetrics
    health: Health
    stop: asyncio.Event
    take_signals: Callable[[], None]

    async def serve(self) -> int:
        """Follows, then leads; returns the exit code, or raises why it does not go on."""
        elector = self.elector
        self.health.leadership = elector
        # A follower does its part, so that a rollout goes on, unless it could not take over.
        self.health.ready = lambda: (not elector.problem, elector.problem or "following")
        try:
            await _unless(self.stop, elector.acquire())
        except _ToldToEndError:
            await elector.release()
            raise
        keeping = asyncio.create_task(elector.keep(), name="lease")
        leading = asyncio.create_task(self._lead(), name="leader")
        await asyncio.wait({keeping, leading}, return_when=asyncio.FIRST_COMPLETED)
        if keeping.done():
            keeping.result()
        keeping.cancel()
        match leading.exception():
            case DeposedError() as error:
                raise error
            case TimeoutError():
                log.error(
                    "something is still being written after %.0f s: the Lease is not given back but runs out",
                    CLOSE_SECONDS,
                )
                return 1
        await elector.release()
        return leading.result()

    async def _lead(self) -> int:
        """Does the work of a leader until told to end; when it returns, nothing is under way any more."""
        settings, elector, metrics = self.settings, self.elector, self.metrics
        s3 = S3Options(settings.s3_endpoint, settings.s3_region, settings.s3_path_style)
        opened = await _unless(self.stop, asyncio.to_thread(open_store, settings.storage_url, s3))
        store = MeasuredStore(opened, metrics.storage_request)
        api = ApiSession(self.credentials, may_write=lambda: elector.held, observe=metrics.kubernetes_request)
        async with KubeCluster(api, namespace=settings.watch_namespace) as cluster:
            informer = Informer(cluster)
            world = World(
                cluster=cluster,
                store=store,
                suitability=Suitability(store, uuid.uuid4().hex),
                storage_url=settings.storage_url,
                clock=SystemClock(),
                metrics=metrics,
                capacity=Capacity(settings.max_active_jobs),
                pace=Pace(),
                limits=Limits(settings.max_items, settings.max_item_bytes),
                leadership=elector,
                known_workloads=informer.known,
                copied_labels=settings.copied_labels,
            )
            supervisor = Supervisor(world, informer)
            self.registry.register(
                FleetGauges(
                    supervisor.vitals,
                    world.desk.queues,
                    world.clock,
                    agents_limit=world.capacity.total,
                    write_rate=lambda: world.pace.rate,
                    per_job=settings.per_job_metrics,
                )
            )
            engine = asyncio.create_task(supervisor.serve(), name="engine")
            kopf = asyncio.create_task(
                serve_kopf(supervisor, namespace=settings.watch_namespace, take_signals=self.take_signals), name="kopf"
            )
            self.health.alive = lambda: not engine.done()
            self.health.ready = lambda: (informer.synced, f"leading, epoch {elector.epoch}")
            for part in (engine, kopf):
                part.add_done_callback(_report)
            stopping = asyncio.create_task(self.stop.wait())
            await asyncio.wait({stopping, engine, kopf}, return_when=asyncio.FIRST_COMPLETED)
            if not engine.done():
                log.info("ending: saving all runs; their agents keep running")
                await supervisor.drain(DRAIN_SECONDS)
            code = 1 if engine.done() or kopf.done() else 0
            if engine.done() and (deposed := deposition(engine.exception())):
                raise deposed
            engine.cancel()
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.wait({engine})
                await store.close()
        return code


def _report(part: asyncio.Task[None]) -> None:
    """Says why a part of the process ended by itself, except where a deposition will be reported."""
    if not part.cancelled() and deposition(part.exception()) is None:
        log.critical("a part of the process, %s, has ended", part.get_name(), exc_info=part.exception())


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """What the work returns; raises _ToldToEndError when the process is told to end before."""
    doing, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not doing.done():
        doing.cancel()
        raise _ToldToEndError
    return doing.result()


if __name__ == "__main__":
    main()
