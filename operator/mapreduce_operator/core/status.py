"""What the world is told of a run: the status, derived from what is durable.

Outcomes that still wait for storage are shown as running. The size is bounded: counts, intervals of plan positions cut
at a limit, the ten most frequent failures, and references to everything else.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from mapreduce_operator.api import (
    POSITIONS_MAX_LENGTH,
    AttemptCounts,
    BreakerStatus,
    CheckpointStatus,
    Condition,
    DeadLetterStatus,
    FailureSummary,
    ItemCounts,
    ItemState,
    LineageStatus,
    MapReduceJobStatus,
    Phase,
    PlanStatus,
    ReduceStatus,
    RestartStatus,
    RestoreStatus,
    StagePositions,
    StatePositions,
    TemplateRevisions,
    ThroughputStatus,
)
from mapreduce_operator.core.checkpoint import Checkpoint, Lineage, Restarted, Restored
from mapreduce_operator.core.conditions import LASTING, STATE_LOST, Situation, conditions_of, merge
from mapreduce_operator.core.items import FINAL_STATES
from mapreduce_operator.core.names import LABEL_RUN, RunRef, Stage, StorageKeys
from mapreduce_operator.core.outcomes import Verdict
from mapreduce_operator.core.phases import FINAL_PHASES
from mapreduce_operator.core.retention import intervals
from mapreduce_operator.core.run import RunState
from mapreduce_operator.core.throughput import two_digits

TOP_FAILURES: Final = 10
KEPT_CHARACTERS: Final = 2048


@dataclass(frozen=True, slots=True)
class Report:
    """What a status says beside the state of the run."""

    ref: RunRef
    generation: int
    situation: Situation
    storage_url: str
    start_time: float
    before: tuple[Condition, ...]
    """The conditions as they were written last: unchanged ones keep their transition time."""
    queue: str = ""
    """Name of the DeadLetterQueue; "" while there is none."""
    keeps: Collection[str] = ()
    """Types of conditions that stay as they are where nothing is known about them yet."""
    kept: Sequence[int] = ()
    """Numbers of the checkpoints that one can come back to."""


def status_without_plan(report: Report, now: float) -> MapReduceJobStatus:
    """The status of a run that is not planned: for a moment, until its input is corrected, or since it ends before."""
    ended = report.situation.phase in FINAL_PHASES
    return MapReduceJobStatus.model_validate(_common(report, now) | {"completion_time": now if ended else None})


def status_before_loading(
    written: MapReduceJobStatus, situation: Situation, generation: int, now: float
) -> MapReduceJobStatus:
    """The status of a run that was planned by an earlier operator and cannot be loaded yet.

    What was written still holds; only the conditions say what is wrong. It answers to that generation of the object
    where a person has to mend something; what may pass leaves the answer to whoever loads the run.
    """
    generation = generation if situation.obstacle is not None else written.observed_generation or 0
    conditions = merge(written.conditions, conditions_of(situation), generation=generation, now=now, keeps=LASTING)
    failed = {"phase": Phase.FAILED, "reason": STATE_LOST} if situation.lost else {}
    return written.model_copy(update={"conditions": conditions, "observed_generation": generation, **failed})


def seen_at(status: MapReduceJobStatus, generation: int, token: str) -> MapReduceJobStatus:
    """The same status of a run that has ended, as the answer to a later version of the object.

    A checkpoint that is asked for, by `token`, is the last one: there is nothing to save.
    """
    conditions = tuple(one.model_copy(update={"observed_generation": generation}) for one in status.conditions)
    checkpoint = status.checkpoint
    if checkpoint is not None and token:
        checkpoint = checkpoint.model_copy(update={"token": token})
    return status.model_copy(
        update={"observed_generation": generation, "conditions": conditions, "checkpoint": checkpoint}
    )


def status_of(
    run: RunState, head: Checkpoint, id_of: Callable[[int], str], report: Report, now: float
) -> MapReduceJobStatus:
    """The status of a planned run."""
    ledger = run.ledgers[Stage.MAP]
    not_durable = {
        ledger.position(r.outcome.dispatch.item_key) or 0 for r in run.uncommitted if r.outcome.stage is Stage.MAP
    }
    interruptions = sum(
        record.outcome.verdict is Verdict.INTERRUPTED for record in run.uncommitted if record.outcome.stage is Stage.MAP
    )
    attempts = sum(record.outcome.stage is Stage.MAP for record in run.uncommitted) - interruptions
    counts = dict(ledger.counts)
    for position in not_durable:
        counts[ledger[position].state] -= 1
        counts[ItemState.RUNNING] += 1
    shown_as = dict.fromkeys(not_durable, ItemState.RUNNING)
    for position, before in _not_durable_without_outcome(run):
        counts[ledger[position].state] -= 1
        counts[before] += 1
        shown_as[position] = before
    done = sum(counts[state] for state in FINAL_STATES)
    failures = sorted(run.tally.failures.values(), key=lambda one: (-one.count, one.signature))[:TOP_FAILURES]
    breaker = run.guard.breaker
    finished = head.phase in FINAL_PHASES
    return MapReduceJobStatus.model_validate(
        _common(report, now)
        | {
            "progress": f"{done}/{len(ledger)}",
            "active": run.active,
            "completion_time": head.turned_at if finished else None,
            "plan": PlanStatus(
                items=head.plan.items,
                read=head.plan.read,
                filtered_out=head.plan.filtered_out,
                duplicates=head.plan.duplicates,
                out_of_range=head.plan.out_of_range,
                sha256=head.plan.sha256,
                prefix=StorageKeys(run.ref).prefix,
            ),
            "items": ItemCounts(total=len(ledger), **{state.name.lower(): counts[state] for state in ItemState}),
            "attempts": AttemptCounts(
                total=ledger.attempts - attempts,
                interruptions=ledger.interruptions - interruptions,
                retries=run.tally.retries,
            ),
            "throughput": _throughput(run, len(ledger) - done, now),
            "positions": StagePositions(
                map=StatePositions(
                    **{
                        state.name.lower(): ledger.intervals(state, shown_as, POSITIONS_MAX_LENGTH)
                        for state in ItemState
                    }
                )
            ),
            "failures": [
                FailureSummary(
                    reason=known.reason,
                    signature=known.signature,
                    count=known.count,
                    sample_item_id=id_of(known.position),
                    message=known.message,
                )
                for known in failures
            ],
            "failures_by_reason": dict(run.tally.reasons),
            "breaker": BreakerStatus.model_validate(
                {
                    "state": breaker.state,
                    "failures_in_a_row": breaker.failures,
                    "open_until": breaker.open_until or None,
                }
            )
            if run.spec.failure_policy.circuit_breaker is not None
            else None,
            "dead_letters": DeadLetterStatus(
                queue=report.queue, open=run.dead_letters.open_count, unresolved=run.dead_letters.unresolved
            )
            if report.queue or len(run.dead_letters)
            else None,
            "reduce": _reduce(run),
            "result": None if run.tally.reduce_result is None else msgspec.json.decode(run.tally.reduce_result),
            "template_revisions": TemplateRevisions(
                **{
                    stage.value: revision.hash
                    for stage in Stage
                    if (revision := run.templates.revision(stage)) is not None
                }
            ),
            "checkpoint": CheckpointStatus.model_validate(
                {
                    "sequence": head.sequence,
                    "time": head.committed_at,
                    "reason": head.reason,
                    "token": head.answers.checkpoint,
                    "bytes": head.size,
                    "duration_seconds": head.seconds,
                    "kept": intervals(report.kept, KEPT_CHARACTERS),
                    "stored_bytes": head.journal_size,
                }
            ),
            "restore": _restored(head.answers.restored),
            "restart": _restarted(head.answers.restarted),
            "lineage": _lineage(head.lineage),
        }
    )


def _throughput(run: RunState, left: int, now: float) -> ThroughputStatus | None:
    rate = run.commits.throughput.per_minute(now)
    stands = run.spec.suspend or run.committed_turn.phase in FINAL_PHASES
    if rate is None or not left or stands:
        return None
    return ThroughputStatus(items_per_minute=rate, remaining_seconds=round(two_digits(60.0 * left / rate)))


def _restored(done: Restored | None) -> RestoreStatus | None:
    if done is None:
        return None
    return RestoreStatus.model_validate(
        {"checkpoint": done.checkpoint, "token": done.token, "time": done.at, "sequence": done.sequence}
    )


def _restarted(done: Restarted | None) -> RestartStatus | None:
    if done is None:
        return None
    return RestartStatus.model_validate({"phase": done.phase, "token": done.token, "time": done.at})


def _lineage(lineage: Lineage | None) -> LineageStatus | None:
    if lineage is None:
        return None
    return LineageStatus(job=lineage.name, uid=lineage.uid, checkpoint=lineage.sequence, depth=lineage.depth)


def _not_durable_without_outcome(run: RunState) -> Iterator[tuple[int, ItemState]]:
    """Positions and durable states of what was taken to be run again, or given back, without that being durable yet."""
    ledger = run.ledgers[Stage.MAP]
    for claim in run.unsaved.claims:
        if claim.stage is Stage.MAP:
            position = ledger.position(claim.key) or 0
            left_out = run.dead_letters.get(position) is None
            yield position, ItemState.SKIPPED if left_out else ItemState.DEAD_LETTERED
    for key in (*run.unsaved.given_back, *run.unsaved.left_out):
        yield ledger.position(key) or 0, ItemState.PENDING


def _common(report: Report, now: float) -> dict[str, object]:
    situation = report.situation
    finished = situation.phase in FINAL_PHASES
    paused = situation.suspended and not finished
    obstacle = situation.obstacle if not finished else None
    return {
        "observed_generation": report.generation,
        "phase": Phase.PAUSED if paused else situation.phase,
        "reason": "Suspended" if paused else obstacle[0] if obstacle else situation.reason,
        "selector": f"{LABEL_RUN}={report.ref.uid}",
        "start_time": report.start_time,
        "storage": f"{report.storage_url.rstrip('/')}/{StorageKeys(report.ref).prefix}",
        "conditions": merge(
            report.before, conditions_of(situation), generation=report.generation, now=now, keeps=report.keeps
        ),
    }


def _reduce(run: RunState) -> ReduceStatus | None:
    if run.spec.reduce is None:
        return None
    item = run.ledgers[Stage.REDUCE][0]
    waiting = [record.outcome for record in run.uncommitted if record.outcome.stage is Stage.REDUCE]
    return ReduceStatus(
        state=ItemState.RUNNING if waiting else item.state,
        attempts=item.attempts - sum(outcome.verdict is not Verdict.INTERRUPTED for outcome in waiting),
        message="" if item.state is ItemState.SUCCEEDED else run.tally.reduce_message,
    )
