import asyncio
from types import MappingProxyType

import pytest
from aiohttp import web

from mapreduce_operator import __version__
from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.adapters.kube.resources import resource_in
from mapreduce_operator.ports import ClusterError, ClusterErrorReason, DeposedError
from tests.unit.adapters.kube.conftest import Anonymous
from tests.unit.adapters.kube.fake_api import Answer, FakeApi, answer, broken, chunks, failure, silence, text

PATH = "/api/v1/things"


async def refusal(session: ApiSession, verb: str = "POST") -> ClusterError:
    with pytest.raises(ClusterError) as caught:
        await session.request(verb, PATH, about="things team-a/x", body={})
    return caught.value


async def test_a_request_says_who_asks_and_what_it_takes(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, answer({"metadata": {}}))

    body = {"text": "Grüße", "nested": MappingProxyType({"list": [1, None]})}
    await session.request("POST", PATH, about="things", query={"dryRun": "All"}, body=body)

    (asked,) = api.asked
    assert asked.headers["accept"] == "application/json"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"] == f"mapreduce-operator/{__version__}"
    assert "authorization" not in asked.headers
    assert asked.query == {"dryRun": "All"}
    assert asked.body == {"text": "Grüße", "nested": {"list": [1, None]}}


@pytest.mark.parametrize("size", [0, 100_000, 3_000_000])
async def test_bodies_may_be_large(api: FakeApi, session: ApiSession, size: int) -> None:
    api.on("POST", PATH, answer({}))

    await session.request("POST", PATH, about="things", body={"data": "x" * size})

    (asked,) = api.asked
    assert asked.body == {"data": "x" * size}
    assert asked.headers["content-type"] == "application/json"
    assert int(asked.headers["content-length"]) == size + 11


async def test_a_refusal_is_an_error_with_the_servers_message(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, failure(403, "Forbidden", "exceeded quota: small"))

    error = await refusal(session)

    assert error.reason is ClusterErrorReason.QUOTA
    assert str(error).startswith("POST things team-a/x: exceeded quota: small")


async def test_a_throttled_request_tells_how_long_to_wait(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, failure(429, "TooManyRequests", "slow down", headers={"Retry-After": "4"}))

    error = await refusal(session)

    assert (error.reason, error.retry_after) == (ClusterErrorReason.THROTTLED, 4.0)
    assert len(api.asked) == 1, "when to try again is the engine's decision"


@pytest.mark.parametrize("verb", ["GET", "POST", "PATCH"])
async def test_a_connection_that_breaks_leaves_the_outcome_open(api: FakeApi, session: ApiSession, verb: str) -> None:
    api.on(verb, PATH, broken())

    assert (await refusal(session, verb)).reason is ClusterErrorReason.UNAVAILABLE


async def test_a_body_that_breaks_off_leaves_the_outcome_open(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, chunks(b'{"metadata": ', pause=0.01, breaks=True))

    assert (await refusal(session)).reason is ClusterErrorReason.UNAVAILABLE


@pytest.mark.parametrize("given", [silence(), chunks(b"{", hangs=True)], ids=["no answer", "half an answer"])
async def test_a_server_that_does_not_answer_is_not_waited_for(
    api: FakeApi, impatient: ApiSession, given: object
) -> None:
    assert callable(given)
    api.on("POST", PATH, given)

    async with asyncio.timeout(20):
        error = await refusal(impatient)

    assert error.reason is ClusterErrorReason.UNAVAILABLE
    assert "no answer in time" in str(error)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with ApiSession(Anonymous("http://127.0.0.1:1")) as session:
        assert (await refusal(session)).reason is ClusterErrorReason.UNAVAILABLE


async def test_of_a_long_error_only_the_beginning_is_read(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, text("x" * 10_000_000, code=500))

    assert len(str(await refusal(session))) <= 2_000


async def test_redirects_are_not_followed(api: FakeApi, session: ApiSession) -> None:
    api.on("POST", PATH, text("elsewhere", code=307))

    assert (await refusal(session)).reason is ClusterErrorReason.UNAVAILABLE


@pytest.mark.parametrize("body", [{"half a character": "\ud800"}, {"thing": object()}])
async def test_what_is_no_json_is_refused_before_it_is_sent(
    api: FakeApi, session: ApiSession, body: dict[str, object]
) -> None:
    with pytest.raises(ClusterError, match="cannot be sent as JSON") as caught:
        await session.request("POST", PATH, about="things", body=body)

    assert caught.value.reason is ClusterErrorReason.INVALID
    assert api.asked == []


