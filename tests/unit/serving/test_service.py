"""What is no question, how many are answered at a time, and what is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from mapreduce_operator.adapters.storage import FileStore
from mapreduce_operator.ports import StorageError, StorageErrorReason
from mapreduce_operator.serving import routes, turns
from mapreduce_operator.serving.letters import Letters
from mapreduce_operator.serving.routes import LONG_AT_ONCE
from mapreduce_operator.serving.turns import WAITING
from tests.unit.adapters.kube.fake_api import FakeApi, answer
from tests.unit.serving.conftest import Asking, job_path, queue_path
from tests.unit.serving.scenes import API, KEYS, TOKEN, Served

Answer = tuple[int, bytes]

pytestmark = pytest.mark.usefixtures("run")


@pytest.mark.parametrize(
    ("path", "query", "why"),
    [
        (job_path("items"), {"sate": "Open"}, "there is no parameter 'sate' here; there are filter, limit, state, uid"),
        (job_path("items"), {"state": "Open"}, "state is 'Open'; there are Pending, Running"),
        (job_path("items"), {"limit": "-1"}, "limit is '-1', and must be a whole number"),
        (job_path("items"), {"limit": "1" * 5000}, "must be a whole number of at most 10 digits"),
        (job_path("items"), {"limit": "²"}, "limit is '²', and must be a whole number"),
        (job_path("items"), {"uid": "../other"}, "which is no uid"),
        (job_path("item"), {}, "id is missing: give ?id="),
        (job_path("checkpoints/diff"), {"from_": 1}, "to is missing"),
        (queue_path("letters"), {"state": "Pending"}, "state is 'Pending'; there are Open"),
        (queue_path("letters"), {"uid": "run-1"}, "there is no parameter 'uid'"),
        ("/v1/namespaces/default/mapreducejobs/de%2Fmo/items", {}, "must be names of Kubernetes objects"),
        ("/v1/namespaces/..%2Fdefault/mapreducejobs/demo/items", {}, "must be names of Kubernetes objects"),
        ("/v1/namespaces/default/mapreducejobs/Demo/items", {}, "must be names of Kubernetes objects"),
    ],
)
async def test_what_cannot_be_understood_is_told_so(
    ask: Asking, api: FakeApi, path: str, query: dict[str, str], why: str
) -> None:
    code, _, message = await ask.refused(path, **query)

    assert code == 400
    assert why in message
    assert {asked.verb for asked in api.asked} == {"POST"}


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/namespaces/default/pods/demo/items", job_path("nothing"), job_path("checkpoints/x")]
)
async def test_what_is_not_there_is_not_found(ask: Asking, path: str) -> None:
    code, reason, _ = await ask.refused(path)
    assert (code, reason) == (404, "NotFound")


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_there_is_nothing_but_reading(service: Served, verb: str) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as http,
        http.request(verb, f"http://127.0.0.1:{service.port}{job_path('items')}") as response,
    ):
        assert response.status == 405


async def the_first(
    refused: int, waiting: list[asyncio.Task[Answer]]
) -> tuple[list[Answer], set[asyncio.Task[Answer]]]:
    """So many answers, and who waits still."""
    there, left = set[asyncio.Task[Answer]](), set(waiting)
    while len(there) < refused:
        more, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
        there |= more
    return [one.result() for one in there], left


async def test_who_would_wait_for_long_is_told_to_come_back(ask: Asking, service: Served) -> None:
    async with service.pictures.turns.one():
        waiting = [asyncio.create_task(ask.get(job_path("item"), id="open")) for _ in range(WAITING + 3)]
        refused, left = await the_first(3, waiting)
        assert {code for code, _ in refused} == {503}
        assert b'"Busy"' in refused[0][1]
        assert len(left) == WAITING

    assert {code for code, _ in await asyncio.gather(*left)} == {200}


@pytest.mark.parametrize(
    "path", [*map(job_path, ["items", "results", "checkpoints/validation"]), *map(queue_path, ["bodies", "analysis"])]
)
async def test_a_few_long_answers_are_given_at_a_time(ask: Asking, service: Served, path: str) -> None:
    async with AsyncExitStack() as slow:
        for _ in range(LONG_AT_ONCE):
            await slow.enter_async_context(service.service.long.one())
        refused, left = await the_first(2, [asyncio.create_task(ask.get(path)) for _ in range(WAITING + 2)])
        assert {code for code, _ in refused} == {503}
        assert (await ask.get(job_path("item"), id="open"))[0] == 200, "short ones pass by"

    assert {code for code, _ in await asyncio.gather(*left)} == {200}
    assert service.service.long.waiting == 0


async def test_nobody_waits_for_a_turn_for_ever(ask: Asking, service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE_SECONDS", 0.05)
    async with service.pictures.turns.one():
        assert (await ask.refused(job_path("items")))[:2] == (503, "Busy")
        assert service.service.long.waiting == 0

    assert (await ask.get(job_path("items")))[0] == 200


async def test_who_does_not_read_his_answer_loses_his_connection(
    service: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the turn that he held is free for others."""
    monkeypatch.setattr(routes, "PIECE_SECONDS", 0.2)

    async def endless(letters: Letters, keys: list[str]) -> AsyncIterator[bytes]:
        del letters, keys
        while True:
            yield b"x" * 65_536

    monkeypatch.setattr(Letters, "in_short", endless)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1)
    writer.write(f"GET {queue_path('letters')} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
    labels = {"resource": "letters", "code": "499"}
    while service.registry.get_sample_value("mapreduce_api_requests_total", labels) != 1:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.01)

    assert service.service.long.waiting == 0
    assert not (await reader.read()).endswith(b"0\r\n\r\n"), "it looks like the whole answer"
    assert "Traceback" not in caplog.text
    writer.close()
    await writer.wait_closed()


