"""What is read from the labels of a Job or pod, and when one has ended."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.core.names import LABEL_DISPATCH, LABEL_ITEM, LABEL_REVISION, LABEL_RUN, LABEL_STAGE, Stage
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen

LABELS = {
    LABEL_RUN: "run-1",
    LABEL_STAGE: "map",
    LABEL_ITEM: "abcdefghij",
    LABEL_DISPATCH: "12",
    LABEL_REVISION: "5f1c",
}
CARRIED = Carried("run-1", Stage.MAP, (Dispatch("abcdefghij", 12),), "5f1c")
POD = PodSeen("default", "pod", "pod-1", "job", "job-1", CARRIED, phase="Running")
JOB = JobSeen("default", "job", "job-1", "run-1", CARRIED)


def test_labels_say_what_is_carried() -> None:
    assert Carried.from_labels(LABELS) == CARRIED


def test_labels_of_others_are_no_hindrance() -> None:
    assert Carried.from_labels(LABELS | {"team": "a"}) == CARRIED


@pytest.mark.parametrize("missing", LABELS)
def test_without_all_of_our_labels_it_is_not_ours(missing: str) -> None:
    assert Carried.from_labels({name: value for name, value in LABELS.items() if name != missing}) is None


@pytest.mark.parametrize(("name", "value"), [(LABEL_STAGE, "merge"), (LABEL_DISPATCH, "two"), (LABEL_DISPATCH, "")])
def test_a_label_that_somebody_edited_makes_it_not_ours(name: str, value: str) -> None:
    assert Carried.from_labels(LABELS | {name: value}) is None


@given(st.dictionaries(st.sampled_from(list(LABELS)), st.text(max_size=5)))
def test_no_labels_are_too_odd_to_be_read(labels: dict[str, str]) -> None:
    carried = Carried.from_labels(labels)

    assert carried is None or carried.run_uid == labels[LABEL_RUN]


@pytest.mark.parametrize(
    ("phase", "ended"),
    [("Pending", False), ("Running", False), ("Unknown", False), ("", False), ("Succeeded", True), ("Failed", True)],
)
def test_a_pod_has_ended_when_its_phase_says_so(phase: str, ended: bool) -> None:
    assert replace(POD, phase=phase).ended is ended


def test_a_pod_that_is_being_deleted_has_not_ended_yet() -> None:
    assert not replace(POD, deleting=True, agent=ContainerEnd(143)).ended


def test_a_pod_that_is_gone_has_ended_whatever_it_did() -> None:
    assert POD.as_gone() == replace(POD, gone=True)
    assert POD.as_gone().ended


@pytest.mark.parametrize(
    ("job", "finished"),
    [
        (JOB, False),
        (replace(JOB, deleting=True), False),
        (replace(JOB, complete=True), True),
        (replace(JOB, failed_reason="BackoffLimitExceeded"), True),
        (replace(JOB, failed_reason=""), True),
    ],
)
def test_a_job_is_finished_when_it_completed_or_failed(job: JobSeen, finished: bool) -> None:
    assert job.finished is finished


def test_what_has_not_changed_is_equal() -> None:
    assert replace(POD, agent=ContainerEnd(1, message="a")) == replace(POD, agent=ContainerEnd(1, message="a"))
    assert replace(POD, agent=ContainerEnd(1, message="a")) != replace(POD, agent=ContainerEnd(1, message="b"))
