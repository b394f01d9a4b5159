"""What can be asked, and where. Only GET; each question needs the right to a subresource of its object.

    /v1/namespaces/{namespace}/mapreducejobs/{name}/items           …/item?id=      right: mapreducejobs/items
                                                   /results         …/results/reduce        mapreducejobs/results
                                                   /checkpoints     …/N …/diff …/validation mapreducejobs/checkpoints
    /v1/namespaces/{namespace}/deadletterqueues/{name}/letters …/bodies …/letter?id= …/analysis
                                                                                            deadletterqueues/letters

An id of an item may hold anything, a slash or two dots too, and therefore stands in the query. Lists are JSON lines;
one that cannot be told to its end has an `error` in its last line. What is wrong with storage, though there is an
answer, is told in the header Warning. Who may not know of an object is told that, whether it exists or not.
"""

import asyncio
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from mapreduce_operator.api import ItemState, LetterState
from mapreduce_operator.core.item_queries import ItemFilter
from mapreduce_operator.core.letter_queries import LetterFilter
from mapreduce_operator.serving.access import Access, Wish
from mapreduce_operator.serving.checkpoints import Checkpoints, not_planned
from mapreduce_operator.serving.errors import EXPLAINED, RefusedError, refusal_of
from mapreduce_operator.serving.filtering import Filters
from mapreduce_operator.serving.items import Items, result_of_reduce
from mapreduce_operator.serving.letters import Letters
from mapreduce_operator.serving.metrics import ApiMetrics
from mapreduce_operator.serving.pictures import Picture, Pictures
from mapreduce_operator.serving.runs import Found, Runs
from mapreduce_operator.serving.turns import Turns

log = logging.getLogger(__name__)

