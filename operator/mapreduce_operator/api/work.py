"""How an agent runs: its pod, its time, its retries and the result it owes. Map and reduce share all of it."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_serializer

from mapreduce_operator.api.enums import BackoffType, Reason, ResultsAs, RetryAction, RunWhen
from mapreduce_operator.api.model import Model, rule
from mapreduce_operator.api.template import PodTemplate

ExitCode = Annotated[int, Field(ge=1, le=255)]


AttemptReason = Literal[
    Reason.ERROR,
    Reason.KILLED,
    Reason.OOM_KILLED,
    Reason.DEADLINE_EXCEEDED,
    Reason.STORAGE_EXCEEDED,
    Reason.INIT_FAILED,
    Reason.RESULT_MISSING,
    Reason.RESULT_INVALID,
]
"""The reasons that count as an attempt; interruptions are retried whatever a rule says."""


class Backoff(Model):
    """How long an item waits before it is tried again after a failure."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                # has: the API server also checks the default of this object, `{}`, before it fills it in.
                rule(
                    "!has(self.initialSeconds) || !has(self.maxSeconds) || self.maxSeconds >= self.initialSeconds",
                    "maxSeconds must not be less than initialSeconds",
                    field=".maxSeconds",
                ),
                rule(
                    "(has(self.type) && self.type == 'Custom') == (has(self.delays) && self.delays.size() > 0)",
                    "delays must be given for the type Custom, and for no other",
                    field=".delays",
                ),
            ]
        }
    )

    type: BackoffType = BackoffType.EXPONENTIAL
    """How the wait grows from one failed attempt to the next. Fixed: not at all. Linear: by initialSeconds each time.
    Exponential: it doubles. Fibonacci: it is the sum of the two before. Custom: as delays says.
    """

    delays: tuple[Annotated[int, Field(ge=0, le=86_400)], ...] = Field(default=(), max_length=100)
    """Only for Custom: the waits after the first, the second and each further failed attempt, in seconds. The last one
    serves for all that come after. maxSeconds holds for them too; initialSeconds does not.
    """

    initial_seconds: int = Field(default=10, ge=0, le=86_400)
    """Wait after the first failed attempt, in seconds."""

    max_seconds: int = Field(default=300, ge=0, le=86_400)
    """The longest wait, in seconds."""

    jitter: float = Field(default=0.2, ge=0, le=1)
    """Share of the wait that is left to chance: with 0.2 each wait is up to 20 % shorter, so that items that failed
    together do not come back together. It never gets longer than maxSeconds.
    """


class RetryRule(Model):
    """What to do about the failures that match everything that the rule names."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "has(self.onExitCodes) && self.onExitCodes.size() > 0"
                    " || has(self.onReasons) && self.onReasons.size() > 0",
                    "a rule must say what it is for: onExitCodes, onReasons or both",
                    field="",
                    reason="FieldValueRequired",
                )
            ]
        }
    )

    action: RetryAction
    """Retry: try again, as far as maxAttempts allows. DoNotRetry: the item is given up at once, and what happens then
    stands in failurePolicy.onExhausted.
    """

    on_exit_codes: frozenset[ExitCode] = Field(default=frozenset(), max_length=255)
    """Exit codes of the agent that the rule is for. Where onReasons is given too, both must match."""

    on_reasons: frozenset[AttemptReason] = Field(default=frozenset(), max_length=8)
    """Reasons of failure that the rule is for. Error: the agent ended with an exit code other than 0. Killed: it was
    ended by a signal, and nobody says why. OOMKilled: it needed more memory than its limit. DeadlineExceeded: it ran
    longer than timeoutSeconds. StorageExceeded: it wrote more to its disk than its limit. InitFailed: an init container
    failed. ResultMissing: it ended with exit code 0 and wrote no result. ResultInvalid: its result could not be read,
    or broke result.rule.
    """

    @field_serializer("on_exit_codes", "on_reasons")
    def _in_order(self, values: frozenset[Any]) -> list[Any]:
        """A set has no order of its own: what is written twice must be the same twice."""
        return sorted(values)


class MemoryIncrease(Model):
    """More memory for the attempts that come after the agent was killed for needing more than its limit."""

    factor: float = Field(default=1.5, gt=1, le=10)
    """By how much the memory of the agent's container grows each time it was killed for that, limit and request."""

    max_memory: str = Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$")
    """The most that it grows to, as Kubernetes writes it, such as 8Gi."""


