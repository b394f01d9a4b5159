"""What an agent is given from a Secret stays with it: nothing that the operator writes, keeps or says holds it."""

import base64
import hashlib
import secrets
from typing import Final

import pytest

from mapreduce_operator.core.packing import unpack
from tests.e2e.canary import holding, told
from tests.e2e.sandbox import Body, Sandbox, agent, job, redrive

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ITEMS: Final = ["succeeds", "fails-once", "is-given-up", "is-gated"]
MANNERS: Final = """
    case $(cat /mapreduce/item.json) in
        *fails-once*) grep -q '"attempt":1,' /mapreduce/context.json && exit 3 ;;
        *is-given-up*) echo 'nothing came of it' >&2; exit 1 ;;
        *is-gated*) until [ -e /tmp/open ]; do sleep 0.1; done ;;
    esac
    echo '{"ok":true}' > /mapreduce/result.json
"""


@pytest.fixture
def canary(sandbox: Sandbox) -> str:
    """What the Secret `credentials` holds."""
    canary = secrets.token_hex(16)
    sandbox.kubectl("create", "secret", "generic", "credentials", f"--from-literal=token={canary}")
    return canary


def given(canary: str, script: str) -> Body:
    """An agent that has the canary in a variable and in a file, and ends with 9 where it has not."""
    is_it = f"""[ "$(printf %s "$value" | sha256sum)" = "{hashlib.sha256(canary.encode()).hexdigest()}  -" ]"""
    check = f"""for value in "$TOKEN" "$(cat /credentials/token)"; do {is_it} || exit 9; done"""
    volume = {"name": "credentials", "secret": {"secretName": "credentials"}}
    template = agent(f"{check}\n{script}", volumes=[volume])
    template["spec"]["containers"][0] |= {
        "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "credentials", "key": "token"}}}],
        "volumeMounts": [{"name": "credentials", "mountPath": "/credentials", "readOnly": True}],
    }
    return template


def stored(sandbox: Sandbox) -> str:
    """All objects of the namespace in the operator's storage."""
    # The operator may delete what it needs no more meanwhile.
    each = "-ignore_readdir_race -type f -exec base64 --wrap=0 {} ';' -exec echo ';'"
    folder = f"/var/lib/mapreduce-operator/{sandbox.namespace}"
    lines = sandbox.in_operator("sh", "-c", f"find {folder} {each}").splitlines()
    return "\n".join(unpack(base64.b64decode(line)).decode() for line in lines)


def assert_nowhere(canary: str, sandbox: Sandbox, *, silent: set[str]) -> None:
    """`silent`: where nothing need be said of the job at this time. All other places must speak of it."""
    found = told(sandbox) | {"storage": stored(sandbox)}
    speaks = {place for place, text in found.items() if sandbox.namespace in text or "is-given-up" in text}
    assert found.keys() - speaks <= silent
    assert holding(canary, found) == []


def test_what_an_agent_has_from_a_secret_is_written_nowhere(sandbox: Sandbox, canary: str) -> None:
    retry = {"maxAttempts": 2, "backoff": {"type": "Fixed", "initialSeconds": 1, "jitter": 0}}
    body = job("canary", ITEMS, "", map_={"template": given(canary, MANNERS), "retry": retry})
    body["spec"]["input"]["idExpression"] = "item"
    body["spec"]["reduce"] = {"template": given(canary, "wc -l < /mapreduce/results.jsonl > /mapreduce/result.json")}
    sandbox.create(body)
    sandbox.until_succeeded("canary", 2)
    sandbox.until_queued("canary", open=1)
    agents = sandbox.until_at_work("canary", "is-gated")

    # The operator need not log anything of a job that goes its way.
    assert_nowhere(canary, sandbox, silent={"redrives", "logs"})

    sandbox.open_gates(agents)
    status = sandbox.until_finished("canary")
    assert (status["phase"], status["result"]) == ("PartiallySucceeded", 3)
    sandbox.create(redrive("again", "canary", {"ids": ["is-given-up"]}))
    assert sandbox.until_redriven("again")["failed"] == 1
    (letter,) = sandbox.letters("canary").values()
    assert (letter["exitCode"], letter["history"][-1]["logTail"]) == (1, "nothing came of it\n")
    sandbox.until_no_job()

    assert_nowhere(canary, sandbox, silent={"jobs", "pods", "logs"})
