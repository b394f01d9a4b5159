"""An object store in a bucket: S3, or any service that speaks its protocol and honours conditional writes.

What the service must do beyond that is found out by the engine, not here. Credentials come from where boto3 looks for
them: the environment, a web identity, the machine's profile.
"""

from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import md5
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeVar

import boto3.session
from botocore.config import Config
from botocore.exceptions import ClientError

from mapreduce_operator import __version__
from mapreduce_operator.adapters.storage.keys import begins_keys, check_size, checked_key, is_key
from mapreduce_operator.adapters.storage.s3_errors import is_absent, lost_condition, refusal, translated
from mapreduce_operator.adapters.storage.workers import Workers
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason, StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestTypeDef, PutObjectRequestTypeDef

_THREADS: Final = 16
_CONNECT_SECONDS: Final = 5.0
"""Also the longest pause while a body is sent."""
_READ_SECONDS: Final = 10.0
_REQUEST_SECONDS: Final = 30.0
_DELETED_AT_ONCE: Final = 1_000
"""Keys of one request: S3's limit."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the service; what is empty is left to boto3 and its configuration in the environment."""

    endpoint: str = ""
    """URL of a service other than AWS."""
    region: str = ""
    path_style: bool | None = None
    """Whether the bucket stands in the path of a request and not in its host; None: if there is an endpoint."""