JOBS: Final = "mapreducejobs"
QUEUES: Final = "deadletterqueues"
JSON: Final = "application/json"
JSON_LINES: Final = "application/x-ndjson"
_PIECE: Final = 1 << 16
"""Bytes of lines that are sent together."""
PIECE_SECONDS: Final = 60.0
"""For whoever asks to take them: what is told to him holds memory until then."""
LONG_AT_ONCE: Final = 2
"""So many long answers are given at a time."""
_LINE_BYTES: Final = 32_768
"""Of a request: an id of an item may have 4 KiB, each byte of which may take three."""
_PARTING_SECONDS: Final = 5.0
"""For answers that are being given when the process ends."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_UID: Final = re.compile(r"[A-Za-z0-9-]{0,64}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_OTHER: Final = "other"
"""In metrics: what is no question."""
_GONE: Final = 499
"""In metrics: nobody waited for the answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question by somebody who may ask it."""

    namespace: str
    name: str
    query: Mapping[str, str]
    now: float
    warnings: list[str] = field(default_factory=list)
    """What is told beside the answer: that something it is made of is not as it should be."""

    def number(self, name: str) -> int | None:
        """A parameter that is a whole number, or None where it is not given."""
        text = self.query.get(name, "")
        if text and not _NUMBER.fullmatch(text):
            raise RefusedError(
                400, "InvalidParameter", f"{name} is {text[:80]!r}, and must be a whole number of at most 10 digits"
            )
        return int(text) if text else None

    def needed(self, name: str) -> str:
        """A parameter that must be given."""
        text = self.query.get(name, "")
        if not text:
            raise RefusedError(400, "InvalidParameter", f"{name} is missing: give ?{name}=")
        return text

    def needed_number(self, name: str) -> int:
        self.needed(name)
        return self.number(name) or 0


class Answers:
    """Each method answers one kind of question, with bytes of JSON or with lines."""

    def __init__(self, pictures: Pictures, runs: Runs) -> None:
        self._pictures: Final = pictures
        self._runs: Final = runs
        self._filters: Final = Filters()

    # ---------------------------------------------------------------------------------------------------- items

    async def items(self, asked: Asked) -> AsyncIterator[bytes]:
        state, limit = _state(ItemState, asked), asked.number("limit") or 0
        text = asked.query.get("filter", "")
        wanted = ItemFilter(text) if text else None
        found, picture = await self._now(asked)
        items = self._items(found, picture)
        return items.told(state, wanted, limit, asked.now)

    async def item(self, asked: Asked) -> bytes:
        name = asked.needed("id")
        found, picture = await self._now(asked)
        position = picture.position(name)
        if position is None:
            raise RefusedError(
                404,
                "ItemNotFound",
                f"the job {asked.name} has no item {name!r}; `kubectl mapreduce items list {asked.name}` shows all",
            )
        items = self._items(found, picture)
        return _json(await items.one(position, asked.warnings.append, job_exists=found.job_exists))

    async def results(self, asked: Asked) -> AsyncIterator[bytes]:
        _, picture = await self._now(asked)
        return Items(self._pictures, self._filters, picture).results()

    async def result_of_reduce(self, asked: Asked) -> bytes:
        _, picture = await self._now(asked)
        return _json(result_of_reduce(picture))

    def _items(self, found: Found, picture: Picture) -> Items:
        running = found.running_since(picture.checkpoint.sequence, len(picture.ids))
        return Items(self._pictures, self._filters, picture, running)

    async def _now(self, asked: Asked) -> tuple[Found, Picture]:
        found = await self._job(asked)
        picture = await self._pictures.newest(found.run, asked.warnings.append)
        if picture is None:
            raise not_planned(found.run)
        return found, picture

    async def _job(self, asked: Asked) -> Found:
        uid = asked.query.get("uid", "")
        if not _UID.fullmatch(uid):
            raise RefusedError(400, "InvalidParameter", f"uid is {uid!r}, which is no uid")
        return await self._runs.of_job(asked.namespace, asked.name, uid)

    # ---------------------------------------------------------------------------------------------- checkpoints

    async def checkpoints(self, asked: Asked) -> bytes:
        return _json(await (await self._checkpoints(asked)).listed())

    async def checkpoint(self, asked: Asked) -> bytes:
        return _json(await (await self._checkpoints(asked)).one(asked.needed_number("sequence")))

    async def difference(self, asked: Asked) -> bytes:
        first, second = asked.needed_number("from"), asked.needed_number("to")
        return _json(await (await self._checkpoints(asked)).changed(first, second))

    async def validation(self, asked: Asked) -> bytes:
        sequence = asked.number("sequence")
        return _json(await (await self._checkpoints(asked)).validated(sequence))

    async def _checkpoints(self, asked: Asked) -> Checkpoints:
        return Checkpoints(self._pictures, (await self._job(asked)).run, asked.warnings.append)

    # -------------------------------------------------------------------------------------------------- letters

    async def letters(self, asked: Asked) -> AsyncIterator[bytes]:
        letters, keys = await self._chosen(asked)
        return letters.in_short(keys)

    async def bodies(self, asked: Asked) -> AsyncIterator[bytes]:
        letters, keys = await self._chosen(asked)
        return letters.whole(keys)

    async def letter(self, asked: Asked) -> bytes:
        name = asked.needed("id")
        return await (await self._letters(asked)).one(name, asked.name)

    async def analysis(self, asked: Asked) -> bytes:
        letters, keys = await self._chosen(asked)
        return _json(await letters.compared(keys))

    async def _letters(self, asked: Asked) -> Letters:
        found = await self._runs.of_queue(asked.namespace, asked.name)
        return await Letters.of(self._pictures, found.run, asked.warnings.append, job_exists=found.job_exists)

    async def _chosen(self, asked: Asked) -> tuple[Letters, list[str]]:
        state, text = _state(LetterState, asked), asked.query.get("filter", "")
        wanted = LetterFilter(text) if text else None
        letters = await self._letters(asked)
        return letters, await letters.chosen(state, wanted, asked.now, self._filters)


StateT = TypeVar("StateT", ItemState, LetterState)
Work = Callable[[Answers, Asked], Awaitable[bytes | AsyncIterator[bytes]]]


@dataclass(frozen=True, slots=True)
class Question:
    """One that can be asked: where, by which right, and with which parameters."""

    label: str
    """In metrics."""
    resource: str
    subresource: str
    path: str
    work: Work
    parameters: frozenset[str]

    @property
    def is_long(self) -> bool:
        """Whether its answer holds memory for as long as somebody reads it, or reads much of what storage has."""
        return self.label in _LONG


_LONG: Final = frozenset({"items", "results", "letters", "bodies", "analysis", "validation"})


def _of_job(label: str, subresource: str, path: str, work: Work, *parameters: str) -> Question:
    return Question(label, JOBS, subresource, path, work, frozenset({*parameters, "uid"}))


def _of_queue(label: str, path: str, work: Work, *parameters: str) -> Question:
    return Question(label, QUEUES, "letters", path, work, frozenset(parameters))


QUESTIONS: Final = (
    _of_job("items", "items", "/items", Answers.items, "state", "filter", "limit"),
    _of_job("item", "items", "/item", Answers.item, "id"),
    _of_job("results", "results", "/results", Answers.results),
    _of_job("reduce", "results", "/results/reduce", Answers.result_of_reduce),
    _of_job("checkpoints", "checkpoints", "/checkpoints", Answers.checkpoints),
    _of_job("diff", "checkpoints", "/checkpoints/diff", Answers.difference, "from", "to"),
    _of_job("validation", "checkpoints", "/checkpoints/validation", Answers.validation, "sequence"),
    _of_job("checkpoint", "checkpoints", r"/checkpoints/{sequence:[0-9]{1,10}}", Answers.checkpoint),
    _of_queue("letters", "/letters", Answers.letters, "state", "filter"),
    _of_queue("bodies", "/bodies", Answers.bodies, "state", "filter"),
    _of_queue("letter", "/letter", Answers.letter, "id"),
    _of_queue("analysis", "/analysis", Answers.analysis, "state", "filter"),
)


class Service:
    """Takes requests: who asks, what is asked, whether that is allowed, and how it went."""

    def __init__(self, answers: Answers, access: Access, metrics: ApiMetrics) -> None:
        self._answers: Final = answers
        self._access: Final = access
        self._metrics: Final = metrics
        self.long: Final = Turns(LONG_AT_ONCE)
        """For long answers, each from its beginning to its last byte."""

    def runner(self) -> web.AppRunner:
        """To be set up, given a place to listen, and cleaned up at the end."""
        app = web.Application()
        for question in QUESTIONS:
            path = f"/v1/namespaces/{{namespace}}/{question.resource}/{{name}}{question.path}"
            app.router.add_get(path, self._handler(question), allow_head=False)
        app.router.add_route("*", "/{path:.*}", self._unknown)
        return web.AppRunner(
            app,
            access_log=None,
            # Whoever has gone away needs no answer.
            handler_cancellation=True,
            shutdown_timeout=_PARTING_SECONDS,
            max_line_size=_LINE_BYTES,
        )

    def _handler(self, question: Question) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            began, code = time.monotonic(), 500
            try:
                response = await self._answer(question, request)
                gone = request.transport is None or request.transport.is_closing()
                code = _GONE if gone else response.status
            except RefusedError as error:
                response = _refused(error)
                code = response.status
            except (asyncio.CancelledError, ConnectionError):
                code = _GONE
                raise
            finally:
                self._metrics.answered(question.label, code, time.monotonic() - began)
            return response

        return handle

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        refusal = (
            RefusedError(404, "NotFound", f"there is nothing at {request.path[:200]!r}")
            if request.method == "GET"
            else RefusedError(405, "MethodNotAllowed", "this API is for reading: only GET")
        )
        self._metrics.answered(_OTHER, refusal.status, 0.0)
        return _refused(refusal)

    async def _answer(self, question: Question, request: web.Request) -> web.StreamResponse:
        async with AsyncExitStack() as held:
            try:
                asked = await self._allowed(question, request)
                if question.is_long:
                    await held.enter_async_context(self.long.one())
                found = await question.work(self._answers, asked)
                headers = [("Warning", _warning(one)) for one in dict.fromkeys(asked.warnings)]
                if isinstance(found, bytes):
                    return web.Response(body=found, content_type=JSON, headers=headers)
                # What is wrong with the whole shows before the first line, when there still is a code to say it with.
                first = await anext(found, b"")
            except EXPLAINED as error:
                raise refusal_of(error) from error
            except RefusedError:
                raise
            except Exception as error:
                log.exception("a question about %s was not answered", question.label)
                raise RefusedError(500, "InternalError", "the API failed; its log says how") from error
            return await _told(request, headers, first, found)

    async def _allowed(self, question: Question, request: web.Request) -> Asked:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        user = await self._access.user(request.headers.get("Authorization", ""))
        if not _NAME.fullmatch(namespace) or not _NAME.fullmatch(name):
            raise RefusedError(400, "InvalidName", f"{namespace!r} and {name!r} must be names of Kubernetes objects")
        await self._access.check(user, Wish(question.resource, question.subresource, namespace, name))
        if unknown := sorted(set(request.query) - question.parameters):
            there = ", ".join(sorted(question.parameters))
            raise RefusedError(400, "InvalidParameter", f"there is no parameter {unknown[0]!r} here; there are {there}")
        query = dict(request.query)
        if "sequence" in request.match_info:
            query["sequence"] = request.match_info["sequence"]
        return Asked(namespace, name, query, time.time())


async def _told(
    request: web.Request, headers: Sequence[tuple[str, str]], first: bytes, rest: AsyncIterator[bytes]
) -> web.StreamResponse:
    response = web.StreamResponse(headers=[*headers, ("Content-Type", JSON_LINES)])
    await response.prepare(request)
    try:
        await _write(request, response, first, rest)
    except ConnectionError as error:
        # There is nobody left to tell it to.
        log.info("an answer broke off at %s: %s", request.path, error)
    return response


async def _write(request: web.Request, response: web.StreamResponse, first: bytes, rest: AsyncIterator[bytes]) -> None:
    piece = bytearray(first)
    try:
        async for line in rest:
            piece += line
            if len(piece) >= _PIECE:
                await _taken(request, response.write(bytes(piece)))
                piece.clear()
    except RefusedError as error:
        piece += _json(_body(error)) + b"\n"
    except EXPLAINED as error:
        piece += _json(_body(refusal_of(error))) + b"\n"
    await _taken(request, response.write_eof(bytes(piece)))


async def _taken(request: web.Request, writing: Awaitable[None]) -> None:
    """Waits until a piece is on its way. Raises ConnectionError where nobody takes it, upon which he is gone."""
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            await writing
    except TimeoutError as error:
        if request.transport is not None:
            # Closing it would wait for the same bytes.
            request.transport.abort()
        raise ConnectionAbortedError(f"nothing was read for {PIECE_SECONDS:g} s") from error


def _warning(text: str) -> str:
    # As the API server says it. JSON quotes what HTTP would, and what it could not say.
    return f"299 - {json.dumps(text)}"


def _refused(error: RefusedError) -> web.Response:
    headers: dict[str, str] = {}
    if error.retry_seconds:
        headers["Retry-After"] = f"{error.retry_seconds}"
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(status=error.status, headers=headers, body=_json(_body(error)), content_type=JSON)


def _body(error: RefusedError) -> dict[str, Any]:
    return {"error": {"reason": error.reason, "message": " ".join(str(error).split())}}


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _state(kind: type[StateT], asked: Asked) -> StateT | None:
    text = asked.query.get("state", "")
    try:
        return kind(text) if text else None
    except ValueError as error:
        there = ", ".join(kind)
        raise RefusedError(400, "InvalidParameter", f"state is {text!r}; there are {there}") from error
