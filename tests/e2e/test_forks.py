"""Forks: a job that starts from a checkpoint of another one, and what is different in it.

Each test goes on with the same parent, which is deleted in the last but two.
"""

from typing import Any, Final

import pytest

from tests.e2e.sandbox import GATED_OK, Body, Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TELLS: Final = f"""
    {GATED_OK}
    number=$(sed -E 's/.*"n":([0-9]+).*/\\1/' /mapreduce/item.json)
    word=$(sed -nE 's/.*"word":"([^"]*)".*/\\1/p' /mapreduce/context.json)
    printf '"%s %d %s%s"' "$MAPREDUCE_JOB" "$number" "$word" "${{MARK:-}}" > /mapreduce/result.json
    if grep -q bad /mapreduce/item.json; then exit 1; fi
"""
"""The result says whose agent it is of, and what that one was given."""
TABLE: Final = """
    sed -E 's/.*"id":("[^"]*"),"result":(.*)}$/\\1:\\2/' /mapreduce/results.jsonl | paste -sd, |
        sed 's/.*/{&}/' > /mapreduce/result.json
"""
REDUCE: Final[Body] = {"template": agent(TABLE)}
WORK: Final[Body] = {"template": agent(TELLS), "retry": {"maxAttempts": 1}}


def fork(name: str, parent: str, *edits: Body, **more: Any) -> Body:
    """A fork of the newest checkpoint with these edits of items; `source` and keyword arguments set further parts."""
    source: Body = more.pop("source", {})
    body = job(name, [], "")
    body["spec"] = {
        "input": {"idExpression": "item.name"},
        "forkFrom": {"job": {"name": parent}, "edits": {"items": [*edits]}} | source,
    } | more
    return body


def account(status: Body) -> Body:
    sequence = status["checkpoint"]["sequence"]
    return {word: status[word] for word in ("phase", "items", "attempts", "positions")} | {"sequence": sequence}


@pytest.fixture(scope="module", autouse=True)
def parent(shared: Sandbox) -> str:
    """Two of its items succeed, one fails, and one is at work until the test lets it go."""
    states = {"a": "good", "b": "good", "c": "gated", "d": "bad"}
    items = [{"name": name, "n": number, "it": state} for number, (name, state) in enumerate(states.items(), 1)]
    body = job("parent", items, "", map_=WORK, reduce=REDUCE, params={"word": "one"})
    body["spec"]["input"]["idExpression"] = "item.name"
    shared.apply_example("dead-letters.yaml")
    return shared.create(body)


def test_a_fork_of_a_running_job_starts_from_the_checkpoint_that_it_names(shared: Sandbox, parent: str) -> None:
    before = shared.until(
        parent,
        lambda status: status.get("positions", {}).get("map", {}).get("running") == "2" and status["progress"] == "3/4",
    )
    sequence = before["checkpoint"]["sequence"]
    (pod,) = shared.until_at_work(parent, "c")
    name = shared.create(
        fork(
            "early",
            parent,
            {"id": "c", "patch": {"it": "good"}},
            {"id": "d", "remove": True},
            source={"checkpoint": sequence},
        )
    )
    status = shared.until_finished(name)
    assert (status["phase"], status["items"]["total"]) == ("Succeeded", 3)
    assert status["result"] == {"a": "parent 1 one", "b": "parent 2 one", "c": "early 3 one"}
    assert status["lineage"]["checkpoint"] == sequence
    shared.until_started(name, 1 + 1)
    # The parent knows nothing of that.
    assert account(shared.status(parent)) == account(before)
    shared.open_gates([pod])
    status = shared.until_finished(parent)
    assert status["result"] == {"a": "parent 1 one", "b": "parent 2 one", "c": "parent 3 one"}
    shared.until_started(parent, 4 + 1)


