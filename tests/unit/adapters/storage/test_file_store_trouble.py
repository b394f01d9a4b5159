"""A volume that fails or hangs: each trouble has its reason and an end, changes nothing, and passes with its cause."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason
from tests.conformance.object_store import keys

HEAD = "run/head.json"
SECONDS = 2.0
"""As long as an impatient store waits for what hangs, and much longer than a machine at work takes for the rest."""

Call = Callable[[FileStore, str], Awaitable[object]]

CALLS: dict[str, Call] = {
    "get": lambda store, _: store.get(HEAD),
    "put": lambda store, _: store.put(HEAD, b"after"),
    "create": lambda store, _: store.put(HEAD, b"after", if_absent=True),
    "swap": lambda store, etag: store.put(HEAD, b"after", if_match=etag),
    "list": lambda store, _: keys(store, "run/"),
    "delete": lambda store, _: store.delete([HEAD]),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FileStore]:
    store = FileStore(root)
    yield store
    await store.close()


@pytest.fixture
async def impatient(root: Path) -> AsyncIterator[FileStore]:
    store = FileStore(root, request_seconds=SECONDS)
    yield store
    await store.close()


async def assert_works(store: FileStore, root: Path) -> None:
    etag = await store.put(HEAD, b"works")
    await store.put(HEAD, b"works again", if_match=etag)
    assert await keys(store) == [HEAD]
    assert list((root / ".store/unfinished").iterdir()) == []


def failing(number: int) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    "trouble",
    [
        (errno.ENOSPC, StorageErrorReason.FULL),
        (errno.EDQUOT, StorageErrorReason.FULL),
        (errno.EROFS, StorageErrorReason.FORBIDDEN),
        (errno.EACCES, StorageErrorReason.FORBIDDEN),
        (errno.EIO, StorageErrorReason.UNAVAILABLE),
        (errno.ESTALE, StorageErrorReason.UNAVAILABLE),
        (errno.ENOTCONN, StorageErrorReason.UNAVAILABLE),
        (errno.ETIMEDOUT, StorageErrorReason.UNAVAILABLE),
    ],
    ids=lambda trouble: errno.errorcode[trouble[0]],
)
@pytest.mark.parametrize(
    "place",
    [
        ("get", Path, "read_bytes"),
        ("put", os, "fsync"),
        ("put", Path, "replace"),
        ("create", Path, "stat"),
        ("swap", Path, "read_bytes"),
        ("list", os, "scandir"),
        ("delete", Path, "unlink"),
        ("delete", os, "fsync"),
    ],
    ids=lambda place: f"{place[0]}-{place[2]}",
)
async def test_each_error_at_each_place(
    root: Path,
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[str, object, str],
    trouble: tuple[int, StorageErrorReason],
) -> None:
    (call, owner, fails), (number, reason) = place, trouble
    etag = await store.put(HEAD, b"before")
    monkeypatch.setattr(owner, fails, failing(number))

    with pytest.raises(StorageError, match=rf"^Could not .* {root}.*: {os.strerror(number)}\. ") as caught:
        await CALLS[call](store, etag)

    # A conflict would be taken for another leader's write.
    assert caught.type is StorageError
    assert caught.value.reason is reason
    monkeypatch.undo()
    await assert_works(store, root)


async def test_a_store_that_cannot_be_opened_says_so_each_time_and_goes_on_when_it_can(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", failing(errno.EROFS))
    store = FileStore(root)

    for call in CALLS.values():
        with pytest.raises(StorageError, match=f"Could not open the file store {root}.*Mount the volume writable"):
            await call(store, "")

    monkeypatch.undo()
    await assert_works(store, root)
    await store.close()


@pytest.mark.parametrize("call", ["create", "swap"])
async def test_what_a_failed_write_left_is_durable_before_it_is_called_a_conflict(
    root: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The engine compares what is there with what it wrote, and goes on when both are the same."""
    etag = await store.put(HEAD if call == "swap" else "run/other", b"before")
    fsync, synced = os.fsync, list[Path]()

    def broken_for_folders(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        if path.is_dir():
            failing(errno.EIO)()
        fsync(descriptor)

    def observed(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").resolve())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken_for_folders)
    with pytest.raises(StorageError, match=os.strerror(errno.EIO)):
        await CALLS[call](store, etag)
    monkeypatch.setattr(os, "fsync", observed)

    with pytest.raises(StorageConflictError):
        await CALLS[call](store, etag)

    assert root / "run" in synced
    found = await store.get(HEAD)
    assert found is not None
    assert found.data == b"after"


# --------------------------------------------------------------------------------------------------------------- hangs


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A volume on which nothing that is written gets to the disk, until this is set; from then on all does at once."""
    back = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: back.wait())
    yield back
    back.set()


async def test_nothing_takes_longer_than_its_time(root: Path, impatient: FileStore, back: threading.Event) -> None:
    store = impatient

    # More than there are threads: the last ones wait for one, and would do so for as long as the volume hangs.
    ends = await asyncio.gather(*(store.put(f"run/{number}", b"data") for number in range(10)), return_exceptions=True)
    with pytest.raises(StorageError) as read:
        await store.get(HEAD)

    errors = [read.value, *(end for end in ends if isinstance(end, StorageError))]
    assert len(errors) == 11
    assert {error.reason for error in errors} == {StorageErrorReason.UNAVAILABLE}
    assert f"Could not read {root}/{HEAD}: no answer within 2 s. See to the volume" in str(read.value)
    back.set()
    await store.put(HEAD, b"works")
    assert await store.get("run/9") is None, "it never had a thread, and nobody waits for it"


async def test_whether_a_volume_that_hangs_is_suitable_is_answered_in_time_to_all_that_ask(
    impatient: FileStore, back: threading.Event
) -> None:
    suitability = Suitability(impatient, "one")

    # Each of them alone would take its time.
    async with asyncio.timeout(8 * SECONDS):
        ends = await asyncio.gather(*(suitability.check() for _ in range(10)), return_exceptions=True)

    assert {type(end) for end in ends} == {StorageError}
    back.set()
    await suitability.check()
    assert await keys(impatient) == []


async def test_a_read_that_hangs_holds_up_no_other(root: Path, store: FileStore, impatient: FileStore) -> None:
    await store.put(HEAD, b"data")
    # Whoever opens it waits until somebody writes into it.
    os.mkfifo(root / "run" / "hangs")

    with pytest.raises(StorageError, match="no answer within"):
        await impatient.get("run/hangs")

    found = await impatient.get(HEAD)
    assert found is not None
    (root / "run" / "hangs").write_bytes(b"")


async def test_a_write_that_hangs_with_the_lock_is_told_from_one_that_fails(
    root: Path, store: FileStore, impatient: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(HEAD, b"data")
    os.mkfifo(root / "run" / "hangs")

    with pytest.raises(StorageError, match="no answer within"):
        await impatient.put("run/hangs", b"", if_match="etag")
    with monkeypatch.context() as hurry:
        hurry.setattr("mapreduce_operator.adapters.storage.folder._LOCK_SECONDS", 0.2)
        for other in (store, impatient):
            with pytest.raises(
                StorageError, match=r"Could not lock .* another write, of this process or of another one, hangs"
            ):
                await other.put(HEAD, b"after")

    (root / "run" / "hangs").write_bytes(b"")
    await store.put(HEAD, b"after")
