"""More results than one ConfigMap holds, with real agents and a real volume."""

import hashlib
import json

import pytest

from tests.e2e.sandbox import Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

ITEMS = 255
PADDING = "x" * 4050

# The last agent waits, so that the map runs until the test has seen what is said of its results.
RETURN_4_KB = f"""
    until ! grep -q gated /mapreduce/item.json || [ -e /tmp/open ]; do sleep 0.1; done
    printf '{{"item":%s,"padding":"{PADDING}"}}' "$(cat /mapreduce/item.json)" > /mapreduce/result.json
"""
SUM_UP = """
    [ ! -e /mapreduce/results.jsonl ]
    printf '{"lines":%d,"sha256":"%s","found":%s,"told":%s,"failures":%d}' \\
        "$(cat /mapreduce/results/* | wc -l)" \\
        "$(cat /mapreduce/results/* | sha256sum | cut -d' ' -f1)" \\
        "$(find /mapreduce/results -type f | sort | sed 's/.*/"&"/' | paste -sd, | sed 's/.*/[&]/')" \\
        "$(sed -E 's/.*"resultsFiles":(\\[[^]]*\\]).*/\\1/' /mapreduce/context.json)" \\
        "$(cat /mapreduce/failures/* | wc -l)" > /mapreduce/result.json
"""


def test_results_of_more_than_a_megabyte_are_told_of_and_reduced_in_parts(sandbox: Sandbox) -> None:
    items = [*range(ITEMS - 1), "gated"]
    body = job("much", items, RETURN_4_KB, map_={"maxParallel": 40, "pendingTimeoutSeconds": 3600})
    body["spec"]["input"]["idExpression"] = "string(item)"
    body["spec"]["reduce"] = {"template": agent(SUM_UP)}
    name = sandbox.create(body)

    status = sandbox.until(name, lambda status: condition(status, "ResultsFit")["status"] == "False", 1200)
    assert (status["phase"], condition(status, "ResultsFit")["reason"]) == ("Map", "ResultsTooLarge")
    sandbox.until_events(name, {"Planned", "ResultsTooLarge"})
    sandbox.patch(name, {"reduce": {"resultsAs": "Directory"}})
    sandbox.open_gates(sandbox.until_at_work(name, "gated"))

    status = sandbox.until_finished(name, 300)
    lines = "".join(
        json.dumps({"id": str(item), "result": {"item": item, "padding": PADDING}}, separators=(",", ":")) + "\n"
        for item in items
    ).encode()
    assert len(lines) > 1_000_000
    assert status["phase"] == "Succeeded"
    assert status["result"] == {
        "lines": ITEMS,
        "sha256": hashlib.sha256(lines).hexdigest(),
        "found": ["/mapreduce/results/0001.jsonl", "/mapreduce/results/0002.jsonl"],
        "told": ["/mapreduce/results/0001.jsonl", "/mapreduce/results/0002.jsonl"],
        "failures": 0,
    }
    sandbox.kubectl("delete", "mapreducejob", name, "--cascade=orphan", "--timeout=180s")
    assert sandbox.kubectl("get", "configmaps", "--selector", "mapreduce.dev/job=much", "--output", "name") == ""
