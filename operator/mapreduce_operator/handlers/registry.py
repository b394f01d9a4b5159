"""What Kopf calls: login, and for each kind one handler for every event."""

from collections.abc import Callable
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

    # Kopf calls these once per event and never again, so that nothing in them may fail for a passing reason.
    def tell_of(plural: str, observe: Callable[[Any], None], forget: Callable[[str], None]) -> None:
        @kopf.on.event(API_VERSION, plural, registry=registry, id=plural)
        async def tell(event: kopf.RawEvent, **_: Any) -> None:
            body = event["object"]
            if event["type"] == "DELETED":
                forget(body["metadata"]["uid"])
            else:
                observe(body)

    tell_of("mapreducejobs", supervisor.observe, supervisor.forget)
    tell_of("deadletterqueues", supervisor.observe_queue, supervisor.forget_queue)
    tell_of("redrives", supervisor.observe_redrive, supervisor.forget_redrive)
    return registry
