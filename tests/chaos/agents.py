"""Agents that give account of themselves to the test, and not to the operator."""

import hashlib
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from tests.e2e.sandbox import Body, agent, job

MAX_ATTEMPTS: Final = 5
_FAILING_OF: Final = 5
"""One attempt in about so many fails, by a hash of item and attempt, so that it is known beforehand which: of 60 items
it is 17 of 77 attempts, of 30 items 8 of 38."""

_SCRIPT: Final = """
number() { sed -E "s/.*\\"$1\\":([0-9]+).*/\\1/" /mapreduce/context.json; }
item=$(cat /mapreduce/item.json) dispatch=$(number dispatch) attempt=$(number attempt)
say() {
    exec 3<>/dev/tcp/HOST/PORT
    echo "$1 $item $dispatch $attempt" >&3
    read -r _ <&3
    exec 3>&-
}
say began
hash=$(printf '%s' "$item $attempt" | sha256sum)
sleep $((1 + 16#${hash:8:4} % 3))
if ((16#${hash:0:8} % FAILING_OF == 0)); then
    say failed
    exit 1
fi
echo "$attempt" > /mapreduce/result.json
say succeeded
"""
"""An agent says how it ends as the last thing that it does, and waits until it was heard."""

Word = Literal["began", "failed", "succeeded"]


@dataclass(frozen=True, slots=True)
class Said:
    """What one agent said, and when by the monotonic clock."""

    at: float
    word: Word
    item: int
    dispatch: int
    attempt: int


def attempts_of(item: int) -> list[Word]:
    """How the attempts of an item end."""
    ends: list[Word] = []
    while len(ends) < MAX_ATTEMPTS and "succeeded" not in ends:
        digest = hashlib.sha256(f"{item} {len(ends) + 1}".encode()).hexdigest()
        ends.append("failed" if int(digest[:8], 16) % _FAILING_OF == 0 else "succeeded")
    return ends


class Listener(socketserver.ThreadingTCPServer):
    """Hears the agents, at an address that pods reach. While the gate is closed, those that begin wait for it."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, heard: Callable[[Said], None]) -> None:
        super().__init__((host, 0), _Conversation)
        self.heard: Final = heard
        self.gate: Final = threading.Event()
        self.gate.set()

    def job(self, name: str, items: int, *, map_: Body | None = None, pod: Body | None = None) -> Body:
        """A MapReduceJob whose agents speak to this listener."""
        host, port = self.server_address[:2]
        words = {"HOST": str(host), "PORT": str(port), "FAILING_OF": str(_FAILING_OF)}
        script = _SCRIPT
        for word, value in words.items():
            script = script.replace(word, value)
        retry = {"maxAttempts": MAX_ATTEMPTS, "backoff": {"type": "Fixed", "initialSeconds": 1}}
        work: dict[str, Any] = {"maxParallel": 6, "retry": retry, "timeoutSeconds": 300} | (map_ or {})
        body = job(name, list(range(items)), script, map_=work)
        body["spec"]["map"]["template"] = agent(script, **(pod or {}))
        return body


class _Conversation(socketserver.StreamRequestHandler):
    server: Listener

    def handle(self) -> None:
        word, *numbers = self.rfile.readline().decode().split()
        item, dispatch, attempt = map(int, numbers)
        self.server.heard(Said(time.monotonic(), word, item, dispatch, attempt))  # type: ignore[arg-type]
        if word == "began":
            self.server.gate.wait()
        try:
            self.wfile.write(b"heard\n")
        except OSError:
            return  # The agent was stopped while it waited.
