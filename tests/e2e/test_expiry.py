"""Jobs and Redrives that the operator deletes when their time to live is over."""

import pytest

from tests.e2e.sandbox import QUEUES, Sandbox, job, redrive

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FAILS_IF_BAD = """
    grep -q bad /mapreduce/item.json && exit 1
    echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE"
"""


def test_what_has_ended_goes_by_itself_and_leaves_its_letters(sandbox: Sandbox) -> None:
    once = {"retry": {"maxAttempts": 1}}
    body = job("short", ["good", "bad"], FAILS_IF_BAD, map_=once)
    body["spec"]["input"]["idExpression"] = "item"
    sandbox.create(body)
    assert sandbox.until_finished("short")["phase"] == "PartiallySucceeded"

    sandbox.create(redrive("again", "short", {"all": True}, ttlSecondsAfterFinished=1))
    sandbox.kubectl("wait", "--for=delete", "redrive/again", "--timeout=180s")
    sandbox.until("short", lambda status: status["attempts"]["total"] == 3 and "completionTime" in status)

    sandbox.patch("short", {"ttlSecondsAfterFinished": 1})
    sandbox.until_gone("short")
    assert sandbox.until_queued("short", open=1)["letters"]["total"] == 1
    assert list(sandbox.letters("short")) == ["bad"]
    sandbox.kubectl("delete", QUEUES, "short", "--timeout=180s")
