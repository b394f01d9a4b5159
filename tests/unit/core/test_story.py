import pytest

from mapreduce_operator.api import Reason
from mapreduce_operator.core.effects import Announce
from mapreduce_operator.core.failures import MEANINGS
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome
from mapreduce_operator.core.story import Story, with_id
from mapreduce_operator.core.workloads import Dispatch


def first(reason: Reason, stage: Stage = Stage.MAP, message: str = "") -> Announce:
    outcome = Outcome(
        stage, Dispatch("key", 1), "uid", MEANINGS[reason].verdict, reason, message=message, job="demo-b-d1"
    )
    (announced,) = Story(set()).failed(outcome, 1)
    return announced


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Reason.ERROR, "Warning"),
        (Reason.EVICTED, "Normal"),
        (Reason.SUSPENDED, "Normal"),
        (Reason.IMAGE_UNAVAILABLE, "Warning"),
        (Reason.CONFIGURATION_ERROR, "Warning"),
    ],
)
def test_what_people_have_to_mend_is_a_warning(reason: Reason, kind: str) -> None:
    assert first(reason).kind == kind


def test_an_item_is_told_of_by_its_id_and_in_one_line() -> None:
    told = with_id(first(Reason.ERROR, message="Traceback:\n  boom\n"), ["a", "x" * 100])
    assert told.message.startswith(f"item '…{'x' * 59}' (Job demo-b-d1): Traceback: boom - ")
    assert with_id(told, []) == told


def test_a_reduce_has_no_id() -> None:
    told = with_id(first(Reason.ERROR, Stage.REDUCE), [])
    assert told.message.startswith("reduce (Job demo-b-d1): ")
