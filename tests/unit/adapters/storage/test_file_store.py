import asyncio
import errno
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.adapters.storage.folder import _explained
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason
from tests.conformance.object_store import ObjectStoreConformance, Reopen, keys

UNFINISHED = Path(".store/unfinished")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volume" / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FileStore]:
    store = FileStore(root)
    yield store
    await store.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def touched(folder: Path) -> dict[Path, int]:
    """When each file and folder below it was changed last; none where it is not there."""
    return {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*")) if path.exists()}


def take_away(root: Path, *, empty_in_its_place: bool) -> None:
    root.rename(root.with_name("elsewhere"))
    if empty_in_its_place:
        root.mkdir()


class TestFileStore(ObjectStoreConformance):
    @pytest.fixture
    async def reopen(self, root: Path) -> AsyncIterator[Reopen]:
        async with AsyncExitStack() as opened:

            def reopen() -> FileStore:
                store = FileStore(root)
                opened.push_async_callback(store.close)
                return store

            yield reopen


async def test_objects_are_plain_files(root: Path, store: FileStore) -> None:
    await store.put("team/licence-words/uid/head.json", b"{}")

    assert (root / "team/licence-words/uid/head.json").read_bytes() == b"{}"


async def test_nothing_is_left_behind_by_writes_that_end(root: Path, store: FileStore) -> None:
    await store.put("head.json", b"one")
    with pytest.raises(StorageConflictError):
        await store.put("head.json", b"two", if_absent=True)

    assert names_in(root / UNFINISHED) == []


async def test_deleting_the_last_object_removes_its_folders(root: Path, store: FileStore) -> None:
    await store.put("team/job/uid/journal/segment-1", b"")
    await store.put("team/other", b"")

    await store.delete(["team/job/uid/journal/segment-1"])

    assert names_in(root / "team") == ["other"]
    await store.delete(["team/other"])
    assert names_in(root) == [".store"]


async def test_an_unfinished_write_is_neither_listed_nor_read(root: Path, store: FileStore) -> None:
    await store.put("head.json", b"whole")
    partial = root / UNFINISHED / "0123"
    partial.write_bytes(b"ha")

    again = FileStore(root)

    assert await keys(again) == ["head.json"]
    assert await keys(again, ".store") == []
    assert await keys(again, ".store/") == []
    assert partial.exists(), "it may belong to a write that is going on in another process"
    await again.close()


async def test_old_unfinished_writes_are_swept_when_the_store_is_used_again(root: Path, store: FileStore) -> None:
    await store.put("head.json", b"old as well")
    abandoned, fresh = root / UNFINISHED / "abandoned", root / UNFINISHED / "fresh"
    abandoned.write_bytes(b"ha")
    fresh.write_bytes(b"ha")
    two_hours_ago = time.time() - 7200
    for path in (abandoned, root / "head.json"):
        os.utime(path, (two_hours_ago, two_hours_ago))

    again = FileStore(root)

    assert await keys(again) == ["head.json"]
    assert (abandoned.exists(), fresh.exists()) == (False, True)
    await again.close()


@pytest.mark.parametrize("empty_in_its_place", [False, True])
async def test_a_volume_that_was_taken_away_is_an_error_and_not_an_empty_store(
    root: Path, store: FileStore, empty_in_its_place: bool
) -> None:
    await store.put("run/head.json", b"{}")
    take_away(root, empty_in_its_place=empty_in_its_place)

    with pytest.raises(StorageError, match="folder of the store is gone"):
        await store.get("run/head.json")
    with pytest.raises(StorageError, match="folder of the store is gone"):
        await keys(store, "run/")
    with pytest.raises(StorageError, match="folder of the store is gone"):
        await store.put("run/head.json", b"{}")
    with pytest.raises(StorageError, match="folder of the store is gone"):
        await store.delete(["run/head.json"])


@pytest.mark.parametrize(("first", "second"), [("run", "run/head"), ("run/head", "run")])
async def test_a_key_cannot_be_a_folder_as_well(store: FileStore, first: str, second: str) -> None:
    await store.put(first, b"")

    with pytest.raises(StorageError, match="cannot hold both") as caught:
        await store.put(second, b"")

    assert second in str(caught.value)
    assert await keys(store) == [first]


async def test_a_store_in_place_of_a_file_is_refused(root: Path, store: FileStore) -> None:
    await asyncio.to_thread(root.parent.write_bytes, b"")

    with pytest.raises(StorageError, match="Could not open the file store"):
        await store.get("head.json")


@pytest.mark.parametrize(
    ("number", "reason", "advice"),
    [
        (errno.ENOSPC, StorageErrorReason.FULL, "Free space"),
        (errno.EDQUOT, StorageErrorReason.FULL, "Raise the quota"),
        (errno.EACCES, StorageErrorReason.FORBIDDEN, "fsGroup"),
        (errno.EPERM, StorageErrorReason.FORBIDDEN, "fsGroup"),
        (errno.EROFS, StorageErrorReason.FORBIDDEN, "Mount the volume writable"),
        (errno.ENOLCK, StorageErrorReason.UNSUITABLE, "no locks"),
        (errno.ENOSYS, StorageErrorReason.UNSUITABLE, "no locks"),
        (errno.EOPNOTSUPP, StorageErrorReason.UNSUITABLE, "no locks"),
        (errno.EINVAL, StorageErrorReason.UNSUITABLE, "no fsync of folders"),
        (errno.EIO, StorageErrorReason.UNAVAILABLE, "log of its node"),
        (errno.ESTALE, StorageErrorReason.UNAVAILABLE, "delete the pod"),
        (errno.ENOTCONN, StorageErrorReason.UNAVAILABLE, "delete the pod"),
    ],
)
def test_an_error_says_what_where_why_and_what_to_do(number: int, reason: StorageErrorReason, advice: str) -> None:
    path = Path("/data/run/head.json")

    with pytest.raises(StorageError) as caught, _explained("write", path):
        raise OSError(number, os.strerror(number))

    text = str(caught.value)
    assert text.startswith(f"Could not write /data/run/head.json: {os.strerror(number)}. ")
    assert advice in text
    assert caught.value.reason is reason


async def test_a_closed_store_has_written_all_it_was_given(root: Path) -> None:
    store = FileStore(root)
    writes = [asyncio.ensure_future(store.put(f"object-{number}", b"x" * 100_000)) for number in range(20)]
    await asyncio.sleep(0)

    await store.close()

    assert len(names_in(root)) == 21, "the objects and the store's own folder"
    await asyncio.gather(*writes)
    with pytest.raises(RuntimeError):
        await store.get("object-1")


async def test_one_that_is_read_only_makes_nothing_and_touches_nothing(root: Path, store: FileStore) -> None:
    looking = FileStore(root, read_only=True)
    with pytest.raises(StorageError, match="The folder of the store is gone"):
        await looking.get("a")
    assert touched(root) == {}

    await store.put("a", b"1")
    before = touched(root)
    found = await looking.get("a")
    assert found is not None
    assert (found.data, [key async for key in looking.list("")]) == (b"1", ["a"])
    assert touched(root) == before
    await looking.close()
