"""How a command fails: in one line that says what, where, and what to do; and with a code for programs."""

import re
from enum import IntEnum
from typing import Final

from mapreduce_operator.ports import ClusterError, ClusterErrorReason


class ExitCode(IntEnum):
    """Written down in docs/cli.md."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    JOB_FAILED = 3
    JOB_PARTIALLY_SUCCEEDED = 4
    NOT_FOUND = 5
    FORBIDDEN = 6
    TIMEOUT = 7
    INTERRUPTED = 130


class CommandError(Exception):
    """What a command cannot do, and what to do about it, on one line."""

    def __init__(self, message: str, code: ExitCode = ExitCode.ERROR) -> None:
        super().__init__(message)
        self.code: Final = code


_NO_SUCH_KIND: Final = ("the server could not find the requested resource", "404 page not found")
_NO_SUCH_NAMESPACE: Final = re.compile(r'namespaces "([^"]+)" not found')
_CHANGES: Final = ("POST ", "PATCH ", "DELETE ")
"""How the text of an error of a request begins that was to change something."""
_ADVICE: Final = {
    ClusterErrorReason.NOT_FOUND: (ExitCode.NOT_FOUND, "`kubectl mapreduce status -A` lists all jobs"),
    ClusterErrorReason.ALREADY_EXISTS: (ExitCode.ERROR, "choose another name, or delete that one first"),
    ClusterErrorReason.CONFLICT: (ExitCode.ERROR, "somebody else changed it just now: look at it, and try again"),
    ClusterErrorReason.UNAVAILABLE: (ExitCode.ERROR, "check the cluster with `kubectl version`, and --context"),
    ClusterErrorReason.TERMINATING: (ExitCode.ERROR, "choose another namespace with -n"),
}


def explained(error: ClusterError, *, everywhere: bool) -> CommandError:
    """What the API server said, with what to do about it. `everywhere`: of a command with -A."""
    if error.reason is ClusterErrorReason.FORBIDDEN:
        return CommandError(f"{error}; {_right(str(error), everywhere=everywhere)}", ExitCode.FORBIDDEN)
    if missing := _NO_SUCH_NAMESPACE.search(str(error)):
        return CommandError(
            f"{error}; make the namespace with `kubectl create namespace {missing[1]}`, or choose another one with -n",
            ExitCode.NOT_FOUND,
        )
    if error.reason is ClusterErrorReason.NOT_FOUND and any(text in str(error) for text in _NO_SUCH_KIND):
        return CommandError(
            f"{error}; the cluster does not know MapReduceJobs: install the operator's chart, or choose another "
            "cluster with --context",
            ExitCode.NOT_FOUND,
        )
    code, advice = _ADVICE.get(error.reason, (ExitCode.ERROR, ""))
    return CommandError(f"{error}; {advice}" if advice else str(error), code)


def _right(refusal: str, *, everywhere: bool) -> str:
    """What somebody has to ask for who was refused."""
    if "(HTTP 401)" in refusal:
        return "the cluster does not know who you are: log in again, or choose another --context"
    if everywhere:
        return "-A takes the role view in all namespaces, by a ClusterRoleBinding: ask for that, or choose one with -n"
    role = "edit" if refusal.startswith(_CHANGES) else "view"
    return f"ask for the role {role} in the namespace, or choose another one with -n or --context"
