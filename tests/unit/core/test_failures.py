"""What Kubernetes shows of a dispatch that ended, and what is concluded from it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import Reason, Retry
from mapreduce_operator.core.contract import RESULT_FILE, ResultRule
from mapreduce_operator.core.expressions import Expression
from mapreduce_operator.core.failures import (
    MEANINGS,
    MESSAGE_CHARACTERS,
    REST_SECONDS,
    TEMPLATE_FAULTS,
    Action,
    Meaning,
    Wait,
    outcome_of_job,
    outcome_of_pod,
    success_of_pod,
    template_fault,
)
from mapreduce_operator.core.names import Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, JobSeen, PodSeen
from tests.unit.core import strategies

NOW = 1_800_000_000.0
OWED = ResultRule(required=True)
NOT_OWED = ResultRule(required=False)
CARRIED = Carried("run-1", Stage.MAP, (Dispatch("abcdefghij", 2),), "5f1c")
POD = PodSeen(
    "default", "demo-abcdefghij-d2-x7k2p", "pod-1", "demo-abcdefghij-d2", "job-1", CARRIED, phase="Failed", started=True
)

DONE = ContainerEnd(0, reason="Completed", message='{"ok": true}')
SILENT = ContainerEnd(0, reason="Completed")
GARBLED = ContainerEnd(0, reason="Completed", message="done!")
CRASHED = ContainerEnd(1, reason="Error", message="Traceback: boom")
KILLED = ContainerEnd(137, signal=9, reason="Error")
TERMINATED = ContainerEnd(143, signal=15, reason="Error")
OUT_OF_MEMORY = ContainerEnd(137, reason="OOMKilled")

UNKNOWN = ContainerEnd(137, reason="ContainerStatusUnknown", message="The container could not be located")
NO_SUCH_COMMAND = ContainerEnd(128, reason="StartError", message='exec: "/no/such/program"')
SAID = '{"error": {"message": "no such file", "retryable": false}}'

API_EVICTION = "EvictionByEvictionAPI"
BY_KUBELET = "TerminationByKubelet"
OVER_POD = "Pod ephemeral local storage usage exceeds the total limit of containers 20Mi. "
OVER_CONTAINER = 'Container agent exceeded its local ephemeral storage limit "20Mi". '
OVER_VOLUME = 'Usage of EmptyDir volume "tmp" exceeds the limit "20Mi". '
LOW_ON_DISK = (
    "The node was low on resource: ephemeral-storage. Threshold quantity: 1, available: 0. Container agent was using "
    "20Mi, request is 0, has larger consumption of ephemeral-storage. "
)

NEVER = replace(POD, started=False)
"""A pod whose agent never ran."""
LATE = replace(NEVER, reason="DeadlineExceeded", message="Pod was active too long")
INIT_FAILED = replace(
    NEVER,
    failed_init=ContainerEnd(7, reason="Error", message="cannot prepare\n", started_at=3.0, finished_at=5.0),
    failed_init_name="prepare",
    waiting="PodInitializing",
)
INIT_UNKNOWN = replace(INIT_FAILED, failed_init=UNKNOWN)
NO_IMAGE: dict[str, Any] = {"waiting": "ImagePullBackOff", "waiting_message": 'Back-off pulling image "x"'}
NO_SECRET: dict[str, Any] = {"waiting": "CreateContainerConfigError", "waiting_message": 'secret "x" not found'}


@pytest.mark.parametrize(
    ("pod", "verdict", "reason"),
    [
        # The agent ended it.
        (replace(POD, phase="Succeeded", agent=DONE), Verdict.SUCCEEDED, None),
        (replace(POD, phase="Succeeded", agent=SILENT), Verdict.FAILED, Reason.RESULT_MISSING),
        (replace(POD, phase="Succeeded", agent=GARBLED), Verdict.FAILED, Reason.RESULT_INVALID),
        (replace(POD, agent=CRASHED), Verdict.FAILED, Reason.ERROR),
        (replace(POD, agent=OUT_OF_MEMORY), Verdict.FAILED, Reason.OOM_KILLED),
        (replace(POD, agent=replace(OUT_OF_MEMORY, message=SAID)), Verdict.FAILED, Reason.OOM_KILLED),
        (replace(POD, agent=ContainerEnd(139, reason="Error")), Verdict.FAILED, Reason.ERROR),
        (replace(POD, agent=ContainerEnd(139, signal=11, reason="Error")), Verdict.FAILED, Reason.ERROR),
        # It was killed, and nobody says why; an agent that gives such an exit code of its own says so.
        (replace(POD, agent=KILLED), Verdict.FAILED, Reason.KILLED),
        (replace(POD, agent=TERMINATED), Verdict.FAILED, Reason.KILLED),
        (replace(POD, agent=ContainerEnd(1, signal=9)), Verdict.FAILED, Reason.KILLED),
        (replace(POD, agent=replace(KILLED, message=SAID)), Verdict.FAILED, Reason.ERROR),
        # Time ended it, whatever the agent did in its last moment.
        (replace(POD, reason="DeadlineExceeded"), Verdict.FAILED, Reason.DEADLINE_EXCEEDED),
        (replace(POD, reason="DeadlineExceeded", agent=TERMINATED), Verdict.FAILED, Reason.DEADLINE_EXCEEDED),
        (replace(POD, reason="DeadlineExceeded", agent=DONE), Verdict.FAILED, Reason.DEADLINE_EXCEEDED),
        (replace(POD, reason="DeadlineExceeded", agent=SILENT), Verdict.FAILED, Reason.DEADLINE_EXCEEDED),
        (
            replace(POD, reason="DeadlineExceeded", disruption=API_EVICTION, agent=TERMINATED),
            Verdict.FAILED,
            Reason.DEADLINE_EXCEEDED,
        ),
        # An eviction or a preemption ended it.
        (replace(POD, disruption=API_EVICTION, agent=TERMINATED), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, disruption=API_EVICTION, agent=CRASHED), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, disruption=API_EVICTION), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, disruption="PreemptionByScheduler", agent=KILLED), Verdict.INTERRUPTED, Reason.PREEMPTED),
        (replace(POD, disruption="DeletionByTaintManager", deleting=True), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Evicted"), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Evicted", agent=KILLED), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Evicted", message=LOW_ON_DISK, agent=KILLED), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Preempting"), Verdict.INTERRUPTED, Reason.PREEMPTED),
        (replace(POD, reason="Preempting", disruption=BY_KUBELET), Verdict.INTERRUPTED, Reason.PREEMPTED),
        # What the agent itself has written to its disk is its own doing, whoever else was about to evict it.
        (replace(POD, reason="Evicted", message=OVER_POD, agent=KILLED), Verdict.FAILED, Reason.STORAGE_EXCEEDED),
        (replace(POD, reason="Evicted", message=OVER_CONTAINER), Verdict.FAILED, Reason.STORAGE_EXCEEDED),
        (replace(POD, reason="Evicted", message=OVER_VOLUME, agent=SILENT), Verdict.FAILED, Reason.STORAGE_EXCEEDED),
        (
            replace(POD, reason="Evicted", message=OVER_POD, disruption=API_EVICTION, deleting=True),
            Verdict.FAILED,
            Reason.STORAGE_EXCEEDED,
        ),
        (replace(POD, reason="Evicted", message=OVER_POD, agent=DONE), Verdict.SUCCEEDED, None),
        # It was evicted, trapped the signal and exited with 0: only a result tells that it was done before.
        (replace(POD, disruption=API_EVICTION, agent=SILENT), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, disruption=API_EVICTION, agent=GARBLED), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, disruption=API_EVICTION, agent=DONE), Verdict.SUCCEEDED, None),
        (replace(POD, reason="Evicted", agent=SILENT), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Terminated", agent=SILENT), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="NodeShutdown", agent=GARBLED), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="NodeShutdown", agent=DONE), Verdict.SUCCEEDED, None),
        # The node ended or refused it.
        (replace(POD, reason="NodeShutdown", agent=KILLED), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="Terminated", agent=TERMINATED), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="Terminated", disruption=BY_KUBELET), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, disruption="DeletionByPodGC", deleting=True), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, agent=UNKNOWN), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="NodeLost"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        # It was evicted first, and at last removed without the word of its kubelet.
        (
            replace(POD, reason="NodeLost", disruption="DeletionByTaintManager", deleting=True),
            Verdict.INTERRUPTED,
            Reason.NODE_LOST,
        ),
        (replace(POD, reason="NodeAffinity"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="UnexpectedAdmissionError"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="OutOfcpu"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="OutOfmemory"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, reason="Unheard"), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD), Verdict.INTERRUPTED, Reason.NODE_LOST),
        # Somebody deleted it.
        (replace(POD, deleting=True, agent=TERMINATED), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, deleting=True, agent=SILENT), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, deleting=True, agent=GARBLED), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, deleting=True, agent=DONE), Verdict.SUCCEEDED, None),
        (replace(POD, phase="Running", gone=True), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, phase="Pending", gone=True), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, phase="Running", gone=True, deleting=True), Verdict.INTERRUPTED, Reason.DELETED),
        (replace(POD, phase="Succeeded", gone=True, agent=DONE), Verdict.SUCCEEDED, None),
    ],
)
def test_what_is_seen_of_a_pod_gives_the_verdict_and_the_reason(
    pod: PodSeen, verdict: Verdict, reason: Reason | None
) -> None:
    outcome = outcome_of_pod(pod, OWED, NOW)

    assert (outcome.verdict, outcome.reason) == (verdict, reason)


@pytest.mark.parametrize(
    ("pod", "reason", "message"),
    [
        # The template asks for what is not there.
        (
            replace(NEVER, agent=NO_SUCH_COMMAND),
            Reason.CONFIGURATION_ERROR,
            'StartError: exec: "/no/such/program"',
        ),
        (replace(NEVER, agent=NO_SUCH_COMMAND, deleting=True), Reason.CONFIGURATION_ERROR, None),
        (replace(NEVER, agent=replace(NO_SUCH_COMMAND, reason="ContainerCannotRun")), Reason.CONFIGURATION_ERROR, None),
        (replace(INIT_FAILED, failed_init=NO_SUCH_COMMAND), Reason.CONFIGURATION_ERROR, None),
        (replace(LATE, **NO_IMAGE), Reason.IMAGE_UNAVAILABLE, 'ImagePullBackOff: Back-off pulling image "x"'),
        (replace(LATE, **NO_SECRET), Reason.CONFIGURATION_ERROR, 'CreateContainerConfigError: secret "x" not found'),
        (replace(NEVER, phase="Pending", gone=True, **NO_IMAGE), Reason.IMAGE_UNAVAILABLE, None),
        (replace(NEVER, deleting=True, **NO_SECRET), Reason.CONFIGURATION_ERROR, None),
        (replace(NEVER, reason="SysctlForbidden", message="forbidden"), Reason.CONFIGURATION_ERROR, None),
        (replace(NEVER, reason="AppArmor"), Reason.CONFIGURATION_ERROR, None),
        # Time ran out before the agent could begin, and nobody says why.
        (
            LATE,
            Reason.NOT_STARTED,
            "the agent's container never ran: Pod was active too long",
        ),
        (
            replace(LATE, waiting="ContainerCreating"),
            Reason.NOT_STARTED,
            "the agent's container never ran: ContainerCreating",
        ),
        (replace(LATE, agent=UNKNOWN), Reason.NOT_STARTED, None),
        (replace(INIT_UNKNOWN, reason="DeadlineExceeded"), Reason.NOT_STARTED, None),
        # An init container did not let it begin.
        (INIT_FAILED, Reason.INIT_FAILED, "init container prepare exited with code 7: cannot prepare"),
        (
            replace(INIT_FAILED, failed_init=OUT_OF_MEMORY),
            Reason.INIT_FAILED,
            "init container prepare exited with code 137 (OOMKilled)",
        ),
        (
            replace(INIT_FAILED, reason="DeadlineExceeded"),
            Reason.DEADLINE_EXCEEDED,
            "init container prepare ran until the pod's deadline",
        ),
        (replace(INIT_FAILED, deleting=True), Reason.DELETED, "the pod was deleted before the agent began"),
        (replace(INIT_FAILED, disruption=API_EVICTION, deleting=True), Reason.EVICTED, None),
        (replace(INIT_UNKNOWN), Reason.NODE_LOST, None),
        # Somebody ended it before.
        (replace(NEVER, phase="Pending", gone=True), Reason.DELETED, "the pod was deleted before the agent began"),
        (replace(NEVER, agent=UNKNOWN, deleting=True), Reason.DELETED, None),
        (replace(NEVER, disruption="PreemptionByScheduler", gone=True), Reason.PREEMPTED, None),
        (replace(NEVER, disruption=API_EVICTION, **NO_IMAGE), Reason.EVICTED, None),
        (replace(NEVER, reason="OutOfmemory", message="no room"), Reason.NODE_LOST, "OutOfmemory: no room"),
        (
            replace(NEVER, reason="Unheard", message="of"),
            Reason.NODE_LOST,
            "the agent's container never ran: Unheard of",
        ),
        (NEVER, Reason.NODE_LOST, "the agent's container never ran"),
    ],
)
def test_what_is_seen_of_a_pod_whose_agent_never_ran_gives_the_reason_and_the_message(
    pod: PodSeen, reason: Reason, message: str | None
) -> None:
    outcome = outcome_of_pod(pod, OWED, NOW)

    assert (outcome.verdict, outcome.reason) == (MEANINGS[reason].verdict, reason)
    assert message is None or outcome.message == message


@pytest.mark.parametrize(
    ("waiting", "fault"),
    [
        ("ErrImagePull", Reason.IMAGE_UNAVAILABLE),
        ("ImagePullBackOff", Reason.IMAGE_UNAVAILABLE),
        ("InvalidImageName", Reason.IMAGE_UNAVAILABLE),
        ("ErrImageNeverPull", Reason.IMAGE_UNAVAILABLE),
        ("RegistryUnavailable", Reason.IMAGE_UNAVAILABLE),
        ("CreateContainerConfigError", Reason.CONFIGURATION_ERROR),
        ("CreateContainerError", Reason.CONFIGURATION_ERROR),
        ("RunContainerError", Reason.CONFIGURATION_ERROR),
        ("ContainerCreating", None),
        ("PodInitializing", None),
        ("Unheard", None),
        ("", None),
    ],
)
def test_a_template_is_blamed_only_for_what_kubelets_say_of_one(waiting: str, fault: Reason | None) -> None:
    assert template_fault(waiting) is fault


def test_an_init_container_that_failed_is_told_with_its_exit_code_and_its_times() -> None:
    outcome = outcome_of_pod(INIT_FAILED, OWED, NOW)

    assert (outcome.exit_code, outcome.started_at, outcome.ended_at) == (7, 3.0, 5.0)


def test_an_exit_code_that_no_program_gave_is_none() -> None:
    assert outcome_of_pod(replace(NEVER, agent=NO_SUCH_COMMAND), OWED, NOW).exit_code is None
    assert outcome_of_pod(replace(NEVER, agent=UNKNOWN, deleting=True), OWED, NOW).exit_code is None


@pytest.mark.parametrize(
    ("pod", "verdict", "reason"),
    [
        (replace(POD, phase="Succeeded", agent=SILENT), Verdict.SUCCEEDED, None),
        (replace(POD, phase="Succeeded", agent=GARBLED), Verdict.FAILED, Reason.RESULT_INVALID),
        (replace(POD, disruption=API_EVICTION, agent=SILENT), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Evicted", agent=SILENT), Verdict.INTERRUPTED, Reason.EVICTED),
        (replace(POD, reason="Terminated", agent=SILENT), Verdict.INTERRUPTED, Reason.NODE_LOST),
        (replace(POD, deleting=True, agent=SILENT), Verdict.INTERRUPTED, Reason.DELETED),
    ],
)
def test_where_no_result_is_owed_exit_code_0_is_believed_only_of_an_agent_that_nobody_disturbed(
    pod: PodSeen, verdict: Verdict, reason: Reason | None
) -> None:
    outcome = outcome_of_pod(pod, NOT_OWED, NOW)

    assert (outcome.verdict, outcome.reason) == (verdict, reason)


def test_a_success_has_its_result_on_one_line_and_all_that_is_known_of_it() -> None:
    pod = replace(
        POD,
        phase="Succeeded",
        node="node-3",
        agent=ContainerEnd(0, message='{\n "ok": true\n}\n', started_at=NOW - 90, finished_at=NOW - 5),
    )

    assert outcome_of_pod(pod, OWED, NOW) == Outcome(
        Stage.MAP,
        Dispatch("abcdefghij", 2),
        "job-1",
        Verdict.SUCCEEDED,
        exit_code=0,
        result=b'{"ok":true}',
        revision="5f1c",
        job="demo-abcdefghij-d2",
        pod="demo-abcdefghij-d2-x7k2p",
        node="node-3",
        started_at=NOW - 90,
        ended_at=NOW - 5,
    )


def test_a_success_without_a_result_where_none_is_owed_has_the_result_null() -> None:
    assert outcome_of_pod(replace(POD, agent=SILENT), NOT_OWED, NOW).result == b"null"


def test_a_failure_has_the_exit_code_and_the_last_words_of_the_agent() -> None:
    outcome = outcome_of_pod(replace(POD, agent=ContainerEnd(3, message="no such file\n")), OWED, NOW)

    assert (outcome.exit_code, outcome.message, outcome.retryable) == (3, "no such file", True)


def test_a_failure_without_a_word_is_told_by_its_exit_code() -> None:
    outcome = outcome_of_pod(replace(POD, agent=ContainerEnd(3)), OWED, NOW)

    assert outcome.message == "the agent exited with code 3"


def test_a_failing_agent_has_its_say() -> None:
    said = '{"error": {"reason": "NotFound", "message": "no such file", "retryable": false}}'

    outcome = outcome_of_pod(replace(POD, agent=ContainerEnd(3, message=said)), OWED, NOW)

    assert (outcome.message, outcome.retryable) == ("NotFound: no such file", False)


def test_a_result_that_was_written_before_a_crash_is_no_result() -> None:
    outcome = outcome_of_pod(replace(POD, agent=ContainerEnd(1, message='{"ok": true}')), OWED, NOW)

    assert (outcome.verdict, outcome.result) == (Verdict.FAILED, None)


def test_a_result_that_breaks_the_rule_is_a_failure_that_says_so() -> None:
    rule = ResultRule(expression=Expression("result.ok == false"))

    outcome = outcome_of_pod(replace(POD, agent=DONE), rule, NOW)

    assert (outcome.reason, outcome.message) == (
        Reason.RESULT_INVALID,
        "result.rule 'result.ok == false' gave False, not true",
    )


def test_a_missing_result_is_told_with_the_file_that_it_belongs_into() -> None:
    outcome = outcome_of_pod(replace(POD, agent=SILENT), OWED, NOW)

    assert RESULT_FILE in outcome.message
    assert outcome.exit_code == 0


@pytest.mark.parametrize(
    ("pod", "message"),
    [
        (replace(POD, disruption=API_EVICTION, message="drained"), "EvictionByEvictionAPI: drained"),
        (replace(POD, reason="Evicted", message="The node was low on memory"), "Evicted: The node was low on memory"),
        (
            replace(POD, reason="OutOfcpu", message="Node didn't have enough cpu"),
            "OutOfcpu: Node didn't have enough cpu",
        ),
        (replace(POD, reason="DeadlineExceeded", message="active too long"), "active too long"),
        (replace(POD, phase="Running", gone=True), "the pod was deleted while the agent was running"),
    ],
)
def test_the_message_is_that_of_whoever_ended_it(pod: PodSeen, message: str) -> None:
    assert outcome_of_pod(pod, OWED, NOW).message == message


def test_an_end_whose_time_nobody_wrote_down_is_now() -> None:
    gone = outcome_of_pod(replace(POD, phase="Running", gone=True), OWED, NOW)

    assert (gone.started_at, gone.ended_at) == (0.0, NOW)
    assert outcome_of_pod(replace(POD, agent=ContainerEnd(1)), OWED, NOW).ended_at == NOW


@pytest.mark.parametrize("size", [MESSAGE_CHARACTERS, MESSAGE_CHARACTERS + 1, 4096])
def test_of_a_long_message_the_end_is_kept(size: int) -> None:
    words = "x" * (size - 4) + " end"

    message = outcome_of_pod(replace(POD, agent=ContainerEnd(1, message=words)), OWED, NOW).message

    assert len(message) == MESSAGE_CHARACTERS
    assert message.endswith("x end")
    assert message.startswith("…") == (size > MESSAGE_CHARACTERS)


pods_that_ended = st.builds(
    replace,
    strategies.pods_that_ended,
    reason=st.sampled_from(
        ["", "DeadlineExceeded", "Evicted", "Preempting", "Terminated", "NodeLost", "OutOfcpu", "AppArmor", "Novel"]
    ),
    message=st.sampled_from([OVER_POD, OVER_CONTAINER, OVER_VOLUME, LOW_ON_DISK]) | st.text(),
    disruption=st.sampled_from(["", API_EVICTION, BY_KUBELET, "PreemptionByScheduler", "DeletionByPodGC", "Novel"]),
    waiting=st.sampled_from(["", "PodInitializing", "ImagePullBackOff", "CreateContainerConfigError", "Novel"]),
    waiting_message=st.text(),
    preparing=st.booleans(),
    unschedulable=st.text(),
    failed_init=st.none() | st.sampled_from([UNKNOWN, NO_SUCH_COMMAND, OUT_OF_MEMORY]) | strategies.container_ends,
    failed_init_name=st.text(),
    agent=st.none() | st.sampled_from([UNKNOWN, NO_SUCH_COMMAND, OUT_OF_MEMORY, KILLED]) | strategies.container_ends,
)
"""Every mixture of what a pod's status may say at its end, likely or not."""


