"""From what an S3 service answers, or fails to answer, to the one error that the engine knows.

Each says what was tried, where, why it failed and what to do. Credentials are in none: neither boto3's exceptions nor
what services answer hold secrets, and an endpoint that does is refused at the start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from mapreduce_operator.ports import StorageError, StorageErrorReason

_WHY_LIMIT: Final = 500
"""Characters of an explanation that end in a condition, whoever wrote it."""

_ADVICE: Final = {
    StorageErrorReason.UNAVAILABLE: "See that the service runs and can be reached; work goes on by itself.",
    StorageErrorReason.THROTTLED: "The service wants fewer requests; work goes on by itself.",
    StorageErrorReason.FULL: "Free space or raise the quota; writing goes on by itself.",
    StorageErrorReason.FORBIDDEN: (
        "Give the operator credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role) that allow "
        "s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there."
    ),
    StorageErrorReason.NOT_FOUND: "Create the bucket or correct its name; work goes on by itself.",
    StorageErrorReason.UNSUITABLE: "Check endpoint, region and path style, and that the service speaks S3.",
}

_REASONS: Final = {
    # Codes come before the status, which services choose differently.
    "NoSuchBucket": StorageErrorReason.NOT_FOUND,
    "SlowDown": StorageErrorReason.THROTTLED,
    "SlowDownRead": StorageErrorReason.THROTTLED,
    "SlowDownWrite": StorageErrorReason.THROTTLED,
    "TooManyRequests": StorageErrorReason.THROTTLED,
    "ErrTooManyRequest": StorageErrorReason.THROTTLED,
    "ErrRequestBytesExceed": StorageErrorReason.THROTTLED,
    "Throttling": StorageErrorReason.THROTTLED,
    "ThrottlingException": StorageErrorReason.THROTTLED,
    "RequestThrottled": StorageErrorReason.THROTTLED,
    "RequestLimitExceeded": StorageErrorReason.THROTTLED,
    "QuotaExceeded": StorageErrorReason.FULL,
    "InsufficientStorage": StorageErrorReason.FULL,
    "StorageFull": StorageErrorReason.FULL,
    "XMinioStorageFull": StorageErrorReason.FULL,
    "XMinioAdminBucketQuotaExceeded": StorageErrorReason.FULL,
    "AccessDenied": StorageErrorReason.FORBIDDEN,
    "ExpiredToken": StorageErrorReason.FORBIDDEN,
    "ExpiredTokenException": StorageErrorReason.FORBIDDEN,
    "InvalidToken": StorageErrorReason.FORBIDDEN,
    "InvalidIdentityToken": StorageErrorReason.FORBIDDEN,
    "InvalidAccessKeyId": StorageErrorReason.FORBIDDEN,
    "TokenRefreshRequired": StorageErrorReason.FORBIDDEN,
    "RequestTimeout": StorageErrorReason.UNAVAILABLE,
    "OperationAborted": StorageErrorReason.UNAVAILABLE,
    # What arrived is not what was sent.
    "BadDigest": StorageErrorReason.UNAVAILABLE,
    "IncompleteBody": StorageErrorReason.UNAVAILABLE,
    "XAmzContentSHA256Mismatch": StorageErrorReason.UNAVAILABLE,
    "429": StorageErrorReason.THROTTLED,
    "507": StorageErrorReason.FULL,
    "401": StorageErrorReason.FORBIDDEN,
    "403": StorageErrorReason.FORBIDDEN,
    "501": StorageErrorReason.UNSUITABLE,
}

_SKEWED: Final = "Set the clock of the operator's node, or of the service; they differ by too much."
_WITHOUT_CREDENTIALS: Final = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
)


def is_absent(error: ClientError) -> bool:
    """Whether there is no such object. No other 404 says so: that of a proxy would let a run begin anew."""
    return _code(error) == "NoSuchKey"


def lost_condition(error: ClientError) -> bool:
    """Whether a conditional write was refused for its condition.

    AWS answers 412, 409 when another write was under way, and 404 where nothing is there to be matched.
    """
    return _code(error) in {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"} or _status(error) == 412


@contextmanager
def translated(request: str) -> Iterator[None]:
    """Lets nothing out but StorageError, cancellation and defects of our own; `request` says what is tried where.

    Whatever leaves open whether a write took place becomes UNAVAILABLE.
    """
    try:
        yield
    except TimeoutError as error:
        raise _error(request, StorageErrorReason.UNAVAILABLE, str(error) or "no answer in time") from error
    except ClientError as error:
        message = error.response.get("Error", {}).get("Message") or "no explanation"
        raise refusal(request, _code(error), message, _status(error)) from error
    except _WITHOUT_CREDENTIALS as error:
        raise _error(request, StorageErrorReason.FORBIDDEN, str(error)) from error
    except (BotoCoreError, ResponseParserError, HTTPError, OSError) as error:
        # The latter are what boto3 lets through: answers that cannot be read, streams that break, TLS that fails.
        raise _error(request, StorageErrorReason.UNAVAILABLE, f"{type(error).__name__}: {error}") from error


def refusal(request: str, code: str, message: str, status: int = 500) -> StorageError:
    """The error for an answer that says no; without a status of its own it counts as the service's own failure."""
    reason = _REASONS.get(code) or _REASONS.get(str(status))
    if reason is None:
        # The remaining 3xx and 4xx are about how the service is addressed: another region, another dialect.
        unsuitable = 300 <= status < 500 and status != 408
        reason = StorageErrorReason.UNSUITABLE if unsuitable else StorageErrorReason.UNAVAILABLE
    advice = _SKEWED if code == "RequestTimeTooSkewed" else _ADVICE[reason]
    return _error(request, reason, f"{message} ({code}, HTTP {status})", advice)


def _error(request: str, reason: StorageErrorReason, why: str, advice: str = "") -> StorageError:
    why = " ".join(why.split()).rstrip(".")
    if len(why) > _WHY_LIMIT:
        why = f"{why[:_WHY_LIMIT]}…"
    return StorageError(f"Could not {request}: {why}. {advice or _ADVICE[reason]}", reason)


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
