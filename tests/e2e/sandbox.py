"""A namespace of a test on the real cluster, and what a user does in it."""

import json
import math
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml
from kubernetes import client, watch

PROJECT = Path(__file__).resolve().parents[2]
PLUGIN = str(Path(sys.executable).with_name("kubectl-mapreduce"))
GROUP, VERSION = "mapreduce.dev", "v1alpha1"
PLURAL, QUEUES, REDRIVES = "mapreducejobs", "deadletterqueues", "redrives"
LABEL_JOB = f"{GROUP}/job"
CREATIONS: Final = "reason=SuccessfulCreate,involvedObject.kind=Job"
"""Of pods by the Job controller, among Events."""
AGENT_IMAGE = "debian:bookworm-slim"
PATIENCE_SECONDS: Final = 180
"""For what takes seconds: a machine that others use as well may be much slower, and to wait costs nothing else."""

# How long an agent runs must decide nothing: one whose item says "gated" waits, in its first dispatch, until the test
# lets it go or it is interrupted.
GATED_OK = """
    if grep -q gated /mapreduce/item.json && grep -q '"dispatch":1,' /mapreduce/context.json; then
        until [ -e /tmp/open ]; do sleep 0.1; done
    fi
    echo '{"ok":true}' > /mapreduce/result.json
"""

Body = dict[str, Any]


def agent(script: str, **pod: Any) -> Body:
    """A template whose agent runs a bash script; what it prints into $MAPREDUCE_RESULT_FILE is its result."""
    container = {
        "name": "agent",
        "image": AGENT_IMAGE,
        "command": ["bash", "-euc", script],
        "resources": {"requests": {"cpu": "5m", "memory": "8Mi"}},
    }
    return {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1, **pod}}


def job(name: str, items: list[Any], script: str, *, map_: Body | None = None, **spec: Any) -> Body:
    """A MapReduceJob over the items; `map_` and keyword arguments set further parts of the spec."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "MapReduceJob",
        "metadata": {"name": name},
        "spec": {
            "input": {"items": items},
            # Agents may wait at their gates until the last test of a module comes to them.
            "map": {"template": agent(script), "maxParallel": 10, "timeoutSeconds": 3600} | (map_ or {}),
        }
        | spec,
    }


def redrive(name: str, queue: str, selection: Body, **spec: Any) -> Body:
    """A Redrive."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Redrive",
        "metadata": {"name": name},
        "spec": {"queue": queue, "selection": selection} | spec,
    }