@given(pods_that_ended)
def test_whatever_is_seen_there_is_an_outcome_whose_verdict_is_that_of_its_reason(pod: PodSeen) -> None:
    outcome = outcome_of_pod(pod, OWED, NOW)

    assert outcome.dispatch == pod.carried.dispatches[0]
    assert outcome.job_uid == pod.job_uid
    assert len(outcome.message) <= MESSAGE_CHARACTERS
    assert (outcome.result is not None) == (outcome.verdict is Verdict.SUCCEEDED) == (outcome.reason is None)
    assert outcome.reason is None or MEANINGS[outcome.reason].verdict is outcome.verdict


@given(pods_that_ended)
def test_nothing_but_exit_code_0_and_a_result_is_a_success_where_a_result_is_owed(pod: PodSeen) -> None:
    outcome = outcome_of_pod(pod, OWED, NOW)

    if outcome.verdict is Verdict.SUCCEEDED:
        assert pod.agent is not None
        assert pod.agent.exit_code == 0
        assert pod.agent.message.strip()


@given(pods_that_ended)
def test_the_same_pod_gives_the_same_outcome(pod: PodSeen) -> None:
    assert outcome_of_pod(pod, OWED, NOW) == outcome_of_pod(pod, OWED, NOW)


# ----------------------------------------------------------------------------------------------------------------- Jobs

