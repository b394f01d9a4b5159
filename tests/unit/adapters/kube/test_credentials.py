import asyncio
import ssl
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mapreduce_operator.adapters.kube import (
    ApiSession,
    CredentialsError,
    Endpoint,
    InClusterCredentials,
    KubeconfigCredentials,
    find_credentials,
)
from mapreduce_operator.adapters.kube import credentials as credentials_module
from mapreduce_operator.ports import ClusterError, ClusterErrorReason
from tests.unit.adapters.kube.fake_api import FakeApi, answer, failure

PATH = "/api/v1/things"
UNAUTHORIZED = failure(401, "Unauthorized", "Unauthorized")
ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "6443"}


# ------------------------------------------------------------------------------------------------- the pod's account


@pytest.fixture
def account(tmp_path: Path) -> Path:
    """A service account's folder. The authority is one that the machine trusts; nobody is asked for it here."""
    authorities = ssl.create_default_context().get_ca_certs(binary_form=True)
    (tmp_path / "ca.crt").write_text(ssl.DER_cert_to_PEM_cert(authorities[0]), encoding="ascii")
    (tmp_path / "token").write_text("first\n", encoding="ascii")
    return tmp_path


def rotate(account: Path, token: str) -> None:
    (account / "token").write_text(token, encoding="ascii")


@pytest.mark.parametrize(("host", "server"), [("10.96.0.1", "10.96.0.1"), ("fd00::1", "[fd00::1]")])
async def test_a_pod_finds_its_server_and_token(account: Path, host: str, server: str) -> None:
    credentials = InClusterCredentials(account, environment=ENVIRONMENT | {"KUBERNETES_SERVICE_HOST": host})

    assert credentials.endpoint.server == f"https://{server}:6443"
    assert credentials.endpoint.tls is not None
    assert len(credentials.endpoint.tls.get_ca_certs()) == 1
    assert credentials.endpoint.tls.verify_mode == ssl.CERT_REQUIRED
    assert credentials.endpoint.tls.check_hostname
    assert not credentials.endpoint.tls.verify_flags & ssl.VERIFY_X509_STRICT, "many clusters' authorities fail it"
    assert await credentials.authorization() == "Bearer first"


async def test_a_token_is_read_again_only_after_a_while(account: Path) -> None:
    patient = InClusterCredentials(account, environment=ENVIRONMENT)
    eager = InClusterCredentials(account, environment=ENVIRONMENT, refresh_seconds=0)
    rotate(account, "second")

    assert await patient.authorization() == "Bearer first"
    assert await eager.authorization() == "Bearer second"


async def test_a_token_that_was_refused_is_read_again_at_once(account: Path) -> None:
    credentials = InClusterCredentials(account, environment=ENVIRONMENT)
    rotate(account, "second")

    assert await credentials.authorization(refused="Bearer first") == "Bearer second"
    rotate(account, "third")
    assert await credentials.authorization(refused="Bearer first") == "Bearer second", "it was renewed meanwhile"


def test_outside_of_a_cluster_there_is_no_account(account: Path) -> None:
    with pytest.raises(CredentialsError, match="KUBERNETES_SERVICE_HOST is not set"):
        InClusterCredentials(account, environment={})


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_file_that_is_missing_is_named(account: Path, missing: str) -> None:
    (account / missing).unlink()

    with pytest.raises(CredentialsError, match=missing):
        InClusterCredentials(account, environment=ENVIRONMENT)


# -------------------------------------------------------------------------------------------------------- kubeconfig


def kubeconfig(folder: Path, server: str, user: dict[str, Any], **cluster: Any) -> Path:
    file = folder / "kubeconfig"
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": server, **cluster}}],
        "users": [{"name": "me", "user": user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "here", "user": "me"}},
            {"name": "none", "context": {"cluster": "here", "user": ""}},
        ],
        "current-context": "one",
    }
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return file


def plugin(folder: Path, expires: str) -> dict[str, Any]:
    """An exec plugin that hands out token-1, token-2 and so on."""
    script = folder / "plugin.py"
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, pathlib\n"
        f"calls = pathlib.Path({str(folder / 'calls')!r})\n"
        "count = int(calls.read_text()) + 1 if calls.exists() else 1\n"
        "calls.write_text(str(count))\n"
        "print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential',\n"
        f"                  'status': {{'token': f'token-{{count}}', 'expirationTimestamp': {expires!r}}}}}))\n",
        encoding="utf-8",
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script)}}


async def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080/k8s/one/", {"token": "secret"}, **{"proxy-url": "http://p:1"})

    credentials = await KubeconfigCredentials.load(file)

    assert credentials.endpoint == Endpoint("http://127.0.0.1:8080/k8s/one", proxy="http://p:1")
    assert await credentials.authorization() == "Bearer secret"


