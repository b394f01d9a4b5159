"""Objects as files below a folder: the blocking half of the file store.

Guarantees, on a local file system and on network ones that honour `flock`, rename and fsync:

- an object is seen whole or not at all, and is on the disk when `write` returns;
- the check of a condition and the write that follows it are one step, between the threads and processes that use the
  same folder. The lock is the kernel's: a crash at any point leaves it free;
- what a crash leaves behind is at most an unfinished file in a folder of its own, which is never read as an object
  and is swept by a later start.

Limits: an object cannot have the key of another one's folder (`a` beside `a/b`), and on file systems that ignore case
keys that differ only in case are one.
"""

import errno
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mapreduce_operator.adapters.storage.keys import RESERVED, check_size, etag_of
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason, StoredObject

_ABANDONED_SECONDS: Final = 3600.0
"""Age from which on an unfinished file cannot belong to a write that is still going on."""
_LOCK_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.002

_STALE: Final = (
    "The mount is stale: see to the volume's server; if it stays like that, delete the pod to mount it anew."
)
_LACKING: Final = "The file system offers no locks (flock), or no fsync of folders; use a volume that does."

_ADVICE: Final = {
    errno.ENOSPC: "Free space or inodes on the volume, or enlarge it; writing goes on by itself.",
    errno.EDQUOT: "Raise the quota of the volume or free space; writing goes on by itself.",
    errno.EACCES: f"Let user {os.getuid()} read and write there (on Kubernetes: securityContext.fsGroup).",
    errno.EPERM: f"Let user {os.getuid()} read and write there (on Kubernetes: securityContext.fsGroup).",
    errno.EROFS: "Mount the volume writable.",
    errno.EEXIST: "An object stands where this key has a folder; the file store cannot hold both.",
    errno.ENOTDIR: "An object stands where this key has a folder; the file store cannot hold both.",
    errno.EISDIR: "Other objects lie in a folder of this name; the file store cannot hold both.",
    errno.ENOENT: "The folder of the store is gone; mount the volume again and restart.",
    errno.ESTALE: _STALE,
    errno.ENOTCONN: _STALE,
    errno.ENOLCK: _LACKING,
    errno.ENOSYS: _LACKING,
    errno.EOPNOTSUPP: _LACKING,
    errno.EINVAL: _LACKING,
}

_REASONS: Final = {
    errno.ENOSPC: StorageErrorReason.FULL,
    errno.EDQUOT: StorageErrorReason.FULL,
    errno.EACCES: StorageErrorReason.FORBIDDEN,
    errno.EPERM: StorageErrorReason.FORBIDDEN,
    errno.EROFS: StorageErrorReason.FORBIDDEN,
    errno.ENOLCK: StorageErrorReason.UNSUITABLE,
    errno.ENOSYS: StorageErrorReason.UNSUITABLE,
    errno.EOPNOTSUPP: StorageErrorReason.UNSUITABLE,
    errno.EINVAL: StorageErrorReason.UNSUITABLE,
}