JOB = JobSeen("default", "demo-abcdefghij-d2", "job-1", "run-1", CARRIED)


@pytest.mark.parametrize(
    ("job", "verdict", "reason", "message"),
    [
        (JOB, Verdict.INTERRUPTED, Reason.DELETED, "the Job was deleted before its pod ended"),
        (replace(JOB, complete=True), Verdict.INTERRUPTED, Reason.DELETED, "the Job was deleted before its pod ended"),
        (
            replace(JOB, failed_reason="DeadlineExceeded", failed_message="too long"),
            Verdict.FAILED,
            Reason.DEADLINE_EXCEEDED,
            "too long",
        ),
        (
            replace(JOB, failed_reason="PodFailurePolicy", failed_message="pod matched rule"),
            Verdict.INTERRUPTED,
            Reason.EVICTED,
            "pod matched rule",
        ),
        (
            replace(JOB, failed_reason="BackoffLimitExceeded", failed_message="limit"),
            Verdict.INTERRUPTED,
            Reason.DELETED,
            "limit",
        ),
    ],
)
def test_a_job_whose_pod_nobody_saw_end_is_no_success_and_no_failure_of_the_agent(
    job: JobSeen, verdict: Verdict, reason: Reason, message: str
) -> None:
    outcome = outcome_of_job(job, CARRIED.dispatches[0], NOW)

    assert (outcome.verdict, outcome.reason, outcome.message) == (verdict, reason, message)
    assert MEANINGS[reason].verdict is verdict


