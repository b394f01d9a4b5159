"""What the world is told of a dead letter queue: sums that are right, samples, and a size that is bounded."""

import json
from dataclasses import replace
from typing import Any, Final

import pytest

from mapreduce_operator.api import (
    Cause,
    DeadLetterPolicy,
    DeadLetterQueue,
    DeadLetterQueueStatus,
    ItemState,
    LetterCounts,
    LetterState,
    OnFull,
    Reason,
)
from mapreduce_operator.core.dead_letters import DeadLetters
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import RunRef, Stage, StorageKeys, item_key
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.queue_report import GROUPS, NEWEST, NODES, queue_manifest, queue_status
from mapreduce_operator.core.workloads import Dispatch
from tests.unit.core.kstatus import kstatus

NOW: Final = 1_800_000_000.0
RUN: Final = RunRef("team-a", "words", "run-1")
DEAD: Final = Item(ItemState.DEAD_LETTERED, attempts=3, reason=Reason.ERROR, cause=Cause.ATTEMPTS_EXHAUSTED)
FAILED: Final = Outcome(
    Stage.MAP, Dispatch("key", 3), "uid", Verdict.FAILED, Reason.ERROR, "boom 1", 1, node="node-1", ended_at=NOW
)


def letters(number: int, **outcome: Any) -> DeadLetters:
    found = DeadLetters()
    for position in range(number):
        found.add(position, DEAD, replace(FAILED, ended_at=NOW + position, **outcome))
    return found


def told(found: DeadLetters, **more: Any) -> DeadLetterQueueStatus:
    given: dict[str, Any] = {
        "run": RUN,
        "id_of": "item-{}".format,
        "storage_url": "s3://bucket/path/",
        "generation": 4,
        "reprocessing": 0,
        "full": None,
        "mistake": "",
        "before": (),
        "now": NOW,
    }
    return queue_status(found, **given | more)


def conditions(status: DeadLetterQueueStatus) -> dict[str, tuple[str, str, str]]:
    return {one.type: (one.status, one.reason, one.message) for one in status.conditions}


# --------------------------------------------------------------------------------------------------------------- object


def test_a_new_queue_is_as_its_job_wants_it_to_begin_and_belongs_to_nobody() -> None:
    body = queue_manifest(RUN, "words", DeadLetterPolicy(capacity=5, on_full=OnFull.ARCHIVE))

    assert "ownerReferences" not in body["metadata"], "it may outlive its job"
    assert body["metadata"]["finalizers"]
    body["metadata"] |= {"uid": "u", "generation": 1}
    queue = DeadLetterQueue.model_validate(body)
    assert (queue.metadata.namespace, queue.metadata.name) == ("team-a", "words")
    assert (queue.spec.job_ref.name, queue.spec.job_ref.uid) == ("words", "run-1")
    assert (queue.spec.capacity, queue.spec.on_full, queue.spec.eligibility) == (5, OnFull.ARCHIVE, ())


# ------------------------------------------------------------------------------------------------------------- contents


def test_the_counts_of_all_states_sum_to_the_total() -> None:
    found = letters(8)
    for position, state in enumerate(
        [LetterState.CLAIMED, LetterState.CLAIMED, LetterState.CLAIMED, LetterState.RESOLVED, LetterState.ARCHIVED]
    ):
        found.turn(position, state)

    counts = told(found, reprocessing=2).letters

    assert counts == LetterCounts(total=8, open=3, claimed=1, reprocessing=2, resolved=1, archived=1)


@pytest.mark.parametrize(("running", "claimed", "reprocessing"), [(0, 2, 0), (1, 1, 1), (2, 0, 2), (5, 0, 2)])
def test_what_runs_is_a_part_of_what_is_claimed(running: int, claimed: int, reprocessing: int) -> None:
    found = letters(2)
    for position in range(2):
        found.turn(position, LetterState.CLAIMED)

    counts = told(found, reprocessing=running).letters

    assert counts == LetterCounts(total=2, claimed=claimed, reprocessing=reprocessing)


