"""`kubectl mapreduce`, called by kubectl as users call it: what each command does to the cluster, and its exit code.

The commands that only read are compared with what the agents did. tests/unit/cli/test_commands.py finds a command that
is called nowhere here.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from mapreduce_operator import __version__
from tests.e2e.sandbox import GATED_OK, PATIENCE_SECONDS, QUEUES, REDRIVES, Body, Sandbox, agent, condition, job

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
FAILS_UNLESS_MENDED = """
    echo "begins with $(cat /mapreduce/item.json)"
    if grep -q '"bad":true' /mapreduce/item.json; then echo 'this one is bad' >&2; exit 1; fi
    cp /mapreduce/item.json /mapreduce/result.json
"""
COUNT = "wc -l < /mapreduce/results.jsonl > /mapreduce/result.json"
SPEAKS = f"""
    echo "begins with $(cat /mapreduce/item.json)"
    {GATED_OK}
    echo ends
"""
FINE, PARTLY, MISUSED, NOT_FOUND, FORBIDDEN, TIMEOUT = 0, 4, 2, 5, 6, 7


class Cli:
    """`kubectl mapreduce` in one namespace."""

    def __init__(self, sandbox: Sandbox, *place: str) -> None:
        self._place = place or ("-n", sandbox.namespace)

    def __call__(self, *words: str, code: int = FINE, stdin: str | None = None) -> str:
        """What a command line prints on stdout; with a code other than 0, what it says on stderr."""
        done = subprocess.run(
            self._line(words), check=False, text=True, capture_output=True, timeout=300, input=stdin, env=ENVIRONMENT
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout if code == FINE else done.stderr

    def json(self, *words: str) -> Any:
        return json.loads(self(*words, "-o", "json"))

    @contextmanager
    def begun(self, *words: str) -> Iterator["Begun"]:
        """A command that runs while other things happen."""
        with subprocess.Popen(self._line(words), text=True, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
            try:
                yield Begun(process)
            finally:
                process.kill()

    def _line(self, words: tuple[str, ...]) -> list[str]:
        return ["kubectl", "mapreduce", *self._place, *words]


class Begun:
    """A command that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self._process, self._printed = process, process.stdout

    def line(self) -> str:
        """What it prints next."""
        return self._printed.readline()

    def ended(self) -> tuple[int, str]:
        """(exit code, what else was printed) of a command that comes to its end."""
        printed = self._printed.read()
        return self._process.wait(), printed


@pytest.fixture(scope="module")
def cli(shared: Sandbox) -> Cli:
    return Cli(shared)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("manifests")


def written(folder: Path, body: Body) -> str:
    file = folder / f"{body['metadata']['name']}.yaml"
    file.write_text(yaml.safe_dump(body))
    return str(file)


def orders(name: str, *bad: bool) -> Body:
    """A job over items `0`, `1`, …, of which some are bad; the reduce counts the others."""
    items = [{"id": f"{number}", "bad": is_bad} for number, is_bad in enumerate(bad)]
    body = job(name, items, FAILS_UNLESS_MENDED, map_={"retry": {"maxAttempts": 1}}, reduce={"template": agent(COUNT)})
    body["spec"]["input"]["idExpression"] = "item.id"
    return body


def speaking(name: str, *items: str, **spec: Any) -> Body:
    body = job(name, list(items), SPEAKS, **spec)
    body["spec"]["input"]["idExpression"] = "item"
    return body


# ------------------------------------------------------------------------------------------ a job, and what it leaves


def test_a_job_is_run_to_its_end(shared: Sandbox, cli: Cli, folder: Path) -> None:
    file = written(folder, orders("orders", False, True, False))
    assert "valid" in cli("validate", file)
    assert "(server dry run)" in cli("run", file, "--dry-run")
    assert cli.json("status")["items"] == []

    told = cli("run", file, "--wait", "--set", "model=large", code=PARTLY)
    assert "PartiallySucceeded (SomeItemsFailed): 2 of 3 items succeeded" in told
    assert shared.status("orders")["items"]["deadLettered"] == 1
    assert shared.get("orders")["spec"]["params"] == {"model": "large"}
    assert "is there already" in cli("run", file, code=1)
    assert "PartiallySucceeded" in cli("watch", "orders", code=PARTLY)


