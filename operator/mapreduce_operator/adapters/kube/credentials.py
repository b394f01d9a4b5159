"""Where the API server is, and what opens its door.

Two sources: the service account of a pod, and a kubeconfig. Both may change while the process runs (projected tokens
live for an hour, exec plugins issue shorter ones), so the value of the `Authorization` header is asked for with every
request and kept here for a minute at most.

Limit: a client certificate that an exec plugin issues anew is used by new connections; those that are open keep the
old one until they are closed.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from kubernetes.client import Configuration

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_SECONDS: Final = 60.0


class CredentialsError(Exception):
    """There are no usable credentials. The text says what was looked for, and where."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to connect to the API server."""

    server: str
    """URL without a slash at its end; it may have a path."""
    tls: ssl.SSLContext | None = None
    proxy: str | None = None
    server_name: str | None = None
    """Name to expect in the server's certificate, where it is not the host in the URL."""


class Credentials(Protocol):
    @property
    def endpoint(self) -> Endpoint: ...

    async def authorization(self, *, refused: str | None = None) -> str:
        """Value of the Authorization header, "" for none.

        `refused` is a value that the server did not take: then all is read anew, unless that has happened since.
        """


async def find_credentials(
    file: Path | None = None, *, context: str | None = None
) -> "InClusterCredentials | KubeconfigCredentials":
    """Those of the pod when this is one and no kubeconfig is asked for, else those of the kubeconfig.

    Raises CredentialsError.
    """
    asked_for = file is not None or context is not None
    if not asked_for and os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return InClusterCredentials(SERVICE_ACCOUNT)
    return await KubeconfigCredentials.load(file, context=context)


class InClusterCredentials:
    """The pod's service account. The token's file is small and in memory, so that reading it blocks nobody."""

    def __init__(
        self,
        folder: Path = SERVICE_ACCOUNT,
        *,
        environment: Mapping[str, str] = os.environ,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise CredentialsError("This is no pod of a cluster: KUBERNETES_SERVICE_HOST is not set.")
        authority = folder / "ca.crt"
        try:
            context = _trusting(str(authority))
        except OSError as error:
            raise CredentialsError(f"Cannot use the cluster's certificate authority {authority}: {error}") from error
        host = f"[{host}]" if ":" in host else host
        self._endpoint: Final = Endpoint(f"https://{host}:{port}", context)
        self._token_file: Final = folder / "token"
        self._namespace_file: Final = folder / "namespace"
        self._refresh_seconds: Final = refresh_seconds
        self._value = self._read()
        self._read_at = time.monotonic()

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    @property
    def namespace(self) -> str:
        """That of the pod."""
        try:
            return self._namespace_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise CredentialsError(f"Cannot read the pod's namespace {self._namespace_file}: {error}") from error

    async def authorization(self, *, refused: str | None = None) -> str:
        if refused == self._value or time.monotonic() - self._read_at >= self._refresh_seconds:
            self._value = self._read()
            self._read_at = time.monotonic()
        return self._value

    def _read(self) -> str:
        try:
            return f"Bearer {self._token_file.read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeError) as error:
            raise CredentialsError(f"Cannot read the service account's token {self._token_file}: {error}") from error


class KubeconfigCredentials:
    """What `kubectl` would use: KUBECONFIG or ~/.kube/config, by way of the official client's loader.

    The loader blocks and may run exec plugins, so it is called in a thread.
    """

    def __init__(
        self, file: str, context: str | None, namespace: str, configuration: "Configuration", refresh_seconds: float
    ) -> None:
        """Not to be called from outside: `load` does the blocking part first."""
        self.namespace: Final = namespace
        """That of the context."""
        self._file: Final = file
        self._context: Final = context
        self._refresh_seconds: Final = refresh_seconds
        self._configuration = configuration
        self._endpoint: Final = _endpoint_of(configuration)
        self._value = _authorization_of(configuration)
        self._checked_at = time.monotonic()
        self._turn: Final = asyncio.Lock()

    @classmethod
    async def load(
        cls, file: Path | None = None, *, context: str | None = None, refresh_seconds: float = REFRESH_SECONDS
    ) -> "KubeconfigCredentials":
        source = str(file or os.environ.get("KUBECONFIG") or "~/.kube/config")
        configuration = await asyncio.to_thread(_load, source, context)
        namespace = await asyncio.to_thread(_namespace_of, source, context)
        return await asyncio.to_thread(cls, source, context, namespace, configuration, refresh_seconds)

    @property
    def endpoint(self) -> Endpoint:
        return self._endpoint

    async def authorization(self, *, refused: str | None = None) -> str:
        # One at a time: of many requests that were refused together, the first calls the plugin for all.
        async with self._turn:
            if refused is not None and refused == self._value:
                self._configuration = await asyncio.to_thread(_load, self._file, self._context)
                await asyncio.to_thread(self._take_certificate)
            elif time.monotonic() - self._checked_at < self._refresh_seconds:
                return self._value
            self._value = await asyncio.to_thread(_authorization_of, self._configuration)
            self._checked_at = time.monotonic()
            return self._value

    def _take_certificate(self) -> None:
        if self._endpoint.tls is not None:
            _add_certificate(self._endpoint.tls, self._configuration)


def _load(file: str, context: str | None) -> "Configuration":
    try:
        # Its import takes half a second and 40 MB, which a pod never pays.
        from kubernetes.client import Configuration  # noqa: PLC0415
        from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415
    except ImportError as error:
        raise CredentialsError(
            "Outside a cluster a kubeconfig is needed, and for that the official client: "
            "pip install 'mapreduce-operator[cli]'"
        ) from error
    configuration = Configuration()
    try:
        load_kube_config(file, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise CredentialsError(f"Cannot use the kubeconfig {file}: {error}") from error
    return configuration


def _namespace_of(file: str, context: str | None) -> str:
    """That of a context, or of the current one, in a kubeconfig that could be loaded."""
    from kubernetes.config import list_kube_config_contexts  # noqa: PLC0415 - as above

    contexts, current = list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = next(one for one in contexts if one["name"] == context) if context else current
    return str(chosen["context"].get("namespace") or "default")


def _authorization_of(configuration: "Configuration") -> str:
    """Calls the loader's hook, which runs an exec plugin again when its token has expired."""
    token = configuration.auth_settings().get("BearerToken")
    return str(token["value"]) if token else ""


def _endpoint_of(configuration: "Configuration") -> Endpoint:
    server = str(configuration.host).rstrip("/")
    context: ssl.SSLContext | None = None
    if server.startswith("https:"):
        context = _trusting(configuration.ssl_ca_cert or None)
        if not configuration.verify_ssl:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        _add_certificate(context, configuration)
    return Endpoint(server, context, configuration.proxy or None, configuration.tls_server_name or None)


def _trusting(authority: str | None) -> ssl.SSLContext:
    """A context that trusts this authority, or those of the machine."""
    context = ssl.create_default_context(cafile=authority)
    # On by default from Python 3.13 on: it refuses the authorities of many clusters, which have no key identifier,
    # and which kubectl takes.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _add_certificate(context: ssl.SSLContext, configuration: "Configuration") -> None:
    """Adds the client certificate, if there is one, or replaces that of before."""
    if not configuration.cert_file:
        return
    try:
        context.load_cert_chain(configuration.cert_file, configuration.key_file or None)
    except OSError as error:
        raise CredentialsError(f"Cannot use the client certificate {configuration.cert_file}: {error}") from error
