"""The pod template of an agent: typed where a slip is common, and handed on exactly as the user wrote it.

The attributes have the names of Kubernetes, unlike all others: a name of ours, such as restart_policy, could be the
name of a field that the user gives beside them.
"""

# ruff: noqa: N815

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mapreduce_operator.api.model import Model, rule

Argument = Annotated[str, Field(max_length=131_072)]
"""What Linux allows a single argument to have."""


class Container(Model):
    """A container of an agent's pod. All fields of a Kubernetes container can be given."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """Name of the container, unique in the pod."""

    image: str = Field(min_length=1, max_length=1024)
    """Image to run."""

    command: list[Argument] | None = Field(default=None, max_length=1024)
    """Program and first arguments; replaces the image's entry point. It is not run in a shell."""

    args: list[Argument] | None = Field(default=None, max_length=1024)
    """Arguments; replace the image's own."""

    terminationMessagePath: str | None = Field(default=None, max_length=4096)
    """File from which Kubernetes takes the container's last words. Not for the first container: its result file
    /mapreduce/result.json is that file.
    """

    terminationMessagePolicy: Literal["File", "FallbackToLogsOnError"] | None = None
    """Where else the container's last words may come from. Not for the first container."""


class PodSpec(Model):
    """What an agent's pod runs. All fields of a Kubernetes pod spec can be given, but those that the operator sets."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.activeDeadlineSeconds)",
                    "activeDeadlineSeconds must not be set in the template: use timeoutSeconds",
                    field=".activeDeadlineSeconds",
                    reason="FieldValueForbidden",
                ),
                # A path into a list is not possible, so that the message names the field.
                rule(
                    "self.containers.size() == 0 || !has(self.containers[0].terminationMessagePath)",
                    "terminationMessagePath of the first container must not be set: the result is read through it",
                    field=".containers",
                    reason="FieldValueForbidden",
                ),
                rule(
                    "self.containers.size() == 0 || !has(self.containers[0].terminationMessagePolicy)",
                    "terminationMessagePolicy of the first container must not be set: the result is read through it",
                    field=".containers",
                    reason="FieldValueForbidden",
                ),
            ]
        },
    )

    containers: list[Container] = Field(
        min_length=1,
        max_length=10,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    """The containers of the pod. The first is the agent: it finds /mapreduce/item.json and writes
    /mapreduce/result.json.
    """

    restartPolicy: Literal["Never"] | None = None
    """Never is the only value: an agent that ended is judged and tried again by the job's retry policy, in a new pod.
    """

    activeDeadlineSeconds: int | None = None
    """Must not be set: use timeoutSeconds."""


class TemplateMetadata(Model):
    """Labels and annotations that an agent's pod gets beside the operator's own, which begin with mapreduce.dev/."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                rule(
                    "!has(self.labels) || self.labels.all(key, !key.startsWith('mapreduce.dev/'))",
                    "labels must not begin with mapreduce.dev/: these are the operator's",
                    field=".labels",
                    reason="FieldValueForbidden",
                ),
                rule(
                    "!has(self.annotations) || self.annotations.all(key, !key.startsWith('mapreduce.dev/'))",
                    "annotations must not begin with mapreduce.dev/: these are the operator's",
                    field=".annotations",
                    reason="FieldValueForbidden",
                ),
            ]
        },
    )

    labels: dict[str, Annotated[str, Field(max_length=63)]] | None = Field(default=None, max_length=64)
    """Labels of the pod."""

    annotations: dict[str, Annotated[str, Field(max_length=16_384)]] | None = Field(default=None, max_length=64)
    """Annotations of the pod."""


class PodTemplate(Model):
    """The pod that runs an agent.

    It may be corrected at any time; pods that start from then on follow it. Kubernetes itself is asked about it, by a
    dry run, before the first pod starts. Unless the template says otherwise, agents run restricted: as non-root,
    with a read-only root file system and a writable /tmp, without capabilities and without a service account token.
    """

    metadata: TemplateMetadata | None = None

    spec: PodSpec

    def as_written(self) -> dict[str, Any]:
        """The template as the user wrote it, nothing dropped and nothing filled in; a new copy on each call."""
        return self.model_dump(by_alias=True, exclude_unset=True)