def test_a_manifest_means_what_it_means_to_kubectl(shared: Sandbox, cli: Cli, folder: Path) -> None:
    scalars = "[y, n, yes, no, on, off, ~, 0777, 0o17, 1_000, 1e3, 5.0, 1:30, 2026-01-01, 2026-01-01T10:00:00Z, 'n']"
    body = speaking("scalars", "free", params={"values": "SCALARS"})
    file = folder / "scalars.yaml"
    file.write_text(yaml.safe_dump(body).replace("SCALARS", scalars))
    theirs = json.loads(shared.kubectl("create", "--dry-run=server", "--output=json", f"--filename={file}"))
    assert cli.json("run", str(file), "--dry-run")["spec"] == theirs["spec"]
    file.write_text(cli("run", str(file), "--dry-run", "-o", "yaml").partition("plan:\n")[0])
    again = json.loads(shared.kubectl("create", "--dry-run=server", "--output=json", f"--filename={file}"))
    assert again["spec"] == theirs["spec"]
    file.write_text(yaml.safe_dump(body).replace("SCALARS", "{n: 1}"))
    for words in (("run", str(file), "--dry-run"), ("validate", str(file))):
        assert "the key n is not the text 'n' but 'false' to kubectl: put it in quotes" in cli(*words, code=1)


def test_a_job_that_cannot_begin_is_not_waited_for(shared: Sandbox, cli: Cli) -> None:
    told = cli("run", "-", "--wait", stdin=json.dumps(speaking("twice", "same", "same")), code=1)
    assert "twice cannot begin: DuplicateItems" in told
    assert "has no reduce" in cli("restart", "twice", "--phase", "Reduce", code=1)
    assert "has no reduce" in cli("results", "twice", "--reduce", code=1)
    shared.kubectl("delete", "mrj", "twice")


def test_what_a_job_came_to_is_read(shared: Sandbox, cli: Cli) -> None:
    (body,) = cli.json("status")["items"]
    assert body == json.loads(shared.kubectl("get", "mrj", "orders", "-o", "json"))
    assert re.search(rf"^{shared.namespace} +orders ", Cli(shared, "-A")("status"), re.MULTILINE)
    assert [one["state"] for one in cli.json("items", "list", "orders")] == ["Succeeded", "DeadLettered", "Succeeded"]
    assert cli.json("items", "show", "orders", "2")["result"] == {"id": "2", "bad": False}
    assert [one["id"] for one in cli.json("results", "orders")] == ["0", "2"]
    assert [one["id"] for one in cli.json("dlq", "list", "orders")] == ["1"]
    assert cli.json("dlq", "show", "orders", "1")["payload"] == {"id": "1", "bad": True}
    assert cli.json("dlq", "analyze", "orders")["letters"] == 1
    assert json.loads(cli("dlq", "export", "orders", "--format", "jsonl"))["id"] == "1"
    assert "this one is bad" in cli("logs", "orders", "1")
    numbers = [one["sequence"] for one in cli.json("checkpoints", "list", "orders")]
    assert numbers[-1] == shared.status("orders")["checkpoint"]["sequence"]
    assert cli.json("checkpoints", "show", "orders", f"{numbers[-1]}")["phase"] == "PartiallySucceeded"
    assert {one["id"] for one in cli.json("checkpoints", "diff", "orders", "0", f"{numbers[-1]}")} == {"0", "1", "2"}
    assert all(not one["problems"] for one in cli.json("checkpoints", "validate", "orders"))


def test_items_that_were_given_up_are_run_again(shared: Sandbox, cli: Cli) -> None:
    assert "0 of 1 item succeeded" in cli("items", "retry", "orders", "1", "--wait", code=3)
    # A Redrive and its job are told of in their own time.
    shared.until("orders", lambda status: status["attempts"]["total"] == 3 + 1)

    mended = ("--patch", '{"bad": false}', "--rerun-reduce", "--name", "mended", "--wait")
    assert "1 of 1 item succeeded" in cli("redrive", "orders", "--filter", 'letter.reason == "Error"', *mended)
    assert shared.status("mended", REDRIVES)["succeeded"] == 1
    status = shared.until("orders", lambda status: status["phase"] == "Succeeded")
    assert status["result"] == 3

    cli("dlq", "purge", "orders", "--older-than", "1s")
    shared.until_queued("orders", total=0)


