"""What Kopf calls: login, and one handler for every event of a MapReduceJob."""

from typing import Any

import kopf

from mapreduce_operator.api import API_VERSION
from mapreduce_operator.engine.supervisor import Supervisor


def build_registry(supervisor: Supervisor) -> kopf.OperatorRegistry:
    """The handlers of one operator process."""
    registry = kopf.OperatorRegistry()

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
