"""A real volume that gets full or read-only, and works again: in a namespace in which it can be mounted."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from mapreduce_operator.ports import StorageErrorReason

_UNSHARE: Final = ["unshare", "--user", "--map-root-user", "--mount"]

# Says of each step what became of it: what it gave, or the reason of its error.
_PROLOGUE: Final = """
import asyncio, json, os, subprocess, sys
from pathlib import Path
from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.ports import StorageError

volume = Path(sys.argv[1])

def mount(*options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", volume], check=True)

async def tried(work):
    try:
        done = await work
    except StorageError as error:
        assert type(error) is StorageError, error
        return f"{error.reason}: {error}"
    return done if isinstance(done, str | None) else done.data.decode()

async def keys(store):
    return [key async for key in store.list("")]

def unfinished():
    return len(list((volume / ".store/unfinished").iterdir()))
"""

FULL: Final = """
async def main():
    mount("size=256k")
    store = FileStore(volume)
    etag = await store.put("head.json", b"before")
    said = {"too large": await tried(store.put("segment", bytes(1 << 20)))}
    said["too large, swap"] = await tried(store.put("head.json", bytes(1 << 20), if_match=etag))
    pages = 0
    while (last := await tried(store.put(f"filler/{pages}", bytes(4096)))) and not last.startswith("Storage"):
        pages += 1
    said["full"] = await tried(store.put("head.json", b"after", if_match=etag))
    said["head"] = await tried(store.get("head.json"))
    said["keys"] = len(await keys(store)) - pages
    said["unfinished"] = unfinished()
    await store.delete(["filler/0", "filler/1"])
    await store.put("head.json", b"after", if_match=etag)
    said["after"] = await tried(store.get("head.json"))
    await store.close()
    print(json.dumps(said))
asyncio.run(main())
"""

OUT_OF_INODES: Final = """
async def main():
    mount("nr_inodes=20")
    store, number = FileStore(volume), 0
    while (last := await tried(store.put(f"object-{number}", b"data"))) and not last.startswith("Storage"):
        number += 1
    await store.delete(["object-0"])
    again = await tried(store.put("again", b"data"))
    await store.close()
    print(json.dumps({"objects": number, "last": last, "again": again, "unfinished": unfinished()}))
asyncio.run(main())
"""

READ_ONLY: Final = """
async def main():
    mount("size=1m")
    store = FileStore(volume)
    etag = await store.put("run/head.json", b"before")
    mount("remount", "ro")
    started = FileStore(volume)
    said = {
        "put": await tried(store.put("run/segment", b"data")),
        "swap": await tried(store.put("run/head.json", b"after", if_match=etag)),
        "delete": await tried(store.delete(["run/head.json"])),
        "started": await tried(started.get("run/head.json")),
        "get": await tried(store.get("run/head.json")),
        "keys": await keys(store),
    }
    mount("remount", "rw")
    await started.put("run/head.json", b"after", if_match=etag)
    said["after"] = await tried(store.get("run/head.json"))
    for one in (store, started):
        await one.close()
    print(json.dumps(said))
asyncio.run(main())
"""


def said(script: str, volume: Path) -> dict[str, object]:
    allowed = shutil.which("unshare") and subprocess.run([*_UNSHARE, "true"], check=False).returncode == 0
    if not allowed:
        pytest.skip("this machine lets nobody mount a volume in a namespace of his own")
    command = [*_UNSHARE, sys.executable, "-c", _PROLOGUE + script, str(volume)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_volume_that_is_full(tmp_path: Path) -> None:
    told = said(FULL, tmp_path)

    for what, where in (("too large", "segment"), ("too large, swap", "head.json"), ("full", "head.json")):
        assert told[what] == (
            f"{StorageErrorReason.FULL}: Could not write {tmp_path}/{where}: No space left on device. "
            "Free space or inodes on the volume, or enlarge it; writing goes on by itself."
        )
    assert (told["head"], told["keys"], told["unfinished"]) == ("before", 1, 0)
    assert told["after"] == "after"


def test_a_volume_without_inodes(tmp_path: Path) -> None:
    told = said(OUT_OF_INODES, tmp_path)

    assert told["objects"]
    assert str(told["last"]).startswith(f"{StorageErrorReason.FULL}: ")
    assert not str(told["again"]).startswith("Storage")
    assert told["unfinished"] == 0


def test_a_volume_that_becomes_read_only(tmp_path: Path) -> None:
    told = said(READ_ONLY, tmp_path)

    for what in ("put", "swap", "delete", "started"):
        assert str(told[what]).startswith(f"{StorageErrorReason.FORBIDDEN}: Could not ")
        assert "Read-only file system. Mount the volume writable." in str(told[what])
    assert (told["get"], told["keys"]) == ("before", ["run/head.json"])
    assert told["after"] == "after"
