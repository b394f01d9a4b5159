import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mapreduce_operator.adapters.kube import ApiSession, InClusterCredentials, KubeCluster, KubeconfigCredentials
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.integration.adapters.conftest import call

pytestmark = pytest.mark.cluster


@pytest.fixture
async def credentials(api: ApiSession, service_account: str, tmp_path: Path) -> InClusterCredentials:
    """What a pod would have: files with a token of the default service account and the cluster's authority."""
    token = await call(api, "POST", f"{service_account}/token", {"spec": {"expirationSeconds": 600}})
    (tmp_path / "token").write_text(token["status"]["token"], encoding="ascii")
    endpoint = (await KubeconfigCredentials.load()).endpoint
    assert endpoint.tls is not None
    (authority,) = endpoint.tls.get_ca_certs(binary_form=True)
    (tmp_path / "ca.crt").write_text(ssl.DER_cert_to_PEM_cert(authority), encoding="ascii")
    server = urlsplit(endpoint.server)
    environment = {
        "KUBERNETES_SERVICE_HOST": str(server.hostname),
        "KUBERNETES_SERVICE_PORT": str(server.port),
    }
    return InClusterCredentials(tmp_path, environment=environment)


async def test_a_service_account_is_known_and_allowed_nothing(
    credentials: InClusterCredentials, namespace: str
) -> None:
    async with KubeCluster(ApiSession(credentials), namespace=namespace) as cluster:
        with pytest.raises(ClusterError, match=f"system:serviceaccount:{namespace}:default") as caught:
            await cluster.list_workloads("jobs")

    assert caught.value.reason is ClusterErrorReason.FORBIDDEN


async def test_a_token_that_became_invalid_is_read_again(credentials: InClusterCredentials, tmp_path: Path) -> None:
    async with ApiSession(credentials) as api:
        valid = (tmp_path / "token").read_text(encoding="ascii")
        (tmp_path / "token").write_text("invalid", encoding="ascii")
        await credentials.authorization(refused=await credentials.authorization())

        with pytest.raises(ClusterError, match="Unauthorized") as caught:
            await api.request("GET", "/version", about="version")
        assert caught.value.reason is ClusterErrorReason.FORBIDDEN

        (tmp_path / "token").write_text(valid, encoding="ascii")
        assert b"gitVersion" in await api.request("GET", "/version", about="version")
