"""A SeaweedFS of one's own: a real S3 service, for tests.

    with SeaweedFS(tmp_path) as seaweedfs:
        seaweedfs.make_bucket("state")

It listens on one address only and reports nothing to anybody. Stopped and started again, it has its data and its
address.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.ports import free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCESS_KEY: Final = "test-access-key"
SECRET_KEY: Final = "test-secret-key"  # noqa: S105 - of a service that lives as long as the test
UNGUARDED_BUCKET: Final = "unguarded"
"""Read and written by whoever sends no signature; to be made like any other."""

_OWN_BUCKET: Final = "started"
_WEED: Final = Path(sys.executable).parent / "weed"
_SERVERS: Final = ("master", "volume", "filer", "s3", "admin")
_START_SECONDS: Final = 120.0
"""Several workers start one each at the same time; alone it takes two or three."""
_STOP_SECONDS: Final = 30.0


class SeaweedFS:
    """`folder` keeps data and log. Ports are chosen once, so that `url` outlives a stop."""

    def __init__(self, folder: Path, *, address: str = "127.0.0.1") -> None:
        self._folder: Final = folder
        self._address: Final = address
        self._ports: Final = free_ports(2 * len(_SERVERS), address)
        self._process: subprocess.Popen[bytes] | None = None
        self.url: Final = f"http://{address}:{self._port('s3')}"
        self.environment: Final = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        """Credentials, as a client finds them."""
        self._client: Final[S3Client] = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
            "s3",
            endpoint_url=self.url,
            config=Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 1}),
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when objects can be written; RuntimeError, with the end of the log, when that does not happen."""
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        identities = self._folder / "identities.json"
        identities.write_text(json.dumps(_identities()), encoding="utf-8")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(identities), cwd=self._folder, env={"HOME": str(self._folder)}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                end = self._log.read_text(encoding="utf-8", errors="replace")[-2_000:]
                raise RuntimeError(f"SeaweedFS does not run (exit code {code}):\n{end}")
            time.sleep(0.05)

    def stop(self) -> None:
        """In order, which takes about 4 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """At once. What was acknowledged is still there afterwards: the machine's memory survives a process."""
        self._end(signal.SIGKILL)

    def make_bucket(self, name: str) -> None:
        self._client.create_bucket(Bucket=name)

    def put_object(self, bucket: str, key: str, data: bytes = b"") -> None:
        """Past the store under test, which takes keys of its own kind only."""
        self._client.put_object(Bucket=bucket, Key=key, Body=data)

    @property
    def _log(self) -> Path:
        return self._folder / "log"

    def _port(self, server: str) -> int:
        return self._ports[_SERVERS.index(server)]

    def _command(self, identities: Path) -> list[str | Path]:
        ports = [f"-{server}.port={port}" for server, port in zip(_SERVERS, self._ports, strict=False)]
        rpc_ports = [
            f"-{server}.port.grpc={port}" for server, port in zip(_SERVERS, self._ports[len(_SERVERS) :], strict=True)
        ]
        return [
            _WEED,
            "mini",
            "-master.telemetry=false",
            f"-dir={self._folder / 'data'}",
            f"-ip={self._address}",
            f"-ip.bind={self._address}",
            *ports,
            *rpc_ports,
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={identities}",
            # Otherwise a bucket that is missing comes into being by the first write.
            "-s3.autoCreateBucket=false",
            "-admin.ui=false",
            "-webdav=false",
        ]

    def _answers(self) -> bool:
        """Whether it takes data. After a restart, buckets can be listed up to 20 s before anything can be written."""
        try:
            if _OWN_BUCKET not in {bucket["Name"] for bucket in self._client.list_buckets()["Buckets"]}:
                self._client.create_bucket(Bucket=_OWN_BUCKET)
            self._client.put_object(Bucket=_OWN_BUCKET, Key="started", Body=b"yes")
        except (BotoCoreError, ClientError):
            return False
        return True

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # It has no option for where these are, and leaves them behind when killed.
        for port in self._ports:
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                path.unlink()


def _identities() -> object:
    everything = ["Admin", "Read", "Write", "List"]
    unguarded = [f"{action}:{UNGUARDED_BUCKET}" for action in ("Read", "Write", "List")]
    return {
        "identities": [
            {
                "name": "test",
                "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": everything,
            },
            {"name": "anonymous", "actions": unguarded},
        ]
    }