def test_the_outcome_of_a_job_names_it() -> None:
    outcome = outcome_of_job(JOB, CARRIED.dispatches[0], NOW)

    assert (outcome.stage, outcome.dispatch) == (Stage.MAP, Dispatch("abcdefghij", 2))
    assert (outcome.job, outcome.job_uid, outcome.revision) == ("demo-abcdefghij-d2", "job-1", "5f1c")
    assert outcome.ended_at == NOW


# ------------------------------------------------------------------------------------------------------------- meanings


def test_every_reason_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Reason)


@pytest.mark.parametrize("meaning", MEANINGS.values(), ids=MEANINGS.keys())
def test_a_hint_is_a_sentence_for_the_person_who_reads_it(meaning: Meaning) -> None:
    assert meaning.hint.endswith(".")
    assert len(meaning.hint) > 40


def test_no_two_reasons_have_the_same_hint() -> None:
    assert len({meaning.hint for meaning in MEANINGS.values()}) == len(Reason)


# ------------------------------------------------------------------------------------ pods with more than one container


def ended_at(end: ContainerEnd, seconds: float) -> PodSeen:
    """A pod with a deadline of 60 s whose agent ended so many seconds after its start, and which goes on."""
    return replace(
        POD, phase="Running", deadline=NOW + 60, outlived=True, agent=replace(end, finished_at=NOW + seconds)
    )


