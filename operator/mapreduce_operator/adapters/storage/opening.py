"""From a URL to an object store."""

import re
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

from mapreduce_operator.adapters.storage.file import FileStore
from mapreduce_operator.adapters.storage.keys import checked_key
from mapreduce_operator.adapters.storage.s3 import S3Options, S3Store
from mapreduce_operator.ports import ObjectStore

_FILE: Final = "file:///folder"
_S3: Final = "s3://bucket/prefix"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX_LIMIT: Final = 256
"""Characters; leaves enough of S3's 1,024 for what the engine writes below."""


class OpenedStore(ObjectStore, Protocol):
    """An object store together with the duty to close it, which is the opener's and not the engine's."""

    async def close(self) -> None:
        """Waits for what is under way and releases threads and connections."""


def open_store(url: str, s3: S3Options = S3Options(), *, read_only: bool = False) -> OpenedStore:  # noqa: B008 - immutable
    """The store that a URL names. It is asked nothing yet: a folder is made at its first use, a bucket never.

    With `read_only` the folder must be there: it may lie on a volume that is mounted so.

    Raises ValueError for a URL or an endpoint that names none, and StorageError when boto3 cannot work with its own
    configuration. Blocks for a moment: it belongs to the start of a process.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ValueError(
            f"A storage URL holds no credentials, but the one for {parts.scheme}:// has an '@'. Write {_S3} and give "
            "the credentials as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    match parts.scheme:
        case "file":
            return FileStore(_folder(url, parts), read_only=read_only)
        case "s3":
            bucket, prefix = _bucket(url, parts)
            _check_endpoint(s3.endpoint)
            return S3Store(bucket, prefix, s3)
        case _:
            raise ValueError(f"Storage URL {url!r} is not supported; supported are {_FILE} and {_S3}")


def _folder(url: str, parts: SplitResult) -> Path:
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/") or parts.query or parts.fragment:
        raise ValueError(f"Storage URL {url!r} does not name a folder; write {_FILE}, with three slashes")
    return Path(path)


def _bucket(url: str, parts: SplitResult) -> tuple[str, str]:
    if not parts.netloc:
        raise ValueError(f"Storage URL {url!r} names no bucket; write {_S3}")
    if not _BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise ValueError(
            f"Storage URL {url!r}: {parts.netloc!r} is no name of a bucket; it has 3 to 63 lower-case letters, digits, "
            "hyphens and dots. The address of a service other than AWS goes into MAPREDUCE_S3_ENDPOINT"
        )
    if parts.query or parts.fragment:
        raise ValueError(f"Storage URL {url!r} has a '?' or a '#'; write {_S3} and nothing after it")
    prefix = parts.path.removeprefix("/").removesuffix("/")
    if len(prefix) > _PREFIX_LIMIT:
        raise ValueError(f"Storage URL {url!r}: the prefix has more than {_PREFIX_LIMIT} characters")
    try:
        return parts.netloc, checked_key(prefix) if prefix else ""
    except ValueError as error:
        raise ValueError(f"Storage URL {url!r}: the prefix cannot begin a key. {error}") from None


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise ValueError(
            "MAPREDUCE_S3_ENDPOINT holds credentials before the '@'; give them as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY"
        )
    usable = parts.scheme in {"http", "https"} and parts.hostname and not parts.query and not parts.fragment
    if endpoint and not usable:
        raise ValueError(f"MAPREDUCE_S3_ENDPOINT is {endpoint!r}; write it like https://host:port")
