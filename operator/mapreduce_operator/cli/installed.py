"""Where the operator is in the cluster, and the way to its pods."""

import asyncio
import shutil
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from mapreduce_operator.adapters.kube.resources import PODS
from mapreduce_operator.cli.apiserver import ApiServer, Body
from mapreduce_operator.cli.errors import CommandError, ExitCode
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

DEFAULT_NAMESPACE: Final = "mapreduce-system"
OPERATOR, API, READER = "operator", "api", "reader"
"""Components of the chart."""
RELEASE: Final = "app.kubernetes.io/instance"
USERS: Final = "the Role …-api-users of the chart"
"""What people need who read in the operator's namespace."""


@contextmanager
def asking_for(right: str, namespace: str) -> Iterator[None]:
    """Tells those who are refused which right they lack in the operator's namespace."""
    try:
        yield
    except ClusterError as error:
        if error.reason is not ClusterErrorReason.FORBIDDEN:
            raise
        raise CommandError(f"{error}; ask for {right} in the namespace {namespace}", ExitCode.FORBIDDEN) from error


def selector_of(component: str) -> str:
    return f"app.kubernetes.io/part-of=mapreduce-operator,app.kubernetes.io/component={component}"


async def pods_of(server: ApiServer, component: str, right: str) -> list[Body]:
    """The pods of a component that are ready, of which there is one at least. Raises CommandError, ClusterError.

    `right` is what somebody needs there, for those who may not even look.

    They are looked for in one namespace: a pod of these labels may be anybody's elsewhere, and it is given the user's
    token.
    """
    selector, namespace = selector_of(component), server.place.operator_namespace or DEFAULT_NAMESPACE
    with asking_for(right, namespace):
        found = await server.all_in(namespace, PODS, labelSelector=selector)
    if not found:
        raise CommandError(
            f"there is no pod with the labels {selector} in the namespace {namespace}: say where the "
            "operator is with --operator-namespace"
            + (", or switch its API on with api.enabled in the chart's values" if component == API else ""),
            ExitCode.NOT_FOUND,
        )
    releases = sorted({pod["metadata"]["labels"].get(RELEASE, "") for pod in found})
    if len(releases) > 1:
        raise CommandError(
            f"the namespace {namespace} has several operators, the releases {', '.join(releases)}, and it cannot be "
            "told which one is meant: have them in namespaces of their own"
        )
    if not (ready := [pod for pod in found if _is_ready(pod)]):
        first = found[0]["metadata"]
        raise CommandError(
            f"none of {len(found)} pods of the operator is ready (labels {selector}): "
            f"`kubectl describe pod {first['name']} -n {first['namespace']}` and its log tell why"
        )
    return ready


def _is_ready(pod: Body) -> bool:
    conditions: list[Body] = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def kubectl(server: ApiServer, *words: str, **pipes: Any) -> Process:
    """Starts kubectl, against the same cluster, in the same name."""
    program = shutil.which("kubectl")
    if program is None:
        raise CommandError("kubectl was not found on the PATH, and makes the way into the operator's pods: install it")
    return await asyncio.create_subprocess_exec(program, *server.place.for_kubectl, *words, **pipes)
