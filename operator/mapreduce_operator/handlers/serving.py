"""Kopf as one task among others of this process."""

import asyncio
import socket
from collections.abc import Callable

import kopf

from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.handlers.kopf_settings import configure
from mapreduce_operator.handlers.registry import build_registry


async def serve_kopf(supervisor: Supervisor, *, namespace: str, take_signals: Callable[[], None]) -> None:
    """Tells the supervisor of all MapReduceJobs in a namespace, or in all when it is empty.

    Returns or raises only when Kopf fails. It is never stopped in order: it has nothing to save, and it would cancel
    whatever task is younger than itself, the runs' among them.
    """
    settings = kopf.OperatorSettings()
    configure(settings)
    tasks = await kopf.spawn_tasks(
        registry=build_registry(supervisor),
        settings=settings,
        # Otherwise Kopf asks for the user's name, and the image's user has none.
        identity=socket.gethostname(),  # type: ignore[arg-type]
        standalone=True,
        clusterwide=not namespace,
        namespaces=[namespace] if namespace else [],
    )
    # Kopf has just taken the signals for itself, and would stop by the first and fail by the second.
    take_signals()
    ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in ended:
        task.result()