async def test_the_servers_url_may_have_a_path(api: FakeApi) -> None:
    api.on("GET", f"/k8s/clusters/one{PATH}", answer({}))

    async with ApiSession(Anonymous(f"{api.url}/k8s/clusters/one")) as session:
        assert await session.request("GET", PATH, about="things") == b"{}"


# ------------------------------------------------------------------------------------------------------------- fence


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
async def test_who_does_not_lead_writes_nothing(api: FakeApi, verb: str) -> None:
    api.on(verb, PATH, answer({}))
    leads = True

    async with ApiSession(Anonymous(api.url), may_write=lambda: leads) as session:
        await session.request(verb, PATH, about="things team-a/x", body={})
        leads = False
        with pytest.raises(DeposedError, match=rf"{verb} {PATH} was not sent: this process does not lead any more"):
            await session.request(verb, PATH, about="things team-a/x", body={})
        leads = True
        await session.request(verb, PATH, about="things team-a/x", body={})

    assert len(api.asked) == 2


async def test_who_does_not_lead_may_read(api: FakeApi) -> None:
    api.on("GET", PATH, answer({}))

    async with ApiSession(Anonymous(api.url), may_write=lambda: False) as session:
        assert await session.request("GET", PATH, about="things") == b"{}"
        assert [chunk async for chunk in session.stream(PATH, about="things", query={})] == [b"{}"]


async def test_a_write_that_waited_for_a_connection_is_not_sent_by_who_was_deposed_meanwhile(api: FakeApi) -> None:
    leads = True
    deposed = asyncio.Event()

    def answered_after(event: asyncio.Event) -> Answer:
        async def give(request: web.Request) -> web.StreamResponse:
            await event.wait()
            return await answer({})(request)

        return give

    api.on("POST", PATH, answered_after(deposed))
    async with ApiSession(Anonymous(api.url), connections=1, may_write=lambda: leads) as session:
        first = asyncio.create_task(session.request("POST", PATH, about="things", body={}))
        second = asyncio.create_task(session.request("POST", PATH, about="things", body={}))
        async with asyncio.timeout(60):
            while not api.asked:  # noqa: ASYNC110 - the fake has no event for it
                await asyncio.sleep(0.01)
        leads = False
        deposed.set()

        assert await first == b"{}"
        with pytest.raises(DeposedError):
            await second

    assert len(api.asked) == 1


async def test_a_write_is_not_sent_again_with_new_credentials_by_who_was_deposed(api: FakeApi) -> None:
    api.on("POST", PATH, failure(401, "Unauthorized", "expired"), answer({}))
    leads = iter([True, False])

    async with ApiSession(Anonymous(api.url), may_write=lambda: next(leads)) as session:
        with pytest.raises(DeposedError):
            await session.request("POST", PATH, about="things", body={})

    assert len(api.asked) == 1


async def test_each_request_is_told_of_with_its_resource_and_what_came_of_it(api: FakeApi) -> None:
    told: list[tuple[str, str, str]] = []

    def observe(verb: str, resource: str, code: str, seconds: float) -> None:
        told.append((verb, resource, code))
        assert 0 <= seconds < 30

    pod, log = "/api/v1/namespaces/team-a/pods/x", "/api/v1/namespaces/team-a/pods/x/log"
    api.on("GET", pod, failure(401, "Unauthorized", "expired"), failure(404, "NotFound", "no such pod"))
    api.on("GET", log, broken())
    api.on("GET", PATH, chunks(b"{}"))
    async with ApiSession(Anonymous(api.url), observe=observe) as session:
        for path in (pod, log):
            with pytest.raises(ClusterError):
                await session.request("GET", path, about="pods team-a/x")
        async for _ in session.stream(PATH, about="things", query={}):
            assert told[-1] == ("WATCH", "things", "200"), "before it ends, which may be minutes later"

    assert told == [
        ("GET", "pods", "401"),
        ("GET", "pods", "404"),
        ("GET", "pods/log", "error"),
        ("WATCH", "things", "200"),
    ]


@pytest.mark.parametrize(
    ("path", "resource"),
    [
        ("/apis/batch/v1/jobs", "jobs"),
        ("/apis/batch/v1/namespaces/team-a/jobs", "jobs"),
        ("/apis/batch/v1/namespaces/team-a/jobs/namespaces", "jobs"),
        ("/apis/mapreduce.dev/v1alpha1/namespaces/a/mapreducejobs/b/status", "mapreducejobs/status"),
        ("/api/v1/namespaces/team-a", "namespaces"),
        ("/version", ""),
    ],
)
def test_a_path_tells_its_resource(path: str, resource: str) -> None:
    assert resource_in(path) == resource
