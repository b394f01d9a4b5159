"""The closed sets of words in the API. A word that users see is spelt here and nowhere else."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a job is, in one word; derived from its conditions and counts, for people and printer columns."""

    PLANNING = "Planning"
    MAP = "Map"
    REDUCE = "Reduce"
    PAUSED = "Paused"
    SUCCEEDED = "Succeeded"
    PARTIALLY_SUCCEEDED = "PartiallySucceeded"
    FAILED = "Failed"


class ItemState(StrEnum):
    """Where an item is. The counts over these states always sum to the number of items."""

    PENDING = "Pending"
    RUNNING = "Running"
    RETRY_WAIT = "RetryWait"
    SUCCEEDED = "Succeeded"
    DEAD_LETTERED = "DeadLettered"


class Reason(StrEnum):
    """Why a dispatch did not succeed. What each one means stands in core.failures."""

    ERROR = "Error"
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    RESULT_MISSING = "ResultMissing"
    RESULT_INVALID = "ResultInvalid"
    EVICTED = "Evicted"
    NODE_LOST = "NodeLost"
    DELETED = "Deleted"
    NOT_STARTED = "NotStarted"
    SUSPENDED = "Suspended"
    TOO_MANY_INTERRUPTIONS = "TooManyInterruptions"


class InputFormat(StrEnum):
    JSON = "JSON"
    JSON_LINES = "JSONLines"


class OnDuplicate(StrEnum):
    FAIL = "Fail"
    KEEP_FIRST = "KeepFirst"


class EmptyPolicy(StrEnum):
    SUCCEED = "Succeed"
    FAIL = "Fail"
    RUN_REDUCE = "RunReduce"


class BackoffType(StrEnum):
    FIXED = "Fixed"
    LINEAR = "Linear"
    EXPONENTIAL = "Exponential"
    FIBONACCI = "Fibonacci"


class RetryAction(StrEnum):
    RETRY = "Retry"
    DO_NOT_RETRY = "DoNotRetry"


class RunWhen(StrEnum):
    ALL_SUCCEEDED = "AllSucceeded"
    ANY_SUCCEEDED = "AnySucceeded"
    ALWAYS = "Always"


class OnDelete(StrEnum):
    KEEP = "Keep"
    DELETE = "Delete"


class SuspendPolicy(StrEnum):
    DRAIN = "Drain"
    INTERRUPT = "Interrupt"


class ConditionStatus(StrEnum):
    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
