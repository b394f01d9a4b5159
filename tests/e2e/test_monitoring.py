"""A real Prometheus reads the operator's metrics while jobs run.

Every panel of the dashboard has something to show, every rule can be evaluated, and the numbers are those of the jobs.
"""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.dashboard import RULES, Query, metrics_in, queries
from tests.e2e.sandbox import Body, Sandbox, job, redrive
from tests.prometheus import Prometheus

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SYSTEM: Final = "mapreduce-system"

AT_ONCE: Final = {"type": "Fixed", "initialSeconds": 1, "jitter": 0}
# The gated item stays until the end, so that there is a job that runs while the panels are looked at.
MANNERS: Final = """
    case $(cat /mapreduce/item.json) in
        *gated*) until [ -e /tmp/open ]; do sleep 0.1; done ;;
        *bad*) exit 1 ;;
        *flaky*) grep -q '"attempt":1,' /mapreduce/context.json && exit 3 ;;
    esac
    echo '{"ok":true}' > /mapreduce/result.json
"""
ITEMS: Final = [{"it": it} for it in ["good 1", "flaky 1", "bad 1", "gated", "good 2", "flaky 2", "bad 2", "good 3"]]


LABELS: Final = {
    "mapreduce_items_total": "outcome",
    "mapreduce_item_attempts_total": "reason",
    "mapreduce_item_retries_total": "reason",
    "mapreduce_item_interruptions_total": "reason",
    "mapreduce_dead_letters_added_total": "reason",
    "mapreduce_dead_letters": "state",
    "mapreduce_jobs_finished_total": "phase",
    "mapreduce_jobs": "phase",
    "mapreduce_items": "state",
    "mapreduce_breakers": "state",
    "mapreduce_jobs_hindered": "reason",
}
# Each attempt of a bad or a flaky item is one of "Error"; the breaker of "broken" opens at its second.
NUMBERS: Final = {
    "mapreduce_items_total": {"Succeeded": 10, "DeadLettered": 3},
    "mapreduce_item_attempts_total": {"Succeeded": 10, "Error": 9},
    "mapreduce_item_retries_total": {"Error": 6},
    "mapreduce_item_interruptions_total": {"Deleted": 1},
    "mapreduce_dead_letters_added_total": {"Error": 3},
    "mapreduce_dead_letters": {"Open": 2, "Resolved": 1},
    "mapreduce_jobs_finished_total": {"Succeeded": 2, "Failed": 1},
    "mapreduce_jobs": {"Map": 2, "Succeeded": 2, "Failed": 1},
    "mapreduce_items": {"Running": 1, "Succeeded": 6, "DeadLettered": 1, "Pending": 1},
    "mapreduce_breakers": {"Closed": 1, "Open": 1},
    "mapreduce_jobs_hindered": {"CircuitOpen": 1},
}


def watched() -> Body:
    body = job(
        "watched",
        ITEMS,
        MANNERS,
        map_={"maxParallel": 3, "retry": {"maxAttempts": 2, "backoff": AT_ONCE}},
        failurePolicy={"circuitBreaker": {"failuresInARow": 100}},
    )
    body["spec"]["input"]["idExpression"] = "item.it"
    return body


def broken() -> Body:
    return job(
        "broken",
        [1],
        "exit 1",
        map_={"retry": {"maxAttempts": 9, "backoff": AT_ONCE}},
        failurePolicy={"circuitBreaker": {"failuresInARow": 2, "openSeconds": 3600}},
    )


def pods(component: str) -> list[str]:
    """Names of the pods of a part of the release."""
    selector = f"app.kubernetes.io/name=mapreduce-operator,app.kubernetes.io/component={component}"
    command = ["kubectl", "--namespace", SYSTEM, "get", "pods", f"--selector={selector}", "--output=json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["items"]
    # Those that an upgrade has replaced may go at any time.
    names = [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]
    assert names, f"no pod of the {component}"
    return names


@contextmanager
def forwarded(pod: str, port: int) -> Iterator[str]:
    """The address on this machine at which a port of a pod answers."""
    command = ["kubectl", "--namespace", SYSTEM, "port-forward", f"pod/{pod}", f":{port}", "--address=127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said.startswith("Forwarding from"), f"port {port} of {pod} cannot be reached"
            yield said.split()[2]
        finally:
            process.terminate()


@pytest.fixture
def api() -> Iterator[str]:
    """The address of the read-only API."""
    with forwarded(pods("api")[0], 8081) as address:
        yield address


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    with ExitStack() as open_ports:
        targets = [
            {
                "targets": [open_ports.enter_context(forwarded(pod, 8080))],
                "labels": {"namespace": SYSTEM, "pod": pod, "container": component},
            }
            for component in ("operator", "api")
            for pod in pods(component)
        ]
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "mapreduce", "honor_labels": True, "static_configs": targets}],
        }
        yield open_ports.enter_context(Prometheus(tmp_path, configuration))


