"""examples/review.yaml in the cluster, with a model of our own behind its endpoint."""

import json
from typing import Any, Final

import pytest
import yaml

from tests.e2e.sandbox import PROJECT, Sandbox

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

EXAMPLE: Final = PROJECT / "examples" / "review.yaml"

MODEL: Final = """
import itertools
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

questions = itertools.count(1)

class Model(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        number = next(questions)
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = question["messages"][1]["content"]
        known = self.headers["Authorization"] == "Bearer opensesame"
        self.send_response(503 if number == 1 else 200 if known else 401)
        self.end_headers()
        verdict = {"verdict": "reject" if "no way" in text else "accept", "why": question["model"]}
        answer = {"choices": [{"message": {"content": json.dumps(verdict)}}], "usage": {"total_tokens": 10}}
        self.wfile.write(json.dumps(answer).encode())

ThreadingHTTPServer(("", 8000), Model).serve_forever()
"""
"""Is away for the first question, and then answers whoever has the key."""


def model(image: str) -> dict[str, Any]:
    container = {
        "name": "model",
        "image": image,
        "command": ["python3", "-c", MODEL],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8000}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "model"},
        "spec": {"containers": [container], "securityContext": security, "terminationGracePeriodSeconds": 1},
    }


def test_texts_are_reviewed(sandbox: Sandbox) -> None:
    """With the operator's image, which has a Python: the local cluster has no registry for the example's own."""
    image = sandbox.kubectl(
        *("--namespace", "mapreduce-system", "get", "deployment/mapreduce-operator"),
        *("--output", "jsonpath={.spec.template.spec.containers[0].image}"),
    )
    sandbox.kubectl("create", "secret", "generic", "review-model", "--from-literal=key=opensesame")
    sandbox.kubectl("apply", "--filename=-", stdin=yaml.safe_dump(model(image)))
    sandbox.kubectl("wait", "--for=condition=Ready", "pod/model", "--timeout=180s")
    # Not by a Service: the pod's readiness does not say that every node's kube-proxy knows of it.
    address = sandbox.kubectl("get", "pod/model", "--output", "jsonpath={.status.podIP}")

    written = EXAMPLE.read_text()
    manifest = written.replace("docker.io/library/python:3.13-slim", image)
    manifest = manifest.replace("https://model.example.org/v1", f"http://{address}:8000/v1")
    sandbox.kubectl("apply", "--filename=-", stdin=manifest)
    status = sandbox.until_finished("review", 300)

    assert status["phase"] == "Succeeded", json.dumps(status)
    assert status["result"] == {
        "verdicts": {"reject": 1, "accept": 2},
        "rejected": ["terms"],
        "failed": [],
        "tokens": 30,
    }
    assert status["attempts"]["retries"] == 1
