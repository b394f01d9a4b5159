"""The same failure on different items has one signature, and different failures have different ones."""

import re
import string
import time
from datetime import datetime
from hashlib import sha256
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Reason
from mapreduce_operator.core.signatures import TEXT_CHARACTERS, Signature, signature_of

PYTHON_KEY = """Traceback (most recent call last):
  File "/app/agent.py", line {line}, in <module>
    main(item)
  File "/app/agent.py", line 12, in main
    price = record["price"]
            ~~~~~~^^^^^^^^^
KeyError: '{key}'
"""
PYTHON_CHAINED = """{before}
Traceback (most recent call last):
  File "/app/fetch.py", line 31, in fetch
    raise TimeoutError("read")
TimeoutError: read

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/agent.py", line 8, in <module>
psycopg2.errors.UniqueViolation: duplicate key value violates unique constraint "{constraint}"
DETAIL:  Key (id)=({key}) already exists.
"""
JAVA = """{time} INFO  [main] Reader - {count} records
Exception in thread "main" java.lang.IllegalStateException: batch {count} was not closed
\tat com.acme.Batch.close(Batch.java:{line})
\tat com.acme.errors.ErrorException.raise(ErrorException.java:12)
Caused by: java.io.IOException: Stream closed by peer after {count} bytes
\tat java.base/sun.nio.ch.Net.read(Net.java:77)
\t... {count} more
"""
NODE = """/srv/worker/index.js:{line}
    throw err;
    ^

Error: ENOENT: no such file or directory, open '{path}'
    at Object.openSync (node:fs:{line}:18)
    at Error (native) {{
  errno: -2,
  code: 'ENOENT'
}}

Node.js v20.{line}.0
"""
GO = """{time} reading shard {count}
panic: runtime error: index out of range [{count}] with length {line}

goroutine {count} [running]:
main.process(0xc00001{line}, 0x{count})
\t/src/main.go:{line} +0x1d
exit status 2
"""
RUST = """thread 'worker-{count}' panicked at src/parse.rs:{line}:17:
called `Result::unwrap()` on an `Err` value: Os {{ code: 28, kind: StorageFull, message: "No space left on device" }}
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
ANYHOW = """Error: cannot load shard {count}

Caused by:
    checksum of {path} does not match
"""
CPP = """loaded {count} rows
terminate called after throwing an instance of 'std::out_of_range'
  what():  vector::at: index {count} is past the end at {line}
Aborted (core dumped)
"""
DOTNET = """Unhandled exception. System.FormatException: The input '{key}' was not in a correct format.
   at Acme.Parser.Parse(String text) in /src/Parser.cs:line {line}
   at Acme.Program.Main(String[] args)
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "/app/agent.py", line {line}, in <module>
  | ExceptionGroup: {path} ({count} sub-exceptions)
  +-+---------------- 1 ----------------
    | TimeoutError: no answer from {host}
    +------------------------------------