class Sandbox:
    """One namespace. Waiting is done by watching, and always has a bound."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._objects = client.CustomObjectsApi()
        self._batch = client.BatchV1Api()
        self._core = client.CoreV1Api()

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints."""
        done = self._run_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """What kubectl says of a request that the API server refuses."""
        done = self._run_kubectl(*arguments)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)}: {done.stdout}"
        return done.stderr

    def _run_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "--namespace", self.namespace, *arguments],
            input=stdin,
            check=False,
            text=True,
            capture_output=True,
            timeout=300,
        )

    def create(self, body: Body) -> str:
        """Creates a MapReduceJob or a Redrive, returns its name."""
        plural = PLURAL if body["kind"] == "MapReduceJob" else REDRIVES
        self._objects.create_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, body)
        name: str = body["metadata"]["name"]
        return name

    def apply_example(self, file: str) -> str:
        """Applies an example as the README says, returns the name of its object."""
        path = PROJECT / "examples" / file
        self.kubectl("apply", "--filename", str(path))
        name: str = yaml.safe_load(path.read_text())["metadata"]["name"]
        return name

    def follow_example(self, file: str) -> None:
        """Does what the comment above an example says: its lines with kubectl, in their order."""
        for line in (PROJECT / "examples" / file).read_text().splitlines():
            if line.startswith("#   kubectl "):
                self.kubectl(*shlex.split(line)[2:])

    def patch(self, name: str, spec: Body) -> None:
        """Edits the spec by a merge patch."""
        self._objects.patch_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name, {"spec": spec})

    def get(self, name: str, of: str = PLURAL) -> Body:
        body: Any = self._objects.get_namespaced_custom_object(GROUP, VERSION, self.namespace, of, name)
        return dict(body)

    def status(self, name: str, of: str = PLURAL) -> Body:
        status: Body = self.get(name, of).get("status", {})
        return status

    def until(
        self, name: str, holds: Callable[[Body], bool], seconds: int = PATIENCE_SECONDS, *, of: str = PLURAL
    ) -> Body:
        """Waits until there is a status and it is so; returns it. `of` is the kind, in the plural."""
        status: Body = {}
        for found in _looks(
            self._objects.list_namespaced_custom_object,
            *(GROUP, VERSION, self.namespace, of),
            seconds=seconds,
            field_selector=f"metadata.name={name}",
        ):
            status = found[0].get("status", {}) if found else {}
            if status and holds(status):
                return status
        raise AssertionError(f"{name} was not so within {seconds} s; its status: {json.dumps(status, indent=1)}")

    def until_queued(self, queue: str, **counts: int) -> Body:
        """Waits until the queue has so many letters in these states; returns its status."""
        return self.until(queue, lambda status: counts.items() <= status.get("letters", {}).items(), of=QUEUES)

    def until_redriven(self, name: str) -> Body:
        """Waits until a Redrive is answered for good, one way or the other; returns its status."""
        return self.until(
            name,
            lambda status: "True" in {condition(status, "Complete")["status"], condition(status, "Failed")["status"]},
            of=REDRIVES,
        )

    def in_operator(self, *command: str) -> str:
        """What a command prints in a pod of the operator."""
        where = ("--namespace", "mapreduce-system", "exec", "deployment/mapreduce-operator", "--quiet")
        return self.kubectl(*where, "--", *command)

    def dlq(self, command: str, queue: str, *arguments: str) -> str:
        """What `kubectl mapreduce dlq` tells of a queue."""
        line = [PLUGIN, "--namespace", self.namespace, "dlq", command, queue, *arguments]
        return subprocess.run(line, check=True, text=True, capture_output=True, timeout=120).stdout

    def stored(self, pattern: str) -> str:
        """What the operator's volume holds under this URL, in which * stands for any name; "" for nothing."""
        return self.in_operator("sh", "-c", f"cat {urlsplit(pattern).path} 2>/dev/null || true")

    def letters(self, queue: str) -> dict[str, Body]:
        """The bodies of the letters of a queue in storage, by the ids of their items."""
        lines = self.stored(f"{self.status(queue, QUEUES)['storage']}*.json").splitlines()
        return {letter["id"]: letter for letter in map(json.loads, lines)}

    def until_succeeded(self, name: str, items: int) -> Body:
        """Waits until so many items have succeeded; returns the status."""
        return self.until(name, lambda status: status.get("items", {}).get("succeeded", 0) >= items)

    def until_finished(self, name: str, seconds: int = PATIENCE_SECONDS) -> Body:
        """Waits for the end of the job, good or bad; returns its status."""
        return self.until(name, lambda status: "completionTime" in status, seconds)

    def until_pods(
        self, holds: Callable[[list[Any]], bool], seconds: int = PATIENCE_SECONDS, *, job: str = ""
    ) -> list[Any]:
        """Waits until the pods of the namespace, or of one job in it, are so; returns them."""
        pods: list[Any] = []
        selector = f"{LABEL_JOB}={job}" if job else ""
        for pods in _looks(self._core.list_namespaced_pod, self.namespace, seconds=seconds, label_selector=selector):
            if holds(pods):
                return pods
        found = [(pod.metadata.name, pod.status.phase) for pod in pods]
        raise AssertionError(f"the pods were not so within {seconds} s: {found}")

    def until_running(self, number: int, *, job: str = "") -> list[Any]:
        """Waits until so many pods run, and no other is there; returns them."""
        return self.until_pods(
            lambda pods: len(pods) == number and all(pod.status.phase == "Running" for pod in pods), job=job
        )

    def until_at_work(self, job: str, *items: str) -> list[Any]:
        """Waits until the items of these ids are the only ones of a job whose agents run; returns their pods."""

        def at_work(pods: list[Any]) -> dict[str, Any]:
            alive = [pod for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]
            return {pod.metadata.annotations["mapreduce.dev/item-id"]: pod for pod in alive}

        def are_these(pods: list[Any]) -> bool:
            found = at_work(pods)
            return found.keys() == set(items) and all(pod.status.phase == "Running" for pod in found.values())

        found = at_work(self.until_pods(are_these, job=job))
        return [found[item] for item in items]

    def open_gates(self, pods: list[Any]) -> None:
        """Lets gated agents go on."""
        for pod in pods:
            self.kubectl("exec", pod.metadata.name, "--", "touch", "/tmp/open")  # noqa: S108 - of the pod

    def jobs(self) -> list[Any]:
        jobs: list[Any] = self._batch.list_namespaced_job(self.namespace).items
        return jobs

    def until_printed(self, pod: Any) -> None:
        """Waits until an agent has printed its first line: that its container runs does not say so much."""
        for _ in _stream(self._core.read_namespaced_pod_log, pod.metadata.name, self.namespace):
            return
        raise AssertionError(f"{pod.metadata.name} ended and printed nothing")

    def until_may(self, account: str, *what: str) -> None:
        """Waits until a service account has a right, in the words of `kubectl auth can-i`.

        An API server goes by a role that was given a moment later than it takes it.
        """
        line = ("auth", "can-i", *what, f"--as=system:serviceaccount:{self.namespace}:{account}")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._run_kubectl(*line).stdout.strip() != "yes":
            assert time.monotonic() < deadline, f"{account} may not {' '.join(what)}"

    def pods_started(self, job: str) -> list[str]:
        """Names of all pods that the Jobs of a MapReduceJob ever had, as far as Events speak of them."""
        return _started(job, self._core.list_namespaced_event(self.namespace, field_selector=CREATIONS).items)

    def until_started(self, job: str, number: int) -> None:
        """Waits until Events speak of so many pods of a MapReduceJob, be they gone or not; fails if it had more.

        The Job controller posts them beside its work, and may be behind.
        """
        names: list[str] = []
        for events in _looks(
            self._core.list_namespaced_event, self.namespace, seconds=PATIENCE_SECONDS, field_selector=CREATIONS
        ):
            names = _started(job, events)
            if len(names) >= number:
                break
        assert len(names) == number, f"pods of {job}: {names}"

    def until_no_job(self, seconds: int = PATIENCE_SECONDS) -> None:
        """Waits until no Job is left: the status of a run may say that it ended while its last Jobs are deleted."""
        if self.jobs():
            self.kubectl("wait", "--for=delete", "jobs", "--all", f"--timeout={seconds}s")
        assert self.jobs() == []

    def until_gone(self, name: str, seconds: int = PATIENCE_SECONDS) -> None:
        """Waits until the MapReduceJob does not exist any more."""
        self.kubectl("wait", "--for=delete", f"mrj/{name}", f"--timeout={seconds}s")

    def reasons(self, name: str) -> set[str]:
        """Reasons of the Events about a job, as far as they were posted."""
        return next(self._reasons(name))

    def until_event(self, name: str, reason: str) -> None:
        """Waits until an Event of this reason was posted about a job, among others."""
        seen: set[str] = set()
        for seen in self._reasons(name):
            if reason in seen:
                return
        raise AssertionError(f"no Event {reason} about {name}, only {sorted(seen)}")

    def until_events(self, name: str, reasons: set[str]) -> None:
        """Waits until Events of exactly these reasons were posted about a job."""
        seen: set[str] = set()
        for seen in self._reasons(name):
            if seen >= reasons:
                break
        assert seen == reasons

    def _reasons(self, name: str) -> Iterator[set[str]]:
        about = f"involvedObject.name={name}"
        for events in _looks(
            self._core.list_namespaced_event, self.namespace, seconds=PATIENCE_SECONDS, field_selector=about
        ):
            yield {event.reason or "" for event in events}


