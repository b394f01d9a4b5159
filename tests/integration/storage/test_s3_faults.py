"""A service that fails in every way that it can: each is named rightly and in time, and nothing stays broken."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from mapreduce_operator.adapters.storage import S3Options, S3Store
from mapreduce_operator.engine.suitability import Suitability
from mapreduce_operator.ports import StorageConflictError, StorageError, StorageErrorReason
from tests.conformance.object_store import keys
from tests.integration.storage.conftest import BUCKET
from tests.integration.storage.faulty_proxy import (
    Exchange,
    Fault,
    FaultyProxy,
    after,
    answer,
    answer_with,
    break_off,
    cut_the_body,
    drip,
    faulty_proxy,
    flip_the_answer,
    flip_the_request,
    hand_on,
    hang,
    ignore_conditions,
    lose_the_answer,
    once,
)
from tests.seaweedfs import ACCESS_KEY, SECRET_KEY, UNGUARDED_BUCKET, SeaweedFS

READ_SECONDS = 5.0
"""As long as a request that hangs is waited for, and longer than a real one takes on a busy machine."""
REQUEST_SECONDS = 60.0


@pytest.fixture
async def proxy(seaweedfs: SeaweedFS) -> AsyncIterator[FaultyProxy]:
    async with faulty_proxy(seaweedfs.url) as proxy:
        yield proxy


async def opened(proxy: FaultyProxy, bucket: str, request_seconds: float) -> AsyncIterator[S3Store]:
    store = S3Store(
        bucket,
        f"faults-{secrets.token_hex(8)}",
        S3Options(endpoint=proxy.url),
        connect_seconds=READ_SECONDS,
        read_seconds=READ_SECONDS,
        request_seconds=request_seconds,
    )
    yield store
    await proxy.refuse()  # so that what still hangs or drips ends
    await store.close()


@pytest.fixture
async def store(proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    async for store in opened(proxy, BUCKET, REQUEST_SECONDS):
        yield store


@pytest.fixture
async def impatient(proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    async for store in opened(proxy, BUCKET, 0.5):
        yield store


@pytest.fixture
async def unguarded(proxy: FaultyProxy) -> AsyncIterator[S3Store]:
    async for store in opened(proxy, UNGUARDED_BUCKET, REQUEST_SECONDS):
        yield store


async def failures(store: S3Store) -> list[StorageError]:
    """How each operation fails; they run side by side, since each waits for the same."""
    ends = await asyncio.gather(
        store.get("head.json"),
        store.put("head.json", b"new"),
        store.put("head.json", b"new", if_absent=True),
        store.put("head.json", b"new", if_match='"1"'),
        keys(store),
        store.delete(["head.json"]),
        return_exceptions=True,
    )
    # A conflict would be taken for another leader's write.
    assert all(type(end) is StorageError for end in ends), ends
    return [end for end in ends if isinstance(end, StorageError)]


async def assert_works(store: S3Store) -> None:
    etag = await store.put("again.json", b"works")
    await store.put("again.json", b"works again", if_match=etag)
    assert "again.json" in await keys(store)
    await store.delete(["again.json"])
    assert await store.get("again.json") is None


@pytest.mark.parametrize(
    ("fault", "reason", "why"),
    [
        (hang, StorageErrorReason.UNAVAILABLE, "timeout"),
        (answer(500, "InternalError"), StorageErrorReason.UNAVAILABLE, "an explanation (InternalError, HTTP 500)"),
        (answer(503, "ServiceUnavailable"), StorageErrorReason.UNAVAILABLE, "HTTP 503"),
        (answer(502), StorageErrorReason.UNAVAILABLE, "HTTP 502"),
        (answer(504), StorageErrorReason.UNAVAILABLE, "HTTP 504"),
        (answer(500), StorageErrorReason.UNAVAILABLE, "HTTP 500"),
        (answer(408), StorageErrorReason.UNAVAILABLE, "HTTP 408"),
        (answer(409, "OperationAborted"), StorageErrorReason.UNAVAILABLE, "OperationAborted"),
        (answer(400, "IncompleteBody"), StorageErrorReason.UNAVAILABLE, "IncompleteBody"),
        (answer(400, "RequestTimeout"), StorageErrorReason.UNAVAILABLE, "HTTP 400"),
        (answer(503, "SlowDown"), StorageErrorReason.THROTTLED, "SlowDown"),
        (answer(429), StorageErrorReason.THROTTLED, "HTTP 429"),
        (answer(507), StorageErrorReason.FULL, "HTTP 507"),
        (answer(403, "QuotaExceeded"), StorageErrorReason.FULL, "Free space or raise the quota"),
        (answer(507, "XMinioStorageFull"), StorageErrorReason.FULL, "Free space or raise the quota"),
        (answer(403, "AccessDenied"), StorageErrorReason.FORBIDDEN, "s3:ListBucket"),
        (answer(403), StorageErrorReason.FORBIDDEN, "HTTP 403"),
        (answer(403, "SignatureDoesNotMatch"), StorageErrorReason.FORBIDDEN, "AWS_SECRET_ACCESS_KEY"),
        (answer(400, "ExpiredToken"), StorageErrorReason.FORBIDDEN, "ExpiredToken"),
        (answer(400, "TokenRefreshRequired"), StorageErrorReason.FORBIDDEN, "TokenRefreshRequired"),
        (answer(403, "RequestTimeTooSkewed"), StorageErrorReason.FORBIDDEN, "Set the clock"),
        (answer(404, "NoSuchBucket"), StorageErrorReason.NOT_FOUND, "Create the bucket"),
        (answer(404), StorageErrorReason.UNSUITABLE, "HTTP 404"),
        (answer(301), StorageErrorReason.UNSUITABLE, "Check endpoint, region"),
        (answer(301, "PermanentRedirect"), StorageErrorReason.UNSUITABLE, "Check endpoint, region"),
        (answer(307, region="eu-west-3"), StorageErrorReason.UNSUITABLE, "Check endpoint, region"),
        (answer(301, "PermanentRedirect", region="eu-west-3"), StorageErrorReason.UNSUITABLE, "Check endpoint, region"),
        (answer(400, "AuthorizationHeaderMalformed", region="eu-west-3"), StorageErrorReason.UNSUITABLE, "region"),
        (answer(501, "NotImplemented"), StorageErrorReason.UNSUITABLE, "speaks S3"),
    ],
)
async def test_each_failure_has_its_reason_and_passes(
    proxy: FaultyProxy, store: S3Store, fault: Fault, reason: StorageErrorReason, why: str
) -> None:
    proxy.fault = fault

    errors = await failures(store)

    assert [error.reason for error in errors] == [reason] * 6
    calls = ["read head.json in", *["write head.json to"] * 3, "list * in", "delete 1 "]
    for error, what in zip(errors, calls, strict=True):
        text = str(error)
        assert text.startswith(f"Could not {what}")
        assert f"s3://{BUCKET}/faults-" in text
        assert f"at {proxy.url}: " in text
        assert why in text
        assert SECRET_KEY not in text
        assert ACCESS_KEY not in text
    proxy.fault = None
    await assert_works(store)


async def test_connections_that_are_refused(proxy: FaultyProxy, store: S3Store) -> None:
    await assert_works(store)
    await proxy.refuse()

    errors = await failures(store)

    assert {error.reason for error in errors} == {StorageErrorReason.UNAVAILABLE}
    await proxy.listen()
    await assert_works(store)


@pytest.mark.parametrize("fault", [hang, drip], ids=["hang", "drip"])
async def test_no_request_takes_longer_than_its_time(proxy: FaultyProxy, impatient: S3Store, fault: Fault) -> None:
    proxy.fault = fault

    async with asyncio.timeout(REQUEST_SECONDS):
        with pytest.raises(StorageError, match="no answer in time") as caught:
            await impatient.get("head.json")

    assert caught.value.reason is StorageErrorReason.UNAVAILABLE


async def test_a_service_that_hangs_holds_up_nobody_else(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = hang
    reads = [asyncio.ensure_future(store.get(f"object-{number}")) for number in range(100)]
    while proxy.requests < 16:  # noqa: ASYNC110 - the threads' own doing, which nothing announces
        await asyncio.sleep(0.01)

    # Name resolution, for one, is done by asyncio's own threads.
    async with asyncio.timeout(READ_SECONDS):
        await asyncio.to_thread(int)

    for read in reads:
        read.cancel()
    await asyncio.gather(*reads, return_exceptions=True)


async def test_one_failure_is_not_noticed(proxy: FaultyProxy, store: S3Store) -> None:
    for fault in (answer(500, "InternalError"), answer(503, "ServiceUnavailable"), lose_the_answer):
        proxy.fault = once(fault)
        await store.put("head.json", b"data")


async def test_it_tries_twice_and_leaves_the_rest_to_the_engine(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = answer(500, "InternalError")

    with pytest.raises(StorageError):
        await store.put("head.json", b"data")

    assert proxy.requests == 2


@pytest.mark.parametrize("fault", [cut_the_body, break_off])
async def test_a_body_that_is_cut_is_no_object(proxy: FaultyProxy, store: S3Store, fault: Fault) -> None:
    await store.put("segment", b"x" * 100_000)
    await store.put("other", b"")
    proxy.fault = fault

    with pytest.raises(StorageError, match="Could not read segment") as read:
        await store.get("segment")
    with pytest.raises(StorageError, match="Could not list") as listed:
        await keys(store)

    assert {read.value.reason, listed.value.reason} == {StorageErrorReason.UNAVAILABLE}
    proxy.fault = None
    found = await store.get("segment")
    assert found is not None
    assert found.data == b"x" * 100_000


async def test_a_write_that_is_damaged_on_its_way_does_not_take_place(proxy: FaultyProxy, store: S3Store) -> None:
    etag = await store.put("head.json", b"before")
    proxy.fault = flip_the_request

    for expected in (None, etag):
        with pytest.raises(StorageError, match="BadDigest") as caught:
            await store.put("head.json", b"after", if_match=expected)
        assert caught.type is StorageError
        assert caught.value.reason is StorageErrorReason.UNAVAILABLE

    proxy.fault = None
    found = await store.get("head.json")
    assert found is not None
    assert (found.data, found.etag) == (b"before", etag)


async def test_what_is_damaged_on_its_way_back_can_be_read_again(proxy: FaultyProxy, store: S3Store) -> None:
    """Nothing in the answer tells; whoever knows the hash of an object finds out, and reads it once more."""
    await store.put("segment", b"data")
    proxy.fault = once(flip_the_answer)

    damaged, sound = await store.get("segment"), await store.get("segment")

    assert damaged is not None
    assert sound is not None
    assert damaged.data != sound.data == b"data"


async def test_a_write_whose_answer_was_lost_may_have_happened(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = lose_the_answer

    with pytest.raises(StorageError, match="Could not write") as caught:
        await store.put("head.json", b"data")

    assert caught.value.reason is StorageErrorReason.UNAVAILABLE
    assert not isinstance(caught.value, StorageConflictError)
    proxy.fault = None
    found = await store.get("head.json")
    assert found is not None
    assert found.data == b"data"


async def test_a_condition_that_is_tried_twice_can_meet_its_own_write(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = once(lose_the_answer)

    with pytest.raises(StorageConflictError):
        await store.put("head.json", b"mine", if_absent=True)

    found = await store.get("head.json")
    assert found is not None
    assert found.data == b"mine"


@pytest.mark.parametrize(
    ("status", "code"),
    [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict"), (404, "NoSuchKey"), (412, "")],
)
async def test_however_a_service_says_it_a_lost_condition_is_a_conflict(
    proxy: FaultyProxy, store: S3Store, status: int, code: str
) -> None:
    proxy.fault = answer(status, code)

    with pytest.raises(StorageConflictError, match=f"Did not write .*head.json to s3://{BUCKET}/"):
        await store.put("head.json", b"data", if_match='"1"')


@pytest.mark.parametrize(
    ("code", "reason"),
    [("AccessDenied", StorageErrorReason.FORBIDDEN), ("InternalError", StorageErrorReason.UNAVAILABLE)],
)
async def test_an_object_that_could_not_be_deleted_is_an_error(
    proxy: FaultyProxy, store: S3Store, code: str, reason: StorageErrorReason
) -> None:
    error = f"<Error><Key>team/two</Key><Code>{code}</Code><Message>not this one</Message></Error>"
    gone = "<Error><Key>team/three</Key><Code>NoSuchKey</Code><Message>gone</Message></Error>"
    proxy.fault = answer_with(200, f"<DeleteResult>{error}{gone}</DeleteResult>")

    with pytest.raises(StorageError, match=r"Could not delete 1 of 3 objects .*team/two: not this one") as caught:
        await store.delete(["team/one", "team/two", "team/three"])

    assert caught.value.reason is reason
    proxy.fault = answer_with(200, f"<DeleteResult>{gone}</DeleteResult>")
    await store.delete(["team/three"])


async def test_a_service_without_versions_is_found_out(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = answer_with(200, "")

    for operation in (store.get("key"), store.put("key", b"")):
        with pytest.raises(StorageError, match="without an ETag") as caught:
            await operation
        assert caught.value.reason is StorageErrorReason.UNSUITABLE


async def test_an_answer_that_is_no_xml_is_no_list(proxy: FaultyProxy, store: S3Store) -> None:
    proxy.fault = answer_with(200, "It works!")

    with pytest.raises(StorageError, match="Could not list") as caught:
        await keys(store)

    assert caught.value.reason is StorageErrorReason.UNAVAILABLE


async def test_a_closed_store_has_written_all_it_was_given(proxy: FaultyProxy) -> None:
    proxy.fault = after(0.2)
    store = S3Store(BUCKET, f"closed-{secrets.token_hex(8)}", S3Options(endpoint=proxy.url))
    writes = [asyncio.ensure_future(store.put(f"object-{number}", b"data")) for number in range(20)]
    await asyncio.sleep(0)

    await store.close()

    assert all(await asyncio.gather(*writes))
    with pytest.raises(RuntimeError):
        await store.get("object-1")


# ---------------------------------------------------------------------------------------------------- suitability


async def test_a_real_service_is_suitable(store: S3Store) -> None:
    await Suitability(store, "one").check()

    assert await keys(store) == []


async def test_a_service_that_ignores_conditions_is_not(proxy: FaultyProxy, unguarded: S3Store) -> None:
    await Suitability(unguarded, "one").check()
    proxy.fault = ignore_conditions

    with pytest.raises(StorageError, match="two operators could write over each other") as caught:
        await Suitability(unguarded, "one").check()

    assert caught.value.reason is StorageErrorReason.UNSUITABLE
    assert await keys(unguarded) == []


async def test_a_swap_that_meets_itself_does_not_make_a_service_unsuitable(proxy: FaultyProxy, store: S3Store) -> None:
    swaps = 0

    async def lose_answers_to_swaps(exchange: Exchange) -> None:
        nonlocal swaps
        is_swap = any(line.lower().startswith(b"if-match:") for line in exchange.head)
        swaps += is_swap
        await (lose_the_answer if is_swap and swaps % 2 else hand_on)(exchange)

    proxy.fault = lose_answers_to_swaps

    await Suitability(store, "one").check()

    assert swaps == 4