def test_a_letter_is_told_so_that_a_person_finds_its_whole_history() -> None:
    written = told(letters(1)).to_kubernetes()

    (newest,) = written["newest"]
    (group,) = written["groups"]
    body = StorageKeys(RUN).letter(item_key("run-1", Stage.MAP, "item-0"))
    assert newest == {
        "itemId": "item-0",
        "state": "Open",
        "cause": "AttemptsExhausted",
        "reason": "Error",
        "signature": group["signatureId"],
        "attempts": 3,
        "lastTime": "2027-01-15T08:00:00Z",
        "message": "boom 1",
        "body": f"s3://bucket/path/{body}",
    }
    assert (group["count"], group["reason"], group["samples"]) == (1, "Error", ["item-0"])
    assert (group["firstTime"], group["lastTime"]) == ("2027-01-15T08:00:00Z", "2027-01-15T08:00:00Z")
    assert written["storage"] == f"s3://bucket/path/{StorageKeys(RUN).letters}"
    assert (written["reasons"], written["causes"], written["nodes"]) == (
        {"Error": 1},
        {"AttemptsExhausted": 1},
        {"node-1": 1},
    )


def test_times_are_those_of_open_letters() -> None:
    found = letters(5)
    found.turn(0, LetterState.RESOLVED)
    found.turn(4, LetterState.CLAIMED)

    written = told(found).to_kubernetes()

    assert (written["oldestTime"], written["newestTime"]) == ("2027-01-15T08:00:01Z", "2027-01-15T08:00:03Z")
    assert written["groups"][0]["firstTime"] == "2027-01-15T08:00:01Z"


def test_letters_that_nobody_has_placed_on_a_node_name_none() -> None:
    assert told(letters(2, node="")).nodes == {}


def test_only_the_newest_and_the_largest_are_told_and_the_status_stays_small() -> None:
    found = DeadLetters()
    for position in range(3000):
        word = "".join("abcdefghij"[int(digit)] for digit in str(position % 300))
        found.add(
            position,
            DEAD,
            replace(FAILED, message=f"{word * 300} {'x' * 5000}", node=f"node-{position}", ended_at=NOW + position),
        )

    status = told(found, id_of=lambda _: "ü" * 4096, mistake="x" * 5000, full=("DeadLetterQueueFull", "x" * 5000))

    assert (len(status.newest), len(status.groups), len(status.nodes)) == (NEWEST, GROUPS, NODES)
    assert status.letters == LetterCounts(total=3000, open=3000)
    assert len(json.dumps(status.to_kubernetes(), ensure_ascii=False).encode()) < 64 * 1024
    assert DeadLetterQueueStatus.model_validate(status.to_kubernetes()) == status


# ----------------------------------------------------------------------------------------------------------- conditions


def test_a_queue_with_open_letters_says_how_many_and_what_to_do() -> None:
    status = told(letters(1234))

    assert conditions(status) == {
        "Ready": ("True", "Kept", "every letter and its history are in storage"),
        "Empty": ("False", "OpenLetters", "open letters: 1,234. Create a Redrive to give them another run"),
        "Full": ("False", "RoomLeft", "the queue takes more letters"),
    }
    assert kstatus(status.to_kubernetes(), 4) == "Current"


def test_a_queue_is_empty_when_no_letter_is_open_whatever_else_is_in_it() -> None:
    found = letters(1)
    found.turn(0, LetterState.RESOLVED)

    assert conditions(told(found))["Empty"] == ("True", "NoOpenLetters", "no letter is open")


def test_a_full_queue_says_so_and_is_ready_all_the_same() -> None:
    status = told(letters(1), full=("DeadLetterQueueFull", "it holds 1 open letter"))

    assert conditions(status)["Full"] == ("True", "DeadLetterQueueFull", "it holds 1 open letter")
    assert kstatus(status.to_kubernetes(), 4) == "Current"


def test_a_rule_that_is_wrong_waits_for_a_person() -> None:
    status = told(letters(1), mistake="spec.eligibility[0].filter: no")

    assert conditions(status)["Ready"] == ("False", "InvalidEligibility", "spec.eligibility[0].filter: no")
    assert conditions(status)["Stalled"][0] == "True"
    assert kstatus(status.to_kubernetes(), 4) == "Failed"


def test_a_rule_that_was_corrected_leaves_nothing_behind() -> None:
    before = told(letters(1), mistake="no").conditions

    status = told(letters(1), before=before, now=NOW + 5)

    assert "Stalled" not in conditions(status)
    assert kstatus(status.to_kubernetes(), 4) == "Current"


def test_a_condition_that_stays_keeps_its_time() -> None:
    before = told(letters(1)).conditions

    later = {
        one.type: one.last_transition_time.timestamp()
        for one in told(letters(2), before=before, now=NOW + 5).conditions
    }

    assert later == {"Ready": NOW, "Empty": NOW, "Full": NOW}
