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
    SKIPPED = "Skipped"


class Reason(StrEnum):
    """Why a dispatch did not succeed. What each one means stands in core.failures."""

    # The agent's own doing.
    ERROR = "Error"
    KILLED = "Killed"
    OOM_KILLED = "OOMKilled"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    STORAGE_EXCEEDED = "StorageExceeded"
    INIT_FAILED = "InitFailed"
    RESULT_MISSING = "ResultMissing"
    RESULT_INVALID = "ResultInvalid"
    # Somebody else's.
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    DELETED = "Deleted"
    NOT_STARTED = "NotStarted"
    SUSPENDED = "Suspended"
    # The template's.
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    CONFIGURATION_ERROR = "ConfigurationError"


class Cause(StrEnum):
    """Why an item is not tried again by itself."""

    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    NOT_RETRYABLE = "NotRetryable"
    TOO_MANY_INTERRUPTIONS = "TooManyInterruptions"
    RETRY_BUDGET_EXHAUSTED = "RetryBudgetExhausted"
    SKIPPED_BY_USER = "SkippedByUser"


class OnExhausted(StrEnum):
    DEAD_LETTER = "DeadLetter"
    SKIP = "Skip"
    STOP = "Stop"


class BreakerState(StrEnum):
    CLOSED = "Closed"
    OPEN = "Open"
    HALF_OPEN = "HalfOpen"


class OnFull(StrEnum):
    PAUSE = "Pause"
    ARCHIVE = "Archive"
    FAIL = "Fail"


class LetterState(StrEnum):
    """Where a dead letter is. It follows from the state of its item."""

    OPEN = "Open"
    CLAIMED = "Claimed"
    REPROCESSING = "Reprocessing"
    RESOLVED = "Resolved"
    ARCHIVED = "Archived"


class DelayStrategy(StrEnum):
    IMMEDIATE = "Immediate"
    FIXED = "Fixed"
    EXPONENTIAL = "Exponential"


class InputFormat(StrEnum):
    JSON = "JSON"
    JSON_LINES = "JSONLines"
    CSV = "CSV"


class SortOrder(StrEnum):
    ASCENDING = "Ascending"
    DESCENDING = "Descending"


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
    CUSTOM = "Custom"


class RetryAction(StrEnum):
    RETRY = "Retry"
    DO_NOT_RETRY = "DoNotRetry"


class RunWhen(StrEnum):
    ALL_SUCCEEDED = "AllSucceeded"
    ANY_SUCCEEDED = "AnySucceeded"
    ALWAYS = "Always"


class ResultsAs(StrEnum):
    FILE = "File"
    DIRECTORY = "Directory"


class RestartPhase(StrEnum):
    PLAN = "Plan"
    MAP = "Map"
    REDUCE = "Reduce"


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
