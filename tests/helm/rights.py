"""What the service accounts of a release may do, and what they were seen to ask for."""

import json
import subprocess
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.e2e.sandbox import PROJECT, Body

CLUSTER = PROJECT / "dev" / "cluster" / "cluster.sh"


class Right(NamedTuple):
    group: str
    resource: str
    """With its subresource after a slash."""
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f" of {self.group}" if self.group else "")


def granted(manifests: Iterable[Body], account: str) -> dict[Right, str]:
    """The rights that a release gives a service account of it, and the role that each is from."""
    by_name = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests}
    roles = [
        binding["roleRef"]
        for (kind, _), binding in by_name.items()
        if kind in {"RoleBinding", "ClusterRoleBinding"} and account in [one["name"] for one in binding["subjects"]]
    ]
    return {
        Right(group, resource, verb): f"the {role['kind']} {role['name']}"
        for role in roles
        for rule in by_name[role["kind"], role["name"]]["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def asked(namespace: str) -> dict[str, dict[Right, str]]:
    """What each service account of a namespace asked for, and an example, by the audit log of the local cluster."""
    found: dict[str, dict[Right, str]] = {}
    for event in _audit_log():
        what = event.get("objectRef")
        if what is None:  # such as /apis, which is open to everyone
            continue
        resource = "/".join(filter(None, (what["resource"], what.get("subresource"))))
        right = Right(what.get("apiGroup", ""), resource, event["verb"])
        example = f"{event['requestURI']}, answered by {event['responseStatus']['code']}"
        account = event["user"]["username"].removeprefix(f"system:serviceaccount:{namespace}:")
        found.setdefault(account, {})[right] = example
    return found


def _audit_log() -> Iterator[Body]:
    with subprocess.Popen([CLUSTER, "audit"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # The last line may be half written.
        yield from (json.loads(line) for line in process.stdout if line.endswith("\n"))
    assert process.returncode == 0