async def test_who_has_gone_away_keeps_nobody_waiting(ask: Asking, service: Served) -> None:
    async with service.pictures.turns.one():
        gone = asyncio.create_task(ask.get(job_path("items")))
        while service.pictures.turns.waiting < 2:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.001)
        gone.cancel()
        while service.pictures.turns.waiting > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert (await ask.get(job_path("items")))[0] == 200
    labels = {"resource": "items", "code": "499"}
    assert service.registry.get_sample_value("mapreduce_api_requests_total", labels) == 1
    assert service.service.long.waiting == 0


async def test_trouble_with_storage_is_told_with_its_reason(
    ask: Asking, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(key: str) -> None:
        raise StorageError(f"no bucket for {key}", StorageErrorReason.NOT_FOUND)

    monkeypatch.setattr(store, "get", get)

    code, reason, message = await ask.refused(job_path("items"))

    assert (code, reason) == (502, "BucketNotFound")
    assert KEYS.head in message


async def test_a_fault_of_the_api_is_told_without_what_it_is(
    ask: Asking, store: FileStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def get(key: str) -> None:
        raise RuntimeError(f"a secret of {key}")

    monkeypatch.setattr(store, "get", get)

    code, reason, message = await ask.refused(job_path("items"))

    assert (code, reason) == (500, "InternalError")
    assert "secret" not in message
    assert "a secret of" in caplog.text
    assert TOKEN not in caplog.text


async def test_requests_are_counted_by_what_they_ask_for(ask: Asking, service: Served, api: FakeApi) -> None:
    await ask.get(job_path("items"))
    await ask.get(job_path("item"), id="open")
    await ask.get(job_path("item"), id="nothing")
    await ask.get("/nothing")
    api.on("GET", f"{API}/deadletterqueues/demo", answer({"metadata": {"name": "demo"}}))
    await ask.get(queue_path("letters"))

    def counted(resource: str, code: int) -> float | None:
        labels = {"resource": resource, "code": f"{code}"}
        return service.registry.get_sample_value("mapreduce_api_requests_total", labels)

    assert [counted("items", 200), counted("item", 200), counted("item", 404), counted("other", 404)] == [1, 1, 1, 1]
    assert counted("letters", 502) == 1
    count = "mapreduce_api_request_duration_seconds_count"
    assert service.registry.get_sample_value(count, {"resource": "item"}) == 2
