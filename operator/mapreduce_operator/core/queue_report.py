"""What the world is told of a dead letter queue: its object, and the status that follows from the letters."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from mapreduce_operator.api import (
    API_VERSION,
    QUEUE_KIND,
    Condition,
    DeadLetterPolicy,
    DeadLetterQueueStatus,
    LetterCounts,
    LetterGroup,
    LetterState,
    LetterSummary,
)
from mapreduce_operator.core import names
from mapreduce_operator.core.conditions import merge
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.names import RunRef, StorageKeys, item_key

NEWEST: Final = 20
GROUPS: Final = 10
NODES: Final = 20


def queue_manifest(run: RunRef, name: str, policy: DeadLetterPolicy) -> dict[str, Any]:
    """A new queue, as the spec of its job wants it to begin. It has no owner: it may outlive its job."""
    return {
        "apiVersion": API_VERSION,
        "kind": QUEUE_KIND,
        "metadata": {
            "name": name,
            "namespace": run.namespace,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_RUN: run.uid, names.LABEL_JOB: run.name},
            "finalizers": [names.FINALIZER],
        },
        "spec": {"jobRef": {"name": run.name, "uid": run.uid}} | policy.to_kubernetes(),
    }


def queue_status(
    letters: DeadLetters,
    *,
    run: RunRef,
    id_of: Callable[[int], str],
    storage_url: str,
    generation: int,
    reprocessing: int,
    full: tuple[str, str] | None,
    mistake: str,
    before: Iterable[Condition],
    now: float,
) -> DeadLetterQueueStatus:
    """The status of a queue.

    `full` is (reason, message) while it is; `mistake` says what is wrong with the queue's own spec; of the claimed
    letters, the items of `reprocessing` run just now.
    """
    counts = letters.counts
    open_letters, claimed = counts[LetterState.OPEN], counts[LetterState.CLAIMED]
    keys = StorageKeys(run)
    prefix = f"{storage_url.rstrip('/')}/"
    span = letters.span()
    conditions: dict[str, tuple[bool, str, str]] = {
        "Ready": (
            not mistake,
            "InvalidEligibility" if mistake else "Kept",
            mistake or "every letter and its history are in storage",
        ),
        "Empty": (
            open_letters == 0,
            "NoOpenLetters" if open_letters == 0 else "OpenLetters",
            "no letter is open"
            if open_letters == 0
            else f"open letters: {open_letters:,}. Create a Redrive to give them another run",
        ),
        "Full": (True, *full) if full else (False, "RoomLeft", "the queue takes more letters"),
    }
    if mistake:
        # kstatus takes this one's mere truth as "failed": a person has to mend it.
        conditions["Stalled"] = (True, "InvalidEligibility", mistake)
    return DeadLetterQueueStatus.model_validate(
        {
            "observed_generation": generation,
            "letters": LetterCounts(
                total=len(letters),
                open=open_letters,
                claimed=max(0, claimed - reprocessing),
                reprocessing=min(claimed, reprocessing),
                resolved=counts[LetterState.RESOLVED],
                archived=counts[LetterState.ARCHIVED],
            ),
            "reasons": dict(letters.reasons),
            "causes": dict(letters.causes),
            "nodes": {node: count for node, count in letters.nodes.most_common(NODES) if node},
            "groups": [
                LetterGroup.model_validate(
                    {
                        "signature": group.text,
                        "signature_id": group.signature,
                        "reason": group.reason,
                        "count": group.count,
                        "first_time": first,
                        "last_time": last,
                        "samples": [id_of(position) for position in group.samples],
                    }
                )
                for group in letters.largest_groups(GROUPS)
                for first, last in (letters.span(group) or (now, now),)
            ],
            "oldest_time": span[0] if span else None,
            "newest_time": span[1] if span else None,
            "newest": [
                LetterSummary.model_validate(
                    {
                        "item_id": id_of(entry.position),
                        "state": state,
                        "cause": entry.cause,
                        "reason": entry.reason,
                        "signature": entry.signature,
                        "attempts": entry.attempts,
                        "last_time": entry.at,
                        "message": entry.message,
                        "body": prefix + keys.letter(item_key(run.uid, names.Stage.MAP, id_of(entry.position))),
                    }
                )
                for entry, state in letters.newest(NEWEST)
            ],
            "storage": prefix + keys.letters,
            "conditions": merge(before, conditions, generation=generation, now=now),
        }
    )
