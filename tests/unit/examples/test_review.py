"""The agent of examples/review.yaml, as it stands there, against a model that answers over HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLE = Path(__file__).parents[3] / "examples" / "review.yaml"
CONFIG_MAP, JOB = yaml.safe_load_all(EXAMPLE.read_text())


@dataclass
class Model:
    """What it answers, and what it was asked."""

    status: int = 200
    content: str = '{"verdict": "reject", "why": "nobody can complain"}'
    asked: list[tuple[str | None, Any]] = field(default_factory=list)
    url: str = ""


@pytest.fixture(name="model")
def _model() -> Iterator[Model]:
    model = Model()

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model.asked.append((self.headers["Authorization"], body))
            message = {"choices": [{"message": {"content": model.content}}], "usage": {"total_tokens": 42}}
            self.send_response(model.status)
            self.end_headers()
            self.wfile.write(json.dumps(message).encode())

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        model.url = f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield model
        server.shutdown()
        thread.join()


def run(program: str, folder: Path, **files: str) -> tuple[int, Any]:
    """Runs a program of the ConfigMap over the files of its contract; returns its exit code and its result."""
    result = folder / "result.json"
    script = folder / program
    script.write_text(CONFIG_MAP["data"][program])
    variables = {"MAPREDUCE_RESULT_FILE": str(result), "MODEL_KEY": "secret"}
    for variable, text in files.items():
        (folder / variable).write_text(text)
        variables[f"MAPREDUCE_{variable}_FILE"] = str(folder / variable)
    done = subprocess.run([sys.executable, script], env=variables, check=False)
    return done.returncode, json.loads(result.read_text())


def review(folder: Path, model: Model) -> tuple[int, Any]:
    params = JOB["spec"]["params"] | {"endpoint": model.url}
    item = JOB["spec"]["input"]["items"][0]
    return run("review.py", folder, ITEM=json.dumps(item), CONTEXT=json.dumps({"params": params}))


def test_a_text_gets_a_verdict(tmp_path: Path, model: Model) -> None:
    assert review(tmp_path, model) == (0, {"verdict": "reject", "why": "nobody can complain", "tokens": 42})

    ((authorization, question),) = model.asked
    assert authorization == "Bearer secret"
    assert question["model"] == "large"
    assert [message["content"] for message in question["messages"]] == [
        JOB["spec"]["params"]["instructions"],
        JOB["spec"]["input"]["items"][0]["text"],
    ]


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_what_is_away_may_be_tried_again(tmp_path: Path, model: Model, status: int) -> None:
    model.status = status
    error = {"reason": "ModelAway", "message": f"the model answered {status}", "retryable": True}
    assert review(tmp_path, model) == (75, {"error": error})


def test_a_text_that_the_model_refuses_is_given_up(tmp_path: Path, model: Model) -> None:
    model.status = 400
    error = {"reason": "ModelRefused", "message": "the model answered 400", "retryable": False}
    assert review(tmp_path, model) == (1, {"error": error})


@pytest.mark.parametrize("content", ["I would not buy there.", "[]", '{"verdict": "reject"}'])
def test_an_answer_without_a_verdict_is_asked_for_again(tmp_path: Path, model: Model, content: str) -> None:
    model.content = content
    code, result = review(tmp_path, model)
    assert (code, result["error"]["reason"]) == (75, "NoVerdict")


def test_nobody_listens(tmp_path: Path) -> None:
    code, result = review(tmp_path, Model(url="http://127.0.0.1:9/"))
    assert (code, result["error"]["reason"]) == (75, "ModelAway")


def test_the_summary_names_what_failed(tmp_path: Path) -> None:
    lines = [
        {"id": "terms", "result": {"verdict": "reject", "why": "-", "tokens": 40}},
        {"id": "privacy", "result": {"verdict": "accept", "why": "-", "tokens": 2}},
    ]
    code, summary = run(
        "summary.py",
        tmp_path,
        RESULTS="".join(f"{json.dumps(line)}\n" for line in lines),
        FAILURES='{"id": "returns", "reason": "Error"}\n',
    )
    assert code == 0
    assert summary == {
        "verdicts": {"reject": 1, "accept": 1},
        "rejected": ["terms"],
        "failed": ["returns"],
        "tokens": 42,
    }
