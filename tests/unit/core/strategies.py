"""What the tests of the core draw from: the values that users, agents and clusters may bring."""

import string
from typing import Any, Final

from hypothesis import strategies as st

from mapreduce_operator.api import Backoff, BackoffType, Cause, ItemState, Reason, Retry
from mapreduce_operator.core.items import Item
from mapreduce_operator.core.journal import Record
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.outcomes import Outcome, Verdict
from mapreduce_operator.core.workloads import Carried, ContainerEnd, Dispatch, PodSeen

HOSTILE_TEXTS: Final = (
    '"; rm -rf / #',
    "$(MAPREDUCE_JOB) $$(X) ${X} `id` %s {{ .Values.x }}",
    "line\nbreak\r\nand\ttab \x00 null \x7f delete \x1b[31m",
    "separators \u2028 \u2029 \x85 \x0b \x0c \x1c",
    "../../etc/passwd",
    "\\ \\\" \\u0041 ' </script>",
    "\ufeffmark \u202eright to left \u200bzero width e\u0301 \U0001f9ea",
    " leading and trailing ",
)
"""Texts that break what is built by pasting strings together."""

json_values: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(HOSTILE_TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
"""What an item or a result may be."""

item_ids: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40)
"""Ids that an expression may give."""

item_keys: Final = st.text(string.ascii_lowercase + "234567", min_size=10, max_size=10)

moments: Final = st.floats(0, 4e9)
"""Seconds since the epoch."""

chances: Final = st.floats(0, 1, exclude_max=True)

backoffs: Final = st.builds(
    Backoff,
    type=st.sampled_from(BackoffType),
    delays=st.lists(st.integers(0, 86_400), min_size=1, max_size=5).map(tuple),
    initial_seconds=st.integers(0, 86_400),
    max_seconds=st.integers(0, 86_400),
    jitter=st.floats(0, 1),
)

retries: Final = st.builds(Retry, max_attempts=st.integers(1, 5), max_interruptions=st.integers(0, 5), backoff=backoffs)

dns_labels: Final = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)

job_names: Final = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?){0,4}", fullmatch=True
).filter(lambda name: len(name) <= 63)
"""Names of MapReduceJobs: DNS subdomains of at most 63 characters."""

runs: Final = st.builds(RunRef, namespace=dns_labels, name=job_names, uid=st.uuids().map(str))

dispatches: Final = st.builds(Dispatch, item_key=item_keys, number=st.integers(1, 1100))

container_ends: Final = st.builds(
    ContainerEnd,
    exit_code=st.sampled_from([0, 1, 3, 137, 143, 255]),
    reason=st.sampled_from(["", "Completed", "Error", "OOMKilled", "ContainerCannotRun"]),
    message=st.sampled_from(["", '{"ok": true}', "null", "Traceback", '{"error": {"retryable": false}}']) | st.text(),
    started_at=moments,
    finished_at=moments,
)

pods_that_ended: Final = st.builds(
    PodSeen,
    namespace=dns_labels,
    name=dns_labels,
    uid=st.uuids().map(str),
    job=dns_labels,
    job_uid=st.uuids().map(str),
    carried=st.builds(
        Carried,
        run_uid=st.uuids().map(str),
        stage=st.sampled_from(Stage),
        dispatches=st.tuples(dispatches),
        revision=st.just("5f1c"),
    ),
    phase=st.sampled_from(["Succeeded", "Failed"]),
    node=dns_labels,
    deleting=st.booleans(),
    gone=st.booleans(),
    reason=st.sampled_from(["", "Evicted", "Preempting", "NodeShutdown", "OutOfcpu", "DeadlineExceeded", "Novel"]),
    message=st.text(),
    disruption=st.sampled_from(["", "EvictionByEvictionAPI", "PreemptionByScheduler", "DeletionByTaintManager"]),
    started=st.booleans(),
    waiting=st.sampled_from(["", "ImagePullBackOff", "CreateContainerConfigError"]),
    agent=st.none() | container_ends,
)
"""Every mixture of what a pod's status may say at its end, likely or not."""

outcomes: Final = st.builds(
    Outcome,
    stage=st.sampled_from(Stage),
    dispatch=dispatches,
    job_uid=st.uuids().map(str),
    verdict=st.sampled_from(Verdict),
    reason=st.none() | st.sampled_from(Reason),
    message=st.text(),
    exit_code=st.none() | st.integers(0, 255),
    retryable=st.booleans(),
    result=st.none() | st.sampled_from([b"null", b"0", b'""', b"1.50e+3", b'{"a":[1,2.0,"\xc3\xbc"]}']),
    revision=st.text(string.hexdigits, max_size=10),
    job=dns_labels,
    pod=dns_labels,
    node=dns_labels,
    started_at=moments,
    ended_at=moments,
)

settled_items: Final = st.builds(
    Item,
    state=st.sampled_from([state for state in ItemState if state is not ItemState.RUNNING]),
    attempts=st.integers(0, 100),
    interruptions=st.integers(0, 1000),
    not_before=moments,
    reason=st.none() | st.sampled_from(Reason),
    cause=st.none() | st.sampled_from(Cause),
    excused=st.integers(0, 1000),
    oom_kills=st.integers(0, 100),
    allowed=st.integers(0, 200),
    redrive=st.integers(0, 20),
)
"""Items as a record knows them: their dispatch is over."""

records: Final = st.builds(Record, outcome=outcomes, item=settled_items)