"""
RUBY = """{time} start
agent.rb:{line}:in 'parse': cannot parse {path} (ArgumentError)
\tfrom agent.rb:{count}:in '<main>'
"""
NPM = """npm ERR! code ELIFECYCLE
npm ERR! errno {count}
npm ERR! enoent ENOENT: no such file or directory, lstat '{path}'
npm ERR! A complete log of this run can be found in:
npm ERR!     /home/build/.npm/_logs/{time}-debug.log
"""
SHELL = """+ mkdir -p /scratch/{count}
+ tar xf {path}
tar: {path}: Cannot open: Permission denied
done in {count} s
"""

URLLIB3 = (
    "HTTPSConnectionPool(host='{host}', port={count}): Max retries exceeded with url: {path} (Caused by "
    "NewConnectionError('<urllib3.connection.HTTPSConnection object at 0x{line}f3a>: Failed to establish a new "
    "connection: [Errno {errno}] {why}'))"
)
TLS = (
    "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired "
    "(_ssl.c:{line})"
)
CUDA = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate {size} (GPU {line}; {size} total capacity; "
    "{size} already allocated)"
)
S3 = (
    "software.amazon.awssdk.services.s3.model.S3Exception: Access Denied (Service: S3, Status Code: 403, "
    "Request ID: {request})"
)
RATE_LIMIT = (
    "openai.RateLimitError: Error code: 429 - {{'error': {{'message': 'Rate limit reached for gpt-4o in organization "
    "org-{request} on tokens per min: Limit {count}, Used {line}', 'type': 'tokens', 'code': 'rate_limit_exceeded'}}}}"
)
OVERLOADED = (
    '529 {{"type":"error","error":{{"type":"overloaded_error","message":"Overloaded"}},"request_id":"req_{request}"}}'
)
TOO_LONG = (
    '{{"type":"error","error":{{"type":"invalid_request_error","message":"prompt is too long: {count} tokens > '
    '{line} maximum"}}}}'
)

FIRST: Final = {
    "line": "7",
    "count": "3",
    "key": "user_17",
    "constraint": "users_pkey",
    "path": "/data/in/a.bin",
    "time": "2026-03-01T10:00:01.123Z",
    "before": "INFO: started",
    "host": "api.acme.com",
    "size": "2.00 GiB",
    "request": "4442587FB7D0A2F9",
}
SECOND: Final = {
    "line": "1289",
    "count": "40961",
    "key": "q",
    "constraint": "accounts_email_key",
    "path": "/mnt/größe/ä.bin",
    "time": "2026-12-31T23:59:59+02:00",
    "before": "retrying\nValueError: bad digit, recovered\nretrying\n" * 3,
    "host": "10.0.0.9",
    "size": "512.00 MiB",
    "request": "79104ABCDEF0B723",
}


def both(template: str, **same: str) -> tuple[str, ...]:
    return template.format(**FIRST, **same), template.format(**SECOND, **same)


SAME_FAILURES: Final[dict[str, tuple[str, ...]]] = {
    # ---- whole logs
    "Python, key": both(PYTHON_KEY),
    "Python, chained, not called Error": both(PYTHON_CHAINED),
    "Java, cause": both(JAVA),
    "Node, missing file": both(NODE),
    "Go, panic": both(GO),
    "Rust, panic": both(RUST),
    "Rust, anyhow": both(ANYHOW),
    "C++, out of range": both(CPP),
    ".NET, format": both(DOTNET),
    "Python, group": both(GROUP),
    "Ruby": both(RUBY),
    "npm": both(NPM),
    "shell, tar": both(SHELL),
    # ---- Python
    "import": ("ModuleNotFoundError: No module named 'pandas'", "ModuleNotFoundError: No module named 'yaml.cyaml'"),
    "decode": (
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
        "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xA3 in position 91823: invalid start byte",
    ),
    "json": (
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "json.decoder.JSONDecodeError: Expecting value: line 12 column 904 (char 18234)",
    ),
    "int": (
        "ValueError: invalid literal for int() with base 10: 'abc'",
        "ValueError: invalid literal for int() with base 10: b'12.5'",
        'ValueError: invalid literal for int() with base 10: "it\'s"',
    ),
    "columns": (
        "ValueError: missing columns: 'name'",
        "ValueError: missing columns: 'name', 'price', 'it is'",
    ),
    "shapes": (
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (1x768 and 512x10)",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (64x1024 and 768x10)",
    ),
    "CUDA": both(CUDA),
    # ---- HTTP clients: the number of the status is the failure
    "requests 404": (
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: https://api.acme.com/v1/items/17",
        "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: http://10.0.3.7:8080/x?id=9&full=1",
    ),
    "httpx 404": (
        "httpx.HTTPStatusError: Client error '404 Not Found' for url 'https://api.acme.com/a'",
        "httpx.HTTPStatusError: Client error '404 Not Found' for url 'https://api.acme.com/b/c'",
    ),
    "httpx 429": (
        "httpx.HTTPStatusError: Client error '429 Too Many Requests' for url 'https://api.acme.com/a'",
        "httpx.HTTPStatusError: Client error '429 Too Many Requests' for url 'https://api.acme.com/b/c'",
    ),
    "urllib3 refused": both(URLLIB3, errno="111", why="Connection refused"),
    "urllib3 DNS": both(URLLIB3, errno="-2", why="Name or service not known"),
    "axios 503": (
        "Request 17 failed with status code 503",
        "Request a81f failed with status code 503",
    ),
    "axios 502": (
        "Request 17 failed with status code 502",
        "Request a81f failed with status code 502",
    ),
    "terse 429": ("item 12: HTTP 429", "item 1840: HTTP 429"),
    "terse 503": ("item 12: HTTP 503", "item 1840: HTTP 503"),
    "status line": (
        "malformed answer to 17: HTTP/1.1 500 Internal Server Error",
        "malformed answer to x9: HTTP/1.1 500 Internal Server Error",
    ),
    "proxy": (
        "attempt 3: 503 Service Unavailable from 10.1.2.3:80",
        "attempt 12: 503 Service Unavailable from 10.1.2.44:8080",
    ),
    "curl 404": (
        "curl: (22) The requested URL returned error: 404",
        "\x1b[31mcurl:\x1b[0m (22) The requested URL  returned error: 404\n",
    ),
    "curl 403": (
        "curl: (22) The requested URL returned error: 403",
        "curl: (22) The requested URL returned error: 403 ",
    ),
    "curl timeout": (
        "curl: (28) Operation timed out after 30001 milliseconds with 0 bytes received",
        "curl: (28) Operation timed out after 9 seconds with 18274 bytes received",
    ),
    "curl DNS": ("curl: (6) Could not resolve host: a.acme.com", "curl: (6) Could not resolve host: files.b-c.example"),
    # ---- Go
    "Go, refused": (
        'Get "https://10.96.0.1:443/api/v1": dial tcp 10.96.0.1:443: connect: connection refused',
        'Get "http://[2001:db8::7]:80/": dial tcp 10.96.12.1:8080: connect: connection refused',
    ),
    "Go, no host": (
        "dial tcp: lookup db.team-a.svc on 10.96.0.10:53: no such host",
        "dial tcp: lookup db-2.team-b.svc.cluster.local on 10.96.0.11:53: no such host",
    ),
    "Go, i/o timeout": (
        "read tcp 10.244.1.7:38422->34.120.5.9:443: i/o timeout",
        "read tcp 10.244.13.201:50118->34.120.5.10:443: i/o timeout",
    ),
    "gRPC": (
        'rpc error: code = Unavailable desc = "transport: error while dialing 10.0.0.1:50051"',
        'rpc error: code = Unavailable desc = "transport: error while dialing 10.0.17.1:443"',
    ),
    "gRPC, deadline": (
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded after 5s",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded after 1m30s",
    ),
    "logfmt": (
        'time="2026-03-01T10:00:00Z" level=fatal msg="open /a/b: too many open files" item=abc17',
        'time="2026-11-30T01:02:03.4+01:00" level=fatal msg="open /srv/x.json: too many open files" item=9',
    ),
    # ---- TLS, DNS, sockets
    "TLS, verify": both(TLS),
    "TLS, x509": (
        "x509: certificate is valid for a.acme.com, not b.acme.com",
        "x509: certificate is valid for www.acme.org, not node.internal",
    ),
    "Node, DNS": ("Error: getaddrinfo ENOTFOUND api.acme.com", "Error: getaddrinfo ENOTFOUND db-7.acme.io"),
    "IPv6": (
        "no route to 2001:db8::7",
        "no route to fe80::dead:beef:1",
        "no route to 2001:db8:0:0:abcd:0:0:1",
        "no route to 10.0.0.1",
    ),
    "MAC": ("no lease for 0a:bb:cc:1d:2e:3f", "no lease for 11:22:33:AA:BB:CC"),
    "Node, reset": ("Error: read ECONNRESET 10.0.0.1:443", "Error: read ECONNRESET 10.9.0.17:5432"),
    # ---- files, disk, memory
    "no such file": (
        "cat: /data/in/17.txt: No such file or directory",
        "cat: ./relative/dir/b.csv: No such file or directory",
        "cat:  notes.txt:\tNo such file or directory",
        "cat: ~/a/b: No such file or directory",
    ),
    "denied": (
        "cp: cannot create regular file '/out/a': Permission denied",
        "cp: cannot create regular file \u2018/out/b\u2019: Permission denied",
        "cp: cannot create regular file `/out/c': Permission denied",
    ),
    "Windows": (
        r"The process cannot access the file C:\Users\me\My Documents\a.txt because it is in use",
        r"The process cannot access the file D:\b\c-17.txt because it is in use",
        r"The process cannot access the file \\server\share\c.txt because it is in use",
    ),
    "errno 28": (
        "OSError: [Errno 28] No space left on device: '/tmp/tmpab12cd'",
        "OSError: [Errno 28] No space left on device: '/scratch/4711'",
    ),
    "errno 5": ("OSError: [Errno 5] Input/output error: '/a'", "OSError: [Errno 5] Input/output error: '/b/c'"),
    "evicted": (
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 92 MiB.",
        "The node was low on resource: ephemeral-storage. Threshold quantity: 1073741824, available: 1.2 GiB.",
    ),
    "kernel": (
        "Out of memory: Killed process 4711 (python3) total-vm:1843204kB, anon-rss:1048576kB",
        "Out of memory: Killed process 9 (python3) total-vm:9920kB, anon-rss:77kB",
    ),
    # ---- Kubernetes
    "pod": (
        "pod team-a/web-5d4f7c9b8d-x7k2p was deleted by admin@acme.com",
        "pod team-a/report-builder-7c9bd4f8-zqxwv was deleted by ops.night@b.acme.com",
        "pod team-a/licence-words-abcdefghij-d12-x7k2p was deleted by x@y.org",
        "pod team-a/licence-words-a2b3c4d5e6-d7 was deleted by x@y.org",
    ),
    "image": (
        'failed to pull image "nginx:1.2": not found',
        'failed to pull image "registry.acme.com/team/agent@sha256:9f86d081884c7d65": not found',
    ),
    "secret": (
        'secret "db-password" not found in namespace team-a for item 6f1e2d3c-1234-4abc-8def-0123456789ab',
        'secret "s" not found in namespace team-a for item ABCDEFAB-ABCD-ABCD-ABCD-ABCDEFABCDEF',
    ),
    "klog": (
        "E0301 10:00:00.123456       1 controller.go:114] cannot sync item a81f3c2",
        "E1231 23:59:59.000001      27 controller.go:114] cannot sync item 7734",
    ),
    "syslog": (
        "Mar  1 10:00:00 worker agent[812]: out of file handles",
        "Dec 31 23:59:59 worker agent[9]: out of file handles",
    ),
    "mail date": (
        "token expired on Sun, 01 Mar 2026 10:00:00 GMT",
        "token expired on Thu, 31 Dec 2026 23:59:59 GMT",
    ),
    "C date": ("lease lost at Wed Mar  4 10:00:00 UTC 2026", "lease lost at Thu Dec 31 23:59:59 UTC 2026"),
    "log4j": (
        "2026-03-01 10:00:00,123 ERROR [pool-3-thread-12] c.acme.Worker - queue is full",
        "2026-12-31 23:59:59,999 ERROR [pool-3-thread-1] c.acme.Worker - queue is full",
    ),
    "access log": (
        "[01/Mar/2026:10:00:00 +0000] upstream closed the connection",
        "[31/Dec/2026:23:59:59 -0700] upstream closed the connection",
    ),
    "epoch": ("lock held since 1772359200", "lock held since 1798761599.123456"),
    # ---- git, compilers
    "git": (
        "fatal: unable to access 'https://github.com/a/b.git/': Could not resolve host: github.com",
        "fatal: unable to access 'https://git.acme.com/c.git/': Could not resolve host: git.acme.com",
    ),
    "git, object": (
        "fatal: bad object 3f2a1bc",
        "fatal: bad object 1234567",
        "fatal: bad object 9F86D08188",
    ),
    "git, key": (
        "git@github.com: Permission denied (publickey).",
        "deploy.bot@git.acme.com: Permission denied (publickey).",
    ),
    "digest": (
        "digest mismatch: want sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "digest mismatch: want sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752",
    ),
    "rustc E0308": ("error[E0308]: mismatched types in item 3", "error[E0308]: mismatched types in item 99"),
    "rustc E0309": ("error[E0309]: mismatched types in item 3", "error[E0309]: mismatched types in item 99"),
    "tsc": ("src/a.ts(3,7): error TS2307: cannot find it", "src/b/c.ts(31,17): error TS2307: cannot find it"),
    "make": ("make: *** [Makefile:12: all] Error 2", "make: *** [Makefile:7: all] Error 2"),
    # ---- databases
    "MySQL 1045": (
        "pymysql.err.OperationalError: (1045, \"Access denied for user 'app'@'10.0.0.3'\")",
        "pymysql.err.OperationalError: (1045, \"Access denied for user 'root'@'10.0.0.77'\")",
    ),
    "MySQL 2003": (
        "pymysql.err.OperationalError: (2003, \"Can't connect to MySQL server on 'db-1'\")",
        "pymysql.err.OperationalError: (2003, \"Can't connect to MySQL server on '10.0.0.77'\")",
    ),
    "MySQL 1062": (
        "ERROR 1062 (23000): Duplicate entry 'a' for key 'PRIMARY'",
        "ERROR 1062 (23000): Duplicate entry 'b-2' for key 'by_name'",
    ),
    "Oracle": ("ORA-00942: table or view 17 does not exist", "ORA-00942: table or view 4 does not exist"),
    "SQLSTATE": (
        'SQLSTATE[42P01]: Undefined table: 7 ERROR: relation "items" does not exist',
        'SQLSTATE[42P01]: Undefined table: 7 ERROR: relation "x" does not exist',
    ),
    # ---- storage and models behind an API
    "S3": both(S3),
    "S3, XML": (
        "<Error><Code>NoSuchKey</Code><Key>raw/a.csv</Key><RequestId>4442587FB7D0A2F9</RequestId></Error>",
        "<Error><Code>NoSuchKey</Code><Key>raw/b/17.csv</Key><RequestId>79104ABCDEF0B723</RequestId></Error>",
    ),
    "boto": (
        "botocore.errorfactory.NoSuchKey: An error occurred (NoSuchKey) when calling GetObject on raw/2026/a/17.json",
        "botocore.errorfactory.NoSuchKey: An error occurred (NoSuchKey) when calling GetObject on 2026/03/01/b.parquet",
    ),
    "model, rate": both(RATE_LIMIT),
    "model, overloaded": both(OVERLOADED),
    "model, request": both(TOO_LONG),
    "JSON log": (
        '{"level":"error","ts":1772359200.12,"item":"abc","msg":"cannot fetch","tries":3}',
        '{"level":"error","ts":1772359999.99,"item":"x y","msg":"cannot fetch","tries":12}',
    ),
    # ---- processes
    "exit 2": (
        "subprocess.CalledProcessError: Command '['make', 'a']' returned non-zero exit status 2.".replace(
            "'['make', 'a']'", "'make a'"
        ),
        "subprocess.CalledProcessError: Command 'make b' returned non-zero exit status 2.",
    ),
    "exit 137": (
        "subprocess.CalledProcessError: Command 'make a' returned non-zero exit status 137.",
        "subprocess.CalledProcessError: Command 'make b' returned non-zero exit status 137.",
    ),
    "signal 9": ("worker 3 was ended by signal 9", "worker 14 was ended by signal 9"),
    "signal 11": ("worker 3 was ended by signal 11", "worker 14 was ended by signal 11"),
}


@pytest.mark.parametrize("messages", SAME_FAILURES.values(), ids=SAME_FAILURES)
def test_the_same_failure_on_different_items_has_one_signature(messages: tuple[str, ...]) -> None:
    assert len(set(messages)) == len(messages) >= 2
    assert len({signature_of(Reason.ERROR, 1, message) for message in messages}) == 1


def test_different_failures_have_different_signatures() -> None:
    failures = {signature_of(Reason.ERROR, 1, messages[0]).id: name for name, messages in SAME_FAILURES.items()}

    assert sorted(failures.values()) == sorted(SAME_FAILURES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Python, key", "KeyError: <value>"),
        ("Java, cause", "Caused by: java.io.IOException: Stream closed by peer after <n>"),
        ("Node, missing file", "Error: ENOENT: no such file or directory, open <value>"),
        ("Go, panic", "panic: runtime error: index out of range [<n>] with length <n>"),
        ("Rust, anyhow", "Caused by: checksum of <path> does not match"),
        ("requests 404", "requests.exceptions.HTTPError: 404 Client Error: Not Found for url: <url>"),
        ("httpx 404", "httpx.HTTPStatusError: Client error '404 Not Found' for url <value>"),
        ("proxy", "attempt <n>: 503 Service Unavailable from <host>"),
        ("curl 404", "curl: (22) The requested URL returned error: 404"),
        ("Go, no host", "dial tcp: lookup <host> on <host>: no such host"),
        ("errno 28", "OSError: [Errno 28] No space left on device: <value>"),
        ("pod", "pod team-a/<pod> was deleted by <email>"),
        ("secret", "secret <value> not found in namespace team-a for item <uuid>"),
        ("klog", "<n> <time> <n> controller.go:<n>] cannot sync item <n>"),
        ("C date", "lease lost at <time>"),
        ("digest", "digest mismatch: want sha256:<hex>"),
        ("MySQL 2003", 'pymysql.err.OperationalError: (2003, "Can\'t connect to MySQL server on <value>")'),
        ("JSON log", '{"level":<value>,"ts":<n>,"item":<value>,"msg":"cannot fetch","tries":<n>}'),
    ],
)
def test_a_signature_reads_well(name: str, text: str) -> None:
    assert signature_of(Reason.ERROR, 1, SAME_FAILURES[name][0]).text == f"Error (exit code 1): {text}"


# --------------------------------------------------------------------------------------------------- what it is made of


def test_reason_and_exit_code_are_part_of_it() -> None:
    signatures = [
        signature_of(Reason.ERROR, 1, "Killed"),
        signature_of(Reason.ERROR, 137, "Killed"),
        signature_of(Reason.ERROR, None, "Killed"),
        signature_of(Reason.OOM_KILLED, 137, "Killed"),
    ]

    assert len({signature.id for signature in signatures}) == 4
    assert [signature.text for signature in signatures] == [
        "Error (exit code 1): Killed",
        "Error (exit code 137): Killed",
        "Error: Killed",
        "OOMKilled (exit code 137): Killed",
    ]


@pytest.mark.parametrize("message", ["", " \n\t\n", "\x1b[0m", "\x00\ud800"])
def test_a_failure_without_words_is_told_by_reason_and_exit_code(message: str) -> None:
    assert signature_of(Reason.ERROR, 3, message).text == "Error (exit code 3)"
    assert signature_of(Reason.EVICTED, None, message).text == "Evicted"


def test_an_id_stays_what_it_is() -> None:
    """Ids are kept in object storage: other ids after an upgrade would tear groups apart."""
    assert signature_of(Reason.ERROR, 1, "cannot open /data/17: No such file or directory") == Signature(
        "799d8e579c", "Error (exit code 1): cannot open <path>: No such file or directory"
    )


def test_case_makes_no_difference_to_the_id() -> None:
    one, other = (signature_of(Reason.ERROR, 1, message) for message in ("Disk is full", "DISK IS FULL"))

    assert one.id == other.id
    assert (one.text, other.text) == ("Error (exit code 1): Disk is full", "Error (exit code 1): DISK IS FULL")


@pytest.mark.parametrize(
    "message",
    ["disk  is\tfull", "\r\n disk is full\n\n", "\x1b[1;31mdisk\x1b[0m is \x1b[Kfull", "disk\x00 is full\x07"],
)
def test_white_space_colours_and_control_characters_make_no_difference(message: str) -> None:
    assert signature_of(Reason.ERROR, 1, message) == signature_of(Reason.ERROR, 1, "disk is full")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("reading\nValueError: bad date\ncleaning up after an error\nbye", "ValueError: bad date"),
        ("ValueError: bad date, skipped\nOSError: disk is gone\nbye", "OSError: disk is gone"),
        ("reading\nERROR disk is gone\nbye", "ERROR disk is gone"),
        ("reading\nwriting\nbye\n---\n}\n", "bye"),
        ("reading\n  writing", "reading"),
        ("  reading\n  writing", "writing"),
        ("Error: cannot load\n\nCaused by:\n    disk is gone\n", "Caused by: disk is gone"),
        ("Error: cannot load\nCaused by:", "Caused by:"),
        ("10%\r20%\rdisk is gone: no such device\r", "disk is gone: no such device"),
    ],
)
def test_one_line_of_a_log_tells_what_happened(log: str, line: str) -> None:
    assert signature_of(Reason.ERROR, 1, log) == signature_of(Reason.ERROR, 1, line)


@given(st.lists(st.sampled_from(["step 3 of 7", "INFO ready", "  {", "", "}"]) | st.text(string.ascii_lowercase + " ")))
def test_what_a_log_says_before_makes_no_difference(before: list[str]) -> None:
    log = "\n".join([*before, "Traceback (most recent call last):", "  File 'a'", "KeyError: 'b'"])

    assert signature_of(Reason.ERROR, 1, log).text == "Error (exit code 1): KeyError: <value>"


# ---------------------------------------------------------------------------------------------------- codes and numbers


@pytest.mark.parametrize(
    "template",
    [
        "HTTP {}",
        "HTTP/1.1 {}",
        "HTTP error {}",
        "HTTP Error {}: try later",
        "status={}",
        "statusCode: {}",
        "http_status={}, item 3",
        '{{"code": {}}}',
        "exit status {}",
        "exited with code {}",
        "exited with {}",
        "[Errno {}] it failed",
        "it failed (os error {})",
        "[WinError {}] it failed",
        "curl: ({}) it failed",
        "killed by signal {}",
        "returned error: {}",
        "{} Too Many Requests",
        "it said '{} Too Many Requests'",
        "upstream returned {} for item 3",
        "server responded with {}.",
        "ERROR {} (23000): it failed",
        "it failed (SQLSTATE HY{})",
        "OperationalError: ({}, 'it failed')",
        'gave up: {} {{"type":"error"}}',
    ],
)
def test_codes_tell_failures_apart(template: str) -> None:
    texts = {signature_of(Reason.ERROR, 1, template.format(code)).text for code in (404, 429, 503)}

    assert len(texts) == 3


@pytest.mark.parametrize(
    "template",
    [
        "got {} rows",
        "item {} is bad",
        "item{} is bad",
        "item-{}-b is bad",
        "chunk_{:05} is bad",
        "row {}: it is bad",
        "row #{}, column {}",
        "took {}ms",
        "took {} ms",
        "at {}%",
        "used {} of 512 MiB",
        "ERROR 10:00:17 it is bad after {}",
        "version 1.{}.2-rc1 is bad",
        "$-{} is bad",
        "loss is {}e-05",
        "rows [1, 2, {}] are bad",
        "{},001 rows",
        "port {} is taken",
        "product code 17{} is unknown",
        "read {} bytes",
    ],
)
def test_numbers_do_not(template: str) -> None:
    texts = {signature_of(Reason.ERROR, 1, template.format(number, number)).text for number in (404, 429, 503)}

    assert len(texts) == 1
    assert not re.search("404|429|503", texts.pop())


@pytest.mark.parametrize(
    "message",
    [
        "Http2Error in OAuth2 with utf-8 and sha256",
        "org.acme.s3.Base64DecodeException: bad",
        "Input/output error of application/json in TCP/IP",
        "it's the users' fault",
        "java.io.EOFException: unexpected end of ZLIB input stream",
        "main.go:x: undefined: parse",
    ],
)
def test_words_stay(message: str) -> None:
    assert signature_of(Reason.ERROR, None, message).text == f"Error: {message}"


# ------------------------------------------------------------------------------------------------------------- any text

# fmt: off
PIECES: Final = st.sampled_from([
    "404 Not Found", "HTTP 429", "code: 'E1'", "errno 2", "error", "Error('", "OSError(5, '", '"msg": "', '{"id": 5, ',
    "a/b.csv", "/x/y", "C:\\a b\\c", "acme.com", "https://a.b/c?d=e.", "a@b.de", "0xff", "1,024", "5 MB", "deadbeef0",
    "Mar  1", "10:00:00", "2026-03-01", "x-abcdefghij-d1", "6f1e2d3c-1234-4abc-8def-0123456789ab", "Caused by:", "word",
    "<n>", "<path>", "<value>", "…", "é", "\\n", "\n", "\t", "  ", "\x1b[31m", "\x1b]", "\ud800", "\x00",
    *string.punctuation, *string.digits,
])
# fmt: on
TEXTS: Final = st.text() | st.lists(PIECES, max_size=40).map("".join) | st.lists(PIECES, max_size=40).map(" ".join)


@given(
    st.sampled_from(Reason), st.none() | st.integers(-(2**31), 2**32), TEXTS | st.characters().map(lambda c: c * 999)
)
def test_any_message_has_a_signature_on_one_short_line_that_can_be_printed_and_stored(
    reason: Reason, exit_code: int | None, message: str
) -> None:
    signature = signature_of(reason, exit_code, message)

    assert re.fullmatch("[0-9a-f]{10}", signature.id)
    assert signature.text.startswith(reason)
    assert len(signature.text) <= TEXT_CHARACTERS
    assert signature.text == " ".join(signature.text.split())
    assert signature.text.encode().decode() == signature.text
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", signature.text)


@given(TEXTS)
def test_a_text_with_placeholders_stays_as_it_is(message: str) -> None:
    signature = signature_of(Reason.ERROR, None, message)

    assert signature_of(Reason.ERROR, None, signature.text.removeprefix("Error").removeprefix(": ")) == signature


def test_a_long_text_is_cut_and_what_lies_behind_makes_no_difference() -> None:
    one, other = (signature_of(Reason.ERROR, None, "out of luck " * 40 + end) for end in ("here", "there"))

    assert one == other
    assert len(one.text) == TEXT_CHARACTERS
    assert one.text.endswith("…")


@pytest.mark.parametrize("length", range(TEXT_CHARACTERS - 30, TEXT_CHARACTERS))
def test_a_placeholder_is_not_cut(length: int) -> None:
    text = signature_of(Reason.ERROR, None, "x" * (length - len("Error: ")) + " '1' /a/b 17 rows").text

    assert "<" not in re.sub("<(value|path|n)>", "", text)


# ------------------------------------------------------------------------------------------------------ what may differ


def _words(alphabet: str, shortest: int, longest: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=shortest, max_size=longest)


NAMES: Final = st.from_regex("[A-Za-z][A-Za-z0-9_-]{0,11}", fullmatch=True)
KEYS: Final = _words("abcdefghijklmnopqrstuvwxyz234567", 10, 10)
RANDOM: Final = "bcdfghjklmnpqrstvwxz2456789"
SECONDS: Final = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2099, 1, 1))  # noqa: DTZ001
DIFFERENT: Final[dict[str, st.SearchStrategy[str]]] = {
    "<uuid>": st.uuids().map(str) | st.uuids().map(lambda uuid: str(uuid).upper()),
    "<hex>": st.integers(0).map(hex) | st.binary(min_size=20).map(lambda data: sha256(data).hexdigest()),
    "<n>": st.one_of(
        st.integers().map(str),
        st.integers(0).map("{:,}".format),
        st.floats(allow_nan=False, allow_infinity=False).map(str),
        st.integers(0, 10**6).map("{}ms".format),
        st.integers(0, 100).map("{}%".format),
        st.tuples(st.integers(0), st.sampled_from(["KiB", "GB", "bytes", "seconds", "ms"])).map("{0[0]} {0[1]}".format),
        st.lists(st.integers(0), min_size=1, max_size=5).map(lambda numbers: ", ".join(map(str, numbers))),
        _words("0123456789abcdef", 7, 12).filter(lambda word: not word.isalpha()),
    ),
    "<time>": st.one_of(
        SECONDS.map(datetime.isoformat),
        SECONDS.map(str),
        SECONDS.map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S}Z"),
        SECONDS.map(lambda at: f"{at:%Y-%m-%d %H:%M:%S},123"),
        SECONDS.map(lambda at: f"{at:%Y/%m/%d %H:%M:%S}"),
        SECONDS.map(lambda at: f"{at:%d/%b/%Y:%H:%M:%S} +0200"),
        SECONDS.map(lambda at: f"{at:%b} {at.day:2} {at:%H:%M:%S}"),
        SECONDS.map(lambda at: f"{at:%a, %d %b %Y %H:%M:%S} GMT"),
    ),
    "<path>": st.one_of(
        st.lists(NAMES, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names)),
        st.lists(NAMES, min_size=3, max_size=5).map("/".join),
        st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "./" + "/".join(names) + ".bin"),
        st.lists(NAMES, min_size=1, max_size=3).map(lambda names: "C:\\" + "\\".join(names)),
        NAMES.map("{}.parquet".format),
    ),
    "<url>": st.tuples(st.sampled_from(["https", "s3", "postgresql"]), NAMES, NAMES).map(
        "{0[0]}://{0[1]}/{0[2]}".format
    ),
    "<value>": st.one_of(
        NAMES.map("'{}'".format),
        NAMES.map('"{}"'.format),
        NAMES.map("`{}`".format),
        st.text(string.ascii_letters + " .,/:-{}<>").map("'{}'".format),
        st.lists(NAMES.map("'{}'".format), min_size=1, max_size=4).map(", ".join),
    ),
    "<pod>": st.one_of(
        st.tuples(NAMES, KEYS, st.integers(1)).map(lambda parts: "{}-{}-d{}".format(*parts).lower().replace("_", "-")),
        st.tuples(KEYS, st.integers(1, 99), _words(RANDOM, 5, 5)).map("job-{0[0]}-d{0[1]}-{0[2]}".format),
        st.tuples(_words(RANDOM, 8, 10), _words(RANDOM, 5, 5)).map("web-{0[0]}-{0[1]}".format),
    ),
    "<email>": st.tuples(NAMES, NAMES).map("{0[0]}@{0[1]}.com".format),
    "<host>": st.one_of(
        st.tuples(NAMES, NAMES).map("{0[0]}.{0[1]}.internal".format),
        st.ip_addresses(v=4).map(str),
        st.tuples(st.ip_addresses(v=4), st.integers(1, 65535)).map("{0[0]}:{0[1]}".format),
        st.ip_addresses(v=6).map(lambda address: address.exploded),
    ),
}
TEMPLATES: Final = (
    "cannot open {}: it is in use",
    "ValueError: {} is no answer, see {}",
    "read of {} failed ({}), gave up",
    "[{}] worker stopped at {}",
    "loading {}\n\nTraceback:\n  at {}\nRuntimeError: no such thing as {} here",
)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", DIFFERENT)
@given(data=st.data())
def test_what_differs_from_item_to_item_makes_no_difference(kind: str, template: str, data: st.DataObject) -> None:
    differing = [data.draw(DIFFERENT[kind]) for _ in range(template.count("{}"))]

    signature = signature_of(Reason.ERROR, 1, template.format(*differing))

    expected = template.splitlines()[-1].format(*[kind] * 3)
    assert signature.text == f"Error (exit code 1): {expected}"


# ----------------------------------------------------------------------------------------------------------------- time


# fmt: off
UNITS: Final = (
    "x", "a ", "a.", "a-", "a/", "a@", "a:", "1 ", "1,", "1.", "'", " '", "'\\", '"a ', "`a ", "'[ ", ', "a', "{'a",
    "/.", "http:", "a://.", "C:\\", "C:\\a ", "\\\\a", "a.csv", "a.A", "a.com", "Jan", "Jan 1 ", "Mon, ", "10:", "é",
    "2026-", "-abcdefghij-d1", "a-b2-", "deadbeef", "0x", "5e", "5 M", "error ", "status", "code: ", "Error(", "Error",
    "<n>", "_", "\x1b[0", "\x1b]", "\x1b", "a\n", " a\n", "Error:\n", "what():\n ", "\u2018a ", "404 ", "\\",
)
# fmt: on


@pytest.mark.parametrize("unit", UNITS)
def test_the_time_is_at_most_in_proportion_to_the_length(unit: str) -> None:
    def seconds(length: int) -> float:
        message = (unit * length)[:length]
        times = []
        for _ in range(3):
            start = time.thread_time()
            signature_of(Reason.ERROR, 1, message)
            times.append(time.thread_time() - start)
        return min(times)

    # 16 times as long: in proportion would be 16, the square 256.
    assert seconds(16 * 1024) < 100 * max(seconds(1024), 1e-5)