def test_a_result_is_a_success_while_other_containers_go_on() -> None:
    outcome = success_of_pod(ended_at(DONE, 10), OWED, NOW + 99)

    assert outcome is not None
    assert (outcome.verdict, outcome.result, outcome.ended_at) == (Verdict.SUCCEEDED, b'{"ok":true}', NOW + 10)


@pytest.mark.parametrize(
    "pod",
    [
        replace(POD, phase="Running"),
        ended_at(CRASHED, 10),
        ended_at(SILENT, 10),
        ended_at(GARBLED, 10),
        ended_at(DONE, 60),
        replace(ended_at(DONE, 10), deadline=0.0),
    ],
    ids=["it runs", "it failed", "no result", "no JSON", "at the deadline", "a deadline that is not known"],
)
@pytest.mark.parametrize("rule", [OWED, NOT_OWED], ids=["owed", "not owed"])
def test_of_any_other_end_the_pod_has_to_tell_more(pod: PodSeen, rule: ResultRule) -> None:
    assert success_of_pod(pod, rule, NOW) is None


def test_a_result_that_breaks_the_rule_is_no_success_of_a_pod_that_goes_on() -> None:
    assert success_of_pod(ended_at(DONE, 10), ResultRule(expression=Expression("result.ok == false")), NOW) is None


