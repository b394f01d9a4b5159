"""What every object store does, done by one in a bucket of a real S3 service; and what only that one has to do."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mapreduce_operator.adapters.storage import OpenedStore, S3Options, open_store
from mapreduce_operator.ports import StorageError, StorageErrorReason
from tests.conformance.object_store import ObjectStoreConformance, Reopen, keys
from tests.integration.storage.conftest import BUCKET
from tests.seaweedfs import SECRET_KEY, SeaweedFS


class TestS3Store(ObjectStoreConformance):
    @pytest.fixture
    async def reopen(self, seaweedfs: SeaweedFS) -> AsyncIterator[Reopen]:
        url = f"s3://{BUCKET}/conformance/{secrets.token_hex(8)}"
        async with AsyncExitStack() as opened:

            def reopen() -> OpenedStore:
                store = open_store(url, S3Options(endpoint=seaweedfs.url))
                opened.push_async_callback(store.close)
                return store

            yield reopen


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


def opening(opened: AsyncExitStack, url: str, endpoint: str) -> OpenedStore:
    store = open_store(url, S3Options(endpoint=endpoint))
    opened.push_async_callback(store.close)
    return store


async def test_prefixes_keep_stores_in_one_bucket_apart(seaweedfs: SeaweedFS, opened: AsyncExitStack) -> None:
    name = secrets.token_hex(8)
    short, long = (opening(opened, f"s3://{BUCKET}/{prefix}", seaweedfs.url) for prefix in (name, f"{name}-2/"))
    await short.put("head.json", b"short")

    await long.put("head.json", b"long", if_absent=True)

    assert await keys(short) == ["head.json"]
    assert await keys(opening(opened, f"s3://{BUCKET}", seaweedfs.url), name) == [
        f"{name}-2/head.json",
        f"{name}/head.json",
    ]


async def test_what_others_left_there_and_is_no_key_is_not_listed(seaweedfs: SeaweedFS, opened: AsyncExitStack) -> None:
    name = secrets.token_hex(8)
    store = opening(opened, f"s3://{BUCKET}/{name}", seaweedfs.url)
    await store.put("a/b", b"")
    for foreign in ("empty-folder/", "umlaut-\u00e4", "a/"):
        seaweedfs.put_object(BUCKET, f"{name}/{foreign}")

    assert await keys(store) == ["a/b"]


async def test_a_key_and_a_prefix_that_are_too_long_together_are_refused(
    seaweedfs: SeaweedFS, opened: AsyncExitStack
) -> None:
    store = opening(opened, f"s3://{BUCKET}/{'p' * 100}", seaweedfs.url)

    with pytest.raises(ValueError, match="storage key"):
        await store.put("/".join(["k" * 200] * 5), b"")


async def test_a_bucket_that_is_missing_is_named(seaweedfs: SeaweedFS, opened: AsyncExitStack) -> None:
    store = opening(opened, "s3://missing-bucket/prefix", seaweedfs.url)

    for operation in (store.get("key"), store.put("key", b""), keys(store), store.delete(["key"])):
        with pytest.raises(StorageError, match=r"s3://missing-bucket/prefix/ at http.*Create the bucket") as caught:
            await operation
        assert caught.value.reason is StorageErrorReason.NOT_FOUND
    seaweedfs.make_bucket("missing-bucket")
    await store.put("key", b"", if_absent=True)


@pytest.mark.parametrize(
    "environment",
    [
        {"AWS_SECRET_ACCESS_KEY": "not-the-secret"},
        {"AWS_ACCESS_KEY_ID": "nobody"},
        {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_ACCESS_KEY_ID": "half", "AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_PROFILE": "nowhere", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
    ],
    ids=["wrong secret", "wrong key", "none", "half", "a profile that is missing"],
)
async def test_credentials_that_are_not_accepted(
    seaweedfs: SeaweedFS, opened: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(StorageError, match=r"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.*s3:ListBucket") as caught:
        await opening(opened, f"s3://{BUCKET}", seaweedfs.url).put("key", b"")

    assert caught.value.reason is StorageErrorReason.FORBIDDEN
    assert "not-the-secret" not in str(caught.value)
    assert SECRET_KEY not in str(caught.value)


async def test_it_survives_a_restart_of_the_service(
    tmp_path_factory: pytest.TempPathFactory, opened: AsyncExitStack
) -> None:
    with SeaweedFS(tmp_path_factory.mktemp("restarted")) as seaweedfs:
        seaweedfs.make_bucket(BUCKET)
        store = opening(opened, f"s3://{BUCKET}", seaweedfs.url)
        etag = await store.put("head.json", b"one")
        seaweedfs.kill()
        with pytest.raises(StorageError, match="can be reached") as caught:
            await store.get("head.json")
        assert caught.value.reason is StorageErrorReason.UNAVAILABLE
        seaweedfs.start()

        await store.put("head.json", b"two", if_match=etag)

        found = await store.get("head.json")
        assert found is not None
        assert found.data == b"two"
