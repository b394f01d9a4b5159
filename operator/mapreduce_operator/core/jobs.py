"""From template and dispatch to the Job that carries it.

What the template says is kept; what it leaves open is set to the restricted Pod Security Standard, so that an agent
runs as nobody, without a token, on a read-only root file system with a writable /tmp, unless the template says
otherwise. Item data reaches the pod as a mounted file and never as a part of a command line.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from mapreduce_operator.api import API_VERSION, KIND, ReduceWork, ResultsAs, Work
from mapreduce_operator.core import contract, names
from mapreduce_operator.core.names import RunRef, Stage
from mapreduce_operator.core.plan import PlannedItem, canonical
from mapreduce_operator.core.quantities import raised_memory
from mapreduce_operator.core.workloads import AGENT_INDEX, Dispatch

_USER: Final = 65532
"""The usual id of "nonroot": an image whose user has a name but no number could not start under runAsNonRoot."""
_VOLUME: Final = "mapreduce"
_TMP: Final = "/tmp"  # noqa: S108 - of the pod, where it is a volume of its own
_TMP_VOLUME: Final = "mapreduce-tmp"
_RESULTS_VOLUME: Final = "mapreduce-results"
_RESULTS_IN_FILES: Final = contract.RESULTS_FILE, contract.FAILURES_FILE
_RESULTS_IN_PARTS: Final = contract.RESULTS_DIRECTORY, contract.FAILURES_DIRECTORY

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Revision:
    """A template in the form that a stage runs: prepared once, used for every dispatch until it is corrected."""

    stage: Stage
    hash: str
    """Of the template as the user wrote it, the params, and how results are handed over; each outcome records it."""
    pod_labels: Mapping[str, str]
    pod_annotations: Mapping[str, str]
    pod_spec: Manifest
    context: Manifest
    """What the contexts of all dispatches have in common: the params, where there are any."""


def prepare(stage: Stage, work: Work, run: RunRef, params: Mapping[str, Any] | None = None) -> Revision:
    """The template, and the params, with everything in it that is the same for all dispatches."""
    written = work.template.as_written()
    metadata = written.get("metadata") or {}
    spec: Manifest = copy.deepcopy(written["spec"])
    spec |= {"restartPolicy": "Never", "activeDeadlineSeconds": work.timeout_seconds}
    _default(spec, automountServiceAccountToken=False, enableServiceLinks=False, securityContext={})
    _default(
        spec["securityContext"],
        runAsNonRoot=True,
        runAsUser=_USER,
        runAsGroup=_USER,
        fsGroup=_USER,
        seccompProfile={"type": "RuntimeDefault"},
    )
    files = ["item.json", "context.json"] if stage is Stage.MAP else ["context.json"]
    mounts = [
        {"name": _VOLUME, "mountPath": f"{contract.DIRECTORY}/{file}", "subPath": file, "readOnly": True}
        for file in files
    ]
    volumes: list[Manifest] = [
        {
            "name": _VOLUME,
            "downwardAPI": {
                "items": [
                    {
                        "path": file,
                        "fieldRef": {
                            "fieldPath": f"metadata.annotations['{names.GROUP}/{file.removesuffix('.json')}']"
                        },
                    }
                    for file in files
                ]
            },
        },
        {"name": _TMP_VOLUME, "emptyDir": {}},
    ]
    in_parts = isinstance(work, ReduceWork) and work.results_as is ResultsAs.DIRECTORY
    if stage is Stage.REDUCE:
        # By subPath also a directory: it holds nothing then but the files, each once, for whoever walks through it.
        for path in _RESULTS_IN_PARTS if in_parts else _RESULTS_IN_FILES:
            name = path.removeprefix(contract.DIRECTORY + "/")
            mounts.append({"name": _RESULTS_VOLUME, "mountPath": path, "subPath": name, "readOnly": True})
    _extend(spec, "volumes", volumes)
    environment = _environment(stage, run, in_parts=in_parts)
    for container in _objects(spec, "initContainers"):
        _default(container, terminationMessagePolicy="FallbackToLogsOnError")
    for container in (*_objects(spec, "initContainers"), *spec["containers"]):
        _prepare_container(container, mounts, environment)
    # The log's end stands in for an agent that fails without a word; it never replaces a result.
    spec["containers"][AGENT_INDEX] |= {
        "terminationMessagePath": contract.RESULT_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    context = {"params": params} if params else {}
    layout = {"resultsAs": ResultsAs.DIRECTORY} if in_parts else {}
    return Revision(
        stage=stage,
        hash=sha256(canonical(written | context | layout)).hexdigest()[:10],
        pod_labels=metadata.get("labels") or {},
        pod_annotations=metadata.get("annotations") or {},
        pod_spec=spec,
        context=context,
    )


def _prepare_container(container: Manifest, mounts: list[Manifest], environment: list[Manifest]) -> None:
    _default(container, securityContext={})
    security = container["securityContext"]
    _default(security, allowPrivilegeEscalation=False, readOnlyRootFilesystem=True, capabilities={})
    if isinstance(security, dict):
        # To add one capability is not to ask for all the others.
        _default(security["capabilities"], drop=["ALL"])
    own = _objects(container, "volumeMounts")
    has_tmp = any(str(mount.get("mountPath")).rstrip("/") == _TMP for mount in own)
    tmp = [] if has_tmp else [{"name": _TMP_VOLUME, "mountPath": _TMP}]
    _extend(container, "volumeMounts", [*tmp, *mounts])
    given = [variable.get("name") for variable in _objects(container, "env")]
    _extend(container, "env", [variable for variable in environment if variable["name"] not in given])


def _environment(stage: Stage, run: RunRef, *, in_parts: bool) -> list[Manifest]:
    """What a program expects in its environment; all else stands in the context file."""
    variables = {
        "MAPREDUCE_JOB": run.name,
        "MAPREDUCE_NAMESPACE": run.namespace,
        "MAPREDUCE_CONTEXT_FILE": contract.CONTEXT_FILE,
        "MAPREDUCE_RESULT_FILE": contract.RESULT_FILE,
        # A user without an entry in /etc/passwd has / as home, which is not writable.
        "HOME": _TMP,
    }
    if stage is Stage.MAP:
        variables["MAPREDUCE_ITEM_FILE"] = contract.ITEM_FILE
    elif in_parts:
        variables |= {
            "MAPREDUCE_RESULTS_DIRECTORY": contract.RESULTS_DIRECTORY,
            "MAPREDUCE_FAILURES_DIRECTORY": contract.FAILURES_DIRECTORY,
        }
    else:
        variables |= {
            "MAPREDUCE_RESULTS_FILE": contract.RESULTS_FILE,
            "MAPREDUCE_FAILURES_FILE": contract.FAILURES_FILE,
        }
    # From an annotation, since it differs from dispatch to dispatch.
    trace = {"fieldRef": {"fieldPath": f"metadata.annotations['{names.ANNOTATION_TRACE}']"}}
    return [
        *({"name": name, "value": value} for name, value in variables.items()),
        {"name": "TRACEPARENT", "valueFrom": trace},
    ]


# The API server does not look into most of a template before the dry run of the first Job: there may be anything in it.
# Null, to which an empty part of a Helm chart renders, is what is not given; what is malformed stays for the dry run to
# refuse, in the API server's own words.


def _default(target: Any, **values: Any) -> None:
    """Sets what an object leaves open."""
    if isinstance(target, dict):
        target |= {key: value for key, value in values.items() if target.get(key) is None}


def _objects(owner: Manifest, key: str) -> list[Manifest]:
    """The objects in a list."""
    value = owner.get(key)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _extend(owner: Manifest, key: str, more: list[Manifest]) -> None:
    """Adds to a list."""
    value = owner.get(key)
    if value is None or isinstance(value, list):
        owner[key] = [*(value or []), *more]


def manifest(
    revision: Revision,
    run: RunRef,
    dispatch: Dispatch,
    *,
    attempt: int,
    item: PlannedItem,
    work: Work,
    labels: Mapping[str, str] | None = None,
    max_attempts: int | None = None,
    oom_kills: int = 0,
    results: Manifest | None = None,
) -> Manifest:
    """The Job of one dispatch.

    `labels` are those of the MapReduceJob that an administrator lets through: on its pod the template's come before
    them, and the operator's own everywhere. `max_attempts` is what a Redrive granted the item in all. After `oom_kills`
    its agent gets more memory, if retry.onOOM says so. `results` is the source of the volume that a reduce reads.

    No retry by Kubernetes: which failure is worth another attempt is decided in core.items. A disruption fails the
    Job at once, so that it is seen and counted rather than repaired silently.
    """
    copied = labels or {}
    own = names.run_labels(run) | {
        names.LABEL_STAGE: revision.stage.value,
        names.LABEL_ITEM: dispatch.item_key,
        names.LABEL_DISPATCH: str(dispatch.number),
        names.LABEL_REVISION: revision.hash,
    }
    context = canonical(
        revision.context
        | {
            "job": run.name,
            "namespace": run.namespace,
            "jobUid": run.uid,
            "itemId": item.id,
            "dispatch": dispatch.number,
            "attempt": attempt,
            "maxAttempts": max_attempts or work.retry.max_attempts,
            "timeoutSeconds": work.timeout_seconds,
        }
        | (msgspec.json.decode(item.payload, type=Manifest) if revision.stage is Stage.REDUCE else {})
    )
    annotations = {
        names.ANNOTATION_CONTEXT: context.decode(),
        names.ANNOTATION_ITEM_ID: item.id,
        names.ANNOTATION_TRACE: names.traceparent(run, dispatch.item_key, dispatch.number),
    }
    if revision.stage is Stage.MAP:
        annotations[names.ANNOTATION_ITEM] = item.payload.decode()
    pod_spec = _with_more_memory(revision.pod_spec, work, oom_kills) if oom_kills else revision.pod_spec
    if results is not None:
        pod_spec = dict(pod_spec)
        _extend(pod_spec, "volumes", [{"name": _RESULTS_VOLUME} | results])
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.job_name(run, dispatch.item_key, dispatch.number),
            "namespace": run.namespace,
            "labels": {**copied, **own},
            "annotations": {names.ANNOTATION_ITEM_ID: item.id},
            "ownerReferences": [owner_reference(run)],
        },
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "template": {
                "metadata": {
                    "labels": {**copied, **revision.pod_labels, **own},
                    "annotations": {**revision.pod_annotations, **annotations},
                },
                "spec": pod_spec,
            },
        },
    }


def trial(
    revision: Revision,
    run: RunRef,
    *,
    item: PlannedItem,
    work: Work,
    labels: Mapping[str, str] | None = None,
    results: Manifest | None = None,
) -> Manifest:
    """A Job that is only tried out, by a dry run: what the API server thinks of a template."""
    dispatch = Dispatch("dry-run", 0)
    return manifest(revision, run, dispatch, attempt=1, item=item, work=work, labels=labels, results=results)


def _with_more_memory(pod_spec: Manifest, work: Work, oom_kills: int) -> Manifest:
    increase = work.retry.on_oom
    agent, *others = pod_spec["containers"]
    if increase is None or not isinstance(agent.get("resources"), dict):
        return pod_spec
    resources = raised_memory(agent["resources"], increase.factor, increase.max_memory, oom_kills)
    return pod_spec | {"containers": [agent | {"resources": resources}, *others]}


def owner_reference(run: RunRef) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": run.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