@pytest.mark.parametrize(
    ("end", "reason", "exit_code", "retryable"),
    [
        (DONE, None, 0, True),
        (CRASHED, Reason.ERROR, 1, True),
        (replace(CRASHED, message=SAID), Reason.ERROR, 1, False),
        (OUT_OF_MEMORY, Reason.OOM_KILLED, 137, True),
        (SILENT, Reason.RESULT_MISSING, 0, True),
    ],
)
@pytest.mark.parametrize("gone", [False, True], ids=["there", "gone"])
def test_an_agent_that_ended_before_the_deadline_of_its_pod_is_judged_by_its_own_end(
    end: ContainerEnd, reason: Reason | None, exit_code: int, retryable: bool, gone: bool
) -> None:
    late = replace(ended_at(end, 59), phase="Failed", reason="DeadlineExceeded", outlived=False, gone=gone)
    outcome = outcome_of_pod(late, OWED, NOW)

    assert (outcome.reason, outcome.exit_code, outcome.retryable) == (reason, exit_code, retryable)
    assert outcome.verdict is (Verdict.FAILED if reason else Verdict.SUCCEEDED)


@pytest.mark.parametrize("end", [DONE, CRASHED, TERMINATED, SILENT])
def test_an_agent_that_ended_at_the_deadline_of_its_pod_was_ended_by_it(end: ContainerEnd) -> None:
    late = replace(ended_at(end, 60), phase="Failed", reason="DeadlineExceeded")

    assert outcome_of_pod(late, OWED, NOW).reason is Reason.DEADLINE_EXCEEDED