class S3Store:
    """`ObjectStore` below a prefix of a bucket. Opening it asks the service nothing.

    Each request of an operation has `request_seconds`, the wait for a thread included. A write that is given up then,
    or whose task is cancelled, may still happen: its thread cannot be stopped.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        options: S3Options = S3Options(),
        *,
        connect_seconds: float = _CONNECT_SECONDS,
        read_seconds: float = _READ_SECONDS,
        request_seconds: float = _REQUEST_SECONDS,
    ) -> None:
        """`prefix` is a key, or empty. Raises StorageError when boto3 cannot work with its own configuration."""
        self._bucket: Final = bucket
        self._prefix: Final = f"{prefix}/" if prefix else ""
        with translated(f"open s3://{bucket}"):
            self._client: Final[S3Client] = boto3.session.Session().client(
                "s3",
                endpoint_url=options.endpoint or None,
                region_name=options.region or None,
                config=_config(options, connect_seconds, read_seconds),
            )
        self._client.meta.events.register("before-call.s3.HeadBucket", _ask_no_bucket_for_its_region)
        self._place: Final = f"s3://{bucket}/{self._prefix} at {self._client.meta.endpoint_url}"
        self._workers: Final = Workers("s3-store", _THREADS, request_seconds)

    async def close(self) -> None:
        """Waits for what is under way; afterwards this store writes nothing any more and takes no more work."""
        await self._workers.close()
        self._client.close()

    async def get(self, key: str) -> StoredObject | None:
        return await self._ask(f"read {key} in", partial(self._get, self._full(key)))

    async def get_within(self, key: str, limit: int) -> StoredObject | None:
        return await self._ask(f"read {key} in", partial(self._get, self._full(key), limit))

    async def put(self, key: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        request: PutObjectRequestTypeDef = {"Bucket": self._bucket, "Key": self._full(key), "Body": data}
        if if_absent:
            request["IfNoneMatch"] = "*"
        if if_match is not None:
            request["IfMatch"] = if_match
        return await self._ask(f"write {key} to", partial(self._put, request, data))

    async def list(self, prefix: str) -> AsyncGenerator[str, None]:
        """All keys are read before the first is given, some 100 bytes of memory each.

        S3 lists in ascending order of the whole key, but services that keep folders list folder by folder, `a/b`
        before `a-b`: that is ascending only when all is there.
        """
        if not begins_keys(prefix):
            return
        found: list[str] = []
        request: ListObjectsV2RequestTypeDef = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page, more = await self._ask(f"list {prefix}* in", partial(self._page, request))
            found += page
            if not more:
                break
            request["ContinuationToken"] = more
        for key in sorted(found):
            yield key

    async def delete(self, keys: Iterable[str]) -> None:
        pending = iter([self._full(key) for key in keys])
        while batch := list(islice(pending, _DELETED_AT_ONCE)):
            await self._ask(f"delete {len(batch):,} objects in", partial(self._delete, batch))

    def _full(self, key: str) -> str:
        """The key within the bucket, or ValueError; a prefix takes away from what is left for the key."""
        return checked_key(self._prefix + checked_key(key))

    async def _ask(self, what: str, work: Callable[[], T]) -> T:
        with translated(f"{what} {self._place}"):
            return await self._workers.run(work)

    # ------------------------------------------------------------------------------------- what is done in a thread

    def _get(self, key: str, limit: int | None = None) -> StoredObject | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if is_absent(error):
                return None
            raise
        # A body that is shorter than announced raises, and the connection goes back only when it was read.
        with answer["Body"] as body:
            if limit is not None:
                check_size(key, answer["ContentLength"], limit)
            return StoredObject(body.read(), self._etag_in(answer.get("ETag")))

    def _put(self, request: "PutObjectRequestTypeDef", data: bytes) -> str:
        # Not every service compares a body with its signature, and what is stored wrong is lost. Of all checksums this
        # is the one that services have always known.
        request["ContentMD5"] = b64encode(md5(data, usedforsecurity=False).digest()).decode()
        try:
            answer = self._client.put_object(**request)
        except ClientError as error:
            if lost_condition(error):
                raise StorageConflictError(
                    f"Did not write {request['Key']} to {self._place}: it exists already, or is another version than "
                    "was expected."
                ) from error
            raise
        return self._etag_in(answer.get("ETag"))

    def _etag_in(self, etag: str | None) -> str:
        if not etag:
            raise StorageError(
                f"{self._place} answered without an ETag, so versions cannot be told apart. Use a service that speaks "
                "S3 there.",
                StorageErrorReason.UNSUITABLE,
            )
        return etag

    def _page(self, request: "ListObjectsV2RequestTypeDef") -> tuple[Sequence[str], str]:
        """One page of keys, and how to ask for the next or "".

        What is no key of ours is left out: consoles make empty objects with a slash at their end, as folders.
        """
        answer = self._client.list_objects_v2(**request)
        found = (entry["Key"].removeprefix(self._prefix) for entry in answer.get("Contents", ()))
        return [key for key in found if is_key(key)], answer.get("NextContinuationToken", "")

    def _delete(self, keys: Sequence[str]) -> None:
        answer = self._client.delete_objects(
            Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
        )
        failed = [entry for entry in answer.get("Errors", ()) if entry.get("Code") != "NoSuchKey"]
        if failed:
            first = failed[0]
            raise refusal(
                f"delete {len(failed):,} of {len(keys):,} objects in {self._place}",
                first.get("Code", ""),
                f"{first.get('Key')}: {first.get('Message')}",
            )


def _config(options: S3Options, connect_seconds: float, read_seconds: float) -> Config:
    style: Literal["auto", "path", "virtual"]
    if options.path_style is None:
        style = "path" if options.endpoint else "auto"
    else:
        style = "path" if options.path_style else "virtual"
    return Config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        max_pool_connections=_THREADS,
        # One more try heals a connection that the service closed while it lay idle. More is the engine's business:
        # it tries again by itself with a pause, says so in a condition, and dispatches no more meanwhile. A second try
        # of a conditional write whose first answer was lost meets its own first write and comes back as a conflict;
        # so whoever writes conditionally compares the content before believing it.
        retries={"mode": "standard", "total_max_attempts": 2},
        # Many services refuse the checksums that newer clients add by themselves. What is written has an older one;
        # what is read is compared with hashes of our own.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A checksum does not replace the signature of a body: some buckets take nothing without.
        s3={"addressing_style": style, "payload_signing_enabled": True},
        user_agent_extra=f"mapreduce-operator/{__version__}",
    )


def _ask_no_bucket_for_its_region(**_: object) -> NoReturn:
    """Ends boto3's reaction to a redirect that names no region, as those of proxies do; those of AWS name it.

    It would ask the bucket, and take the redirect that it gets in answer for one more reason to ask, without end.
    """
    raise ClientError(
        {
            "ResponseMetadata": {
                "RequestId": "",
                "HostId": "",
                "HTTPStatusCode": 0,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            }
        },
        "HeadBucket",
    )
