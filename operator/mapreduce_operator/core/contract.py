"""What an agent sees and what it leaves behind: the agent contract, in code.

Two files in any image, as any user, without SDK, sidecar or credentials: the agent reads its item and writes its
result. The result file is the container's termination message, which the kubelet cuts at 4,096 bytes.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mapreduce_operator.api import Reason
from mapreduce_operator.core.expressions import Expression, ExpressionError

DIRECTORY: Final = "/mapreduce"
ITEM_FILE: Final = f"{DIRECTORY}/item.json"
CONTEXT_FILE: Final = f"{DIRECTORY}/context.json"
RESULT_FILE: Final = f"{DIRECTORY}/result.json"
RESULTS_FILE: Final = f"{DIRECTORY}/results.jsonl"
FAILURES_FILE: Final = f"{DIRECTORY}/failures.jsonl"
RESULTS_DIRECTORY: Final = f"{DIRECTORY}/results"
FAILURES_DIRECTORY: Final = f"{DIRECTORY}/failures"

RESULT_BYTES: Final = 4096
"""The kubelet's limit of a termination message."""

PARAMS_BYTES: Final = 16_384
"""How large spec.params may be, as JSON: they travel in an annotation of each pod, beside the item."""

RESULT_DEPTH: Final = 100
"""How deep a result may nest arrays and objects: deeper than anybody needs, and whoever reads it later copes."""


@dataclass(frozen=True, slots=True)
class ResultRule:
    """What a result must be. `item` is the payload, a JSON text; it is only needed when there is an expression."""

    required: bool = True
    expression: Expression | None = None
    item: bytes = b"null"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a result does not keep the contract."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class AgentError:
    """What a failing agent said of itself, in the same file: {"error": {"message": …, "retryable": …}}."""

    message: str
    retryable: bool


def read_result(text: str, rule: ResultRule) -> tuple[bytes | None, Problem | None]:
    """The result of an agent that exited with 0: (JSON text or None where none was written, problem or None)."""
    data = text.strip().encode()
    if not data:
        if rule.required:
            return None, Problem(Reason.RESULT_MISSING, f"the agent exited with 0 but wrote nothing to {RESULT_FILE}")
        return None, None
    try:
        value = _decode(data)
    except msgspec.DecodeError as error:
        cut = len(text.encode()) >= RESULT_BYTES
        why = f"it was cut at the limit of {RESULT_BYTES:,} bytes" if cut else str(error)
        return None, Problem(Reason.RESULT_INVALID, f"{RESULT_FILE} is no valid JSON text: {why}")
    if isinstance(value, int | float) and not isinstance(value, bool) and len(data) >= RESULT_BYTES:
        # The only JSON text that is still one when its end is missing.
        return None, Problem(Reason.RESULT_INVALID, f"{RESULT_FILE} was cut at the limit of {RESULT_BYTES:,} bytes")
    if rule.expression is not None:
        try:
            kept = rule.expression.evaluate({"result": value, "item": msgspec.json.decode(rule.item)})
        except ExpressionError as error:
            return None, Problem(Reason.RESULT_INVALID, f"result.rule has no answer: {error}")
        if kept is not True:
            return None, Problem(Reason.RESULT_INVALID, f"result.rule {rule.expression.text!r} gave {kept!r}, not true")
    # On one line, since results are stored and reduced as JSON lines; numbers and strings stay as they were written.
    return msgspec.json.format(data, indent=-1), None


def read_error(text: str) -> AgentError | None:
    """The agent's own account of its failure, or None where it left none in the agreed form."""
    try:
        report = _decode(text.encode())
    except msgspec.DecodeError:
        return None
    error = report.get("error") if isinstance(report, dict) else None
    if not isinstance(error, dict):
        return None
    name, message = error.get("reason"), error.get("message")
    text = ": ".join(str(part) for part in (name, message) if part)
    return AgentError(
        message=text or "the agent reported an error without a message", retryable=error.get("retryable") is not False
    )


def _decode(data: bytes) -> Any:
    """The value of a JSON text; raises DecodeError also for one that is nested too deep."""
    too_deep = f"it is nested deeper than {RESULT_DEPTH} levels"
    try:
        value = msgspec.json.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError(too_deep) from error
    level = [value]
    for _ in range(RESULT_DEPTH + 1):
        containers = [one for one in level if isinstance(one, dict | list)]
        if not containers:
            return value
        level = [inner for one in containers for inner in (one.values() if isinstance(one, dict) else one)]
    raise msgspec.DecodeError(too_deep)
