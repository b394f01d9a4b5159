"""What a Kubernetes user expects of any resource."""

import pytest

from tests.e2e.sandbox import Sandbox, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OK = """echo '{"ok":true}' > "$MAPREDUCE_RESULT_FILE" """


def test_explain_describes_the_fields(sandbox: Sandbox) -> None:
    text = sandbox.kubectl("explain", "mrj.spec.map")
    assert "maxParallel" in text
    assert "timeoutSeconds" in text
    assert "How many agents may run at the same time" in text


def test_get_shows_progress_and_wait_returns_at_the_end(sandbox: Sandbox) -> None:
    name = sandbox.create(job("story", ["a", "b"], OK))
    sandbox.kubectl("wait", "--for=condition=Complete", f"mrj/{name}", "--timeout=180s")
    header, row = sandbox.kubectl("get", "mrj").splitlines()
    assert header.split() == ["NAME", "PHASE", "PROGRESS", "FAILED", "PARALLEL", "AGE"]
    assert row.split()[:5] == ["story", "Succeeded", "2/2", "0", "10"]
    sandbox.kubectl("wait", "--for=condition=Finished", f"mrj/{name}", "--timeout=60s")
    assert sandbox.kubectl("get", "agents", "--output", "name").strip() == "mapreducejob.mapreduce.dev/story"


def test_wait_for_failed_returns_when_a_job_fails(sandbox: Sandbox) -> None:
    name = sandbox.create(job("failing", [1], "exit 1", map_={"retry": {"maxAttempts": 1}}))
    sandbox.kubectl("wait", "--for=condition=Failed", f"mrj/{name}", "--timeout=180s")


def test_describe_tells_the_story(sandbox: Sandbox) -> None:
    script = (
        "grep -q good /mapreduce/item.json || { echo 'no such file: x' >&2; exit 1; }; echo 1 > /mapreduce/result.json"
    )
    name = sandbox.create(job("told", ["good", "bad"], script, map_={"retry": {"maxAttempts": 1}}))
    sandbox.until_finished(name)
    sandbox.until_events(name, {"Planned", "FirstError", "PartiallySucceeded"})
    text = sandbox.kubectl("describe", "mrj", name)
    assert "planned 2 items" in text
    assert "no such file: x" in text
    assert "1 of 2 items succeeded" in text


def test_input_cannot_be_changed_once_it_is_planned(sandbox: Sandbox) -> None:
    name = sandbox.create(job("fixed", [1], OK, suspend=True))
    sandbox.until(name, lambda status: "plan" in status)
    refused = sandbox.refused("patch", f"mrj/{name}", "--type=merge", '-p={"spec":{"input":{"items":[2]}}}')
    assert "spec.input" in refused


def test_delete_returns_at_once_for_a_finished_job(sandbox: Sandbox) -> None:
    name = sandbox.create(job("done", [1], OK))
    sandbox.until_finished(name)
    sandbox.kubectl("delete", "mrj", name, "--timeout=180s")