def test_a_fork_begins_where_the_job_was(shared: Sandbox, cli: Cli) -> None:
    edits = ("--at", "0", "--remove", "1", "--reset", "0", "--add", '{"id": "3", "bad": false}', "--set", "model=small")
    cli("fork", "orders", "orders-2", *edits, "--wait")
    status = shared.status("orders-2")
    assert (status["lineage"]["job"], status["lineage"]["checkpoint"], status["result"]) == ("orders", 0, 3)
    assert shared.get("orders-2")["spec"]["forkFrom"]["edits"]["params"] == {"model": "small"}


def test_the_letters_of_a_job_that_is_gone_are_deleted_with_their_queue(
    shared: Sandbox, cli: Cli, folder: Path
) -> None:
    file = written(folder, orders("gone", True))
    cli("run", file, "--wait", code=3)
    assert "is still there" in cli("dlq", "purge", "gone", "--all", "--yes", code=1)
    shared.kubectl("delete", "mrj", "gone")
    assert "was deleted with its storage; what is left are its dead letters" in cli("items", "list", "gone", code=5)
    where = shared.status("gone", QUEUES)["storage"]
    assert shared.stored(f"{where}*.json")
    assert "deleted with 1 letter" in cli("dlq", "purge", "gone", "--all", "--yes")
    shared.kubectl("wait", "--for=delete", "dlq/gone", "--timeout=180s")
    assert shared.stored(f"{where}*.json") == ""


# ---------------------------------------------------------------------------------------------- a job while it runs


def test_a_job_is_stopped_and_goes_on(shared: Sandbox, cli: Cli) -> None:
    cli("run", "-", stdin=json.dumps(speaking("steps", "free", "gated 1", "gated 2")))
    first, _ = shared.until_at_work("steps", "gated 1", "gated 2")
    shared.until_succeeded("steps", 1)
    assert "steps" in cli("status", "steps")
    cli("checkpoint", "steps", "--token", "before", "--wait")
    before = shared.status("steps")["checkpoint"]
    assert before["token"] == "before"  # noqa: S105 - no password
    shared.until_printed(first)
    assert cli("logs", "steps", "gated 1") == 'begins with "gated 1"\n'

    cli("suspend", "steps", "--interrupt", "--wait")
    assert shared.status("steps")["phase"] == "Paused"
    shared.until_running(0, job="steps")
    assert "steps keeps no checkpoint 999, and nothing was changed" in cli("restore", "steps", "999", "--wait", code=1)
    assert "restore" not in shared.get("steps")["spec"]
    cli("restore", "steps", f"{before['sequence']}", "--wait")
    assert shared.status("steps")["restore"]["checkpoint"] == before["sequence"]

    cli("items", "skip", "steps", "gated 2")
    # A gate is only in the way of a first dispatch.
    with cli.begun("watch", "steps") as watch:
        assert watch.line().split()[1] == "Paused"
        cli("resume", "steps", "--wait")
        code, lines = watch.ended()
    assert (code, lines.splitlines()[-1].split()[1]) == (FINE, "Succeeded")
    items = shared.status("steps")["items"]
    assert (items["succeeded"], items["skipped"]) == (2, 1)


def test_a_job_is_cancelled_and_taken_up_again(shared: Sandbox, cli: Cli) -> None:
    cli("run", "-", "--name", "ended", stdin=json.dumps(speaking("any", "free", "gated")))
    shared.until_at_work("ended", "gated")
    shared.until_succeeded("ended", 1)
    assert "has not ended within 1s" in cli("watch", "ended", "--timeout", "1s", code=TIMEOUT)
    with cli.begun("logs", "ended", "gated", "--follow") as log:
        assert log.line() == 'begins with "gated"\n'
        cli("cancel", "ended", "--wait")
        assert log.ended() == (FINE, "")
    status = shared.status("ended")
    assert (condition(status, "Failed")["reason"], status["items"]["succeeded"]) == ("Cancelled", 1)
    assert not status.get("active")

    cli("restart", "ended", "--phase", "map", "--wait")
    cli("watch", "ended")
    assert shared.status("ended")["items"]["succeeded"] == 2


# ------------------------------------------------------------------------------------------------- around the jobs


def test_what_storage_keeps_of_a_job_that_is_gone_is_collected(shared: Sandbox, cli: Cli, sandbox: Sandbox) -> None:
    here, there = kept_and_gone(cli, shared), kept_and_gone(Cli(sandbox), sandbox)
    everywhere = Cli(shared, "-A")

    assert here.uid not in uids(cli, "1d")
    assert uids(cli, "0s") & {here.uid, there.uid} == {here.uid}
    assert {here.uid, there.uid} <= uids(everywhere, "0s")
    cli("gc", "--older-than", "0s")

    assert shared.stored(here.head) == ""
    assert sandbox.stored(there.head), "what another namespace keeps is no matter of this one"
    assert uids(everywhere, "0s") & {here.uid, there.uid} == {there.uid}


