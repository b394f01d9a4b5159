"""A Prometheus of one's own.

    with Prometheus(tmp_path, {"scrape_configs": [...]}) as prometheus:
        prometheus.query("up")

It listens on the loopback only. What it has read is gone with its folder.
"""

import http.client
import json
import re
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import yaml

from tests.tools import program

_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 10.0


class Prometheus:
    """`folder` keeps its configuration, its data and its log."""

    def __init__(self, folder: Path, configuration: Any) -> None:
        self._folder: Final = folder
        self._configuration: Final = configuration
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def __enter__(self) -> Self:
        """Returns when questions are answered; RuntimeError, with the end of the log, when that does not happen."""
        file = self._folder / "prometheus.yaml"
        file.write_text(yaml.safe_dump(self._configuration), encoding="utf-8")
        options = {
            "config.file": file,
            "storage.tsdb.path": self._folder / "data",
            # It says in its log which port that is.
            "web.listen-address": "127.0.0.1:0",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("prometheus"), *(f"--{name}={value}" for name, value in options.items())],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self._end()
                end = self._log.read_text(encoding="utf-8")[-2_000:]
                raise RuntimeError(f"Prometheus does not run (exit code {code}):\n{end}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def query(self, expression: str) -> list[Any]:
        """What an expression is now: a list of {"metric": labels, "value": [moment, text]}."""
        return list(self._get("/api/v1/query", query=expression)["result"])

    def query_range(self, expression: str, start: float, end: float) -> list[Any]:
        """What an expression was, second by second: a list of {"metric": labels, "values": [[moment, text], ...]}."""
        return list(self._get("/api/v1/query_range", query=expression, start=start, end=end, step=1)["result"])

    def rules(self) -> list[Any]:
        """All rules of all groups, with their health and their alerts."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _answers(self) -> bool:
        listening = re.search(r'msg="Listening on".* address=(\S+)', self._log.read_text(encoding="utf-8"))
        if listening is None:
            return False
        self._address = listening[1]
        return self._request("/-/ready")[0] == 200

    def _get(self, path: str, **parameters: Any) -> Any:
        status, body = self._request(f"{path}?{urlencode(parameters)}")
        assert status == 200, f"{path}, {parameters}: {body}"
        return json.loads(body)["data"]

    def _request(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
