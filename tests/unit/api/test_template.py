"""A template goes to Kubernetes as the user wrote it: nothing dropped, nothing filled in, nothing renamed."""

import copy
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_operator.api import PodTemplate

RICH = """
metadata:
  labels: {team: docs, "app.kubernetes.io/name": words}
  annotations: {"example.com/note": "first line\\nsecond line"}
spec:
  serviceAccountName: words
  restartPolicy: Never
  terminationGracePeriodSeconds: 5
  tolerations: []
  nodeSelector: {disk: fast}
  volumes:
  - {name: licences, hostPath: {path: /usr/share/common-licenses}}
  - {name: scratch, emptyDir: {}}
  initContainers:
  - {name: prepare, image: debian, command: [sh, -c, "true"]}
  containers:
  - name: agent
    image: debian:bookworm-slim
    command: [sh, -c, "wc -w < /mapreduce/item.json"]
    args: []
    env:
    - {name: EMPTY, value: ""}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: token, key: token, optional: false}}}
    resources: {limits: {cpu: 1, memory: 64Mi}, requests: {cpu: 0.5}}
    securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: licences, mountPath: /licences, readOnly: true}]
  - name: helper
    image: debian
    terminationMessagePath: /tmp/last-words
    terminationMessagePolicy: FallbackToLogsOnError
"""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
# Our own attributes' names are field names of nobody, and have to survive as well.
foreign_names = st.text(max_size=10) | st.sampled_from(["restart_policy", "active_deadline_seconds", "model_config"])
TYPED = {"containers", "restartPolicy", "activeDeadlineSeconds"}


def test_a_rich_template_comes_back_as_it_was_written() -> None:
    written = yaml.safe_load(RICH)

    assert PodTemplate.model_validate(copy.deepcopy(written)).as_written() == written


@pytest.mark.parametrize(
    "written",
    [
        {"spec": {"containers": [{"name": "a", "image": "i"}]}},
        {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "i"}]}},
        {"metadata": {"labels": {}}, "spec": {"containers": [{"name": "a", "image": "i", "command": []}]}},
    ],
)
def test_nothing_is_filled_in(written: dict[str, Any]) -> None:
    assert PodTemplate.model_validate(written).as_written() == written


@given(
    in_spec=st.dictionaries(foreign_names.filter(lambda name: name not in TYPED), json_values, max_size=4),
    in_container=st.dictionaries(st.text(max_size=10).map(lambda name: f"x{name}"), json_values, max_size=4),
)
def test_unknown_fields_of_any_shape_survive(in_spec: dict[str, Any], in_container: dict[str, Any]) -> None:
    written = {"spec": {**in_spec, "containers": [{"name": "a", "image": "i", **in_container}]}}

    assert PodTemplate.model_validate(copy.deepcopy(written)).as_written() == written


def test_each_call_gives_a_copy_that_may_be_changed() -> None:
    template = PodTemplate.model_validate(yaml.safe_load(RICH))
    first = template.as_written()
    first["spec"]["containers"][0]["env"].append({"name": "MORE", "value": "1"})
    first["spec"]["volumes"].clear()
    first["metadata"]["labels"]["team"] = "other"

    assert template.as_written() == yaml.safe_load(RICH)