def test_every_panel_shows_something_and_every_rule_can_be_evaluated(
    sandbox: Sandbox, prometheus: Prometheus, api: str, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.time()
    run_jobs(sandbox)
    token = sandbox.kubectl("create", "token", "default").strip()
    chosen = {"namespace": sandbox.namespace, "job": "watched", "__rate_interval": "15s", "__range": "10m"}
    wanted = list(queries(chosen))

    def lacking() -> list[Query]:
        # A rate takes more than one request.
        assert asked(api, f"/v1/namespaces/{sandbox.namespace}/mapreducejobs/watched/items", token) == 403
        return [
            query for query in wanted if not shows(query, prometheus.query_range(query.expression, began, time.time()))
        ]

    until_equal(lacking, [])
    until_equal(lambda: numbers(sandbox, prometheus), NUMBERS)

    rules = prometheus.rules()
    assert {rule["name"]: rule["lastError"] for rule in rules if rule["health"] != "ok"} == {}
    names = set().union(*(metrics_in(rule["query"]) for rule in rules))
    assert {name for name in names if not prometheus.query(f'count({{__name__=~"{name}(_bucket)?"}})')} == set()
    # What the rule on the API looks at.
    answering = prometheus.query('up{container="api"} == 1 and on (namespace, job) mapreduce_leader')
    assert {one["metric"]["pod"] for one in answering} == set(pods("api"))
    alerts = [
        (rule["name"], alert["state"])
        for rule in rules
        for alert in rule["alerts"]
        if rule["labels"]["severity"] == "critical" or alert["labels"]["namespace"] == sandbox.namespace
    ]
    assert alerts == [("MapReduceCircuitOpen", "pending"), ("MapReduceDeadLettersGrowing", "pending")]

    shown = {query.panel for query in wanted}
    with capsys.disabled():
        print(  # noqa: T201 - figures that a run is to tell
            f"\ndashboard: {len(shown)} panels with {len(wanted)} queries, all evaluated and none empty; "
            f"{len(rules)} rules over {len(names)} metrics, all evaluated"
        )


def run_jobs(sandbox: Sandbox) -> None:
    """Jobs that succeed, fail, try again, are interrupted, stand still, and have letters that are redriven."""
    sandbox.create(watched())
    sandbox.create(broken())
    for name in ("first", "second"):
        sandbox.create(job(name, ["good 1", "good 2"], MANNERS))
        sandbox.until_finished(name)
    sandbox.create(job("failing", ["bad"], MANNERS, map_={"retry": {"maxAttempts": 1}}))
    sandbox.until_finished("failing")

    sandbox.until_queued("watched", open=2)
    (pod,) = sandbox.until_at_work("watched", "gated")
    sandbox.kubectl("delete", "pod", pod.metadata.name, "--wait=false")
    sandbox.create(redrive("mended", "watched", {"ids": ["bad 1"]}, payloadPatch={"it": "good 4"}))
    assert sandbox.until_redriven("mended")["succeeded"] == 1
    sandbox.until("broken", lambda status: status.get("breaker", {}).get("state") == "Open")


def numbers(sandbox: Sandbox, prometheus: Prometheus) -> dict[str, dict[str, float]]:
    """What was counted in the namespace, by the label that tells more."""
    return {
        metric: {
            one["metric"][label]: float(one["value"][1])
            for one in prometheus.query(f'sum by ({label}) ({metric}{{namespace="{sandbox.namespace}"}}) > 0')
        }
        for metric, label in LABELS.items()
    }


def asked(address: str, path: str, token: str) -> int:
    """The status of the read-only API's answer."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    finally:
        connection.close()


def shows(query: Query, series: list[Any]) -> bool:
    """Whether there is a line to see, with all that its name is made of."""
    return any(
        query.labels <= one["metric"].keys() and any(value != "NaN" for _, value in one["values"]) for one in series
    )


def until_equal(found: Callable[[], object], expected: object, seconds: float = 180) -> None:
    """Waits until something is found that can only be asked for."""
    deadline = time.monotonic() + seconds
    while (last := found()) != expected:
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds:.0f} s it is {last}, not {expected}")
        time.sleep(1)