class Folder:
    """Reads, writes, lists and removes; keys are taken as checked.

    Opening makes the folder if need be. Later it is never made again: when it is missing then, a volume was taken
    away, and an error is right where "no such object" would let a run begin anew.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        """With `read_only` it neither makes nor sweeps anything: the volume may be mounted so, and be there already."""
        self._root: Final = root
        self._unfinished: Final = root / RESERVED / "unfinished"
        self._lock_file: Final = root / RESERVED / "lock"
        # flock on NFS is a lock of the process, so threads take turns by themselves.
        self._turn: Final = threading.Lock()
        with _explained("open the file store", root):
            if read_only:
                self._ensure_present()
                return
            self._unfinished.mkdir(parents=True, exist_ok=True)
            self._lock_file.touch()
            self._sweep()

    def read(self, key: str, limit: int | None = None) -> StoredObject | None:
        path = self._root / key
        with _explained("read", path):
            try:
                if limit is not None:
                    check_size(key, path.stat().st_size, limit)
                data = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._ensure_present()
                return None
        return StoredObject(data, etag_of(data))

    def write(self, key: str, data: bytes, *, if_absent: bool, if_match: str | None) -> str:
        path = self._root / key
        with _explained("write", path):
            unfinished = self._write_unfinished(data)
            try:
                with self._locked():
                    _check_condition(path, if_absent=if_absent, if_match=if_match)
                    self._make_folders(path.parent)
                    unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
            _sync_folder(path.parent)
        return etag_of(data)

    def children(self, folder: str) -> Sequence[str]:
        """Keys directly below `folder` ("" or ending with a slash), those of folders with a slash at their end.

        Sorted. Because of the slashes, walking down in this order meets all keys in ascending order of the whole
        key: `a-b`, `a.b` and then `a/b`, as S3 lists them.
        """
        path = self._root / folder
        with _explained("list", path):
            try:
                with os.scandir(path) as entries:
                    found = [
                        f"{folder}{entry.name}/" if entry.is_dir(follow_symlinks=False) else f"{folder}{entry.name}"
                        for entry in entries
                    ]
            except (FileNotFoundError, NotADirectoryError):
                self._ensure_present()
                return []
        return sorted(key for key in found if key != f"{RESERVED}/")

    def remove(self, keys: Sequence[str]) -> None:
        """Removes objects, and folders that become empty by it; durable when it returns."""
        touched: set[Path] = set()
        for key in keys:
            path = self._root / key
            with _explained("delete", path):
                try:
                    # One lock per object: thousands of them must not keep a write waiting.
                    with self._locked():
                        path.unlink()
                        touched.add(self._remove_empty_folders(path.parent))
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    self._ensure_present()
        for folder in touched:
            with _explained("delete from", folder):
                _sync_folder(folder)

    def _ensure_present(self) -> None:
        self._lock_file.stat()

    def _write_unfinished(self, data: bytes) -> Path:
        path = self._unfinished / uuid.uuid4().hex
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        return path

    def _make_folders(self, folder: Path) -> None:
        """Makes the folders of an object, under the lock and each durable before the next.

        Otherwise another write could find a folder that is not yet on the disk, and be lost with it in spite of its
        own fsync.
        """
        if folder == self._root or folder.is_dir():
            return
        self._make_folders(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)

    def _remove_empty_folders(self, folder: Path) -> Path:
        """The lowest folder that is still there."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
        return folder

    def _sweep(self) -> None:
        now = time.time()
        for path in self._unfinished.iterdir():
            # Another process may sweep or finish it at the same moment.
            with suppress(FileNotFoundError):
                if now - path.stat().st_mtime > _ABANDONED_SECONDS:
                    path.unlink()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Holds the folder for one change. Polls, because a blocking flock could not be given a bound."""
        deadline = time.monotonic() + _LOCK_SECONDS
        if not self._turn.acquire(timeout=_LOCK_SECONDS):
            raise self._lock_timeout()
        try:
            descriptor = os.open(self._lock_file, os.O_RDWR)
            try:
                while not _try_flock(descriptor):
                    if time.monotonic() > deadline:
                        raise self._lock_timeout()
                    time.sleep(_POLL_SECONDS)
                yield
            finally:
                os.close(descriptor)  # releases the lock as well
        finally:
            self._turn.release()

    def _lock_timeout(self) -> StorageError:
        return StorageError(
            f"Could not lock {self._lock_file} within {_LOCK_SECONDS:.0f} s: another write, of this process or of "
            "another one, hangs. See to the volume; a process that hangs with it on another node has to be ended."
        )


def _try_flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _check_condition(path: Path, *, if_absent: bool, if_match: str | None) -> None:
    """Raises StorageConflictError. What is there may be the same write, tried before, whose folder was not synced.

    Whoever finds that relies on it, so that it is made durable first.
    """
    if if_absent and path.is_file():
        _sync_folder(path.parent)
        raise StorageConflictError(f"Did not write {path}: it exists already.")
    if if_match is not None:
        try:
            found = etag_of(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise StorageConflictError(
                f"Did not write {path}: version {if_match} was expected, nothing is there."
            ) from None
        if found != if_match:
            _sync_folder(path.parent)
            raise StorageConflictError(f"Did not write {path}: version {if_match} was expected, {found} is there.")


def _sync_folder(folder: Path) -> None:
    """Makes renames and removals in a folder durable; one that somebody removed meanwhile needs nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _explained(what: str, path: Path) -> Iterator[None]:
    """Turns the system's errors into the port's, with what was tried, where, why it failed and what to do."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        number = error.errno or 0
        advice = _ADVICE.get(number, "Look at the volume and at the log of its node.")
        reason = _REASONS.get(number, StorageErrorReason.UNAVAILABLE)
        raise StorageError(f"Could not {what} {path}: {why}. {advice}", reason) from error
