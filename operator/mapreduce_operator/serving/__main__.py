"""The process of the read-only API: it lets people who may look into jobs see what storage holds of them.

It has its own service account, which may read two kinds of objects and ask the API server who somebody is and what he
may. It listens for questions on loopback only: nobody reaches it but by a port-forward, which the API server lets
through, or not, and encrypts. Probes and metrics are for everybody.
"""

import asyncio
import logging
import signal
import sys
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from mapreduce_operator import __version__
from mapreduce_operator.adapters.kube import ApiSession, CredentialsError, find_credentials
from mapreduce_operator.adapters.probes import Health, serve_probes
from mapreduce_operator.adapters.storage import S3Options, open_store
from mapreduce_operator.logs import set_up_logging
from mapreduce_operator.ports import StorageError
from mapreduce_operator.serving.access import Access
from mapreduce_operator.serving.metrics import ApiMetrics
from mapreduce_operator.serving.pictures import Pictures
from mapreduce_operator.serving.read_only import ReadOnlyStore
from mapreduce_operator.serving.routes import Answers, Service
from mapreduce_operator.serving.runs import Runs
from mapreduce_operator.settings import Settings, SettingsError

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
PORT: Final = 8081


def main() -> int:
    """Serves until it is told to end. Returns 0 then, and 2 when it cannot start."""
    try:
        settings = Settings.from_environment()
        set_up_logging(settings.log_level, settings.log_format)
    except (SettingsError, ValueError) as error:
        print(f"mapreduce-operator-api cannot start: {error}", file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    try:
        asyncio.run(_serve(settings))
    except (CredentialsError, StorageError, OSError, ValueError) as error:
        log.critical("mapreduce-operator-api cannot start: %s", error)
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    registry, health = CollectorRegistry(), Health()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    s3 = S3Options(settings.s3_endpoint, settings.s3_region, settings.s3_path_style)
    store = await asyncio.to_thread(open_store, settings.storage_url, s3, read_only=True)
    async with (
        serve_probes(settings.probe_port, registry, health),
        ApiSession(await find_credentials()) as api,
    ):
        readable = ReadOnlyStore(store)
        answers = Answers(Pictures(readable), Runs(api, readable))
        runner = Service(answers, Access(api), ApiMetrics(registry)).runner()
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, PORT).start()
            health.ready = lambda: (True, "serving")
            log.info("mapreduce-operator-api %s, storage %s", __version__, settings.storage_url)
            await stop.wait()
        finally:
            await runner.cleanup()
            await store.close()


if __name__ == "__main__":
    sys.exit(main())