async def test_a_context_can_be_chosen(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", {"token": "secret"})

    credentials = await KubeconfigCredentials.load(file, context="none")

    assert await credentials.authorization() == ""


async def test_a_context_has_a_namespace(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", {"token": "secret"})
    config = yaml.safe_load(read(file))
    config["contexts"][0]["context"]["namespace"] = "team"
    write(file, yaml.safe_dump(config))

    assert (await KubeconfigCredentials.load(file)).namespace == "team"
    assert (await KubeconfigCredentials.load(file, context="none")).namespace == "default"


async def test_a_kubeconfig_that_is_asked_for_comes_before_the_pod(
    tmp_path: Path, account: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(account / "namespace", "team\n")
    monkeypatch.setattr(credentials_module, "SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", {"token": "secret"})
    monkeypatch.setenv("KUBECONFIG", str(file))

    in_pod = await find_credentials()
    assert (in_pod.namespace, in_pod.endpoint.server) == ("team", "https://10.96.0.1:443")
    for asked_for in (find_credentials(file), find_credentials(context="none")):
        assert (await asked_for).endpoint.server == "http://127.0.0.1:8080"


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


async def test_tls_is_as_the_kubeconfig_says(tmp_path: Path) -> None:
    strict = await KubeconfigCredentials.load(
        kubeconfig(tmp_path, "https://127.0.0.1:6443", {}, **{"tls-server-name": "kubernetes"})
    )
    lax = await KubeconfigCredentials.load(
        kubeconfig(tmp_path, "https://127.0.0.1:6443", {}, **{"insecure-skip-tls-verify": True})
    )

    assert strict.endpoint.tls is not None
    assert strict.endpoint.tls.verify_mode == ssl.CERT_REQUIRED
    assert strict.endpoint.server_name == "kubernetes"
    assert lax.endpoint.tls is not None
    assert lax.endpoint.tls.verify_mode == ssl.CERT_NONE


async def test_without_a_pod_the_kubeconfig_of_the_environment_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, "http://127.0.0.1:8080", {"token": "secret"})))

    credentials = await find_credentials()

    assert credentials.endpoint.server == "http://127.0.0.1:8080"


async def test_a_kubeconfig_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsError, match="nowhere"):
        await KubeconfigCredentials.load(tmp_path / "nowhere")


async def test_a_client_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    user = {"client-certificate": str(tmp_path / "me.crt"), "client-key": str(tmp_path / "me.key")}

    with pytest.raises(CredentialsError, match=r"me\.crt"):
        await KubeconfigCredentials.load(kubeconfig(tmp_path, "https://127.0.0.1:6443", user))


async def test_without_the_official_client_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes.client", None)

    with pytest.raises(CredentialsError, match=r"mapreduce-operator\[cli\]"):
        await KubeconfigCredentials.load(tmp_path / "any")


async def test_a_plugin_is_asked_once_while_its_token_lasts(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", plugin(tmp_path, "2099-01-01T00:00:00Z"))

    credentials = await KubeconfigCredentials.load(file, refresh_seconds=0)

    assert [await credentials.authorization() for _ in range(3)] == ["Bearer token-1"] * 3


async def test_a_plugin_is_asked_again_when_its_token_has_expired(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", plugin(tmp_path, "2020-01-01T00:00:00Z"))

    credentials = await KubeconfigCredentials.load(file, refresh_seconds=0)
    first, second = await credentials.authorization(), await credentials.authorization()

    assert first != second


async def test_of_many_requests_that_are_refused_one_asks_the_plugin(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "http://127.0.0.1:8080", plugin(tmp_path, "2099-01-01T00:00:00Z"))
    credentials = await KubeconfigCredentials.load(file)

    renewed = await asyncio.gather(*(credentials.authorization(refused="Bearer token-1") for _ in range(20)))

    assert set(renewed) == {"Bearer token-2"}


# --------------------------------------------------------------------------------------- what a session makes of them


async def test_a_request_carries_the_token(api: FakeApi, tmp_path: Path) -> None:
    api.on("GET", PATH, answer({}))
    credentials = await KubeconfigCredentials.load(kubeconfig(tmp_path, api.url, {"token": "secret"}))

    async with ApiSession(credentials) as session:
        await session.request("GET", PATH, about="things")

    assert api.asked[0].headers["authorization"] == "Bearer secret"


async def test_a_refused_token_is_renewed_once_and_the_request_repeated(api: FakeApi, tmp_path: Path) -> None:
    api.on("POST", PATH, UNAUTHORIZED, answer({"kind": "Thing"}))
    credentials = await KubeconfigCredentials.load(
        kubeconfig(tmp_path, api.url, plugin(tmp_path, "2099-01-01T00:00:00Z"))
    )

    async with ApiSession(credentials) as session:
        await session.request("POST", PATH, about="things", body={"a": 1})

    assert [asked.headers["authorization"] for asked in api.asked] == ["Bearer token-1", "Bearer token-2"]
    assert [asked.body for asked in api.asked] == [{"a": 1}, {"a": 1}]


async def test_a_token_that_stays_refused_is_an_error(api: FakeApi, tmp_path: Path) -> None:
    api.on("GET", PATH, UNAUTHORIZED)
    credentials = await KubeconfigCredentials.load(kubeconfig(tmp_path, api.url, {"token": "secret"}))

    async with ApiSession(credentials) as session:
        with pytest.raises(ClusterError, match="Unauthorized") as caught:
            await session.request("GET", PATH, about="things")

    assert caught.value.reason is ClusterErrorReason.FORBIDDEN
    assert len(api.asked) == 2


async def test_credentials_that_went_away_are_a_cluster_that_cannot_be_asked(api: FakeApi, tmp_path: Path) -> None:
    api.on("GET", PATH, UNAUTHORIZED)
    file = kubeconfig(tmp_path, api.url, {"token": "secret"})
    credentials = await KubeconfigCredentials.load(file)
    await asyncio.to_thread(file.unlink)

    async with ApiSession(credentials) as session:
        with pytest.raises(ClusterError, match="kubeconfig") as caught:
            await session.request("GET", PATH, about="things")

    assert caught.value.reason is ClusterErrorReason.UNAVAILABLE
