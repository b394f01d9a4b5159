"""What a question is refused with: an HTTP status, a word for programs, and a sentence that says what to do."""

from typing import Final

from mapreduce_operator.core.checkpoint import JournalError
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.letters import LetterError
from mapreduce_operator.core.packing import PackingError
from mapreduce_operator.ports import CheckpointNotFoundError, ClusterError, StorageError

ADVICE: Final = "`kubectl mapreduce checkpoints validate` says which checkpoints of the job are whole"
"""To whoever meets something damaged."""


class RefusedError(Exception):
    """A question that has no answer."""

    def __init__(self, status: int, reason: str, message: str, *, retry_seconds: int = 0) -> None:
        super().__init__(message)
        self.status: Final = status
        self.reason: Final = reason
        self.retry_seconds: Final = retry_seconds
        """When to ask again; 0 where that is of no use."""


EXPLAINED: Final = (
    *(CheckpointNotFoundError, ExpressionError, LetterError, JournalError, PackingError),
    *(StorageError, ClusterError),
)


def refusal_of(error: Exception) -> RefusedError:
    """The refusal for one of the errors in EXPLAINED."""
    match error:
        case CheckpointNotFoundError():
            return RefusedError(404, "CheckpointNotFound", str(error))
        case ExpressionError():
            return RefusedError(400, "InvalidFilter", str(error))
        case StorageError():
            return RefusedError(502, error.reason, str(error))
        case ClusterError():
            return RefusedError(502, f"ApiServer{error.reason}", str(error))
        case _:
            return RefusedError(
                500,
                "Damaged",
                f"{error}; {ADVICE}",
            )
