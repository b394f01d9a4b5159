"""From what the API server answers, or fails to answer, to the one error that the engine knows.

The engine decides by `reason` alone. Whatever leaves open whether a write took place becomes UNAVAILABLE: the caller
asks again, and finds out by names, uids and versions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp
import msgspec

from mapreduce_operator.adapters.kube.credentials import CredentialsError
from mapreduce_operator.ports import ClusterError, ClusterErrorReason

BODY_LIMIT: Final = 65_536
"""Bytes of an error's body that are worth reading."""
_MESSAGE_LIMIT: Final = 2_000


class StatusCause(msgspec.Struct):
    reason: str = ""
    message: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, rename="camel"):
    causes: list[StatusCause] | None = None
    retry_after_seconds: int = 0


class Status(msgspec.Struct):
    """The API server's own form of an error, as far as it is used here."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


_REASONS: Final = {
    400: ClusterErrorReason.INVALID,
    401: ClusterErrorReason.FORBIDDEN,
    403: ClusterErrorReason.FORBIDDEN,
    404: ClusterErrorReason.NOT_FOUND,
    409: ClusterErrorReason.CONFLICT,
    410: ClusterErrorReason.EXPIRED,
    429: ClusterErrorReason.THROTTLED,
}


def error_of(code: int, body: bytes, *, request: str, retry_after: str | None = None) -> ClusterError:
    """The error for an HTTP answer; `request` is verb and object, `retry_after` the header of that name."""
    status = _status_in(body)
    message = status.message or _plain(body) or "no explanation"
    for cause in (status.details and status.details.causes) or ():
        if cause.field and cause.field not in message:
            message = f"{message}; {cause.field}: {cause.message}"
    seconds = _seconds(retry_after)
    if seconds is None and status.details is not None and status.details.retry_after_seconds > 0:
        seconds = float(status.details.retry_after_seconds)
    return ClusterError(_reason(code, status), _bounded(f"{request}: {message} (HTTP {code})"), retry_after=seconds)


def error_in_stream(status: Status, *, request: str) -> ClusterError:
    """The error for an ERROR event of a watch. All but 410 pass: the next watch asks anew."""
    reason = ClusterErrorReason.EXPIRED if status.code == 410 else ClusterErrorReason.UNAVAILABLE
    return ClusterError(reason, _bounded(f"{request}: {status.message or status.reason} (in stream, {status.code})"))


@contextmanager
def translated(request: str) -> Iterator[None]:
    """Lets nothing out but ClusterError, cancellation and defects of our own."""
    try:
        yield
    except TimeoutError as error:
        raise _unavailable(request, str(error) or "no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        # OSError covers connections that break and TLS that fails.
        raise _unavailable(request, f"{type(error).__name__}: {error}") from error
    except msgspec.DecodeError as error:
        raise _unavailable(request, f"the answer is not what an API server says: {error}") from error
    except CredentialsError as error:
        raise _unavailable(request, str(error)) from error


def _unavailable(request: str, why: str) -> ClusterError:
    return ClusterError(ClusterErrorReason.UNAVAILABLE, _bounded(f"{request}: {why}"))


def _reason(code: int, status: Status) -> ClusterErrorReason:
    if code == 409 and status.reason == "AlreadyExists":
        return ClusterErrorReason.ALREADY_EXISTS
    # A quota that is new has no status until a controller has counted what is there.
    if code == 403 and ("exceeded quota" in status.message or "status unknown for quota" in status.message):
        return ClusterErrorReason.QUOTA
    causes = status.details.causes if status.details is not None else None
    if code == 403 and any(cause.reason == "NamespaceTerminating" for cause in causes or ()):
        return ClusterErrorReason.TERMINATING
    if code in _REASONS:
        return _REASONS[code]
    # The remaining 4xx are about what was sent (405, 413, 415, 422) but for a time-out. A 3xx comes from some proxy.
    is_ours = 400 <= code < 500 and code != 408
    return ClusterErrorReason.INVALID if is_ours else ClusterErrorReason.UNAVAILABLE


def _status_in(body: bytes) -> Status:
    try:
        return msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        return Status()


def _plain(body: bytes) -> str:
    """Text of a body that is no Status, such as a proxy's page, on one line."""
    return " ".join(body[:_MESSAGE_LIMIT].decode(errors="replace").split())


def _seconds(header: str | None) -> float | None:
    """The header's number; its other form, a date, is not used by API servers."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


def _bounded(text: str) -> str:
    return text if len(text) <= _MESSAGE_LIMIT else f"{text[: _MESSAGE_LIMIT - 1]}…"