class Retry(Model):
    """How often an item is tried again, and when."""

    max_attempts: int = Field(default=3, ge=1, le=100)
    """How many times the agent may run to its own end, by failure or timeout, before the item is given up. 1 means
    no retry.
    """

    max_interruptions: int = Field(default=10, ge=0, le=1000)
    """How many times an item may be interrupted by somebody else, such as by an eviction, a preemption or the loss of
    a node, before it is given up: it may be what harms its nodes. Interruptions do not count as attempts. Those that
    are not the item's fault in any way, by suspend or by a template that cannot start, do not count here either.
    """

    backoff: Backoff = Backoff()

    rules: tuple[RetryRule, ...] = Field(default=(), max_length=20)
    """What to do about particular failures. The first rule that matches decides. A failure that none matches is
    retried, unless the agent itself called it not retryable.
    """

    on_oom: MemoryIncrease | None = Field(default=None, alias="onOOM")
    """Gives an agent more memory after it was OOMKilled. Without it, each attempt gets what the template says."""


class ResultContract(Model):
    """What an agent's result must be for the attempt to count as a success."""

    required: bool = True
    """Whether an agent that ends with exit code 0 must have written /mapreduce/result.json. If it has not, the attempt
    counts as failed, with the reason ResultMissing: an agent that did nothing should not pass for one that is done.
    """

    rule: str | None = Field(default=None, min_length=1, max_length=1024)
    """A CEL expression over `result` and `item` that must be true, such as `result.tests.failed == 0`. If it is not,
    the attempt counts as failed, with the reason ResultInvalid.
    """


class Work(Model):
    """What a stage runs."""

    template: PodTemplate

    timeout_seconds: int = Field(default=3600, ge=1, le=604_800)
    """How long an agent may run, in seconds, counted from the start of its pod. Then Kubernetes stops it, and the
    attempt counts as failed, with the reason DeadlineExceeded.
    """

    pending_timeout_seconds: int = Field(default=300, ge=1, le=86_400)
    """How long a pod may fail to start for a reason that lies in the template, such as an image that cannot be pulled
    or a Secret that does not exist, before it is given up. No attempt is counted. When it happens to several items the
    job starts no more of them but one at a time, and says so in a condition, until the template, or what it refers to,
    is mended. A pod that merely waits for a node waits for as long as it takes.
    """

    retry: Retry = Retry()

    result: ResultContract = ResultContract()


class MapWork(Work):
    """Runs an agent for each item."""

    max_parallel: int = Field(default=10, ge=0, le=10_000)
    """How many agents may run at the same time. It may be changed while the job runs, also by `kubectl scale`; 0 starts
    no more agents until it is raised.
    """

    skip: frozenset[Annotated[str, Field(min_length=1, max_length=4096)]] = Field(default=frozenset(), max_length=1000)
    """Ids of items that are not to be run. Those that have not ended become Skipped, and their agents are stopped;
    those that have ended stay what they are. The job ends as if they were not in its input. An item whose
    id is taken out again is run when the map is restarted. An event tells of ids that no item has.
    """

    @field_serializer("skip")
    def _in_order(self, values: frozenset[str]) -> list[str]:
        """A set has no order of its own: what is written twice must be the same twice."""
        return sorted(values)


class ReduceWork(Work):
    """Runs one agent over all results, after the map; without it the job ends with the map.

    It finds a line for each item that succeeded in /mapreduce/results.jsonl and one for each that failed in
    /mapreduce/failures.jsonl, both in the order of the input, and writes /mapreduce/result.json. It may be added or
    corrected until it runs.
    """

    results_as: ResultsAs = ResultsAs.FILE
    """How the agent gets results and failures. File: as the two files, with at most 1,000,000 bytes together; more fail
    the job. Directory: as /mapreduce/results/0001.jsonl, 0002.jsonl and so on, and /mapreduce/failures/0001.jsonl and
    so on, with at most 16 times as much together; the agent reads all of them, in the order of their names. There is
    at least one of each.
    """

    run_when: RunWhen = RunWhen.ANY_SUCCEEDED
    """Which ends of the map let the reduce run. AllSucceeded: every item succeeded; otherwise the job fails.
    AnySucceeded: at least one did, and as many as successPolicy asks for. Always: in any case.
    """
