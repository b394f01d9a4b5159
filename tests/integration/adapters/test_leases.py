import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mapreduce_operator.adapters.clock import SystemClock
from mapreduce_operator.adapters.kube import ApiSession, KubeLeases
from mapreduce_operator.engine.leadership import Elector
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, DeposedError, LeaseRecord
from tests.integration.adapters.conftest import call, until

pytestmark = pytest.mark.cluster

NAME = "leader"
DURATION = 8
RECORD = LeaseRecord("somebody", DURATION, acquired_at=1_800_000_000.0, renewed_at=1_800_000_001.25, transitions=3)


@pytest.fixture
def leases(api: ApiSession, namespace: str) -> KubeLeases:
    return KubeLeases(api, namespace, NAME)


async def lease_of(api: ApiSession, namespace: str) -> Any:
    return await call(api, "GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")


async def kubectl(*words: str) -> str:
    process = await asyncio.create_subprocess_exec("kubectl", *words, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def why(caught: pytest.ExceptionInfo[ClusterError]) -> ClusterErrorReason:
    return caught.value.reason


async def test_a_lease_from_beginning_to_end(api: ApiSession, namespace: str, leases: KubeLeases) -> None:
    assert await leases.read() is None

    created = await leases.create(RECORD)
    assert created.record == RECORD
    assert await leases.read() == created
    with pytest.raises(ClusterError) as taken:
        await leases.create(RECORD)
    assert why(taken) is ClusterErrorReason.ALREADY_EXISTS

    free = LeaseRecord("", DURATION, 1_800_000_000.0, 1_800_000_002.0, 4)
    replaced = await leases.replace(free, created.version)
    assert replaced.record == free
    assert await leases.read() == replaced
    with pytest.raises(ClusterError) as overtaken:
        await leases.replace(RECORD, created.version)
    assert why(overtaken) is ClusterErrorReason.CONFLICT

    await call(api, "DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")
    with pytest.raises(ClusterError) as gone:
        await leases.replace(RECORD, replaced.version)
    assert why(gone) is ClusterErrorReason.CONFLICT
    assert await leases.read() is None, "a late write must not bring it back"
    await leases.create(RECORD)
    with pytest.raises(ClusterError) as another:
        await leases.replace(RECORD, replaced.version)
    assert why(another) is ClusterErrorReason.CONFLICT


async def test_a_lease_without_a_word_is_free(api: ApiSession, namespace: str, leases: KubeLeases) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    await call(api, "POST", path, {"metadata": {"name": NAME}})

    found = await leases.read()

    assert found is not None
    assert found.record == LeaseRecord("", 0, 0.0, 0.0, 0)


async def test_a_namespace_that_is_missing_is_named(api: ApiSession) -> None:
    missing = f"mapreduce-none-{secrets.token_hex(4)}"
    leases = KubeLeases(api, missing, NAME)

    assert await leases.read() is None
    with pytest.raises(ClusterError, match=missing) as caught:
        await leases.create(RECORD)

    assert why(caught) is ClusterErrorReason.NOT_FOUND


@asynccontextmanager
async def leading(elector: Elector) -> AsyncIterator[None]:
    await elector.acquire()
    keeping = asyncio.create_task(elector.keep())
    yield
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


def times(lease: Any) -> tuple[datetime, datetime]:
    """When it was acquired, and renewed last."""
    acquired, renewed = (datetime.fromisoformat(lease["spec"][name]) for name in ("acquireTime", "renewTime"))
    return acquired, renewed


async def test_two_electors_take_turns(api: ApiSession, namespace: str, leases: KubeLeases) -> None:
    clock = SystemClock()
    await leases.create(LeaseRecord("", DURATION, 0.0, 0.0, 6))
    one, two = (Elector(leases, clock, identity=name, duration=DURATION) for name in ("one", "two"))

    async def is_renewed_beyond_its_duration() -> bool:
        acquired, renewed = times(await lease_of(api, namespace))
        return renewed - acquired > timedelta(seconds=1.5 * DURATION)

    began = datetime.now(UTC)
    async with leading(one):
        following = asyncio.create_task(two.acquire())
        await until(is_renewed_beyond_its_duration, "the Lease is renewed again and again")
        assert (one.held, two.held) == (True, False)
        lease = await lease_of(api, namespace)
        assert await kubectl("-n", namespace, "get", "lease", NAME, "-o", "jsonpath={.spec.holderIdentity}") == "one"
    assert lease["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "mapreduce-operator"}
    assert (lease["spec"]["leaseTransitions"], lease["spec"]["leaseDurationSeconds"]) == (7, DURATION)
    acquired, renewed = times(lease)
    slack = timedelta(seconds=1)  # by which the machine's clock may be set meanwhile
    assert began - slack < acquired < renewed < datetime.now(UTC) + slack

    await one.release()
    # Else it would wait for the whole duration.
    async with asyncio.timeout(DURATION - 1):
        await following
    assert (one.held, two.held) == (False, True)
    assert two.epoch == 8

    await two.surpass(20)
    assert (await lease_of(api, namespace))["spec"]["leaseTransitions"] == 21
    # Nobody renews any more: the next one waits until it has run out.
    started = time.monotonic()
    await one.acquire()
    assert time.monotonic() - started >= DURATION
    assert (one.held, two.held) == (True, False)
    assert one.epoch == 22
    with pytest.raises(DeposedError):
        await two.surpass(22)

    await one.release()
    assert "holderIdentity" not in (await lease_of(api, namespace))["spec"]


async def test_a_lease_that_is_deleted_by_hand_is_there_again(
    api: ApiSession, namespace: str, leases: KubeLeases
) -> None:
    await leases.create(LeaseRecord("", DURATION, 0.0, 0.0, 6))
    elector = Elector(leases, SystemClock(), identity="one", duration=DURATION)

    async with leading(elector):
        before = (await lease_of(api, namespace))["metadata"]["uid"]
        await call(api, "DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{NAME}")

        async def is_there_again() -> bool:
            return await leases.read() is not None

        await until(is_there_again, "the Lease is there again")
        again = await lease_of(api, namespace)
        assert elector.held

    assert again["metadata"]["uid"] != before
    assert (again["spec"]["holderIdentity"], again["spec"]["leaseTransitions"]) == ("one", 7)
