"""Who may ask what: the API server decides, for each object and each kind of question, and nothing is told before."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from mapreduce_operator.adapters.kube import ApiSession
from mapreduce_operator.serving.access import KEPT_SECONDS, Access, User, Wish
from mapreduce_operator.serving.errors import RefusedError
from mapreduce_operator.serving.routes import QUESTIONS, Question
from tests.unit.adapters.kube.conftest import Anonymous
from tests.unit.adapters.kube.fake_api import FakeApi, answer, broken, failure
from tests.unit.serving.conftest import Asking, job_path
from tests.unit.serving.scenes import ACCESS_REVIEWS, API, JOB, TOKEN, TOKEN_REVIEWS, USER, Served

JANE = User("jane", "u-1", ("devs",), {"scopes": ["all"]})
ITEMS = Wish("mapreducejobs", "items", "default", "demo")


class Clock:
    time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def access(api: FakeApi, clock: Clock) -> AsyncIterator[Access]:
    async with ApiSession(Anonymous(api.url)) as session:
        yield Access(session, clock)


# ---------------------------------------------------------------------------------------------------------- who it is


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic amFuZTpwYXNz", TOKEN, "Bearer expired", f"Bearer {TOKEN}x"]
)
async def test_who_has_no_token_that_is_known_is_told_nothing(
    ask: Asking, service: Served, api: FakeApi, header: str
) -> None:
    code, reason, message = await ask.refused(job_path("items"), token=header)

    assert (code, reason) == (401, "Unauthorized")
    assert "token" in message
    assert api.asked_for("GET", f"{API}/mapreducejobs/demo") == []
    assert service.registry.get_sample_value("mapreduce_api_requests_total", {"resource": "items", "code": "401"}) == 1


async def test_a_browser_would_be_told_what_to_send(service: Served) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://127.0.0.1:{service.port}{job_path('items')}") as response,
    ):
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")


async def test_the_scheme_is_read_as_everywhere(access: Access) -> None:
    assert await access.user(f"bearer  {TOKEN} ") == JANE


# ---------------------------------------------------------------------------------------------------- whether he may


async def test_the_api_server_is_asked_for_the_very_right_of_the_very_user(access: Access, api: FakeApi) -> None:
    await access.check(await access.user(f"Bearer {TOKEN}"), ITEMS)

    (asked,) = api.asked_for("POST", ACCESS_REVIEWS)
    assert asked.body["spec"] == {
        "user": USER["username"],
        "uid": USER["uid"],
        "groups": USER["groups"],
        "extra": USER["extra"],
        "resourceAttributes": {
            "group": "mapreduce.dev",
            "resource": "mapreducejobs",
            "subresource": "items",
            "verb": "get",
            "namespace": "default",
            "name": "demo",
        },
    }


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.label)
async def test_each_question_needs_its_right(ask: Asking, api: FakeApi, question: Question) -> None:
    api.on("POST", ACCESS_REVIEWS, answer({"status": {"allowed": False, "reason": "no role says so"}}, 201))
    path = question.path.replace("{sequence:[0-9]{1,10}}", "1")

    code, reason, message = await ask.refused(f"/v1/namespaces/default/{question.resource}/demo{path}")

    assert (code, reason) == (403, "Forbidden")
    assert f"jane may not get {question.resource}/{question.subresource} of demo in the namespace default" in message
    assert "no role says so" in message
    assert {asked.verb for asked in api.asked} == {"POST"}, "whether there is such a thing is not even looked up"
    (asked,) = api.asked_for("POST", ACCESS_REVIEWS)
    attributes = asked.body["spec"]["resourceAttributes"]
    assert (attributes["resource"], attributes["subresource"]) == (question.resource, question.subresource)


async def test_a_right_in_one_namespace_is_none_in_another(ask: Asking) -> None:
    code, reason, _ = await ask.refused("/v1/namespaces/other/mapreducejobs/demo/items")
    assert (code, reason) == (403, "Forbidden")


async def test_who_may_not_know_learns_nothing_of_what_is_there(ask: Asking, api: FakeApi) -> None:
    there = await ask.refused("/v1/namespaces/other/mapreducejobs/demo/items")
    api.on("GET", API.replace("default", "other") + "/mapreducejobs/demo", answer(JOB))

    assert await ask.refused("/v1/namespaces/other/mapreducejobs/demo/items") == there


@pytest.mark.parametrize("path", [TOKEN_REVIEWS, ACCESS_REVIEWS])
async def test_nobody_is_let_in_while_the_api_server_does_not_say(ask: Asking, api: FakeApi, path: str) -> None:
    api.on("POST", path, broken())

    code, reason, _ = await ask.refused(job_path("items"))

    assert (code, reason) == (502, "ApiServerUnavailable")


async def test_a_right_of_the_api_itself_that_is_missing_is_no_word_on_the_user(ask: Asking, api: FakeApi) -> None:
    api.on("POST", TOKEN_REVIEWS, failure(403, "Forbidden", "the service account may not create tokenreviews"))

    code, reason, message = await ask.refused(job_path("items"))

    assert (code, reason) == (502, "ApiServerForbidden")
    assert TOKEN not in message


# ---------------------------------------------------------------------------------------------------- how long it holds


async def test_an_answer_holds_for_a_few_seconds(access: Access, api: FakeApi, clock: Clock) -> None:
    for _ in range(3):
        await access.check(await access.user(f"Bearer {TOKEN}"), ITEMS)
    assert len(api.asked_for("POST", TOKEN_REVIEWS)) == len(api.asked_for("POST", ACCESS_REVIEWS)) == 1

    clock.time += KEPT_SECONDS
    api.on("POST", ACCESS_REVIEWS, answer({"status": {"allowed": False}}, 201))
    with pytest.raises(RefusedError, match="may not get"):
        await access.check(await access.user(f"Bearer {TOKEN}"), ITEMS)
    assert len(api.asked_for("POST", TOKEN_REVIEWS)) == 2


async def test_what_holds_for_one_holds_for_no_other(access: Access, api: FakeApi) -> None:
    await access.check(JANE, ITEMS)

    for user, wish in (
        (User("jane", "u-1", (), JANE.extra), ITEMS),
        (User("jane", "u-1", ("devs",), {"scopes": ["some"]}), ITEMS),
        (JANE, Wish("mapreducejobs", "results", "default", "demo")),
        (JANE, Wish("mapreducejobs", "items", "default", "other")),
    ):
        await access.check(user, wish)

    assert len(api.asked_for("POST", ACCESS_REVIEWS)) == 5
    with pytest.raises(RefusedError):
        await access.user("Bearer another")


async def test_what_is_kept_is_bounded(access: Access, api: FakeApi) -> None:
    api.on("POST", ACCESS_REVIEWS, answer({"status": {"allowed": True}}, 201))
    for first in range(0, 1_100, 50):
        names = (f"job-{number}" for number in range(first, first + 50))
        await asyncio.gather(*(access.check(JANE, Wish("mapreducejobs", "items", "default", name)) for name in names))

    assert len(access._answers._found) == 1_000
