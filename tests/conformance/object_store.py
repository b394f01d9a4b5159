"""What every object store does, whatever is behind it.

A backend joins by a subclass with the fixture `reopen`, which gives a way to open the same store once more:

    class TestFileStore(ObjectStoreConformance):
        @pytest.fixture
        async def reopen(self, tmp_path): ...

Stores may be shared between tests only if each gets keys of its own; `reopen` sees to that by a fresh root.
"""

import asyncio
import os
from collections.abc import Callable, Iterable

import pytest

from mapreduce_operator.ports import ObjectStore, ObjectTooLargeError, StorageConflictError, StoredObject

Reopen = Callable[[], ObjectStore]

RACERS = 32
RACES = 5


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [key async for key in store.list(prefix)]


async def put_all(store: ObjectStore, names: Iterable[str]) -> None:
    for name in names:
        await store.put(name, name.encode())


async def winners(attempts: Iterable[asyncio.Future[str]]) -> list[int]:
    """Positions of the writes that went through; all others must have lost, and not failed in some other way."""
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert all(isinstance(end, str | StorageConflictError) for end in ends), ends
    return [position for position, end in enumerate(ends) if isinstance(end, str)]


class ObjectStoreConformance:
    @pytest.fixture
    def store(self, reopen: Reopen) -> ObjectStore:
        return reopen()

    # ------------------------------------------------------------------------------------------------ get and put

    async def test_what_was_never_written_is_absent(self, store: ObjectStore) -> None:
        assert await store.get("run/head.json") is None

    @pytest.mark.parametrize(
        "data",
        [b"", b"{}", bytes(range(256)) * 3, b"\r\n\x00\xff\n", os.urandom(8 << 20)],
        ids=["empty", "text", "binary", "line ends", "8 MiB"],
    )
    async def test_what_was_put_is_what_one_gets(self, store: ObjectStore, data: bytes) -> None:
        etag = await store.put("run/journal/segment-1.jsonl", data)

        found = await store.get("run/journal/segment-1.jsonl")

        assert found is not None
        assert found.data == data
        assert found.etag == etag

    async def test_a_put_replaces_and_changes_the_etag(self, store: ObjectStore) -> None:
        first = await store.put("head.json", b"one")
        second = await store.put("head.json", b"two")

        found = await store.get("head.json")

        assert first != second
        assert found is not None
        assert (found.data, found.etag) == (b"two", second)

    async def test_an_object_is_not_its_neighbour(self, store: ObjectStore) -> None:
        await store.put("run/head.json", b"mine")

        assert await store.get("run/head") is None
        assert await store.get("run/head.json.old") is None
        assert await store.get("run/head.json/part") is None
        assert await store.get("run") is None

    async def test_of_an_object_no_more_is_read_than_its_reader_takes(self, store: ObjectStore) -> None:
        etag = await store.put("_inputs/a/b.jsonl", b"12345")

        assert await store.get_within("_inputs/a/b.jsonl", 5) == StoredObject(b"12345", etag)
        assert await store.get_within("_inputs/a/c.jsonl", 5) is None
        with pytest.raises(ObjectTooLargeError, match="has 5 bytes; the limit is 4"):
            await store.get_within("_inputs/a/b.jsonl", 4)
        assert await store.get("_inputs/a/b.jsonl") == StoredObject(b"12345", etag)

    # -------------------------------------------------------------------------------------------------- conditions

    async def test_create_only_refuses_what_exists(self, store: ObjectStore) -> None:
        await store.put("head.json", b"first", if_absent=True)

        with pytest.raises(StorageConflictError):
            await store.put("head.json", b"second", if_absent=True)

        found = await store.get("head.json")
        assert found is not None
        assert found.data == b"first"

    async def test_what_was_deleted_can_be_created_again(self, store: ObjectStore) -> None:
        await store.put("head.json", b"first", if_absent=True)
        await store.delete(["head.json"])

        await store.put("head.json", b"second", if_absent=True)

        found = await store.get("head.json")
        assert found is not None
        assert found.data == b"second"

    async def test_of_many_who_create_one_wins(self, store: ObjectStore) -> None:
        for race in range(RACES):
            key = f"run-{race}/head.json"

            won = await winners(
                asyncio.ensure_future(store.put(key, b"%d" % racer, if_absent=True)) for racer in range(RACERS)
            )

            found = await store.get(key)
            assert len(won) == 1
            assert found is not None
            assert found.data == b"%d" % won[0]

    async def test_of_many_who_swap_one_wins(self, store: ObjectStore) -> None:
        etag = await store.put("run/head.json", b"start")
        for race in range(RACES):
            won = await winners(
                asyncio.ensure_future(store.put("run/head.json", b"%d/%d" % (race, racer), if_match=etag))
                for racer in range(RACERS)
            )

            found = await store.get("run/head.json")
            assert len(won) == 1
            assert found is not None
            assert found.data == b"%d/%d" % (race, won[0])
            etag = found.etag

    async def test_a_swap_with_the_current_etag_goes_through(self, store: ObjectStore) -> None:
        etag = await store.put("head.json", b"0")

        for number in range(1, 6):
            etag = await store.put("head.json", b"%d" % number, if_match=etag)

        found = await store.get("head.json")
        assert found is not None
        assert (found.data, found.etag) == (b"5", etag)

    async def test_a_swap_with_a_stale_etag_is_refused(self, store: ObjectStore) -> None:
        stale = await store.put("head.json", b"one")
        await store.put("head.json", b"two")

        with pytest.raises(StorageConflictError):
            await store.put("head.json", b"three", if_match=stale)

        found = await store.get("head.json")
        assert found is not None
        assert found.data == b"two"

    async def test_a_swap_of_what_is_missing_is_refused(self, store: ObjectStore) -> None:
        etag = await store.put("head.json", b"one")
        await store.delete(["head.json"])

        with pytest.raises(StorageConflictError):
            await store.put("head.json", b"two", if_match=etag)

        assert await store.get("head.json") is None

    # -------------------------------------------------------------------------------------------------------- list

    async def test_an_empty_store_lists_nothing(self, store: ObjectStore) -> None:
        assert await keys(store) == []
        assert await keys(store, "run/") == []

    async def test_a_list_is_in_ascending_order_of_the_whole_key(self, store: ObjectStore) -> None:
        # '-' and '.' sort before '/', '0' after it: a walk by names alone gets these wrong.
        names = ["a0", "a/b/c", "a-b", "a/b.c", "a.b/c", "B", "a/b-c", "a/a", "a.b-c", "b/10", "b/9"]
        await put_all(store, names)

        assert await keys(store) == sorted(names)

    async def test_a_prefix_is_a_string_and_not_a_folder(self, store: ObjectStore) -> None:
        await put_all(store, ["run/seg-1", "run/seg-10", "run/seg/2", "run/snap-1", "runs/seg-1", "r"])

        assert await keys(store, "run/seg-1") == ["run/seg-1", "run/seg-10"]
        assert await keys(store, "run/seg") == ["run/seg-1", "run/seg-10", "run/seg/2"]
        assert await keys(store, "run/") == ["run/seg-1", "run/seg-10", "run/seg/2", "run/snap-1"]
        assert await keys(store, "run") == ["run/seg-1", "run/seg-10", "run/seg/2", "run/snap-1", "runs/seg-1"]
        assert await keys(store, "run/seg-1/") == []
        assert await keys(store, "other/") == []

    async def test_a_list_sees_what_was_put_and_not_what_was_deleted(self, store: ObjectStore) -> None:
        await put_all(store, (f"run/segment-{number:04d}" for number in range(120)))
        await store.delete(f"run/segment-{number:04d}" for number in range(0, 120, 2))

        assert await keys(store, "run/") == [f"run/segment-{number:04d}" for number in range(1, 120, 2)]

    # ------------------------------------------------------------------------------------------------------ delete

    async def test_deleting_what_is_absent_is_fine(self, store: ObjectStore) -> None:
        await store.put("run/there", b"")

        await store.delete(["run/there", "run/missing", "other/missing", "run/there/below"])
        await store.delete(["run/there"])
        await store.delete([])

        assert await keys(store) == []

    async def test_deleting_leaves_the_rest(self, store: ObjectStore) -> None:
        await put_all(store, ["a/b/c", "a/b/d", "a/e"])

        await store.delete(["a/b/c", "a/e"])

        assert await keys(store) == ["a/b/d"]

    async def test_more_than_a_thousand_are_listed_and_deleted_at_once(self, store: ObjectStore) -> None:
        names = [f"run/segment-{number:04d}" for number in range(1_101)]
        await asyncio.gather(*(store.put(name, b"") for name in names))
        assert await keys(store, "run/") == names

        await store.delete(name for name in names if name != "run/segment-1050")

        assert await keys(store, "run/") == ["run/segment-1050"]

    # -------------------------------------------------------------------------------------------------------- keys

    @pytest.mark.parametrize(
        "key",
        [
            "a.b/..c/d..e/...",
            ".hidden/.file",
            "with space/+=@,:~!'()&$;",
            "100%/%41/%2F/a+b?c=d&e#f",
            '<a>&amp;"]]>/{b}|^`*[c]',
            "UPPER/lower",
            "/".join(["part-" + "x" * 190] * 5),
            "y" * 255,
        ],
        ids=["dots", "hidden", "signs", "escapes", "markup", "case", "long", "long part"],
    )
    async def test_unusual_keys_are_keys(self, store: ObjectStore, key: str) -> None:
        await store.put(key, b"data", if_absent=True)

        found = await store.get(key)

        assert found is not None
        assert found.data == b"data"
        assert await keys(store) == [key]
        assert await keys(store, key) == [key]
        await store.delete([key])
        assert await keys(store) == []

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "/absolute",
            "folder/",
            "a//b",
            ".",
            "..",
            "../outside",
            "a/../../outside",
            "a/./b",
            "nul\0byte",
            "line\nbreak",
            "umlaut-\u00e4",
            "back\\slash",
            "z" * 256,
            "/".join(["x" * 200] * 6),
            ".store/lock",
        ],
    )
    async def test_unsafe_keys_are_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(ValueError, match="storage key"):
            await store.put(key, b"")
        with pytest.raises(ValueError, match="storage key"):
            await store.get(key)
        await store.put("bystander", b"")
        with pytest.raises(ValueError, match="storage key"):
            await store.delete(["bystander", key])

        assert await keys(store) == ["bystander"]

    @pytest.mark.parametrize("prefix", ["../", "/", "a//", "a/../", "\u00e4/", "z" * 2000])
    async def test_below_an_unsafe_prefix_there_is_nothing(self, store: ObjectStore, prefix: str) -> None:
        await store.put("a/b", b"")

        assert await keys(store, prefix) == []

    # --------------------------------------------------------------------------------------------------- lifetimes

    async def test_opened_again_it_holds_everything(self, reopen: Reopen) -> None:
        etag = await reopen().put("run/head.json", b"one")
        await reopen().put("run/plan/shard-0", b"two")

        again = reopen()

        found = await again.get("run/head.json")
        assert found is not None
        assert (found.data, found.etag) == (b"one", etag)
        assert await keys(again) == ["run/head.json", "run/plan/shard-0"]

    async def test_two_that_are_open_see_each_other(self, reopen: Reopen) -> None:
        one, other = reopen(), reopen()
        etag = await one.put("head.json", b"by one")

        etag = await other.put("head.json", b"by the other", if_match=etag)

        with pytest.raises(StorageConflictError):
            await one.put("head.json", b"by one", if_absent=True)
        await one.put("head.json", b"by one again", if_match=etag)
