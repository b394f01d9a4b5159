"""The limits of a job's failure policy: whether one of them stops it, and how many retries it may spend.

Pure functions of counts and spec: nothing has to be remembered, and a limit that is edited holds at once.
"""

from collections.abc import Mapping
from fractions import Fraction

from mapreduce_operator.api import ItemState, MapReduceJobSpec, OnExhausted, RetryBudget


def stop_of(counts: Mapping[ItemState, int], spec: MapReduceJobSpec) -> tuple[str, str] | None:
    """(reason, message) of the limit that stops the job, or None while it bears what failed.

    `counts` are those of the map. A limit holds as well when no item is left to stop: the job fails.
    """
    policy, threshold = spec.failure_policy, spec.failure_policy.failure_threshold
    failed = counts[ItemState.DEAD_LETTERED] + counts[ItemState.SKIPPED]
    ended = counts[ItemState.SUCCEEDED] + failed
    of = f"{failed:,} of {sum(counts.values()):,} items failed"
    why = "status.failures says why"
    if policy.on_exhausted is OnExhausted.STOP and failed > 0:
        advice = "set it to DeadLetter or Skip to go on without items that fail"
        return "ItemFailed", f"{of} and failurePolicy.onExhausted is Stop; {why}; {advice}"
    advice = "raise it to bear more failures"
    if policy.max_failures is not None and failed >= policy.max_failures:
        limit = f"failurePolicy.maxFailures is {policy.max_failures:,}"
        return "MaxFailuresReached", f"{of} and {limit}; {why}; {advice}"
    # The quotient and not ratio * ended, for the reason that core.phases gives.
    if threshold is not None and ended >= threshold.min_samples and failed / ended > threshold.ratio:
        of = f"of {ended:,} items that have ended {failed:,} failed"
        limit = f"failurePolicy.failureThreshold.ratio is {threshold.ratio:g}"
        return "FailureThresholdExceeded", f"{of} and {limit}; {why}; {advice}"
    return None


def retry_budget(policy: RetryBudget | None, items: int) -> int | None:
    """How many retries a job of so many items may spend in all; None for any number."""
    if policy is None:
        return None
    limits = [] if policy.max_retries is None else [policy.max_retries]
    if policy.max_ratio is not None:
        # The number that stands in the manifest: 0.29 * 100 of floats is less than 29.
        limits.append(int(Fraction(str(policy.max_ratio)) * items))
    return min(limits, default=None)
