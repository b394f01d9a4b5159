import json
from typing import Any

import pytest

from mapreduce_operator.adapters.kube.errors import Status, error_in_stream, error_of
from mapreduce_operator.ports import ClusterErrorReason

REQUEST = "POST jobs team-a/x"


def status(message: str, reason: str = "", **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "message": message, "reason": reason, "details": details}).encode()


@pytest.mark.parametrize(
    ("code", "body", "reason"),
    [
        (400, status('strict decoding error: unknown field "spec.foo"', "BadRequest"), ClusterErrorReason.INVALID),
        (401, status("Unauthorized", "Unauthorized"), ClusterErrorReason.FORBIDDEN),
        (403, status('jobs.batch is forbidden: User "x" cannot create', "Forbidden"), ClusterErrorReason.FORBIDDEN),
        (403, status('jobs.batch "x" is forbidden: exceeded quota: small', "Forbidden"), ClusterErrorReason.QUOTA),
        (
            403,
            status('jobs.batch "x" is forbidden: status unknown for quota: s', "Forbidden"),
            ClusterErrorReason.QUOTA,
        ),
        (403, status("unable to create: namespace is being terminated", "Forbidden"), ClusterErrorReason.FORBIDDEN),
        (
            403,
            status(
                "forbidden", "Forbidden", causes=[{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]
            ),
            ClusterErrorReason.TERMINATING,
        ),
        (404, status('jobs.batch "x" not found', "NotFound"), ClusterErrorReason.NOT_FOUND),
        (409, status('jobs.batch "x" already exists', "AlreadyExists"), ClusterErrorReason.ALREADY_EXISTS),
        (409, status("the object has been modified", "Conflict"), ClusterErrorReason.CONFLICT),
        (409, b"", ClusterErrorReason.CONFLICT),
        (410, status("too old resource version", "Expired"), ClusterErrorReason.EXPIRED),
        (413, status("Request entity too large", "RequestEntityTooLarge"), ClusterErrorReason.INVALID),
        (422, status("is invalid", "Invalid"), ClusterErrorReason.INVALID),
        (429, status("too many requests", "TooManyRequests"), ClusterErrorReason.THROTTLED),
        (408, b"", ClusterErrorReason.UNAVAILABLE),
        (500, status("etcdserver: request timed out", "InternalError"), ClusterErrorReason.UNAVAILABLE),
        (503, b"<html>no backend</html>", ClusterErrorReason.UNAVAILABLE),
        (504, status("Timeout", "Timeout"), ClusterErrorReason.UNAVAILABLE),
        (302, b"", ClusterErrorReason.UNAVAILABLE),
    ],
)
def test_an_answer_becomes_the_reason_that_the_engine_decides_by(
    code: int, body: bytes, reason: ClusterErrorReason
) -> None:
    assert error_of(code, body, request=REQUEST).reason is reason


def test_the_text_is_verb_object_and_the_servers_own_message() -> None:
    error = error_of(404, status('jobs.batch "x" not found', "NotFound"), request=REQUEST)

    assert str(error) == 'POST jobs team-a/x: jobs.batch "x" not found (HTTP 404)'


def test_fields_that_are_wrong_are_named_once() -> None:
    causes = [
        {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.template.spec.containers"},
        {"reason": "FieldValueInvalid", "message": "Invalid value: -1", "field": "spec.backoffLimit"},
    ]
    body = status("Job is invalid: spec.template.spec.containers: Required value", "Invalid", causes=causes)

    text = str(error_of(422, body, request=REQUEST))

    assert text.count("spec.template.spec.containers") == 1
    assert "spec.backoffLimit: Invalid value: -1" in text


@pytest.mark.parametrize(
    ("header", "details", "seconds"),
    [("7", {}, 7.0), (None, {"retryAfterSeconds": 3}, 3.0), ("2", {"retryAfterSeconds": 3}, 2.0), (None, {}, None)],
)
def test_the_server_may_ask_to_wait(header: str | None, details: dict[str, int], seconds: float | None) -> None:
    error = error_of(429, status("slow down", "TooManyRequests", **details), request=REQUEST, retry_after=header)

    assert error.retry_after == seconds


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2015 07:28:00 GMT", "-1", "", "1e9", "\u00b2"])
def test_a_wait_that_is_no_number_is_none(header: str) -> None:
    assert error_of(503, b"", request=REQUEST, retry_after=header).retry_after is None


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"message": 7}', b"\xff\xfe"])
def test_a_body_that_is_no_status_is_no_obstacle(body: bytes) -> None:
    error = error_of(500, body, request=REQUEST)

    assert error.reason is ClusterErrorReason.UNAVAILABLE
    assert str(error).startswith(REQUEST)


def test_a_proxys_page_is_on_one_line_and_bounded() -> None:
    text = str(error_of(502, b"<html>\n" + b"bad gateway\n" * 5_000, request=REQUEST))

    assert "\n" not in text
    assert "bad gateway" in text
    assert len(text) <= 2_000


@pytest.mark.parametrize(
    ("code", "reason"),
    [(410, ClusterErrorReason.EXPIRED), (500, ClusterErrorReason.UNAVAILABLE), (504, ClusterErrorReason.UNAVAILABLE)],
)
def test_errors_in_a_stream_say_list_again_or_watch_again(code: int, reason: ClusterErrorReason) -> None:
    error = error_in_stream(Status(message="too old resource version: 1 (2)", code=code), request="WATCH pods in *")

    assert error.reason is reason
    assert "too old resource version" in str(error)