def test_a_fork_runs_the_item_that_was_edited_and_no_other(shared: Sandbox, parent: str) -> None:
    before = shared.until_finished(parent)
    spec = {word: shared.get(parent)["spec"][word] for word in ("map", "reduce", "params")}
    edit = {"id": "b", "patch": {"n": 20}}
    name = shared.create(fork("edited", parent, edit, resumePolicy={"includeDeadLetters": False}, **spec))
    status = shared.until_finished(name)
    assert (status["phase"], status["progress"]) == ("PartiallySucceeded", "4/4")
    assert status["result"] == before["result"] | {"b": "edited 20 one"}
    shared.until_started(name, 1 + 1)
    uid = shared.get(parent)["metadata"]["uid"]
    assert status["lineage"] == {"job": parent, "uid": uid, "checkpoint": before["checkpoint"]["sequence"], "depth": 1}
    shared.until_event(name, "Forked")
    # It has a dead letter queue of its own, with what its parent gave up.
    assert shared.until_queued(name, open=1)["newest"][0]["itemId"] == "d"
    assert shared.letters(name)["d"]["exitCode"] == 1
    assert account(shared.status(parent)) == account(before)


def test_a_fork_outlives_its_parent_from_which_it_has_what_it_leaves_out(shared: Sandbox, parent: str) -> None:
    shared.until_finished(parent)
    body = fork(
        "varied",
        parent,
        {"id": "a", "reset": True},
        {"id": "c", "patch": {"n": 30}},
        {"id": "d", "remove": True},
        {"add": {"name": "e", "n": 5}},
    )
    mark = {"spec": {"containers": [{"name": "agent", "env": [{"name": "MARK", "value": "!"}]}]}}
    body["spec"]["forkFrom"]["edits"] |= {"params": {"word": "two"}, "template": mark}
    name = shared.create(body)
    shared.until_succeeded(name, 3)
    pods = shared.until_at_work(name, "c")
    spec, theirs = shared.get(name)["spec"], shared.get(parent)["spec"]
    assert [spec[word] for word in ("map", "reduce", "params")] == [
        theirs[word] for word in ("map", "reduce", "params")
    ]

    shared.kubectl("delete", "mrj", parent, "--timeout=180s")
    shared.kubectl("delete", "dlq", parent, "--timeout=180s")
    shared.open_gates(pods)
    status = shared.until_finished(name)
    assert status["phase"] == "Succeeded"
    assert status["result"] == {"a": "varied 1 two!", "b": "parent 2 one", "c": "varied 30 two!", "e": "varied 5 two!"}
    shared.until_started(name, 3 + 1)


def test_a_fork_of_a_fork_knows_where_it_comes_from(shared: Sandbox) -> None:
    before = shared.until_finished("edited")
    name = shared.create(fork("again", "edited", {"id": "d", "remove": True}))
    status = shared.until_finished(name)
    assert (status["phase"], status["result"]) == ("Succeeded", before["result"])
    assert (status["lineage"]["job"], status["lineage"]["depth"]) == ("edited", 2)
    shared.until_started(name, 1)


def test_the_example_corrects_some_orders_and_keeps_the_others(shared: Sandbox) -> None:
    shared.follow_example("fork.yaml")
    status = shared.status("orders-corrected")
    assert (status["phase"], status["lineage"]["job"]) == ("Succeeded", "orders")
    assert status["result"] == {"orders": 5, "sum": 47.65}
    shared.until_started("orders-corrected", 3 + 1)
    assert shared.status("orders")["result"] == {"orders": 2, "sum": 24.9}


@pytest.mark.parametrize(
    ("body", "reason", "word"),
    [
        (fork("orphan", "nobody"), "ForkParentNotFound", "nobody"),
        (fork("ahead", "edited", source={"checkpoint": 1000}), "CheckpointNotFound", "1000"),
        (fork("misfit", "edited", {"id": "z", "reset": True}), "InvalidEdits", "'z'"),
    ],
    ids=["orphan", "ahead", "misfit"],
)
def test_a_fork_that_cannot_be_says_why(shared: Sandbox, body: Body, reason: str, word: str) -> None:
    name = shared.create(body)
    status = shared.until(name, lambda status: condition(status, "Accepted")["reason"] == reason)
    assert condition(status, "Accepted")["status"] == "False"
    assert word in condition(status, "Accepted")["message"]
    shared.until_event(name, reason)
    assert shared.pods_started(name) == []
    shared.kubectl("delete", "mrj", name, "--timeout=180s")
