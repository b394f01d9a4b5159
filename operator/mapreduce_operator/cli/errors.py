"""How a command fails: in one line that says what, where, and what to do; and with a code for programs."""

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
_ADVICE: Final = {
    ClusterErrorReason.FORBIDDEN: (
        ExitCode.FORBIDDEN,
        "ask for the role view or edit in the namespace, or choose another one with -n or --context",
    ),
    ClusterErrorReason.NOT_FOUND: (ExitCode.NOT_FOUND, "`kubectl mapreduce status -A` lists all jobs"),
    ClusterErrorReason.ALREADY_EXISTS: (ExitCode.ERROR, "choose another name, or delete that one first"),
    ClusterErrorReason.CONFLICT: (ExitCode.ERROR, "somebody else changed it just now: look at it, and try again"),
    ClusterErrorReason.UNAVAILABLE: (ExitCode.ERROR, "check the cluster with `kubectl version`, and --context"),
    ClusterErrorReason.TERMINATING: (ExitCode.ERROR, "choose another namespace with -n"),
}


def explained(error: ClusterError) -> CommandError:
    """What the API server said, with what to do about it."""
    if error.reason is ClusterErrorReason.NOT_FOUND and any(text in str(error) for text in _NO_SUCH_KIND):
        return CommandError(
            f"{error}; the cluster does not know MapReduceJobs: install the operator's chart, or choose another "
            "cluster with --context",
            ExitCode.NOT_FOUND,
        )
    code, advice = _ADVICE.get(error.reason, (ExitCode.ERROR, ""))
    return CommandError(f"{error}; {advice}" if advice else str(error), code)
