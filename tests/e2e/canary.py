"""A value that nobody may tell, and all places in which somebody might."""

import base64
import json
from collections.abc import Mapping
from typing import Final

from tests.e2e.sandbox import Sandbox

SYSTEM: Final = "--namespace=mapreduce-system"
RELEASE: Final = "--selector=app.kubernetes.io/instance=mapreduce-operator"
KINDS: Final = ("mrj", "dlq", "redrives", "events", "jobs", "pods")


def told(sandbox: Sandbox) -> dict[str, str]:
    """What there is to see of the jobs of a namespace outside of storage, by the place."""
    pods = json.loads(sandbox.kubectl(SYSTEM, "get", "pods", RELEASE, "--output=json"))["items"]
    # Those that an upgrade replaced may be gone before they are asked.
    names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    metrics = (f"/api/v1/namespaces/mapreduce-system/pods/{name}:8080/proxy/metrics" for name in names)
    return {
        **{kind: sandbox.kubectl("get", kind, "--output=json") for kind in KINDS},
        "logs": "".join(sandbox.kubectl(SYSTEM, "logs", name, "--all-containers") for name in names),
        "metrics": "".join(sandbox.kubectl("get", "--raw", path) for path in metrics),
    }


def holding(canary: str, places: Mapping[str, str]) -> list[str]:
    """The places that have the canary, as it is or as a Secret holds it."""
    forms = (canary, base64.b64encode(canary.encode()).decode())
    return [place for place, text in places.items() if any(form in text for form in forms)]
