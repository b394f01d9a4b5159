"""From a URL to an object store."""

from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from mapreduce_operator.adapters.storage.file import FileStore
from mapreduce_operator.ports import ObjectStore

_SUPPORTED = "file:///folder"


class OpenedStore(ObjectStore, Protocol):
    """An object store together with the duty to close it, which is the opener's and not the engine's."""

    async def close(self) -> None:
        """Waits for what is under way and releases threads and connections."""


def open_store(url: str) -> OpenedStore:
    """Opens the store that a URL names, making it if need be.

    Raises ValueError for a URL that names none, and StorageError when the store cannot be used. Blocks for a moment:
    it belongs to the start of a process.
    """
    parts = urlsplit(url)
    if parts.scheme != "file":
        raise ValueError(f"Storage URL {url!r} is not supported; supported is {_SUPPORTED}")
    path = unquote(parts.path)
    if parts.netloc not in {"", "localhost"} or not path.startswith("/") or parts.query or parts.fragment:
        raise ValueError(f"Storage URL {url!r} does not name a folder; write {_SUPPORTED}, with three slashes")
    return FileStore(Path(path))