class Kept(NamedTuple):
    uid: str
    head: str
    """URL of an object that storage keeps."""


def kept_and_gone(cli: Cli, sandbox: Sandbox) -> Kept:
    """What storage keeps of a job that was run and deleted in a namespace."""
    cli("run", "-", "--wait", stdin=json.dumps(speaking("kept", "free", retention={"onDelete": "Keep"})))
    kept = Kept(sandbox.get("kept")["metadata"]["uid"], f"{sandbox.status('kept')['storage']}head.json")
    assert kept.uid not in uids(cli, "0s"), "a job that is there keeps its storage"
    sandbox.kubectl("delete", "mrj", "kept")
    assert sandbox.stored(kept.head)
    return kept


def uids(cli: Cli, older_than: str) -> set[str]:
    """What gc would delete."""
    return {one["uid"] for one in cli.json("gc", "--dry-run", "--older-than", older_than)}


def test_versions_and_completion(cli: Cli, shared: Sandbox) -> None:
    assert cli("version").splitlines()[0].split() == ["command", __version__]
    assert "kubectl-mapreduce" in cli("completion", "bash")
    deadline = time.monotonic() + PATIENCE_SECONDS
    # No names are offered where the API server takes longer than people wait: then one asks again.
    while (offered := completed("mapreduce", "-n", shared.namespace, "watch", "ord"))[:2] != ["orders", "orders-2"]:
        assert time.monotonic() < deadline, offered


def completed(*words: str) -> list[str]:
    """The ways in which kubectl would complete a command line."""
    line = ["kubectl", "__complete", *words]
    done = subprocess.run(line, check=True, text=True, capture_output=True, timeout=120, env=ENVIRONMENT)
    return done.stdout.splitlines()


def test_what_is_not_there_and_what_is_not_allowed(shared: Sandbox, cli: Cli, folder: Path) -> None:
    assert "there is no MapReduceJob 'nowhere'" in cli("status", "nowhere", code=NOT_FOUND)
    assert "there is no DeadLetterQueue" in cli("redrive", "nowhere", "--all", code=NOT_FOUND)
    Cli(shared, "-A")("watch", "orders", code=MISUSED)
    nobody = Cli(shared, "--kubeconfig", str(kubeconfig(shared, folder, "nobody")), "-n", shared.namespace)
    assert "ask for the role view" in nobody("status", code=FORBIDDEN)
    viewer = Cli(shared, "--kubeconfig", str(kubeconfig(shared, folder, "viewer", role="view")), "-n", shared.namespace)
    assert viewer.json("status", "orders-2") == json.loads(shared.kubectl("get", "mrj", "orders-2", "-o", "json"))
    told = viewer("restart", "steps", code=FORBIDDEN)
    assert "cannot patch resource" in told
    assert "ask for the role edit" in told
    assert "ask for the Role …-api-users" in viewer("items", "list", "orders-2", code=FORBIDDEN)
    account = f"system:serviceaccount:{shared.namespace}"
    assert f'User "{account}:nobody" cannot' in cli("status", "--as", f"{account}:nobody", code=FORBIDDEN)
    assert "no MapReduceJob 'nowhere'" in cli("status", "nowhere", "--as", f"{account}:viewer", code=NOT_FOUND)
    assert "goes by your token" in cli("items", "list", "orders", "--as", f"{account}:viewer", code=MISUSED)


def kubeconfig(shared: Sandbox, folder: Path, name: str, *, role: str = "") -> Path:
    """That of a service account with a role in the namespace, or none."""
    shared.kubectl("create", "serviceaccount", name)
    if role:
        account = f"--serviceaccount={shared.namespace}:{name}"
        shared.kubectl("create", "rolebinding", name, f"--clusterrole={role}", account)
        shared.until_may(name, "get", "mapreducejobs.mapreduce.dev")
    config = yaml.safe_load(shared.kubectl("config", "view", "--raw", "--minify"))
    config["users"][0]["user"] = {"token": shared.kubectl("create", "token", name)}
    file = folder / f"{name}.kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return file
