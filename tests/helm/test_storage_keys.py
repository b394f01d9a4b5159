"""The keys of a bucket, which the operator has from a Secret of its namespace, are told nowhere."""

import secrets
from collections.abc import Iterator

import pytest
from kubernetes import client

from tests.e2e.canary import holding, told
from tests.e2e.sandbox import Sandbox, condition, job
from tests.helm.release import Release, Values

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SECRET = "bucket-keys"  # noqa: S105 - the name of one
NOBODY = "http://127.0.0.1:9"
"""An endpoint where nobody answers: the operator signs its requests, and has much to say of how they fail."""


@pytest.fixture
def keys(release: Release, deployed: Values, place: Sandbox) -> Iterator[list[str]]:
    """The operator has them, and logs all that it can; afterwards it has its volume again."""
    del place  # which is cleared by an operator that can read its storage
    keys = {"AWS_ACCESS_KEY_ID": secrets.token_hex(10), "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20)}
    secret = client.V1Secret(metadata=client.V1ObjectMeta(name=SECRET), string_data=keys)
    client.CoreV1Api().create_namespaced_secret(release.namespace, secret)
    storage = {
        "url": "s3://state/canary",
        "s3": {"endpoint": NOBODY, "region": "us-east-1", "existingSecret": SECRET},
    }
    try:
        release.upgrade({**deployed, "operator": {"logLevel": "DEBUG"}, "storage": storage})
        yield list(keys.values())
    finally:
        release.upgrade(deployed)
        client.CoreV1Api().delete_namespaced_secret(SECRET, release.namespace)


def test_the_keys_of_a_bucket_are_told_nowhere(place: Sandbox, keys: list[str]) -> None:
    name = place.create(job("unstored", [1], "exit 1"))
    place.until(name, lambda status: condition(status, "Ready")["reason"] == "StorageUnavailable")

    places = told(place)

    # These speak of the job, and how: of each request to storage.
    assert {where for where, text in places.items() if place.namespace in text} == {"mrj", "logs", "metrics"}
    assert '"level": "DEBUG"' in places["logs"]
    assert [holding(key, places) for key in keys] == [[], []]
