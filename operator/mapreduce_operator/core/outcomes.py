"""The typed end of a dispatch."""

from dataclasses import dataclass
from enum import StrEnum

from mapreduce_operator.api import Reason
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.workloads import Dispatch


class Verdict(StrEnum):
    """Who ended a dispatch, and how: the agent (an attempt) or somebody else (an interruption)."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    INTERRUPTED = "Interrupted"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one dispatch of one item ended, with all that a person may later ask about it."""

    stage: Stage
    dispatch: Dispatch
    job_uid: str
    verdict: Verdict
    reason: Reason | None = None
    """None only for a success."""
    message: str = ""
    exit_code: int | None = None
    retryable: bool = True
    """False when the agent itself said that trying again is of no use."""
    result: bytes | None = None
    """The result, a JSON text; only for a success."""
    revision: str = ""
    job: str = ""
    pod: str = ""
    node: str = ""
    started_at: float = 0.0
    ended_at: float = 0.0
