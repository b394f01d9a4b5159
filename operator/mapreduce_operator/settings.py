"""What an administrator sets, read from the environment once at the start. The Helm chart's values end here."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Self

from mapreduce_operator.core.names import GROUP

_PREFIX = "MAPREDUCE_"
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_TRACKED: Final = (
    "tools that deploy from Git know their objects by it, and would delete Jobs and pods that are not in Git"
)
_SET: Final = "the operator and Kubernetes set it themselves"
_NOT_COPIED: Final = {
    "app.kubernetes.io/instance": _TRACKED,
    "argocd.argoproj.io": _TRACKED,
    "kustomize.toolkit.fluxcd.io": _TRACKED,
    "helm.toolkit.fluxcd.io": _TRACKED,
    GROUP: _SET,
    "app.kubernetes.io/managed-by": _SET,
    "batch.kubernetes.io": _SET,
    "job-name": _SET,
    "controller-uid": _SET,
}
"""Keys of labels, or what comes before the slash in them."""


class SettingsError(Exception):
    """An environment variable that cannot be used; the text names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Each field is the environment variable MAPREDUCE_<FIELD>."""

    storage_url: str = "file:///var/lib/mapreduce-operator"
    s3_endpoint: str = ""
    """Empty: that of AWS."""
    s3_region: str = ""
    """Empty: what the environment's AWS configuration says."""
    s3_path_style: bool | None = None
    """Whether the bucket stands in the path of a request and not in its host; None: if an endpoint is set."""
    watch_namespace: str = ""
    """Empty: all namespaces."""
    max_active_jobs: int = 500
    """Jobs alive at the same time, over all MapReduceJobs; shared fairly."""
    max_items: int = 100_000
    max_item_bytes: int = 32_768
    probe_port: int = 8080
    """Serves /livez, /readyz and /metrics."""
    lease_namespace: str = ""
    """Namespace of the leader's Lease; empty: the operator leads without one, as a process run by hand does."""
    lease_name: str = "mapreduce-operator"
    lease_seconds: int = 15
    """Another process may take over after so long without renewal; at least 5."""
    copied_labels: tuple[str, ...] = ()
    """Keys, with commas between them, of the labels of a MapReduceJob that its Jobs and pods get as well."""
    identity: str = ""
    """Name of this process in the Lease; empty: the host's name."""
    per_job_metrics: bool = False
    """Whether each MapReduceJob has series of its own, as long as there is one, in what is served at /metrics."""
    log_level: str = "INFO"
    log_format: str = "json"
    """json or text."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises SettingsError for a value that cannot be used."""
        given: dict[str, str | int | tuple[str, ...]] = {}
        for field in fields(cls):
            name = _PREFIX + field.name.upper()
            text = environment.get(name)
            if text is None:
                continue
            if field.type is int:
                given[field.name] = _number(name, text)
            elif field.type is str:
                given[field.name] = text
            elif field.name == "copied_labels":
                given[field.name] = _label_keys(name, text)
            else:
                given[field.name] = _boolean(name, text)
        settings = cls(**given)  # type: ignore[arg-type]
        if settings.log_format not in {"json", "text"}:
            raise SettingsError(f"{_PREFIX}LOG_FORMAT is {settings.log_format!r}; it must be json or text")
        if settings.log_level.upper() not in logging.getLevelNamesMapping():
            raise SettingsError(
                f"{_PREFIX}LOG_LEVEL is {settings.log_level!r}; it must be DEBUG, INFO, WARNING or ERROR"
            )
        if settings.probe_port > 65_535:
            raise SettingsError(f"{_PREFIX}PROBE_PORT is {settings.probe_port}; it must be at most 65535")
        if settings.lease_seconds < 5:
            raise SettingsError(f"{_PREFIX}LEASE_SECONDS is {settings.lease_seconds}; it must be at least 5")
        return settings


def _number(name: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        raise SettingsError(f"{name} is {text!r}, not a whole number") from None
    if number < 1:
        raise SettingsError(f"{name} is {number}; it must be at least 1")
    return number


def _label_keys(name: str, text: str) -> tuple[str, ...]:
    keys = tuple(stripped for key in text.split(",") if (stripped := key.strip()))
    for key in keys:
        if not _LABEL_KEY.fullmatch(key):
            raise SettingsError(f"{name} has {key!r}, which is no key of a label, such as team or example.com/team")
        if why := next((why for what, why in _NOT_COPIED.items() if key == what or key.startswith(what + "/")), ""):
            raise SettingsError(f"{name} has {key!r}, which cannot be copied: {why}. Take it out")
    return keys


def _boolean(name: str, text: str) -> bool:
    if text not in {"true", "false"}:
        raise SettingsError(f"{name} is {text!r}; it must be true or false")
    return text == "true"