def test_a_pod_that_is_evicted_after_its_agent_left_a_result_is_a_success() -> None:
    evicted = replace(ended_at(DONE, 10), phase="Failed", reason="Evicted", disruption=BY_KUBELET)

    assert outcome_of_pod(evicted, OWED, NOW).verdict is Verdict.SUCCEEDED


@pytest.mark.parametrize("meaning", MEANINGS.values(), ids=MEANINGS.keys())
def test_what_counts_as_an_attempt_is_tried_again_after_a_backoff_and_nothing_else_is(meaning: Meaning) -> None:
    attempt = meaning.verdict is Verdict.FAILED

    assert meaning.verdict is not Verdict.SUCCEEDED
    assert (meaning.action is Action.RETRY) == (meaning.wait is Wait.BACKOFF) == attempt
    assert not (meaning.excused and attempt)


def test_what_is_not_held_against_an_item() -> None:
    assert {reason for reason, meaning in MEANINGS.items() if meaning.excused} == {
        Reason.SUSPENDED,
        Reason.IMAGE_UNAVAILABLE,
        Reason.CONFIGURATION_ERROR,
        Reason.NOT_STARTED,
    }


def test_an_item_that_is_not_bounded_by_a_count_never_runs_again_at_once() -> None:
    assert {meaning.wait for meaning in MEANINGS.values() if meaning.action is Action.PROBE} == {Wait.REST}
    assert f"{REST_SECONDS:g} s" == Wait.REST


def test_the_faults_of_a_template() -> None:
    assert {Reason.IMAGE_UNAVAILABLE, Reason.CONFIGURATION_ERROR, Reason.NOT_STARTED} == TEMPLATE_FAULTS


def test_the_spec_has_rules_for_what_counts_as_an_attempt_and_nothing_else() -> None:
    rules = Retry.model_json_schema()["$defs"]["RetryRule"]["properties"]["onReasons"]["items"]["enum"]

    assert set(rules) == {str(reason) for reason, meaning in MEANINGS.items() if meaning.verdict is Verdict.FAILED}
