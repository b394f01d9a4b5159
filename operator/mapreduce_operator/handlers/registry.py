"""What Kopf calls: start, stop, login, and one handler for every event of a MapReduceJob."""

import logging
from typing import Any, Final

import kopf

from mapreduce_operator.api import API_VERSION
from mapreduce_operator.engine.supervisor import Supervisor
from mapreduce_operator.handlers.kopf_settings import configure

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 10.0
"""Of the 30 s that Kubernetes gives a pod to end."""


def build_registry(supervisor: Supervisor) -> kopf.OperatorRegistry:
    """The handlers of one operator process."""
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        configure(settings)

    @kopf.on.cleanup(registry=registry)
    async def stop(**_: Any) -> None:
        log.info("shutting down: saving all runs; their agents keep running")
        await supervisor.drain(DRAIN_SECONDS)

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(API_VERSION, "mapreducejobs", registry=registry)
    async def observe(event: kopf.RawEvent, **_: Any) -> None:
        # Kopf calls this once per event and never again, so that nothing here may fail for a passing reason.
        body = event["object"]
        if event["type"] == "DELETED":
            supervisor.forget(body["metadata"]["uid"])
        else:
            supervisor.observe(body)

    return registry