def _started(job: str, creations: list[Any]) -> list[str]:
    return [
        (event.message or "").removeprefix("Created pod: ")
        for event in creations
        if re.fullmatch(rf"{job}-[a-z2-7]+-d[0-9]+", event.involved_object.name or "")
    ]


def _looks(function: Callable[..., Any], *arguments: str, seconds: float, **options: Any) -> Iterator[list[Any]]:
    """What a list has, now and again after each change, for so many seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        # A watch alone would tell of what is there one by one, and nothing where nothing is.
        found = function(*arguments, **options)
        is_custom = isinstance(found, dict)
        items = found["items"] if is_custom else found.items
        version = found["metadata"]["resourceVersion"] if is_custom else found.metadata.resource_version
        there = {item["metadata"]["name"] if is_custom else item.metadata.name: item for item in items}
        yield list(there.values())
        for event in _stream(
            function, *arguments, resource_version=version, timeout_seconds=math.ceil(left), **options
        ):
            name = event["raw_object"]["metadata"]["name"]
            if event["type"] == "DELETED":
                there.pop(name, None)
            else:
                there[name] = event["object"]
            yield list(there.values())


def _stream(function: Callable[..., Any], *arguments: str, **options: Any) -> Iterator[Body]:
    """A watch, as the client library offers it without types."""
    yield from watch.Watch().stream(function, *arguments, **options)  # type: ignore[no-untyped-call]


def condition(status: Body, kind: str) -> Body:
    found = [one for one in status.get("conditions", []) if one["type"] == kind]
    return found[0] if found else {"status": "Absent", "reason": "", "message": ""}
