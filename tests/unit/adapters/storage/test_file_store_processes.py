import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from mapreduce_operator.adapters.storage import FileStore
from tests.conformance.object_store import keys


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileStore]:
    store = FileStore(tmp_path)
    yield store
    await store.close()


async def python(code: str, root: Path) -> Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(root), stdout=PIPE)


WRITER = """
import asyncio, hashlib, sys
from pathlib import Path
from mapreduce_operator.adapters.storage import FileStore

async def main():
    store = FileStore(Path(sys.argv[1]))
    number = 0
    while True:
        data = b"%d" % number * 100_000
        name = hashlib.sha256(data).hexdigest()
        await asyncio.gather(*(store.put(f"{folder}/{name}", data) for folder in range(8)))
        print(number, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_whole_objects_and_no_lock(tmp_path: Path, store: FileStore) -> None:
    for rounds in range(5):
        writer = await python(WRITER, tmp_path)
        assert writer.stdout is not None
        for _ in range(rounds + 1):
            await writer.stdout.readline()
        writer.kill()
        await writer.communicate()

    await store.put("after", b"", if_absent=True)
    listed = [key for key in await keys(store) if key != "after"]
    assert listed
    for key in listed:
        found = await store.get(key)
        assert found is not None
        assert sha256(found.data).hexdigest() == key.partition("/")[2]


COUNTER = """
import asyncio, sys
from pathlib import Path
from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.ports import StorageConflictError

async def count(store):
    while True:
        found = await store.get("counter")
        try:
            return await store.put("counter", b"%d" % (int(found.data) + 1), if_match=found.etag)
        except StorageConflictError:
            pass

async def main():
    store = FileStore(Path(sys.argv[1]))
    for _ in range(25):
        await asyncio.gather(count(store), count(store))
    await store.close()

asyncio.run(main())
"""


async def test_swaps_of_several_processes_lose_no_update(tmp_path: Path, store: FileStore) -> None:
    await store.put("counter", b"0")

    counters = [await python(COUNTER, tmp_path) for _ in range(3)]

    assert [await counter.wait() for counter in counters] == [0, 0, 0]

    found = await store.get("counter")
    assert found is not None
    assert found.data == b"150"


FILLER = """
import asyncio, resource, sys
from pathlib import Path
from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.ports import StorageError

async def main():
    store = FileStore(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        await store.put("head.json", bytes(5_000_000))
    except StorageError as error:
        print(error)
    await store.close()

asyncio.run(main())
"""


async def test_a_write_that_fails_halfway_leaves_what_was_there(tmp_path: Path, store: FileStore) -> None:
    await store.put("head.json", b"before")

    filler = await python(FILLER, tmp_path)
    output, _ = await filler.communicate()

    assert output.decode().startswith(f"Could not write {tmp_path}/head.json: File too large.")
    found = await store.get("head.json")
    assert found is not None
    assert found.data == b"before"
    assert list((tmp_path / ".store" / "unfinished").iterdir()) == []
