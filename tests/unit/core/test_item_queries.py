"""What is told of an item says how it stands by all that is known, under names that do not change."""

from typing import Any

import msgspec
import pytest

from mapreduce_operator.api import Cause, ItemState, Reason
from mapreduce_operator.core.expressions import ExpressionError
from mapreduce_operator.core.item_queries import ItemFilter, ItemStatus
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Dispatch

T0 = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""
NEVER_RUN = ItemStatus.of("x", 3, Item(), None, runs=False)


ENDED = Outcome(
    Stage.MAP,
    Dispatch("key", 2),
    "job-uid",
    Verdict.FAILED,
    Reason.OOM_KILLED,
    "no memory",
    exit_code=137,
    node="node-1",
    started_at=T0,
    ended_at=T0 + 1.5,
)


def told(item: Item, *, runs: bool = False) -> Any:
    return msgspec.to_builtins(ItemStatus.of("x", 3, item, ENDED, runs=runs))


def test_an_item_that_waits_says_what_happened_and_when_it_goes_on() -> None:
    item = Item(ItemState.RETRY_WAIT, attempts=2, not_before=T0 + 60, reason=Reason.OOM_KILLED, redrive=4)

    assert told(item) == {
        "id": "x",
        "position": 3,
        "state": "RetryWait",
        "cause": None,
        "reason": "OOMKilled",
        "exitCode": 137,
        "message": "no memory",
        "node": "node-1",
        "attempts": 2,
        "interruptions": 0,
        "redrive": 4,
        "seconds": 1.5,
        "lastAttempt": "2026-01-01T00:00:01.500000Z",
        "nextAttempt": "2026-01-01T00:01:00Z",
    }


def test_one_whose_agent_has_just_been_started_waits_for_nothing() -> None:
    item = Item(ItemState.RETRY_WAIT, attempts=2, not_before=T0 + 60, reason=Reason.OOM_KILLED)
    assert (told(item, runs=True)["state"], told(item, runs=True)["nextAttempt"]) == ("Running", None)


def test_one_that_never_ran_has_all_fields_too() -> None:
    never = msgspec.to_builtins(NEVER_RUN)

    assert never.keys() == told(Item()).keys()
    assert (never["state"], never["lastAttempt"], never["seconds"], never["node"]) == ("Pending", None, None, "")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('status.state == "Pending" && status.position == 3 && status.id == "x"', True),
        ("status.lastAttempt == null && status.exitCode == null", True),
        ("item.size > 4 && now > timestamp('2026-01-01T00:00:00Z')", True),
        ("item.size > 5", False),
    ],
)
def test_filters_ask_for_the_fields_that_are_shown(text: str, meant: bool) -> None:
    assert ItemFilter(text).matches(NEVER_RUN, b'{"size":5}', T0 + 1) == meant


def test_only_filters_that_ask_for_the_item_need_it() -> None:
    assert ItemFilter("item.size > 5").asks_item
    assert not ItemFilter("status.attempts > 5").asks_item


@pytest.mark.parametrize("text", ["status.tries > 1", "letter.id == 'x'", "status.exit_code == 1", "cause == 'x'"])
def test_what_there_is_not_is_found_before_an_item_is_seen(text: str) -> None:
    with pytest.raises(ExpressionError, match="there is no"):
        ItemFilter(text)


def test_an_item_without_an_answer_is_named() -> None:
    with pytest.raises(ExpressionError, match=r"^item 'x': .*has\(item.size\)"):
        ItemFilter("item.size > 5").matches(NEVER_RUN, b"{}", T0)


def test_a_cause_is_told_of_what_was_given_up() -> None:
    assert told(Item(ItemState.DEAD_LETTERED, attempts=1, cause=Cause.NOT_RETRYABLE))["cause"] == "NotRetryable"
